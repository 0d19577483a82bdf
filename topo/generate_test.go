package topo

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// describe writes a Spec as testdata/mininet/golden.py writes a topology of Mininet.
func describe(s Spec) string {
	var b strings.Builder
	var hosts []string
	for _, h := range s.Hosts {
		hosts = append(hosts, h.Name)
	}
	fmt.Fprintf(&b, "hosts %s\n", strings.Join(hosts, " "))
	for _, sw := range s.Switches {
		fmt.Fprintf(&b, "switch %s", sw.Name)
		if sw.DPID != 0 {
			fmt.Fprintf(&b, " dpid=%x", sw.DPID)
		}
		b.WriteByte('\n')
	}
	for _, l := range s.Links {
		fmt.Fprintf(&b, "link %s:%d %s:%d\n", l.A.Node, *l.A.Port, l.B.Node, *l.B.Port)
	}
	return b.String()
}

// TestMininet compares the generators with what Mininet makes.
func TestMininet(t *testing.T) {
	files, err := filepath.Glob("testdata/mininet/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		arg := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(arg, func(t *testing.T) {
			s, err := Generate(arg)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(s); got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestShapes compares the generators that Mininet has not with golden files.
func TestShapes(t *testing.T) {
	for _, arg := range []string{"ring", "ring,4,2", "mesh,4", "star", "star,2,2", "fattree", "fattree,2", "leafspine", "leafspine,3,2,1", "random", "random,6,5,0,7"} {
		t.Run(arg, func(t *testing.T) {
			s, err := Generate(arg)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "shapes/"+arg+".txt", []byte(describe(s)))
		})
	}
}

// TestGenerators checks what is true of every network that a generator makes.
func TestGenerators(t *testing.T) {
	args := []string{
		"minimal", "single,1", "single,k=40", "reversed,40", "linear,1,0", "linear,7,3", "tree,1,1", "tree,3,1", "tree,3,4",
		"torus,3,3,0", "torus,3,300", "ring,3,0", "ring,9,2", "mesh,1,0", "mesh,9,2", "star,1,0", "star,9,2", "fattree,2", "fattree,8",
		"leafspine,1,1,0", "leafspine,5,3,4", "random,1,0,0,0", "random,9,8,2", "random,50,4,1,9",
	}
	for _, g := range Generators() {
		if g.Doc == "" {
			t.Errorf("%s has no doc", g.Name)
		}
		if !slices.ContainsFunc(args, func(arg string) bool { return splitArg(arg).name == g.Name }) {
			t.Errorf("%s is not tested", g.Name)
		}
		for _, arg := range args {
			if splitArg(arg).name != g.Name {
				continue
			}
			values, err := g.values(splitArg(arg))
			if err != nil {
				t.Fatalf("%s: %v", arg, err)
			}
			s, err := Generate(arg)
			if err != nil {
				t.Fatalf("%s: %v", arg, err)
			}
			p := mustPlan(t, s)
			checkUnique(t, p)
			if !connected(p) {
				t.Errorf("%s: not connected", arg)
			}
			nodes, links := g.size(values)
			if int(nodes) != len(p.Hosts)+len(p.Switches) || int(links) != len(p.Links) {
				t.Errorf("%s: size says %v nodes and %v links, there are %d and %d", arg, nodes, links, len(p.Hosts)+len(p.Switches), len(p.Links))
			}
		}
	}
}

func connected(p *Plan) bool {
	next := map[string][]string{}
	for _, l := range p.Links {
		next[l.A.Node] = append(next[l.A.Node], l.B.Node)
		next[l.B.Node] = append(next[l.B.Node], l.A.Node)
	}
	seen := map[string]bool{p.Switches[0].Name: true}
	queue := []string{p.Switches[0].Name}
	for len(queue) > 0 {
		for _, n := range next[queue[0]] {
			if !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
		queue = queue[1:]
	}
	return len(seen) == len(p.Hosts)+len(p.Switches)
}

func TestGenerateErrors(t *testing.T) {
	var b strings.Builder
	for _, arg := range []string{
		"", "tre,2", "nothing-like-it", "minimal,3", "minimal,k=3", "single,0", "single,x", "single,1.5", "single,1,2",
		"linear,2,k=3", "linear,m=2", "torus", "torus,2,2", "torus,3", "fattree,3", "tree,60,60", "tree,depth=0",
		"single,100000", "mesh,5000", "random,3,3", "single,99999999999999999999", "single,-1", "tree,2,", "ring,1,2,3,4",
	} {
		_, err := Generate(arg)
		fmt.Fprintf(&b, "%s\n\t%v\n", arg, err)
		if err == nil {
			t.Errorf("%s: no error", arg)
		}
	}
	golden(t, "generate-errors.txt", []byte(b.String()))
}

func FuzzGenerate(f *testing.F) {
	for _, s := range []string{"tree,2,3", "torus,3,3,n=2", "random,5,2,1,seed=4", "linear,,", "a=b,c", "single,k=5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		s, err := Generate(arg)
		if err != nil || len(s.Links) > 2000 {
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%q makes a network that is not valid: %v", arg, err)
		}
	})
}
