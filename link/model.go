package link

import (
	"fmt"
	"math"
	"time"

	"weft/topo"
)

// EthernetLen is the length of an Ethernet header, bytes.
const EthernetLen = 14

// The least of a default queue, see topo.Queue.
const (
	queueTime   = 100 * time.Millisecond
	queueFrames = 20
)

// QueueLimit returns the bound of the queue that an impairment asks for, in frames or else in bytes,
// at a rate in bits a second. One that is 0 is no bound.
func QueueLimit(i topo.Impairment, rate float64, mtu int) (frames int, bytes int64) {
	frame := int64(mtu + EthernetLen)
	carries := func(d time.Duration) int64 { return int64(rate / 8 * d.Seconds()) }
	switch q := i.Queue; {
	case q.Packets != 0:
		return q.Packets, 0
	case q.Bytes != 0:
		return 0, q.Bytes
	case q.Time != 0:
		return 0, max(carries(q.Time), frame)
	}
	return 0, max(carries(max(queueTime, 2*i.Delay)), queueFrames*frame)
}

// A LossChain is a Markov chain of two states, with a probability of loss in each: Gilbert's
// and Elliott's channel.
type LossChain struct {
	ToBad, ToGood     float64
	LossGood, LossBad float64
}

// NewLossChain returns the chain that an impairment asks for. Independent loss is one that never
// leaves its good state.
func NewLossChain(i topo.Impairment) (LossChain, error) {
	if g := i.GilbertElliott; g != (topo.GilbertElliott{}) {
		return LossChain{
			ToBad: g.P.Probability(), ToGood: g.R.Probability(),
			LossGood: g.Good.Probability(), LossBad: g.Bad.Probability(),
		}, nil
	}
	loss := i.Loss.Probability()
	if i.LossBurst == 0 || loss == 0 || loss == 1 {
		return LossChain{LossGood: loss, LossBad: loss}, nil
	}
	// In the long run, a share ToBad/(ToBad+ToGood) is lost.
	toGood := 1 / i.LossBurst
	toBad := toGood * loss / (1 - loss)
	if toBad > 1 {
		return LossChain{}, fmt.Errorf("loss=%v in bursts of %v frames cannot be: between two bursts there is a frame at least; write a loss_burst of %.3g or more",
			float64(i.Loss), i.LossBurst, loss/(1-loss))
	}
	return LossChain{ToBad: toBad, ToGood: toGood, LossBad: 1}, nil
}

// Deviation is the inverse of a distribution's cumulative function for u in (0, 1), in units of the
// jitter: uniform in (-1, 1), the others with the shape of tc-netem(8)'s tables.
func Deviation(d topo.Distribution, u float64) float64 {
	switch d {
	case topo.Normal:
		return normal(u)
	case topo.Pareto:
		return pareto(u)
	case topo.ParetoNormal:
		return normal(u)/4 + pareto(u)*3/4
	default:
		return 2*u - 1
	}
}

func normal(u float64) float64 { return math.Sqrt2 * math.Erfinv(2*u-1) }

// maxDeviation is that of tables of 16 bits with 8192 for 1.
const maxDeviation = 32767.0 / 8192

// pareto is what fills iproute2's pareto.dist: exponent 3, mean taken away, scaled by 4/3.
func pareto(u float64) float64 {
	return min((math.Pow(1-u, -1.0/3)-1.5)*4/3, maxDeviation)
}
