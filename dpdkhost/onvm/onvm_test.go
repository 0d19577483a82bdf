package onvm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost"
	"weft/dpdkhost/eal"
	"weft/dpdkhost/memif"
	"weft/topo"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// install makes a directory that looks like an OpenNetVM that was built.
func install(t *testing.T) (home string) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	home = t.TempDir()
	for _, p := range []string{"onvm/onvm_mgr/x86_64-native-linuxapp-gcc/onvm_mgr", "examples/bridge/build/app/bridge", "examples/speed_tester/build/app/speed_tester"} {
		p = filepath.Join(home, p)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.Symlink(self, p))
	}
	return home
}

// config is one that needs nothing but the stand-in.
func config(t *testing.T) Config {
	dir, err := os.MkdirTemp("", "onvm")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Config{Node: "s1", Dir: dir, Home: install(t), HugeDir: dir, Wait: 10 * time.Second, Ports: []eal.Port{
		{Number: 1, Kind: eal.Memif, Memif: &memif.Config{Socket: filepath.Join(dir, "m1")}},
		{Number: 2, Kind: eal.NIC, Device: "0000:04:00.0"},
	}}
}

func open(t *testing.T, c Config) *Backend {
	t.Helper()
	b, err := Open(t.Context(), c)
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

func TestArguments(t *testing.T) {
	c := Config{HugeDir: "/mnt/huge", CPUs: []int{0, 1, 5}, Ports: []eal.Port{
		{Number: 1, Kind: eal.Packet, Device: "s1-eth1"}, {Number: 2, Kind: eal.NIC, Device: "0000:04:00.0"}, {Number: 3, Kind: eal.XDP, Device: "s1-eth2"},
	}}
	const common = " --huge-dir /mnt/huge --proc-type=primary --file-prefix onvm --base-virtaddr=0x7f000000000"
	want := "--lcores 0@0,1@0,2@0 -n 4 -m 512" + common +
		" -a 0000:04:00.0 --vdev net_af_packet0,iface=s1-eth1 --vdev net_af_xdp0,iface=s1-eth2 -- -p 7 -n 0x23 -s stdout -v 3"
	if got := strings.Join(c.managerArguments(), " "); got != want {
		t.Errorf("the manager's arguments are\n%s\nnot\n%s", got, want)
	}
	c.Ports, c.SharedCores, c.Memory = nil, true, 1024
	c.Chains = []topo.Chain{{Name: "default", Services: []int{4}}}
	want = "--lcores 0@0,1@0,2@0,3@0 -n 4 -m 1024" + common + " --no-pci -- -p 0 -n 0x23 -s stdout -v 3 -d 4 -c"
	if got := strings.Join(c.managerArguments(), " "); got != want {
		t.Errorf("the manager's arguments are\n%s\nnot\n%s", got, want)
	}
	secondary := strings.Replace(common, "primary", "secondary", 1)
	for _, f := range []struct {
		nf   topo.NF
		want string
	}{
		{topo.NF{Name: "bridge", Service: 2}, "-l 0 -n 3 --no-pci" + secondary + " -- -r 2 -s --"},
		{topo.NF{Name: "speed_tester", Service: 1, Core: 6, Args: []string{"-d", "1"}}, "-l 5 -n 3 --no-pci" + secondary + " -- -r 1 -m -s -- -d 1"},
	} {
		if got := strings.Join(c.functionArguments(&f.nf), " "); got != f.want {
			t.Errorf("the arguments of %s are\n%s\nnot\n%s", f.nf.Name, got, f.want)
		}
	}
}

func TestValidate(t *testing.T) {
	c := Config{Dir: "/run/x", SharedCores: true, Ports: []eal.Port{{Number: 1, Device: "v"}, {Number: 0, Device: "v"}}, Flows: []string{"tcp,actions=drop"},
		Chains: []topo.Chain{{Name: "web", Services: []int{1}}, {Name: "default", Services: []int{1, 2}}},
		NFs: []topo.NF{{Service: 1}, {Name: "a", Service: 32}, {Name: "b", Service: 1, Fused: true}, {Name: "c", Service: 1, Weight: 2},
			{Name: "e", Service: 1, Restart: "x"}, {Name: "-f", Service: 1}, {Name: "g", Service: 1, Instances: 33}}}
	err := c.Validate()
	for _, want := range []string{"ports with two queues", "count from 1", "flow table belongs to its NFs", "chain web", "chain default", "NF without a name", "NF a: service 32",
		"NF b: fused", "NF c: weights", `NF e: restart "x"`, "NF -f: a name", "NF g: 33 instances"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing of %q in %v", want, err)
		}
	}
	if !errors.Is(err, dpdkhost.ErrUnsupported) {
		t.Error("what is not supported is not said to be so")
	}
	c = Config{Dir: "/run/x", Chains: []topo.Chain{{Name: "default", Services: []int{3}}}, NFs: []topo.NF{{Name: "a", Service: 31, Instances: 2, Core: 1, Restart: "always"}}}
	must(t, c.Validate())
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("ONVM_HOME", "")
	t.Setenv("PATH", "/bin")
	c := config(t)
	c.Home = ""
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "set ONVM_HOME") {
		t.Errorf("%v", err)
	}
	c.Home = t.TempDir()
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "is it built there?") {
		t.Errorf("%v", err)
	}
	c = config(t)
	c.NFs = []topo.NF{{Name: "no_such_nf", Service: 1}}
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "no_such_nf is neither in PATH nor in") {
		t.Errorf("%v", err)
	}
}

