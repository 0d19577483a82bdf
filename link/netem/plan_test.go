package netem

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"weft/topo"
)

// impairment returns what options set for both ways.
func impairment(t *testing.T, options ...string) topo.Impairment {
	t.Helper()
	var s topo.LinkSettings
	if err := s.Set(options...); err != nil {
		t.Fatal(err)
	}
	return s.AB
}

func planned(t *testing.T, options ...string) stages {
	t.Helper()
	s, err := plan(impairment(t, options...), 1500)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPlanRate(t *testing.T) {
	for _, c := range []struct {
		options string
		rate    uint64
		burst   uint32
		queue   qdisc
		parted  bool
	}{
		// A frame, its tags, and half of a queue in bytes; what 1 ms carries of others.
		{"bw=1kbit", 125, 1522 + 15140, fifo{limit: 15140}, true},
		{"bw=100", 12_500_000, 1522 + 625_000, fifo{limit: 625_000}, true},
		{"bw=100 delay=100ms", 12_500_000, 1522 + 1_250_000, fifo{limit: 1_250_000}, true},
		{"bw=40gbit", 5_000_000_000, 1522 + 250_000_000, fifo{limit: 250_000_000}, true},
		{"bw=100 queue=100", 12_500_000, 1522 + 12_500, fifo{frames: true, limit: 100 - 8}, true},
		{"bw=100 queue=10", 12_500_000, 1522 + 5*1514, fifo{frames: true, limit: 5}, true},
		{"bw=100 queue=1", 12_500_000, 1522 + 757, fifo{frames: true, limit: 1}, true},
		// Frames that go at once have left the queue.
		{"bw=100 burst=64kB", 12_500_000, 64_000 + 12_500, fifo{limit: 1_250_000}, false},
		{"bw=100 delay=5ms jitter=1ms", 12_500_000, 1522 + 12_500, fifo{limit: 1_250_000}, false},
		{"bw=8 aqm=codel queue=100", 1_000_000, 1522 + 1000, codel{limit: 100, target: 5 * time.Millisecond, interval: 100 * time.Millisecond, frame: 1514}, true},
		{"bw=8 aqm=fq_codel queue=151400B ecn=1 aqm_target=1ms", 1_000_000, 1522 + 1000, codel{fair: true, limit: 100, target: time.Millisecond, interval: 100 * time.Millisecond, ecn: true, frame: 1514}, true},
		{"bw=8 aqm=red queue=100kB", 1_000_000, 1522 + 1000, red{limit: 100_000, min: 25_000, max: 75_000, probability: 429496730, rate: 1_000_000, frame: redSmall}, true},
	} {
		s := planned(t, strings.Fields(c.options)...)
		if s.rate.tbf.rate != c.rate || s.rate.tbf.burst != c.burst {
			t.Errorf("%s: TBF %+v; want rate %d, burst %d", c.options, s.rate.tbf, c.rate, c.burst)
		}
		if s.rate.leaf != c.queue {
			t.Errorf("%s: queue %+v; want %+v", c.options, s.rate.leaf, c.queue)
		}
		if parted := s.wait.rate != noTime; parted != c.parted || parted && s.wait.rate < c.rate {
			t.Errorf("%s: netem's rate %d", c.options, s.wait.rate)
		}
	}
}

func TestPlanWait(t *testing.T) {
	s := planned(t, "delay=100ms", "jitter=10ms", "distribution=normal", "reorder=50", "slot=1ms-2ms", "slot_packets=3")
	n := s.wait
	if n.delay != 100*time.Millisecond || n.jitter != 10*time.Millisecond || n.reorder != 1<<31 || n.gap != 1 || n.rate != noTime ||
		n.slot != (slot{time.Millisecond, 2 * time.Millisecond, 3, 0}) {
		t.Errorf("%+v", n)
	}
	if s.segments != 1 || s.rate != nil {
		t.Errorf("%d segments, rate %v", s.segments, s.rate)
	}
	if n := planned(t, "delay=1ms", "jitter=1ms", "overtake=1").wait; n.rate != 0 {
		t.Errorf("frames that may overtake are held back: rate %d", n.rate)
	}
	// What a rate can have in flight fits, as frames of the smallest size.
	for options, want := range map[string]uint32{
		"delay=1s bw=100":    minLimit + 12_500_000/60 + 12_500_000/60, // and half of the queue of 2 s
		"delay=1s":           minLimit + packetRate,
		"delay=1h":           maxLimit,
		"bw=1":               minLimit + 15140/60,
		"delay=1s bw=40gbit": maxLimit,
	} {
		if got := planned(t, strings.Fields(options)...).wait.limit; got != want {
			t.Errorf("%s: limit %d; want %d", options, got, want)
		}
	}
}

func TestPlanSegments(t *testing.T) {
	for options, want := range map[string]int{
		"delay=5ms": allSegments, "bw=10": 1, "bw=1000": 8, "bw=40gbit": 330, "bw=1000 loss=1": 1,
		"duplicate=1": 1, "corrupt=1": 1, "bw=1000 queue=100": 1, "bw=1000 aqm=codel": 1,
	} {
		s := planned(t, strings.Fields(options)...)
		if s.segments != want {
			t.Errorf("%s: %d segments; want %d", options, s.segments, want)
		}
		if s.linear != strings.Contains(options, "corrupt") {
			t.Errorf("%s: in one piece: %v", options, s.linear)
		}
	}
}

func TestPlanFate(t *testing.T) {
	s := planned(t, "loss=50", "corrupt=100")
	if s.fate.loss != 1<<31 || s.fate.corrupt != math.MaxUint32 || s.fate.chain != nil {
		t.Errorf("%+v", s.fate)
	}
	s = planned(t, "loss=10", "loss_burst=4")
	if c := *s.fate.chain; c.r != 1<<30 || math.Abs(float64(c.p)/(1<<32)-0.25/9) > 1e-6 || c.h != 0 || c.k1 != 0 {
		t.Errorf("%+v", c)
	}
	s = planned(t, "gemodel=1/50/80/10")
	if c := *s.fate.chain; c.r != 1<<31 || c.h != share(0.2) || c.k1 != share(0.1) {
		t.Errorf("%+v", c)
	}
	// One that is in a state with the same loss as the other is no chain.
	if s := planned(t, "loss=10", "bw=10"); s.fate.chain != nil || s.together().loss != s.fate.loss {
		t.Errorf("%+v", s.fate)
	}
}

// A model of netem's choice, see lossAndCopies.
func TestLossAndCopies(t *testing.T) {
	for _, c := range [][2]float64{{0.01, 0.01}, {0.2, 0.2}, {0.3, 0.1}, {0.001, 0.5}} {
		p, d, err := lossAndCopies(c[0], c[1])
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		none, twice := p*(1-d), d*(1-p)*(1-p)
		if math.Abs(none-c[0]) > 1e-6 || math.Abs(twice-(1-c[0])*c[1]) > 1e-6 {
			t.Errorf("loss %v, duplication %v: %v lost, %v doubled", c[0], c[1], none, twice)
		}
	}
}

func TestUnsupported(t *testing.T) {
	for _, options := range []string{
		"trace=x", "drop=1", "bw=40gbit queue=2s", "drop_if=arp", "delay=3s jitter=3s", "slot=1ms-4s", "loss=50 duplicate=50",
		"loss=5 loss_burst=3 duplicate=1", "bw=10gbit aqm=red", "bw=40gbit delay=1s queue=10GB", "bw=1 aqm=codel aqm_interval=5s",
		"bw=1 burst=5GB", "slot=1ms slot_bytes=3GB",
	} {
		_, err := plan(impairment(t, strings.Fields(options)...), 1500)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: error %v", options, err)
			continue
		}
		if text := err.Error(); strings.Contains(text, "\n") || len(text) < 30 {
			t.Errorf("%s: %q", options, text)
		}
	}
	missing := Features{Impair: unsupported("no a"), Rate: unsupported("no b"), CoDel: unsupported("no c")}
	for options, want := range map[string]string{"delay=1ms": "no a", "bw=1": "no a no b", "bw=1 aqm=codel": "no a no b no c", "bw=1 aqm=red": "no a no b"} {
		err := Supported(impairment(t, strings.Fields(options)...), missing)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: error %v", options, err)
			continue
		}
		for _, part := range []string{"no a", "no b", "no c"} {
			if strings.Contains(err.Error(), part) != strings.Contains(want, part) {
				t.Errorf("%s: %q; want %s", options, err, want)
			}
		}
	}
	if err := Supported(impairment(t, "bw=1", "aqm=codel"), Features{}); err != nil {
		t.Error(err)
	}
}

