package ovs

import (
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files")

func TestTransactionGolden(t *testing.T) {
	var b builder
	b.bridge(Bridge{Name: "s1", DPID: 0x1f, Protocols: []string{"OpenFlow10", "OpenFlow13"}, FailMode: "secure",
		Datapath: DatapathUser, Controllers: []string{"unix:c0"},
		Ports: []Port{{Name: "s1-eth1", Number: 1}, {Name: "s1-eth2", Number: 2, Type: "patch", Peer: "s2-eth1", MAC: "02:00:00:00:00:01"}}})
	b.bridge(Bridge{Name: "s2", DPID: 2, FailMode: "standalone", Datapath: DatapathKernel, STP: true})
	var lines []string
	for _, op := range b.ops {
		text, err := json.Marshal(op)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(text))
	}
	got := strings.Join(lines, "\n") + "\n"
	const file = "testdata/bridges.jsonl"
	if *rewrite {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("transaction:\n%s\nwant:\n%s", got, want)
	}
}

// instance runs a private ovsdb-server and ovs-vswitchd. No bridge here has a device, so
// an ordinary user may.
func instance(t *testing.T) *Instance {
	t.Helper()
	for _, p := range []string{"ovsdb-server", "ovs-vswitchd"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	i, err := Start(t.Context(), Config{Dir: t.TempDir(), Dummy: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

func (i *Instance) ask(t *testing.T, args ...string) string {
	t.Helper()
	out, err := i.command(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

func TestBridges(t *testing.T) {
	i := instance(t)
	next := 6
	patch := func(name, peer string) Port {
		next++
		return Port{Name: name, Number: next, Type: "patch", Peer: peer}
	}
	err := i.AddBridges(t.Context(),
		Bridge{Name: "s1", DPID: 0xabc, Protocols: []string{"OpenFlow13"}, FailMode: "secure", Datapath: DatapathDummy, Ports: []Port{patch("p1", "p2")}},
		Bridge{Name: "s2", DPID: 2, FailMode: "standalone", Datapath: DatapathDummy, Ports: []Port{patch("p2", "p1")}})
	if err != nil {
		t.Fatal(err)
	}
	if out := i.ask(t, "ovs-ofctl", "-O", "OpenFlow13", "show", "s1"); !strings.Contains(out, "dpid:0000000000000abc") || !strings.Contains(out, "7(p1)") {
		t.Errorf("bridge s1 as its own protocol shows it:\n%s", out)
	}
	if err := i.AddPorts(t.Context(), Bridge{Name: "s1", Ports: []Port{patch("p3", "p4")}}, Bridge{Name: "s2", Ports: []Port{patch("p4", "p3")}}); err != nil {
		t.Error(err)
	}
	if err := i.DeletePorts(t.Context(), Bridge{Name: "s1", Ports: []Port{{Name: "p1"}}}); err != nil {
		t.Error(err)
	}
	if out := i.ask(t, "ovs-vsctl", "list-ports", "s1"); out != "p3\n" {
		t.Errorf("ports of s1: %q", out)
	}
	if err := i.DeleteBridges(t.Context(), "s2"); err != nil {
		t.Error(err)
	}
	if out := i.ask(t, "ovs-vsctl", "list-br"); out != "s1\n" {
		t.Errorf("bridges: %q", out)
	}
	for what, err := range map[string]error{
		"a bridge that is there":      i.AddBridges(t.Context(), Bridge{Name: "s1", FailMode: "secure", Datapath: DatapathDummy}),
		"a fail mode that is not":     i.AddBridges(t.Context(), Bridge{Name: "s9", FailMode: "maybe", Datapath: DatapathDummy}),
		"a device that is not":        i.AddPorts(t.Context(), Bridge{Name: "s1", Ports: []Port{{Name: "nosuchdev", Number: 9}}}),
		"a bridge that is not, gone":  i.DeleteBridges(t.Context(), "s9"),
		"a port that is not, deleted": i.DeletePorts(t.Context(), Bridge{Name: "s1", Ports: []Port{{Name: "p9"}}}),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		} else if strings.Contains(err.Error(), "no reason given") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestDaemonsComeBack(t *testing.T) {
	i := instance(t)
	br := func(name string) Bridge { return Bridge{Name: name, FailMode: "secure", Datapath: DatapathDummy} }
	if err := i.AddBridges(t.Context(), br("s1")); err != nil {
		t.Fatal(err)
	}
	for k, kill := range []func(){
		func() { i.vswitch.cmd.Process.Kill() },
		func() { i.server.cmd.Process.Kill() },
	} {
		i.mu.Lock()
		kill()
		i.mu.Unlock()
		name := "t" + string(rune('0'+k))
		deadline := time.Now().Add(20 * time.Second)
		for i.AddBridges(t.Context(), br(name)) != nil {
			if time.Now().After(deadline) {
				t.Fatal("no daemon came back")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if out := i.ask(t, "ovs-vsctl", "list-br"); out != "s1\nt0\nt1\n" {
		t.Errorf("bridges: %q", out)
	}
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Start(t.Context(), Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("%v", err)
	}
}

func TestLastError(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		b.Write([]byte(`{"id":"1","result":[{},{"error":"constraint violation","details":"no such row"},null],"error":null}`))
		b.Close()
	}()
	p := &tap{Conn: a, lost: make(chan struct{})}
	buf := make([]byte, 512)
	for {
		if _, err := p.Read(buf); err != nil {
			break
		}
	}
	if got := p.lastError(); got != "constraint violation: no such row" {
		t.Errorf("%q", got)
	}
}

// Packet sockets can be duplicated from another process of the same user.
func TestPacketSockets(t *testing.T) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no AF_PACKET socket without root: %v", err)
	}
	defer unix.Close(fd)
	other, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	found := 0
	eachPacketSocket(os.Getpid(), func(dup int) {
		found++
		unix.Close(dup)
	})
	if found != 1 {
		t.Errorf("%d packet sockets, want 1", found)
	}
	before, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	tendPacketSockets(os.Getpid(), 0, map[uint64]bool{})
	if after, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); after <= before {
		t.Errorf("receive buffer of %d bytes, was %d", after, before)
	}
	holdPacketSockets(os.Getpid())()
}
