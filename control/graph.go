package control

import (
	"cmp"
	"maps"
	"slices"
)

// A TopologyLink joins ports of two switches.
type TopologyLink struct {
	DPIDA uint64
	PortA uint32
	DPIDB uint64
	PortB uint32
	Up    bool // as the network has set it; the switches' PORT_STATUS counts too
}

// ends returns l without its state, to compare.
func (l TopologyLink) ends() TopologyLink {
	l.Up = false
	return l
}

// A graph is what the controller knows of the switches and the links between them,
// and what follows from it. It changes by setting its fields and calling settle.
//
// Switches that links join are an island. Others, which forward by themselves, may join
// islands too, or be a second way within one.
type graph struct {
	switches map[uint64]*datapath // those past the handshake
	links    []TopologyLink
	others   map[uint64]bool // DPIDs
	// islands has the island of each switch, by DPIDs: that of its lowest.
	islands map[uint64]uint64
	blocks  bool // some port is blocked
	// broken says of each link (its ends) whether it is set down or has a port
	// that is.
	broken map[TopologyLink]bool
}

// A trunk is a port that leads to another switch.
type trunk struct {
	port uint32
	tree bool // its link is in the spanning tree
}

// A hop is a way from a switch to its neighbour.
type hop struct {
	out  uint32 // port; 0 for no way
	peer *datapath
	in   uint32 // port of peer
}

// place is the part of a datapath that settle computes.
type place struct {
	index     int
	island    uint64
	trunks    map[uint32]*trunk // ports of all links of the island, whether up or not
	blocked   map[uint32]bool   // ports to others that would close a loop; usually nil
	neighbors []hop             // over links that are up, by port
	flood     []uint32          // ports up and at the edge, or in the tree; ascending
	// toward has the first hop to this switch from each other, by index; it is
	// computed when first asked for.
	toward []hop
}

// settle computes everything anew. It reports whether a link broke since the last
// time: then flows may lead into it; and whether islands are not what they were. A switch
// that is not connected breaks no link for the flows that exist, since it goes on
// forwarding, but new ones avoid it.
func (g *graph) settle() (broke, moved bool) {
	order := slices.SortedFunc(maps.Values(g.switches), func(a, b *datapath) int {
		return cmp.Compare(a.dpid, b.dpid)
	})
	for i, d := range order {
		d.place = place{index: i, trunks: make(map[uint32]*trunk)}
	}
	broken := make(map[TopologyLink]bool, len(g.links))
	for _, l := range g.links {
		a, b := g.switches[l.DPIDA], g.switches[l.DPIDB]
		down := !l.Up || a != nil && !a.ports[l.PortA] || b != nil && !b.ports[l.PortB]
		was, known := g.broken[l.ends()]
		broken[l.ends()] = down
		broke = broke || down && known && !was
		if g.leavesIsland(l) {
			continue
		}
		if a != nil {
			a.trunks[l.PortA] = &trunk{port: l.PortA}
		}
		if b != nil {
			b.trunks[l.PortB] = &trunk{port: l.PortB}
		}
		if a != nil && b != nil && a != b && !down {
			a.neighbors = append(a.neighbors, hop{l.PortA, b, l.PortB})
			b.neighbors = append(b.neighbors, hop{l.PortB, a, l.PortA})
		}
	}
	g.broken = broken
	for _, d := range order {
		slices.SortFunc(d.neighbors, func(x, y hop) int { return cmp.Compare(x.out, y.out) })
	}
	growTrees(order)
	islands := make(map[uint64]uint64, len(order))
	for _, d := range order {
		islands[d.dpid] = d.island
	}
	moved = !maps.Equal(islands, g.islands)
	g.islands = islands
	g.blockLoops()
	for _, d := range order {
		for port, up := range d.ports {
			if t := d.trunks[port]; up && (t == nil || t.tree) && !d.blocked[port] {
				d.flood = append(d.flood, port)
			}
		}
		slices.Sort(d.flood)
	}
	return broke, moved
}

// leavesIsland reports whether a link has an end at others.
func (g *graph) leavesIsland(l TopologyLink) bool { return g.others[l.DPIDA] || g.others[l.DPIDB] }

// blockLoops blocks ports to others, so that flooding finds each island and each of the
// others once. Links count in their order, but first those between others, which nobody blocks.
func (g *graph) blockLoops() {
	g.blocks = false
	next := make(map[uint64]uint64) // from one that is joined to another, by island or DPID
	find := func(id uint64) uint64 {
		for to, ok := next[id]; ok; to, ok = next[id] {
			id = to
		}
		return id
	}
	block := func(dpid uint64, port uint32) {
		if d := g.switches[dpid]; d != nil && !g.others[dpid] {
			if d.blocked == nil {
				d.blocked = make(map[uint32]bool)
			}
			d.blocked[port], g.blocks = true, true
		}
	}
	for _, among := range []bool{true, false} {
		for _, l := range g.links {
			if !g.leavesIsland(l) || g.broken[l.ends()] || among != (g.others[l.DPIDA] && g.others[l.DPIDB]) {
				continue
			}
			a, b := find(g.island(l.DPIDA)), find(g.island(l.DPIDB))
			if a != b {
				next[a] = b
				continue
			}
			block(l.DPIDA, l.PortA)
			block(l.DPIDB, l.PortB)
		}
	}
}

// island returns the island of a switch; one that is not connected is alone.
func (g *graph) island(dpid uint64) uint64 {
	if id, ok := g.islands[dpid]; ok {
		return id
	}
	return dpid
}

// growTrees marks the trunks of a spanning tree of each island: breadth first from the
// lowest DPID, so that the same links give the same tree.
func growTrees(order []*datapath) {
	seen := make([]bool, len(order))
	for _, root := range order {
		if seen[root.index] {
			continue
		}
		seen[root.index] = true
		for queue := []*datapath{root}; len(queue) > 0; queue = queue[1:] {
			d := queue[0]
			d.island = root.dpid
			for _, h := range d.neighbors {
				if !seen[h.peer.index] {
					seen[h.peer.index] = true
					d.trunks[h.out].tree = true
					h.peer.trunks[h.in].tree = true
					queue = append(queue, h.peer)
				}
			}
		}
	}
}

// hopsTo returns the first hop of a shortest way to d from each switch, by index.
func (g *graph) hopsTo(d *datapath) []hop {
	if d.toward != nil {
		return d.toward
	}
	d.toward = make([]hop, len(g.switches))
	for queue := []*datapath{d}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, h := range at.neighbors {
			if n := h.peer; n != d && d.toward[n.index].out == 0 {
				d.toward[n.index] = hop{h.in, at, h.out}
				queue = append(queue, n)
			}
		}
	}
	return d.toward
}

// A step is a switch on a path, with the ports through which the path enters and
// leaves it.
type step struct {
	dp      *datapath
	in, out uint32
}

// path appends the shortest way from port in of a switch to port out of another to
// steps. There may be none.
func (g *graph) path(steps []step, from *datapath, in uint32, to *datapath, out uint32) ([]step, bool) {
	hops := g.hopsTo(to)
	for from != to {
		h := hops[from.index]
		if h.out == 0 {
			return steps, false
		}
		steps = append(steps, step{from, in, h.out})
		from, in = h.peer, h.in
	}
	return append(steps, step{to, in, out}), true
}
