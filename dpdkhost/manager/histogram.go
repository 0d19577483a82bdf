package manager

import (
	"math/bits"
	"time"
)

// A Histogram counts times in buckets of which each is an eighth of a power of two wide, so
// that a percentile is right within 12 %.
type Histogram struct {
	counts [8 * 40]uint64
	total  uint64
}

// Add counts a time.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))]++
	h.total++
}

func bucketOf(n uint64) int {
	if n < 8 {
		return int(n)
	}
	shift := bits.Len64(n) - 4
	return min(8*(shift+1)+int(n>>shift)-8+0, 8*40-1)
}

// Percentile returns the time that a share (0 to 1) of the counted did not exceed; 0 if
// nothing was counted.
func (h *Histogram) Percentile(share float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	left := min(uint64(share*float64(h.total)), h.total-1)
	for b, n := range h.counts {
		if n > left {
			if b < 8 {
				return time.Duration(b)
			}
			return time.Duration(uint64(b%8+8) << (b/8 - 1))
		}
		left -= n
	}
	return 0
}
