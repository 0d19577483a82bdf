package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMarkdown(t *testing.T) {
	r := Results{
		Machine: Machine{Date: "2026-01-02 03:04:05", Kernel: "6.1.0", CPUs: 2, Mininet: "2.3.0", OpenVSwitch: "ovs-vswitchd (Open vSwitch) 3.1.0"},
		Benchmarks: []Benchmark{
			{Name: "tree", Work: "up + down, tree,2,32", Unit: "s", LessIsBetter: true, Contenders: []Contender{
				{Name: nameMininet, Command: "mn --topo tree,2,32", Runs: []float64{94, 91, 120}, Notes: []string{"1 of 2 pings answered"}},
				{Name: nameWeft, Command: "weft --topo tree,2,32", Runs: []float64{2.5, 3.5}},
			}},
			{Name: "tcp", Work: "TCP", Unit: "Gbit/s", Contenders: []Contender{
				{Name: nameMininet, Command: "mn", Errors: []string{"still | running\nmore"}},
				{Name: nameWeft, Command: "weft", Runs: []float64{11}, Errors: []string{"weft: exit status 1"}},
				{Name: nameVeth, Command: "iperf", Runs: []float64{22}},
			}},
		},
	}
	r.Benchmarks[0].judge([]Goal{{Than: nameMininet, AtLeast: 30}})
	r.Benchmarks[1].judge([]Goal{{Than: nameMininet, AtLeast: 12}, {Than: nameVeth, AtLeast: 0.6}})
	var b bytes.Buffer
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	err := r.verdict()
	if err == nil {
		t.Fatal("no error, but goals were missed")
	}
	b.WriteString("\n" + err.Error() + "\n")
	file := filepath.Join("testdata", "results.md")
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s differs; go test -update rewrites it. Got:\n%s", file, b.String())
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

// Contenders take turns, and one that fails or never ends does not stop the others.
func TestMeasure(t *testing.T) {
	var order []string
	count := func(name string, v float64) contender {
		return contender{name, name, time.Minute, func(context.Context) (sample, error) {
			order = append(order, name)
			return sample{value: v}, nil
		}}
	}
	stuck := contender{"stuck", "stuck", time.Millisecond, func(ctx context.Context) (sample, error) {
		<-ctx.Done()
		return sample{}, ctx.Err()
	}}
	broken := contender{"broken", "broken", time.Minute, func(context.Context) (sample, error) {
		return sample{}, errors.New("it broke")
	}}
	b := benchmark{name: "x", unit: "s", less: true, goals: []Goal{{Than: nameMininet, AtLeast: 4}},
		contenders: []contender{count(nameMininet, 8), stuck, broken, count(nameWeft, 2)}}
	got := b.measure(context.Background(), 2, io.Discard)
	if want := []string{nameMininet, nameWeft, nameMininet, nameWeft}; !reflect.DeepEqual(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if g := got.Goals[0]; !g.Met || g.Ratio != 4 {
		t.Errorf("goal %+v", g)
	}
	if e := got.Contenders[1].Errors; len(e) != 2 || e[0] != "still running after 1ms" {
		t.Errorf("errors %q", e)
	}
	if e := got.Contenders[2].Errors; len(e) != 2 || e[0] != "it broke" {
		t.Errorf("errors %q", e)
	}
}

func TestChoose(t *testing.T) {
	all := benchmarks("weft")
	for _, tt := range []struct {
		only     string
		skipSlow bool
		want     []string
	}{
		{"", false, []string{"single", "tree", "torus", "pingall", "tcp", "memory", "relay", "relay-capture", "relay-latency", "up", "apply", "exec"}},
		{"", true, []string{"single", "torus", "tcp", "relay", "relay-capture", "relay-latency", "up", "apply", "exec"}},
		{"relay", false, []string{"relay", "relay-capture", "relay-latency"}},
		{"relay-latency", false, []string{"relay-latency"}},
		{"tcp,single", false, []string{"tcp", "single"}},
	} {
		chosen, err := choose(all, tt.only, tt.skipSlow)
		var got []string
		for _, b := range chosen {
			got = append(got, b.name)
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("choose %q, %v: %v, %v; want %v", tt.only, tt.skipSlow, got, err, tt.want)
		}
	}
	if _, err := choose(all, "nothing", false); err == nil {
		t.Error("no error for a benchmark that is not there")
	}
}

func TestParse(t *testing.T) {
	rate := func(parse func(string) (float64, error), text string, want float64) {
		t.Helper()
		got, err := parse(text)
		if (err != nil) != (want == 0) || math.Abs(got-want) > 1e-9 {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	rate(parseIperf, "[  1] 0.00-5.01 sec  650 MBytes  1054 Mbits/sec\n[  1] 0.00-5.01 sec  665600 KBytes  1054741 Kbits/sec\n", 1.054741)
	rate(parseIperf, "connect failed: Connection refused", 0)
	rate(parseMininetIperf, "*** Results: ['33.3 Gbits/sec', '33.4 Gbits/sec']\n", 33.3)
	rate(parseMininetIperf, "*** Results: ['650 Mbits/sec', '651 Mbits/sec']\n", 0.65)
	rate(parseMininetIperf, "*** Results: []", 0)
	rate(parseWeftIperf, `{"tests":[{"name":"iperf","result":{"client":"serverBps","clientBps":1,"serverBps":11000000000,"intervals":[]}}]}`, 11)
	rate(parseWeftIperf, `{"serverBps":null}`, 0)
	rate(parseWeftIperf, ``, 0)

	o, err := parseMininet("*** Done\ncompleted in 0.3 seconds\nbench: 1500000000 ns\n")
	if err != nil || o.seconds != 1.5 {
		t.Errorf("parseMininet: %+v, %v", o, err)
	}
	for _, bad := range []string{"", "completed in 3 seconds", "Caught exception\nbench: 1 ns", "completed in\nbench: x ns"} {
		if _, err := parseMininet(bad); err == nil {
			t.Errorf("parseMininet(%q): no error", bad)
		}
	}

	for out, want := range map[string]sample{
		"*** Results: 0% dropped (4026/4032 received)\n": {1, "4026 of 4032 pings answered"},
		"*** Results: 0% dropped (2/2 received)\n":       {1, ""},
	} {
		if got, err := parseMininetPing(outcome{1, out}); err != nil || got != want {
			t.Errorf("parseMininetPing(%q): %+v, %v", out, got, err)
		}
	}
	if _, err := parseMininetPing(outcome{1, "*** Warning: No packets sent"}); err == nil {
		t.Error("parseMininetPing: no error without results")
	}

	if got, err := parseStorm("creating\n{\"setUps\":1000,\"latencyNs\":2000}\n"); err != nil || got != (storm{1000, 2 * time.Microsecond}) {
		t.Errorf("parseStorm: %+v, %v", got, err)
	}
	for _, bad := range []string{"", "{}", "storm: refused", `{"setUps":0,"latencyNs":1}`} {
		if _, err := parseStorm(bad); err == nil {
			t.Errorf("parseStorm(%q): no error", bad)
		}
	}

	p, err := parseStat("12 (a) (b) S 7 12 12 0")
	if want := (process{12, 7, "a) (b"}); err != nil || p != want {
		t.Errorf("parseStat: %+v, %v", p, err)
	}
	if kb, ok := parsePSS("00-ff ---p 00 00:00 0 [rollup]\nRss:  100 kB\nPss:   42 kB\n"); !ok || kb != 42 {
		t.Errorf("parsePSS: %d, %v", kb, ok)
	}
}

// FuzzParse reads what programs and the kernel may write.
func FuzzParse(f *testing.F) {
	f.Add("12 (a) S 7\nPss: 1 kB\nbench: 1 ns completed in Results: ['1 Gbits/sec' 1 Kbits/sec {\"serverBps\":1}")
	f.Fuzz(func(t *testing.T, s string) {
		parseStat(s)
		parsePSS(s)
		parseMininet(s)
		parseIperf(s)
		parseMininetIperf(s)
		parseMininetPing(outcome{output: s})
		parseWeftIperf(s)
		_ = tail(s)
	})
}

// The process that asks is among its own descendants and has some memory.
func TestMemoryOfThisProcess(t *testing.T) {
	me := os.Getpid()
	if !descendants(me)[me] {
		t.Error("this process is not among its descendants")
	}
	mib, err := pss(func(p process) bool { return p.pid == me })
	if err != nil || mib <= 0 {
		t.Errorf("pss: %v MiB, %v", mib, err)
	}
}

// A storm is measured at a controller that answers each question at once.
func TestStorm(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.Write(ofMessage(ofHello, 1))
		conn.Write(ofMessage(ofFeaturesRequest, 2))
		c := &stormSwitch{conn: conn, in: bufio.NewReader(conn)} // it answers echoes
		for {
			typ, err := c.read()
			if err != nil {
				return
			}
			if typ == ofPacketIn {
				conn.Write(ofMessage(ofFlowMod, 3, make([]byte, 64)...))
			}
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := &stormSwitch{conn: conn, in: bufio.NewReader(conn)}
	r, err := s.measure()
	if err != nil || r.SetUps <= 0 || r.Latency <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
