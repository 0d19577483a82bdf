package netfile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"weft/topo"
)

// sameNetwork reports whether two networks are planned alike.
func sameNetwork(t *testing.T, a, b topo.Spec) bool {
	t.Helper()
	var texts [2]string
	for i, s := range []topo.Spec{a, b} {
		p, err := s.Plan()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	return texts[0] == texts[1]
}

// reread writes a network, reads it again and writes it once more.
func reread(t *testing.T, s topo.Spec) string {
	t.Helper()
	first := ""
	for _, f := range []struct {
		name  string
		write func(topo.Spec) ([]byte, error)
	}{{"again.yaml", YAML}, {"again.json", JSON}} {
		b, err := f.write(s)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), f.name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		again, err := Read(t.Context(), path, Params{})
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if !sameNetwork(t, s, again) {
			t.Errorf("another network, from\n%s", b)
		}
		c, err := f.write(again)
		if err != nil {
			t.Fatal(err)
		}
		if string(c) != string(b) {
			t.Errorf("written again, it is different:\n%s\n%s", b, c)
		}
		if first == "" {
			first = string(b)
		}
	}
	return first
}

// What is written is read as the same network, whatever is in it.
func TestWrite(t *testing.T) {
	out := ""
	for _, c := range cases(t, "yaml.txt") {
		dir := t.TempDir()
		path := filepath.Join(dir, "net.yaml")
		for name, text := range map[string]string{path: c.text, filepath.Join(dir, "motd"): "welcome\n", filepath.Join(dir, "blob"): "\x00\xff"} {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Read(t.Context(), path, Params{})
		if err != nil {
			t.Fatal(err)
		}
		out += "=== " + c.name + "\n" + reread(t, s)
	}
	golden(t, "written.golden", []byte(out))
}

// Networks that run are saved by their plan; brought up from that, they are saved alike.
func TestSave(t *testing.T) {
	out := ""
	for _, shape := range []string{"minimal", "tree,2,3", "reversed,3", "torus,3,3", "leafspine,2,2,2", "fattree"} {
		s, err := topo.Generate(shape)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Plan()
		if err != nil {
			t.Fatal(err)
		}
		p.Name = "lab"
		out += "=== " + shape + "\n" + reread(t, p.Spec())
	}
	golden(t, "saved.golden", []byte(out))
}
