package experiment

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/topo"
	"weft/topo/netfile"
)

// A Loader makes a topology of what a file says of it; text is set for the short form, a file's
// name or a shape, else node is its description.
type Loader func(t Topology) (topo.Spec, error)

// maxFile bounds a file of an experiment, bytes.
const maxFile = 4 << 20

// ReadFile reads an experiment in YAML. Its error has a line FILE:LINE:COLUMN: for each thing
// that is wrong.
func ReadFile(path string, load Loader) (*Experiment, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no ordinary file", path)
	case st.Size() > maxFile:
		return nil, fmt.Errorf("%s: an experiment has %d MiB at the most", path, maxFile>>20)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text, load)
}

// fileKeys are the names at the top of a file.
func fileKeys() []Field {
	return []Field{
		{Name: "name", Type: "text", Doc: "what it is called; the results directory has it in its name (the file's name)"},
		{Name: "doc", Type: "text", Doc: "what it is about, for the report"},
		{Name: "topology", Type: "topology", Doc: "the network: a file, a shape (tree,2,3), or its description", Required: true},
		{Name: "parameters", Type: "parameters", Doc: "names with values; ${name} stands for the value anywhere in the file"},
		{Name: "sweep", Type: "sweep", Doc: "parameters with lists of values: each combination is tried"},
		{Name: "trials", Type: "whole number", Doc: "how often each combination is tried (1)"},
		{Name: "seed", Type: "whole number", Doc: "makes the chance of impaired links repeatable"},
		{Name: "timeout", Type: "time", Doc: "bounds each trial (10m)"},
		{Name: "connect", Type: "time", Doc: "bounds the wait for controllers before the first step (30s); no: do not wait"},
		{Name: "steps", Type: "steps", Doc: "what to do, measure and check, one after the other", Required: true},
	}
}

// Parse reads the text of an experiment's file.
func Parse(path string, text []byte, load Loader) (*Experiment, error) {
	doc, err := parseDocument(path, text)
	if err != nil {
		return nil, err
	}
	f := file{document: doc, load: load}
	e := f.head(path, string(text))
	if len(doc.errs) == 0 && len(doc.foreign) == 0 {
		doc.errs.fail([]any{"sweep"}, e.check())
	}
	// What is wrong is told all at once, and with the first values of the parameters.
	if _, err := f.prepare(Points(e.Parameters, nil)[0]); err != nil {
		return nil, err
	}
	e.Prepare = f.prepare
	return e, nil
}

// A file is an experiment's file.
type file struct {
	*document
	load Loader
}

// head reads all but the topology and the steps.
func (f *file) head(path, text string) *Experiment {
	base := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	e := &Experiment{Name: base, File: path, Source: text}
	known := fileKeys()
	var names []string
	for _, k := range known {
		names = append(names, k.Name)
	}
	for _, name := range f.keys(nil) {
		if !slices.Contains(names, name) {
			f.errs.failKey([]any{name}, unknown("key", name, names))
		}
	}
	for _, k := range known {
		if _, given := f.top[k.Name]; k.Required && !given {
			f.errs.fail(nil, fmt.Errorf("%s is missing: %s", k.Name, k.Doc))
		}
	}
	read := func(name string, into func(v any) error) {
		if v, ok := f.top[name]; ok {
			f.errs.fail([]any{name}, into(v))
		}
	}
	read("name", func(v any) (err error) { e.Name, err = asText(v); return err })
	read("doc", func(v any) (err error) { e.Doc, err = asText(v); return err })
	read("trials", func(v any) (err error) {
		if e.Trials, err = asInt(v); err == nil && (e.Trials < 1 || e.Trials > maxTrials) {
			err = fmt.Errorf("%d is not from 1 to %d", e.Trials, maxTrials)
		}
		return err
	})
	read("seed", func(v any) error {
		text, err := asText(v)
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%s is not a whole number from 0 to 2^64-1", describe(v))
		}
		e.Seed = &n
		return nil
	})
	read("timeout", func(v any) (err error) { e.Timeout, err = asPositive(v); return err })
	f.parameters(e)
	f.sweep(e)
	return e
}

// parameters reads names with values, or with a value and what it is for.
func (f *file) parameters(e *Experiment) {
	v, ok := f.top["parameters"]
	if !ok {
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		f.errs.fail([]any{"parameters"}, fmt.Errorf("%s is not a list of names with values; write for example delay: 5ms", describe(v)))
		return
	}
	for _, name := range f.keys([]any{"parameters"}) {
		at := []any{"parameters", name}
		p := Parameter{Name: name}
		if !isParameter(name) {
			f.errs.failKey(at, fmt.Errorf("%q is no name of a parameter; write letters, digits and _", name))
			continue
		}
		var err error
		if inner, ok := m[name].(map[string]any); ok {
			for _, key := range sortedKeys(inner) {
				in := append(slices.Clip(at), key)
				switch key {
				case "default":
					p.Default, err = asText(inner[key])
				case "doc":
					p.Doc, err = asText(inner[key])
				default:
					f.errs.failKey(in, unknown("field of a parameter", key, []string{"default", "doc"}))
				}
				f.errs.fail(in, err)
			}
		} else {
			p.Default, err = asText(m[name])
			f.errs.fail(at, err)
		}
		e.Parameters = append(e.Parameters, p)
	}
}