func TestBackend(t *testing.T) {
	c := config(t)
	c.Chains = []topo.Chain{{Name: "default", Services: []int{2}}}
	// It comes too early, and is tried again.
	c.NFs = []topo.NF{{Name: "bridge", Service: 2}}
	b := open(t, c)
	two, err := b.Start(t.Context(), topo.NF{Name: "speed_tester", Service: 1, Instances: 2, Core: b.config.CPUs[0] + 1, Args: []string{"-d", "2"}})
	must(t, err)
	if len(two) != 2 || two[0].ID != 2 || two[1].ID != 3 || two[0].State != "running" || two[0].PID == 0 {
		t.Fatalf("%+v", two)
	}
	own, err := b.Start(t.Context(), topo.NF{Name: "mine", Service: 3, Command: filepath.Join(c.Home, "examples/bridge/build/app/bridge") + " {onvm} extra"})
	must(t, err)
	s, err := b.State(t.Context())
	must(t, err)
	if s.Manager != topo.ManagerONVM || len(s.Instances) != 4 || len(s.Ports) != 2 || s.Chains[0].Services[0] != 2 {
		t.Fatalf("%+v", s)
	}
	// The NIC is DPDK's port 0, and our 2.
	if p := s.Ports; p[0].Number != 1 || p[1].Number != 2 || p[0].Received%100 != 1 || p[1].Received%100 != 0 || p[0].Sent%90 != 1 || p[1].Name != "0000:04:00.0" {
		t.Errorf("%+v", p)
	}
	i := s.Instances[1]
	if i.ID != 2 || i.Name != "speed_tester" || i.Service != 1 || i.Core != b.config.CPUs[0]+1 || i.Received == 0 || i.Received/10 != i.Sent/9 ||
		i.RxDrops != 1 || i.TxDrops != 2 || i.Out/3 != i.ToNF/4 || i.Dropped != 5 || i.Next != 6 || i.Buffered != 7 || i.Wakeups != 11 {
		t.Errorf("%+v", i)
	}
	// Moved: the kernel says where it may run.
	cpus := b.config.CPUs
	must(t, b.Change(t.Context(), dpdkhost.Change{Move: &dpdkhost.Move{Instance: 2, Core: cpus[len(cpus)-1] + 1}}))
	var set unix.CPUSet
	must(t, unix.SchedGetaffinity(i.PID, &set))
	if set.Count() != 1 || !set.IsSet(cpus[len(cpus)-1]) {
		t.Errorf("it may run on %d processors", set.Count())
	}
	for _, change := range []dpdkhost.Change{{AddFlow: "drop"}, {Chain: &topo.Chain{Name: "default"}}} {
		if err := b.Change(t.Context(), change); !errors.Is(err, dpdkhost.ErrUnsupported) {
			t.Errorf("%+v: %v", change, err)
		}
	}
	if err := b.Change(t.Context(), dpdkhost.Change{Move: &dpdkhost.Move{Instance: 9}}); err == nil || !strings.Contains(err.Error(), "no instance 9: there are [") {
		t.Errorf("%v", err)
	}
	// Stopped, one politely and one at once.
	must(t, b.Stop(t.Context(), 2, false))
	must(t, b.Stop(t.Context(), own[0].ID, true))
	s, err = b.State(t.Context())
	must(t, err)
	if len(s.Instances) != 2 || slices.ContainsFunc(s.Instances, func(i dpdkhost.Instance) bool { return i.State != "running" }) {
		t.Errorf("%+v", s.Instances)
	}
	must(t, b.Close())
	if _, err := b.State(t.Context()); !errors.Is(err, dpdkhost.ErrEnded) {
		t.Errorf("the state of a closed one: %v", err)
	}
	if _, err := b.Start(t.Context(), topo.NF{Name: "bridge", Service: 2}); err == nil {
		t.Error("an NF was started without a manager")
	}
}

