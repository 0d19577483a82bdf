package graph

import "cmp"

// The modules ietf-network and ietf-network-topology (RFC 8345), in JSON (RFC 7951).
type (
	rfcDocument struct {
		Networks rfcNetworks `json:"ietf-network:networks"`
	}
	rfcNetworks struct {
		Network []rfcNetwork `json:"network"`
	}
	rfcNetwork struct {
		ID    string    `json:"network-id"`
		Types struct{}  `json:"network-types"`
		Nodes []rfcNode `json:"node,omitempty"`
		Links []rfcLink `json:"ietf-network-topology:link,omitempty"`
	}
	rfcNode struct {
		ID     string     `json:"node-id"`
		Points []rfcPoint `json:"ietf-network-topology:termination-point,omitempty"`
	}
	rfcPoint struct {
		ID string `json:"tp-id"`
	}
	rfcLink struct {
		ID          string         `json:"link-id"`
		Source      rfcSource      `json:"source"`
		Destination rfcDestination `json:"destination"`
	}
	rfcSource struct {
		Node  string `json:"source-node"`
		Point string `json:"source-tp"`
	}
	rfcDestination struct {
		Node  string `json:"dest-node"`
		Point string `json:"dest-tp"`
	}
)

// rfc8345 returns the hosts and switches with their interfaces as termination points, and two
// links for each, since those of RFC 8345 have a direction.
func (g Graph) rfc8345() rfcDocument {
	n := rfcNetwork{ID: cmp.Or(g.Plan.Name, "weft")}
	add := func(name string, count int, point func(int) string) {
		node := rfcNode{ID: name}
		for i := range count {
			node.Points = append(node.Points, rfcPoint{point(i)})
		}
		n.Nodes = append(n.Nodes, node)
	}
	for _, s := range g.Plan.Switches {
		add(s.Name, len(s.Interfaces), func(i int) string { return s.Interfaces[i].Name })
	}
	for _, h := range g.Plan.Hosts {
		add(h.Name, len(h.Interfaces), func(i int) string { return h.Interfaces[i].Name })
	}
	for _, l := range g.Plan.Links {
		if nic, _, ok := l.Outside(); ok {
			add(nic.Node, 1, func(int) string { return nic.Interface })
		}
	}
	for _, l := range g.Plan.Links {
		for _, way := range []struct{ from, to int }{{0, 1}, {1, 0}} {
			ends := [2]struct{ node, point string }{{l.A.Node, l.A.Interface}, {l.B.Node, l.B.Interface}}
			a, b := ends[way.from], ends[way.to]
			n.Links = append(n.Links, rfcLink{a.point + "," + b.point, rfcSource{a.node, a.point}, rfcDestination{b.node, b.point}})
		}
	}
	return rfcDocument{rfcNetworks{[]rfcNetwork{n}}}
}
