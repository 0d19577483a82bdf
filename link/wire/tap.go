package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"

	"weft/link"
	"weft/link/wire/lane"
)

// A tap is an end of a wire: a TAP device whose frames the engine reads and writes.
type tap struct {
	link.End
	fd int
}

const tunDevice = "/dev/net/tun"

// Segmentation offloads of TUNSETOFFLOAD (linux/if_tun.h) that x/sys does not have.
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

// newTAP makes a TAP device in place. One without a namespace of its own is in the process's, and
// up.
func newTAP(e link.End, mtu int) (*tap, error) {
	t := &tap{End: e, fd: -1}
	build := func() error { return t.make(mtu) }
	var err error
	if e.Net != nil {
		err = e.Net.Do(build)
	} else {
		err = build()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make TAP device %s: %w", e.Device, err), t.close())
	}
	return t, nil
}

func (t *tap) make(mtu int) error {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be opened: run as root, or have root `chmod 666 %s`", tunDevice, tunDevice)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%s is not there: have root `modprobe tun`, or give the container the device", tunDevice)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: each wire needs two file descriptors; raise the limit with `ulimit -n`", err)
	case err != nil:
		return fmt.Errorf("%s: %w", tunDevice, err)
	}
	t.fd = fd
	r, err := unix.NewIfreq(t.Device)
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
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if len(t.MAC) > 0 {
		if err := t.setMAC(s); err != nil {
			return fmt.Errorf("MAC %s: %w", t.MAC, err)
		}
	}
	if err := t.set(s, unix.SIOCSIFMTU, uint32(mtu)); err != nil {
		return fmt.Errorf("MTU %d: %w", mtu, err)
	}
	if err := t.set(s, unix.SIOCSIFTXQLEN, queueLength); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if t.Net == nil {
		if err := t.set(s, unix.SIOCSIFFLAGS, unix.IFF_UP); err != nil {
			return fmt.Errorf("up: %w", err)
		}
	}
	return nil
}

// set asks for a setting of the device that is a number, through a socket in its namespace.
func (t *tap) set(socket int, request uint, v uint32) error {
	r, err := unix.NewIfreq(t.Device)
	if err != nil {
		return err
	}
	if request == unix.SIOCSIFFLAGS {
		r.SetUint16(uint16(v))
	} else {
		r.SetUint32(v)
	}
	return unix.IoctlIfreq(socket, request, r)
}

// setMAC sets the hardware address: struct ifreq with a struct sockaddr.
func (t *tap) setMAC(socket int) error {
	var r struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		addr   [14]byte
		_      [8]byte
	}
	copy(r.name[:unix.IFNAMSIZ-1], t.Device)
	r.family = unix.ARPHRD_ETHER
	copy(r.addr[:], t.MAC)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return errno
	}
	return nil
}

// close ends the device.
func (t *tap) close() error {
	if t.fd < 0 {
		return nil
	}
	fd := t.fd
	t.fd = -1
	return unix.Close(fd)
}
