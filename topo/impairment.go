package topo

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// An Impairment is what a link does to the frames that cross it in one direction. The
// zero value does nothing. Frames pass in this order:
//
//	loss ─► duplication ─► corruption ─► queue ─► rate ─► delay, jitter, reordering ─► slot
//
// Probabilities are independent for each frame and each effect. A frame's size is that of
// its Ethernet frame without preamble and frame check sequence, as tc(8) counts.
type Impairment struct {
	Rate  Rate          // of the bottleneck; 0 for no limit
	Burst int64         // bytes that may pass at once after a pause; 0: a frame leaves with its last bit
	Delay time.Duration // one-way; excludes the time in the queue
	// Jitter is the largest deviation from Delay of the uniform distribution, the standard
	// deviation of the others; a delay is never below zero.
	Jitter       time.Duration
	Distribution Distribution // of the jitter; empty means uniform
	// Overtake lets frames that jitter delays less overtake those before them.
	Overtake bool
	Loss     Percent // in the long run
	// LossBurst is the mean number of frames lost in a row with Loss (a Markov chain of two
	// states); 0 for independent loss.
	LossBurst float64
	// GilbertElliott loses frames instead of Loss, by a chain of four probabilities.
	GilbertElliott GilbertElliott
	Drop           Ranges // numbers of the frames to lose, counted from 1 for each direction
	DropIf         string // capture filter (pcap-filter(7)) of frames to lose
	Duplicate      Percent
	Corrupt        Percent // one random bit of the frame is inverted
	// Reorder is the share of frames that skip the delay, and so overtake. With ReorderGap
	// n only every n-th frame may.
	Reorder    Percent
	ReorderGap int
	Queue      Queue
	AQM        AQM // empty means droptail
	// ECN marks frames of ECN-capable flows (RFC 3168) where AQM would drop.
	ECN bool
	// AQMTarget and AQMInterval are CoDel's (RFC 8289: 5 ms and 100 ms when 0).
	AQMTarget, AQMInterval time.Duration
	// RED (Floyd and Jacobson 1993): thresholds of the mean queue in bytes, and the
	// probability of a drop at the upper; 0: a quarter and three quarters of the queue, 10 %.
	REDMin, REDMax int64
	REDProbability Percent
	Slot           Slot
	// Trace is a file with rate, delay and loss over time, which overrides those above: a
	// Mahimahi trace (milliseconds in which 1,504 bytes may leave), or CSV with the columns
	// time, rate, delay, loss. It starts over at its end.
	Trace string
}

// IsZero reports whether the impairment does nothing.
func (i Impairment) IsZero() bool { return i == Impairment{} }

// Options returns the options that LinkSettings.Set would take to give one direction this
// impairment, without that direction's prefix.
func (i Impairment) Options() []string {
	var list []string
	for _, k := range linkKeys() {
		if !k.Way {
			continue
		}
		if text := k.text(nil, &i); text != "" {
			list = append(list, k.Name+"="+text)
		}
	}
	return list
}

// A Rate is in bits a second.
type Rate uint64

// The lowest and the highest rate of a link.
const (
	MinRate Rate = 1_000
	MaxRate Rate = 40_000_000_000
)

// A Percent is a share from 0 to 100.
type Percent float64

// Probability returns the share from 0 to 1.
func (p Percent) Probability() float64 { return float64(p) / 100 }

// A Distribution is the form of the jitter.
type Distribution string

// The distributions. Pareto is that of tc-netem(8), with its long tail to later times;
// ParetoNormal is a quarter of normal and three quarters of pareto.
const (
	Uniform      Distribution = "uniform"
	Normal       Distribution = "normal"
	Pareto       Distribution = "pareto"
	ParetoNormal Distribution = "paretonormal"
)

// An AQM says which frame a queue drops, and when (active queue management).
type AQM string

// The disciplines.
const (
	DropTail AQM = "droptail"
	RED      AQM = "red"
	CoDel    AQM = "codel"    // RFC 8289
	FQCoDel  AQM = "fq_codel" // RFC 8290
)

// A Queue bounds the frames that wait for the rate, in one of three units. All zero: what
// the rate carries in the larger of 100 ms and twice the delay, at least 20 frames of the
// MTU; so a TCP flow can fill the link.
type Queue struct {
	Packets int
	Bytes   int64
	Time    time.Duration // at the link's rate
}

// GilbertElliott is a channel with a good and a bad state, as in tc-netem(8)'s gemodel:
// before each frame it goes from good to bad with P, from bad to good with R; the bad state
// loses Bad (1-h), the good state Good (1-k).
type GilbertElliott struct{ P, R, Bad, Good Percent }

