package experiment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"weft/network"
	"weft/topo"
)

// Config says how to carry out an experiment.
type Config struct {
	Experiment *Experiment
	// Results is the directory for the results, which must not exist yet; empty:
	// results/NAME-TIME below the working directory.
	Results string
	// Network names the networks; empty: each has the first free name.
	Network string
	// Strict makes a trial fail whose network did not keep its own time.
	Strict bool
	// Allow lets programs on hosts write wherever the user may.
	Allow bool
	// Version is weft's.
	Version string
	// Report, if not nil, is told how it goes on. It is not called concurrently.
	Report func(Event)
}

// A UsageError is an error in what the user wrote: nothing was done.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// job is one trial to be.
type job struct {
	result   *TrialResult
	instance Instance
	plan     *topo.Plan
}

// Run carries out an experiment and writes its results. Its error is a *UsageError if nothing was
// done, the cause of ctx's end, or that results could not be written; what became
// of the experiment is in its Result, which is nil only if nothing was done.
func Run(ctx context.Context, c Config) (*Result, error) {
	jobs, err := plan(c.Experiment)
	if err == nil && !c.Allow {
		err = harmless(jobs)
	}
	if err != nil {
		return nil, &UsageError{err}
	}
	r := newRunner(c, jobs)
	if err := r.makeDirectory(); err != nil {
		return nil, &UsageError{err}
	}
	for _, j := range jobs {
		if ctx.Err() != nil {
			break
		}
		r.trial(ctx, j)
	}
	r.conclude(ctx)
	err = r.write()
	if ctx.Err() != nil {
		return r.result, context.Cause(ctx)
	}
	return r.result, err
}

// plan prepares all trials and says all that is wrong with them.
func plan(e *Experiment) ([]job, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	var jobs []job
	var errs []error
	seen := map[string]bool{}
	fail := func(err error) {
		if err != nil && !seen[err.Error()] {
			seen[err.Error()] = true
			errs = append(errs, err)
		}
	}
	for i, args := range Points(e.Parameters, e.Sweep) {
		for n := range max(e.Trials, 1) {
			j := job{result: &TrialResult{Point: i + 1, Trial: n + 1, Arguments: args,
				Steps: []StepResult{}, Series: []Series{}, Notes: []Note{}, Files: []string{}}}
			if e.Seed != nil {
				seed := *e.Seed + uint64(n)
				j.result.Seed = &seed
			}
			var err error
			if j.instance, err = e.Prepare(args); err != nil {
				fail(err)
				break
			}
			j.instance.Spec.Seed = j.result.Seed
			if j.plan, err = j.instance.Spec.Plan(); err != nil {
				fail(err)
				break
			}
			if err := validate(j.plan, j.instance.Steps); err != nil {
				fail(err)
				break
			}
			jobs = append(jobs, j)
		}
	}
	return jobs, errors.Join(errs...)
}

// A runner carries out an experiment.
type runner struct {
	Config
	result *Result
	start  time.Time
	alone  bool // there is one trial, whose files need no directory of their own
}

func newRunner(c Config, jobs []job) *runner {
	e := c.Experiment
	var mu sync.Mutex
	report := c.Report
	c.Report = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if report != nil {
			report(e)
		}
	}
	r := &runner{Config: c, start: time.Now(), alone: len(jobs) == 1}
	r.result = &Result{
		Schema: ResultSchema, Name: e.Name, Doc: e.Doc, File: e.File, Source: e.Source, Started: r.start, Seed: e.Seed, Strict: c.Strict,
		Parameters: append([]Parameter{}, e.Parameters...), Sweep: append([]Axis{}, e.Sweep...), Trials: []*TrialResult{},
		Fidelity: worst(nil), Versions: versions(c.Version),
	}
	return r
}

// makeDirectory makes the directory of the results, which nothing is in yet.
func (r *runner) makeDirectory() (err error) {
	defer func() {
		if r.result.Directory = r.Results; err == nil {
			r.Results, err = filepath.Abs(r.Results)
		}
	}()
	if r.Results != "" {
		return makeNew(r.Results)
	}
	base := filepath.Join("results", fileName(r.Experiment.Name)+"-"+r.start.Format("20060102-150405"))
	for n := 1; ; n++ {
		r.Results = base
		if n > 1 {
			r.Results = fmt.Sprintf("%s-%d", base, n)
		}
		if err := makeNew(r.Results); !errors.Is(err, os.ErrExist) || n > 100 {
			return err
		}
	}
}

// makeNew makes a directory that must not exist, and those above it.
func makeNew(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	err := os.Mkdir(dir, 0o777)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("results: %w; results are never overwritten: name another directory", err)
	}
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	return nil
}

// fileName makes a name for a file of a text.
func fileName(text string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c > 127:
			return c
		}
		return '-'
	}, text)
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	name = strings.Trim(name, "-.")
	if len(name) > 100 {
		name = strings.ToValidUTF8(name[:100], "")
	}
	if name == "" {
		return "experiment"
	}
	return name
}

