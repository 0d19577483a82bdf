package shell

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"weft/topo"
)

// The test binary is also the program that a person uses in the tests below.
const (
	asChild     = "SHELL_TEST_CHILD" // the dialect
	childHome   = "SHELL_TEST_HOME"
	childHang   = "SHELL_TEST_HANG"         // pings do not end
	childPanic  = "SHELL_TEST_PANIC"        // completion panics
	childNFs    = "SHELL_TEST_NFS"          // there are DPDK nodes
	noControl   = "SHELL_TEST_NO_CONTROL=1" // the terminal does not control the child
	runReturned = "Run returned"            // what the child says last
)

func TestMain(m *testing.M) {
	if d := os.Getenv(asChild); d != "" {
		if err := child(d); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(dialect string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp(os.Getenv(childHome), "") // removed by the parent if this process is killed
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f := newFakeNetwork()
	f.hangPing = os.Getenv(childHang) != ""
	if os.Getenv(childNFs) != "" {
		f.addDPDK()
	}
	client, stopServing, err := f.serve(dir)
	if err != nil {
		return err
	}
	defer stopServing()
	cfg := Config{Client: client, In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		HistoryFile: filepath.Join(os.Getenv(childHome), "history")}
	if dialect == "mininet" {
		cfg.Dialect = Mininet
	}
	s := New(cfg)
	if os.Getenv(childPanic) != "" {
		for i := range s.commands {
			s.commands[i].complete = func(*topo.Plan, []string) []string { panic("completion") }
		}
	}
	err = s.Run(ctx)
	fmt.Println(runReturned, err)
	return nil
}

// A person sits at a pseudo-terminal at which a child runs.
type person struct {
	t   *testing.T
	tty *os.File // the terminal's own side, to look at its mode
	pty *os.File
	cmd *exec.Cmd
	// before is the mode of the terminal before the program started.
	before unix.Termios

	mu   sync.Mutex
	cond *sync.Cond
	seen bytes.Buffer // not yet expected
	all  bytes.Buffer
	eof  bool
}

func sitDown(t *testing.T, dialect string, size pty.Winsize, env ...string) *person {
	t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	if err := pty.Setsize(ptmx, &size); err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, tty: tty, pty: ptmx, cmd: exec.Command(os.Args[0])}
	p.cond = sync.NewCond(&p.mu)
	p.cmd.Env = append(os.Environ(), asChild+"="+dialect, childHome+"="+t.TempDir(), "TERM=xterm")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.before = p.modes()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: !slices.Contains(env, noControl)}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := ptmx.Read(buf)
			p.mu.Lock()
			p.seen.Write(buf[:n])
			p.all.Write(buf[:n])
			p.eof = err != nil
			p.cond.Broadcast()
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		tty.Close()
		ptmx.Close()
	})
	return p
}

func (p *person) types(keys string) {
	p.t.Helper()
	if _, err := p.pty.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// sees waits for text, and returns what came before it.
func (p *person) sees(text string) string {
	p.t.Helper()
	late := time.AfterFunc(30*time.Second, func() {
		p.mu.Lock()
		p.eof = true
		p.cond.Broadcast()
		p.mu.Unlock()
	})
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if i := strings.Index(p.seen.String(), text); i >= 0 {
			before := string(p.seen.Next(i))
			p.seen.Next(len(text))
			return before
		}
		if p.eof {
			p.t.Fatalf("waited for %q, saw %q", text, p.all.String())
		}
		p.cond.Wait()
	}
}

// leaves waits for the end of the session and looks at the terminal.
func (p *person) leaves(want unix.Termios) {
	p.t.Helper()
	p.sees(runReturned)
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the program ended with %v: %s", err, p.all.String())
	}
	if got := p.modes(); got != want {
		p.t.Errorf("the terminal's mode is %+v, was %+v", got, want)
	}
}

func (p *person) modes() unix.Termios {
	p.t.Helper()
	m, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *m
}

var usual = pty.Winsize{Rows: 24, Cols: 80}

