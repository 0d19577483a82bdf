package topo

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Plan is a network in which nothing is left to choose: the same Spec gives the
// same Plan on every machine. Its order is the order in which people see nodes.
type Plan struct {
	Name        string              `json:"name,omitempty"`
	Hosts       []PlannedHost       `json:"hosts"`
	Switches    []PlannedSwitch     `json:"switches"`
	Controllers []PlannedController `json:"controllers"`
	Links       []PlannedLink       `json:"links"`
	Addressing  Addressing          `json:"addressing"`
	Commands    []Command           `json:"run,omitempty"`
	// NextLinkID is the ID of the next link, NextHost the number of the next host,
	// from which its automatic addresses follow. Both only grow.
	NextLinkID int `json:"nextLinkID"`
	NextHost   int `json:"nextHost"`
	// Trusted lets programs that the network's description names write wherever its user may.
	// No description can say this of itself.
	Trusted bool `json:"trusted,omitempty"`
	// Seed is Spec.Seed; links have theirs.
	Seed *uint64 `json:"seed,omitempty"`

	index *index // nil in a Plan written as a literal
}

// A PlannedHost is a Host with its interfaces.
type PlannedHost struct {
	Name       string      `json:"name"`
	Interfaces []Interface `json:"interfaces"` // by Port
	// IP, IP6 and MAC belong to the host's first interface. The host keeps them
	// while it has none. An empty MAC is derived from the interface's name.
	IP           netip.Prefix `json:"ip,omitzero"`
	IP6          netip.Prefix `json:"ip6,omitzero"`
	MAC          string       `json:"mac,omitempty"`
	DefaultRoute netip.Addr   `json:"defaultRoute,omitzero"`
	PrivateDirs  []string     `json:"privateDirs,omitempty"`
	Files        []File       `json:"files,omitempty"`
	NAT          *NAT         `json:"nat,omitempty"`
}

// A PlannedSwitch is a Switch with its ports.
type PlannedSwitch struct {
	Name        string       `json:"name"`
	Driver      SwitchDriver `json:"driver"`
	Device      string       `json:"device"` // kernel name of the bridge, at most 15 bytes
	DPID        uint64       `json:"dpid"`   // 0 for lxbr, which has none
	Protocols   []string     `json:"protocols,omitempty"`
	FailMode    string       `json:"failMode"` // empty for lxbr
	Datapath    Datapath     `json:"datapath"` // empty for lxbr
	STP         bool         `json:"stp,omitempty"`
	Local       bool         `json:"local,omitempty"`
	Controllers []string     `json:"controllers"` // names; empty for none
	Interfaces  []Interface  `json:"interfaces"`  // by Port
	ListenPort  int          `json:"listenPort,omitempty"`
	// DPDK is what a switch of driver dpdk has besides, nil for others.
	DPDK *DPDK `json:"dpdk,omitempty"`
}

// NoFlowTable says why programs that speak OpenFlow, such as ovs-ofctl, find no flow table at a
// switch; nil if they do.
func (s PlannedSwitch) NoFlowTable() error {
	switch {
	case s.Driver == DriverLinux:
		return fmt.Errorf("%s is a Linux bridge: it has no flow table", s.Name)
	case s.DPDK != nil && s.DPDK.Manager != ManagerWeft:
		return fmt.Errorf("%s is a dpdk node of manager %s: it has no flow table; nf stats shows what it does", s.Name, s.DPDK.Manager)
	}
	return nil
}

// OpenFlowVersions are those to speak with a switch, as ovs-ofctl's option -O has them; empty for
// its own choice.
func (s PlannedSwitch) OpenFlowVersions() string {
	if len(s.Protocols) == 0 && s.DPDK != nil {
		return "OpenFlow13" // 1.0 has no IPv6, and NF managers none of Nicira's extensions
	}
	return strings.Join(s.Protocols, ",")
}

// A PlannedController is a Controller with its defaults filled in.
type PlannedController = Controller

