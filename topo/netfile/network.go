package netfile

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"weft/topo"
)

// The order in which a network is put together:
//
//	topo ─► names (controllers, switches, hosts) ─► groups ─► settings ─► links ─► run ─► checks
//	                                                             ▲
//	                                          defaults, groups, a node's own

// A kind is that of a node, as files call it.
type kind string

const (
	hostKind       kind = "host"
	switchKind     kind = "switch"
	controllerKind kind = "controller"
	linkKind       kind = "link"
)

// A layer is settings for nodes, with the place of ranges in them.
type layer struct {
	node        *yaml.Node
	step, steps int
}

// An origin is where a node, link or command comes from.
type origin struct {
	name   *yaml.Node
	layers []layer // the first under of them are those of groups
	under  int
}

// A node is one that the file names.
type node struct {
	kind kind
	at   int // in its list
}

// builder makes a Spec of a document.
type builder struct {
	decoder
	spec     topo.Spec
	shape    *yaml.Node // the value of topo
	nodes    map[string]node
	groups   map[string][]string
	defaults map[kind]*yaml.Node
	origins  map[kind][]origin
	commands []origin
	settings map[string]topo.LinkSettings // by their options, those met before
	// uncontrolled says that the file wants no controller.
	uncontrolled bool
	// dpdk are the switches of section dpdk, which are no others.
	dpdk      map[string]bool
	suggested int
	linkKeys  []topo.LinkKey
}

// readYAML builds the network of a YAML or JSON text.
func readYAML(name string, text []byte, files beside) (topo.Spec, error) {
	d, err := parseYAML(name, text)
	if err != nil {
		return topo.Spec{}, err
	}
	return readDocument(d, files)
}

// readDocument builds the network of a document.
func readDocument(d *document, files beside) (topo.Spec, error) {
	b := &builder{
		decoder: decoder{document: d, fields: &fieldLists{}, bits: [2]int{8, 64}, beside: files, steps: 1},
		nodes:   map[string]node{}, groups: map[string][]string{}, defaults: map[kind]*yaml.Node{},
		origins: map[kind][]origin{}, dpdk: map[string]bool{}, settings: map[string]topo.LinkSettings{},
	}
	b.build()
	if err := d.err(); err != nil {
		return topo.Spec{}, err
	}
	return b.spec, nil
}

// A section is a key of the file.
type section struct {
	name string
	doc  string
	read func(b *builder, n *yaml.Node)
}

// sections lists the keys of a file in the order in which they are read.
func sections() []section {
	return []section{
		{"$schema", "the JSON Schema of this file, for editors", func(b *builder, n *yaml.Node) {}},
		{"name", "of the network, unique among your running networks", func(b *builder, n *yaml.Node) {
			b.assign(n, reflect.ValueOf(&b.spec.Name).Elem(), "name")
		}},
		{"seed", "of chance on impaired links: the same seed gives the same run", func(b *builder, n *yaml.Node) {
			b.assign(n, reflect.ValueOf(&b.spec.Seed).Elem(), "seed")
		}},
		{"addressing", "how hosts get the addresses that nobody gives", (*builder).addressing},
		{"topo", "a shape to start from, as of --topo: tree,2,2", (*builder).generate},
		{"defaults", "settings for all hosts, switches, controllers or links that do not say otherwise", (*builder).readDefaults},
		{"controllers", "the controllers; none for none. Without this there is weft's own", (*builder).readControllers},
		{"switches", "the switches: names, or a map of names with settings", func(b *builder, n *yaml.Node) {
			b.readNodes(switchKind, n)
		}},
		{"dpdk", "the DPDK nodes: a map of names with their NFs and chains", (*builder).readDPDK},
		{"hosts", "the hosts: names, or a map of names with settings", func(b *builder, n *yaml.Node) {
			b.readNodes(hostKind, n)
		}},
		{"groups", "names for several nodes, and settings for all of them", (*builder).readGroups},
		{"links", "what joins two nodes", (*builder).readLinks},
		{"run", "commands on nodes when the network is up, or later", (*builder).readCommands},
	}
}

