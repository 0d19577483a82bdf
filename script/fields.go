package script

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"weft/topo"
)

// Structures of topo are filled in by their JSON names, so that scripts, files and the API
// have one vocabulary, and what is added there can be written here.

// A field is one setting of a structure.
type field struct {
	name  string
	value reflect.Value
}

// fieldsOf lists the fields of a structure, those of embedded ones among them.
func fieldsOf(v reflect.Value) []field {
	var list []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			list = append(list, fieldsOf(v.Field(i))...)
		case f.IsExported() && name != "" && name != "-":
			list = append(list, field{name, v.Field(i)})
		}
	}
	return list
}

// A setting is a name that a function takes for a value, beside the fields' own.
type setting struct {
	name string
	set  func(v starlark.Value) error
}

// setFields gives keyword arguments to extra settings and to the fields of the structure to
// which target points, except those called hidden.
func setFields(target any, kwargs []starlark.Tuple, hidden []string, extra ...setting) error {
	fields := slices.DeleteFunc(fieldsOf(reflect.ValueOf(target).Elem()), func(f field) bool { return slices.Contains(hidden, f.name) })
	for _, kv := range kwargs {
		key := string(kv[0].(starlark.String))
		if i := slices.IndexFunc(extra, func(s setting) bool { return s.name == key }); i >= 0 {
			if err := extra[i].set(kv[1]); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			continue
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			var names []string
			for _, f := range fields {
				names = append(names, f.name)
			}
			for _, s := range extra {
				names = append(names, s.name)
			}
			return unknown("parameter", key, names)
		}
		if err := assign(fields[i].value, kv[1]); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// unknown is the error of a name that is none of names.
func unknown(what, name string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("there is no %s %q; there are none", what, name)
	}
	hint := ""
	if near := topo.Nearest(name, names); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	slices.Sort(names)
	return fmt.Errorf("there is no %s %q%s (there are: %s)", what, name, hint, list(names))
}

// maxListed is how many names an error lists.
const maxListed = 40

func list(names []string) string {
	more := ""
	if len(names) > maxListed {
		more = fmt.Sprintf(" and %d more", len(names)-maxListed)
		names = names[:maxListed]
	}
	return strings.Join(names, ", ") + more
}

// assign gives x to a field.
func assign(to reflect.Value, x starlark.Value) error {
	if x == starlark.None {
		to.SetZero()
		return nil
	}
	switch p := to.Addr().Interface().(type) {
	case *netip.Prefix:
		text, err := textOf(x, "an address and its length, such as '10.0.0.1/8'")
		if err != nil {
			return err
		}
		*p, err = parsePrefix(text)
		return err
	case *netip.Addr:
		text, err := textOf(x, "an address, such as '10.0.0.1'")
		if err != nil {
			return err
		}
		if *p, err = netip.ParseAddr(strings.TrimPrefix(text, "via ")); err != nil {
			return fmt.Errorf("%q is not an address; write for example '10.0.0.1'", text)
		}
		return nil
	case *time.Duration:
		d, err := durationOf(x)
		*p = d
		return err
	case *topo.Duration:
		d, err := durationOf(x)
		if err == nil && d < 0 {
			err = fmt.Errorf("%s is before now", shortly(x))
		}
		*p = topo.Duration(d)
		return err
	case *topo.FileMode:
		if n, ok := x.(starlark.Int); ok { // 0o755
			x = starlark.String(n.BigInt().Text(8))
		}
		text, err := textOf(x, "a mode, such as 0o755")
		if err != nil {
			return err
		}
		return p.UnmarshalText([]byte(text))
	case *[]topo.File:
		if d, ok := x.(*starlark.Dict); ok && !isFile(d) {
			return assignFiles(p, d)
		}
	case *topo.NF:
		if text, ok := x.(starlark.String); ok {
			f, err := topo.ParseNF(string(text))
			*p = f
			return err
		}
	case *[]byte:
		if b, ok := x.(starlark.Bytes); ok {
			*p = []byte(b)
			return nil
		}
		text, err := textOf(x, "text or b'...'")
		*p = []byte(text)
		return err
	case encoding.TextUnmarshaler:
		text, err := textOf(x, "text")
		if err != nil {
			return err
		}
		return p.UnmarshalText([]byte(text))
	}
	switch to.Kind() {
	case reflect.String:
		text, err := textOf(x, "text in quotes")
		to.SetString(text)
		return err
	case reflect.Bool:
		b, err := boolOf(x)
		to.SetBool(b)
		return err
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint16:
		return assignNumber(to, x)
	case reflect.Float64:
		f, ok := starlark.AsFloat(x)
		if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%s is not a number", shortly(x))
		}
		to.SetFloat(f)
		return nil
	case reflect.Pointer:
		fresh := reflect.New(to.Type().Elem())
		if fresh.Elem().Kind() == reflect.Struct && isBool(x) {
			if x == starlark.False {
				to.SetZero()
				return nil
			}
		} else if err := assign(fresh.Elem(), x); err != nil {
			return err
		}
		to.Set(fresh)
		return nil
	case reflect.Slice:
		return assignList(to, x)
	case reflect.Struct:
		return assignStruct(to, x)
	case reflect.Map:
		return assignMap(to, x)
	}
	return fmt.Errorf("this cannot be set from a script")
}

