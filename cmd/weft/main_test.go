package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weft/session"
)

var update = flag.Bool("update", false, "rewrite the golden files and the manual page")

// outcome is what a command line led to.
type outcome struct {
	status   int
	out, err string
}

// weft runs a command line in this process; networks are planned and not built.
func weft(t *testing.T, args ...string) outcome {
	t.Helper()
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, errOut := file(t), file(t)
	p := program{in: in, out: out, err: errOut, session: func(ctx context.Context, c session.Config) error {
		c.DryRun = true
		return session.Run(ctx, c)
	}}
	p.up = func(ctx context.Context, c session.Config) (string, error) {
		return "", p.session(ctx, c)
	}
	status := p.run(args)
	return outcome{status, content(t, out), content(t, errOut)}
}

func file(t *testing.T) *os.File {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, f *os.File) string {
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// golden compares got with a file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", path, got)
	}
}

// malformed are command lines in which something is wrong; words are separated by blanks, and
// "_" stands for a blank in a word.
var malformed = []string{
	// commands and words
	"weft pingall", "weft docter", "weft doctor now", "weft ls net1", "weft clean all", "weft version 2",
	"weft completion", "weft completion csh", "weft help nosuch", "weft man x", "weft doctor --verbose",
	"weft --topo tree pingall", "weft --topo tree doctor", "weft ls --name x",
	// options
	"weft --topp tree", "weft --no-such-thing", "weft -z", "weft -wz", "weft --topo", "weft -i", "weft --=x",
	"weft --mac=perhaps", "weft --twait soon", "weft -t -1", "weft --host rt", "weft --host vm", "weft -v loud",
	"weft --log-level all", "weft --innamespace", "weft --custom topo.py", "weft --cluster a,b", "weft --placement random",
	"weft --pin", "weft --nat ip=10.0.0.9/8", "weft --listenport x", "weft --listenport 0", "weft --listenport 65535 --topo linear,3",
	"weft --listenport 6654 --nolistenport", "weft --pre /nonexistent/file", "weft --post /nonexistent/file",
	"weft --name a/b", "weft --xterms",
	// topologies
	"weft --topo nosuch", "weft --topo tre", "weft --topo tree,x", "weft --topo tree,0", "weft --topo tree,1,2,3",
	"weft --topo tree,depth=2,depth=3", "weft --topo tree,breadth=2", "weft --topo torus", "weft --topo torus,2,2",
	"weft --topo fattree,3", "weft --topo single,999999999", "weft --topo single,k=", "weft --topo=", "weft --name= --switch=", "mn --topo=",
	// nodes, links, addresses
	"weft --switch nosuch", "weft --switch user", "weft --switch ovs,protocols=OpenFlow99", "weft --switch ovs,stp=maybe",
	"weft --switch lxbr,protocols=OpenFlow13", "weft --controller nosuch", "weft --controller remote,port=99999",
	"weft --controller ryu", "weft --controller tcp:", "weft --controller nox", "weft --link tc,bw=fast", "weft --link rope",
	"weft --ipbase 10.0.0.0/33", "weft --ipbase fd00::/64", "weft --ip6=10.0.0.0/8", "weft --nat=colour=red",
	"weft --nat=connect=s9", "weft --topo single,300 --ipbase 10.0.0.0/24",
	// tests
	"weft --test nosuch", "weft --test pingall+nosuch", "weft --test iperf,seconds=soon", "weft --test iperf,h1,h9",
	"weft --test pingall,tries=0", "weft --test iperfudp,bw=fast", "weft --test none,x", "weft --test all,seconds=1", "weft --test pingall,colour=red",
	// several at once
	"weft --topo nosuch --switch nosuch --test nosuch --ipbase x",
	// Mininet's dialect
	"mn --nosuch", "mn --topoo tree", "mn -z", "mn -xz", "mn --topo", "mn --p x", "mn --no --mac=1", "mn --mac=1", "mn -i",
	"mn tree", "mn --mac tree", "mn -- tree", "mn --inn", "mn --cust topo.py", "mn --cluster a,b --innamespace",
	"mn --placement", "mn --pin", "mn --host cfs,cpu=.5", "mn --twait soon", "mn -tsoon", "mn -v loud", "mn --listenport x",
	"mn --topo nosuch", "mn --switch user", "mn --test nosuch", "mn --na ip=10.0.0.9/8,colour=red", "mn --link tc,bw=fast",
	"mn --controller nox", "mn --topo nosuch --switch nosuch", "mn --jso", "mn -é", "weft mn --nosuch", "weft mn doctor", "/usr/bin/mn --nosuch",
}

