package script

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"go.starlark.net/starlark"

	"weft/topo"
)

// A network is the object net.
type network struct{ w *world }

var (
	_ starlark.HasSetField = (*network)(nil)
	_ starlark.Mapping     = (*network)(nil)
	_ starlark.Sequence    = (*network)(nil)
	_ starlark.Container   = (*network)(nil)
)

func (n *network) String() string        { return "net" }
func (n *network) Type() string          { return "network" }
func (n *network) Freeze()               {}
func (n *network) Truth() starlark.Bool  { return true }
func (n *network) Hash() (uint32, error) { return 1, nil }

func (n *network) Attr(name string) (starlark.Value, error) { return n.w.networks.attr(n, name) }
func (n *network) AttrNames() []string                      { return n.w.networks.names() }
func (n *network) SetField(name string, v starlark.Value) error {
	return n.w.networks.setField(n, name, v)
}

// Len is the number of nodes, as in Mininet.
func (n *network) Len() int { return len(n.w.draft.nodes) }

// Iterate ranges over the names of nodes, as in Mininet.
func (n *network) Iterate() starlark.Iterator {
	var names []starlark.Value
	for _, x := range n.all() {
		names = append(names, starlark.String(x.name))
	}
	return starlark.NewList(names).Iterate()
}

// Get returns a node: net['h1'].
func (n *network) Get(k starlark.Value) (starlark.Value, bool, error) {
	name, ok := starlark.AsString(k)
	if !ok {
		return nil, false, fmt.Errorf("%s is not the name of a node", shortly(k))
	}
	x, err := n.w.node(name)
	if err != nil {
		return nil, false, err
	}
	return x, true, nil
}

// Has says whether there is a node: 'h1' in net.
func (n *network) Has(v starlark.Value) (bool, error) {
	name, err := textOf(v, "the name of a node")
	_, ok := n.w.draft.nodes[name]
	return ok, err
}

// node returns the object of a node.
func (w *world) node(name string) (*node, error) {
	d, ok := w.draft.nodes[name]
	if !ok {
		return nil, unknown("node", name, w.draft.names())
	}
	return &node{w, name, d.kind}, nil
}

// all returns all nodes: hosts, switches, controllers.
func (n *network) all() []*node {
	return slices.Concat(n.list(hostKind), n.list(switchKind), n.list(controllerKind))
}

func (n *network) list(k kind) []*node {
	var nodes []*node
	add := func(name string) { nodes = append(nodes, &node{n.w, name, k}) }
	d := n.w.draft
	switch k {
	case hostKind:
		for _, h := range d.hosts {
			add(h.Name)
		}
	case switchKind:
		for _, s := range d.switches {
			add(s.Name)
		}
	case controllerKind:
		for _, c := range d.controllers {
			add(c.Name)
		}
	}
	return nodes
}

func listOf[T starlark.Value](values []T) *starlark.List {
	l := make([]starlark.Value, len(values))
	for i, v := range values {
		l[i] = v
	}
	return starlark.NewList(l)
}

