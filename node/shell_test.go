package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"weft/internal/ns"
)

// hereShell is a shell in the test's own namespaces: what a Shell does needs no root.
func hereShell(t *testing.T) *Shell {
	t.Helper()
	net, err := ns.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := NewShell("h1", &ns.Place{Net: net}, []string{"WEFT_TEST=1"})
	t.Cleanup(func() {
		s.Close()
		net.Close()
	})
	return s
}

func run(t *testing.T, s *Shell, line string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	code, err := s.Run(ctx, Command{Line: line, Stdout: &out})
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return out.String(), code
}

func TestShellKeepsItsState(t *testing.T) {
	s := hereShell(t)
	for _, c := range []struct {
		line, want string
		code       int
	}{
		{"cd /tmp", "", 0},
		{"pwd", "/tmp\n", 0},
		{"export A='b c'", "", 0},
		{`echo "$A" $WEFT_TEST`, "b c 1\n", 0},
		{"false", "", 1},
		{"echo $?", "0\n", 0}, // of eval's own redirection
		{"(exit 42)", "", 42},
		{"f() { echo got $1; }", "", 0},
		{"f x; f y", "got x\ngot y\n", 0},
		{"echo a; echo b >&2", "a\nb\n", 0},
		{"cat", "", 0}, // no terminal: end of file
		{"tty", "not a tty\n", 1},
		{"printf 'no newline'", "no newline", 0},
		{"echo 'it'\\''s' \"$(echo ok)\" !x", "it's ok !x\n", 0},
		{"sh -c 'kill -TERM $$'", "Terminated\n", 143},
		{"nosuchcommand", "bash: nosuchcommand: command not found\n", 127},
		{"echo (", "bash: eval: line 1: syntax error near unexpected token `('\nbash: eval: line 1: `echo ('\n", -1},
		{"PS1=changed", "", 0},
		{"echo still here", "still here\n", 0},
	} {
		out, code := run(t, s, c.line)
		if c.code >= 0 && code != c.code || c.code < 0 && code == 0 {
			t.Errorf("%q: status %d, want %d", c.line, code, c.code)
		}
		if c.line == "echo (" {
			if !strings.Contains(out, "syntax error") {
				t.Errorf("%q: %q", c.line, out)
			}
			continue
		}
		if c.line == "echo $?" {
			continue
		}
		if out != c.want {
			t.Errorf("%q: %q, want %q", c.line, out, c.want)
		}
	}
}

func TestShellJobs(t *testing.T) {
	s := hereShell(t)
	if out, code := run(t, s, "sleep 100 &"); code != 0 || !strings.HasPrefix(out, "[1] ") {
		t.Errorf("a job in the background: %q, %d", out, code)
	}
	if out, _ := run(t, s, "jobs"); !strings.Contains(out, "Running") {
		t.Errorf("jobs: %q", out)
	}
	if _, code := run(t, s, "kill %1"); code != 0 {
		t.Errorf("kill %%1: %d", code)
	}
	run(t, s, "wait")
	if out, _ := run(t, s, "jobs"); strings.Contains(out, "Running") {
		t.Errorf("jobs after kill: %q", out)
	}
}

// A job that writes for ever must neither stop for want of a reader nor stop others.
func TestShellBackgroundOutput(t *testing.T) {
	s := hereShell(t)
	run(t, s, "yes > /dev/tty & sleep 0.3")
	if out, code := run(t, s, "kill %1; wait; echo done"); code != 0 || !strings.Contains(out, "done") {
		t.Errorf("after a noisy job: status %d", code)
	}
}

func TestShellOrder(t *testing.T) {
	s := hereShell(t)
	out, code := run(t, s, "seq 200000; exit_status() { return 7; }; exit_status")
	if code != 7 {
		t.Errorf("status %d", code)
	}
	var want strings.Builder
	for i := 1; i <= 200000; i++ {
		fmt.Fprintln(&want, i)
	}
	if out != want.String() {
		t.Errorf("%d bytes of output, want %d", len(out), want.Len())
	}
}

func TestShellEnds(t *testing.T) {
	s := hereShell(t)
	run(t, s, "cd /tmp")
	if _, code := run(t, s, "exit 3"); code != 3 {
		t.Errorf("exit 3: status %d", code)
	}
	if out, code := run(t, s, "echo again"); out != "again\n" || code != 0 {
		t.Errorf("after exit: %q, %d", out, code)
	}
	if _, code := run(t, s, "exec true"); code != 0 {
		t.Errorf("exec true: status %d", code)
	}
	if _, code := run(t, s, "kill -9 $$"); code != 137 {
		t.Errorf("kill -9: status %d", code)
	}
	run(t, s, "true")
	s.Close()
	if _, err := s.Run(t.Context(), Command{Line: "true", Stdout: &bytes.Buffer{}}); err == nil {
		t.Error("a closed shell runs commands")
	}
}

