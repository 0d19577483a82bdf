package experiment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
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

// yamlError is how the library says where.
var yamlError = regexp.MustCompile(`(?s)line (\d+)(?:, column (\d+))?: (.*)`)

// parseDocument reads YAML.
func parseDocument(file string, text []byte) (*document, error) {
	var root yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	err := dec.Decode(&root)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:1:1: the file is empty; write topology and steps", file)
	}
	if err != nil {
		return nil, syntaxError(file, string(text), err)
	}
	d := newDocument(file, &root)
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		d.errs.fail(nil, errors.New("there is a second document in the file; make it a file of its own"))
	}
	return d, d.err()
}

// syntaxError says where YAML cannot be read, and what is the matter in the cases that are
// met most.
func syntaxError(file, text string, err error) error {
	line, column, message := "1", "1", err.Error()
	if m := yamlError.FindStringSubmatch(message); m != nil {
		line, message = m[1], m[3]
		if m[2] != "" {
			column = m[2]
		}
	}
	message = strings.TrimSpace(strings.TrimPrefix(message, "yaml: "))
	n, _ := strconv.Atoi(line)
	for i := n; i >= max(n-2, 1); i-- {
		lines := strings.Split(text, "\n")
		if i <= len(lines) && regexp.MustCompile(`: *>[^|>]*\d`).MatchString(lines[i-1]) {
			return fmt.Errorf("%s:%d:%d: a value cannot begin with >; put it in quotes, or write above or at least", file, i, strings.IndexByte(lines[i-1], '>')+1)
		}
		if i <= len(lines) && strings.Contains(lines[i-1], "\t") {
			return fmt.Errorf("%s:%d:%d: YAML takes no tabs at the start of a line; write blanks", file, i, strings.IndexByte(lines[i-1], '\t')+1)
		}
	}
	return fmt.Errorf("%s:%s:%s: this is not YAML: %s", file, line, column, message)
}

func newDocument(file string, root *yaml.Node) *document {
	d := &document{file: file, root: root, places: map[string]place{}, order: map[string][]string{}}
	node := root
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	d.places[""] = place{node.Line, node.Column, node.Line, node.Column}
	v := d.value(nil, node, 0)
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
			d.foreign = append(d.foreign, fmt.Errorf("%s:%d:%d: a name is one word, not %s", d.file, k.Line, k.Column, "a list"))
			continue
		case k.Tag == "!!merge":
			d.errs.failKey(at, errors.New("<< is not for these files; write the values"))
			continue
		case twice:
			d.foreign = append(d.foreign, fmt.Errorf("%s:%d:%d: %s is there twice; write it once", d.file, k.Line, k.Column, k.Value))
			continue
		}
		m[k.Value] = d.value(at, v, depth+1)
		d.order[pathKey(path)] = append(d.order[pathKey(path)], k.Value)
	}
	return m
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

// position returns FILE:LINE:COLUMN of the value that a path leads to.
func (d *document) position(path []any) string {
	p := d.place(path)
	return fmt.Sprintf("%s:%d:%d", d.file, p.line, p.column)
}

// err joins all errors, in the order of their places.
func (d *document) err() error {
	type placed struct {
		line, column int
		err          error
	}
	var all []placed
	for _, e := range d.errs {
		p := d.place(e.Path)
		line, column, text := p.line, p.column, e.Err.Error()
		if e.Key {
			line, column = p.keyLine, p.keyColumn
		} else if name := lastName(e.Path); name != "" {
			text = name + ": " + text
		}
		for l := range strings.Lines(text) {
			all = append(all, placed{line, column, fmt.Errorf("%s:%d:%d: %s", d.file, line, column, strings.TrimRight(l, "\n"))})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return a.column - b.column
	})
	var errs []error
	for _, p := range all {
		errs = append(errs, p.err)
	}
	return errors.Join(append(errs, d.foreign...)...)
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
var placeholder = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// with returns the document with the values of parameters in place of ${name}. Other names
// stay as they are: they are variables of a shell.
func (d *document) with(args Arguments) (*document, error) {
	root := substitute(d.root, args, map[*yaml.Node]*yaml.Node{})
	n := newDocument(d.file, root)
	return n, n.err()
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
		c.Value = placeholder.ReplaceAllStringFunc(c.Value, func(m string) string {
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
	Text string
	Node *yaml.Node
	// Position is where it is said, FILE:LINE:COLUMN.
	Position string
}

// topology returns what the document says of the network.
func (d *document) topology() Topology {
	t := Topology{File: d.file, Position: d.position([]any{"topology"})}
	node := d.root
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == "topology" {
			t.Node = node.Content[i+1]
		}
	}
	if t.Node.Kind == yaml.ScalarNode {
		t.Text = t.Node.Value
	}
	return t
}
