package netfile

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"weft/topo"
)

// YAML writes a network so that Read gives it again. The same network always gives the same
// text, and short forms are used where there are any.
func YAML(s topo.Spec) ([]byte, error) {
	root := newMap()
	if s.Name != "" {
		put(root, "name", text(s.Name))
	}
	if s.Seed != nil {
		put(root, "seed", number(strconv.FormatUint(*s.Seed, 10)))
	}
	w := writer{&fieldLists{}}
	if s.Addressing != (topo.Addressing{}) {
		put(root, "addressing", w.settings(reflect.ValueOf(s.Addressing), nil))
	}
	if len(s.Controllers) == 0 {
		put(root, "controllers", text("none"))
	} else if !isDefaultController(s.Controllers) {
		put(root, "controllers", w.nodes(len(s.Controllers), func(i int) (string, any) { return s.Controllers[i].Name, s.Controllers[i] }))
	}
	if len(s.Switches) > 0 {
		put(root, "switches", w.nodes(len(s.Switches), func(i int) (string, any) { return s.Switches[i].Name, s.Switches[i] }))
	}
	if len(s.Hosts) > 0 {
		put(root, "hosts", w.nodes(len(s.Hosts), func(i int) (string, any) { return s.Hosts[i].Name, s.Hosts[i] }))
	}
	if len(s.Links) > 0 {
		put(root, "links", w.links(s.Links))
	}
	if len(s.Commands) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, c := range s.Commands {
			list.Content = append(list.Content, w.command(c))
		}
		put(root, "run", list)
	}
	return yaml.Dump(root, yaml.WithV4Defaults(), yaml.WithLineWidth(-1), yaml.WithCompactSeqIndent(false))
}

func isDefaultController(list []topo.Controller) bool {
	return len(list) == 1 && list[0] == topo.Controller{Name: "c0", Kind: topo.ControllerBuiltin}
}

// JSON writes a network so that Read gives it again.
func JSON(s topo.Spec) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		topo.Spec
		// Without this there would be weft's own.
		Controllers []topo.Controller `json:"controllers"`
	}{s, append([]topo.Controller{}, s.Controllers...)})
	return buf.Bytes(), err
}

type writer struct{ fields *fieldLists }

func newMap() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

func put(m *yaml.Node, name string, v *yaml.Node) { m.Content = append(m.Content, text(name), v) }

func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.Contains(s, "\n") {
		n.Style = yaml.LiteralStyle
	}
	return n
}

func number(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: s} }

// plain is text, without quotes if it looks like a number.
func plain(s string) *yaml.Node {
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		return number(s)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && strconv.FormatFloat(f, 'f', -1, 64) == s {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: s}
	}
	return text(s)
}

func nothing() *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"} }

// settings writes the fields of a structure that are set.
func (w writer) settings(v reflect.Value, skip func(name string) bool) *yaml.Node {
	m := newMap()
	m.Style = yaml.FlowStyle
	for _, f := range w.fields.of(v.Type()) {
		value := v.FieldByIndex(f.index)
		if skip != nil && skip(f.name) || value.IsZero() {
			continue
		}
		switch v := value.Interface().(type) {
		case []topo.File:
			m.Style = 0
			put(m, f.name, w.files(v))
			continue
		case *topo.DPDK: // beside the switch's own
			m.Style = 0
			m.Content = append(m.Content, w.settings(reflect.ValueOf(*v), nil).Content...)
			continue
		case []topo.Chain:
			chains := newMap()
			chains.Style = yaml.FlowStyle
			for _, c := range v {
				put(chains, c.Name, plain(c.String()))
			}
			put(m, f.name, chains)
			continue
		}
		put(m, f.name, w.value(value, f.name))
	}
	return m
}

