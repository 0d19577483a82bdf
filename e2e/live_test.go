package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// up brings up a network that lives on, and ends it with the test. Commands on it are r.also.
func up(t *testing.T, u user, args ...string) *run {
	t.Helper()
	return upWith(t, u, nil, args...)
}

// upWith is up with an environment that has more.
func upWith(t *testing.T, u user, env []string, args ...string) *run {
	t.Helper()
	r := tryUp(t, u, env, args...)
	if code := r.wait(); code != 0 {
		t.Fatalf("up: exit status %d\n%s", code, r.transcript())
	}
	t.Cleanup(func() {
		if len(marked(r.mark)) > 0 {
			r.also(0, "down")
		}
		r.gone()
	})
	return r
}

// tryUp is up that may fail.
func tryUp(t *testing.T, u user, env []string, args ...string) *run {
	t.Helper()
	name := "lab"
	if u.root() { // who all share a directory
		shared.mu.Lock()
		name = fmt.Sprintf("live%d", shared.runs+1)
		shared.mu.Unlock()
		name += strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return -1
		}, t.Name())
		name = name[:min(len(name), 40)]
	}
	r := start(t, launch{user: u, env: env, args: append([]string{"up", "--name", name}, args...)})
	if u.root() {
		r.network = name
	}
	return r
}

// exec starts a program on a node; wrap runs weft.
func (r *run) exec(wrap []string, words ...string) *run {
	r.t.Helper()
	args := []string{"exec"}
	for i, w := range words { // options and their values come before the network
		if len(w) == 2 && strings.Contains("hs", w[:1]) {
			if r.network != "" {
				args = append(args, r.network)
			}
			args = append(args, words[i:]...)
			break
		}
		args = append(args, w)
	}
	return start(r.t, launch{user: r.user, wrap: wrap, args: args, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir(), "FROM=here"}})
}

func TestLivesOn(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := up(t, u, "--topo", "linear,2")
		name := strings.TrimSpace(r.out())
		if name == "" || r.network != "" && name != r.network {
			t.Errorf("up printed %q", r.out())
		}
		var list []struct {
			Name, Phase string
			Nodes       struct{ Hosts []string }
		}
		text := start(t, launch{user: u, args: []string{"ls", "--json"}, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
		text.exits(0)
		if err := json.Unmarshal([]byte(text.out()), &list); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, n := range list {
			found = found || n.Name == name && n.Phase == "running" && len(n.Nodes.Hosts) == 2
		}
		if !found {
			t.Errorf("%s is not in the list:\n%s", name, text.out())
		}
		has(t, r.also(0, "exec", "h1", "--", "ping", "-c1", "-W5", "10.0.0.2"), "1 received")
		attach := start(t, launch{user: u, wrap: []string{"sh", "-c", `echo pingall | "$@"`, "sh"}, args: []string{"attach", name},
			env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
		attach.exits(0)
		has(t, attach.out(), "2 of 2 received")
		has(t, r.also(0, "inspect", "h1", "--format", "{{.Name}} {{.IP}}"), "h1 10.0.0.1/8")
		has(t, r.also(0, "inspect", "s1-s2", "--format", "{{.id}}"), "3")
		has(t, r.also(0, "graph", "--format", "mermaid"), "graph TD", "---")
		has(t, r.also(0, "logs", "ovs-vswitchd"), "bridge s1: added interface")
		r.link(0, "down", "s1-s2")
		portDown := `"kind":"port.down","node":"s1","interface":"s1-eth2"`
		var events string
		until(mostReady, func() bool { // which the switch tells in its own time
			events = r.also(0, "events", "--since", "all", "--no-follow")
			return strings.Contains(events, portDown)
		})
		has(t, events, portDown, `"kind":"network.ready"`, `"kind":"controller.connected"`, `"kind":"process.started","node":"h1"`, `"kind":"link.changed","link":"s2-s1"`)
		if found, ok := r.find("weft-keeper"); !ok {
			t.Error("no keeper")
		} else if sid, _ := syscallSession(found.pid); sid != found.pid {
			t.Errorf("the keeper %d is in session %d, which ends with its terminal", found.pid, sid)
		}
		r.also(0, "down")
		r.gone()
		start(t, launch{user: u, args: []string{"down", name}, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}}).exits(2)
	})
}

// syscallSession returns the session that a process is in.
func syscallSession(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	var state string
	var ppid, pgrp, session int
	_, err = fmt.Sscan(rest, &state, &ppid, &pgrp, &session)
	return session, err
}

func TestExec(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := up(t, u, "--topo", "single,2")
		plain := filepath.Join(r.dir, "plain")
		if err := os.WriteFile(plain, []byte("no program"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			status int
			words  []string
			out    string
			err    string
		}{
			{0, []string{"h1", "--", "echo", "--", "-n"}, "-- -n\n", ""},
			{7, []string{"h1", "sh", "-c", "echo out; echo err >&2; exit 7"}, "out\n", "err\n"},
			{127, []string{"h1", "--", "no-such-program"}, "", "h1: no-such-program: command not found"},
			{126, []string{"h1", "--", plain}, "", "permission denied"},
			{125, []string{"h9", "--", "true"}, "", `no node is called "h9"`},
			{125, []string{"--no-such-option", "h1", "true"}, "", "there is no option"},
			{143, []string{"h1", "sh", "-c", "kill $$"}, "", ""},
			{124, []string{"--timeout", "0.3", "h1", "sleep", "1000"}, "", "ended after"},
			{0, []string{"-e", "A=1", "-e", "FROM", "h1", "sh", "-c", "echo $A $FROM $WEFT_NETWORK"}, "1 here " + strings.TrimSpace(r.out()) + "\n", ""},
			{0, []string{"-w", "/usr", "h1", "pwd"}, "/usr\n", ""},
			{126, []string{"-w", "/no/such", "h1", "pwd"}, "", "working directory"},
			{0, []string{"h2", "hostname"}, "h2\n", ""},
			{0, []string{"s1", "ovs-vsctl", "list-br"}, "s1\n", ""},
			{0, []string{"-n", "h1", "cat"}, "", ""},
		} {
			e := r.exec(nil, c.words...)
			e.exits(c.status)
			if e.out() != c.out || !strings.Contains(e.err(), c.err) || c.err == "" && e.err() != "" {
				t.Errorf("%v: output %q, errors %q", c.words, e.out(), e.err())
			}
		}
		// What is large passes whole, in and out.
		e := r.exec([]string{"sh", "-c", `head -c 30000000 /dev/zero | "$@" | wc -c`, "sh"}, "h1", "cat")
		e.exits(0)
		if strings.TrimSpace(e.out()) != "30000000" {
			t.Errorf("of 30,000,000 bytes came %s", e.out())
		}
		// A signal, and the end of weft, end the program.
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
			e := r.exec(nil, "h1", "sleep", "4711")
			sleeping := func() bool { return strings.Contains(r.also(0, "exec", "h1", "ps", "-eo", "args"), "sleep 4711") }
			if !until(mostReady, sleeping) {
				t.Fatal("the program does not run")
			}
			syscall.Kill(e.cmd.Process.Pid, sig)
			want := 128 + int(sig)
			if sig == syscall.SIGKILL {
				want = -int(sig)
			}
			if code := e.wait(); code != want {
				t.Errorf("%v: exit status %d, want %d", sig, code, want)
			}
			if !until(mostGone, func() bool { return !sleeping() }) {
				t.Errorf("%v: the program goes on", sig)
			}
		}
	})
}

