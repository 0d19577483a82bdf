package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// samples copies the sample files to where all users can read them.
func samples(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "topologies")
	if err := os.CopyFS(dir, os.DirFS("../topologies")); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// canImpair reports whether a user can have links that weft carries itself.
func canImpair(u user) bool {
	st, err := os.Stat("/dev/net/tun")
	return err == nil && (u.root() || st.Mode()&0o006 == 0o006)
}

// What Mininet's users type after py and px, on a real network.
func TestScriptAtThePrompt(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "single,2"}})
		r.ready()
		has(t, r.ask("py h1.IP(), [h.name for h in net.hosts], s1.connectionsTo(h2)"), "('10.0.0.1', ['h1', 'h2'], [(<Intf s1-eth2>, <Intf h2-eth0>)])")
		has(t, r.ask("py h1.cmd('ping -c 1', h2.IP())"), "1 received")
		has(t, r.ask("py h1.pexec('echo out; echo err >&2; exit 3')"), `('out\n', 'err\n', 3)`)
		r.ask("px h3 = net.addHost('h3'); l = net.addLink(s1, h3)")
		has(t, r.ask("py net.pingAll()"), "h3 -> h1 h2", "6 of 6 received", "0.0")
		has(t, r.ask("py h3.intf().mac == h3.MAC(), h3.cmd('cat /sys/class/net/h3-eth0/address').strip() == h3.MAC()"), "(True, True)")
		if canImpair(u) {
			r.ask("px l.config(delay='150ms')")
			has(t, r.ask("py net.pingFull([h1, h3])[0][2][3] > 290"), "True")
		}
		r.ask("px h3.setIP('10.0.0.33/8')")
		has(t, r.ask("py h3.IP(), net.ping([h1, h3]) # its plan's address is gone"), "10.0.0.33")
		r.ask("px net.configLinkStatus('s1', 'h2', 'down')")
		has(t, r.ask("py h2.intf().isUp()"), "False")
		r.ask("px net.delHost('h3')")
		has(t, r.ask("py [h.name for h in net.hosts]"), "['h1', 'h2']")
		r.ask("px h1.sendCmd('sleep 0.2; echo later')")
		has(t, r.ask("py h1.waitOutput()"), "later")
		has(t, r.ask("py s1.dpctl('dump-ports', 's1')"), "port")
		has(t, r.ask("py 1 / 0"), "division by zero")
		r.finish(1)
	})
}

