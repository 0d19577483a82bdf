package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weft/control"
	"weft/dpdkhost/manager"
	"weft/dpdkhost/manager/managertest"
	"weft/dpdkhost/nf"
)

// ports are two of a node and a service.
func ports() []Port {
	return []Port{
		{1, "nf1-eth1", control.MAC{2, 0, 0, 0, 0, 1}, true, 1000}, {2, "nf1-eth2", control.MAC{2, 0, 0, 0, 0, 2}, true, 1000},
		{manager.ServicePort + 5, "bridge", control.MAC{2, 0, 0, 0, 1, 5}, true, 0},
	}
}

// start runs an agent until the test ends. Its controllers are named by their numbers from 0.
func start(t *testing.T, lab *managertest.Lab, v control.Versions, dial ...func(context.Context) (net.Conn, error)) *Agent {
	t.Helper()
	a := run(t, Config{Name: "nf1", DPID: 0x1f, Versions: v, Manager: lab.Manager, Dial: func(ctx context.Context, target string) (net.Conn, error) {
		n, err := strconv.Atoi(target)
		if err != nil {
			return nil, err
		}
		return dial[n](ctx)
	}})
	var targets []string
	for n := range dial {
		targets = append(targets, strconv.Itoa(n))
	}
	a.SetControllers(targets)
	return a
}

