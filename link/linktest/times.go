package linktest

import (
	"math"
	"slices"
	"testing"
	"time"

	"weft/link"
	"weft/topo"
)

// plain is a link that does nothing: it carries what is sent, up to the MTU, and sends nothing of
// its own.
func plain(t *testing.T, add Adder) {
	l := NewLab(t, add, "mtu=9000")
	sinks := [2]*sink{newSink(t, l, 0), newSink(t, l, 1)}
	time.Sleep(200 * time.Millisecond)
	for i := range sinks {
		if got := sinks[i].all(t); len(got) != 0 {
			t.Errorf("host %d received %d frames that nobody sent", i, len(got))
		}
	}
	for i := range sinks {
		from := newSender(t, l, i)
		for _, length := range []int{100, 1514, 9014} {
			from.send(t, i, length)
		}
		for _, f := range sinks[1-i].quiet(t, l) {
			if f.bits != 0 {
				t.Errorf("way %d: frame %d is damaged", i, f.number)
			}
		}
		if n := len(sinks[1-i].all(t)); n != 3 {
			t.Errorf("way %d: %d of 3 frames arrived", i, n)
		}
	}
	for i, c := range l.Counters(t) {
		if want := (link.Counters{Delivered: 3, DeliveredBytes: 100 + 1514 + 9014}); c != want {
			t.Errorf("way %d: counters %+v; want %+v", i, c, want)
		}
	}
}

func delays(frames []frame) []time.Duration {
	var list []time.Duration
	for _, f := range frames {
		list = append(list, f.at)
	}
	slices.Sort(list)
	return list
}

func delay(t *testing.T, add Adder) {
	l := NewLab(t, add, "ab:delay=40ms")
	for i, want := range []time.Duration{40 * time.Millisecond, 0} {
		l.delayed(t, newSender(t, l, i), newSink(t, l, 1-i), i, want)
	}
}

// delayed fails unless frames of a host take so long.
func (l *Lab) delayed(t *testing.T, from *sender, to *sink, host int, want time.Duration) {
	t.Helper()
	const n = 20
	// Others may hold all of a few milliseconds up.
	best := time.Hour
	for try := 0; try < 5 && best > want+late; try++ {
		before := len(to.all(t))
		sendPaced(t, from, host, n)
		got := delays(to.quiet(t, l)[before:])
		if len(got) != n {
			t.Fatalf("host %d: %d of %d frames arrived", host, len(got), n)
		}
		t.Logf("host %d: delay from %v to %v, median %v", host, got[0], got[n-1], got[n/2])
		if got[0] < want-clockError {
			t.Errorf("host %d: a frame took only %v; want %v", host, got[0], want)
		}
		best = min(best, got[n/2])
	}
	if best > want+late {
		t.Errorf("host %d: frames took %v; want %v", host, best, want)
	}
}

// jitter compares the delays of frames with a distribution (Kolmogorov and Smirnov).
func jitter(t *testing.T, add Adder) {
	const n = 600
	for _, d := range []topo.Distribution{topo.Uniform, topo.Normal, topo.Pareto, topo.ParetoNormal} {
		t.Run(string(d), func(t *testing.T) {
			l := NewLab(t, add, "ab:delay=200ms", "ab:jitter=40ms", "ab:distribution="+string(d), "ab:overtake=true")
			from, to := newSender(t, l, 0), newSink(t, l, 1)
			// Others have to do with how near it is, too.
			best := 1.0
			for try := 0; try < 3 && best > 1.9/math.Sqrt(n); try++ {
				before := len(to.all(t))
				sendPaced(t, from, 0, n)
				got := to.quiet(t, l)[before:]
				if len(got) != n {
					t.Fatalf("%d of %d frames arrived", len(got), n)
				}
				all := delays(got)
				if all[0] < 200*time.Millisecond+time.Duration(link.Deviation(d, 1e-9)*40e6)-clockError {
					t.Errorf("a frame took only %v", all[0])
				}
				best = min(best, distance(all, d))
				t.Logf("distance %.3f", best)
			}
			// Of the others, the nearest is 0.1 away.
			if best > 0.09 {
				t.Errorf("the delays are not distributed so: distance %.3f", best)
			}
		})
	}
}

