// Package lane is one direction of a link: it decides what becomes of each frame, and when.
// It is arithmetic: time comes from outside, nothing is slept for, and the same frames at
// the same times meet the same fate.
//
//	Arrive ─► loss ─► duplication ─► corruption ─► queue ─► rate ─► delay ─► slot ─► Depart
//
// A super-frame (TSO, USO) stays in one piece of memory; its frames are decided upon one by
// one, and those that leave together, in a row, leave as one smaller super-frame.
//
// It may import link, link/record and topo.
package lane

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/net/bpf"

	"weft/link"
	"weft/link/record"
	"weft/topo"
)

// Never is a time that does not come.
const Never = math.MaxInt64

// A Config says what a lane does. Traces and filters are read before.
type Config struct {
	topo.Impairment
	MTU    int     // bytes; 0 means 1500
	Filter *bpf.VM // of DropIf, for Ethernet frames
	Trace  *Trace  // of Impairment.Trace
}

// A Lane is one direction of a link. Times are nanoseconds of any clock that does not step
// back. It belongs to one thread.
type Lane struct {
	pool   *Pool
	cfg    Config
	c      link.Counters
	record func(record.Frame)
	number uint64 // of the last frame that came
	held   int64  // bytes of memory

	// What cfg says, made ready.
	plain    bool // nothing is done
	perFrame bool // frames of a super-frame may differ
	chain    chain
	drop     [][2]uint64

	streams [effectCount]stream
	bad     bool // state of the chain

	queue   discipline // nil without a rate
	limit   limit
	rate    schedule
	began   int64 // when the trace began
	serving bool
	service entry // while serving
	free    int64 // when the rate is done with service

	ordered ring // on their way, in order
	pile    pile // on their way, those that overtake
	latest  int64
	slotted ring // in a burst
	slots   slots

	temp    Buffer
	leaving []entry // of the runs that are leaving, if there is a record
}

// New returns a lane whose random numbers come from seed. It tells tell, which may be nil, what
// has become of each frame.
func New(pool *Pool, seed uint64, tell func(record.Frame), now int64, cfg Config) (*Lane, error) {
	l := &Lane{pool: pool, record: tell, slots: slots{at: now}}
	for effect := range l.streams {
		l.streams[effect] = newStream(seed, uint64(effect))
	}
	return l, l.Set(now, cfg)
}

// Set changes what happens to frames that come from now on. Those in the queue stay, and
// leave at the new rate; those that have left it arrive as they were going to.
func (l *Lane) Set(now int64, cfg Config) error {
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	c, err := link.NewLossChain(cfg.Impairment)
	if err != nil {
		return err
	}
	drop, err := cfg.Drop.List()
	if err != nil {
		return err
	}
	switch {
	case cfg.DropIf != "" && cfg.Filter == nil:
		return fmt.Errorf("drop_if=%q: the filter is missing", cfg.DropIf)
	case cfg.Impairment.Trace != "" && cfg.Trace == nil:
		return fmt.Errorf("trace=%s: the trace is missing", cfg.Impairment.Trace)
	case cfg.Trace != nil && cfg.Trace.rated && cfg.Burst != 0:
		return errors.New("burst belongs to a rate that stays; leave out burst or trace")
	}
	l.serve(now)
	if l.serving {
		// The rest of the frame that is passing takes its time at the new rate.
		if before, after := l.bps(now), float64(cfg.Rate); before > 0 && after > 0 && cfg.Trace == nil {
			l.free = now + int64(float64(l.free-now)*before/after)
		}
	}
	aqm := l.cfg.AQM
	if cfg.Trace != l.cfg.Trace {
		l.began = now
	}
	l.cfg, l.chain, l.drop = cfg, chain{c}, drop
	l.rate = l.schedule(now)
	rate := float64(cfg.Rate)
	if cfg.Trace != nil && cfg.Trace.rated {
		rate = cfg.Trace.mean()
	}
	l.limit = newLimit(cfg.Impairment, rate, cfg.MTU)
	l.setQueue(now, aqm)
	i := cfg.Impairment
	l.plain = i.IsZero() && l.record == nil
	i.Delay, i.Slot.Min, i.Slot.Max = 0, 0, 0
	l.perFrame = !i.IsZero() || l.record != nil
	return nil
}

