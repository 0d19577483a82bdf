package topo

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// The networks from which hosts get addresses where nothing else is said, and
// where IPv6 is asked for without a network.
const (
	DefaultIPBase  = "10.0.0.0/8"
	DefaultIP6Base = "fd00::/64"
)

// maxPort is the highest OpenFlow port that Open vSwitch gives to an interface; we
// number the interfaces of hosts as far.
const maxPort = 65279

// Plan fixes everything that can be known without touching a machine. Its error
// names all that is wrong with s, a line for each (errors.Join).
func (s Spec) Plan() (*Plan, error) {
	if !s.Addressing.IPBase.IsValid() {
		s.Addressing.IPBase = netip.MustParsePrefix(DefaultIPBase)
	}
	p := &Plan{
		Name:        s.Name,
		Hosts:       []PlannedHost{},
		Switches:    []PlannedSwitch{},
		Controllers: []PlannedController{},
		Links:       []PlannedLink{},
		Addressing:  s.Addressing,
		NextLinkID:  1,
	}
	var errs []error
	if s.Name != "" {
		if err := checkName(s.Name); err != nil {
			errs = append(errs, fmt.Errorf("network: %w", err))
		}
	}
	if base := s.Addressing.IPBase; !base.Addr().Is4() {
		errs = append(errs, fmt.Errorf("ipBase %s is not IPv4; write for example %s", base, DefaultIPBase))
		p.Addressing.IPBase = netip.MustParsePrefix(DefaultIPBase)
	}
	if base := s.Addressing.IP6Base; base.IsValid() && (!base.Addr().Is6() || base.Addr().Is4In6()) {
		errs = append(errs, fmt.Errorf("ip6Base %s is not IPv6; write for example %s", base, DefaultIP6Base))
		p.Addressing.IP6Base = netip.Prefix{}
	}
	errs = append(errs, p.grow(s))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// Validate returns the error that Plan would.
func (s Spec) Validate() error {
	_, err := s.Plan()
	return err
}

// grow adds the nodes and links of s to p, or nothing if any of them is wrong.
//
// What people chose is claimed first, then what is derived from names, then what is
// left over: so an automatic choice never stands in the way of a person's, and
// changes as little as possible when something else is added.
//
//	nodes ─► links ─► ports, names ─► devices ─► addresses ─► routes ─► commit
//	   └────────┴───────── errors, all of them ──────┴───────────┘  └─► undo
func (p *Plan) grow(s Spec) error {
	if p.index == nil {
		p.index = newIndex(p)
	}
	g := &growth{
		Plan:        p,
		hosts:       len(p.Hosts),
		switches:    len(p.Switches),
		controllers: len(p.Controllers),
		nextHost:    p.NextHost,
		firstFree:   map[string]int{},
		byHost:      map[string][]*draftEnd{},
	}
	g.addControllers(s.Controllers)
	g.addHosts(s.Hosts)
	g.addSwitches(s.Switches)
	g.addLinks(s.Links)
	g.chooseDPIDs()
	g.choosePorts()
	g.chooseDevices()
	g.chooseAddresses()
	g.chooseMACs()
	g.chooseRoutes()
	if len(g.errs) > 0 {
		g.undo()
		return errors.Join(g.errs...)
	}
	g.commit()
	return nil
}

// A growth is a Plan with additions under way. New nodes are already at the ends of
// its lists and in its index; links and interfaces are drafts until commit.
type growth struct {
	*Plan
	hosts, switches, controllers int // how many there were before
	nextHost                     int // Plan.NextHost before
	claimed                      []claim
	claimedNodes                 []string
	links                        []draftLink
	firstFree                    map[string]int // node to the lowest port that may be free
	byHost                       map[string][]*draftEnd
	errs                         []error
}

type draftLink struct {
	a, b   *draftEnd
	driver LinkDriver
}

// A draftEnd is one end of a new link on its way to an Interface.
type draftEnd struct {
	want     LinkEnd
	is       Interface // Port and Name are right after choosePorts, and so on
	where    string    // for errors
	onSwitch bool
	// portTaken means that the port asked for is another's, which is an error.
	portTaken bool
	// takesHost means that this is the host's first interface and takes the
	// addresses that the host keeps.
	takesHost bool
}

// id identifies an interface in the network, whatever else changes.
func (e *draftEnd) id() string { return e.want.Node + "/" + e.is.Name }

// scope is the namespace in which the end's device is unique.
func (e *draftEnd) scope() string {
	if e.onSwitch {
		return ""
	}
	return e.want.Node
}

func (g *growth) fail(format string, args ...any) {
	g.errs = append(g.errs, fmt.Errorf(format, args...))
}

// take claims c for owner and reports whether it was free.
func (g *growth) take(c claim, owner string) bool {
	if _, taken := g.index.claims[c]; taken {
		return false
	}
	g.index.claims[c] = owner
	g.claimed = append(g.claimed, c)
	return true
}

// demand claims what a person chose; that it is taken is an error.
func (g *growth) demand(c claim, owner string) bool {
	free := g.take(c, owner)
	if !free {
		g.fail("%s: the %s %s is already that of %s; write another or leave it out", owner, c.what, c.value, g.index.claims[c])
	}
	return free
}

func (g *growth) undo() {
	for _, c := range g.claimed {
		delete(g.index.claims, c)
	}
	for _, name := range g.claimedNodes {
		delete(g.index.nodes, name)
	}
	g.Hosts = g.Hosts[:g.hosts]
	g.Switches = g.Switches[:g.switches]
	g.Controllers = g.Controllers[:g.controllers]
	g.NextHost = g.nextHost
}

// addNode checks a node's name and puts it into the index; at is its place.
func (g *growth) addNode(kind nodeKind, name string, at int) {
	if err := checkName(name); err != nil {
		g.fail("%s %d: %w", kind, at+1, err)
		return
	}
	if other, taken := g.index.nodes[name]; taken {
		g.fail("%s %s: there is already a %s with this name; choose another", kind, name, other.kind)
		return
	}
	g.index.nodes[name] = nodeRef{kind, at}
	g.claimedNodes = append(g.claimedNodes, name)
}

func (g *growth) addControllers(list []Controller) {
	for _, c := range list {
		c.Kind = cmp.Or(c.Kind, ControllerBuiltin)
		g.addNode(controllerNode, c.Name, len(g.Controllers))
		for _, err := range checkController(c) {
			g.fail("controller %s: %w", c.Name, err)
		}
		if c.Kind != ControllerBuiltin || c.Port != 0 {
			c.Transport = cmp.Or(c.Transport, "tcp")
			c.Address = cmp.Or(c.Address, "127.0.0.1")
		}
		g.Controllers = append(g.Controllers, c)
	}
}

// checkController returns what is wrong with a controller, its name apart.
func checkController(c Controller) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	started := true // weft starts a process for it
	switch c.Kind {
	case ControllerBuiltin, ControllerRemote:
		started = false
		if c.Command != "" {
			fail("a %s controller runs no command; leave it out or write kind %s", c.Kind, ControllerCommand)
		}
	case ControllerOVS:
		if c.Command != "" {
			fail("%s has a command of its own; leave it out or write kind %s", c.Kind, ControllerCommand)
		}
	case ControllerRyu, ControllerOSKen:
		if c.Command == "" {
			fail("%s needs the app to run; write it as the command", c.Kind)
		}
	case ControllerCommand:
		if strings.TrimSpace(c.Command) == "" {
			fail("the command is empty; write what to run, with {port} for the port to listen on")
		}
	default:
		fail("there is no kind %q; write one of builtin, remote, ovsc, ryu, osken, cmd", c.Kind)
	}
	if c.Inside && !started {
		fail("only controllers that weft starts can run inside; leave inside out")
	}
	switch c.Transport {
	case "", "tcp":
		if c.CACert != "" || c.Cert != "" || c.Key != "" {
			fail("certificates are for the ssl transport; write transport ssl or leave them out")
		}
	case "ssl":
		if c.Kind == ControllerBuiltin {
			fail("the built-in controller speaks no ssl; leave the transport out")
		}
		if (c.Cert == "") != (c.Key == "") {
			fail("cert and key belong together; write both")
		}
	default:
		fail("there is no transport %q; write tcp or ssl", c.Transport)
	}
	if c.Port < 0 || c.Port > 65535 {
		fail("port %d is not from 0 to 65535", c.Port)
	}
	if strings.ContainsAny(c.Address, " \t\n/") {
		fail("%q is not an address; write an IP address or a host name", c.Address)
	}
	return errs
}

