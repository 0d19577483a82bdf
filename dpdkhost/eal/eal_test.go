package eal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost"
	"weft/dpdkhost/memif"
	"weft/internal/ns"
	"weft/link"
	"weft/topo"
)

// TestMain runs the tests again in a network namespace of their own, and in a user namespace where
// that is how to get one.
func TestMain(m *testing.M) {
	const inside = "WEFT_EAL_TEST_INSIDE"
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil: // the tests say what they miss
		fmt.Fprintln(os.Stderr, "no namespaces for tests:", err)
		os.Exit(m.Run())
	}
}

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		options Options
		command string
		want    string
		names   string
	}{
		{
			Options{CPUs: []int{0, 1}, Ports: []Port{{Number: 1, Kind: Packet, Device: "v1"}, {Number: 2, Kind: XDP, Device: "v2"}, {Number: 3, Kind: XDP, Device: "v3"}}},
			"dpdk-testpmd -- -i --nb-ports={ports}",
			"dpdk-testpmd --lcores '0@(0,1),1@(0,1)' --file-prefix weft --no-huge -m 256 --no-pci --vdev net_af_packet0,iface=v1 --vdev net_af_xdp0,iface=v2 --vdev net_af_xdp1,iface=v3 -- -i --nb-ports=3",
			"net_af_packet0 net_af_xdp0 net_af_xdp1",
		},
		{
			Options{CPUs: []int{2, 4}, Lcores: 3, Dedicated: true, Hugepages: 512, Prefix: "s1", Ports: []Port{{Number: 1, Kind: NIC, Device: "04:00.0"}, {Number: 2, Kind: NIC, Device: "0000:05:00.1"}}},
			"l3fwd {eal} -- -p {portmask}",
			"l3fwd --lcores 0@2,1@4,2@2 --file-prefix s1 --in-memory -m 512 -a 0000:04:00.0 -a 0000:05:00.1 -- -p 0x3",
			"0000:04:00.0 0000:05:00.1",
		},
		{
			Options{CPUs: []int{0}, Lcores: 1, Memory: 64, Ports: []Port{
				{Number: 1, Kind: Memif, Memif: &memif.Config{Socket: "/run/x/m", Server: true, ID: 2, Secret: "x'y", RingSize: 512}},
				{Number: 2, Kind: Memif, Memif: &memif.Config{Socket: "@m"}},
				{Number: 3, Kind: Virtio, Socket: "/run/x/v", Server: true},
				{Number: 4, Kind: Virtio, Socket: "/run/x/w"},
				{Number: 5, Kind: Vhost, Socket: "/run/x/h"},
				{Number: 6, Kind: Vhost, Socket: "/run/x/i", Server: true},
			}},
			"prog",
			"prog --lcores '0@(0)' --file-prefix weft --no-huge -m 64 --no-pci" +
				` --vdev 'net_memif0,role=server,id=2,socket=/run/x/m,socket-abstract=no,rsize=9,secret=x'\''y'` +
				" --vdev net_memif1,role=client,id=0,socket=m,socket-abstract=yes" +
				" --vdev net_virtio_user0,path=/run/x/v,server=1 --vdev net_virtio_user1,path=/run/x/w" +
				" --vdev net_vhost0,iface=/run/x/h,client=1 --vdev net_vhost1,iface=/run/x/i ",
			"net_memif0 net_memif1 net_virtio_user0 net_virtio_user1 net_vhost0 net_vhost1",
		},
	} {
		got, names, err := c.options.Command(c.command)
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.command, err, got, c.want)
		}
		if strings.Join(names, " ") != c.names {
			t.Errorf("%s: the ports are %v", c.command, names)
		}
	}
	if _, _, err := (&Options{}).Command(" "); err == nil {
		t.Error("no command is no error")
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		port Port
		want string
	}{
		{Port{Number: 0, Device: "v"}, "count from 1"},
		{Port{Number: 1, Device: "v 1"}, "no name of an interface"},
		{Port{Number: 1, Device: "v,1"}, "no name of an interface"},
		{Port{Number: 1, Kind: NIC, Device: "eth0"}, "PCI address"},
		{Port{Number: 1, Kind: Vhost, Socket: "/a,b"}, "without commas"},
		{Port{Number: 1, Kind: Memif}, "which memif"},
		{Port{Number: 1, Kind: Memif, Memif: &memif.Config{}}, "write the path"},
		{Port{Number: 1, Kind: Memif, Memif: &memif.Config{Socket: "/s", Secret: "a,b"}}, "without commas"},
		{Port{Number: 1, Kind: "tun", Device: "v"}, `no kind "tun"`},
	} {
		if err := c.port.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, not %q", c.port, err, c.want)
		}
	}
	c := Config{Dir: strings.Repeat("x", 100), Command: " ", Restart: "maybe"}
	err := c.Validate()
	for _, want := range []string{"at most 107 bytes", "which DPDK program", "on-failure or always"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: nothing of %q", err, want)
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// until waits for something, at most ten seconds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// A lab is two hosts, 10.0.0.1 and 10.0.0.2, each with a link to a node: v1 and v2 there.
type lab struct {
	node  *ns.Net
	hosts [2]*ns.Net
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getenv("WEFT_EAL_TEST_INSIDE") == "" {
		t.Skip("no network namespaces here")
	}
	l := &lab{}
	space := func() *ns.Net {
		n, err := ns.New(nil)
		must(t, err)
		t.Cleanup(func() { n.Close() })
		return n
	}
	l.node = space()
	for i := range l.hosts {
		l.hosts[i] = space()
		must(t, l.hosts[i].Do(func() error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "eth0"
			v := &netlink.Veth{LinkAttrs: attrs, PeerName: fmt.Sprint("v", i+1), PeerNamespace: netlink.NsFd(l.node.FD())}
			if err := netlink.LinkAdd(v); err != nil {
				return err
			}
			// DPDK does not finish what a kernel left to a device.
			if err := link.OffloadsOff("eth0"); err != nil {
				return err
			}
			a, _ := netlink.ParseAddr(fmt.Sprintf("10.0.0.%d/24", i+1))
			if err := netlink.AddrAdd(v, a); err != nil {
				return err
			}
			return netlink.LinkSetUp(v)
		}))
	}
	return l
}