// schedule returns how fast frames pass from now on, nil for at once.
func (l *Lane) schedule(now int64) schedule {
	t := l.cfg.Trace
	switch {
	case t != nil && t.chances != nil:
		return &chances{trace: t, start: l.began, left: opportunity}
	case t != nil && t.rated:
		return &traced{trace: t, start: l.began, rate: float64(l.cfg.Rate)}
	case l.cfg.Rate != 0:
		r := newConstant(l.cfg.Rate, l.cfg.Burst)
		if r.done = now - r.burst; l.serving { // as after a pause, or not
			r.done = l.free
		}
		return r
	}
	return nil
}

// row returns what a trace says at t, or nil.
func (l *Lane) row(t int64) *row {
	if l.cfg.Trace == nil {
		return nil
	}
	r, _, _ := l.cfg.Trace.at(t - l.began)
	return r
}

// bps returns the rate at t in bits a second, 0 for no bound.
func (l *Lane) bps(t int64) float64 {
	if r := l.row(t); r != nil && !math.IsNaN(r.rate) {
		return r.rate
	}
	if l.cfg.Trace != nil && l.cfg.Trace.chances != nil {
		return l.cfg.Trace.mean()
	}
	return float64(l.cfg.Rate)
}

// Plain reports whether frames pass at once as they are: nothing is done to them, and none
// is on its way. Pass counts them then.
func (l *Lane) Plain() bool {
	return l.plain && l.c.InFlight == 0 && !l.serving
}

// Pass counts a buffer that has passed without the lane's doing. It reports whether it may.
func (l *Lane) Pass(b *Buffer) bool {
	if l.oversized(b) {
		l.number += uint64(b.count)
		l.c.Oversized += uint64(b.count)
		return false
	}
	l.number += uint64(b.count)
	return true
}

// Passed counts what has become of a buffer that Pass let through.
func (l *Lane) Passed(b *Buffer, fate record.Fate) { l.tally(fate, b.count, b.Bytes()) }

// Arrive takes the frames of a buffer from the pool's Scratch.
func (l *Lane) Arrive(now int64, b *Buffer) {
	l.serve(now)
	if l.oversized(b) {
		for i := range b.count {
			l.number++
			l.end(&entry{number: l.number, arrival: now, bytes: b.size(i, 1), count: 1}, record.Oversized, 0)
		}
		return
	}
	h := holder{l: l, buf: b}
	if !l.perFrame {
		first := l.number + 1
		l.number += uint64(b.count)
		h.add(entry{number: first, arrival: now, bytes: b.Bytes(), count: uint16(b.count)})
	} else {
		for i := range b.count {
			l.number++
			l.arrive(&h, entry{number: l.number, arrival: now, bytes: b.size(i, 1), first: uint16(i), count: 1})
		}
	}
	h.close()
}

// arrive decides about one frame.
func (l *Lane) arrive(h *holder, e entry) {
	n := e.number
	if l.dropped(n) || l.cfg.Filter != nil && l.filtered(h.buf, &e) {
		l.end(&e, record.Filtered, 0)
		return
	}
	l.bad = l.chain.step(l.streams[effectChain], n, l.bad)
	lost := l.chain.lost(l.streams[effectLoss], n, l.bad)
	if r := l.row(e.arrival); r != nil && !math.IsNaN(r.loss) {
		lost = l.streams[effectLoss].chance(n, r.loss)
	}
	if lost {
		l.end(&e, record.Lost, 0)
		return
	}
	twice := l.streams[effectDuplicate].chance(n, l.cfg.Duplicate.Probability())
	l.corrupt(h, e)
	if twice {
		l.c.Duplicated++
		e.copy = true
		l.corrupt(h, e)
	}
}

