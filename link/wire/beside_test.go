package wire

import (
	"log/slog"
	"net"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"weft/internal/ns"
	"weft/link"
)

// newVethLab is two hosts with a veth pair between them.
func newVethLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{}
	var err error
	l.engine, err = NewEngine(slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, l.engine.Close()) })
	for i := range l.hosts {
		l.hosts[i] = newHost(t)
	}
	h, err := l.hosts[0].Handle()
	must(t, err)
	defer h.Close()
	v := netlink.NewVeth(netlink.LinkAttrs{Name: "h1-eth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
	v.PeerName, v.PeerHardwareAddr = "h2-eth0", net.HardwareAddr{2, 0, 0, 0, 0, 2}
	v.PeerNamespace = netlink.NsFd(l.hosts[1].FD())
	must(t, h.LinkAdd(v))
	for i, d := range []string{"h1-eth0", "h2-eth0"} {
		must(t, configure(l.hosts[i], i, d))
	}
	return l
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
	socks := l.udp(t)
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
	eventually(t, "nothing arrives", func() bool { return received.Load() > 20 })

	c := link.Config{A: link.End{Net: l.hosts[0], Device: "beside1"}, B: link.End{Net: l.hosts[1], Device: "beside1"}, Return: true}
	must(t, c.Settings.Set("ab:delay=30ms"))
	w, err := l.engine.Add(c)
	must(t, err)
	gates := [2]*link.Gates{link.NewGates(l.hosts[0]), link.NewGates(l.hosts[1])}
	for i, d := range []string{"h1-eth0", "h2-eth0"} {
		up(t, l.hosts[i], "beside1")
		must(t, gates[i].Set(link.Gate{Device: d, Through: "beside1"}))
	}
	eventually(t, "frames do not pass the wire", func() bool {
		c, err := w.Counters()
		must(t, err)
		return c[0].InFlight > 0 && c[0].Delivered > 100
	})
	for i, d := range []string{"h1-eth0", "h2-eth0"} {
		must(t, gates[i].Set(link.Gate{Device: d}))
	}
	given := received.Load()
	eventually(t, "nothing arrives afterwards", func() bool { return received.Load() > given+200 })
	close(stop)
	<-done
	eventually(t, "frames are lost", func() bool { return received.Load() >= sent.Load() })
	if s, r := sent.Load(), received.Load(); s != r {
		t.Errorf("%d sent, %d received", s, r)
	}
	eventually(t, "the wire has not delivered all", func() bool { // what the hosts send by themselves, too
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
	eventually(t, "the link does not work after all", func() bool { return received.Load() > n })
}
