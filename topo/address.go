package topo

import (
	"cmp"
	"net/netip"
	"slices"
)

// The networks from which hosts get addresses where nothing else is said, and
// where IPv6 is asked for without a network.
const (
	DefaultIPBase  = "10.0.0.0/8"
	DefaultIP6Base = "fd00::/64"
)

// checkIP checks and claims an address that a person gave; invalid means none.
func (g *growth) checkIP(where place, ip netip.Prefix, v6 bool) netip.Prefix {
	if !ip.IsValid() {
		return ip
	}
	field, family, example := "ip", "IPv4", "10.0.0.1/8"
	if v6 {
		field, family, example = "ip6", "IPv6", "fd00::1/64"
	}
	where = where.on(field)
	a := ip.Addr()
	switch {
	case a.Is4In6() || a.Is6() != v6 || a.Zone() != "":
		g.fail(where, "%s %s is not %s; write for example %s", field, ip, family, example)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		g.fail(where, "%s %s is not an address for a host; write for example %s", field, ip, example)
	case !v6 && ip.Bits() < 31 && (a == ip.Masked().Addr() || a == lastAddr(ip)):
		g.fail(where, "%s %s is the network's own or broadcast address; write one between", field, ip)
	default:
		g.demand(addressClaim(a.String()), where)
		return ip
	}
	return netip.Prefix{}
}

// checkMAC checks and claims a MAC that a person gave; empty means none.
func (g *growth) checkMAC(where place, mac string) string {
	where = where.on("mac")
	if mac == "" {
		return ""
	}
	mac, err := parseMAC(mac)
	if err != nil {
		g.fail(where, "%w", err)
		return ""
	}
	g.demand(macClaim(mac), where)
	return mac
}

// chooseAddresses finds each host's first interface and gives new hosts the
// addresses that they have not.
func (g *growth) chooseAddresses() {
	for node, ends := range g.byHost {
		h := g.Host(node)
		if slices.ContainsFunc(h.Interfaces, func(f Interface) bool {
			return f.IP.IsValid() && f.IP == h.IP || f.IP6.IsValid() && f.IP6 == h.IP6
		}) {
			continue
		}
		first := slices.MinFunc(ends, func(a, b *draftEnd) int { return a.is.Port - b.is.Port })
		first.takesHost = true
	}
	short := 0 // hosts for which there was no address
	for i := range g.Hosts[g.hosts:] {
		h := &g.Hosts[g.hosts+i]
		var own draftEnd
		for _, e := range g.byHost[h.Name] {
			if e.takesHost {
				own = *e
			}
		}
		where := g.place(hostNode, g.hosts+i, h.Name)
		inherit(g, where.on("ip"), &h.IP, own.is.IP)
		inherit(g, where.on("ip6"), &h.IP6, own.is.IP6)
		inherit(g, where.on("mac"), &h.MAC, own.is.MAC)
		if !g.number(h, where) {
			short++
		}
	}
	if short > 0 {
		base := g.Addressing.IPBase
		g.fail(place{field: "ipBase"}, "ipBase %s has %d addresses, %d too few for the hosts; write a larger network, such as %s",
			base, capacity(base), short, DefaultIPBase)
	}
	for _, ends := range g.byHost {
		for _, e := range ends {
			if e.takesHost {
				h := g.Host(e.want.Node)
				e.is.IP = cmp.Or(e.is.IP, h.IP)
				e.is.IP6 = cmp.Or(e.is.IP6, h.IP6)
				e.is.MAC = cmp.Or(e.is.MAC, h.MAC)
			}
		}
	}
}

// inherit gives a new host what the end of its first link was given.
func inherit[T comparable](g *growth, where place, h *T, end T) {
	var none T
	switch {
	case end == none:
	case *h != none:
		g.fail(where, "%s is given for the host and for its first link; write it once", where.field)
	default:
		*h = end
	}
}

