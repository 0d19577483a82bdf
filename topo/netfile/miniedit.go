package netfile

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"weft/topo"
)

// A MiniEdit file (.mn) is JSON: hosts, switches, controllers, each with its number and opts, and
// links between their names.

// A bag is a map of a file, which is asked for values by name.
type bag struct {
	f *foreign
	d *document
	n *yaml.Node
}

// get returns a value, nil if there is none.
func (b bag) get(name string) *yaml.Node {
	if b.n == nil || b.n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(b.n.Content); i += 2 {
		if b.n.Content[i].Value == name {
			return b.d.target(b.n.Content[i+1])
		}
	}
	return nil
}

// text returns a value as text, empty if there is none.
func (b bag) text(name string) string {
	n := b.get(name)
	if n == nil || isNull(n) {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		b.f.at(n.Line, n.Column, "%s: %s is not text", name, quote(n))
		return ""
	}
	return n.Value
}

func (b bag) bag(name string) bag { return bag{b.f, b.d, b.get(name)} }

// list returns the elements of a list, which must be maps.
func (b bag) list(name string) (list []bag) {
	n := b.get(name)
	if n == nil || isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		b.f.at(n.Line, n.Column, "%s: %s is not a list", name, quote(n))
		return nil
	}
	for _, c := range n.Content {
		if c = b.d.target(c); c.Kind != yaml.MappingNode {
			b.f.at(c.Line, c.Column, "%s: %s is not a map", name, quote(c))
			continue
		}
		list = append(list, bag{b.f, b.d, c})
	}
	return list
}

func readMiniEdit(path string, text []byte, p Params) (topo.Spec, error) {
	f := newForeign(path, p)
	d, err := parseYAML(path, text)
	if err != nil {
		return topo.Spec{}, err
	}
	root := d.target(d.root)
	if root.Kind != yaml.MappingNode {
		f.at(root.Line, root.Column, "%s is not what MiniEdit saves", quote(root))
		return f.finish()
	}
	top := bag{f, d, root}
	if top.get("hosts") == nil && top.get("switches") == nil {
		f.at(root.Line, root.Column, "the file has no hosts and no switches: MiniEdit did not save it")
		return f.finish()
	}
	app := top.bag("application")
	f.uncontrolled = true
	for _, c := range top.list("controllers") {
		f.miniController(c.bag("opts"), c.n)
	}
	for _, s := range top.list("switches") {
		f.miniSwitch(s, app)
	}
	for _, h := range top.list("hosts") {
		f.miniHost(h)
	}
	if base := app.text("ipBase"); base != "" && base != topo.DefaultIPBase {
		v, err := topo.ParseIPBase(base)
		if err != nil {
			n := app.get("ipBase")
			f.at(n.Line, n.Column, "%v", err)
		}
		f.spec.Addressing.IPBase = v
	}
	for _, l := range top.list("links") {
		f.miniLink(l)
	}
	f.oneAddress()
	f.errs = append(f.errs, d.errs...)
	return f.finish()
}

// label is the name of a node: hostname, which people can change.
func (f *foreign) label(b bag, n *yaml.Node) string {
	name := b.text("hostname")
	if name == "" {
		f.at(n.Line, n.Column, "the node has no hostname")
	}
	return name
}

func (f *foreign) miniController(opts bag, n *yaml.Node) {
	name := f.label(opts, n)
	if name == "" {
		return
	}
	c := topo.Controller{Name: name, Kind: topo.ControllerBuiltin}
	if opts.text("controllerType") == "remote" {
		c.Kind, c.Address = topo.ControllerRemote, opts.text("remoteIP")
		if port := opts.text("remotePort"); port != "" {
			v, err := strconv.Atoi(port)
			if err != nil {
				f.at(n.Line, n.Column, "controller %s: %q is not a port", name, port)
			}
			c.Port = v
		}
	}
	if opts.text("controllerProtocol") == "ssl" {
		c.Transport = "ssl"
	}
	f.addController(c, n.Line, n.Column)
}