func networkMethods() methods[*network] {
	nodes := func(name, doc string, k kind) method[*network] {
		return method[*network]{name: name, doc: doc, get: func(n *network) (starlark.Value, error) { return listOf(n.list(k)), nil }}
	}
	option := func(name, doc string, field func(*topo.Spec) any) method[*network] {
		at := func(n *network) reflect.Value { return reflect.ValueOf(field(&n.w.draft.settings)).Elem() }
		return method[*network]{name: name, doc: doc,
			get: func(n *network) (starlark.Value, error) { return toValue(at(n)), nil },
			set: func(n *network, v starlark.Value) error { return assign(at(n), v) },
		}
	}
	return newMethods(
		method[*network]{name: "addHost", usage: "NAME, ip=, ip6=, mac=, defaultRoute=, privateDirs=, nat=", doc: "add a host", run: addHost},
		method[*network]{name: "addSwitch", usage: "NAME, driver=, dpid=, protocols=, failMode=, datapath=, stp=, controllers=", doc: "add a switch", run: addSwitch},
		method[*network]{name: "addController", usage: "NAME='c0', controller=, ip=, port=, command=", doc: "add a controller", run: addController},
		method[*network]{name: "addLink", usage: "NODE, NODE, bw=, delay=, loss=, ..., ab={...}, ba={...}, port1=, port2=", doc: "add a link", run: addLink},
		method[*network]{name: "addNAT", usage: "NAME='nat0', connect=, ip=, subnet=", doc: "add a gateway to the user's network", run: addNAT},
		method[*network]{name: "get", usage: "NAME...", doc: "return nodes by name", run: getNodes},
		method[*network]{name: "getNodeByName", usage: "NAME...", doc: "return nodes by name", run: getNodes},
		method[*network]{name: "keys", doc: "names of all nodes", run: func(c *call, n *network) (starlark.Value, error) {
			var names []starlark.String
			for _, x := range n.all() {
				names = append(names, starlark.String(x.name))
			}
			return listOf(names), c.nothing()
		}},
		method[*network]{name: "values", doc: "all nodes", run: func(c *call, n *network) (starlark.Value, error) { return listOf(n.all()), c.nothing() }},
		method[*network]{name: "linksBetween", usage: "NODE, NODE", doc: "the links that join two nodes", run: linksBetween},
		method[*network]{name: "delNode", usage: "NODE", doc: "remove a node and its links", run: deleteNode},
		method[*network]{name: "delHost", usage: "HOST", doc: "remove a host and its links", run: deleteNode},
		method[*network]{name: "delSwitch", usage: "SWITCH", doc: "remove a switch and its links", run: deleteNode},
		method[*network]{name: "delController", usage: "CONTROLLER", doc: "remove a controller", run: deleteNode},
		method[*network]{name: "delLink", usage: "LINK", doc: "remove a link", run: deleteLink},
		method[*network]{name: "delLinkBetween", usage: "NODE, NODE", doc: "remove the links that join two nodes", run: deleteLinksBetween},
		nodes("hosts", "the hosts", hostKind),
		nodes("switches", "the switches", switchKind),
		nodes("controllers", "the controllers", controllerKind),
		method[*network]{name: "links", doc: "the links", get: func(n *network) (starlark.Value, error) { return listOf(n.links()), nil }},
		option("name", "name of the network", func(s *topo.Spec) any { return &s.Name }),
		option("ipBase", "IPv4 network of the hosts", func(s *topo.Spec) any { return &s.Addressing.IPBase }),
		option("ip6Base", "IPv6 network of the hosts; IPv6 is off without", func(s *topo.Spec) any { return &s.Addressing.IP6Base }),
		option("autoSetMacs", "number MACs: h1 has 00:00:00:00:00:01", func(s *topo.Spec) any { return &s.Addressing.AutoMAC }),
		option("autoStaticArp", "give hosts each other's MACs", func(s *topo.Spec) any { return &s.Addressing.StaticARP }),
		option("seed", "makes impairments repeatable", func(s *topo.Spec) any { return &s.Seed }),
	)
}

// toValue returns a setting as a script sees it.
func toValue(v reflect.Value) starlark.Value {
	if v.IsZero() && v.Kind() != reflect.Bool {
		return starlark.None
	}
	if text, ok := v.Interface().(fmt.Stringer); ok {
		return starlark.String(text.String())
	}
	switch v.Kind() {
	case reflect.Pointer:
		return toValue(v.Elem())
	case reflect.Bool:
		return starlark.Bool(v.Bool())
	case reflect.Uint64:
		return starlark.MakeUint64(v.Uint())
	}
	return starlark.String(v.String())
}

// mininetClass takes the parameter cls of Mininet's functions, which choose in their way what
// weft has settings for.
func mininetClass(use string) setting {
	return setting{"cls", func(v starlark.Value) error {
		if v == starlark.None {
			return nil
		}
		return fmt.Errorf("there are no classes; %s", use)
	}}
}

func nameArgument(v starlark.Value) (string, error) {
	name, ok := starlark.AsString(v)
	if !ok {
		return "", fmt.Errorf("%s is not a name", shortly(v))
	}
	return name, nil
}

func addHost(c *call, n *network) (starlark.Value, error) {
	var name starlark.Value
	if err := c.take([]string{"name"}, &name); err != nil {
		return nil, err
	}
	h := topo.Host{}
	var err error
	if h.Name, err = nameArgument(name); err != nil {
		return nil, err
	}
	if err := setHost(&h, c.kwargs); err != nil {
		return nil, err
	}
	if err := n.w.draft.addHost(h, where(c.thread)); err != nil {
		return nil, err
	}
	return &node{n.w, h.Name, hostKind}, nil
}

func setHost(h *topo.Host, kwargs []starlark.Tuple) error {
	return setFields(h, kwargs, []string{"name"}, mininetClass("write the host's settings"),
		setting{"inNamespace", func(v starlark.Value) error {
			if v != starlark.True {
				return fmt.Errorf("a host has always a network namespace of its own; leave it out")
			}
			return nil
		}})
}

