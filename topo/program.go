package topo

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Command is a line for the shell of a host or switch, which runs when the network is up.
// A network comes up only if its commands of that time succeed.
type Command struct {
	Node    string `json:"node"`
	Command string `json:"command"`
	// At is when it runs, counted from when the network is up.
	At Duration `json:"at,omitzero"`
	// Timeout is how long it may take; 0 means DefaultCommandTimeout. What it leaves in the
	// background goes on.
	Timeout Duration `json:"timeout,omitzero"`
}

// DefaultCommandTimeout bounds a Command that says nothing of it.
const DefaultCommandTimeout = 30 * time.Second

// maxAt bounds times in a network's life.
const maxAt = 30 * 24 * time.Hour

// A Duration is a length of time that is written as text: 5ms, 1m30s.
type Duration time.Duration

// MarshalText writes the duration in the largest unit without a fraction, or with several.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration does, if it is not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if _, bare := strconv.ParseFloat(string(text), 64); bare == nil && string(text) != "0" {
		return fmt.Errorf("%s has no unit; write %ss", text, text)
	}
	if err != nil {
		return fmt.Errorf("%q is not a time; write for example 250ms, 5s or 1m30s", text)
	}
	if v < 0 || v > maxAt {
		return fmt.Errorf("%s is not between 0 and %d days", text, maxAt/(24*time.Hour))
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string {
	text := time.Duration(d).String()
	// 1m0s and 1h0m0s say what 1m and 1h do.
	for _, zero := range []string{"0s", "0m"} {
		if t, ok := strings.CutSuffix(text, zero); ok && t != "" && strings.ContainsRune("mh", rune(t[len(t)-1])) {
			text = t
		}
	}
	return text
}

// A File is what a host's programs find at a path where others do not.
type File struct {
	Path string `json:"path"` // absolute, not directly below /
	// Content is text. Data is there instead if it is none.
	Content string   `json:"content,omitempty"`
	Data    []byte   `json:"data,omitempty"`
	Mode    FileMode `json:"mode,omitzero"` // 0 means 0644
}

// Bytes returns what is in the file.
func (f File) Bytes() []byte {
	if f.Data != nil {
		return f.Data
	}
	return []byte(f.Content)
}

// SetBytes sets what is in the file.
func (f *File) SetBytes(b []byte) {
	f.Content, f.Data = "", nil
	if utf8.Valid(b) && !strings.ContainsRune(string(b), 0) {
		f.Content = string(b)
	} else {
		f.Data = b
	}
}

// The largest files of hosts, in bytes: one, and all of a network.
const (
	MaxFile  = 1 << 20
	MaxFiles = 16 << 20
)

// A FileMode is the permissions of a file, written in octal: 0755.
type FileMode uint32

// DefaultFileMode is that of a File that says nothing of it.
const DefaultFileMode FileMode = 0o644

// MarshalText writes the mode in octal.
func (m FileMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// UnmarshalText reads a mode in octal.
func (m *FileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%q is not a mode; write for example 0644 or 0755", text)
	}
	*m = FileMode(n)
	return nil
}

// checkFiles returns what is wrong with the files of a host.
func checkFiles(files []File) (errs []fieldError) {
	fail := func(format string, args ...any) {
		errs = append(errs, fieldError{"files", fmt.Errorf(format, args...)})
	}
	seen := map[string]bool{}
	for _, f := range files {
		clean := path.Clean(f.Path)
		switch {
		case !path.IsAbs(f.Path) || clean != f.Path || strings.Count(clean, "/") < 2 || strings.ContainsRune(f.Path, 0):
			fail("%q is not the absolute path of a file in a directory; write for example /etc/motd", f.Path)
		case slices.Contains([]string{"proc", "sys", "dev"}, strings.Split(clean, "/")[1]):
			fail("%s: files cannot be put below /proc, /sys and /dev", f.Path)
		case seen[clean]:
			fail("the file %s is there twice; write it once", f.Path)
		case len(f.Bytes()) > MaxFile:
			fail("the file %s has %d bytes; at most %d are possible", f.Path, len(f.Bytes()), MaxFile)
		case f.Content != "" && f.Data != nil:
			fail("the file %s has content and data; write one of them", f.Path)
		}
		seen[clean] = true
	}
	return errs
}

// addCommands checks commands and adds them.
func (g *growth) addCommands(list []Command) {
	for i, c := range list {
		where := place{kind: commandEntry, at: i, text: fmt.Sprintf("command %d", i+1)}
		switch node, ok := g.index.nodes[c.Node]; {
		case !ok:
			g.fail(where.on("node"), "there is no node %q; write the name of a host or switch", c.Node)
		case node.kind == controllerNode:
			g.fail(where.on("node"), "%s is a controller, on which nothing runs; write a host or switch", c.Node)
		}
		if err := checkLine(c.Command); err != nil {
			g.fail(where.on("command"), "%w", err)
		}
		g.Commands = append(g.Commands, c)
	}
}

// maxCommand is the longest command line, in bytes: of Linux's arguments, each (MAX_ARG_STRLEN).
const maxCommand = 128<<10 - 1

func checkLine(line string) error {
	switch {
	case strings.TrimSpace(line) == "":
		return errors.New("the command is empty; write what to run")
	case strings.ContainsRune(line, 0):
		return errors.New("the command has a zero byte; leave it out")
	case len(line) > maxCommand:
		return fmt.Errorf("the command has %d bytes; at most %d are possible, so put it into a file", len(line), maxCommand)
	}
	return nil
}

// checkFilesTotal checks the size of all files of new hosts.
func (g *growth) checkFilesTotal() {
	total := 0
	for _, h := range g.Hosts {
		for _, f := range h.Files {
			total += len(f.Bytes())
		}
	}
	if total > MaxFiles {
		g.fail(place{field: "files"}, "the files of all hosts have %d bytes; at most %d are possible", total, MaxFiles)
	}
}

func cloneFiles(files []File) []File {
	files = slices.Clone(files)
	for i := range files {
		files[i].Data = slices.Clone(files[i].Data)
	}
	return files
}
