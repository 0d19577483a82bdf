package link

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value (linux/ethtool.h).
type ethtoolValue struct{ cmd, data uint32 }

// OffloadsOff turns transmit checksum and segmentation offloads of a device off, in the
// calling thread's network namespace.
func OffloadsOff(device string) error {
	for _, cmd := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO} {
		if err := ethtool(device, unsafe.Pointer(&ethtoolValue{cmd: cmd})); err != nil {
			return fmt.Errorf("offloads of %s off: %w", device, err)
		}
	}
	return nil
}

// RxQueues returns how many receive queues a device uses, in the calling thread's network
// namespace.
func RxQueues(device string) (int, error) {
	// struct ethtool_channels
	var c struct {
		cmd                             uint32
		maxRx, maxTx, maxOther, maxBoth uint32
		rx, tx, other, both             uint32
	}
	c.cmd = unix.ETHTOOL_GCHANNELS
	if err := ethtool(device, unsafe.Pointer(&c)); err != nil {
		return 0, fmt.Errorf("queues of %s: %w", device, err)
	}
	return int(c.rx + c.both), nil
}

// SetScatterGather says whether a device takes frames in pieces of memory, in the calling thread's
// network namespace. Without it, the kernel divides large frames and copies each to one piece.
func SetScatterGather(device string, on bool) error {
	v := ethtoolValue{cmd: unix.ETHTOOL_SSG}
	if on {
		v.data = 1
	}
	if err := ethtool(device, unsafe.Pointer(&v)); err != nil {
		return fmt.Errorf("scatter-gather of %s: %w", device, err)
	}
	return nil
}

// ethtoolLink is struct ethtool_cmd (linux/ethtool.h), which all drivers that take a speed
// understand.
type ethtoolLink struct {
	cmd, supported, advertising           uint32
	speed                                 uint16 // Mbit/s
	duplex, port, phyAddress, transceiver uint8
	autoneg, mdioSupport                  uint8
	maxTxPackets, maxRxPackets            uint32
	speedHigh                             uint16
	ethTPMDIX, ethTPMDIXControl           uint8
	partnerAdvertising                    uint32
	_                                     [2]uint32
}

// duplexFull is DUPLEX_FULL.
const duplexFull = 1

// SetSpeed sets the speed that a device says it has, in Mbit/s, in the calling thread's
// network namespace. TAP devices can be told; a veth pair always says 10 Gbit/s
// (errors.ErrUnsupported).
func SetSpeed(device string, mbits uint32) error {
	c := ethtoolLink{cmd: unix.ETHTOOL_SSET, speed: uint16(mbits), speedHigh: uint16(mbits >> 16), duplex: duplexFull}
	err := ethtool(device, unsafe.Pointer(&c))
	if err != nil {
		return fmt.Errorf("speed of %s: %w", device, err)
	}
	return nil
}

// ethtool makes a request about a device (SIOCETHTOOL).
func ethtool(device string, request unsafe.Pointer) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ifr := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: request}
	copy(ifr.name[:unix.IFNAMSIZ-1], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return errno
	}
	return nil
}

// ethtoolStrings is the length of a name in struct ethtool_gstrings.
const ethtoolStrings = 32

// maxFeatures bounds the features of devices: there are about 60.
const maxFeatures = 256

// KeepFeatures turns off the features of a device (ethtool -k) that keep does not want, in the
// calling thread's network namespace. Those that cannot be turned off stay.
func KeepFeatures(device string, keep func(name string) bool) error {
	const features = 4 // ETH_SS_FEATURES
	// A length that is not that of the set gets no names from Linux 6.18; 0 gets all.
	names := struct {
		cmd, set, n uint32
		data        [maxFeatures][ethtoolStrings]byte
	}{cmd: unix.ETHTOOL_GSTRINGS, set: features}
	if err := ethtool(device, unsafe.Pointer(&names)); err != nil {
		return fmt.Errorf("names of the features of %s: %w", device, err)
	}
	if names.n == 0 {
		return fmt.Errorf("names of the features of %s: the kernel tells none", device)
	}
	type block struct{ available, requested, active, neverChanged uint32 }
	is := struct {
		cmd, n uint32
		blocks [maxFeatures / 32]block
	}{cmd: unix.ETHTOOL_GFEATURES, n: maxFeatures / 32}
	if err := ethtool(device, unsafe.Pointer(&is)); err != nil {
		return fmt.Errorf("features of %s: %w", device, err)
	}
	type change struct{ valid, requested uint32 }
	request := struct {
		cmd, n  uint32
		changes [maxFeatures / 32]change
	}{cmd: unix.ETHTOOL_SFEATURES, n: is.n}
	for i, b := range names.data[:min(names.n, maxFeatures)] {
		name, bit := unix.ByteSliceToString(b[:]), uint32(1)<<(i%32)
		if f := is.blocks[i/32]; f.active&^f.neverChanged&bit != 0 && !keep(name) {
			request.changes[i/32].valid |= bit
		}
	}
	if err := ethtool(device, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("features of %s: %w", device, err)
	}
	return nil
}
