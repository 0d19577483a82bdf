package nic

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is held is nobody else's; what was let go is, once.
func TestJournal(t *testing.T) {
	j := Journal(filepath.Join(inMemory(t), "a", "journal"))
	if entries, err := j.Entries(); len(entries) > 0 || err != nil {
		t.Errorf("before the first entry: %v, %v", entries, err)
	}
	r, err := j.Write(Entry{For: "one", Pages: &Pages{Node: 1, Size: 2048, Total: 5}})
	if err != nil {
		t.Fatal(err)
	}
	all := func(Entry) bool { return true }
	if left, err := j.Left(all); len(left) > 0 || err != nil {
		t.Errorf("held, but left: %v, %v", left, err)
	}
	entries, err := j.Entries()
	if err != nil || len(entries) != 1 || entries[0].For != "one" || *entries[0].Pages != *r.Pages || time.Since(entries[0].Time) > time.Hour {
		t.Fatalf("entries %+v, %v", entries, err)
	}
	if got, want := entries[0].String(), "the number of 2 MB hugepages on node 1, which was 5"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := r.Release(); err != nil {
		t.Fatal(err)
	}
	left, err := j.Left(all)
	if err != nil || len(left) != 1 {
		t.Fatalf("left: %v, %v", left, err)
	}
	if again, err := j.Left(all); len(again) > 0 || err != nil {
		t.Errorf("left for two: %v, %v", again, err)
	}
	if err := left[0].remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(j)); !os.IsNotExist(err) {
		t.Errorf("the empty journal stays: %v", err)
	}
}

// A writer that is killed before it has written leaves an empty file; one that is about to write,
// too. Neither is an entry, and only the first goes.
func TestJournalHalfWritten(t *testing.T) {
	j := Journal(inMemory(t))
	fresh, old, broken := filepath.Join(string(j), "1.json"), filepath.Join(string(j), "2.json"), filepath.Join(string(j), "3.json")
	for file, text := range map[string]string{fresh: "", old: "", broken: "{"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	done, err := j.Restore(t.Context(), Root(inMemory(t)))
	if len(done) > 0 || err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("restored %v, %v; want an error about %s", done, err, broken)
	}
	for file, want := range map[string]bool{fresh: true, old: false, broken: true} {
		if _, err := os.Stat(file); (err == nil) != want {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// What cannot be put back stays in the journal for another try.
func TestUndoFails(t *testing.T) {
	root, j := fixture(t, "guest"), Journal(inMemory(t))
	r, err := j.Write(Entry{For: "test", Pages: &Pages{Node: 7, Size: 2048, Total: 5}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Undo(t.Context(), root); err == nil || !strings.Contains(err.Error(), "put back the number of 2 MB hugepages on node 7") {
		t.Errorf("error %v", err)
	}
	if done, err := j.Restore(t.Context(), root); len(done) > 0 || err == nil {
		t.Errorf("restored %v, %v", done, err)
	}
	if entries, _ := j.Entries(); len(entries) != 1 {
		t.Errorf("the journal has %v", entries)
	}
}

func TestSetPages(t *testing.T) {
	root, j := fixture(t, "server"), Journal(filepath.Join(inMemory(t), "journal"))
	const file = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
	if r, err := j.SetPages(t.Context(), root, Pages{Node: 1}, "test"); r != nil || err != nil {
		t.Errorf("as it is: %v, %v", r, err)
	}
	r, err := j.SetPages(t.Context(), root, Pages{Node: 1, Total: 256}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if n := root.number(0, file); n != 256 {
		t.Errorf("%d hugepages", n)
	}
	r.Release()
	if _, err := j.Restore(t.Context(), root); err != nil || root.number(-1, file) != 0 {
		t.Errorf("put back: %d, %v", root.number(-1, file), err)
	}
	for _, c := range []struct {
		p    Pages
		want string
	}{
		{Pages{Node: 2, Total: 1}, "there are no hugepages of 2 MB on node 2 (sizes: 1 GB, 2 MB; nodes: 0, 1)"},
		{Pages{Node: 1, Size: 1 << 20, Total: 1}, "there are no hugepages of 1 GB on node 1"},
	} {
		if _, err := j.SetPages(t.Context(), root, c.p, "test"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.p, err, c.want)
		}
	}
	if _, err := j.SetPages(t.Context(), fixture(t, "nothing"), Pages{Node: -1, Total: 1}, "test"); err == nil || !strings.Contains(err.Error(), "CONFIG_HUGETLBFS") {
		t.Errorf("without hugepages: %v", err)
	}
}

func TestParsePageSize(t *testing.T) {
	for in, want := range map[string]int{"": 0, "2MB": 2048, "2m": 2048, "1G": 1 << 20, "1gb": 1 << 20, "64kB": 64, "2": -1, "MB": -1, "-2MB": -1, "x": -1, "2TB": -1} {
		got, err := ParsePageSize(in)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("ParsePageSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
}
