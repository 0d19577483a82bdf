package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weft/topo"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// files writes files into a new directory and returns the path of the first.
func files(t *testing.T, nameAndText ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(nameAndText); i += 2 {
		path := filepath.Join(dir, nameAndText[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(nameAndText[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, nameAndText[0])
}

// topology evaluates a script in its own process.
func topology(t *testing.T, text string, params map[string]string) (topo.Spec, error) {
	t.Helper()
	return Topology(context.Background(), files(t, "a.star", text), params, Options{})
}

func mustTopology(t *testing.T, text string, params map[string]string) topo.Spec {
	t.Helper()
	s, err := topology(t, text, params)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGeneratorIsTheOption(t *testing.T) {
	for script, option := range map[string]string{
		"topo.tree(2, 3)":                           "tree,2,3",
		"topo.tree(fanout=3, depth=2)":              "tree,2,3",
		"net = topo.leafspine(leaves=3)":            "leafspine,3",
		"topo.minimal()":                            "minimal",
		"topo.random(switches=8, seed=4)":           "random,switches=8,seed=4",
		"def f():\n    return topo.fattree(4)\nf()": "fattree,4",
	} {
		want, err := topo.Options{Topo: option}.Spec()
		if err != nil {
			t.Fatal(err)
		}
		if got := mustTopology(t, script, nil); planText(t, got) != planText(t, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", script, planText(t, got), planText(t, want))
		}
	}
}

func planText(t *testing.T, s topo.Spec) string {
	t.Helper()
	p, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return asJSON(t, p)
}

func TestByHand(t *testing.T) {
	s := mustTopology(t, `
h1 = net.addHost('h1', ip='10.0.0.1/24', mac='02:00:00:00:00:01', defaultRoute='via 10.0.0.254', privateDirs=['/var/run'])
h2 = host('h2')
s1 = net.addSwitch('s1', protocols='OpenFlow13', dpid='1f', failMode='standalone')
s2 = switch('s2', driver='ovsbr')
c = net.addController('c7', controller='remote', ip='192.0.2.1', port=6699)
link(h1, s1, bw=10, ab={'delay': '5ms', 'loss': 1.5}, ba={'delay': '7ms'}, port1=2, intfName2='up', params1={'ip6': 'fd00::1/64'})
link('h2', s2, max_queue_size=100, cls=None)
link(s1, s2)
nat(connect=s2, ip='10.0.0.254/24')
net.ipBase = '10.0.0.0/24'
net.autoSetMacs = True
net.seed = 7
net.name = 'lab'
`, nil)
	golden(t, "byhand.json", asJSON(t, s))
}

func TestLoopsFunctionsAndObjects(t *testing.T) {
	s := mustTopology(t, `
def rack(n, size=2):
    s = net.addSwitch('s%d' % n)
    for i in range(size):
        net.addLink(net.addHost('h%dx%d' % (n, i)), s)
    return s

racks = [rack(n) for n in range(1, 4)]
i = 1
while i < len(racks):
    net.addLink(racks[0], racks[i])
    i += 1
for h in net.hosts:
    if h.name.endswith('x1'):
        net.delHost(h)
net.delLinkBetween('s1', 's3')
net.linksBetween('s2', 's1')[0].config(bw=5)
if 'h1x0' not in net or 'h1x1' in net or len(net) != 6:
    fail('%s' % list(net))
if net['s2'] != racks[1] or net.get('s2') != racks[1] or net.links[0].node2 != racks[0]:
    fail('not equal')
`, nil)
	var text []string
	for _, l := range s.Links {
		text = append(text, l.A.Node+"-"+l.B.Node+" "+strings.Join(l.Options(), " "))
	}
	if got, want := strings.Join(text, ", "), "h1x0-s1 , h2x0-s2 , h3x0-s3 , s1-s2 bw=5mbit"; got != want {
		t.Errorf("links %s, want %s", got, want)
	}
}

func TestParams(t *testing.T) {
	const text = `
spines = param('spines', 4, 'number of spines', min=1, max=64)
rate = param('rate', 1.5)
lossy = param('lossy', False, 'lose packets')
mode = param('mode', 'fast', choices=['fast', 'slow'])
name = param('name', str, 'of the first host')
net.addHost('%s-%d-%s-%s-%s' % (name, spines, rate, lossy, mode))
`
	s := mustTopology(t, text, map[string]string{"name": "x", "spines": "7", "lossy": "true", "rate": "2"})
	if got := s.Hosts[0].Name; got != "x-7-2.0-True-fast" {
		t.Errorf("host %s", got)
	}
	for _, c := range []struct {
		params map[string]string
		want   string
	}{
		{map[string]string{}, `a.star:6:13: the parameter name is missing; write name=STRING`},
		{map[string]string{"name": "x", "spines": "four"}, `a.star:2:15: the parameter spines is "four", which is not a whole number`},
		{map[string]string{"name": "x", "spines": "65"}, `a.star:2:15: the parameter spines is 65; write at most 64`},
		{map[string]string{"name": "x", "mode": "quick"}, `a.star:5:13: the parameter mode is quick; write one of fast, slow`},
		{map[string]string{"name": "x", "spine": "4"}, `a.star: there is no parameter "spine"; did you mean spines? (there are: lossy, mode, name, rate, spines)`},
	} {
		_, err := topology(t, text, c.params)
		var errs Errors
		if !errors.As(err, &errs) || !errs.Usage() {
			t.Errorf("%v: %v is not a usage error", c.params, err)
		}
		if got := withoutDir(err); got != c.want {
			t.Errorf("%v: %s\nwant %s", c.params, got, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	path := files(t, "a.star", `#!/usr/bin/env weft
# A network.
#
# Try it.

param('k', 4, 'size')
name = param('name', str, 'of it')
undefined_later = name + 1
`)
	d, err := Describe(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Doc != "A network.\n\nTry it." || len(d.Params) != 2 || d.Params[0].Default != "4" || !d.Params[1].Required {
		t.Errorf("%+v", d)
	}
}

func TestLoad(t *testing.T) {
	path := files(t,
		"a.star", "load('lib/rack.star', 'rack', two='N')\nrack(two)\n",
		"lib/rack.star", "load('sub/n.star', 'N')\nprint('loaded')\ndef rack(n):\n    for i in range(n):\n        host('h%d' % i)\n",
		"lib/sub/n.star", "N = 2\n")
	// What one file loads is its own.
	_, err := Topology(context.Background(), path, nil, Options{})
	if got := withoutDir(err); !strings.Contains(got, "N") {
		t.Errorf("%s", got)
	}
	if err := os.WriteFile(path, []byte("load('lib/rack.star', 'rack')\nload('lib/sub/n.star', 'N')\nrack(N)\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s, err := Topology(context.Background(), path, nil, Options{Print: &out})
	if err != nil || len(s.Hosts) != 2 || out.String() != "loaded\n" {
		t.Errorf("%d hosts, %q, %v", len(s.Hosts), out.String(), err)
	}
}

func TestLoadOutside(t *testing.T) {
	path := files(t, "sub/a.star", "load('../lib.star', 'f')\nf()\n", "lib.star", "def f():\n    host('h1')\n")
	_, err := Topology(context.Background(), path, nil, Options{})
	if got, want := withoutDir(err), "a.star:1:1: cannot load ../lib.star: load reads files below the script's directory only; copy the file there, or allow it by --allow"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if s, err := Topology(context.Background(), path, nil, Options{Outside: true}); err != nil || len(s.Hosts) != 1 {
		t.Errorf("%d hosts, %v", len(s.Hosts), err)
	}
	// Nor through a link.
	if err := os.Symlink("../lib.star", filepath.Join(filepath.Dir(path), "in.star")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("load('in.star', 'f')\nf()\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Topology(context.Background(), path, nil, Options{})
	if got, want := withoutDir(err), "a.star:1:1: cannot load in.star: the path leads out of the script's directory; copy the file there, or allow it by --allow"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// withoutDir leaves the temporary directories out of an error.
func withoutDir(err error) string {
	if err == nil {
		return ""
	}
	words := strings.Split(err.Error(), " ")
	for i, w := range words {
		if j := strings.LastIndex(w, "\n"); strings.Contains(w[j+1:], "/Test") {
			words[i] = w[:j+1] + filepath.Base(w)
		} else if strings.HasPrefix(w, "/") && strings.Contains(w, ".star") {
			words[i] = filepath.Base(w)
		}
	}
	return strings.Join(words, " ")
}

// Whatever a script does, Topology ends soon with an error.
func TestLimits(t *testing.T) {
	small := Limits{Steps: 3_000_000, Time: time.Minute, Memory: 64e6}
	for name, c := range map[string]struct{ text, want string }{
		"for ever":      {"while True:\n    pass\n", "a.star:1:1: the script takes more than 3000000 steps; does a loop not end?"},
		"recursion":     {"def f(n):\n    return f(n + 1)\nf(0)\n", "a.star:2:13: function f calls itself, which Starlark does not allow; write a loop"},
		"doubling":      {"x = 'a' * 1000\nfor i in range(99):\n    x = x + x\n", "a.star:3:11: the result would have 32768000 bytes; at most 16777216 are possible"},
		"doubling +=":   {"x = [0] * (1 << 20)\nfor i in range(99):\n    x += x\n", "a.star:3:7: the result would have 2097152 elements; at most 1048576 are possible"},
		"repeat text":   {"x = 'a' * (1 << 40)\n", "a.star:1:9: the result would have 1099511627776 bytes; at most 16777216 are possible"},
		"repeat list":   {"x = 2000000 * [0]\n", "a.star:1:13: the result would have 2000000 elements; at most 1048576 are possible"},
		"long range":    {"x = [i for i in range(1 << 40)]\n", "a.star:1:22: range: 1099511627776 numbers are too many; at most 1048576 are made"},
		"large number":  {"x = 3\nwhile True:\n    x = x * x\n", "a.star:3:11: the product would be a number of 103874 bits; at most 65536 are possible"},
		"growing list":  {"x = []\nwhile True:\n    x.append('y' * 1000)\n", "the script uses more than 64 MB of memory"},
		"extending":     {"x = [1] * 1000\nfor i in range(40):\n    x.extend(x)\n", "the script uses more than 64 MB of memory"},
		"replace":       {"x = 'a' * 100000\ny = x.replace('a', x)\ny = y.replace('a', x)\n", "the script uses more than 64 MB of memory"},
		"text of a DAG": {"x = [1]\nfor i in range(60):\n    x = [x, x]\ny = str(x)\n", "the script uses more than 8 MB of memory"},
		"equal DAGs":    {"def f(i):\n    x = []\n    for j in range(9):\n        x = [x] * 1000\n    return x\nb = f(1) == f(2)\n", "takes longer than 300ms"},
		"parentheses":   {strings.Repeat("(", 1<<19), "a.star:1:201: the source is nested too deeply; use functions or variables for its parts"},
		"minus":         {"x = " + strings.Repeat("-", 1<<19) + "1", "a.star:1:10002: the source is nested too deeply; use functions or variables for its parts"},
		"deep values":   {"x = ()\nfor i in range(250000):\n    x = (x,)\ny = str(x)\n", "a.star"},
		"printing":      {"while True:\n    print('x' * 1000)\n", "the script prints more than 1048576 bytes"},
		"many nodes":    {"topo.single(99999)\nhost('x')\n", "the network has 100000 nodes, and no more are possible"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := small
			if strings.Contains(c.want, "longer") {
				limits.Time = 300 * time.Millisecond
			}
			switch name {
			case "text of a DAG":
				limits.Memory = 8e6 // which the interpreter takes its time to fill
			case "many nodes":
				limits.Memory = 1e9
			}
			_, err := Topology(context.Background(), files(t, "a.star", c.text), nil, Options{Limits: limits})
			if got := withoutDir(err); !strings.Contains(got, c.want) {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := Topology(ctx, files(t, "a.star", "while True:\n    pass\n"), nil, Options{Limits: Limits{Steps: 1 << 60}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestProgramsAndFiles(t *testing.T) {
	s := mustTopology(t, `
h1 = host('h1', files={'/etc/motd.d/x': 'hello\n', '/opt/x/b': b'\xff'})
h2 = host('h2', files=[{'path': '/opt/x/run', 'content': 'exit', 'mode': 0o755}])
h3 = host('h3')
h1.run('sleep 1', at='5s', timeout=60)
h2.run(['ping', '-c1', 'h1'], at=0.5)
h3.run('echo gone')
net.delHost(h3)
`, nil)
	golden(t, "programs.json", asJSON(t, s))
}

// What is wrong only in the network as a whole is found at the line that made it.
func TestFaultsHaveLines(t *testing.T) {
	_, err := topology(t, `
host('h1', ip='10.0.0.1/8')
host('h2', ip='10.0.0.1/8')
host('a b')
switch('s1', dpid=1, failMode='sometimes')
switch('s2', dpid=1, controllers='c9')
link('h1', 's1', port1=3)
link('h1', 's2', port1=3)
net['h1'].run('')
net['h2'].run('x', at='1000h')
net.ip6Base = '10.0.0.0/8'
`, nil)
	if got, want := withoutDir(err), "a.star:9:14: run: there is no command; write one, such as 'ip addr'"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	_, err = topology(t, `
host('h1', ip='10.0.0.1/8')
host('h2', ip='10.0.0.1/8')
host('a b')
switch('s1', dpid=1, failMode='sometimes')
switch('s2', dpid=1, controllers='c9')
link('h1', 's1', port1=3)
link('h1', 's2', port1=3)
net.ip6Base = '10.0.0.0/8'
`, nil)
	golden(t, "faults.txt", strings.Join(strings.Split(withoutDir(err), filepath.Dir(err.Error())+"/"), ""))
}

func TestFormat(t *testing.T) {
	for expression, want := range map[string]string{
		`'%s %d%%' % ('a', 5)`:                                    "a 5%",
		`'%.2f' % 3.14159`:                                        "3.14",
		`'%.1f|%5.1f|%-6s|%06.2f' % (1, 2.25, 'ab', 3)`:           "1.0|  2.2|ab    |003.00",
		`'%5d|%-5d|%05d|%+d|%x|%#x' % (42, 42, 42, 42, 255, 255)`: "   42|42   |00042|+42|ff|0xff",
		`'%3s|%.2s|%5r' % ('a', 'abc', 'b')`:                      "  a|ab|  \"b\"",
		`'%.3g %.0e %i' % (1234.5678, 12345, 3.9)`:                "1.23e+03 1e+04 3",
		`'%(a)s' % {'a': 1}`:                                      "1",
		`'%s' % [1]`:                                              "[1]",
		`round(2.5), round(2.567, 2), round(1234, -2), sum([1, 2.5]), sum([[1], [2]], [])`: "2 2.57 1200 3.5 [1, 2]",
		`7 % 3, -7 % 3, 5.5 % 2`: "1 2 1.5",
	} {
		var out bytes.Buffer
		if a := evaluateHere("host('h1')\nprint("+expression+")\n", nil, 1000, &out); len(a.Errors) > 0 {
			t.Errorf("%s: %v", expression, a.Errors)
		}
		if got := strings.TrimSuffix(out.String(), "\n"); got != want {
			t.Errorf("%s: %s, want %s", expression, got, want)
		}
	}
	for expression, want := range map[string]string{
		`'%.2f' % 'x'`:    `%.2f wants a number, not "x"`,
		`'%.2d' % 'x'`:    `%.2d wants a whole number, not "x"`,
		`'%5s %s' % 'x'`:  `not enough values for the format`,
		`'%5s' % (1, 2)`:  `there are more values than the format has conversions`,
		`'%99999s' % 'x'`: `%99999s is wider than 1000 characters`,
		`'%5' % 'x'`:      `incomplete format`,
		`'%1.2.3f' % 1`:   `%1.2.3f has two points`,
		`'%5q' % 1`:       `unknown conversion %q`,
		`round('x')`:      `round: "x" is not a number`,
		`sum([1, 'a'])`:   `sum: int + string is not possible; write str(x) for what is no text`,
		`sum(5)`:          `sum: for parameter values: got int, want iterable`,
	} {
		if got := inProcess("x = "+expression+"\n", nil, 1000).Errors.Error(); !strings.HasSuffix(got, ": "+want) {
			t.Errorf("%s: %s, want %s", expression, got, want)
		}
	}
}