// dropped reports whether a frame is one of those listed.
func (l *Lane) dropped(n uint64) bool {
	for _, r := range l.drop {
		if r[0] <= n && n <= r[1] {
			return true
		}
	}
	return false
}

// filtered reports whether a frame matches the filter.
func (l *Lane) filtered(b *Buffer, e *entry) bool {
	l.assemble(b, e)
	n, err := l.cfg.Filter.Run(l.temp.data[VirtioLen:])
	return err == nil && n > 0
}

// assemble puts a copy of one frame into l.temp.
func (l *Lane) assemble(b *Buffer, e *entry) {
	r := Run{buf: b, first: int(e.first), count: 1}
	head, rest := r.Parts(l.temp.data)
	if len(rest) == 0 {
		head = append(l.temp.data[:0], head...)
	}
	l.temp.data = append(head, rest...)
}

// draw returns a frame's place in a stream; a duplicate has a place of its own.
func (e *entry) draw() uint64 {
	if e.copy {
		return e.number | 1<<63
	}
	return e.number
}

// corrupt inverts a bit of some frames, and queues all.
func (l *Lane) corrupt(h *holder, e entry) {
	if !l.streams[effectCorrupt].chance(e.draw(), l.cfg.Corrupt.Probability()) {
		h.add(e)
		return
	}
	l.c.Corrupted++
	e.corrupt = true
	l.assemble(h.buf, &e)
	l.temp.complete()
	bits := uint64(len(l.temp.data)-VirtioLen) * 8
	bit := l.streams[effectBit].at(e.draw()) % bits
	l.temp.data[VirtioLen+bit/8] ^= 1 << (bit % 8)
	damaged := l.temp
	damaged.Fill(len(damaged.data))
	e.first = 0
	own := holder{l: l, buf: &damaged}
	own.add(e)
	own.close()
}

// delay sends frames that leave the rate at t on their way.
func (l *Lane) delay(t int64, e entry) {
	n := e.draw()
	d := int64(l.cfg.Delay)
	if r := l.row(t); r != nil && !math.IsNaN(r.delay) {
		d = int64(r.delay)
	}
	if l.cfg.Jitter != 0 {
		d += int64(l.streams[effectJitter].deviate(n, l.cfg.Distribution) * float64(l.cfg.Jitter))
		d = max(d, 0)
	}
	skips := l.cfg.Reorder != 0 && (l.cfg.ReorderGap <= 1 || e.number%uint64(l.cfg.ReorderGap) == 0) &&
		l.streams[effectReorder].chance(n, l.cfg.Reorder.Probability())
	if skips {
		d = 0
	}
	e.due = t + d
	if e.due < l.latest {
		switch {
		case skips || l.cfg.Overtake:
			l.c.Reordered++
		default:
			e.due = l.latest
		}
	}
	l.c.InFlight += uint64(e.count)
	if e.due < l.latest {
		l.pile.push(e)
		return
	}
	l.latest = e.due
	if n := l.ordered.n; n > 0 && l.record == nil {
		last := l.ordered.at(n - 1)
		if last.due == e.due && e.follows(last.buf, int(last.first)+int(last.count), last.marked) && last.arrival == e.arrival && !last.copy && !e.copy {
			last.count += e.count
			last.bytes += e.bytes
			e.buf.refs-- // last has one
			return
		}
	}
	l.ordered.push(e)
}

// Next returns when Depart is to be called next, or Never.
func (l *Lane) Next() int64 {
	next := int64(Never)
	if p := l.head(); p != nil {
		next = p.due
	}
	if l.serving {
		passed := l.free
		if l.cfg.Jitter == 0 && l.cfg.Reorder == 0 && l.cfg.Trace == nil && passed != Never {
			passed += int64(l.cfg.Delay)
		}
		next = min(next, passed)
	}
	if l.cfg.Slot.Max > 0 {
		next = max(next, l.slots.at) // a burst comes, not sooner
	}
	if l.slotted.n > 0 {
		next = min(next, l.slotted.at(0).due)
	}
	return next
}

