package script

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// The samples describe networks that can be built, and say what they are for.
func TestSamples(t *testing.T) {
	paths, err := filepath.Glob("../topologies/*.star")
	if err != nil || len(paths) < 8 {
		t.Fatalf("%d samples, %v", len(paths), err)
	}
	var b strings.Builder
	for _, path := range paths {
		name := filepath.Base(path)
		a := request{Path: path, Describe: true}.evaluate(context.Background(), io.Discard)
		d := a.Description
		if len(a.Errors) > 0 {
			t.Errorf("%s: %v", name, a.Errors)
			continue
		}
		if !strings.Contains(d.Doc, "Try it: ") || !strings.Contains(d.Doc, "  weft ") {
			t.Errorf("%s does not say what to try:\n%s", name, d.Doc)
		}
		for _, p := range d.Params {
			if p.Doc == "" {
				t.Errorf("%s does not say what %s is", name, p.Name)
			}
		}
		a = request{Path: path}.evaluate(context.Background(), io.Discard)
		s := a.Spec
		if len(a.Errors) > 0 {
			t.Errorf("%s: %v", name, a.Errors)
			continue
		}
		what := "network"
		if d.Starts {
			what = "experiment"
		}
		fmt.Fprintf(&b, "%s: %s, %d hosts, %d switches, %d links, %d parameters\n", name, what, len(s.Hosts), len(s.Switches), len(s.Links), len(d.Params))
	}
	golden(t, "samples.txt", b.String())
	for _, c := range []struct {
		name   string
		params map[string]string
		hosts  int
	}{
		{"clos.star", map[string]string{"spines": "4", "leaves": "10", "hosts": "3"}, 30},
		{"campus.star", map[string]string{"buildings": "3", "floors": "1", "hosts": "0", "wifi": "true"}, 3},
		{"fattree.star", map[string]string{"k": "8", "controller": "none"}, 128},
		{"dumbbell.star", map[string]string{"flows": "5", "aqm": "codel"}, 10},
	} {
		a := request{Path: filepath.Join("../topologies", c.name), Params: c.params}.evaluate(context.Background(), io.Discard)
		if n := len(a.Spec.Hosts); len(a.Errors) > 0 || n != c.hosts {
			t.Errorf("%s: %d hosts, want %d: %v", c.name, n, c.hosts, a.Errors)
		}
	}
}
