package eal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Place is where a node's programs run: ns.Net and ns.Place are places.
type Place interface {
	// Do calls f on a thread in the node's namespaces.
	Do(f func() error) error
}

// Here is the place of this process.
type Here struct{}

// Do calls f.
func (Here) Do(f func() error) error { return f() }

// Command says what a Process runs.
type Command struct {
	Name string // for messages
	Argv []string
	Env  []string // besides this process'
	Dir  string
	// Restart says when it is started again: no, on-failure (default) or always.
	Restart string
	Place   Place
	// Before is called at the place before each start, After when the program has ended.
	Before func() error
	After  func()
	// Line gets each line of the output.
	Line func(string)
	Log  *slog.Logger
}

// A Process is a foreign program and its successors.
type Process struct {
	c     Command
	stop  context.CancelFunc
	ended chan struct{} // no successor will come

	mu       sync.Mutex
	cmd      *exec.Cmd
	input    *os.File
	lines    []string // of the output, the last ones
	restarts int
	err      error // why the last one ended
}

// keptLines is how much output is remembered.
const keptLines = 200

// CheckRestart says what is wrong with a restart policy.
func CheckRestart(s string) error {
	switch s {
	case "", "no", "on-failure", "always":
		return nil
	}
	return fmt.Errorf("restart %q: write no, on-failure or always", s)
}

// Start starts the program and watches over it.
func Start(c Command) (*Process, error) {
	if err := CheckRestart(c.Restart); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if c.Place == nil {
		c.Place = Here{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Process{c: c, stop: stop, ended: make(chan struct{})}
	wait, err := p.start()
	if err != nil {
		stop()
		return nil, err
	}
	go p.watch(ctx, wait)
	return p, nil
}

// start starts one program; the function waits for its end.
func (p *Process) start() (wait func() error, err error) {
	if _, err := exec.LookPath(p.c.Argv[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", p.c.Name, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	in, input, err := os.Pipe()
	if err != nil {
		r.Close()
		w.Close()
		return nil, err
	}
	argv := p.c.Argv
	if stdbuf, err := exec.LookPath("stdbuf"); err == nil {
		// Else the C library keeps what goes to a pipe, and the last words of a crash are lost.
		argv = append([]string{stdbuf, "-oL"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), p.c.Env...)
	cmd.Dir = p.c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = p.c.Place.Do(func() error {
		if p.c.Before != nil {
			if err := p.c.Before(); err != nil {
				return err
			}
		}
		return cmd.Start()
	})
	in.Close()
	w.Close()
	if err != nil {
		r.Close()
		input.Close()
		return nil, fmt.Errorf("%s: %w", p.c.Name, err)
	}
	p.mu.Lock()
	p.cmd, p.input = cmd, input
	p.mu.Unlock()
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(r)
	}()
	return func() error {
		err := cmd.Wait()
		// What it started ends with it.
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		select {
		case <-read:
		case <-time.After(time.Second): // somebody else holds its output
		}
		r.Close()
		input.Close()
		if p.c.After != nil {
			p.c.Place.Do(func() error { p.c.After(); return nil })
		}
		return err
	}, nil
}

// read remembers output.
func (p *Process) read(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 4096), 1<<20)
	for scanner.Scan() {
		line := strings.TrimRight(scanner.Text(), "\r")
		p.mu.Lock()
		if len(p.lines) == keptLines {
			p.lines = append(p.lines[:0], p.lines[keptLines/2:]...)
		}
		p.lines = append(p.lines, line)
		p.mu.Unlock()
		if p.c.Line != nil {
			p.c.Line(line)
		}
	}
	io.Copy(io.Discard, r) // a line too long for memory
}

const (
	firstPause = 100 * time.Millisecond
	longPause  = 10 * time.Second
	soonDead   = 5 * time.Second // a shorter life makes the next pause longer
)

// watch starts successors.
func (p *Process) watch(ctx context.Context, wait func() error) {
	defer close(p.ended)
	pause := firstPause
	for {
		born := time.Now()
		err := wait()
		p.mu.Lock()
		p.cmd = nil
		if ctx.Err() == nil {
			p.err = p.explain(err)
		}
		p.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		p.c.Log.Warn("a program ended", "program", p.c.Name, "status", ending(err))
		if p.c.Restart == "no" || p.c.Restart != "always" && err == nil {
			return
		}
		if time.Since(born) > soonDead {
			pause = firstPause
		}
		for wait = nil; wait == nil; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, longPause)
			if wait, err = p.start(); err != nil {
				p.mu.Lock()
				p.err = err
				p.mu.Unlock()
				p.c.Log.Warn("a program cannot be started again", "program", p.c.Name, "error", err)
			}
		}
		p.mu.Lock()
		p.restarts++
		p.mu.Unlock()
		if ctx.Err() != nil { // Stop may have looked before it was there
			p.signal(unix.SIGKILL)
		}
	}
}

// ending says in words how a program ended.
func ending(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "exit status 0"
	case errors.As(err, &exit):
		return exit.ProcessState.String()
	}
	return err.Error()
}

// explain returns how a program ended, with its last words.
func (p *Process) explain(err error) error {
	const words = 8
	tail := p.lines[max(0, len(p.lines)-words):]
	if len(tail) == 0 {
		return fmt.Errorf("%s ended: %s, and printed nothing", p.c.Name, ending(err))
	}
	return fmt.Errorf("%s ended: %s; it printed last:\n  %s", p.c.Name, ending(err), strings.Join(tail, "\n  "))
}

// PID returns the number of the running process; 0 if there is none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Restarts returns how often the program was started again.
func (p *Process) Restarts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.restarts
}

// Ended is closed when the program has ended and no successor comes.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err says how the last program ended, with its last words; nil if none did.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Output returns the last lines of output.
func (p *Process) Output() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

// Input writes a line to the program's standard input, which stays open.
func (p *Process) Input(line string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.c.Name)
	}
	p.input.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(p.input, line+"\n"); err != nil {
		return fmt.Errorf("%s does not read its input: %w", p.c.Name, err)
	}
	return nil
}

func (p *Process) signal(s unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		unix.Kill(-p.cmd.Process.Pid, s)
	}
}

// Move puts all threads of the program, and what they start, on processors.
func (p *Process) Move(cpus []int) error {
	pid := p.PID()
	if pid == 0 {
		return fmt.Errorf("%s does not run", p.c.Name)
	}
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	// New threads inherit: look again until there are no more.
	for seen := -1; ; {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		if len(tasks) == seen {
			return nil
		}
		seen = len(tasks)
		for _, t := range tasks {
			if tid, err := strconv.Atoi(t.Name()); err == nil {
				if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
					return err
				}
			}
		}
	}
}

// gentle is how long a program has to end by itself.
const gentle = 3 * time.Second

// Stop ends the program for good and waits: with SIGINT, which DPDK's programs know, and with
// SIGKILL if that does not help, or at once.
func (p *Process) Stop(atOnce bool) error {
	p.stop()
	if !atOnce {
		p.signal(unix.SIGINT)
		select {
		case <-p.ended:
			return nil
		case <-time.After(gentle):
		}
	}
	p.signal(unix.SIGKILL)
	select {
	case <-p.ended:
		return nil
	case <-time.After(gentle):
		return fmt.Errorf("%s does not end, even with SIGKILL", p.c.Name)
	}
}
