package shell

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"weft/dpdkhost"
	"weft/topo"
)

// addDPDK adds a DPDK node of each manager.
func (f *fakeNetwork) addDPDK() {
	for i, m := range topo.NFManager("").Words() {
		f.state.Plan.Switches = append(f.state.Plan.Switches, topo.PlannedSwitch{Name: fmt.Sprintf("nf%d", i+1), Driver: topo.DriverDPDK, DPDK: &topo.DPDK{Manager: topo.NFManager(m)}})
	}
}

// nfs tells of a DPDK node as its manager does. Counters grow by 1,000 a second and look.
func (f *fakeNetwork) nfs(r *http.Request) (any, error) {
	sw := f.state.Plan.Switch(r.PathValue("name"))
	if sw == nil || sw.DPDK == nil {
		return nil, fmt.Errorf("%s is no dpdk node", r.PathValue("name"))
	}
	n := uint64(f.looks.Add(1))
	st := &dpdkhost.State{
		Manager: sw.DPDK.Manager, At: time.Date(2026, 1, 2, 3, 4, int(n), 0, time.UTC), Drops: map[string]uint64{"noFlow": 0, "chainEnd": 9},
		Ports: []dpdkhost.Port{
			{Number: 1, Name: sw.Name + "-eth1", Kind: "packet", Received: 1000 * n, RxBytes: 64000 * n, Sent: 11, TxBytes: 704, RxDrops: 1, TxDrops: 2, BackPressure: 3},
			{Number: 2, Name: sw.Name + "-eth2", Kind: "packet", Sent: 1000 * n, TxBytes: 64000 * n},
		},
		Pool: dpdkhost.Pool{Frames: 32832, Free: 32000},
	}
	if sw.DPDK.Manager == topo.ManagerDPDK { // which has no NFs
		st.Drops, st.Pool = nil, dpdkhost.Pool{}
		return st, nil
	}
	st.Instances = []dpdkhost.Instance{
		{ID: 1, Name: "firewall", Service: 1, Core: 1, State: "running", Received: 1000 * n, Sent: 990 * n, Next: 900 * n, Dropped: 90 * n, RxDrops: 21, Invalid: 4, Wakeups: 17,
			Latency: dpdkhost.Latency{P50: 1234, P99: 5678}, Counters: map[string]uint64{"kept": 5, "answers": 6}},
		{ID: 2, Name: "bridge", Service: 2, State: "running", Restarts: 2, Received: 900 * n, Sent: 900 * n, Out: 900 * n, ToNF: 8},
	}
	if sw.DPDK.Manager == topo.ManagerONVM {
		st.Instances[0].TxDrops, st.Instances[0].Buffered = 5, 7
		st.Instances[0].Invalid = 0
	}
	return st, nil
}

// nfSession is a session on a network with DPDK nodes, and what it prints.
func nfSession(t *testing.T) (*Session, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	f := newFakeNetwork()
	f.addDPDK()
	client, stop, err := f.serve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	var out, errs bytes.Buffer
	return New(Config{Client: client, Out: &out, Err: &errs}), &out, &errs
}