func (w writer) value(v reflect.Value, name string) *yaml.Node {
	if f, ok := v.Interface().(topo.NF); ok && f.Brief() {
		return text(f.String())
	}
	if m, ok := v.Interface().(interface{ MarshalText() ([]byte, error) }); ok {
		b, err := m.MarshalText()
		if err == nil {
			return plain(string(b))
		}
	}
	switch v.Kind() {
	case reflect.String:
		return text(v.String())
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}
	case reflect.Int, reflect.Int64:
		return number(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint64:
		if name == "dpid" && v.Uint() > 0xffff {
			return number(fmt.Sprintf("%#x", v.Uint()))
		}
		return number(strconv.FormatUint(v.Uint(), 10))
	case reflect.Float64:
		return plain(strconv.FormatFloat(v.Float(), 'f', -1, 64))
	case reflect.Pointer:
		if v.Elem().IsZero() && v.Elem().Kind() == reflect.Struct {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
		}
		return w.value(v.Elem(), name)
	case reflect.Slice:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for i := range v.Len() {
			list.Content = append(list.Content, w.value(v.Index(i), name))
		}
		return list
	case reflect.Struct:
		return w.settings(v, nil)
	case reflect.Map:
		m := newMap()
		m.Style = yaml.FlowStyle
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			put(m, k.String(), w.value(v.MapIndex(k), name))
		}
		return m
	}
	panic(fmt.Sprintf("topo has a field %s of type %s, which files cannot have", name, v.Type())) // a test finds it
}

func (w writer) files(files []topo.File) *yaml.Node {
	m := newMap()
	for _, f := range files {
		if f.Data == nil && f.Mode == 0 {
			put(m, f.Path, text(f.Content))
			continue
		}
		v := newMap()
		if f.Data != nil {
			put(v, "data", text(base64.StdEncoding.EncodeToString(f.Data)))
		} else {
			put(v, "content", text(f.Content))
		}
		if f.Mode != 0 {
			put(v, "mode", number(f.Mode.String()))
		}
		put(m, f.Path, v)
	}
	return m
}

// nodes writes nodes: a map of names with settings, in which names in a row that have none are
// a range; or a list, where a name looks like a range.
func (w writer) nodes(count int, at func(i int) (string, any)) *yaml.Node {
	asList := false
	for i := range count {
		name, _ := at(i)
		asList = asList || strings.ContainsAny(name, "[]") || name == "<<"
	}
	if asList {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range count {
			_, v := at(i)
			list.Content = append(list.Content, w.settings(reflect.ValueOf(v), nil))
		}
		return list
	}
	m := newMap()
	for i := 0; i < count; {
		name, v := at(i)
		settings := w.settings(reflect.ValueOf(v), func(name string) bool { return name == "name" })
		if len(settings.Content) > 0 {
			put(m, name, settings)
			i++
			continue
		}
		run := 1
		for i+run < count {
			next, v := at(i + run)
			if !follows(name, next, run) || len(w.settings(reflect.ValueOf(v), func(name string) bool { return name == "name" }).Content) > 0 {
				break
			}
			run++
		}
		if run > 2 {
			name = asRange(name, run)
		} else {
			run = 1
		}
		put(m, name, nothing())
		i += run
	}
	return m
}

// splitNumber splits a name into what is before its last number, that number, and true; false
// if it does not end in one that a range can have.
func splitNumber(name string) (string, int, bool) {
	prefix := strings.TrimRight(name, "0123456789")
	digits := name[len(prefix):]
	n, err := strconv.Atoi(digits)
	if err != nil || len(digits) > 6 || digits != strconv.Itoa(n) {
		return "", 0, false
	}
	return prefix, n, true
}

// follows reports whether name has the number of first and as many more.
func follows(first, name string, more int) bool {
	p, a, ok := splitNumber(first)
	q, b, also := splitNumber(name)
	return ok && also && p == q && b == a+more
}

// asRange writes the names from first on, count of them.
func asRange(first string, count int) string {
	p, a, _ := splitNumber(first)
	return fmt.Sprintf("%s[%d-%d]", p, a, a+count-1)
}

