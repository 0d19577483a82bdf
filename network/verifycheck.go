package network

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"weft/internal/probe"
	"weft/topo"
)

// A trainRunner sends a train of frames over what is measured.
type trainRunner func(context.Context, probe.FrameTrain) (probe.FrameResult, error)

// Bounds of measuring.
const (
	delayFrames = 100
	delayEvery  = 2 * time.Millisecond
	delayTime   = 2 * time.Second // for all of them
	shareTime   = time.Second     // losses and the like are counted for
	shareFrames = 5000            // at most
	shareSize   = 100             // bytes of these frames
	rateTime    = 500 * time.Millisecond
	rateLongest = 4 * time.Second
	rateFrames  = 12        // at least
	rateMost    = 1_000_000 // at most
	oversupply  = 1.2       // of the rate
	rateDebt    = 50 * time.Millisecond
	shareDebt   = 2 * time.Millisecond
	// z is how many standard deviations a share may be off: one time in 1,000 by chance.
	z = 3.3
)

// measureLink measures what an impairment does in one direction, with up to three trains: one
// so sparse that frames do not meet, one to count what is lost, and one that is too fast.
func measureLink(ctx context.Context, i topo.Impairment, mtu int, noise time.Duration, run trainRunner) ([]Figure, error) {
	var figures []Figure
	t, comparable := delayTrain(i)
	r, err := run(ctx, t)
	if err != nil {
		return nil, err
	}
	figures = append(figures, delayFigures(i, r, noise, comparable)...)
	if t, ok := shareTrain(i); ok {
		if r, err = run(ctx, t); err != nil {
			return nil, err
		}
	}
	figures = append(figures, shareFigures(i, r)...)
	if i.Rate == 0 || i.Trace != "" {
		return figures, nil
	}
	t, why := rateTrain(i, mtu)
	if why != "" {
		return append(figures, Figure{Name: "rate", Unit: "bit/s", Asked: float64(i.Rate), Verdict: VerdictUnknown, Note: why}), nil
	}
	if r, err = run(ctx, t); err != nil {
		return nil, err
	}
	return append(figures, rateFigure(i, t, r)), nil
}

// spread is how far delays may differ from the mean, nearly all of them.
func spread(i topo.Impairment) time.Duration {
	if i.Distribution == "" || i.Distribution == topo.Uniform {
		return i.Jitter
	}
	return 4 * i.Jitter
}

// patience is how long nothing may arrive before nothing more is waited for.
func patience(i topo.Impairment, frame int) time.Duration {
	d := i.Delay + 2*spread(i) + i.Slot.Max + 200*time.Millisecond
	if i.Rate > 0 {
		d += 2 * onWire(i, frame)
	}
	return d
}

// onWire is how long a frame takes at the rate.
func onWire(i topo.Impairment, frame int) time.Duration {
	if i.Rate == 0 {
		return 0
	}
	return time.Duration(float64(frame) * 8 / float64(i.Rate) * float64(time.Second))
}

// delayTrain is of small frames so far apart that none waits for another. It is not
// comparable if that would take too long.
func delayTrain(i topo.Impairment) (t probe.FrameTrain, comparable bool) {
	gap, comparable := max(delayEvery, 2*onWire(i, probe.MinFrame)), true
	if apart := 2 * spread(i); apart > gap && !i.Overtake {
		comparable = apart <= delayTime/8
		gap = max(gap, min(apart, delayTime/8))
	}
	return probe.FrameTrain{
		Count: int(min(delayFrames, max(4, delayTime/gap))), Size: probe.MinFrame,
		Rate: probe.MinFrame * 8 / gap.Seconds(), Wait: patience(i, probe.MinFrame),
	}, comparable
}

// delays returns the delays of arrivals, sorted.
func delays(r probe.FrameResult) []time.Duration {
	var list []time.Duration
	for _, a := range r.Arrivals {
		if a.Seq >= 0 {
			list = append(list, a.Delay)
		}
	}
	slices.Sort(list)
	return list
}

// quantile returns the value below which a share of sorted values is.
func quantile(sorted []time.Duration, share float64) time.Duration {
	return sorted[int(share*float64(len(sorted)-1)+0.5)]
}

