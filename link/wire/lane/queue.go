package lane

import (
	"weft/link"
	"weft/link/record"
	"weft/topo"
)

// A discipline is a queue before a rate: which frame leaves next, and which is dropped
// before (active queue management). What it drops it gives to the lane's lose.
type discipline interface {
	push(now int64, e entry)
	// add adds a frame whatever is full or due.
	add(e entry)
	// pop takes the frame that leaves next, after the drops that are due.
	pop(now int64) (entry, bool)
	// take takes a frame whatever is due.
	take() (entry, bool)
	size() (packets int, bytes int64)
}

// newDiscipline returns the queue that an impairment asks for.
func newDiscipline(l *Lane) discipline {
	switch l.cfg.AQM {
	case topo.RED:
		return &red{lane: l}
	case topo.CoDel:
		return &codel{lane: l}
	case topo.FQCoDel:
		return newFQCoDel(l)
	}
	return &dropTail{lane: l}
}

// A limit bounds a queue; 0 for no bound.
type limit struct {
	packets int
	bytes   int64
}

// newLimit returns the bound of an impairment's queue at a rate in bits a second.
func newLimit(i topo.Impairment, rate float64, mtu int) limit {
	packets, bytes := link.QueueLimit(i, rate, mtu)
	return limit{packets: packets, bytes: bytes}
}

// inBytes returns the bound in bytes.
func (m limit) inBytes(mtu int) int64 {
	if m.packets > 0 {
		return int64(m.packets) * int64(mtu+ethernetLen)
	}
	return m.bytes
}

// waiting returns what waits for the rate. The frame that is passing it counts too: it is in
// the queue's memory until its last bit has left.
func (l *Lane) waiting() (packets int, bytes int64) {
	if l.queue != nil {
		packets, bytes = l.queue.size()
	}
	if l.serving {
		packets++
		bytes += int64(l.service.bytes)
	}
	return packets, bytes
}

// full reports whether a frame of so many bytes more would be too much for the queue.
func (l *Lane) full(frame int) bool {
	packets, bytes := l.waiting()
	m := l.limit
	return m.packets > 0 && packets+1 > m.packets || m.bytes > 0 && bytes+int64(frame) > m.bytes
}

// enqueue takes frames that are to pass the rate.
func (l *Lane) enqueue(e entry) {
	if l.rate == nil {
		l.delay(e.arrival, e)
		return
	}
	if l.record != nil {
		packets, bytes := l.waiting()
		e.depth, e.depthBytes = uint32(packets), uint32(min(bytes, 1<<32-1))
	}
	if !l.serving {
		l.free = max(l.free, e.arrival)
	}
	l.queue.push(e.arrival, e)
	l.serve(e.arrival)
}

// serve moves the frames that have passed the rate by now on their way. The queue decides
// at the times at which the rate was free for the next frame, however late serve is called.
func (l *Lane) serve(now int64) {
	for {
		if l.serving {
			if l.free > now {
				return
			}
			l.serving = false
			l.delay(l.free, l.service)
			l.service.buf = nil
		}
		if l.queue == nil || l.free > now {
			return
		}
		e, ok := l.queue.pop(l.free)
		if !ok {
			return
		}
		l.service, l.serving = e, true
		l.free = l.rate.depart(l.free, e.bytes)
	}
}

// setQueue makes the queue that the settings ask for, with the frames of the one before.
func (l *Lane) setQueue(now int64, aqm topo.AQM) {
	if l.rate == nil {
		// Nothing to wait for.
		if l.serving {
			l.serving = false
			l.delay(now, l.service)
		}
		for l.queue != nil {
			e, ok := l.queue.take()
			if !ok {
				l.queue = nil
				break
			}
			l.delay(now, e)
		}
		return
	}
	if l.queue != nil && aqm == l.cfg.AQM {
		return
	}
	old := l.queue
	l.queue = newDiscipline(l)
	for old != nil {
		e, ok := old.take()
		if !ok {
			return
		}
		l.queue.add(e)
	}
}

// lose drops a frame that has been queued or was to be.
func (l *Lane) lose(e *entry, fate record.Fate) {
	l.end(e, fate, 0)
	l.release(e.buf)
}

// mark marks a frame instead of dropping it, if it can be.
func (l *Lane) mark(e *entry) bool {
	if !l.cfg.ECN || !capable(e.buf.data) {
		return false
	}
	e.marked = true
	l.c.Marked++
	return true
}

// dropTail is a queue that loses what comes when it is full.
type dropTail struct {
	lane *Lane
	fifo
}

func (q *dropTail) push(_ int64, e entry) {
	if q.lane.full(e.bytes) {
		q.lane.lose(&e, record.Overflow)
		return
	}
	q.add(e)
}

func (q *dropTail) pop(int64) (entry, bool) { return q.take() }

// fifo is frames in the order in which they came.
type fifo struct {
	list  ring
	bytes int64
}

func (q *fifo) add(e entry) {
	q.bytes += int64(e.bytes)
	q.list.push(e)
}

func (q *fifo) take() (entry, bool) {
	if q.list.n == 0 {
		return entry{}, false
	}
	e := q.list.pop()
	q.bytes -= int64(e.bytes)
	return e, true
}

func (q *fifo) size() (int, int64) { return q.list.n, q.bytes }
