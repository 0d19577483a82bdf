package network

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/link"
	"weft/topo"
)

// A LinkState is a link now. What there is of both ends, or both directions, is of A, then of B.
type LinkState struct {
	ID int             `json:"id"`
	A  topo.PlannedEnd `json:"a"`
	B  topo.PlannedEnd `json:"b"`
	Up [2]bool         `json:"up"`
	OK [2]bool         `json:"ok"` // the interface exists
	// Cut says that frames from this end are dropped (LinkChange.Cut), Barred that those of
	// others' are (a partition).
	Cut    [2]bool `json:"cut"`
	Barred [2]bool `json:"barred"`
	// Settings are those in force, and its Driver the one that does it.
	Settings topo.LinkSettings `json:"settings"`
	// Counters are there if they were asked for, and the link has some.
	Counters *[2]LinkCounters `json:"counters,omitempty"`
}

// LinkCounters count the frames that went one way. Those of a veth pair are its devices', for
// which a frame that segmentation offload leaves whole is one.
type LinkCounters struct {
	link.Counters
	// Stopped frames met a cut or a partition, before all else.
	Stopped uint64 `json:"stopped,omitempty"`
}

// Links returns links with their counters: those that the names stand for, or all.
func (n *Network) Links(names []string) ([]LinkState, error) {
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	var list []topo.PlannedLink
	seen := map[int]bool{}
	for _, name := range names {
		views, _, err := plan.FindLinks(name)
		if err != nil {
			return nil, err
		}
		for _, v := range views {
			if !seen[v.ID] {
				seen[v.ID] = true
				list = append(list, v.PlannedLink)
			}
		}
	}
	if len(names) == 0 {
		list = plan.Links
	}
	states := make([]LinkState, 0, len(list))
	for _, l := range list {
		states = append(states, n.linkState(l, true))
	}
	return states, nil
}

// linkState returns what a link is now.
func (n *Network) linkState(l topo.PlannedLink, counters bool) LinkState {
	up := map[topo.PlannedEnd]bool{}
	var c [2]LinkCounters
	for i, e := range []topo.PlannedEnd{l.A, l.B} {
		if topo.Outside(e.Node) || l.Driver == topo.LinkMemif {
			continue
		}
		n.onDevice(e, func(_ *netlink.Handle, dev netlink.Link) error {
			up[e] = dev.Attrs().RawFlags&unix.IFF_UP != 0
			s := dev.Attrs().Statistics
			if s == nil {
				return nil
			}
			c[i].Delivered, c[i].DeliveredBytes, c[i].Down = s.TxPackets, s.TxBytes, s.TxDropped
			if l.Driver == topo.LinkHW { // there is no other device to count what comes in
				c[1-i].Delivered, c[1-i].DeliveredBytes, c[1-i].Down = s.RxPackets, s.RxBytes, s.RxDropped
			}
			return nil
		})
	}
	s := n.fillState(l, up)
	r, runs := n.lookAtLink(l.ID)
	if counters && runs && l.Driver == topo.LinkMemif {
		n.memifState(l, &s)
		return s
	}
	if !counters || !runs || r.driver == topo.LinkPatch {
		return s
	}
	if shaper := r.current(); shaper != nil {
		if have, err := shaper.Counters(); err == nil {
			c[0].Counters, c[1].Counters = have[0], have[1]
		}
	}
	for i, e := range []topo.PlannedEnd{l.A, l.B} {
		if r.ends[i].device == "" {
			continue
		}
		if dropped, err := n.gatesOf(e.Node).Dropped(); err == nil {
			c[i].Stopped = dropped[r.ends[i].device]
		}
	}
	s.Counters = &c
	return s
}

// fillState returns a link's state, of which up says which interfaces there are and whether
// they are up.
func (n *Network) fillState(l topo.PlannedLink, up map[topo.PlannedEnd]bool) LinkState {
	s := LinkState{ID: l.ID, A: l.A, B: l.B, Settings: l.LinkSettings}
	for k, e := range []topo.PlannedEnd{l.A, l.B} {
		if l.Driver == topo.LinkPatch {
			s.OK[k], s.Up[k] = true, true
			continue
		}
		if l.Driver == topo.LinkMemif {
			s.OK[k], s.Up[k] = true, !n.isOff(e.Node)
			continue
		}
		s.Up[k], s.OK[k] = up[e], false
		_, s.OK[k] = up[e]
	}
	if _, node, ok := l.NIC(); ok { // one device is both ends
		_, there := up[node]
		s.OK, s.Up = [2]bool{there, there}, [2]bool{up[node], up[node]}
	}
	if r, runs := n.lookAtLink(l.ID); runs {
		s.Settings = r.settings
		s.Settings.Driver = r.inForce()
		for k, e := range r.ends {
			s.Cut[k], s.Barred[k] = e.cut, e.barred != ""
		}
	}
	return s
}

// address6 is an IPv6 address as an interface gets it: weft's are unique.
func address6(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)}, Flags: unix.IFA_F_NODAD}
}
