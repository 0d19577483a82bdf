package netem

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/ns"
	"weft/link"
	"weft/link/linktest"
	"weft/topo"
)

func TestMain(m *testing.M) { os.Exit(linktest.Main(m)) }

// adder returns the Add of a driver that ends with the test.
func adder(t *testing.T) linktest.Adder {
	t.Helper()
	needKernel(t)
	home, err := ns.Current()
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(home, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		home.Close()
	})
	return func(c link.Config) (link.Shaper, error) { return d.Add(c) }
}

func needKernel(t *testing.T) {
	t.Helper()
	if err := Probe().Impair; err != nil {
		t.Skip(err)
	}
}

func TestLinks(t *testing.T) { linktest.Run(t, adder) }

func TestRootless(t *testing.T) {
	needKernel(t)
	linktest.Rootless(t, "^TestLinks$/^(delay|queue|change|mtu)$")
}

// A feature is missing or there; what is missing has a name.
func TestProbe(t *testing.T) {
	f := Probe()
	for name, err := range map[string]error{"netem": f.Impair, "rate": f.Rate, "red": f.RED, "codel": f.CoDel, "fq_codel": f.FQCoDel} {
		t.Logf("%s: %v", name, err)
		if err == nil || errors.Is(err, unix.EPERM) {
			continue
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v is not unsupported", name, err)
		}
		if text := err.Error(); !strings.Contains(text, "sch_") && !strings.Contains(text, "_u32") && !strings.Contains(text, "IFB") && !strings.Contains(text, "veth") {
			t.Errorf("%s: %q names no module", name, text)
		}
	}
}

// devices lists those of the test's own namespace.
func devices(t *testing.T) (names []string) {
	t.Helper()
	list, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		names = append(names, l.Attrs().Name)
	}
	return names
}

// A link is gone when it is closed, also one that failed or went through changes.
func TestNothingStays(t *testing.T) {
	add := adder(t)
	before := len(devices(t))
	config := func(options ...string) link.Config {
		c := link.Config{
			A: link.End{Device: "h1-eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}},
			B: link.End{Net: linktest.NewHost(t), Device: "h2-eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}},
		}
		if err := c.Settings.Set(options...); err != nil {
			t.Fatal(err)
		}
		return c
	}
	l, err := add(config("bw=10", "delay=5ms"))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := netlink.LinkByName("h1-eth0"); err != nil || d.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("the end in the driver's namespace is not up: %v", err)
	}
	for _, i := range []topo.Impairment{{Rate: 1e6, AQM: topo.CoDel}, {Rate: 1e6, AQM: topo.RED}, {Loss: 1}, {}} {
		for way := range 2 {
			if err := l.Set(way, i); err != nil {
				t.Error(err)
			}
		}
	}
	if err := l.Set(0, topo.Impairment{Drop: "1"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("frames lost by number: %v", err)
	}
	// The name of the end is taken.
	if other, err := add(config()); err == nil {
		other.Close()
		t.Error("a second h1-eth0 was made")
	} else if !strings.Contains(err.Error(), "h1-eth0") {
		t.Errorf("%v; want the device's name in it", err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := l.Set(0, topo.Impairment{}); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed link was set: %v", err)
	}
	if _, err := l.Counters(); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed link was counted: %v", err)
	}
	linktest.Eventually(t, "all devices are gone", func() bool { return len(devices(t)) == before })
	if _, err := add(config("seed=1")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a link with a seed: %v", err)
	}
}

// What users do to the ends with tc stays, and the link has nothing there itself.
func TestEndsAreFree(t *testing.T) {
	l := linktest.NewLab(t, adder(t), "delay=1ms", "bw=10")
	h, err := l.Hosts[0].Handle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	dev, err := h.LinkByName(linktest.Device(0))
	if err != nil {
		t.Fatal(err)
	}
	if n := dev.Attrs().NumTxQueues; n != 1 {
		t.Errorf("the end has %d queues", n)
	}
	kinds := func() (kinds []string) {
		list, err := h.QdiscList(dev)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range list {
			kinds = append(kinds, q.Type())
		}
		return kinds
	}
	if k := kinds(); len(k) != 1 || k[0] != "noqueue" {
		t.Errorf("queueing disciplines %v at the end; want none", k)
	}
	own := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: dev.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT})
	if err := h.QdiscAdd(own); err != nil {
		t.Fatal(err)
	}
	l.Set(t, "loss=10", "bw=20", "delay=5ms")
	if k := kinds(); len(k) != 1 || k[0] != "htb" {
		t.Errorf("queueing disciplines %v at the end; want htb, as the user made it", k)
	}
}

// A queue that is replaced goes when it has run dry, and what it counted stays counted.
func TestOldQueues(t *testing.T) {
	l := linktest.NewLab(t, adder(t), "bw=1", "queue=10")
	socks := l.UDP(t)
	for range 50 {
		if _, err := socks[0].Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	dropped := l.Counters(t)[0].Overflow
	if dropped == 0 {
		t.Fatal("nothing was dropped")
	}
	many := len(devices(t))
	l.Set(t, "bw=1", "queue=100kB")
	if n := len(devices(t)); n <= many {
		t.Errorf("%d devices, %d before: there is no other queue", n, many)
	}
	linktest.Eventually(t, "the queue that is no more used is gone", func() bool {
		c := l.Counters(t)[0]
		return len(devices(t)) == many && c.Queued == 0 && c.InFlight == 0
	})
	c := l.Counters(t)[0]
	if c.Overflow != dropped || c.Delivered+c.Overflow != 50 {
		t.Errorf("%d were dropped before; counters %+v", dropped, c)
	}
}