func run(t *testing.T, c Config) *Agent {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.Ports, c.Log = ports, slog.New(slog.DiscardHandler)
	a, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := a.Wait(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// mark writes an x over the first byte of a packet.
func mark(batch []nf.Packet) {
	for i := range batch {
		batch[i].Data()[0] = 'x'
		batch[i].Next()
	}
}

// Open vSwitch's own tool asks, and steers packets.
func TestOfctl(t *testing.T) {
	if _, err := exec.LookPath("ovs-ofctl"); err != nil {
		t.Skip("there is no ovs-ofctl (Open vSwitch)")
	}
	for _, version := range []string{"OpenFlow10", "OpenFlow13"} {
		t.Run(version, func(t *testing.T) {
			lab := managertest.New(t)
			_, err := lab.AttachFused(manager.Instance{Service: 5}, nf.Handler(mark))
			lab.Must(err)
			path := filepath.Join(t.TempDir(), "nf1.mgmt")
			l, err := net.Listen("unix", path)
			lab.Must(err)
			run(t, Config{Name: "nf1", DPID: 0x1f, Manager: lab.Manager, Management: l})
			ofctl := func(words ...string) (string, error) {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				all := append([]string{"-O", version, "--timeout=25"}, words...)
				at := slices.IndexFunc(all, func(w string) bool { return w == words[0] })
				if words[0] == "--strict" {
					at++
				}
				all = slices.Insert(all, at+1, "unix:"+path)
				out, err := exec.CommandContext(ctx, "ovs-ofctl", all...).CombinedOutput()
				return string(out), err
			}
			must := func(words ...string) string {
				t.Helper()
				out, err := ofctl(words...)
				if err != nil {
					t.Fatalf("ovs-ofctl %v: %v\n%s", words, err, out)
				}
				return out
			}
			contain := func(out string, want ...string) {
				t.Helper()
				for _, w := range want {
					if !strings.Contains(out, w) {
						t.Errorf("no %q in\n%s", w, out)
					}
				}
			}
			contain(must("show"), "dpid:000000000000001f", "1(nf1-eth1)", "2(nf1-eth2)", "32773(bridge)", "02:00:00:00:00:02")
			contain(must("dump-desc"), "Manufacturer: weft", "DP Description: nf1")
			flows := []string{
				"cookie=0x7,idle_timeout=100,hard_timeout=200,priority=7,tcp,nw_src=10.0.0.0/8,nw_dst=10.0.0.2,tp_dst=80,actions=output:32773",
				"priority=6,udp,in_port=1,dl_src=02:00:00:00:00:09,dl_vlan=5,actions=output:1,output:2",
				"priority=5,arp,arp_tpa=10.0.0.7,arp_op=1,actions=FLOOD",
				"priority=4,icmp,icmp_type=8,nw_tos=32,actions=CONTROLLER:65535",
				"in_port=32773,actions=output:2",
				"priority=3,in_port=1,actions=output:32773",
				"priority=2,actions=drop",
			}
			if version == "OpenFlow13" {
				flows = append(flows, "priority=9,tcp6,ipv6_dst=fd00::/8,actions=output:2", "priority=1,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=IN_PORT")
			}
			for _, f := range flows {
				must("add-flow", f)
			}
			// What was asked for is what is told.
			normal := func(list string) (all []string) {
				for line := range strings.Lines(list) {
					line = strings.TrimSpace(line)
					if strings.Contains(line, "actions=") {
						_, line, _ = strings.Cut(line, "n_bytes=0, ")
						line, _, _ = strings.Cut(strings.Replace(line, "reset_counts ", "", 1), "idle_age")
						all = append(all, line)
					}
				}
				slices.Sort(all)
				return all
			}
			reference := normal(referenceFlows(t, version, flows))
			if told := normal(must("dump-flows")); !slices.Equal(told, reference) {
				t.Errorf("flows:\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(reference, "\n"))
			}
			lab.Send("dddddd\x02\x00\x00\x00\x00\x01\x88\xb5 payload")
			lab.Arrive("xddddd\x02\x00\x00\x00\x00\x01\x88\xb5 payload")
			contain(must("dump-ports"), "port  1: rx pkts=1,", "port  2:", "tx pkts=1,")
			contain(must("dump-aggregate", "in_port=1"), "packet_count=1")
			contain(must("dump-tables"), "active="+fmt.Sprint(len(flows)))
			must("packet-out", "in_port=controller packet=ffffffffffff00000000000188b500 actions=output:2")
			lab.Arrive("\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x01\x88\xb5\x00")
			must("mod-flows", "in_port=1,actions=output:2")
			lab.Send("dddddd\x02\x00\x00\x00\x00\x01\x88\xb5 past it")
			lab.Arrive("dddddd\x02\x00\x00\x00\x00\x01\x88\xb5 past it")
			must("--strict", "del-flows", "priority=3,in_port=1")
			if got := normal(must("dump-flows")); len(got) != len(flows)-1 {
				t.Errorf("%d flows after a strict deletion of one of %d", len(got), len(flows))
			}
			must("del-flows", "udp")
			if got := normal(must("dump-flows")); len(got) != len(flows)-2 {
				t.Errorf("%d flows after the deletion of two of %d", len(got), len(flows))
			}
			must("del-flows")
			if got := normal(must("dump-flows")); len(got) != 0 {
				t.Errorf("flows are left: %q", got)
			}
			for _, bad := range []string{"ip,actions=mod_nw_dst:10.0.0.1,output:2", "actions=NORMAL", "actions=output:60000"} {
				if out, err := ofctl("add-flow", bad); err == nil || !strings.Contains(out, "OFPBAC_") {
					t.Errorf("add-flow %s: %v\n%s", bad, err, out)
				}
			}
			must("add-flow", "priority=5,in_port=1,actions=output:2")
			if out, err := ofctl("add-flow", "check_overlap,priority=5,arp,actions=output:2"); err == nil || !strings.Contains(out, "OVERLAP") {
				t.Errorf("a flow that overlaps another: %v\n%s", err, out)
			}
			lab.Whole()
		})
	}
}

// ethernet returns a frame between two hosts.
func ethernet(dst, src byte, text string) string {
	mac := func(n byte) string { return string([]byte{2, 0, 0, 0, 9, n}) }
	to := mac(dst)
	if dst == 0xff {
		to = "\xff\xff\xff\xff\xff\xff"
	}
	return to + mac(src) + "\x88\xb5" + text
}

// learns checks that a controller which learns lets two hosts speak to each other, and that a flow
// does so in the end.
func learns(t *testing.T, lab *managertest.Lab) {
	t.Helper()
	reply := func(text string) {
		lab.Queues[1].Put(ethernet(1, 2, text))
		lab.Do(func() {})
	}
	lab.Eventually("a frame is flooded", func() bool {
		lab.Send(ethernet(0xff, 1, "who is there"))
		time.Sleep(10 * time.Millisecond)
		return slices.Contains(lab.Queues[1].Take(), ethernet(0xff, 1, "who is there"))
	})
	lab.Eventually("an answer arrives", func() bool {
		reply("I am")
		time.Sleep(10 * time.Millisecond)
		return slices.Contains(lab.Queues[0].Take(), ethernet(1, 2, "I am"))
	})
	lab.Eventually("a flow carries frames", func() bool {
		lab.Send(ethernet(2, 1, "good"))
		reply("good")
		time.Sleep(10 * time.Millisecond)
		flows, _, err := lab.Flows()
		lab.Must(err)
		carried := 0
		for i := range flows {
			if flows[i].Priority > 0 && flows[i].Packets > 0 {
				carried++
			}
		}
		return carried >= 2
	})
}

func TestBuiltinController(t *testing.T) {
	for _, v := range []control.Version{control.OpenFlow10, control.OpenFlow13} {
		t.Run(v.String(), func(t *testing.T) {
			lab := managertest.New(t)
			start(t, lab, control.VersionSet(v), control.NewController(nil).Dial)
			learns(t, lab)
		})
	}
}

// ovs-testcontroller comes with Open vSwitch.
func TestOVSController(t *testing.T) {
	path, err := exec.LookPath("ovs-testcontroller")
	if err != nil {
		t.Skip("there is no ovs-testcontroller")
	}
	socket := filepath.Join(t.TempDir(), "c.sock")
	cmd := exec.Command(path, "-vconsole:info", "--no-chdir", "--unixctl="+socket+".ctl", "punix:"+socket)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		t.Log(log.String())
	})
	lab := managertest.New(t)
	start(t, lab, 0, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	})
	learns(t, lab)
}

