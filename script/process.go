package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"
	"golang.org/x/sys/unix"

	"weft/topo"
)

// A script that describes a network runs in a process of its own. The interpreter's limits
// give errors with a line; what they cannot see (a comparison that takes for ever, a text
// that a single step makes too long) ends with that process.
//
//	ask ── request (JSON, stdin) ──► weft-script: limits itself, evaluates
//	    ◄─ answers (JSON lines) ─── what it prints, then the network or the errors

// processName is argv[0] of that process.
const processName = "weft-script"

// processVariable is in its environment. A program that does not call Main would otherwise
// start itself again and again.
const processVariable = "WEFT_SCRIPT"

// Main evaluates a script and does not return, if this process was started for that. A
// program that calls Topology or Describe must call it first in main.
func Main() {
	if os.Args[0] != processName {
		return
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type request struct {
	Path     string            `json:"path"`
	Params   map[string]string `json:"params"`
	Describe bool              `json:"describe"`
	Outside  bool              `json:"outside"`
	Limits   Limits            `json:"limits"`
}

// An answer is a line of what the process writes; the last one has Done.
type answer struct {
	Print       string      `json:"print,omitempty"`
	Done        bool        `json:"done,omitempty"`
	Errors      Errors      `json:"errors,omitempty"`
	Spec        topo.Spec   `json:"spec,omitzero"`
	Description Description `json:"description,omitzero"`
}

// serve reads a request and answers it.
func serve(r io.Reader, w io.Writer) error {
	var q request
	if err := json.NewDecoder(r).Decode(&q); err != nil {
		return fmt.Errorf("this program is started by weft: %w", err)
	}
	if err := confine(q.Limits); err != nil {
		return err
	}
	out := json.NewEncoder(w)
	a := q.evaluate(context.Background(), printer{out})
	a.Done = true
	return out.Encode(a)
}

// A printer passes on what a script prints.
type printer struct{ out *json.Encoder }

func (p printer) Write(text []byte) (int, error) {
	return len(text), p.out.Encode(answer{Print: string(text)})
}

// confine has the kernel bound this process: its memory, its time, and that it writes no file.
func confine(l Limits) error {
	now, err := dataSize()
	if err != nil {
		return err
	}
	limits := map[int]uint64{
		unix.RLIMIT_DATA:  now + 2*uint64(l.Memory) + 256<<20, // with garbage, and the collector's own
		unix.RLIMIT_CPU:   2 * uint64(l.Time/time.Second+5),
		unix.RLIMIT_FSIZE: 0,
		unix.RLIMIT_CORE:  0,
	}
	for which, most := range limits {
		if err := unix.Setrlimit(which, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("cannot limit the script's process: %w", err)
		}
	}
	return nil
}

// dataSize returns what RLIMIT_DATA counts of this process, in bytes (proc(5), statm).
func dataSize() (uint64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, resident, shared, code, lib, data uint64
	if _, err := fmt.Sscan(string(text), &size, &resident, &shared, &code, &lib, &data); err != nil {
		return 0, fmt.Errorf("/proc/self/statm: %w", err)
	}
	return data * uint64(os.Getpagesize()), nil
}

// evaluate evaluates the script in this process.
func (q request) evaluate(ctx context.Context, print io.Writer) (a answer) {
	fail := func(err error) answer {
		a.Errors = explain(q.Path, err)
		return a
	}
	dir, err := openDirectory(q.Path, q.Outside)
	if err != nil {
		return fail(err)
	}
	defer dir.close()
	return q.evaluateFrom(ctx, dir, print)
}

// A script is a world with what evaluates scripts on it.
type script struct {
	world    *world
	params   *parameters
	settings settings
	*evaluator
}

// newScript returns a script that describes a network first.
func newScript(given map[string]string, o Options, from sources) *script {
	s := &script{world: newWorld(newDraft()), params: &parameters{given: given}}
	builtins := s.world.builtins()
	maps.Copy(builtins, s.steps(builtins))
	builtins["param"] = starlark.NewBuiltin("param", s.params.param)
	builtins["experiment"] = starlark.NewBuiltin("experiment", s.settings.experiment)
	s.evaluator = newEvaluator(o, from, builtins)
	return s
}

// evaluateFrom evaluates the script from sources.
func (q request) evaluateFrom(ctx context.Context, from sources, print io.Writer) (a answer) {
	s := newScript(q.Params, Options{Limits: q.Limits, Print: print}, from)
	s.world.started = func(*call) error {
		a.Description.Starts = true
		return errStarted
	}
	err := s.watch(ctx, q.Path, func(t *starlark.Thread) error {
		_, err := s.file(t, q.Path, "")
		if errors.Is(err, errStarted) {
			err = nil
		}
		return err
	})
	if q.Describe {
		a.Description.Params, a.Description.Settings = s.params.declared, s.settings.Settings
		if text, err := from.read(q.Path, ""); err == nil {
			a.Description.Doc = introduction(text)
		}
		if err == nil || len(s.params.declared) > 0 && explain(q.Path, err).Usage() {
			return a // what is missing is for the user to say
		}
	}
	if err != nil {
		a.Errors = explain(q.Path, err)
		return a
	}
	if a.Errors = s.params.unused(q.Path); a.Errors != nil {
		return a
	}
	if a.Spec, err = s.world.draft.finish(q.Path); err != nil {
		a.Errors = explain(q.Path, err)
	}
	return a
}

// errStarted ends an evaluation that only wants the network: at net.start().
var errStarted = errors.New("the network would start here")

// introduction returns the comment at the beginning of a script, without its signs.
func introduction(text []byte) string {
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		comment, ok := strings.CutPrefix(line, "#")
		if !ok || strings.HasPrefix(line, "#!") && len(lines) == 0 {
			if len(lines) > 0 || line != "" && !ok {
				break
			}
			continue
		}
		lines = append(lines, strings.TrimPrefix(comment, " "))
	}
	return strings.Join(lines, "\n")
}

// ask has a process of its own evaluate a script.
func ask(ctx context.Context, q request, print io.Writer) (answer, error) {
	if os.Getenv(processVariable) != "" {
		return answer{}, errors.New("script: main does not call script.Main")
	}
	outer := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, q.Limits.Time+2*grace, fmt.Errorf("the script takes longer than %s", q.Limits.Time))
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{processName}
	cmd.Env = []string{processVariable + "=1", "GOTRACEBACK=none"}
	cmd.Stdin = bytes.NewReader(body)
	var said complaint
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return answer{}, err
	}
	if err := cmd.Start(); err != nil {
		return answer{}, fmt.Errorf("cannot start the script's process: %w", err)
	}
	var last answer
	dec := json.NewDecoder(out)
	for {
		var a answer
		if dec.Decode(&a) != nil {
			break
		}
		if a.Done {
			last = a
			break
		}
		if print != nil {
			io.WriteString(print, a.Print)
		}
	}
	err = cmd.Wait()
	switch {
	case last.Done && len(last.Errors) > 0:
		return answer{}, last.Errors
	case last.Done:
		return last, nil
	case outer.Err() != nil:
		return answer{}, outer.Err()
	case ctx.Err() != nil:
		return answer{}, stopped(q, context.Cause(ctx))
	case said.mentions("stack exceeds", "stack overflow"):
		return answer{}, stopped(q, errors.New("the script's values or statements are nested too deeply"))
	case said.mentions("fatal error: ", "runtime/cgo: ", "failed to allocate"):
		// What the runtime cannot go on without is memory, in some form.
		return answer{}, stopped(q, fmt.Errorf("the script uses more than %d MB of memory", q.Limits.Memory/1e6))
	}
	why, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	return answer{}, stopped(q, fmt.Errorf("the script's process failed: %w: %s", err, why))
}

// stopped is the error of a script whose process was stopped.
func stopped(q request, why error) error {
	return Errors{{Position: Position{File: q.Path}, Message: why.Error()}}
}

// A complaint keeps the beginning of what a process complains, which has the reason.
type complaint struct{ bytes.Buffer }

func (c *complaint) Write(p []byte) (int, error) {
	const most = 4 << 10
	if room := most - c.Len(); room > 0 {
		c.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (c *complaint) mentions(words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(c.String(), w) })
}
