package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"weft/api"
	"weft/internal/sandbox"
)

// Exit statuses of Exec besides the program's own; timeout(1) and docker(1) have the same.
const (
	ExitTimeout = 124 // the program was ended after ExecConfig.Timeout
	ExitExec    = 125 // weft, not the program, failed
)

// ExecConfig says what to run on a node.
type ExecConfig struct {
	Network, Node string
	Argv          []string
	// Env is added to this process's environment.
	Env []string
	// Dir is the working directory; empty: this process's.
	Dir string
	// Terminal gives the program a terminal of its own, which shows on this process's.
	Terminal bool
	// Timeout ends the program after a time; zero: never.
	Timeout      time.Duration
	In, Out, Err *os.File // In may be nil: none
}

// A StatusError is an error with an exit status of its own.
type StatusError struct {
	Status int
	Err    error // nil: the user has been told
}

func (e *StatusError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

func (e *StatusError) Unwrap() error { return e.Err }

// execGrace is how long a program has to end after SIGTERM.
const execGrace = 2 * time.Second

// Exec runs a program on a node of a running network. What the program does not end with 0,
// and what goes wrong, is a *StatusError. Signals that this process gets go to the program.
func Exec(ctx context.Context, c ExecConfig) error {
	path, err := sandbox.SocketPath(c.Network)
	if err != nil {
		return &StatusError{ExitExec, err}
	}
	cmd := api.Dial(path).Command(ctx, c.Node, c.Argv...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	if c.Terminal {
		err = c.onTerminal(cmd, signals)
	} else {
		if c.In != nil {
			cmd.Stdin = c.In
		}
		cmd.Stdout, cmd.Stderr = c.Out, c.Err
		if err = cmd.Start(); err == nil {
			err = c.await(cmd, signals)
		}
	}
	return c.status(err)
}

// status gives an error its exit status.
func (c ExecConfig) status(err error) error {
	var exit *api.ExitError
	var known *StatusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.As(err, &exit) && exit.Reason == "":
		return &StatusError{Status: exit.Status}
	case errors.As(err, &exit):
		return &StatusError{exit.Status, exit}
	case errors.Is(err, api.ErrGone):
		if e := sandbox.Check(c.Network); e != nil {
			err = e
		}
	}
	return &StatusError{ExitExec, err}
}

// await waits for the end of a program that was started, passes signals on, and ends it
// when its time is over.
func (c ExecConfig) await(cmd *api.Cmd, signals <-chan os.Signal) error {
	ended := make(chan struct{})
	var late atomic.Bool
	go func() {
		var over <-chan time.Time
		if c.Timeout > 0 {
			over = time.After(c.Timeout)
		}
		next := unix.SIGTERM
		for {
			select {
			case <-ended:
				return
			case s := <-signals:
				cmd.Signal(s.(syscall.Signal))
			case <-over:
				late.Store(true)
				cmd.Signal(next)
				next, over = unix.SIGKILL, time.After(execGrace)
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	if late.Load() {
		return &StatusError{ExitTimeout, fmt.Errorf("%s: %s: ended after %v", c.Node, c.Argv[0], c.Timeout)}
	}
	return err
}

// onTerminal runs the program on a terminal of its own, whose contents are copied to this
// process's.
func (c ExecConfig) onTerminal(cmd *api.Cmd, signals <-chan os.Signal) error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("no terminal for the program: %w", err)
	}
	defer master.Close()
	in := -1
	if c.In != nil {
		in = int(c.In.Fd())
	}
	if t, err := unix.IoctlGetTermios(in, unix.TCGETS); err == nil {
		unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, t) // the user's keys for erase and so on
	}
	resize := func() {
		for _, f := range []*os.File{c.Out, c.In} {
			if f != nil && pty.InheritSize(f, master) == nil {
				return
			}
		}
	}
	resize()
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Terminal = slave, slave, slave, true
	err = cmd.Start()
	slave.Close()
	if err != nil {
		return err
	}
	if old, err := term.MakeRaw(in); err == nil {
		defer term.Restore(in, old)
	}
	windows := make(chan os.Signal, 1)
	signal.Notify(windows, unix.SIGWINCH)
	defer signal.Stop(windows)
	go func() {
		for range windows {
			resize()
		}
	}()
	if c.In != nil {
		go feed(master, c.In)
	}
	shown := show(c.Out, master)
	err = c.await(cmd, signals)
	for last := time.After(execGrace); ; {
		select {
		case _, more := <-shown:
			if !more {
				return err
			}
		case <-time.After(idleTerminal):
			return err // something that the program started has the terminal still
		case <-last:
			return err
		}
	}
}

// idleTerminal is how long a terminal has nothing more to show before its program's output is
// taken to be complete, once that has ended.
const idleTerminal = 100 * time.Millisecond

// feed copies what is typed to a terminal. End of file is Ctrl-D there.
func feed(master, in *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, err := master.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			master.Write([]byte{4})
			return
		}
	}
}

// show copies what a terminal shows to out. The channel tells of each piece, and is closed
// when nobody has the terminal any more.
func show(out, master *os.File) <-chan struct{} {
	pieces := make(chan struct{})
	go func() {
		defer close(pieces)
		buf := make([]byte, 32<<10)
		for {
			n, err := master.Read(buf)
			out.Write(buf[:n])
			if err != nil {
				return
			}
			select {
			case pieces <- struct{}{}:
			default:
			}
		}
	}()
	return pieces
}
