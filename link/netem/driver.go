package netem

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"weft/internal/ns"
	"weft/link"
	"weft/topo"
)

// A Driver makes links. Its methods may be called concurrently.
type Driver struct {
	nl    *rtnl
	first int
	used  atomic.Int64
}

// New returns a driver that has the devices between the ends in the namespace home, which is
// also that of ends without one of their own. Interface indices from first on must be free there.
func New(home *ns.Net, first int) (*Driver, error) {
	r, err := openRTNL(home)
	if err != nil {
		return nil, err
	}
	return &Driver{nl: r, first: first}, nil
}

// Close lets go of the kernel's socket. Links stay until they are closed or their namespaces go.
func (d *Driver) Close() error {
	d.nl.close()
	return nil
}

// newPort returns a device with a name and an index of its own. No planned device has such a name.
func (d *Driver) newPort(mtu int) port {
	n := int(d.used.Add(1) - 1)
	return port{index: d.first + n, name: fmt.Sprintf("netem~%d", n), mtu: mtu}
}

// Add makes a link. Ends without a namespace of their own are up; others are for their nodes to
// take up. Its error wraps errors.ErrUnsupported if the kernel or netem cannot do what is asked.
func (d *Driver) Add(c link.Config) (link.Shaper, error) {
	if c.Settings.Seed != nil || c.Settings.Record != "" {
		return nil, unsupported("netem's chance has no seed, and it records no frames")
	}
	l := &netemLink{d: d, nl: d.nl, ends: [2]link.End{c.A, c.B}, mtu: c.Settings.MTU}
	if l.mtu == 0 {
		l.mtu = 1500
	}
	l.room = l.mtu
	var plans [2]stages
	for i, impairment := range []topo.Impairment{c.Settings.AB, c.Settings.BA} {
		var err error
		if plans[i], err = plan(impairment, l.mtu); err != nil {
			return nil, err
		}
	}
	if err := l.make(c.Return, plans); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// ErrClosed says that a link has been closed.
var ErrClosed = errors.New("the link is closed")

// A netemLink is a link with its devices.
type netemLink struct {
	d    *Driver
	nl   *rtnl
	ends [2]link.End

	mu      sync.Mutex
	closed  bool
	mtu     int    // of the ends
	room    int    // MTU of the devices between
	devices []int  // to delete
	middle  [2]int // the pair that has the fates; 0: not yet
	ways    [2]way
}

var _ link.Shaper = (*netemLink)(nil)

// A way is what happens to the frames that go one way.
type way struct {
	is stages
	// apart says that the way goes through the middle, where its fate is; otherwise fate and
	// wait are one netem, at out.
	apart bool
	out   int // the inner device of the end where frames leave
	// enter leads from the inner device where they enter to the first with a qdisc, leave from
	// the middle to out, detour from out through the rate.
	enter, leave, detour redirect
	shape                *shape
	old                  []*shape // to which no more frames come
	past                 tally
}

// A shape is the IFB that has a rate.
type shape struct {
	index int
	rate  *rate
}

// make makes the devices.
func (l *netemLink) make(comeBack bool, plans [2]stages) error {
	var inner [2]int
	for i, e := range l.ends {
		in := l.d.newPort(l.mtu)
		end := port{name: e.Device, mac: e.MAC, mtu: l.mtu, net: e.Net, segments: plans[i].segments}
		if err := l.nl.veth(in, end); err != nil {
			return err
		}
		l.devices = append(l.devices, in.index)
		l.ways[i].is.segments = plans[i].segments
		inner[i] = in.index
		if err := l.nl.filters(in.index); err != nil {
			return err
		}
	}
	for i := range l.ways {
		w := &l.ways[i]
		w.out = inner[1-i]
		if comeBack {
			w.out = inner[i]
		}
		w.enter = redirect{index: inner[i], side: filterIngress}
		w.detour = redirect{index: w.out, side: filterEgress}
	}
	for i := range l.ways {
		if err := l.nl.add(root(l.ways[i].out), plans[i].wait); err != nil {
			return err
		}
		if err := l.apply(i, plans[i]); err != nil {
			return err
		}
	}
	if err := l.nl.up(inner[:]...); err != nil {
		return err
	}
	for _, e := range l.ends {
		if e.Net != nil {
			continue
		}
		index, err := l.nl.index(e.Device)
		if err == nil {
			err = l.nl.setFlags(index, unix.IFF_UP)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Set changes what happens to frames that go one way. Those in flight arrive as they were going
// to; none overtakes them for that, but for a frame that waits for a queue of another kind.
func (l *netemLink) Set(direction int, i topo.Impairment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	next, err := plan(i, l.mtu)
	if err != nil {
		return err
	}
	if err := l.reap(&l.ways[direction]); err != nil {
		return err
	}
	return l.apply(direction, next)
}

// SetMTU changes the MTU of both ends. Between them there stays room for what is in flight.
func (l *netemLink) SetMTU(mtu int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if mtu > l.room {
		for _, index := range append(slices.Clone(l.devices), l.middle[1]) {
			if index == 0 {
				continue
			}
			if err := l.nl.setMTU(index, mtu); err != nil {
				return err
			}
		}
		l.room = mtu
	}
	for i, e := range l.ends {
		if err := e.SetMTU(mtu); err != nil {
			for _, e := range l.ends[:i+1] {
				err = errors.Join(err, e.SetMTU(l.mtu))
			}
			return err
		}
	}
	l.mtu = mtu
	return nil
}

// apply makes a way what is planned, in steps each of which lets all frames pass.
func (l *netemLink) apply(direction int, next stages) error {
	w := &l.ways[direction]
	// There stays room for those in flight.
	next.wait.limit = max(next.wait.limit, w.is.wait.limit)
	if err := l.prepareEnd(direction, next); err != nil {
		return err
	}
	if next.rate == nil && w.apart {
		next.rate = noRate()
	}
	if next.rate != nil {
		if err := l.makeMiddle(); err != nil {
			return err
		}
		if err := l.setFate(w, l.middle[direction], next.fate); err != nil {
			return err
		}
		if err := l.setRate(w, next.rate); err != nil {
			return err
		}
	}
	wait, first := next.wait, l.middle[direction]
	if next.rate == nil {
		wait, first = next.together(), w.out
	}
	if err := l.nl.redirectTo(&w.enter, first); err != nil {
		return err
	}
	// What was dropped so far was by the settings so far.
	if _, err := l.countWait(w); err != nil {
		return err
	}
	if err := l.nl.change(root(w.out), wait); err != nil {
		return err
	}
	w.past.note(next)
	w.is = next
	return nil
}

// prepareEnd makes the sender divide frames as finely as the way needs them.
func (l *netemLink) prepareEnd(direction int, next stages) error {
	end, is := l.ends[direction], l.ways[direction].is
	if is.segments == next.segments && is.linear == next.linear {
		return nil
	}
	r := l.nl
	if end.Net != nil {
		var err error
		if r, err = openRTNL(end.Net); err != nil {
			return err
		}
		defer r.close()
	}
	if is.segments != next.segments {
		index, err := r.index(end.Device)
		if err == nil {
			err = r.setSegments(index, next.segments)
		}
		if err != nil {
			return err
		}
	}
	if is.linear != next.linear {
		return r.net.Do(func() error { return link.SetScatterGather(end.Device, !next.linear) })
	}
	return nil
}

// makeMiddle makes the pair of devices whose queueing disciplines are the fates.
func (l *netemLink) makeMiddle() error {
	if l.middle[0] != 0 {
		return nil
	}
	p, q := l.d.newPort(l.room), l.d.newPort(l.room)
	if err := l.nl.veth(p, q); err != nil {
		return err
	}
	l.devices = append(l.devices, p.index)
	pair := [2]int{p.index, q.index}
	for i := range l.ways {
		w := &l.ways[i]
		w.leave = redirect{index: pair[1-i], side: filterIngress}
		if err := l.nl.filters(w.leave.index); err != nil {
			return err
		}
		if err := l.nl.redirectTo(&w.leave, w.out); err != nil {
			return err
		}
	}
	if err := l.nl.up(pair[:]...); err != nil {
		return err
	}
	l.middle = pair
	return nil
}

func (l *netemLink) setFate(w *way, device int, next netem) error {
	if w.apart {
		return l.nl.change(root(device), next)
	}
	if err := l.nl.add(root(device), next); err != nil {
		return err
	}
	w.apart = true
	return nil
}

// setRate changes the rate, or puts another in its place while the frames in its queue leave as
// they were going to.
func (l *netemLink) setRate(w *way, next *rate) error {
	if w.shape == nil || w.shape.rate.replaces(next) {
		s, err := l.makeShape(next)
		if err != nil {
			return err
		}
		if err := l.nl.redirectTo(&w.detour, s.index); err != nil {
			return errors.Join(err, l.drop(s.index))
		}
		if w.shape != nil {
			w.old = append(w.old, w.shape)
		}
		w.shape = s
		return nil
	}
	s := w.shape
	if s.rate.tbf != next.tbf {
		if err := l.nl.change(root(s.index), next.tbf); err != nil {
			return err
		}
	}
	if s.rate.leaf != next.leaf {
		if err := l.nl.change(child(s.index), next.leaf); err != nil {
			return err
		}
	}
	s.rate = next
	return nil
}

func (l *netemLink) makeShape(r *rate) (*shape, error) {
	p := l.d.newPort(l.room)
	if err := l.nl.ifb(p); err != nil {
		return nil, err
	}
	l.devices = append(l.devices, p.index)
	bare := r.tbf
	bare.limit = 0 // it makes no queue of its own
	for _, step := range []func() error{
		func() error { return l.nl.add(root(p.index), bare) },
		func() error { return l.nl.add(child(p.index), r.leaf) },
		func() error { return l.nl.up(p.index) },
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, l.drop(p.index))
		}
	}
	return &shape{p.index, r}, nil
}

// reap removes the rates that are no more used and whose queues are empty.
func (l *netemLink) reap(w *way) error {
	var left []*shape
	for _, s := range w.old {
		c, err := l.countShape(s)
		if err != nil {
			return err
		}
		if c.Queued != 0 {
			left = append(left, s)
			continue
		}
		w.past.shapes = sum(w.past.shapes, c)
		if err := l.drop(s.index); err != nil {
			return err
		}
	}
	w.old = left
	return nil
}

// drop deletes a device.
func (l *netemLink) drop(index int) error {
	for i, d := range l.devices {
		if d == index {
			l.devices = append(l.devices[:i], l.devices[i+1:]...)
			break
		}
	}
	return l.nl.remove(index)
}

// Close removes the link and its devices.
func (l *netemLink) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	var errs []error
	for _, index := range l.devices {
		errs = append(errs, l.nl.remove(index))
	}
	l.devices = nil
	return errors.Join(errs...)
}