// Malformed command lines end at once, with a line for each thing that is wrong.
func TestMalformed(t *testing.T) {
	t.Setenv("DISPLAY", "")
	var b strings.Builder
	for _, line := range malformed {
		args := strings.Fields(line)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", " ")
		}
		o := weft(t, args...)
		if o.status == session.ExitOK || o.out != "" || o.err == "" {
			t.Errorf("%s: exit %d, output %q, error %q", line, o.status, o.out, o.err)
		}
		fmt.Fprintf(&b, "$ %s\n%s[exit %d]\n\n", line, o.err, o.status)
	}
	golden(t, "testdata/malformed.txt", b.String())
}

// Command lines that Mininet's parser takes mean the same here.
func TestOptparse(t *testing.T) {
	for _, c := range []struct{ line, native string }{
		{"mn", "weft --controller builtin,ip=127.0.0.1,port=6653"},
		{"mn --to tree,2 --cont none", "weft --topo=tree,2 --controller=none"},
		{"mn --topo=linear,3 --controller remote,127.0.0.1", "weft --topo linear,3 --controller remote,127.0.0.1"},
		{"mn --arp --mac --control none -i 10.1.0.0/16", "weft --mac --arp --controller none --ipbase 10.1.0.0/16"},
		{"mn -i10.1.0.0/16 --controller none", "weft -i 10.1.0.0/16 --controller none"},
		{"mn --ip 10.1.0.0/16 --controller none", "weft -i 10.1.0.0/16 --controller none"},
		{"mn --nat --controller none", "weft --nat --controller none"},
		{"mn --nat ip=10.0.0.9/8 --controller none", "weft --nat=ip=10.0.0.9/8 --controller none"},
		{"mn --controller none --listenport 6654 --topo linear,2", "weft --controller none --listenport=6654 --topo linear,2"},
		{"mn --nolistenport -w -t 5 -v output --host proc --controller none", "weft --controller none"},
		{"mn --test pingall+iperf,seconds=1 --test build --controller none", "weft --controller none"},
	} {
		mn, native := weft(t, strings.Fields(c.line)...), weft(t, strings.Fields(c.native)...)
		if mn.status != 0 || native.status != 0 || mn.out == "" || mn.out != native.out {
			t.Errorf("%s: %+v\n%s: %+v", c.line, mn, c.native, native)
		}
	}
}

