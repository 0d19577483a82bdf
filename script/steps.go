package script

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"weft/experiment"
)

// steps are the functions of experiments: one for each kind of action that files know, and
// check, at and parallel. They are there before net.start() too, so that a file can name
// them. Those of builders describe networks.
func (s *script) steps(builders starlark.StringDict) starlark.StringDict {
	fs := starlark.StringDict{}
	add := func(name string, run func(r *running, c *call) (starlark.Value, error)) {
		builder := builders[name]
		fs[name] = starlark.NewBuiltin(name, func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			if builder != nil && (len(args) > 1 || s.world.trial == nil) { // link(a, b) adds a link, link('a-b delay=5ms') changes it
				return starlark.Call(t, builder, args, kwargs)
			}
			if s.world.trial == nil {
				return nil, fmt.Errorf("%s: the network does not run yet; write this after net.start(), and carry out the script with weft run", name)
			}
			v, err := run(s.world.trial, &call{t, name, args, kwargs})
			if err != nil {
				return nil, named(name, err)
			}
			return v, nil
		})
	}
	for _, k := range experiment.Kinds() {
		switch k.Name {
		case "parallel", "steps", "repeat": // which are for, def and parallel here
			continue
		}
		add(k.Name, func(r *running, c *call) (starlark.Value, error) { return r.step(c, k) })
	}
	s.world.steps = maps.Clone(fs)
	add("check", (*running).check)
	add("at", (*running).at)
	add("parallel", (*running).parallel)
	return fs
}

// fieldName returns the name in files of what scripts call name: some names of files are
// reserved words in Starlark, which are written with _ at their end.
func fieldName(name string) string { return strings.TrimSuffix(name, "_") }

