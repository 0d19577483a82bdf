package experiment

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/topo"
)

// A FieldError is what is wrong with a value within the values of a step: Path leads to it,
// by names of maps and numbers of lists.
type FieldError struct {
	Path []any // string or int
	// Key says that the name is wrong, not its value.
	Key bool
	Err error
}

func (e *FieldError) Error() string {
	var sb strings.Builder
	for _, p := range e.Path {
		switch p := p.(type) {
		case string:
			if sb.Len() > 0 {
				sb.WriteByte('.')
			}
			sb.WriteString(p)
		case int:
			fmt.Fprintf(&sb, "[%d]", p+1)
		}
	}
	if sb.Len() == 0 || e.Key {
		return e.Err.Error()
	}
	return sb.String() + ": " + e.Err.Error()
}

func (e *FieldError) Unwrap() error { return e.Err }

// fieldErrors are all that is wrong with a step.
type fieldErrors []*FieldError

// fail notes an error at a path.
func (l *fieldErrors) fail(path []any, err error) {
	if err != nil {
		*l = append(*l, &FieldError{Path: slices.Clone(path), Err: err})
	}
}

// failKey notes an error about a name.
func (l *fieldErrors) failKey(path []any, err error) {
	*l = append(*l, &FieldError{Path: slices.Clone(path), Key: true, Err: err})
}