func TestFunctionFails(t *testing.T) {
	b := open(t, config(t))
	_, err := b.Start(t.Context(), topo.NF{Name: "bridge", Service: 1, Command: "echo no such luck; exit 4 #", Restart: "no"})
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("%v", err)
	}
	if s, err := b.State(t.Context()); err != nil || len(s.Instances) != 0 {
		t.Errorf("%v %+v", err, s)
	}
	// One that dies later is started again, and has another number then.
	one, err := b.Start(t.Context(), topo.NF{Name: "bridge", Service: 1, Args: []string{"crash"}})
	must(t, err)
	until(t, "a successor", func() bool {
		s, err := b.State(t.Context())
		must(t, err)
		i := s.Instances[0]
		return i.Restarts > 0 && i.ID > one[0].ID
	})
}

func TestManagerFails(t *testing.T) {
	t.Setenv("STANDIN_FAILS", "1")
	_, err := Open(t.Context(), config(t))
	if !errors.Is(err, dpdkhost.ErrEnded) || !strings.Contains(err.Error(), "Cannot get hugepage information") {
		t.Errorf("%v", err)
	}
}

func TestParse(t *testing.T) {
	p, _ := parse("2026-01-31 23:59:58,3,100,10,90,9")
	if p == nil || *p != (portLine{3, 100, 90}) {
		t.Errorf("%+v", p)
	}
	_, f := parse("2026-01-31 23:59:58,speed tester,1,2,3,65535,W,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20")
	if f == nil || *f != (functionLine{tag: "speed tester", instance: 1, service: 2, core: 3, parent: 65535, children: 4,
		received: 5, sent: 6, rxDrop: 9, txDrop: 10, out: 13, toNF: 14, drop: 15, next: 16, buffer: 17, wakeups: 19}) {
		t.Errorf("%+v", f)
	}
	for _, line := range []string{"", "a,b", "2026-01-31 23:59:58,3,100,10,90", "2026-01-31 23:59:58,3,100,10,90,x", "2026-01-31T23:59:58,3,100,10,90,9", readyLine + "instance_id"} {
		if p, f := parse(line); p != nil || f != nil {
			t.Errorf("%q is %+v %+v", line, p, f)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("2026-01-31 23:59:58,3,100,10,90,9")
	f.Add("2026-01-31 23:59:58,x,1,2,3,4294967295,W,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20")
	f.Add("APP: Using Instance ID 12")
	f.Fuzz(func(t *testing.T, line string) {
		p, fn := parse(line)
		if p != nil && (fn != nil || p.id < 0) || fn != nil && (fn.instance <= 0 || fn.service < 0 || fn.core < 0) {
			t.Errorf("%q is %+v %+v", line, p, fn)
		}
		if n, ok := instanceOf(line); ok && n <= 0 {
			t.Errorf("%q is instance %d", line, n)
		}
	})
}