func addSwitch(c *call, n *network) (starlark.Value, error) {
	var name starlark.Value
	if err := c.take([]string{"name"}, &name); err != nil {
		return nil, err
	}
	s := topo.Switch{}
	var err error
	if s.Name, err = nameArgument(name); err != nil {
		return nil, err
	}
	if err := setSwitch(&s, c.kwargs); err != nil {
		return nil, err
	}
	if err := n.w.draft.addSwitch(s, where(c.thread)); err != nil {
		return nil, err
	}
	return &node{n.w, s.Name, switchKind}, nil
}

func setSwitch(s *topo.Switch, kwargs []starlark.Tuple) error {
	return setFields(s, kwargs, []string{"name"}, mininetClass("write driver='ovsbr' or 'lxbr' for other switches than 'ovs'"))
}

// addController takes a kind as the option --controller does, or by its fields.
func addController(c *call, n *network) (starlark.Value, error) {
	var name, control starlark.Value = starlark.String("c" + strconv.Itoa(len(n.w.draft.controllers))), nil
	if err := c.take([]string{"name?", "controller?"}, &name, &control); err != nil {
		return nil, err
	}
	if name == starlark.None {
		n.w.draft.uncontrolled = true
		return starlark.None, c.done()
	}
	var made topo.Controller
	var err error
	if made.Name, err = nameArgument(name); err != nil {
		return nil, err
	}
	if control != nil {
		text, err := textOf(control, "what --controller takes, such as 'remote,ip=127.0.0.1'")
		if err != nil {
			return nil, fmt.Errorf("controller: %w", err)
		}
		list, err := topo.ParseController(text)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			n.w.draft.uncontrolled = true
			return starlark.None, c.done()
		}
		list[0].Name = made.Name
		made = list[0]
	}
	if err := setFields(&made, c.kwargs, []string{"name"}, mininetClass("write controller='remote' or another kind"),
		setting{"ip", func(v starlark.Value) error { return assign(reflect.ValueOf(&made.Address).Elem(), v) }},
		setting{"protocol", func(v starlark.Value) error { return assign(reflect.ValueOf(&made.Transport).Elem(), v) }},
	); err != nil {
		return nil, err
	}
	made.Kind = cmp.Or(made.Kind, topo.ControllerBuiltin)
	if err := n.w.draft.addController(made, where(c.thread)); err != nil {
		return nil, err
	}
	return &node{n.w, made.Name, controllerKind}, nil
}

func addLink(c *call, n *network) (starlark.Value, error) {
	var a, b, port1, port2 starlark.Value
	if err := c.take([]string{"node1", "node2", "port1?", "port2?"}, &a, &b, &port1, &port2); err != nil {
		return nil, err
	}
	var l topo.Link
	var err error
	if l.A.Node, err = textOf(a, "a node or its name"); err != nil {
		return nil, err
	}
	if l.B.Node, err = textOf(b, "a node or its name"); err != nil {
		return nil, err
	}
	for i, end := range []*topo.LinkEnd{&l.A, &l.B} {
		if port := []starlark.Value{port1, port2}[i]; port != nil {
			if err := assign(reflect.ValueOf(&end.Port).Elem(), port); err != nil {
				return nil, fmt.Errorf("port%d: %w", i+1, err)
			}
		}
	}
	if err := setLink(&l, c.kwargs); err != nil {
		return nil, err
	}
	made, err := n.w.draft.addLink(l, where(c.thread))
	if err != nil {
		return nil, err
	}
	return &link{n.w, made}, nil
}

// setLink gives a link what keyword arguments say: Mininet's names for its ends, and options.
func setLink(l *topo.Link, kwargs []starlark.Tuple) error {
	var options []starlark.Tuple
	ends := []setting{mininetClass("write the link's options, such as bw=10")}
	for i, end := range []*topo.LinkEnd{&l.A, &l.B} {
		number := strconv.Itoa(i + 1)
		part := func(name string, to any) {
			ends = append(ends, setting{name + number, func(v starlark.Value) error { return assign(reflect.ValueOf(to).Elem(), v) }})
		}
		part("intfName", &end.Interface)
		part("addr", &end.MAC)
		part("ip", &end.IP)
		part("ip6", &end.IP6)
		ends = append(ends, setting{"params" + number, func(v starlark.Value) error {
			d, ok := v.(*starlark.Dict)
			if !ok {
				return fmt.Errorf("%s is not a dict", shortly(v))
			}
			more, err := settingsOf(d)
			if err != nil {
				return err
			}
			return setFields(end, more, []string{"node"})
		}})
	}
	for _, kv := range kwargs {
		i := slices.IndexFunc(ends, func(s setting) bool { return starlark.String(s.name) == kv[0] })
		if i < 0 {
			options = append(options, kv)
			continue
		}
		if err := ends[i].set(kv[1]); err != nil {
			return fmt.Errorf("%s: %w", ends[i].name, err)
		}
	}
	text, err := linkOptions(options)
	if err != nil || len(text) == 0 {
		return err
	}
	return l.Set(text...)
}

