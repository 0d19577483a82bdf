package script

import (
	"context"
	"errors"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// A SessionConfig says what a Session works on.
type SessionConfig struct {
	Client Client
	// Print takes what print prints; nil for nowhere.
	Print io.Writer
	// Show is told what measurements come to; nil for nobody.
	Show func(Measured)
}

// A Session evaluates single lines on a running network, as Mininet's py and px do. All nodes
// are known by their names, and net is the network. Its methods are not for concurrent use.
type Session struct {
	world     *world
	evaluator *evaluator
	own       starlark.StringDict // what lines have defined
}

// sessionLimits bound a line. It may wait for the network as long as its user likes.
func sessionLimits() Limits { return Limits{Time: 1000 * time.Hour} }

// NewSession returns a Session. It does not touch the network yet.
func NewSession(c SessionConfig) *Session {
	w := newWorld(newLive(c.Client, c.Show))
	builtins := w.builtins()
	for name, v := range w.text() {
		builtins[name] = v
	}
	return &Session{world: w, evaluator: newEvaluator(Options{Limits: sessionLimits(), Print: c.Print}, noSources{}, builtins),
		own: starlark.StringDict{}}
}

// noSources is where a Session loads files from: there are none.
type noSources struct{}

func (noSources) read(string, string) ([]byte, error) {
	return nil, errors.New("load is for scripts; write the statements here")
}

// A LineError is what is wrong with a line, without its position.
type LineError struct{ Errors Errors }

// Error returns what is wrong, in as many lines as there are errors.
func (e *LineError) Error() string {
	var lines []string
	for _, err := range e.Errors {
		lines = append(lines, err.Message)
	}
	return strings.Join(lines, "\n")
}

func (e *LineError) Unwrap() error { return e.Errors }

// A Value is what an expression came to.
type Value struct {
	// Text is what Mininet's py prints: text as it is, nothing for None, and the
	// representation of other values. It ends in a newline, if it is not empty.
	Text string
	// Plain is the value for JSON: nodes, links and interfaces are their names.
	Plain any
}

// Eval evaluates an expression.
func (s *Session) Eval(ctx context.Context, expression string) (v Value, err error) {
	err = s.run(ctx, func(t *starlark.Thread, env starlark.StringDict) error {
		if err := checkNesting("<py>", []byte(expression)); err != nil {
			return err
		}
		expr, err := dialect().ParseExpr("<py>", expression, 0)
		if err != nil {
			return err
		}
		root := &syntax.ExprStmt{X: expr}
		syntax.Walk(root, guardNode)
		x, err := starlark.EvalExprOptions(dialect(), t, root.X, env)
		if err != nil {
			return err
		}
		if v.Plain, err = plainValue(x, 0); err != nil {
			return err
		}
		switch x := x.(type) {
		case starlark.String:
			v.Text = string(x) + "\n"
		case starlark.NoneType:
		default:
			v.Text, err = s.world.representation(x, 0)
			v.Text += "\n"
		}
		return err
	})
	return v, err
}

// Exec executes statements; what they define is known to later lines.
func (s *Session) Exec(ctx context.Context, statements string) error {
	return s.run(ctx, func(t *starlark.Thread, env starlark.StringDict) error {
		f, err := parse("<px>", []byte(statements))
		if err != nil {
			return err
		}
		guard(f)
		before := maps.Clone(env)
		err = starlark.ExecREPLChunk(f, t, env)
		for name, v := range env {
			if old, ok := before[name]; !ok || old != v {
				s.own[name] = v
			}
		}
		return err
	})
}

// run calls f with all that a line may name.
func (s *Session) run(ctx context.Context, f func(*starlark.Thread, starlark.StringDict) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	env, err := s.names(ctx)
	if err != nil {
		return err
	}
	s.evaluator.printed = 0
	err = s.evaluator.watch(ctx, "<line>", func(t *starlark.Thread) error {
		var turn sync.Mutex
		turn.Lock()
		t.SetLocal(turnKey, &turn)
		return f(t, env)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &LineError{explain("", err)}
}

// names returns what a line may name: built-in functions, then nodes, then its user's own.
func (s *Session) names(ctx context.Context) (starlark.StringDict, error) {
	s.world.live.begin(ctx)
	env := maps.Clone(s.evaluator.builtin)
	nodes, err := s.world.all()
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		env[n.name] = n
	}
	maps.Copy(env, s.own)
	return env, nil
}

// chain is the end of a line that names an object and begins an attribute of it.
var chain = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:([\pL_][\pL\pN_]*(?:\.[\pL_][\pL\pN_]*)*)\.)?([\pL_][\pL\pN_]*)?$`)
})

// Complete returns the words that the last word of a line can become: names, and after a dot
// the attributes of the object before it. A function's ends with its parenthesis.
func (s *Session) Complete(ctx context.Context, word string) []string {
	env, err := s.names(ctx)
	if err != nil {
		return nil
	}
	m := chain().FindStringSubmatch(word)
	object, begun := m[1], m[2]
	stem := strings.TrimSuffix(word, begun)
	var found []string
	offer := func(name string, v starlark.Value) {
		if !strings.HasPrefix(name, begun) || strings.HasPrefix(name, guardName) {
			return
		}
		if _, ok := v.(starlark.Callable); ok {
			name += "("
		}
		found = append(found, stem+name)
	}
	if object == "" {
		if strings.HasSuffix(stem, ".") {
			return nil // after a value that is not known before it is computed
		}
		for name, v := range starlark.Universe {
			offer(name, v)
		}
		for name, v := range env {
			offer(name, v)
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	var v starlark.Value
	for i, name := range strings.Split(object, ".") {
		if i == 0 {
			v = env[name]
		} else if x, ok := v.(starlark.HasAttrs); ok {
			v, _ = x.Attr(name)
		} else {
			v = nil
		}
	}
	x, ok := v.(starlark.HasAttrs)
	if !ok {
		return nil
	}
	for _, name := range x.AttrNames() {
		a, _ := x.Attr(name)
		offer(name, a)
	}
	slices.Sort(found)
	return found
}
