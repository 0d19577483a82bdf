package nic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Settings are what the kernel forgets of an interface that goes to another namespace or
// driver.
type Settings struct {
	Name      string    `json:"name"`
	MAC       string    `json:"mac,omitempty"`
	MTU       int       `json:"mtu"`
	Alias     string    `json:"alias,omitempty"`
	Up        bool      `json:"up,omitempty"`
	Promisc   bool      `json:"promisc,omitempty"`
	Master    string    `json:"master,omitempty"` // the bridge or bond that it is part of
	Addresses []Address `json:"addresses,omitempty"`
	Routes    []Route   `json:"routes,omitempty"`
}

// An Address is one of an interface.
type Address struct {
	Address   netip.Prefix `json:"address"`
	Peer      netip.Prefix `json:"peer,omitzero"`
	Broadcast netip.Addr   `json:"broadcast,omitzero"`
	Label     string       `json:"label,omitempty"`
	Scope     int          `json:"scope,omitempty"`
	Flags     int          `json:"flags,omitempty"`
	Valid     int          `json:"valid,omitempty"` // seconds; 0 for ever
	Preferred int          `json:"preferred,omitempty"`
}

// A Route is one over an interface.
type Route struct {
	To       netip.Prefix `json:"to"`
	Via      netip.Addr   `json:"via,omitzero"`
	Source   netip.Addr   `json:"source,omitzero"`
	Table    int          `json:"table,omitempty"`
	Metric   int          `json:"metric,omitempty"`
	Protocol int          `json:"protocol,omitempty"`
	Scope    int          `json:"scope,omitempty"`
	Flags    int          `json:"flags,omitempty"`
	MTU      int          `json:"mtu,omitempty"`
}

// keptFlags are those of an address that a person sets (linux/if_addr.h).
const keptFlags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_MCAUTOJOIN | unix.IFA_F_HOMEADDRESS

// forever is the lifetime of an address that has no end (linux/rtnetlink.h, INFINITY_LIFE_TIME).
const forever = 1<<32 - 1

// readSettings returns those of an interface. What the kernel and routers give by themselves,
// link-local and temporary addresses, is left out.
func readSettings(h *netlink.Handle, dev netlink.Link) (Settings, error) {
	a := dev.Attrs()
	s := Settings{Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU, Alias: a.Alias,
		Up: a.RawFlags&unix.IFF_UP != 0, Promisc: a.RawFlags&unix.IFF_PROMISC != 0}
	if a.MasterIndex != 0 {
		master, err := h.LinkByIndex(a.MasterIndex)
		if err != nil {
			return s, fmt.Errorf("%s: what it is part of: %w", a.Name, err)
		}
		s.Master = master.Attrs().Name
	}
	addresses, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(dev, netlink.FAMILY_ALL) })
	if err != nil {
		return s, fmt.Errorf("addresses of %s: %w", a.Name, err)
	}
	for _, x := range addresses {
		v := Address{Address: prefix(x.IPNet), Scope: x.Scope, Flags: x.Flags & keptFlags, Valid: x.ValidLft, Preferred: x.PreferedLft}
		if v.Address.Addr().Is6() && v.Address.Addr().IsLinkLocalUnicast() || x.Flags&unix.IFA_F_TEMPORARY != 0 && v.Address.Addr().Is6() {
			continue
		}
		if x.Peer != nil && prefix(x.Peer) != v.Address {
			v.Peer = prefix(x.Peer)
		}
		if v.Address.Addr().Is4() {
			v.Label = x.Label
			v.Broadcast, _ = netip.AddrFromSlice(x.Broadcast.To4())
		}
		if v.Valid == forever || x.Flags&unix.IFA_F_PERMANENT != 0 {
			v.Valid, v.Preferred = 0, 0
		}
		s.Addresses = append(s.Addresses, v)
	}
	s.Routes, err = readRoutes(h, a.Index)
	return s, err
}

