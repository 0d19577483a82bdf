package experiment

import (
	"encoding/json"
	"fmt"
	"strings"
)

// An object is one of JSON.
type object map[string]any

// Schema returns the JSON Schema (draft 2020-12) of experiments' files, by which editors
// complete and check them. network is that of a network's description, which is part of it.
func Schema(network []byte) ([]byte, error) {
	var net object
	if err := json.Unmarshal(network, &net); err != nil {
		return nil, fmt.Errorf("schema of networks: %w", err)
	}
	delete(net, "$schema")
	net["$id"] = "network" // so that its references are to its own parts
	defs := object{"network": net, "steps": object{"type": "array", "minItems": 1, "items": object{"$ref": "#/$defs/step"}}}
	top := object{}
	var required []string
	for _, f := range fileKeys() {
		top[f.Name] = fieldSchema(f)
		if f.Required {
			required = append(required, f.Name)
		}
	}
	describe := func(name string, s object) {
		s["description"] = top[name].(object)["description"]
		top[name] = s
	}
	scalar := object{"type": []string{"string", "number", "boolean"}}
	describe("topology", object{"anyOf": []object{{"type": "string", "description": "a file, or a shape: tree,2,3"}, {"$ref": "#/$defs/network"}}})
	describe("parameters", object{"type": "object", "additionalProperties": object{"anyOf": []object{scalar,
		{"type": "object", "additionalProperties": false, "properties": object{"default": scalar, "doc": object{"type": "string"}}}}}})
	describe("sweep", object{"type": "object", "additionalProperties": object{"anyOf": []object{scalar, {"type": "array", "minItems": 1, "items": scalar}}}})
	describe("connect", object{"type": []string{"string", "number", "boolean"}})
	describe("steps", object{"$ref": "#/$defs/steps"})
	defs["step"] = stepSchema(defs)
	b, err := json.MarshalIndent(object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "an experiment for weft", "type": "object",
		"required": required, "properties": top, "additionalProperties": false, "$defs": defs,
	}, "", "  ")
	return append(b, '\n'), err
}

// stepSchema is a step: one action, and what all steps have. The schema of each kind's fields
// becomes one of defs.
func stepSchema(defs object) object {
	properties := object{}
	for _, f := range stepKeys() {
		properties[f.Name] = fieldSchema(f)
	}
	var words []string // actions that need nothing
	var one, rules []object
	for _, k := range Kinds() {
		name := "do_" + k.Name
		defs[name] = kindSchema(k)
		properties[k.Name] = object{"$ref": "#/$defs/" + name}
		one = append(one, object{"required": []string{k.Name}})
		if k.needs() == nil {
			words = append(words, k.Name)
		}
		expect := object{}
		for _, q := range k.Quantities {
			condition := object{"type": []string{"string", "number"}, "description": q.Doc + " (" + string(q.Unit) + ")"}
			expect[q.Name] = object{"anyOf": []object{condition, {"type": "array", "minItems": 1, "items": condition}}}
		}
		rules = append(rules, object{"if": object{"required": []string{k.Name}},
			"then": object{"properties": object{"expect": object{"type": "object", "additionalProperties": false, "properties": expect}}}})
	}
	return object{"anyOf": []object{
		{"type": "string", "enum": words},
		{"type": "object", "properties": properties, "additionalProperties": false, "oneOf": one, "allOf": rules},
	}}
}

// kindSchema is what the name of an action has for a value.
func kindSchema(k Kind) object {
	long := fieldsSchema(k.Fields())
	forms := []object{long}
	if k.Short != nil {
		forms = append(forms, object{"type": []string{"string", "number"}, "description": k.Usage})
	}
	if k.group() || k.Name == "down" || k.Name == "up" || k.Name == "cut" || k.Name == "mend" {
		list := object{"type": "array", "minItems": 1, "items": object{"type": "string"}}
		if k.group() {
			list = object{"$ref": "#/$defs/steps"}
		}
		forms = append(forms, list)
	}
	if k.needs() == nil {
		forms = append(forms, object{"type": "null"})
	}
	return object{"description": k.Doc, "anyOf": forms}
}

func fieldsSchema(fields []Field) object {
	properties := object{}
	s := object{"type": "object", "properties": properties, "additionalProperties": false}
	var required []string
	for _, f := range fields {
		if f.Name == restKey { // settings of links
			s["additionalProperties"] = object{"type": []string{"string", "number", "boolean"}, "description": f.Doc}
			properties["options"] = object{"type": []string{"string", "array"}}
			continue
		}
		properties[f.Name] = fieldSchema(f)
		if f.Required {
			required = append(required, f.Name)
		}
	}
	if required != nil {
		s["required"] = required
	}
	return s
}

// fieldSchema is a value of a field. A parameter may stand for each, so all but lists and maps
// may be texts too.
func fieldSchema(f Field) object {
	s := object{"type": []string{"string", "number"}}
	switch f.Type {
	case "text":
		s = object{"type": []string{"string", "number", "boolean"}}
	case "yes or no":
		s = object{"type": []string{"boolean", "string"}}
	case "names":
		s = object{"anyOf": []object{{"type": "string"}, {"type": "array", "minItems": 1, "items": object{"type": []string{"string", "number"}}}}}
	case "names with values":
		s = object{"type": "object", "additionalProperties": object{"type": []string{"string", "number", "boolean"}}}
	case "expectations":
		s = object{"type": "object"}
	case "steps":
		s = object{"$ref": "#/$defs/steps"}
	case "fields":
		s = fieldsSchema(f.Fields)
	}
	s["description"] = strings.ToUpper(f.Doc[:1]) + f.Doc[1:]
	return s
}