// A script that describes a network, acts on it and checks, from load to the results.
func TestScriptedExperiment(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"lib.star": "def star(n):\n    s = switch('s1')\n    for i in range(n):\n        link(host('h%d' % (i + 1)), s)\n    return s\n",
		"exp.star": `# An experiment.
load("lib.star", "star")
n = param("n", 2, "hosts", min=2)
fail_at = param("fail", "", "what goes wrong", choices=["", "check", "error", "step", "parallel"])
impair = param("impair", False, "links")
s1 = star(n)
h1, h2 = net.hosts[0], net.hosts[1]
early = s1.links[0]

net.start()

check("links of the description are those of the network", early.intf1.name == "h1-eth0" and early.node2 == s1)
r = ping(h1, h2, count=2, expect={"received": 2}, points=3)
check("results have values", r and r.received == 2 and r.rtt > 0)
check("Mininet's way", net.pingAll() == 0)

order = []
def slow():
    for _ in range(600):
        if order:
            break
        wait(0.1)
    order.append("slow")
    return 1
def fast():
    order.append("fast")
    return exec(h2, "echo hi").output
check("parallel returns what its functions do", parallel(slow, fast) == [1, "hi\n"] and order == ["fast", "slow"])
at(0, lambda: order.append("at"))
check("what happens beside is waited for", lambda: "at" in order, within=10)

if impair:
    link("h1-s1 delay=100ms")
    check("a link changes", ping(h1, h2).rtt_min > 0.19)
h9 = net.addHost("h9")
net.addLink(h9, s1)
ping(h2, h9, name="a host comes")

if fail_at == "check":
    check("never", False, points=5)
elif fail_at == "error":
    h1.cmdd("x")
elif fail_at == "step":
    exec(h1, "exit 7")
elif fail_at == "parallel":
    parallel(lambda: wait(50), lambda: fail("one of them"))
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	exp := filepath.Join(dir, "exp.star")
	eachUser(t, func(t *testing.T, u user) {
		words, want := []string{"run", exp, "n=3"}, "7 of 7 checks, 9 of 9 points"
		if canImpair(u) {
			words, want = append(words, "impair=true"), "9 of 9 checks, 11 of 11 points"
		}
		has(t, weft(t, u, 0, words...), want)
	})
	for fail, c := range map[string]struct {
		status int
		want   string
	}{
		"check":    {1, "never"},
		"error":    {3, "host has no .cmdd field or method (did you mean .cmd?)"},
		"step":     {3, "exit is 7, expected 0"},
		"parallel": {3, ":44: one of them"},
		"nonsense": {2, "the parameter fail is nonsense; write one of"},
	} {
		t.Run(fail, func(t *testing.T) {
			t.Parallel()
			has(t, weft(t, ordinary(), c.status, "run", exp, "fail="+fail), c.want)
		})
	}
}

// The samples do what they say.
func TestScriptedSamples(t *testing.T) {
	need(t, "python3")
	dir := samples(t)
	for line, want := range map[string]string{
		"flow-exercise.star":                      "5 of 5 checks, 10 of 10 points",
		"ring-failure.star --sweep how=down,cut":  "8 of 8 checks",
		"random-failure.star switches=5 degree=2": "all reach all",
		"wan.star rate=50":                        "3 of 3 checks",
	} {
		words := strings.Fields(line)
		t.Run(words[0], func(t *testing.T) {
			t.Parallel()
			u := ordinary()
			if words[0] == "wan.star" && !canImpair(u) {
				needRoot(t)
				u = user{}
			}
			has(t, weft(t, u, 0, append([]string{"run", filepath.Join(dir, words[0])}, words[1:]...)...), want)
		})
	}
}

// What a stranger's script runs writes nowhere but where its results are, whichever way it is run.
func TestScriptIsConfined(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	target := filepath.Join(dir, "written")
	if err := os.Mkdir(target, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(target, 0o777)
	file := filepath.Join(dir, "a.star")
	text := strings.ReplaceAll(`way = param("way", "", "out")
h1, s1 = host("h1"), switch("s1")
link(h1, s1)
h1.run("ip addr add 10.9.9.9/32 dev lo; touch TARGET/run || true")
net.start()
check("commands at the start have run", "10.9.9.9" in h1.cmd("ip -br addr"))
exec(h1, "touch TARGET/exec; true")
h1.cmd("touch TARGET/cmd")
h1.pexec("touch TARGET/pexec")
h1.sendCmd("touch TARGET/send")
h1.waitOutput()
s1.cmd("touch TARGET/switch")
s1.dpctl("show s1; touch TARGET/dpctl")
if way == "config":
    s1.links[0].config(delay="1ms", record="TARGET/config")
elif way == "addLink":
    net.addLink(net.addHost("h2"), s1, delay="1ms", record="TARGET/added")
elif way == "step":
    link("h1-s1 delay=1ms record=TARGET/step")
elif way == "up":
    s1.links[0].config(ab={"delay": "1ms", "record": "../up"})
elif way == "trace":
    s1.links[0].config(trace="/etc/shadow")
`, "TARGET", target)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	eachUser(t, func(t *testing.T, u user) {
		has(t, weft(t, u, 0, "run", file), "passed: 1 of 1 check")
		written, err := os.ReadDir(target)
		if err != nil || len(written) > 0 {
			t.Errorf("it wrote %v, %v", written, err)
		}
	})
	for way, want := range map[string]string{
		"config": "is no file of the results", "addLink": "is no file of the results", "step": "is no file of the results",
		"up": "is no file of the results", "trace": "is not below the script's directory",
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			has(t, weft(t, ordinary(), 3, "run", file, "way="+way), want)
			if written, err := os.ReadDir(target); err != nil || len(written) > 0 {
				t.Errorf("it wrote %v, %v", written, err)
			}
		})
	}
}

// A stranger's script can at worst fail.
func TestHostileScript(t *testing.T) {
	for text, want := range map[string]string{
		"while True:\n    pass\n":                             "does a loop not end?",
		"x = []\nwhile True:\n    x.append('y' * 10000)\n":    "MB of memory",
		"x = 'a' * 100000\ny = x.replace('a', x)\n":           "MB of memory",
		"load('/etc/passwd', 'root')\n":                       "below the script's directory only",
		"host('h1;reboot')\nhost('$(reboot)')\nx = open('x')": "no name open",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
				os.Chmod(d, 0o755)
			}
			file := filepath.Join(dir, "a.star")
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			has(t, weft(t, ordinary(), 2, "up", file), want)
		})
	}
}
