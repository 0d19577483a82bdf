package netfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Position is a place in a file. Line and column count from 1; 0 is unknown.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// An Error is something that is wrong with a file.
type Error struct {
	Position
	// Message says what is wrong and what to write instead.
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Position.String() + ": " + e.Message }

// Errors are all errors of a file that were found, at least one, in the order of the file.
type Errors []*Error

// Error returns a line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, err := range e {
		list[i] = err
	}
	return list
}

// maxErrors is how many errors of a file are kept.
const maxErrors = 1000

// A complaint collects the errors of a file.
type complaint struct {
	file string
	errs Errors
	seen map[Error]bool
}

// at notes an error; the same is noted once.
func (c *complaint) at(line, column int, format string, args ...any) {
	e := Error{Position{c.file, line, column}, fmt.Sprintf(format, args...)}
	if c.seen[e] || len(c.errs) >= maxErrors {
		return
	}
	if c.seen == nil {
		c.seen = map[Error]bool{}
	}
	c.seen[e] = true
	c.errs = append(c.errs, &e)
}

// err returns the errors in the order of the file, nil if there are none.
func (c *complaint) err() error {
	if len(c.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(c.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return c.errs
}
