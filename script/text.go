package script

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"go.starlark.net/starlark"
)

// text are the functions with which values become text for people.
func (w *world) text() starlark.StringDict {
	return starlark.StringDict{
		"repr": starlark.NewBuiltin("repr", func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var x starlark.Value
			if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 1, &x); err != nil {
				return nil, err
			}
			text, err := w.representation(x, 0)
			return starlark.String(text), err
		}),
		"help": starlark.NewBuiltin("help", func(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var x starlark.Value = w.net
			if err := starlark.UnpackPositionalArgs(b.Name(), args, kwargs, 0, &x); err != nil {
				return nil, err
			}
			t.Print(t, w.help(x))
			return starlark.None, nil
		}),
	}
}

// maxDepth is how deep values may stand within each other that become text or JSON; a list may
// contain itself.
const maxDepth = 50

// representation is how Mininet's py writes a value: nodes as its dump does, also within
// lists, tuples and dicts.
func (w *world) representation(v starlark.Value, depth int) (string, error) {
	if depth > maxDepth {
		return "...", nil
	}
	switch v := v.(type) {
	case *node:
		if w.live == nil {
			return fmt.Sprintf("<%s %s>", v.kind, v.name), nil
		}
		st, err := w.live.now()
		if err != nil {
			return "", err
		}
		if text := Represent(st, v.name); text != "" {
			return text, nil
		}
		return fmt.Sprintf("<%s %s, which is gone>", v.kind, v.name), nil
	case *link:
		return fmt.Sprintf("<Link %s>", v), nil
	case *port:
		return fmt.Sprintf("<Intf %s>", v.name), nil
	case *starlark.List:
		text, err := w.elements(slices.Collect(starlark.Elements(v)), depth)
		return "[" + text + "]", err
	case starlark.Tuple:
		text, err := w.elements(v, depth)
		if len(v) == 1 {
			text += ","
		}
		return "(" + text + ")", err
	case *starlark.Dict:
		var parts []string
		for _, kv := range v.Items() {
			text, err := w.elements(kv, depth)
			if err != nil {
				return "", err
			}
			parts = append(parts, strings.Replace(text, ", ", ": ", 1))
		}
		return "{" + strings.Join(parts, ", ") + "}", nil
	case starlark.String:
		return pythonQuote(string(v)), nil
	}
	return v.String(), nil
}

func (w *world) elements(values []starlark.Value, depth int) (string, error) {
	var parts []string
	for _, v := range values {
		text, err := w.representation(v, depth+1)
		if err != nil {
			return "", err
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", "), nil
}

// pythonQuote writes text as Python's repr does: with single quotes unless it has some.
func pythonQuote(text string) string {
	quoted := starlark.String(text).String()
	if strings.Contains(text, "'") {
		return quoted
	}
	return "'" + strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + "'"
}

// help lists what an object can do.
func (w *world) help(v starlark.Value) string {
	var rows [][2]string
	switch v := v.(type) {
	case *netObject:
		rows = w.networks.rows()
	case *node:
		rows = v.methods().rows()
	case *link:
		rows = w.wires.rows()
	case *port:
		rows = w.ports.rows()
	default:
		x, ok := v.(starlark.HasAttrs)
		if !ok || len(x.AttrNames()) == 0 {
			return "a " + v.Type() + " has no attributes"
		}
		return "a " + v.Type() + " has " + strings.Join(x.AttrNames(), ", ")
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\n", r[0], r[1])
	}
	t.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// rows returns how each method is called and what it does.
func (m methods[T]) rows() [][2]string {
	var rows [][2]string
	for _, name := range m.names() {
		call := name
		if m[name].run != nil {
			call += "(" + m[name].usage + ")"
		}
		rows = append(rows, [2]string{call, m[name].doc})
	}
	return rows
}

// plainValue returns a value as JSON can have it.
func plainValue(v starlark.Value, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("the value is nested deeper than %d levels", maxDepth)
	}
	list := func(values []starlark.Value) (any, error) {
		all := make([]any, len(values))
		for i, x := range values {
			var err error
			if all[i], err = plainValue(x, depth+1); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	switch v := v.(type) {
	case starlark.NoneType:
		return nil, nil
	case starlark.Bool:
		return bool(v), nil
	case starlark.Int:
		return json.Number(v.String()), nil
	case starlark.Float:
		if f := float64(v); f-f == 0 {
			return f, nil
		}
	case starlark.String:
		return string(v), nil
	case *starlark.Dict:
		all := map[string]any{}
		for _, kv := range v.Items() {
			x, err := plainValue(kv[1], depth+1)
			if err != nil {
				return nil, err
			}
			all[plain(kv[0])] = x
		}
		return all, nil
	case starlark.Tuple:
		return list(v)
	case *starlark.List:
		return list(slices.Collect(starlark.Elements(v)))
	case *starlark.Set:
		return list(slices.Collect(starlark.Elements(v)))
	case *netObject:
		return "net", nil
	}
	return v.String(), nil
}