func (l fieldErrors) join() error {
	var errs []error
	for _, e := range l {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// stepKeys are the names that all steps have besides their action, with a line about each.
func stepKeys() []Field {
	return []Field{
		{Name: "name", Type: "text", Doc: "what people call the step"},
		{Name: "at", Type: "time", Doc: "when it starts, from the start of its list of steps"},
		{Name: "timeout", Type: "time", Doc: "bounds each attempt"},
		{Name: "within", Type: "time", Doc: "repeat it until all that is expected holds, for so long at the most"},
		{Name: "expect", Type: "expectations", Doc: "conditions on the quantities that it measures"},
		{Name: "points", Type: "number", Doc: "that it earns if it passes (1 for checks)"},
		{Name: "required", Type: "yes or no", Doc: "skip the rest if the check fails"},
		{Name: "may_fail", Type: "yes or no", Doc: "go on if the action fails"},
	}
}

// NewStep makes a step of a kind from its short form, if that is not nil, and from values by
// name: the fields of its action and those that all steps have (name, at, timeout, within,
// expect, points, required, may_fail).
// Values are strings, numbers (int, int64, float64), booleans, []any, map[string]any; for steps
// within steps []Step. It is for scripts; its error joins *FieldErrors.
func NewStep(kind string, short any, values map[string]any) (Step, error) {
	k, err := LookupKind(kind)
	if err != nil {
		return Step{}, err
	}
	var errs fieldErrors
	common, own := map[string]any{}, map[string]any{}
	for name, v := range values {
		if slices.ContainsFunc(stepKeys(), func(f Field) bool { return f.Name == name }) {
			common[name] = v
		} else {
			own[name] = v
		}
	}
	d := decoder{errs: &errs}
	s := d.common(nil, common, k)
	if short == nil {
		s.Action = d.action(nil, k, own)
		return s, errs.join()
	}
	s.Action = d.action(nil, k, short)
	if len(own) > 0 && len(errs) == 0 {
		d.fields(nil, reflect.ValueOf(s.Action).Elem(), own, k.Name)
	}
	return s, errs.join()
}

// A decoder turns values into steps and notes all that is wrong.
type decoder struct {
	errs *fieldErrors
	// position says where a path leads to; nil: nowhere.
	position func(path []any) string
}

// common reads what all steps have.
func (d *decoder) common(path []any, values map[string]any, k Kind) (s Step) {
	for _, name := range sortedKeys(values) {
		v, at := values[name], append(slices.Clip(path), name)
		if k.group() && name != "name" && name != "at" {
			d.errs.failKey(at, fmt.Errorf("%s is not for %s; write it at the steps inside", name, k.Name))
			continue
		}
		var err error
		switch name {
		case "name":
			s.Name, err = asText(v)
		case "at":
			var t time.Duration
			if t, err = asDuration(v); err == nil {
				s.At = &t
			}
		case "timeout":
			s.Timeout, err = asPositive(v)
		case "within":
			s.Within, err = asPositive(v)
		case "points":
			var f float64
			if f, err = asNumber(v); err == nil {
				s.Points = &f
				if f < 0 || f > 1e6 {
					err = fmt.Errorf("%g is not from 0 to 1000000", f)
				}
			}
		case "required":
			s.Required, err = asBool(v)
		case "may_fail":
			s.MayFail, err = asBool(v)
		case "expect":
			s.Expect = d.expectations(at, k, v)
		}
		d.errs.fail(at, err)
	}
	return s
}

// expectations reads conditions by the names of quantities.
func (d *decoder) expectations(path []any, k Kind, v any) (all []Expectation) {
	m, ok := v.(map[string]any)
	if !ok {
		d.errs.fail(path, fmt.Errorf("%s is not a list of quantities with conditions; write for example {%s}", describe(v), exampleExpectation(k)))
		return nil
	}
	for _, name := range sortedKeys(m) {
		at := append(slices.Clip(path), name)
		q, err := k.Quantity(name)
		if err != nil {
			d.errs.failKey(at, err)
			continue
		}
		texts := []any{m[name]}
		if l, ok := m[name].([]any); ok {
			texts = l
		}
		e := Expectation{Quantity: name}
		for _, t := range texts {
			text, err := asText(t)
			var c Condition
			if err == nil {
				c, err = ParseCondition(q.Unit, text)
			}
			d.errs.fail(at, err)
			e.Conditions = append(e.Conditions, c)
		}
		if len(texts) == 0 {
			d.errs.fail(at, errors.New("nothing is expected; write a value"))
		}
		all = append(all, e)
	}
	return all
}

func exampleExpectation(k Kind) string {
	if len(k.Quantities) == 0 {
		return ""
	}
	q := k.Quantities[0]
	return q.Name + ": " + map[Unit]string{Number: "1", Percent: "at most 5", Time: "below 50ms", Rate: "at least 9mbit", Text: "contains OK", Nodes: "contains s2"}[q.Unit]
}

// action reads an action of a kind: its short form or its fields.
func (d *decoder) action(path []any, k Kind, v any) Action {
	a := k.New()
	switch v := v.(type) {
	case map[string]any:
		d.fields(path, reflect.ValueOf(a).Elem(), v, k.Name)
		return a
	case []any, []Step:
		// The one list of a kind may stand for it: of steps, of targets.
		target := reflect.ValueOf(a).Elem()
		if f, ok := listField(target); ok {
			d.value(path, f, v)
			return a
		}
	case nil:
		if k.needs() == nil {
			return a
		}
	default:
		if text, err := asText(v); err == nil && k.Short != nil {
			d.errs.fail(path, k.Short(a, text))
			return a
		}
	}
	want := "its fields"
	if k.Short != nil {
		want = strconv.Quote(k.Usage) + " or its fields"
	}
	d.errs.fail(path, fmt.Errorf("%s is not what %s takes; write %s: %s", describe(v), k.Name, want, strings.Join(fieldNames(k), ", ")))
	return a
}

// listField returns the one field of an action that all other fields go without.
func listField(v reflect.Value) (reflect.Value, bool) {
	fields := structFields(v.Type())
	required := 0
	var found reflect.Value
	for _, f := range fields {
		if f.required {
			required++
			if kind := v.FieldByIndex(f.index); kind.Kind() == reflect.Slice {
				found = kind
			}
		}
	}
	return found, required == 1 && found.IsValid()
}

// needs lists the fields that must be given.
func (k Kind) needs() (names []string) {
	for _, f := range k.Fields() {
		if f.Required {
			names = append(names, f.Name)
		}
	}
	return names
}

func fieldNames(k Kind) (names []string) {
	for _, f := range k.Fields() {
		names = append(names, f.Name)
	}
	return names
}

// fields sets the fields of a struct by name.
func (d *decoder) fields(path []any, to reflect.Value, values map[string]any, what string) {
	known := structFields(to.Type())
	var names []string
	for _, f := range known {
		names = append(names, f.name)
	}
	rest := slices.Index(names, restKey)
	for _, name := range sortedKeys(values) {
		at := append(slices.Clip(path), name)
		i := slices.Index(names, name)
		if rest >= 0 && name != "options" && (i < 0 || i == rest) {
			d.linkOption(at, to.FieldByIndex(known[rest].index), name, values[name])
			continue
		}
		if rest >= 0 && name == "options" {
			i = rest
		}
		if i < 0 {
			d.errs.failKey(at, unknown("field of "+what, name, names))
			continue
		}
		f := to.FieldByIndex(known[i].index)
		before := len(*d.errs)
		d.value(at, f, values[name])
		if len(*d.errs) == before {
			d.errs.fail(at, known[i].inBounds(f))
		}
	}
	for _, f := range known {
		if _, given := values[f.name]; f.required && !given && to.FieldByIndex(f.index).IsZero() {
			d.errs.fail(path, fmt.Errorf("%s is missing: %s", f.name, f.doc))
		}
	}
}

// restKey is the name of the field that takes all settings of links.
const restKey = "*"

// linkOption adds a setting of links, written as a field.
func (d *decoder) linkOption(path []any, to reflect.Value, name string, v any) {
	text, err := asText(v)
	if err != nil {
		d.errs.fail(path, err)
		return
	}
	options := to.Addr().Interface().(*[]string)
	*options = append(*options, name+"="+text)
}

// value sets one field.
func (d *decoder) value(path []any, to reflect.Value, v any) {
	if u, ok := to.Addr().Interface().(encoding.TextUnmarshaler); ok {
		text, err := asText(v)
		if err == nil {
			err = u.UnmarshalText([]byte(text))
		}
		d.errs.fail(path, err)
		return
	}
	var err error
	switch p := to.Addr().Interface().(type) {
	case *string:
		*p, err = asText(v)
		if err == nil && *p == "" {
			err = errors.New("it is empty; write a value or leave it out")
		}
	case *[]string:
		*p, err = asNames(v)
	case *int:
		*p, err = asInt(v)
	case *float64:
		*p, err = asNumber(v)
	case *bool:
		*p, err = asBool(v)
	case **int:
		var n int
		n, err = asInt(v)
		*p = &n
	case *time.Duration:
		*p, err = asPositive(v)
	case *topo.Rate:
		var text string
		if text, err = asText(v); err == nil {
			if *p, err = topo.ParseRate(text); err == nil && *p == 0 {
				err = fmt.Errorf("%q is no rate above zero", text)
			}
		}
	case *[]Step:
		before := len(*d.errs)
		if s, ok := v.([]Step); ok {
			*p = s
		} else {
			*p = d.steps(path, v)
		}
		if len(*p) == 0 && len(*d.errs) == before {
			err = errors.New("there are no steps; write at least one")
		}
	case *map[string]string:
		m, ok := v.(map[string]any)
		if !ok {
			err = fmt.Errorf("%s is not a list of names with values", describe(v))
			break
		}
		*p = map[string]string{}
		for _, name := range sortedKeys(m) {
			text, err := asText(m[name])
			d.errs.fail(append(slices.Clip(path), name), err)
			(*p)[name] = text
		}
	default:
		if to.Kind() == reflect.Pointer && to.Type().Elem().Kind() == reflect.Struct {
			m, ok := v.(map[string]any)
			if !ok {
				err = fmt.Errorf("%s is not a list of fields with values", describe(v))
				break
			}
			to.Set(reflect.New(to.Type().Elem()))
			d.fields(path, to.Elem(), m, pathName(path))
			return
		}
		panic("a field of type " + to.Type().String()) // a mistake in the table of kinds
	}
	d.errs.fail(path, err)
}

func pathName(path []any) string {
	for _, p := range slices.Backward(path) {
		if name, ok := p.(string); ok {
			return name
		}
	}
	return "this"
}

// steps reads a list of steps.
func (d *decoder) steps(path []any, v any) (steps []Step) {
	l, ok := v.([]any)
	if !ok {
		d.errs.fail(path, fmt.Errorf("%s is not a list of steps; write one step after each -", describe(v)))
		return nil
	}
	for i, v := range l {
		if s, ok := d.step(append(slices.Clip(path), i), v); ok {
			steps = append(steps, s)
		}
	}
	return steps
}

// step reads a step: one action, and what all steps have.
func (d *decoder) step(path []any, v any) (Step, bool) {
	if text, ok := v.(string); ok { // "- connected"
		v = map[string]any{text: nil}
	}
	m, ok := v.(map[string]any)
	if !ok {
		d.errs.fail(path, fmt.Errorf("%s is not a step; write for example ping: h1 -> h2", describe(v)))
		return Step{}, false
	}
	common := map[string]any{}
	var actions, names []string
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	before := len(*d.errs)
	for _, name := range sortedKeys(m) {
		switch {
		case slices.ContainsFunc(stepKeys(), func(f Field) bool { return f.Name == name }):
			common[name] = m[name]
		case slices.Contains(names, name):
			actions = append(actions, name)
		default:
			d.errs.failKey(append(slices.Clip(path), name), unknownAction(name, names))
		}
	}
	switch {
	case len(actions) == 0:
		if len(*d.errs) == before {
			d.errs.fail(path, fmt.Errorf("the step does nothing; write one of %s", strings.Join(names, ", ")))
		}
		return Step{}, false
	case len(actions) > 1:
		d.errs.failKey(append(slices.Clip(path), actions[1]), fmt.Errorf("a step has one action, this one has %s; make them steps of their own", strings.Join(actions, " and ")))
		return Step{}, false
	}
	k, _ := LookupKind(actions[0])
	s := d.common(path, common, k)
	s.Action = d.action(append(slices.Clip(path), k.Name), k, m[k.Name])
	if d.position != nil {
		s.Position = d.position(path)
	}
	return s, len(*d.errs) == before
}

// unknownAction says that there is no such action, nor anything else that steps have.
func unknownAction(name string, kinds []string) error {
	all := slices.Clone(kinds)
	for _, f := range stepKeys() {
		all = append(all, f.Name)
	}
	if near := topo.Nearest(name, all); near != "" {
		return fmt.Errorf("there is no action %q; did you mean %s?", name, near)
	}
	return fmt.Errorf("there is no action %q (there are: %s)", name, strings.Join(kinds, ", "))
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// describe says what a value is, for messages.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a list of names with values"
	case []any:
		return "a list"
	case string:
		return formatText(v)
	}
	return fmt.Sprint(v)
}

func asText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int, int64, uint64:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return "", fmt.Errorf("%s is not a text", describe(v))
}