func (b *builder) build() {
	root := b.target(b.root)
	switch {
	case isNull(root):
		b.at(root.Line, root.Column, "the file is empty; write for example `topo: tree,2,2`")
		return
	case root.Kind != yaml.MappingNode:
		b.at(root.Line, root.Column, "%s is not a network; write for example `topo: tree,2,2`, or hosts, switches and links", quote(root))
		return
	}
	given := map[string]*yaml.Node{}
	list := sections()
	for _, e := range b.entries(root) {
		name := e.key.Value
		if !slices.ContainsFunc(list, func(s section) bool { return s.name == name }) {
			var names []string
			for _, s := range list[1:] { // but $schema
				names = append(names, s.name)
			}
			b.at(e.key.Line, e.key.Column, "%s", unknown("section %", name, names))
			continue
		}
		given[name] = b.target(e.value)
	}
	for _, s := range list {
		if n := given[s.name]; n != nil && (!isNull(n) || s.name == "name") {
			s.read(b, n)
		}
		if s.name == "groups" {
			b.applySettings()
		}
	}
	if len(b.spec.Controllers) == 0 && !b.uncontrolled {
		b.spec.Controllers = []topo.Controller{{Name: freeName("c", b.nodes), Kind: topo.ControllerBuiltin}}
		b.origins[controllerKind] = []origin{{name: root}}
	}
	if len(b.spec.Hosts)+len(b.spec.Switches) == 0 {
		if len(b.errs) > 0 {
			return
		}
		b.at(root.Line, root.Column, "the file has no hosts and no switches; write for example `topo: tree,2,2`, or hosts, switches and links")
		return
	}
	if err := b.spec.Validate(); err != nil {
		b.explain(err)
	}
}

// freeName is the first of c0, c1 and so on that no node has.
func freeName(prefix string, nodes map[string]node) string {
	for i := 0; ; i++ {
		name := fmt.Sprint(prefix, i)
		if _, taken := nodes[name]; !taken {
			return name
		}
	}
}

func (b *builder) addressing(n *yaml.Node) {
	a := &b.spec.Addressing
	b.decoder.settings("addressing", n, a, nil, nil)
	if a.IPBase.IsValid() {
		b.bits[0] = a.IPBase.Bits()
	}
	if a.IP6Base.IsValid() {
		b.bits[1] = a.IP6Base.Bits()
	}
}

func (b *builder) generate(n *yaml.Node) {
	text, ok := b.text(n, "topo", "a shape, such as tree,2,2")
	if !ok {
		return
	}
	s, err := topo.Generate(text)
	if err != nil {
		b.at(n.Line, n.Column, "%v", err)
		return
	}
	b.shape = n
	b.spec.Hosts, b.spec.Switches, b.spec.Links = s.Hosts, s.Switches, s.Links
	for i, h := range s.Hosts {
		b.nodes[h.Name] = node{hostKind, i}
	}
	for i, sw := range s.Switches {
		b.nodes[sw.Name] = node{switchKind, i}
	}
	all := func(count int) []origin { return slices.Repeat([]origin{{name: n}}, count) }
	b.origins = map[kind][]origin{hostKind: all(len(s.Hosts)), switchKind: all(len(s.Switches)), linkKind: all(len(s.Links))}
}