func (g *growth) addHosts(list []Host) {
	for _, h := range list {
		owner := "host " + h.Name
		g.addNode(hostNode, h.Name, len(g.Hosts))
		p := PlannedHost{
			Name:         h.Name,
			Interfaces:   []Interface{},
			IP:           g.checkIP(owner, h.IP, false),
			IP6:          g.checkIP(owner, h.IP6, true),
			MAC:          g.checkMAC(owner, h.MAC),
			DefaultRoute: h.DefaultRoute,
			PrivateDirs:  append([]string(nil), h.PrivateDirs...),
		}
		for _, dir := range h.PrivateDirs {
			if !path.IsAbs(dir) || path.Clean(dir) == "/" {
				g.fail("%s: the private directory %q is not an absolute path below /; write for example /var/run", owner, dir)
			}
		}
		if h.NAT != nil {
			subnet := h.NAT.Subnet
			if !subnet.IsValid() {
				subnet = g.Addressing.IPBase
			}
			if !subnet.Addr().Is4() {
				g.fail("%s: the NAT subnet %s is not IPv4; write for example %s", owner, subnet, DefaultIPBase)
			}
			p.NAT = &NAT{Subnet: subnet.Masked()}
		}
		g.Hosts = append(g.Hosts, p)
	}
}

// checkIP checks and claims an address that a person gave; invalid means none.
func (g *growth) checkIP(owner string, ip netip.Prefix, v6 bool) netip.Prefix {
	if !ip.IsValid() {
		return ip
	}
	field, family, example := "ip", "IPv4", "10.0.0.1/8"
	if v6 {
		field, family, example = "ip6", "IPv6", "fd00::1/64"
	}
	a := ip.Addr()
	switch {
	case a.Is4In6() || a.Is6() != v6 || a.Zone() != "":
		g.fail("%s: %s %s is not %s; write for example %s", owner, field, ip, family, example)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		g.fail("%s: %s %s is not an address for a host; write for example %s", owner, field, ip, example)
	case !v6 && ip.Bits() < 31 && (a == ip.Masked().Addr() || a == lastAddr(ip)):
		g.fail("%s: %s %s is the network's own or broadcast address; write one between", owner, field, ip)
	default:
		g.demand(addressClaim(a.String()), owner)
		return ip
	}
	return netip.Prefix{}
}

