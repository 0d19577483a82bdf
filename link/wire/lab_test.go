package wire

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// TestMain runs the tests again in a network namespace of their own, and in a user
// namespace where that is how to get one.
func TestMain(m *testing.M) {
	const inside = "WEFT_WIRE_TEST_INSIDE"
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

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// A lab is two hosts with a wire between them: 10.0.0.1 and fd00::1, 10.0.0.2 and fd00::2.
type lab struct {
	engine *Engine
	wire   link.Shaper
	hosts  [2]*ns.Net
	files  map[string]string
	tries  int // calls of reach
}

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}) }

// newHost makes a namespace that ends with the test.
func newHost(tb testing.TB) *ns.Net {
	tb.Helper()
	n, err := ns.New(func() error {
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

// newLab makes a lab whose ends come from tun, with a record.
func newLab(tb testing.TB, tun string, record io.Writer, options ...string) *lab {
	tb.Helper()
	l := &lab{}
	var err error
	l.engine, err = NewEngine(slog.New(slog.DiscardHandler))
	must(tb, err)
	l.engine.tun = tun
	tb.Cleanup(func() { must(tb, l.engine.Close()) })
	c := link.Config{Record: record, Name: "link", ReadFile: func(name string) ([]byte, error) { return []byte(l.files[name]), nil }}
	must(tb, c.Settings.Set(options...))
	for i := range l.hosts {
		l.hosts[i] = newHost(tb)
	}
	c.A = link.End{Net: l.hosts[0], Device: "h1-eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	c.B = link.End{Net: l.hosts[1], Device: "h2-eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	l.wire, err = l.engine.Add(c)
	must(tb, err)
	for i, n := range l.hosts {
		must(tb, configure(n, i, []link.End{c.A, c.B}[i].Device))
	}
	return l
}

func configure(n *ns.Net, i int, device string) error {
	h, err := n.Handle()
	if err != nil {
		return err
	}
	defer h.Close()
	d, err := h.LinkByName(device)
	if err != nil {
		return err
	}
	for _, a := range []string{fmt.Sprintf("10.0.0.%d/24", i+1), fmt.Sprintf("fd00::%d/64", i+1)} {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		parsed.Flags = unix.IFA_F_NODAD
		if err := h.AddrAdd(d, parsed); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(d); err != nil {
		return err
	}
	// Neighbours are known: no frame is there that no test has sent.
	mac := net.HardwareAddr{2, 0, 0, 0, 0, byte(2 - i)}
	for _, ip := range []net.IP{net.IPv4(10, 0, 0, byte(2-i)), net.ParseIP(fmt.Sprintf("fd00::%d", 2-i))} {
		if err := h.NeighSet(&netlink.Neigh{LinkIndex: d.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: mac}); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) set(tb testing.TB, options ...string) {
	tb.Helper()
	var s topo.LinkSettings
	must(tb, s.Set(options...))
	must(tb, l.wire.Set(0, s.AB))
	must(tb, l.wire.Set(1, s.BA))
}

// udp returns a socket of each host, connected to the other.
func (l *lab) udp(tb testing.TB) (socks [2]*net.UDPConn) {
	tb.Helper()
	return l.sockets(tb, 5000)
}

func (l *lab) sockets(tb testing.TB, port int) (socks [2]*net.UDPConn) {
	tb.Helper()
	for i, n := range l.hosts {
		must(tb, n.Do(func() (err error) {
			local := &net.UDPAddr{IP: addr(i).AsSlice(), Port: port}
			remote := &net.UDPAddr{IP: addr(1 - i).AsSlice(), Port: port}
			socks[i], err = net.DialUDP("udp4", local, remote)
			return err
		}))
		tb.Cleanup(func() { socks[i].Close() })
	}
	return socks
}

// oneWay sends a datagram from host 0 and waits until host 1 has it.
func oneWay(tb testing.TB, socks [2]*net.UDPConn) time.Duration {
	tb.Helper()
	var b [64]byte
	start := time.Now()
	_, err := socks[0].Write(b[:])
	must(tb, err)
	must(tb, socks[1].SetReadDeadline(start.Add(30*time.Second)))
	_, err = socks[1].Read(b[:])
	must(tb, err)
	return time.Since(start)
}

// reach waits until datagrams from host 0 arrive at host 1: a device that has just come up may
// lose the first. They are of sockets of their own: one that is slow is in no other's way.
func (l *lab) reach(tb testing.TB) {
	tb.Helper()
	l.tries++
	socks := l.sockets(tb, 5000+l.tries)
	for end := time.Now().Add(30 * time.Second); ; {
		_, err := socks[0].Write([]byte{1})
		must(tb, err)
		must(tb, socks[1].SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if _, err = socks[1].Read(make([]byte, 1)); err == nil {
			return
		} else if time.Now().After(end) {
			tb.Fatal(err)
		}
	}
}
