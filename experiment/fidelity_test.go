package experiment

import (
	"slices"
	"strings"
	"testing"
	"time"

	"weft/network"
	"weft/topo"
)

func TestJudge(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	good := network.Timing{Span: time.Second, Wakes: 100, LagMax: time.Millisecond, LagMean: 100 * time.Microsecond, Waiting: 0.2, Steal: 0, Throttled: 0}
	at := func(second int, change func(*network.Timing)) network.Timing {
		s := good
		s.Start = began.Add(time.Duration(second) * time.Second)
		if change != nil {
			change(&s)
		}
		return s
	}
	slow := func(s *network.Timing) { s.LagMax = 36 * time.Millisecond }
	for _, c := range []struct {
		name    string
		samples []network.Timing
		drops   []network.Drop
		want    []string // reasons
	}{
		{"good", []network.Timing{at(0, nil), at(1, nil)}, nil, nil},
		{"late once", []network.Timing{at(0, nil), at(1, slow), at(2, slow), at(3, nil)}, nil, []string{"1..3 a thread that slept woke up to 36 ms late"}},
		{"late often", []network.Timing{at(0, slow), at(1, nil), at(2, slow), at(3, nil), at(4, slow), at(5, nil), at(6, slow)}, nil,
			[]string{"0..7 a thread that slept woke up to 36 ms late, 4 times"}},
		{"a little late", []network.Timing{at(0, func(s *network.Timing) { s.LagMax, s.Late = 9*time.Millisecond, 10 })}, nil,
			[]string{"0..1 a thread that slept woke more than 5 ms late in up to 10 % of cases"}},
		{"one wake is little late", []network.Timing{at(0, func(s *network.Timing) { s.LagMax, s.Late, s.Wakes = 9*time.Millisecond, 1, 2 })}, nil, nil},
		{"stolen", []network.Timing{at(0, func(s *network.Timing) { s.Steal = 0.125 })}, nil, []string{"0..1 the hypervisor gave up to 12.5 % of the CPUs' time to others"}},
		{"throttled", []network.Timing{at(0, func(s *network.Timing) { s.Throttled = 0.5 })}, nil,
			[]string{"0..1 a limit on its control group kept weft from running up to 50 % of the time"}},
		{"waiting", []network.Timing{at(0, func(s *network.Timing) { s.Waiting = 0.95 })}, nil, []string{"0..1 tasks waited for a CPU 95 % of the time"}},
		{"unknown shares", []network.Timing{at(0, func(s *network.Timing) { s.Waiting, s.Steal, s.Throttled = -1, -1, -1 })}, nil, nil},
		{"drops", []network.Timing{at(0, nil), at(1, nil)}, []network.Drop{{Place: "h1-eth0", Why: "the queue was full", Count: 12}}, []string{"0..2 12 lost at h1-eth0: the queue was full"}},
	} {
		f := judge(c.samples, c.drops, nil, began)
		var got []string
		for _, r := range f.Reasons {
			got = append(got, formatNumber(r.From)+".."+formatNumber(r.To)+" "+r.Text)
		}
		verdict := FidelityOK
		if c.want != nil {
			verdict = FidelityDegraded
		}
		if !slices.Equal(got, c.want) || f.Verdict != verdict {
			t.Errorf("%s: %s, reasons %q, want %q", c.name, f.Verdict, got, c.want)
		}
	}
	if f := judge(nil, nil, nil, began); f.Verdict != FidelityUnknown {
		t.Errorf("without samples: %+v", f)
	}
}

func TestNewDrops(t *testing.T) {
	before := []network.Drop{{Place: "a", Why: "x", Count: 5}, {Place: "b", Why: "x", Count: 1}}
	after := []network.Drop{{Place: "a", Why: "x", Count: 7}, {Place: "b", Why: "x", Count: 1}, {Place: "b", Why: "y", Count: 3}}
	got := newDrops(before, after)
	if len(got) != 2 || got[0].Count != 2 || got[1].Why != "y" || got[1].Count != 3 {
		t.Errorf("%+v", got)
	}
}

