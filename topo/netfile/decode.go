package netfile

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"

	"weft/topo"
)

// A field is one setting of a structure of topo, under its JSON name: so that files, scripts
// and the API have one vocabulary, and what is added there can be written here.
type field struct {
	name  string
	index []int
	typ   reflect.Type
}

// fieldLists caches fieldsOf.
type fieldLists struct{ byType sync.Map }

// fieldsOf lists the settings of a structure, those of embedded ones among them.
func (l *fieldLists) of(t reflect.Type) []field {
	if list, ok := l.byType.Load(t); ok {
		return list.([]field)
	}
	list := fieldsOf(t)
	l.byType.Store(t, list)
	return list
}

func fieldsOf(t reflect.Type) (list []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				list = append(list, inner)
			}
		case f.IsExported() && name != "" && name != "-":
			list = append(list, field{name, []int{i}, f.Type})
		}
	}
	return list
}

// A decoder gives the values of a document to structures.
type decoder struct {
	*document
	fields *fieldLists
	// bits is the length of an address that is written without one, for IPv4 and IPv6.
	bits   [2]int
	beside // the files that this one names
	// step and steps say which element of ranges in values is meant.
	step, steps int
}

// settings gives the entries of a map to the structure to which target points, except those
// called hidden and those that extra takes.
func (d *decoder) settings(what string, n *yaml.Node, target any, hidden []string, extra func(e entry) bool) {
	n = d.target(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.at(n.Line, n.Column, "%s is not a map of settings of %s; write NAME: VALUE", quote(n), what)
		return
	}
	v := reflect.ValueOf(target).Elem()
	fields := d.fields.of(v.Type())
	for _, e := range d.entries(n) {
		if extra != nil && extra(e) {
			continue
		}
		name := e.key.Value
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 || slices.Contains(hidden, name) {
			var names []string
			for _, f := range fields {
				if !slices.Contains(hidden, f.name) {
					names = append(names, f.name)
				}
			}
			d.at(e.key.Line, e.key.Column, "%s", unknown("setting % of "+what, name, names))
			continue
		}
		d.assign(e.value, v.FieldByIndex(fields[i].index), name)
	}
}

// inStep are settings in which a range goes with the names' own: h[1-4]: {ip: 10.0.1.[1-4]/24}.
var inStep = []string{"ip", "ip6", "mac", "defaultRoute", "dpid", "port", "listenPort", "interface"}

// text returns the text of a value, or notes that it is something else.
func (d *decoder) text(n *yaml.Node, name, want string) (string, bool) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.at(n.Line, n.Column, "%s: %s is not %s", name, quote(n), want)
		return "", false
	}
	text := n.Value
	if !slices.Contains(inStep, name) || !strings.ContainsAny(text, "[]") {
		return text, true
	}
	all, err := expand(text, topo.MaxNodes)
	if err != nil {
		d.at(n.Line, n.Column, "%s: %v", name, err)
		return "", false
	}
	if len(all) != d.steps {
		d.at(n.Line, n.Column, "%s: %q stands for %d values, but the names that it is for are %d; write as many", name, text, len(all), d.steps)
		return "", false
	}
	return all[d.step], true
}

// assign gives a value to a field.
func (d *decoder) assign(n *yaml.Node, to reflect.Value, name string) {
	n = d.target(n)
	fail := func(format string, args ...any) {
		d.at(n.Line, n.Column, "%s: %s", name, fmt.Sprintf(format, args...))
	}
	switch p := to.Addr().Interface().(type) {
	case *netip.Prefix:
		if text, ok := d.text(n, name, "an address and its length, such as 10.0.0.1/8"); ok {
			v, err := d.prefix(text)
			if err != nil {
				fail("%v", err)
			}
			*p = v
		}
		return
	case *netip.Addr:
		if text, ok := d.text(n, name, "an address, such as 10.0.0.1"); ok {
			v, err := netip.ParseAddr(text)
			if err != nil {
				fail("%q is not an address; write for example 10.0.0.1", text)
			}
			*p = v
		}
		return
	case *[]topo.File:
		d.files(n, p)
		return
	case *topo.NF:
		d.nf(n, p)
		return
	case *topo.DPDK:
		if n.Kind == yaml.MappingNode {
			d.dpdk(d.entries(n), p)
			return
		}
	case encoding.TextUnmarshaler:
		if text, ok := d.text(n, name, "text"); ok {
			if err := p.UnmarshalText([]byte(text)); err != nil {
				fail("%v", err)
			}
		}
		return
	}
	switch to.Kind() {
	case reflect.String:
		if text, ok := d.text(n, name, "text"); ok {
			to.SetString(text)
		}
	case reflect.Bool:
		if text, ok := d.text(n, name, "true or false"); ok {
			v, err := parseBool(text)
			if err != nil {
				fail("%v", err)
			}
			to.SetBool(v)
		}
	case reflect.Int, reflect.Int64:
		if text, ok := d.text(n, name, "a whole number"); ok {
			v, err := strconv.ParseInt(text, 0, 64)
			if err != nil || to.OverflowInt(v) {
				fail("%q is not a whole number", text)
				return
			}
			to.SetInt(v)
		}
	case reflect.Uint64:
		if text, ok := d.text(n, name, "a number"); ok {
			v, err := parseUint(text, name == "dpid" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0)
			if err != nil {
				fail("%v", err)
			}
			to.SetUint(v)
		}
	case reflect.Float64:
		if text, ok := d.text(n, name, "a number"); ok {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil || v != v {
				fail("%q is not a number", text)
				return
			}
			to.SetFloat(v)
		}
	case reflect.Pointer:
		d.assignPointer(n, to, name)
	case reflect.Slice:
		d.assignList(n, to, name)
	case reflect.Struct:
		d.settings(name, n, to.Addr().Interface(), nil, nil)
	case reflect.Map:
		d.assignMap(n, to, name)
	default:
		panic(fmt.Sprintf("topo has a field %s of type %s, which files cannot set", name, to.Type())) // a test finds it
	}
}

