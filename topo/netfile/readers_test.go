package netfile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestBrokenGraphML(t *testing.T)      { broken(t, "graphml", ".graphml", 25) }
func TestBrokenMiniEdit(t *testing.T)     { broken(t, "mn", ".mn", 25) }
func TestBrokenContainerlab(t *testing.T) { broken(t, "clab", ".clab.yml", 25) }

// needsPython skips where Python files cannot be read.
func needsPython(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		done <- writeNothing()
	}()
	if err := <-done; err != nil {
		t.Skip("needs Landlock (Linux 5.13)")
	}
}

func TestBrokenPython(t *testing.T) {
	needsPython(t)
	broken(t, "py", ".py", 25)
}

// TestReaders holds the networks of files of others, and what is told of them.
func TestReaders(t *testing.T) {
	files, err := filepath.Glob("testdata/foreign/*")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, ".golden") {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			if strings.HasSuffix(path, ".py") {
				needsPython(t)
			}
			var out strings.Builder
			s, err := Read(t.Context(), path, Params{Note: func(text string) { fmt.Fprintln(&out, text) }})
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(describe(t, s))
			golden(t, "foreign/"+filepath.Base(path)+".golden", []byte(out.String()))
			reread(t, s)
		})
	}
}

// What is written for Mininet is read as the same network, as far as Mininet goes.
func TestPythonWrite(t *testing.T) {
	needsPython(t)
	text := "topo: linear,2\nhosts:\n  h1: {ip: 10.0.0.7/24, mac: '02:00:00:00:00:09', privateDirs: [/var/run]}\n  h2: {defaultRoute: 10.0.0.9}\n" +
		"switches: {s1: {protocols: [OpenFlow13], dpid: 77}}\ndefaults: {link: {bw: 10, ab: {delay: 5ms}, ba: {loss: 1.5}}}\n"
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Read(t.Context(), path, Params{})
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	b, err := Python(s, func(n string) { notes = append(notes, n) })
	if err != nil || len(notes) > 0 {
		t.Fatalf("%v, %q", err, notes)
	}
	golden(t, "written.py", b)
	path = filepath.Join(t.TempDir(), "a.py")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Read(t.Context(), path, Params{})
	if err != nil {
		t.Fatal(err)
	}
	if !sameNetwork(t, s, again) {
		t.Errorf("another network:\n%s\n%s", describe(t, s), describe(t, again))
	}
}

// What Mininet does not have is said.
func TestPythonLoses(t *testing.T) {
	s, err := Parse(t.Context(), "a.yaml", []byte("seed: 3\naddressing: {ipBase: 10.7.0.0/16, ip6Base: \"fd00::/64\", autoMAC: true}\nswitches: s1\nhosts: h2 h1\n"+
		"links:\n  - {a: {node: h1, ip: 10.7.0.9/16}, b: s1}\n  - h2 -- s1\n"), Params{})
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	if _, err := Python(s, func(n string) { notes = append(notes, n) }); err != nil {
		t.Fatal(err)
	}
	want := []string{"the address of h1", "the seed", "IPv6", "mn --ipbase 10.7.0.0/16", "mn --mac", "the order of their names"}
	for i, w := range want {
		if i >= len(notes) || !strings.Contains(notes[i], w) {
			t.Fatalf("notes %q, want %q", notes, want)
		}
	}
}

// A topology of several is chosen by its name, with arguments as Mininet has them.
func TestPythonTopo(t *testing.T) {
	needsPython(t)
	path := filepath.Join(t.TempDir(), "a.py")
	text := "from mininet.topo import Topo, SingleSwitchTopo, LinearTopo\ntopos = {'one': SingleSwitchTopo, 'row': lambda *a, **k: LinearTopo(*a, **k)}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for choice, hosts := range map[string]int{"one": 2, "one,5": 5, "one,k=4": 4, "row,3,n=2": 6} {
		s, err := Read(t.Context(), path, Params{Topo: choice})
		if err != nil || len(s.Hosts) != hosts {
			t.Errorf("%s: %d hosts, %v", choice, len(s.Hosts), err)
		}
	}
	if _, err := Read(t.Context(), path, Params{Topo: "on"}); err == nil || !strings.Contains(err.Error(), "did you mean one?") {
		t.Error(err)
	}
}

// A great circle of the earth is known.
func TestGreatCircle(t *testing.T) {
	for _, c := range []struct {
		latA, lonA, latB, lonB float64
		want                   string
	}{
		{0, 0, 0, 180, "20015 km 98.01ms"},
		{51.5074, -0.1278, 40.7128, -74.0060, "5570 km 27.28ms"}, // London – New York
		{0, 0, 0, 0, "0 km 0s"},
	} {
		km := greatCircle(c.latA, c.lonA, c.latB, c.lonB)
		if got := fmt.Sprintf("%.0f km %s", km, fibreDelay(km)); got != c.want {
			t.Errorf("%v: %s, want %s", c, got, c.want)
		}
	}
}

// Nothing that a file has makes its reader panic, and what it takes is valid.
func fuzzReader(f *testing.F, ext string, seeds ...string) {
	for _, name := range seeds {
		for _, c := range cases(f, name) {
			f.Add(c.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(t.Context(), "net"+ext, []byte(text), Params{})
		if err != nil {
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := YAML(s); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func FuzzYAML(f *testing.F)         { fuzzReader(f, ".yaml", "yaml.txt", "broken/yaml.txt", "broken/json.txt") }
func FuzzGraphML(f *testing.F)      { fuzzReader(f, ".graphml", "broken/graphml.txt") }
func FuzzMiniEdit(f *testing.F)     { fuzzReader(f, ".mn", "broken/mn.txt") }
func FuzzContainerlab(f *testing.F) { fuzzReader(f, ".clab.yml", "broken/clab.txt") }

// What Mininet has no words for is told: each DPDK node with what it does.
func TestPythonDPDK(t *testing.T) {
	text := "hosts: h1\ncontrollers: none\ndpdk:\n  nf1: firewall --rule drop → bridge\n  nf2: {nfs: [monitor], chains: {web: [monitor]}}\n  nf3:\n  nf4: {manager: dpdk, command: testpmd, nics: ['0000:01:00.0']}\nlinks: [h1 -- nf1]\n"
	s, err := Parse(t.Context(), "net.yaml", []byte(text), Params{})
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	if _, err := Python(s, func(n string) { notes = append(notes, n) }); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"switch nf1: Mininet has no DPDK nodes; it is a plain switch there, without its NFs firewall, bridge",
		"switch nf2: Mininet has no DPDK nodes; it is a plain switch there, without its NFs monitor and without its chains and flows",
		"switch nf3: Mininet has no DPDK nodes; it is a plain switch there, without its NF bridge",
		"switch nf4: Mininet has no DPDK nodes; it is a plain switch there, without its program testpmd and without the NICs 0000:01:00.0",
		"controllers are left out; use mn --controller",
	}
	if !slices.Equal(notes, want) {
		t.Errorf("%q\nwant\n%q", notes, want)
	}
}
