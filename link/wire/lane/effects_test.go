package lane

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"weft/link"
	"weft/link/record"
	"weft/topo"
)

// chainOf returns which frames a chain loses.
func chainOf(t *testing.T, frames int, seed uint64, options ...string) (lost []bool) {
	t.Helper()
	l := newSim(t, seed, options...).lane
	for i := range uint64(frames) {
		l.bad = l.chain.step(l.streams[effectChain], i, l.bad)
		lost = append(lost, l.chain.lost(l.streams[effectLoss], i, l.bad))
	}
	return lost
}

// lossOf offers frames and returns which were lost.
func lossOf(t *testing.T, frames int, seed uint64, options ...string) []bool {
	t.Helper()
	s := newSim(t, seed, options...)
	frame := small(100)
	for i := range frames {
		s.offer(int64(i)*us, frame)
	}
	s.finish()
	var lost []bool
	for i, f := range s.fates() {
		if f.Number != uint64(i)+1 {
			t.Fatalf("frame %d has number %d", i, f.Number)
		}
		lost = append(lost, f.Fate == record.Lost)
	}
	return lost
}

func count(list []bool) (n int) {
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}

// checkShare checks a share of independent events: 99 % of all seeds are within this interval,
// and these seeds are.
func checkShare(t *testing.T, what string, got, of int, p float64) {
	t.Helper()
	deviation := 2.576 * math.Sqrt(float64(of)*p*(1-p))
	if d := math.Abs(float64(got) - float64(of)*p); d > deviation {
		t.Errorf("%s: %d of %d, want %.0f ± %.0f", what, got, of, float64(of)*p, deviation)
	}
}

const (
	many = 100_000
	some = 20_000
)

func TestLoss(t *testing.T) {
	for seed, percent := range []float64{0.1, 1, 10, 50} {
		lost := lossOf(t, many, uint64(seed), fmt.Sprintf("loss=%v", percent))
		checkShare(t, fmt.Sprintf("loss=%v", percent), count(lost), many, percent/100)
		// Independent of the frame before: as many pairs as there should be.
		pairs := 0
		for i := 1; i < len(lost); i++ {
			if lost[i] && lost[i-1] {
				pairs++
			}
		}
		checkShare(t, fmt.Sprintf("loss=%v, pairs", percent), pairs, many, percent*percent/1e4)
	}
	if lost := lossOf(t, 1000, 1, "loss=100"); count(lost) != 1000 {
		t.Errorf("loss=100 lost %d of 1000", count(lost))
	}
	if lost := lossOf(t, 1000, 1, "delay=1ms"); count(lost) != 0 {
		t.Error("frames are lost without loss")
	}
}

// bursts returns the lengths of losses in a row.
func bursts(lost []bool) (list []int) {
	n := 0
	for _, l := range append(slices.Clone(lost), false) {
		if l {
			n++
		} else if n > 0 {
			list = append(list, n)
			n = 0
		}
	}
	return list
}

// chiSquared returns Pearson's statistic.
func chiSquared(got []int, want []float64) (x float64) {
	for i := range got {
		d := float64(got[i]) - want[i]
		x += d * d / want[i]
	}
	return x
}

// geometric compares lengths with a geometric distribution whose mean is 1/p.
func geometric(t *testing.T, what string, lengths []int, p float64) {
	t.Helper()
	const classes = 10 // the last one is of all that are longer
	got, want := make([]int, classes), make([]float64, classes)
	for _, n := range lengths {
		got[min(n, classes)-1]++
	}
	for i := range classes {
		want[i] = float64(len(lengths)) * p * math.Pow(1-p, float64(i))
	}
	want[classes-1] /= p
	if x := chiSquared(got, want); x > 21.67 { // 99 % of chi-squared with 9 degrees of freedom
		t.Errorf("%s: chi-squared %.1f for %v, want %.0f", what, x, got, want)
	}
}

func TestLossBurst(t *testing.T) {
	lost := chainOf(t, 4*many, 3, "loss=5", "loss_burst=4")
	if share := float64(count(lost)) / 4 / many; math.Abs(share-0.05) > 0.003 {
		t.Errorf("%.4f are lost, want 0.05", share)
	}
	geometric(t, "bursts", bursts(lost), 1.0/4)
	for i := range lost {
		lost[i] = !lost[i]
	}
	geometric(t, "gaps", bursts(lost), 0.05/0.95/4)
	if _, err := New(NewPool(NewBudget(1e6)), 1, nil, 0, config(t, "loss=90", "loss_burst=2")); err == nil {
		t.Error("90 % in bursts of 2 is accepted")
	}
}

