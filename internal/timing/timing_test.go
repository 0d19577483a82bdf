package timing

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A clock goes on only when it is slept by; late is how much too late each sleep ends.
type clock struct {
	now  time.Duration
	late []time.Duration
}

func (c *clock) read() time.Duration { return c.now }

func (c *clock) sleep(until time.Duration) {
	c.now = max(c.now, until)
	if len(c.late) > 0 {
		c.now += c.late[0]
		c.late = c.late[1:]
	}
}

func TestWatch(t *testing.T) {
	c := &clock{late: []time.Duration{0, 300 * time.Millisecond, 0, 6 * time.Millisecond}}
	counters := []Counters{
		{Waiting: 0, Throttled: -1, Steal: 0, All: 0},
		{Waiting: 500 * time.Millisecond, Throttled: -1, Steal: 200 * time.Millisecond, All: 2 * time.Second},
	}
	reads := 0
	var got []Sample
	stop := errors.New("enough")
	err := Watch(context.Background(), Config{Now: c.read, SleepUntil: c.sleep, Counters: func() Counters {
		reads++
		return counters[min(reads-1, 1)]
	}}, func(s Sample) error {
		got = append(got, s)
		if len(got) == 2 {
			return stop
		}
		return nil
	})
	if err != stop || len(got) != 2 {
		t.Fatalf("%d samples, error %v", len(got), err)
	}
	s := got[0]
	if s.LagMax != 300*time.Millisecond || s.Late != 2 || s.Span < time.Second || s.Wakes < 65 || s.Wakes > 75 {
		t.Errorf("%+v", s)
	}
	if s.Waiting < 0.4 || s.Waiting > 0.5 || s.Steal != 0.1 || s.Throttled != -1 {
		t.Errorf("shares %v, %v, %v", s.Waiting, s.Steal, s.Throttled)
	}
	if n := got[1]; n.LagMax != 0 || n.Late != 0 || n.Wakes != 100 {
		t.Errorf("the second sample: %+v", n)
	}
}

// The end of the context gives the rest of an interval.
func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &clock{}
	sleeps := 0
	var got []Sample
	err := Watch(ctx, Config{Now: c.read, Counters: func() Counters { return Counters{} }, SleepUntil: func(at time.Duration) {
		c.sleep(at)
		if sleeps++; sleeps == 5 {
			cancel()
		}
	}}, func(s Sample) error { got = append(got, s); return nil })
	if err != nil || len(got) != 1 || got[0].Wakes != 5 {
		t.Errorf("%+v, error %v", got, err)
	}
}

// The real clock and the real kernel.
func TestWatchHere(t *testing.T) {
	enough := errors.New("enough")
	err := Watch(context.Background(), Config{Interval: 30 * time.Millisecond}, func(s Sample) error {
		if s.Wakes == 0 || s.Span < 30*time.Millisecond || s.LagMax <= 0 || s.Steal > 1 {
			t.Errorf("%+v", s)
		}
		return enough
	})
	if err != enough {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	if d := parsePressure("some avg10=0.00 avg60=0.89 avg300=1.80 total=2879488\nfull avg10=0.00 total=0\n"); d != 2879488*time.Microsecond {
		t.Errorf("pressure %v", d)
	}
	if d := parseThrottled("nr_periods 0\nnr_throttled 3\nthrottled_usec 25\n"); d != 25*time.Microsecond {
		t.Errorf("version 2: %v", d)
	}
	if d := parseThrottled("nr_throttled 3\nthrottled_time 25\n"); d != 25 {
		t.Errorf("version 1: %v", d)
	}
	steal, all := parseStat("cpu  10 1 20 60 4 0 3 2 7 7\ncpu0 …\n")
	if steal != 20*time.Millisecond || all != time.Second {
		t.Errorf("steal %v of %v", steal, all)
	}
	for _, bad := range []string{"", "nonsense", "cpu a b c d e f g h", "some total=x"} {
		if s, _ := parseStat(bad); s != -1 {
			t.Errorf("%q: steal %v", bad, s)
		}
		if parsePressure(bad) != -1 || parseThrottled(bad) != -1 {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestGroupFile(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("v1/cpu/a/cpu.stat", "throttled_time 1\n")
	write("v2/b/cpu.stat", "throttled_usec 1\n")
	write("v2c/cpu.stat", "throttled_usec 1\n")
	write("self1", "9:name=systemd:/\n1:cpu:/a\n0::/\n")
	write("self2", "0::/b\n")
	for _, c := range []struct{ self, fs, want string }{
		{"self1", "v1", "v1/cpu/a/cpu.stat"}, {"self2", "v2", "v2/b/cpu.stat"}, {"self2", "v2c", "v2c/cpu.stat"}, {"self2", "none", ""}, {"missing", "v1", ""},
	} {
		got := groupFile(filepath.Join(root, c.self), filepath.Join(root, c.fs))
		want := c.want
		if want != "" {
			want = filepath.Join(root, want)
		}
		if got != want {
			t.Errorf("%s in %s: %q, want %q", c.self, c.fs, got, want)
		}
	}
}
