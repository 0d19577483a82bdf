package capture

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A Compression is how files are compressed.
type Compression string

// The compressions. Auto goes by the end of the file's name: .zst, .gz.
const (
	CompressAuto Compression = ""
	CompressNone Compression = "none"
	CompressZstd Compression = "zstd"
	CompressGzip Compression = "gzip"
)

// FileConfig says where a stream goes.
type FileConfig struct {
	// Path is a file's name; "-" stands for Stdout.
	Path     string
	Stdout   io.Writer
	Compress Compression
	// FileSize (bytes, before compression) and FileTime begin another file; 0: never.
	// The files' names are Path with a number and a time before its extension.
	FileSize int64
	FileTime time.Duration
	// Files is how many of them are kept, the newest; 0: all.
	Files int
}

// A File is where a stream of whole blocks goes: a file, a ring of files or a pipe.
type File struct {
	cfg    FileConfig
	header []byte // the blocks that each file begins with: section and interfaces
	kept   []string
	number int

	name   string
	file   *os.File // nil: a pipe
	out    io.Writer
	comp   flushCloser // nil: not compressed
	size   int64       // bytes of blocks in this file, and about to be
	length int64       // bytes written to it
	begun  time.Time
}

// A flushCloser is a compressor.
type flushCloser interface {
	io.WriteCloser
	Flush() error
}

// Create makes the file, or the first of them.
func Create(cfg FileConfig) (*File, error) {
	if cfg.Compress == CompressAuto {
		switch filepath.Ext(cfg.Path) {
		case ".zst":
			cfg.Compress = CompressZstd
		case ".gz":
			cfg.Compress = CompressGzip
		}
	}
	f := &File{cfg: cfg}
	if cfg.Path == "-" {
		if f.ring() {
			return nil, errors.New("several files need a name: they cannot go to a pipe")
		}
		f.name, f.out = "standard output", cfg.Stdout
		return f, f.compress()
	}
	return f, f.create()
}

// ring reports whether there may be several files.
func (f *File) ring() bool { return f.cfg.FileSize > 0 || f.cfg.FileTime > 0 }

// Name returns the name of the file that is written now.
func (f *File) Name() string { return f.name }

// create makes the next file.
func (f *File) create() error {
	f.name = f.cfg.Path
	if f.ring() {
		f.number++
		f.name = numbered(f.cfg.Path, f.number, time.Now())
	}
	file, err := os.OpenFile(f.name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	f.file, f.out, f.size, f.length, f.begun = file, file, 0, 0, time.Now()
	if f.kept = append(f.kept, f.name); f.cfg.Files > 0 && len(f.kept) > f.cfg.Files {
		if err := os.Remove(f.kept[0]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		f.kept = f.kept[1:]
	}
	return f.compress()
}

// numbered returns the name of the n-th file: dumpcap's way, so that Wireshark knows a set.
func numbered(path string, n int, at time.Time) string {
	dir, base := filepath.Split(path)
	stem, ext, dotted := strings.Cut(base, ".")
	if dotted {
		ext = "." + ext
	}
	return dir + fmt.Sprintf("%s_%05d_%s%s", stem, n, at.Format("20060102150405"), ext)
}

func (f *File) compress() (err error) {
	switch f.cfg.Compress {
	case CompressAuto, CompressNone:
		f.comp = nil
		return nil
	case CompressGzip:
		f.comp = gzip.NewWriter(f.out)
	case CompressZstd:
		f.comp, err = zstd.NewWriter(f.out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	default:
		err = fmt.Errorf("there is no compression %q (there are: %s, %s, %s)", f.cfg.Compress, CompressZstd, CompressGzip, CompressNone)
	}
	f.out = f.comp
	return err
}

// Write writes whole blocks. What it has written, people can read at once.
func (f *File) Write(p []byte) (int, error) {
	if !f.ring() {
		return f.write(p)
	}
	done := 0
	for rest := p; len(rest) > 0; {
		kind, n, err := nextBlock(rest)
		if err != nil {
			return done, err
		}
		block := rest[:n]
		rest = rest[n:]
		switch {
		case kind == blockSection || kind == blockInterface:
			f.header = append(f.header, block...)
		case f.full(n):
			if err := f.another(); err != nil {
				return done, err
			}
		}
		f.size += int64(n)
		// Blocks of one file go together.
		if len(rest) > 0 && !f.full(blockLen(rest)) {
			continue
		}
		if _, err := f.write(p[done : len(p)-len(rest)]); err != nil {
			return done, err
		}
		done = len(p) - len(rest)
	}
	return done, nil
}

// full reports whether a block of n bytes goes into another file.
func (f *File) full(n int) bool {
	return f.cfg.FileSize > 0 && f.size+int64(n) > f.cfg.FileSize && f.size > int64(len(f.header)) ||
		f.cfg.FileTime > 0 && time.Since(f.begun) >= f.cfg.FileTime
}

// another ends the file and begins the next.
func (f *File) another() error {
	if err := f.close(); err != nil {
		return err
	}
	if err := f.create(); err != nil {
		return err
	}
	f.size = int64(len(f.header))
	_, err := f.write(f.header)
	return err
}

// write writes whole blocks to the file. If not all of them fit, it takes back the rest of
// them: the file stays readable.
func (f *File) write(p []byte) (int, error) {
	n, err := f.out.Write(p)
	if err == nil && f.comp != nil {
		err = f.comp.Flush()
	}
	if err == nil {
		f.length += int64(n)
		return n, nil
	}
	err = fmt.Errorf("write %s: %w", f.name, cause(err))
	if f.file != nil && f.comp == nil && n > 0 {
		whole := f.length + int64(wholeBlocks(p[:n]))
		if e := f.file.Truncate(whole); e != nil {
			err = fmt.Errorf("%w; its last packet may be cut: %v", err, cause(e))
		}
	}
	return 0, err
}

// cause returns what an error of a file is, without its name.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Close completes the file. It does not close Stdout.
func (f *File) Close() error { return f.close() }

func (f *File) close() error {
	var errs []error
	if f.comp != nil {
		errs = append(errs, f.comp.Close())
	}
	if f.file != nil {
		errs = append(errs, f.file.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close %s: %w", f.name, cause(err))
	}
	return nil
}

// nextBlock returns the type and length of the block that b starts with.
func nextBlock(b []byte) (kind uint32, n int, err error) {
	if len(b) < 12 || blockLen(b) > len(b) || blockLen(b) < 12 {
		return 0, 0, errors.New("the stream has a block that is not whole")
	}
	return binary.LittleEndian.Uint32(b), blockLen(b), nil
}

// wholeBlocks returns the length of the whole blocks that b starts with.
func wholeBlocks(b []byte) int {
	whole := 0
	for {
		_, n, err := nextBlock(b[whole:])
		if err != nil {
			return whole
		}
		whole += n
	}
}

func blockLen(b []byte) int {
	if len(b) < 8 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(b[4:]))
}
