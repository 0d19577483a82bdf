package experiment

import (
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"weft/topo"
)

// A Field of an action is a value that files and scripts give it by name.
type Field struct {
	Name     string  `json:"name"`
	Type     string  `json:"type"` // text, names, number, whole number, yes or no, time, rate, steps, …
	Doc      string  `json:"doc"`
	Required bool    `json:"required,omitempty"`
	Fields   []Field `json:"fields,omitempty"` // of a value with fields of its own
}

// Fields lists what actions of the kind take.
func (k Kind) Fields() []Field { return describeFields(reflect.TypeOf(k.New()).Elem()) }

func describeFields(t reflect.Type) (all []Field) {
	for _, f := range structFields(t) {
		d := Field{Name: f.name, Type: typeName(f.typ), Doc: f.doc, Required: f.required}
		if f.typ.Kind() == reflect.Pointer && f.typ.Elem().Kind() == reflect.Struct {
			d.Fields = describeFields(f.typ.Elem())
		}
		all = append(all, d)
	}
	return all
}

// typeName names the type of a field for people.
func typeName(t reflect.Type) string {
	switch v := reflect.Zero(t).Interface().(type) {
	case string:
		return "text"
	case []string:
		return "names"
	case int, *int:
		return "whole number"
	case float64:
		return "number"
	case bool:
		return "yes or no"
	case time.Duration:
		return "time"
	case topo.Rate:
		return "rate"
	case []Step:
		return "steps"
	case map[string]string:
		return "names with values"
	case interface{ typeName() string }:
		return v.typeName()
	}
	return "fields"
}

// A structField is a field of a struct that has the tag key.
type structField struct {
	name, doc string
	required  bool
	min, max  string
	index     []int
	typ       reflect.Type
}

// structFields lists the fields with the tag key, those of embedded structs too.
func structFields(t reflect.Type) (all []structField) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			for _, inner := range structFields(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				all = append(all, inner)
			}
			continue
		}
		if name := f.Tag.Get("key"); name != "" {
			all = append(all, structField{name: name, doc: cmp.Or(f.Tag.Get("doc"), "at least one"), required: f.Tag.Get("required") != "",
				min: f.Tag.Get("min"), max: f.Tag.Get("max"), index: []int{i}, typ: f.Type})
		}
	}
	return all
}

// inBounds says if a whole number is out of its bounds.
func (f structField) inBounds(v reflect.Value) error {
	n, ok := v.Interface().(int)
	if !ok || f.min == "" {
		return nil
	}
	low, _ := strconv.Atoi(f.min)
	high, _ := strconv.Atoi(f.max)
	if n < low || n > high {
		return fmt.Errorf("%d is not from %d to %d", n, low, high)
	}
	return nil
}
