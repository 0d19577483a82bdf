package wire

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/device"
	"weft/internal/ns"
	"weft/internal/vnet"
	"weft/link"
)

// An end is a device with a descriptor: what its node sends can be read there, what is written
// there is received by its node. Both begin with a virtio header.
type end struct {
	link.End
	tap bool // a TAP device

	// mu guards fd. The shard reads it without, until the wire is taken from it.
	mu sync.Mutex
	fd int

	place int32 // in the shard's batch, 0 if not there

	noCarrier atomic.Bool // the device has none
	wasUp     atomic.Bool // the device has been up

	lost   uint64       // frames that the socket has dropped
	remove func() error // makes the device go with fd; may be nil
	// room makes the other side of the pair take frames of an MTU; nil of a TAP device.
	room func(mtu int) error
}

// newEnd makes an end in place. One without a namespace of its own is in the process's, and up.
//
// It is a TAP device where this process may make one. Otherwise it is one side of a veth pair,
// and a packet socket is on the other side, backstage.
func (e *Engine) newEnd(at link.End, mtu int) (*end, error) {
	tap, err := e.newTAP(at, mtu)
	if err == nil || !errors.Is(err, device.ErrNoTAP) {
		return tap, err
	}
	veth, vethErr := e.newVeth(at, mtu)
	if vethErr != nil {
		return nil, errors.Join(err, vethErr)
	}
	return veth, nil
}

// close removes the device.
func (e *end) close() error {
	var err error
	if e.remove != nil {
		err = e.remove()
		e.remove = nil
	}
	return errors.Join(err, e.leave())
}

// setMTU changes the device's MTU.
func (e *end) setMTU(mtu int) error {
	if e.room != nil {
		if err := e.room(mtu); err != nil {
			return fmt.Errorf("MTU %d of %s: %w", mtu, e.Device, err)
		}
	}
	return e.SetMTU(mtu)
}

// leave lets go of the device, which goes with its namespace.
func (e *end) leave() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return nil
	}
	fd := e.fd
	e.fd = -1
	return unix.Close(fd)
}

// dropped returns how many frames the engine did not take in time.
func (e *end) dropped() (n uint64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return 0, ErrClosed
	}
	if !e.tap {
		s, err := unix.GetsockoptTpacketStats(e.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			e.lost += uint64(s.Drops) // since it was asked last
		}
		return e.lost, err
	}
	ask := func() error {
		l, err := netlink.LinkByName(e.Device)
		if err == nil {
			n = l.Attrs().Statistics.TxDropped
		}
		return err
	}
	if e.Net == nil {
		err = ask()
	} else {
		err = e.Net.Do(ask)
	}
	return n, err
}

// A backstage is a network namespace that holds the other sides of ends that are not TAP
// devices. Nothing else is there.
type backstage struct {
	net    *ns.Net
	handle *netlink.Handle

	mu   sync.Mutex
	made int
}

// behind returns the engine's backstage.
func (e *Engine) behind() (*backstage, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wires == nil {
		return nil, ErrClosed
	}
	var err error
	if e.backstage == nil {
		e.backstage, err = newBackstage()
	}
	return e.backstage, err
}

func newBackstage() (*backstage, error) {
	net, err := ns.New(func() error {
		// No frame that nobody sent.
		err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		if errors.Is(err, os.ErrNotExist) {
			err = nil // no IPv6 here
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	h, err := net.Handle()
	if err != nil {
		return nil, errors.Join(err, net.Close())
	}
	return &backstage{net: net, handle: h}, nil
}

func (b *backstage) close() error {
	b.handle.Close()
	return b.net.Close()
}

// newVeth makes an end of a veth pair.
func (e *Engine) newVeth(at link.End, mtu int) (*end, error) {
	b, err := e.behind()
	if err != nil {
		return nil, fmt.Errorf("wires without TAP devices: %w", err)
	}
	place := at.Net
	if place == nil {
		if place, err = ns.Current(); err != nil {
			return nil, err
		}
		defer place.Close()
	}
	b.mu.Lock()
	b.made++
	name := fmt.Sprintf("w%d", b.made)
	b.mu.Unlock()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags = name, mtu, unix.IFF_UP
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerHardwareAddr, v.PeerMTU = at.Device, at.MAC, uint32(mtu)
	v.PeerNamespace = netlink.NsFd(place.FD())
	if err := b.handle.LinkAdd(v); err != nil {
		return nil, fmt.Errorf("make veth device %s: %w", at.Device, err)
	}
	w := &end{End: at, fd: -1, remove: func() error {
		err := b.handle.LinkDel(v)
		if _, gone := err.(netlink.LinkNotFoundError); gone || errors.Is(err, unix.ENODEV) {
			return nil // with the host's namespace
		}
		return err
	}, room: func(mtu int) error { return b.handle.LinkSetMTU(v, mtu) }}
	err = place.Do(func() error {
		if err := link.KeepFeatures(at.Device, vnet.Expressible); err != nil {
			return err
		}
		if at.Net != nil {
			return nil
		}
		return device.Up(at.Device)
	})
	if err == nil {
		err = b.net.Do(func() error { return w.open(name) })
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make %s: %w", at.Device, err), w.close())
	}
	return w, nil
}

// socketRoom is how many bytes of memory frames may take that wait for the engine, at one end.
const socketRoom = 16 << 20

// open opens the socket on a device of the calling thread's namespace.
func (w *end) open(name string) error {
	fd, err := device.OpenSocket(socketRoom)
	if err != nil {
		return err
	}
	w.fd = fd
	return device.Bind(fd, name)
}