func readRoutes(h *netlink.Handle, index int) (list []Route, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		// With a filter for the table (any), those of all tables come.
		routes, err := whole(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC, LinkIndex: index}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF)
		})
		if err != nil {
			return nil, fmt.Errorf("routes: %w", err)
		}
		for _, r := range routes {
			v := Route{Table: r.Table, Metric: r.Priority, Protocol: int(r.Protocol), Scope: int(r.Scope), Flags: r.Flags & int(netlink.FLAG_ONLINK), MTU: r.MTU, To: everywhere(family)}
			if r.Dst != nil {
				v.To = prefix(r.Dst)
			}
			v.Via, _ = netip.AddrFromSlice(r.Gw)
			v.Source, _ = netip.AddrFromSlice(r.Src)
			v.Via, v.Source = v.Via.Unmap(), v.Source.Unmap()
			own := v.To.Addr().IsLinkLocalUnicast() && v.To.Addr().Is6() || v.To.Addr().IsMulticast()
			if r.Type != unix.RTN_UNICAST || r.Table == unix.RT_TABLE_LOCAL || own || r.Protocol == unix.RTPROT_RA {
				continue // the kernel's own, or a router's
			}
			list = append(list, v)
		}
	}
	// Those without a gateway lead to the gateways of others.
	slices.SortStableFunc(list, func(a, b Route) int { return rank(a) - rank(b) })
	return list, nil
}

func rank(r Route) int {
	if r.Via.IsValid() {
		return 1
	}
	return 0
}

func everywhere(family int) netip.Prefix {
	if family == netlink.FAMILY_V4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func prefix(n *net.IPNet) netip.Prefix {
	ip, _ := netip.AddrFromSlice(n.IP)
	ip = ip.Unmap()
	bits, of := n.Mask.Size()
	if of == 128 && ip.Is4() {
		bits -= 96
	}
	return netip.PrefixFrom(ip, bits)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// apply gives an interface, which is down and has no addresses, its settings. It goes to the
// end whatever fails.
func (s Settings) apply(h *netlink.Handle, dev netlink.Link) error {
	var errs []error
	do := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", s.Name, what, err))
		}
	}
	a := dev.Attrs()
	if a.Name != s.Name {
		do("has its name again", h.LinkSetName(dev, s.Name))
	}
	if mac, err := net.ParseMAC(s.MAC); err == nil && a.HardwareAddr.String() != s.MAC {
		do("MAC", h.LinkSetHardwareAddr(dev, mac))
	}
	if s.MTU != 0 && a.MTU != s.MTU {
		do("MTU", h.LinkSetMTU(dev, s.MTU))
	}
	if a.Alias != s.Alias {
		do("alias", h.LinkSetAlias(dev, s.Alias))
	}
	switch is := a.RawFlags&unix.IFF_PROMISC != 0; {
	case is && !s.Promisc:
		do("promiscuous", h.SetPromiscOff(dev))
	case !is && s.Promisc:
		do("promiscuous", h.SetPromiscOn(dev))
	}
	if s.Master != "" {
		master, err := h.LinkByName(s.Master)
		if err == nil {
			err = h.LinkSetMaster(dev, master)
		}
		do("is part of "+s.Master+" again", err)
	}
	if s.Up {
		do("up", h.LinkSetUp(dev))
	}
	for _, x := range s.Addresses {
		n := &netlink.Addr{IPNet: ipNet(x.Address), Label: x.Label, Scope: x.Scope, Flags: x.Flags, ValidLft: x.Valid, PreferedLft: x.Preferred}
		if x.Peer.IsValid() {
			n.Peer = ipNet(x.Peer)
		}
		if x.Address.Addr().Is4() {
			n.Broadcast = net.IPv4zero // none; nil would be one that follows from the prefix
		}
		if x.Broadcast.IsValid() {
			n.Broadcast = x.Broadcast.AsSlice()
		}
		do("address "+x.Address.String(), h.AddrReplace(dev, n))
	}
	for _, x := range s.Routes {
		if !s.Up {
			break // there are none over an interface that is down
		}
		r := &netlink.Route{LinkIndex: a.Index, Dst: ipNet(x.To), Table: x.Table, Priority: x.Metric, Protocol: netlink.RouteProtocol(x.Protocol), Scope: netlink.Scope(x.Scope), Flags: x.Flags, MTU: x.MTU}
		if x.Via.IsValid() {
			r.Gw = x.Via.AsSlice()
		}
		if x.Source.IsValid() {
			r.Src = x.Source.AsSlice()
		}
		do("route to "+x.To.String(), h.RouteReplace(r))
	}
	return errors.Join(errs...)
}
