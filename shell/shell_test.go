package shell

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"weft/api"
	"weft/network"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", path, got)
	}
}

// transcript executes lines and returns what each writes to both streams.
func transcript(t *testing.T, f *fakeNetwork, cfg Config, lines []string) string {
	t.Helper()
	var out, errs, all bytes.Buffer
	cfg.Out, cfg.Err = &out, &errs
	s := session(t, f, cfg)
	elapsed := regexp.MustCompile(`(time: |took |"elapsedNs":)[0-9.]+`)
	for _, line := range lines {
		err := s.Exec(context.Background(), line)
		fmt.Fprintf(&all, "> %s\n", line)
		for _, stream := range []struct {
			name string
			buf  *bytes.Buffer
		}{{"out", &out}, {"err", &errs}} {
			text := elapsed.ReplaceAllString(stream.buf.String(), "${1}N")
			stream.buf.Reset()
			for l := range strings.Lines(text) {
				fmt.Fprintf(&all, "%s|%s$\n", stream.name, strings.TrimSuffix(l, "\n"))
			}
		}
		if err != nil {
			fmt.Fprintf(&all, "failed: %v\n", err)
		}
	}
	return all.String()
}

func mininetLines(source string) []string {
	return []string{
		"", "   ", "# a comment", "nodes # with a comment",
		"help", "? nodes", "help nodes", "help iperf", "help link", "help nosuch", "help status",
		"nodes", "net", "links", "intfs", "ports", "dump",
		"pingall", "pingall 2", "pingall x", "pingpair", "pingallfull", "pingpairfull",
		"iperf", "iperf h1 h2", "iperf h1", "iperf h1 h9", "iperf h8 h9", "iperf h1 h1",
		"iperfudp", "iperfudp 10M h1 h2", "iperfudp h1", "iperfudp 10M h8 h9",
		"link h1 s1", "link h1 s1 sideways", "link h1 s9 up", "link h9 s1 up", "link h1 h2 up",
		"link s1 h1 down", "links", "link h1 s1 up",
		"switch s1", "switch s9 start", "switch s1 foo", "switch s1 stop", "switch s1 start",
		"dpctl", "dpctl dump-flows", "dpctl add-flow in_port=1,actions=output:2",
		"sh", "sh echo hi", "sh exit 3",
		"h1", "h1 echo  hi   h2 c0 's1' \"a h2\" h22 ; exit 4", "h1 echo '# no comment' # comment", "c0 echo in the fabric", "noecho h1 echo h2",
		"noecho", "noecho h9 ls",
		"time nodes", "source", "source /nonexistent", "source " + source,
		"wait", "wait 5", "wait x", "py 1+1", "px 1+1",
		"xterm", "xterm h9", "xterm h1", "x", "gterm h1",
		"foo bar", "status", "pingall --nonsense", "exit", "quit", "EOF",
	}
}

func nativeLines(source string) []string {
	return append(mininetLines(source),
		"help pingall", "help xyz", "inspect", "inspect h1", "inspect s1", "inspect c0", "inspect x9", "controllers",
		"pingall -6 --count 3 --tries 1 h1 h2", "pingall --timeout 100ms", "pingall --timeout 0", "pingall --tries", "pingall h1 h9", "pingall 1 --timeout 2",
		"ping h1 h2", "ping h1", "ping h1 h2 --count=2", "iperf -6 --time 10s", "iperfudp h1 h2 --rate 50M", "iperfudp --rate 1Q",
		"add host h3 --ip 10.0.0.3/8 --mac 00:00:00:00:00:03 --gateway 10.0.0.1", "add host h1", "add host h3 --ip 10.0.0.300/8", "add host h3 --dpid 1", "add",
		"add switch s2 --dpid 1f --protocols OpenFlow10,OpenFlow13", "add switch s2 --dpid xyz", "add link h1 s1",
		"del h1", "del host h2", "del switch s1", "del c0", "del link h1 s1", "del link h1 h2", "del",
		"openflow s1 --count 3", "openflow --type echo_reply --xid 7 --count 1", "openflow --count 2 --stats",
		"openflow --type NOPE", "openflow --xid x", "openflow s9", "openflow off", "openflow on --stats",
		"flows s1 --interval 0", "flows h1", "flows --interval x", "trace s1 in_port=1,dl_type=0x800", "trace s1", "trace s9 in_port=1", "trace s1 'x'",
		"nodes h1", "nodes --json", "pingpair --json", "h1 echo --json")
}

