package lane

import "weft/topo"

// A schedule is how fast frames pass.
type schedule interface {
	// depart returns when a frame that may start at t has passed. Calls are in the order of t.
	depart(t int64, bytes int) int64
}

// constant is a rate that stays. Frames follow each other exactly: fractions of a nanosecond
// are carried on.
type constant struct {
	rate  uint64
	burst int64 // ns
	done  int64 // when all that has passed would have, if there were no bursts
	rest  uint64
}

// newConstant returns a rate with a burst in bytes.
func newConstant(rate topo.Rate, burst int64) *constant {
	return &constant{rate: uint64(rate), burst: int64(float64(burst) * 8e9 / float64(rate))}
}

// depart is the generic cell rate algorithm (ITU-T I.371) with the frame's last bit.
func (c *constant) depart(t int64, bytes int) int64 {
	if start := t - c.burst; start > c.done {
		c.done, c.rest = start, 0
	}
	n := uint64(bytes)*8e9 + c.rest
	c.done += int64(n / c.rate)
	c.rest = n % c.rate
	return max(t, c.done)
}