// ping sends from the first host to the second until an answer comes.
func (l *lab) ping(t *testing.T) {
	t.Helper()
	until(t, "ping", func() bool {
		return l.hosts[0].Do(func() error { return exec.Command("ping", "-c1", "-W1", "10.0.0.2").Run() }) == nil
	})
}

// dir is short: paths of sockets are.
func dir(t *testing.T) string {
	d, err := os.MkdirTemp("", "eal")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

// testpmd is a node with DPDK's test program, which forwards from port to port.
func testpmd(t *testing.T, c Config) *Backend {
	t.Helper()
	if _, err := exec.LookPath("dpdk-testpmd"); err != nil {
		t.Skip("there is no dpdk-testpmd: apt-get install dpdk")
	}
	c.Node, c.Dir, c.Memory = "s1", dir(t), 128
	c.Command = "exec dpdk-testpmd {eal} -- --auto-start --forward-mode=io --no-mlockall --total-num-mbufs=16384 --interactive"
	b, err := Open(t.Context(), c)
	must(t, err)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// A ping between two hosts goes through testpmd, which is seen, dies, and comes again.
func TestTestpmd(t *testing.T) {
	for _, kind := range []Kind{Packet, XDP} {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t)
			if err := tryXDP(); kind == XDP && err != nil {
				t.Skip("no AF_XDP here:", err)
			}
			ports := []Port{{Number: 1, Kind: kind, Device: "v1"}, {Number: 2, Kind: kind, Device: "v2"}}
			b := testpmd(t, Config{Options: Options{Ports: ports}, Place: l.node})
			l.ping(t)
			s, err := b.State(t.Context())
			must(t, err)
			i := s.Instances[0]
			if s.Manager != topo.ManagerDPDK || len(s.Ports) != 2 || i.State != "running" || i.PID == 0 || i.Name != "dpdk-testpmd" {
				t.Fatalf("%+v", s)
			}
			for k, p := range s.Ports {
				if p.Name != ports[k].Device || p.Kind != string(kind) || p.Received == 0 || p.Sent == 0 || p.RxBytes < 14*p.Received {
					t.Errorf("%+v", p)
				}
			}
			must(t, b.Input("show port info 0"))
			until(t, "an answer", func() bool {
				return strings.Contains(strings.Join(b.Output(), "\n"), "Infos for port 0")
			})
			// It dies; it is started again, and clears away what it left.
			must(t, unix.Kill(i.PID, unix.SIGKILL))
			until(t, "a successor", func() bool { return b.process.Restarts() == 1 })
			l.ping(t)
			must(t, b.Stop(t.Context(), 1, false))
			if _, err := b.State(t.Context()); !errors.Is(err, dpdkhost.ErrEnded) {
				t.Errorf("the state of one that was stopped: %v", err)
			}
			must(t, l.node.Do(func() error {
				v, err := netlink.LinkByName("v1")
				if err == nil && v.Attrs().Xdp != nil && v.Attrs().Xdp.Attached {
					t.Error("an XDP program is left")
				}
				return err
			}))
		})
	}
}

