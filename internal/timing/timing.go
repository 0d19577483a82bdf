// Package timing watches how well a machine keeps its own time: how late a thread wakes that
// sleeps, how long tasks wait for a CPU, and how much of the CPUs others take. An emulated
// network is only as true as this.
//
// It imports nothing of weft.
package timing

import (
	"cmp"
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A Sample says how the machine kept its time in an interval. Shares are from 0 to 1, and below
// 0 where the kernel does not tell.
type Sample struct {
	Start time.Time     `json:"start"`
	Span  time.Duration `json:"spanNs"`
	// Wakes is how often the thread woke, Late how often later than LateAfter; LagMax and
	// LagMean say how late.
	Wakes   int           `json:"wakes"`
	Late    int           `json:"late"`
	LagMax  time.Duration `json:"lagMaxNs"`
	LagMean time.Duration `json:"lagMeanNs"`
	// Waiting is the share of the time in which some task waited for a CPU (PSI, "some").
	Waiting float64 `json:"waiting"`
	// Steal is the share of the CPUs' time that a hypervisor gave to others.
	Steal float64 `json:"steal"`
	// Throttled is the share of the time in which a limit (cgroup) kept weft from running.
	Throttled float64 `json:"throttled"`
}

// LateAfter is the lag from which a wake counts as late.
const LateAfter = 5 * time.Millisecond

// Period is the time between two wakes: a hundred in a second cost about a hundredth of a CPU.
const Period = 10 * time.Millisecond

// A Config says how to watch. The zero Config is for real.
type Config struct {
	// Interval is how long each Sample is (default 1 s).
	Interval time.Duration
	// Now is a clock that never steps, SleepUntil sleeps until its time, Counters reads what
	// the kernel counts. They are for tests.
	Now        func() time.Duration
	SleepUntil func(time.Duration)
	Counters   func() Counters
}

// Watch calls report with a Sample for each interval, until ctx ends or report returns an error,
// which it returns. The last Sample is of the part of an interval until then.
func Watch(ctx context.Context, c Config, report func(Sample) error) error {
	c.Interval = cmp.Or(c.Interval, time.Second)
	if c.Now == nil {
		c.Now, c.SleepUntil = monotonic, sleepUntil
		// A thread of its own: what is measured is the kernel's scheduler, not Go's.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	if c.Counters == nil {
		r := newReader()
		c.Counters = r.read
	}
	w := watcher{Config: c}
	w.begin()
	for next := c.Now() + Period; ; next += Period {
		c.SleepUntil(next)
		now := c.Now()
		w.woke(now - next)
		if now > next+Period {
			next = now // what was slept through is one lag, not many
		}
		over := ctx.Err() != nil
		if now-w.start >= c.Interval || over {
			if err := report(w.end(now)); err != nil || over {
				return err
			}
			w.begin()
		}
	}
}

// A watcher makes one sample after the other.
type watcher struct {
	Config
	wall   time.Time
	start  time.Duration
	before Counters
	s      Sample
	sum    time.Duration
}

func (w *watcher) begin() {
	w.wall, w.start, w.before, w.s, w.sum = time.Now(), w.Now(), w.Counters(), Sample{}, 0
}

func (w *watcher) woke(lag time.Duration) {
	lag = max(lag, 0)
	w.s.Wakes++
	w.s.LagMax = max(w.s.LagMax, lag)
	w.sum += lag
	if lag > LateAfter {
		w.s.Late++
	}
}

func (w *watcher) end(now time.Duration) Sample {
	s := w.s
	s.Start, s.Span = w.wall, now-w.start
	s.LagMean = w.sum / time.Duration(max(s.Wakes, 1))
	after := w.Counters()
	share := func(before, after time.Duration, whole time.Duration) float64 {
		if before < 0 || after < before || whole <= 0 {
			return -1
		}
		return min(1, float64(after-before)/float64(whole))
	}
	s.Waiting = share(w.before.Waiting, after.Waiting, s.Span)
	s.Throttled = share(w.before.Throttled, after.Throttled, s.Span)
	s.Steal = share(w.before.Steal, after.Steal, after.All-w.before.All)
	return s
}

func monotonic() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Duration(t.Nano())
}

func sleepUntil(at time.Duration) {
	t := unix.NsecToTimespec(int64(at))
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &t, nil) == unix.EINTR {
	}
}
