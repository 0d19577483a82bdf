package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// dialect is the Starlark that weft speaks: with sets, while, and statements outside
// functions; without recursion.
func dialect() *syntax.FileOptions {
	return &syntax.FileOptions{Set: true, While: true, TopLevelControl: true, GlobalReassign: true}
}

// maxSource is the size of the largest script.
const maxSource = 1 << 20

// maxPrint bounds what one evaluation prints, in bytes.
const maxPrint = 1 << 20

// An evaluator evaluates a script and the files that it loads.
type evaluator struct {
	limits  Limits
	builtin starlark.StringDict // what scripts find besides Starlark's own
	sources sources
	print   io.Writer
	printed int
	modules map[string]*module
}

// A module is a file that has been, or is being, evaluated.
type module struct {
	globals starlark.StringDict
	err     error
	ready   bool
}

func newEvaluator(o Options, s sources, builtin starlark.StringDict) *evaluator {
	e := &evaluator{limits: o.Limits.orDefault(), sources: s, print: o.Print, modules: map[string]*module{}}
	if e.print == nil {
		e.print = io.Discard
	}
	e.builtin = starlark.StringDict{}
	for name, v := range guards() {
		e.builtin[name] = v
	}
	for name, v := range builtin {
		e.builtin[name] = v
	}
	return e
}

// thread returns a thread for the file called name, to which its loads are relative. What it
// calls ends with ctx.
func (e *evaluator) thread(ctx context.Context, name string) *starlark.Thread {
	t := &starlark.Thread{Name: name}
	t.SetLocal(contextKey, ctx)
	t.Print = func(t *starlark.Thread, text string) { e.say(t, text) }
	t.Load = func(t *starlark.Thread, load string) (starlark.StringDict, error) {
		m := e.load(displayPath(name, load), load, t)
		return m.globals, m.err
	}
	t.SetMaxExecutionSteps(e.limits.Steps)
	t.OnMaxSteps = func(t *starlark.Thread) {
		t.Cancel(fmt.Sprintf("the script takes more than %d steps; does a loop not end?", e.limits.Steps))
	}
	return t
}

func (e *evaluator) say(t *starlark.Thread, text string) {
	if e.printed += len(text) + 1; e.printed > maxPrint {
		t.Cancel(fmt.Sprintf("the script prints more than %d bytes", maxPrint))
		return
	}
	fmt.Fprintln(e.print, text)
}

// load evaluates a file that another loads, once.
func (e *evaluator) load(name, asked string, from *starlark.Thread) *module {
	if m := e.modules[name]; m != nil {
		if !m.ready {
			return &module{err: fmt.Errorf("the files load each other in a circle; move what both need into a third")}
		}
		return m
	}
	m := &module{}
	e.modules[name] = m
	t := e.thread((&call{thread: from}).ctx(), name)
	t.Steps = from.Steps // all files share the limit
	m.globals, m.err = e.file(t, name, asked)
	from.Steps = t.Steps
	m.ready = true
	return m
}

// file evaluates one file; load is what the load statement said, empty for the first.
func (e *evaluator) file(t *starlark.Thread, name, load string) (starlark.StringDict, error) {
	text, err := e.sources.read(name, load)
	if err != nil {
		return nil, err
	}
	f, err := parse(name, text)
	if err != nil {
		return nil, explain(name, err)
	}
	guard(f)
	prog, err := starlark.FileProgram(f, e.builtin.Has)
	if err != nil {
		return nil, explain(name, err)
	}
	globals, err := prog.Init(t, e.builtin)
	if load != "" {
		globals.Freeze()
	}
	return globals, err
}

func parse(name string, text []byte) (*syntax.File, error) {
	if err := checkNesting(name, text); err != nil {
		return nil, err
	}
	return dialect().Parse(name, text, 0)
}

// errPanic begins the error of an evaluation that failed in a way that it should not.
var errPanic = errors.New("the script found a mistake in weft itself; please report it")

// grace is how long a thread that was told to stop may take to notice.
const grace = time.Second

// watch calls f with a thread for the file called name, and stops it when ctx ends or limits
// are reached. It returns within the
// limits even if f does not: f is then left to itself, which only the end of the process
// ends.
func (e *evaluator) watch(ctx context.Context, name string, f func(t *starlark.Thread) error) error {
	l := e.limits
	timed, cancel := context.WithTimeout(ctx, l.Time)
	defer cancel()
	t := e.thread(timed, name)
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				buf := make([]byte, 4096)
				done <- fmt.Errorf("%w: %v\n%s", errPanic, r, buf[:runtime.Stack(buf, false)])
			}
		}()
		done <- f(t)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	heap := newHeap()
	expired := timed.Done()
	var reason error
	var over <-chan time.Time
	stop := func(err error) {
		reason = err
		t.Cancel(err.Error())
		cancel()
		over = time.After(grace)
	}
	for {
		select {
		case err := <-done:
			var eval *starlark.EvalError
			switch {
			case reason == nil || err == nil:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &eval):
				eval.Msg = reason.Error() // what it called may have had an error of its own
				return eval
			}
			return reason
		case <-tick.C:
			if reason == nil && heap.over(l.Memory) {
				stop(fmt.Errorf("the script uses more than %d MB of memory", l.Memory/1e6))
			}
		case <-expired:
			expired = nil
			if reason != nil {
				continue
			}
			if ctx.Err() != nil {
				stop(ctx.Err())
			} else {
				stop(fmt.Errorf("the script takes longer than %s", l.Time))
			}
		case <-over:
			return reason
		}
	}
}

