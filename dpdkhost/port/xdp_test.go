package port

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/internal/device"
	"weft/link"
)

// Super-frames go out of ports that have none, and small frames into those that have: ports of
// all kinds share the memory.
func TestMixed(t *testing.T) {
	needXDP(t)
	for _, c := range [][2]Config{
		{{Kind: Packet}, {Kind: XDP, Mode: modeNative}},
		{{Kind: XDP, Mode: modeGeneric}, {Kind: TAP}},
		{{Kind: XDP, Mode: modeGeneric}, {Kind: XDP, Mode: modeNative}},
	} {
		t.Run(fmt.Sprintf("%s%s-%s%s", c[0].Kind, c[0].Mode, c[1].Kind, c[1].Mode), func(t *testing.T) {
			l := newMixedLab(t, c, nil)
			for _, six := range []bool{false, true} {
				l.talk(t, six, 1, 1400, 4000)
				for from := range 2 {
					l.transfer(t, from, six, 2_000_000)
				}
			}
			l.settled(t)
		})
	}
}

// An XDP port says what it cannot do, and what to do instead.
func TestXDPRefuses(t *testing.T) {
	needXDP(t)
	m, _ := newManager(t, manager.Config{Frames: 1024})
	o := NewOpener(m)
	makeVeth(t, "n-eth1", "h-eth1", Config{MTU: 9000}, 1)
	_, _, err := o.Open(Config{Kind: XDP, Device: "n-eth1"})
	if err == nil || !strings.Contains(err.Error(), "MTU") {
		t.Errorf("a large MTU: %v", err)
	}
	if _, _, err = o.Open(Config{Kind: XDP, Device: "nothing"}); err == nil {
		t.Error("a port on no interface")
	}
	makeVeth(t, "n-eth2", "h-eth2", Config{}, 1)
	attachProgram(t, "n-eth2", "firewall")
	_, _, err = o.Open(Config{Kind: XDP, Device: "n-eth2"})
	if err == nil || !strings.Contains(err.Error(), "firewall") || !strings.Contains(err.Error(), "xdp off") {
		t.Errorf("an interface with a program that is somebody's: %v", err)
	}
	if !hasProgram(t, "n-eth2") {
		t.Error("the program is gone")
	}
	for _, c := range []Config{{Kind: XDP, Device: "e", Mode: "fast"}} {
		if err := c.Validate(); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// A program that a killed process left is removed, and ours goes with the port.
func TestXDPStale(t *testing.T) {
	needXDP(t)
	m, _ := newManager(t, manager.Config{Frames: 1024})
	o := NewOpener(m)
	makeVeth(t, "n-eth1", "h-eth1", Config{}, 1)
	attachProgram(t, "n-eth1", "xsk_def_prog")
	p, _, err := o.Open(Config{Kind: XDP, Device: "n-eth1"})
	must(t, err)
	must(t, m.AddPort(1, "n-eth1", p))
	if _, _, err := o.Open(Config{Kind: XDP, Device: "n-eth1"}); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("a second port on an interface: %v", err)
	}
	must(t, m.RemovePort(1))
	if hasProgram(t, "n-eth1") {
		t.Error("the program is still there")
	}
}

// attachProgram leaves a program on an interface, as a process does that is killed.
func attachProgram(t *testing.T, ifname, name string) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	must(t, err)
	defer p.Close()
	l, err := netlink.LinkByName(ifname)
	must(t, err)
	must(t, netlink.LinkSetXdpFd(l, p.FD()))
}

func hasProgram(t *testing.T, ifname string) bool {
	t.Helper()
	l, err := netlink.LinkByName(ifname)
	must(t, err)
	return l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached
}

const childPort = "WEFT_PORT_TEST_CHILD"

// A manager that is killed leaves no program and no interface of its making, and the next one has
// its ports.
func TestKilled(t *testing.T) {
	if kind := os.Getenv(childPort); kind != "" {
		m, _ := newManager(t, manager.Config{Frames: 1024})
		c := Config{Kind: Kind(kind), Device: "n-eth1"}
		if c.Kind == TAP {
			c.Device = "h-eth1"
		}
		p, _, err := NewOpener(m).Open(c)
		must(t, err)
		must(t, m.AddPort(1, c.Device, p))
		fmt.Println("running")
		select {}
	}
	for _, kind := range []Kind{Packet, TAP, XDP} {
		t.Run(string(kind), func(t *testing.T) {
			if kind == XDP {
				needXDP(t)
			}
			if kind == TAP {
				fd, err := unix.Open(device.TUN, unix.O_RDWR, 0)
				if err != nil {
					t.Skipf("no TAP devices for this user: %v", err)
				}
				unix.Close(fd)
			}
			if kind != TAP {
				makeVeth(t, "n-eth1", "h-eth1", Config{}, 1)
			}
			for range 2 {
				cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
				cmd.Env = append(os.Environ(), childPort+"="+string(kind))
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				must(t, err)
				must(t, cmd.Start())
				b := make([]byte, 8)
				if _, err := out.Read(b); err != nil || string(b) != "running\n" {
					t.Errorf("the port was not opened: %q, %v", b, err)
				}
				must(t, cmd.Process.Signal(unix.SIGKILL))
				cmd.Wait()
				eventually(t, "something is left", func() bool {
					if kind == TAP {
						_, err := netlink.LinkByName("h-eth1")
						return err != nil
					}
					return !hasProgram(t, "n-eth1")
				})
			}
		})
	}
}

