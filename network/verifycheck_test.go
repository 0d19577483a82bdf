package network

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weft/internal/probe"
	"weft/topo"
)

// A model is a link that does what an impairment says, or something else.
type model struct {
	topo.Impairment
	chance *rand.Rand
	bad    bool // of the Gilbert-Elliott channel
	slow   float64
}

// run sends a train over the model, whose frames come at their very times.
func (m *model) run(_ context.Context, t probe.FrameTrain) (r probe.FrameResult, err error) {
	gap := time.Duration(float64(t.Size) * 8 / t.Rate * float64(time.Second))
	start := time.Unix(1000, 0)
	hit := func(p topo.Percent) bool { return m.chance.Float64() < p.Probability() }
	var free, last time.Time // of the line; of the arrival before
	for n := range t.Count {
		at := start.Add(time.Duration(n) * gap)
		r.Sent++
		r.SentIn = at.Sub(start) + gap
		ge := m.GilbertElliott
		if m.bad = m.bad && !hit(ge.R) || !m.bad && hit(ge.P); hit(m.Loss) || m.bad && hit(ge.Bad) {
			continue
		}
		if hit(m.Duplicate) {
			r.Duplicates++
		}
		leave := at
		if m.Rate > 0 {
			if free.After(at) {
				leave = free
			}
			if leave.Sub(at) > 200*time.Millisecond {
				continue
			}
			leave = leave.Add(time.Duration(float64(onWire(m.Impairment, t.Size)) * m.slow))
			free = leave
		}
		delay := m.Delay + time.Duration((2*m.chance.Float64()-1)*float64(m.Jitter))
		early := hit(m.Reorder)
		if early {
			delay = 0
		}
		arrive := leave.Add(delay)
		if !early && arrive.Before(last) && !m.Overtake {
			arrive = last
		}
		if arrive.Before(last) {
			r.Reordered++
		}
		last = arrive
		a := probe.FrameArrival{Seq: n, At: arrive, Delay: arrive.Sub(at)}
		if hit(m.Corrupt) {
			r.Corrupted++
			a.Seq, a.Delay = -1, 0
		}
		r.Arrivals = append(r.Arrivals, a)
	}
	slices.SortStableFunc(r.Arrivals, func(a, b probe.FrameArrival) int { return a.At.Compare(b.At) })
	return r, nil
}

func impairment(t *testing.T, options string) topo.Impairment {
	t.Helper()
	var s topo.LinkSettings
	if err := s.Set(strings.Fields(options)...); err != nil {
		t.Fatal(err)
	}
	return s.AB
}

// Links that do what was asked are found right, others wrong, in that in which they are.
func TestMeasureLink(t *testing.T) {
	for _, c := range []struct {
		asked, does string
		slow        float64
		want        string // figures that are not ok
	}{
		{"", "", 1, ""},
		{"delay=5ms", "delay=5ms", 1, ""},
		{"delay=5ms", "delay=6ms", 1, "delay off"},
		{"", "loss=5", 1, "loss off"},
		{"delay=20ms jitter=4ms", "delay=20ms jitter=4ms", 1, ""},
		{"delay=20ms jitter=1ms", "delay=20ms jitter=5ms", 1, "jitter off"},
		{"bw=10 delay=1ms loss=1", "bw=10 delay=1ms loss=1", 1, ""},
		{"bw=10 delay=1ms", "bw=10 delay=1ms", 1.1, "rate off"},
		{"bw=64kbit", "bw=64kbit", 1, ""},
		{"bw=1kbit", "bw=1kbit", 1, "rate unknown"},
		{"bw=1gbit", "bw=1gbit", 1, ""},
		{"loss=10", "loss=10", 1, ""},
		{"loss=10", "loss=14", 1, "loss off"},
		{"gemodel=1/20/100/0", "gemodel=1/20/100/0", 1, ""},
		{"gemodel=1/20/100/0", "gemodel=5/20/100/0", 1, "loss off"},
		{"delay=10ms reorder=10 duplicate=3 corrupt=2", "delay=10ms reorder=10 duplicate=3 corrupt=2", 1, ""},
		{"delay=10ms reorder=10 duplicate=3 corrupt=2", "delay=10ms reorder=2 duplicate=8 corrupt=8", 1, "duplicate off, corrupt off, reorder off"},
		{"delay=10ms jitter=2ms distribution=pareto", "delay=10ms jitter=2ms", 1, "delay unknown, jitter unknown"},
		{"delay=1ms jitter=2ms", "delay=1ms", 1, "delay unknown, jitter unknown"},
		{"slot=5ms", "", 1, "delay unknown, jitter unknown"},
		{"drop=3", "loss=1", 1, "loss unknown"},
		{"loss=100", "loss=100", 1, "delay unknown, jitter unknown"},
		{"trace=/x", "delay=3ms loss=1", 1, "delay unknown, jitter unknown, loss unknown"},
		{"bw=10 loss=90", "bw=10 loss=90", 1, "rate unknown"},
	} {
		m := &model{Impairment: impairment(t, c.does), chance: rand.New(rand.NewPCG(1, 2)), slow: c.slow}
		figures, err := measureLink(context.Background(), impairment(t, c.asked), 0, 10*time.Microsecond, m.run)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range figures {
			if f.Verdict != VerdictOK {
				got = append(got, f.Name+" "+string(f.Verdict))
			}
			if (f.Verdict == VerdictUnknown) != (f.Note != "") {
				t.Errorf("%s: %+v", c.asked, f)
			}
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("asked %q, does %q: %s; want %s\n%+v", c.asked, c.does, text, c.want, figures)
		}
	}
}

// What takes longer than people wait for is not measured.
func TestTrains(t *testing.T) {
	for _, options := range []string{"", "bw=1kbit", "bw=40gbit", "delay=1h jitter=1h", "bw=10 burst=1GB", "loss=99", "slot=1h", "bw=1 jitter=1s"} {
		i := impairment(t, options)
		trains := map[string]probe.FrameTrain{}
		trains["delay"], _ = delayTrain(i)
		if s, ok := shareTrain(i); ok {
			trains["share"] = s
		}
		if i.Rate > 0 {
			if r, why := rateTrain(i, 0); why == "" {
				trains["rate"] = r
			}
		}
		for name, tr := range trains {
			if took := float64(tr.Count) * float64(tr.Size) * 8 / tr.Rate; tr.Count < 1 || tr.Size < probe.MinFrame || took > 2*rateLongest.Seconds() {
				t.Errorf("%s, %s: %+v takes %.1f s", options, name, tr, took)
			}
		}
	}
}
