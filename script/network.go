package script

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"go.starlark.net/starlark"

	"weft/topo"
)

// A netObject is the object net.
type netObject struct{ w *world }

var (
	_ starlark.HasSetField = (*netObject)(nil)
	_ starlark.Mapping     = (*netObject)(nil)
	_ starlark.Sequence    = (*netObject)(nil)
	_ starlark.Container   = (*netObject)(nil)
)

func (n *netObject) String() string        { return "net" }
func (n *netObject) Type() string          { return "network" }
func (n *netObject) Freeze()               {}
func (n *netObject) Truth() starlark.Bool  { return true }
func (n *netObject) Hash() (uint32, error) { return 1, nil }

// Attr returns a method or setting; in experiments steps are methods too: net.capture.
func (n *netObject) Attr(name string) (starlark.Value, error) {
	v, err := n.w.networks.attr(n, name)
	if step, ok := n.w.steps[name]; v == nil && err == nil && ok {
		return step, nil
	}
	return v, err
}

func (n *netObject) AttrNames() []string {
	names := slices.AppendSeq(n.w.networks.names(), maps.Keys(n.w.steps))
	slices.Sort(names)
	return slices.Compact(names)
}

func (n *netObject) SetField(name string, v starlark.Value) error {
	return n.w.networks.setField(n, name, v)
}

// Len is the number of nodes, as in Mininet.
func (n *netObject) Len() int {
	all, err := n.w.all()
	if err != nil {
		return 0
	}
	return len(all)
}

// Iterate ranges over the names of nodes, as in Mininet.
func (n *netObject) Iterate() starlark.Iterator {
	var names []starlark.Value
	all, _ := n.w.all()
	for _, x := range all {
		names = append(names, starlark.String(x.name))
	}
	return starlark.NewList(names).Iterate()
}

// Get returns a node: net['h1'].
func (n *netObject) Get(k starlark.Value) (starlark.Value, bool, error) {
	name, err := textOf(k, "the name of a node")
	if err != nil {
		return nil, false, err
	}
	x, err := n.w.node(name)
	if err != nil {
		return nil, false, err
	}
	return x, true, nil
}

// Has says whether there is a node: 'h1' in net.
func (n *netObject) Has(v starlark.Value) (bool, error) {
	name, err := textOf(v, "the name of a node")
	if err != nil {
		return false, err
	}
	_, err = n.w.kindOf(name)
	return err == nil, nil
}

// node returns the object of a node.
func (w *world) node(name string) (*node, error) {
	k, err := w.kindOf(name)
	if err != nil {
		return nil, err
	}
	return &node{w, name, k}, nil
}

// ofKind returns the nodes of some kinds, in the order of the kinds.
func (w *world) ofKind(kinds ...kind) ([]*node, error) {
	var nodes []*node
	for _, k := range kinds {
		names, err := w.list(k)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			nodes = append(nodes, &node{w, name, k})
		}
	}
	return nodes, nil
}

// all returns all nodes: hosts, switches, controllers.
func (w *world) all() ([]*node, error) { return w.ofKind(hostKind, switchKind, controllerKind) }

func listOf[T starlark.Value](values []T) *starlark.List {
	l := make([]starlark.Value, len(values))
	for i, v := range values {
		l[i] = v
	}
	return starlark.NewList(l)
}