// What an expect script sees of Mininet's CLI: a prompt, what it sent, the result, the
// prompt, and nothing else.
func TestTerminalLooksLikeMininet(t *testing.T) {
	p := sitDown(t, "mininet", usual)
	before := p.before
	p.sees("*** Starting CLI:\r\nmininet> ")
	p.types("nodes\n")
	if got, want := p.sees("mininet> "), "nodes\r\navailable nodes are: \r\nc0 h1 h2 s1\r\n"; got != want {
		t.Errorf("saw %q, want %q", got, want)
	}
	for _, k := range strings.Split("pingpair\r", "") {
		p.types(k)
	}
	if got, want := p.sees("mininet> "), "pingpair\r\nh1 -> h2 \r\nh2 -> h1 \r\n*** Results: 0% dropped (2/2 received)\r\n"; got != want {
		t.Errorf("saw %q, want %q", got, want)
	}
	p.types("\r")
	if got := p.sees("mininet> "); got != "\r\n" {
		t.Errorf("an empty line shows %q", got)
	}
	p.types("exit\n")
	p.leaves(before)
}

func TestTerminalPastedLines(t *testing.T) {
	for _, dialect := range []string{"native", "mininet"} {
		p := sitDown(t, dialect, usual)
		before := p.before
		p.sees("> ")
		p.types("h1 echo one h2\nh2 echo two h1\r\nh1 sleep 0.1; echo three\n\nsh echo fo")
		p.sees("\none 10.0.0.2")
		p.sees("\ntwo 10.0.0.1")
		p.sees("\nthree")
		p.sees("sh echo fo")
		p.types("ur\r")
		p.sees("\nfour")
		p.sees("> ")
		p.types("\x04")
		p.leaves(before)
	}
}

func TestTerminalControlKeys(t *testing.T) {
	p := sitDown(t, "mininet", usual)
	before := p.before
	p.sees("mininet> ")
	p.types("half a line\x03")
	p.sees("Interrupt\r\n")
	p.sees("mininet> ")
	p.types("nodesX\x1b[D\x04\r") // Ctrl-D on a line deletes the X
	p.sees("available nodes are")
	p.sees("mininet> ")
	p.types("\x1b[A\r") // up
	p.sees("available nodes are")
	p.sees("mininet> ")
	p.types("zzz\x15sh echo gr\xc3\xbc\xc3\x9f 日本x\x7f\r") // Ctrl-U, wide characters, backspace
	p.sees("\ngrüß 日本\r\n")
	p.sees("mininet> ")
	p.types("\x1b[200~\x1bOX\x1a\x1c\x0c") // unknown sequences, Ctrl-Z, Ctrl-\, Ctrl-L
	p.types("nodes\r")
	p.sees("available nodes are")
	p.types("\x04")
	p.leaves(before)
}

func TestTerminalCompletion(t *testing.T) {
	p := sitDown(t, "native", usual)
	before := p.before
	p.sees("weft> ")
	p.types("nod\t\r") // one way to go on
	p.sees("nodes")
	p.sees("controllers")
	p.sees("weft> ")
	p.types("ping\t") // some: a menu opens, not before
	if got := p.sees("pingpairfull"); strings.Count(got, "pingall ") > 1 {
		t.Errorf("the menu is not shown once: %q", got)
	}
	p.types("\t\t\r") // ping, pingall
	p.sees("2 of 2 received")
	p.sees("weft> ")
	p.types("link h1 \tdo\t\r") // a neighbour, a word
	p.sees("weft> ")
	p.types("links\r")
	p.sees("down")
	p.sees("weft> ")
	p.types("h1 echo h1-\t\r")
	p.sees("\nh1-eth0")
	p.sees("weft> ") // until then what is typed is the program's
	p.types("\x04")
	p.leaves(before)
}

