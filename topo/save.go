package topo

import (
	"net/netip"
	"reflect"
	"slices"
)

// Spec returns a short description of the network: what Plan would choose by itself is left
// out. Planning it gives p again, but for the numbers of links and those that were deleted.
func (p *Plan) Spec() Spec {
	full := p.fullSpec()
	s := full
	for _, leaveOut := range []func(s *Spec){leaveOutLinkDefaults, leaveOutMACs, leaveOutDPIDs, leaveOutAddresses, leaveOutRoutes, leaveOutPorts, leaveOutInterfaces, leaveOutSwitchDefaults, leaveOutNFDefaults, leaveOutServices, leaveOutChains, leaveOutNFs} {
		less := cloneSpec(s)
		leaveOut(&less)
		if less.gives(p) {
			s = less
			continue
		}
		s = keepNeeded(s, less, p)
	}
	return s
}

// keepNeeded leaves out, entry by entry, only what planning gives again.
func keepNeeded(s, less Spec, p *Plan) Spec {
	mixed := cloneSpec(less)
	for range 3 {
		got, err := mixed.Plan()
		if err != nil {
			return s
		}
		if samePlan(got, p) {
			return mixed
		}
		for i := range p.Hosts {
			if !sameHost(got.Hosts[i], p.Hosts[i]) {
				mixed.Hosts[i] = s.Hosts[i]
			}
		}
		for i := range p.Switches {
			if !sameSwitch(got.Switches[i], p.Switches[i]) {
				mixed.Switches[i] = s.Switches[i]
			}
		}
		for i := range p.Links {
			if !sameLink(got, p, i) {
				mixed.Links[i] = s.Links[i]
			}
		}
	}
	if mixed.gives(p) {
		return mixed
	}
	return s
}

// gives reports whether planning s gives p.
func (s Spec) gives(p *Plan) bool {
	got, err := s.Plan()
	return err == nil && samePlan(got, p)
}

func samePlan(a, b *Plan) bool {
	if len(a.Hosts) != len(b.Hosts) || len(a.Switches) != len(b.Switches) || len(a.Links) != len(b.Links) {
		return false
	}
	for i := range a.Hosts {
		if !sameHost(a.Hosts[i], b.Hosts[i]) {
			return false
		}
	}
	for i := range a.Switches {
		if !sameSwitch(a.Switches[i], b.Switches[i]) {
			return false
		}
	}
	for i := range a.Links {
		if !sameLink(a, b, i) {
			return false
		}
	}
	return true
}

func sameHost(a, b PlannedHost) bool {
	a.Interfaces, b.Interfaces = withoutLinks(a.Interfaces), withoutLinks(b.Interfaces)
	return reflect.DeepEqual(a, b)
}

func sameSwitch(a, b PlannedSwitch) bool {
	a.Interfaces, b.Interfaces = withoutLinks(a.Interfaces), withoutLinks(b.Interfaces)
	return reflect.DeepEqual(a, b)
}

// withoutLinks returns interfaces without the numbers of their links.
func withoutLinks(list []Interface) []Interface {
	list = slices.Clone(list)
	for i := range list {
		list[i].Link = 0
	}
	return list
}

func sameLink(a, b *Plan, i int) bool {
	x, y := a.Links[i], b.Links[i]
	return x.A == y.A && x.B == y.B && reflect.DeepEqual(x.LinkSettings, y.LinkSettings)
}

// fullSpec says all that people can say.
func (p *Plan) fullSpec() Spec {
	s := Spec{Name: p.Name, Addressing: p.Addressing, Seed: p.Seed, Controllers: slices.Clone(p.Controllers), Commands: slices.Clone(p.Commands)}
	if s.Addressing.IPBase == netip.MustParsePrefix(DefaultIPBase) {
		s.Addressing.IPBase = netip.Prefix{}
	}
	onInterface := map[string]bool{} // hosts whose addresses their first link has
	for _, l := range p.Links {
		link := Link{A: p.fullEnd(l.A), B: p.fullEnd(l.B), LinkSettings: l.LinkSettings}
		for _, e := range []*LinkEnd{&link.A, &link.B} {
			h := p.Host(e.Node)
			if h == nil || onInterface[e.Node] || h.IP != e.IP || h.IP6 != e.IP6 {
				continue
			}
			onInterface[e.Node] = true
			e.IP, e.IP6 = netip.Prefix{}, netip.Prefix{}
			if h.MAC == e.MAC {
				e.MAC = "" // the host says it
			}
		}
		s.Links = append(s.Links, link)
	}
	for _, h := range p.Hosts {
		s.Hosts = append(s.Hosts, Host{Name: h.Name, IP: h.IP, IP6: h.IP6, MAC: h.MAC, DefaultRoute: h.DefaultRoute,
			PrivateDirs: h.PrivateDirs, Files: h.Files, NAT: h.NAT})
	}
	for _, w := range p.Switches {
		sw := Switch{Name: w.Name, Driver: w.Driver, DPID: w.DPID, Protocols: w.Protocols, FailMode: w.FailMode, Datapath: w.Datapath,
			STP: w.STP, Local: w.Local, Controllers: slices.Clone(w.Controllers), ListenPort: w.ListenPort, DPDK: w.DPDK.Clone()}
		if w.Driver == DriverOVSBridge {
			sw.FailMode, sw.Controllers = "", nil
		}
		if w.Driver == DriverLinux || w.DPDK != nil && w.DPDK.Manager != ManagerWeft {
			sw.Controllers = nil
		}
		if w.DPDK != nil && w.DPDK.Manager != ManagerWeft {
			sw.FailMode = ""
		}
		s.Switches = append(s.Switches, sw)
	}
	return s
}