// An Interface is one end of a link on a node.
type Interface struct {
	// Name is what people see (h1-eth0). Device is the kernel's name: the same
	// where it fits into 15 bytes, else derived from it. It is unique among the
	// bridges and ports of all switches for a switch, within the host for a host.
	Name   string `json:"name"`
	Device string `json:"device"`
	// Port is the OpenFlow port on a switch, the interface number on a host.
	Port int `json:"port"`
	// MAC is empty if the device is a NIC that keeps its own.
	MAC  string       `json:"mac"`
	IP   netip.Prefix `json:"ip,omitzero"`
	IP6  netip.Prefix `json:"ip6,omitzero"`
	Link int          `json:"link"` // PlannedLink.ID
}

// A PlannedLink names its two interfaces.
type PlannedLink struct {
	// ID is unique in the network's life: a deleted link's ID is not used again.
	ID int        `json:"id"`
	A  PlannedEnd `json:"a"`
	B  PlannedEnd `json:"b"`
	LinkSettings
}

// A PlannedEnd names an interface of a node.
type PlannedEnd struct {
	Node      string `json:"node"`
	Interface string `json:"interface"` // Interface.Name
}

// Host returns the host called name, or nil. The pointer is valid until the Plan
// changes; so are those of the other look-ups.
func (p *Plan) Host(name string) *PlannedHost {
	if i, ok := p.find(hostNode, name, len(p.Hosts), func(i int) string { return p.Hosts[i].Name }); ok {
		return &p.Hosts[i]
	}
	return nil
}

// Switch returns the switch called name, or nil.
func (p *Plan) Switch(name string) *PlannedSwitch {
	if i, ok := p.find(switchNode, name, len(p.Switches), func(i int) string { return p.Switches[i].Name }); ok {
		return &p.Switches[i]
	}
	return nil
}

// Controller returns the controller called name, or nil.
func (p *Plan) Controller(name string) *PlannedController {
	if i, ok := p.find(controllerNode, name, len(p.Controllers), func(i int) string { return p.Controllers[i].Name }); ok {
		return &p.Controllers[i]
	}
	return nil
}

// find returns the place of a node in its list of n nodes.
func (p *Plan) find(kind nodeKind, name string, n int, nameOf func(int) string) (int, bool) {
	if p.index != nil {
		r, ok := p.index.nodes[name]
		return r.at, ok && r.kind == kind
	}
	for i := range n {
		if nameOf(i) == name {
			return i, true
		}
	}
	return 0, false
}

// Interface returns the interface that e names, or nil. One outside has a name only.
func (p *Plan) Interface(e PlannedEnd) *Interface {
	if Outside(e.Node) {
		return &Interface{Name: e.Node}
	}
	list := p.interfaces(e.Node)
	if list == nil {
		return nil
	}
	if p.index != nil {
		if i, ok := p.index.ends[e]; ok {
			return &(*list)[i]
		}
		return nil
	}
	if i := slices.IndexFunc(*list, func(f Interface) bool { return f.Name == e.Interface }); i >= 0 {
		return &(*list)[i]
	}
	return nil
}

// interfaces returns the interfaces of a host or switch, nil if there is none such.
func (p *Plan) interfaces(node string) *[]Interface {
	if h := p.Host(node); h != nil {
		return &h.Interfaces
	}
	if s := p.Switch(node); s != nil {
		return &s.Interfaces
	}
	return nil
}

// LinksBetween returns the links that join a and b, in either direction.
func (p *Plan) LinksBetween(a, b string) []PlannedLink {
	var found []PlannedLink
	for _, l := range p.Links {
		if l.A.Node == a && l.B.Node == b || l.A.Node == b && l.B.Node == a {
			found = append(found, l)
		}
	}
	return found
}