func TestTranscripts(t *testing.T) {
	t.Setenv("DISPLAY", "")
	dir := t.TempDir()
	source := filepath.Join(dir, "script")
	if err := os.WriteFile(source, []byte("# set up\nnodes\n\nnosuch command\nexit\nnodes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		cfg   Config
		lines []string
	}{
		{"mininet.txt", Config{Dialect: Mininet}, mininetLines(source)},
		{"native.txt", Config{}, nativeLines(source)},
		{"json.txt", Config{JSON: true}, nativeLines(source)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cfg.JSON { // states have a test of their own
				tt.lines = slices.DeleteFunc(tt.lines, func(l string) bool { return l == "dump" || strings.HasPrefix(l, "inspect") })
			}
			got := transcript(t, newFakeNetwork(), tt.cfg, tt.lines)
			golden(t, tt.name, strings.ReplaceAll(got, source, "FILE"))
		})
	}
}

// Lost pings, links that are down and switches that do not connect.
func TestTroubledTranscripts(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
	}{{"mininet-trouble.txt", Config{Dialect: Mininet}}, {"native-trouble.txt", Config{}}} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeNetwork()
			f.loss, f.missing = true, true
			f.state.Links[0].Up[1] = false
			f.state.Links[1].OK[0] = false
			f.state.Switches[0].Connections[0] = network.ControlConnection{Switch: "s1", Controller: "c0", Reason: "connection refused"}
			golden(t, tt.name, transcript(t, f, tt.cfg, []string{
				"pingall", "pingpair", "pingallfull", "ping h1 h2", "wait 2", "links", "status", "controllers"}))
		})
	}
}

func TestStateAsJSON(t *testing.T) {
	f := newFakeNetwork()
	want, err := json.Marshal(f.state)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"dump --json", "inspect --json"} {
		var out bytes.Buffer
		s := session(t, f, Config{Out: &out, Err: new(bytes.Buffer)})
		if err := s.Exec(t.Context(), line); err != nil || out.String() != string(want)+"\n" {
			t.Errorf("%s gives %v and %s, want %s", line, err, out.String(), want)
		}
	}
}

func TestFailed(t *testing.T) {
	lossy := newFakeNetwork()
	lossy.loss, lossy.missing = true, true
	for _, tt := range []struct {
		line   string
		f      *fakeNetwork
		failed bool
	}{
		{"nodes", lossy, false},
		{"pingall", lossy, true},
		{"pingall", newFakeNetwork(), false},
		{"wait", lossy, true},
		{"h1 true", lossy, false},
		{"h1 false", lossy, true},
		{"sh false", lossy, true},
		{"nosuch", lossy, true},
		{"time h1 false", lossy, true},
		{"exit", lossy, false},
		{"", lossy, false},
	} {
		for _, d := range []Dialect{Native, Mininet} {
			s := session(t, tt.f, Config{Dialect: d, Out: new(bytes.Buffer), Err: new(bytes.Buffer)})
			s.Exec(t.Context(), tt.line)
			if s.Failed() != tt.failed {
				t.Errorf("after %q Failed() = %v", tt.line, s.Failed())
			}
		}
	}
}

