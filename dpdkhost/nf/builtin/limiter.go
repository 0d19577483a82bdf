package builtin

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
	"weft/topo"
)

const limiterText = `
A token bucket for all packets, or one for each source, destination or flow. What exceeds the
rate after a burst is dropped, not kept for later: TCP alone gets less than the rate. The rate is
that of Ethernet frames without preamble and check sum.`

type limiter struct {
	clock
	key     func(nf.Flow) nf.Flow
	rate    float64 // bytes a second
	burst   float64
	buckets *table[nf.Flow, bucket]
	idle    time.Duration
	passed  uint64
	dropped uint64
	full    uint64
	sweep   time.Time
}

// A bucket had so many tokens, bytes, at a moment.
type bucket struct {
	tokens float64
	at     time.Time
}

func defineLimiter(flags *pflag.FlagSet) func() (nf.Function, error) {
	rate := flags.String("rate", "", "`rate`, such as 10mbit or 64kbit")
	burst := flags.Int("burst", 64<<10, "`bytes` that may pass at once")
	per := flags.String("per", "total", "what has a bucket of its own: total, source, destination or flow")
	limit := flags.Int("buckets", 65536, "how many buckets there may be; beyond them packets are dropped")
	return func() (nf.Function, error) {
		bits, err := topo.ParseRate(*rate)
		if err != nil {
			return nil, fmt.Errorf("--rate: %w", err)
		}
		if bits <= 0 {
			return nil, fmt.Errorf("--rate %s: nothing would pass", *rate)
		}
		key, err := parseFlowKey(*per)
		if err != nil {
			return nil, fmt.Errorf("--per: %w", err)
		}
		if *burst < 1518 {
			return nil, fmt.Errorf("--burst %d: no full frame would ever pass; write 1518 at least", *burst)
		}
		if *limit < 1 || *limit > 1<<22 {
			return nil, fmt.Errorf("--buckets %d: from 1 to %d", *limit, 1<<22)
		}
		l := &limiter{key: key, rate: float64(bits) / 8, burst: float64(*burst), buckets: newTable[nf.Flow, bucket](*limit)}
		// A bucket that had the time to fill up is like a new one.
		l.idle = time.Duration(l.burst / l.rate * float64(time.Second))
		return l, nil
	}
}

func (l *limiter) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		h := p.Headers()
		size := float64(p.Len())
		b := l.bucket(l.key(h.Flow(p.Data())))
		if b == nil {
			l.full++
			p.Drop()
			continue
		}
		b.tokens = min(l.burst, b.tokens+l.now.Sub(b.at).Seconds()*l.rate)
		b.at = l.now
		if b.tokens < size {
			l.dropped++
			p.Drop()
			continue
		}
		b.tokens -= size
		l.passed++
		p.Next()
	}
}

func (l *limiter) bucket(f nf.Flow) *bucket {
	b := l.buckets.get(f, l.now)
	if b == nil {
		if b = l.buckets.add(f, l.now); b != nil {
			*b = bucket{l.burst, l.now}
		}
	}
	return b
}

// Tick forgets buckets that are full again.
func (l *limiter) Tick(now time.Time, send []nf.Packet) (int, time.Duration) {
	if now.Sub(l.sweep) >= tickEvery {
		l.sweep = now
		l.buckets.each(func(f nf.Flow, b *bucket, used time.Time) {
			if now.Sub(used) > l.idle && b.tokens+now.Sub(b.at).Seconds()*l.rate >= l.burst {
				l.buckets.remove(f)
			}
		})
	}
	return l.clock.Tick(now, send)
}

// Counters shows packets that passed and that did not.
func (l *limiter) Counters(f func(string, uint64)) {
	buckets := uint64(l.buckets.len())
	show(f, counter{"passed", &l.passed}, counter{"dropped", &l.dropped}, counter{"buckets", &buckets}, counter{"noBucket", &l.full})
}
