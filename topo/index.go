package topo

import "strconv"

// An index says where everything in a Plan is, and what is taken. A Plan keeps it
// up to date as it grows and makes a new one when something is removed.
type index struct {
	nodes  map[string]nodeRef
	ends   map[PlannedEnd]int // place among the node's interfaces
	claims map[claim]string   // what is taken, and by whom, in words
}

// A nodeRef is the place of a node in the list of its kind.
type nodeRef struct {
	kind nodeKind
	at   int
}

type nodeKind string

const (
	hostNode       nodeKind = "host"
	switchNode     nodeKind = "switch"
	controllerNode nodeKind = "controller"
)

// A claim is something that only one owner may have. Scope is the node within which
// it is unique, empty for the whole network (for devices: for the fabric).
type claim struct {
	what, scope, value string
}

func addressClaim(a string) claim            { return claim{"address", "", a} }
func macClaim(mac string) claim              { return claim{"MAC", "", mac} }
func dpidClaim(id uint64) claim              { return claim{"DPID", "", "0x" + strconv.FormatUint(id, 16)} }
func listenClaim(port int) claim             { return claim{"listening port", "", strconv.Itoa(port)} }
func deviceClaim(scope, device string) claim { return claim{"device", scope, device} }
func portClaim(node string, port int) claim  { return claim{"port", node, strconv.Itoa(port)} }
func nameClaim(node, name string) claim      { return claim{"interface", node, name} }

func newIndex(p *Plan) *index { return sizedIndex(p, 0, 0) }

// sizedIndex is newIndex with room for what is to be added.
func sizedIndex(p *Plan, nodes, links int) *index {
	nodes += len(p.Hosts) + len(p.Switches)
	links += len(p.Links)
	x := &index{
		nodes:  make(map[string]nodeRef, nodes),
		ends:   make(map[PlannedEnd]int, 2*links),
		claims: make(map[claim]string, 2*nodes+10*links),
	}
	for i, c := range p.Controllers {
		x.nodes[c.Name] = nodeRef{controllerNode, i}
	}
	for i, s := range p.Switches {
		x.nodes[s.Name] = nodeRef{switchNode, i}
		owner := "switch " + s.Name
		x.claims[deviceClaim("", s.Device)] = owner
		if s.DPID != 0 {
			x.claims[dpidClaim(s.DPID)] = owner
		}
		if s.ListenPort != 0 {
			x.claims[listenClaim(s.ListenPort)] = owner
		}
		for j, f := range s.Interfaces {
			x.put(s.Name, "", j, f)
		}
	}
	for _, l := range p.Links {
		if end, _, ok := l.Outside(); ok {
			name := end.Node
			if m, is, _ := ParseMemif(name); is {
				name = m.key()
			}
			x.claims[nameClaim(name, name)] = "interface " + end.Interface
		}
	}
	for i, h := range p.Hosts {
		x.nodes[h.Name] = nodeRef{hostNode, i}
		for j, f := range h.Interfaces {
			x.put(h.Name, h.Name, j, f)
		}
		owner := "host " + h.Name
		if h.IP.IsValid() {
			x.claims[addressClaim(h.IP.Addr().String())] = owner
		}
		if h.IP6.IsValid() {
			x.claims[addressClaim(h.IP6.Addr().String())] = owner
		}
		if h.MAC != "" {
			x.claims[macClaim(h.MAC)] = owner
		}
	}
	return x
}

// put indexes the interface at place i of a node.
func (x *index) put(node, scope string, i int, f Interface) {
	owner := "interface " + f.Name
	x.ends[PlannedEnd{node, f.Name}] = i
	x.claims[nameClaim(node, f.Name)] = owner
	x.claims[portClaim(node, f.Port)] = owner
	x.claims[deviceClaim(scope, f.Device)] = owner
	x.claims[macClaim(f.MAC)] = owner
	if f.IP.IsValid() {
		x.claims[addressClaim(f.IP.Addr().String())] = owner
	}
	if f.IP6.IsValid() {
		x.claims[addressClaim(f.IP6.Addr().String())] = owner
	}
}
