package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/port"
	"weft/internal/ns"
	"weft/internal/sandbox"
	"weft/internal/vnet"
	"weft/link"
	"weft/link/netem"
	"weft/link/parquet"
	"weft/link/wire"
	"weft/topo"
)

// links are those that run. They are changed under Network.change.
type links struct {
	mu      sync.Mutex           // guards the fields below and those of a runningLink
	running map[int]*runningLink // by ID
	gates   map[*ns.Net]*link.Gates
	besides int // links beside others so far

	engine func() (*wire.Engine, error) // nil before the first wire
	netem  *netem.Driver                // nil before the first link of that kind
	closed bool
	wg     sync.WaitGroup // links that are left to run dry

	partition *partition // nil: none; guarded by Network.change
}

// A runningLink is a link as it runs.
//
//	shaper nil:           device ═════════════════ device     a veth pair or a patch
//	shaper, beside empty: device ════ shaper ═════ device     as the link was made
//	beside:               device ╗════════════════╔ device    made as a veth pair or by another
//	                             ╚═══ beside ═════╝           driver, and impaired since
type runningLink struct {
	driver topo.LinkDriver // of its devices
	shaper link.Shaper     // what they are made of; nil if they impair nothing
	beside *besideLink
	// settings are those in force, on the shaper or the wire beside.
	settings topo.LinkSettings
	ends     [2]linkEnd // A's and B's
	record   io.Closer
	lease    *sandbox.Lease // a NIC's; nil without one
}

// A linkEnd is what happens to the frames that are sent at an end, before all else.
type linkEnd struct {
	device  string // empty outside, beyond a NIC
	cut     bool   // LinkChange.Cut
	barred  string // by a partition: a link.Bar, or barAll
	through string // the device of the link beside it
}

// barAll bars all frames.
const barAll = "*"

// gate is what brings it about.
func (e linkEnd) gate() link.Gate {
	g := link.Gate{Device: e.device, Cut: e.cut, Bar: e.barred, Through: e.through}
	if g.Bar == barAll {
		g.Cut, g.Bar = true, ""
	}
	return g
}

// current returns what impairs the link now, nil if nothing does.
func (r *runningLink) current() link.Shaper {
	if r.beside != nil {
		return r.beside.Shaper
	}
	return r.shaper
}

// inForce is the driver that impairs the link.
func (r *runningLink) inForce() topo.LinkDriver {
	if r.beside != nil {
		return r.beside.driver
	}
	return r.driver
}

// linkMakers are the constructors of links, by driver. They leave ends in hosts down.
func (n *Network) linkMakers() map[topo.LinkDriver]func(link.Config, topo.PlannedLink) (link.Shaper, error) {
	return map[topo.LinkDriver]func(link.Config, topo.PlannedLink) (link.Shaper, error){
		topo.LinkVeth:  n.makeVeth,
		topo.LinkNetem: n.makeNetem,
		topo.LinkWire:  n.makeWire,
		// Open vSwitch makes patches with its bridges.
		topo.LinkPatch: func(link.Config, topo.PlannedLink) (link.Shaper, error) { return nil, nil },
	}
}

// chooseDriver returns the driver of a link that says auto: the first that does all that is
// asked.
func (n *Network) chooseDriver(s topo.LinkSettings) topo.LinkDriver {
	switch {
	case s.Driver != topo.LinkAuto && s.Driver != "":
		return s.Driver
	case !s.Impaired() && !s.NeedsWire():
		return topo.LinkVeth
	case n.netemCan(s) == nil:
		return topo.LinkNetem
	}
	return topo.LinkWire
}

// makeLinks makes links.
func (n *Network) makeLinks(ctx context.Context, links []topo.PlannedLink, p *reporter) error {
	return n.each(ctx, len(links), func(i int) error {
		defer p.done(links[i].A.Node + "-" + links[i].B.Node)
		if err := n.makeLink(ctx, links[i]); err != nil {
			return fmt.Errorf("link %s: %w", linkTitle(links[i]), err)
		}
		return nil
	})
}

// linkTitle is a link's name for people.
func linkTitle(l topo.PlannedLink) string { return l.A.Node + "–" + l.B.Node }

