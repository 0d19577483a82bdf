package lane

import (
	"math"
	"time"

	"weft/link/record"
)

// codel is a queue with controlled delay (RFC 8289).
type codel struct {
	lane *Lane
	fifo
	state codelState
}

// CoDel's constants, if not set.
const (
	codelTarget   = int64(5 * time.Millisecond)
	codelInterval = int64(100 * time.Millisecond)
)

func (q *codel) push(_ int64, e entry) {
	if q.lane.full(e.bytes) {
		q.lane.lose(&e, record.Overflow)
		return
	}
	q.add(e)
}

func (q *codel) pop(now int64) (entry, bool) { return q.state.pop(q.lane, &q.fifo, now) }

// codelState is what RFC 8289, section 5.3 keeps of a queue, under its names.
type codelState struct {
	firstAboveTime int64
	dropNext       int64
	count          int
	lastCount      int
	dropping       bool
}

// dequeue is dodequeue of RFC 8289, section 5.6.
func (c *codelState) dequeue(l *Lane, q *fifo, now int64) (e entry, ok, drop bool) {
	target, interval := l.codelTimes()
	e, ok = q.take()
	switch {
	case !ok, now-e.arrival < target, q.bytes <= int64(l.cfg.MTU+ethernetLen):
		c.firstAboveTime = 0
	case c.firstAboveTime == 0:
		c.firstAboveTime = now + interval
	default:
		drop = now >= c.firstAboveTime
	}
	return e, ok, drop
}

// pop is dequeue of RFC 8289, section 5.5.
func (c *codelState) pop(l *Lane, q *fifo, now int64) (entry, bool) {
	_, interval := l.codelTimes()
	e, ok, drop := c.dequeue(l, q, now)
	switch {
	case c.dropping && !drop:
		c.dropping = false
	case c.dropping:
		for c.dropping && now >= c.dropNext {
			c.count++
			if l.mark(&e) {
				c.dropNext = controlLaw(c.dropNext, interval, c.count)
				return e, true
			}
			l.lose(&e, record.AQMDrop)
			if e, ok, drop = c.dequeue(l, q, now); !drop {
				c.dropping = false
			} else {
				c.dropNext = controlLaw(c.dropNext, interval, c.count)
			}
		}
	case drop:
		if !l.mark(&e) {
			l.lose(&e, record.AQMDrop)
			e, ok, _ = c.dequeue(l, q, now)
		}
		c.dropping = true
		// If it was dropping not long ago, the rate that was right then is a good start.
		delta := c.count - c.lastCount
		c.count = 1
		if delta > 1 && now-c.dropNext < 16*interval {
			c.count = delta
		}
		c.dropNext = controlLaw(now, interval, c.count)
		c.lastCount = c.count
	}
	return e, ok
}

func controlLaw(t, interval int64, count int) int64 {
	return t + int64(float64(interval)/math.Sqrt(float64(count)))
}

// codelTimes returns target and interval.
func (l *Lane) codelTimes() (target, interval int64) {
	target, interval = int64(l.cfg.AQMTarget), int64(l.cfg.AQMInterval)
	if target == 0 {
		target = codelTarget
	}
	if interval == 0 {
		interval = codelInterval
	}
	return target, interval
}
