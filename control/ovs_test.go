package control

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A bottle is a shell in network, mount and PID namespaces of its own, in which
// everything ends with it.
type bottle struct {
	t     *testing.T
	stdin io.WriteCloser
	lines chan string
}

func newBottle(t *testing.T, env ...string) *bottle {
	for _, tool := range []string{"ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ovs-ofctl", "ip", "ping", "unshare", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/net/tun, for the user datapath: %v", err)
	}
	tun.Close()
	args := []string{"--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"}
	if os.Getuid() != 0 {
		args = append(args, "--user", "--map-root-user")
	}
	if out, err := exec.Command("unshare", append(args, "true")...).CombinedOutput(); err != nil {
		t.Skipf("needs root or user namespaces: %v: %s", err, out)
	}
	cmd := exec.Command("unshare", append(args, "sh")...)
	cmd.Env = append(os.Environ(), env...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	b := &bottle{t, stdin, make(chan string)}
	go func() {
		defer close(b.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			b.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		for range b.lines {
		}
		r.Close()
		cmd.Wait()
	})
	return b
}

// try runs a command and returns its output and whether it succeeded.
func (b *bottle) try(format string, args ...any) (string, bool) {
	b.t.Helper()
	command := fmt.Sprintf(format, args...)
	fmt.Fprintf(b.stdin, "{ %s\n} </dev/null; echo \"--end $?\"\n", command)
	var out []string
	for {
		line := await(b.t, b.lines, command)
		if status, ended := strings.CutPrefix(line, "--end "); ended {
			return strings.Join(out, "\n"), status == "0"
		}
		out = append(out, line)
	}
}

// run runs a command that must succeed.
func (b *bottle) run(format string, args ...any) string {
	b.t.Helper()
	out, ok := b.try(format, args...)
	if !ok {
		b.t.Fatalf("%s:\n%s", fmt.Sprintf(format, args...), out)
	}
	return out
}

// ping sends from one host until it has an answer from another.
func (b *bottle) ping(from, to int) {
	b.t.Helper()
	b.run("nsenter --net=/run/netns/h%d ping -c 1 -w 15 10.0.0.%d", from, to)
}

// An ovsRing is three Open vSwitches in a ring, with a host each, whose control
// channels go through relays to the built-in controller.
type ovsRing struct {
	*bottle
	c      *Controller
	relays []*Relay
	asked  atomic.Int64 // PACKET_INs with IPv4

	mu        sync.Mutex
	recorders []*Recorder
}

func newOVSRing(t *testing.T, protocols string) *ovsRing {
	dir := t.TempDir()
	g := &ovsRing{
		bottle: newBottle(t, "OVS_RUNDIR="+dir, "OVS_DBDIR="+dir, "OVS_SYSCONFDIR="+dir, "OVS_LOGDIR="+dir),
		c:      NewController(nil),
	}
	g.run("mount -t tmpfs none /run && cd %s", dir)
	g.run("ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema")
	g.run("ovsdb-server conf.db --remote=punix:db.sock --pidfile --detach --no-chdir -vconsole:off")
	g.run("ovs-vsctl --no-wait --db=unix:db.sock init")
	g.run("ovs-vswitchd unix:db.sock --pidfile --detach --no-chdir -vconsole:off")
	var links []TopologyLink
	for i := range uint64(3) {
		next := (i+1)%3 + 1
		links = append(links, TopologyLink{i + 1, 2, next, 3, true})
		g.run("ip link add s%d-eth2 type veth peer name s%d-eth3", i+1, next)
		g.run("ip netns add h%d && ip link add s%[1]d-eth1 type veth peer name eth0 netns h%[1]d", i+1)
		g.run(`nsenter --net=/run/netns/h%d sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
			ip addr add 10.0.0.%[1]d/24 dev eth0 && ip link set eth0 up'`, i+1)
	}
	g.c.SetTopology(links)
	for i := range uint64(3) {
		name := fmt.Sprintf("s%d", i+1)
		socket := filepath.Join(dir, name+".ctl")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		r := NewRelay(RelayConfig{Switch: name, Controller: "c0", Listener: l, Dial: g.c.Dial, Tap: g.tap})
		t.Cleanup(func() { r.Close() })
		g.relays = append(g.relays, r)
		command := fmt.Sprintf("ovs-vsctl --db=unix:db.sock add-br %s -- set bridge %[1]s datapath_type=netdev "+
			"fail_mode=secure protocols=%s other-config:datapath-id=%016x -- set-controller %[1]s unix:%[4]s",
			name, protocols, i+1, socket)
		for port := 1; port <= 3; port++ {
			g.run("ip link set %s-eth%d up", name, port)
			command += fmt.Sprintf(" -- add-port %s %[1]s-eth%d -- set interface %[1]s-eth%[2]d ofport_request=%[2]d", name, port)
		}
		g.run("%s", command)
	}
	return g
}

func (g *ovsRing) tap(m TapMessage) {
	g.mu.Lock()
	for _, r := range g.recorders {
		r.Tap(m)
	}
	g.mu.Unlock()
	if m.Event != TapData || m.Data.Type() != TypePacketIn {
		return
	}
	if p, err := ParsePacketIn(m.Data); err == nil && len(p.Data) > 14 && binary.BigEndian.Uint16(p.Data[12:]) == 0x0800 {
		g.asked.Add(1)
	}
}

// record has recorders see all messages from now on.
func (g *ovsRing) record(recorders []*Recorder) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.recorders = recorders
}

// waitStatus waits until all channels have a status.
func (g *ovsRing) waitStatus(want func(Status) bool) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	for _, r := range g.relays {
		for !want(r.Status()) {
			if ctx.Err() != nil {
				g.t.Fatalf("%s is %+v", r.cfg.Switch, r.Status())
			}
			sleep(ctx, 10*time.Millisecond)
		}
	}
}

func (g *ovsRing) pingAll() {
	g.t.Helper()
	for from := 1; from <= 3; from++ {
		for to := 1; to <= 3; to++ {
			if from != to {
				g.ping(from, to)
			}
		}
	}
}

func TestOpenVSwitch(t *testing.T) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		t.Run(v.String(), func(t *testing.T) {
			protocol := fmt.Sprintf("OpenFlow1%d", v-1)
			g := newOVSRing(t, protocol)
			connected := func(s Status) bool { return s.Connected && s.Version == v.String() }
			g.waitStatus(connected)
			g.pingAll()
			before := g.asked.Load()
			g.pingAll()
			if n := g.asked.Load() - before; n != 0 {
				t.Errorf("%d PACKET_INs between hosts that have flows", n)
			}
			flows := g.run("ovs-ofctl -O %s dump-flows s1", protocol)
			if !strings.Contains(flows, "idle_timeout=60") || !strings.Contains(flows, "priority=10") {
				t.Errorf("flows of s1:\n%s", flows)
			}

			g.run("ip link set s1-eth2 down")
			g.pingAll()
			g.run("ip link set s1-eth2 up")
			g.pingAll()

			g.relays[0].SetDown(true)
			if s := g.relays[0].Status(); s.Connected || s.Reason != reasonCut {
				t.Errorf("cut channel: %+v", s)
			}
			g.ping(2, 3)
			g.relays[0].SetDown(false)
			g.waitStatus(connected)
			g.pingAll()
		})
	}
	t.Run("1.4", func(t *testing.T) {
		newOVSRing(t, "OpenFlow14").waitStatus(func(s Status) bool {
			return s.Reason == "version mismatch: switch speaks OpenFlow 1.4, controller 1.0, 1.3"
		})
	})
}