// delayFigures compares the median of delays, and their spread, from the quartiles.
func delayFigures(i topo.Impairment, r probe.FrameResult, noise time.Duration, comparable bool) []Figure {
	delay := Figure{Name: "delay", Unit: "s", Asked: (i.Delay + onWireAfterBurst(i, probe.MinFrame)).Seconds()}
	jitter := Figure{Name: "jitter", Unit: "s", Asked: i.Jitter.Seconds()}
	list := delays(r)
	switch {
	case len(list) < 4:
		delay.unknown("too few frames have arrived")
		jitter.unknown("too few frames have arrived")
		return []Figure{delay, jitter}
	case i.Trace != "":
		delay.unknown("it follows a trace")
		jitter.unknown("it follows a trace")
	case i.Slot.Max > 0:
		delay.unknown("frames wait for their slot")
		jitter.unknown("frames wait for their slot")
	case !comparable:
		delay.unknown("so much jitter takes too long to measure")
		jitter.unknown("so much jitter takes too long to measure")
	case i.Distribution == topo.Pareto || i.Distribution == topo.ParetoNormal:
		delay.unknown("the distribution of the jitter is skewed")
		jitter.unknown("the distribution of the jitter is skewed")
	case spread(i) > i.Delay:
		delay.unknown("no delay is below zero, which shifts them")
		jitter.unknown("no delay is below zero, which shifts them")
	}
	few := math.Sqrt(float64(len(list)))
	delay.Measured = quantile(list, 0.5).Seconds()
	delay.Tolerance = 200e-6 + 2*noise.Seconds() + 0.01*delay.Asked + z*1.25*i.Jitter.Seconds()/few
	delay.compare()
	quartiles := (quantile(list, 0.75) - quantile(list, 0.25)).Seconds()
	if i.Distribution == topo.Normal {
		quartiles /= 1.349
	}
	jitter.Measured = quartiles
	jitter.Tolerance = 200e-6 + 2*noise.Seconds() + z*1.4*i.Jitter.Seconds()/few
	jitter.compare()
	return []Figure{delay, jitter}
}

// onWireAfterBurst is how long a frame that comes alone takes at the rate.
func onWireAfterBurst(i topo.Impairment, frame int) time.Duration {
	if i.Burst >= int64(frame) {
		return 0
	}
	return onWire(i, frame)
}

// shareTrain is of as many frames as fit into shareTime at less than half the rate; there is none
// if nothing that is to be counted was asked.
func shareTrain(i topo.Impairment) (probe.FrameTrain, bool) {
	if i.Loss == 0 && i.GilbertElliott == (topo.GilbertElliott{}) && i.Duplicate == 0 && i.Corrupt == 0 && i.Reorder == 0 {
		return probe.FrameTrain{}, false
	}
	perSecond := float64(shareFrames)
	if i.Rate > 0 {
		perSecond = min(perSecond, 0.4*float64(i.Rate)/(8*shareSize))
	}
	return probe.FrameTrain{
		Count: max(20, int(perSecond*shareTime.Seconds())), Size: shareSize,
		Rate: perSecond * 8 * shareSize, Debt: shareDebt, Wait: patience(i, shareSize),
	}, true
}

// shareFigures compares shares of frames: those lost, twice, damaged, early.
func shareFigures(i topo.Impairment, r probe.FrameResult) []Figure {
	sent, arrived := float64(r.Sent), float64(len(r.Arrivals))
	// Second copies that are damaged too look like frames of their own.
	lost := share("loss", lossOf(i), max(0, sent-arrived), sent, burstiness(i))
	switch {
	case i.Trace != "":
		lost.unknown("it follows a trace")
	case i.Drop != "" || i.DropIf != "":
		lost.unknown("some frames are chosen to be lost")
	case r.Overrun > 0:
		lost.unknown("this machine could not take all frames")
	}
	figures := []Figure{lost}
	early := 0.0
	for _, a := range r.Arrivals {
		if a.Seq >= 0 && a.Delay < i.Delay/2 {
			early++
		}
	}
	for _, f := range []struct {
		name   string
		asked  topo.Percent
		counts float64
	}{
		{"duplicate", i.Duplicate, float64(r.Duplicates)},
		{"corrupt", i.Corrupt, float64(r.Corrupted)},
		{"reorder", i.Reorder / topo.Percent(max(1, i.ReorderGap)), early},
	} {
		if f.asked != 0 && arrived > 0 {
			figures = append(figures, share(f.name, f.asked.Probability(), f.counts, arrived, 1))
		}
	}
	return figures
}

// share compares a count of frames with the share that was asked. Frames in a row that share
// their fate say less: inflation is by how much the variance grows.
func share(name string, asked, count, of, inflation float64) Figure {
	f := Figure{Name: name, Unit: "%", Asked: 100 * asked, Measured: 100 * count / of}
	if asked > 0 && asked < 1 {
		f.Tolerance = 100 * (z*math.Sqrt(asked*(1-asked)*inflation/of) + 1/of)
	}
	f.compare()
	return f
}

