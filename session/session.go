// Package session is one network from its beginning to its end on the command line: the
// sandbox starts, the network comes up, tests and scripts run, a person gets a prompt,
// all is taken down, and an exit status tells the truth.
//
// It may import shell, api, network and capture (for their values), topo and
// internal/sandbox.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"weft/api"
	"weft/capture"
	"weft/internal/sandbox"
	"weft/network"
	"weft/shell"
	"weft/topo"
)

// Exit statuses.
const (
	ExitOK     = 0
	ExitFailed = 1 // a test, a check, a command or the network itself failed
	ExitUsage  = 2 // the command line or a file is wrong
)

// Config is what the user asked for.
type Config struct {
	Spec topo.Spec
	// Trusted lets programs that Spec names write wherever the user may.
	Trusted bool
	Dialect shell.Dialect
	// Tests are REPL commands that run instead of a prompt; "none" only brings the network
	// up and down, "build" waits for the switches too.
	Tests []string
	// Pre and Post are files of REPL commands for before the switches start and after
	// the tests.
	Pre, Post string
	// Captures are those that last as long as the network: they begin before its switches
	// start and see its end.
	Captures []Capture
	// Xterms opens a terminal window on every node once the network runs.
	Xterms bool
	// Wait is how long to wait for the switches' controllers. Negative: do not wait.
	// Zero: until they are there, at most DefaultWait, if something is to be tested; a
	// moment before a prompt.
	Wait   time.Duration
	DryRun bool
	JSON   bool
	Quiet  bool // no progress
	Log    *slog.Logger
	In     *os.File
	Out    io.Writer
	Err    io.Writer
}

// A Capture is what to capture and where to.
type Capture struct {
	Request network.CaptureRequest
	File    capture.FileConfig
}

// DefaultWait bounds the wait for controllers before tests.
const DefaultWait = 30 * time.Second

// promptWait bounds the wait for controllers before a prompt: a person can see for
// themselves, and wait.
const promptWait = time.Second

// downTimeout bounds the end of a network.
const downTimeout = 30 * time.Second

// A UsageError is an error in what the user wrote.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// ErrFailed says that a test or command failed and that its output says how.
var ErrFailed = errors.New("failed")

// A SignalError says which signal ended a session.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "ended by signal: " + e.Signal.String() }

// Run runs a session. Its error is nil, ErrFailed, a *UsageError, a *SignalError or what
// went wrong.
func Run(ctx context.Context, c Config) (err error) {
	r, err := newRun(c)
	if err != nil {
		return err
	}
	for _, f := range []string{c.Pre, c.Post} {
		if f == "" {
			continue
		}
		switch st, err := os.Stat(f); {
		case err != nil:
			return &UsageError{fmt.Errorf("file of commands %s: %w", f, errors.Unwrap(err))}
		case st.IsDir():
			return &UsageError{fmt.Errorf("file of commands %s: it is a directory", f)}
		}
	}
	if c.DryRun {
		return r.printPlan()
	}
	ctx, end := r.begin(ctx)
	defer end()
	box, err := sandbox.Start(ctx, r.plan.Name)
	if err != nil {
		return signalled(ctx, err)
	}
	err = r.in(ctx, box, box.Name, box.Socket, func(ctx context.Context) error {
		if err := r.build(ctx); err != nil {
			return err
		}
		return r.use(ctx)
	})
	if e := r.down(box); err == nil {
		err = e // a network that failed in use has said why
	}
	if err = signalled(ctx, err); err == nil && r.failed {
		return ErrFailed
	}
	return err
}

// newRun plans the network.
func newRun(c Config) (*run, error) {
	plan, err := c.Spec.Plan()
	if err != nil {
		return nil, &UsageError{err}
	}
	plan.Trusted = c.Trusted
	return &run{Config: c, plan: plan, start: time.Now()}, nil
}

func (r *run) printPlan() error {
	e := json.NewEncoder(r.Out)
	e.SetIndent("", "  ")
	return e.Encode(r.plan)
}

