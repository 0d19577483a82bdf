package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// place writes files into a new directory that the user owns, and returns it.
func place(t *testing.T, u user, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.dir, "experiment-")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, u.uid, u.gid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An outcome is what a test wants to know of result.json.
type outcome struct {
	Status   string
	Totals   struct{ Checks, Passed, Skipped int }
	Fidelity struct {
		Verdict string
		Reasons []struct{ Text string }
	}
	Trials []struct {
		Status string
		Files  []string
		Steps  []struct{ Name, Status, Message string }
	}
}

// results reads what an experiment has written, and wants all of its files.
func results(t *testing.T, dir string) (o outcome) {
	t.Helper()
	for _, name := range []string{"junit.xml", "report.html", "result.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if name == "result.json" {
			if err := json.Unmarshal(text, &o); err != nil {
				t.Error(err)
			}
		}
	}
	return o
}

// TestTopologies carries out the experiments that users copy: as an ordinary user those that
// do not take long.
func TestTopologies(t *testing.T) {
	files, err := filepath.Glob("../topologies/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no topologies: %v", err)
	}
	eachUser(t, func(t *testing.T, u user) {
		texts := map[string]string{}
		var experiments []string
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				continue // a directory
			}
			name := filepath.Base(f)
			texts[name] = string(text)
			if filepath.Ext(f) == ".yaml" && strings.Contains(string(text), "\nsteps:") {
				experiments = append(experiments, name)
			}
		}
		if len(experiments) < 5 {
			t.Fatalf("only %d experiments", len(experiments))
		}
		dir := place(t, u, texts)
		for _, name := range experiments {
			if !u.root() && (name == "dumbbell.yaml" || name == "ring-failure.yaml") {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				out := filepath.Join(dir, "results of "+name)
				r := start(t, launch{user: u, args: []string{"run", filepath.Join(dir, name), "--out", out}})
				if code := r.wait(); code != 0 {
					t.Errorf("exit status %d", code)
				}
				if o := results(t, out); o.Status != "passed" || o.Totals.Checks == 0 || o.Fidelity.Verdict == "unknown" {
					t.Errorf("%+v", o)
				}
			})
		}
	})
}

// TestStranger holds that the file of an experiment writes to its results alone.
func TestStranger(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"x.yaml": `
topology: single,2
steps:
  - exec: h1 touch DIR/stolen
    expect: {exit: 1, errors: contains Read-only}
  - exec: s1 touch DIR/stolen
    expect: {exit: 1, errors: contains Read-only}
  - exec: h1 mount -o remount,rw /
    expect: {exit: not 0}
  - exec: h1 unshare -Urm sh -c 'mount -o remount,rw / && touch DIR/stolen'
    expect: {exit: not 0}
  - exec: h1 ls -A /run
    expect: {output: does not contain weft}
  - exec: h1 mknod /tmp/disk b 8 0
    expect: {exit: not 0}
  - exec: h1 cat DIR/x.yaml
    expect: {output: contains single}
  - exec: h1 echo mine > $WEFT_RESULTS/note; ln -s DIR/result.json $WEFT_RESULTS/link
  - exec: s1 ovs-ofctl show s1
  - exec: h1 sysctl -w net.ipv4.ip_forward=1
  - pingall: all
`})
		path := filepath.Join(dir, "x.yaml")
		text, _ := os.ReadFile(path)
		os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "DIR", dir)), 0o644)
		out := filepath.Join(dir, "out")
		r := start(t, launch{user: u, args: []string{"run", path, "--out", out}})
		if code := r.wait(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		if note, _ := os.ReadFile(filepath.Join(out, "files", "note")); string(note) != "mine\n" {
			t.Errorf("files/note has %q", note)
		}
		results(t, out)
		if _, err := os.Lstat(filepath.Join(dir, "stolen")); err == nil {
			t.Error("a stranger's command wrote beside the results")
		}
		// What is allowed works.
		os.WriteFile(path, []byte("topology: single,2\nsteps:\n  - exec: h1 touch "+dir+"/allowed\n"), 0o644)
		if code := start(t, launch{user: u, args: []string{"run", path, "--allow", "--out", filepath.Join(dir, "out2")}}).wait(); code != 0 {
			t.Errorf("--allow: exit status %d", code)
		}
		if _, err := os.Lstat(filepath.Join(dir, "allowed")); err != nil {
			t.Error(err)
		}
	})
}

// TestScriptNFs changes NFs by the methods of a script's node.
func TestScriptNFs(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"x.star": `
nf1 = net.addDPDK('nf1', ['bridge'])
link(host('h1'), nf1)
link(nf1, host('h2'))
net.start()
started = nf1.startNF({'name': 'monitor', 'service': 2, 'instances': 2})
check('two started', len(started) == 2)
nf1.setChain('default', ['monitor', 'bridge'])
nf1.addFlow('arp,actions=chain:default')
ping('h1', 'h2')
check('the monitors saw the pings', sum([f['received'] for f in nf1.nfs() if f['name'] == 'monitor']) > 0)
check('so did the flow', nf1.nfState()['flows'][0]['match'] == 'arp')
check('an NF answers', 'talker' in nf1.tellNF('monitor', 'top'))
nf1.deleteFlows()
nf1.setChain('default', 'bridge')
nf1.scaleNF('monitor', 1)
nf1.stopNF('monitor')
check('one is left', [f['name'] for f in nf1.nfs()] == ['bridge'])
ping('h1', 'h2')
nf1.stopNF('nat')
`})
		r := start(t, launch{user: u, args: []string{"run", filepath.Join(dir, "x.star"), "--out", filepath.Join(dir, "out")}})
		if code := r.wait(); code != 3 || !strings.Contains(r.out()+r.err(), `stopNF: there is no NF or service "nat"`) {
			t.Errorf("exit status %d", code)
		}
		if o := results(t, filepath.Join(dir, "out")); o.Totals.Passed != 7 || o.Totals.Checks != 7 {
			t.Errorf("%+v", o)
		}
	})
}