func networkMethods() methods[*netObject] {
	nodes := func(name, doc string, k kind) method[*netObject] {
		return method[*netObject]{name: name, doc: doc, get: func(n *netObject) (starlark.Value, error) {
			all, err := n.w.ofKind(k)
			return listOf(all), err
		}}
	}
	list := []method[*netObject]{
		{name: "addHost", usage: "NAME, ip=, ip6=, mac=, defaultRoute=, privateDirs=, nat=", doc: "add a host", run: addHost},
		{name: "addSwitch", usage: "NAME, driver=, dpid=, protocols=, failMode=, datapath=, stp=, controllers=", doc: "add a switch", run: addSwitch},
		{name: "addDPDK", usage: "NAME, NFS=['bridge'], chains={'default': [1]}, flows=, portKind=, manager=, ...", doc: "add a DPDK node", run: addDPDK},
		{name: "addController", usage: "NAME='c0', controller=, ip=, port=, command=", doc: "add a controller", run: addController},
		{name: "addLink", usage: "NODE, NODE, bw=, delay=, loss=, ..., ab={...}, ba={...}, port1=, port2=", doc: "add a link", run: addLink},
		{name: "addNAT", usage: "NAME='nat0', connect=, ip=, subnet=", doc: "add a gateway to the user's network", run: addNAT},
		{name: "get", usage: "NAME...", doc: "return nodes by name", run: getNodes},
		{name: "getNodeByName", usage: "NAME...", doc: "return nodes by name", run: getNodes},
		{name: "keys", doc: "names of all nodes", run: func(c *call, n *netObject) (starlark.Value, error) {
			return starlark.NewList(slices.Collect(starlark.Elements(n))), c.nothing()
		}},
		{name: "values", doc: "all nodes", run: func(c *call, n *netObject) (starlark.Value, error) {
			all, err := n.w.all()
			return listOf(all), errors.Join(err, c.nothing())
		}},
		{name: "items", doc: "names and nodes", run: func(c *call, n *netObject) (starlark.Value, error) {
			all, err := n.w.all()
			var pairs []starlark.Tuple
			for _, x := range all {
				pairs = append(pairs, starlark.Tuple{starlark.String(x.name), x})
			}
			return listOf(pairs), errors.Join(err, c.nothing())
		}},
		{name: "linksBetween", usage: "NODE, NODE", doc: "the links that join two nodes", run: linksBetween},
		{name: "delNode", usage: "NODE", doc: "remove a node and its links", run: deleteNode},
		{name: "delHost", usage: "HOST", doc: "remove a host and its links", run: deleteNode},
		{name: "delSwitch", usage: "SWITCH", doc: "remove a switch and its links", run: deleteNode},
		{name: "delController", usage: "CONTROLLER", doc: "remove a controller", run: deleteNode},
		{name: "delLink", usage: "LINK", doc: "remove a link", run: deleteLink},
		{name: "delLinkBetween", usage: "NODE, NODE", doc: "remove the links that join two nodes", run: deleteLinksBetween},
		nodes("hosts", "the hosts", hostKind),
		nodes("switches", "the switches", switchKind),
		nodes("controllers", "the controllers", controllerKind),
		{name: "links", doc: "the links", get: func(n *netObject) (starlark.Value, error) {
			all, err := n.w.links()
			return listOf(all), err
		}},
	}
	return newMethods(slices.Concat(list, draftSettings(), liveNetwork())...)
}