// isFile reports whether a dict describes one file, rather than several by their paths.
func isFile(d *starlark.Dict) bool {
	_, ok, _ := d.Get(starlark.String("path"))
	return ok
}

// assignFiles takes files as a dict of paths and contents.
func assignFiles(to *[]topo.File, d *starlark.Dict) error {
	items, err := settingsOf(d)
	if err != nil {
		return err
	}
	*to = nil
	for _, kv := range items {
		f := topo.File{Path: string(kv[0].(starlark.String))}
		var content []byte
		if err := assign(reflect.ValueOf(&content).Elem(), kv[1]); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		f.SetBytes(content)
		*to = append(*to, f)
	}
	return nil
}

func assignNumber(to reflect.Value, x starlark.Value) error {
	n, ok := x.(starlark.Int)
	if text, isText := x.(starlark.String); isText && to.Kind() == reflect.Uint64 {
		// A datapath ID is hexadecimal text in Mininet.
		id, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(string(text)), "0x"), 16, 64)
		if err != nil {
			return fmt.Errorf("%s is not a number of at most 16 hexadecimal digits", shortly(x))
		}
		to.SetUint(id)
		return nil
	}
	if !ok {
		return fmt.Errorf("%s is not a whole number", shortly(x))
	}
	if to.CanInt() {
		i, ok := n.Int64()
		if !ok || to.OverflowInt(i) {
			return fmt.Errorf("%s is out of range", shortly(x))
		}
		to.SetInt(i)
		return nil
	}
	u, ok := n.Uint64()
	if !ok || to.OverflowUint(u) {
		return fmt.Errorf("%s is out of range", shortly(x))
	}
	to.SetUint(u)
	return nil
}

// assignList takes a list, or one element instead of a list of one.
func assignList(to reflect.Value, x starlark.Value) error {
	values := []starlark.Value{x}
	switch x := x.(type) {
	case *starlark.List, starlark.Tuple, *starlark.Set:
		values = slices.Collect(starlark.Elements(x.(starlark.Iterable)))
	}
	fresh := reflect.MakeSlice(to.Type(), len(values), len(values))
	for i, v := range values {
		if err := assign(fresh.Index(i), v); err != nil {
			return err
		}
	}
	to.Set(fresh)
	return nil
}

func assignStruct(to reflect.Value, x starlark.Value) error {
	d, ok := x.(*starlark.Dict)
	if !ok {
		return fmt.Errorf("%s is not a dict of settings", shortly(x))
	}
	kwargs, err := settingsOf(d)
	if err != nil {
		return err
	}
	return setFields(to.Addr().Interface(), kwargs, nil)
}

func assignMap(to reflect.Value, x starlark.Value) error {
	d, ok := x.(*starlark.Dict)
	if !ok || to.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("%s is not a dict", shortly(x))
	}
	kwargs, err := settingsOf(d)
	if err != nil {
		return err
	}
	fresh := reflect.MakeMap(to.Type())
	for _, kv := range kwargs {
		v := reflect.New(to.Type().Elem()).Elem()
		if err := assign(v, kv[1]); err != nil {
			return fmt.Errorf("%s: %w", string(kv[0].(starlark.String)), err)
		}
		fresh.SetMapIndex(reflect.ValueOf(string(kv[0].(starlark.String))).Convert(to.Type().Key()), v)
	}
	to.Set(fresh)
	return nil
}

