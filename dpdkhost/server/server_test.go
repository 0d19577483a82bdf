package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"weft/dpdkhost"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/builtin"
	"weft/dpdkhost/nf/nftest"
	"weft/dpdkhost/port"
	"weft/topo"
)

// asNF makes the test program an NF of the tests' own.
const asNF = "WEFT_TEST_NF"

// TestMain lets the test program be a manager, an NF that comes with weft, or one of the tests'.
func TestMain(m *testing.M) {
	Main()
	if len(os.Args) > 1 && os.Args[1] == nfCommand {
		if err := builtinNF(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if kind := os.Getenv(asNF); kind != "" {
		testNF(kind)
	}
	os.Exit(m.Run())
}

func builtinNF(name string, args []string) error {
	b, err := builtin.Find(name)
	if err != nil {
		return err
	}
	f, err := b.New(args)
	if err != nil {
		return err
	}
	path, h, err := nf.Environment(f)
	if err != nil {
		return err
	}
	h.ReadOnly, h.Wire = b.ReadOnly, b.Wire
	c, err := nf.Connect(path, h)
	if err != nil {
		return err
	}
	return c.Run(f)
}

// testNF is an NF that misbehaves in one way.
func testNF(kind string) {
	switch kind {
	case "hostile":
		hostile()
	case "deaf": // never connects
		time.Sleep(time.Hour)
	case "old": // of a time when no version was said
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: os.Getenv(nf.SocketVariable), Net: "unixpacket"})
		if err == nil {
			_, err = fmt.Fprintf(c, `{"key":%q}`, os.Getenv(nf.KeyVariable))
		}
		if err == nil {
			_, err = io.Copy(os.Stdout, c)
		}
		fmt.Println(err)
	case "writer":
		nf.Run(func(batch []nf.Packet) {
			for i := range batch {
				if b := batch[i].Data(); len(b) > 0 { // the hostile NF sends empty ones
					b[0] ^= 0xff
				}
				batch[i].Next()
			}
		})
	}
	os.Exit(0)
}

// command returns the shell command of an NF of the tests'.
func command(kind string) string { return asNF + "=" + kind + " exec " + os.Args[0] }