func TestRunPiped(t *testing.T) {
	for _, tt := range []struct {
		dialect        Dialect
		in, out, errs  string
		failed, hasErr bool
	}{
		{Mininet, "nodes\nsh echo hi\n", "mininet> mininet> hi\nmininet> ", "*** Starting CLI:\navailable nodes are: \nc0 h1 h2 s1\n\n", false, false},
		{Mininet, "nodes\nexit\nnodes\n", "mininet> mininet> ", "*** Starting CLI:\navailable nodes are: \nc0 h1 h2 s1\n", false, false},
		{Native, "h1 echo h2\nfalse\nh1 cat", "10.0.0.2\n", "there is no command or node \"false\": try help\n", true, false},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.WriteString(tt.in)
		w.Close()
		var out, errs bytes.Buffer
		s := session(t, newFakeNetwork(), Config{Dialect: tt.dialect, In: r, Out: &out, Err: &errs})
		if err := s.Run(t.Context()); (err != nil) != tt.hasErr {
			t.Errorf("Run: %v", err)
		}
		r.Close()
		if out.String() != tt.out || errs.String() != tt.errs || s.Failed() != tt.failed {
			t.Errorf("%q gives\n%q, want\n%q; errors\n%q, want\n%q; failed %v", tt.in, out.String(), tt.out, errs.String(), tt.errs, s.Failed())
		}
	}
}

func TestRunEndsWithContextAndNetwork(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	s := session(t, newFakeNetwork(), Config{In: r, Out: new(bytes.Buffer), Err: new(bytes.Buffer)})
	cancel()
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run with an ended ctx: %v", err)
	}
	w.WriteString("nodes\n")
	s = New(Config{Client: api.Dial(filepath.Join(t.TempDir(), "none")), In: r, Out: new(bytes.Buffer), Err: new(bytes.Buffer)})
	if err := s.Run(t.Context()); !errors.Is(err, api.ErrGone) {
		t.Errorf("Run without a network: %v", err)
	}
}

// A command that goes with the session is no error of its own to tell of.
func TestExecEndsWithContext(t *testing.T) {
	f := newFakeNetwork()
	f.hangPing = true
	var errs bytes.Buffer
	s := session(t, f, Config{Out: &bytes.Buffer{}, Err: &errs})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := s.Exec(ctx, "pingall"); err == nil || errs.Len() > 0 {
		t.Errorf("%v, and it says %q", err, errs.String())
	}
}

func TestSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("h1 false\nnodes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	s := session(t, newFakeNetwork(), Config{Dialect: Mininet, Out: &out, Err: &errs})
	if err := s.Source(t.Context(), path); err != nil || !s.Failed() {
		t.Errorf("Source with a command that fails: %v, Failed() = %v", err, s.Failed())
	}
	if want := "*** Starting CLI:\navailable nodes are: \nc0 h1 h2 s1\n"; errs.String() != want {
		t.Errorf("got %q, want %q", errs.String(), want)
	}
	if err := s.Source(t.Context(), path+"x"); err == nil || !strings.Contains(errs.String(), "error reading file "+path+"x\n") {
		t.Errorf("a missing file: %v, %q", err, errs.String())
	}
}

func TestWindows(t *testing.T) {
	var errs bytes.Buffer
	s := session(t, newFakeNetwork(), Config{Out: new(bytes.Buffer), Err: &errs})
	for _, tt := range []struct{ display, line, want string }{
		{"localhost:10.0", "xterm h1", "nodes cannot reach the display localhost:10.0 over TCP"},
		{":99", "x h1 no-such-program", "no-such-program is not installed"},
		{"", "gterm h1", "DISPLAY is not set"},
	} {
		t.Setenv("DISPLAY", tt.display)
		if err := s.Exec(t.Context(), tt.line); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with DISPLAY=%s: %v", tt.line, tt.display, err)
		}
	}
	t.Setenv("DISPLAY", ":99")
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Exec(t.Context(), "x h1 sh -c 'echo $DISPLAY >"+fifo+"'"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(fifo); err != nil || string(got) != ":99\n" {
		t.Errorf("a program with windows sees DISPLAY=%q, %v", got, err)
	}
}

func TestCommandNames(t *testing.T) {
	for dialect, want := range map[Dialect]bool{Native: false, Mininet: true} {
		s := session(t, newFakeNetwork(), Config{Dialect: dialect, Out: &bytes.Buffer{}, Err: &bytes.Buffer{}})
		names := s.candidates("")
		if slices.Contains(names, "EOF") != want || !slices.Contains(names, "pingall") || slices.Contains(names, "status") == want {
			t.Errorf("%v: %q", dialect, names)
		}
	}
}
