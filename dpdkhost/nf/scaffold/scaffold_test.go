package scaffold

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
)

// built makes an NF in a language and builds it as its user would, without a network.
func built(t *testing.T, language string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "go") // no module may be called that
	if err := New(dir, language); err != nil {
		t.Fatal(err)
	}
	build(t, dir, language)
	return filepath.Join(dir, "go")
}

func build(t *testing.T, dir, language string) {
	t.Helper()
	tool, cmd := "go", exec.Command("go", "build")
	if language == "c" {
		tool, cmd = "gcc", exec.Command("gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", filepath.Base(dir), "main.c")
	}
	if _, err := exec.LookPath(tool); err != nil {
		t.Skipf("there is no %s here", tool)
	}
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off", "GOTOOLCHAIN=local", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// A process is a running NF.
type process struct {
	*exec.Cmd
	stderr bytes.Buffer
	ended  chan error
}

func run(t *testing.T, program string, m *nftest.Manager, variables ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(program), ended: make(chan error, 1)}
	p.Env = append(os.Environ(), "WEFT_NF="+m.Path)
	p.Env = append(p.Env, variables...)
	p.Stderr = &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() { p.Process.Kill() })
	return p
}

// end waits for the process and returns its exit status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		t.Fatal("the NF does not end")
		return -1
	}
}

func verdicts(results []nftest.Result) string {
	var list []string
	for _, r := range results {
		list = append(list, r.Verdict)
	}
	return strings.Join(list, ", ")
}

// The sample in each language, as a user builds it: packets, counters, commands, and its end.
func TestSamples(t *testing.T) {
	for _, language := range Languages() {
		t.Run(language, func(t *testing.T) {
			program := built(t, language)
			m := nftest.NewManager(t)
			p := run(t, program, m, "WEFT_NF_KEY=a \"key\" \\ \x01", "WEFT_NF_SERVICE=7")
			m.Accept()
			if m.Hello.Key != "a \"key\" \\ \x01" || m.Hello.Service != 7 {
				t.Errorf("%+v", m.Hello)
			}
			udp := func(port string) nf.Packet {
				return m.Packet(1, nftest.UDP(t, "10.0.0.1:1000", "10.0.0.2:"+port, "hello"))
			}
			tcp := nftest.TCP(t, "10.0.0.1:1", "10.0.0.2:9", "S", strings.Repeat("x", 4000))
			got := m.Pass(udp("9"), udp("10"), m.Packet(2, tcp), m.Unfinished(2, tcp, 1000), m.Packet(1, nil))
			if v := verdicts(got); v != "drop, next, next, next, next" {
				t.Errorf("%s\n%s", v, &p.stderr)
			}
			if string(got[2].Data) != string(tcp) || got[3].Packet.Segment() != 1000 {
				t.Error("a packet changed on its way")
			}
			if r := m.Ask(nf.Request{Counters: true}); r.Counters["passed"] != 4 || r.Counters["dropped"] != 1 {
				t.Errorf("%+v", r)
			}
			if r := m.Ask(nf.Request{Command: []string{"hide", "10"}}); r.Error != "" || r.Text != "UDP port 10 is hidden now\n" {
				t.Errorf("%+v", r)
			}
			if r := m.Ask(nf.Request{Command: []string{"say \"hello\"\n<&>"}}); r.Error != "say: hide PORT" {
				t.Errorf("%+v", r)
			}
			if v := verdicts(m.Pass(udp("9"), udp("10"))); v != "next, drop" {
				t.Error("after the command:", v)
			}
			// Many batches, also around the rings' end.
			for range 40 {
				var list []nf.Packet
				for range 100 {
					list = append(list, udp("11"))
				}
				m.Pass(list...)
			}
			if r := m.Ask(nf.Request{Counters: true}); r.Counters["passed"] != 4005 {
				t.Errorf("%+v", r)
			}
			p.Process.Signal(syscall.SIGTERM)
			m.Leaving()
			m.Stop()
			if status := p.end(t); status != 0 {
				t.Errorf("status %d\n%s", status, &p.stderr)
			}
		})
	}
}

