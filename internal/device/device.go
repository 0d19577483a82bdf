// Package device opens network devices for a program that moves frames: TAP devices, and packet
// sockets on devices that are there. Frames come and go with a struct virtio_net_hdr (package
// internal/vnet) before them, so that super-frames and unfinished checksums pass. It may import
// internal/vnet.
package device

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/vnet"
)

// TUN is the file that makes TAP devices.
const TUN = "/dev/net/tun"

// ErrNoTAP says that this process cannot make TAP devices.
var ErrNoTAP = errors.New("no TAP devices")

// Segmentation offloads of TUNSETOFFLOAD (linux/if_tun.h).
const (
	offloadSum    = 0x01
	offloadTSO4   = 0x02
	offloadTSO6   = 0x04
	offloadTSOECN = 0x08
	offloadUSO4   = 0x20
	offloadUSO6   = 0x40
)

// QueueLength is how many frames a TAP device holds until they are read, as those of real
// Ethernet devices.
const QueueLength = 1000

// A TAP is a TAP device to make.
type TAP struct {
	File string // TUN, if empty
	Name string
	MAC  net.HardwareAddr // random if empty
	MTU  int              // 1500 if 0
}

// OpenTAP makes a TAP device in the calling thread's network namespace, down, and returns its
// descriptor, which does not block. Without Persist the device goes with the descriptor.
func OpenTAP(t TAP) (fd int, err error) {
	tun := t.File
	if tun == "" {
		tun = TUN
	}
	fd, err = unix.Open(tun, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return -1, fmt.Errorf("%w: %s may not be opened; root can `chmod 666 %s`", ErrNoTAP, tun, tun)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("%w: %s is not there; root can `modprobe tun`, or give the container the device", ErrNoTAP, tun)
	case errors.Is(err, unix.EMFILE):
		return -1, fmt.Errorf("%w: each wire needs two file descriptors; raise the limit with `ulimit -n`", err)
	case err != nil:
		return -1, fmt.Errorf("%s: %w", tun, err)
	}
	if err := t.set(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (t *TAP) set(fd int) error {
	r, err := unix.NewIfreq(t.Name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnet.Len); err != nil {
		return fmt.Errorf("virtio header: %w", err)
	}
	const tso = offloadSum | offloadTSO4 | offloadTSO6 | offloadTSOECN
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso|offloadUSO4|offloadUSO6); err != nil {
		// USO came with Linux 6.2.
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso); err != nil {
			return fmt.Errorf("offloads: %w", err)
		}
	}
	if len(t.MAC) > 0 {
		if err := setMAC(fd, t.MAC); err != nil {
			return fmt.Errorf("MAC %s: %w", t.MAC, err)
		}
	}
	if t.MTU != 0 {
		if _, err := request(t.Name, unix.SIOCSIFMTU, func(r *unix.Ifreq) { r.SetUint32(uint32(t.MTU)) }); err != nil {
			return fmt.Errorf("MTU %d: %w", t.MTU, err)
		}
	}
	// Not by SIOCSIFTXQLEN, which the root of a user namespace may not.
	device, err := netlink.LinkByName(t.Name)
	if err == nil {
		err = netlink.LinkSetTxQLen(device, QueueLength)
	}
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// Persist says whether a TAP device stays when its descriptor is closed.
func Persist(fd int, on bool) error {
	v := 0
	if on {
		v = 1
	}
	return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, v)
}

// setMAC sets a TAP device's hardware address: struct ifreq with a struct sockaddr.
func setMAC(fd int, mac net.HardwareAddr) error {
	var r struct {
		_      [unix.IFNAMSIZ]byte
		family uint16
		addr   [14]byte
		_      [8]byte
	}
	r.family = unix.ARPHRD_ETHER
	copy(r.addr[:], mac)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return errno
	}
	return nil
}

// OpenSocket opens a packet socket with so many bytes of memory for frames each way. It does not
// block, does not see what leaves, and has no frames before it is bound. VLAN tags are beside the
// frames: Aux.
func OpenSocket(room int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	opened := fd
	defer func() {
		if err != nil {
			unix.Close(opened)
		}
	}()
	for _, o := range []struct {
		level, name, value int
	}{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_PACKET, unix.PACKET_AUXDATA, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room},
	} {
		err = unix.SetsockoptInt(fd, o.level, o.name, o.value)
		if err == unix.EPERM && o.level == unix.SOL_SOCKET {
			// Before Linux 5.16 only the first user namespace might; there is as much as
			// net.core.rmem_max says.
			err = unix.SetsockoptInt(fd, o.level, map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF}[o.name], o.value)
		}
		if err != nil {
			return -1, fmt.Errorf("packet socket, option %d: %w", o.name, err)
		}
	}
	return fd, nil
}

// Bind lets a packet socket have the frames of a device.
func Bind(fd int, name string) error {
	index, err := Index(name)
	if err != nil {
		return err
	}
	all := uint16(unix.ETH_P_ALL)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index}); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	return nil
}

// request makes a request about a device of the calling thread's namespace.
func request(name string, what uint, change func(*unix.Ifreq)) (*unix.Ifreq, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	if change != nil {
		change(r)
	}
	return r, unix.IoctlIfreq(s, what, r)
}

// Index returns the index of a device of the calling thread's namespace.
func Index(name string) (int, error) {
	r, err := request(name, unix.SIOCGIFINDEX, nil)
	if err != nil {
		return 0, fmt.Errorf("index of %s: %w", name, err)
	}
	return int(r.Uint32()), nil
}

// Up takes a device up.
func Up(name string) error {
	if _, err := request(name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) { r.SetUint16(unix.IFF_UP) }); err != nil {
		return fmt.Errorf("%s up: %w", name, err)
	}
	return nil
}
