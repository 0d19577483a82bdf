package script

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"weft/topo"
)

// A port is an interface of a node of the running network, as Mininet's Intf.
type port struct {
	w          *world
	node, name string
}

var _ starlark.HasAttrs = (*port)(nil)

// String returns the name, as in Mininet.
func (p *port) String() string        { return p.name }
func (p *port) Type() string          { return "interface" }
func (p *port) Freeze()               {}
func (p *port) Truth() starlark.Bool  { return true }
func (p *port) Hash() (uint32, error) { return starlark.String(p.name).Hash() }

func (p *port) Attr(name string) (starlark.Value, error) { return p.w.ports.attr(p, name) }
func (p *port) AttrNames() []string                      { return p.w.ports.names() }

// CompareSameType compares by name.
func (p *port) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	q := y.(*port)
	return identical(op, p.node == q.node && p.name == q.name, "interfaces have no order; sort by key=lambda i: i.name")
}

func portMethods() methods[*port] {
	return newMethods([]method[*port]{
		{name: "name", doc: "the interface's name", get: func(p *port) (starlark.Value, error) { return starlark.String(p.name), nil }},
		{name: "node", doc: "the node that has it", get: func(p *port) (starlark.Value, error) { return p.w.node(p.node) }},
		{name: "link", doc: "its link", get: func(p *port) (starlark.Value, error) { return p.link() }},
		{name: "ip", doc: "its IPv4 address", get: func(p *port) (starlark.Value, error) { return p.ip() }},
		{name: "mac", doc: "its MAC address", get: func(p *port) (starlark.Value, error) { return p.mac() }},
		{name: "IP", doc: "its IPv4 address", run: func(c *call, p *port) (starlark.Value, error) { return c.only(p.ip()) }},
		{name: "MAC", doc: "its MAC address", run: func(c *call, p *port) (starlark.Value, error) { return c.only(p.mac()) }},
		{name: "setIP", usage: "ADDRESS, [LENGTH]", doc: "give it an IPv4 address", run: func(c *call, p *port) (starlark.Value, error) { return p.setIP(c) }},
		{name: "setMAC", usage: "MAC", doc: "give it a MAC address", run: func(c *call, p *port) (starlark.Value, error) { return p.setMAC(c) }},
		{name: "isUp", doc: "whether it is up", run: isUp},
		{name: "config", usage: "bw=, delay=, ...", doc: "change what the link does to the frames that it sends", run: func(c *call, p *port) (starlark.Value, error) {
			l, err := p.link()
			if err != nil {
				return nil, err
			}
			way := "ab"
			if l.ends[0] != p.name {
				way = "ba"
			}
			return starlark.None, l.config(c, way)
		}},
	}...)
}

// only returns v if there are no arguments.
func (c *call) only(v starlark.Value, err error) (starlark.Value, error) {
	return v, errors.Join(err, c.nothing())
}

// planned returns the interface in the plan.
func (p *port) planned() (*topo.Interface, error) {
	plan, err := p.w.live.plan()
	if err != nil {
		return nil, err
	}
	i := plan.Interface(p.end())
	if i == nil {
		return nil, fmt.Errorf("%s has no interface %s any more", p.node, p.name)
	}
	return i, nil
}

func (p *port) end() topo.PlannedEnd { return topo.PlannedEnd{Node: p.node, Interface: p.name} }

// ip returns the address that the interface was given last, None if there is none.
func (p *port) ip() (starlark.Value, error) {
	l := p.w.live
	l.mu.Lock()
	a, ok := l.ips[p.end()]
	l.mu.Unlock()
	if ok {
		return starlark.String(a.String()), nil
	}
	if p.name == loopback {
		return starlark.String("127.0.0.1"), nil
	}
	i, err := p.planned()
	if err != nil {
		return nil, err
	}
	if !i.IP.IsValid() {
		return starlark.None, nil
	}
	return starlark.String(i.IP.Addr().String()), nil
}

func (p *port) mac() (starlark.Value, error) {
	l := p.w.live
	l.mu.Lock()
	mac, ok := l.macs[p.end()]
	l.mu.Unlock()
	if ok {
		return starlark.String(mac), nil
	}
	if p.name == loopback {
		return starlark.None, nil
	}
	i, err := p.planned()
	if err != nil {
		return nil, err
	}
	return starlark.String(i.MAC), nil
}

func (p *port) link() (*link, error) {
	all, err := p.w.links()
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		if l.a == p.node && l.ends[0] == p.name || l.b == p.node && l.ends[1] == p.name {
			return l, nil
		}
	}
	return nil, fmt.Errorf("%s has no link", p.name)
}

