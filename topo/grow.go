package topo

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
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
		Seed:        s.Seed,
		NextLinkID:  1,
	}
	var errs []error
	if s.Name != "" {
		if err := checkName(s.Name); err != nil {
			errs = append(errs, &Fault{Field: "name", Err: fmt.Errorf("network: %w", err)})
		}
	}
	if base := s.Addressing.IPBase; !base.Addr().Is4() {
		errs = append(errs, &Fault{Field: "ipBase", Err: fmt.Errorf("ipBase %s is not IPv4; write for example %s", base, DefaultIPBase)})
		p.Addressing.IPBase = netip.MustParsePrefix(DefaultIPBase)
	}
	if base := s.Addressing.IP6Base; base.IsValid() && (!base.Addr().Is6() || base.Addr().Is4In6()) {
		errs = append(errs, &Fault{Field: "ip6Base", Err: fmt.Errorf("ip6Base %s is not IPv6; write for example %s", base, DefaultIP6Base)})
		p.Addressing.IP6Base = netip.Prefix{}
	}
	errs = append(errs, p.grow(s))
	for i, sw := range p.Switches {
		if err := sw.checkOut(); err != nil {
			errs = append(errs, &Fault{string(switchNode), i, "dpdk.chains", fmt.Errorf("switch %s: %w", sw.Name, err)})
		}
		if err := p.checkPlaces(sw.Name, sw.DPDK); err != nil {
			errs = append(errs, &Fault{string(switchNode), i, "dpdk.nfs", fmt.Errorf("switch %w", err)})
		}
	}
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
		p.index = sizedIndex(p, len(s.Hosts)+len(s.Switches), len(s.Links))
	}
	g := &growth{
		Plan:        p,
		hosts:       len(p.Hosts),
		switches:    len(p.Switches),
		controllers: len(p.Controllers),
		commands:    len(p.Commands),
		nextHost:    p.NextHost,
		firstFree:   map[string]int{},
		byHost:      map[string][]*draftEnd{},
	}
	g.addControllers(s.Controllers)
	g.addHosts(s.Hosts)
	g.addSwitches(s.Switches)
	g.addLinks(s.Links)
	g.addCommands(s.Commands)
	g.checkFilesTotal()
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
	hosts, switches, controllers, commands int // how many there were before
	nextHost                               int // Plan.NextHost before
	claimed                                []claim
	claimedNodes                           []string
	links                                  []draftLink
	firstFree                              map[string]int // node to the lowest port that may be free
	byHost                                 map[string][]*draftEnd
	errs                                   []error
}

type draftLink struct {
	a, b     *draftEnd
	settings LinkSettings
}