func TestGilbertElliott(t *testing.T) {
	// The bad state loses all, the good one nothing: bursts are the bad state's times.
	lost := chainOf(t, 4*many, 5, "gemodel=1/25")
	geometric(t, "bad", bursts(lost), 0.25)
	if share := float64(count(lost)) / 4 / many; math.Abs(share-1.0/26) > 0.002 {
		t.Errorf("%.4f are lost, want %.4f", share, 1.0/26)
	}
	// With losses in both states, frames of eight in a row fall into as many classes as they
	// have losses; what is expected is computed from the chain.
	const p, r, h, k = 0.05, 0.20, 0.60, 0.02
	lost = chainOf(t, 8*many, 6, "gemodel=5/20/60/2")
	got := make([]int, 9)
	for i := 0; i+8 <= len(lost); i += 8 {
		got[count(lost[i:i+8])]++
	}
	// states[s][n]: the probability to be in s with n losses so far
	states := [2][9]float64{{r / (p + r)}, {p / (p + r)}}
	for range 8 {
		var next [2][9]float64
		for n := range 9 {
			good := states[0][n]*(1-p) + states[1][n]*r
			bad := states[0][n]*p + states[1][n]*(1-r)
			next[0][n] += good * (1 - k)
			next[1][n] += bad * (1 - h)
			if n < 8 {
				next[0][n+1] += good * k
				next[1][n+1] += bad * h
			}
		}
		states = next
	}
	want := make([]float64, 9)
	for n := range want {
		want[n] = (states[0][n] + states[1][n]) * many
	}
	// Neighbouring groups depend on each other a little, so that the statistic is larger than
	// chi-squared's; by (1+λ⁸)/(1-λ⁸) at most, with λ the chain's second eigenvalue.
	lambda8 := math.Pow(1-p-r, 8)
	if x := chiSquared(got, want); x > 20.09*(1+lambda8)/(1-lambda8) {
		t.Errorf("chi-squared %.1f for %v, want %.0f", x, got, want)
	}
}

// kolmogorov compares a sample with a distribution.
func kolmogorov(t *testing.T, what string, sample []float64, cdf func(float64) float64) {
	t.Helper()
	slices.Sort(sample)
	n := float64(len(sample))
	d := 0.0
	for i, x := range sample {
		f := cdf(x)
		d = max(d, math.Abs(f-float64(i)/n), math.Abs(f-float64(i+1)/n))
	}
	if limit := 1.628 / math.Sqrt(n); d > limit { // 99 %
		t.Errorf("%s: D = %.5f, want at most %.5f", what, d, limit)
	}
}

func TestJitter(t *testing.T) {
	const maxDeviation = 32767.0 / 8192 // a table of 16 bits, with 8192 for 1
	normalCDF := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	for _, c := range []struct {
		distribution topo.Distribution
		cdf          func(x float64) float64 // of the deviation in units of the jitter
		low, high    float64
	}{
		{topo.Uniform, func(x float64) float64 { return min(1, max(0, (x+1)/2)) }, -1, 1},
		{topo.Normal, normalCDF, -6, 6},
		// From iproute2's pareto.c: x = (u^(-1/3)-1.5)*4/3, cut where a table of 16 bits ends.
		{topo.Pareto, func(x float64) float64 {
			if x >= maxDeviation {
				return 1
			}
			return 1 - math.Pow(x*3/4+1.5, -3)
		}, -2.0 / 3, maxDeviation},
		{topo.ParetoNormal, nil, -3, 5},
	} {
		s := newSim(t, 11, "delay=100ms", "jitter=10ms", "overtake=true", "distribution="+string(c.distribution))
		frame := small(100)
		for i := range some {
			s.offer(int64(i)*ms, frame)
		}
		s.finish()
		var sample []float64
		sum, squares := 0.0, 0.0
		for _, d := range s.delays() {
			x := float64(d-100*time.Millisecond) / float64(10*time.Millisecond)
			if x < c.low || x > c.high+1e-6 {
				t.Errorf("%s: a deviation of %v", c.distribution, x)
			}
			sum += x
			squares += x * x
			sample = append(sample, x)
		}
		t.Logf("%s: mean %.4f, standard deviation %.4f", c.distribution, sum/some, math.Sqrt(squares/some))
		if math.Abs(sum/some) > 0.05 { // what the table's end cuts off is missing in the mean
			t.Errorf("%s: the mean deviation is %.4f", c.distribution, sum/some)
		}
		switch c.distribution {
		case topo.Pareto: // what the table's end cuts off is one value
			sample = slices.DeleteFunc(sample, func(x float64) bool { return x > maxDeviation-1e-4 })
			share := c.cdf(maxDeviation - 1e-4)
			kolmogorov(t, "pareto", sample, func(x float64) float64 { return c.cdf(x) / share })
			checkShare(t, "pareto, end", some-len(sample), some, 1-share)
		case topo.ParetoNormal:
			// Quantiles of both, added.
			kolmogorov(t, "paretonormal", sample, func(x float64) float64 {
				low, high := 0.0, 1.0
				for range 60 {
					u := (low + high) / 2
					v := link.Deviation(topo.Normal, u)/4 + math.Min((math.Pow(1-u, -1.0/3)-1.5)*4/3, maxDeviation)*3/4
					if v < x {
						low = u
					} else {
						high = u
					}
				}
				return low
			})
		default:
			kolmogorov(t, string(c.distribution), sample, c.cdf)
		}
	}
}

