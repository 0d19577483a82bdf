package lane

import (
	"time"

	"weft/topo"
)

// A discipline is a queue before a rate. It calls the lane's lose for frames that it drops.
type discipline interface {
	push(now int64, e entry)
	pop(now int64) (entry, bool)
	size() (packets int, bytes int64)
}

// A limit bounds a queue; 0 for no bound.
type limit struct {
	packets int
	bytes   int64
}

// full reports whether a frame of so many bytes would be too much.
func (m limit) full(packets int, bytes int64, frame int) bool {
	return m.packets > 0 && packets+1 > m.packets || m.bytes > 0 && bytes+int64(frame) > m.bytes
}

// queueTime and queueFrames are the least of a default queue, see topo.Queue.
const (
	queueTime   = 100 * time.Millisecond
	queueFrames = 20
)

// newLimit returns the bound of an impairment's queue at a rate.
func newLimit(i topo.Impairment, rate topo.Rate, mtu int) limit {
	carries := func(d time.Duration) int64 { return int64(float64(rate) / 8 * d.Seconds()) }
	switch q := i.Queue; {
	case q.Packets != 0:
		return limit{packets: q.Packets}
	case q.Bytes != 0:
		return limit{bytes: q.Bytes}
	case q.Time != 0:
		return limit{bytes: max(carries(q.Time), int64(mtu+ethernetLen))}
	}
	return limit{bytes: max(carries(max(queueTime, 2*i.Delay)), queueFrames*int64(mtu+ethernetLen))}
}

// setQueue makes the queue that the settings ask for, with the frames of the one before.
func (l *Lane) setQueue(now int64) {
	old := l.queue
	l.queue = nil
	if l.rate != nil {
		l.queue = &dropTail{lane: l, limit: newLimit(l.cfg.Impairment, l.cfg.Rate, l.cfg.MTU)}
	}
	if old == nil {
		return
	}
	if l.rate == nil {
		if l.serving {
			l.serving = false
			l.delay(now, l.service)
		}
		for e, ok := old.pop(now); ok; e, ok = old.pop(now) {
			l.delay(now, e)
		}
		return
	}
	if t, ok := old.(*dropTail); ok {
		l.queue.(*dropTail).list, l.queue.(*dropTail).bytes = t.list, t.bytes
	}
}

// enqueue takes frames that are to pass the rate.
func (l *Lane) enqueue(e entry) {
	if l.rate == nil {
		l.delay(e.arrival, e)
		return
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

// lose drops a frame that has been queued or was to be.
func (l *Lane) lose(e *entry, fate Fate) {
	l.tally(fate, int(e.count), e.bytes)
	l.release(e.buf)
}

// dropTail is a queue that loses what comes when it is full.
type dropTail struct {
	lane  *Lane
	limit limit
	list  ring
	bytes int64
}

func (q *dropTail) size() (int, int64) { return q.list.n, q.bytes }

func (q *dropTail) push(_ int64, e entry) {
	packets, bytes := q.size()
	if q.lane.serving {
		packets++
		bytes += int64(q.lane.service.bytes)
	}
	if q.limit.full(packets, bytes, e.bytes) {
		q.lane.lose(&e, Overflow)
		return
	}
	q.bytes += int64(e.bytes)
	q.list.push(e)
}

func (q *dropTail) pop(int64) (entry, bool) {
	if q.list.n == 0 {
		return entry{}, false
	}
	e := q.list.pop()
	q.bytes -= int64(e.bytes)
	return e, true
}

// A schedule is how fast frames pass.
type schedule interface {
	// depart returns when a frame that may start at t has passed.
	depart(t int64, bytes int) int64
}

// constant is a rate that stays. Frames follow each other exactly: fractions of a nanosecond
// are carried on.
type constant struct {
	rate  uint64
	burst int64 // ns
	tat   int64 // when all that has passed would have, without bursts
	rest  uint64
}

func newConstant(rate topo.Rate, burst, now int64) *constant {
	return &constant{rate: uint64(rate), burst: int64(float64(burst) * 8e9 / float64(rate)), tat: now}
}

func (c *constant) depart(t int64, bytes int) int64 {
	if start := t - c.burst; start > c.tat {
		c.tat, c.rest = start, 0
	}
	n := uint64(bytes)*8e9 + c.rest
	c.tat += int64(n / c.rate)
	c.rest = n % c.rate
	return max(t, c.tat)
}
