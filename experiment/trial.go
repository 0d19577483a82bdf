package experiment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"weft/api"
	"weft/network"
	"weft/topo"
)

// A Trial is one run of an experiment on one network. Its methods may be called
// concurrently. Scripts and steps of files act on the network through Do alone.
type Trial struct {
	// Client speaks to the running network.
	Client *api.Client
	// Dir takes the trial's files; Home is where the experiment's file is, and the working
	// directory of commands. Both are absolute paths.
	Dir, Home string
	// Arguments are the parameters of this trial.
	Arguments Arguments
	// Seed is this trial's; nil: chance is not repeatable.
	Seed *uint64

	started time.Time
	report  func(Event)

	mu       sync.Mutex
	plan     *topo.Plan
	result   *TrialResult
	captures map[string]*api.Recording
	services map[string]*service
	programs int  // that were started
	closing  bool // the steps are over
}

// newTrial returns a trial whose first step begins now.
func newTrial(client *api.Client, plan *topo.Plan, dir, home string, result *TrialResult, report func(Event)) *Trial {
	if report == nil {
		report = func(Event) {}
	}
	return &Trial{
		Client: client, Dir: dir, Home: home, Arguments: result.Arguments, Seed: result.Seed, started: time.Now(),
		report: report, plan: plan, result: result,
		captures: map[string]*api.Recording{}, services: map[string]*service{},
	}
}

// Plan returns the network's plan, as it was built or SetPlan said.
func (t *Trial) Plan() *topo.Plan {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.plan
}

// SetPlan says that the caller has changed the network: a script.
func (t *Trial) SetPlan(p *topo.Plan) {
	t.mu.Lock()
	t.plan = p
	t.mu.Unlock()
}

// since is the time of the trial's clock, seconds.
func (t *Trial) since(at time.Time) float64 { return at.Sub(t.started).Seconds() }

// Note records something that happened beside the steps.
func (t *Trial) Note(format string, args ...any) {
	n := Note{T: t.since(time.Now()), Text: fmt.Sprintf(format, args...)}
	t.mu.Lock()
	t.result.Notes = append(t.result.Notes, n)
	t.mu.Unlock()
	t.report(Event{Note: &n})
}

// addFile adds to the files of the results.
func (t *Trial) addFile(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Files = append(t.result.Files, name)
}

// networkEvent notes warnings of the network's.
func (t *Trial) networkEvent(e network.Event) {
	if e.Level != slog.LevelWarn.String() && e.Level != slog.LevelError.String() {
		return
	}
	text := e.Message
	if e.Node != "" {
		text = e.Node + ": " + text
	}
	t.Note("%s", text)
}

// pause is the time between attempts of a step with Within.
const pause = 100 * time.Millisecond

// errTime is the cause of the end of an attempt that takes too long.
var errTime = errors.New("its time is over")

// Do carries out a step, records what came of it and returns that. The error is not nil if the
// trial is to end: a *StepError if an action failed, or a check that is required, else
// that of ctx.
func (t *Trial) Do(ctx context.Context, s Step) (StepResult, error) {
	kind := KindOf(s.Action)
	if kind.group() { // its steps are what counts
		_, err := s.Action.Do(ctx, t)
		return StepResult{Name: s.Title(), Kind: kind.Name, Position: s.Position}, err
	}
	r := StepResult{Name: s.Title(), Kind: kind.Name, Position: s.Position, Check: s.IsCheck(), Points: s.points()}
	if err := s.Validate(t.Plan()); err != nil {
		now := time.Now()
		r.T, r.Status, r.Message = t.since(now), Broken, err.Error()
		return t.finish(ctx, s, r, now)
	}
	begin := time.Now()
	r.T = t.since(begin)
	t.report(Event{Begin: &Begin{Name: r.Name, Kind: r.Kind, Expected: s.Action.Estimate(), Within: s.Within}})
	for {
		r.Attempts++
		t.attempt(ctx, s, &r)
		left := s.Within - time.Since(begin)
		if r.Status != Failed || left <= 0 || ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
		}
	}
	if r.Status == Failed && s.Within > 0 {
		r.Message += fmt.Sprintf(" (tried %s within %s)", times(r.Attempts), formatDuration(s.Within))
	}
	return t.finish(ctx, s, r, begin)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// attempt does the action once and judges its outcome.