// A port has the packets of all queues of its interface, whichever the kernel chooses for a flow, and
// gives all frames back.
func TestXDPQueues(t *testing.T) {
	needXDP(t)
	const queues, flows = 4, 64
	for _, mode := range []string{modeNative, modeGeneric} {
		t.Run(mode, func(t *testing.T) {
			c := Config{Kind: XDP, Mode: mode}
			l := newQueuedLab(t, [2]Config{c, c}, queues, nil)
			l.talk(t, false, 100)
			to := address(1, false, 5000)
			var in *net.UDPConn
			must(t, l.hosts[1].Do(func() (err error) {
				in, err = net.ListenUDP("udp", to)
				return err
			}))
			defer in.Close()
			for flow := range flows {
				out := l.dial(t, 0, to)
				defer out.Close()
				got := make([]byte, 100)
				eventually(t, fmt.Sprintf("flow %d does not arrive", flow), func() bool {
					if _, err := out.Write([]byte{byte(flow)}); err != nil {
						return false
					}
					in.SetReadDeadline(time.Now().Add(time.Second))
					n, _ := in.Read(got)
					return n == 1 && got[0] == byte(flow)
				})
			}
			for from := range 2 {
				l.transfer(t, from, true, 1_000_000)
			}
			l.opener.mu.Lock()
			ports := slices.Clone(l.opener.ports)
			l.opener.mu.Unlock()
			var used [2]int
			must(t, l.manager.Do(func() {
				for i, x := range ports {
					if len(x.queues) != queues {
						t.Errorf("%d queues, not %d", len(x.queues), queues)
					}
					for _, q := range x.queues {
						if q.rx.mine > 0 {
							used[i]++
						}
					}
				}
			}))
			if used[0] < 2 {
				t.Errorf("packets came by %d queues", used[0])
			}
			l.settled(t)
		})
	}
}

// An interface may have more queues than a port takes.
func TestXDPManyQueues(t *testing.T) {
	needXDP(t)
	m, _ := newManager(t, manager.Config{Frames: 1024})
	makeVeth(t, "n-eth1", "h-eth1", Config{}, maxQueues+1)
	_, _, err := NewOpener(m).Open(Config{Kind: XDP, Device: "n-eth1"})
	if want := fmt.Sprintf("`ethtool -L n-eth1 rx %d`", maxQueues); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// A host that takes frames together (link.Gather) has them all.
func TestXDPGather(t *testing.T) {
	needXDP(t)
	l := newLab(t, Config{Kind: XDP}, nil)
	for i, n := range l.hosts {
		name := fmt.Sprintf("h%d-eth0", i+1)
		must(t, n.Do(func() error {
			if err := link.Gather(name); err != nil {
				return err
			}
			out, err := exec.Command("unshare", "-m", "sh", "-c", "mount -t sysfs sys /sys && cd /sys/class/net/"+name+" && cat gro_flush_timeout napi_defer_hard_irqs").CombinedOutput()
			if string(out) != "40000\n1\n" {
				t.Errorf("%s, %v", out, err)
			}
			return nil
		}))
	}
	for _, six := range []bool{false, true} {
		l.talk(t, six, 1, 1400, 4000)
		for from := range 2 {
			l.transfer(t, from, six, 3_000_000)
		}
	}
	l.settled(t)
}

// What DPDK's af_xdp driver leaves on an interface when it is killed is removed.
func TestXDPAfterDPDK(t *testing.T) {
	needXDP(t)
	program, err := exec.LookPath("dpdk-testpmd")
	if err != nil {
		t.Skip("there is no dpdk-testpmd: apt-get install dpdk")
	}
	l := newLab(t, Config{Kind: XDP}, nil)
	must(t, l.manager.RemovePort(1))
	cmd := exec.Command(program, "--no-huge", "-m", "64", "--no-pci", "--file-prefix", "weft-port", "--vdev", "net_af_xdp0,iface=n-eth1",
		"--", "--no-mlockall", "--total-num-mbufs=8192", "--disable-link-check", "--interactive")
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	must(t, err)
	defer in.Close()
	must(t, cmd.Start())
	for end := time.Now().Add(20 * time.Second); !hasProgram(t, "n-eth1") && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	if !hasProgram(t, "n-eth1") {
		t.Fatalf("testpmd has left no program: this test is of no use\n%s", out.String())
	}
	p, _, err := l.opener.Open(Config{Kind: XDP, Device: "n-eth1"})
	must(t, err)
	must(t, l.manager.AddPort(1, "n-eth1", p))
	l.talk(t, false, 100, 1400)
	l.settled(t)
	if hasProgram(t, "n-eth1") {
		t.Error("a program is still there")
	}
}
