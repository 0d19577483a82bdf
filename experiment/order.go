package experiment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"weft/topo"
)

// Wait lets time pass.
type Wait struct {
	Time time.Duration `key:"time" doc:"how long" required:"true"`
}

func shortWait(a Action, text string) (err error) {
	a.(*Wait).Time, err = parseDuration(text)
	return err
}

func (w *Wait) String() string { return "wait " + formatDuration(w.Time) }

// Validate has nothing to complain of.
func (w *Wait) Validate(*topo.Plan) error { return nil }

// Estimate is the time itself.
func (w *Wait) Estimate() time.Duration { return w.Time }

// Do waits.
func (w *Wait) Do(ctx context.Context, _ *Trial) (Outcome, error) {
	timer := time.NewTimer(w.Time)
	defer timer.Stop()
	select {
	case <-timer.C:
		return Outcome{}, nil
	case <-ctx.Done():
		return Outcome{}, context.Cause(ctx)
	}
}

// Connected waits for the controllers of the switches.
type Connected struct {
	Time time.Duration `key:"time" doc:"how long at the most (30s)"`
}

func shortConnected(a Action, text string) (err error) {
	a.(*Connected).Time, err = parseDuration(text)
	return err
}

func (c *Connected) String() string { return "connected" }

// Validate has nothing to complain of.
func (c *Connected) Validate(*topo.Plan) error { return nil }

// Estimate is that of controllers that are there.
func (c *Connected) Estimate() time.Duration { return 0 }

// Limit is how long it waits.
func (c *Connected) Limit() time.Duration { return cmp.Or(c.Time, DefaultConnect) }

// Do waits.
func (c *Connected) Do(ctx context.Context, t *Trial) (Outcome, error) {
	missing, err := t.Client.Wait(ctx, c.Limit())
	if err != nil {
		return Outcome{}, err
	}
	var names []string
	for _, m := range missing {
		names = append(names, fmt.Sprintf("%s to %s (%s)", m.Switch, m.Controller, m.Reason))
	}
	o := Outcome{Values: Values{"missing": float64(len(missing))}, Summary: "all switches have their controllers"}
	if len(names) > 0 {
		o.Summary = "not connected: " + list(names, 4)
	}
	return o, nil
}

// Parallel carries out steps at the same time.
type Parallel struct {
	Steps []Step `key:"steps" required:"true"`
}

// Sequence carries out steps one after the other.
type Sequence struct {
	Steps []Step `key:"steps" required:"true"`
}

// Repeat carries out steps several times.
type Repeat struct {
	Times int           `key:"times" doc:"how often" required:"true" min:"1" max:"1000000"`
	Every time.Duration `key:"every" doc:"from the start of one time to the start of the next (none: at once)"`
	Steps []Step        `key:"steps" required:"true"`
}

func (p *Parallel) String() string { return fmt.Sprintf("parallel, %d steps", len(p.Steps)) }
func (s *Sequence) String() string { return fmt.Sprintf("%d steps", len(s.Steps)) }
func (r *Repeat) String() string   { return fmt.Sprintf("repeat %s", times(r.Times)) }

// Validate looks at the steps.
func (p *Parallel) Validate(plan *topo.Plan) error { return validate(plan, p.Steps) }

// Validate looks at the steps.
func (s *Sequence) Validate(plan *topo.Plan) error { return validate(plan, s.Steps) }

// Validate looks at the steps.
func (r *Repeat) Validate(plan *topo.Plan) error { return validate(plan, r.Steps) }

func validate(plan *topo.Plan, steps []Step) error {
	var errs []error
	for _, s := range steps {
		if err := s.Validate(plan); err != nil {
			errs = append(errs, &PositionError{s.Position, err})
		}
	}
	return errors.Join(errs...)
}

// Estimate is that of the longest step.
func (p *Parallel) Estimate() time.Duration {
	var longest time.Duration
	for _, s := range p.Steps {
		longest = max(longest, estimate([]Step{s}))
	}
	return longest
}

// Estimate is the sum of the steps'.
func (s *Sequence) Estimate() time.Duration { return estimate(s.Steps) }

// Estimate is the sum of all times.
func (r *Repeat) Estimate() time.Duration {
	return time.Duration(r.Times-1)*max(r.Every, estimate(r.Steps)) + estimate(r.Steps)
}

// estimate is how long steps take one after the other.
func estimate(steps []Step) time.Duration {
	var all time.Duration
	for _, s := range steps {
		if s.At != nil {
			all = max(all, *s.At)
		}
		all += s.Action.Estimate()
	}
	return all
}

// Do carries out the steps.
func (p *Parallel) Do(ctx context.Context, t *Trial) (Outcome, error) {
	lists := make([][]Step, len(p.Steps))
	for i, s := range p.Steps {
		lists[i] = []Step{s}
	}
	return Outcome{}, t.Go(ctx, lists...)
}

// Do carries out the steps.
func (s *Sequence) Do(ctx context.Context, t *Trial) (Outcome, error) {
	return Outcome{}, t.run(ctx, s.Steps)
}

// Do carries out the steps again and again.
func (r *Repeat) Do(ctx context.Context, t *Trial) (Outcome, error) {
	begin := time.Now()
	for i := range r.Times {
		wait := Wait{time.Until(begin.Add(time.Duration(i) * r.Every))}
		if _, err := wait.Do(ctx, t); err != nil {
			return Outcome{}, err
		}
		if err := t.run(ctx, r.Steps); err != nil {
			return Outcome{}, err
		}
	}
	return Outcome{}, nil
}

// A PositionError is what is wrong at a place of a file, FILE:LINE:COLUMN.
type PositionError struct {
	Position string
	Err      error
}

func (e *PositionError) Error() string {
	if e.Position == "" {
		return e.Err.Error()
	}
	return e.Position + ": " + e.Err.Error()
}

func (e *PositionError) Unwrap() error { return e.Err }
