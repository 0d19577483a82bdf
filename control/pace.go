package control

import (
	"syscall"
	"time"
)

// A pace lets the messages of a storm gather. Many controllers write one message at a time;
// to wake both this process and the receiver for each costs more than all else that a
// relay does. Below stormRate nothing is held up.
type pace struct {
	since time.Time
	count int // messages since then
	storm bool
}

const (
	// stormRate is the number of messages per second in one direction above which they
	// gather, stormSample how many are looked at to tell.
	stormRate   = 40_000
	stormSample = 64
	// smallBatch is the number of messages, arrived together, that is worth waiting for
	// more; gatherTime is for how long, to which the kernel adds its timer slack, 50 µs.
	smallBatch = 32
	gatherTime = 100 * time.Microsecond
)

// passed notes that a number of messages, which had arrived together, was passed on, and
// waits for more in a storm.
func (p *pace) passed(count int) {
	if p.count += count; p.count >= stormSample {
		now := time.Now()
		p.storm = now.Sub(p.since) < time.Duration(p.count)*time.Second/stormRate
		p.since, p.count = now, 0
	}
	if p.storm && count > 0 && count < smallBatch {
		// time.Sleep would be a millisecond: as long as epoll_wait(2) can wait at least.
		t := syscall.NsecToTimespec(int64(gatherTime))
		syscall.Nanosleep(&t, nil)
	}
}