// Jitter keeps the order of frames unless they may overtake; and no delay is below zero.
func TestJitterOrder(t *testing.T) {
	for _, overtake := range []bool{false, true} {
		s := newSim(t, 2, "delay=1ms", "jitter=5ms", fmt.Sprintf("overtake=%v", overtake))
		for i := range 1000 {
			s.offer(int64(i)*100*us, small(100))
		}
		c := s.finish()
		behind := 0
		var last uint64
		for _, f := range s.end {
			if f.Number < last {
				behind++
			}
			last = f.Number
			if f.Delay() < 0 {
				t.Fatalf("a delay of %v", f.Delay())
			}
		}
		if (behind > 0) != overtake || (c.Reordered > 0) != overtake {
			t.Errorf("overtake=%v: %d frames behind, %d counted as reordered", overtake, behind, c.Reordered)
		}
	}
}

func TestDuplicate(t *testing.T) {
	s := newSim(t, 1, "duplicate=10", "delay=1ms")
	for i := range some {
		s.offer(int64(i)*us, small(100))
	}
	c := s.finish()
	checkShare(t, "duplicates", int(c.Duplicated), some, 0.1)
	if c.Delivered != some+c.Duplicated {
		t.Errorf("%+v", c)
	}
}

func TestCorruptShare(t *testing.T) {
	s := newSim(t, 1, "corrupt=3")
	for i := range some {
		s.offer(int64(i)*us, small(100))
	}
	checkShare(t, "corrupt", int(s.finish().Corrupted), some, 0.03)
}

func TestReorder(t *testing.T) {
	s := newSim(t, 1, "delay=10ms", "reorder=25")
	for i := range some {
		s.offer(int64(i)*us, small(100))
	}
	c := s.finish()
	checkShare(t, "reordered", int(c.Reordered), some, 0.25)
	for _, d := range s.delays() {
		if d != 0 && d != 10*time.Millisecond {
			t.Fatalf("a delay of %v", d)
		}
	}
	s = newSim(t, 1, "delay=10ms", "reorder=100", "reorder_gap=5")
	for i := range 100 {
		s.offer(int64(i)*us, small(100))
	}
	s.finish()
	for _, f := range s.end {
		if (f.Delay() == 0) != (f.Number%5 == 0) {
			t.Fatalf("frame %d had a delay of %v", f.Number, f.Delay())
		}
	}
}

func TestDropList(t *testing.T) {
	s := newSim(t, 1, "drop=3+10-12+20")
	s.offer(0, shape{tcp: true, payload: 15 * 1000, segment: 1000}.frame()) // 1 to 15
	for range 10 {
		s.offer(0, small(60))
	}
	s.finish()
	var filtered []uint64
	for _, f := range s.fates() {
		if f.Fate == record.Filtered {
			filtered = append(filtered, f.Number)
		}
	}
	if want := []uint64{3, 10, 11, 12, 20}; !slices.Equal(filtered, want) {
		t.Errorf("%v, want %v", filtered, want)
	}
}

