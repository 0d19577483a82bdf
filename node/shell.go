package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"weft/internal/ns"
)

// ErrBusy is matched when a node's shell runs another command.
var ErrBusy = errors.New("is busy with another command")

// A Shell is a node's persistent bash with job control on a pseudo-terminal of its own:
// directory, variables and jobs stay from one command to the next.
//
//	Run ── eval '…' </dev/tty ──► pipe ──► bash ── runs programs on the pty
//	    ◄── mark(started), output, mark(status) ◄── pty master
//
// bash reads commands from a pipe, never from the terminal, so that the terminal belongs to
// the programs alone. Its prompt (PS1) is a mark, unguessable, that carries the exit status;
// it comes in order with the output. Another one (PS0) says that it has read a command:
// a Ctrl-C before that would be for bash, which would forget the line.
type Shell struct {
	name  string
	place *ns.Place
	env   []string

	run sync.Mutex // one command at a time

	mu   sync.Mutex
	bash *bash // nil until needed and after its end
	gone bool
}

// bash is one life of the process.
type bash struct {
	cmd    *exec.Cmd
	stdin  *os.File
	master *os.File
	mark   []byte      // begins a mark; a status and markEnd follow
	out    chan []byte // output, in order; closed at the end
	status chan int    // of each command
	// attended: somebody reads out. Otherwise the oldest is dropped when it is full, so
	// that background jobs never stop for want of a reader.
	attended atomic.Bool
	ended    chan struct{}
}

const (
	markEnd = '\x1e'
	// started is what PS0's mark has for a status.
	started = -1
	// startTimeout bounds the time that bash takes to read a line.
	startTimeout = 10 * time.Second
)

// NewShell returns the shell of a node, whose programs run at place. Nothing starts yet.
func NewShell(name string, place *ns.Place, env []string) *Shell {
	return &Shell{name: name, place: place, env: env}
}

// A Command is a line for a node's shell.
type Command struct {
	Line string
	Env  []string // NAME=VALUE, kept by the shell
	// Stdin is what the program reads from its terminal; nil: /dev/null.
	Stdin io.Reader
	// Terminal leaves the bytes as a terminal wants them (CR LF, echo).
	Terminal   bool
	Rows, Cols uint16
	Stdout     io.Writer
	Interrupt  <-chan struct{}
	Resize     <-chan pty.Winsize
}

// Run runs a command line and returns its exit status; 128+n if signal n ended or stopped
// it. ctx's end interrupts, then kills it.
func (s *Shell) Run(ctx context.Context, c Command) (int, error) {
	if !s.run.TryLock() {
		return 0, fmt.Errorf("%s %w", s.name, ErrBusy)
	}
	defer s.run.Unlock()
	b, err := s.start()
	if err != nil {
		return 0, fmt.Errorf("%s: start a shell: %w", s.name, err)
	}
	if err := b.prepare(c); err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	if _, err := b.stdin.WriteString(script(c)); err != nil {
		return 0, fmt.Errorf("%s: the shell has ended: %w", s.name, err)
	}
	b.attended.Store(true)
	defer b.attended.Store(false)
	stop := make(chan struct{})
	defer close(stop)
	// What disturbs a command waits until it has started.
	var interrupt, done <-chan struct{}
	var kill <-chan time.Time
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	for {
		select {
		case p, ok := <-b.out:
			if !ok {
				return b.exit(), nil
			}
			// A reader that has gone must not stop the program before ctx does.
			c.Stdout.Write(p)
		case code := <-b.status:
			if code == started {
				late.Stop()
				interrupt, done = c.Interrupt, ctx.Done()
				if c.Stdin != nil {
					go b.feed(c.Stdin, stop)
				}
				continue
			}
			b.drain(c.Stdout)
			if ctx.Err() != nil {
				return code, ctx.Err()
			}
			return code, nil
		case <-late.C:
			b.close()
			return 0, fmt.Errorf("%s: its shell does not read commands any more, and was ended", s.name)
		case <-interrupt:
			b.master.Write([]byte{3})
		case w := <-c.Resize:
			pty.Setsize(b.master, &w)
		case <-done:
			done = nil
			b.signal(unix.SIGINT)
			kill = time.After(500 * time.Millisecond)
		case <-kill:
			b.signal(unix.SIGKILL)
			kill = time.After(500 * time.Millisecond)
		}
	}
}

