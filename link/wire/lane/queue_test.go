package lane

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"weft/link/record"
	"weft/topo"
)

// A frame leaves with its last bit; frames follow each other to the nanosecond, for as long
// as there are some.
func TestRate(t *testing.T) {
	for _, bits := range []uint64{1_000, 64_000, 999_999_937, 10_000_000_000, 40_000_000_000} {
		s := newSim(t, 1, fmt.Sprintf("bw=%dbit", bits), "queue=100000")
		frame := small(1514)
		const n = 2000
		for range n {
			s.offer(5, frame)
		}
		s.finish()
		sent := uint64(0)
		for i, f := range s.end {
			sent += 1514 * 8
			// sent/bits seconds, without overflow
			want := 5 + int64(sent/bits*1e9+sent%bits*1e9/bits)
			if got := int64(f.Departure); got != want {
				t.Fatalf("%d bit/s: frame %d left at %d ns, want %d", bits, i, got, want)
			}
		}
	}
}

// What passes in the long run is the rate, however frames come.
func TestRateOfBursts(t *testing.T) {
	for _, burst := range []string{"0", "1514B", "30kB"} {
		s := newSim(t, 1, "bw=10", "burst="+burst, "queue=1000")
		frame := small(1000)
		for i := range 1000 {
			for range 20 { // 16 ms of frames each 10 ms
				s.offer(int64(i)*10*ms, frame)
			}
		}
		c := s.finish()
		passed := 0
		for _, f := range s.end {
			if f.Fate == record.Delivered && f.Departure <= 10*time.Second {
				passed += f.Bytes
			}
		}
		want := 10e6 / 8 * 10
		if f := float64(passed); f > want+30e3+1000 || f < want-1000 {
			t.Errorf("burst=%s: %d bytes in 10 s, want %.0f", burst, passed, want)
		}
		if c.Overflow == 0 {
			t.Error("nothing is dropped")
		}
	}
}