// A heap measures how much memory has come into use since it was made.
type heap struct {
	stats  runtime.MemStats
	before uint64
}

func newHeap() *heap {
	h := &heap{}
	h.before = h.now()
	return h
}

// now returns the bytes of objects, garbage included that has not been swept.
func (h *heap) now() uint64 {
	runtime.ReadMemStats(&h.stats)
	return h.stats.HeapAlloc
}

// over reports whether more than limit bytes are in use, garbage apart.
func (h *heap) over(limit int64) bool {
	most := h.before + uint64(limit)
	if h.now() <= most {
		return false
	}
	runtime.GC()
	return h.now() > most
}

// sources is where scripts are read from.
type sources interface {
	// read returns the file that errors call name; load is what a load statement asked for,
	// empty for the script itself.
	read(name, load string) ([]byte, error)
}

// A directory is that of a script, and what is below it.
type directory struct {
	script string // its path as the user wrote it
	root   *os.Root
	// outside lets load read other files too.
	outside bool
}

func openDirectory(script string, outside bool) (*directory, error) {
	root, err := os.OpenRoot(filepath.Dir(script))
	if err != nil {
		return nil, plainError(err)
	}
	return &directory{script, root, outside}, nil
}

func (d *directory) close() { d.root.Close() }

func (d *directory) read(name, load string) ([]byte, error) {
	if load == "" {
		f, err := os.Open(d.script)
		return readSource(f, err)
	}
	if strings.Contains(load, "://") || strings.HasPrefix(load, "@") || strings.HasPrefix(load, "//") {
		return nil, errors.New("load reads files; write a path that is relative to this file, such as lib.star")
	}
	if path.IsAbs(load) {
		name = load
	}
	if d.outside {
		f, err := os.Open(filepath.FromSlash(name))
		return readSource(f, err)
	}
	below, err := filepath.Rel(filepath.Dir(d.script), filepath.FromSlash(name))
	if err != nil || !filepath.IsLocal(below) || path.IsAbs(load) {
		return nil, errors.New("load reads files below the script's directory only; copy the file there, or allow it by --allow")
	}
	f, err := d.root.Open(below)
	return readSource(f, err)
}

// readSource reads a file that is not larger than a script can be, and closes it.
func readSource(f *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, plainError(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, errors.New("this is a directory; write the path of a file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err != nil {
		return nil, plainError(err)
	}
	if len(text) > maxSource {
		return nil, fmt.Errorf("the file is larger than %d bytes, which no script is", maxSource)
	}
	return text, nil
}

// plainError leaves the path out of an error of the file system: the position has it.
func plainError(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		if strings.Contains(p.Err.Error(), "path escapes") {
			return errors.New("the path leads out of the script's directory; copy the file there, or allow it by --allow")
		}
		return p.Err
	}
	return err
}

// maxNesting is how deep brackets may stand within each other, maxRow how many operators and
// calls may stand in a row. The parser and the compiler are recursive: without a bound, a file
// could exhaust the stack, which ends the process.
const (
	maxNesting = 200
	maxRow     = 10_000
)

// checkNesting returns an error if the source is nested too deeply to be parsed.
func checkNesting(name string, text []byte) error {
	var row [maxNesting + 1]int // at each depth of brackets, since the last comma or line
	depth, line, begin := 0, int32(1), 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\n':
			line, begin = line+1, i+1
			if depth == 0 {
				row[0] = 0
			}
		case '\\':
			if i++; i < len(text) && text[i] == '\n' {
				line, begin = line+1, i+1
			}
		case '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case '"', '\'':
			end, lines, last := skipString(text, i)
			if lines > 0 {
				line, begin = line+int32(lines), last
			}
			i = end
		case '(', '[', '{':
			row[depth]++
			if depth++; depth <= maxNesting {
				row[depth] = 0
			}
		case ')', ']', '}':
			depth = max(0, depth-1)
		case ',', ';':
			row[depth] = 0
		case '-', '+', '~', '*', '/', '%', '|', '&', '^', '<', '>', '=', ':', '.', ' ', '\t':
			row[depth]++ // a blank stands for operators in letters: not, if, lambda
		}
		if depth > maxNesting || row[depth] > maxRow {
			column := utf8.RuneCount(text[begin:i]) + 1
			pos := syntax.MakePosition(&name, line, int32(column))
			return syntax.Error{Pos: pos, Msg: "the source is nested too deeply; use functions or variables for its parts"}
		}
	}
	return nil
}

// skipString returns the index of the last character of the string literal that begins at i,
// how many lines it spans, and where its last line begins.
func skipString(text []byte, i int) (end, lines, last int) {
	quote := text[i]
	triple := i+2 < len(text) && text[i+1] == quote && text[i+2] == quote
	j := i + 1
	if triple {
		j = i + 3
	}
	for ; j < len(text); j++ {
		switch c := text[j]; {
		case c == '\\':
			j++
			if j < len(text) && text[j] == '\n' {
				lines, last = lines+1, j+1
			}
		case c == '\n' && !triple:
			return j - 1, lines, last
		case c == '\n':
			lines, last = lines+1, j+1
		case c == quote && !triple:
			return j, lines, last
		case c == quote && j+2 < len(text) && text[j+1] == quote && text[j+2] == quote:
			return j + 2, lines, last
		}
	}
	return len(text), lines, last
}