// A lab is a manager's process.
type lab struct {
	*Client
	t    *testing.T
	c    Config
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

// patience bounds every wait.
const patience = time.Minute

func start(t *testing.T, c Config) *lab {
	t.Helper()
	l, err := tryStart(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tryStart(t *testing.T, c Config) (*lab, error) {
	t.Helper()
	c.Node, c.Frames = "s1", 2048
	if c.Dir == "" {
		// Sockets have short paths.
		dir, err := os.MkdirTemp("", "weft")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		c.Dir = dir
	}
	l := &lab{t: t, c: c, done: make(chan error, 1)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	l.Client, err = Start(ctx, c, func(cmd *exec.Cmd) error {
		cmd.Stderr = &l.log
		l.cmd = cmd
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { l.done <- cmd.Wait() }()
		return nil
	})
	if err != nil {
		if l.cmd == nil {
			return nil, err // nothing was started
		}
		select {
		case <-l.done:
			err = fmt.Errorf("%w (%v)\n%s", err, l.cmd.ProcessState, l.log.String())
		case <-time.After(patience):
		}
		return nil, err
	}
	t.Cleanup(func() {
		l.Close()
		select {
		case <-l.done:
		case <-time.After(patience):
			cmd := l.cmd.Process
			cmd.Kill()
			t.Error("the manager does not end")
		}
		if t.Failed() {
			t.Log(l.log.String())
		}
	})
	return l, nil
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) state() *dpdkhost.State {
	l.t.Helper()
	st, err := l.State(l.t.Context())
	l.must(err)
	return st
}

// instance returns the instance of a number.
func (l *lab) instance(id int) dpdkhost.Instance {
	l.t.Helper()
	for _, i := range l.state().Instances {
		if i.ID == id {
			return i
		}
	}
	l.t.Fatalf("no instance %d", id)
	return dpdkhost.Instance{}
}

func (l *lab) eventually(what string, is func(*dpdkhost.State) bool) {
	l.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		st := l.state()
		if is(st) {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("never: %s\n%+v", what, st)
		}
	}
}

// capture writes packets to a file.
func capture(t *testing.T, frames ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	w.WriteFileHeader(65535, layers.LinkTypeEthernet)
	for _, b := range frames {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// flows returns a packet of each of so many flows.
func flows(t *testing.T, n int) (list [][]byte) {
	for k := range n {
		list = append(list, nftest.UDP(t, fmt.Sprintf("10.0.%d.%d:4000", k/250, k%250+1), "10.9.9.9:53", "payload"))
	}
	return list
}

// ports: packets come in at 1, at a rate, for ever, and go out at 2.
func ports(t *testing.T, frames [][]byte, rate float64, loops int) []Port {
	return []Port{
		{1, port.Config{Kind: port.Pcap, Replay: port.Replay{File: capture(t, frames...), Rate: rate, Loops: loops}}},
		{2, port.Config{Kind: port.Pcap, Replay: port.Replay{Sink: filepath.Join(t.TempDir(), "out.pcap")}}},
	}
}

func through(services ...int) []topo.Chain {
	return []topo.Chain{{Name: topo.DefaultChain, Services: services, Out: 2}}
}

func TestChain(t *testing.T) {
	frames := flows(t, 200)
	c := Config{
		Ports: ports(t, frames, 2000, 5),
		NFs: []topo.NF{
			{Name: "monitor", Service: 1},                                        // reads only, by itself
			{Name: "tracker", Service: 2, Fused: true},                           // here
			{Name: "writer", Service: 3, Copy: true, Command: command("writer")}, // on copies
			{Name: "forward", Args: []string{"--port", "2"}, Service: 4, Instances: 2},
		},
		Chains: append(through(1, 2, 3, 4), topo.Chain{Name: "web", Services: []int{1}, Out: 2}),
		Rules:  []string{"udp,nw_src=10.0.0.1,priority=7,actions=chain:web", "udp,nw_src=10.0.0.2,actions=drop"},
	}
	l := start(t, c)
	l.eventually("all packets at port 2", func(st *dpdkhost.State) bool {
		return len(st.Ports) == 2 && st.Ports[0].Received == 1000 && st.Ports[1].Sent == 995 && st.Pool.Free == st.Pool.Frames
	})
	st := l.state()
	if st.Manager != topo.ManagerWeft || st.FlowCount != 2 || len(st.Chains) != 2 || st.Ports[0].Kind != "pcap" {
		t.Errorf("%+v", st)
	}
	if f := st.Flows[0]; f.Match != "udp,nw_src=10.0.0.2" || f.Actions != "drop" || f.Packets != 5 || f.Priority != 32768 {
		t.Errorf("flow %+v", f)
	}
	if f := st.Flows[1]; f.Match != "udp,nw_src=10.0.0.1" || f.Actions != "chain:web" || f.Packets != 5 || f.Priority != 7 {
		t.Errorf("flow %+v", f)
	}
	byName := map[string][]dpdkhost.Instance{}
	for _, i := range st.Instances {
		byName[i.Name] = append(byName[i.Name], i)
		if i.State != stateRunning || i.Invalid != 0 || i.RxDrops != 0 {
			t.Errorf("%+v", i)
		}
	}
	monitor, tracker, writer, forward := byName["monitor"][0], byName["tracker"][0], byName["writer"][0], byName["forward"]
	if monitor.Trust != "read-only" || monitor.Received != 995 || monitor.Counters["packets"] != 995 || monitor.Next != 995 {
		t.Errorf("monitor %+v", monitor)
	}
	if !tracker.Fused || tracker.PID != l.cmd.Process.Pid || tracker.Sent != 990 {
		t.Errorf("tracker %+v", tracker)
	}
	if writer.Trust != "copy" || writer.Sent != 990 || writer.Parent != 0 {
		t.Errorf("writer %+v", writer)
	}
	if len(forward) != 2 || forward[1].Parent != forward[0].ID || forward[0].Out+forward[1].Out != 990 || forward[0].Out == 0 || forward[1].Out == 0 {
		t.Errorf("forward %+v", forward)
	}
	// What the writer changed in its copies is in the packets.
	l.must(l.Close())
	<-l.done
	l.done <- nil
	f, err := os.Open(c.Ports[1].Sink)
	l.must(err)
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	l.must(err)
	changed, same := 0, 0
	for {
		b, _, err := r.ReadPacketData()
		if err != nil {
			break
		}
		if slices.ContainsFunc(frames, func(f []byte) bool { return bytes.Equal(f, b) }) {
			same++
		} else if b[0] ^= 0xff; slices.ContainsFunc(frames, func(f []byte) bool { return bytes.Equal(f, b) }) {
			changed++
		} else {
			t.Errorf("nobody sent % x", b)
		}
	}
	if changed != 990 || same != 5 {
		t.Errorf("%d changed, %d not", changed, same)
	}
}

func TestChanges(t *testing.T) {
	l := start(t, Config{Ports: ports(t, flows(t, 100), 2000, -1), NFs: []topo.NF{{Name: "monitor", Service: 1}}, Chains: through(1)})
	ctx := t.Context()
	started, err := l.Start(ctx, topo.NF{Name: "monitor", Service: 1, Instances: 2})
	l.must(err)
	if len(started) != 2 || started[0].Parent != 1 || started[0].State != stateRunning || started[1].ID == started[0].ID {
		t.Errorf("scaled: %+v", started)
	}
	l.eventually("each instance has packets", func(st *dpdkhost.State) bool {
		return len(st.Instances) == 3 && !slices.ContainsFunc(st.Instances, func(i dpdkhost.Instance) bool { return i.Received == 0 })
	})
	// Stopped without a loss: what comes in goes out.
	l.must(l.Stop(ctx, started[0].ID, false))
	l.must(l.Stop(ctx, 1, false))
	if list := l.state().Instances; len(list) != 1 || list[0].ID != started[1].ID || list[0].Parent != 0 {
		t.Errorf("after stops: %+v", list)
	}
	l.must(l.Change(ctx, dpdkhost.Change{Move: &dpdkhost.Move{Instance: started[1].ID, Core: 1}}))
	if status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", started[1].PID)); !strings.Contains(string(status), "Cpus_allowed_list:\t0\n") {
		t.Errorf("moved to core 1:\n%s", status)
	}
	if i := l.instance(started[1].ID); i.Core != 1 {
		t.Errorf("moved: %+v", i)
	}
	text, err := l.Command(ctx, started[1].ID, []string{"top"})
	if err != nil || !strings.Contains(text, "10.0.0.") {
		t.Errorf("command: %q, %v", text, err)
	}
	l.must(l.Change(ctx, dpdkhost.Change{Chain: &topo.Chain{Name: "b", Services: []int{1}, Out: 2}}))
	l.must(l.Change(ctx, dpdkhost.Change{AddFlow: "udp,actions=chain:b"}))
	all := "ip"
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"no instance":     {l.Stop(ctx, 77, false), fmt.Sprintf("there is no instance 77; there are %d", started[1].ID)},
		"chain in use":    {l.Change(ctx, dpdkhost.Change{DeleteChain: "b"}), "chain b: 1 flows lead into it; delete them first"},
		"no chain":        {l.Change(ctx, dpdkhost.Change{DeleteChain: "c"}), `there is no chain "c"`},
		"chain to 70000":  {l.Change(ctx, dpdkhost.Change{Chain: &topo.Chain{Name: "c", Out: 70000}}), "chain c: it ends at port 70000: ports have numbers from 1 to 32767"},
		"service 70000":   {l.Change(ctx, dpdkhost.Change{Chain: &topo.Chain{Name: "c", Services: []int{70000}}}), "chain c: services have numbers from 1 to 4095"},
		"flow to nothing": {l.Change(ctx, dpdkhost.Change{AddFlow: "tcp,actions=chain:c"}), `flow "tcp,actions=chain:c": flow: there is no chain "c"`},
		"no flow":         {l.Change(ctx, dpdkhost.Change{AddFlow: "tcp"}), `flow "tcp": it has no actions: end it with actions=chain:NAME, service:N, output:PORT, flood, controller or drop`},
		"no core":         {l.Change(ctx, dpdkhost.Change{Move: &dpdkhost.Move{Instance: started[1].ID, Core: 4000}}), "core 4000: weft may use core "},
		"nothing":         {l.Change(ctx, dpdkhost.Change{}), "a change with nothing in it"},
	} {
		if c.err == nil || !strings.HasPrefix(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", what, c.err, c.want)
		}
	}
	l.must(l.Change(ctx, dpdkhost.Change{DeleteFlows: &all}))
	l.must(l.Change(ctx, dpdkhost.Change{DeleteChain: "b"}))
	if st := l.state(); st.FlowCount != 0 || len(st.Chains) != 1 || st.Instances[0].Log == "" {
		t.Errorf("%+v", st)
	}
	for what, f := range map[string]topo.NF{
		"did you mean monitor":                          {Name: "monitr", Service: 1},
		"monitor: unknown flag":                         {Name: "monitor", Args: []string{"--no-such"}, Service: 1, Fused: true},
		"unknown flag":                                  {Name: "monitor", Args: []string{"--no-such"}, Service: 1},
		"NF x: exited with status 3; it said: so it is": {Name: "x", Command: "echo so it is; exit 3", Service: 1},
		"NF x: service 0":                               {Name: "x", Command: "true"},
		"it cannot be copy":                             {Name: "monitor", Service: 1, Fused: true, Copy: true},
		"core 4000: weft may use core":                  {Name: "monitor", Service: 1, Core: 4000},
	} {
		if _, err := l.Start(ctx, f); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want %s", f, err, what)
		}
	}
	if list := l.state().Instances; len(list) != 1 {
		t.Errorf("what failed is still there: %+v", list)
	}
}

// An NF that dies is replaced, its frames come back, and its flows go to another or wait.
func TestDeath(t *testing.T) {
	for _, onDeath := range []string{onDeathMove, onDeathDrop} {
		t.Run(onDeath, func(t *testing.T) {
			// It comes back, but not before the test has looked.
			comes := filepath.Join(t.TempDir(), "again")
			script := fmt.Sprintf("while [ $(ls %s* 2>/dev/null | wc -l) = 1 ]; do sleep 0.01; done; touch %s$$; exec %s", comes, comes, os.Args[0])
			l := start(t, Config{Ports: ports(t, flows(t, 100), 2000, -1), Chains: through(1), NFs: []topo.NF{
				{Name: "dying", Service: 1, OnDeath: onDeath, Command: asNF + "=writer; export " + asNF + "; " + script},
				{Name: "living", Service: 1, Command: command("writer")},
			}})
			var dying dpdkhost.Instance
			for _, i := range l.state().Instances {
				if i.Name == "dying" {
					dying = i
				}
			}
			l.eventually("packets", func(*dpdkhost.State) bool { return l.instance(dying.ID).Received > 0 })
			killed := time.Now()
			l.must(syscall.Kill(dying.PID, syscall.SIGKILL))
			l.eventually("noticed", func(*dpdkhost.State) bool { return l.instance(dying.ID).State != stateRunning })
			t.Logf("noticed, and asked for, after %v", time.Since(killed))
			before := l.instance(dying.ID)
			sent := l.state().Ports[1].Sent
			l.eventually("others go on", func(st *dpdkhost.State) bool { return st.Ports[1].Sent > sent+200 })
			after := l.instance(dying.ID)
			if dropped := after.RxDrops > before.RxDrops; dropped != (onDeath == onDeathDrop) {
				t.Errorf("%s: %d packets dropped", onDeath, after.RxDrops-before.RxDrops)
			}
			l.must(os.WriteFile(comes+"x", nil, 0o644))
			l.eventually("again", func(*dpdkhost.State) bool {
				i := l.instance(dying.ID)
				return i.State == stateRunning && i.Restarts == 1 && i.PID != dying.PID && i.Received > after.Received
			})
		})
	}
}

func TestRestartPolicies(t *testing.T) {
	l := start(t, Config{Ports: ports(t, flows(t, 1), 100, -1), Chains: through(1), NFs: []topo.NF{
		{Name: "reader", Service: 1, ReadOnly: true, Restart: "no", Command: command("writer")},
	}})
	l.eventually("who writes into read-only memory dies, once", func(st *dpdkhost.State) bool {
		i := st.Instances[0]
		return i.State == stateDead && i.PID == 0 && i.Restarts == 0
	})
	if text, err := os.ReadFile(l.instance(1).Log); err != nil || !strings.Contains(string(text), "unexpected fault address") {
		t.Errorf("its log: %s, %v", text, err)
	}
	l.must(l.Stop(t.Context(), 1, false))
	started, err := l.Start(t.Context(), topo.NF{Name: "leaver", Service: 1, Restart: "always", Command: command("writer")})
	l.must(err)
	l.must(syscall.Kill(started[0].PID, syscall.SIGTERM)) // asks to leave
	l.eventually("started again", func(st *dpdkhost.State) bool {
		return st.Instances[0].Restarts == 1 && st.Instances[0].State == stateRunning
	})
	l.must(l.Stop(t.Context(), started[0].ID, true))
	l.eventually("all frames are back", func(st *dpdkhost.State) bool { return len(st.Instances) == 0 && st.Pool.Free == st.Pool.Frames })
}

// An NF that somebody else starts comes and goes.
func TestByHand(t *testing.T) {
	l := start(t, Config{Ports: ports(t, flows(t, 10), 1000, -1), Chains: through(9)})
	hand := func(service string) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asNF+"=writer", nf.SocketVariable+"="+l.c.NFSocket(), nf.NameVariable+"=mine", nf.ServiceVariable+"="+service)
		return cmd
	}
	cmd := hand("9")
	l.must(cmd.Start())
	defer cmd.Process.Kill()
	l.eventually("it works", func(st *dpdkhost.State) bool {
		return len(st.Instances) == 1 && st.Instances[0].Name == "mine" && st.Instances[0].PID == cmd.Process.Pid && st.Ports[1].Sent > 0
	})
	l.must(cmd.Process.Kill())
	cmd.Wait()
	l.eventually("it is gone", func(st *dpdkhost.State) bool { return len(st.Instances) == 0 })
	cmd = hand("9")
	l.must(cmd.Start())
	l.eventually("another", func(st *dpdkhost.State) bool { return len(st.Instances) == 1 })
	l.must(l.Stop(t.Context(), l.state().Instances[0].ID, false))
	l.must(cmd.Wait())
	if out, err := hand("0").CombinedOutput(); err == nil || !strings.Contains(string(out), "set WEFT_NF_SERVICE to the number of a service") {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := l.Start(t.Context(), topo.NF{Name: "nat", Service: 7, Args: []string{"--inside", "1", "--address", "192.0.2.1"}}); err != nil {
		t.Fatal(err)
	}
	if out, err := hand("7").CombinedOutput(); err == nil || !strings.Contains(string(out), "service 7 is that of nat, of which there can be one instance only") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := hand("5000").CombinedOutput(); err == nil || !strings.Contains(string(out), "service 5000: write a number from 1 to 4095") {
		t.Errorf("%s, %v", out, err)
	}
}

// Nothing is left of a manager that is killed, and another can take its place.
func TestKilled(t *testing.T) {
	c := Config{NFs: []topo.NF{
		{Name: "monitor", Service: 1},
		{Name: "x", Service: 2, Command: command("writer") + "; true"}, // the shell stays
	}}
	l := start(t, c)
	st := l.state()
	l.must(l.cmd.Process.Kill())
	<-l.done
	l.done <- nil
	for _, i := range st.Instances {
		for end := time.Now().Add(patience); alive(i.PID); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s lives", i.Name)
			}
		}
	}
	if _, err := l.State(t.Context()); !errors.Is(err, dpdkhost.ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
	l.must(l.Close())
	c.Dir = l.c.Dir
	start(t, c)
}