// A terminal is the program's own: it has job control and the window's size.
func TestExecTerminal(t *testing.T) {
	r := up(t, ordinary(), "--topo", "single,2")
	s := onScreen(t, launch{user: r.user, args: []string{"exec", "h1", "--", "bash", "--norc"}, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
	s.sees("bash")
	s.types("echo on $(hostname) at $(tty | cut -c1-9) $-\n")
	s.sees("on h1 at /dev/pts/ ")
	s.types("sleep 1000\n")
	s.running("sleep 1000")
	s.types("\x03")
	s.types("echo interrupted $?\n")
	s.sees("interrupted 130")
	s.types("exit 9\n")
	if code := s.wait(); code != 9 {
		t.Errorf("exit status %d", code)
	}
}

func TestUpFails(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		t.Run("no controller", func(t *testing.T) {
			r := tryUp(t, u, nil, "--topo", "single,2", "--controller", "tcp:127.0.0.1:1", "-t", "0.5")
			r.exits(1)
			has(t, r.err(), "s1 is not connected to c0", "refused", "taken down")
		})
		t.Run("no program", func(t *testing.T) {
			r := tryUp(t, u, nil, "--topo", "single,2", "--controller", "cmd:exit 3")
			r.exits(1)
			has(t, r.err(), "controller c0")
		})
		t.Run("name taken", func(t *testing.T) {
			r := up(t, u, "--topo", "single,2")
			second := start(t, launch{user: u, args: []string{"up", "--name", strings.TrimSpace(r.out())}, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
			second.exits(1)
			has(t, second.err(), "running already")
			has(t, r.also(0, "exec", "h1", "hostname"), "h1")
		})
		t.Run("bad name", func(t *testing.T) {
			r := start(t, launch{user: u, args: []string{"up", "--name", "a/../b"}})
			r.exits(2)
		})
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
			t.Run(sig.String(), func(t *testing.T) {
				for _, after := range []time.Duration{0, 30 * time.Millisecond, 150 * time.Millisecond} {
					r := tryUp(t, u, nil, "--topo", "tree,2,12", "--controller", "tcp:127.0.0.1:1")
					time.Sleep(after)
					syscall.Kill(r.cmd.Process.Pid, sig)
					if code := r.wait(); code != 128+int(sig) && code != -int(sig) {
						t.Errorf("exit status %d", code)
					}
					r.gone()
				}
			})
		}
	})
}

// With a keeper, or any other of its processes, ends the network.
func TestKillKeeper(t *testing.T) {
	for _, victim := range []string{"weft-keeper", "weft-init", "weft-engine"} {
		t.Run(victim, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				r := up(t, u, "--topo", "single,2", "--controller", "cmd:exec ovs-testcontroller --unixctl=none ptcp:{port}")
				sleeper := r.exec(nil, "h1", "sleep", "1000")
				if !until(mostReady, func() bool { return strings.Contains(r.also(0, "exec", "h1", "ps", "-eo", "args"), "sleep 1000") }) {
					t.Fatal("no program runs")
				}
				r.kill(victim)
				r.gone()
				if code := sleeper.wait(); code != 125 {
					t.Errorf("exec of a network that is gone: exit status %d\n%s", code, sleeper.err())
				}
			})
		})
	}
}