func (f *foreign) miniSwitch(b, app bag) {
	opts := b.bag("opts")
	name := f.label(opts, b.n)
	if name == "" {
		return
	}
	s := topo.Switch{Name: name}
	kind := opts.text("switchType")
	if kind == "" || kind == "default" {
		kind = app.text("switchType")
	}
	switch kind {
	case "legacySwitch":
		s.Driver = topo.DriverOVSBridge
	case "legacyRouter":
		f.addHost(topo.Host{Name: name}, b.n.Line, b.n.Column)
		f.addCommand(topo.Command{Node: name, Command: "sysctl -w net.ipv4.ip_forward=1"}, b.n.Line, b.n.Column)
		f.note("the router %s is a host that forwards; give its interfaces addresses", name)
		return
	case "user", "userns", "indigo":
		f.note("the switch %s is an Open vSwitch, not a %s switch", name, kind)
	}
	if controllers := opts.get("controllers"); controllers != nil && controllers.Kind == yaml.SequenceNode && s.Driver == "" {
		s.Controllers = []string{}
		for _, c := range controllers.Content {
			s.Controllers = append(s.Controllers, b.d.target(c).Value)
		}
	}
	if dpid := opts.text("dpid"); dpid != "" && s.Driver == "" {
		id, err := strconv.ParseUint(strings.TrimPrefix(dpid, "0x"), 16, 64)
		if err != nil {
			f.at(b.n.Line, b.n.Column, "switch %s: the dpid %q is not hexadecimal", name, dpid)
		}
		s.DPID = id
	}
	if s.Driver == "" {
		versions := app.bag("openFlowVersions")
		for of, version := range map[string]string{"ovsOf10": "OpenFlow10", "ovsOf11": "OpenFlow11", "ovsOf12": "OpenFlow12", "ovsOf13": "OpenFlow13"} {
			if versions.text(of) == "1" {
				s.Protocols = append(s.Protocols, version)
			}
		}
		sortStrings(s.Protocols)
		if len(s.Protocols) == 1 && s.Protocols[0] == "OpenFlow10" {
			s.Protocols = nil // MiniEdit's default; Open vSwitch's own is as good
		}
	}
	f.addSwitch(s, b.n.Line, b.n.Column)
	for _, what := range []string{"NetFlow", "sFlow"} {
		if opts.text(strings.ToLower(what)) == "1" {
			f.note("%s of switch %s is left out", what, name)
		}
	}
}

func (f *foreign) miniHost(b bag) {
	opts := b.bag("opts")
	name := f.label(opts, b.n)
	if name == "" {
		return
	}
	h := topo.Host{Name: name}
	if ip := opts.text("ip"); ip != "" {
		h.IP = f.prefix4(ip, b.n.Line)
	}
	if route := opts.text("defaultRoute"); route != "" {
		h.DefaultRoute = f.address(strings.TrimPrefix(route, "via "), b.n.Line)
	}
	if dirs := opts.get("privateDirectory"); dirs != nil && dirs.Kind == yaml.SequenceNode {
		for _, d := range dirs.Content {
			d = b.d.target(d)
			if d.Kind == yaml.SequenceNode && len(d.Content) > 0 {
				d = b.d.target(d.Content[0])
			}
			h.PrivateDirs = append(h.PrivateDirs, d.Value)
		}
	}
	f.addHost(h, b.n.Line, b.n.Column)
	for _, key := range []string{"cores", "cpu", "externalInterfaces", "vlanInterfaces"} {
		if n := opts.get(key); n != nil && !isNull(n) && (n.Kind == yaml.SequenceNode && len(n.Content) > 0 || n.Kind == yaml.ScalarNode && n.Value != "") {
			f.note("%s of host %s is left out", key, name)
		}
	}
	for _, key := range []string{"startCommand"} {
		if line := opts.text(key); line != "" {
			f.addCommand(topo.Command{Node: name, Command: line}, b.n.Line, b.n.Column)
		}
	}
	if opts.text("stopCommand") != "" {
		f.note("the stop command of host %s is left out", name)
	}
}

func (f *foreign) miniLink(b bag) {
	src, dest := b.text("src"), b.text("dest")
	if src == "" || dest == "" {
		f.at(b.n.Line, b.n.Column, "the link has no src or no dest")
		return
	}
	for _, name := range []string{src, dest} {
		if n, ok := f.nodes[name]; ok && n.kind == controllerKind {
			return // a picture of a control channel
		}
	}
	l := topo.Link{A: topo.LinkEnd{Node: src}, B: topo.LinkEnd{Node: dest}}
	opts := b.bag("opts")
	var options []string
	for _, key := range []string{"bw", "delay", "jitter", "loss", "max_queue_size", "speedup"} {
		v := opts.text(key)
		switch {
		case v == "" || key == "speedup":
		case (key == "delay" || key == "jitter") && strings.Trim(v, "0123456789.") == "":
			options = append(options, fmt.Sprintf("%s=%sus", key, v)) // tc's unit where there is none
		default:
			options = append(options, key+"="+v)
		}
	}
	if err := l.LinkSettings.Set(options...); err != nil {
		f.at(b.n.Line, b.n.Column, "link %s-%s: %v", src, dest, err)
	}
	f.addLink(l, b.n.Line, b.n.Column)
}
