// Package experiment carries out experiments on networks: it builds one, acts on it,
// measures and checks, takes it down, and writes results that people and CI systems read.
//
//	file (YAML) ──┐                     ┌ Step ─► Trial.Do ─► api.Client ─► the network
//	script ───────┴► Experiment ─► Run ─┤           │
//	                  × points of the   │           ▼
//	                    sweep × trials  └► Trial ─► StepResult ─► Report ─► result.json,
//	                                                               junit.xml, report.html
//
// All that a step can do is an Action, and all actions are in one table, Kinds: files and
// scripts, the JSON Schema and the documentation are made from it.
//
// It may import api, network and capture (for their values), topo and its parts,
// conversation, control/openflow and the internal packages.
package experiment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weft/topo"
)

// An Experiment is what to build, and what to do with it, once for each point of its sweep
// and each trial.
type Experiment struct {
	Name string
	Doc  string // what it is about, for the report
	// File is where it was read from, and Source its text, which goes into the report.
	File   string
	Source string
	// Parameters may be set on the command line and swept over.
	Parameters []Parameter
	Sweep      []Axis
	// Trials is how often each point is repeated; 0 means once.
	Trials int
	// Seed makes chance repeatable; nil: it is not. Trial n of a point gets Seed + n - 1.
	Seed *uint64
	// Timeout bounds each trial, without the network's start and end; 0 means
	// DefaultTimeout.
	Timeout time.Duration
	// Prepare says what a trial with these parameters builds and does. It is called before
	// anything is built, for each point of the sweep.
	Prepare func(Arguments) (Instance, error)
}

// DefaultTimeout bounds a trial if nothing else is said.
const DefaultTimeout = 10 * time.Minute

// DefaultConnect bounds the wait for controllers if nothing else is said.
const DefaultConnect = 30 * time.Second

// A Parameter of an experiment has a name and a value that holds if no other is given.
type Parameter struct {
	Name    string `json:"name"`
	Default string `json:"default"`
	Doc     string `json:"doc,omitempty"`
}

// An Axis is a parameter that is swept over, and its values.
type Axis struct {
	Parameter string   `json:"parameter"`
	Values    []string `json:"values"`
}

// Arguments are the values of all parameters at a point of the sweep.
type Arguments map[string]string

// An Instance is an experiment with all of its parameters set.
type Instance struct {
	Spec  topo.Spec
	Steps []Step
	// Act is what a script does in place of Steps. What it returns ends the trial as an
	// error of the experiment, unless it is a *StepError.
	Act func(ctx context.Context, t *Trial) error
	// Expected is how long a script thinks that it takes; 0: it does not know.
	Expected time.Duration
	// Connect bounds the wait for the switches' controllers before the first step: 0 means
	// DefaultConnect; below zero: do not wait.
	Connect time.Duration
}

// Points returns the points of the sweep, in the order of its axes, the last of which
// changes fastest: one point if nothing is swept over.
func Points(parameters []Parameter, sweep []Axis) []Arguments {
	first := Arguments{}
	for _, p := range parameters {
		first[p.Name] = p.Default
	}
	points := []Arguments{first}
	for _, axis := range sweep {
		var next []Arguments
		for _, p := range points {
			for _, v := range axis.Values {
				q := Arguments{}
				for name, value := range p {
					q[name] = value
				}
				q[axis.Parameter] = v
				next = append(next, q)
			}
		}
		points = next
	}
	return points
}

// maxTrials bounds what one experiment can ask for.
const maxTrials = 10_000

// check returns what is wrong with an experiment as a whole.
func (e *Experiment) check() error {
	var errs []error
	known := map[string]bool{}
	var names []string
	for _, p := range e.Parameters {
		known[p.Name] = true
		names = append(names, p.Name)
	}
	count := max(e.Trials, 1)
	swept := map[string]bool{}
	for _, a := range e.Sweep {
		switch {
		case !known[a.Parameter]:
			errs = append(errs, fmt.Errorf("sweep: %w", unknown("parameter", a.Parameter, names)))
		case swept[a.Parameter]:
			errs = append(errs, fmt.Errorf("sweep: parameter %s is swept over twice; write all its values once", a.Parameter))
		case len(a.Values) == 0:
			errs = append(errs, fmt.Errorf("sweep: parameter %s has no values; write %s=1,2,3", a.Parameter, a.Parameter))
		}
		swept[a.Parameter] = true
		count *= max(len(a.Values), 1)
		if count > maxTrials {
			return errors.Join(append(errs, fmt.Errorf("that makes more than %d trials; sweep over less", maxTrials))...)
		}
	}
	if e.Trials < 0 {
		errs = append(errs, fmt.Errorf("%d trials are too few; write 1 or more", e.Trials))
	}
	return errors.Join(errs...)
}

// unknown says that there is no such thing, and which is near or which there are.
func unknown(what, name string, names []string) error {
	if near := topo.Nearest(name, names); near != "" {
		return fmt.Errorf("there is no %s %q; did you mean %s?", what, name, near)
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no %s %q; there is none at all", what, name)
	}
	return fmt.Errorf("there is no %s %q (there are: %s)", what, name, list(names, 24))
}
