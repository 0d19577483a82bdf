package netfile

import (
	"errors"

	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"weft/topo"
)

// What stands between the ends of a link. Joined links ends one by one, or one with many;
// crossed links each with every other.
const (
	joined  = "--"
	crossed = "><"
)

const linkExample = "write for example `h1 -- s1`, or `h1 -- s1: {delay: 5ms}`"

func (b *builder) readLinks(n *yaml.Node) {
	// Most are one link.
	b.spec.Links = slices.Grow(b.spec.Links, len(n.Content))
	b.origins[linkKind] = slices.Grow(b.origins[linkKind], len(n.Content))
	switch n.Kind {
	case yaml.SequenceNode:
		for _, c := range n.Content {
			b.readLink(b.target(c))
		}
	case yaml.MappingNode:
		for _, e := range b.entries(n) {
			b.shortLink(e.key, b.target(e.value))
		}
	default:
		b.at(n.Line, n.Column, "%s is not a list of links; %s", quote(n), linkExample)
	}
}

// readLink reads an element of the list of links.
func (b *builder) readLink(n *yaml.Node) {
	switch {
	case n.Kind == yaml.ScalarNode && !isNull(n):
		b.shortLink(n, nil)
	case n.Kind == yaml.SequenceNode && len(n.Content) == 2:
		x, y := b.target(n.Content[0]), b.target(n.Content[1])
		b.link(n, b.end(x), b.end(y), false, nil)
	case n.Kind == yaml.MappingNode:
		if len(n.Content) == 2 {
			if key := b.target(n.Content[0]); strings.ContainsAny(key.Value, " \t") {
				b.shortLink(key, b.target(n.Content[1]))
				return
			}
		}
		b.longLink(n)
	default:
		b.at(n.Line, n.Column, "%s is not a link; %s", quote(n), linkExample)
	}
}

// shortLink reads `A -- B` with or without settings.
func (b *builder) shortLink(n, settings *yaml.Node) {
	words := strings.Fields(n.Value)
	switch {
	case len(words) == 3 && (words[1] == joined || words[1] == crossed):
		b.link(n, b.endText(n, words[0]), b.endText(n, words[2]), words[1] == crossed, settings)
	case strings.Contains(n.Value, "{"):
		b.at(n.Line, n.Column, "%q is not a link: there is no colon before the {; write `A -- B: {...}`", n.Value)
	default:
		b.at(n.Line, n.Column, "%q is not a link; %s", n.Value, linkExample)
	}
}

// longLink reads {a: END, b: END, ...}.
func (b *builder) longLink(n *yaml.Node) {
	var x, y []topo.LinkEnd
	given := map[string]bool{}
	for _, e := range b.entries(n) {
		switch e.key.Value {
		case "a":
			x = b.end(b.target(e.value))
		case "b":
			y = b.end(b.target(e.value))
		}
		given[e.key.Value] = true
	}
	if !given["a"] || !given["b"] {
		b.at(n.Line, n.Column, "the link has no a or no b; write {a: NODE, b: NODE, ...}, or `A -- B: {...}`")
		return
	}
	b.link(n, x, y, false, n)
}

// end reads an end of a link: text, or a map of settings with node.
func (b *builder) end(n *yaml.Node) []topo.LinkEnd {
	switch {
	case n.Kind == yaml.ScalarNode && !isNull(n):
		if len(strings.Fields(n.Value)) != 1 {
			b.at(n.Line, n.Column, "%q is not one node; write its name", n.Value)
			return nil
		}
		return b.endText(n, strings.TrimSpace(n.Value))
	case n.Kind == yaml.MappingNode:
		var e topo.LinkEnd
		before := len(b.errs)
		b.decoder.settings("the end of a link", n, &e, nil, nil)
		if e.Node == "" && len(b.errs) == before {
			b.at(n.Line, n.Column, "the end of the link has no node; write {node: NAME, ...}")
		}
		if e.Node == "" || !b.isEnd(n, e.Node) {
			return nil
		}
		return []topo.LinkEnd{e}
	}
	b.at(n.Line, n.Column, "%s is not the end of a link; write a name, or {node: NAME, port: 1, ...}", quote(n))
	return nil
}

