package script

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"
)

// parameters are those that a script declares and those that the user gave.
type parameters struct {
	given    map[string]string
	declared []Param
	values   map[string]starlark.Value
}

// param is the function param(name, default, doc, choices=, min=, max=): it declares a
// parameter and returns its value, of the type of its default. A type (int, float, bool, str)
// as the default makes it required.
func (p *parameters) param(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name, doc string
	var def, choices, least, most starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name, "default", &def, "doc?", &doc, "choices?", &choices, "min?", &least, "max?", &most); err != nil {
		return nil, err
	}
	if v, ok := p.values[name]; ok {
		return v, nil // declared again, by a file that is loaded
	}
	d := Param{Name: name, Doc: doc, Type: def.Type()}
	if f, ok := def.(*starlark.Builtin); ok {
		d.Type, d.Required = f.Name(), true
	} else {
		d.Default = plain(def)
	}
	if d.Type == "str" {
		d.Type = "string"
	}
	if !slices.Contains([]string{"int", "float", "bool", "string"}, d.Type) {
		return nil, fmt.Errorf("param: the default of %s is a %s; write a number, True, False or text, or int, float, bool or str for a parameter without one", name, d.Type)
	}
	var allowed []starlark.Value
	if choices != nil && choices != starlark.None {
		all, ok := choices.(starlark.Iterable)
		if !ok {
			return nil, fmt.Errorf("param: choices of %s: %s is not a list", name, shortly(choices))
		}
		for v := range starlark.Elements(all) {
			allowed = append(allowed, v)
			d.Choices = append(d.Choices, plain(v))
		}
	}
	p.declared = append(p.declared, d)
	value, err := def, error(nil)
	text, given := p.given[name]
	switch {
	case given:
		value, err = d.parse(text)
	case d.Required:
		err = fmt.Errorf("the parameter %s is missing; write %s=%s", name, name, strings.ToUpper(d.Type))
	}
	if err == nil {
		err = bounds(d, value, allowed, least, most)
	}
	if err != nil {
		return nil, usageError{err}
	}
	if p.values == nil {
		p.values = map[string]starlark.Value{}
	}
	p.values[name] = value
	return value, nil
}

// plain writes a value as the user does in a command.
func plain(v starlark.Value) string {
	if s, ok := starlark.AsString(v); ok {
		return s
	}
	return v.String()
}

// parse reads a parameter that the user gave.
func (d Param) parse(text string) (starlark.Value, error) {
	wrong := func(want string) error {
		return fmt.Errorf("the parameter %s is %q, which is not %s", d.Name, text, want)
	}
	switch d.Type {
	case "int":
		n, err := strconv.ParseInt(text, 10, 64)
		if errors.Is(err, strconv.ErrRange) {
			return nil, wrong("in the range of whole numbers")
		} else if err != nil {
			return nil, wrong("a whole number")
		}
		return starlark.MakeInt64(n), nil
	case "float":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f-f != 0 { // infinite, or no number
			return nil, wrong("a number")
		}
		return starlark.Float(f), nil
	case "bool":
		b, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil {
			return nil, wrong("true or false")
		}
		return starlark.Bool(b), nil
	}
	return starlark.String(text), nil
}

func bounds(d Param, v starlark.Value, choices []starlark.Value, least, most starlark.Value) error {
	if len(d.Choices) > 0 && !slices.ContainsFunc(choices, func(c starlark.Value) bool {
		same, err := starlark.Equal(c, v)
		return err == nil && same
	}) {
		return fmt.Errorf("the parameter %s is %s; write one of %s", d.Name, plain(v), list(d.Choices))
	}
	for _, bound := range []struct {
		v     starlark.Value
		above bool
		words string
	}{{least, false, "at least"}, {most, true, "at most"}} {
		if bound.v == nil || bound.v == starlark.None {
			continue
		}
		a, ok1 := starlark.AsFloat(v)
		b, ok2 := starlark.AsFloat(bound.v)
		if !ok1 || !ok2 {
			return fmt.Errorf("the parameter %s is %s, which is not a number with bounds", d.Name, plain(v))
		}
		if bound.above && a > b || !bound.above && a < b {
			return fmt.Errorf("the parameter %s is %s; write %s %s", d.Name, plain(v), bound.words, plain(bound.v))
		}
	}
	return nil
}

// unused returns an error for each parameter that the user gave and no script declared.
func (p *parameters) unused(script string) Errors {
	var names []string
	for _, d := range p.declared {
		names = append(names, d.Name)
	}
	var wrong []string
	for name := range p.given {
		if !slices.Contains(names, name) {
			wrong = append(wrong, name)
		}
	}
	slices.Sort(wrong)
	var all Errors
	for _, name := range wrong {
		err := unknown("parameter", name, slices.Clone(names))
		if len(names) == 0 {
			err = fmt.Errorf("the script takes no parameters; leave %s=%s out", name, p.given[name])
		}
		all = append(all, &Error{Position: Position{File: script}, Message: err.Error(), Usage: true})
	}
	return all
}