// A filter sees each frame as it is on a wire.
func TestDropIf(t *testing.T) {
	// Frames whose TCP sequence number ends in 0xd0, and that have 1,054 bytes.
	vm, err := bpf.NewVM([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 14 + 20 + 7, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0xd0, SkipFalse: 3},
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 1054, SkipFalse: 1},
		bpf.RetConstant{Val: 1},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newSim(t, 1)
	cfg := Config{Filter: vm}
	cfg.DropIf = "a filter"
	if err := s.lane.Set(0, cfg); err != nil {
		t.Fatal(err)
	}
	// Sequence numbers are 0xffffff00 + 1000 n: 0xd0 for n = 2 (2000 = 0x7d0), and each 32nd on.
	s.offer(0, shape{tcp: true, payload: 40*1000 - 1, segment: 1000}.frame())
	s.finish()
	for _, f := range s.fates() {
		if want := f.Number == 3 || f.Number == 35; (f.Fate == record.Filtered) != want {
			t.Errorf("frame %d: %s", f.Number, f.Fate)
		}
	}
	cfg.Filter = nil
	if err := s.lane.Set(0, cfg); err == nil {
		t.Error("drop_if without its filter is accepted")
	}
}

func TestMTU(t *testing.T) {
	s := newSim(t, 1, "mtu=1000", "delay=1ms")
	s.offer(0, small(1014))
	s.offer(0, shape{payload: 1000 - 28, vlan: true}.frame())
	s.offer(0, small(1015))
	s.offer(0, shape{payload: 1000 - 27, vlan: true}.frame())
	s.offer(0, shape{tcp: true, payload: 10000, segment: 960}.frame())
	s.offer(0, shape{tcp: true, payload: 10000, segment: 961}.frame())
	if c := s.finish(); c.Delivered != 2+11 || c.Oversized != 2+11 {
		t.Errorf("%+v", c)
	}
}

// The same frames meet the same fate, whatever the times and how they came together.
func TestSeed(t *testing.T) {
	options := []string{"loss=10", "loss_burst=2", "duplicate=5", "corrupt=5", "delay=10ms", "jitter=5ms", "distribution=normal", "overtake=true", "reorder=10"}
	run := func(seed uint64, gap int64, group int) string {
		s := newSim(t, seed, options...)
		for i := range 1000 / group {
			s.offer(int64(i)*gap, shape{payload: 500 * group, segment: 500}.frame())
		}
		s.finish()
		text := ""
		for _, f := range s.fates() {
			if f.Fate == record.Lost {
				text += fmt.Sprintln(f.Number, f.Copy, f.Bytes, f.Fate)
				continue
			}
			text += fmt.Sprintln(f.Number, f.Copy, f.Bytes, f.Fate, f.Corrupted, f.Delay())
		}
		return text
	}
	want := run(1, 17*us, 1)
	if run(1, 17*us, 1) != want || run(1, 3*ms, 1) != want || run(1, 1, 10) != want {
		t.Error("fates differ with the same seed")
	}
	if run(2, 17*us, 1) == want {
		t.Error("fates are the same with another seed")
	}
}

// A change of one setting leaves other effects' luck alone.
func TestStreamsAreIndependent(t *testing.T) {
	a := lossOf(t, 1000, 1, "loss=10")
	b := lossOf(t, 1000, 1, "loss=10", "duplicate=0", "corrupt=20", "delay=1ms", "jitter=1ms")
	if !slices.Equal(a, b) {
		t.Error("losses depend on other effects")
	}
}

func TestMemory(t *testing.T) {
	for _, size := range []int{60, 1000, 9000, 60000} {
		budget := NewBudget(1 << 20)
		s := &sim{tb: t, pool: NewPool(budget)}
		other := &sim{tb: t, pool: NewPool(budget)}
		for _, s := range []*sim{s, other} {
			var err error
			if s.lane, err = New(s.pool, 1, nil, 0, config(t, "delay=1s", "mtu=65535")); err != nil {
				t.Fatal(err)
			}
		}
		frame, frames := small(size), uint64(10_000_000/(size+1000))
		for range frames {
			s.offer(0, frame)
		}
		if held := s.lane.held; held > 1<<19 || held < 1<<19-70<<10 {
			t.Errorf("%d bytes: one lane alone holds %d", size, held)
		}
		for range frames {
			other.offer(0, frame)
		}
		if budget.Used() > 1<<20 || other.lane.held == 0 {
			t.Errorf("%d bytes: %d in use, the other lane holds %d", size, budget.Used(), other.lane.held)
		}
		for _, s := range []*sim{s, other} {
			s.run(Never - 1)
			if c := s.lane.Counters(s.now); c.NoMemory == 0 || c.NoMemory+c.Delivered != frames {
				t.Errorf("%+v", c)
			}
		}
		if budget.Used() != 0 {
			t.Errorf("%d bytes are left in use", budget.Used())
		}
		if !s.pool.Trim() {
			t.Error("the pool kept nothing")
		}
		if s.pool.Trim() {
			t.Error("the pool keeps memory that it does not need")
		}
	}
}