// isEnd is isNode for the ends of links, which may be outside.
func (b *builder) isEnd(n *yaml.Node, name string) bool {
	return topo.Outside(name) || b.isNode(n, name)
}

// endText reads NODES, NODES/PORT or NODES/INTERFACE, with ranges.
func (b *builder) endText(n *yaml.Node, text string) []topo.LinkEnd {
	var list []topo.LinkEnd
	for _, one := range b.names(n, text) {
		name, port, hasPort := one, "", false
		if !strings.HasPrefix(one, topo.MemifPrefix) { // which a path follows
			name, port, hasPort = strings.Cut(one, "/")
		}
		members, isGroup := b.groups[name]
		if !isGroup {
			if !b.isEnd(n, name) {
				return nil
			}
			members = []string{name}
		}
		for _, m := range members {
			e := topo.LinkEnd{Node: m}
			if hasPort {
				if v, err := strconv.Atoi(port); err == nil {
					e.Port = &v
				} else {
					e.Interface = port
				}
			}
			list = append(list, e)
		}
	}
	return list
}

// link adds the links between two lists of ends.
func (b *builder) link(n *yaml.Node, x, y []topo.LinkEnd, cross bool, settings *yaml.Node) {
	if len(x) == 0 || len(y) == 0 {
		return // and the errors say why
	}
	var pairs [][2]topo.LinkEnd
	switch {
	case cross:
		pairs = crossing(x, y)
	case len(x) == len(y), len(x) == 1, len(y) == 1:
		for i := range max(len(x), len(y)) {
			pairs = append(pairs, [2]topo.LinkEnd{x[min(i, len(x)-1)], y[min(i, len(y)-1)]})
		}
	default:
		b.at(n.Line, n.Column, "%d ends on one side and %d on the other cannot be paired; write as many on both, one on one side, or >< for each with every", len(x), len(y))
		return
	}
	if len(b.spec.Links)+len(pairs) > topo.MaxLinks {
		b.at(n.Line, n.Column, "the network has more than %d links", topo.MaxLinks)
		return
	}
	outside := slices.ContainsFunc(append(x, y...), func(e topo.LinkEnd) bool { return topo.Outside(e.Node) })
	options, layers := b.allOptions(settings, !outside)
	s, ok := b.linkSettings(options, n)
	if !ok {
		return
	}
	for _, p := range pairs {
		b.spec.Links = append(b.spec.Links, topo.Link{A: p[0], B: p[1], LinkSettings: s})
		b.origins[linkKind] = append(b.origins[linkKind], origin{name: n, layers: layers})
	}
}

// crossing pairs each of x with every of y but itself, and no two twice.
func crossing(x, y []topo.LinkEnd) (pairs [][2]topo.LinkEnd) {
	if len(x)*len(y) > topo.MaxLinks*2 {
		return make([][2]topo.LinkEnd, topo.MaxLinks+1) // too many
	}
	seen := map[[2]string]bool{}
	for _, a := range x {
		for _, c := range y {
			if a.Node == c.Node || seen[[2]string{c.Node, a.Node}] {
				continue
			}
			seen[[2]string{a.Node, c.Node}] = true
			pairs = append(pairs, [2]topo.LinkEnd{a, c})
		}
	}
	return pairs
}

// An option is a setting of links as topo.LinkSettings.Set takes it, and its place.
type option struct {
	text string
	at   *yaml.Node
}

// allOptions returns the options of a link, those of all links among them, unless an end is outside.
func (b *builder) allOptions(settings *yaml.Node, withDefaults bool) (options []option, layers []layer) {
	if d := b.defaults[linkKind]; d != nil && withDefaults {
		options, _ = b.linkOptions(d)
		layers = append(layers, layer{d, 0, 1})
	}
	if settings == nil || isNull(settings) {
		return options, layers
	}
	own, ok := b.linkOptions(settings)
	if !ok {
		return nil, nil
	}
	// An own option takes the place of one of the same name.
	options = slices.DeleteFunc(options, func(o option) bool {
		return slices.ContainsFunc(own, func(p option) bool { return optionName(p.text) == optionName(o.text) })
	})
	return append(options, own...), append(layers, layer{settings, 0, 1})
}

