package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// carrierInterval is how often the engine looks which ends are up.
const carrierInterval = 200 * time.Millisecond

// carry makes an end of a wire have a carrier while the other end is up, as with a cable and a
// veth pair, until the engine is closed. That a device comes up wakes its shard. That one goes
// down the kernel tells nobody, but one call of poll(2) tells it of all TAP devices. Of ends
// that are veth pairs it tells nothing: they always have a carrier.
func (e *Engine) carry() {
	ticks := time.NewTicker(carrierInterval)
	defer ticks.Stop()
	var ends []*end
	var polled []unix.PollFd
	for {
		select {
		case <-e.stop:
			return
		case <-ticks.C:
		}
		ends, polled = e.taps(ends[:0], polled[:0])
		if len(ends) == 0 {
			continue
		}
		if _, err := unix.Poll(polled, 0); err != nil {
			continue
		}
		for i, x := range ends {
			// No device that is down can be written to. One that was never up is about to be.
			up := polled[i].Revents&unix.POLLOUT != 0
			if up {
				x.wasUp.Store(true)
			}
			if x.wasUp.Load() {
				ends[i^1].setCarrier(up)
			}
		}
	}
}

// taps appends the two ends of each wire between TAP devices, side by side.
func (e *Engine) taps(ends []*end, polled []unix.PollFd) ([]*end, []unix.PollFd) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.wires {
		if w.cfg.Return || !w.ends[0].tap || !w.ends[1].tap {
			continue // ends that are beside others stay as they are
		}
		for _, x := range w.ends {
			x.mu.Lock()
			ends, polled = append(ends, x), append(polled, unix.PollFd{Fd: int32(x.fd), Events: unix.POLLOUT})
			x.mu.Unlock()
		}
	}
	return ends, polled
}

// setCarrier says whether a TAP device has a carrier.
func (e *end) setCarrier(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 || e.noCarrier.Load() == !on {
		return
	}
	v := 0
	if on {
		v = 1
	}
	// Linux 4.20; with an older one, both ends have a carrier always.
	if unix.IoctlSetPointerInt(e.fd, unix.TUNSETCARRIER, v) == nil {
		e.noCarrier.Store(!on)
	}
}
