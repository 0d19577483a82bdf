package script

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// A Position is a place in a script. Line and column count from 1, columns in characters;
// 0 is unknown.
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

// A Caller is a call that led to an error.
type Caller struct {
	Position
	// Function is what contains the call; empty outside functions.
	Function string `json:"function,omitempty"`
}

// An Error is something that is wrong with a script.
type Error struct {
	Position
	Message string `json:"message"`
	// Callers are the calls that led there, the nearest first.
	Callers []Caller `json:"callers,omitempty"`
	// Usage says that the parameters that the user gave are wrong, not the script.
	Usage bool `json:"usage,omitempty"`
}

// Error returns the error in lines: where and what, then how the script came there.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		fmt.Fprintf(&b, "%s: ", e.Position)
	}
	b.WriteString(e.Message)
	for _, c := range e.Callers {
		fmt.Fprintf(&b, "\n  called from %s", c.Position)
		if c.Function != "" {
			fmt.Fprintf(&b, " in %s", c.Function)
		}
	}
	return b.String()
}

// Errors are all errors of a script that were found, at least one.
type Errors []*Error

func (e Errors) Error() string {
	var lines []string
	for _, err := range e {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors.
func (e Errors) Unwrap() []error {
	var list []error
	for _, err := range e {
		list = append(list, err)
	}
	return list
}

// Usage reports whether the parameters that the user gave are wrong, and not the script.
func (e Errors) Usage() bool { return len(e) > 0 && e[0].Usage }

// A usageError is one of the parameters that the user gave.
type usageError struct{ error }

func position(p syntax.Position) Position {
	return Position{File: p.Filename(), Line: int(p.Line), Column: int(p.Col)}
}

// explain makes Errors of an error that parsing or evaluating the file at path returned.
func explain(name string, err error) Errors {
	var list resolve.ErrorList
	var syn syntax.Error
	var eval *starlark.EvalError
	var known Errors
	switch {
	case err == nil:
		return nil
	case errors.As(err, &eval):
		return explainEval(eval)
	case errors.As(err, &known):
		return known
	case errors.As(err, &list):
		var all Errors
		for _, e := range list {
			all = append(all, &Error{Position: position(e.Pos), Message: reword(e.Msg)})
		}
		return all
	case errors.As(err, &syn):
		return Errors{{Position: position(syn.Pos), Message: reword(syn.Msg)}}
	}
	return Errors{{Position: Position{File: name}, Message: err.Error()}}
}

// explainEval finds the place in the script, and leaves built-in functions out of it.
func explainEval(err *starlark.EvalError) Errors {
	var inner *starlark.EvalError
	if cause := err.Unwrap(); errors.As(cause, &inner) { // of a file that was loaded
		below := explainEval(inner)
		if e := below[len(below)-1]; len(e.Callers) > 0 || e.Line > 0 {
			e.Callers = append(e.Callers, callers(err.CallStack)...)
		}
		return below
	}
	var known Errors
	if errors.As(err.Unwrap(), &known) { // parsing a file that was loaded
		for _, e := range known {
			e.Callers = append(e.Callers, callers(err.CallStack)...)
		}
		return known
	}
	e := &Error{Message: reword(err.Msg)}
	var usage usageError
	e.Usage = errors.As(err.Unwrap(), &usage)
	stack := err.CallStack
	if strings.HasSuffix(err.Msg, " called recursively") && len(stack) > 1 {
		stack = stack[:len(stack)-1] // the call that was not made
	}
	if at := callers(stack); len(at) > 0 {
		e.Position, e.Callers = at[0].Position, at[1:]
		if e.Usage {
			e.Callers = nil
		}
	}
	return Errors{e}
}

// maxCallers is how many callers an error names.
const maxCallers = 12

// callers returns the stack without built-in functions, the innermost first.
func callers(stack starlark.CallStack) []Caller {
	var list []Caller
	for i := range stack {
		f := stack.At(i)
		if f.Pos.Line == 0 { // built in
			continue
		}
		c := Caller{Position: position(f.Pos), Function: f.Name}
		if f.Name == "<toplevel>" || f.Name == "<expr>" {
			c.Function = ""
		}
		list = append(list, c)
		if len(list) == maxCallers {
			break
		}
	}
	return list
}

// cancelled is how go.starlark.net begins the message of a thread that was stopped.
const cancelled = "Starlark computation cancelled: "

// reword says in weft's way what go.starlark.net says, above all of what is Python but not
// Starlark.
func reword(text string) string {
	text = strings.TrimPrefix(text, cancelled)
	if f, ok := strings.CutSuffix(text, " called recursively"); ok {
		return f + " calls itself, which Starlark does not allow; write a loop"
	}
	if name, ok := strings.CutPrefix(text, "undefined: "); ok {
		name, hint, _ := strings.Cut(name, " ")
		if hint = strings.Trim(hint, "()"); hint != "" {
			hint = "; " + hint
		}
		return "there is no name " + name + hint
	}
	if reason, ok := strings.CutPrefix(text, "fail: "); ok {
		return reason
	}
	if before, op, ok := strings.Cut(text, "unknown binary op: "); ok {
		if strings.Contains(op, " + ") && strings.Contains(op, "string") {
			return before + op + " is not possible; write str(x) for what is no text"
		}
		return before + op + " is not possible"
	}
	got, want, _ := strings.Cut(text, ", want ")
	got, ok := strings.CutPrefix(got, "got ")
	if !ok || want == "" {
		return text
	}
	if want == "EOF" {
		return "this is not an expression; px executes statements"
	}
	want = strings.Replace(want, "primary expression", "a value", 1)
	if want == "indent" {
		return "this line belongs to the statement before it; indent it"
	}
	switch got {
	case "import", "from":
		return "Starlark has no import; load('FILE.star', 'NAME') takes a name from a file"
	case "try", "except", "finally", "raise":
		return "Starlark has no exceptions: an error ends the script, and fail('...') makes one"
	case "class":
		return "Starlark has no classes; write functions, and dicts for data"
	case "del":
		return "Starlark has no del; write d.pop(KEY), or give the name another value"
	case "with", "yield", "nonlocal", "global", "is", "assert", "as":
		return "Starlark has no " + got
	case "end of file", "newline", "indent", "outdent":
		return want + " is missing before the end of the line"
	case "string literal":
		return "there is text in quotes where " + want + " should be; Starlark has no f'...': write '%s' % x"
	}
	return got + " stands where " + want + " should be"
}

// displayPath is how errors name a file that is loaded by the file at from.
func displayPath(from, name string) string { return path.Join(path.Dir(from), name) }
