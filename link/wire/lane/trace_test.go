package lane

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// traced returns a sim with a trace.
func tracedSim(t *testing.T, text string, options ...string) *sim {
	t.Helper()
	trace, err := ParseTrace([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s := newSim(t, 1)
	cfg := config(t, append(options, "trace=file")...)
	cfg.Trace = trace
	if err := s.lane.Set(0, cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTraceErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "the trace is empty",
		"# nothing\n":                         "the trace is empty",
		"0\n":                                 "the last time is 0 ms",
		"1\n2\nx\n":                           `line 3: "x" is not a number of milliseconds`,
		"1\n3\n\n2\n":                         "line 4: 2 ms comes after 3 ms",
		"-1\n":                                `line 1: "-1"`,
		"99999999999999\n":                    "line 1",
		"rate,delay\n":                        "line 1: the column time is missing",
		"time\n":                              "line 1: there is no column rate, delay or loss",
		"time,speed\n":                        `line 1: there is no column "speed"`,
		"time,rate,rate\n":                    "line 1: column rate is there twice",
		"time,rate\n":                         "the trace is empty",
		"time,rate\n1s,10\n":                  "line 2: the first row has the time 1s; it must be 0",
		"time,rate\n0,10\n0,20\n":             "line 3: the time 0 is not after",
		"time,rate\n0,10\n2s\n":               "line 3: 1 fields; there are 2 columns: time,rate",
		"time,rate\n0,fast\n":                 `line 2: "fast" is not a rate`,
		"time,rate\n0,100gbit\n":              "line 2",
		"time,delay\n0,10\n":                  "line 2: delay: 10 has no unit",
		"time,loss\n0,200\n":                  `line 2: loss: "200" is not a percentage`,
		"time,loss\nsoon,1\n":                 `line 2: "soon" is not a time`,
		"time,loss\n0,1\n1e300,1\n":           "line 3",
		"time,loss\n,1\n":                     "line 2: the time is missing",
		"time,rate,delay,loss\n0,1,1ms,1,1\n": "line 2: 5 fields",
	} {
		if _, err := ParseTrace([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestTracePeriod(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"time,rate\n0,1\n":                             time.Second,
		"time,rate\r\n0,1\r\n1s,2\r\n":                 2 * time.Second,
		"# a comment\nTIME, Rate\n0,1\n1s,2\n\n1.5,\n": 2 * time.Second,
		"\ufefftime,rate\n0,1\n250ms,2\n":              500 * time.Millisecond,
		"1\n5\n5\n30\n":                                30 * time.Millisecond,
	} {
		trace, err := ParseTrace([]byte(text))
		if err != nil || trace.Period() != want {
			t.Errorf("%q: %v, %v; want %v", text, trace.Period(), err, want)
		}
	}
}

// What passes in each row's time is its rate, whichever frames come.
func TestTraceRate(t *testing.T) {
	s := tracedSim(t, "time,rate\n0,8\n1s,0\n2s,80kbit\n3s,\n3.5s,16\n", "bw=4", "queue=100000")
	period := 4 * time.Second
	frame := small(1000)
	for i := range 8000 {
		s.offer(int64(i)*ms, frame)
	}
	s.run(8000 * ms)
	passed := map[time.Duration]int{} // in half seconds
	for _, f := range s.end {
		passed[(f.Departure-1)/(500*time.Millisecond)] += f.Bytes
	}
	for i := range 16 {
		at := time.Duration(i) * 500 * time.Millisecond
		want := []float64{500e3, 500e3, 0, 0, 5e3, 5e3, 250e3, 1000e3}[at%period/(500*time.Millisecond)]
		if got := float64(passed[time.Duration(i)]); math.Abs(got-want) > 1000 {
			t.Errorf("%v: %.0f bytes, want %.0f", at, got, want)
		}
	}
	s.finish()
}

func TestTraceOutage(t *testing.T) {
	s := tracedSim(t, "time,rate\n0,0\n1s,0\n", "queue=10")
	for range 20 {
		s.offer(0, small(1000))
	}
	s.run(int64(100 * time.Hour))
	if c := s.lane.Counters(s.now); c.Queued != 10 || c.Overflow != 10 {
		t.Errorf("%+v", c)
	}
	s.set() // it ends with the trace
	if c := s.finish(); c.Delivered != 10 {
		t.Errorf("%+v", c)
	}
}

func TestTraceDelayAndLoss(t *testing.T) {
	s := tracedSim(t, "time,delay,loss\n0,10ms,0\n1s,20ms,\n2s,,100\n", "delay=5ms", "loss=0")
	for i := range 6 {
		s.offer(int64(i)*1000*ms+1, small(100))
	}
	s.offer(2980*ms, small(100))
	c := s.finish()
	if c.Lost != 3 {
		t.Errorf("%d are lost, want 3", c.Lost)
	}
	want := []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond}
	if got := s.delays(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Without a column rate, the link has its own.
func TestTraceWithoutRate(t *testing.T) {
	s := tracedSim(t, "time,delay\n0,10ms\n", "bw=8", "burst=1000B")
	s.offer(0, small(1000))
	s.offer(0, small(1000))
	s.finish()
	if got := s.delays(); !slices.Equal(got, []time.Duration{10 * time.Millisecond, 11 * time.Millisecond}) {
		t.Error(got)
	}
}

func TestMahimahi(t *testing.T) {
	// An MTU frame has 1,514 bytes, which are Mahimahi's 1,504.
	s := tracedSim(t, "2\n2\n5\n10\n")
	for range 3 {
		s.offer(0, small(1514))
	}
	s.offer(6*ms, small(765)) // two in one opportunity, that at 10 ms
	s.offer(6*ms, small(759))
	s.offer(11*ms, small(1514))  // 12
	s.offer(11*ms, small(1000))  // 12, and the rest
	s.offer(11*ms, small(1000))  // of 15
	s.offer(999*ms, small(1514)) // the chance at 995 is gone; 1000
	s.finish()
	want := []int64{2, 2, 5, 10, 10, 12, 12, 15, 1000}
	for i, f := range s.fates() {
		if f.Departure != time.Duration(want[i]*ms) {
			t.Errorf("frame %d left at %v, want %d ms", i, f.Departure, want[i])
		}
	}
}

// In the long run, a Mahimahi trace passes 1,504 bytes at each of its times.
func TestMahimahiRate(t *testing.T) {
	s := tracedSim(t, "1\n3\n3\n4\n")
	for i := range 10000 {
		s.offer(int64(i)*100*us, small(1514))
	}
	s.run(1000 * ms)
	if n := len(s.fates()); s.lane.c.Delivered != 1000 {
		t.Errorf("%d frames of %d passed in 1 s, want 1000", s.lane.c.Delivered, n)
	}
	s.finish()
}

func TestTraceWithBurst(t *testing.T) {
	trace, err := ParseTrace([]byte("time,rate\n0,1\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t, "bw=1", "burst=3kB", "trace=file")
	cfg.Trace = trace
	if _, err := New(NewPool(NewBudget(1e6)), 1, nil, 0, cfg); err == nil {
		t.Error("burst with a trace of rates is accepted")
	}
	cfg.Trace = nil
	if _, err := New(NewPool(NewBudget(1e6)), 1, nil, 0, cfg); err == nil {
		t.Error("a trace without its content is accepted")
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add("1\n3\n3\n4\n")
	f.Add("time,rate,delay,loss\n0,10,5ms,1\n1s,,,\n1.5,0,0,0\n")
	f.Add("time,rate\n0,1kbit\n1us,40gbit\n")
	f.Fuzz(func(t *testing.T, text string) {
		trace, err := ParseTrace([]byte(text))
		if err != nil {
			return
		}
		if trace.Period() <= 0 {
			t.Fatal("no period")
		}
		s := tracedSim(t, text)
		for i := range int64(50) {
			s.offer(i*7*ms, small(1514))
		}
		s.run(10 * int64(time.Minute))
		checkSum(t, s.lane.Counters(s.now), s.lane.number)
		s.lane.Close()
	})
}