func TestWorst(t *testing.T) {
	ok := &TrialResult{Fidelity: Fidelity{Verdict: FidelityOK, LagMax: 0.001}}
	bad := &TrialResult{Fidelity: Fidelity{Verdict: FidelityDegraded, Reasons: []Reason{{Text: "why"}}, LagMax: 0.05}}
	unknown := &TrialResult{Fidelity: worst(nil)}
	for _, c := range []struct {
		trials []*TrialResult
		want   string
	}{{[]*TrialResult{ok, bad, ok}, FidelityDegraded}, {[]*TrialResult{ok, unknown}, FidelityOK}, {[]*TrialResult{unknown}, FidelityUnknown}} {
		if f := worst(c.trials); f.Verdict != c.want {
			t.Errorf("%s, want %s", f.Verdict, c.want)
		}
	}
	if f := worst([]*TrialResult{ok, bad}); f.LagMax != 0.05 || !strings.Contains(f.Reasons[0].Text, "trial 2: why") {
		t.Errorf("%+v", f)
	}
}

// Frames that left late count from the trial's beginning, by direction, and only if they are some
// and a share worth the name.
func TestLateFrames(t *testing.T) {
	state := func(id int, delivered, late [2]uint64) network.LinkState {
		s := network.LinkState{ID: id, A: topo.PlannedEnd{Node: "s1"}, B: topo.PlannedEnd{Node: "s2"}, Counters: &[2]network.LinkCounters{}}
		for way := range delivered {
			s.Counters[way].Delivered, s.Counters[way].Late = delivered[way], late[way]
		}
		return s
	}
	began := time.Unix(1000, 0)
	samples := []network.Timing{{Start: began, Span: time.Second}}
	for _, c := range []struct {
		name          string
		before, after network.LinkState
		want          string
	}{
		{"none", state(1, [2]uint64{50, 50}, [2]uint64{9, 9}), state(1, [2]uint64{90, 90}, [2]uint64{9, 9}), ""},
		{"one way", state(1, [2]uint64{50, 50}, [2]uint64{9, 0}), state(1, [2]uint64{90, 90}, [2]uint64{9, 3}), "3 of 40 frames left link s2→s1 more than 5 ms late"},
		{"one frame", state(1, [2]uint64{}, [2]uint64{}), state(1, [2]uint64{10, 0}, [2]uint64{1, 0}), ""},
		{"a small share", state(1, [2]uint64{}, [2]uint64{}), state(1, [2]uint64{1000, 0}, [2]uint64{9, 0}), ""},
		{"another link", state(2, [2]uint64{500, 0}, [2]uint64{30, 0}), state(1, [2]uint64{50, 0}, [2]uint64{20, 0}), "20 of 50 frames left link s1→s2 more than 5 ms late"},
		{"counted anew", state(1, [2]uint64{500, 0}, [2]uint64{30, 0}), state(1, [2]uint64{50, 0}, [2]uint64{20, 0}), "20 of 50 frames left link s1→s2 more than 5 ms late"},
		{"no counters", network.LinkState{ID: 1}, state(1, [2]uint64{50, 0}, [2]uint64{20, 0}), "20 of 50 frames left link s1→s2 more than 5 ms late"},
		{"no counters any more", state(1, [2]uint64{50, 0}, [2]uint64{20, 0}), network.LinkState{ID: 1}, ""},
	} {
		f := judge(samples, nil, newLate([]network.LinkState{c.before}, []network.LinkState{c.after}), began)
		got := ""
		for _, r := range f.Reasons {
			got += r.Text
		}
		if got != c.want || (f.Verdict == FidelityOK) != (c.want == "") {
			t.Errorf("%s: %s, %q; want %q", c.name, f.Verdict, got, c.want)
		}
	}
}
