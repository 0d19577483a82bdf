// Package link realises links between network namespaces: a driver makes both ends in
// place, named and with their MACs. It knows no nodes.
package link

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/ns"
)

// An End is one side of a link. A nil Net stands for the namespace of the handle that the
// link is made with.
type End struct {
	Net    *ns.Net
	Device string // kernel name, at most 15 bytes
	MAC    net.HardwareAddr
}

// SetMTU sets the MTU of a device that exists, bytes. One without a namespace is in that of the
// process.
func (e End) SetMTU(mtu int) error {
	set := func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		r, err := unix.NewIfreq(e.Device)
		if err != nil {
			return err
		}
		r.SetUint32(uint32(mtu))
		return unix.IoctlIfreq(s, unix.SIOCSIFMTU, r)
	}
	err := error(nil)
	if e.Net != nil {
		err = e.Net.Do(set)
	} else {
		err = set()
	}
	if err != nil {
		return fmt.Errorf("MTU %d of %s: %w", mtu, e.Device, err)
	}
	return nil
}

// DefaultMTU is that of links of which no other was asked, bytes.
const DefaultMTU = 1500

// Veth makes a veth pair (veth(4)) with both ends in place. Ends in h's own namespace are
// up; others are for their nodes to take up. index is a's interface index, which must be
// free in its namespace: to know it saves a question for each link. mtu is that of both; 0
// means 1500.
func Veth(h *netlink.Handle, a, b End, index, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Index = a.Device, a.MAC, index
	// One queue: the kernel's default, one for each CPU, costs time and memory.
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	attrs.MTU = mtu
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerHardwareAddr, v.PeerMTU = b.Device, b.MAC, uint32(mtu)
	if a.Net == nil {
		v.Flags = net.FlagUp
	} else {
		v.Namespace = netlink.NsFd(a.Net.FD())
	}
	if b.Net != nil {
		v.PeerNamespace = netlink.NsFd(b.Net.FD())
	}
	if err := h.LinkAdd(v); err != nil {
		return fmt.Errorf("make veth pair %s, %s: %w", a.Device, b.Device, err)
	}
	if b.Net != nil {
		return nil
	}
	peer, err := h.LinkByName(b.Device)
	if err == nil {
		err = h.LinkSetUp(peer)
	}
	if err != nil {
		err = fmt.Errorf("%s up: %w", b.Device, err)
		if peer != nil {
			err = errors.Join(err, h.LinkDel(peer))
		}
		return err
	}
	return nil
}