// lossOf returns the share of frames lost in the long run.
func lossOf(i topo.Impairment) float64 {
	ge := i.GilbertElliott
	if ge == (topo.GilbertElliott{}) {
		return i.Loss.Probability()
	}
	bad := 0.0
	if ge.P+ge.R > 0 {
		bad = float64(ge.P / (ge.P + ge.R))
	}
	return bad*ge.Bad.Probability() + (1-bad)*ge.Good.Probability()
}

// burstiness is by how much the variance of the number of losses exceeds that of independent
// ones: (1+λ)/(1-λ) for a Markov chain whose second eigenvalue is λ.
func burstiness(i topo.Impairment) float64 {
	lambda := 0.0
	switch ge, p := i.GilbertElliott, i.Loss.Probability(); {
	case ge != (topo.GilbertElliott{}):
		lambda = 1 - ge.P.Probability() - ge.R.Probability()
	case i.LossBurst > 1 && p < 1:
		r := 1 / i.LossBurst
		lambda = 1 - r - r*p/(1-p)
	}
	lambda = min(max(lambda, 0), 0.999)
	return (1 + lambda) / (1 - lambda)
}

// rateTrain is of more frames than the rate lets pass, or says why there can be none.
func rateTrain(i topo.Impairment, mtu int) (t probe.FrameTrain, why string) {
	if mtu == 0 {
		mtu = 1500
	}
	rate := float64(i.Rate)
	long := max(rateTime, 100*i.Jitter, 50*i.Slot.Max)
	// Large frames where time allows for enough of them.
	size := min(mtu+14, max(probe.MinFrame, int(rate*rateTime.Seconds()/8/40)))
	long = max(long, rateFrames*onWire(i, size), time.Duration(2*float64(i.Burst)*8/rate*float64(time.Second)))
	passes := 1 - lossOf(i)
	switch {
	case long > rateLongest:
		return t, "so low a rate, so large a burst or so much jitter takes too long to measure"
	case passes < 0.2:
		return t, "too few frames get as far"
	}
	t = probe.FrameTrain{Size: size, Rate: oversupply * rate / passes, Debt: rateDebt, Wait: patience(i, size)}
	t.Count = int(min(rateMost, t.Rate*long.Seconds()/8/float64(size)+float64(i.Burst)/float64(size)))
	return t, ""
}

// rateFigure compares how fast frames arrive, once those of a burst have.
func rateFigure(i topo.Impairment, t probe.FrameTrain, r probe.FrameResult) Figure {
	f := Figure{Name: "rate", Unit: "bit/s", Asked: float64(i.Rate)}
	at := make([]time.Time, 0, len(r.Arrivals))
	for _, a := range r.Arrivals {
		at = append(at, a.At)
	}
	slices.SortFunc(at, func(a, b time.Time) int { return a.Compare(b) })
	at = at[min(len(at), len(at)/5+int(i.Burst)/t.Size):]
	if len(at) < 4 {
		f.unknown("too few frames have arrived")
		return f
	}
	frames := float64(len(at)-1) * (1 + float64(r.Duplicates)/float64(len(r.Arrivals)))
	took := at[len(at)-1].Sub(at[0]).Seconds()
	if took <= 0 {
		f.unknown("the frames have arrived at the same time")
		return f
	}
	f.Measured = frames * float64(t.Size) * 8 / took
	f.Tolerance = f.Asked * (0.02 + 1/float64(len(at)) + (i.Jitter+i.Slot.Max).Seconds()/took)
	if sent := float64(r.Sent) * float64(t.Size) * 8 / r.SentIn.Seconds() * (1 - lossOf(i)); sent < 1.05*f.Asked {
		f.unknown(fmt.Sprintf("this machine sends only %.3g Mbit/s of such frames", sent/1e6))
	}
	if r.Overrun > 0 {
		f.unknown("this machine could not take all frames")
	}
	f.compare()
	return f
}

func (f *Figure) unknown(why string) { f.Verdict, f.Note = VerdictUnknown, why }

// compare decides, unless that has been done.
func (f *Figure) compare() {
	switch {
	case f.Verdict != "":
	case math.Abs(f.Measured-f.Asked) > f.Tolerance:
		f.Verdict = VerdictOff
	default:
		f.Verdict = VerdictOK
	}
}

// worst is the verdict on all figures.
func worst(figures []Figure) Verdict {
	v := VerdictOK
	for _, f := range figures {
		if f.Verdict == VerdictOff || v == VerdictOK {
			v = f.Verdict
		}
	}
	return v
}