// checkMAC checks and claims a MAC that a person gave; empty means none.
func (g *growth) checkMAC(owner, mac string) string {
	if mac == "" {
		return ""
	}
	mac, err := parseMAC(mac)
	if err != nil {
		g.fail("%s: %w", owner, err)
		return ""
	}
	g.demand(macClaim(mac), owner)
	return mac
}

// openFlowVersions are the protocols that Open vSwitch knows.
var openFlowVersions = []string{"OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"}

func (g *growth) addSwitches(list []Switch) {
	for _, s := range list {
		g.addNode(switchNode, s.Name, len(g.Switches))
		p, errs := g.planSwitch(s)
		for _, err := range errs {
			g.fail("switch %s: %w", s.Name, err)
		}
		if p.DPID != 0 {
			g.demand(dpidClaim(p.DPID), "switch "+s.Name)
		}
		g.Switches = append(g.Switches, p)
	}
}

// planSwitch checks a switch, its name apart, and fills in its defaults.
func (g *growth) planSwitch(s Switch) (p PlannedSwitch, errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	p = PlannedSwitch{
		Name:        s.Name,
		Driver:      cmp.Or(s.Driver, DriverOVS),
		DPID:        s.DPID,
		Protocols:   append([]string(nil), s.Protocols...),
		FailMode:    s.FailMode,
		Datapath:    s.Datapath,
		STP:         s.STP,
		Controllers: append([]string{}, s.Controllers...),
		Interfaces:  []Interface{},
	}
	for _, v := range s.Protocols {
		if !slices.Contains(openFlowVersions, v) {
			fail("there is no protocol %q; write %s", v, strings.Join(openFlowVersions, ", "))
		}
	}
	switch s.FailMode {
	case "", "secure", "standalone":
	default:
		fail("there is no fail mode %q; write secure or standalone", s.FailMode)
	}
	switch s.Datapath {
	case "", DatapathAuto, DatapathKernel, DatapathUser, DatapathAFXDP:
	default:
		fail("there is no datapath %q; write auto, kernel, user or afxdp", s.Datapath)
	}
	for i, c := range s.Controllers {
		if g.Controller(c) == nil {
			fail("there is no controller %q; write one of the controllers' names", c)
		}
		if slices.Contains(s.Controllers[:i], c) {
			fail("the controller %s is named twice; write it once", c)
		}
	}
	switch p.Driver {
	case DriverOVS:
		p.FailMode = cmp.Or(p.FailMode, "secure")
		p.Datapath = cmp.Or(p.Datapath, DatapathAuto)
		if s.Controllers == nil {
			for _, c := range g.Controllers {
				p.Controllers = append(p.Controllers, c.Name)
			}
		}
	case DriverOVSBridge:
		if s.FailMode == "secure" || len(s.Controllers) > 0 {
			fail("an ovsbr is standalone and has no controllers; leave failMode and controllers out or write driver ovs")
		}
		p.FailMode = "standalone"
		p.Datapath = cmp.Or(p.Datapath, DatapathAuto)
	case DriverLinux:
		if s.DPID != 0 || s.FailMode != "" || s.Datapath != "" || len(s.Protocols) > 0 || len(s.Controllers) > 0 {
			fail("an lxbr speaks no OpenFlow; leave dpid, protocols, failMode, datapath and controllers out or write driver ovs")
		}
	default:
		fail("there is no driver %q; write ovs, ovsbr or lxbr", s.Driver)
	}
	return p, errs
}

