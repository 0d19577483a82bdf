package nf

import (
	"go/build"
	"slices"
	"strings"
	"testing"
)

// An NF of a user's own is built with what "weft nf new" writes: these packages but what the
// manager alone needs, without a network for anybody else's.
func TestStandardLibraryOnly(t *testing.T) {
	for dir, without := range map[string][]string{".": nil, "../shm": {"make.go"}} {
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for path, places := range p.ImportPos {
			first, _, _ := strings.Cut(path, "/")
			if !strings.Contains(first, ".") && first != "weft" || path == "weft/dpdkhost/shm" {
				continue
			}
			for _, at := range places {
				if !slices.ContainsFunc(without, func(name string) bool { return strings.HasSuffix(at.Filename, "/"+name) || at.Filename == name }) {
					t.Errorf("%s imports %s: only the standard library, please", at, path)
				}
			}
		}
	}
}
