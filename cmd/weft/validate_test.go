package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file with steps is an experiment, and checked as one: all that is wrong, each with its place.
func TestValidateExperiment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	for text, want := range map[string]string{
		"topology: single,2\nsteps:\n  - ping: h1 -> h2\n":                            "x.yaml: ok: an experiment for weft run\n",
		"topology: single,2\nsteps:\n  - pingg: h1 -> h2\n  - ping: h1 -> h9\n":       "x.yaml:3:5: there is no action \"pingg\"; did you mean ping?\nx.yaml:4:5: there is no host \"h9\"; did you mean h1?\n",
		"topology: {hosts: h1, link: []}\nsteps:\n  - exec: h1 true\n":                "x.yaml:1:",
		"parameters: {n: 2}\ntopology: \"single,${n}\"\nsteps:\n  - ping: h1 -> h2\n": "x.yaml: ok: an experiment for weft run\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := weft(t, "weft", "validate", file)
		if said := strings.ReplaceAll(r.out+r.err, filepath.Dir(file)+"/", ""); !strings.HasPrefix(said, want) || (r.status == 0) != strings.Contains(want, ": ok: ") {
			t.Errorf("%s\n%s, exit status %d; want\n%s", text, said, r.status, want)
		}
	}
}