func (t *Trial) attempt(ctx context.Context, s Step, r *StepResult) {
	kind := KindOf(s.Action)
	limit := s.limit()
	inner, cancel := context.WithTimeoutCause(ctx, limit, errTime)
	defer cancel()
	began := time.Now()
	out, err := s.Action.Do(inner, t)
	r.Values, r.Summary, r.Detail, r.Message, r.Expected = out.Values, out.Summary, out.Detail, "", nil
	switch {
	case ctx.Err() != nil:
		r.Status, r.Message = Interrupted, context.Cause(ctx).Error()
		return
	case context.Cause(inner) == errTime:
		r.Status = Failed
		r.Message = fmt.Sprintf("gave up after %s: %s", formatDuration(limit), s.Action)
		return
	case err != nil:
		r.Status, r.Message = Broken, err.Error()
		return
	}
	t.mu.Lock()
	for _, series := range out.Series {
		for i := range series.Points {
			series.Points[i].T += t.since(began)
		}
		t.result.Series = append(t.result.Series, series)
	}
	t.mu.Unlock()
	r.Status = Done
	if s.IsCheck() {
		r.Status = Passed
	}
	var wrong []string
	for i, e := range s.expectations() {
		q, err := kind.Quantity(e.Quantity)
		if err != nil {
			r.Status, r.Message = Broken, err.Error()
			return
		}
		value := out.Values[e.Quantity]
		for _, c := range e.Conditions {
			v := Verdict{Quantity: q.Name, Condition: c.String(), Value: FormatValue(q.Unit, value), Passed: c.Holds(value), Default: i >= len(s.Expect)}
			r.Expected = append(r.Expected, v)
			if !v.Passed {
				wrong = append(wrong, fmt.Sprintf("%s is %s, expected %s", v.Quantity, v.Value, v.Condition))
			}
		}
	}
	if len(wrong) > 0 {
		r.Status, r.Message = Failed, strings.Join(wrong, "; ")
		if s.MayFail {
			r.Status = Done
		}
	}
}

// finish records a step that has ended and says whether the trial goes on.
func (t *Trial) finish(ctx context.Context, s Step, r StepResult, begin time.Time) (StepResult, error) {
	r.Seconds = time.Since(begin).Seconds()
	if r.Status == Passed {
		r.Earned = r.Points
	}
	t.record(&r)
	switch {
	case r.Status == Interrupted:
		return r, context.Cause(ctx)
	case r.Status == Done || r.Status == Passed:
		return r, nil
	case !r.Check && !s.MayFail, r.Check && s.Required:
		return r, &StepError{Step: r, Reason: r.Message}
	}
	return r, nil
}

// record adds what came of a step to the trial's result.
func (t *Trial) record(r *StepResult) {
	t.mu.Lock()
	r.Number = len(t.result.Steps) + 1
	t.result.Steps = append(t.result.Steps, *r)
	t.result.Totals.count(*r)
	t.mu.Unlock()
	t.report(Event{Step: r})
}

// Check records a check that the caller has made itself: a script, at a position.
func (t *Trial) Check(name, position string, passed bool, points float64, message string) StepResult {
	r := StepResult{Name: name, Kind: "check", Position: position, Check: true, Status: Passed, Points: points, Earned: points,
		T: t.since(time.Now()), Attempts: 1}
	if !passed {
		r.Status, r.Earned, r.Message = Failed, 0, message
	}
	t.record(&r)
	return r
}

// skip records steps that will not be carried out.
func (t *Trial) skip(steps []Step) {
	for _, s := range steps {
		if inner := KindOf(s.Action).steps; inner != nil {
			t.skip(inner(s.Action))
			continue
		}
		r := StepResult{Name: s.Title(), Kind: KindOf(s.Action).Name, Position: s.Position, Check: s.IsCheck(),
			Status: Skipped, Points: s.points(), T: t.since(time.Now())}
		t.record(&r)
	}
}

// run carries out steps one after the other; those after one that ends the trial are
// skipped.
func (t *Trial) run(ctx context.Context, steps []Step) error {
	begin := time.Now()
	for i, s := range steps {
		if s.At != nil {
			if err := t.until(ctx, begin.Add(*s.At), s); err != nil {
				t.skip(steps[i:])
				return err
			}
		}
		if _, err := t.Do(ctx, s); err != nil {
			t.skip(steps[i+1:])
			return err
		}
	}
	return nil
}

// late is how much later than asked a step may start without a note.
const late = 50 * time.Millisecond

// until waits for the time of a step.
func (t *Trial) until(ctx context.Context, at time.Time, s Step) error {
	wait := time.Until(at)
	if wait < -late {
		t.Note("%s: it is %s late, since the steps before it took longer", s.Title(), formatDuration(-wait))
	}
	if wait > 0 {
		t.report(Event{Begin: &Begin{Name: "until " + s.Title(), Kind: "at", Expected: wait}})
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Go carries out lists of steps at the same time and waits for all. The first error ends the
// others.
func (t *Trial) Go(ctx context.Context, lists ...[]Step) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make(chan error, len(lists))
	for _, steps := range lists {
		go func() {
			err := t.run(ctx, steps)
			if err != nil {
				cancel(err)
			}
			errs <- err
		}()
	}
	var first error
	for range lists {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
