package netem

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"weft/link"
	"weft/topo"
)

// stages is what qdiscs are to do for one way.
type stages struct {
	fate netem
	rate *rate // nil: no limit
	// early is what of the queue is in wait, bytes.
	early uint64
	wait  netem
	// segments bounds the frames that one of the kernel's may stand for when it is sent.
	segments int
	// linear says that frames are to be sent in one piece of memory: netem corrupts only the
	// first.
	linear bool
}

// A rate is a TBF with the queue that is its child.
type rate struct {
	tbf  tbf
	leaf qdisc
}

// replaces reports whether the queue can become that of next only by being replaced.
func (r *rate) replaces(next *rate) bool {
	if r.leaf.kind() != next.leaf.kind() {
		return true
	}
	_, isRED := r.leaf.(red)
	return isRED && r.leaf != next.leaf // sch_red empties its queue
}

const (
	// slack is how late timers may be without loss to the rate, where netem does not part the
	// frames: so much more may TBF let pass at once.
	slack = time.Millisecond
	// gsoTime bounds the frames that one of the kernel's may stand for, by the time at the rate.
	gsoTime = 100 * time.Microsecond
	// vlanTags is what two tags (IEEE 802.1ad) add to a frame, bytes.
	vlanTags = 8
	// allSegments is the kernel's default, GSO_MAX_SEGS.
	allSegments = 65535

	minFrame = 60 // bytes
	// packetRate is more than one machine sends.
	packetRate = 2_000_000
	minLimit   = 10_000
	maxLimit   = 1 << 24

	// maxSigma is what a random time of netem's is held in, 32 bits of nanoseconds.
	maxSigma = math.MaxInt32 * time.Nanosecond
)

// unsupported is an error of what the qdiscs cannot do.
func unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errors.ErrUnsupported)...)
}

// plan turns an impairment into stages. Its errors wrap errors.ErrUnsupported if another driver
// could do what is asked.
func plan(i topo.Impairment, mtu int) (stages, error) {
	s := stages{segments: allSegments}
	err := errors.Join(s.setFate(i), s.setRate(i, mtu), s.setWait(i))
	s.wait.limit = uint32(min(maxLimit, uint64(s.wait.limit)+s.early/minFrame))
	if err != nil {
		return s, lineError{err}
	}
	if i.Rate != 0 {
		s.segments = int(min(allSegments, max(1, float64(i.Rate)/8*gsoTime.Seconds()/float64(mtu+link.EthernetLen))))
	}
	if s.fate.impairs() || s.wait.jitter != 0 || s.wait.reorder != 0 || s.wait.slot != (slot{}) || i.Queue.Packets != 0 || i.AQM != "" && i.AQM != topo.DropTail {
		s.segments = 1
	}
	s.linear = i.Corrupt != 0
	return s, nil
}

// A lineError writes errors that were joined in one line.
type lineError struct{ error }

func (e lineError) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }
func (e lineError) Unwrap() error { return e.error }

// impairs reports whether frames are lost, doubled or damaged.
func (n netem) impairs() bool {
	return n.loss != 0 || n.chain != nil || n.duplicate != 0 || n.corrupt != 0
}

// together returns one netem that does what both do, if there is no rate between them.
func (s stages) together() netem {
	n := s.wait
	n.loss, n.chain, n.duplicate, n.corrupt = s.fate.loss, s.fate.chain, s.fate.duplicate, s.fate.corrupt
	return n
}

// share is a probability of 2^32.
func share(p float64) uint32 { return uint32(min(math.MaxUint32, max(0, math.Round(p*(1<<32))))) }

func (s *stages) setFate(i topo.Impairment) error {
	// Frames do not stay here.
	s.fate = netem{limit: minLimit, rate: noTime, corrupt: share(i.Corrupt.Probability())}
	switch {
	case i.Trace != "":
		return unsupported("netem follows no trace")
	case i.Drop != "":
		return unsupported("netem loses no frames by number")
	case i.DropIf != "":
		return unsupported("netem loses no frames by filter")
	}
	chain, err := link.NewLossChain(i)
	if err != nil {
		return err
	}
	loss, duplicate := chain.LossGood, i.Duplicate.Probability()
	if chain.ToBad != 0 || chain.LossGood != chain.LossBad {
		if duplicate != 0 {
			return unsupported("netem cannot both lose frames in bursts and send some twice")
		}
		s.fate.chain = &lossChain{share(chain.ToBad), share(chain.ToGood), share(1 - chain.LossBad), share(chain.LossGood)}
		return nil
	}
	if loss != 0 && loss != 1 && duplicate != 0 {
		if loss, duplicate, err = lossAndCopies(loss, duplicate); err != nil {
			return err
		}
	}
	s.fate.loss, s.fate.duplicate = share(loss), share(duplicate)
	return nil
}

