// Package shell is the REPL of a running network and the place where results become
// text: for people in two dialects (Mininet's, to the letter, and weft's own) and as
// JSON for programs. It sees the network only through the API's client and runs in
// the user's own namespaces.
//
// It may import script, api, network and capture (for their values) and topo, and nothing else
// of weft.
//
//	line ── comment, words, options ──► command.run ──► API
//	                                        │ value
//	                 view: Mininet, native or JSON ──► Out, Err
//
// At a terminal, go-prompt edits one line at a time. While a command runs, Ctrl-C
// interrupts it and what else is typed waits for the next line, unless a program on a
// node runs: then the terminal is that program's.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"weft/api"
	"weft/network"
	"weft/script"
)

// A Dialect is a way to write commands' results and prompts.
type Dialect int

// The dialects.
const (
	Native  Dialect = iota // weft's own
	Mininet                // as Mininet's CLI prints, byte by byte
)

// Prompt returns what the user is asked with.
func (d Dialect) Prompt() string {
	if d == Mininet {
		return "mininet> "
	}
	return "weft> "
}

// A Client is the network that a Session works on: an *api.Client.
type Client interface {
	script.Client
	Linker
	Recorder
	Experimenter
	Eavesdropper
	Functions
}

var _ Client = (*api.Client)(nil)

// A Config says what a Session works on and where it reads and writes.
type Config struct {
	Client  Client
	Dialect Dialect
	// In is where Run reads lines from, and the terminal that programs on nodes get
	// if it is one. Nil means no input.
	In *os.File
	// Out takes results, Err what went wrong. In the Mininet dialect results go to
	// Err, as there; Out has the prompt, help, times and the output of sh.
	Out, Err io.Writer
	// JSON makes every command print one JSON document, on Out.
	JSON bool
	// HistoryFile keeps the lines typed at a terminal, 1000 at most. Empty means
	// ~/.mininet_history or $XDG_STATE_HOME/weft/history, by dialect.
	HistoryFile string
	Log         *slog.Logger // nil means none
}

// ErrExit is what Exec returns for exit and quit.
var ErrExit = errors.New("exit")

var (
	errInterrupted = errors.New("interrupted")
	errNotBuilt    = errors.New("the network is not built yet")
)

// A Session executes commands, one at a time: its methods are not for concurrent use.
type Session struct {
	net      Client
	cfg      Config
	commands []command
	keyboard *keyboard      // nil without In
	signals  chan os.Signal // SIGINT, while a command runs or Run reads
	watching int            // depth of watchInterrupts
	attended bool           // a person types the lines
	failed   bool
	scripts  *script.Session // of py and px; nil before the first

	recordings []recording // captures that were started and not stopped
	captured   int         // captures started so far
	follower   *follower   // openflow on; nil: off
	notices    notices     // what it has to show
}

// New returns a Session; it does not touch the terminal or the network yet.
func New(cfg Config) *Session {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Session{net: cfg.Client, cfg: cfg, commands: commands(), signals: make(chan os.Signal, 1)}
	if cfg.In != nil {
		s.keyboard = newKeyboard(cfg.In)
	}
	return s
}