func (b *builder) readDefaults(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		b.at(n.Line, n.Column, "%s is not a map; write for example `link: {delay: 5ms}`", quote(n))
		return
	}
	kinds := []string{string(hostKind), string(switchKind), string(controllerKind), string(linkKind)}
	for _, e := range b.entries(n) {
		if !slices.Contains(kinds, e.key.Value) {
			b.at(e.key.Line, e.key.Column, "%s", unknown("kind % of node or link", e.key.Value, kinds))
			continue
		}
		b.defaults[kind(e.key.Value)] = b.target(e.value)
	}
	// The links of the shape have these settings; those of links that the file has get them
	// with their own.
	if d := b.defaults[linkKind]; d != nil {
		options, _ := b.linkOptions(d)
		if s, ok := b.linkSettings(options, d); ok {
			for i := range b.spec.Links {
				b.spec.Links[i].LinkSettings = s
			}
		}
	}
}

// add enters a node under a name that n gives.
func (b *builder) add(k kind, name string, n *yaml.Node) (at int, ok bool) {
	if have, taken := b.nodes[name]; taken {
		first := b.origins[have.kind][have.at]
		if have.kind == k && first.name == b.shape {
			b.origins[k][have.at].name = n // which has settings for a node of the shape
			return have.at, true
		}
		b.at(n.Line, n.Column, "there is a %s %s already, in line %d; choose another name", have.kind, name, first.name.Line)
		return 0, false
	}
	if len(b.nodes) >= topo.MaxNodes {
		b.at(n.Line, n.Column, "the network has more than %d nodes", topo.MaxNodes)
		return 0, false
	}
	switch k {
	case hostKind:
		at = len(b.spec.Hosts)
		b.spec.Hosts = append(b.spec.Hosts, topo.Host{Name: name})
	case switchKind:
		at = len(b.spec.Switches)
		b.spec.Switches = append(b.spec.Switches, topo.Switch{Name: name})
	case controllerKind:
		at = len(b.spec.Controllers)
		b.spec.Controllers = append(b.spec.Controllers, topo.Controller{Name: name})
	}
	b.nodes[name] = node{k, at}
	b.origins[k] = append(b.origins[k], origin{name: n})
	return at, true
}

// names expands a text with ranges.
func (b *builder) names(n *yaml.Node, text string) []string {
	list, err := expand(text, topo.MaxNodes)
	if err != nil {
		b.at(n.Line, n.Column, "%v", err)
	}
	return list
}

// readNodes reads names, or a map of names with settings, or a list of either.
func (b *builder) readNodes(k kind, n *yaml.Node) {
	switch n.Kind {
	case yaml.ScalarNode:
		for word := range strings.FieldsSeq(n.Value) {
			b.addAll(k, n, word, nil)
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			c = b.target(c)
			switch {
			case c.Kind == yaml.ScalarNode && !isNull(c):
				b.readNodes(k, c)
			case c.Kind == yaml.MappingNode:
				b.readEntry(k, c)
			default:
				b.at(c.Line, c.Column, "%s is not a %s; write its name", quote(c), k)
			}
		}
	case yaml.MappingNode:
		for _, e := range b.entries(n) {
			if name := e.key.Value; len(strings.Fields(name)) != 1 {
				b.at(e.key.Line, e.key.Column, "%q is not a name; write one, or a range such as h[1-4]", name)
				continue
			}
			b.addAll(k, e.key, e.key.Value, b.target(e.value))
		}
	}
}

// readEntry reads a node of a list that is a map with its name, as JSON has it.
func (b *builder) readEntry(k kind, n *yaml.Node) {
	for _, e := range b.entries(n) {
		if e.key.Value != "name" {
			continue
		}
		v := b.target(e.value)
		name, ok := b.text(v, "name", "a name")
		if !ok {
			return
		}
		if at, ok := b.add(k, name, v); ok {
			b.layer(k, at, layer{n, 0, 1})
		}
		return
	}
	b.at(n.Line, n.Column, "the %s has no name; write {name: NAME, ...}, or NAME: {...} without a dash before it", k)
}

// addAll adds the nodes for which text stands, with their settings.
func (b *builder) addAll(k kind, n *yaml.Node, text string, settings *yaml.Node) {
	all := b.names(n, text)
	for i, name := range all {
		at, ok := b.add(k, name, n)
		if ok && settings != nil && !isNull(settings) {
			b.layer(k, at, layer{settings, i, len(all)})
		}
	}
}