// addLinks checks the links, makes drafts of those whose ends exist and claims
// what their ends ask for.
func (g *growth) addLinks(list []Link) {
	for i, l := range list {
		where := fmt.Sprintf("link (%s, %s)", l.A.Node, l.B.Node)
		if len(list) > 1 {
			where = fmt.Sprintf("link %d (%s, %s)", i+1, l.A.Node, l.B.Node)
		}
		a, aok := g.draftEnd(where, l.A)
		b, bok := g.draftEnd(where, l.B)
		if !aok || !bok {
			continue
		}
		if l.A.Node == l.B.Node {
			g.fail("%s: a link joins two nodes; write another end", where)
			continue
		}
		driver := l.Driver
		switch driver {
		case LinkAuto:
			driver = LinkVeth
		case LinkVeth:
		case LinkPatch:
			if err := g.checkPatch(l); err != nil {
				g.fail("%s: %w", where, err)
			}
		default:
			g.fail("%s: there is no driver %q; write veth or patch", where, driver)
		}
		g.links = append(g.links, draftLink{a, b, driver})
	}
	for e := range g.ends() {
		if e.want.Interface != "" {
			e.is.Name = e.want.Interface
			g.demand(nameClaim(e.want.Node, e.is.Name), e.where)
		}
		if e.want.Port != nil {
			e.is.Port = *e.want.Port
			e.portTaken = !g.demand(portClaim(e.want.Node, e.is.Port), e.where)
		}
		e.is.IP = g.checkIP(e.where, e.want.IP, false)
		e.is.IP6 = g.checkIP(e.where, e.want.IP6, true)
		e.is.MAC = g.checkMAC(e.where, e.want.MAC)
		if !e.onSwitch {
			g.byHost[e.want.Node] = append(g.byHost[e.want.Node], e)
		}
	}
}