// Of two controllers one is the master; the other may only look (OpenFlow 1.3.5, section 6.3.6).
func TestRoles(t *testing.T) {
	lab := managertest.New(t)
	pipes := make(chan net.Conn, 2)
	dial := func(ctx context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case pipes <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	start(t, lab, control.VersionSet(control.OpenFlow13), dial, dial)
	two := [2]*peer{greet(t, <-pipes), greet(t, <-pipes)}
	role := func(c *peer, role uint32, generation uint64) control.Message {
		b := begin(nil, control.OpenFlow13, typeRoleRequest, 7)
		b = be.AppendUint32(b, role)
		b = be.AppendUint32(b, 0)
		c.Write(finish(be.AppendUint64(b, generation)))
		return c.next()
	}
	is := func(m control.Message, want uint32) {
		t.Helper()
		if m.Type() != typeRoleReply || be.Uint32(m[8:]) != want {
			t.Errorf("%v: % x, want role %d", m, []byte(m), want)
		}
	}
	is(role(two[0], roleNoChange, 0), roleEqual)
	is(role(two[0], roleMaster, 10), roleMaster)
	is(role(two[1], roleMaster, 11), roleMaster)
	is(role(two[0], roleNoChange, 0), roleSlave)
	if m := role(two[0], roleMaster, 9); m.Type() != control.TypeError {
		t.Errorf("a master of an old generation: %v", m)
	}
	two[0].Write(control.AppendFlowMod(nil, control.OpenFlow13, 8, control.FlowMod{Output: 2}))
	if m := two[0].next(); m.Type() != control.TypeError || be.Uint16(m[10:]) != 10 {
		t.Errorf("a slave's flow: %v", m)
	}
	lab.Send(ethernet(2, 1, "for the master"))
	if m := two[1].next(); m.Type() != control.TypePacketIn {
		t.Errorf("the master gets %v", m)
	}
	if flows, _, _ := lab.Flows(); len(flows) != 0 {
		t.Errorf("there are flows: %v", flows)
	}
}

// What is sent may be anything.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(control.AppendFlowMod(nil, control.OpenFlow13, 1, control.FlowMod{Match: control.Match{InPort: 1}, Output: 2})), true)
	f.Add([]byte(control.AppendFlowMod(nil, control.OpenFlow10, 1, control.FlowMod{Match: control.Match{InPort: 1}, Output: 2})), false)
	f.Add([]byte(control.AppendPacketOut(nil, control.OpenFlow13, 1, control.PacketOut{BufferID: control.NoBuffer, Outputs: []uint32{1, 2}, Data: []byte("hello")})), true)
	f.Add([]byte(control.AppendPortDescRequest(nil, control.OpenFlow13, 1)), true)
	lab := managertest.New(f)
	f.Fuzz(func(t *testing.T, b []byte, new bool) {
		if len(b) < control.HeaderLen || len(b) > control.MaxMessage {
			return
		}
		c := &conn{Agent: &Agent{Config: Config{Manager: lab.Manager, Log: slog.New(slog.DiscardHandler)}, conns: map[*conn]bool{}, ports: ports()}, version: control.OpenFlow10, out: make(chan []byte, maxQueue)}
		if new {
			c.version = control.OpenFlow13
		}
		b[0] = byte(c.version)
		be.PutUint16(b[2:], uint16(len(b)))
		c.answer(control.Message(b))
		for len(c.out) > 0 {
			if m := control.Message(<-c.out); len(m) < control.HeaderLen || int(be.Uint16(m[2:])) != len(m) {
				t.Fatalf("% x is answered with % x", b, []byte(m))
			}
		}
	})
}

