package netfile

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"weft/topo"
)

// Of a containerlab file (.clab.yml), weft takes nodes and links. Images are not run: a node of
// kind bridge or ovs-bridge is a switch, every other a host.

func sortStrings(list []string) { slices.Sort(list) }

func readContainerlab(path string, text []byte, p Params) (topo.Spec, error) {
	f := newForeign(path, p)
	d, err := parseYAML(path, text)
	if err != nil {
		return topo.Spec{}, err
	}
	root := d.target(d.root)
	if root.Kind != yaml.MappingNode {
		f.at(root.Line, root.Column, "%s is not a lab of containerlab, which has name and topology", quote(root))
		return f.finish()
	}
	top := bag{f, d, root}
	t := top.bag("topology")
	if t.n == nil || t.n.Kind != yaml.MappingNode {
		f.at(root.Line, root.Column, "the file has no topology, which has nodes and links")
		return f.finish()
	}
	f.spec.Name = top.text("name")
	nodes := t.get("nodes")
	if nodes == nil || nodes.Kind != yaml.MappingNode {
		f.at(t.n.Line, t.n.Column, "the topology has no nodes; write nodes: {h1: {kind: linux}}")
		return f.finish()
	}
	f.uncontrolled = true
	kinds, defaults := t.bag("kinds"), t.bag("defaults")
	for _, e := range d.entries(nodes) {
		f.labNode(e.key, bag{f, d, d.target(e.value)}, kinds, defaults)
	}
	for _, l := range t.list("links") {
		f.labLink(l)
	}
	f.errs = append(f.errs, d.errs...)
	if slices.ContainsFunc(f.spec.Switches, func(s topo.Switch) bool { return s.Driver != topo.DriverLinux }) {
		f.note("switches are bridges that learn, without a controller, as in containerlab")
	}
	return f.finish()
}

func (f *foreign) labNode(key *yaml.Node, b bag, kinds, defaults bag) {
	kind := b.text("kind")
	if kind == "" {
		kind = defaults.text("kind")
	}
	value := func(name string) string {
		for _, from := range []bag{b, kinds.bag(kind), defaults} {
			if v := from.text(name); v != "" {
				return v
			}
		}
		return ""
	}
	switch kind {
	case "bridge":
		f.addSwitch(topo.Switch{Name: key.Value, Driver: topo.DriverLinux}, key.Line, key.Column)
		return
	case "ovs-bridge":
		f.addSwitch(topo.Switch{Name: key.Value, Driver: topo.DriverOVSBridge}, key.Line, key.Column)
		return
	case "":
		f.at(key.Line, key.Column, "%s has no kind; write kind: linux", key.Value)
		return
	case "host", "mgmt-net", "macvlan":
		f.note("%s of kind %s is a host of the network's own, not the machine", key.Value, kind)
	}
	if image := value("image"); image != "" {
		f.note("the image %s of %s is not run: it is a host with this machine's programs", image, key.Value)
	}
	f.addHost(topo.Host{Name: key.Value}, key.Line, key.Column)
	if exec := b.get("exec"); exec != nil && exec.Kind == yaml.SequenceNode {
		for _, c := range exec.Content {
			c = b.d.target(c)
			if c.Kind != yaml.ScalarNode {
				f.at(c.Line, c.Column, "exec: %s is not a command", quote(c))
				continue
			}
			f.addCommand(topo.Command{Node: key.Value, Command: c.Value}, c.Line, c.Column)
		}
	}
	for _, name := range []string{"binds", "ports", "startup-config", "cmd", "entrypoint", "env", "license"} {
		if b.get(name) != nil {
			f.note("%s of %s is left out", name, key.Value)
		}
	}
}

// labLink reads a link: {endpoints: ["a:eth1", "b:eth1"]}, or of type veth with maps.
func (f *foreign) labLink(b bag) {
	if kind := b.text("type"); kind != "" && kind != "veth" {
		f.note("line %d: a link of type %s is left out", b.n.Line, kind)
		return
	}
	ends := b.get("endpoints")
	if ends == nil || ends.Kind != yaml.SequenceNode || len(ends.Content) != 2 {
		f.at(b.n.Line, b.n.Column, "a link has two endpoints; write endpoints: [\"h1:eth1\", \"h2:eth1\"]")
		return
	}
	var l topo.Link
	for i, e := range []*topo.LinkEnd{&l.A, &l.B} {
		n := b.d.target(ends.Content[i])
		if n.Kind == yaml.MappingNode {
			m := bag{f, b.d, n}
			e.Node, e.Interface, e.MAC = m.text("node"), m.text("interface"), m.text("mac")
		} else {
			e.Node, e.Interface, _ = strings.Cut(n.Value, ":")
		}
		if e.Node == "host" || e.Node == "mgmt-net" || e.Node == "macvlan" {
			f.note("line %d: a link to %s is left out", n.Line, e.Node)
			return
		}
		if node, ok := f.nodes[e.Node]; !ok {
			f.at(n.Line, n.Column, "there is no node %q", e.Node)
			return
		} else if node.kind == switchKind {
			e.Interface = "" // whose name is the bridge's business
		}
	}
	if mtu := b.text("mtu"); mtu != "" {
		if err := l.LinkSettings.Set("mtu=" + mtu); err != nil {
			f.at(b.n.Line, b.n.Column, "%v", err)
		}
	}
	f.addLink(l, b.n.Line, b.n.Column)
}