func optionName(text string) string {
	name, _, _ := strings.Cut(text, "=")
	return name
}

// linkOptions turns a map of settings into options; the maps ab and ba are for one direction.
func (b *builder) linkOptions(n *yaml.Node) (options []option, ok bool) {
	if isNull(n) {
		return nil, true
	}
	if n.Kind != yaml.MappingNode {
		b.at(n.Line, n.Column, "%s is not a map of a link's settings; write for example {delay: 5ms, bw: 10}", quote(n))
		return nil, false
	}
	before := len(b.errs)
	for _, e := range b.entries(n) {
		name, v := e.key.Value, b.target(e.value)
		switch {
		case name == "a" || name == "b":
		case (name == "ab" || name == "ba") && v.Kind == yaml.MappingNode:
			for _, inner := range b.entries(v) {
				b.linkOption(&options, name+":"+inner.key.Value, inner.key, b.target(inner.value))
			}
		case name == "ab" || name == "ba":
			b.at(v.Line, v.Column, "%s: %s is not a map of settings for one direction; write for example {delay: 5ms}", name, quote(v))
		default:
			b.linkOption(&options, name, e.key, v)
		}
	}
	return options, len(b.errs) == before
}

func (b *builder) linkOption(options *[]option, name string, key, v *yaml.Node) {
	if v.Kind != yaml.ScalarNode {
		b.at(v.Line, v.Column, "%s: %s is not a value; write text or a number", name, quote(v))
		return
	}
	_, bare, way := strings.Cut(name, ":")
	if !way {
		bare = name
	}
	names := b.linkNames()
	if i := slices.IndexFunc(names, func(k topo.LinkKey) bool { return k.Name == bare }); i < 0 {
		var known []string
		for _, k := range names {
			known = append(known, k.Name)
		}
		b.at(key.Line, key.Column, "%s", unknown("setting % of a link", bare, append(known, "ab", "ba")))
		return
	}
	value := v.Value
	if isNull(v) {
		b.at(v.Line, v.Column, "%s: the value is missing; write one, or 0 for none", name)
		return
	}
	*options = append(*options, option{name + "=" + value, v})
}

// linkNames are the settings of links.
func (b *builder) linkNames() []topo.LinkKey {
	if b.linkKeys == nil {
		b.linkKeys = topo.LinkKeys()
	}
	return b.linkKeys
}

// linkSettings makes settings of options; those of a link are often those of another.
func (b *builder) linkSettings(options []option, n *yaml.Node) (s topo.LinkSettings, ok bool) {
	texts := make([]string, len(options))
	for i, o := range options {
		texts[i] = o.text
	}
	id := strings.Join(texts, "\n")
	if s, ok := b.settings[id]; ok {
		return s, true
	}
	if err := s.Set(texts...); err != nil {
		var each topo.OptionErrors
		errors.As(err, &each)
		for _, e := range each {
			at := n
			if e.Option >= 0 {
				at = options[e.Option].at
			}
			for line := range strings.Lines(e.Err.Error()) {
				b.at(at.Line, at.Column, "%s", strings.TrimSpace(line))
			}
		}
		return s, false
	}
	b.settings[id] = s
	return s, true
}

// readCommands reads a list of commands: {node, command, at, timeout}, or NODES: COMMAND.
func (b *builder) readCommands(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		b.at(n.Line, n.Column, "%s is not a list of commands; write for example `- h1: ping -c1 h2`", quote(n))
		return
	}
	for _, c := range n.Content {
		if c = b.target(c); c.Kind != yaml.MappingNode {
			b.at(c.Line, c.Column, "%s is not a command; write for example `h1: ping -c1 h2`", quote(c))
			continue
		}
		b.readCommand(c)
	}
}