func (n *Network) makeLink(ctx context.Context, l topo.PlannedLink) error {
	if l.Driver == topo.LinkHW {
		return n.makeHW(ctx, l)
	}
	if l.Driver == topo.LinkMemif {
		r, err := n.makeMemif(l)
		if err == nil {
			n.links.update(func() { n.links.running[l.ID] = r })
		}
		return err
	}
	r := &runningLink{driver: n.chooseDriver(l.LinkSettings), settings: l.LinkSettings}
	for i, e := range []topo.PlannedEnd{l.A, l.B} {
		r.ends[i].device = n.plan.Interface(e).Device
	}
	c, record, err := n.linkConfig(l)
	if err != nil {
		return err
	}
	r.record = record
	if r.shaper, err = n.linkMakers()[r.driver](c, l); err == nil && r.driver != topo.LinkPatch {
		err = n.settle(l, r)
	}
	if err != nil {
		if r.shaper != nil {
			err = errors.Join(err, r.shaper.Close())
		}
		return errors.Join(err, record.Close())
	}
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	n.links.running[l.ID] = r
	return nil
}

// linkConfig says how a link is made. What record is given is to be closed.
func (n *Network) linkConfig(l topo.PlannedLink) (c link.Config, record io.Closer, err error) {
	a, errA := n.end(l.A)
	b, errB := n.end(l.B)
	if err := errors.Join(errA, errB); err != nil {
		return c, nil, err
	}
	c = link.Config{Handle: n.nl, A: a, B: b, Settings: l.LinkSettings, ReadFile: readUserFile}
	c.Record, record, err = n.openRecord(l)
	return c, record, err
}

// makeVeth makes a veth pair.
func (n *Network) makeVeth(c link.Config, l topo.PlannedLink) (link.Shaper, error) {
	a, b := c.A, c.B
	if a.Net != nil && b.Net == nil {
		a, b = b, a // the end in the fabric comes up at once
	}
	return nil, link.Veth(n.nl, a, b, firstIndex+l.ID, l.MTU)
}

// makeWire makes a wire between two TAP devices.
func (n *Network) makeWire(c link.Config, _ topo.PlannedLink) (link.Shaper, error) {
	e, err := n.wireEngine()
	if err != nil {
		return nil, err
	}
	return e.Add(c)
}

// wireEngine returns the engine of all wires, which starts with the first.
func (n *Network) wireEngine() (*wire.Engine, error) {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	if n.links.closed {
		return nil, wire.ErrClosed
	}
	if n.links.engine == nil {
		n.links.engine = sync.OnceValues(func() (*wire.Engine, error) { return wire.NewEngine(n.env.Log) })
	}
	return n.links.engine()
}

// settle finishes the devices of a link that is made. Ports of AF_XDP cannot finish a
// checksum for others.
func (n *Network) settle(l topo.PlannedLink, r *runningLink) error {
	for _, e := range []topo.PlannedEnd{l.A, l.B} {
		if sw := n.plan.Switch(e.Node); sw != nil && sw.DPDK != nil && !n.framesOnly(e.Node) {
			// What comes with a virtio header, and nothing else.
			if err := n.keepFeatures(l, vnet.Expressible); err != nil {
				return err
			}
		}
		if !n.framesOnly(e.Node) {
			continue
		}
		if sw := n.plan.Switch(e.Node); r.driver == topo.LinkNetem || r.shaper != nil && sw.DPDK == nil { // a wire's devices are its own
			if remedy := n.passesBy(e.Node); remedy != nil {
				return fmt.Errorf("switch %s has AF_XDP ports, which pass by what impairs a link: %w", e.Node, remedy)
			}
		}
		if err := n.keepFeatures(l, port.Plain); err != nil {
			return err
		}
		if r.driver == topo.LinkVeth {
			n.gather(l)
		}
	}
	return n.tellSpeed(l, r)
}

// gather lets hosts at a link's ends take frames together. Links do without where it is not
// permitted.
func (n *Network) gather(l topo.PlannedLink) {
	for _, e := range []topo.PlannedEnd{l.A, l.B} {
		if n.plan.Host(e.Node) == nil {
			continue
		}
		device := n.plan.Interface(e).Device
		if err := n.netOf(e.Node).Do(func() error { return link.Gather(device) }); err != nil {
			n.env.Log.Debug("a host takes each frame by itself", "error", err)
		}
	}
}

