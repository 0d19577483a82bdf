package experiment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"weft/api"
	"weft/internal/timing"
	"weft/network"
)

// The verdicts of a Fidelity.
const (
	FidelityOK       = "ok"
	FidelityDegraded = "degraded"
	FidelityUnknown  = "unknown" // nothing was watched
)

// A Fidelity says whether the machine kept up with the network that it emulated while it was
// measured.
type Fidelity struct {
	// Verdict is ok, degraded or unknown; Reasons say why it is degraded.
	Verdict string   `json:"verdict"`
	Reasons []Reason `json:"reasons"`
	// LagMax and LagMean are how late a thread woke that slept, seconds. Waiting is the mean
	// share of the time in which some task waited for a CPU, Steal that of the CPUs' time
	// which a hypervisor gave to others, Throttled that in which a limit kept weft from
	// running: from 0 to 1, below 0 where the kernel does not tell.
	LagMax    float64 `json:"lagMax"`
	LagMean   float64 `json:"lagMean"`
	Waiting   float64 `json:"waiting"`
	Steal     float64 `json:"steal"`
	Throttled float64 `json:"throttled"`
	// Drops are frames that were lost where none should be.
	Drops []network.Drop `json:"drops"`
}

// A Reason is why fidelity is degraded, and when.
type Reason struct {
	From float64 `json:"from"` // seconds since the trial's first step
	To   float64 `json:"to"`
	Text string  `json:"text"`
}

// What is too much. A network whose delays are milliseconds does not show what is below.
const (
	maxLag       = 20 * time.Millisecond // of one wake
	maxLateShare = 0.05                  // of the wakes of a sample, later than timing.LateAfter
	maxSteal     = 0.05
	maxThrottled = 0.01
	maxWaiting   = 0.9  // in the mean: for a moment it is nothing unusual
	maxLate      = 0.01 // of the frames of a link, later than timing.LateAfter
)

// A lateLink is how many frames left a link, and how many of them late.
type lateLink struct {
	name         string
	frames, late uint64
}

// Explain says what the verdict means.
func (f Fidelity) Explain() string {
	switch f.Verdict {
	case FidelityOK:
		return "the machine kept up; what was measured is the network's doing."
	case FidelityDegraded:
		return "the machine did not keep up; what was measured may be its doing, not the network's."
	}
	return "nothing was watched."
}

// judge says what samples, drops and late frames mean. began is the trial's first step.
func judge(samples []network.Timing, drops []network.Drop, late []lateLink, began time.Time) Fidelity {
	f := Fidelity{Verdict: FidelityOK, Reasons: []Reason{}, Waiting: -1, Steal: -1, Throttled: -1, Drops: append([]network.Drop{}, drops...)}
	if len(samples) == 0 {
		f.Verdict = FidelityUnknown
		return f
	}
	for _, c := range []struct {
		exceeds func(network.Timing) (float64, bool)
		text    func(worst float64) string
	}{
		{func(s network.Timing) (float64, bool) { return s.LagMax.Seconds(), s.LagMax >= maxLag },
			func(v float64) string { return "a thread that slept woke up to " + seconds(v) + " late" }},
		{func(s network.Timing) (float64, bool) {
			share := float64(s.Late) / float64(max(s.Wakes, 1))
			return share, s.LagMax < maxLag && s.Late > 1 && share >= maxLateShare
		}, func(v float64) string {
			return fmt.Sprintf("a thread that slept woke more than %s late in up to %s of cases", formatDuration(timing.LateAfter), percent(v))
		}},
		{func(s network.Timing) (float64, bool) {
			return s.Steal, s.Steal >= maxSteal && s.Span > 100*time.Millisecond
		},
			func(v float64) string {
				return "the hypervisor gave up to " + percent(v) + " of the CPUs' time to others"
			}},
		{func(s network.Timing) (float64, bool) { return s.Throttled, s.Throttled >= maxThrottled },
			func(v float64) string {
				return "a limit on its control group kept weft from running up to " + percent(v) + " of the time"
			}},
	} {
		f.Reasons = append(f.Reasons, spells(samples, began, c.exceeds, c.text)...)
	}
	first, last := samples[0], samples[len(samples)-1]
	always := func(format string, args ...any) {
		f.Reasons = append(f.Reasons, Reason{From: max(0, first.Start.Sub(began).Seconds()),
			To: last.Start.Add(last.Span).Sub(began).Seconds(), Text: fmt.Sprintf(format, args...)})
	}
	for _, d := range drops {
		always("%d lost at %s: %s", d.Count, d.Place, d.Why)
	}
	for _, l := range late {
		if l.late > 1 && float64(l.late) >= maxLate*float64(l.frames) {
			always("%d of %d frames left link %s more than %s late", l.late, l.frames, l.name, formatDuration(timing.LateAfter))
		}
	}
	f.measure(samples)
	if span := last.Start.Add(last.Span).Sub(first.Start); f.Waiting >= maxWaiting && span >= time.Second {
		always("tasks waited for a CPU %s of the time", percent(f.Waiting))
	}
	if len(f.Reasons) > 0 {
		f.Verdict = FidelityDegraded
	}
	return f
}

