package shell

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func scriptLines() []string {
	return []string{
		"py", "px", "py 1+1", "py 'text'", "py None", "py \"it's\"", "py ['a', (h1,), {'x': s1}]",
		"py h1", "py s1", "py c0", "py net.hosts", "py net", "py net.links", "py net['h1'].intf()", "px print(h1, [h2])",
		"py h1.IP()", "py h1.MAC(), s1.IP(), c0.IP(), s1.intfNames(), h1.intfs, s1.ports", "py s1.connectionsTo(h2)", "py 'h1' in net, 'h9' in net, len(net), list(net)",
		"py h1.cmd('echo hi; exit 3')", "py h1.cmd('echo', h2, h2.IP(), 7)", "py h1.cmdPrint('echo hi')", "py h1.pexec('echo a; echo b >&2; exit 3')",
		"px h1.sendCmd('echo later')", "py h1.cmd('true')", "py h1.waitOutput()", "py h1.waitOutput()",
		"py net.pingAll()", "py net.ping([h1, h2], timeout='1')", "py net.pingPair()", "py net.pingFull((h1, h2))",
		"py net.iperf()", "py net.iperf([h1, h2], l4Type='UDP', udpBw='5M', seconds=2)", "py net.iperf([h1])",
		"px net.addHost('h3', ip='10.0.0.3/8')", "px net.addLink(s1, h1, bw=10)", "px net.delHost(h2)", "px net.configLinkStatus('h1', 's1', 'down')", "py h1.intf().isUp(), net.links[0].status()",
		"px net.configLinkStatus('h1', 'h2', 'down')", "px net.configLinkStatus('h1', 's1', 'off')", "py net.waitConnected(2)",
		"px x = 3; y = [x]", "px y.append(x)", "py y", "px def f(a): return a * x", "py f(4)", "px s1 = 'mine'", "py s1", "py help(net.links[0])",
		"py s2", "py h1.cdm('x')", "py h1.IP('eth7')", "py net.get('h9')", "py 1/0", "py x = 1", "py x +", "px import os", "px del x", "px class A: pass", "px f'{x}'", "px try: pass",
		"py h1.dpctl('x')", "py 'a' * (1 << 40)", "px load('x.star', 'f')", "py net.start()", "px topo.tree(2)", "px fail('no', 1)", "px net.name = 'x'", "py random(1).randint(1, 6)",
	}
}

// What Mininet's users type after py and px, in each of the ways to write results.
func TestScriptTranscripts(t *testing.T) {
	for name, cfg := range map[string]Config{
		"mininet-script.txt": {Dialect: Mininet}, "native-script.txt": {}, "json-script.txt": {JSON: true},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, transcript(t, newFakeNetwork(), cfg, scriptLines())) })
	}
}

func TestScriptIsInterrupted(t *testing.T) {
	f := newFakeNetwork()
	f.hangPing = true
	for _, line := range []string{"py net.pingAll()", "py h1.cmd('sleep 100')", "px while True: h1.cmd('true')"} {
		var out strings.Builder
		s := session(t, f, Config{Out: &out, Err: &out})
		ended := make(chan struct{})
		go func() { // again and again: one that comes before the command is dropped
			for {
				select {
				case <-time.After(100 * time.Millisecond):
					select {
					case s.signals <- nil:
					default:
					}
				case <-ended:
					return
				}
			}
		}()
		err := s.Exec(context.Background(), line)
		close(ended)
		if !errors.Is(err, errInterrupted) || out.String() != "\nInterrupt\n" {
			t.Errorf("%s: %v, %q", line, err, out.String())
		}
	}
}

func TestScriptCompletion(t *testing.T) {
	s := session(t, newFakeNetwork(), Config{Out: &strings.Builder{}, Err: &strings.Builder{}})
	if err := s.Exec(context.Background(), "px hosts = {'a': h1}"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line string
		want []string
	}{
		{"py h1.set", []string{"h1.setARP(", "h1.setDefaultRoute(", "h1.setHostRoute(", "h1.setIP(", "h1.setMAC("}},
		{"py h1.dp", nil},
		{"py s1.dp", []string{"s1.dpctl(", "s1.dpid"}},
		{"px print(h1.na", []string{"print(h1.name"}},
		{"py net.configL", []string{"net.configLinkStatus("}},
		{"py ho", []string{"host(", "hosts"}},
		{"py h1.name.upp", []string{"h1.name.upper("}},
		{"py net.get('h1').", nil},
		{"py nothing.", nil},
		{"py hosts.it", []string{"hosts.items("}},
	} {
		if got := s.candidates(c.line); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.line, got, c.want)
		}
	}
}
