package graph

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weft/topo"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// planned returns the plan of a topology by option.
func planned(t testing.TB, text string) *topo.Plan {
	t.Helper()
	s, err := topo.Options{Topo: text}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// lab has all that can be drawn: impaired, parallel and broken links, and names that mean
// something in the languages of drawings.
func lab(t *testing.T) Graph {
	t.Helper()
	l := func(a, b string, options ...string) topo.Link {
		l := topo.Link{A: topo.LinkEnd{Node: a}, B: topo.LinkEnd{Node: b}}
		if err := l.Set(options...); err != nil {
			t.Fatal(err)
		}
		return l
	}
	p, err := topo.Spec{
		Name:  "lab",
		Hosts: []topo.Host{{Name: "end"}, {Name: "subgraph"}, {Name: "h<3>&#"}},
		Switches: []topo.Switch{{Name: "s1"}, {Name: "s2", Controllers: []string{"c0"}},
			{Name: "nf1", Driver: topo.DriverDPDK, DPDK: &topo.DPDK{NFs: []topo.NF{{Name: "monitor"}, {Name: "firewall", Instances: 2}, {Name: "bridge"}}, Chains: []topo.Chain{{Name: "default", Services: []int{2, 3}}}}},
			{Name: "nf2", Driver: topo.DriverDPDK},
			{Name: "nf3", Driver: topo.DriverDPDK, DPDK: &topo.DPDK{Manager: topo.ManagerDPDK, Command: "/usr/bin/dpdk-testpmd {eal} -- -a"}},
			{Name: "nf4", Driver: topo.DriverDPDK, DPDK: &topo.DPDK{Manager: topo.ManagerONVM, NFs: []topo.NF{{Name: "router"}, {Name: "<&\"#>"}}}}},
		Controllers: []topo.Controller{{Name: "c0"},
			{Name: "c1", Kind: topo.ControllerRemote}},
		Links: []topo.Link{l("end", "s1"), l("subgraph", "s1", "bw=10", "ab:delay=5ms"), l("h<3>&#", "s2"), l("s1", "s2"), l("s1", "s2", "loss=1"),
			l("s2", "nf1"), l("nf1", "nf2"), l("nf2", "nf3"), l("nf3", "nf4")},
	}.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return Graph{Plan: p, Down: map[int]bool{4: true}}
}

func TestWrite(t *testing.T) {
	g := lab(t)
	for _, f := range Formats() {
		var out bytes.Buffer
		if err := g.Write(&out, f); err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		path := filepath.Join("testdata", "lab."+string(f))
		if *update {
			if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("%s differs (go test -update rewrites it):\n%s", path, out.String())
		}
		switch f {
		case FormatSVG:
			wellFormed(t, out.Bytes())
		case FormatJSON, FormatRFC8345:
			if !json.Valid(out.Bytes()) {
				t.Errorf("%s is no JSON", f)
			}
		}
	}
	if err := g.Write(io.Discard, "png"); err == nil {
		t.Error("a format that there is not")
	}
}

func wellFormed(t *testing.T, text []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("no XML: %v", err)
		}
	}
}

// An empty network can be drawn too.
func TestEmpty(t *testing.T) {
	p, err := topo.Spec{}.Plan()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Formats() {
		var out bytes.Buffer
		if err := (Graph{Plan: p}).Write(&out, f); err != nil || out.Len() == 0 || strings.Contains(out.String(), "NaN") {
			t.Errorf("%s: %v\n%s", f, err, out.String())
		}
	}
}

// No node lies on another, neighbours are near, and nothing is thrown far away.
func TestLayout(t *testing.T) {
	for _, text := range []string{"tree,3,2", "tree,2,6", "ring,24", "mesh,10", "torus,5,5", "fattree,4", "leafspine,6,3,3", "single,64", "linear,40", "star,30"} {
		p := planned(t, text)
		index := map[string]int{}
		for _, s := range p.Switches {
			index[s.Name] = len(index)
		}
		for _, h := range p.Hosts {
			index[h.Name] = len(index)
		}
		var edges []edge
		for _, l := range p.Links {
			edges = append(edges, edge{index[l.A.Node], index[l.B.Node]})
		}
		at, err := layout(len(index), edges)
		if err != nil {
			t.Fatal(err)
		}
		least := math.Inf(1)
		for i := range at {
			for j := range i {
				least = min(least, math.Hypot(at[i].x-at[j].x, at[i].y-at[j].y))
			}
		}
		if least < leastRoom*0.7 {
			t.Errorf("%s: two nodes are %.0f pixels apart", text, least)
		}
		var links float64
		for _, e := range edges {
			links += math.Hypot(at[e.a].x-at[e.b].x, at[e.a].y-at[e.b].y) / float64(len(edges))
		}
		low, high := bounds(at)
		if wide := max(high.x-low.x, high.y-low.y); links > wide*0.75 && len(at) > 12 {
			t.Errorf("%s: a link is %.0f pixels long in a drawing of %.0f", text, links, wide)
		}
		again, _ := layout(len(index), edges)
		if fmt.Sprint(again) != fmt.Sprint(at) {
			t.Errorf("%s: another drawing the second time", text)
		}
	}
}

func TestLarge(t *testing.T) {
	if _, err := layout(maxNodes+1, nil); !errors.Is(err, errLarge) {
		t.Error(err)
	}
}

// need skips the test unless a program is installed.
func need(t *testing.T, program, hint string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no %s installed: %s", program, hint)
	}
}

// What is written after RFC 8345 is valid for its modules.
func TestRFC8345(t *testing.T) {
	need(t, "yanglint", "apt-get install libyang-tools")
	modules := "testdata/yang/"
	validate := func(data []byte) error {
		file := filepath.Join(t.TempDir(), "data.json")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("yanglint", "-p", modules, "-t", "config", modules+"ietf-network.yang", modules+"ietf-network-topology.yang", file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	for _, g := range []Graph{lab(t), {Plan: planned(t, "tree,3,3")}, {Plan: planned(t, "ring,5")}} {
		var out bytes.Buffer
		if err := g.Write(&out, FormatRFC8345); err != nil {
			t.Fatal(err)
		}
		if err := validate(out.Bytes()); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
		if validate(bytes.Replace(out.Bytes(), []byte(`"tp-id"`), []byte(`"tp-name"`), 1)) == nil {
			t.Error("what the modules do not have is valid, too")
		}
	}
}
