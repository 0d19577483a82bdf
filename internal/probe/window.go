package probe

import "time"

// A window bounds how many echoes are in flight together, as TCP's congestion
// window does: it grows while replies come promptly and is halved when they show
// that the network is drowning.
//
// A try that nobody answered says nothing by itself: most hosts that do not answer
// are simply not reachable, and waiting for them must not hold up the others, so it
// even makes room. It is the reply that comes late, or only to another try, which
// says that a switch or controller dropped or delayed what it could not handle.
type window struct {
	size      float64
	threshold float64 // up to here it doubles in each round trip
	max       float64
	timeout   time.Duration
	fastest   time.Duration // the shortest round trip yet
	shrunk    time.Duration // when it was last halved, since the start
}

const (
	windowStart = 16
	windowMin   = 16
	// promptly is how much longer than the fastest a round trip may take while the
	// window still doubles. It bounds the queue that builds up in front of a slow
	// controller: Open vSwitch drops packet-ins when 100 of them wait.
	promptly = 20 * time.Millisecond
)

func newWindow(limit int, timeout time.Duration) window {
	most := float64(max(limit, 1))
	return window{
		size:      min(windowStart, most),
		threshold: most,
		max:       most,
		timeout:   timeout,
		fastest:   timeout,
		shrunk:    -timeout,
	}
}

// full tells whether n echoes in flight are enough.
func (w *window) full(n int) bool { return n >= int(w.size) }

// replied takes note of a reply after rtt. late says that its try was given up, or
// that an earlier try of the same echo was.
func (w *window) replied(now, rtt time.Duration, late bool) {
	w.fastest = min(w.fastest, rtt)
	switch {
	case late || rtt > w.timeout/2:
		w.halve(now)
	case w.size < w.threshold && rtt < w.fastest+promptly:
		w.grow(1)
	default:
		w.grow(1 / w.size)
	}
}

// expired takes note of a try that nobody answered.
func (w *window) expired() { w.grow(1) }

func (w *window) grow(by float64) { w.size = min(w.size+by, w.max) }

// halve halves the window, but only once per timeout: what shows up in that time
// has the same cause.
func (w *window) halve(now time.Duration) {
	if now-w.shrunk < w.timeout {
		return
	}
	w.shrunk = now
	w.size = max(w.size/2, min(windowMin, w.max))
	w.threshold = w.size
}