// number gives a new host its number and, from it, the addresses that it lacks.
// It reports whether there was one in the IPv4 base.
func (g *growth) number(h *PlannedHost, where place) bool {
	base, base6 := g.Addressing.IPBase, g.Addressing.IP6Base
	for {
		n := uint64(g.NextHost)
		g.NextHost++
		var ip, ip6 netip.Prefix
		var mac string
		var claims []claim
		if !h.IP.IsValid() {
			if ip = nth(base, n); !ip.IsValid() {
				return false
			}
			claims = append(claims, addressClaim(ip.Addr().String()))
		}
		if !h.IP6.IsValid() && base6.IsValid() {
			if ip6 = nth(base6, n); !ip6.IsValid() {
				g.fail(place{field: "ip6Base", text: where.text}, "no address is left in ip6Base %s; write a larger network, such as %s", base6, DefaultIP6Base)
				return true
			}
			claims = append(claims, addressClaim(ip6.Addr().String()))
		}
		if h.MAC == "" && g.Addressing.AutoMAC {
			mac = formatMAC(firstNumber(base) + n)
			claims = append(claims, macClaim(mac))
		}
		if slices.ContainsFunc(claims, func(c claim) bool { return g.index.claims[c] != "" }) {
			continue
		}
		for _, c := range claims {
			g.take(c, where.text)
		}
		h.IP, h.IP6, h.MAC = cmp.Or(h.IP, ip), cmp.Or(h.IP6, ip6), cmp.Or(h.MAC, mac)
		return true
	}
}

// firstNumber is the host part of an IPv4 base from which numbering starts, or 1.
func firstNumber(base netip.Prefix) uint64 {
	return max(1, number4(base.Addr())-number4(base.Masked().Addr()))
}

func number4(a netip.Addr) uint64 {
	b := a.As4()
	return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
}

// capacity is how many hosts an IPv4 base can number.
func capacity(base netip.Prefix) uint64 {
	size := uint64(1) << (32 - base.Bits())
	if base.Bits() < 31 {
		size-- // the broadcast address
	}
	return max(size, firstNumber(base)) - firstNumber(base)
}

// nth returns the address of host number n (from 0) in base, invalid if base
// is too small.
func nth(base netip.Prefix, n uint64) netip.Prefix {
	a := base.Addr()
	if a == base.Masked().Addr() {
		n++
	}
	b := a.AsSlice()
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		n += uint64(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	a, _ = netip.AddrFromSlice(b)
	if n > 0 || !base.Contains(a) || a.Is4() && base.Bits() < 31 && a == lastAddr(base) {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, base.Bits())
}

// lastAddr returns the last address of a network, for IPv4 its broadcast address.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// chooseMACs derives the MACs that nobody gave from the interfaces' names.
func (g *growth) chooseMACs() {
	for e := range g.ends() {
		for salt := 0; e.is.MAC == "" && !e.keepsMAC; salt++ {
			if mac := hashMAC(e.id(), salt); g.take(macClaim(mac), e.where.text) {
				e.is.MAC = mac
			}
		}
	}
}

// chooseRoutes sends new hosts through the network's only gateway, if they are on a
// network with it, and checks the gateways that people gave.
func (g *growth) chooseRoutes() {
	var gateways []netip.Addr
	for _, h := range g.Hosts {
		if h.NAT != nil {
			gateways = append(gateways, h.IP.Addr())
		}
	}
	for i := range g.Hosts[g.hosts:] {
		h := &g.Hosts[g.hosts+i]
		switch {
		case h.DefaultRoute.IsValid():
			if h.IP.IsValid() && !g.reaches(h, h.DefaultRoute) {
				g.fail(g.place(hostNode, g.hosts+i, h.Name).on("defaultRoute"), "the default route via %s is on none of its networks; write a neighbour's address", h.DefaultRoute)
			}
		case h.NAT == nil && len(gateways) == 1 && h.IP.Contains(gateways[0]):
			h.DefaultRoute = gateways[0]
		}
	}
}

// reaches reports whether a is on one of the networks of a new host.
func (g *growth) reaches(h *PlannedHost, a netip.Addr) bool {
	if a.IsLinkLocalUnicast() || h.IP.Contains(a) || h.IP6.Contains(a) {
		return true
	}
	return slices.ContainsFunc(g.byHost[h.Name], func(e *draftEnd) bool {
		return e.is.IP.Contains(a) || e.is.IP6.Contains(a)
	})
}

// keep makes the host keep the addresses of its first interface instead of those
// that were reserved for it.
func (g *growth) keep(h *PlannedHost, f Interface) {
	if h.IP != f.IP {
		delete(g.index.claims, addressClaim(h.IP.Addr().String()))
		h.IP = f.IP
	}
	if h.IP6 != f.IP6 {
		delete(g.index.claims, addressClaim(h.IP6.Addr().String()))
		h.IP6 = f.IP6
	}
	if h.MAC != "" && h.MAC != f.MAC {
		delete(g.index.claims, macClaim(h.MAC))
		h.MAC = f.MAC
	}
}