// A table has the mean and the deviation that tc's have.
func TestTable(t *testing.T) {
	for d, want := range map[topo.Distribution][2]float64{
		topo.Uniform: {0, 1 / math.Sqrt(3)},
		topo.Normal:  {0, 1},
		topo.Pareto:  {-0.03, 0.82}, // its tail is cut
	} {
		sum, squares := 0.0, 0.0
		list := table(d)
		for _, v := range list {
			x := float64(v) / 8192
			sum += x
			squares += x * x
		}
		mean := sum / float64(len(list))
		deviation := math.Sqrt(squares / float64(len(list)))
		if math.Abs(mean-want[0]) > 0.01 || math.Abs(deviation-want[1]) > 0.02 {
			t.Errorf("%s: mean %.3f, deviation %.3f; want %v", d, mean, deviation, want)
		}
	}
}

func TestREDIdle(t *testing.T) {
	r := red{rate: 1_250_000, frame: redSmall}
	scale, decay := r.idle()
	// After a time in which n frames could have been sent, the mean is (1-2^-9)^n of what it was.
	const n = 2000
	micros := n * redSmall / 1.25
	got := float64(decay[int(micros)>>scale])
	if want := -n * math.Log2(1-1.0/512); math.Abs(got-want) > 1 {
		t.Errorf("after %.0f µs the mean is shifted by %v; want %.1f", micros, got, want)
	}
	if decay[0] != 0 || decay[255] != 31 {
		t.Errorf("from %d to %d", decay[0], decay[255])
	}
}