func asNames(v any) ([]string, error) {
	if l, ok := v.([]any); ok {
		var names []string
		for _, e := range l {
			text, err := asText(e)
			if err != nil {
				return nil, err
			}
			names = append(names, text)
		}
		if len(names) == 0 {
			return nil, errors.New("the list is empty; name something or leave it out")
		}
		return names, nil
	}
	text, err := asText(v)
	if err != nil {
		return nil, err
	}
	names := splitNames(text)
	if len(names) == 0 {
		return nil, errors.New("nothing is named; write names or leave it out")
	}
	return names, nil
}

func asNumber(v any) (float64, error) {
	switch v := v.(type) {
	case int:
		return float64(v), nil
	case int64:
		return float64(v), nil
	case uint64:
		return float64(v), nil
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return v, nil
		}
	case string:
		if f, err := parseFloat(v); err == nil {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%s is not a number", describe(v))
}

func asInt(v any) (int, error) {
	f, err := asNumber(v)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<52 {
		return 0, fmt.Errorf("%s is not a whole number", describe(v))
	}
	return int(f), nil
}

func asBool(v any) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		switch strings.ToLower(v) {
		case "true", "yes", "on":
			return true, nil
		case "false", "no", "off":
			return false, nil
		}
	}
	return false, fmt.Errorf("%s is neither true nor false", describe(v))
}

func asDuration(v any) (time.Duration, error) {
	text, err := asText(v)
	if err != nil {
		return 0, fmt.Errorf("%s is not a time; write for example 500ms or 10s", describe(v))
	}
	return parseDuration(text)
}

func asPositive(v any) (time.Duration, error) {
	d, err := asDuration(v)
	if err == nil && d == 0 {
		err = errors.New("it must be above zero")
	}
	return d, err
}
