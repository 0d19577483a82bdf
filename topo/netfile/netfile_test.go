package netfile

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weft/topo"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is different (-update rewrites it): got\n%s\nwant\n%s", file, got, want)
	}
}

// A case of testdata is a file name and a text.
type textCase struct{ name, text string }

// cases reads a file of testdata that has several texts, each after a line `=== NAME`.
func cases(t testing.TB, name string) (list []textCase) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range strings.Split("\n"+string(b), "\n=== ") {
		if i == 0 {
			continue
		}
		title, text, _ := strings.Cut(part, "\n")
		list = append(list, textCase{title, text + "\n"})
	}
	return list
}

// broken holds the message for each of the files in testdata/broken/NAME.txt.
func broken(t *testing.T, name, ext string, least int) {
	t.Helper()
	list := cases(t, "broken/"+name+".txt")
	if len(list) < least {
		t.Errorf("%d files are not %d", len(list), least)
	}
	var out strings.Builder
	for _, c := range list {
		dir := t.TempDir()
		path := filepath.Join(dir, "net"+ext)
		if err := os.WriteFile(path, []byte(unescape(c.text)), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Read(t.Context(), path, Params{})
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		if len(s.Hosts)+len(s.Links) > 0 {
			t.Errorf("%s: a network beside the error", c.name)
		}
		fmt.Fprintf(&out, "=== %s\n%s\n", c.name, strings.ReplaceAll(err.Error(), dir+"/", ""))
	}
	golden(t, "broken/"+name+".golden", []byte(out.String()))
}

// unescape replaces what a text file cannot have: ␀ is a zero byte, ⌧ one that is not UTF-8, →
// a tab.
func unescape(text string) string {
	return strings.NewReplacer("␀", "\x00", "⌧", "\xff", "→", "\t").Replace(text)
}

func TestBrokenYAML(t *testing.T) { broken(t, "yaml", ".yaml", 50) }
func TestBrokenJSON(t *testing.T) { broken(t, "json", ".json", 25) }

// TestYAML holds the networks of files that are right.
func TestYAML(t *testing.T) {
	var out strings.Builder
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
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		fmt.Fprintf(&out, "=== %s\n%s", c.name, describe(t, s))
	}
	golden(t, "yaml.golden", []byte(out.String()))
}

// describe writes a network, a line for each part.
func describe(t testing.TB, s topo.Spec) string {
	t.Helper()
	var out strings.Builder
	line := func(what string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %s\n", what, b)
	}
	line("network", topo.Spec{Name: s.Name, Seed: s.Seed, Addressing: s.Addressing})
	for _, x := range s.Controllers {
		line("controller", x)
	}
	for _, x := range s.Switches {
		line("switch", x)
	}
	for _, x := range s.Hosts {
		line("host", x)
	}
	for _, x := range s.Links {
		line("link", x)
	}
	for _, x := range s.Commands {
		line("run", x)
	}
	return out.String()
}

// What a file names must be below its directory.
func TestSourceOutside(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "inner")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "secret"), "s3cret")
	if err := os.Symlink("../secret", filepath.Join(inner, "link")); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"../secret", "link", filepath.Join(dir, "secret"), "/etc/passwd"} {
		path := filepath.Join(inner, "net.yaml")
		write(path, "hosts: {h1: {files: {/etc/x: {source: "+source+"}}}}\n")
		if _, err := Read(t.Context(), path, Params{}); err == nil || !strings.Contains(err.Error(), "allow it by --allow") {
			t.Errorf("%s: %v", source, err)
		}
		write(path, "dpdk: {nf1: 'firewall --rules "+source+"'}\nhosts: h1\nlinks: [h1 -- nf1]\n")
		if _, err := Read(t.Context(), path, Params{}); err == nil || !strings.Contains(err.Error(), "net.yaml:1:13: nfs: firewall: --rules: "+source) || !strings.Contains(err.Error(), "allow it by --allow") {
			t.Errorf("rules %s: %v", source, err)
		}
		write(path, "hosts: {h1: {files: {/etc/x: {source: "+source+"}}}}\n")
		if source == "/etc/passwd" {
			continue
		}
		s, err := Read(context.Background(), path, Params{Outside: true})
		if err != nil || string(s.Hosts[0].Files[0].Bytes()) != "s3cret" {
			t.Errorf("%s with --allow: %v, %+v", source, err, s)
		}
	}
}

// Paths in the arguments of NFs, and the programs of one's own, are found beside the file from
// wherever it is read; who knows the NFs says what else is wrong, at the place of the NF.
func TestNFFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"web.rules", "mine"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "net.yaml")
	text := "hosts: h1\ndpdk:\n  nf1: firewall --rules web.rules → pcap --file out.pcap\n  nf2: [{name: mine, command: ./mine -v}, {name: firewall, args: [--rules=" + dir + "/web.rules]}]\nlinks: [h1 -- nf1, nf1 -- nf2]\n"
	s, err := Parse(t.Context(), path, []byte(text), Params{})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, sw := range s.Switches {
		for _, n := range sw.DPDK.NFs {
			got += fmt.Sprintln(n.Name, n.Args, n.Command, n.Dir)
		}
	}
	want := "firewall [--rules DIR/web.rules]  \npcap [--file DIR/out.pcap]  \nmine [] ./mine -v DIR\nfirewall [--rules=DIR/web.rules]  \n"
	if want = strings.ReplaceAll(want, "DIR", dir); got != want {
		t.Errorf("%swant\n%s", got, want)
	}
	if err := NFs(&s, path, Params{}); err != nil {
		t.Errorf("a second time: %v", err)
	}
	asked := ""
	_, err = Parse(t.Context(), path, []byte(text), Params{NF: func(n topo.NF) error {
		asked += n.Name + " "
		return fmt.Errorf("%s: unknown flag", n.Name)
	}})
	if asked != "firewall pcap firewall " || err == nil || !strings.Contains(err.Error(), "net.yaml:3:8: nfs: pcap: unknown flag") {
		t.Errorf("asked for %s: %v", asked, err)
	}
}
