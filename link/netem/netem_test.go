package netem

import (
	"os"
	"testing"

	"weft/internal/ns"
	"weft/link"
	"weft/link/linktest"
)

func TestMain(m *testing.M) { os.Exit(linktest.Main(m)) }

// adder returns the Add of a driver that ends with the test.
func adder(t *testing.T) linktest.Adder {
	t.Helper()
	if err := Probe().Impair; err != nil {
		t.Skip(err)
	}
	home, err := ns.Current()
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(home, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		home.Close()
	})
	return func(c link.Config) (link.Shaper, error) { return d.Add(c) }
}

func TestLinks(t *testing.T) { linktest.Run(t, adder) }
