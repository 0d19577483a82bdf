package script

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"weft/network"
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

func (n *node) Attr(name string) (starlark.Value, error) { return n.methods().attr(n, name) }
func (n *node) AttrNames() []string                      { return n.methods().names() }

func (n *node) methods() methods[*node] {
	if n.kind == switchKind {
		return n.w.switches
	}
	return n.w.nodes
}

// CompareSameType compares by name.
func (n *node) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	return identical(op, n.name == y.(*node).name, "nodes have no order; sort by key=lambda n: n.name")
}

func identical(op syntax.Token, same bool, otherwise string) (bool, error) {
	switch op {
	case syntax.EQL:
		return same, nil
	case syntax.NEQ:
		return !same, nil
	}
	return false, errors.New(otherwise)
}

func nodeMethods() []method[*node] {
	list := []method[*node]{
		{name: "name", doc: "the node's name", get: func(n *node) (starlark.Value, error) { return starlark.String(n.name), nil }},
		{name: "IP", usage: "[INTERFACE]", doc: "the IPv4 address", run: nodeIP},
		{name: "MAC", usage: "[INTERFACE]", doc: "the MAC address", run: nodeMAC},
		{name: "links", doc: "the node's links", get: func(n *node) (starlark.Value, error) {
			all, err := n.w.links()
			return listOf(slices.DeleteFunc(all, func(l *link) bool { return l.a != n.name && l.b != n.name })), err
		}},
	}
	return slices.Concat(list, programMethods(), interfaceMethods())
}

func nodeIP(c *call, n *node) (starlark.Value, error) {
	if n.w.draft != nil {
		if h := n.w.draft.nodes[n.name].host; h != nil && h.IP.IsValid() {
			return starlark.String(h.IP.Addr().String()), nil
		}
		return nil, n.undecided("IP address", "ip")
	}
	if n.kind == controllerKind {
		return n.controllerIP(c)
	}
	p, err := n.choose(c)
	if err != nil {
		return nil, err
	}
	return p.ip()
}

// controllerIP returns the address of a controller; the built-in one is here.
func (n *node) controllerIP(c *call) (starlark.Value, error) {
	st, err := n.w.live.now()
	if err != nil {
		return nil, err
	}
	host := "127.0.0.1"
	if k := st.Plan.Controller(n.name); k != nil {
		if a, _, err := net.SplitHostPort(ControllerAddress(st, *k)); err == nil {
			host = a
		}
	}
	return starlark.String(host), c.nothing()
}

func nodeMAC(c *call, n *node) (starlark.Value, error) {
	if n.w.draft != nil {
		if h := n.w.draft.nodes[n.name].host; h != nil && h.MAC != "" {
			return starlark.String(h.MAC), nil
		}
		return nil, n.undecided("MAC address", "mac")
	}
	p, err := n.choose(c)
	if err != nil {
		return nil, err
	}
	return p.mac()
}

// undecided is the error of an address that the script did not give.
func (n *node) undecided(what, parameter string) error {
	return fmt.Errorf("%s has no %s yet: what the script does not give is chosen when it is over; write %s= where you add it", n.name, what, parameter)
}

// A link joins two nodes.
type link struct {
	w *world
	*wire
}

// A wire is what all objects of one link share.
type wire struct {
	id    int
	a, b  string       // the nodes
	ends  [2]string    // the interfaces' names, if the network runs
	draft *draftedLink // if it does not
}

var _ starlark.HasAttrs = (*link)(nil)

func (l *link) Type() string          { return "link" }
func (l *link) Freeze()               {}
func (l *link) Truth() starlark.Bool  { return true }
func (l *link) Hash() (uint32, error) { return uint32(l.id), nil }

// String is as in Mininet if the network runs: its two interfaces.
func (l *link) String() string {
	if l.draft != nil {
		return l.a + "-" + l.b
	}
	return l.ends[0] + "<->" + l.ends[1]
}

func (l *link) Attr(name string) (starlark.Value, error) { return l.w.wires.attr(l, name) }
func (l *link) AttrNames() []string                      { return l.w.wires.names() }

// CompareSameType compares by identity.
func (l *link) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	return identical(op, l.id == y.(*link).id, "links have no order")
}

var errGone = errors.New("the link is not there any more")

func linkMethods() methods[*link] {
	return newMethods([]method[*link]{
		{name: "node1", doc: "the node at its first end", get: func(l *link) (starlark.Value, error) { return l.w.node(l.a) }},
		{name: "node2", doc: "the node at its second end", get: func(l *link) (starlark.Value, error) { return l.w.node(l.b) }},
		{name: "intf1", doc: "the interface at its first end", get: func(l *link) (starlark.Value, error) { return l.end(0) }},
		{name: "intf2", doc: "the interface at its second end", get: func(l *link) (starlark.Value, error) { return l.end(1) }},
		{name: "config", usage: "bw=, delay=, ...", doc: "change what the link does to frames", run: func(c *call, l *link) (starlark.Value, error) {
			return starlark.None, l.config(c, "")
		}},
		{name: "status", doc: "(OK OK), or which ends are missing", run: linkStatus},
		{name: "delete", doc: "remove the link", run: func(c *call, l *link) (starlark.Value, error) {
			if err := c.nothing(); err != nil {
				return nil, err
			}
			return starlark.None, l.w.removeLink(c, l)
		}},
	}...)
}

// config changes settings; way is ab or ba for one direction, empty for both.
func (l *link) config(c *call, way string) error {
	if len(c.args) > 0 {
		return errors.New("it takes options with their names, such as bw=10")
	}
	options, err := linkOptions(c.kwargs)
	if err != nil {
		return err
	}
	if way != "" {
		for i, o := range options {
			options[i] = way + ":" + o
		}
	}
	if l.draft == nil {
		return l.w.live.changeLink(c, l, network.LinkChange{Options: options})
	}
	if l.draft.gone {
		return errGone
	}
	return l.draft.Set(options...)
}

// end returns the interface at an end of a link of the running network.
func (l *link) end(i int) (starlark.Value, error) {
	if _, err := l.w.running(); err != nil {
		return nil, err
	}
	return &port{l.w, [2]string{l.a, l.b}[i], l.ends[i]}, nil
}

func linkStatus(c *call, l *link) (starlark.Value, error) {
	live, err := l.w.running()
	if err != nil {
		return nil, err
	}
	st, err := live.now()
	if err != nil {
		return nil, err
	}
	word := map[bool]string{true: "OK", false: "MISSING"}
	for _, x := range st.Links {
		if x.ID == l.id {
			return starlark.String(fmt.Sprintf("(%s %s)", word[x.OK[0]], word[x.OK[1]])), c.nothing()
		}
	}
	return nil, errGone
}
