package port

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
	"weft/internal/ns"
	"weft/internal/vnet"
	"weft/link"
)

// TestMain runs the tests again in a network namespace of their own, and in a user
// namespace where that is how to get one.
func TestMain(m *testing.M) {
	const inside = "WEFT_PORT_TEST_INSIDE"
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

// A lab is two hosts with a manager between them: 10.0.0.1 and fd00::1, 10.0.0.2 and fd00::2.
type lab struct {
	manager *manager.Manager
	opener  *Opener
	hosts   [2]*ns.Net
	kinds   [2]Kind
	queues  int
	small   int // frames at the start
	large   int
	end     func()
}

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

// newManager starts a manager that ends with the test.
func newManager(tb testing.TB, c manager.Config) (*manager.Manager, func()) {
	tb.Helper()
	m, err := manager.New(c)
	must(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			must(tb, err)
		case <-time.After(10 * time.Second):
			tb.Error("the manager does not end")
		}
	}
	tb.Cleanup(end)
	return m, end
}

// newLab makes a lab. Packets go from each host to the other, through an NF if there is one.
func newLab(tb testing.TB, c Config, handler nf.Handler) *lab {
	tb.Helper()
	return newMixedLab(tb, [2]Config{c, c}, handler)
}

// newMixedLab makes a lab with a kind of port for each host.
func newMixedLab(tb testing.TB, c [2]Config, handler nf.Handler) *lab {
	tb.Helper()
	return newQueuedLab(tb, c, 1, handler)
}

// newQueuedLab makes a lab whose veth pairs have so many queues.
func newQueuedLab(tb testing.TB, c [2]Config, queues int, handler nf.Handler) *lab {
	tb.Helper()
	l := &lab{queues: queues}
	l.manager, l.end = newManager(tb, manager.Config{Frames: 16384})
	l.opener = NewOpener(l.manager)
	var err error
	l.small, l.large, err = l.manager.Left()
	must(tb, err)
	for i := range l.hosts {
		l.hosts[i] = newHost(tb)
		l.connect(tb, i, c[i])
	}
	if handler != nil {
		startNF(tb, l.manager, 7, handler)
	}
	for i := range l.hosts {
		chain := manager.Chain{Name: fmt.Sprint("to", 2-i), Out: uint16(2 - i)}
		if handler != nil {
			chain.Services = []uint16{7}
		}
		must(tb, l.manager.SetChain(chain))
		from := manager.Match{Key: manager.Key{7: uint64(i + 1)}, Mask: manager.Key{7: 0xffff}} // input port
		must(tb, l.manager.AddFlow(manager.Flow{Match: from, Verdict: manager.Verdict{Chain: chain.Name}}))
	}
	return l
}

// connect gives a host a port, number i+1.
func (l *lab) connect(tb testing.TB, i int, c Config) {
	tb.Helper()
	c.Device = fmt.Sprintf("h%d-eth0", i+1)
	h, err := netlink.NewHandle()
	must(tb, err)
	defer h.Close()
	if c.Kind != TAP {
		mine := fmt.Sprintf("n-eth%d", i+1)
		makeVeth(tb, mine, c.Device, c, l.queues)
		c.Device = mine
	}
	p, kind, err := l.opener.Open(c)
	must(tb, err)
	l.kinds[i] = kind
	d, err := h.LinkByName(fmt.Sprintf("h%d-eth0", i+1))
	must(tb, err)
	must(tb, h.LinkSetNsFd(d, l.hosts[i].FD()))
	must(tb, configure(l.hosts[i], i, d.Attrs().Name))
	must(tb, l.manager.AddPort(uint16(i+1), c.Device, p))
}

// makeVeth makes a veth pair, the first up.
func makeVeth(tb testing.TB, mine, theirs string, c Config, queues int) {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags, attrs.MTU = mine, unix.IFF_UP, 1500
	if c.MTU != 0 {
		attrs.MTU = c.MTU
	}
	attrs.NumTxQueues, attrs.NumRxQueues = queues, queues
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerMTU = theirs, uint32(attrs.MTU)
	v.PeerNumTxQueues, v.PeerNumRxQueues = uint32(queues), uint32(queues)
	must(tb, netlink.LinkAdd(v))
	tb.Cleanup(func() { netlink.LinkDel(v) })
	must(tb, link.KeepFeatures(theirs, vnet.Expressible))
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
	if err := h.LinkSetHardwareAddr(d, net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}); err != nil {
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
	return h.LinkSetUp(d)
}

// startNF runs an NF in this process until the test ends, by its rings, as in a process.
func startNF(tb testing.TB, m *manager.Manager, service uint16, h nf.Handler) {
	tb.Helper()
	i, rings, _, err := m.Attach(manager.Instance{Service: service}, 0)
	must(tb, err)
	word, event := m.Bell().Files()
	bell, err := shm.OpenBell(word, event)
	must(tb, err)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		e := &nf.Edge{Memory: m.Memory(), Rings: rings, Bell: bell}
		for {
			select {
			case <-stop:
				return
			default:
			}
			if e.Turn(h) == 0 {
				bell.Ring()
				rings.Receive.Wait(int64(10*time.Millisecond), nil)
			}
		}
	}()
	tb.Cleanup(func() {
		close(stop)
		<-stopped
		m.Detach(i)
	})
}

// settled waits until all frames are back that no port holds, and checks that none is lost once
// the ports are gone.
func (l *lab) settled(tb testing.TB) {
	tb.Helper()
	for i := range l.hosts {
		must(tb, l.manager.RemovePort(uint16(i+1)))
	}
	eventually(tb, "frames are lost", func() bool {
		small, large, err := l.manager.Left()
		must(tb, err)
		return small == l.small && large == l.large
	})
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatal(what)
		}
	}
}