// Run executes lines from In until exit, end of file or the end of ctx, whose error it
// returns; it also returns when the network is gone (api.ErrGone). At a terminal the
// lines are edited with history and completion. SIGINT interrupts the command that
// runs, so ctx should not end on it.
func (s *Session) Run(ctx context.Context) error {
	if s.keyboard == nil {
		return errors.New("no input to read commands from")
	}
	defer s.watchInterrupts()()
	s.startingCLI()
	terminal := term.IsTerminal(s.keyboard.fd)
	s.attended = terminal
	defer func() { s.attended = false }()
	read := s.plainLines(terminal)
	if ed, err := newEditor(s); err == nil {
		defer ed.close()
		read = ed.readLine
	} else if terminal {
		s.cfg.Log.Debug("plain input", "reason", err)
	}
	for {
		line, err := s.readLine(ctx, read)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errInterrupted) && terminal:
			continue
		case errors.Is(err, errInterrupted):
			s.failed = true
			return nil
		case err != nil:
			return err
		}
		switch err := s.Exec(ctx, line); {
		case errors.Is(err, ErrExit):
			return nil
		case errors.Is(err, api.ErrGone):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// Exec executes one line. It has shown the error that it returns, except ErrExit.
func (s *Session) Exec(ctx context.Context, line string) error {
	defer s.watchInterrupts()()
	return s.exec(ctx, line)
}

// Source executes the lines of the file at path, and ends at an exit there. It goes on
// after commands that fail, which Failed tells. Its error, which it has shown, says
// why not all lines were executed.
func (s *Session) Source(ctx context.Context, path string) error {
	defer s.watchInterrupts()()
	s.startingCLI()
	err := s.source(ctx, path)
	if err != nil {
		s.failed = true
		if !isShown(err) {
			s.report(err, s.cfg.JSON)
		}
	}
	return err
}

// Failed reports whether a command has failed: lost pings, a check that did not hold,
// a non-zero exit status, an unknown command. What a person typed at a terminal does
// not count: they have seen it.
func (s *Session) Failed() bool { return s.failed }

func (s *Session) startingCLI() {
	if s.cfg.Dialect == Mininet {
		fmt.Fprint(s.cfg.Err, "*** Starting CLI:\n")
	}
}

// source executes the lines of a file until one cannot be.
func (s *Session) source(ctx context.Context, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return mistake{"error reading file " + path, err.Error()}
	}
	for line := range strings.Lines(string(text)) {
		err := s.exec(ctx, line)
		switch {
		case errors.Is(err, ErrExit):
			return nil
		case errors.Is(err, errInterrupted), errors.Is(err, api.ErrGone), err != nil && ctx.Err() != nil:
			return err
		}
	}
	return nil
}

// watchInterrupts catches SIGINT until the function that it returns is called.
func (s *Session) watchInterrupts() (stop func()) {
	if s.watching++; s.watching == 1 {
		signal.Notify(s.signals, syscall.SIGINT)
	}
	return func() {
		if s.watching--; s.watching == 0 {
			signal.Stop(s.signals)
			s.forgetInterrupts()
		}
	}
}

// forgetInterrupts drops a SIGINT that came while nothing ran.
func (s *Session) forgetInterrupts() {
	select {
	case <-s.signals:
	default:
	}
}

// onInterrupt calls f for each SIGINT until stop is called.
func (s *Session) onInterrupt(f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-s.signals:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// interruptible returns a ctx that SIGINT cancels with errInterrupted as its cause.
func (s *Session) interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := s.onInterrupt(func() { cancel(errInterrupted) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// readLine reads a line with read; an interrupt ends it with errInterrupted.
func (s *Session) readLine(ctx context.Context, read func(context.Context) (string, error)) (string, error) {
	ctx, stop := s.interruptible(ctx)
	defer stop()
	line, err := read(ctx)
	if err != nil && context.Cause(ctx) == errInterrupted {
		fmt.Fprint(s.cfg.Err, "\nInterrupt\n")
		return "", errInterrupted
	}
	return line, err
}

// plainLines returns a reader of lines without editing. Like Mininet's, it prompts
// whether or not somebody looks at it.
func (s *Session) plainLines(terminal bool) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		s.notices.show(s.results())
		if terminal || s.cfg.Dialect == Mininet {
			fmt.Fprint(s.cfg.Out, s.cfg.Dialect.Prompt())
		}
		line, err := s.keyboard.readLine(ctx)
		if errors.Is(err, io.EOF) && (terminal || s.cfg.Dialect == Mininet) {
			fmt.Fprintln(s.cfg.Err)
		}
		return line, err
	}
}

// state returns the network's state; its Plan is not nil.
func (s *Session) state(ctx context.Context) (network.State, error) {
	st, err := s.net.State(ctx)
	if err == nil && st.Plan == nil {
		err = errNotBuilt
	}
	return st, err
}