// Clone returns a copy that shares nothing with p.
func (p *Plan) Clone() *Plan {
	c := *p
	c.Hosts = slices.Clone(p.Hosts)
	for i := range c.Hosts {
		h := &c.Hosts[i]
		h.Interfaces = slices.Clone(h.Interfaces)
		h.PrivateDirs = slices.Clone(h.PrivateDirs)
		h.Files = cloneFiles(h.Files)
		if h.NAT != nil {
			nat := *h.NAT
			h.NAT = &nat
		}
	}
	c.Switches = slices.Clone(p.Switches)
	for i := range c.Switches {
		s := &c.Switches[i]
		s.Protocols = slices.Clone(s.Protocols)
		s.Controllers = slices.Clone(s.Controllers)
		s.Interfaces = slices.Clone(s.Interfaces)
		s.DPDK = s.DPDK.Clone()
	}
	c.Controllers = slices.Clone(p.Controllers)
	c.Links = slices.Clone(p.Links)
	c.Commands = slices.Clone(p.Commands)
	c.index = newIndex(&c)
	return &c
}

// UnmarshalJSON reads what json.Marshal wrote.
func (p *Plan) UnmarshalJSON(b []byte) error {
	type plain Plan
	var v plain
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*p = Plan(v)
	p.index = newIndex(p)
	return nil
}

// AddHost adds a host to the plan, which is unchanged if there is an error. A host
// without an address of its own gets the next one of the base; its first link
// puts it on an interface. The default routes of other hosts stay as they are.
func (p *Plan) AddHost(h Host) (PlannedHost, error) {
	if err := p.grow(Spec{Hosts: []Host{h}}); err != nil {
		return PlannedHost{}, err
	}
	return p.Hosts[len(p.Hosts)-1], nil
}

// AddSwitch adds a switch to the plan, which is unchanged if there is an error.
func (p *Plan) AddSwitch(s Switch) (PlannedSwitch, error) {
	if err := p.grow(Spec{Switches: []Switch{s}}); err != nil {
		return PlannedSwitch{}, err
	}
	return p.Switches[len(p.Switches)-1], nil
}

// AddLink adds a link to the plan, which is unchanged if there is an error.
func (p *Plan) AddLink(l Link) (PlannedLink, error) {
	if err := p.grow(Spec{Links: []Link{l}}); err != nil {
		return PlannedLink{}, err
	}
	return p.Links[len(p.Links)-1], nil
}

// RemoveNode removes a host or switch and its links.
func (p *Plan) RemoveNode(name string) error {
	named := func(other string) bool { return other == name }
	switch {
	case p.Host(name) != nil:
		for _, s := range p.Switches {
			if f, there := s.DPDK.nfOn(name); there {
				return fmt.Errorf("the NF %s of %s runs on %s; stop it first", f, s.Name, name)
			}
		}
		p.Hosts = slices.DeleteFunc(p.Hosts, func(h PlannedHost) bool { return named(h.Name) })
	case p.Switch(name) != nil:
		p.Switches = slices.DeleteFunc(p.Switches, func(s PlannedSwitch) bool { return named(s.Name) })
	case p.Controller(name) != nil:
		return fmt.Errorf("%s is a controller; only hosts and switches can be removed", name)
	default:
		return fmt.Errorf("no host or switch is called %q", name)
	}
	p.removeLinks(func(l PlannedLink) bool { return named(l.A.Node) || named(l.B.Node) })
	p.Commands = slices.DeleteFunc(p.Commands, func(c Command) bool { return named(c.Node) })
	return nil
}

// RemoveLink removes the link with the given ID and its two interfaces.
func (p *Plan) RemoveLink(id int) error {
	if !slices.ContainsFunc(p.Links, func(l PlannedLink) bool { return l.ID == id }) {
		return fmt.Errorf("no link has the ID %d", id)
	}
	p.removeLinks(func(l PlannedLink) bool { return l.ID == id })
	return nil
}

// removeLinks removes the links for which gone is true and indexes what is left.
func (p *Plan) removeLinks(gone func(PlannedLink) bool) {
	p.index = newIndex(p)
	for _, l := range p.Links {
		if !gone(l) {
			continue
		}
		for _, e := range []PlannedEnd{l.A, l.B} {
			if list := p.interfaces(e.Node); list != nil {
				*list = slices.DeleteFunc(*list, func(f Interface) bool { return f.Link == l.ID })
			}
		}
	}
	p.Links = slices.DeleteFunc(p.Links, gone)
	p.index = newIndex(p)
}
