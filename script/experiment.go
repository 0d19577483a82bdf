package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.starlark.net/starlark"

	"weft/experiment"
)

// Experiment returns the experiment of the script at path. Its first part, to net.start(),
// describes the network; the rest is carried out on it. So the script is evaluated once to
// learn its parameters, and for each trial twice: to plan it, and to do it.
func Experiment(ctx context.Context, path string, o Options) (*experiment.Experiment, error) {
	text, err := readSource(os.Open(path))
	if err != nil {
		return nil, explain(path, err)
	}
	d, err := Describe(ctx, path, o)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	e := &experiment.Experiment{
		Name: name, Doc: d.Doc, File: path, Source: string(text),
		Sweep: d.Settings.Sweep, Trials: d.Settings.Trials, Seed: d.Settings.Seed, Timeout: d.Settings.Timeout,
	}
	if d.Settings.Name != "" {
		e.Name = d.Settings.Name
	}
	if d.Settings.Doc != "" {
		e.Doc = d.Settings.Doc
	}
	required := map[string]bool{}
	for _, p := range d.Params {
		e.Parameters = append(e.Parameters, experiment.Parameter{Name: p.Name, Default: p.Default, Doc: p.Doc})
		required[p.Name] = p.Required
	}
	e.Prepare = func(a experiment.Arguments) (experiment.Instance, error) {
		given := map[string]string{}
		for name, value := range a {
			if value != "" || !required[name] {
				given[name] = value
			}
		}
		spec, err := Topology(ctx, path, given, Options{Limits: o.Limits, Outside: o.Outside})
		if err != nil {
			return experiment.Instance{}, err
		}
		if !d.Starts {
			return experiment.Instance{}, Errors{{Position: Position{File: path},
				Message: "the script does nothing with its network; write net.start(), and after it what is to be done"}}
		}
		return experiment.Instance{Spec: spec, Connect: d.Settings.Connect, Act: func(ctx context.Context, t *experiment.Trial) error {
			return act(ctx, t, path, given, o)
		}}, nil
	}
	return e, nil
}

// act evaluates the script in this process, with the network of a trial from net.start() on.
func act(ctx context.Context, t *experiment.Trial, path string, given map[string]string, o Options) error {
	dir, err := openDirectory(path, o.Outside)
	if err != nil {
		return explain(path, err)
	}
	defer dir.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.Print = notes{t}
	o.Limits.Time = sessionLimits().Time // the trial has its own
	s := newScript(given, o, dir)
	r := &running{script: s, trial: t, ctx: ctx, cancel: cancel, trusted: o.Outside}
	s.world.started = r.start
	err = s.watch(ctx, path, func(thread *starlark.Thread) error {
		thread.SetLocal(turnKey, &r.turn)
		r.turn.Lock()
		defer r.turn.Unlock()
		_, err := s.file(thread, path, "")
		if err != nil {
			r.cancel(err)
		}
		r.turn.Unlock()
		r.background.Wait()
		r.turn.Lock()
		return err
	})
	if cause := context.Cause(ctx); cause != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = cause
	}
	var step *experiment.StepError
	switch {
	case err == nil || errors.As(err, &step):
		return errors.Join(unwrapped(step))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return context.Cause(ctx)
	}
	var eval *starlark.EvalError
	if errors.As(err, &eval) {
		return explain(path, eval)
	}
	return err
}

// unwrapped returns step as an error, nil if there is none.
func unwrapped(step *experiment.StepError) error {
	if step == nil {
		return nil
	}
	return step
}

// notes makes notes of a trial of what its script prints.
type notes struct{ trial *experiment.Trial }

func (n notes) Write(text []byte) (int, error) {
	n.trial.Note("%s", strings.TrimSuffix(string(text), "\n"))
	return len(text), nil
}

// A running script has a trial's network. Functions of it that run at the same time take
// turns.
type running struct {
	*script
	trial      *experiment.Trial
	trusted    bool // its user allows it to write anywhere
	ctx        context.Context
	cancel     context.CancelCauseFunc
	began      time.Time
	turn       sync.Mutex
	background sync.WaitGroup // of at
}

