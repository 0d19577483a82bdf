package lane

import (
	"math"

	"weft/link/record"
)

// red is random early detection (Floyd and Jacobson 1993): it drops with a probability that
// grows with the mean of the queue, in bytes.
type red struct {
	lane *Lane
	fifo
	mean   float64
	since  int   // frames since the last drop, -1 below the lower threshold
	idleAt int64 // when the queue was seen last
	draws  uint64
}

const (
	redWeight      = 0.002 // of a new sample in the mean
	redProbability = 0.1   // at the upper threshold, if not set
	redSmall       = 1000  // bits of a typical small frame
)

func (q *red) push(now int64, e entry) {
	_, bytes := q.lane.waiting()
	drop := q.early(now, bytes)
	switch {
	case q.lane.full(e.bytes):
		q.lane.lose(&e, record.Overflow)
	case drop && !q.lane.mark(&e):
		q.lane.lose(&e, record.AQMDrop)
	default:
		q.add(e)
	}
}

// early reports whether to drop a frame that finds so many bytes in the queue.
func (q *red) early(now, bytes int64) bool {
	if bytes > 0 {
		q.mean += redWeight * (float64(bytes) - q.mean)
	} else {
		// As if small frames had met an empty queue all the time.
		frames := float64(max(0, now-q.idleAt)) / 1e9 * q.lane.bps(now) / redSmall
		q.mean *= math.Pow(1-redWeight, frames)
	}
	q.idleAt = now
	low, high, most := q.thresholds()
	switch {
	case q.mean < low:
		q.since = -1
		return false
	case q.mean >= high:
		q.since = 0
		return true
	}
	q.since++
	p := most * (q.mean - low) / (high - low)
	q.draws++
	// Drops are spread evenly instead of at random intervals.
	if spread := 1 - float64(q.since)*p; spread > 0 && !q.lane.streams[effectRED].chance(q.draws, p/spread) {
		return false
	}
	q.since = 0
	return true
}

// thresholds returns the bounds of the mean, and the probability at the upper.
func (q *red) thresholds() (low, high, most float64) {
	cfg := &q.lane.cfg
	queue := float64(q.lane.limit.inBytes(cfg.MTU))
	low, high, most = float64(cfg.REDMin), float64(cfg.REDMax), cfg.REDProbability.Probability()
	if high == 0 {
		high = max(queue*3/4, low+1)
	}
	if low == 0 {
		low = min(queue/4, high/3)
	}
	if most == 0 {
		most = redProbability
	}
	return low, high, most
}

func (q *red) pop(now int64) (entry, bool) {
	q.idleAt = now
	return q.take()
}
