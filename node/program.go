package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"weft/internal/ns"
)

// A Program runs on a node beside the node's shell.
type Program struct {
	Argv []string
	// Env is its environment, NAME=VALUE; of one name the last counts. Programs are looked
	// for in its PATH.
	Env []string
	// Dir is its working directory; / if empty.
	Dir string
	// Files are its standard input, output and error; Start does not close them.
	Files [3]*os.File
	// Terminal says that Files are a terminal, which becomes its own.
	Terminal bool
}

// Exit statuses that say that a program could not be run, as shells have them.
const (
	StatusCannotRun = 126
	StatusNotFound  = 127
)

// A StartError says why a program could not be started.
type StartError struct {
	Status int // StatusCannotRun or StatusNotFound
	Err    error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// A Task is a Program that was started, in a session of its own.
type Task struct {
	PID  int
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts the program at place. Its error is a *StartError.
func (p Program) Start(place *ns.Place) (*Task, error) {
	cmd := &exec.Cmd{Args: p.Argv, Env: p.Env, Dir: p.Dir, Stdin: p.Files[0], Stdout: p.Files[1], Stderr: p.Files[2],
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: p.Terminal}}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	err := place.Do(func() (err error) {
		// The directory first: what is wrong with it would seem to be wrong with the program.
		if st, err := os.Stat(cmd.Dir); err != nil {
			return &StartError{StatusCannotRun, fmt.Errorf("working directory: %w", err)}
		} else if !st.IsDir() {
			return &StartError{StatusCannotRun, fmt.Errorf("working directory: %s is no directory", cmd.Dir)}
		}
		if cmd.Path, err = p.find(cmd.Dir); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		return nil, startError(p.Argv[0], err)
	}
	t := &Task{PID: cmd.Process.Pid, cmd: cmd, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(t.done)
	}()
	return t, nil
}

// find looks for the program as execvp(3) does.
func (p Program) find(dir string) (string, error) {
	name := p.Argv[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	var denied error
	for _, d := range filepath.SplitList(p.variable("PATH")) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		path := filepath.Join(d, name)
		st, err := os.Stat(path)
		switch {
		case err != nil || st.IsDir():
			continue
		case unix.Access(path, unix.X_OK) == nil:
			return path, nil
		}
		denied = &os.PathError{Op: "exec", Path: path, Err: unix.EACCES}
	}
	if denied != nil {
		return "", denied
	}
	return "", exec.ErrNotFound
}

// variable returns the value of a variable of the program's environment.
func (p Program) variable(name string) string {
	value := ""
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// startError says why a program does not run, with the status that shells give for it.
func startError(name string, err error) error {
	var known *StartError
	if errors.As(err, &known) {
		return known
	}
	status := StatusCannotRun
	if errors.Is(err, exec.ErrNotFound) {
		return &StartError{StatusNotFound, fmt.Errorf("%s: command not found", name)}
	}
	if errors.Is(err, os.ErrNotExist) {
		status = StatusNotFound
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno // not that it was fork and exec which did it
	}
	return &StartError{status, fmt.Errorf("%s: %w", name, err)}
}

// Done is closed when the program has ended.
func (t *Task) Done() <-chan struct{} { return t.done }

// Status returns the exit status, 128+n if signal n ended it. It is valid after Done.
func (t *Task) Status() int {
	ws, ok := t.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return t.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the program and all others of its process group.
func (t *Task) Signal(sig syscall.Signal) {
	select {
	case <-t.done: // its number may be another's
	default:
		unix.Kill(-t.PID, sig)
	}
}
