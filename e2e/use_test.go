package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// eventually asks until the answer contains text.
func (r *run) eventually(question, text string) {
	r.t.Helper()
	var last string
	if !until(mostReady, func() bool {
		last = r.ask("%s", question)
		return strings.Contains(last, text)
	}) {
		r.t.Errorf("%s: no %q in\n%s", question, text, last)
	}
}

// TestChanges changes a network in use.
func TestChanges(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "linear,2"}})
		r.ready()
		has(t, r.ask("pingall"), "2 of 2 received")
		r.ask("link s1 s2 down")
		has(t, r.ask("pingall"), "0 of 2 received")
		r.ask("link s1 s2 up")
		r.eventually("pingall", "2 of 2 received")
		r.ask("link h1 s1 down")
		has(t, r.ask("pingall"), "0 of 2 received")
		r.ask("link h1 s1 up")
		r.eventually("pingall", "2 of 2 received")
		r.ask("switch s1 stop")
		has(t, r.ask("pingall"), "0 of 2 received")
		has(t, r.ask("links"), "down: s1-eth1", "down: s1-eth2") // as s2 and h1 notice
		r.ask("switch s1 start")
		r.eventually("pingall", "2 of 2 received")
		r.ask("add switch s3")
		r.ask("add host h3")
		r.ask("add link s2 s3")
		r.ask("add link h3 s3")
		r.eventually("pingall", "6 of 6 received")
		has(t, r.ask("h1 ping -c 1 h3"), "1 received")
		r.ask("del link s2 s3")
		has(t, r.ask("ping h1 h3"), "0 of 1 received")
		r.ask("del h3")
		r.ask("del s3")
		has(t, r.ask("del h9"), "h9")
		r.eventually("pingall", "2 of 2 received")
		r.finish(1) // pings were lost
	})
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		script string
		status int
	}{
		{"pingall\n", 0},
		{"link s1 h1 down\npingall\n", 1},
		{"h1 true\n", 0},
		{"h1 false\n", 1},
		{"nosuchcommand\n", 1},
		{"", 0},
	} {
		t.Run(strings.ReplaceAll(strings.TrimSpace(c.script), "\n", "; "), func(t *testing.T) {
			t.Parallel()
			r := start(t, launch{user: ordinary(), prompt: true, args: []string{"--topo", "single,2"}})
			r.in.Write([]byte(c.script))
			r.finish(c.status)
		})
	}
}

// TestReroute takes links of a ring down: there is another way.
func TestReroute(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "ring,4"}})
		r.ready()
		has(t, r.ask("pingall"), "12 of 12 received")
		for _, l := range []string{"s1 s2", "s2 s3", "s3 s4"} {
			r.ask("link %s down", l)
			r.eventually("pingall", "12 of 12 received")
			r.ask("link %s up", l)
			r.eventually("pingall", "12 of 12 received")
		}
		r.in.Close()
		r.wait()
		r.gone()
	})
}

// TestShells runs programs on nodes without a terminal.
func TestShells(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "single,2", "--ipbase", "10.7.0.0/16"}})
		r.ready()
		for _, node := range []string{"h1", "s1", "sh"} {
			has(t, r.ask("%s pwd", node), r.dir+"\n")
		}
		r.ask("h1 cd /usr; export COLOUR=red")
		has(t, r.ask("h1 pwd"), "/usr\n")
		has(t, r.ask("h1 echo $COLOUR"), "red\n")
		has(t, r.ask("h2 echo -$COLOUR-"), "--\n")
		has(t, r.ask("h1 hostname"), "h1\n")
		has(t, r.ask("h1 sleep 1000 &"), "[1]")
		has(t, r.ask("h1 jobs"), "sleep 1000")
		r.ask("h1 kill %%1")
		has(t, r.ask("h1 wait; jobs; echo over"), "over\n")
		has(t, r.ask("h1 (exit 7)"), "exit status 7")
		has(t, r.ask("h1 echo h2 h1"), "10.7.0.2 10.7.0.1\n")
		has(t, r.ask("h1 cat; echo ended"), "ended\n")
		has(t, r.ask("h1 getent hosts h2 || true"), "10.7.0.2")
		has(t, r.ask("h1 exit 3"), "exit status 3")
		has(t, r.ask("h1 echo a new shell"), "a new shell\n")
		r.finish(1)
	})
}