// addNAT adds a gateway and its link to a switch, the first if none is named.
func addNAT(c *call, n *network) (starlark.Value, error) {
	var name, connect starlark.Value = starlark.String("nat0"), starlark.True
	if err := c.take([]string{"name?", "connect?"}, &name, &connect); err != nil {
		return nil, err
	}
	h := topo.Host{NAT: &topo.NAT{}}
	var err error
	if h.Name, err = nameArgument(name); err != nil {
		return nil, err
	}
	if err := setFields(&h, c.kwargs, []string{"name", "nat"},
		setting{"subnet", func(v starlark.Value) error { return assign(reflect.ValueOf(&h.NAT.Subnet).Elem(), v) }},
		setting{"inNamespace", func(starlark.Value) error { return nil }}, // both are the same here
	); err != nil {
		return nil, err
	}
	to := ""
	switch {
	case connect == starlark.False || connect == starlark.None:
	case connect == starlark.True:
		if len(n.w.draft.switches) == 0 {
			return nil, fmt.Errorf("there is no switch to connect it to; add one first, or write connect=None")
		}
		to = n.w.draft.switches[0].Name
	default:
		if to, err = textOf(connect, "a switch or its name"); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		if _, ok := n.w.draft.nodes[to]; !ok {
			return nil, fmt.Errorf("connect: %w", unknown("node", to, n.w.draft.names()))
		}
	}
	at := where(c.thread)
	if err := n.w.draft.addHost(h, at); err != nil {
		return nil, err
	}
	if to != "" {
		if _, err := n.w.draft.addLink(topo.Link{A: topo.LinkEnd{Node: h.Name}, B: topo.LinkEnd{Node: to}}, at); err != nil {
			return nil, err
		}
	}
	return &node{n.w, h.Name, hostKind}, nil
}

// getNodes returns one node, or a list if several are named.
func getNodes(c *call, n *network) (starlark.Value, error) {
	if err := c.done(); err != nil {
		return nil, err
	}
	var found []*node
	for _, a := range c.args {
		name, err := textOf(a, "the name of a node")
		if err != nil {
			return nil, err
		}
		x, err := n.w.node(name)
		if err != nil {
			return nil, err
		}
		found = append(found, x)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return listOf(found), nil
}

func (n *network) links() []*link {
	var links []*link
	for _, l := range n.w.draft.links {
		links = append(links, &link{n.w, l})
	}
	return links
}

// pair takes the two nodes that a call names.
func (c *call) pair(w *world) (a, b string, err error) {
	var x, y starlark.Value
	if err := c.take([]string{"node1", "node2"}, &x, &y); err != nil {
		return "", "", err
	}
	for i, v := range []starlark.Value{x, y} {
		name, err := textOf(v, "a node or its name")
		if err != nil {
			return "", "", err
		}
		if _, err := w.node(name); err != nil {
			return "", "", err
		}
		*[]*string{&a, &b}[i] = name
	}
	return a, b, nil
}

func linksBetween(c *call, n *network) (starlark.Value, error) {
	a, b, err := c.pair(n.w)
	if err != nil {
		return nil, err
	}
	var found []*link
	for _, l := range n.w.draft.links {
		if joins(l, a, b) {
			found = append(found, &link{n.w, l})
		}
	}
	return listOf(found), c.done()
}

func joins(l *draftedLink, a, b string) bool {
	return l.A.Node == a && l.B.Node == b || l.A.Node == b && l.B.Node == a
}

func deleteNode(c *call, n *network) (starlark.Value, error) {
	var v starlark.Value
	if err := c.take([]string{"node"}, &v); err != nil {
		return nil, err
	}
	name, err := textOf(v, "a node or its name")
	if err != nil {
		return nil, err
	}
	return starlark.None, n.w.draft.removeNode(name)
}

func deleteLink(c *call, n *network) (starlark.Value, error) {
	var v starlark.Value
	if err := c.take([]string{"link"}, &v); err != nil {
		return nil, err
	}
	l, ok := v.(*link)
	if !ok {
		return nil, fmt.Errorf("%s is not a link; take one of net.links, or write delLinkBetween", shortly(v))
	}
	return starlark.None, l.remove()
}

func deleteLinksBetween(c *call, n *network) (starlark.Value, error) {
	a, b, err := c.pair(n.w)
	if err != nil {
		return nil, err
	}
	if n.w.draft.removeLinks(func(l *draftedLink) bool { return joins(l, a, b) }) == 0 {
		return nil, fmt.Errorf("no link joins %s and %s", a, b)
	}
	return starlark.None, nil
}
