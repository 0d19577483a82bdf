package experiment

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"

	"weft/topo/netfile"
)

// A document is a YAML file as values, with the place of each. All scalars are texts, as
// they were written: what they mean depends on who reads them.
type document struct {
	file   string
	root   *yaml.Node
	top    map[string]any
	places map[string]place
	order  map[string][]string // of the keys of a map
	errs   fieldErrors
	// foreign are errors that say their places themselves.
	foreign []error
	nodes   int
}

// A place is where a value is, and its name if it has one.
type place struct{ line, column, keyLine, keyColumn int }

// maxNodes bounds the values of a file, aliases followed.
const maxNodes = 200_000

// parseDocument reads YAML.
func parseDocument(file string, text []byte) (*document, error) {
	root, err := netfile.ParseYAML(file, text)
	if err != nil {
		return nil, err
	}
	d := newDocument(file, root)
	if d.top == nil {
		return nil, d.err()
	}
	return d, nil
}

func newDocument(file string, root *yaml.Node) *document {
	d := &document{file: file, root: root, places: map[string]place{}, order: map[string][]string{}}
	d.places[""] = place{root.Line, root.Column, root.Line, root.Column}
	v := d.value(nil, root, 0)
	top, ok := v.(map[string]any)
	if !ok && len(d.errs) == 0 {
		d.errs.fail(nil, fmt.Errorf("%s is not an experiment; write topology and steps", describe(v)))
	}
	d.top = top
	return d
}

// maxDepth bounds how deep values are within others.
const maxDepth = 60

// value converts a node.
func (d *document) value(path []any, n *yaml.Node, depth int) any {
	if d.nodes++; d.nodes > maxNodes || depth > maxDepth {
		if d.nodes == maxNodes+1 || depth == maxDepth+1 {
			d.nodes = maxNodes + 2
			d.errs.fail(path, errors.New("the file is too large: it has too many values, or values within values"))
		}
		return nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return d.value(path, n.Alias, depth+1)
	case yaml.MappingNode:
		return d.mapping(path, n, depth)
	case yaml.SequenceNode:
		list := []any{}
		for i, c := range n.Content {
			at := append(slices.Clip(path), i)
			d.places[pathKey(at)] = place{c.Line, c.Column, c.Line, c.Column}
			list = append(list, d.value(at, c, depth+1))
		}
		return list
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return nil
		}
		return n.Value
	}
	return nil
}

func (d *document) mapping(path []any, n *yaml.Node, depth int) any {
	m := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at := append(slices.Clip(path), k.Value)
		p := place{v.Line, v.Column, k.Line, k.Column}
		_, twice := m[k.Value]
		if !twice {
			d.places[pathKey(at)] = p
		}
		switch {
		case k.Kind != yaml.ScalarNode:
			d.at(k, "a name is text, not a list or map; write NAME: VALUE")
			continue
		case k.Tag == "!!merge":
			d.errs.failKey(at, errors.New("<< is not for these files; write the values"))
			continue
		case twice:
			d.at(k, k.Value+" is there twice; write it once")
			continue
		}
		m[k.Value] = d.value(at, v, depth+1)
		d.order[pathKey(path)] = append(d.order[pathKey(path)], k.Value)
	}
	return m
}

// at notes an error at a node.
func (d *document) at(n *yaml.Node, message string) {
	d.foreign = append(d.foreign, &netfile.Error{Position: netfile.Position{File: d.file, Line: n.Line, Column: n.Column}, Message: message})
}

// pathKey makes a key of a path.
func pathKey(path []any) string {
	var sb strings.Builder
	for _, p := range path {
		fmt.Fprintf(&sb, "\x00%v", p)
	}
	return sb.String()
}

// keys returns the names in a map, in the order of the file.
func (d *document) keys(path []any) []string { return d.order[pathKey(path)] }

// place returns where a path leads to, or the nearest value above it.
func (d *document) place(path []any) place {
	for n := len(path); n >= 0; n-- {
		if p, ok := d.places[pathKey(path[:n])]; ok {
			return p
		}
	}
	return place{1, 1, 1, 1}
}

// position returns where the value is that a path leads to.
func (d *document) position(path []any) netfile.Position {
	p := d.place(path)
	return netfile.Position{File: d.file, Line: p.line, Column: p.column}
}

// err joins all errors, in the order of their places.
func (d *document) err() error {
	var all []*netfile.Error
	add := func(line, column int, text string) {
		for l := range strings.Lines(text) {
			all = append(all, &netfile.Error{Position: netfile.Position{File: d.file, Line: line, Column: column}, Message: strings.TrimRight(l, "\n")})
		}
	}
	for _, e := range d.errs {
		p := d.place(e.Path)
		name := lastName(e.Path)
		switch {
		case e.Key:
			add(p.keyLine, p.keyColumn, e.Err.Error())
		case name != "":
			add(p.line, p.column, name+": "+e.Err.Error())
		default:
			add(p.line, p.column, e.Err.Error())
		}
	}
	var others []error
	for _, err := range d.foreign {
		for _, e := range leaves(err) {
			if f, ok := e.(*netfile.Error); ok && f.File == d.file {
				all = append(all, f)
			} else {
				others = append(others, e)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *netfile.Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	var errs []error
	for i, e := range all {
		if i == 0 || *e != *all[i-1] {
			errs = append(errs, e)
		}
	}
	return errors.Join(append(errs, others...)...)
}

// leaves are the errors that are joined in err.
func leaves(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}

// lastName is the name at the end of a path, "" if that is a place in a list.
func lastName(path []any) string {
	if len(path) == 0 {
		return ""
	}
	name, _ := path[len(path)-1].(string)
	return name
}

// placeholder is ${name}.
var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`) })

// with returns the document with the values of parameters in place of ${name}, and with the
// errors found so far. Other names stay as they are: they are variables of a shell.
func (d *document) with(args Arguments) *document {
	n := newDocument(d.file, substitute(d.root, args, map[*yaml.Node]*yaml.Node{}))
	n.errs = append(slices.Clone(d.errs), n.errs...)
	n.foreign = append(slices.Clone(d.foreign), n.foreign...)
	return n
}

func substitute(n *yaml.Node, args Arguments, done map[*yaml.Node]*yaml.Node) *yaml.Node {
	if n == nil {
		return nil
	}
	if c, ok := done[n]; ok {
		return c
	}
	c := *n
	done[n] = &c
	if c.Kind == yaml.ScalarNode {
		c.Value = placeholder().ReplaceAllStringFunc(c.Value, func(m string) string {
			if v, ok := args[m[2:len(m)-1]]; ok {
				return v
			}
			return m
		})
		if c.Value != n.Value && n.Tag == "!!null" {
			c.Tag = "!!str"
		}
	}
	c.Alias = substitute(n.Alias, args, done)
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c.Content[i] = substitute(child, args, done)
	}
	return &c
}

// A Topology is what a file says of its network.
type Topology struct {
	File string // the experiment's
	// Text is a file's name or a shape; empty: Node describes the network.
	Text     string
	Node     *yaml.Node
	Position netfile.Position
}

// topology returns what the document says of the network.
func (d *document) topology() Topology {
	t := Topology{File: d.file, Position: d.position([]any{"topology"})}
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if d.root.Content[i].Value == "topology" {
			t.Node = d.root.Content[i+1]
		}
	}
	if t.Node.Kind == yaml.ScalarNode {
		t.Text = t.Node.Value
	}
	return t
}