// spells joins samples in a row that exceed a bound into one reason each, at most three of
// which are told one by one.
func spells(samples []network.Timing, began time.Time, exceeds func(network.Timing) (float64, bool), text func(float64) string) []Reason {
	var all []Reason
	var worst []float64
	open := false
	for _, s := range samples {
		v, bad := exceeds(s)
		if !bad {
			open = false
			continue
		}
		from, to := max(0, s.Start.Sub(began).Seconds()), s.Start.Add(s.Span).Sub(began).Seconds()
		if !open {
			all, worst = append(all, Reason{From: from}), append(worst, v)
		}
		open = true
		n := len(all) - 1
		all[n].To, worst[n] = to, max(worst[n], v)
	}
	const most = 3
	if len(all) > most {
		all = []Reason{{From: all[0].From, To: all[len(all)-1].To, Text: fmt.Sprintf("%s, %d times", text(slices.Max(worst)), len(worst))}}
		return all
	}
	for i := range all {
		all[i].Text = text(worst[i])
	}
	return all
}

// measure fills in the figures.
func (f *Fidelity) measure(samples []network.Timing) {
	var wakes int
	var lag, span time.Duration
	mean := func(share func(network.Timing) float64) float64 {
		var sum float64
		for _, s := range samples {
			v := share(s)
			if v < 0 {
				return -1
			}
			sum += v * s.Span.Seconds()
		}
		return sum / max(span.Seconds(), 1e-9)
	}
	for _, s := range samples {
		wakes += s.Wakes
		lag += s.LagMean * time.Duration(s.Wakes)
		span += s.Span
		f.LagMax = max(f.LagMax, s.LagMax.Seconds())
	}
	f.LagMean = (lag / time.Duration(max(wakes, 1))).Seconds()
	f.Waiting = mean(func(s network.Timing) float64 { return s.Waiting })
	f.Steal = mean(func(s network.Timing) float64 { return s.Steal })
	f.Throttled = mean(func(s network.Timing) float64 { return s.Throttled })
}

func percent(share float64) string { return formatNumber(float64(int(share*1000+0.5))/10) + " %" }

func seconds(s float64) string { return formatDuration(time.Duration(s * 1e9)) }

// A watch watches a network while it is measured.
type watch struct {
	client *api.Client
	began  time.Time
	before []network.Drop
	links  []network.LinkState
	cancel context.CancelFunc
	first  chan struct{} // closed when there is a sample
	done   chan struct{}

	samples []network.Timing // complete when done is closed
}

// sampleEvery is the length of a sample.
const sampleEvery = 200 * time.Millisecond

