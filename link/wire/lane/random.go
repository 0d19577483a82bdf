package lane

import (
	"math"

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

// deviate returns the n-th deviation of a distribution: uniform in [-1, 1), the others with
// the shape of tc-netem(8)'s tables.
func (s stream) deviate(n uint64, d topo.Distribution) float64 {
	switch u := s.open(n); d {
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
// u grows with the deviation.
func pareto(u float64) float64 {
	return min((math.Pow(1-u, -1.0/3)-1.5)*4/3, maxDeviation)
}