// links writes links, those in a row that differ in the number of their ends as one.
func (w writer) links(all []topo.Link) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for i := 0; i < len(all); {
		l := all[i]
		a, okA := shortEnd(l.A)
		b, okB := shortEnd(l.B)
		settings := linkNode(l.LinkSettings)
		if !okA || !okB {
			m := newMap()
			m.Style = yaml.FlowStyle
			put(m, "a", w.end(l.A))
			put(m, "b", w.end(l.B))
			m.Content = append(m.Content, settings.Content...)
			list.Content = append(list.Content, m)
			i++
			continue
		}
		run, movesA, movesB := alike(all[i:])
		if movesA {
			a = asRange(a, run)
		}
		if movesB {
			b = asRange(b, run)
		}
		key := text(a + " " + joined + " " + b)
		if len(settings.Content) > 0 {
			m := newMap()
			m.Content = []*yaml.Node{key, settings}
			key = m
		}
		list.Content = append(list.Content, key)
		i += run
	}
	return list
}

// alike says how many of the links can be written as one, and which of their ends have a
// range then; three at least, or one.
func alike(all []topo.Link) (run int, movesA, movesB bool) {
	first := all[0]
	count := func(moveA, moveB bool) int {
		n := 1
		for n < len(all) {
			l := all[n]
			if !reflect.DeepEqual(l.LinkSettings, first.LinkSettings) || !steps(first.A, l.A, n, moveA) || !steps(first.B, l.B, n, moveB) {
				break
			}
			n++
		}
		return n
	}
	for _, move := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		if n := count(move[0], move[1]); n > 2 && n > run {
			run, movesA, movesB = n, move[0], move[1]
		}
	}
	return max(run, 1), movesA, movesB
}

// steps reports whether an end is the first one, or if it moves, so many numbers on.
func steps(first, e topo.LinkEnd, more int, moves bool) bool {
	if !moves {
		return reflect.DeepEqual(first, e)
	}
	return first == topo.LinkEnd{Node: first.Node} && e == topo.LinkEnd{Node: e.Node} && follows(first.Node, e.Node, more)
}

// shortEnd writes an end as NODE, NODE/PORT or NODE/INTERFACE, if that says it all.
func shortEnd(e topo.LinkEnd) (string, bool) {
	if e.MAC != "" || e.IP.IsValid() || e.IP6.IsValid() || strings.ContainsAny(e.Node+e.Interface, "[]") {
		return "", false
	}
	switch _, err := strconv.Atoi(e.Interface); {
	case e.Interface == "" && e.Port == nil:
		return e.Node, true
	case e.Interface == "":
		return fmt.Sprintf("%s/%d", e.Node, *e.Port), true
	case e.Port == nil && err != nil:
		return e.Node + "/" + e.Interface, true
	}
	return "", false
}

func (w writer) end(e topo.LinkEnd) *yaml.Node {
	if e == (topo.LinkEnd{Node: e.Node}) && !strings.ContainsAny(e.Node, "[]") {
		return text(e.Node)
	}
	m := newMap()
	m.Style = yaml.FlowStyle
	put(m, "node", text(e.Node))
	rest := w.settings(reflect.ValueOf(e), func(name string) bool { return name == "node" })
	m.Content = append(m.Content, rest.Content...)
	return m
}

// linkNode writes the settings of a link.
func linkNode(s topo.LinkSettings) *yaml.Node {
	m, ways := newMap(), map[string]*yaml.Node{"ab": newMap(), "ba": newMap()}
	m.Style = yaml.FlowStyle
	for _, o := range s.Options() {
		name, value, _ := strings.Cut(o, "=")
		if way, rest, ok := strings.Cut(name, ":"); ok {
			put(ways[way], rest, plain(value))
		} else {
			put(m, name, plain(value))
		}
	}
	for _, name := range []string{"ab", "ba"} {
		if way := ways[name]; len(way.Content) > 0 {
			way.Style = yaml.FlowStyle
			put(m, name, way)
		}
	}
	return m
}

func (w writer) command(c topo.Command) *yaml.Node {
	m := newMap()
	if strings.ContainsAny(c.Node, "[]") || c.Node == "node" || c.Node == "command" || c.Node == "<<" {
		return w.settings(reflect.ValueOf(c), nil)
	}
	if c.At == 0 && c.Timeout == 0 {
		put(m, c.Node, text(c.Command))
		return m
	}
	put(m, c.Node, w.settings(reflect.ValueOf(c), func(name string) bool { return name == "node" }))
	return m
}