// TestExitStatus holds what the end of weft run means.
func TestExitStatus(t *testing.T) {
	u := ordinary()
	const head = "topology: single,2\nsteps:\n"
	const nfHead = "topology: {hosts: h1 h2, dpdk: {nf1: bridge}, links: [h1 -- nf1, nf1 -- h2]}\nsteps:\n"
	for name, c := range map[string]struct {
		file string
		code int
		says string
	}{
		"a check fails":       {head + "  - ping: h1 -> h2\n    expect: {received: 0}\n  - ping: h1 -> h2\n", 1, "received is 3, expected 0"},
		"the file is wrong":   {head + "  - ping: h1 -> h9\n", 2, "there is no host"},
		"an action fails":     {head + "  - exec: h1 exit 7\n  - ping: h1 -> h2\n", 3, "exit is 7, expected 0"},
		"it may fail":         {head + "  - exec: h1 exit 7\n    may_fail: true\n  - ping: h1 -> h2\n", 0, "pass"},
		"no controller":       {"topology: {topo: \"single,2\", controllers: [{name: c0, kind: remote, port: 1}]}\nconnect: 1s\nsteps: [{ping: h1 -> h2}]\n", 3, "is not connected to c0"},
		"it takes too long":   {"timeout: 1s\n" + head + "  - wait: 1m\n", 3, "the trial took longer than 1 s"},
		"a required check":    {head + "  - ping: h1 -> h2\n    expect: {received: 0}\n    required: true\n  - ping: h1 -> h2\n", 1, "skip"},
		"a service not ready": {head + "  - start: {as: x, on: h1, command: sleep 100, ready: {tcp: 80}, wait: 300ms}\n", 3, "nothing listens at tcp port 80"},
		"an NF counts other":  {nfHead + "  - ping: h1 -> h2\n  - nfstats: nf1 bridge\n    expect: {dropped: at least 1}\n", 1, "dropped is 0, expected at least 1"},
		"an NF does not know": {nfHead + "  - nfstats: {node: nf1, nf: bridge, counter: clouds}\n", 3, `no counter "clouds"`},
		"a command's own":     {"topology: {topo: \"single,2\", controllers: [{name: c0, kind: cmd, command: touch stolen}]}\nsteps: [{ping: h1 -> h2}]\n", 2, "--allow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := place(t, u, map[string]string{"x.yaml": c.file})
			r := start(t, launch{user: u, args: []string{"run", filepath.Join(dir, "x.yaml"), "--out", filepath.Join(dir, "out")}})
			if code := r.wait(); code != c.code || !strings.Contains(r.out()+r.err(), c.says) {
				t.Errorf("exit status %d, want %d and %q", code, c.code, c.says)
			}
			if c.code != 2 {
				results(t, filepath.Join(dir, "out"))
			} else if _, err := os.Lstat(filepath.Join(dir, "out")); err == nil {
				t.Error("a wrong file has results")
			}
		})
	}
}

// TestRunInterrupted ends an experiment in its midst.
func TestRunInterrupted(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"x.yaml": "topology: single,2\nsteps:\n  - ping: h1 -> h2\n  - exec: h1 sleep 1000\n    timeout: 1h\n  - ping: h2 -> h1\n"})
		out := filepath.Join(dir, "out")
		r := start(t, launch{user: u, args: []string{"run", filepath.Join(dir, "x.yaml"), "--out", out}})
		if !until(mostReady, func() bool { return strings.Contains(r.err(), "pass") }) {
			r.hang("the first ping")
		}
		r.cmd.Process.Signal(syscall.SIGINT)
		if code := r.wait(); code != 128+int(syscall.SIGINT) {
			t.Errorf("exit status %d", code)
		}
		o := results(t, out)
		if o.Status != "interrupted" || o.Totals.Passed != 1 || o.Totals.Skipped != 1 {
			t.Errorf("%+v", o)
		}
	})
}

// TestFidelity stops the engine for a moment: what it measured then is not the network's doing.
func TestFidelity(t *testing.T) {
	u := ordinary()
	dir := place(t, u, map[string]string{"x.yaml": "topology: single,2\nsteps:\n  - ping: h1 -> h2\n  - wait: 3s\n"})
	out := filepath.Join(dir, "out")
	r := start(t, launch{user: u, args: []string{"run", filepath.Join(dir, "x.yaml"), "--strict", "--out", out}})
	if !until(mostReady, func() bool { return strings.Contains(r.err(), "pass") }) {
		r.hang("the first ping")
	}
	stopped := 0
	for _, p := range marked(r.mark) {
		if strings.Contains(p.String(), "weft-engine") {
			syscall.Kill(p.pid, syscall.SIGSTOP)
			time.Sleep(400 * time.Millisecond)
			syscall.Kill(p.pid, syscall.SIGCONT)
			stopped++
		}
	}
	if stopped != 1 {
		t.Fatalf("%d engines", stopped)
	}
	if code := r.wait(); code != 1 {
		t.Errorf("exit status %d: --strict accepts a machine that stood still", code)
	}
	o := results(t, out)
	var reasons []string
	for _, reason := range o.Fidelity.Reasons {
		reasons = append(reasons, reason.Text)
	}
	if o.Status != "failed" || o.Fidelity.Verdict != "degraded" || !strings.Contains(strings.Join(reasons, "; "), "a thread that slept woke up to") {
		t.Errorf("%+v", o.Fidelity)
	}
}