// tellSpeed makes the devices at the ends of a link say how fast it is, which switches tell
// their controllers. Those of a veth pair cannot.
func (n *Network) tellSpeed(l topo.PlannedLink, r *runningLink) error {
	if r.driver != topo.LinkWire {
		return nil
	}
	for i, e := range []topo.PlannedEnd{l.A, l.B} {
		rate := [2]topo.Impairment{r.settings.AB, r.settings.BA}[i].Rate
		if rate == 0 {
			rate = tapSpeed
		}
		device := n.plan.Interface(e).Device
		err := n.netOf(e.Node).Do(func() error { return link.SetSpeed(device, uint32(max(1, rate/1e6))) })
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return nil
}

// tapSpeed is what ends without a rate say, as veth pairs do.
const tapSpeed topo.Rate = 10e9

// unmakeLink removes a link's devices. n.change is held.
func (n *Network) unmakeLink(l topo.PlannedLink) error {
	n.links.mu.Lock()
	r := n.links.running[l.ID]
	delete(n.links.running, l.ID)
	n.links.mu.Unlock()
	if r == nil || r.driver == topo.LinkPatch {
		return nil
	}
	if r.driver == topo.LinkMemif {
		return n.closeMemif(l)
	}
	var errs []error
	for i, e := range []topo.PlannedEnd{l.A, l.B} {
		if r.ends[i].device != "" {
			errs = append(errs, n.gatesOf(e.Node).Forget(r.ends[i].device))
		}
	}
	if r.beside != nil {
		errs = append(errs, r.beside.close())
	}
	if r.lease != nil {
		errs = append(errs, r.lease.Close())
	} else if r.shaper != nil {
		errs = append(errs, r.shaper.Close())
	} else {
		err := n.onDevice(l.A, func(h *netlink.Handle, dev netlink.Link) error { return h.LinkDel(dev) })
		var missing netlink.LinkNotFoundError
		if !errors.As(err, &missing) { // else somebody else deleted it
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, r.record.Close())...)
}

// gatesOf returns the gates in the namespace of a node's interfaces.
func (n *Network) gatesOf(node string) *link.Gates {
	net := n.netOf(node)
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	g := n.links.gates[net]
	if g == nil {
		g = link.NewGates(net)
		n.links.gates[net] = g
	}
	return g
}

// runningLink returns a link of the plan as it runs, nil if it does not.
func (n *Network) runningLink(id int) *runningLink {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	return n.links.running[id]
}

// lookAtLink returns what a link is at this moment.
func (n *Network) lookAtLink(id int) (runningLink, bool) {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	if r := n.links.running[id]; r != nil {
		return *r, true
	}
	return runningLink{}, false
}

// update changes what others look at.
func (l *links) update(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// closeLinks ends all wires and records.
func (n *Network) closeLinks() error {
	l := &n.links
	l.mu.Lock()
	l.closed = true
	engine, driver, running := l.engine, l.netem, l.running
	l.running = nil
	l.mu.Unlock()
	var errs []error
	if engine != nil {
		if e, err := engine(); err == nil {
			errs = append(errs, e.Close())
		}
	}
	if driver != nil {
		errs = append(errs, driver.Close())
	}
	for _, r := range running {
		errs = append(errs, r.record.Close())
		if r.lease != nil {
			errs = append(errs, r.lease.Close())
		}
		if r.beside != nil {
			errs = append(errs, r.beside.record.Close())
		}
	}
	l.wg.Wait()
	return errors.Join(errs...)
}

// maxTrace bounds the file of a trace, bytes.
const maxTrace = 64 << 20

// readUserFile reads a file of the user's.
func readUserFile(name string) ([]byte, error) {
	if err := checkFile(name, 0); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTrace+1))
	if err == nil && len(b) > maxTrace {
		err = fmt.Errorf("%s is larger than %d MiB", name, maxTrace>>20)
	}
	return b, err
}

// openRecord opens the file that a link's record goes to.
func (n *Network) openRecord(l topo.PlannedLink) (io.Writer, io.Closer, error) {
	if l.Record == "" {
		return nil, io.NopCloser(nil), nil
	}
	if err := checkFile(l.Record, 0, os.ModeCharDevice|os.ModeDevice); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("record: %w", err)
	}
	for _, other := range n.plan.Links {
		if other.ID != l.ID && filepath.Clean(other.Record) == filepath.Clean(l.Record) {
			return nil, nil, fmt.Errorf("record: %s is that of link %s too; with {link} in its name, each link has its own", l.Record, linkTitle(other))
		}
	}
	f, err := os.OpenFile(l.Record, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o666)
	if err != nil {
		return nil, nil, fmt.Errorf("record: %w", err)
	}
	if filepath.Ext(l.Record) == ".parquet" {
		w := parquet.NewWriter(f)
		return w, bothClosers{w, f}, nil
	}
	return f, f, nil
}

// bothClosers closes one after the other.
type bothClosers [2]io.Closer

func (b bothClosers) Close() error { return errors.Join(b[0].Close(), b[1].Close()) }
