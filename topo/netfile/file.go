// Package netfile reads networks from files and writes them: weft's own format, which is YAML
// or JSON, and those of others.
//
//	YAML, JSON ──────────────────────► document ─► topo.Spec ─► YAML, JSON, Python
//	Python (Mininet), .mn, .clab.yml, GraphML ────────┘
//
// A file says what is in the network; errors say where in the file they are and what to write
// instead. It imports topo and nothing else of weft.
package netfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"weft/topo"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 16 << 20

// Params say how to read a file.
type Params struct {
	// Outside lets the file name others that are not below its own directory.
	Outside bool
	// Topo chooses a topology of a Python file, with arguments: mytopo,3. Empty: the only one.
	Topo string
	// Note is told what people should know of what was read, such as parts of the file that
	// have no meaning for weft; nil for nobody.
	Note func(text string)
	// NF says what is wrong with an NF that comes with weft, as far as topo does not know; nil
	// for nobody.
	NF func(topo.NF) error
}

// Read reads the network in the file at path, which is valid (topo.Spec.Validate). What is
// wrong with the file itself is an Errors. The format is told from the end of the name:
// Extensions lists them.
func Read(ctx context.Context, path string, p Params) (topo.Spec, error) {
	text, err := readAll(path)
	if err != nil {
		return topo.Spec{}, err
	}
	return Parse(ctx, path, text, p)
}

// Parse reads a network from the text of a file; files that it names are looked for beside it.
func Parse(ctx context.Context, path string, text []byte, p Params) (topo.Spec, error) {
	name := strings.ToLower(path)
	switch {
	case hasSuffix(name, ".clab.yml", ".clab.yaml"):
		return readContainerlab(path, text, p)
	case hasSuffix(name, ".yaml", ".yml", ".json"):
		return readYAML(path, text, beside{filepath.Dir(path), p})
	case hasSuffix(name, ".graphml", ".xml"):
		return readGraphML(path, text, p)
	case hasSuffix(name, ".mn"):
		return readMiniEdit(path, text, p)
	case hasSuffix(name, ".py"):
		return readPython(ctx, path, text, p)
	}
	return topo.Spec{}, &Error{Position{File: path}, "cannot tell what this is; its name should end in ." + strings.Join(Extensions(), ", .")}
}

// Extensions lists what the names of files end in that Read reads.
func Extensions() []string { return []string{"yaml", "yml", "json", "graphml", "xml", "mn", "py"} }

func hasSuffix(name string, suffixes ...string) bool {
	return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}

// readAll reads a file of at most MaxSize.
func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{Position{File: path}, problem(err)}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	switch {
	case err != nil:
		return nil, &Error{Position{File: path}, problem(err)}
	case len(text) > MaxSize:
		return nil, &Error{Position{File: path}, fmt.Sprintf("the file is larger than %d MB; at most that is read", MaxSize>>20)}
	}
	return text, nil
}

// problem is what is the matter with a file, without its name.
func problem(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// notWaiting opens a file without waiting for the other end of a pipe, which is refused then.
const notWaiting = os.O_RDONLY | syscall.O_NONBLOCK

// beside is where the files are that another names: those in its directory, or any if that is
// allowed.
type beside struct {
	dir string
	Params
}

// read reads a file of at most topo.MaxFile.
func (b beside) read(source string) ([]byte, error) {
	f, size, err := b.open(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > topo.MaxFile {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are possible", source, size, topo.MaxFile)
	}
	return io.ReadAll(io.LimitReader(f, topo.MaxFile))
}

// open opens a regular file and returns its size too.
func (b beside) open(source string) (*os.File, int64, error) {
	f, err := b.openAny(source)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", source)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

func (b beside) openAny(source string) (*os.File, error) {
	plain := func(f *os.File, err error) (*os.File, error) {
		if err != nil {
			return nil, errors.New(source + ": " + problem(err))
		}
		return f, nil
	}
	if b.Outside {
		path := source
		if !filepath.IsAbs(path) {
			path = filepath.Join(b.dir, path)
		}
		return plain(os.OpenFile(path, notWaiting, 0))
	}
	local, ok := b.local(source)
	if !ok {
		return nil, fmt.Errorf("%s is not below the directory of this file; copy it there, or allow it by --allow", source)
	}
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(local, notWaiting, 0)
	if err != nil && strings.Contains(err.Error(), "escapes") {
		return nil, fmt.Errorf("%s leads out of the directory of this file; copy it there, or allow it by --allow", source)
	}
	return plain(f, err)
}

// local returns a path from the directory, if it is below that.
func (b beside) local(source string) (string, bool) {
	if filepath.IsAbs(source) {
		dir, err := filepath.Abs(b.dir)
		if err == nil {
			source, err = filepath.Rel(dir, source)
		}
		if err != nil {
			return "", false
		}
	}
	return source, filepath.IsLocal(source)
}

// NFs makes the paths of the files of a network's NFs whole, as Read does, of a network that the
// file at path describes in another way.
func NFs(s *topo.Spec, path string, p Params) error {
	files := beside{filepath.Dir(path), p}
	var errs []error
	for i := range s.Switches {
		d := s.Switches[i].DPDK.Clone()
		if d == nil {
			continue
		}
		for k, n := range d.NFs {
			made, err := files.nf(n)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: switch %s: NF %s: %w", path, s.Switches[i].Name, n.Name, err))
			}
			d.NFs[k] = made
		}
		s.Switches[i].DPDK = d
	}
	return errors.Join(errs...)
}

// nf returns an NF with the paths of its files whole, and what is wrong with those.
func (b beside) nf(n topo.NF) (topo.NF, error) {
	var errs []error
	for _, f := range n.Files() {
		var err error
		if !f.Write {
			var file *os.File
			if file, _, err = b.open(f.Path); err == nil {
				file.Close()
			}
		} else if _, ok := b.local(f.Path); !ok && !b.Outside {
			err = fmt.Errorf("%s is not below the directory of this file; write a name alone, or allow it by --allow", f.Path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", f.Flag, err))
		}
	}
	if b.NF != nil && n.Builtin() {
		errs = append(errs, b.NF(n))
	}
	dir, err := filepath.Abs(b.dir)
	if err != nil {
		return n, err
	}
	n = n.Under(dir)
	if program := n.Program(); program != "" {
		if !filepath.IsAbs(program) {
			program = filepath.Join(n.Dir, program)
		}
		if _, err := os.Stat(program); err != nil {
			errs = append(errs, fmt.Errorf("command: %s: %s", program, problem(err)))
		}
	}
	return n, errors.Join(errs...)
}
