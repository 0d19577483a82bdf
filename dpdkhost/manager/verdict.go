package manager

// A Verdict is what happens to a packet at the entry: the first that is set of chain, port
// and controller; a zero one drops it.
type Verdict struct {
	Chain      string
	Port       uint16 // 0 for none
	Controller bool
}
