package netfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// large writes a file of 10,000 nodes in which every link has settings of its own.
func large(b testing.TB) string {
	var t strings.Builder
	t.WriteString("hosts:\n")
	for i := range 9000 {
		fmt.Fprintf(&t, "  h%d: {ip: 10.0.%d.%d/8}\n", i, i/250, i%250+1)
	}
	t.WriteString("switches:\n")
	for i := range 1000 {
		fmt.Fprintf(&t, "  s%d:\n", i)
	}
	t.WriteString("links:\n")
	for i := range 10000 {
		fmt.Fprintf(&t, "  - h%d -- s%d: {delay: %dus, bw: 10}\n", i%9000, i%1000, i+1)
	}
	path := filepath.Join(b.TempDir(), "large.yaml")
	if err := os.WriteFile(path, []byte(t.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkRead reads and checks a file of 10,000 nodes.
func BenchmarkRead(b *testing.B) {
	path := large(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(b.Context(), path, Params{}); err != nil {
			b.Fatal(err)
		}
	}
}
