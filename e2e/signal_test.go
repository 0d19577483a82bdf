package e2e

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

var signals = []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// TestSignals ends weft by signals at every stage.
func TestSignals(t *testing.T) {
	absent := silentController(t)
	stages := []struct {
		name  string
		args  []string
		at    string // what weft has said by then; "exit" is said to it first at a prompt
		extra time.Duration
	}{
		{"build", []string{"--topo", "tree,2,10", "--test", "pingall"}, "creating 1", 20 * time.Millisecond},
		{"controller", []string{"--topo", "single,2", "--controller", "remote," + absent, "--test", "pingall"}, "ready after", 100 * time.Millisecond},
		{"own controller", []string{"--topo", "single,2", "--controller", "cmd:exec sleep 1000", "--test", "pingall"}, "starting 1 controller", 100 * time.Millisecond},
		{"test", []string{"--topo", "single,2", "--test", "h1 sleep 1000"}, "ready after", 300 * time.Millisecond},
		{"iperf", []string{"--topo", "single,2", "--test", "iperf --time 100"}, "ready after", 300 * time.Millisecond},
		{"prompt", []string{"--topo", "single,2"}, "ready after", 0},
		{"command", []string{"--topo", "single,2"}, "ready after", 0},
		{"end", []string{"--topo", "tree,2,6"}, "stopping", 0},
	}
	for _, s := range stages {
		for i, sig := range signals {
			t.Run(s.name+"/"+sig.String(), func(t *testing.T) {
				t.Parallel()
				u := ordinary()
				if i%2 == 0 && u == nobody {
					u = rootUser
				}
				r := start(t, launch{user: u, args: s.args, prompt: true})
				switch s.name {
				case "command":
					r.ready()
					r.say("h1 echo begun; sleep 1000")
					r.expect("begun")
				case "prompt":
					r.ready()
				case "end":
					r.ready()
					r.say("exit")
				}
				r.expect(s.at)
				time.Sleep(s.extra)
				r.note()
				r.cmd.Process.Signal(sig)
				want := 128 + int(sig)
				switch {
				case sig == syscall.SIGINT && s.name == "command":
					// The command is interrupted, the prompt goes on.
					has(t, r.ask("h1 echo still here"), "still here")
					r.in.Close()
					want = 1
				case sig == syscall.SIGINT && s.name == "prompt":
					want = 1
				}
				code := r.wait()
				if code != want && !(s.name == "end" && code == 0) {
					t.Errorf("exit status %d, want %d\n%s", code, want, r.transcript())
				}
				r.gone()
			})
		}
	}
}

// silentController listens, accepts and says nothing.
func silentController(t *testing.T) string {
	return fakeController(t, func(c net.Conn) {
		buf := make([]byte, 1024)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	})
}

// fakeController serves connections with f at the address that it returns, until
// the test ends.
func fakeController(t *testing.T, f func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serve(l, f)
	return l.Addr().String()
}

func serve(l net.Listener, f func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			f(c)
		}()
	}
}

// openFlow is a message of OpenFlow.
func openFlow(version, kind byte, xid uint32, body ...byte) []byte {
	n := 8 + len(body)
	return append([]byte{version, kind, byte(n >> 8), byte(n), byte(xid >> 24), byte(xid >> 16), byte(xid >> 8), byte(xid)}, body...)
}

// TestBadControllers runs tests whose controllers do not do their work.
func TestBadControllers(t *testing.T) {
	const refused = "127.0.0.1:1"
	for _, c := range []struct {
		name, address string
		switches      string
		want          []string
	}{
		{"absent", refused, "ovsk", []string{"refused", refused}},
		{"silent", silentController(t), "ovsk", []string{"HELLO"}},
		{"garbage", fakeController(t, func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			time.Sleep(100 * time.Millisecond)
		}), "ovsk", []string{"not OpenFlow"}},
		{"closing", fakeController(t, func(net.Conn) {}), "ovsk", []string{"closed by the controller"}},
		{"other version", fakeController(t, func(c net.Conn) {
			c.Write(openFlow(1, 0, 1))
			buf := make([]byte, 1024)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}), "ovsk,protocols=OpenFlow13", []string{"version mismatch", "1.3", "1.0"}},
		{"no such host", "nosuch.invalid:6653", "ovsk", []string{"nosuch.invalid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachUser(t, func(t *testing.T, u user) {
				began := time.Now()
				out := weft(t, u, 1, "--topo", "linear,2", "--switch", c.switches,
					"--controller", "remote,"+c.address, "--twait", "2", "--test", "pingall")
				if took := time.Since(began); took > mostGone {
					t.Errorf("took %v", took)
				}
				has(t, out, c.want...)
				has(t, out, "s1 is not connected to c0", "s2 is not connected to c0")
			})
		})
	}
	t.Run("one of two", func(t *testing.T) {
		t.Parallel()
		out := weft(t, ordinary(), 1, "--topo", "linear,2", "--controller", "builtin", "--controller", "remote,"+refused,
			"--twait", "2", "--test", "none", "--test", "build")
		has(t, out, "s1 is not connected to c1")
		if strings.Contains(out, "not connected to c0") {
			t.Errorf("c0 is there:\n%s", out)
		}
	})
}