func isUp(c *call, p *port) (starlark.Value, error) {
	st, err := p.w.live.now()
	if err != nil {
		return nil, err
	}
	for _, l := range st.Links {
		for i, end := range []topo.PlannedEnd{l.A, l.B} {
			if end == p.end() {
				return starlark.Bool(l.Up[i]), c.nothing()
			}
		}
	}
	return starlark.Bool(p.name == loopback), c.nothing()
}

// loopback is the interface that Mininet counts among those of a switch.
const loopback = "lo"

// portsOf returns the interfaces of a node, as Mininet counts them.
func (n *node) portsOf() ([]*port, error) {
	live, err := n.w.running()
	if err != nil {
		return nil, err
	}
	plan, err := live.plan()
	if err != nil {
		return nil, err
	}
	var list []topo.Interface
	var ports []*port
	if h := plan.Host(n.name); h != nil {
		list = h.Interfaces
	} else if s := plan.Switch(n.name); s != nil {
		list = s.Interfaces
		ports = append(ports, &port{n.w, n.name, loopback})
	}
	for _, i := range list {
		ports = append(ports, &port{n.w, n.name, i.Name})
	}
	return ports, nil
}

// choose returns the interface that a call names, as text or object; the default one if it
// names none.
func (n *node) choose(c *call) (*port, error) {
	var v starlark.Value
	if err := c.take([]string{"intf?"}, &v); err != nil {
		return nil, err
	}
	if err := c.done("intf"); err != nil {
		return nil, err
	}
	return n.port(v)
}