func TestShellInterrupt(t *testing.T) {
	s := hereShell(t)
	for _, line := range []string{"sleep 100", "while :; do :; done", "sh -c 'trap \"exit 5\" INT; sleep 100'"} {
		interrupt, ended := make(chan struct{}), make(chan struct{})
		go func() { // again and again: bash may be busy with starting the program
			for {
				time.Sleep(200 * time.Millisecond)
				select {
				case interrupt <- struct{}{}:
				case <-ended:
					return
				}
			}
		}()
		var out bytes.Buffer
		code, err := s.Run(t.Context(), Command{Line: line, Stdout: &out, Interrupt: interrupt})
		close(ended)
		if err != nil || code == 0 {
			t.Errorf("%q interrupted: status %d, %v", line, code, err)
		}
	}
}

func TestShellCancel(t *testing.T) {
	s := hereShell(t)
	for _, line := range []string{"sleep 100", "sh -c 'trap \"\" INT TERM; while :; do sleep 1; done'"} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := s.Run(ctx, Command{Line: line, Stdout: &bytes.Buffer{}})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q cancelled: %v", line, err)
		}
	}
	if out, _ := run(t, s, "echo alive"); !strings.Contains(out, "alive") {
		t.Errorf("after cancelled commands: %q", out)
	}
}

func TestShellBusy(t *testing.T) {
	s := hereShell(t)
	run(t, s, "true")
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	wg.Go(func() {
		s.Run(ctx, Command{Line: "echo go; sleep 100", Stdout: writerFunc(func([]byte) {
			select {
			case <-started:
			default:
				close(started)
			}
		})})
	})
	<-started
	if _, err := s.Run(t.Context(), Command{Line: "true", Stdout: &bytes.Buffer{}}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second command: %v, want ErrBusy", err)
	}
	cancel()
	wg.Wait()
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// A program with a terminal reads what is typed and only that: what one leaves unread is
// not for the next.
func TestShellTerminal(t *testing.T) {
	s := hereShell(t)
	read := func(in io.Reader, line string) string {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := s.Run(ctx, Command{Line: line, Stdin: in, Terminal: true, Rows: 33, Cols: 77, Stdout: &out}); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return out.String()
	}
	typed := func(text, line string) string { return read(strings.NewReader(text), line) }
	if out := typed("hello\nrest\n", "read x; echo got $x; stty size"); !strings.Contains(out, "got hello\r\n33 77\r\n") {
		t.Errorf("read at a terminal: %q", out)
	}
	if out := typed("", "read -t 0.3 y; echo status $? y=$y"); !strings.Contains(out, "y=\r\n") {
		t.Errorf("left-over input reached the next command: %q", out)
	}
	if out := read(impatient{}, "sleep 100; echo not reached"); strings.Contains(out, "not reached\r\n") {
		t.Errorf("Ctrl-C: %q", out)
	}
}

// A shell started in a shell is a program like any other: it inherits no marks.
func TestShellInShell(t *testing.T) {
	s := hereShell(t)
	if out, _ := run(t, s, "export PS1=changed; env"); strings.ContainsRune(out, markEnd) {
		t.Errorf("marks in the environment of programs: %q", out)
	}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := Command{Line: "bash --norc --noediting", Stdin: strings.NewReader("echo inner $((1+1))\nexit 4\n"), Terminal: true, Stdout: &out}
	if code, err := s.Run(ctx, c); code != 4 || err != nil || !strings.Contains(out.String(), "inner 2\r\n") {
		t.Errorf("bash in bash: status %d, %v, %q", code, err, out.String())
	}
	if out, code := run(t, s, "echo outer"); out != "outer\n" || code != 0 {
		t.Errorf("after bash in bash: %q, %d", out, code)
	}
}

// impatient presses Ctrl-C until something happens: one that comes before the program has
// the terminal is bash's, which may be busy with starting it.
type impatient struct{}

func (impatient) Read(p []byte) (int, error) {
	time.Sleep(100 * time.Millisecond)
	p[0] = 3
	return 1, nil
}

// FuzzSplit holds that marks are found however the bytes arrive, and nothing else is lost.
func FuzzSplit(f *testing.F) {
	const mark = "\x1eweftABC:"
	f.Add([]byte("out"+mark+"0\x1emore"), 3)
	f.Add([]byte("\x1e\x1eweft"+mark+"x\x1e"+mark+"12\x1e"), 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		whole := feedSplit(mark, data)
		if cut < 0 {
			cut = -cut
		}
		cut %= len(data) + 1
		if parts := feedSplit(mark, data[:cut], data[cut:]); parts != whole {
			t.Errorf("in one piece %q, in two %q", whole, parts)
		}
	})
}

// feedSplit runs chunks through split as read does, and renders what comes out.
func feedSplit(mark string, chunks ...[]byte) string {
	b := &bash{mark: []byte(mark)}
	var out strings.Builder
	var held []byte
	for _, c := range chunks {
		data := append(held, c...)
		held = nil
		for len(data) > 0 {
			before, status, after, found := b.split(data)
			out.Write(before)
			if !found {
				held = bytes.Clone(after)
				break
			}
			fmt.Fprintf(&out, "<%d>", status)
			data = after
		}
	}
	out.Write(held)
	return out.String()
}