func isParameter(name string) bool {
	for i, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return name != ""
}

// sweep reads parameters with lists of values.
func (f *file) sweep(e *Experiment) {
	v, ok := f.top["sweep"]
	if !ok {
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		f.errs.fail([]any{"sweep"}, fmt.Errorf("%s is not a list of parameters with values; write for example delay: [1ms, 10ms]", describe(v)))
		return
	}
	var names []string
	for _, p := range e.Parameters {
		names = append(names, p.Name)
	}
	for _, name := range f.keys([]any{"sweep"}) {
		at := []any{"sweep", name}
		if !slices.Contains(names, name) {
			f.errs.failKey(at, unknown("parameter", name, names))
			continue
		}
		values, err := asNames(m[name])
		f.errs.fail(at, err)
		e.Sweep = append(e.Sweep, Axis{name, values})
	}
}

// prepare makes an instance of the file with these parameters. Its error has all that is
// wrong with the file.
func (f *file) prepare(args Arguments) (Instance, error) {
	doc := f.document.with(args)
	var in Instance
	if v, ok := doc.top["connect"]; ok {
		if yes, err := asBool(v); err == nil && !yes {
			in.Connect = -1
		} else {
			in.Connect, err = asPositive(v)
			doc.errs.fail([]any{"connect"}, err)
		}
	}
	if v, ok := doc.top["steps"]; ok {
		d := decoder{errs: &doc.errs, position: func(path []any) string { return doc.position(path).String() }}
		before := len(doc.errs)
		in.Steps = d.steps([]any{"steps"}, v)
		if len(in.Steps) == 0 && len(doc.errs) == before {
			doc.errs.fail([]any{"steps"}, errors.New("there are no steps; write at least one"))
		}
	}
	if _, ok := doc.top["topology"]; ok {
		if p := doc.network(f.load, &in.Spec); p != nil {
			doc.check(p, in.Steps)
		}
	}
	return in, doc.err()
}

// network reads the topology. It returns nil if that is wrong.
func (d *document) network(load Loader, into *topo.Spec) *topo.Plan {
	t := d.topology()
	s, err := load(t)
	var p *topo.Plan
	if err == nil {
		*into = s
		p, err = s.Plan()
	}
	if err == nil {
		return p
	}
	for _, e := range leaves(err) {
		if _, placed := e.(*netfile.Error); placed {
			d.foreign = append(d.foreign, e)
		} else {
			d.errs.fail([]any{"topology"}, e)
		}
	}
	return nil
}

// check looks at steps with the network's plan at hand.
func (d *document) check(p *topo.Plan, steps []Step) {
	var note func(at string, err error)
	note = func(at string, err error) {
		for _, e := range leaves(err) {
			var inner *PositionError
			switch {
			case e == nil:
			case errors.As(e, &inner):
				note(inner.Position, inner.Err)
			default:
				d.foreign = append(d.foreign, &netfile.Error{Position: parsePosition(at), Message: e.Error()})
			}
		}
	}
	note("", validate(p, steps))
}

// parsePosition reads FILE:LINE:COLUMN.
func parsePosition(text string) netfile.Position {
	parts := strings.Split(text, ":")
	if n := len(parts); n >= 3 {
		line, errLine := strconv.Atoi(parts[n-2])
		column, errColumn := strconv.Atoi(parts[n-1])
		if errLine == nil && errColumn == nil {
			return netfile.Position{File: strings.Join(parts[:n-2], ":"), Line: line, Column: column}
		}
	}
	return netfile.Position{File: text}
}

// Override sets parameters, the sweep and the rest from the command line.
func (e *Experiment) Override(arguments, sweep []string, trials int, seed *uint64, timeout time.Duration) error {
	var errs []error
	find := func(name string) int {
		i := slices.IndexFunc(e.Parameters, func(p Parameter) bool { return p.Name == name })
		if i < 0 {
			var names []string
			for _, p := range e.Parameters {
				names = append(names, p.Name)
			}
			errs = append(errs, unknown("parameter", name, names))
		}
		return i
	}
	for _, a := range arguments {
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("%q is not KEY=VALUE", a))
		} else if i := find(name); i >= 0 {
			e.Parameters[i].Default = value
			e.Sweep = slices.DeleteFunc(e.Sweep, func(x Axis) bool { return x.Parameter == name })
		}
	}
	for _, s := range sweep {
		name, values, ok := strings.Cut(s, "=")
		if !ok || values == "" {
			errs = append(errs, fmt.Errorf("--sweep: %q is not KEY=VALUE,VALUE,...; write for example delay=1ms,10ms", s))
			continue
		}
		if find(name) < 0 {
			continue
		}
		axis := Axis{name, strings.Split(values, ",")}
		if i := slices.IndexFunc(e.Sweep, func(x Axis) bool { return x.Parameter == name }); i >= 0 {
			e.Sweep[i] = axis
		} else {
			e.Sweep = append(e.Sweep, axis)
		}
	}
	e.Trials, e.Timeout = cmp.Or(trials, e.Trials), cmp.Or(timeout, e.Timeout)
	if seed != nil {
		e.Seed = seed
	}
	return errors.Join(append(errs, e.check())...)
}
