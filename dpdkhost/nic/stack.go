package nic

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Stack is what the machine's network stack uses its interfaces for, by name.
type Stack struct {
	Addresses    map[string][]string // CIDR; IPv6's link-local ones are left out
	DefaultRoute map[string]bool
	Upper        map[string][]string // interfaces made of others: bridges, bonds, VLANs
	Up           map[string]bool     // administratively
	XDP          map[string]bool     // those with an XDP program
	// Devices are the interfaces of cards, by the card's address, where the kernel says so (from
	// Linux 5.14): /sys may be that of another network namespace.
	Devices map[string][]Interface
}

// ReadStack returns that of the calling thread's network namespace.
func ReadStack() (Stack, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Stack{}, fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	return readStack(h)
}

func readStack(h *netlink.Handle) (Stack, error) {
	s := Stack{Addresses: map[string][]string{}, DefaultRoute: map[string]bool{}, Upper: map[string][]string{}, Up: map[string]bool{}, XDP: map[string]bool{}, Devices: map[string][]Interface{}}
	links, err := whole(h.LinkList)
	if err != nil {
		return s, fmt.Errorf("network interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		if lower := names[a.ParentIndex]; lower != "" && a.NetNsID < 0 && l.Type() != "veth" { // a veth's parent is its peer
			s.Upper[lower] = append(s.Upper[lower], a.Name)
		}
		if master := names[a.MasterIndex]; master != "" {
			s.Upper[a.Name] = append(s.Upper[a.Name], master)
		}
		s.XDP[a.Name] = a.Xdp != nil && a.Xdp.Attached
		s.Up[a.Name] = a.Flags&net.FlagUp != 0
		if a.ParentDev != "" {
			s.Devices[a.ParentDev] = append(s.Devices[a.ParentDev], Interface{Name: a.Name, MAC: a.HardwareAddr.String(), State: a.OperState.String(), Up: s.Up[a.Name]})
		}
		list, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(l, netlink.FAMILY_ALL) })
		if err != nil {
			return s, fmt.Errorf("addresses of %s: %w", a.Name, err)
		}
		for _, x := range list {
			if !x.IP.IsLinkLocalUnicast() || x.IP.To4() != nil {
				s.Addresses[a.Name] = append(s.Addresses[a.Name], x.IPNet.String())
			}
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := whole(func() ([]netlink.Route, error) { return h.RouteList(nil, family) })
		if err != nil {
			return s, fmt.Errorf("routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst != nil {
				if bits, _ := r.Dst.Mask.Size(); bits > 0 {
					continue
				}
			}
			s.DefaultRoute[names[r.LinkIndex]] = true
			for _, hop := range r.MultiPath {
				s.DefaultRoute[names[hop.LinkIndex]] = true
			}
		}
	}
	delete(s.DefaultRoute, "")
	return s, nil
}

// Use says for what an interface is needed, in words; empty if for nothing.
func (s Stack) Use(name string) string {
	f := Interface{Name: name, Up: s.Up[name], DefaultRoute: s.DefaultRoute[name], PartOf: s.Upper[name], Addresses: s.Addresses[name], XDP: s.XDP[name]}
	why, _ := f.need()
	return why
}
