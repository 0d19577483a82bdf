package lane

import "weft/link"

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

// A chain is the link's, as it moves.
type chain struct{ link.LossChain }

// step moves the state for a frame.
func (c *chain) step(s stream, number uint64, bad bool) bool {
	if bad {
		return !s.chance(number, c.ToGood)
	}
	return s.chance(number, c.ToBad)
}

// lost reports whether a frame is lost in a state.
func (c *chain) lost(s stream, number uint64, bad bool) bool {
	p := c.LossGood
	if bad {
		p = c.LossBad
	}
	return p > 0 && s.chance(number, p)
}