// assignPointer sets what may be missing. true is an empty structure, false none.
func (d *decoder) assignPointer(n *yaml.Node, to reflect.Value, name string) {
	fresh := reflect.New(to.Type().Elem())
	if fresh.Elem().Kind() == reflect.Struct && n.Kind == yaml.ScalarNode && !isNull(n) {
		on, err := parseBool(n.Value)
		switch {
		case err != nil:
			d.at(n.Line, n.Column, "%s: %s is neither true, false nor a map of settings", name, quote(n))
		case on:
			to.Set(fresh)
		default:
			to.SetZero()
		}
		return
	}
	d.assign(n, fresh.Elem(), name)
	to.Set(fresh)
}

// assignList takes a list, or one element instead of a list of one.
func (d *decoder) assignList(n *yaml.Node, to reflect.Value, name string) {
	nodes := []*yaml.Node{n}
	switch {
	case n.Kind == yaml.SequenceNode:
		nodes = n.Content
	case isNull(n):
		nodes = nil
	}
	fresh := reflect.MakeSlice(to.Type(), len(nodes), len(nodes))
	for i, c := range nodes {
		d.assign(c, fresh.Index(i), name)
	}
	to.Set(fresh)
}

func (d *decoder) assignMap(n *yaml.Node, to reflect.Value, name string) {
	if n.Kind != yaml.MappingNode {
		d.at(n.Line, n.Column, "%s: %s is not a map; write NAME: VALUE", name, quote(n))
		return
	}
	fresh := reflect.MakeMap(to.Type())
	for _, e := range d.entries(n) {
		v := reflect.New(to.Type().Elem()).Elem()
		d.assign(e.value, v, name+"."+e.key.Value)
		fresh.SetMapIndex(reflect.ValueOf(e.key.Value).Convert(to.Type().Key()), v)
	}
	to.Set(fresh)
}

// prefix reads an address with the length of its network, which is that of the hosts' own if
// it is left out.
func (d *decoder) prefix(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not an address and its length; write for example 10.0.0.1/8 or fd00::1/64", text)
	}
	if a.Is4() {
		return netip.PrefixFrom(a, d.bits[0]), nil
	}
	return netip.PrefixFrom(a, d.bits[1]), nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", text)
}

// parseUint reads a number, in hexadecimal after 0x, or if hex is true.
func parseUint(text string, hex bool) (uint64, error) {
	base := 0
	if hex && !strings.HasPrefix(strings.ToLower(text), "0x") {
		base = 16
	}
	v, err := strconv.ParseUint(text, base, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number from 0 to 2^64-1; write for example 42 or 0x2a", text)
	}
	return v, nil
}

// files reads the files of a host: a map of paths, each with its content or with settings, or
// a list of settings with path. Those that are there already stay, or are replaced.
func (d *decoder) files(n *yaml.Node, to *[]topo.File) {
	put := func(f topo.File) {
		if i := slices.IndexFunc(*to, func(have topo.File) bool { return have.Path == f.Path }); i >= 0 {
			*to = slices.Clone(*to)
			(*to)[i] = f
			return
		}
		*to = append(slices.Clip(*to), f)
	}
	switch {
	case isNull(n):
	case n.Kind == yaml.MappingNode:
		for _, e := range d.entries(n) {
			f := topo.File{Path: e.key.Value}
			if v := d.target(e.value); v.Kind == yaml.ScalarNode {
				if !isNull(v) {
					f.Content = v.Value
				}
			} else {
				d.file(v, &f, []string{"path"})
			}
			put(f)
		}
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			var f topo.File
			d.file(d.target(c), &f, nil)
			put(f)
		}
	default:
		d.at(n.Line, n.Column, "files: %s is not a map; write PATH: CONTENT, or PATH: {source: FILE}", quote(n))
	}
}

// file reads the settings of a file, and source, a file that is copied.
func (d *decoder) file(n *yaml.Node, f *topo.File, hidden []string) {
	d.settings("a file", n, f, append(hidden, "data"), func(e entry) bool {
		switch e.key.Value {
		case "source":
			source, ok := d.text(d.target(e.value), "source", "the name of a file")
			if !ok {
				return true
			}
			b, err := d.beside.read(source)
			if err != nil {
				d.at(e.value.Line, e.value.Column, "source: %v", err)
			}
			f.SetBytes(b)
			return true
		case "data":
			text, ok := d.text(d.target(e.value), "data", "bytes in base64")
			if !ok {
				return true
			}
			b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
			if err != nil {
				d.at(e.value.Line, e.value.Column, "data: this is not base64; write text as content")
			}
			f.SetBytes(b)
			return true
		}
		return false
	})
}
