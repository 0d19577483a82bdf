package wire

import (
	"errors"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"weft/internal/device"
	"weft/internal/ns"
	"weft/link"
	"weft/link/linktest"
	"weft/topo"
)

// A pair is a veth pair as a link. It goes with its hosts.
type pair struct{}

func (pair) Set(int, topo.Impairment) error          { return errors.ErrUnsupported }
func (pair) Counters() (c [2]link.Counters, _ error) { return c, nil }
func (pair) SetMTU(int) error                        { return errors.ErrUnsupported }
func (pair) Close() error                            { return nil }

// newVethLab is two hosts with a veth pair between them.
func newVethLab(t *testing.T) *lab {
	t.Helper()
	return &lab{engine: newEngine(t, device.TUN), Lab: linktest.NewLab(t, func(c link.Config) (link.Shaper, error) {
		h, err := netlink.NewHandle()
		if err != nil {
			return nil, err
		}
		defer h.Close()
		return pair{}, link.Veth(h, c.A, c.B, 0, 1500)
	})}
}

// up takes a device up that has no part in what its host does.
func up(t *testing.T, n *ns.Net, device string) {
	t.Helper()
	h, err := n.Handle()
	must(t, err)
	defer h.Close()
	d, err := h.LinkByName(device)
	must(t, err)
	must(t, h.LinkSetUp(d))
}

// A wire beside a veth pair that is in use takes its frames over and gives them back, and none
// is lost.
func TestBesideVeth(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("no nft installed")
	}
	l := newVethLab(t)
	socks := l.UDP(t)
	l.reach(t)
	var sent, received atomic.Int64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			if sent.Load() > received.Load()+200 {
				continue // a socket holds a few hundred
			}
			if _, err := socks[0].Write([]byte{1}); err == nil {
				sent.Add(1)
			}
		}
	}()
	go func() { // until it is closed
		for {
			if _, err := socks[1].Read(make([]byte, 64)); err != nil {
				return
			}
			received.Add(1)
		}
	}()
	linktest.Eventually(t, "frames arrive", func() bool { return received.Load() > 20 })

	c := link.Config{A: link.End{Net: l.Hosts[0], Device: "beside1"}, B: link.End{Net: l.Hosts[1], Device: "beside1"}, Return: true}
	must(t, c.Settings.Set("ab:delay=30ms"))
	w, err := l.engine.Add(c)
	must(t, err)
	gates := [2]*link.Gates{link.NewGates(l.Hosts[0]), link.NewGates(l.Hosts[1])}
	for i, d := range []string{"h1-eth0", "h2-eth0"} {
		up(t, l.Hosts[i], "beside1")
		must(t, gates[i].Set(link.Gate{Device: d, Through: "beside1"}))
	}
	linktest.Eventually(t, "frames pass the wire", func() bool {
		c, err := w.Counters()
		must(t, err)
		return c[0].InFlight > 0 && c[0].Delivered > 100
	})
	for i, d := range []string{"h1-eth0", "h2-eth0"} {
		must(t, gates[i].Set(link.Gate{Device: d}))
	}
	given := received.Load()
	linktest.Eventually(t, "frames arrive afterwards", func() bool { return received.Load() > given+200 })
	close(stop)
	<-done
	linktest.Eventually(t, "all arrive", func() bool { return received.Load() >= sent.Load() })
	if s, r := sent.Load(), received.Load(); s != r {
		t.Errorf("%d sent, %d received", s, r)
	}
	linktest.Eventually(t, "the wire has delivered all", func() bool { // what the hosts send by themselves, too
		after, err := w.Counters()
		must(t, err)
		return after[0].InFlight == 0 && after[0].Lost+after[0].Down == 0
	})
	must(t, gates[0].Forget("beside1"))
	must(t, gates[1].Forget("beside1"))
	must(t, w.Close())

	// A cut drops what is sent and counts it, one way only.
	must(t, gates[0].Set(link.Gate{Device: "h1-eth0", Cut: true}))
	n := received.Load()
	for range 10 {
		socks[0].Write([]byte{1})
	}
	dropped, err := gates[0].Dropped()
	must(t, err)
	if dropped["h1-eth0"] < 10 || received.Load() != n {
		t.Errorf("a cut link: dropped %v, received %d", dropped, received.Load()-n)
	}
	must(t, gates[0].SetBar("other", link.Bar{MACs: []string{"02:00:00:00:00:01"}}))
	must(t, gates[0].Set(link.Gate{Device: "h1-eth0", Bar: "other"}))
	socks[0].Write([]byte{1})
	if again, err := gates[0].Dropped(); err != nil || again["h1-eth0"] <= dropped["h1-eth0"] {
		t.Errorf("a barred sender: dropped %v, then %v (%v)", dropped, again, err)
	}
	must(t, gates[0].Set(link.Gate{Device: "h1-eth0"}))
	must(t, gates[0].DeleteBars())
	socks[0].Write([]byte{1})
	linktest.Eventually(t, "the link works after all", func() bool { return received.Load() > n })
}