// alive reports whether a process runs; one whose parent does not wait for it does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func TestStartErrors(t *testing.T) {
	for want, c := range map[string]Config{
		"NF manager of s1: port none: there are two ports 1":             {Ports: []Port{{1, port.Config{Device: "lo"}}, {1, port.Config{Device: "none"}}}},
		"NF manager of s1: port 1/none.pcap":                             {Ports: []Port{{1, port.Config{Kind: port.Pcap, Replay: port.Replay{File: "1/none.pcap"}}}}},
		"NF manager of s1: NF broken: exited with status 1; it said: sh": {NFs: []topo.NF{{Name: "broken", Service: 1, Command: "echo sh; exit 1"}}},
		"NF manager of s1: NF here: exited with status 1; it said: /usr": {NFs: []topo.NF{{Name: "here", Service: 1, Command: "pwd; exit 1", Dir: "/usr"}}},
		`NF manager of s1: NF old: exited with status 0; it said: {"version":1,"error":"the NF speaks version 0 of the NF protocol, and this is 1; renew`: {NFs: []topo.NF{{Name: "old", Service: 1, Command: command("old")}}},
		`NF manager of s1: flow "x": unknown field "x"`: {Rules: []string{"x"}},
		`NF manager of s1: chain c: it ends at port -1`: {Chains: []topo.Chain{{Name: "c", Out: -1}}},
		"NF manager of s1: NF a: restart \"sometimes\"": {NFs: []topo.NF{{Name: "a", Command: "x", Service: 1, Restart: "sometimes"}}},
	} {
		if _, err := tryStart(t, c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}
