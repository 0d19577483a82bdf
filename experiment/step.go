package experiment

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"weft/topo"
)

// A Step is an action with what is expected of it.
type Step struct {
	// Name is what people call it; empty: what its action says.
	Name   string
	Action Action
	// At is when it starts, from the start of the list of steps that it is in; nil: after
	// the step before it.
	At *time.Duration
	// Timeout bounds each attempt; 0: as long as the action thinks it needs.
	Timeout time.Duration
	// Within repeats a step until all that is expected holds, for so long at the most; 0:
	// there is one attempt.
	Within time.Duration
	// Points that it earns if it passes; nil: one for a check.
	Points *float64
	Expect []Expectation
	// MayFail lets an action fail without an end to the trial.
	MayFail bool
	// Required ends the trial if the check fails: what follows would make no sense.
	Required bool
	// Position is where it was written, FILE:LINE:COLUMN, or empty.
	Position string
}

// An Expectation is what a quantity of a step's outcome is to be. All conditions must hold.
type Expectation struct {
	Quantity   string
	Conditions []Condition
}

// Title is what people call the step.
func (s Step) Title() string {
	if s.Name != "" {
		return s.Name
	}
	return s.Action.String()
}

// IsCheck reports whether the step is one of those that pass or fail, and earn points.
func (s Step) IsCheck() bool {
	return KindOf(s.Action).Check || len(s.Expect) > 0 || s.Points != nil
}

// points are what the step can earn.
func (s Step) points() float64 {
	switch {
	case s.Points != nil:
		return *s.Points
	case s.IsCheck():
		return 1
	}
	return 0
}

// settle is added to the time that an action thinks it needs: a busy machine is slow.
const settle = 30 * time.Second

// A limiter is an Action that may take longer than it does if all goes well.
type limiter interface{ Limit() time.Duration }

// limit bounds an attempt.
func (s Step) limit() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	if l, ok := s.Action.(limiter); ok {
		return l.Limit() + settle
	}
	return s.Action.Estimate() + settle
}

// expectations are the step's own, and its kind's for the quantities that these leave out.
func (s Step) expectations() []Expectation {
	all := append([]Expectation(nil), s.Expect...)
	given := map[string]bool{}
	for _, e := range s.Expect {
		given[e.Quantity] = true
	}
	for _, d := range KindOf(s.Action).Default {
		if !given[d.Quantity] {
			all = append(all, d)
		}
	}
	return all
}

// Validate returns what is wrong with the step on a network of this plan.
func (s Step) Validate(plan *topo.Plan) error {
	errs := []error{s.Action.Validate(plan)}
	switch {
	case s.Points != nil && *s.Points < 0:
		errs = append(errs, fmt.Errorf("points: %g is below zero; write 0 or more", *s.Points))
	case s.MayFail && s.IsCheck():
		errs = append(errs, errors.New("may_fail is for actions; a check that counts nothing has points: 0"))
	case s.Required && !s.IsCheck():
		errs = append(errs, errors.New("required is for checks; an action that fails ends the trial unless it may_fail"))
	}
	if s.Within > 0 && KindOf(s.Action).once {
		errs = append(errs, fmt.Errorf("within: what is captured does not change any more; write it at the step that causes it"))
	} else if s.Within > 0 && len(s.expectations()) == 0 {
		errs = append(errs, errors.New("within repeats a step until what is expected holds; write expect too"))
	}
	return errors.Join(errs...)
}

// An Action is something to do on a network. It is a pointer to a struct whose fields with
// the tag key are set by files and scripts.
type Action interface {
	// String says what it does in a few words: "ping h1 -> h2".
	String() string
	// Validate says what cannot be done on a network of this plan; all at once.
	Validate(*topo.Plan) error
	// Estimate is how long it takes if all goes well.
	Estimate() time.Duration
	// Do does it. An error says that it could not be done; what was done but came out
	// otherwise than hoped is an Outcome.
	Do(context.Context, *Trial) (Outcome, error)
}

// An Outcome is what came of an action.
type Outcome struct {
	// Values has the quantities of the action's kind that were measured; one that is
	// missing meets no expectation.
	Values map[string]any
	// Detail is the result in full, a value for JSON.
	Detail any
	// Summary is the result in a few words for people.
	Summary string
	// Series are measurements over time.
	Series []Series
}

// A Series is a quantity over time.
type Series struct {
	Name   string  `json:"name"` // "h1 → h2"
	Plot   Plot    `json:"plot"`
	Points []Point `json:"points"`
}

// A Plot says which plot of the report a series belongs to.
type Plot string

// The plots.
const (
	PlotRate Plot = "throughput" // bit/s
	PlotRTT  Plot = "rtt"        // seconds
	PlotLoss Plot = "loss"       // percent
)

// A Point is a value at a time.
type Point struct {
	T float64 `json:"t"` // seconds since the trial's first step
	V float64 `json:"v"`
}

// A Kind is a kind of action: one vocabulary for files and scripts.
type Kind struct {
	Name string // in files; the name of a function in scripts
	Doc  string // one line
	// Check says that each step of this kind is a check, whatever is expected of it.
	Check bool
	// New returns an action of the kind with nothing set.
	New func() Action
	// Short reads the short form, a text, into an action; nil: there is none. Usage
	// shows it.
	Short      func(a Action, text string) error
	Usage      string
	Quantities []Quantity
	// Default is what is expected of quantities of which a step says nothing.
	Default []Expectation

	steps func(Action) []Step // of a kind that consists of steps
	once  bool                // to do it again changes nothing
}

// Quantity returns the quantity of that name.
func (k Kind) Quantity(name string) (Quantity, error) {
	var names []string
	for _, q := range k.Quantities {
		if q.Name == name {
			return q, nil
		}
		names = append(names, q.Name)
	}
	if len(names) == 0 {
		return Quantity{}, fmt.Errorf("%s measures nothing, so nothing can be expected of it", k.Name)
	}
	return Quantity{}, unknown("quantity of "+k.Name, name, names)
}

// ParseExpectation reads what is expected of a quantity of a kind. All conditions must hold.
func (k Kind) ParseExpectation(quantity string, conditions ...string) (Expectation, error) {
	q, err := k.Quantity(quantity)
	if err != nil {
		return Expectation{}, err
	}
	e := Expectation{Quantity: q.Name}
	var errs []error
	for _, text := range conditions {
		c, err := ParseCondition(q.Unit, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", quantity, err))
		}
		e.Conditions = append(e.Conditions, c)
	}
	if len(conditions) == 0 {
		errs = append(errs, fmt.Errorf("%s: nothing is expected; write a value", quantity))
	}
	return e, errors.Join(errs...)
}

// mustExpect is ParseExpectation for the table of kinds.
func mustExpect(quantities []Quantity, name, condition string) Expectation {
	e, err := Kind{Name: "default", Quantities: quantities}.ParseExpectation(name, condition)
	if err != nil {
		panic(err) // a mistake in the table, which a test goes through
	}
	return e
}

// KindOf returns the kind of an action, which must be of one of them.
func KindOf(a Action) Kind {
	for _, k := range Kinds() {
		if reflect.TypeOf(k.New()) == reflect.TypeOf(a) {
			return k
		}
	}
	panic(fmt.Sprintf("%T is no kind of action", a))
}

// LookupKind returns the kind of that name.
func LookupKind(name string) (Kind, error) {
	var names []string
	for _, k := range Kinds() {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, unknown("action", name, names)
}
