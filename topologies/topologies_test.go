package topologies_test

import (
	"io/fs"
	"strings"
	"testing"

	"weft/topo/netfile"
	"weft/topologies"
)

// Every sample network is valid, needs nothing to be allowed, and says what to try.
func TestNetworks(t *testing.T) {
	files, err := fs.Glob(topologies.Files, "*")
	if err != nil {
		t.Fatal(err)
	}
	networks := 0
	for _, name := range files {
		text, err := fs.ReadFile(topologies.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nsteps:") {
			continue // an experiment
		}
		networks++
		t.Run(name, func(t *testing.T) {
			s, err := netfile.Parse(t.Context(), name, text, netfile.Params{Note: func(n string) { t.Errorf("note: %s", n) }})
			if err != nil {
				t.Fatal(err)
			}
			p, err := s.Plan()
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range p.NeedsTrust() {
				t.Error(err)
			}
			if !strings.Contains(string(text), "Try:") {
				t.Error("it does not say what to try")
			}
		})
	}
	if networks < 12 {
		t.Errorf("only %d networks", networks)
	}
}
