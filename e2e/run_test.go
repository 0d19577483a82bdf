package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Bounds of waiting. They are generous: the machine may be busy. Only a hang meets them.
const (
	most      = 120 * time.Second // any run
	mostGone  = 30 * time.Second  // until nothing is left
	mostReady = 120 * time.Second // a network or an answer
)

// A launch is a way to start weft.
type launch struct {
	user user
	args []string
	// prompt gives it a pipe as input, else it reads end of file.
	prompt bool
	// wrap is what runs weft: a command whose last words are weft and its arguments.
	wrap []string
	env  []string
	tty  *os.File // standard input, output and error
}

// A run is weft under way.
type run struct {
	t       *testing.T
	user    user
	mark    string
	dir     string // home, output and state of an ordinary user's
	network string // its name, if root runs it
	cmd     *exec.Cmd
	in      io.WriteCloser
	ended   chan struct{}
	code    int             // exit status; -n if signal n killed it
	spaces  map[string]bool // namespaces that it made, as far as seen
}

// start starts weft. When the test ends, nothing may be left of it.
func start(t *testing.T, l launch) *run {
	t.Helper()
	shared.mu.Lock()
	shared.runs++
	id := shared.runs
	shared.mu.Unlock()
	r := &run{t: t, user: l.user, mark: fmt.Sprintf("%s=%d-%d", envMark, os.Getpid(), id),
		dir: filepath.Join(shared.dir, fmt.Sprint(id)), ended: make(chan struct{}), spaces: map[string]bool{}}
	for _, d := range []string{r.dir, r.runtimeDir(), r.tmpDir()} {
		if err := errors.Join(os.Mkdir(d, 0o700), os.Chown(d, l.user.uid, l.user.gid)); err != nil {
			t.Fatal(err)
		}
	}
	if l.user.root() && len(l.args) > 0 && strings.HasPrefix(l.args[0], "-") && !slices.Contains(l.args, "--name") {
		r.network = fmt.Sprintf("e2e%d", id)
		l.args = append([]string{"--name", r.network}, l.args...)
	}
	argv := append(append(slices.Clone(l.wrap), shared.weft), l.args...)
	r.cmd = exec.Command(argv[0], argv[1:]...)
	r.cmd.Dir = r.dir
	r.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "XDG_RUNTIME_DIR=" + r.runtimeDir(),
		"TMPDIR=" + r.tmpDir(), "LANG=C", "TERM=xterm", r.mark}, l.env...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 && !l.user.root() {
		r.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(l.user.uid), Gid: uint32(l.user.gid)}
	}
	if l.tty != nil {
		r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = l.tty, l.tty, l.tty
		r.cmd.SysProcAttr.Setctty = true
	} else {
		// Files, not pipes: whoever outlives weft cannot hold the test up.
		out, err1 := os.Create(r.file("out"))
		errOut, err2 := os.Create(r.file("err"))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		defer errOut.Close()
		r.cmd.Stdout, r.cmd.Stderr = out, errOut
	}
	if l.prompt {
		in, err := r.cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		r.in = in
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.cmd.Wait()
		ws := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
		r.code = ws.ExitStatus()
		if ws.Signaled() {
			r.code = -int(ws.Signal())
		}
		close(r.ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s", strings.Join(argv, " "), r.transcript())
		}
		r.cmd.Process.Kill()
		for _, p := range marked(r.mark) {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	})
	return r
}

func (r *run) file(name string) string { return filepath.Join(r.dir, name) }
func (r *run) runtimeDir() string      { return r.file("run") }
func (r *run) tmpDir() string          { return r.file("tmp") }

func (r *run) read(name string) string {
	b, _ := os.ReadFile(r.file(name))
	return string(b)
}

func (r *run) out() string { return r.read("out") }
func (r *run) err() string { return r.read("err") }

func (r *run) transcript() string {
	return fmt.Sprintf("--- output\n%s--- errors\n%s", r.out(), r.err())
}

// wait waits for the end and returns the exit status.
func (r *run) wait() int {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(most):
		r.hang("its end")
	}
	return r.code
}

// hang fails the test with what runs.
func (r *run) hang(what string) {
	r.t.Helper()
	var running []string
	for _, p := range marked(r.mark) {
		running = append(running, p.String())
	}
	r.t.Fatalf("hangs: no sign of %s\nrunning:\n  %s\n%s", what, strings.Join(running, "\n  "), r.transcript())
}