// A program that fails says why, in its own last words.
func TestFails(t *testing.T) {
	for _, c := range []struct{ command, restart, want string }{
		{"echo 'EAL: no memory {ports}' >&2; exit 7 # {eal}", "no", "exit status 7; it printed last:\n  EAL: no memory 0"},
		{"exit 3 # {eal}", "no", "s1: exit ended: exit status 3, and printed nothing"},
		{"echo hello; sleep 100 # {eal}", "no", "not ready within 300ms: it has no telemetry socket"},
	} {
		start := time.Now()
		_, err := Open(t.Context(), Config{Node: "s1", Dir: dir(t), Command: c.command, Restart: c.restart, Wait: 300 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, not %q", c.command, err, c.want)
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("%s took %v", c.command, d)
		}
	}
}

func TestUnsupported(t *testing.T) {
	b := &Backend{config: Config{Node: "s1"}, program: "testpmd"}
	_, err := b.Start(t.Context(), topo.NF{Name: "bridge"})
	for _, err := range []error{err, b.Change(t.Context(), dpdkhost.Change{Move: &dpdkhost.Move{}}), b.Change(t.Context(), dpdkhost.Change{AddFlow: "drop"})} {
		if !errors.Is(err, dpdkhost.ErrUnsupported) || !strings.Contains(err.Error(), "testpmd") {
			t.Errorf("%v", err)
		}
	}
	if err := b.Stop(t.Context(), 2, false); err == nil || !strings.Contains(err.Error(), "no instance 2") {
		t.Errorf("%v", err)
	}
}

func TestRestart(t *testing.T) {
	for _, c := range []struct {
		policy, command string
		again           bool
	}{
		{"", "exit 1", true}, {"", "exit 0", false}, {"no", "exit 1", false}, {"always", "exit 0", true},
	} {
		p, err := Start(Command{Name: "p", Argv: []string{"sh", "-c", c.command}, Restart: c.policy})
		must(t, err)
		if c.again {
			until(t, "two restarts", func() bool { return p.Restarts() >= 2 })
		} else {
			select {
			case <-p.Ended():
			case <-time.After(10 * time.Second):
				t.Errorf("%s with restart %q does not end", c.command, c.policy)
			}
		}
		must(t, p.Stop(false))
		if c.again == (p.Restarts() == 0) {
			t.Errorf("%s with restart %q was started again %d times", c.command, c.policy, p.Restarts())
		}
	}
	if _, err := Start(Command{Name: "p", Argv: []string{"/no/such/program"}}); err == nil {
		t.Error("a program that is not there is started")
	}
	if _, err := Start(Command{Name: "p", Argv: []string{"true"}, Restart: "sometimes"}); err == nil {
		t.Error("restart: sometimes")
	}
}

// What does not listen to SIGINT is killed, with what it started.
func TestStop(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p, err := Start(Command{Name: "p", Argv: []string{"sh", "-c", "trap '' INT; sleep 1000 & echo $! > " + file + ".new && mv " + file + ".new " + file + "; wait; sleep 1000"}})
	must(t, err)
	var child int
	until(t, "a child", func() bool {
		b, _ := os.ReadFile(file)
		n, _ := fmt.Sscan(string(b), &child)
		return n == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, p.Stop(true))
	until(t, "the child's end", func() bool {
		// Nobody may reap it here: dead is a zombie too.
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		return err != nil || strings.Contains(string(b), ") Z ")
	})
	must(t, ctx.Err())
}
