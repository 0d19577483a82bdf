package shell

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// historyLines is how many lines the history file keeps.
const historyLines = 1000

// A history is the lines that were typed, in a file that sessions share.
type history struct {
	path  string // empty if there is no place for it
	lines []string
}

// openHistory reads the history; without one it starts empty.
func openHistory(cfg Config) *history {
	h := &history{path: cfg.HistoryFile}
	if h.path == "" {
		h.path = historyFile(cfg.Dialect)
	}
	var err error
	if h.lines, err = h.read(); err != nil {
		cfg.Log.Warn("cannot read the history", "error", err)
	}
	return h
}

// historyFile returns where a dialect's history is by default.
func historyFile(d Dialect) string {
	home, err := os.UserHomeDir()
	state := os.Getenv("XDG_STATE_HOME")
	switch {
	case d == Native && filepath.IsAbs(state):
		return filepath.Join(state, "weft", "history")
	case err != nil:
		return ""
	case d == Native:
		return filepath.Join(home, ".local", "state", "weft", "history")
	}
	return filepath.Join(home, ".mininet_history")
}

// read returns the last lines of the file; a missing file has none.
func (h *history) read() ([]string, error) {
	text, err := os.ReadFile(h.path)
	if h.path == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(s string) bool {
		return strings.TrimSpace(s) == "" || s == "_HiStOrY_V2_" // libedit's first line
	})
	return lines[max(0, len(lines)-historyLines):], err
}

// add appends a line, at once: a session may end without notice.
func (h *history) add(line string) error {
	if strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return nil
	}
	h.lines = append(h.lines, line)
	if h.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(h.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(h.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

// trim shortens a file that has grown far too long.
func (h *history) trim() error {
	info, err := os.Stat(h.path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	text, err := os.ReadFile(h.path)
	if err != nil || strings.Count(string(text), "\n") <= historyLines {
		return err
	}
	lines, err := h.read()
	if err != nil {
		return err
	}
	tmp := h.path + ".new"
	if err := os.WriteFile(tmp, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, h.path)
}