// draftEnd checks what can be checked of an end by itself.
func (g *growth) draftEnd(where string, l LinkEnd) (*draftEnd, bool) {
	node, ok := g.index.nodes[l.Node]
	switch {
	case !ok:
		g.fail("%s: there is no node %q; write the name of a host or switch", where, l.Node)
		return nil, false
	case node.kind == controllerNode:
		g.fail("%s: %s is a controller, which has no links; write a host or switch", where, l.Node)
		return nil, false
	}
	e := &draftEnd{want: l, where: where + " on " + l.Node, onSwitch: node.kind == switchNode}
	if l.Interface != "" {
		if err := checkName(l.Interface); err != nil {
			g.fail("%s: interface: %w", e.where, err)
		}
	}
	if l.Port != nil && (*l.Port < e.firstPort() || *l.Port > maxPort) {
		g.fail("%s: port %d is not from %d to %d", e.where, *l.Port, e.firstPort(), maxPort)
	}
	if e.onSwitch && (l.IP.IsValid() || l.IP6.IsValid()) {
		g.fail("%s: the ports of a switch have no addresses; leave ip and ip6 out", e.where)
	}
	return e, true
}

// firstPort is the number of a node's first interface.
func (e *draftEnd) firstPort() int {
	if e.onSwitch {
		return 1
	}
	return 0
}

// checkPatch checks that l can be an Open vSwitch patch link.
func (g *growth) checkPatch(l Link) error {
	a, b := g.Switch(l.A.Node), g.Switch(l.B.Node)
	if a == nil || b == nil || a.Driver == DriverLinux || b.Driver == DriverLinux {
		return errors.New("a patch link joins two Open vSwitch switches; write driver veth")
	}
	kernel := func(s *PlannedSwitch) bool { return s.Datapath == DatapathKernel }
	user := func(s *PlannedSwitch) bool { return s.Datapath == DatapathUser || s.Datapath == DatapathAFXDP }
	if kernel(a) && user(b) || user(a) && kernel(b) {
		return errors.New("a patch link cannot join the kernel and the user datapath; write driver veth")
	}
	return nil
}

// ends ranges over the ends of the new links in their order.
func (g *growth) ends() func(yield func(*draftEnd) bool) {
	return func(yield func(*draftEnd) bool) {
		for _, l := range g.links {
			if !yield(l.a) || !yield(l.b) {
				return
			}
		}
	}
}

// chooseDPIDs takes the numbers in the names, then hashes of the names.
func (g *growth) chooseDPIDs() {
	missing := func(choose func(s *PlannedSwitch)) {
		for i := range g.Switches[g.switches:] {
			if s := &g.Switches[g.switches+i]; s.DPID == 0 && s.Driver != DriverLinux {
				choose(s)
			}
		}
	}
	missing(func(s *PlannedSwitch) {
		if id := nameDPID(s.Name); id != 0 && g.take(dpidClaim(id), "switch "+s.Name) {
			s.DPID = id
		}
	})
	missing(func(s *PlannedSwitch) {
		for salt := 0; s.DPID == 0; salt++ {
			if id := hashDPID(s.Name, salt); g.take(dpidClaim(id), "switch "+s.Name) {
				s.DPID = id
			}
		}
	})
}

// choosePorts gives every end a port and a name.
func (g *growth) choosePorts() {
	for e := range g.ends() {
		if e.want.Port != nil && e.is.Name == "" {
			e.is.Name = defaultName(e.want.Node, e.is.Port)
			if !e.portTaken {
				g.demand(nameClaim(e.want.Node, e.is.Name), e.where)
			}
		}
	}
	for e := range g.ends() {
		if e.want.Port == nil {
			g.choosePort(e)
		}
	}
}

