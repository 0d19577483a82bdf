package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victims are the processes that get killed.
var victims = []string{"keeper", "weft-init", "weft-engine", "ovs-vswitchd", "ovsdb-server"}

// afterKill checks how a run ends one of whose processes was killed. bearable says
// that the victim may have been missed, or not be needed any more.
func (r *run) afterKill(victim string, bearable bool) {
	r.t.Helper()
	start := time.Now()
	code := r.wait()
	switch {
	case victim == "keeper" && (code == -int(syscall.SIGKILL) || bearable && code == 0):
	case victim != "keeper" && (code == 1 || code == 0 && bearable):
		if code == 1 {
			r.message(victim)
		}
	default:
		r.t.Errorf("%s was killed: exit status %d\n%s", victim, code, r.transcript())
	}
	if took := time.Since(start); took > mostGone {
		r.t.Errorf("%s was killed: it took %v to end", victim, took)
	}
	r.gone()
}

// message checks that the errors have one clear message of one to three lines.
func (r *run) message(about string) {
	r.t.Helper()
	var said []string
	for line := range strings.Lines(r.err()) {
		if strings.HasPrefix(line, "weft:") {
			said = append(said, line)
		}
	}
	if len(said) == 0 || len(said) > 3 || strings.Contains(r.err(), "panic") || strings.Contains(r.err(), "goroutine ") {
		r.t.Errorf("%s: want one clear message of one to three lines\n%s", about, r.transcript())
	}
}

func TestKillDuringBuild(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		for _, victim := range victims {
			t.Run(victim, func(t *testing.T) {
				for i, after := range moments(u) {
					t.Run(fmt.Sprint(after), func(t *testing.T) {
						t.Parallel()
						topo := "tree,2,6"
						if i == 1 {
							topo = "tree,2,16"
						}
						r := start(t, launch{user: u, args: []string{"--topo", topo, "--test", "pingpair"}})
						time.Sleep(after)
						r.kill(victim)
						r.afterKill(victim, true)
					})
				}
			})
		}
	})
}

// moments are times after the start, spread over a build. One that comes too late for a
// build finds the test or the end.
func moments(u user) []time.Duration {
	list := []time.Duration{0, 3, 8, 20, 45, 100, 200, 400}
	if testing.Short() || !u.root() {
		list = []time.Duration{1, 12, 60, 250}
	}
	for i := range list {
		list[i] *= time.Millisecond
	}
	return list
}

func TestKillInUse(t *testing.T) {
	need(t, "ovs-testcontroller")
	for _, victim := range victims[:3] {
		t.Run(victim, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "single,2",
					"--controller", "cmd:sleep 1000 & exec ovs-testcontroller --unixctl=none -O OpenFlow13 ptcp:{port}"}})
				r.ready()
				r.ask("h1 sleep 1000 &")
				r.ask("h2 setsid sleep 1000 &")
				r.note()
				has(t, r.ask("pingall"), "2 of 2 received")
				r.kill(victim)
				r.afterKill(victim, false)
			})
		})
	}
}

func TestKillAtTheEnd(t *testing.T) {
	for _, victim := range victims {
		t.Run(victim, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				for _, after := range []time.Duration{0, 5 * time.Millisecond, 30 * time.Millisecond} {
					r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "tree,2,3"}})
					r.ready()
					r.ask("h1 sleep 1000 &")
					r.say("exit")
					time.Sleep(after)
					r.kill(victim)
					r.afterKill(victim, true)
				}
			})
		})
	}
}

// TestRestart kills a daemon of Open vSwitch in use.
func TestRestart(t *testing.T) {
	for _, victim := range victims[3:] {
		t.Run(victim, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "ring,3"}})
				r.ready()
				has(t, r.ask("pingall"), "6 of 6 received")
				first, _ := r.find(victim)
				r.kill(victim)
				r.expect(victim + " ended")
				if p, ok := r.find(victim); !ok || p.pid == first.pid {
					t.Errorf("%s does not run again", victim)
				}
				if !until(mostReady, func() bool { return strings.Contains(r.ask("pingall"), "6 of 6 received") }) {
					t.Errorf("no ping after %s was killed\n%s", victim, r.transcript())
				}
				// Changes still work.
				r.ask("add host h9")
				r.ask("add link h9 s1")
				if !until(mostReady, func() bool { return strings.Contains(r.ask("ping h9 h3"), "1 of 1 received") }) {
					t.Errorf("no ping from a new host after %s was killed\n%s", victim, r.transcript())
				}
				r.in.Close()
				r.wait()
				r.gone()
			})
		})
		t.Run(victim+" for good", func(t *testing.T) {
			t.Parallel()
			r := start(t, launch{user: ordinary(), prompt: true, args: []string{"--topo", "single,2"}})
			r.ready()
			last := 0
			down := until(mostReady, func() bool {
				if p, ok := r.find(victim); ok && p.pid != last {
					last = p.pid
					syscall.Kill(p.pid, syscall.SIGKILL)
				}
				return strings.Contains(r.err(), "stays down")
			})
			if !down {
				t.Fatalf("%s was killed again and again, and nothing said so\n%s", victim, r.transcript())
			}
			has(t, r.ask("add switch s9"), victim, "died")
			r.finish(1)
		})
	}
}
