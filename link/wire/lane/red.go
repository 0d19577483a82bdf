package lane

import "math"

// red is random early detection (Floyd and Jacobson 1993): it drops with a probability that
// grows with the mean of the queue, in bytes.
type red struct {
	lane *Lane
	fifo
	mean   float64
	since  int   // frames since the last drop, -1 below the lower threshold
	idleAt int64 // when the queue ran empty
	draws  uint64
}

const (
	redWeight      = 0.002 // of a new sample in the mean
	redProbability = 0.1   // at the upper threshold, if not set
)

func (q *red) push(now int64, e entry) {
	l := q.lane
	low, high := float64(l.cfg.REDMin), float64(l.cfg.REDMax)
	queue := float64(l.limit.inBytes(l.cfg.MTU))
	if high == 0 {
		high = max(queue*3/4, low+1)
	}
	if low == 0 {
		low = min(queue/4, high/3)
	}
	most := l.cfg.REDProbability.Probability()
	if most == 0 {
		most = redProbability
	}
	packets, bytes := l.waiting()
	if packets > 0 {
		q.mean += redWeight * (float64(bytes) - q.mean)
	} else {
		// As if small frames had met an empty queue all the time.
		frame := max(1, l.bps(now)) // a frame's time is that of 1,000 bits, a typical small one
		q.mean *= math.Pow(1-redWeight, float64(max(0, now-q.idleAt))*frame/1e12)
	}
	q.idleAt = now
	drop := false
	switch {
	case q.mean < low:
		q.since = -1
	case q.mean >= high:
		q.since = 0
		drop = true
	default:
		q.since++
		p := most * (q.mean - low) / (high - low)
		q.draws++
		// Drops are spread evenly instead of at random intervals.
		if spread := 1 - float64(q.since)*p; spread <= 0 || l.streams[effectRED].chance(q.draws, p/spread) {
			q.since = 0
			drop = true
		}
	}
	switch {
	case l.full(e.bytes):
		l.lose(&e, Overflow)
	case drop && !l.mark(&e):
		l.lose(&e, AQMDrop)
	default:
		q.add(e)
	}
}

func (q *red) pop(now int64) (entry, bool) {
	q.idleAt = now
	return q.take()
}
