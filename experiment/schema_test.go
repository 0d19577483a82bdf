package experiment

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// TestSchema holds the schema against files: those that can be read are valid, and those with an
// error of form are not.
func TestSchema(t *testing.T) {
	text, err := Schema([]byte(`{"$schema": "x", "type": "object", "properties": {"topo": {"$ref": "#/$defs/shape"}}, "$defs": {"shape": {"type": "string"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(text string) error {
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	if err := valid(whole); err != nil {
		t.Errorf("a file with all that there is: %v", err)
	}
	samples, _ := filepath.Glob("../topologies/*.yaml")
	for _, f := range samples {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nsteps:") {
			if err := valid(string(text)); err != nil {
				t.Errorf("%s: %v", f, err)
			}
		}
	}
	for _, bad := range []string{
		"steps: [connected]", "topology: x", "topology: x\nsteps: []", "topology: x\nsteps: [conected]", "topology: x\ntrails: 3\nsteps: [connected]",
		"topology: x\nsteps: [{ping: {from: h1}}]", "topology: x\nsteps: [{ping: {from: h1, to: h2, cuont: 3}}]", "topology: x\nsteps: [{ping: a, iperf: b}]",
		"topology: x\nsteps: [{ping: a, expect: {rat: 5}}]", "topology: x\nsteps: [{ping: a, pionts: 5}]", "topology: {topo: 5}\nsteps: [connected]",
		"topology: x\nsteps: [{parallel: [conected]}]",
	} {
		if valid(bad) == nil {
			t.Errorf("the schema takes %q", bad)
		}
	}
}