// trial carries out one trial.
func (r *runner) trial(ctx context.Context, j job) {
	t := j.result
	t.Started, t.Directory = time.Now(), "."
	t.Fidelity = worst(nil)
	r.result.Trials = append(r.result.Trials, t)
	if !r.alone {
		t.Directory = fmt.Sprintf("trial-%03d", len(r.result.Trials))
	}
	r.Report(Event{Trial: t})
	err := r.carryOut(ctx, j, filepath.Join(r.Results, t.Directory))
	t.Seconds = time.Since(t.Started).Seconds()
	t.Status, t.Message = verdict(ctx, t, err)
	r.Report(Event{Ended: t})
}

// verdict is what became of a trial that ended with err.
func verdict(ctx context.Context, t *TrialResult, err error) (Status, string) {
	var step *StepError
	switch {
	case ctx.Err() != nil:
		return Interrupted, context.Cause(ctx).Error()
	case errors.As(err, &step) && step.Step.Check && step.Step.Status == Failed:
		return Failed, ""
	case err != nil:
		return Broken, err.Error()
	case t.Totals.Errors > 0:
		return Broken, "a check could not be made"
	case t.Totals.Failed > 0:
		return Failed, ""
	}
	return Passed, ""
}

// errTrialTime ends a trial that takes too long.
type errTrialTime struct{ limit time.Duration }

func (e errTrialTime) Error() string {
	return fmt.Sprintf("the trial took longer than %s", formatDuration(e.limit))
}

// carryOut builds the network, acts on it and takes it down. Files go to dir.
func (r *runner) carryOut(ctx context.Context, j job, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil { // "." is there already
		return err
	}
	t := j.result
	l, err := openLab(ctx, r.Network)
	if err != nil {
		return err
	}
	stages := func(e network.Event) {
		if e.Node == "" && e.Stage != "" {
			r.Report(Event{Stage: e.Stage})
		}
	}
	defer func() {
		err = errors.Join(err, l.close(stages))
	}()
	began := time.Now()
	connect := j.instance.Connect
	if connect == 0 {
		connect = DefaultConnect
	}
	home, err := filepath.Abs(filepath.Dir(r.Experiment.File))
	if err != nil {
		return err
	}
	// The only place that programs on nodes write to. Nothing of weft's is in it: a link that
	// they leave there leads nobody astray.
	files := filepath.Join(dir, filesDir)
	if err := os.Mkdir(files, 0o777); err != nil {
		return err
	}
	defer os.Remove(files) // if it is empty
	recordTo(j.plan, dir, home)
	j.plan.Trusted = r.Allow
	confined := &shelter{writable: []string{files}, readable: []string{home}}
	if r.Allow {
		confined = nil
	}
	if err := l.build(j.plan, confined, connect, stages); err != nil {
		return err
	}
	t.BuildSeconds, t.Plan = time.Since(began).Seconds(), j.plan
	if err := writeJSON(filepath.Join(dir, "plan.json"), j.plan); err != nil {
		return err
	}
	if st, err := l.client.State(l.ctx); err == nil {
		r.result.Versions.Datapath, r.result.Versions.Rootless = string(st.Datapath), st.Rootless
	}
	limit := r.Experiment.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}
	inner, cancel := context.WithTimeoutCause(l.ctx, limit, errTrialTime{limit})
	defer cancel()
	trial := newTrial(l.client, j.plan, dir, home, t, r.Report)
	w := startWatch(inner, l.client, trial.started)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
		defer cancel()
		if l.ctx.Err() == nil { // the network is there yet
			trial.keepFunctions(ctx)
		}
		trial.close()
		trial.listFiles()
		t.Fidelity = w.stop(ctx, trial.lost())
	}()
	go l.client.Events(inner, trial.networkEvent)
	act := j.instance.Act
	if act == nil {
		act = func(ctx context.Context, t *Trial) error { return t.run(ctx, j.instance.Steps) }
	}
	return l.explain(act(inner, trial))
}

// conclude sums up all trials.
func (r *runner) conclude(ctx context.Context) {
	res := r.result
	res.Seconds = time.Since(r.start).Seconds()
	res.Status = Passed
	for _, t := range res.Trials {
		res.Totals.add(t.Totals)
		if worse(t.Status, res.Status) {
			res.Status, res.Message = t.Status, t.Message
		}
	}
	if ctx.Err() != nil {
		res.Status, res.Message = Interrupted, context.Cause(ctx).Error()
	}
	res.Fidelity = worst(res.Trials)
	if r.Strict && res.Status == Passed && res.Fidelity.Verdict != FidelityOK {
		res.Status, res.Message = Failed, "--strict: "+res.Fidelity.Text()
	}
	res.Summary = summarise(res.Trials)
}

// worse reports whether status a is worse than b.
func worse(a, b Status) bool {
	rank := map[Status]int{Passed: 0, Failed: 1, Broken: 2, Interrupted: 3}
	return rank[a] > rank[b]
}
