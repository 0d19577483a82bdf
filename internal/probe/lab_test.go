package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMain runs the tests again in a network namespace of their own, and in a user
// namespace where that is how to get one.
func TestMain(m *testing.M) {
	const inside = "WEFT_PROBE_TEST_INSIDE"
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

// A lab is a Linux bridge with hosts at its ports: h1 with 10.0.0.1 and fd00::1, ...
// The bridge's side of the veth pair of h1 is p1; the host's is eth0.
type lab struct {
	hosts  []Host
	fabric *netlink.Handle
	inside []*netlink.Handle // per host
}

// newLab makes a lab of n hosts that ends with the test.
func newLab(tb testing.TB, n int) *lab {
	tb.Helper()
	fabric := newNamespace(tb)
	l := &lab{fabric: handle(tb, fabric)}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	must(tb, l.fabric.LinkAdd(bridge))
	must(tb, l.fabric.LinkSetUp(bridge))
	for i := 1; i <= n; i++ {
		ns := newNamespace(tb)
		inside := handle(tb, ns)
		pair := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: fmt.Sprint("p", i), MasterIndex: bridge.Index},
			PeerName:      "eth0",
			PeerNamespace: netlink.NsFd(int(ns)),
		}
		must(tb, l.fabric.LinkAdd(pair))
		must(tb, l.fabric.LinkSetUp(pair))
		host := l.join(tb, fmt.Sprint("h", i), i, ns, inside)
		l.hosts = append(l.hosts, host)
		l.inside = append(l.inside, inside)
	}
	for i := range l.hosts {
		l.waitForwarding(tb, fmt.Sprint("p", i+1))
	}
	return l
}

// waitForwarding waits until the bridge has noticed that a port has a carrier.
func (l *lab) waitForwarding(tb testing.TB, port string) {
	tb.Helper()
	for range 500 {
		link, err := l.fabric.LinkByName(port)
		must(tb, err)
		if link.Attrs().OperState == netlink.OperUp {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Fatalf("%s is not up", port)
}

// newCable makes two hosts at the ends of one veth pair.
func newCable(tb testing.TB) [2]Host {
	tb.Helper()
	a, b := newNamespace(tb), newNamespace(tb)
	inA, inB := handle(tb, a), handle(tb, b)
	must(tb, inA.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(b)),
	}))
	var l lab
	return [2]Host{l.join(tb, "h1", 1, a, inA), l.join(tb, "h2", 2, b, inB)}
}

// join sets up the interface of a host and returns the host.
func (l *lab) join(tb testing.TB, name string, number int, ns netns.NsHandle, inside *netlink.Handle) Host {
	tb.Helper()
	host := Host{
		Name: name,
		IP:   netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)}),
		IP6:  netip.MustParseAddr(fmt.Sprintf("fd00::%x", number)),
		Do:   func(f func() error) error { return within(ns, f) },
	}
	for _, device := range []string{"lo", "eth0"} {
		link, err := inside.LinkByName(device)
		must(tb, err)
		must(tb, inside.LinkSetUp(link))
		if device == "eth0" {
			must(tb, inside.AddrAdd(link, &netlink.Addr{
				IPNet: &net.IPNet{IP: host.IP.AsSlice(), Mask: net.CIDRMask(8, 32)},
			}))
			must(tb, inside.AddrAdd(link, &netlink.Addr{
				IPNet: &net.IPNet{IP: host.IP6.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD,
			}))
		}
	}
	return host
}

// nobody is a host to be asked for that is not there.
func nobody(number int) Host {
	return Host{Name: "nobody", IP: netip.AddrFrom4([4]byte{10, 9, 0, byte(number)})}
}

// pairs are all pairs of n hosts.
func pairs(n int) (all [][2]int) {
	for i := range n {
		for j := range n {
			if i != j {
				all = append(all, [2]int{i, j})
			}
		}
	}
	return all
}

// newNamespace returns a new network namespace that ends with the test.
func newNamespace(tb testing.TB) netns.NsHandle {
	tb.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	must(tb, err)
	defer here.Close()
	ns, err := netns.New()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		tb.Skipf("needs network namespaces (as an ordinary user: user namespaces): %v", err)
	}
	must(tb, err)
	must(tb, netns.Set(here))
	tb.Cleanup(func() { ns.Close() })
	return ns
}

func handle(tb testing.TB, ns netns.NsHandle) *netlink.Handle {
	tb.Helper()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	must(tb, err)
	tb.Cleanup(h.Close)
	return h
}

// within calls f in a namespace.
func within(ns netns.NsHandle, f func() error) error {
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	if err := netns.Set(ns); err != nil {
		return err
	}
	err = f()
	if back := netns.Set(here); back != nil {
		return back // and the thread stays locked, so that it ends with the goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
