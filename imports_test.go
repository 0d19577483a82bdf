// Package weft_test holds the rules of the repository that the compiler does not: which
// package may import which, and that each says what it is for.
package weft_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// arrows says which packages of weft a package may import; they point down.
//
//	cmd ─► session ─► shell ─► api ─► network ─► node, link, control, … ─► internal
//	  └───────┴─────────┴───────┴────────┴─────────────┴───────────────────► topo
func arrows() map[string][]string {
	bottom := []string{"topo", "internal/"}
	return map[string][]string{
		"cmd/weft": {"session", "dpdkhost", "dpdkhost/server", "graph", "link/record", "link/parquet", "experiment", "script", "shell", "api", "network", "capture", "conversation", "topo", "topo/netfile", "topologies", "internal/doctor", "internal/sandbox", "dpdkhost/nic", "dpdkhost/nf", "dpdkhost/nf/builtin", "dpdkhost/nf/scaffold"},
		// Builds networks, acts on them, checks and reports.
		"experiment":     {"graph", "api", "network", "dpdkhost", "capture", "conversation", "control", "control/openflow", "topo", "topo/", "internal/"},
		"graph":          {"topo"},
		"session":        {"shell", "api", "network", "capture", "conversation", "topo", "internal/sandbox"},
		"shell":          {"script", "api", "network", "capture", "conversation", "dpdkhost", "topo"},
		"script":         {"experiment", "api", "network", "dpdkhost", "topo"},
		"api":            {"network", "node", "capture", "conversation", "dpdkhost", "topo", "internal/sandbox"},
		"network":        {"node", "link", "link/parquet", "link/wire", "link/netem", "control", "capture", "conversation", "dpdkhost", "dpdkhost/nic", "dpdkhost/manager", "dpdkhost/memif", "dpdkhost/port", "dpdkhost/server", "dpdkhost/eal", "dpdkhost/onvm", "topo", "internal/"},
		"node":           bottom, // not link: network joins them
		"link":           bottom, // not node
		"link/wire":      {"link", "link/record", "link/wire/lane", "topo", "internal/"},
		"link/netem":     {"link", "topo", "internal/"},
		"link/linktest":  {"link", "topo", "internal/"},
		"link/wire/lane": {"link", "link/record", "topo", "internal/vnet"},
		"link/record":    {"internal/"},
		"link/parquet":   {"link/record"},
		"control":        bottom,
		// What control relays, as values and text.
		"control/openflow":             {"control", "internal/"},
		"conversation":                 {"control", "control/openflow", "topo", "internal/"},
		"capture":                      {"control", "internal/"},
		"topo":                         nil,
		"dpdkhost":                     {"topo"},
		"dpdkhost/manager/managertest": {"dpdkhost/manager", "dpdkhost/nf", "dpdkhost/shm"},
		"dpdkhost/agent":               {"control", "dpdkhost/manager"},
		"dpdkhost/shm":                 nil,
		"dpdkhost/nf":                  {"dpdkhost/shm"},
		// What comes with weft.
		"dpdkhost/nf/builtin": {"dpdkhost/nf", "topo"},
		// A user's own: a sample, and what it is built with.
		"dpdkhost/nf/sample":   {"dpdkhost/nf"},
		"dpdkhost/nf/scaffold": {"dpdkhost"},
		"dpdkhost/nf/nftest":   {"dpdkhost/nf", "dpdkhost/shm"},
		"dpdkhost/manager":     {"dpdkhost/shm", "dpdkhost/nf", "internal/vnet"},
		"dpdkhost/port":        {"dpdkhost/shm", "dpdkhost/manager", "dpdkhost/memif", "link", "internal/"},
		"dpdkhost/nic":         nil,
		"dpdkhost/server":      {"control", "dpdkhost", "dpdkhost/", "topo", "internal/"},
		"internal/sandbox":     {"dpdkhost/nic"}, // which it lends
		// A port of the manager.
		"dpdkhost/memif": {"dpdkhost/manager", "dpdkhost/shm"},
		// Foreign managers: any DPDK program, OpenNetVM.
		"dpdkhost/eal":  {"dpdkhost", "dpdkhost/memif", "link", "topo", "internal/"},
		"dpdkhost/onvm": {"dpdkhost", "dpdkhost/eal", "topo", "internal/"},
		"topo/netfile":  {"topo"},
		"topologies":    nil,
		// A tool of the tests.
		"internal/vm/cmd/vm": {"internal/vm"},
		"internal/device":    {"internal/vnet"},
		// Outsiders use the program, not its packages.
		"bench":         nil,
		"bench/capture": nil,
		// The same loads on bare drivers, without a network around them.
		"bench/link": {"link", "link/record", "link/wire", "link/netem", "internal/"},
		"bench/nf":   {"dpdkhost/", "link", "topo", "internal/"},
		"e2e":        nil,
		".":          nil,
	}
}