// draftSettings are what a script can set of the network as a whole.
func draftSettings() []method[*netObject] {
	option := func(name, doc string, field func(*topo.Spec) any) method[*netObject] {
		at := func(n *netObject) (reflect.Value, error) {
			if n.w.draft == nil {
				return reflect.Value{}, errors.New("the network runs, and this cannot change any more")
			}
			return reflect.ValueOf(field(&n.w.draft.settings)).Elem(), nil
		}
		return method[*netObject]{name: name, doc: doc,
			get: func(n *netObject) (starlark.Value, error) {
				v, err := at(n)
				if err != nil {
					return starlark.None, nil
				}
				return toValue(v), nil
			},
			set: func(n *netObject, v starlark.Value) error {
				field, err := at(n)
				if err != nil {
					return err
				}
				return assign(field, v)
			},
		}
	}
	return []method[*netObject]{
		option("name", "name of the network", func(s *topo.Spec) any { return &s.Name }),
		option("ipBase", "IPv4 network of the hosts", func(s *topo.Spec) any { return &s.Addressing.IPBase }),
		option("ip6Base", "IPv6 network of the hosts; IPv6 is off without", func(s *topo.Spec) any { return &s.Addressing.IP6Base }),
		option("autoSetMacs", "number MACs: h1 has 00:00:00:00:00:01", func(s *topo.Spec) any { return &s.Addressing.AutoMAC }),
		option("autoStaticArp", "give hosts each other's MACs", func(s *topo.Spec) any { return &s.Addressing.StaticARP }),
		option("seed", "makes impairments repeatable", func(s *topo.Spec) any { return &s.Seed }),
	}
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

func addHost(c *call, n *netObject) (starlark.Value, error) {
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
	if err := n.w.addNode(c, h); err != nil {
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

func addSwitch(c *call, n *netObject) (starlark.Value, error) {
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
	if err := n.w.addNode(c, s); err != nil {
		return nil, err
	}
	return &node{n.w, s.Name, switchKind}, nil
}

func setSwitch(s *topo.Switch, kwargs []starlark.Tuple) error {
	list, finish := dpdkSettings(s)
	list = append(list, mininetClass("write driver='ovsbr' or 'lxbr' for other switches than 'ovs'"))
	if err := setFields(s, kwargs, []string{"name"}, list...); err != nil {
		return err
	}
	return finish()
}

// addController takes a kind as the option --controller does, or by its fields. None, or the
// kind none, says that there is to be no controller.
func addController(c *call, n *netObject) (starlark.Value, error) {
	have, err := n.w.list(controllerKind)
	if err != nil {
		return nil, err
	}
	var name, control starlark.Value = starlark.String("c" + strconv.Itoa(len(have))), starlark.String(topo.ControllerBuiltin)
	if err := c.take([]string{"name?", "controller?"}, &name, &control); err != nil {
		return nil, err
	}
	var made topo.Controller
	if name != starlark.None {
		text, err := textOf(control, "what --controller takes, such as 'remote,ip=127.0.0.1'")
		if err != nil {
			return nil, fmt.Errorf("controller: %w", err)
		}
		list, err := topo.ParseController(text)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			made = list[0]
		}
	}
	if made.Kind == "" {
		if n.w.draft == nil {
			return nil, errors.New("the network runs, and its controllers cannot change any more")
		}
		n.w.draft.uncontrolled = true
		return starlark.None, c.done()
	}
	if made.Name, err = nameArgument(name); err != nil {
		return nil, err
	}
	if err := setFields(&made, c.kwargs, []string{"name"}, mininetClass("write controller='remote' or another kind"),
		setting{"ip", func(v starlark.Value) error { return assign(reflect.ValueOf(&made.Address).Elem(), v) }},
		setting{"protocol", func(v starlark.Value) error { return assign(reflect.ValueOf(&made.Transport).Elem(), v) }},
	); err != nil {
		return nil, err
	}
	if err := n.w.addNode(c, made); err != nil {
		return nil, err
	}
	return &node{n.w, made.Name, controllerKind}, nil
}

func addLink(c *call, n *netObject) (starlark.Value, error) {
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
	made, err := n.w.addLink(c, l)
	if err != nil {
		return nil, err
	}
	return made, nil
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
func addNAT(c *call, n *netObject) (starlark.Value, error) {
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
		switches, err := n.w.list(switchKind)
		if err != nil {
			return nil, err
		}
		if len(switches) == 0 {
			return nil, errors.New("there is no switch to connect it to; add one first, or write connect=None")
		}
		to = switches[0]
	default:
		if to, err = textOf(connect, "a switch or its name"); err == nil {
			_, err = n.w.kindOf(to)
		}
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
	if err := n.w.addNode(c, h); err != nil {
		return nil, err
	}
	if to != "" {
		if _, err := n.w.addLink(c, topo.Link{A: topo.LinkEnd{Node: h.Name}, B: topo.LinkEnd{Node: to}}); err != nil {
			return nil, err
		}
	}
	return &node{n.w, h.Name, hostKind}, nil
}

// getNodes returns one node, or a list if several are named.
func getNodes(c *call, n *netObject) (starlark.Value, error) {
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

// pair takes the two nodes that a call names.
func (c *call) pair(w *world) (a, b string, err error) {
	var x, y starlark.Value
	if err := c.take([]string{"node1", "node2"}, &x, &y); err != nil {
		return "", "", err
	}
	for i, v := range []starlark.Value{x, y} {
		name, err := textOf(v, "a node or its name")
		if err == nil {
			_, err = w.kindOf(name)
		}
		if err != nil {
			return "", "", err
		}
		*[]*string{&a, &b}[i] = name
	}
	return a, b, nil
}

// between returns the links that join two nodes.
func (w *world) between(a, b string) ([]*link, error) {
	all, err := w.links()
	return slices.DeleteFunc(all, func(l *link) bool {
		return !(l.a == a && l.b == b || l.a == b && l.b == a)
	}), err
}

func linksBetween(c *call, n *netObject) (starlark.Value, error) {
	a, b, err := c.pair(n.w)
	if err != nil {
		return nil, err
	}
	found, err := n.w.between(a, b)
	return listOf(found), errors.Join(err, c.done())
}

func deleteNode(c *call, n *netObject) (starlark.Value, error) {
	var v starlark.Value
	if err := c.take([]string{"node"}, &v); err != nil {
		return nil, err
	}
	name, err := textOf(v, "a node or its name")
	if err != nil {
		return nil, err
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	return starlark.None, n.w.removeNode(c, name)
}

func deleteLink(c *call, n *netObject) (starlark.Value, error) {
	var v starlark.Value
	if err := c.take([]string{"link"}, &v); err != nil {
		return nil, err
	}
	l, ok := v.(*link)
	if !ok {
		return nil, fmt.Errorf("%s is not a link; take one of net.links, or write delLinkBetween", shortly(v))
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	return starlark.None, n.w.removeLink(c, l)
}

func deleteLinksBetween(c *call, n *netObject) (starlark.Value, error) {
	a, b, err := c.pair(n.w)
	if err != nil {
		return nil, err
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	found, err := n.w.between(a, b)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no link joins %s and %s", a, b)
	}
	for _, l := range found {
		if err := n.w.removeLink(c, l); err != nil {
			return nil, err
		}
	}
	return starlark.None, nil
}
