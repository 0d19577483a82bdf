package nic

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fixture makes a machine of a file of testdata, in which a line is a comment, the [DIRECTORY]
// of those after it, NAME = TEXT (quoted as in Go if need be) or a link, NAME -> TARGET.
func fixture(t *testing.T, name string) Root {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	root, dir := inMemory(t), ""
	for i, line := range strings.Split(string(text), "\n") {
		file, target, isLink := strings.Cut(line, " -> ")
		switch {
		case line == "", line[0] == '#':
			continue
		case line[0] == '[':
			dir = filepath.Join(root, strings.Trim(line, "[]"))
			err = os.MkdirAll(dir, 0o755)
		case isLink:
			err = os.Symlink(target, filepath.Join(dir, file))
		default:
			name, value, ok := strings.Cut(line, " =")
			if !ok {
				t.Fatalf("%s:%d: %q is no line of a fixture", name, i+1, line)
			}
			value = strings.TrimSpace(value)
			if strings.HasPrefix(value, `"`) {
				if value, err = strconv.Unquote(value); err != nil {
					t.Fatalf("%s:%d: %v", name, i+1, err)
				}
			}
			err = os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o644)
		}
		if err != nil {
			t.Fatalf("%s:%d: %v", name, i+1, err)
		}
	}
	return Root(root)
}

// inMemory returns a directory in memory, where there is one: as in /sys, nothing there waits for a
// disk.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "weft-nic-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// stacks are what the network stacks of the fixtures use interfaces for.
func stacks() map[string]Stack {
	return map[string]Stack{
		"server": {
			Addresses:    map[string][]string{"ens1f1": {"192.0.2.1/24"}, "ens6np0": {"198.51.100.7/24", "2001:db8::7/64"}},
			DefaultRoute: map[string]bool{"ens6np0": true},
			XDP:          map[string]bool{"ens1f0": true},
		},
		"desktop": {Addresses: map[string][]string{"br0": {"192.0.2.2/24"}}, DefaultRoute: map[string]bool{"br0": true}},
		"guest": {
			Addresses: map[string][]string{"eth0": {"10.0.2.15/24"}}, DefaultRoute: map[string]bool{"eth0": true},
			// /sys does not show this one: it is that of another network namespace.
			Devices: map[string][]Interface{"virtio1": {{Name: "eth1", MAC: "52:54:00:00:00:02", State: "down"}}},
		},
		"nothing": {},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", path, got)
	}
}
