// Package script runs Starlark, a small Python without access to the machine: scripts that
// describe networks, experiments, and what people type after py and px at the prompt.
//
//	clos.star ── parse, guard ── evaluate ──► net (a draft) ──► topo.Spec
//	                               │  └─────► net (running) ──► API
//	                               └ watch: steps, time, memory
//
// A script sees the network as the object net, with Mininet's names for what it can do, in
// all three uses. A script that only describes a network is evaluated in a process of its
// own, which the kernel bounds (see Main), so that a stranger's file can at worst fail.
//
// It may import experiment, api and network (for running networks) and topo, and nothing else
// of weft.
package script

import (
	"cmp"
	"context"
	"io"
	"time"

	"weft/experiment"
	"weft/topo"
)

// Extension is the ending of a script's file name.
const Extension = ".star"

// Limits bound what a script may use. Zero fields mean the default.
type Limits struct {
	Steps  uint64        // of the interpreter; default 50 million, some seconds
	Time   time.Duration // default 20 s
	Memory int64         // in bytes, of the script's values; default 512 MB
}

func (l Limits) orDefault() Limits {
	return Limits{
		Steps:  cmp.Or(l.Steps, 50_000_000),
		Time:   cmp.Or(l.Time, 20*time.Second),
		Memory: cmp.Or(l.Memory, 512_000_000),
	}
}

// Options say how to evaluate a script.
type Options struct {
	Limits Limits
	// Outside lets load read files that are not below the script's directory.
	Outside bool
	// Print is where print goes; nil for nowhere.
	Print io.Writer
}

// A Param is a parameter that a script takes, by its function param.
type Param struct {
	Name string `json:"name"`
	Doc  string `json:"doc,omitempty"`
	// Type is int, float, bool or string.
	Type string `json:"type"`
	// Default is as it would be written in a command; Required says that there is none.
	Default  string   `json:"default"`
	Required bool     `json:"required,omitempty"`
	Choices  []string `json:"choices,omitempty"`
}

// A Description says what a script is for and which parameters it takes.
type Description struct {
	Doc    string  `json:"doc,omitempty"` // the comment at its beginning
	Params []Param `json:"params"`
	// Starts says that it goes on with the network: it is an experiment, with Settings.
	Starts   bool     `json:"starts,omitempty"`
	Settings Settings `json:"settings,omitzero"`
}

// Settings are what a script says of itself as an experiment.
type Settings struct {
	Name    string            `json:"name,omitempty"`
	Doc     string            `json:"doc,omitempty"`
	Trials  int               `json:"trials,omitempty"`
	Sweep   []experiment.Axis `json:"sweep,omitempty"`
	Timeout time.Duration     `json:"timeout,omitempty"`
	Seed    *uint64           `json:"seed,omitempty"`
	Connect time.Duration     `json:"connect,omitempty"`
}

// Topology evaluates the script at path, with parameters as text, and returns the network
// that it describes, which is valid (topo.Spec.Validate). An error of the script is an
// Errors.
func Topology(ctx context.Context, path string, params map[string]string, o Options) (topo.Spec, error) {
	a, err := ask(ctx, request{Path: path, Params: params, Limits: o.Limits.orDefault(), Outside: o.Outside}, o.Print)
	if err != nil {
		return topo.Spec{}, err
	}
	return a.Spec, nil
}

// Describe evaluates the script at path with the parameters' defaults and returns what it
// says of itself.
func Describe(ctx context.Context, path string, o Options) (Description, error) {
	a, err := ask(ctx, request{Path: path, Describe: true, Limits: o.Limits.orDefault(), Outside: o.Outside}, nil)
	if err != nil {
		return Description{}, err
	}
	return a.Description, nil
}