// referenceFlows returns how ovs-ofctl itself writes flows.
func referenceFlows(t *testing.T, version string, flows []string) string {
	t.Helper()
	var lines []string
	for _, f := range flows {
		out, err := exec.Command("ovs-ofctl", "-O", version, "parse-flow", f).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", f, err, out)
		}
		_, line, _ := strings.Cut(string(out), "ADD ")
		for _, word := range []string{"reset_counts ", "cookie:0x7 "} {
			line = strings.Replace(line, word, "", 1)
		}
		idle := ""
		if strings.Contains(line, "idle:100 hard:200 ") {
			idle = "idle_timeout=100, hard_timeout=200, "
			line = strings.Replace(line, "idle:100 hard:200 ", "", 1)
		}
		match, actions, _ := strings.Cut(line, "actions=")
		lines = append(lines, "n_bytes=0, "+idle+strings.TrimSpace(match)+" actions="+strings.TrimSpace(actions))
	}
	return strings.Join(lines, "\n")
}

// A peer is the other end of an agent's connection.
type peer struct {
	t *testing.T
	net.Conn
	r     *control.Reader
	queue []control.Message
}

// greet agrees on OpenFlow 1.3.
func greet(t *testing.T, c net.Conn) *peer {
	t.Helper()
	p := &peer{t: t, Conn: c, r: control.NewReader(c)}
	t.Cleanup(func() { c.Close() })
	if m := p.next(); m.Type() != control.TypeHello {
		t.Fatalf("it begins with %v", m)
	}
	p.Write(control.AppendHello(nil, 1, control.VersionSet(control.OpenFlow13)))
	p.echo() // it is past the greeting
	return p
}

// next returns the next message; nil after the last.
func (p *peer) next() control.Message {
	p.t.Helper()
	for len(p.queue) == 0 {
		p.SetDeadline(time.Now().Add(20 * time.Second))
		batch, err := p.r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			p.t.Fatal(err)
		}
		for m := range batch.All() {
			p.queue = append(p.queue, slices.Clone(m))
		}
	}
	m := p.queue[0]
	p.queue = p.queue[1:]
	return m
}

// echo checks that nothing comes before the answer to an ECHO_REQUEST.
func (p *peer) echo() {
	p.t.Helper()
	p.Write(control.AppendEmpty(nil, control.OpenFlow13, control.TypeEchoRequest, 9))
	if m := p.next(); m == nil || m.Type() != control.TypeEchoReply {
		p.t.Errorf("an echo is answered by %v", m)
	}
}

