package script

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// memory is a directory of files that a test has.
type memory map[string]string

func (m memory) read(name, load string) ([]byte, error) {
	text, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("no such file or directory")
	}
	return []byte(text), nil
}

// inProcess evaluates a script in this process, with little at its disposal.
func inProcess(text string, params map[string]string, steps uint64) answer {
	return evaluateHere(text, params, steps, io.Discard)
}

func evaluateHere(text string, params map[string]string, steps uint64, print io.Writer) answer {
	q := request{Path: "a.star", Params: params, Limits: Limits{Steps: steps, Time: 20 * time.Second, Memory: 256e6}}
	return q.evaluateFrom(context.Background(), memory{
		"a.star":      text,
		"lib.star":    "def f(n):\n    return [host('h%d' % i) for i in range(n)]\nX = [1]\n_private = 1\n",
		"broken.star": "def f(:\n    pass\n",
		"fails.star":  "def g():\n    return 1 // 0\ng()\n",
		"circle.star": "load('a.star', 'x')\n",
	}, print)
}

// badScripts are scripts in each of which something is wrong.
var badScripts = []string{
	// The language.
	"",
	"x = ",
	"x = (1,",
	"def f(\n",
	"if True:\nhost('h1')\n",
	"\thost('h1')\n",
	"host('h1'))\n",
	"host('h1)\n",
	"host(“h1”)\n",
	"x = 08\n",
	"import os\n",
	"from mininet.net import Mininet\n",
	"class T(Topo):\n    pass\n",
	"try:\n    pass\nexcept: pass\n",
	"with x: pass\n",
	"del x\n",
	"host(f'h{1}')\n",
	"x += 1\n",
	"return 1\n",
	"break\n",
	"for i in range(3):\n    hosst('h%d' % i)\nswich('s1')\n",
	"def f(a, a): pass\n",
	"print(x)\nx = 1\n",
	"lambda x: y\n",
	"def f():\n    f()\nf()\n",
	"x = [0]\nfor i in x:\n    x.append(i)\n",
	"'a' + 1\n",
	"x = {}['a']\n",
	"[1, 2][2]\n",
	"None.x\n",
	"'%d' % 'a'\n",
	"1 // 0\n",
	"int('x')\n",
	"len(5)\n",
	"fail('no', 'good')\n",
	"def f(n):\n    g(n)\n\ndef g(n):\n    host(n)\n\nf(7)\n",
	"host('h1')\nwhile True:\n    pass\n",
	"x = 'a' * (1 << 40)\n",
	"[0] * 99999999\n",
	"range(1 << 40)\n",
	"x = " + strings.Repeat("(", 300) + "\n",
	"x = '\x00\xff'\nhost('h1\x00')\n",
	// Files.
	"load('nosuch.star', 'f')\n",
	"load('lib.star', 'g')\n",
	"load('lib.star', '_private')\n",
	"load('broken.star', 'f')\n",
	"load('fails.star', 'g')\n",
	"load('circle.star', 'x')\n",
	"load('lib.star', 'f', 'X')\nX.append(1)\n",
	"load('lib.star', 'f')\nhost('h1')\nf(3)\n",
	"open('/etc/passwd')\n",
	// Networks.
	"print('nothing')\n",
	"host()\n",
	"host(5)\n",
	"host('')\n",
	"host('a/b')\n",
	"host('h1', 'h2')\n",
	"host('h1')\nswitch('h1')\n",
	"host('h1', ipp='10.0.0.1/8')\n",
	"host('h1', ip='10.0.0.300')\n",
	"host('h1', ip=10)\n",
	"host('h1', ip='fd00::1/64')\n",
	"host('h1', mac='xyz')\n",
	"host('h1', mac=5)\n",
	"host('h1', privateDirs='tmp')\n",
	"host('h1', privateDirs=[5])\n",
	"host('h1', defaultRoute='via h2')\n",
	"host('h1', files={'/x': 'a'})\n",
	"host('h1', files=[{'pth': '/x'}])\n",
	"host('h1', inNamespace=False)\n",
	"host('h1', nat={'subnt': '10.0.0.0/8'})\n",
	"host('h1', cls='CPULimitedHost')\n",
	"host('h1', ip='10.0.0.1/8')\nhost('h2', ip='10.0.0.1/8')\n",
	"switch('s1', driver='brocade')\n",
	"switch('s1', dpid='xyz')\n",
	"switch('s1', dpid=-1)\n",
	"switch('s1', protocols='OpenFlow99')\n",
	"switch('s1', stp='yes')\n",
	"switch('s1', controllers=['c9'])\n",
	"switch('s1', listenPort=1.5)\n",
	"controller('c0', 'nox')\n",
	"controller('c0', 'remote', port=99999)\n",
	"controller('c0', controller=5)\n",
	"link('h1', 's1')\n",
	"h1 = host('h1')\nlink(h1)\n",
	"h1 = host('h1')\nlink(h1, h1)\n",
	"h1 = host('h1')\nlink(h1, 's1')\n",
	"h1 = host('h1')\nlink(h1, [1])\n",
	"c = controller()\nlink(host('h1'), c)\n",
	"link(host('h1'), switch('s1'), bw='fast')\n",
	"link(host('h1'), switch('s1'), bandwidth=10)\n",
	"link(host('h1'), switch('s1'), loss=101, delay=5)\n",
	"link(host('h1'), switch('s1'), ab={'delay': [1]})\n",
	"link(host('h1'), switch('s1'), ab=5)\n",
	"link(host('h1'), switch('s1'), jitter='1ms', reorder=5)\n",
	"link(host('h1'), switch('s1'), port2=-1)\n",
	"link(host('h1'), switch('s1'), port2='first')\n",
	"link(host('h1'), switch('s1'), params1={'ipp': 1})\n",
	"link(host('h1'), host('h2'), driver='patch')\n",
	"link(host('h1'), host('h2'), cls='TCLink')\n",
	"nat()\n",
	"nat(connect='s9')\n",
	"net.addHots('h1')\n",
	"net.hosts = []\n",
	"net.ipBase = 'x'\n",
	"net.seed = -1\nhost('h1')\n",
	"net['h9']\n",
	"net.get('h9')\n",
	"net.delHost('h9')\n",
	"net.delLinkBetween(host('h1'), host('h2'))\n",
	"host('h1').cmd('ls')\n",
	"host('h1').IP()\n",
	"host('h1').foo\n",
	"host('h1').run('')\n",
	"host('h1').run('x', at='soon')\n",
	"host('h1').run('x', at=-1)\n",
	"net.pingAll()\n",
	"net.start(1)\n",
	"topo.tre(2)\n",
	"topo.tree(0)\n",
	"topo.tree(2, 3, 4)\n",
	"topo.tree(depth='two')\n",
	"topo.tree(dept=2)\n",
	"topo.tree(2, link={'bw': 'x'})\n",
	"topo.tree(2, link={5: 1})\n",
	"topo.tree(2, switch={'driver': 'x'})\n",
	"topo.tree(2, host={'ip': '10.0.0.1/8'})\n",
	"topo.tree(2)\ntopo.tree(2)\n",
	"topo.single(999999999)\n",
	"random()\n",
	"random(1).choice([])\n",
	"random(1).sample([1], 2)\n",
	"random(1).randint(5, 1)\n",
	// Parameters and experiments.
	"param('k')\n",
	"param('k', [1])\n",
	"param('k', 1, choices=5)\n",
	"param('k', 1, min=5)\n",
	"param('k', 1, choices=[2, 3])\n",
	"param('k', int)\n",
	"experiment(trials='x')\n",
	"experiment(trials=-1)\n",
	"experiment(sweep=[1])\n",
	"experiment(sweep={'a': 5})\n",
	"experiment(timeout='long')\n",
	"experiment(seed=-1)\n",
	"ping('h1 -> h2')\n",
	"check('x', True)\n",
	"at(5, lambda: 1)\n",
}

// Each error says where it is, what it is, and what to write instead.
func TestBadScripts(t *testing.T) {
	var b strings.Builder
	for _, text := range badScripts {
		a := inProcess(text, nil, 200_000)
		shown := text
		if len(shown) > 100 {
			shown = shown[:50] + "...\n"
		}
		for line := range strings.Lines(strings.TrimSuffix(shown, "\n") + "\n") {
			fmt.Fprintf(&b, "| %q\n", strings.TrimSuffix(line, "\n"))
		}
		if len(a.Errors) == 0 {
			t.Errorf("no error: %s", text)
			continue
		}
		for _, e := range a.Errors {
			if e.File == "" || strings.Contains(e.Message, errPanic.Error()) {
				t.Errorf("%s: %s", text, e)
			}
		}
		fmt.Fprintf(&b, "%s\n\n", a.Errors)
	}
	golden(t, "bad.txt", b.String())
}