// absoluteFiles makes the paths of links' and NFs' files absolute: the network's own directory is
// another.
func absoluteFiles(p *topo.Plan) error {
	here, err := os.Getwd()
	errs := []error{err}
	for i := range p.Switches {
		if d := p.Switches[i].DPDK.Clone(); d != nil {
			for k := range d.NFs {
				d.NFs[k] = d.NFs[k].Under(here)
			}
			p.Switches[i].DPDK = d
		}
	}
	for i := range p.Links {
		l := &p.Links[i]
		for _, path := range []*string{&l.Record, &l.AB.Trace, &l.BA.Trace} {
			if *path != "" {
				var err error
				*path, err = filepath.Abs(*path)
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// begin returns the context of the session, which a signal ends, and a function for its end.
func (r *run) begin(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.cancel = cancel
	stop := r.catchSignals(cancel)
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// signalled returns the signal that ended the session, or err if none did.
func signalled(ctx context.Context, err error) error {
	var sig *SignalError
	if errors.As(context.Cause(ctx), &sig) {
		return sig
	}
	return err
}

// A box is the sandbox of a session.
type box interface {
	Done() <-chan struct{}
	Err() error
	Close() error
}

// in calls f with the API of a sandbox at hand. The end of the sandbox ends f, and explains
// its error.
func (r *run) in(ctx context.Context, box box, name, socket string, f func(context.Context) error) error {
	r.plan.Name = name
	r.client = api.Dial(socket)
	go func() {
		<-box.Done()
		r.cancel(api.ErrGone)
	}()
	err := f(ctx)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	return r.sandboxError(err, box)
}

// run is a session under way.
type run struct {
	Config
	plan     *topo.Plan
	client   *api.Client
	progress *shell.Progress
	shell    *shell.Session
	captures []*api.Recording
	start    time.Time
	cancel   context.CancelCauseFunc // ends the session
	failed   bool

	mu     sync.Mutex
	prompt bool // SIGINT is the REPL's
}

// catchSignals makes signals end the session in good order.
func (r *run) catchSignals(cancel context.CancelCauseFunc) (stop func()) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		for s := range ch {
			r.mu.Lock()
			ignore := s == syscall.SIGINT && r.prompt
			r.mu.Unlock()
			if !ignore {
				cancel(&SignalError{s.(syscall.Signal)})
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
	}
}

// sandboxError explains an error that comes from the sandbox's end.
func (r *run) sandboxError(err error, box box) error {
	if !errors.Is(err, api.ErrGone) {
		return err
	}
	select {
	case <-box.Done():
		if box.Err() != nil {
			return box.Err()
		}
	case <-time.After(2 * time.Second):
	}
	return err
}

// build makes the network and starts it.
func (r *run) build(ctx context.Context) error {
	r.progress = r.newProgress(r.plan)
	sh := shell.New(shell.Config{
		Client: r.client, Dialect: r.Dialect, In: r.In, Out: r.Out, Err: r.Err,
		JSON: r.JSON, HistoryFile: historyFile(r.Dialect), Log: r.Log,
	})
	r.shell = sh
	if err := absoluteFiles(r.plan); err != nil {
		return err
	}
	if err := r.client.Up(ctx, r.plan, r.progress.Event); err != nil {
		return err
	}
	for _, c := range r.Captures {
		rec, err := r.client.Record(context.WithoutCancel(ctx), c.Request, c.File)
		if err != nil {
			return fmt.Errorf("capture to %s: %w", c.File.Path, err)
		}
		r.captures = append(r.captures, rec)
		go r.watchCapture(rec)
	}
	if r.Pre != "" {
		r.progress.Close()
		if err := sh.Source(ctx, r.Pre); err != nil && !errors.Is(err, shell.ErrExit) {
			return err
		}
	}
	go r.client.Events(ctx, warner(r.Err))
	if err := r.client.Start(ctx, r.progress.Event); err != nil {
		return err
	}
	r.progress.Close()
	return nil
}

// use runs tests, or asks a person for commands, until the last.
func (r *run) use(ctx context.Context) error {
	if err := r.waitConnected(ctx); err != nil {
		return err
	}
	if err := r.runCommands(ctx); err != nil {
		return err
	}
	sh := r.shell
	if r.Xterms {
		sh.Exec(ctx, "xterm "+strings.Join(nodes(r.plan), " "))
	}
	for _, t := range r.Tests {
		if t == "none" || t == "build" {
			continue
		}
		if err := sh.Exec(ctx, t); errors.Is(err, shell.ErrExit) {
			break
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(r.Tests) == 0 {
		r.setPrompt(true)
		go debug.FreeOSMemory() // of the plan's making: a person has come to stay
		err := sh.Run(ctx)
		r.setPrompt(false)
		if err != nil {
			return err
		}
	}
	if r.Post != "" {
		if err := sh.Source(ctx, r.Post); err != nil && !errors.Is(err, shell.ErrExit) {
			return err
		}
	}
	r.failed = r.failed || sh.Failed()
	return nil
}

// nodes lists all nodes: hosts, switches, controllers.
func nodes(p *topo.Plan) []string {
	var names []string
	for _, h := range p.Hosts {
		names = append(names, h.Name)
	}
	for _, s := range p.Switches {
		names = append(names, s.Name)
	}
	for _, c := range p.Controllers {
		names = append(names, c.Name)
	}
	return names
}

// warner tells of what has gone wrong in a network's life.
func warner(w io.Writer) func(network.Event) {
	return func(e network.Event) {
		if e.Level == slog.LevelWarn.String() || e.Level == slog.LevelError.String() {
			fmt.Fprintf(w, "Warning: %s\n", e.Message)
		}
	}
}

func (r *run) setPrompt(on bool) {
	r.mu.Lock()
	r.prompt = on
	r.mu.Unlock()
}

// runCommands runs what the network's description says is to run.
func (r *run) runCommands(ctx context.Context) error {
	if len(r.plan.Commands) == 0 {
		return nil
	}
	return r.client.RunCommands(ctx)
}

// waitConnected waits for the switches' controllers and says which are missing.
func (r *run) waitConnected(ctx context.Context) error {
	wait, testing := r.Wait, false
	for _, t := range r.Tests {
		testing = testing || t != "none"
	}
	switch {
	case wait < 0 || wait == 0 && len(r.Tests) > 0 && !testing:
		return nil
	case wait == 0 && testing:
		wait = DefaultWait
	case wait == 0:
		wait = promptWait
	}
	asked := r.Wait > 0 || testing
	if r.Dialect == shell.Mininet && asked && !r.Quiet {
		fmt.Fprintln(r.Err, "*** Waiting for switches to connect")
	}
	missing, err := r.client.Wait(ctx, wait)
	if err != nil {
		return err
	}
	if r.Dialect == shell.Mininet && asked && !r.Quiet {
		var connected []string
		lost := map[string]bool{}
		for _, m := range missing {
			lost[m.Switch] = true
		}
		for _, s := range r.plan.Switches {
			if !lost[s.Name] {
				connected = append(connected, s.Name)
			}
		}
		fmt.Fprintln(r.Err, strings.Join(connected, " ")+" ")
		if len(missing) > 0 {
			fmt.Fprintf(r.Err, "Timed out after %g seconds\n", wait.Seconds())
		}
	}
	for _, m := range missing {
		fmt.Fprintf(r.Err, "Warning: %s is not connected to %s: %s\n", m.Switch, m.Controller, m.Reason)
	}
	// A network whose controllers were asked for and are not there has failed its tests.
	r.failed = r.failed || testing && len(missing) > 0
	return nil
}

func (r *run) newProgress(plan *topo.Plan) *shell.Progress {
	if r.Quiet {
		return shell.NewProgress(io.Discard, r.Dialect, plan)
	}
	return shell.NewProgress(r.Err, r.Dialect, plan)
}

// down takes the network down, with a time of its own.
func (r *run) down(box box) error {
	ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
	defer cancel()
	// What goes down is what there is now, after live changes.
	if state, err := r.client.State(ctx); err == nil {
		r.progress = r.newProgress(state.Plan)
	}
	err := r.client.Down(ctx, func(e network.Event) {
		// A failed build has no transcript of an end.
		if r.progress != nil {
			r.progress.Event(e)
		}
	})
	if errors.Is(err, api.ErrGone) {
		err = nil // the sandbox's own error says it
	}
	captured := r.endCaptures()
	if e := box.Close(); err == nil && e != nil {
		err = e
	}
	if err == nil {
		err = captured
	}
	if r.progress != nil {
		r.progress.Close()
		if err == nil {
			r.progress.Completed(time.Since(r.start))
		}
	}
	return err
}

// watchCapture tells when a capture fails while the network lives on.
func (r *run) watchCapture(rec *api.Recording) {
	if _, err := rec.Result(); err != nil && !errors.Is(err, api.ErrGone) {
		fmt.Fprintf(r.Err, "Warning: capture to %s has ended: %v\n", rec.File.Name(), err)
	}
}

// endCaptures waits for the files of captures and says what they have.
func (r *run) endCaptures() error {
	var errs []error
	for _, rec := range r.captures {
		result, err := rec.Result()
		if err != nil {
			errs = append(errs, fmt.Errorf("capture to %s: %w", rec.File.Name(), err))
		}
		if !r.Quiet {
			shell.NewCaptureSummary(rec, result).Write(r.Err)
		}
	}
	if r.shell != nil {
		errs = append(errs, r.shell.Close())
	}
	return errors.Join(errs...)
}

// historyFile is where the REPL keeps its history: Mininet's file in its dialect, else
// one in the user's state directory (XDG Base Directory Specification).
func historyFile(d shell.Dialect) string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	if d == shell.Mininet {
		return filepath.Join(home, ".mininet_history")
	}
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "weft", "history")
}