// distance is the largest difference of the share of delays below a value from a distribution. What
// all are late by does not count.
func distance(delays []time.Duration, d topo.Distribution) float64 {
	const mean, jitter = 200, 40 // ms
	latest := delays[len(delays)/2].Seconds()*1000 - (mean + jitter*link.Deviation(d, 0.5))
	latest = min(10, max(0, latest))
	largest, n := 0.0, float64(len(delays))
	for i, at := range delays {
		// The inverse function grows: find where it is at the delay.
		low, high := 0.0, 1.0
		for range 50 {
			if u := (low + high) / 2; mean+jitter*link.Deviation(d, u) < at.Seconds()*1000-latest {
				low = u
			} else {
				high = u
			}
		}
		largest = max(largest, math.Abs(low-float64(i)/n), math.Abs(low-float64(i+1)/n))
	}
	return largest
}

// inOrder fails if a frame arrived before one that was sent before it.
func inOrder(t *testing.T, frames []frame) {
	t.Helper()
	for i := 1; i < len(frames); i++ {
		if frames[i].number < frames[i-1].number {
			t.Fatalf("frame %d arrived after frame %d", frames[i].number, frames[i-1].number)
		}
	}
}

// order is that of frames with jitter that does not let them overtake.
func order(t *testing.T, add Adder) {
	l := NewLab(t, add, "delay=20ms", "jitter=15ms")
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	sendPaced(t, from, 0, 300)
	got := to.quiet(t, l)
	if len(got) != 300 {
		t.Fatalf("%d of 300 frames arrived", len(got))
	}
	inOrder(t, got)
}

func reorder(t *testing.T, add Adder) {
	for _, c := range []struct {
		options []string
		share   float64
	}{
		{[]string{"ab:reorder=25"}, 0.25},
		{[]string{"ab:reorder=100", "ab:reorder_gap=5"}, 0.2},
	} {
		l := NewLab(t, add, append(c.options, "ab:delay=150ms")...)
		from, to := newSender(t, l, 0), newSink(t, l, 1)
		sendPaced(t, from, 0, 500)
		got := to.quiet(t, l)
		if len(got) != 500 {
			t.Fatalf("%v: %d of 500 frames arrived", c.options, len(got))
		}
		early := 0
		for _, f := range got {
			if f.at < 150*time.Millisecond-clockError {
				early++
			}
		}
		near(t, "frames that skipped the delay", early, 500, c.share, 1)
	}
}

func slot(t *testing.T, add Adder) {
	l := NewLab(t, add, "ab:slot=40ms")
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	start := time.Now()
	sendPaced(t, from, 0, 300)
	want := int(time.Since(start) / (40 * time.Millisecond))
	got := to.quiet(t, l)
	pauses := 0
	for i := 1; i < len(got); i++ {
		if got[i].time.Sub(got[i-1].time) > 20*time.Millisecond {
			pauses++
		}
	}
	if len(got) != 300 || pauses < want/2 || pauses > want+2 {
		t.Errorf("%d of 300 frames arrived, with %d pauses; want %d", len(got), pauses, want)
	}
	l.try(t, "ab:slot=20ms", "ab:slot_packets=5")
	before := len(got)
	for range 50 {
		from.send(t, 0, 100)
	}
	got = to.quiet(t, l)[before:]
	if len(got) != 50 {
		t.Fatalf("%d of 50 frames arrived", len(got))
	}
	inOrder(t, got)
	// Ten slots, of which the first may be now; a late one is followed by one that is not.
	if took := got[49].time.Sub(got[0].time); took < 8*20*time.Millisecond-late {
		t.Errorf("50 frames in slots of 5 each 20ms took only %v", took)
	}
}

// comeBack is a link whose frames come out where they went in.
func comeBack(t *testing.T, add Adder) {
	l := NewLab(t, func(c link.Config) (link.Shaper, error) {
		c.Return = true
		return add(c)
	}, "ab:delay=20ms", "ba:delay=50ms", "ba:bw=10")
	for i, want := range []time.Duration{20 * time.Millisecond, 50 * time.Millisecond} {
		l.delayed(t, newSender(t, l, i), newReturnSink(t, l, i), i, want)
	}
}
