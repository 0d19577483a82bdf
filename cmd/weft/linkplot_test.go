package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weft/link/parquet"
	"weft/link/record"
)

// A record is read back in both forms, and drawn.
func TestLinkPlot(t *testing.T) {
	dir := t.TempDir()
	text := []byte(record.Header)
	for i := range 100 {
		f := record.Frame{Number: uint64(i + 1), Bytes: 100, Arrival: time.Duration(i) * time.Millisecond, Departure: time.Duration(i+5) * time.Millisecond}
		if i%10 == 0 {
			f.Fate, f.Departure = record.Lost, 0
		}
		text = f.Append(text)
	}
	csv, table := filepath.Join(dir, "r.csv"), filepath.Join(dir, "r.parquet")
	var b bytes.Buffer
	w := parquet.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{csv: text, table: b.Bytes()} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, drawing := range []string{".svg", ".png"} {
			said, err := os.Create(filepath.Join(dir, "said"))
			if err != nil {
				t.Fatal(err)
			}
			p := &program{out: said, err: said}
			if err := p.plotLink([]string{path, filepath.Join(dir, "out"+drawing)}, false); err != nil {
				t.Fatal(err)
			}
			said.Close()
			out, err := os.ReadFile(said.Name())
			if err != nil {
				t.Fatal(err)
			}
			const want = "ab: 100 frames: 90 delivered, 10 lost; delay 5ms to 5ms, median 5ms, p99 5ms\nba: 0 frames: \n"
			if string(out) != want {
				t.Errorf("%s: %s", path, out)
			}
			if info, err := os.Stat(filepath.Join(dir, "out"+drawing)); err != nil || info.Size() < 1000 {
				t.Errorf("drawing: %v, %v", info, err)
			}
		}
	}
	for _, args := range [][]string{{}, {csv, "x.pdf"}, {csv, "a.svg", "b"}, {filepath.Join(dir, "none")}, {filepath.Join(dir, "out.svg")}} {
		p := &program{out: os.Stderr, err: os.Stderr}
		if err := p.plotLink(args, false); err == nil || strings.Contains(err.Error(), "%!") {
			t.Errorf("%v: %v", args, err)
		}
	}
}