// spec writes a description in JSON that has links with these options between s1 and s2, and
// hosts h1 … hN at s1.
func spec(t *testing.T, u user, hosts int, options string) string {
	t.Helper()
	type m = map[string]any
	var nodes, links []any
	for i := range hosts {
		name := fmt.Sprintf("h%d", i+1)
		nodes = append(nodes, m{"name": name})
		links = append(links, m{"a": m{"node": name}, "b": m{"node": "s1"}})
	}
	middle := m{"a": m{"node": "s1"}, "b": m{"node": "s2"}}
	if options != "" {
		middle["ab"], middle["ba"] = m{"delay": options}, m{"delay": options}
	}
	b, err := json.Marshal(m{"hosts": nodes, "switches": []any{m{"name": "s1"}, m{"name": "s2"}},
		"controllers": []any{m{"name": "c0", "kind": "builtin"}}, "links": append(links, middle)})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(place(t, u, map[string]string{"net.json": string(b)}), "net.json")
}

// What a change does not touch loses no packet.
func TestApply(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		small, large := spec(t, u, 3, ""), spec(t, u, 5, "")
		r := up(t, u, small)
		apply := func(file string, words ...string) string {
			args := append([]string{"apply", file}, words...)
			if r.network != "" {
				args = append(args, r.network)
			}
			a := start(t, launch{user: u, args: args, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
			a.exits(0)
			return a.out()
		}
		if out := apply(small); out != "nothing to change\n" {
			t.Errorf("the same once more: %s", out)
		}
		has(t, r.also(0, "exec", "h1", "--", "ping", "-c1", "-W5", "10.0.0.2"), "1 received")
		flood := r.exec(nil, "h1", "--", "ping", "-q", "-i", "0.005", "-c", "600", "10.0.0.2")
		want := "+ host h4 10.0.0.4/8\n+ host h5 10.0.0.5/8\n+ link h4-eth0 - s1-eth5\n+ link h5-eth0 - s1-eth6\n4 to add\n"
		if out := apply(large, "--dry-run"); out != want {
			t.Errorf("dry run: %s", out)
		}
		for range 2 {
			if out := apply(large); out != want {
				t.Errorf("apply: %s", out)
			}
			has(t, r.also(0, "exec", "h4", "--", "ping", "-c1", "-W5", "10.0.0.1"), "1 received")
			has(t, apply(small), "- host h4", "4 to remove")
		}
		flood.exits(0)
		has(t, flood.out(), "600 packets transmitted, 600 received, 0% packet loss")
		has(t, apply(spec(t, u, 3, ""), "--dry-run"), "nothing to change")
	})
}

// Twenty networks live at once, and end at once.
func TestManyLive(t *testing.T) {
	t.Parallel()
	u := ordinary()
	first := tryUp(t, u, nil, "--topo", "single,2")
	if first.wait() != 0 {
		t.Fatal(first.transcript())
	}
	env := []string{"XDG_RUNTIME_DIR=" + first.runtimeDir()}
	var all []*run
	for i := range 19 {
		all = append(all, start(t, launch{user: u, env: env, args: []string{"up", "-q", "--topo", "single,2", "--name", fmt.Sprintf("n%d", i)}}))
	}
	for _, r := range all {
		if r.wait() != 0 {
			t.Fatal(r.transcript())
		}
	}
	for i := range 19 {
		e := start(t, launch{user: u, env: env, args: []string{"exec", fmt.Sprintf("n%d", i), "h1", "--", "ping", "-c1", "-W5", "10.0.0.2"}})
		e.exits(0)
	}
	start(t, launch{user: u, env: env, args: []string{"down", "--all"}}).exits(0)
	first.gone()
	for _, r := range all {
		r.gone()
	}
}