// choosePort takes the lowest free port whose name is free too.
func (g *growth) choosePort(e *draftEnd) {
	for port := max(g.firstFree[e.want.Node], e.firstPort()); port <= maxPort; port++ {
		if e.is.Name == "" {
			if _, taken := g.index.claims[nameClaim(e.want.Node, defaultName(e.want.Node, port))]; taken {
				continue
			}
		}
		if !g.take(portClaim(e.want.Node, port), e.where) {
			continue
		}
		if e.is.Name == "" {
			e.is.Name = defaultName(e.want.Node, port)
			g.take(nameClaim(e.want.Node, e.is.Name), e.where)
		}
		e.is.Port = port
		g.firstFree[e.want.Node] = port + 1
		return
	}
	g.fail("%s: a node has at most %d interfaces; use more nodes", e.where, maxPort)
}

func defaultName(node string, port int) string { return fmt.Sprintf("%s-eth%d", node, port) }

// chooseDevices gives the kernel's names: what fits first, as it is; then the rest.
func (g *growth) chooseDevices() {
	g.eachDevice(func(device *string, scope, name, _ string) {
		if legalDevice(name) && g.take(deviceClaim(scope, name), name) {
			*device = name
		}
	})
	g.eachDevice(func(device *string, scope, name, id string) {
		for salt := 0; *device == ""; salt++ {
			if d := deriveDevice(name, id, salt); g.take(deviceClaim(scope, d), name) {
				*device = d
			}
		}
	})
}

func (g *growth) eachDevice(choose func(device *string, scope, name, id string)) {
	for i := range g.Switches[g.switches:] {
		s := &g.Switches[g.switches+i]
		choose(&s.Device, "", s.Name, s.Name)
	}
	for e := range g.ends() {
		choose(&e.is.Device, e.scope(), e.is.Name, e.id())
	}
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
		inherit(g, h.Name, "ip", &h.IP, own.is.IP)
		inherit(g, h.Name, "ip6", &h.IP6, own.is.IP6)
		inherit(g, h.Name, "mac", &h.MAC, own.is.MAC)
		if !g.number(h) {
			short++
		}
	}
	if short > 0 {
		base := g.Addressing.IPBase
		g.fail("ipBase %s has %d addresses, %d too few for the hosts; write a larger network, such as %s",
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
func inherit[T comparable](g *growth, host, field string, h *T, end T) {
	var none T
	switch {
	case end == none:
	case *h != none:
		g.fail("host %s: %s is given for the host and for its first link; write it once", host, field)
	default:
		*h = end
	}
}

// number gives a new host its number and, from it, the addresses that it lacks.
// It reports whether there was one in the IPv4 base.
func (g *growth) number(h *PlannedHost) bool {
	owner := "host " + h.Name
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
				g.fail("%s: no address is left in ip6Base %s; write a larger network, such as %s", owner, base6, DefaultIP6Base)
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
			g.take(c, owner)
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
		for salt := 0; e.is.MAC == ""; salt++ {
			if mac := hashMAC(e.id(), salt); g.take(macClaim(mac), e.where) {
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
				g.fail("host %s: the default route via %s is on none of its networks; write a neighbour's address", h.Name, h.DefaultRoute)
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

// commit makes links and interfaces of the drafts.
func (g *growth) commit() {
	touched := map[string]bool{}
	attach := func(e *draftEnd) PlannedEnd {
		e.is.Link = g.NextLinkID
		if e.takesHost {
			g.keep(g.Host(e.want.Node), e.is)
		}
		list := g.interfaces(e.want.Node)
		*list = append(*list, e.is)
		touched[e.want.Node] = true
		return PlannedEnd{e.want.Node, e.is.Name}
	}
	for _, l := range g.links {
		g.Links = append(g.Links, PlannedLink{ID: g.NextLinkID, A: attach(l.a), B: attach(l.b), Driver: l.driver})
		g.NextLinkID++
	}
	for node := range touched {
		list := *g.interfaces(node)
		slices.SortFunc(list, func(a, b Interface) int { return a.Port - b.Port })
		for i, f := range list {
			g.index.ends[PlannedEnd{node, f.Name}] = i
		}
	}
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
