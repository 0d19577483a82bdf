package linktest

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"weft/topo"
)

// Run tests a driver. What it does not support is skipped.
func Run(t *testing.T, add func(*testing.T) Adder) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Adder)
	}{
		{"delay", delay},
		{"loss", loss},
		{"rate", rate},
		{"change", change},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, add(t)) })
	}
}

// set changes the link, or skips the test if the driver cannot.
func (l *Lab) try(t *testing.T, options ...string) {
	t.Helper()
	var s topo.LinkSettings
	must(t, s.Set(options...))
	for i, impairment := range []topo.Impairment{s.AB, s.BA} {
		err := l.Link.Set(i, impairment)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		must(t, err)
	}
}

// Machines that share their processors are late at times: what is compared is the least and the
// median, and only loosely from above.
const late = 30 * time.Millisecond

func delays(frames []frame) []time.Duration {
	var list []time.Duration
	for _, f := range frames {
		list = append(list, f.at)
	}
	slices.Sort(list)
	return list
}

// clockError is how much earlier a frame may seem to arrive than it did.
const clockError = 20 * time.Microsecond

func delay(t *testing.T, add Adder) {
	l := NewLab(t, add, "ab:delay=40ms")
	for i, want := range []time.Duration{40 * time.Millisecond, 0} {
		from, to := newSender(t, l, i), newSink(t, l, 1-i)
		for range 20 {
			from.send(t, i, 500)
			time.Sleep(2 * time.Millisecond)
		}
		got := delays(to.quiet(t, l))
		if len(got) != 20 {
			t.Fatalf("way %d: %d of 20 frames arrived", i, len(got))
		}
		t.Logf("way %d: delay from %v to %v, median %v", i, got[0], got[19], got[10])
		if got[0] < want-clockError || got[10] > want+late {
			t.Errorf("way %d: delay from %v, median %v; want %v", i, got[0], got[10], want)
		}
	}
}

// near reports whether n of total events are what a probability makes plausible: 5 standard
// deviations, once in 1.7 million tests.
func near(t *testing.T, what string, n, total int, p float64) {
	t.Helper()
	mean := p * float64(total)
	if d := math.Abs(float64(n) - mean); d > 5*math.Sqrt(mean*(1-p))+1 {
		t.Errorf("%s: %d of %d; want about %.0f", what, n, total, mean)
	}
}

// sendMany sends frames as fast as queues of hosts take them.
func sendMany(t *testing.T, s *sender, host, n, length int) {
	t.Helper()
	for i := range n {
		s.send(t, host, length)
		if i%50 == 49 {
			time.Sleep(time.Millisecond)
		}
	}
}

func loss(t *testing.T, add Adder) {
	l := NewLab(t, add)
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	lost := uint64(0)
	for _, percent := range []float64{0, 10, 100} {
		l.try(t, "loss="+text(percent))
		before := len(to.all(t))
		const n = 3000
		sendMany(t, from, 0, n, 100)
		missing := n - (len(to.quiet(t, l)) - before)
		near(t, "lost at "+text(percent)+" %", missing, n, percent/100)
		lost += uint64(missing)
		if c := l.Counters(t)[0]; c.Lost != lost || c.Delivered != uint64(from.next)-lost {
			t.Errorf("counters say %d lost, %d delivered; it was %d of %d", c.Lost, c.Delivered, lost, from.next)
		}
	}
}

func rate(t *testing.T, add Adder) {
	l := NewLab(t, add, "bw=10", "queue=1MB")
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	const n, length = 200, 1000
	want := time.Duration(float64((n-1)*length*8) / 10e6 * float64(time.Second))
	// A machine that is busy otherwise is slower; a link that is slower is so every time.
	best := time.Hour
	for try := 0; try < 5 && best > want*11/10; try++ {
		before := len(to.all(t))
		for range n {
			from.send(t, 0, length)
		}
		got := to.quiet(t, l)[before:]
		if len(got) != n {
			t.Fatalf("%d of %d frames arrived", len(got), n)
		}
		took := got[n-1].time.Sub(got[0].time)
		t.Logf("%d frames in %v; %v at the rate", n, took, want)
		if took < want*98/100-time.Millisecond {
			t.Errorf("%d frames of %d bytes in %v; want %v", n, length, took, want)
		}
		best = min(best, took)
	}
	if best > want*13/10 {
		t.Errorf("%d frames of %d bytes in %v at best; want %v", n, length, best, want)
	}
}

// change changes the link while frames pass: none is lost, none overtakes.
func change(t *testing.T, add Adder) {
	l := NewLab(t, add)
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	for _, options := range [][]string{
		{"delay=20ms"}, {"delay=1ms"}, {"delay=30ms", "jitter=5ms"}, {"delay=5ms", "bw=20"},
		{"delay=5ms", "bw=50"}, {"delay=5ms", "bw=20", "jitter=3ms", "distribution=normal"}, {"bw=30"}, {}, {"delay=5ms", "bw=20"},
	} {
		l.try(t, options...)
		for range 100 {
			from.send(t, 0, 200)
			time.Sleep(200 * time.Microsecond)
		}
	}
	got := to.quiet(t, l)
	if len(got) != from.next {
		t.Errorf("%d of %d frames arrived; %+v", len(got), from.next, l.Counters(t)[0])
	}
	for i := 1; i < len(got); i++ {
		if got[i].number < got[i-1].number {
			t.Fatalf("frame %d arrived after frame %d", got[i].number, got[i-1].number)
		}
	}
}

func text(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
