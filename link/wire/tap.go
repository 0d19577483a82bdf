package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/link"
	"weft/link/wire/lane"
)

// tunDevice makes TAP devices.
const tunDevice = "/dev/net/tun"

// errNoTAP says that this process cannot make TAP devices.
var errNoTAP = errors.New("no TAP devices")

// Segmentation offloads of TUNSETOFFLOAD (linux/if_tun.h).
const (
	offloadSum    = 0x01
	offloadTSO4   = 0x02
	offloadTSO6   = 0x04
	offloadTSOECN = 0x08
	offloadUSO4   = 0x20
	offloadUSO6   = 0x40
)

// queueLength is how many frames a device holds until the engine reads them, as those of
// real Ethernet devices.
const queueLength = 1000

// newTAP makes an end that is a TAP device.
func (e *Engine) newTAP(at link.End, mtu int) (*end, error) {
	t := &end{End: at, tap: true, fd: -1}
	build := func() error { return t.makeTAP(e.tun, mtu) }
	var err error
	if at.Net != nil {
		err = at.Net.Do(build)
	} else {
		err = build()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make TAP device %s: %w", at.Device, err), t.close())
	}
	return t, nil
}

func (e *end) makeTAP(tun string, mtu int) error {
	fd, err := unix.Open(tun, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s may not be opened; root can `chmod 666 %s`", errNoTAP, tun, tun)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: %s is not there; root can `modprobe tun`, or give the container the device", errNoTAP, tun)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: each wire needs two file descriptors; raise the limit with `ulimit -n`", err)
	case err != nil:
		return fmt.Errorf("%s: %w", tun, err)
	}
	e.fd = fd
	r, err := unix.NewIfreq(e.Device)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, lane.VirtioLen); err != nil {
		return fmt.Errorf("virtio header: %w", err)
	}
	const tso = offloadSum | offloadTSO4 | offloadTSO6 | offloadTSOECN
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso|offloadUSO4|offloadUSO6); err != nil {
		// USO came with Linux 6.2.
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso); err != nil {
			return fmt.Errorf("offloads: %w", err)
		}
	}
	if len(e.MAC) > 0 {
		if err := setMAC(fd, e.MAC); err != nil {
			return fmt.Errorf("MAC %s: %w", e.MAC, err)
		}
	}
	if _, err := request(e.Device, unix.SIOCSIFMTU, func(r *unix.Ifreq) { r.SetUint32(uint32(mtu)) }); err != nil {
		return fmt.Errorf("MTU %d: %w", mtu, err)
	}
	// Not by SIOCSIFTXQLEN, which the root of a user namespace may not.
	device, err := netlink.LinkByName(e.Device)
	if err == nil {
		err = netlink.LinkSetTxQLen(device, queueLength)
	}
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if e.Net == nil {
		if err := takeUp(e.Device); err != nil {
			return err
		}
	}
	// To remove a device takes the kernel 10 ms and more, a thousand of them with their namespaces
	// little longer. So a device stays when the engine ends, with its namespace.
	if err := e.persist(true); err != nil {
		return fmt.Errorf("persist: %w", err)
	}
	e.remove = func() error { return e.persist(false) }
	return nil
}

// persist says whether a TAP device stays when its descriptor is closed.
func (e *end) persist(on bool) error {
	v := 0
	if on {
		v = 1
	}
	return unix.IoctlSetInt(e.fd, unix.TUNSETPERSIST, v)
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