// After a pause, burst bytes pass at once.
func TestBurst(t *testing.T) {
	s := newSim(t, 1, "bw=8", "burst=3000B", "queue=1000")
	for range 5 {
		s.offer(100*ms, small(1000))
	}
	s.finish()
	want := []time.Duration{0, 0, 0, time.Millisecond, 2 * time.Millisecond}
	if got := s.delays(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestQueueBounds(t *testing.T) {
	for _, c := range []struct {
		options []string
		want    uint64 // of 1,000 frames of 1,000 bytes at once
	}{
		{[]string{"bw=8", "queue=1"}, 1},
		{[]string{"bw=8", "queue=100"}, 100},
		{[]string{"bw=8", "queue=64kB"}, 64},
		{[]string{"bw=8", "queue=20ms"}, 20},
		{[]string{"bw=8", "queue=1us"}, 1},        // a frame fits always
		{[]string{"bw=8"}, 100},                   // 100 ms
		{[]string{"bw=8", "delay=200ms"}, 400},    // 2 × delay
		{[]string{"bw=80kbit"}, 20 * 1514 / 1000}, // 20 frames of the MTU
		{[]string{"bw=80kbit", "mtu=9000"}, 20 * 9014 / 1000},
		{[]string{"bw=8", "queue=100", "aqm=codel"}, 100},
		{[]string{"bw=8", "queue=100", "aqm=red", "red_min=1MB", "red_max=2MB"}, 100},
	} {
		s := newSim(t, 1, c.options...)
		for range 1000 {
			s.offer(0, small(1000))
		}
		before := s.lane.Counters(0)
		if before.Queued != c.want || before.Overflow != 1000-c.want || before.QueuedBytes != c.want*1000 {
			t.Errorf("%v: %+v, want %d frames in the queue", c.options, before, c.want)
		}
		if after := s.finish(); after.Delivered+after.AQMDrops != c.want {
			t.Errorf("%v: %+v", c.options, after)
		}
	}
}

// A fair queue drops from the largest flow.
func TestFQCoDelOverflow(t *testing.T) {
	s := newSim(t, 1, "bw=8", "queue=100", "aqm=fq_codel")
	thin := shape{payload: 100, flow: 9}.frame()
	for i := range 1000 {
		s.offer(0, small(1000))
		if i%100 == 0 {
			s.offer(0, thin)
		}
	}
	if c := s.lane.Counters(0); c.Queued > 101 || c.Queued < 50 {
		t.Errorf("%d frames in a queue of 100", c.Queued)
	}
	s.finish()
	thins := 0
	for _, f := range s.end {
		if f.Bytes == 142 && f.Fate == record.Delivered {
			thins++
		}
	}
	if thins != 10 {
		t.Errorf("%d of 10 frames of the thin flow passed", thins)
	}
}

// Flows share the rate whatever they offer, and one that offers little waits for little.
func TestFQCoDelShares(t *testing.T) {
	s := newSim(t, 1, "bw=8", "aqm=fq_codel")
	bytes := map[int]int{}
	var waits []time.Duration
	fat, big, thin := small(1000), shape{payload: 1400, flow: 1}.frame(), shape{payload: 60, flow: 2}.frame()
	for i := range 10000 {
		at := int64(i) * ms
		for range 3 {
			s.offer(at, fat)
		}
		s.offer(at, big)
		if i%10 == 0 {
			s.offer(at, thin)
		}
	}
	s.run(10000 * ms)
	for _, f := range s.end {
		if f.Fate != record.Delivered {
			continue
		}
		bytes[f.Bytes] += f.Bytes
		if f.Bytes == 102 {
			waits = append(waits, f.Delay())
		}
	}
	if r := float64(bytes[1000]) / float64(bytes[1442]); r < 0.95 || r > 1.05 {
		t.Errorf("shares: %v", bytes)
	}
	if len(waits) != 1000 || slices.Max(waits) > 6*time.Millisecond {
		t.Errorf("%d frames of the thin flow, up to %v late", len(waits), slices.Max(waits))
	}
	s.finish()
}

// load offers frames at a constant pace and returns what the queue's delay was.
func load(s *sim, from, to int64, gap int64, frame []byte) {
	for at := from; at < to; at += gap {
		s.offer(at, frame)
	}
}

// CoDel leaves alone what is below its target, and lets bursts pass; what stays above the
// target is dropped ever faster, by the square root.
func TestCoDel(t *testing.T) {
	s := newSim(t, 1, "bw=8", "aqm=codel", "queue=100000")
	load(s, 0, 5000*ms, 1010*us, small(1000)) // 99 %
	for range 50 {                            // a burst of 50 ms
		s.offer(5000*ms, small(1000))
	}
	if c := s.finish(); c.AQMDrops != 0 {
		t.Errorf("%d drops without a standing queue", c.AQMDrops)
	}

	s = newSim(t, 1, "bw=8", "aqm=codel", "queue=100000")
	load(s, 0, 2000*ms, 500*us, small(1000)) // twice the rate
	var drops []time.Duration
	for _, f := range s.end {
		if f.Fate == record.AQMDrop {
			drops = append(drops, f.Arrival)
		}
	}
	// The queue is above 5 ms from 10 ms on, so the first drop is after 110 ms, then after
	// 100/√2 ms, 100/√3 ms ...: in 2 s, as many as the sum reaches.
	want, sum := 0, 0.110
	for sum < 2 {
		want++
		sum += 0.1 / math.Sqrt(float64(want))
	}
	if len(drops) < want-2 || len(drops) > want+2 {
		t.Errorf("%d drops in 2 s, want %d", len(drops), want)
	}
	s.finish()
}

// Numbers of the loop in RFC 8289 with other constants, and ECN instead of drops.
func TestCoDelECN(t *testing.T) {
	for ecn, want := range map[uint8]bool{0: false, 1: true, 2: true} {
		s := newSim(t, 1, "bw=8", "aqm=codel", "aqm_target=1ms", "aqm_interval=10ms", "ecn=true", "queue=100000")
		load(s, 0, 500*ms, 500*us, shape{payload: 958, ecn: ecn}.frame())
		c := s.finish()
		if marked := c.Marked > 0 && c.AQMDrops == 0; marked != want || c.Marked+c.AQMDrops < 100 {
			t.Errorf("ECN %d: %d marked, %d dropped", ecn, c.Marked, c.AQMDrops)
		}
		n := uint64(0)
		for _, f := range s.end {
			if f.Marked {
				n++
			}
		}
		if n != c.Marked {
			t.Errorf("%d frames are recorded as marked, %d counted", n, c.Marked)
		}
	}
}

// A marked frame of a super-frame leaves apart from the others, marked.
func TestMarkedSegment(t *testing.T) {
	s := newSim(t, 1, "bw=8", "aqm=codel", "ecn=true", "aqm_interval=10ms", "aqm_target=1ms", "delay=1s", "slot=5s")
	s.full = true
	s.offer(0, shape{tcp: true, payload: 60 * 1000, segment: 1000, ecn: 2}.frame())
	c := s.finish()
	marked := uint64(0)
	for _, f := range s.out {
		if f[15]&3 == 3 {
			marked++
		}
	}
	if c.Marked == 0 || c.Marked == 60 || marked != c.Marked || len(s.out) != 60 {
		t.Errorf("%d of %d frames are marked, %d counted", marked, len(s.out), c.Marked)
	}
}

// RED drops nothing below its lower threshold, all above the upper, and in between a share
// that grows, evenly spread.
func TestRED(t *testing.T) {
	s := newSim(t, 1, "bw=8", "aqm=red", "queue=1MB", "red_min=30kB", "red_max=90kB", "red_probability=10")
	q := s.lane.queue.(*red)
	for mean, want := range map[int64]float64{
		29000: 0,
		// Distances of drops are uniform up to 1/p frames (Floyd and Jacobson 1993, section 7).
		45000: 2 * 0.025,
		75000: 2 * 0.075,
		91000: 1,
	} {
		const n = 5000
		drops, since, longest := 0, 0, 0
		for range n {
			q.mean = float64(mean)
			since++
			if q.early(0, mean) {
				longest = max(longest, since)
				drops++
				since = 0
			}
		}
		if share := float64(drops) / n; math.Abs(share-want) > want/20 {
			t.Errorf("a mean of %d: %.4f are dropped, want %.4f", mean, share, want)
		}
		if want > 0 && float64(longest) > 2/want+1 {
			t.Errorf("a mean of %d: up to %d frames between drops", mean, longest)
		}
	}
	// What is not set comes from the queue.
	for _, c := range []struct {
		options         []string
		low, high, most float64
	}{
		{[]string{"queue=100kB"}, 25e3, 75e3, 0.1},
		{[]string{"queue=100", "red_probability=2"}, 25 * 1514, 75 * 1514, 0.02},
		{[]string{"queue=100kB", "red_min=90kB"}, 90e3, 90e3 + 1, 0.1},
		{[]string{"queue=100kB", "red_max=6kB"}, 2e3, 6e3, 0.1},
	} {
		s := newSim(t, 1, append(c.options, "bw=8", "aqm=red")...)
		low, high, most := s.lane.queue.(*red).thresholds()
		if low != c.low || high != c.high || most != c.most {
			t.Errorf("%v: %v, %v, %v", c.options, low, high, most)
		}
	}
}

func TestREDIdle(t *testing.T) {
	s := newSim(t, 1, "bw=8", "aqm=red", "queue=100kB")
	load(s, 0, 1000*ms, 500*us, small(1000))
	q := s.lane.queue.(*red)
	if q.mean < 40e3 {
		t.Fatalf("the mean is %.0f after a long queue", q.mean)
	}
	s.run(2000 * ms)
	s.offer(3000*ms, small(1000))
	if q.mean > 1000 {
		t.Errorf("the mean is %.0f after a second without frames", q.mean)
	}
	s.finish()
}

func TestREDMarks(t *testing.T) {
	s := newSim(t, 1, "bw=8", "aqm=red", "queue=100kB", "ecn=true")
	load(s, 0, 1000*ms, 900*us, shape{payload: 958, ecn: 1}.frame())
	if c := s.finish(); c.Marked == 0 || c.AQMDrops != 0 {
		t.Errorf("%+v", c)
	}
}

func TestSlot(t *testing.T) {
	for _, c := range []struct {
		options   []string
		low, high time.Duration // between bursts
		frames    int           // in one, at most
	}{
		{[]string{"slot=10ms"}, 10 * time.Millisecond, 10 * time.Millisecond, 10},
		{[]string{"slot=5ms-15ms", "delay=3ms"}, 5 * time.Millisecond, 15 * time.Millisecond, 16},
		{[]string{"slot=10ms", "slot_packets=12"}, 10 * time.Millisecond, 10 * time.Millisecond, 12},
		{[]string{"slot=10ms", "slot_bytes=5kB"}, 10 * time.Millisecond, 10 * time.Millisecond, 5},
		{[]string{"slot=10ms", "slot_bytes=500B"}, 10 * time.Millisecond, 10 * time.Millisecond, 1},
	} {
		s := newSim(t, 1, c.options...)
		load(s, 0, 1000*ms, ms, small(1000))
		s.finish()
		inBurst := map[time.Duration]int{}
		for _, f := range s.end {
			inBurst[f.Departure]++
			if f.Delay() < 0 {
				t.Fatalf("%v: %v", c.options, f.Delay())
			}
		}
		var times []time.Duration
		for at, n := range inBurst {
			times = append(times, at)
			if n > c.frames {
				t.Errorf("%v: %d frames in a burst", c.options, n)
			}
		}
		slices.Sort(times)
		for i := 1; i < len(times); i++ {
			if d := times[i] - times[i-1]; d < c.low || d > c.high {
				t.Fatalf("%v: bursts %v apart", c.options, d)
			}
		}
		// After a long pause, without much arithmetic.
		s.offer(int64(1000*time.Hour), small(1000))
		s.finish()
		if d := s.delays(); d[len(d)-1] > c.high+3*time.Millisecond {
			t.Errorf("%v: %v after a pause", c.options, d[len(d)-1])
		}
	}
}

// Live changes lose nothing, and do not change what is on its way.
func TestSet(t *testing.T) {
	s := newSim(t, 1, "delay=50ms")
	s.offer(0, small(100))
	s.set("delay=5ms")
	s.offer(ms, small(100))
	s.offer(60*ms, small(100))
	s.finish()
	want := []time.Duration{50 * time.Millisecond, 49 * time.Millisecond, 5 * time.Millisecond} // in order
	if got := s.delays(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}

	// The queue moves to the new rate; the frame that is passing too.
	s = newSim(t, 1, "bw=8kbit")
	for range 4 {
		s.offer(0, small(1000)) // 1 s each
	}
	s.run(1500 * ms)
	s.now = 1500 * ms
	s.set("bw=80kbit")
	s.finish()
	want = []time.Duration{time.Second, 1550 * time.Millisecond, 1650 * time.Millisecond, 1750 * time.Millisecond}
	if got := s.delays(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}

	// All disciplines, one after the other, and none, with a queue that becomes too long.
	s = newSim(t, 1, "bw=8kbit", "queue=1000")
	for range 100 {
		s.offer(0, small(1000))
	}
	for _, aqm := range []string{"codel", "fq_codel", "red", "droptail", "fq_codel", "codel"} {
		s.set("bw=8kbit", "queue=10", "aqm="+aqm)
		if c := s.lane.Counters(s.now); c.Queued != 100 || c.Overflow != 0 {
			t.Fatalf("%s: %+v", aqm, c)
		}
	}
	s.set()
	if c := s.finish(); c.Delivered != 100 || s.now != 0 {
		t.Errorf("at %d: %+v", s.now, c)
	}
	if !s.lane.Plain() && s.lane.record == nil {
		t.Error("the lane is not plain")
	}

	// A setting that is refused changes nothing.
	s = newSim(t, 1, "delay=5ms")
	if err := s.lane.Set(0, config(t, "loss=90", "loss_burst=2")); err == nil {
		t.Error("accepted")
	}
	s.offer(0, small(100))
	s.finish()
	if got := s.delays(); got[0] != 5*time.Millisecond {
		t.Error(got)
	}
}

// Random changes of everything, at any time, lose count of nothing.
func TestSetAnything(t *testing.T) {
	all := []string{"bw=1", "bw=100", "delay=10ms", "delay=1ms", "jitter=2ms", "overtake=true", "loss=20", "duplicate=20", "corrupt=20",
		"queue=5", "queue=64kB", "aqm=red", "aqm=codel", "aqm=fq_codel", "ecn=true", "slot=1ms-2ms", "slot_packets=3", "reorder=20", "gemodel=10/30/80/5", "burst=9000B"}
	random := stream(5)
	for round := range uint64(20) {
		s := newSim(t, round)
		for step := range uint64(40) {
			var options []string
			seen := map[string]bool{}
			for i, o := range all {
				if random.chance(round<<20|step<<8|uint64(i), 0.3) && !seen[o[:3]] {
					seen[o[:3]] = true
					options = append(options, o)
				}
			}
			var set topo.LinkSettings
			if set.Set(options...) == nil {
				s.set(options...)
			}
			for range random.at(step) % 5 {
				s.offer(s.now+int64(random.at(step)%uint64(3*ms)), shape{tcp: true, payload: 20000, segment: 1400, ecn: 1}.frame())
			}
			checkSum(t, s.lane.Counters(s.now), s.lane.number)
		}
		s.finish()
	}
}

// A closed lane gives its memory back.
func TestClose(t *testing.T) {
	for _, options := range [][]string{{"delay=1s"}, {"bw=1"}, {"bw=1", "aqm=fq_codel", "slot=1s", "delay=1s", "jitter=1s", "overtake=true"}} {
		s := newSim(t, 1, options...)
		for range 100 {
			s.offer(0, small(1000))
		}
		s.lane.Close()
		if used := s.pool.budget.Used(); used != 0 {
			t.Errorf("%v: %d bytes are left in use", options, used)
		}
		if c := s.finish(); c.Down+c.Overflow != 100 {
			t.Errorf("%+v", c)
		}
	}
}

// No memory is allocated for a frame, once there is as much as is in use.
func TestAllocations(t *testing.T) {
	for _, options := range [][]string{{"delay=1ms"}, {"bw=1000", "delay=1ms"}, {"bw=1000", "aqm=fq_codel", "ecn=true"}, {"jitter=1ms", "delay=1ms", "overtake=true", "loss=1", "duplicate=1", "corrupt=1"}} {
		s := newSim(t, 1, options...)
		s.lane.record = nil
		frames := [][]byte{small(60), small(1000), shape{tcp: true, payload: 60000, segment: 1448}.frame()}
		at := int64(0)
		step := func() {
			for _, f := range frames {
				at += ms / 2
				s.offer(at, f)
			}
		}
		for range 1000 {
			step()
		}
		if n := testing.AllocsPerRun(1000, step); n > 0.1 {
			t.Errorf("%v: %v allocations for %d frames", options, n, len(frames))
		}
	}
}