// Depart returns frames that leave by now. Done must be called for each run, in their order.
func (l *Lane) Depart(now int64) (r Run, ok bool) {
	l.serve(now)
	for {
		for p := l.head(); p != nil && p.due <= now && (l.cfg.Slot.Max > 0 || l.slotted.n > 0); p = l.head() {
			l.slot(l.next())
		}
		p := l.head()
		if l.slotted.n > 0 {
			p = l.slotted.at(0)
		}
		if p == nil || p.due > now || ok && !p.follows(r.buf, r.first+r.count, r.marked) {
			return r, ok
		}
		if !ok {
			r = Run{buf: p.buf, first: int(p.first), marked: p.marked, due: p.due}
			ok = true
		}
		var e entry
		if l.slotted.n > 0 {
			e = l.slotted.pop()
		} else {
			e = l.next()
		}
		r.count += int(e.count)
		r.bytes += e.bytes
		r.entries++
		if l.record != nil {
			l.leaving = append(l.leaving, e)
		}
	}
}

// head returns the entry on its way that is due first.
func (l *Lane) head() *entry {
	if len(l.pile) > 0 && (l.ordered.n == 0 || l.pile[0].due < l.ordered.at(0).due) {
		return &l.pile[0]
	}
	if l.ordered.n > 0 {
		return l.ordered.at(0)
	}
	return nil
}

// next takes what head returns.
func (l *Lane) next() entry {
	if len(l.pile) > 0 && l.head() == &l.pile[0] {
		return l.pile.pop()
	}
	return l.ordered.pop()
}

// Done says what has become of a run, at now.
func (l *Lane) Done(r *Run, fate record.Fate, now int64) {
	if late := time.Duration(now - r.due); late > link.LateAfter && now != Never {
		l.c.Late += uint64(r.count)
		l.c.LateMax = max(l.c.LateMax, late)
	}
	if l.record == nil {
		l.tally(fate, r.count, r.bytes)
	} else {
		for i := range l.leaving[:r.entries] {
			l.end(&l.leaving[i], fate, now)
		}
		l.leaving = slices.Delete(l.leaving, 0, r.entries)
	}
	l.c.InFlight -= uint64(r.count)
	for range r.entries {
		l.release(r.buf)
	}
}

// oversized reports whether frames are larger than the MTU.
func (l *Lane) oversized(b *Buffer) bool {
	first := b.size(0, 1)
	if first <= l.cfg.MTU+ethernetLen {
		return false
	}
	ip, _ := network(b.data)
	return first-(ip-VirtioLen) > l.cfg.MTU
}

// release takes an entry's part of a buffer back.
func (l *Lane) release(b *Buffer) {
	if b.refs--; b.refs == 0 {
		l.held -= int64(cap(b.data))
		l.pool.put(b)
	}
}

// Counters returns what happened so far, at now.
func (l *Lane) Counters(now int64) link.Counters {
	l.serve(now)
	c := l.c
	packets, bytes := l.waiting()
	c.Queued, c.QueuedBytes = uint64(packets), uint64(bytes)
	return c
}

// Close lets go of all frames.
func (l *Lane) Close() {
	l.rate = nil
	l.setQueue(0, l.cfg.AQM)
	for {
		r, ok := l.Depart(Never)
		if !ok {
			return
		}
		l.Done(&r, record.Down, Never)
	}
}

// A holder keeps a buffer in memory as soon as one of its frames is kept.
type holder struct {
	l    *Lane
	buf  *Buffer // as it came
	kept *Buffer
}

// add keeps frames and queues them.
func (h *holder) add(e entry) {
	if h.kept == nil {
		if h.kept = h.l.pool.keep(h.buf, h.l.held); h.kept == nil {
			h.l.end(&e, record.NoMemory, 0)
			return
		}
		h.l.held += int64(cap(h.kept.data))
		h.buf = h.kept
	}
	e.buf = h.kept
	e.buf.refs++
	h.l.enqueue(e)
}

// close ends the holder's own part of what it keeps.
func (h *holder) close() {
	if h.kept != nil {
		h.l.release(h.kept)
	}
}