// lossAndCopies returns the probabilities by which netem loses a share of frames and sends a
// share of the others twice. To netem, a frame that is both lost and doubled arrives once, and the
// copy may be lost again:
//
//	none arrives: p (1-d)     two arrive: d (1-p)²
func lossAndCopies(loss, duplicate float64) (p, d float64, err error) {
	twice := func(d float64) float64 {
		p := loss / (1 - d)
		return d * (1 - p) * (1 - p)
	}
	// It grows from 0 at d = 0 to its peak.
	low, high := 0.0, 0.0
	for d := 0.0; d < 1-loss; d += 1e-3 {
		if twice(d) > twice(high) {
			high = d
		}
	}
	want := (1 - loss) * duplicate
	if twice(high) < want {
		return 0, 0, unsupported("netem cannot lose %g %% of frames and send %g %% of the others twice", 100*loss, 100*duplicate)
	}
	for range 60 {
		if mid := (low + high) / 2; twice(mid) < want {
			low = mid
		} else {
			high = mid
		}
	}
	return loss / (1 - high), high, nil
}

func (s *stages) setRate(i topo.Impairment, mtu int) error {
	if i.Rate == 0 {
		return nil
	}
	frame := mtu + link.EthernetLen
	bytes := uint64(i.Rate) / 8
	leaf, err := queue(i, mtu)
	if err != nil {
		return err
	}
	extra := float64(bytes) * slack.Seconds()
	r := &rate{leaf: leaf}
	if f, ok := leaf.(fifo); ok {
		switch {
		case f.frames:
			extra = min(extra, float64(f.limit)/2*float64(frame))
			f.limit -= uint32(extra / float64(frame))
		case parted(i):
			// Half of the queue waits in netem. TBF lets it go by tokens that come as fast as netem
			// sends: together they are full when one queue would be. But netem works off what is
			// due however late it is called, and TBF may be late by as long as that half takes.
			s.early = uint64(f.limit / 2)
			f.limit -= f.limit / 2
			extra = float64(s.early)
		}
		r.leaf, r.tbf.limit = f, f.limit
	}
	burst := max(float64(i.Burst), float64(frame+vlanTags)) + extra
	if burst > math.MaxUint32 {
		return unsupported("a burst of %d bytes is more than TBF's 4 GB", i.Burst)
	}
	r.tbf.rate, r.tbf.burst = bytes, uint32(burst)
	s.rate = r
	return nil
}

// parted reports whether netem parts the frames that TBF lets pass at once, and delays each by the
// time that it takes at the rate.
func parted(i topo.Impairment) bool { return i.Rate != 0 && i.Burst == 0 && i.Jitter == 0 }

// noRate is what takes the place of a rate that is gone.
func noRate() *rate {
	const plenty = math.MaxInt32
	return &rate{tbf{rate: noTime, burst: plenty, limit: plenty}, fifo{limit: plenty}}
}

// CoDel's and RED's settings that topo.Impairment leaves to them.
const (
	codelTarget    = 5 * time.Millisecond
	codelInterval  = 100 * time.Millisecond
	redProbability = 0.1
	redSmall       = 125 // bytes of a typical small frame
	// maxRED is the upper threshold that sch_red can average.
	maxRED = 1 << (31 - redWeight)
	// codelMax is CoDel's time in 2^-30 s, 32 bits of which are compared by their difference.
	codelMax = time.Second
)