// step carries out an action. Values without a name are its short form: one text, or parts of
// it: iperf(h1, h2), exec(h1, 'date').
func (r *running) step(c *call, k experiment.Kind) (starlark.Value, error) {
	values := map[string]any{}
	for _, kv := range c.kwargs {
		name := fieldName(string(kv[0].(starlark.String)))
		v, err := stepValue(kv[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if name == "at" {
			return nil, errors.New("at is a function here: at(5, lambda: ...)")
		}
		if v != nil {
			values[name] = v
		}
	}
	short, err := shortForm(c.args, k)
	if err != nil {
		return nil, err
	}
	s, err := experiment.NewStep(k.Name, short, values)
	if err != nil {
		return nil, err
	}
	s.Position = where(c.thread).String()
	var result experiment.StepResult
	err = r.world.live.do(c, func() error {
		var err error
		result, err = r.trial.Do(c.ctx(), s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newResult(result)
}

// shortForm joins values without a name to the short form of a kind; nil: there are none.
func shortForm(args starlark.Tuple, k experiment.Kind) (any, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if k.Short == nil {
		return nil, fmt.Errorf("its values need names; it takes %s", strings.Join(fieldsOfKind(k), ", "))
	}
	var words []string
	for _, a := range args {
		v, err := stepValue(a)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case string:
			words = append(words, v)
		case []any:
			var names []string
			for _, x := range v {
				names = append(names, fmt.Sprint(x))
			}
			words = append(words, strings.Join(names, " "))
		default:
			words = append(words, secondsText(a))
		}
	}
	switch between := " "; {
	case len(words) > 2, len(words) == 2 && !strings.Contains(k.Usage, "->") && k.Name != "exec":
		return nil, fmt.Errorf("%d values without a name are too many; write %q", len(words), k.Usage)
	default:
		if strings.Contains(k.Usage, "->") {
			between = " -> "
		}
		return strings.Join(words, between), nil
	}
}

// secondsText writes a number as the short forms of times take it.
func secondsText(v starlark.Value) string {
	if d, err := durationOf(v); err == nil {
		return d.String()
	}
	return v.String()
}

func fieldsOfKind(k experiment.Kind) []string {
	var names []string
	for _, f := range k.Fields() {
		name := f.Name
		if slices.Contains([]string{"as", "from", "is", "with", "in", "not"}, name) {
			name += "_"
		}
		names = append(names, name)
	}
	return names
}

// stepValue returns a value as experiment.NewStep takes it; nil for None.
func stepValue(v starlark.Value) (any, error) {
	switch v := v.(type) {
	case starlark.NoneType:
		return nil, nil
	case starlark.Bool:
		return bool(v), nil
	case starlark.Int:
		if n, ok := v.Int64(); ok {
			return n, nil
		}
	case starlark.Float:
		return float64(v), nil
	case starlark.String:
		return string(v), nil
	case *node, *port:
		return v.String(), nil
	case *link:
		return v.a + "-" + v.b, nil
	case *starlark.Dict:
		all := map[string]any{}
		for _, kv := range v.Items() {
			x, err := stepValue(kv[1])
			if err != nil {
				return nil, err
			}
			all[fieldName(plain(kv[0]))] = x
		}
		return all, nil
	case *starlark.List, starlark.Tuple, *starlark.Set:
		all := []any{}
		for x := range starlark.Elements(v.(starlark.Iterable)) {
			e, err := stepValue(x)
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
		return all, nil
	}
	return nil, fmt.Errorf("%s is no value for a step", shortly(v))
}

// A result is what came of a step: its quantities are attributes, times in seconds, rates in
// bit/s. It is true if the step passed.
type result struct {
	noHash
	of     experiment.StepResult
	values starlark.StringDict
}

var _ starlark.HasAttrs = (*result)(nil)

func newResult(of experiment.StepResult) (starlark.Value, error) {
	r := &result{noHash: noHash{"result"}, of: of, values: starlark.StringDict{
		"status": starlark.String(of.Status), "message": starlark.String(of.Message), "summary": starlark.String(of.Summary),
	}}
	for name, v := range of.Values {
		r.values[name] = starlarkValue(v)
	}
	if of.Detail != nil {
		detail, err := jsonValue(of.Detail)
		if err != nil {
			return nil, err
		}
		r.values["detail"] = detail
	}
	return r, nil
}

func (r *result) String() string {
	text := string(r.of.Status)
	if r.of.Summary != "" {
		text += ": " + r.of.Summary
	}
	return text
}
func (r *result) Type() string { return "result" }
func (r *result) Freeze()      {}
func (r *result) Truth() starlark.Bool {
	return r.of.Status == experiment.Passed || r.of.Status == experiment.Done
}

func (r *result) Attr(name string) (starlark.Value, error) { return r.values[name], nil }
func (r *result) AttrNames() []string                      { return r.values.Keys() }

// starlarkValue returns a value of Go's, of those that results and JSON have.
func starlarkValue(v any) starlark.Value {
	switch v := v.(type) {
	case nil:
		return starlark.None
	case bool:
		return starlark.Bool(v)
	case time.Duration:
		return starlark.Float(v.Seconds())
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return starlark.MakeInt64(int64(v))
		}
		return starlark.Float(v)
	case string:
		return starlark.String(v)
	case []string:
		var all []starlark.String
		for _, x := range v {
			all = append(all, starlark.String(x))
		}
		return listOf(all)
	case []any:
		var all []starlark.Value
		for _, x := range v {
			all = append(all, starlarkValue(x))
		}
		return starlark.NewList(all)
	case map[string]any:
		d := starlark.NewDict(len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			d.SetKey(starlark.String(name), starlarkValue(v[name])) // text can be a key
		}
		return d
	}
	return starlark.String(fmt.Sprint(v))
}

// pause is the time between two looks at a condition.
const pause = 100 * time.Millisecond

// check is the function check(name, condition, points=1, message=”, within=, required=): the
// condition is a value, or a function of none, which is called again until it is true if there
// is a within.
func (r *running) check(c *call) (starlark.Value, error) {
	var name, condition, points, message, within, required starlark.Value
	if err := c.take([]string{"name", "condition", "points?", "message?", "within?", "required?"}, &name, &condition, &points, &message, &within, &required); err != nil {
		return nil, err
	}
	if err := c.done("name", "condition", "points", "message", "within", "required"); err != nil {
		return nil, err
	}
	title, ok := starlark.AsString(name)
	if !ok || title == "" {
		return nil, fmt.Errorf("name: %s is not text; write what is checked, then the condition", shortly(name))
	}
	worth := 1.0
	if points != nil && points != starlark.None {
		if worth, ok = starlark.AsFloat(points); !ok || !(worth >= 0 && worth <= 1e6) {
			return nil, fmt.Errorf("points: %s is not a number from 0 to 1000000", shortly(points))
		}
	}
	var limit time.Duration
	if within != nil && within != starlark.None {
		var err error
		if limit, err = durationOf(within); err != nil {
			return nil, fmt.Errorf("within: %w", err)
		}
	}
	began := time.Now()
	held, tries := condition, 0
	for {
		if f, ok := condition.(starlark.Callable); ok {
			var err error
			if held, err = starlark.Call(c.thread, f, nil, nil); err != nil {
				return nil, err
			}
		}
		tries++
		if _, again := condition.(starlark.Callable); bool(held.Truth()) || !again || time.Since(began) >= limit {
			break
		}
		if err := r.world.live.wait(c, func() error { return sleep(c, pause) }); err != nil {
			return nil, err
		}
	}
	why := ""
	switch {
	case message != nil && message != starlark.None:
		why = plain(message)
	case limit > 0:
		why = fmt.Sprintf("it does not hold (%d tries within %s)", tries, limit)
	default:
		why = "it does not hold"
	}
	passed := bool(held.Truth())
	step := r.trial.Check(title, where(c.thread).String(), passed, worth, why)
	if !passed && required == starlark.True {
		return nil, &experiment.StepError{Step: step, Reason: why}
	}
	return starlark.Bool(passed), nil
}

func sleep(c *call, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.ctx().Done():
		return c.ctx().Err()
	}
}

// at is the function at(time, f): f is called so long after net.start(), beside the rest of the
// script, which does not end before.
func (r *running) at(c *call) (starlark.Value, error) {
	var when, what starlark.Value
	if err := c.take([]string{"time", "function"}, &when, &what); err != nil {
		return nil, err
	}
	if err := c.done("time", "function"); err != nil {
		return nil, err
	}
	d, err := durationOf(when)
	if err != nil {
		return nil, err
	}
	f, ok := what.(starlark.Callable)
	if !ok {
		return nil, fmt.Errorf("%s is not a function; write at(%s, lambda: ...)", shortly(what), when)
	}
	wait := time.Until(r.began.Add(d))
	if wait < -50*time.Millisecond {
		r.trial.Note("%s: at(%s): it is late, by %s", where(c.thread), when, (-wait).Round(time.Millisecond))
	}
	r.background.Go(func() {
		select {
		case <-time.After(wait):
		case <-r.ctx.Done():
			return
		}
		if _, err := r.call(f); err != nil {
			r.cancel(err)
		}
	})
	return starlark.None, nil
}

// parallel is the function parallel(f, ...): it calls functions at the same time, and returns
// what they return.
func (r *running) parallel(c *call) (starlark.Value, error) {
	if err := c.done(); err != nil {
		return nil, err
	}
	var fs []starlark.Callable
	for _, a := range c.args {
		f, ok := a.(starlark.Callable)
		if !ok {
			return nil, fmt.Errorf("%s is not a function; write parallel(lambda: ..., lambda: ...)", shortly(a))
		}
		fs = append(fs, f)
	}
	values, errs := make([]starlark.Value, len(fs)), make([]error, len(fs))
	err := r.world.live.wait(c, func() error {
		done := make(chan int, len(fs))
		for i, f := range fs {
			go func() {
				values[i], errs[i] = r.call(f)
				if errs[i] != nil {
					r.cancel(errs[i])
				}
				done <- i
			}()
		}
		var first error
		for range fs {
			if i := <-done; first == nil {
				first = errs[i]
			}
		}
		return first
	})
	if err != nil {
		return nil, err
	}
	return starlark.NewList(values), nil
}
