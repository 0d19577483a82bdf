// Package linktest tests what every driver of links is to do, with real frames between two
// hosts. Drivers' tests call Run.
//
// It may import link, topo and internal/ns.
package linktest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/ns"
	"weft/link"
	"weft/topo"
)

// inside is the environment variable that says that the tests run in namespaces: of root's, or
// of an ordinary user's, who is root there.
const (
	inside     = "WEFT_LINKTEST_INSIDE"
	insideUser = "user"
)

// Main is for a driver's TestMain: it runs the tests again in a network namespace of their own,
// and in a user namespace where that is how to get one.
func Main(m *testing.M) int {
	if os.Getenv(inside) != "" {
		return m.Run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=root")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if os.Getuid() != 0 {
		cmd.Env = append(os.Environ(), inside+"="+insideUser)
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil: // the tests say what they miss
		fmt.Fprintln(os.Stderr, "no namespaces for tests:", err)
		return m.Run()
	}
	return 0
}

// An Adder makes a link.
type Adder func(link.Config) (link.Shaper, error)

// A Lab is two hosts with a link between them: 10.0.0.1 and 10.0.0.2.
type Lab struct {
	Link   link.Shaper
	Hosts  [2]*ns.Net
	Config link.Config

	sent [2]uint64 // frames by each host, of which tests know
}

// Addr is the address of host 0 or 1.
func Addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}) }

// Device is the interface of host 0 or 1.
func Device(i int) string { return fmt.Sprintf("h%d-eth0", i+1) }

func mac(i int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)} }

// NewHost makes a namespace that ends with the test.
func NewHost(tb testing.TB) *ns.Net {
	tb.Helper()
	n, err := ns.New(func() error {
		// Hosts send nothing of their own. A kernel may be without IPv6.
		err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	must(tb, err)
	tb.Cleanup(func() { n.Close() })
	return n
}

// NewLab makes a link with settings as topo.LinkSettings.Set takes them. It ends with the test.
// Hosts know each other's MACs.
func NewLab(tb testing.TB, add Adder, options ...string) *Lab {
	tb.Helper()
	l := &Lab{}
	must(tb, l.Config.Settings.Set(options...))
	for i := range l.Hosts {
		l.Hosts[i] = NewHost(tb)
	}
	l.Config.A = link.End{Net: l.Hosts[0], Device: Device(0), MAC: mac(0)}
	l.Config.B = link.End{Net: l.Hosts[1], Device: Device(1), MAC: mac(1)}
	var err error
	if l.Link, err = add(l.Config); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			tb.Skip(err)
		}
		tb.Fatal(err)
	}
	tb.Cleanup(func() { must(tb, l.Link.Close()) })
	for i, n := range l.Hosts {
		must(tb, configure(n, i))
	}
	return l
}

func configure(n *ns.Net, i int) error {
	h, err := n.Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	d, err := h.LinkByName(Device(i))
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: Addr(i).AsSlice(), Mask: net.CIDRMask(24, 32)}}
	if err := h.AddrAdd(d, addr); err != nil {
		return err
	}
	if err := h.LinkSetUp(d); err != nil {
		return err
	}
	return h.NeighAdd(&netlink.Neigh{
		LinkIndex: d.Attrs().Index, IP: Addr(1 - i).AsSlice(), HardwareAddr: mac(1 - i), State: unix.NUD_PERMANENT,
	})
}

// Set changes the link.
func (l *Lab) Set(tb testing.TB, options ...string) {
	tb.Helper()
	var s topo.LinkSettings
	must(tb, s.Set(options...))
	must(tb, l.Link.Set(0, s.AB))
	must(tb, l.Link.Set(1, s.BA))
}

// UDP returns a socket of each host, connected to the other, with room for what is not read at once.
func (l *Lab) UDP(tb testing.TB) [2]*net.UDPConn { return l.UDPOn(tb, 5000) }

// UDPOn is UDP with a port.
func (l *Lab) UDPOn(tb testing.TB, port int) (socks [2]*net.UDPConn) {
	tb.Helper()
	for i, n := range l.Hosts {
		must(tb, n.Do(func() (err error) {
			local := &net.UDPAddr{IP: Addr(i).AsSlice(), Port: port}
			remote := &net.UDPAddr{IP: Addr(1 - i).AsSlice(), Port: port}
			socks[i], err = net.DialUDP("udp4", local, remote)
			return err
		}))
		must(tb, control(socks[i], func(fd int) error { return room(fd) }))
		tb.Cleanup(func() { socks[i].Close() })
	}
	return socks
}

// room makes a socket's buffers large, as far as it may.
func room(fd int) error {
	const large = 16 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, large) == nil {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, large)
	}
	return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, large),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, large))
}

// SetUp takes a host's device up or down.
func (l *Lab) SetUp(host int, up bool) error {
	h, err := l.Hosts[host].Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	d, err := h.LinkByName(Device(host))
	if err != nil {
		return err
	}
	if !up {
		return h.LinkSetDown(d)
	}
	return h.LinkSetUp(d)
}

// Counters asks the link.
func (l *Lab) Counters(tb testing.TB) [2]link.Counters {
	tb.Helper()
	c, err := l.Link.Counters()
	must(tb, err)
	return c
}

// inHand bounds the frames that a host has sent and the link has not yet taken: the queues of hosts
// hold as many, however late the link is.
const inHand = 400

// Pace returns what to call for each frame that a host sends. It waits for the link where that is
// late.
func (l *Lab) Pace(tb testing.TB, host int) (sent func()) {
	tb.Helper()
	n, before := uint64(0), taken(l.Counters(tb)[host])
	return func() {
		tb.Helper()
		if n++; n%(inHand/2) == 0 {
			Eventually(tb, "the link takes the frames that were sent", func() bool { return taken(l.Counters(tb)[host])-before+inHand/2 > n })
		}
	}
}

// taken returns how many frames a link has taken.
func taken(c link.Counters) uint64 {
	return c.Delivered + c.Queued + c.InFlight + c.Lost + c.Filtered + c.Overflow + c.AQMDrops + c.NoMemory + c.Down + c.Oversized - c.Duplicated
}

// Eventually waits until f says true, for 30 seconds at most.
func Eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not in 30 s: %s", what)
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
