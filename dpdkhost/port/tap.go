package port

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/shm"
	"weft/internal/device"
	"weft/internal/vnet"
	"weft/link"
)

// A tap port is a TAP device: its other side is an interface, which the caller moves to a host.
// It goes with the port.
type tap struct {
	fd int
	// Frames to read the next packet into: a packet that does not fit into the small one goes on
	// in the large one behind the room for what went into the small one. Without is their number.
	small, large uint32
	pool         *manager.Pool // nil if the port has no frames
	none         [vnet.Len]byte
	iov          [3]unix.Iovec
	lost         uint64
}

// smallRoom is how much of a packet a small frame takes.
const smallRoom = shm.FrameSize - shm.Headroom

// openTAP makes the interface. Where there are no TAP devices it is one side of a veth pair, and a
// packet socket is on the other.
func openTAP(o *Opener, c Config) (manager.Port, error) {
	mac, _ := net.ParseMAC(c.MAC) // Validate has looked
	fd, err := device.OpenTAP(device.TAP{File: o.tun, Name: c.Device, MAC: mac, MTU: c.MTU})
	if errors.Is(err, device.ErrNoTAP) {
		p, vethErr := openVeth(c, mac)
		if vethErr != nil {
			return nil, errors.Join(err, vethErr)
		}
		return p, nil
	}
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: this needs CAP_NET_ADMIN, which root has, and who made the user namespace", err)
		}
		return nil, err
	}
	return &tap{fd: fd}, nil
}

// A veth port is a packet port on a veth device that it has made.
type veth struct {
	*packet
	behind int // the index of the port's own side
	handle *netlink.Handle
}

func openVeth(c Config, mac net.HardwareAddr) (manager.Port, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	v := &veth{handle: h}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags = behindName(c.Device), cmp.Or(c.MTU, 1500), unix.IFF_UP
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerMTU = c.Device, mac, uint32(attrs.MTU)
	if err := h.LinkAdd(pair); err != nil {
		h.Close()
		return nil, fmt.Errorf("make a veth pair: %w", err)
	}
	err = func() error {
		if v.behind, err = device.Index(attrs.Name); err != nil {
			return err
		}
		if err := link.KeepFeatures(c.Device, vnet.Expressible); err != nil {
			return err
		}
		p, err := openPacket(nil, Config{Device: attrs.Name})
		if err != nil {
			return err
		}
		v.packet = p.(*packet)
		return nil
	}()
	if err != nil {
		return nil, errors.Join(err, h.LinkDel(pair), closed(h))
	}
	return v, nil
}

func closed(h *netlink.Handle) error { h.Close(); return nil }

// behindName is the name of the port's own side of a veth pair: its device's, marked.
func behindName(name string) string { return name[:min(len(name), 13)] + "~p" }

// Close closes the port and removes the devices.
func (v *veth) Close() error {
	err := v.packet.Close()
	if del := v.handle.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: v.behind}}); del != nil && !errors.Is(del, unix.ENODEV) {
		err = errors.Join(err, del)
	}
	v.handle.Close()
	return err
}

// Receive reads packets, one with each system call: there is no other way.
func (t *tap) Receive(into []shm.Desc, pool *manager.Pool) int {
	n := 0
	for n < len(into) && t.prepare(pool) {
		mem := pool.Memory()
		small, large := mem.Frame(t.small), mem.Frame(t.large)
		t.iov[0].Base, t.iov[1].Base, t.iov[2].Base = &small[0], &small[shm.Headroom], &large[shm.Headroom+smallRoom]
		t.iov[0].SetLen(vnet.Len)
		t.iov[1].SetLen(smallRoom)
		t.iov[2].SetLen(len(large) - shm.Headroom - smallRoom)
		r, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(t.fd), uintptr(unsafe.Pointer(&t.iov)), uintptr(len(t.iov)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || r == 0 {
			break // nothing more, or the device is down or gone
		}
		length := int(r) - vnet.Len
		if length < 14 {
			t.lost++
			continue
		}
		d := shm.Desc{Frame: t.small, Offset: shm.Headroom, Length: uint32(length)}
		if vnet.Unfinished(small[:vnet.Len]) {
			d.Flags = shm.HasVnet
		}
		if length > smallRoom {
			copy(large, small[:vnet.Len])
			copy(large[shm.Headroom:], small[shm.Headroom:])
			d.Frame = t.large
			t.large = noFrame
		} else {
			t.small = noFrame
		}
		into[n] = d
		n++
	}
	return n
}

const noFrame = ^uint32(0)

// prepare sees to it that there are frames to read into.
func (t *tap) prepare(pool *manager.Pool) bool {
	if t.pool == nil {
		t.pool, t.small, t.large = pool, noFrame, noFrame
	}
	if t.small == noFrame {
		f, ok := pool.Get(smallRoom)
		if !ok {
			return false
		}
		t.small = f
	}
	if t.large == noFrame {
		f, ok := pool.Get(shm.LargeSize - shm.Headroom)
		if !ok {
			return false
		}
		t.large = f
	}
	return true
}

// Send writes packets.
func (t *tap) Send(list []shm.Desc, pool *manager.Pool) int {
	mem := pool.Memory()
	sent, end := 0, len(list)
	for sent < end {
		d := &list[sent]
		t.iov[0].Base = &t.none[0]
		if d.Flags&shm.HasVnet != 0 {
			t.iov[0].Base = &mem.Frame(d.Frame)[0]
		}
		t.iov[0].SetLen(vnet.Len)
		data := mem.Packet(d)
		t.iov[1].Base = unsafe.SliceData(data)
		t.iov[1].SetLen(len(data))
		_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(t.fd), uintptr(unsafe.Pointer(&t.iov)), 2)
		switch errno {
		case 0:
			pool.Free(d.Frame)
			sent++
		case unix.EINTR:
		case unix.EINVAL, unix.EMSGSIZE:
			// This one is too short or has a header that says nonsense: on with the others.
			end--
			list[sent], list[end] = list[end], list[sent]
		default:
			return sent // no room, or the device is down or gone
		}
	}
	return sent
}

// FD returns the device's descriptor.
func (t *tap) FD() int { return t.fd }

// Lost counts packets.
func (t *tap) Lost() (received, sent uint64) { return t.lost, 0 }

// Close removes the device.
func (t *tap) Close() error {
	if t.pool != nil {
		for _, f := range []uint32{t.small, t.large} {
			if f != noFrame {
				t.pool.Free(f)
			}
		}
		t.pool = nil
	}
	if t.fd < 0 {
		return nil
	}
	err := unix.Close(t.fd)
	t.fd = -1
	return err
}
