package netem

import (
	"slices"

	"weft/link"
)

// A tally is what is known of a way besides what its qdiscs count now.
type tally struct {
	shapes link.Counters // of rates that are gone
	// waitDrops were counted by wait so far, of which lost and noMemory are the parts.
	waitDrops, lost, noMemory uint64
	// copies says that frames have been doubled, pieces that some had several segments.
	copies, pieces bool
	// derived is what followed from the others, which never falls.
	duplicated, down, overflow uint64
}

// note remembers what may have happened since some settings.
func (t *tally) note(s stages) {
	t.copies = t.copies || s.fate.duplicate != 0
	t.pieces = t.pieces || s.segments > 1
}

// Counters says what happened to frames since the link was made, as far as the kernel tells. It
// does not count the frames that it corrupts or reorders, nor those too large for the MTU. Those
// doubled, or lost at an end that is down, are what is missing or too many: while frames pass,
// some may be counted late. Where loss is without a rate, frames beyond what netem holds count as
// lost.
func (l *netemLink) Counters() (c [2]link.Counters, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return c, ErrClosed
	}
	for i := range l.ways {
		if err := l.reap(&l.ways[i]); err != nil {
			return c, err
		}
		if c[i], err = l.countWay(i); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (l *netemLink) countWay(i int) (c link.Counters, err error) {
	w := &l.ways[i]
	entered, err := l.nl.entered(&w.enter)
	if err != nil {
		return c, err
	}
	c = w.past.shapes
	if w.apart {
		fate, err := l.nl.stats(root(l.middle[i]))
		if err != nil {
			return c, err
		}
		c.Lost = fate.drops
		c.Queued, c.QueuedBytes = fate.queued, fate.queuedBytes
		for _, s := range w.shapes() {
			more, err := l.countShape(s)
			if err != nil {
				return c, err
			}
			c = sum(c, more)
		}
	}
	wait, err := l.countWait(w)
	if err != nil {
		return c, err
	}
	c.Lost += w.past.lost
	c.NoMemory += w.past.noMemory
	c.Delivered, c.DeliveredBytes, c.InFlight = wait.packets, wait.bytes, wait.queued
	w.is.unqueue(&c, wait)
	w.past.derive(&c, entered)
	return c, nil
}

// unqueue counts those of the frames in wait as queued that are more than can be in flight.
func (s stages) unqueue(c *link.Counters, wait stats) {
	if s.early == 0 || wait.queued == 0 {
		return
	}
	room := float64(s.rate.tbf.rate) * s.wait.delay.Seconds()
	bytes := min(float64(s.early), float64(wait.queuedBytes)-room)
	if bytes <= 0 {
		return
	}
	frames := uint64(float64(wait.queued) * bytes / float64(wait.queuedBytes))
	c.Queued, c.QueuedBytes, c.InFlight = c.Queued+frames, c.QueuedBytes+uint64(bytes), c.InFlight-frames
}

// shapes are those that may have frames in them.
func (w *way) shapes() []*shape {
	if w.shape == nil {
		return nil
	}
	return append(slices.Clone(w.old), w.shape)
}

// derive completes counters by the frames that entered.
func (t *tally) derive(c *link.Counters, entered uint64) {
	known := c.Delivered + c.Queued + c.InFlight + c.Lost + c.Overflow + c.AQMDrops + c.NoMemory
	switch {
	case t.copies:
		t.duplicated = max(t.duplicated, known-min(known, entered))
	case !t.pieces:
		t.down = max(t.down, entered-min(entered, known))
	case c.Queued+c.InFlight == 0 && c.Overflow > 0:
		// A drop counts as one, of however many segments.
		t.overflow = max(t.overflow, entered-min(entered, known))
	case c.Queued+c.InFlight == 0:
		t.down = max(t.down, entered-min(entered, known))
	}
	c.Duplicated, c.Down = t.duplicated, t.down
	c.Overflow += t.overflow
}

// countWait asks the wait of a way, and says for what its drops since the last time were.
func (l *netemLink) countWait(w *way) (stats, error) {
	s, err := l.nl.stats(root(w.out))
	if err != nil {
		return s, err
	}
	since := s.drops - w.past.waitDrops
	w.past.waitDrops = s.drops
	if w.is.rate == nil && (w.is.fate.loss != 0 || w.is.fate.chain != nil) {
		w.past.lost += since
	} else {
		w.past.noMemory += since
	}
	return s, nil
}

// countShape asks a rate and its queue.
func (l *netemLink) countShape(s *shape) (c link.Counters, err error) {
	t, err := l.nl.stats(root(s.index))
	if err != nil {
		return c, err
	}
	leaf, err := l.nl.stats(child(s.index))
	if err != nil {
		return c, err
	}
	return link.Counters{
		Queued: t.queued, QueuedBytes: t.queuedBytes,
		Overflow: leaf.drops - leaf.early, AQMDrops: leaf.early, Marked: leaf.marked,
	}, nil
}

// sum adds what shapes count.
func sum(a, b link.Counters) link.Counters {
	a.Queued += b.Queued
	a.QueuedBytes += b.QueuedBytes
	a.Overflow += b.Overflow
	a.AQMDrops += b.AQMDrops
	a.Marked += b.Marked
	return a
}
