package script

import (
	"errors"
	"fmt"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"weft/topo"
)

// A node is a host, switch or controller; two objects of the same name are equal.
type node struct {
	w    *world
	name string
	kind kind
}

var (
	_ starlark.HasAttrs   = (*node)(nil)
	_ starlark.Comparable = (*node)(nil)
)

// String returns the name, so that scripts can put nodes into text, as in Mininet.
func (n *node) String() string        { return n.name }
func (n *node) Type() string          { return string(n.kind) }
func (n *node) Freeze()               {}
func (n *node) Truth() starlark.Bool  { return true }
func (n *node) Hash() (uint32, error) { return starlark.String(n.name).Hash() }

func (n *node) Attr(name string) (starlark.Value, error) { return n.w.nodes.attr(n, name) }
func (n *node) AttrNames() []string                      { return n.w.nodes.names() }

// CompareSameType compares by name.
func (n *node) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	same := n.name == y.(*node).name
	switch op {
	case syntax.EQL:
		return same, nil
	case syntax.NEQ:
		return !same, nil
	}
	return false, fmt.Errorf("nodes have no order; sort by key=lambda n: n.name")
}

func nodeMethods() methods[*node] {
	return newMethods(
		method[*node]{name: "name", doc: "the node's name", get: func(n *node) (starlark.Value, error) { return starlark.String(n.name), nil }},
		method[*node]{name: "IP", doc: "the IPv4 address", run: func(c *call, n *node) (starlark.Value, error) { return n.drafted("ip") }},
		method[*node]{name: "MAC", doc: "the MAC address", run: func(c *call, n *node) (starlark.Value, error) { return n.drafted("mac") }},
		method[*node]{name: "links", doc: "the node's links", get: func(n *node) (starlark.Value, error) {
			var found []*link
			for _, l := range n.w.draft.links {
				if l.A.Node == n.name || l.B.Node == n.name {
					found = append(found, &link{n.w, l})
				}
			}
			return listOf(found), nil
		}},
	)
}

// drafted returns an address that the script gave.
func (n *node) drafted(what string) (starlark.Value, error) {
	h := n.w.draft.nodes[n.name].host
	switch {
	case h == nil:
	case what == "ip" && h.IP.IsValid():
		return starlark.String(h.IP.Addr().String()), nil
	case what == "mac" && h.MAC != "":
		return starlark.String(h.MAC), nil
	}
	return nil, fmt.Errorf("%s has no %s yet: what the script does not give is chosen when it is over; write %s= where you add the host", n.name, what, what)
}

// A link joins two nodes.
type link struct {
	w     *world
	draft *draftedLink
}

var _ starlark.HasAttrs = (*link)(nil)

func (l *link) Type() string          { return "link" }
func (l *link) Freeze()               {}
func (l *link) Truth() starlark.Bool  { return true }
func (l *link) Hash() (uint32, error) { return uint32(l.draft.id), nil }
func (l *link) String() string        { return l.draft.A.Node + "-" + l.draft.B.Node }

func (l *link) Attr(name string) (starlark.Value, error) { return l.w.links.attr(l, name) }
func (l *link) AttrNames() []string                      { return l.w.links.names() }

// CompareSameType compares by identity.
func (l *link) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	same := l.draft == y.(*link).draft
	switch op {
	case syntax.EQL:
		return same, nil
	case syntax.NEQ:
		return !same, nil
	}
	return false, fmt.Errorf("links have no order")
}

func linkMethods() methods[*link] {
	end := func(name, doc string, pick func(topo.Link) topo.LinkEnd) method[*link] {
		return method[*link]{name: name, doc: doc, get: func(l *link) (starlark.Value, error) { return l.w.node(pick(l.draft.Link).Node) }}
	}
	return newMethods(
		end("node1", "the node at its first end", func(l topo.Link) topo.LinkEnd { return l.A }),
		end("node2", "the node at its second end", func(l topo.Link) topo.LinkEnd { return l.B }),
		method[*link]{name: "config", usage: "bw=, delay=, ...", doc: "change what the link does to frames", run: func(c *call, l *link) (starlark.Value, error) {
			if l.draft.gone {
				return nil, errGone
			}
			if len(c.args) > 0 {
				return nil, fmt.Errorf("it takes options with their names, such as bw=10")
			}
			text, err := linkOptions(c.kwargs)
			if err != nil {
				return nil, err
			}
			return starlark.None, l.draft.Set(text...)
		}},
		method[*link]{name: "delete", doc: "remove the link", run: func(c *call, l *link) (starlark.Value, error) {
			if err := c.nothing(); err != nil {
				return nil, err
			}
			return starlark.None, l.remove()
		}},
	)
}

var errGone = errors.New("the link is not there any more")

func (l *link) remove() error {
	if l.w.draft.removeLinks(func(d *draftedLink) bool { return d == l.draft }) == 0 {
		return errGone
	}
	return nil
}