// An NF ends with its manager, and says so.
func TestManagerGone(t *testing.T) {
	for _, language := range Languages() {
		t.Run(language, func(t *testing.T) {
			program := built(t, language)
			m := nftest.NewManager(t)
			p := run(t, program, m)
			m.Accept()
			m.Pass(m.Packet(1, nil))
			m.Close()
			if status := p.end(t); status != 1 || !strings.Contains(p.stderr.String(), "nf: the NF manager is gone") {
				t.Errorf("status %d\n%s", status, &p.stderr)
			}
			m.Path = filepath.Join(t.TempDir(), "nobody")
			p = run(t, program, m)
			if status := p.end(t); status != 1 || !strings.Contains(p.stderr.String(), "connect to the NF manager: ") {
				t.Errorf("status %d\n%s", status, &p.stderr)
			}
		})
	}
}

// What a program asks for arrives.
func TestAsks(t *testing.T) {
	for language, main := range map[string]string{
		"c": "#include \"weft_nf.h\"\nstatic void handle(struct weft_packet *b, int n, void *u) { (void)b; (void)n; (void)u; }\n" +
			"int main(void) { weft_ask(WEFT_WIRE | WEFT_READ_ONLY); return weft_run(handle, NULL); }\n",
		"go": "package main\n\nimport \"weft/dpdkhost/nf\"\n\ntype f struct{}\n\nfunc (f) Handle([]nf.Packet) {}\n" +
			"func (f) Greet(h *nf.Hello) { h.Wire, h.ReadOnly = true, true }\n\nfunc main() { nf.RunFunction(f{}) }\n",
	} {
		t.Run(language, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mine")
			if err := New(dir, language); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "main."+language), []byte(main), 0o644); err != nil {
				t.Fatal(err)
			}
			build(t, dir, language)
			m := nftest.NewManager(t)
			run(t, filepath.Join(dir, "mine"), m)
			m.Accept()
			if !m.Hello.Wire || !m.Hello.ReadOnly || m.Hello.Service != 0 {
				t.Errorf("%+v", m.Hello)
			}
			m.Stop()
		})
	}
}

// A manager of another version is not served, and who started the NF learns what to do.
func TestOtherVersion(t *testing.T) {
	for _, language := range Languages() {
		t.Run(language, func(t *testing.T) {
			program := built(t, language)
			m := nftest.NewManager(t)
			m.Version = nf.Protocol + 1
			p := run(t, program, m, "WEFT_NF_SERVICE=1")
			m.Accept()
			if m.Hello.Version != nf.Protocol {
				t.Errorf("it says that it speaks version %d", m.Hello.Version)
			}
			if err := <-p.ended; err == nil {
				t.Error("it serves a manager of another version")
			}
			if want := "version 2 of the NF protocol, and this is 1; renew"; !strings.Contains(p.stderr.String(), want) {
				t.Errorf("%q, want %q", p.stderr.String(), want)
			}
		})
	}
}

func TestNew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my nf")
	if err := New(dir, "pascal"); err == nil || err.Error() != `language "pascal": there is go and c` {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory for nothing")
	}
	if err := New(dir, "c"); err != nil {
		t.Fatal(err)
	}
	if err := New(dir, "c"); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Error(err)
	}
	for name, text := range map[string]string{"Makefile": "my-nf: main.c weft_nf.h\n", "README.md": "# my-nf, a network function\n\n    make\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.HasPrefix(string(b), text) || strings.Contains(string(b), "%!") {
			t.Errorf("%v\n%s", err, b)
		}
	}
	// The library is renewed; the user's file stays.
	for name, text := range map[string]string{"main.c": "mine", "weft_nf.h": "old"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if language, err := Library(dir); err != nil || language != "c" {
		t.Errorf("%s %v", language, err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "main.c")); string(b) != "mine" {
		t.Error("the user's file was written over")
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "weft_nf.h")); !strings.Contains(string(b), "WEFT_NF_H") {
		t.Error("the library is the old one")
	}
	if _, err := Library(t.TempDir()); err == nil {
		t.Error("a library in a directory without an NF")
	}
}