// layer adds settings to a node, over those that it has.
func (b *builder) layer(k kind, at int, l layer) {
	o := &b.origins[k][at]
	o.layers = append(o.layers, l)
}

func (b *builder) readControllers(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Value == "none" || n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		b.uncontrolled = true
		return
	}
	before := len(b.errs)
	b.readNodes(controllerKind, n)
	b.uncontrolled = len(b.errs) > before // and the errors say it
	for i, c := range b.spec.Controllers {
		if slices.Contains(topo.ControllerKind("").Words(), c.Name) && len(b.origins[controllerKind][i].layers) == 0 {
			o := b.origins[controllerKind][i].name
			b.at(o.Line, o.Column, "%s is a kind of controller; write c0: %s", c.Name, c.Name)
		}
	}
}

func (b *builder) readGroups(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		b.at(n.Line, n.Column, "%s is not a map of groups; write for example `clients: h[1-4]`", quote(n))
		return
	}
	for _, e := range b.entries(n) {
		name, v := e.key.Value, b.target(e.value)
		if have, taken := b.nodes[name]; taken {
			b.at(e.key.Line, e.key.Column, "%s is a %s; choose another name for the group", name, have.kind)
			continue
		}
		members := v
		if v.Kind == yaml.MappingNode {
			members = nil
			for _, inner := range b.entries(v) {
				if inner.key.Value == "nodes" {
					members = b.target(inner.value)
				}
			}
		}
		if members == nil || isNull(members) {
			b.at(e.key.Line, e.key.Column, "the group %s has no nodes; write for example `nodes: h[1-4]`", name)
			continue
		}
		list := b.members(members)
		b.groups[name] = list
		if v.Kind == yaml.MappingNode && len(v.Content) > 2 {
			b.groupSettings(e.key, v, list)
		}
	}
}

// members returns the nodes that a text or list of texts names.
func (b *builder) members(n *yaml.Node) (list []string) {
	switch n.Kind {
	case yaml.ScalarNode:
		for word := range strings.FieldsSeq(n.Value) {
			list = append(list, b.named(n, word)...)
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			if c = b.target(c); c.Kind != yaml.ScalarNode || isNull(c) {
				b.at(c.Line, c.Column, "%s is not the name of a node", quote(c))
				continue
			}
			list = append(list, b.members(c)...)
		}
	default:
		b.at(n.Line, n.Column, "%s is not a list of nodes; write for example h[1-4] s1", quote(n))
	}
	return list
}

// named returns the hosts and switches for which a word stands: names, ranges and groups.
func (b *builder) named(n *yaml.Node, word string) (list []string) {
	for _, name := range b.names(n, word) {
		if members, ok := b.groups[name]; ok {
			list = append(list, members...)
			continue
		}
		if b.isNode(n, name) {
			list = append(list, name)
		}
	}
	return list
}

// maxSuggested bounds the search for names that were perhaps meant.
const maxSuggested = 20

// isNode notes that there is no host or switch called name, if so.
func (b *builder) isNode(n *yaml.Node, name string) bool {
	switch have, ok := b.nodes[name]; {
	case ok && have.kind == controllerKind:
		b.at(n.Line, n.Column, "%s is a controller; write the name of a host or switch", name)
		return false
	case ok:
		return true
	}
	if b.suggested++; b.suggested > maxSuggested {
		b.at(n.Line, n.Column, "there is no node %q", name)
		return false
	}
	var names []string
	for other, have := range b.nodes {
		if have.kind != controllerKind {
			names = append(names, other)
		}
	}
	for other := range b.groups {
		names = append(names, other)
	}
	slices.Sort(names)
	b.at(n.Line, n.Column, "%s", unknown("node %", name, names))
	return false
}