// script is the line that bash reads for c.
func script(c Command) string {
	var sb strings.Builder
	for _, e := range c.Env {
		if name, value, ok := strings.Cut(e, "="); ok {
			fmt.Fprintf(&sb, "export %s=%s; ", name, quote(value))
		}
	}
	from := "/dev/null"
	if c.Stdin != nil {
		from = "/dev/tty"
	}
	fmt.Fprintf(&sb, "eval %s <%s\n", quote(c.Line), from)
	return sb.String()
}

// quote makes one word of s for bash, on one line.
func quote(s string) string {
	r := strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`, "\x00", "")
	return "$'" + r.Replace(s) + "'"
}

func (s *Shell) start() (*bash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil, errors.New("the node is gone")
	}
	if s.bash != nil {
		select {
		case <-s.bash.ended:
			s.bash.close()
		default:
			return s.bash, nil
		}
	}
	b, err := startBash(s.place, s.env)
	if err != nil {
		return nil, err
	}
	s.bash = b
	return b, nil
}

func startBash(place *ns.Place, env []string) (*bash, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	r, w, err := os.Pipe()
	if err != nil {
		master.Close()
		return nil, err
	}
	defer r.Close()
	mark := "\x1eweft" + rand.Text() + ":"
	b := &bash{stdin: w, master: master, mark: []byte(mark), out: make(chan []byte, 256),
		status: make(chan int, 1), ended: make(chan struct{})}
	cmd := exec.Command("bash", "--noprofile", "--norc", "--noediting", "-i")
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "PS2=", "PS0="+mark+strconv.Itoa(started)+string(markEnd),
		// Set anew for each prompt: users' scripts change and export it.
		"PROMPT_COMMAND=export -n PS1='"+mark+"$?"+string(markEnd)+"'", "HISTFILE=", "BASH_SILENCE_DEPRECATION_WARNING=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	b.cmd = cmd
	if err := place.Do(cmd.Start); err != nil {
		master.Close()
		w.Close()
		return nil, err
	}
	go b.read()
	go func() {
		cmd.Wait()
		close(b.ended)
	}()
	// The first prompt says that bash is ready, the second that ! has no meaning and that a
	// shell started in this one has a prompt of its own, not these marks.
	b.stdin.WriteString("set +H; export -n PS0 PS2 PROMPT_COMMAND HISTFILE\n")
	for range 2 {
		if err := b.ready(); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

func (b *bash) ready() error {
	timeout := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-b.out:
			if !ok {
				return errors.New("bash ended at once")
			}
		case code := <-b.status:
			if code != started {
				b.drain(io.Discard)
				return nil
			}
		case <-timeout:
			return errors.New("bash gave no prompt within 10 s")
		}
	}
}

// read splits what comes from the terminal into output and marks.
func (b *bash) read() {
	defer close(b.out)
	buf := make([]byte, 32<<10)
	var held []byte // may be the beginning of a mark
	for {
		n, err := b.master.Read(buf)
		data := append(held, buf[:n]...)
		held = nil
		for len(data) > 0 {
			before, status, after, found := b.split(data)
			if len(before) > 0 {
				b.emit(bytes.Clone(before))
			}
			if !found {
				held = bytes.Clone(after)
				break
			}
			b.status <- status
			data = after
		}
		if err != nil {
			if len(held) > 0 {
				b.emit(held)
			}
			return
		}
	}
}

func (b *bash) emit(p []byte) {
	for !b.attended.Load() {
		select {
		case b.out <- p:
			return
		default:
		}
		select {
		case <-b.out:
		default:
		}
	}
	b.out <- p
}

// split looks for a mark in data. Without one, before is what is certainly output and
// after what may be a mark's beginning.
func (b *bash) split(data []byte) (before []byte, status int, after []byte, found bool) {
	for from := 0; ; {
		i := bytes.IndexByte(data[from:], b.mark[0])
		if i < 0 {
			return data, 0, nil, false
		}
		i += from
		rest := data[i:]
		if len(rest) < len(b.mark) {
			if bytes.HasPrefix(b.mark, rest) {
				return data[:i], 0, rest, false
			}
			from = i + 1
			continue
		}
		if !bytes.HasPrefix(rest, b.mark) {
			from = i + 1
			continue
		}
		num, tail, ok := bytes.Cut(rest[len(b.mark):], []byte{markEnd})
		if !ok {
			return data[:i], 0, rest, false
		}
		code, err := strconv.Atoi(string(num))
		if err != nil {
			from = i + 1
			continue
		}
		return data[:i], code, tail, true
	}
}

// drain writes the output that came before the mark just received.
func (b *bash) drain(w io.Writer) {
	for {
		select {
		case p, ok := <-b.out:
			if !ok {
				return
			}
			w.Write(p)
		default:
			return
		}
	}
}

// prepare sets the terminal up for a command, and drops what was typed for the one
// before and not read by it.
func (b *bash) prepare(c Command) error {
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, b.master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno == 0 {
		unix.IoctlSetInt(int(slave), unix.TCFLSH, unix.TCIFLUSH)
		unix.Close(int(slave))
	}
	t, err := unix.IoctlGetTermios(int(b.master.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag |= unix.ICRNL | unix.IXON
	t.Lflag |= unix.ICANON | unix.ISIG | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.IEXTEN
	t.Oflag |= unix.OPOST | unix.ONLCR
	if !c.Terminal {
		t.Lflag &^= unix.ECHO
		t.Oflag &^= unix.ONLCR
	}
	if err := unix.IoctlSetTermios(int(b.master.Fd()), unix.TCSETS, t); err != nil {
		return err
	}
	if c.Rows > 0 && c.Cols > 0 {
		return pty.Setsize(b.master, &pty.Winsize{Rows: c.Rows, Cols: c.Cols})
	}
	return nil
}

// feed copies the caller's input to the terminal until the command has ended.
func (b *bash) feed(r io.Reader, stop <-chan struct{}) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		select {
		case <-stop:
			return
		default:
		}
		if n > 0 {
			if _, err := b.master.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// signal sends sig to the terminal's foreground process group; a shell that runs a
// builtin of its own is interrupted, never killed.
func (b *bash) signal(sig unix.Signal) {
	pgrp, err := unix.IoctlGetInt(int(b.master.Fd()), unix.TIOCGPGRP)
	if err != nil || pgrp <= 0 {
		return
	}
	if pgrp == b.cmd.Process.Pid {
		sig = unix.SIGINT
	}
	unix.Kill(-pgrp, sig)
}

func (b *bash) exit() int {
	select {
	case <-b.ended:
	case <-time.After(2 * time.Second):
		return 1
	}
	if ws, ok := b.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return b.cmd.ProcessState.ExitCode()
}

func (b *bash) close() {
	b.stdin.Close()
	b.master.Close()
	b.cmd.Process.Kill()
}

// PID returns bash's process ID, 0 if it does not run.
func (s *Shell) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bash == nil {
		return 0
	}
	select {
	case <-s.bash.ended:
		return 0
	default:
		return s.bash.cmd.Process.Pid
	}
}

// Start makes sure that bash runs.
func (s *Shell) Start() error {
	_, err := s.start()
	return err
}

// Close ends bash and the programs on its terminal, which get SIGHUP.
func (s *Shell) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	if s.bash != nil {
		s.bash.close()
	}
}