// A Slot holds frames back and delivers them in bursts, as a medium does that many share:
// a burst every Min to Max, of at most Packets and Bytes where these are not 0.
type Slot struct {
	Min, Max time.Duration
	Packets  int
	Bytes    int64
}

// Ranges is a set of numbers from 1 as text: "3+10-12".
type Ranges string

// List returns the ranges, each with its first and last number, in the order written.
func (r Ranges) List() ([][2]uint64, error) {
	var list [][2]uint64
	for part := range strings.SplitSeq(string(r), "+") {
		if part == "" && r == "" {
			break
		}
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		a, errA := strconv.ParseUint(low, 10, 64)
		b, errB := strconv.ParseUint(high, 10, 64)
		if errA != nil || errB != nil || a == 0 || b < a {
			return nil, fmt.Errorf("%q is not a list of numbers from 1; write for example 3+10-12", string(r))
		}
		list = append(list, [2]uint64{a, b})
	}
	return list, nil
}

// String writes the rate as tc does: the largest unit without a fraction.
func (r Rate) String() string {
	for _, u := range rateUnits {
		if r >= u.bits && r%u.bits == 0 {
			return strconv.FormatUint(uint64(r/u.bits), 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(r), 10) + "bit"
}

var rateUnits = []struct {
	name string
	bits Rate
}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}

// ParseRate reads a rate: a number of Mbit/s as Mininet's bw, or one with a unit (bit,
// kbit, mbit, gbit).
func ParseRate(text string) (Rate, error) {
	lower := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(text)), "/s")
	unit := Rate(1e6)
	number := lower
	for _, u := range rateUnits {
		if n, ok := strings.CutSuffix(lower, u.name); ok {
			number, unit = n, u.bits
			break
		}
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a rate; write 10 (Mbit/s), 64kbit, 10mbit or 2.5gbit", text)
	}
	bits := math.Round(f * float64(unit))
	if bits != 0 && (bits < float64(MinRate) || bits > float64(MaxRate)) {
		return 0, fmt.Errorf("%s is not between %s and %s", text, MinRate, MaxRate)
	}
	return Rate(bits), nil
}

// check returns what is wrong with settings that are right one by one.
func (i Impairment) check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if i.Distribution != "" && i.Distribution != Uniform && i.Jitter == 0 {
		fail("distribution %s is that of the jitter; write jitter too", i.Distribution)
	}
	if i.Overtake && i.Jitter == 0 {
		fail("frames overtake by jitter; write jitter too")
	}
	if i.LossBurst != 0 && i.Loss == 0 {
		fail("loss_burst is the length of losses; write loss too")
	}
	if i.Loss == 100 && i.LossBurst != 0 {
		fail("a loss of 100 %% has no bursts; leave loss_burst out")
	}
	if i.GilbertElliott != (GilbertElliott{}) && i.Loss != 0 {
		fail("loss and gemodel both say which frames are lost; leave one out")
	}
	if i.Reorder != 0 && i.Delay == 0 {
		fail("reorder lets frames skip the delay; write delay too")
	}
	if i.ReorderGap != 0 && i.Reorder == 0 {
		fail("reorder_gap says which frames may be reordered; write reorder too")
	}
	if i.Queue.Time != 0 && i.Rate == 0 && i.Trace == "" {
		fail("a queue of %s needs a rate; write bw too", i.Queue.Time)
	}
	if i.AQM != "" && i.AQM != DropTail && i.Rate == 0 && i.Trace == "" {
		fail("%s manages the queue before a rate; write bw too", i.AQM)
	}
	if i.ECN && (i.AQM == "" || i.AQM == DropTail) {
		fail("ecn marks where aqm would drop; write aqm=red, codel or fq_codel too")
	}
	if (i.AQMTarget != 0 || i.AQMInterval != 0) && i.AQM != CoDel && i.AQM != FQCoDel {
		fail("aqm_target and aqm_interval are CoDel's; write aqm=codel or fq_codel too")
	}
	if (i.REDMin != 0 || i.REDMax != 0 || i.REDProbability != 0) && i.AQM != RED {
		fail("red_min, red_max and red_probability need aqm=red")
	}
	if i.REDMax != 0 && i.REDMax <= i.REDMin {
		fail("red_max is not above red_min")
	}
	if (i.Slot.Packets != 0 || i.Slot.Bytes != 0) && i.Slot.Max == 0 {
		fail("slot_packets and slot_bytes bound a slot; write slot too")
	}
	if i.Burst != 0 && i.Rate == 0 {
		fail("burst belongs to a rate; write bw too")
	}
	return errors.Join(errs...)
}