// start is net.start: from now on the network's objects act.
func (r *running) start(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	if err := r.world.draft.start(r.trial.Plan()); err != nil {
		return err
	}
	l := newLive(r.trial.Client, r.measured)
	l.w, l.ctx, l.changed, l.file = r.world, r.ctx, r.trial.SetPlan, r.file
	r.world.backend, r.world.draft, r.world.live = l, nil, l
	r.world.trial, r.began = r, time.Now()
	r.world.started = func(*call) error { return errors.New("the network runs already") }
	return nil
}

// file is where a link of the trial reads or writes: records are among the results, others
// beside the script, unless the user trusts it.
func (r *running) file(name string, record bool) (string, error) {
	switch {
	case filepath.IsLocal(name) && record:
		return filepath.Join(r.trial.Dir, name), nil
	case filepath.IsLocal(name):
		return filepath.Join(r.trial.Home, name), nil
	case r.trusted:
		return filepath.Abs(name)
	case record:
		return "", fmt.Errorf("%q is no file of the results; write a name without a directory, or --allow if you trust the script", name)
	}
	return "", fmt.Errorf("%q is not below the script's directory; copy it there, or write --allow if you trust the script", name)
}

// measured notes what came of a measurement that is no step.
func (r *running) measured(m Measured) {
	switch {
	case m.Ping != nil:
		r.trial.Note("ping: %d of %d received", m.Ping.Received, m.Ping.Sent)
	case m.Iperf != nil:
		r.trial.Note("iperf %s -> %s: %s", m.Iperf.Client, m.Iperf.Server, Rate(m.Iperf.ServerBps))
	}
}

// thread returns a thread that takes turns with the others, and ends with them.
func (r *running) thread(name string) (t *starlark.Thread, end func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	t = r.evaluator.thread(ctx, name)
	t.SetLocal(turnKey, &r.turn)
	stop := context.AfterFunc(ctx, func() { t.Cancel("the trial has ended") })
	return t, func() { stop(); cancel() }
}

// call calls a function of the script in a thread of its own.
func (r *running) call(f starlark.Callable) (v starlark.Value, err error) {
	t, end := r.thread(r.trial.Plan().Name)
	defer end()
	r.turn.Lock()
	defer r.turn.Unlock()
	return starlark.Call(t, f, nil, nil)
}

// settings is what the function experiment sets.
type settings struct{ Settings }

// experiment is the function experiment(name=, doc=, trials=, sweep=, timeout=, seed=,
// connect=).
func (s *settings) experiment(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var sweep, timeout, seed, connect starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name?", &s.Name, "doc?", &s.Doc, "trials?", &s.Trials, "sweep??", &sweep,
		"timeout??", &timeout, "seed??", &seed, "connect??", &connect); err != nil {
		return nil, err
	}
	if s.Trials < 0 {
		return nil, fmt.Errorf("experiment: trials: %d is below zero", s.Trials)
	}
	s.Sweep = nil
	if sweep != nil {
		d, ok := sweep.(*starlark.Dict)
		if !ok {
			return nil, fmt.Errorf("experiment: sweep: %s is not a dict of parameters and lists of values", shortly(sweep))
		}
		axes, err := settingsOf(d)
		if err != nil {
			return nil, fmt.Errorf("experiment: sweep: %w", err)
		}
		for _, kv := range axes {
			values, ok := kv[1].(starlark.Iterable)
			if !ok {
				return nil, fmt.Errorf("experiment: sweep: %s is not a list of values", shortly(kv[1]))
			}
			axis := experiment.Axis{Parameter: plain(kv[0])}
			for v := range starlark.Elements(values) {
				axis.Values = append(axis.Values, plain(v))
			}
			s.Sweep = append(s.Sweep, axis)
		}
	}
	for _, t := range []struct {
		name string
		v    starlark.Value
		to   *time.Duration
	}{{"timeout", timeout, &s.Timeout}, {"connect", connect, &s.Connect}} {
		if t.v == nil {
			continue
		}
		var err error
		if *t.to, err = durationOf(t.v); err != nil {
			return nil, fmt.Errorf("experiment: %s: %w", t.name, err)
		}
	}
	if seed != nil {
		n, ok := seed.(starlark.Int)
		u, fits := n.Uint64()
		if !ok || !fits {
			return nil, fmt.Errorf("experiment: seed: %s is not a whole number from 0 to 2^64-1", shortly(seed))
		}
		s.Seed = &u
	}
	return starlark.None, nil
}