// startWatch watches from now on.
func startWatch(ctx context.Context, client *api.Client, began time.Time) *watch {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &watch{client: client, began: began, cancel: cancel, first: make(chan struct{}), done: make(chan struct{})}
	w.before, _ = client.Drops(ctx) // without them, all count
	w.links, _ = client.Links(ctx)
	go func() {
		defer close(w.done)
		client.Timing(ctx, sampleEvery, func(t network.Timing) error {
			if w.samples = append(w.samples, t); len(w.samples) == 1 {
				close(w.first)
			}
			return nil
		})
	}()
	return w
}

// stop ends the watch and says what it saw. Drops of captures are among it.
func (w *watch) stop(ctx context.Context, lost []network.Drop) Fidelity {
	after, err := w.client.Drops(ctx)
	var links []network.LinkState
	if err == nil {
		links, err = w.client.Links(ctx)
	}
	select { // a trial that was over at once has one sample
	case <-w.first:
	case <-w.done:
	case <-time.After(10 * sampleEvery):
	}
	w.cancel()
	<-w.done
	if err != nil && !errors.Is(err, api.ErrGone) && ctx.Err() == nil {
		lost = append(lost, network.Drop{Place: "the network", Why: "what it dropped cannot be counted: " + err.Error(), Count: 0})
	}
	return judge(w.samples, append(newDrops(w.before, after), lost...), newLate(w.links, links), w.began)
}

// newLate are the frames that left links between two looks.
func newLate(before, after []network.LinkState) []lateLink {
	var all []lateLink
	for _, l := range after {
		if l.Counters == nil {
			continue
		}
		var old [2]network.LinkCounters // of a link that is new, none
		if i := slices.IndexFunc(before, func(b network.LinkState) bool { return b.ID == l.ID }); i >= 0 && before[i].Counters != nil {
			old = *before[i].Counters
		}
		for way, c := range l.Counters {
			if c.Late < old[way].Late || c.Delivered < old[way].Delivered {
				old[way] = network.LinkCounters{} // what counts is new
			}
			from, to := l.A, l.B
			if way == 1 {
				from, to = l.B, l.A
			}
			if n := c.Late - old[way].Late; n > 0 {
				all = append(all, lateLink{from.Node + "→" + to.Node, c.Delivered - old[way].Delivered, n})
			}
		}
	}
	return all
}

// newDrops are those that came between two looks.
func newDrops(before, after []network.Drop) []network.Drop {
	type key struct{ place, why string }
	old := map[key]uint64{}
	for _, d := range before {
		old[key{d.Place, d.Why}] = d.Count
	}
	var all []network.Drop
	for _, d := range after {
		if n := old[key{d.Place, d.Why}]; d.Count > n {
			d.Count -= n
			all = append(all, d)
		}
	}
	return all
}

// worst is the fidelity of several trials: the reasons of all that are degraded, and the worst
// figures.
func worst(trials []*TrialResult) Fidelity {
	all := Fidelity{Verdict: FidelityUnknown, Reasons: []Reason{}, Waiting: -1, Steal: -1, Throttled: -1, Drops: []network.Drop{}}
	for i, t := range trials {
		f := t.Fidelity
		switch {
		case f.Verdict == FidelityUnknown:
			continue
		case f.Verdict == FidelityDegraded, all.Verdict == FidelityUnknown:
			all.Verdict = f.Verdict
		}
		for _, r := range f.Reasons {
			if len(trials) > 1 {
				r.Text = fmt.Sprintf("trial %d: %s", i+1, r.Text)
			}
			all.Reasons = append(all.Reasons, r)
		}
		all.LagMax, all.LagMean = max(all.LagMax, f.LagMax), max(all.LagMean, f.LagMean)
		all.Waiting, all.Steal, all.Throttled = max(all.Waiting, f.Waiting), max(all.Steal, f.Steal), max(all.Throttled, f.Throttled)
		all.Drops = append(all.Drops, f.Drops...)
	}
	return all
}
