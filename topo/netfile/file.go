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
	read := func(source string) ([]byte, error) { return readBeside(filepath.Dir(path), source, p.Outside) }
	name := strings.ToLower(path)
	switch {
	case hasSuffix(name, ".clab.yml", ".clab.yaml"):
		return readContainerlab(path, text, p)
	case hasSuffix(name, ".yaml", ".yml", ".json"):
		return readYAML(path, text, read)
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

// readBeside reads a file that another in dir names.
func readBeside(dir, source string, outside bool) ([]byte, error) {
	read := func(f *os.File, err error) ([]byte, error) {
		if err != nil {
			return nil, errors.New(source + ": " + problem(err))
		}
		defer f.Close()
		st, err := f.Stat()
		switch {
		case err != nil:
			return nil, err
		case !st.Mode().IsRegular():
			return nil, fmt.Errorf("%s is not a regular file", source)
		case st.Size() > topo.MaxFile:
			return nil, fmt.Errorf("%s has %d bytes; at most %d are possible", source, st.Size(), topo.MaxFile)
		}
		return io.ReadAll(io.LimitReader(f, topo.MaxFile))
	}
	if outside {
		if !filepath.IsAbs(source) {
			source = filepath.Join(dir, source)
		}
		return read(os.OpenFile(source, notWaiting, 0))
	}
	if filepath.IsAbs(source) || !filepath.IsLocal(source) {
		return nil, fmt.Errorf("%s is not below the directory of this file; copy it there, or allow it by --allow", source)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(source, notWaiting, 0)
	if err != nil && strings.Contains(err.Error(), "escapes") {
		return nil, fmt.Errorf("%s leads out of the directory of this file; copy it there, or allow it by --allow", source)
	}
	return read(f, err)
}
