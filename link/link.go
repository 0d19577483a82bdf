// Package link realises links between network namespaces: a driver makes both ends in
// place, named, with their MACs and up. It knows no nodes.
package link

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"weft/internal/ns"
)

// An End is one side of a link.
type End struct {
	Net    *ns.Net
	Device string // kernel name, at most 15 bytes
	MAC    net.HardwareAddr
	// Quiet turns IPv6 off on the device, so that it sends nothing by itself: for ends
	// that are ports of a switch.
	Quiet bool
}

// Veth makes a veth pair (veth(4)) with both ends up. Handles are those of the ends'
// namespaces.
func Veth(a, b End, ha, hb *netlink.Handle) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.Device
	attrs.HardwareAddr = a.MAC
	attrs.Flags = net.FlagUp
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	v := netlink.NewVeth(attrs)
	v.PeerName = b.Device
	v.PeerHardwareAddr = b.MAC
	v.PeerNamespace = netlink.NsFd(b.Net.FD())
	v.PeerNumTxQueues, v.PeerNumRxQueues = 1, 1
	if err := ha.LinkAdd(v); err != nil {
		return fmt.Errorf("make veth pair %s, %s: %w", a.Device, b.Device, err)
	}
	return nil
}