// Tests become commands of the prompt.
func TestTestCommands(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"pingall", "pingall"},
		{"pingAll", "pingall"},
		{"none", "none"},
		{"all", "pingall;iperf"},
		{"pingall+iperf", "pingall;iperf"},
		{"iperf,seconds=10", "iperf --time 10"},
		{"iperf,h1,h2,time=500ms", "iperf h1 h2 --time 500ms"},
		{"iperfUdp,udpBw=5M", "iperfudp --rate 5M"},
		{"pingall,timeout=1,tries=2,count=3", "pingall --timeout 1 --tries 2 --count 3"},
		{"pingall -6", "pingall -6"},
		{"h1 expr 1 + 1", "h1 expr 1 + 1"},
	} {
		got, err := testCommands(c.text, []string{"h1", "h2"})
		if err != nil || strings.Join(got, ";") != c.want {
			t.Errorf("%s: %q, %v; want %s", c.text, got, err, c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, c := range []struct{ file, line string }{
		{"help-weft.txt", "weft --help"},
		{"help-mn.txt", "mn -h"},
	} {
		o := weft(t, strings.Fields(c.line)...)
		if o.status != 0 || o.err != "" {
			t.Errorf("%s: %+v", c.line, o)
		}
		golden(t, filepath.Join("testdata", c.file), o.out)
		for _, line := range strings.Split(o.out, "\n") {
			if n := len([]rune(line)); n > helpWidth {
				t.Errorf("%s: %d columns: %s", c.line, n, line)
			}
		}
	}
	for _, line := range []string{"weft help", "weft -h", "weft help mn", "weft mn --help", "weft doctor -h", "weft help ls", "weft mn --he"} {
		if o := weft(t, strings.Fields(line)...); o.status != 0 || o.err != "" || !strings.Contains(o.out, "Usage: ") {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

func TestManualPage(t *testing.T) {
	o := weft(t, "weft", "man")
	if o.status != 0 || o.err != "" {
		t.Fatalf("%+v", o)
	}
	golden(t, "../../man/weft.1", o.out)
}

// JSON is JSON wherever --json stands.
func TestJSON(t *testing.T) {
	for _, line := range []string{
		"weft --json doctor", "weft doctor --json", "weft --json ls", "weft ls --json", "weft --json version",
		"weft --version --json", "mn --version --json", "weft --json --dry-run", "weft --dry-run",
	} {
		o := weft(t, strings.Fields(line)...)
		if !json.Valid([]byte(o.out)) || o.err != "" {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, line := range []string{"weft version", "weft --version", "mn --version", "mn --vers"} {
		if o := weft(t, strings.Fields(line)...); o != (outcome{0, "weft " + version + "\n", ""}) {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, sh := range []string{"bash", "zsh", "fish"} {
		if o := weft(t, "weft", "completion", sh); o.status != 0 || !strings.Contains(o.out, "__complete") {
			t.Errorf("%s: exit %d, %d bytes", sh, o.status, len(o.out))
		}
	}
	// Completed by a bash without the package bash-completion.
	for line, want := range map[string]string{
		"weft --topo tor": "torus", "weft --topo=tor": "torus", "weft doc": "doctor",
	} {
		script := weft(t, "weft", "completion", "bash").out + `
weft() { printf 'torus\ndoctor\n:4\n'; }
COMP_LINE=$1 COMP_POINT=${#1}; __start_weft; printf %s "$COMPREPLY"`
		got, err := exec.Command("bash", "--norc", "-c", script, "bash", line).Output()
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("bash, %q Tab: %q, %v; want %q", line, got, err, want)
		}
	}
	for _, c := range []struct{ words, want string }{
		{"--topo t", "tree\ttorus"},
		{"mn --topo t", "tree\ttorus"},
		{"--test ping", "pingall\tpingpair"},
		{"--switch ovs", "ovs\tovsk\tovsbr"},
		{"--controller r", "remote\tryu,"},
		{"--log-level ", "debug\tinfo\twarn\terror"},
		{"--ver", "--verbosity\t--version"},
		{"completion ", "bash\tzsh\tfish"},
		{"do", "doctor"},
	} {
		words := strings.Split(c.words, " ")
		o := weft(t, append([]string{"weft", "__complete"}, words...)...)
		var offered []string
		for _, line := range strings.Split(o.out, "\n") {
			word, _, _ := strings.Cut(line, "\t")
			offered = append(offered, word)
		}
		for _, want := range strings.Split(c.want, "\t") {
			if !bytes.Contains([]byte("\n"+strings.Join(offered, "\n")+"\n"), []byte("\n"+want+"\n")) {
				t.Errorf("%s: %s is not offered: %q", c.words, want, offered)
			}
		}
	}
}

// Whatever is written, the command line is either taken or refused with a reason.
func FuzzOptparse(f *testing.F) {
	for _, line := range malformed {
		f.Add(line)
	}
	p := program{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	f.Fuzz(func(t *testing.T, line string) {
		mn, _, err := p.fullCommand().Find([]string{mnName})
		if err != nil {
			t.Fatal(err)
		}
		words, err := optparse(mn.Flags(), strings.Fields(line))
		if err != nil {
			return
		}
		for _, w := range words {
			name, _, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
			if !strings.HasPrefix(w, "--") || mn.Flags().Lookup(name) == nil {
				t.Fatalf("%q became %q", line, words)
			}
		}
	})
}

// Whatever a test is called, it becomes commands of one line each, or there is a reason.
func FuzzTestCommands(f *testing.F) {
	for _, text := range []string{"pingall", "all+iperf,seconds=1", "iperf,h1,h2", "pingall -6", "pingall,,=+", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		commands, err := testCommands(text, []string{"h1", "h2"})
		if err == nil && len(commands) == 0 {
			t.Fatalf("%q became nothing", text)
		}
		for _, c := range commands {
			if strings.TrimSpace(c) == "" {
				t.Fatalf("%q became %q", text, commands)
			}
		}
	})
}