func (p *Plan) fullEnd(e PlannedEnd) LinkEnd {
	i := p.Interface(e)
	if i == nil || Outside(e.Node) {
		return LinkEnd{Node: e.Node}
	}
	end := LinkEnd{Node: e.Node, Interface: i.Name, Port: new(int), MAC: i.MAC, IP: i.IP, IP6: i.IP6}
	*end.Port = i.Port
	if i.MAC == hashMAC(e.Node+"/"+i.Name, 0) {
		end.MAC = "" // it follows from the name
	}
	return end
}

func cloneSpec(s Spec) Spec {
	s.Hosts, s.Switches, s.Links = slices.Clone(s.Hosts), slices.Clone(s.Switches), slices.Clone(s.Links)
	for i := range s.Switches {
		s.Switches[i].DPDK = s.Switches[i].DPDK.Clone()
	}
	return s
}

func leaveOutLinkDefaults(s *Spec) {
	for i := range s.Links {
		l := &s.Links[i]
		if l.Driver == LinkVeth || l.Driver == LinkAuto || l.outside() || l.Driver == LinkWire && (s.Seed != nil || l.NeedsWire()) {
			l.Driver = ""
		}
		if s.Seed != nil {
			l.Seed = nil
		}
	}
}

func leaveOutMACs(s *Spec) {
	for i := range s.Hosts {
		s.Hosts[i].MAC = ""
	}
	for i := range s.Links {
		s.Links[i].A.MAC, s.Links[i].B.MAC = "", ""
	}
}

func leaveOutDPIDs(s *Spec) {
	for i := range s.Switches {
		s.Switches[i].DPID = 0
	}
}

func leaveOutAddresses(s *Spec) {
	for i := range s.Hosts {
		s.Hosts[i].IP, s.Hosts[i].IP6 = netip.Prefix{}, netip.Prefix{}
	}
}

func leaveOutRoutes(s *Spec) {
	for i := range s.Hosts {
		s.Hosts[i].DefaultRoute = netip.Addr{}
	}
}

func leaveOutPorts(s *Spec) {
	for i := range s.Links {
		s.Links[i].A.Port, s.Links[i].B.Port = nil, nil
		s.Links[i].A.Interface, s.Links[i].B.Interface = "", ""
	}
}

func leaveOutInterfaces(s *Spec) {
	for i := range s.Links {
		s.Links[i].A.Interface, s.Links[i].B.Interface = "", ""
	}
}

func leaveOutSwitchDefaults(s *Spec) {
	for i := range s.Switches {
		w := &s.Switches[i]
		if w.Driver == DriverOVS {
			w.Driver = ""
		}
		if w.FailMode == "secure" && w.Driver != DriverDPDK || w.FailMode == "standalone" && w.Driver == DriverDPDK {
			w.FailMode = ""
		}
		if w.Datapath == DatapathAuto {
			w.Datapath = ""
		}
		if len(w.Controllers) == len(s.Controllers) || w.Driver == DriverDPDK && len(w.Controllers) == 0 {
			w.Controllers = nil
		}
	}
	for i := range s.Controllers {
		c := &s.Controllers[i]
		if c.Transport == "tcp" {
			c.Transport = ""
		}
		if c.Address == "127.0.0.1" {
			c.Address = ""
		}
	}
}

func leaveOutNFDefaults(s *Spec) {
	for d := range dpdkNodes(s) {
		if d.Manager == ManagerWeft {
			d.Manager = ""
		}
		if d.PortKind == portKinds[0] {
			d.PortKind = ""
		}
		for i := range d.NFs {
			n := &d.NFs[i]
			for _, f := range []struct {
				field   *int
				regular int
			}{{&n.Instances, 1}, {&n.Weight, 1}} {
				if *f.field == f.regular {
					*f.field = 0
				}
			}
			if n.Restart == restartWords[0] {
				n.Restart = ""
			}
			if n.OnDeath == deathWords[0] {
				n.OnDeath = ""
			}
		}
	}
}

func leaveOutServices(s *Spec) {
	for d := range dpdkNodes(s) {
		for i := range d.NFs {
			d.NFs[i].Service = 0
		}
	}
}

func leaveOutChains(s *Spec) {
	for d := range dpdkNodes(s) {
		d.Chains = nil
	}
}

func leaveOutNFs(s *Spec) {
	for d := range dpdkNodes(s) {
		d.NFs = nil
	}
}

// dpdkNodes ranges over the descriptions of DPDK nodes.
func dpdkNodes(s *Spec) func(yield func(*DPDK) bool) {
	return func(yield func(*DPDK) bool) {
		for i := range s.Switches {
			if d := s.Switches[i].DPDK; d != nil && !yield(d) {
				return
			}
		}
	}
}
