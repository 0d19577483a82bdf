package lane

import (
	"weft/link"
	"weft/topo"
)

// A stream is a sequence of random numbers of which each can be had by its place: the
// outputs of SplitMix64 (Steele, Lea and Flood 2014). A frame's fate thus depends on the
// seed, the effect and the frame's number alone; not on time or on other frames.
type stream uint64

const golden = 0x9e3779b97f4a7c15

// newStream returns the stream of one effect.
func newStream(seed uint64, effect uint64) stream {
	return stream(mix(mix(seed+golden) + effect*golden))
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// at returns the n-th number.
func (s stream) at(n uint64) uint64 { return mix(uint64(s) + n*golden) }

// unit returns the n-th number in [0, 1).
func (s stream) unit(n uint64) float64 { return float64(s.at(n)>>11) * 0x1p-53 }

// open returns the n-th number in (0, 1).
func (s stream) open(n uint64) float64 { return (float64(s.at(n)>>12) + 0.5) * 0x1p-52 }

// chance reports whether the n-th event of probability p happens.
func (s stream) chance(n uint64, p float64) bool { return s.unit(n) < p }

// deviate returns the n-th deviation of a distribution, in units of the jitter.
func (s stream) deviate(n uint64, d topo.Distribution) float64 { return link.Deviation(d, s.open(n)) }
