package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
)

// asNF is the variable that makes the test program an NF of weft's own.
const asNF = "WEFT_TEST_NF_RUN"

// beNF lets the test program be an NF, if the variable says so.
func beNF() {
	if line := os.Getenv(asNF); line != "" {
		p := program{in: os.Stdin, out: os.Stdout, err: os.Stderr}
		os.Exit(p.run(append([]string{"weft", nfRunName}, strings.Fields(line)...)))
	}
}

// The program is an NF: packets, commands, its end, and what it says if it cannot be one.
func TestNFRun(t *testing.T) {
	m := nftest.NewManager(t)
	cmd := exec.Command(os.Args[0])
	var errors strings.Builder
	cmd.Env = append(os.Environ(), asNF+"=limiter --rate 1mbit", nf.SocketVariable+"="+m.Path, nf.KeyVariable+"=secret")
	cmd.Stderr = &errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.Accept()
	if m.Hello.Key != "secret" || !m.Hello.ReadOnly {
		t.Errorf("%+v", m.Hello)
	}
	got := m.Pass(m.Packet(1, nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "x")))
	if got[0].Verdict != "next" {
		t.Error(got[0].Verdict)
	}
	if r := m.Ask(nf.Request{Counters: true}); r.Counters["passed"] != 1 {
		t.Errorf("%+v", r)
	}
	if r := m.Ask(nf.Request{Command: []string{"x"}}); r.Error != "this NF takes no commands" {
		t.Errorf("%+v", r)
	}
	m.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &errors)
	}
	for _, c := range []struct{ line, want string }{
		{"nf-run", "weft: nf-run NAME [ARGUMENT...]: which NF? see weft nf help"},
		{"nf-run nonsense", `weft: no NF "nonsense" comes with weft; there are arp, `},
		{"nf-run bridge --pair x", `weft: bridge: --pair x: port "x": ports have numbers from 1 to 255`},
		{"nf-run bridge", "weft: WEFT_NF is not set"},
		{"nf nonsense", `weft: there is no action "nonsense"`},
		{"nf help bridge x", `weft: unexpected argument "x"`},
		{"nf new", "weft: weft nf new DIRECTORY: into which"},
	} {
		if o := weft(t, append([]string{"weft"}, strings.Fields(c.line)...)...); o.status == 0 || o.out != "" || !strings.HasPrefix(o.err, c.want) {
			t.Errorf("%s: %+v", c.line, o)
		}
	}
	if o := weft(t, "weft", "nf", "help", "firewall"); o.status != 0 || !strings.Contains(o.out, "--rules file") {
		t.Errorf("%+v", o)
	}
	dir := filepath.Join(t.TempDir(), "mine")
	if o := weft(t, "weft", "nf", "new", dir); o.status != 0 || o.out != "cd "+dir+" && go build; README.md says how to start it\n" {
		t.Errorf("%+v", o)
	}
}
