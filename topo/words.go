package topo

// Words lists the drivers of switches.
func (SwitchDriver) Words() []string {
	return allWords(DriverOVS, DriverOVSBridge, DriverLinux, DriverDPDK)
}

// Words lists the datapaths.
func (Datapath) Words() []string {
	return allWords(DatapathAuto, DatapathKernel, DatapathUser, DatapathAFXDP)
}

// Words lists the kinds of controller.
func (ControllerKind) Words() []string {
	return allWords(ControllerBuiltin, ControllerRemote, ControllerOVS, ControllerRyu, ControllerOSKen, ControllerCommand)
}

func allWords[T ~string](list ...T) (words []string) {
	for _, w := range list {
		words = append(words, string(w))
	}
	return words
}