// Controllers come and go without a trace in packets, flows and other controllers' connections.
func TestSetControllers(t *testing.T) {
	lab := managertest.New(t)
	calls := map[string]chan net.Conn{"a": make(chan net.Conn, 1), "b": make(chan net.Conn, 1)}
	agent := run(t, Config{Name: "nf1", DPID: 0x1f, Manager: lab.Manager, Dial: func(ctx context.Context, target string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case calls[target] <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	unwanted := func() uint64 {
		s, err := lab.Snapshot()
		lab.Must(err)
		return s.Drops.NoFlow
	}
	lab.Send(ethernet(2, 1, "nobody wants it"))
	if n := unwanted(); n != 1 {
		t.Errorf("%d packets are counted as lost without a flow or a controller, want 1", n)
	}
	agent.SetControllers([]string{"a"})
	a := greet(t, <-calls["a"])
	a.Write(control.AppendFlowMod(nil, control.OpenFlow13, 8, control.FlowMod{Match: control.Match{InPort: 2}, Output: 1}))
	agent.SetControllers([]string{"a", "b", "b"})
	b := greet(t, <-calls["b"])
	lab.Send(ethernet(2, 1, "for both"))
	for name, p := range map[string]*peer{"a": a, "b": b} {
		if m := p.next(); m == nil || m.Type() != control.TypePacketIn {
			t.Errorf("%s gets %v", name, m)
		}
		p.echo()
	}
	agent.SetControllers([]string{"b"})
	if m := a.next(); m != nil {
		t.Errorf("a controller that the switch left gets %v", m)
	}
	b.echo()
	agent.SetControllers(nil)
	if m := b.next(); m != nil {
		t.Errorf("a controller that the switch left gets %v", m)
	}
	lab.Eventually("packets are counted again", func() bool {
		before := unwanted()
		lab.Send(ethernet(2, 1, "nobody wants it"))
		return unwanted() == before+1
	})
	if flows, _, err := lab.Flows(); err != nil || len(flows) != 1 {
		t.Errorf("flows %v, %v; want that of the first controller", flows, err)
	}
}

// Programs get packets only if they ask for some.
func TestManagement(t *testing.T) {
	lab := managertest.New(t)
	path := filepath.Join(t.TempDir(), "nf1.mgmt")
	l, err := net.Listen("unix", path)
	lab.Must(err)
	run(t, Config{Name: "nf1", DPID: 0x1f, Manager: lab.Manager, Management: l})
	c, err := net.Dial("unix", path)
	lab.Must(err)
	p := greet(t, c)
	lab.Send(ethernet(2, 1, "no"))
	p.echo()
	setConfig := begin(nil, control.OpenFlow13, control.TypeSetConfig, 3)
	p.Write(finish(append(setConfig, 0, 0, 0, 128)))
	p.echo()
	lab.Send(ethernet(2, 1, "yes"))
	if m := p.next(); m == nil || m.Type() != control.TypePacketIn || !bytes.HasSuffix(m, []byte("yes")) {
		t.Errorf("a program that asked for packets gets %v", m)
	}
}

// NORMAL is what the node does by itself: its default chain.
func TestNormal(t *testing.T) {
	lab := managertest.New(t)
	_, err := lab.AttachFused(manager.Instance{Service: 5}, nf.Handler(mark))
	lab.Must(err)
	lab.Must(lab.SetChain(manager.Chain{Name: manager.DefaultChain, Services: []uint16{5}, Out: 2}))
	path := filepath.Join(t.TempDir(), "nf1.mgmt")
	l, err := net.Listen("unix", path)
	lab.Must(err)
	run(t, Config{Name: "nf1", DPID: 0x1f, Manager: lab.Manager, Management: l})
	c, err := net.Dial("unix", path)
	lab.Must(err)
	p := greet(t, c)
	p.Write(control.AppendFlowMod(nil, control.OpenFlow13, 8, control.FlowMod{Match: control.Match{InPort: 1}, Output: portNormal}))
	p.echo()
	lab.Send("dddddd\x02\x00\x00\x00\x00\x01\x88\xb5 chained")
	lab.Arrive("xddddd\x02\x00\x00\x00\x00\x01\x88\xb5 chained")
	flows, _, err := lab.Flows()
	lab.Must(err)
	if len(flows) != 1 || flows[0].Packets != 1 || !slices.Equal(outputs(&flows[0].Verdict), []uint32{portNormal}) {
		t.Errorf("flows %+v", flows)
	}
	// While there is a controller, it gets what no flow is for; then the chain does again.
	p.Write(finish(append(begin(nil, control.OpenFlow13, control.TypeSetConfig, 3), 0, 0, 0, 128)))
	p.Write(control.AppendFlowMod(nil, control.OpenFlow13, 8, control.FlowMod{Command: control.FlowDelete}))
	p.Write(control.AppendFlowMod(nil, control.OpenFlow13, 8, control.FlowMod{Output: control.PortController}))
	p.echo()
	lab.Send("dddddd\x02\x00\x00\x00\x00\x01\x88\xb5 asked")
	if m := p.next(); m == nil || m.Type() != control.TypePacketIn {
		t.Errorf("a program that asked for packets gets %v", m)
	}
	c.Close()
	lab.Eventually("the chain takes packets again", func() bool {
		lab.Send("dddddd\x02\x00\x00\x00\x00\x01\x88\xb5 again")
		time.Sleep(10 * time.Millisecond)
		return slices.Contains(lab.Queues[1].Take(), "xddddd\x02\x00\x00\x00\x00\x01\x88\xb5 again")
	})
}

// What an NF sends on and no flow is for comes to the controller from the port of its service, with a
// flow for all misses and without.
func TestServiceMiss(t *testing.T) {
	lab := managertest.New(t)
	_, err := lab.AttachFused(manager.Instance{Service: 5}, nf.Handler(mark))
	lab.Must(err)
	calls := make(chan net.Conn, 1)
	start(t, lab, 0, func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		calls <- theirs
		return ours, nil
	})
	p := greet(t, <-calls)
	const service = manager.ServicePort + 5
	p.Write(control.AppendFlowMod(nil, control.OpenFlow13, 8, control.FlowMod{Match: control.Match{InPort: 1}, Priority: 9, Output: service}))
	p.echo()
	for range 2 {
		lab.Send(ethernet(2, 1, "through it"))
		in, err := control.ParsePacketIn(p.next())
		if err != nil || in.InPort != service || in.Data[0] != 'x' {
			t.Errorf("the controller gets %+v, %v", in, err)
		}
		p.Write(control.AppendFlowMod(nil, control.OpenFlow13, 8, control.FlowMod{Output: control.PortController}))
		p.echo()
	}
}
