package openflow

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// testdata/nicira.txt has flows as they were given to ovs-ofctl (3.1) add-flow, with
// OpenFlow 1.0 and 1.3; what it sent; and what we make of that.
func TestNicira(t *testing.T) {
	const path = "testdata/nicira.txt"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDecoder()
	var got strings.Builder
	var flow string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "  "):
		case strings.HasPrefix(line, "01") || strings.HasPrefix(line, "04"):
			got.WriteString(flow + "\n" + line + "\n  " + d.Decode(messageOf(t, line)).String() + "\n")
		default:
			flow = line
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got.String() != string(b) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", path, &got)
	}
}