// A screen is a terminal that weft runs on.
type screen struct {
	*run
	master *os.File
	before *unix.Termios
	shown  chan []byte
	text   strings.Builder
}

func onScreen(t *testing.T, l launch) *screen {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{master: master, shown: make(chan []byte, 1024)}
	t.Cleanup(func() { master.Close() })
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	if s.before, err = unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS); err != nil {
		t.Fatal(err)
	}
	l.tty = slave
	s.run = start(t, l)
	go func() {
		for {
			b := make([]byte, 4096)
			n, err := master.Read(b)
			if n > 0 {
				s.shown <- b[:n]
			}
			if err != nil {
				close(s.shown)
				return
			}
		}
	}()
	// Kept open: the terminal's settings are looked at after the end.
	t.Cleanup(func() { slave.Close() })
	return s
}

// sees waits until text is shown after what was seen last.
func (s *screen) sees(text string) {
	s.t.Helper()
	timeout := time.After(mostReady)
	for {
		if _, after, ok := strings.Cut(s.text.String(), text); ok {
			s.text.Reset()
			s.text.WriteString(after)
			return
		}
		select {
		case b, ok := <-s.shown:
			if !ok {
				s.t.Fatalf("the terminal has ended before %q; it shows\n%q", text, s.text.String())
			}
			s.text.Write(b)
		case <-timeout:
			s.t.Fatalf("%q does not appear; the terminal shows\n%q", text, s.text.String())
		}
	}
}

func (s *screen) types(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// TestTerminal runs programs on nodes as a person at a terminal.
func TestTerminal(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		s := onScreen(t, launch{user: u, args: []string{"--topo", "single,2"}})
		s.sees("weft> ")
		s.types("h1 ping h2\r")
		s.sees("icmp_seq=2")
		s.types("\x03")
		s.sees("packets transmitted")
		s.sees("weft> ")
		s.types("h1 sleep 1000\r")
		s.running("sleep 1000")
		s.types("\x1a") // Ctrl-Z
		s.sees("Stopped")
		s.sees("weft> ")
		s.types("h1 jobs\r")
		s.sees("sleep 1000")
		s.sees("weft> ")
		s.types("h1 kill %1; test -t 0 && echo on a ter''minal\r")
		s.sees("on a terminal")
		s.sees("weft> ")
		s.types("h1 cat\r")
		s.running("cat")
		s.types("typed text\r")
		s.sees("typed text")
		s.sees("typed text")
		s.types("\x04")
		s.sees("weft> ")
		s.types("h1 bash --norc\r")
		s.sees("bash-")
		s.types("echo in the in''ner\r")
		s.sees("in the inner")
		s.types("exit\r")
		s.sees("weft> ")
		s.types("h1 python3 -q\r")
		s.sees(">>> ")
		s.types("print(6*7)\r")
		s.sees("42")
		s.sees(">>> ")
		s.types("exit()\r")
		s.sees("weft> ")
		s.types("\x03")
		s.sees("weft> ")
		s.types("exit\r")
		s.exits(0)
		after, err := unix.IoctlGetTermios(int(s.master.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if *after != *s.before {
			t.Errorf("the terminal is not as it was:\n%+v\n%+v", *s.before, *after)
		}
	})
}

// TestTerminalKilled kills the engine while a program has the terminal.
func TestTerminalKilled(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		s := onScreen(t, launch{user: u, args: []string{"--topo", "single,2"}})
		s.sees("weft> ")
		s.types("h1 cat\r")
		s.running("cat")
		p, ok := s.find("weft-engine")
		if !ok || syscall.Kill(p.pid, syscall.SIGKILL) != nil {
			t.Fatal("no engine")
		}
		s.exits(1)
		after, err := unix.IoctlGetTermios(int(s.master.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if *after != *s.before {
			t.Errorf("the terminal is not as it was:\n%+v\n%+v", *s.before, *after)
		}
	})
}