func (n *node) port(v starlark.Value) (*port, error) {
	ports, err := n.portsOf()
	if err != nil {
		return nil, err
	}
	if v == nil || v == starlark.None {
		if len(ports) == 0 {
			return nil, fmt.Errorf("%s has no interface", n.name)
		}
		return ports[0], nil
	}
	var name string
	switch v := v.(type) {
	case *port:
		name = v.name
	case starlark.String:
		name = string(v)
	case starlark.Int:
		i, ok := v.Int64()
		if !ok || i < 0 || i >= int64(len(ports)) {
			return nil, fmt.Errorf("%s has %d interfaces, and none with the number %s", n.name, len(ports), v)
		}
		return ports[i], nil
	default:
		return nil, fmt.Errorf("%s is not the name of an interface", shortly(v))
	}
	var names []string
	for _, p := range ports {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return nil, unknown("interface", name, names)
}

func interfaceMethods() []method[*node] {
	return []method[*node]{
		{name: "intf", usage: "[NAME]", doc: "an interface by name, or the default one", run: func(c *call, n *node) (starlark.Value, error) { return n.choose(c) }},
		{name: "defaultIntf", doc: "the first interface", run: func(c *call, n *node) (starlark.Value, error) { return n.choose(c) }},
		{name: "intfList", doc: "the interfaces", run: func(c *call, n *node) (starlark.Value, error) {
			ports, err := n.portsOf()
			return listOf(ports), errors.Join(err, c.nothing())
		}},
		{name: "intfNames", doc: "the interfaces' names", run: func(c *call, n *node) (starlark.Value, error) {
			ports, err := n.portsOf()
			var names []starlark.String
			for _, p := range ports {
				names = append(names, starlark.String(p.name))
			}
			return listOf(names), errors.Join(err, c.nothing())
		}},
		{name: "intfs", doc: "the interfaces by port number", get: func(n *node) (starlark.Value, error) {
			return n.numbered(func(d *starlark.Dict, number starlark.Int, p *port) error { return d.SetKey(number, p) })
		}},
		{name: "ports", doc: "the port numbers by interface", get: func(n *node) (starlark.Value, error) {
			return n.numbered(func(d *starlark.Dict, number starlark.Int, p *port) error { return d.SetKey(p, number) })
		}},
		{name: "intfIsUp", usage: "[INTERFACE]", doc: "whether an interface is up", run: func(c *call, n *node) (starlark.Value, error) {
			p, err := n.choose(c)
			if err != nil {
				return nil, err
			}
			return isUp(&call{thread: c.thread}, p)
		}},
		{name: "connectionsTo", usage: "NODE", doc: "pairs of the interfaces that join it with another node", run: connectionsTo},
		{name: "setIP", usage: "ADDRESS, [LENGTH], [INTERFACE]", doc: "give an interface an IPv4 address", run: func(c *call, n *node) (starlark.Value, error) {
			return n.atPort(c, 2, (*port).setIP)
		}},
		{name: "setMAC", usage: "MAC, [INTERFACE]", doc: "give an interface a MAC address", run: func(c *call, n *node) (starlark.Value, error) {
			return n.atPort(c, 1, (*port).setMAC)
		}},
	}
}

func (n *node) numbered(put func(*starlark.Dict, starlark.Int, *port) error) (starlark.Value, error) {
	ports, err := n.portsOf()
	if err != nil {
		return nil, err
	}
	d := starlark.NewDict(len(ports))
	for _, p := range ports {
		number := 0 // lo
		if p.name != loopback {
			i, err := p.planned()
			if err != nil {
				return nil, err
			}
			number = i.Port
		}
		if err := put(d, starlark.MakeInt(number), p); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func connectionsTo(c *call, n *node) (starlark.Value, error) {
	if _, err := n.w.running(); err != nil {
		return nil, err
	}
	var v starlark.Value
	if err := c.take([]string{"node"}, &v); err != nil {
		return nil, err
	}
	other, err := textOf(v, "a node or its name")
	if err != nil {
		return nil, err
	}
	found, err := n.w.between(n.name, other)
	if err != nil {
		return nil, err
	}
	var pairs []starlark.Tuple
	for _, l := range found {
		near, far := &port{n.w, l.a, l.ends[0]}, &port{n.w, l.b, l.ends[1]}
		if l.a != n.name {
			near, far = far, near
		}
		pairs = append(pairs, starlark.Tuple{near, far})
	}
	return listOf(pairs), c.done()
}

// atPort calls f for the interface that a call names at place at or as intf, or for the
// default one.
func (n *node) atPort(c *call, at int, f func(*port, *call) (starlark.Value, error)) (starlark.Value, error) {
	var which starlark.Value
	rest := *c
	if len(c.args) > at {
		which, rest.args = c.args[at], slices.Delete(slices.Clone(c.args), at, at+1)
	}
	if i := slices.IndexFunc(c.kwargs, func(kv starlark.Tuple) bool { return kv[0] == starlark.String("intf") }); i >= 0 {
		which, rest.kwargs = c.kwargs[i][1], slices.Delete(slices.Clone(c.kwargs), i, i+1)
	}
	p, err := n.port(which)
	if err != nil {
		return nil, err
	}
	return f(p, &rest)
}

// setIP gives the interface an address, as Mininet's setIP(ip, prefixLen=8).
func (p *port) setIP(c *call) (starlark.Value, error) {
	var address, length starlark.Value = nil, starlark.MakeInt(8)
	if err := c.take([]string{"ip", "prefixLen?"}, &address, &length); err != nil {
		return nil, err
	}
	text, err := textOf(address, "an address, such as '10.0.0.1' or '10.0.0.1/24'")
	if err != nil {
		return nil, err
	}
	a, err := parsePrefix(text)
	if err != nil {
		return nil, err
	}
	if !a.Addr().Is4() {
		return nil, fmt.Errorf("%s is not an IPv4 address", a)
	}
	if a.Addr().String() == text { // without a length
		bits, err := starlark.AsInt32(length)
		if err != nil || bits < 0 || bits > 32 {
			return nil, fmt.Errorf("prefixLen: %s is not from 0 to 32", shortly(length))
		}
		a = netip.PrefixFrom(a.Addr(), bits)
	}
	if err := c.done("ip", "prefixLen", "intf"); err != nil {
		return nil, err
	}
	i, err := p.planned()
	if err != nil {
		return nil, err
	}
	dev := Quote(i.Device)
	if err := p.command(c, "ip -4 addr flush dev "+dev+" && ip addr add "+a.String()+" dev "+dev+" && ip link set "+dev+" up"); err != nil {
		return nil, err
	}
	l := p.w.live
	l.mu.Lock()
	l.ips[p.end()] = a.Addr()
	l.mu.Unlock()
	return starlark.None, nil
}

// setMAC gives the interface a MAC address.
func (p *port) setMAC(c *call) (starlark.Value, error) {
	var v starlark.Value
	if err := c.take([]string{"mac"}, &v); err != nil {
		return nil, err
	}
	mac, err := textOf(v, "a MAC address, such as '02:00:00:00:00:01'")
	if err != nil {
		return nil, err
	}
	if err := c.done("mac", "intf"); err != nil {
		return nil, err
	}
	i, err := p.planned()
	if err != nil {
		return nil, err
	}
	if err := p.command(c, "ip link set "+Quote(i.Device)+" address "+Quote(mac)); err != nil {
		return nil, err
	}
	l := p.w.live
	l.mu.Lock()
	l.macs[p.end()] = mac
	l.mu.Unlock()
	return starlark.None, nil
}

// command runs a command at the interface's node; that it fails is an error.
func (p *port) command(c *call, line string) error {
	out, status, err := p.w.live.shell(c, p.node, line)
	if err == nil && status != 0 {
		err = errors.New(firstLine(out, "exit status "+strconv.Itoa(status)))
	}
	return err
}