// A draftEnd is one end of a new link on its way to an Interface.
type draftEnd struct {
	want     LinkEnd
	is       Interface // Port and Name are right after choosePorts, and so on
	where    place
	onSwitch bool
	outside  bool // a NIC or a socket: it has no interface here
	keepsMAC bool // its device is a NIC, with a MAC of its own
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
func (g *growth) demand(c claim, where place) bool {
	free := g.take(c, where.text)
	if !free {
		g.fail(where, "the %s %s is already that of %s; write another or leave it out", c.what, c.value, g.index.claims[c])
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
	g.Commands = g.Commands[:g.commands]
	g.NextHost = g.nextHost
}

// addLinks checks the links, makes drafts of those whose ends exist and claims
// what their ends ask for.
func (g *growth) addLinks(list []Link) {
	g.links = slices.Grow(g.links, len(list))
	for i, l := range list {
		number := ""
		if len(list) > 1 {
			number = " " + strconv.Itoa(i+1)
		}
		where := place{kind: linkEntry, at: i, text: "link" + number + " (" + l.A.Node + ", " + l.B.Node + ")"}
		a, aok := g.draftEnd(where.on("a"), l.A)
		b, bok := g.draftEnd(where.on("b"), l.B)
		if !aok || !bok {
			continue
		}
		err := g.checkMemif(a, b, &l.LinkSettings)
		if err == nil && l.Driver != LinkMemif {
			err = checkHW(a, b, &l.LinkSettings)
		}
		if err != nil {
			g.fail(where.on("driver"), "%w", err)
			continue
		}
		if l.A.Node == l.B.Node {
			g.fail(where.on("b"), "a link joins two nodes; write another end")
			continue
		}
		if err := l.check(); err != nil {
			g.fail(where, "%w", err)
		}
		settings := l.LinkSettings
		switch settings.Driver {
		case "", LinkAuto:
			settings.Driver = LinkVeth
			if settings.NeedsWire() {
				settings.Driver = LinkWire
			} else if settings.Impaired() {
				settings.Driver = LinkAuto
			}
		case LinkVeth, LinkNetem, LinkWire, LinkHW, LinkMemif:
		case LinkPatch:
			if err := g.checkPatch(l); err != nil {
				g.fail(where.on("driver"), "%w", err)
			}
		default:
			g.fail(where.on("driver"), "%w", unknown("driver", string(settings.Driver), []string{"auto", "veth", "netem", "wire", "patch", "hw", "memif"}))
		}
		g.links = append(g.links, draftLink{a, b, settings})
	}
	for e := range g.ends() {
		if e.want.Interface != "" {
			e.is.Name = e.want.Interface
			g.demand(nameClaim(e.want.Node, e.is.Name), e.where.on("interface"))
		}
		if e.want.Port != nil {
			e.is.Port = *e.want.Port
			e.portTaken = !g.demand(portClaim(e.want.Node, e.is.Port), e.where.on("port"))
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
func (g *growth) draftEnd(where place, l LinkEnd) (*draftEnd, bool) {
	if _, isNIC := NIC(l.Node); isNIC {
		return g.draftNIC(where, l)
	}
	if strings.HasPrefix(l.Node, MemifPrefix) {
		return g.draftMemif(where, l)
	}
	node, ok := g.index.nodes[l.Node]
	switch {
	case !ok:
		g.fail(where, "there is no node %q; write the name of a host or switch", l.Node)
		return nil, false
	case node.kind == controllerNode:
		g.fail(where, "%s is a controller, which has no links; write a host or switch", l.Node)
		return nil, false
	}
	where.text += " on " + l.Node
	e := &draftEnd{want: l, where: where, onSwitch: node.kind == switchNode}
	if l.Interface != "" {
		if err := checkName(l.Interface); err != nil {
			g.fail(where.on("interface"), "interface: %w", err)
		}
	}
	if l.Port != nil && (*l.Port < e.firstPort() || *l.Port > maxPort) {
		g.fail(where.on("port"), "port %d is not from %d to %d", *l.Port, e.firstPort(), maxPort)
	}
	if e.onSwitch && (l.IP.IsValid() || l.IP6.IsValid()) {
		g.fail(where, "the ports of a switch have no addresses; leave ip and ip6 out")
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
	if a == nil || b == nil || !a.Driver.OVS() || !b.Driver.OVS() {
		return errors.New("a patch link joins two Open vSwitch switches; write driver veth")
	}
	kernel := func(s *PlannedSwitch) bool { return s.Datapath == DatapathKernel }
	user := func(s *PlannedSwitch) bool { return s.Datapath == DatapathUser || s.Datapath == DatapathAFXDP }
	if kernel(a) && user(b) || user(a) && kernel(b) {
		return errors.New("a patch link cannot join the kernel and the user datapath; write driver veth")
	}
	return nil
}

// ends ranges over the ends of the new links in their order; what is outside is left out.
func (g *growth) ends() func(yield func(*draftEnd) bool) {
	return func(yield func(*draftEnd) bool) {
		for _, l := range g.links {
			for _, e := range []*draftEnd{l.a, l.b} {
				if !e.outside && !yield(e) {
					return
				}
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
		if !g.take(portClaim(e.want.Node, port), e.where.text) {
			continue
		}
		if e.is.Name == "" {
			e.is.Name = defaultName(e.want.Node, port)
			g.take(nameClaim(e.want.Node, e.is.Name), e.where.text)
		}
		e.is.Port = port
		g.firstFree[e.want.Node] = port + 1
		return
	}
	g.fail(e.where, "a node has at most %d interfaces; use more nodes", maxPort)
}

func defaultName(node string, port int) string { return node + "-eth" + strconv.Itoa(port) }

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

// commit makes links and interfaces of the drafts.
func (g *growth) commit() {
	touched := map[string]bool{}
	attach := func(e *draftEnd) PlannedEnd {
		if e.outside {
			return PlannedEnd{e.want.Node, e.is.Name}
		}
		e.is.Link = g.NextLinkID
		if e.takesHost {
			g.keep(g.Host(e.want.Node), e.is)
		}
		list := g.interfaces(e.want.Node)
		*list = append(*list, e.is)
		touched[e.want.Node] = true
		return PlannedEnd{e.want.Node, e.is.Name}
	}
	g.Links = slices.Grow(g.Links, len(g.links))
	for _, l := range g.links {
		p := PlannedLink{ID: g.NextLinkID, A: attach(l.a), B: attach(l.b), LinkSettings: l.settings}
		p.complete(g.Seed, p.A, p.B)
		g.Links = append(g.Links, p)
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

// linkPlaceholder stands for a link's name in that of its record.
const linkPlaceholder = "{link}"

// complete fills in what follows from a link's ends: its name in that of the record; and, if
// the network has a seed and the impaired link none of its own, one for it, and the driver that
// keeps to it. A link that is added changes no other.
func (s *LinkSettings) complete(network *uint64, a, b PlannedEnd) {
	s.Record = strings.ReplaceAll(s.Record, linkPlaceholder, a.Interface+"_"+b.Interface)
	if network == nil || s.Seed != nil || !s.Impaired() {
		return
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %s", *network, a.Interface, b.Interface)
	seed := h.Sum64()
	s.Seed, s.Driver = &seed, LinkWire
}
