package lane

import (
	"fmt"

	"weft/topo"
)

// The effects that draw random numbers, each from a stream of its own.
const (
	effectLoss uint64 = iota + 1
	effectChain
	effectDuplicate
	effectCorrupt
	effectBit
	effectJitter
	effectReorder
	effectRED
	effectFlow
	effectSlot
	effectCount
)

// A chain is a Markov chain of two states, with a probability of loss in each: Gilbert's and
// Elliott's channel.
type chain struct {
	toBad, toGood     float64
	lossGood, lossBad float64
}

// newChain returns the chain that an impairment asks for.
func newChain(i topo.Impairment) (chain, error) {
	if g := i.GilbertElliott; g != (topo.GilbertElliott{}) {
		return chain{
			toBad: g.P.Probability(), toGood: g.R.Probability(),
			lossGood: g.Good.Probability(), lossBad: g.Bad.Probability(),
		}, nil
	}
	loss := i.Loss.Probability()
	if i.LossBurst == 0 || loss == 0 || loss == 1 {
		return chain{lossGood: loss, lossBad: loss}, nil
	}
	// In the long run, a share toBad/(toBad+toGood) is lost.
	toGood := 1 / i.LossBurst
	toBad := toGood * loss / (1 - loss)
	if toBad > 1 {
		return chain{}, fmt.Errorf("loss=%v in bursts of %v frames cannot be: between two bursts there is a frame at least; write a loss_burst of %.3g or more",
			float64(i.Loss), i.LossBurst, loss/(1-loss))
	}
	return chain{toBad: toBad, toGood: toGood, lossBad: 1}, nil
}

// step moves the state for a frame.
func (c *chain) step(s stream, number uint64, bad bool) bool {
	if bad {
		return !s.chance(number, c.toGood)
	}
	return s.chance(number, c.toBad)
}

// lost reports whether a frame is lost in a state.
func (c *chain) lost(s stream, number uint64, bad bool) bool {
	p := c.lossGood
	if bad {
		p = c.lossBad
	}
	return p > 0 && s.chance(number, p)
}