// settingsOf returns the entries of a dict as keyword arguments.
func settingsOf(d *starlark.Dict) ([]starlark.Tuple, error) {
	items := d.Items()
	for _, kv := range items {
		if _, ok := kv[0].(starlark.String); !ok {
			return nil, fmt.Errorf("%s is not the name of a setting", shortly(kv[0]))
		}
	}
	return items, nil
}

// textOf returns text, or the name of a node.
func textOf(x starlark.Value, want string) (string, error) {
	switch x := x.(type) {
	case starlark.String:
		return string(x), nil
	case *node:
		return x.name, nil
	}
	return "", fmt.Errorf("%s is not %s", shortly(x), want)
}

func isBool(x starlark.Value) bool {
	_, ok := x.(starlark.Bool)
	return ok
}

func boolOf(x starlark.Value) (bool, error) {
	switch x := x.(type) {
	case starlark.Bool:
		return bool(x), nil
	case starlark.Int:
		if n, ok := x.Int64(); ok && (n == 0 || n == 1) {
			return n == 1, nil
		}
	}
	return false, fmt.Errorf("%s is neither True nor False", shortly(x))
}

// durationOf reads a time: seconds, or text with a unit.
func durationOf(x starlark.Value) (time.Duration, error) {
	if text, ok := x.(starlark.String); ok {
		d, err := time.ParseDuration(string(text))
		if err != nil {
			return 0, fmt.Errorf("%s is not a time; write seconds, or for example '250ms'", shortly(x))
		}
		return d, nil
	}
	f, ok := starlark.AsFloat(x)
	if isBool(x) || !ok || !(math.Abs(f) < 1e9) {
		return 0, fmt.Errorf("%s is not a time; write seconds, or for example '250ms'", shortly(x))
	}
	return time.Duration(f * float64(time.Second)), nil
}

// parsePrefix reads an address with the length of its network. Without one it is that of
// the default networks: 8 bits for IPv4, as Mininet has it, 64 for IPv6.
func parsePrefix(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address and its length; write for example '10.0.0.1/8' or 'fd00::1/64'", text)
	}
	bits := 64
	if a.Is4() {
		bits = 8
	}
	return netip.PrefixFrom(a, bits), nil
}

// linkOptions turns keyword arguments into options as topo.LinkSettings.Set takes them.
func linkOptions(kwargs []starlark.Tuple) ([]string, error) {
	var options []string
	for _, kv := range kwargs {
		key := string(kv[0].(starlark.String))
		if key == "ab" || key == "ba" {
			d, ok := kv[1].(*starlark.Dict)
			if !ok {
				return nil, fmt.Errorf("%s: %s is not a dict of options, such as {'delay': '5ms'}", key, shortly(kv[1]))
			}
			way, err := settingsOf(d)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			more, err := linkOptions(way)
			if err != nil {
				return nil, err
			}
			for _, o := range more {
				options = append(options, key+":"+o)
			}
			continue
		}
		var text string
		switch v := kv[1].(type) {
		case starlark.String:
			text = string(v)
		case starlark.Int, starlark.Bool:
			text = strings.ToLower(v.String())
		case starlark.Float:
			text = strconv.FormatFloat(float64(v), 'f', -1, 64)
		case starlark.NoneType:
			continue // Mininet's way to leave a parameter out
		default:
			return nil, fmt.Errorf("%s: %s is neither text nor a number", key, shortly(v))
		}
		options = append(options, key+"="+text)
	}
	return options, nil
}

// shortly returns a value as an error can quote it.
func shortly(v starlark.Value) string {
	const most = 60
	switch v := v.(type) {
	case starlark.String:
		if len(v) > most {
			return strconv.Quote(string(v[:most])) + "..."
		}
		return strconv.Quote(string(v))
	case *starlark.List, *starlark.Dict, *starlark.Set, starlark.Tuple:
		return "a " + v.Type()
	case starlark.Int:
		if bitLen(v) > 128 {
			return "a number of " + strconv.Itoa(bitLen(v)) + " bits"
		}
	}
	return cmp.Or(v.String(), v.Type())
}