// Programs on nodes have the terminal for themselves.
func TestTerminalPrograms(t *testing.T) {
	p := sitDown(t, "mininet", usual)
	before := p.before
	p.sees("mininet> ")
	p.types("h1 stty size; read -r line; echo \"got $line\"\r")
	p.sees("24 80")
	p.types("typed h2\r")
	p.sees("got typed h2")
	p.sees("mininet> ")

	p.types("h1 echo ready; sleep 60\r")
	p.sees("\nready")
	p.types("\x03")
	p.sees("mininet> ")
	p.types("nodes\r")
	p.sees("available nodes are")
	p.sees("mininet> ")

	p.types("noecho h1 echo go; read -r line; echo \"[$line]\"\r")
	p.sees("\ngo")
	p.types("secret\r")
	if got := p.sees("[secret]"); strings.Contains(got, "secret") {
		t.Errorf("noecho echoes: %q", got)
	}
	p.sees("mininet> ")

	p.types("h1 trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done\r")
	p.sees("\nready")
	pty.Setsize(p.pty, &pty.Winsize{Rows: 30, Cols: 100})
	p.sees("30 100")
	p.sees("mininet> ")
	p.types("exit\r")
	p.leaves(before)
}

func TestTerminalInterruptsBuiltins(t *testing.T) {
	p := sitDown(t, "mininet", usual, childHang+"=1")
	before := p.before
	p.sees("mininet> ")
	p.types("pingall\r")
	p.sees("*** Ping: testing ping reachability\r\n")
	p.types("\x03")
	p.sees("\r\nInterrupt\r\n")
	p.sees("mininet> ")
	p.types("nodes\r")
	p.sees("available nodes are")
	p.types("\x04")
	p.leaves(before)
}

func TestTerminalSizes(t *testing.T) {
	for _, size := range []pty.Winsize{{}, {Rows: 1, Cols: 1}, {Rows: 3, Cols: 12}, {Rows: 24}, {Cols: 80}} {
		t.Run(fmt.Sprintf("%dx%d", size.Rows, size.Cols), func(t *testing.T) {
			p := sitDown(t, "mininet", size)
			before := p.before
			p.sees("mininet> ")
			p.types("pi\t\t\t日本\x7f\x7f" + strings.Repeat("long ", 30) + "\x03")
			p.sees("Interrupt")
			p.types("nodes\r")
			p.sees("available nodes are")
			p.types("\x04")
			p.leaves(before)
		})
	}
}

func TestTerminalResize(t *testing.T) {
	p := sitDown(t, "mininet", usual)
	before := p.before
	p.sees("mininet> ")
	p.types("nod")
	p.sees("nod")
	pty.Setsize(p.pty, &pty.Winsize{Rows: 10, Cols: 40})
	p.sees("mininet> nod") // the line is still there
	p.types("es\r")
	p.sees("available nodes are")
	p.types("\x04")
	p.leaves(before)
}

// go-prompt cannot work without a controlling terminal; lines can be typed nevertheless.
func TestTerminalWithoutControl(t *testing.T) {
	p := sitDown(t, "mininet", usual, noControl)
	before := p.before
	p.sees("mininet> ")
	p.types("nodes\n")
	p.sees("available nodes are")
	p.sees("mininet> ")
	p.types("\x04")
	p.leaves(before)
}

// A panic inside go-prompt costs the line, not the network.
func TestTerminalPanic(t *testing.T) {
	p := sitDown(t, "mininet", usual, childPanic+"=1")
	before := p.before
	p.sees("mininet> ")
	p.types("pingall \tnodes\r") // what is typed ahead is not lost with the line
	p.sees("available nodes are")
	p.sees("mininet> ")
	p.types("\x04")
	p.leaves(before)
}

// Signals end the session properly, with the terminal as it was.
func TestTerminalSignals(t *testing.T) {
	for _, running := range []string{"", "h1 echo ready; sleep 60\r"} {
		p := sitDown(t, "mininet", usual)
		before := p.before
		p.sees("mininet> ")
		if running != "" {
			p.types(running)
			p.sees("\nready")
		}
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.leaves(before)
	}
}

func TestTerminalHistoryIsKept(t *testing.T) {
	home := t.TempDir()
	for _, keys := range []string{"sh echo first\r", "\x1b[A\r"} {
		p := sitDown(t, "native", usual, childHome+"="+home)
		before := p.before
		p.sees("weft> ")
		p.types(keys)
		p.sees("\nfirst\r\n")
		p.sees("weft> ")
		p.types("\x04")
		p.leaves(before)
	}
	text, err := os.ReadFile(filepath.Join(home, "history"))
	if err != nil || string(text) != "sh echo first\n" {
		t.Errorf("the history is %q, %v", text, err)
	}
}