// until polls f until it is true or the time is over.
func until(bound time.Duration, f func() bool) bool {
	for deadline := time.Now().Add(bound); ; time.Sleep(10 * time.Millisecond) {
		if f() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// say types a line.
func (r *run) say(format string, args ...any) {
	r.t.Helper()
	if _, err := fmt.Fprintf(r.in, format+"\n", args...); err != nil {
		r.t.Fatalf("weft does not read its input: %v\n%s", err, r.transcript())
	}
}

// expect waits until the output or the errors contain text.
func (r *run) expect(text string) {
	r.t.Helper()
	found := until(mostReady, func() bool {
		if strings.Contains(r.out(), text) || strings.Contains(r.err(), text) {
			return true
		}
		select {
		case <-r.ended:
			return true
		default:
			return false
		}
	})
	if !found {
		r.hang(fmt.Sprintf("%q", text))
	}
	if !strings.Contains(r.out(), text) && !strings.Contains(r.err(), text) {
		r.t.Fatalf("ended with status %d before it said %q\n%s", r.code, text, r.transcript())
	}
}

// ask types a line and returns what weft writes until it has done it.
func (r *run) ask(format string, args ...any) string {
	r.t.Helper()
	from, fromErr := len(r.out()), len(r.err())
	shared.mu.Lock()
	shared.runs++
	end := fmt.Sprintf("end-of-answer-%d.", shared.runs)
	shared.mu.Unlock()
	r.say(format, args...)
	r.say("sh echo %s", end)
	r.expect(end)
	before, _, _ := strings.Cut(r.out()[from:], end)
	return before + r.err()[fromErr:]
}

// ready waits until the prompt reads lines, and notes what the network is made of.
func (r *run) ready() {
	r.t.Helper()
	r.ask("sh true")
	r.note()
}

// note remembers the namespaces that the run has made so far.
func (r *run) note() {
	own := map[string]bool{}
	for _, ns := range (process{pid: os.Getpid()}).namespaces() {
		own[ns] = true
	}
	for _, p := range marked(r.mark) {
		for _, ns := range p.namespaces() {
			if !own[ns] {
				r.spaces[ns] = true
			}
		}
	}
}

// find returns the run's process called name, or false.
func (r *run) find(name string) (process, bool) {
	if name == "keeper" {
		return process{pid: r.cmd.Process.Pid}, true
	}
	for _, p := range marked(r.mark) {
		if p.name() == name {
			return p, true
		}
	}
	return process{}, false
}

// running waits until a program with these arguments runs.
func (r *run) running(command string) {
	r.t.Helper()
	if !until(mostReady, func() bool {
		return slices.ContainsFunc(marked(r.mark), func(p process) bool { return strings.Join(p.argv, " ") == command })
	}) {
		r.hang("a program " + command)
	}
}

// kill kills the process called name, as soon as it is there.
func (r *run) kill(name string) {
	r.t.Helper()
	found := until(mostReady, func() bool {
		if p, ok := r.find(name); ok && syscall.Kill(p.pid, syscall.SIGKILL) == nil {
			return true
		}
		select {
		case <-r.ended:
			return true
		default:
			return false
		}
	})
	if !found {
		r.hang("a process " + name)
	}
}

// gone checks that nothing is left of the run.
func (r *run) gone() {
	r.t.Helper()
	var left []string
	until(mostGone, func() bool {
		left = r.left()
		return len(left) == 0
	})
	if len(left) > 0 {
		r.t.Fatalf("left behind:\n  %s\n%s", strings.Join(left, "\n  "), r.transcript())
	}
}

func (r *run) left() []string {
	var left []string
	for _, p := range marked(r.mark) {
		left = append(left, "process "+p.String())
	}
	if len(left) == 0 && len(r.spaces) > 0 {
		left = holders(r.spaces)
	}
	state := filepath.Join(r.runtimeDir(), "weft")
	if r.network != "" {
		if _, err := os.Lstat("/run/weft/" + r.network); err == nil {
			left = append(left, "/run/weft/"+r.network)
		}
	}
	for _, dir := range []string{state, r.tmpDir()} {
		filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err == nil && path != dir {
				left = append(left, path)
			}
			return nil
		})
	}
	return left
}

// finish ends the prompt and checks status and remains.
func (r *run) finish(status int) {
	r.t.Helper()
	r.in.Close()
	r.exits(status)
}

// exits checks that the run ends with a status and leaves nothing.
func (r *run) exits(status int) {
	r.t.Helper()
	if code := r.wait(); code != status {
		r.t.Errorf("exit status %d, want %d\n%s", code, status, r.transcript())
	}
	r.gone()
}

// weft runs it to its end with a status and returns its output and errors.
func weft(t *testing.T, u user, status int, args ...string) string {
	t.Helper()
	r := start(t, launch{user: u, args: args})
	r.exits(status)
	return r.out() + r.err()
}

// has checks that a text contains others.
func has(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in:\n%s", w, text)
		}
	}
}
