package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || got != string(want) {
		t.Errorf("%s: %v; it is now:\n%s", file, err, got)
	}
}

// TestText prints a run of tests that pass, fail, skip, crash and do not compile.
func TestText(t *testing.T) {
	in, err := os.ReadFile("testdata/kernel.json")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	raw := filepath.Join(t.TempDir(), "results", "kernel.json")
	if err := run([]string{"-o", raw}, bytes.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	golden(t, "text.txt", out.String())
	if b, _ := os.ReadFile(raw); !bytes.Equal(b, in) {
		t.Errorf("%s is not what was read", raw)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	whole := filepath.Join(t.TempDir(), "machines.json")
	if err := run([]string{"-o", whole, "-skipped", "no virtual machine here"}, nil, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "skipped: no virtual machine here\n" {
		t.Errorf("%q", got)
	}
	out.Reset()
	if err := run([]string{"testdata/kernel.json", "testdata/vm.json", whole}, nil, &out); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", out.String())
	out.Reset()
	if err := run([]string{"testdata/vm.json"}, nil, &out); err != nil || out.String() != "no test was skipped\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := run([]string{"testdata/nosuch.json"}, nil, &out); err == nil || !strings.Contains(err.Error(), "nosuch.json") {
		t.Errorf("%v", err)
	}
}