// groupSettings puts the settings of a group under those of its nodes.
func (b *builder) groupSettings(key, settings *yaml.Node, list []string) {
	if len(list) == 0 {
		return
	}
	k := b.nodes[list[0]].kind
	for i, name := range list {
		have := b.nodes[name]
		if have.kind != k {
			b.at(key.Line, key.Column, "the group %s has settings, but %s is a %s and %s a %s; give each kind a group of its own", key.Value, list[0], k, name, have.kind)
			return
		}
		o := &b.origins[have.kind][have.at]
		o.layers = slices.Insert(o.layers, o.under, layer{settings, i, len(list)})
		o.under++
	}
}

// applySettings gives all nodes their settings: those of all, of their groups, their own.
func (b *builder) applySettings() {
	for i := range b.spec.Controllers {
		b.apply(controllerKind, i, &b.spec.Controllers[i])
	}
	for i := range b.spec.Switches {
		b.apply(switchKind, i, &b.spec.Switches[i])
	}
	for i := range b.spec.Hosts {
		b.apply(hostKind, i, &b.spec.Hosts[i])
	}
}

func (b *builder) apply(k kind, at int, target any) {
	o := &b.origins[k][at]
	sw, _ := target.(*topo.Switch)
	inDPDK := sw != nil && b.dpdk[sw.Name]
	if d := b.defaults[k]; d != nil && !inDPDK {
		o.layers = slices.Insert(o.layers, 0, layer{d, 0, 1})
	}
	for _, l := range o.layers {
		b.step, b.steps = l.step, l.steps
		if n := l.node; n.Kind == yaml.ScalarNode {
			b.applyText(n, target)
		} else if inDPDK && n.Kind == yaml.SequenceNode {
			sw.DPDK = &topo.DPDK{}
			b.assign(n, reflect.ValueOf(&sw.DPDK.NFs).Elem(), "nfs")
		} else {
			var nfs []entry
			b.decoder.settings("a "+string(k), n, target, []string{"name"}, func(e entry) bool {
				if sw != nil && b.isDPDK(e.key.Value) {
					nfs = append(nfs, e)
					return true
				}
				return e.key.Value == "name" || e.key.Value == "nodes" && k != controllerKind
			})
			if sw != nil && (len(nfs) > 0 || sw.Driver == topo.DriverDPDK) {
				b.dpdkSettings(nfs, &sw.DPDK)
			}
			if inDPDK && sw.Driver != topo.DriverDPDK {
				b.at(n.Line, n.Column, "driver: nodes of section dpdk have the driver dpdk; leave driver out, or write %s into section switches", sw.Name)
			}
		}
		b.step, b.steps = 0, 1
	}
	if c, ok := target.(*topo.Controller); ok && c.Kind == "" {
		c.Kind = topo.ControllerBuiltin
	}
}

// applyText gives a node the settings that one word says: a host's address, a switch or
// controller as --switch and --controller take it.
func (b *builder) applyText(n *yaml.Node, target any) {
	switch t := target.(type) {
	case *topo.Host:
		b.assign(n, reflect.ValueOf(&t.IP).Elem(), "ip")
	case *topo.Switch:
		if b.dpdk[t.Name] {
			b.chainText(n, t)
			return
		}
		s, err := topo.ParseSwitch(n.Value)
		if err != nil {
			b.at(n.Line, n.Column, "%v", err)
			return
		}
		s.Name, s.DPID = t.Name, cmp.Or(s.DPID, t.DPID)
		*t = s
	case *topo.Controller:
		list, err := topo.ParseController(n.Value)
		switch {
		case err != nil:
			b.at(n.Line, n.Column, "%v", err)
		case len(list) == 0:
			b.at(n.Line, n.Column, "none is no kind of controller; write `controllers: none` for a network without")
		default:
			list[0].Name = t.Name
			*t = list[0]
		}
	}
}
