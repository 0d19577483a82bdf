package netfile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"weft/topo"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("weft.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("weft.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asEditors see a text: as values.
func asEditors(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Load([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Skipf("no JSON: %v", err)
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What Read takes the schema takes.
func TestSchemaTakesWhatIsRight(t *testing.T) {
	s := compiled(t)
	check := func(name, text string) {
		t.Run(name, func(t *testing.T) {
			if err := s.Validate(asEditors(t, text)); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
	for _, c := range cases(t, "yaml.txt") {
		check(c.name, c.text)
	}
	for _, name := range []string{"written.golden", "saved.golden"} {
		for _, c := range cases(t, name) {
			check(name+" "+c.name, c.text)
		}
	}
	samples, err := filepath.Glob("../../topologies/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range samples {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nsteps:") {
			continue // an experiment
		}
		check(path, string(text))
	}
}

// What editors are to mark the schema does not take.
func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	for _, text := range []string{
		"host: h1", "hosts: {h1: {ipp: 10.0.0.1/8}}", "switches: {s1: {failMode: open}}", "switches: {s1: {driver: ovs2}}",
		"controllers: {c0: {kind: nox}}", "links: [h1 s1]", "links: [{a: h1}]", "links: [{h1 -- s1: {dealy: 5ms}}]",
		"links: [{h1 -- s1: {ab: 5ms}}]", "run: [{h1: {at: 5}}]", "run: {h1: date}", "hosts: {h1: {files: {motd: x}}}",
		"addressing: {ipbase: 10.0.0.0/8}", "defaults: {hosts: {}}", "{}", "[]", "groups: {a: {ip: 10.0.0.1/8}}", "hosts: {'a b': null}",
	} {
		if err := s.Validate(asEditors(t, text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

// Every setting says what it is.
func TestSchemaDocs(t *testing.T) {
	all, used := docs(), map[string]bool{}
	for what, typ := range map[string]reflect.Type{
		"addressing": reflect.TypeFor[topo.Addressing](), "host": reflect.TypeFor[topo.Host](), "nat": reflect.TypeFor[topo.NAT](),
		"switch": reflect.TypeFor[topo.Switch](), "controller": reflect.TypeFor[topo.Controller](), "end": reflect.TypeFor[topo.LinkEnd](), "command": reflect.TypeFor[topo.Command](),
		"dpdk": reflect.TypeFor[topo.DPDK](), "nf": reflect.TypeFor[topo.NF](), "chain": reflect.TypeFor[topo.Chain](),
	} {
		for _, f := range fieldsOf(typ) {
			if all[what+"."+f.name] == "" {
				t.Errorf("%s.%s is not in docText: say there what it is", what, f.name)
			}
			used[what+"."+f.name] = true
		}
	}
	for name := range all {
		if !used[name] {
			t.Errorf("%s is in docText, but there is no such setting", name)
		}
	}
}