const module = "weft"

// packages calls f for each directory that holds Go files.
func packages(t *testing.T, f func(dir string, p *build.Package)) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "testdata" || name == "bin" || dir != "." && strings.HasPrefix(name, ".") {
			return fs.SkipDir
		}
		p, err := build.ImportDir(dir, 0)
		if _, none := err.(*build.NoGoError); none && len(p.TestGoFiles)+len(p.XTestGoFiles) == 0 {
			return nil
		} else if err != nil && !none {
			return err
		}
		found++
		f(dir, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 10 {
		t.Fatalf("only %d packages found", found)
	}
}

// allowed reports whether list has name, or a directory above it that ends in "/".
func allowed(list []string, name string) bool {
	return slices.ContainsFunc(list, func(a string) bool {
		return a == name || strings.HasSuffix(a, "/") && strings.HasPrefix(name, a)
	})
}

func TestImports(t *testing.T) {
	table := arrows()
	packages(t, func(dir string, p *build.Package) {
		may, known := table[dir]
		if !known && !strings.HasPrefix(dir, "internal/") { // each of those stands alone

			t.Errorf("%s is not in the table of arrows: say there what it may import", dir)
			return
		}
		imports := p.Imports
		if len(p.GoFiles) == 0 {
			imports = append(p.TestImports, p.XTestImports...)
		}
		for _, path := range imports {
			name, ours := strings.CutPrefix(path, module+"/")
			if ours && !allowed(may, name) {
				t.Errorf("%s imports %s: it may import %s", dir, name, strings.Join(may, ", "))
			}
		}
	})
}

// topo is values: the same specification gives the same plan on every machine.
func TestTopoTouchesNoMachine(t *testing.T) {
	p, err := build.ImportDir("topo", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range p.Imports {
		first, _, _ := strings.Cut(path, "/")
		touches := slices.Contains([]string{"os", "net", "syscall", "unsafe", "log", "runtime", "plugin"}, first) && path != "net/netip"
		pure := path == "github.com/kballard/go-shellquote" // words of a shell, text from text
		if strings.Contains(first, ".") && !pure || touches {
			t.Errorf("topo imports %s", path)
		}
	}
}

// Every package says in its comment what it is for. Nothing runs before main, and no
// package is called util.
func TestPackages(t *testing.T) {
	packages(t, func(dir string, p *build.Package) {
		if strings.Contains(p.Name, "util") || strings.Contains(p.Name, "common") || strings.Contains(p.Name, "helper") {
			t.Errorf("package %s: name it after what it is for", p.Name)
		}
		hasComment := false
		files := slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles)
		for _, name := range files {
			path := filepath.Join(dir, name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments)
			if err != nil {
				t.Error(err)
				continue
			}
			isTest := strings.HasSuffix(name, "_test.go")
			if f.Doc != nil && (!isTest || len(p.GoFiles) == 0) {
				hasComment = true
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s has an init function: importing weft must have no effect", path)
				}
			}
		}
		if !hasComment {
			t.Errorf("%s has no package comment", dir)
		}
	})
}