func (b *builder) readCommand(n *yaml.Node) {
	list := b.entries(n)
	var cmd topo.Command
	if len(list) == 1 && list[0].key.Value != "node" && list[0].key.Value != "command" {
		key, v := list[0].key, b.target(list[0].value)
		if v.Kind == yaml.MappingNode {
			b.decoder.settings("a command", v, &cmd, []string{"node"}, nil)
		} else {
			b.assign(v, reflect.ValueOf(&cmd.Command).Elem(), "command")
		}
		b.addCommand(key, key.Value, cmd, v)
		return
	}
	before := len(b.errs)
	b.decoder.settings("a command", n, &cmd, nil, nil)
	if len(b.errs) > before {
		return
	}
	if cmd.Node == "" {
		b.at(n.Line, n.Column, "the command has no node; write {node: NAME, command: ...}, or NAME: COMMAND")
		return
	}
	b.addCommand(n, cmd.Node, cmd, n)
}

func (b *builder) addCommand(n *yaml.Node, names string, cmd topo.Command, settings *yaml.Node) {
	for word := range strings.FieldsSeq(names) {
		for _, name := range b.named(n, word) {
			cmd.Node = name
			b.spec.Commands = append(b.spec.Commands, cmd)
			b.commands = append(b.commands, origin{name: n, layers: []layer{{settings, 0, 1}}})
		}
	}
}

// explain says where in the file the errors of topo are. Where there is one already, another
// would only follow from it.
func (b *builder) explain(err error) {
	known := map[[2]int]bool{}
	for _, e := range b.errs {
		known[[2]int{e.Line, e.Column}] = true
	}
	for _, e := range flatten(err) {
		line, column := b.locate(e)
		if known[[2]int{line, column}] {
			continue
		}
		text := e.Error()
		for part := range strings.Lines(text) {
			b.at(line, column, "%s", strings.TrimSpace(part))
		}
	}
}

// flatten returns the errors that were joined.
func flatten(err error) (list []error) {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			list = append(list, flatten(e)...)
		}
		return list
	}
	return []error{err}
}

// locate finds the place of an error of topo: the setting, or the entry that has it.
func (b *builder) locate(err error) (line, column int) {
	var f *topo.Fault
	if !errors.As(err, &f) {
		return 0, 0
	}
	list := map[string][]origin{
		string(hostKind): b.origins[hostKind], string(switchKind): b.origins[switchKind], string(controllerKind): b.origins[controllerKind],
		string(linkKind): b.origins[linkKind], "command": b.commands, "": {{layers: b.wholeFile()}},
	}[f.Kind]
	if f.Index >= len(list) {
		return 0, 0
	}
	o := list[f.Index]
	at := o.name
	if f.Field != "name" || f.Kind == "" {
		for _, l := range slices.Backward(o.layers) {
			n := b.find(l.node, strings.Split(f.Field, "."))
			if beside, ok := strings.CutPrefix(f.Field, "dpdk."); ok && n == nil {
				n = b.find(l.node, []string{beside})
			}
			if n != nil {
				at = n
				break
			}
		}
	}
	if at == nil {
		return 0, 0
	}
	return at.Line, at.Column
}

// wholeFile are the places of settings of the network.
func (b *builder) wholeFile() (list []layer) {
	root := b.target(b.root)
	list = append(list, layer{node: root})
	for _, e := range b.entries(root) {
		if e.key.Value == "addressing" {
			list = append(list, layer{node: b.target(e.value)})
		}
	}
	return list
}

// find returns the value at a path of names, or nil.
func (b *builder) find(n *yaml.Node, path []string) *yaml.Node {
	for _, name := range path {
		if n.Kind != yaml.MappingNode {
			return nil
		}
		var next *yaml.Node
		for _, e := range b.entries(n) {
			if e.key.Value == name {
				next = b.target(e.value)
			}
		}
		if next == nil {
			return nil
		}
		n = next
	}
	return n
}
