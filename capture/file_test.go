package capture

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// sample returns a stream of n packets of 100 bytes, as one piece of each block.
func sample(t testing.TB, n int) (pieces [][]byte, stream []byte) {
	c := newCapture(t, Config{})
	i := c.newInterface("eth0", "")
	var at int
	cut := func() {
		pieces = append(pieces, bytes.Clone(c.out[at:]))
		at = len(c.out)
	}
	cut()
	for k := range n {
		c.append(&packet{iface: i, time: int64(k), data: make([]byte, 100), length: 100})
		cut()
	}
	return pieces, c.out
}

func TestFile(t *testing.T) {
	for _, tt := range []struct {
		name     string
		compress Compression
		open     func(io.Reader) (io.Reader, error)
	}{
		{"plain.pcapng", CompressAuto, func(r io.Reader) (io.Reader, error) { return r, nil }},
		{"plain.gz", CompressNone, func(r io.Reader) (io.Reader, error) { return r, nil }},
		{"short.pcapng.gz", CompressAuto, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"short.pcapng.zst", CompressAuto, func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }},
		{"short", CompressZstd, func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.name)
			f, err := Create(FileConfig{Path: path, Compress: tt.compress})
			if err != nil {
				t.Fatal(err)
			}
			pieces, stream := sample(t, 100)
			for k, p := range pieces {
				if _, err := f.Write(p); err != nil {
					t.Fatal(err)
				}
				if k == 50 { // people can read what has been written
					if got := open(t, path, tt.open); !bytes.HasPrefix(got, bytes.Join(pieces[:k], nil)) {
						t.Errorf("%d bytes can be read in the middle", len(got))
					}
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if got := open(t, path, tt.open); !bytes.Equal(got, stream) {
				t.Errorf("%d bytes, want %d", len(got), len(stream))
			}
		})
	}
}

// open reads what it can of a file.
func open(t *testing.T, path string, with func(io.Reader) (io.Reader, error)) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := with(file)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(r)
	return b
}

func TestRing(t *testing.T) {
	pieces, stream := sample(t, 100)
	for name, writes := range map[string][][]byte{"block by block": pieces, "all at once": {stream}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, err := Create(FileConfig{Path: filepath.Join(dir, "of.pcapng"), FileSize: 2000, Files: 3})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range writes {
				if _, err := f.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil || len(files) != 3 {
				t.Fatalf("files %q, %v", files, err)
			}
			next := int64(100)
			for _, path := range []string{files[2], files[1], files[0]} {
				if !regexp.MustCompile(`/of_000\d\d_\d{14}\.pcapng$`).MatchString(path) {
					t.Errorf("name %s", path)
				}
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if len(b) > 2000 {
					t.Errorf("%s has %d bytes", path, len(b))
				}
				list, _ := read(t, b)
				if next -= int64(len(list)); list[0].time.UnixNano() != next {
					t.Errorf("%s begins with packet %d, want %d", path, list[0].time.UnixNano(), next)
				}
			}
		})
	}
}

func TestRingByTime(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(FileConfig{Path: filepath.Join(dir, "of"), FileTime: 1}) // every block is late
	if err != nil {
		t.Fatal(err)
	}
	pieces, _ := sample(t, 4)
	for _, p := range pieces {
		if _, err := f.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "of_*")); len(files) < 4 {
		t.Errorf("files %q", files)
	}
}

// TestFullDisk checks that a file ends with a whole block when there is no more room, and
// that the error says where.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("full", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("a small disk needs to be mounted: ", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "of.pcapng")
	f, err := Create(FileConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	_, stream := sample(t, 10000)
	if _, err = f.Write(stream); err == nil || !strings.Contains(err.Error(), path+": no space left on device") {
		t.Errorf("error %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if list, _ := read(t, b); len(list) < 400 {
		t.Errorf("%d packets", len(list))
	}
	blocks(t, b)
}

func TestFileErrors(t *testing.T) {
	for name, cfg := range map[string]FileConfig{
		"no directory": {Path: filepath.Join(t.TempDir(), "none", "of")},
		"several":      {Path: "-", FileSize: 1},
		"compression":  {Path: filepath.Join(t.TempDir(), "of"), Compress: "rar"},
	} {
		if _, err := Create(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzRing(f *testing.F) {
	_, stream := sample(f, 3)
	f.Add(stream)
	f.Add(stream[:len(stream)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := Create(FileConfig{Path: filepath.Join(t.TempDir(), "of"), FileSize: 300, Files: 2})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(b)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		wholeBlocks(b)
	})
}