// What nf list, stats and top print, of every manager, and into a file or pipe.
func TestNFViews(t *testing.T) {
	var all strings.Builder
	for _, line := range []string{
		"nf nf1", "nf nf1 stats", "nf nf1 stats --onvm-view", "nf nf1 top --interval 50ms", "nf nf1 top --interval 50ms --count 2 --onvm-view", "nf nf1 stats --json",
		"nf nf2 stats", "nf nf2 top --interval 50ms --onvm-view", "nf nf3 stats", "nf nf3 list", "nf nf3 top --interval 50ms",
		"nf top", "nf nf1 top --interval 1ms", "nf nf1 top --count 0", "nf nf9 top",
	} {
		s, out, errs := nfSession(t)
		err := s.Do(t.Context(), strings.Fields(line)...)
		fmt.Fprintf(&all, "> %s\n%s%s", line, out, errs)
		if err != nil {
			fmt.Fprintf(&all, "error: %v\n", err)
		}
		all.WriteByte('\n')
	}
	if strings.Contains(all.String(), "\x1b") {
		t.Errorf("sequences for terminals where none is:\n%q", all.String())
	}
	const file = "testdata/nf-views.txt"
	if *update {
		if err := os.WriteFile(file, []byte(all.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != all.String() {
		t.Errorf("%v; go test -update, and look at the difference\n%s", err, all.String())
	}
}

// All that stats says of an NF is the same in words, in OpenNetVM's layout and in JSON.
func TestNFViewsAgree(t *testing.T) {
	for _, node := range []string{"nf1", "nf2"} {
		show := func(options ...string) string {
			s, out, _ := nfSession(t)
			if err := s.Do(t.Context(), append([]string{"nf", node, "stats"}, options...)...); err != nil {
				t.Fatal(err)
			}
			return out.String()
		}
		var st dpdkhost.State
		if err := json.Unmarshal([]byte(show("--json")), &st); err != nil {
			t.Fatal(err)
		}
		fields := func(text, begin string) []string {
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, begin) {
					return strings.Fields(strings.ReplaceAll(line, "/", " "))
				}
			}
			t.Fatalf("no line %q in\n%s", begin, text)
			return nil
		}
		i := st.Instances[0]
		words := fields(show(), "1   firewall")
		want := fmt.Sprintln(i.Received, i.Sent, i.Dropped, i.RxDrops+i.TxDrops+i.Invalid, i.Wakeups)
		if got := strings.Join(words[5:10], " ") + "\n"; got != want {
			t.Errorf("%s: stats has %s, JSON %s", node, got, want)
		}
		onvm := fields(show("--onvm-view"), "firewall")
		want = fmt.Sprintln(i.ID, i.Service, i.Core-1, 0, 0, i.RxDrops, i.TxDrops, i.Out, i.ToNF, i.Dropped)
		if got := strings.Join(onvm[1:], " ") + "\n"; got != want {
			t.Errorf("%s: OpenNetVM's view has %s, JSON %s", node, got, want)
		}
		port := fields(show(), "1     "+node+"-eth1")
		if got := port[3]; got != strconv.FormatUint(st.Ports[0].Received, 10) {
			t.Errorf("%s: port 1 received %s, in JSON %d", node, got, st.Ports[0].Received)
		}
	}
}

// At a terminal nf top has a screen of its own, which follows the window, and gives the terminal
// back, whoever ends it and however.
func TestTerminalTop(t *testing.T) {
	for node, nf := range map[string]string{"nf1": "firewall", "nf2": "firewall", "nf3": "no NF runs"} {
		for _, end := range []string{"q", "Q", "\x03"} {
			t.Run(node+" "+strconv.Quote(end), func(t *testing.T) {
				p := sitDown(t, "native", pty.Winsize{Rows: 40, Cols: 160}, childNFs+"=1")
				before := p.before
				p.sees("weft> ")
				p.types("nf " + node + " top --interval 50ms\r")
				p.sees(screenOn + goHome + node + ", manager ")
				p.sees(nf)
				p.sees("IN/S") // a second look, with rates
				p.types("xyz") // not meant for anybody
				p.sees(goHome + node)
				p.types(end)
				p.sees(screenOff + node + ", manager ") // the last look stays
				p.sees("weft> ")
				p.types("nodes\r") // and what was typed is not there
				p.sees("hosts")
				p.types("\x04")
				p.leaves(before)
			})
		}
	}
}

func TestTerminalTopResize(t *testing.T) {
	p := sitDown(t, "native", pty.Winsize{Rows: 40, Cols: 160}, childNFs+"=1")
	before := p.before
	p.sees("weft> ")
	p.types("nf nf1 top --interval 1h\r")
	p.sees("frames free" + eraseEnd + eraseRest)
	pty.Setsize(p.pty, &pty.Winsize{Rows: 4, Cols: 30})
	p.sees(goHome)
	frame := p.sees(eraseRest)
	lines := strings.Split(frame, "\r\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[3], "… ") {
		t.Errorf("%d lines in a window of 4: %q", len(lines), frame)
	}
	for _, l := range lines {
		if l = strings.TrimSuffix(strings.TrimRight(l, "\r"), eraseEnd); len([]rune(l)) > 30 {
			t.Errorf("%q is longer than 30", l)
		}
	}
	for _, size := range []pty.Winsize{{}, {Rows: 1, Cols: 1}, {Rows: 60, Cols: 200}} {
		pty.Setsize(p.pty, &size)
		p.sees(goHome)
		p.sees(eraseRest)
	}
	p.types("q")
	p.sees(screenOff)
	p.sees("weft> ")
	p.types("\x04")
	p.leaves(before)
}

// Who ends the process finds the terminal as it was.
func TestTerminalTopKilled(t *testing.T) {
	p := sitDown(t, "native", usual, childNFs+"=1")
	before := p.before
	p.sees("weft> ")
	p.types("nf nf1 top --interval 1h\r")
	p.sees(screenOn)
	p.sees(eraseRest)
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.sees(screenOff)
	p.leaves(before)
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		text          string
		rows, columns int
		want          string
	}{
		{"a\nbc\n", 2, 2, "a|bc"},
		{"a\nbc\nd\n", 2, 80, "a|… 2 lines more: make the window larger"},
		{"a\nbc\nd\n", 1, 3, "… 3"},
		{"ünï→x", 5, 4, "ünï→"},
		{"", 5, 5, ""},
	} {
		want := goHome + strings.ReplaceAll(c.want, "|", eraseEnd+"\r\n") + eraseEnd + eraseRest
		if got := fit(c.text, c.rows, c.columns); got != want {
			t.Errorf("%q in %d×%d: %q, want %q", c.text, c.rows, c.columns, got, want)
		}
	}
}

// On a machine with several NUMA nodes the list tells them.
func TestNFNodes(t *testing.T) {
	one := 1
	st := &dpdkhost.State{Instances: []dpdkhost.Instance{{ID: 1, Name: "bridge", Service: 1, Core: 9, Node: &one, State: "running"}, {ID: 2, Name: "nat", Service: 2, State: "dead"}}}
	var out bytes.Buffer
	writeInstances(&out, st, nil)
	want := "ID  NF      SERVICE  CORE  NODE  STATE    RECEIVED  SENT  DROPPED  LOST  WAKE-UPS  P50  P99\n" +
		"1   bridge  1        9     1     running  0         0     0        0     0         -    -\n" +
		"2   nat     2        any   any   dead     0         0     0        0     0         -    -\n"
	if out.String() != want {
		t.Errorf("%swant\n%s", out.String(), want)
	}
}

// What may come next is offered.
func TestCompleteNF(t *testing.T) {
	f := newFakeNetwork()
	f.addDPDK()
	for line, want := range map[string]string{"": "nf2", "nf1": "start", "nf1 chain": "set", "nf2 flow": "add", "nf1 start": "firewall", "chain": "delete", "start": "router"} {
		if got := completeNF(f.state.Plan, strings.Fields(line)); !slices.Contains(got, want) {
			t.Errorf("nf %s: %v has no %s", line, got, want)
		}
	}
}
