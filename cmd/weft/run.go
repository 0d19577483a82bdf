package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"weft/experiment"
	"weft/script"
	"weft/session"
	"weft/topo"
	"weft/topo/netfile"
)

// exitBroken is the status of an experiment that could not be carried out, as distinct from one
// whose checks failed.
const exitBroken = 3

// runOptions are those of weft run.
type runOptions struct {
	sweep                      []string
	trials                     int
	out, name                  string
	strict, allow, quiet, json bool
	seed                       string
	timeout                    string
	dryRun                     bool
}

// runCommand is weft run.
func (p *program) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run FILE [NAME=VALUE...]",
		Short: "Carry out an experiment: build a network, act on it, check, report, and take it down",
		Long: "FILE says what to build, to do and to check (YAML, or Starlark in a .star). NAME=VALUE sets\n" +
			"parameters of the file. Results go to a new directory: result.json, junit.xml,\n" +
			"report.html, captures, and logs of all programs.\n\n" +
			"The exit status is 0 if all checks passed, 1 if some failed, 2 if the command line or the\n" +
			"file is wrong, 3 if the experiment could not be carried out.\n",
		Example: "weft run ring.yaml\n" +
			"weft run dumbbell.yaml --sweep delay=1ms,10ms,50ms --trials 5\n" +
			"weft run exercise.yaml --strict --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &session.UsageError{Err: errors.New("run: write the file of an experiment")}
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"yaml", "yml", "star"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&o.sweep, "sweep", nil, "`NAME=VALUE,...` try each value of a parameter; may be repeated: each combination is tried")
	f.IntVar(&o.trials, "trials", 0, "`N` repeat each combination N times (1)")
	f.StringVarP(&o.out, "out", "o", "", "`DIR` where results go: a directory that does not exist yet (results/NAME-TIME)")
	f.BoolVar(&o.strict, "strict", false, "fail if the machine was too slow for what was measured (fidelity)")
	f.BoolVar(&o.allow, "allow", false, "let the file's commands and controllers do what you may: write anywhere, run outside the network")
	f.StringVar(&o.seed, "seed", "", "`N` make the chance of impaired links repeatable")
	f.Var(spanValue(&o.timeout), "timeout", "`SECONDS` bound each trial (600)")
	f.StringVar(&o.name, "name", "", "`NAME` of the network, unique among your running networks")
	f.BoolVar(&o.dryRun, "dry-run", false, "check the file and print what would be done")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print no progress, only the result")
	f.BoolVar(&o.json, "json", false, "print events and the result as JSON, one on each line")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(f); err != nil {
			return err
		}
		e, err := o.read(cmd.Context(), p, args)
		if err != nil {
			return &session.UsageError{Err: err}
		}
		if o.dryRun {
			return e.Describe(p.out, o.json)
		}
		return p.carryOut(cmd.Context(), e, o)
	}
	return cmd
}

// read reads the experiment and what the command line says of it.
func (o *runOptions) read(ctx context.Context, p *program, args []string) (*experiment.Experiment, error) {
	e, err := p.readExperiment(ctx, args[0], o.allow)
	if err != nil {
		return nil, err
	}
	var seed *uint64
	if o.seed != "" {
		n, err := strconv.ParseUint(o.seed, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("--seed: %q is not a whole number from 0 to 2^64-1", o.seed)
		}
		seed = &n
	}
	if o.trials < 0 {
		return nil, fmt.Errorf("--trials: %d is not above zero", o.trials)
	}
	var timeout time.Duration
	if o.timeout != "" {
		if timeout, err = parseSpan(o.timeout); err != nil {
			return nil, fmt.Errorf("--timeout: %w", err)
		}
	}
	return e, e.Override(args[1:], o.sweep, o.trials, seed, timeout)
}

// readExperiment reads a file by what its name ends in.
func (p *program) readExperiment(ctx context.Context, path string, allow bool) (*experiment.Experiment, error) {
	switch filepath.Ext(path) {
	case ".yaml", ".yml":
		return experiment.ReadFile(path, func(t experiment.Topology) (topo.Spec, error) { return p.loadTopology(ctx, t, allow) })
	case script.Extension:
		return script.Experiment(ctx, path, script.Options{Outside: allow})
	}
	return nil, fmt.Errorf("%s: an experiment is a file that ends in .yaml or .star", path)
}

// loadTopology makes the network of an experiment's file.
func (p *program) loadTopology(ctx context.Context, t experiment.Topology, allow bool) (topo.Spec, error) {
	if t.Text == "" {
		return netfile.ReadNode(ctx, t.File, t.Node, netfile.Params{Outside: allow, NF: checkNF})
	}
	if !slices.Contains(topologyFiles(), strings.TrimPrefix(filepath.Ext(t.Text), ".")) {
		return topo.Options{Topo: t.Text}.Spec()
	}
	path := t.Text
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(t.File), path)
	}
	s, err := p.readTopology(ctx, path, nil, allow)
	var usage *session.UsageError
	if errors.As(err, &usage) {
		err = usage.Err
	}
	return s, err
}

// carryOut carries out an experiment and prints what came of it.
func (p *program) carryOut(ctx context.Context, e *experiment.Experiment, o runOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer cancelOnSignal(cancel)()
	report, told := func(experiment.Event) {}, func() {}
	if !o.quiet || o.json {
		progress := p.newProgress(e, o)
		report, told = progress.Event, progress.Close
	}
	r, err := experiment.Run(ctx, experiment.Config{Experiment: e, Results: o.out, Network: o.name, Strict: o.strict,
		Allow: o.allow, Version: version, Report: report})
	told()
	var usage *experiment.UsageError
	if errors.As(err, &usage) {
		return &session.UsageError{Err: err}
	}
	if r == nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(p.out)
		enc.SetEscapeHTML(false)
		err = errors.Join(err, enc.Encode(map[string]any{"result": r}))
	} else if e := r.WriteText(p.out, o.quiet); err == nil {
		err = e
	}
	switch {
	case err != nil:
		return err
	case r.Status == experiment.Failed:
		return session.ErrFailed
	case r.Status == experiment.Broken:
		return &session.StatusError{Status: exitBroken}
	}
	return nil
}

// newProgress shows progress on standard error; JSON is a result, and goes to standard output.
func (p *program) newProgress(e *experiment.Experiment, o runOptions) *experiment.Progress {
	c := experiment.ProgressConfig{Writer: p.err, Terminal: term.IsTerminal(int(p.err.Fd()))}
	if o.json {
		c.Writer, c.JSON = p.out, true
	}
	if c.Terminal {
		c.Width, _, _ = term.GetSize(int(p.err.Fd()))
		c.Colours = os.Getenv("NO_COLOR") == ""
	}
	trials, each := e.Extent()
	return experiment.NewProgress(c, trials, each)
}

// cancelOnSignal ends an experiment in good order; a second signal ends weft.
func cancelOnSignal(cancel context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		if s, ok := <-signals; ok {
			cancel(&session.SignalError{Signal: s.(syscall.Signal)})
			signal.Stop(signals)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}