// queue returns the queue before a rate.
func queue(i topo.Impairment, mtu int) (qdisc, error) {
	frames, bytes := link.QueueLimit(i, float64(i.Rate), mtu)
	frame := int64(mtu + link.EthernetLen)
	if i.Queue == (topo.Queue{}) {
		bytes = min(bytes, math.MaxUint32)
	}
	if bytes > math.MaxUint32 {
		return nil, unsupported("a queue of %d bytes is more than the kernel's 4 GB", bytes)
	}
	switch i.AQM {
	case topo.RED:
		if frames != 0 {
			bytes = min(math.MaxUint32, int64(frames)*frame)
		}
		r := red{limit: uint32(bytes), ecn: i.ECN, rate: uint64(i.Rate) / 8, frame: redSmall}
		low, high, p := i.REDMin, i.REDMax, i.REDProbability.Probability()
		if low == 0 {
			low = bytes / 4
		}
		if high == 0 {
			high = bytes * 3 / 4
		}
		if p == 0 {
			p = redProbability
		}
		if high >= maxRED {
			return nil, unsupported("sch_red takes thresholds below %d bytes, not %d", maxRED, high)
		}
		if high <= low {
			return nil, fmt.Errorf("RED's thresholds %d and %d bytes do not fit together; write red_min and red_max", low, high)
		}
		r.min, r.max, r.probability = uint32(low), uint32(high), share(p)
		return r, nil
	case topo.CoDel, topo.FQCoDel:
		if frames == 0 {
			frames = int(max(1, bytes/frame))
		}
		c := codel{fair: i.AQM == topo.FQCoDel, limit: uint32(frames), target: codelTarget, interval: codelInterval, ecn: i.ECN, frame: uint32(frame)}
		if i.AQMTarget != 0 {
			c.target = i.AQMTarget
		}
		if i.AQMInterval != 0 {
			c.interval = i.AQMInterval
		}
		if max(c.target, c.interval) > codelMax {
			return nil, unsupported("sch_%s takes times up to %v", c.kind(), codelMax)
		}
		return c, nil
	}
	if frames != 0 {
		return fifo{frames: true, limit: uint32(frames)}, nil
	}
	return fifo{limit: uint32(bytes)}, nil
}

func (s *stages) setWait(i topo.Impairment) error {
	if i.Jitter > maxSigma {
		return unsupported("netem takes a jitter up to %v, not %v", maxSigma, i.Jitter)
	}
	if i.Slot.Max-i.Slot.Min > maxSigma {
		return unsupported("netem takes slots that differ by %v at most", maxSigma)
	}
	if i.Slot.Bytes > math.MaxInt32 || i.Slot.Packets > math.MaxInt32 {
		return unsupported("netem takes slots of %d frames and bytes at most", math.MaxInt32)
	}
	n := netem{delay: i.Delay, jitter: i.Jitter}
	if !i.Overtake {
		n.rate = noTime
	}
	if parted(i) {
		// Faster by a trace, so that nothing gathers.
		n.rate = uint64(i.Rate) / 8 * 1001 / 1000
	}
	if i.Jitter != 0 {
		n.table = table(i.Distribution)
	}
	if i.Reorder != 0 {
		n.reorder, n.gap = share(i.Reorder.Probability()), uint32(max(1, i.ReorderGap))
	}
	n.slot = slot{i.Slot.Min, i.Slot.Max, int32(i.Slot.Packets), int32(i.Slot.Bytes)}
	n.limit = inFlight(i)
	s.wait = n
	return nil
}

// inFlight bounds the frames that may be on their way at once.
func inFlight(i topo.Impairment) uint32 {
	longest := i.Delay + 4*i.Jitter + 2*i.Slot.Max
	frames := packetRate * longest.Seconds()
	if i.Rate != 0 {
		frames = min(frames, float64(i.Rate)/8/minFrame*longest.Seconds())
	}
	if i.Duplicate != 0 {
		frames *= 2
	}
	return uint32(min(maxLimit, minLimit+frames))
}

// tableSize is that of tc's tables.
const tableSize = 4096

// table is a distribution as netem takes it: its quantiles, 8192 for 1.
func table(d topo.Distribution) []int16 {
	t := make([]int16, tableSize)
	for i := range t {
		v := link.Deviation(d, (float64(i)+0.5)/tableSize) * 8192
		t[i] = int16(min(math.MaxInt16, max(math.MinInt16, math.Round(v))))
	}
	return t
}
