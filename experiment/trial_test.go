package experiment

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weft/topo"
)

// testTrial is a trial without a network.
func testTrial(t *testing.T) (*Trial, *TrialResult) {
	t.Helper()
	s, err := topo.Options{Topo: "linear,2"}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	r := &TrialResult{Arguments: Arguments{}}
	return newTrial(nil, p, t.TempDir(), "/", r, nil), r
}

func steps(t *testing.T, text string) []Step {
	t.Helper()
	e, err := Parse("x.yaml", []byte("topology: linear,2\nsteps:\n"+text), load)
	if err != nil {
		t.Fatal(err)
	}
	in, err := e.Prepare(Arguments{})
	if err != nil {
		t.Fatal(err)
	}
	return in.Steps
}

// said is what became of the steps, in the order in which they ended.
func said(r *TrialResult) string {
	var all []string
	for _, s := range r.Steps {
		all = append(all, s.Name+" "+string(s.Status))
	}
	return strings.Join(all, ", ")
}

func TestRunOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trial, r := testTrial(t)
		err := trial.run(context.Background(), steps(t, `
  - {name: a, wait: 1ms}
  - parallel:
    - {name: slow, wait: 80ms}
    - steps:
      - {name: quick, wait: 1ms}
      - {name: later, wait: 1ms, at: 30ms}
  - repeat: {times: 2, steps: [{name: again, wait: 1ms}]}
`))
		if err != nil || said(r) != "a done, quick done, later done, slow done, again done, again done" {
			t.Errorf("%s, error %v", said(r), err)
		}
		if later := r.Steps[2]; later.T-r.Steps[1].T != 0.03 {
			t.Errorf("later began %v s after quick", later.T-r.Steps[1].T)
		}
	})
}

// A step that comes too late is noted, and begins at once.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trial, r := testTrial(t)
		if err := trial.run(context.Background(), steps(t, "  - {name: long, wait: 150ms}\n  - {name: due, wait: 1ms, at: 10ms}\n")); err != nil {
			t.Fatal(err)
		}
		if len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0].Text, "due: it is 140 ms late") {
			t.Errorf("%+v", r.Notes)
		}
	})
}

// An attempt that takes too long is a failure of an action, which ends the trial.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trial, r := testTrial(t)
		err := trial.run(context.Background(), steps(t, "  - {name: long, wait: 1h, timeout: 10ms}\n  - {name: after, wait: 1ms}\n  - {name: check, ping: h1 -> h2, points: 2}\n"))
		var step *StepError
		if !errors.As(err, &step) || step.Step.Name != "long" || !strings.Contains(step.Reason, "gave up after 10 ms") {
			t.Errorf("%v", err)
		}
		if said(r) != "long failed, after skipped, check skipped" || r.Totals.Skipped != 1 || r.Totals.Points != 2 || r.Totals.Earned != 0 {
			t.Errorf("%s %+v", said(r), r.Totals)
		}
		if status, _ := verdict(context.Background(), r, err); status != Broken {
			t.Errorf("the trial is %s", status)
		}
	})
}

func TestMayFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trial, r := testTrial(t)
		if err := trial.run(context.Background(), steps(t, "  - {name: long, wait: 1h, timeout: 10ms, may_fail: true}\n  - {name: after, wait: 1ms}\n")); err != nil {
			t.Fatal(err)
		}
		if said(r) != "long failed, after done" {
			t.Error(said(r))
		}
		if status, _ := verdict(context.Background(), r, nil); status != Passed {
			t.Errorf("the trial is %s", status)
		}
	})
}

// What ends one of several ends the others.
func TestParallelEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trial, r := testTrial(t)
		began := time.Now()
		err := trial.run(context.Background(), steps(t, `
  - parallel:
    - {name: long, wait: 1h, timeout: 2h}
    - steps: [{name: fails, wait: 1h, timeout: 10ms}, {name: never, wait: 1ms}]
  - {name: after, wait: 1ms}
`))
		if took := time.Since(began); err == nil || took != 10*time.Millisecond {
			t.Errorf("error %v after %v", err, took)
		}
		if s := said(r); !strings.Contains(s, "long interrupted") || !strings.Contains(s, "never skipped") || !strings.Contains(s, "after skipped") {
			t.Error(s)
		}
	})
}

func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trial, r := testTrial(t)
		ctx, cancel := context.WithCancelCause(context.Background())
		stop := errors.New("stopped by the user")
		time.AfterFunc(20*time.Millisecond, func() { cancel(stop) })
		err := trial.run(ctx, steps(t, "  - {name: long, wait: 1h}\n  - {name: after, wait: 1ms}\n"))
		if err != stop || said(r) != "long interrupted, after skipped" {
			t.Errorf("%s, error %v", said(r), err)
		}
		if status, message := verdict(ctx, r, err); status != Interrupted || message != stop.Error() {
			t.Errorf("%s: %s", status, message)
		}
	})
}

func TestScriptCheck(t *testing.T) {
	trial, r := testTrial(t)
	trial.Check("mine", "x.star:1:1", false, 3, "it is not")
	trial.Check("other", "", true, 2, "")
	if r.Totals != (Totals{Checks: 2, Passed: 1, Failed: 1, Points: 5, Earned: 2}) || r.Steps[0].Message != "it is not" {
		t.Errorf("%+v", r.Totals)
	}
	if status, _ := verdict(context.Background(), r, nil); status != Failed {
		t.Errorf("the trial is %s", status)
	}
}

func TestOutput(t *testing.T) {
	trial, r := testTrial(t)
	o := trial.output("logs/x.out")
	for range 3 {
		o.Write(make([]byte, maxKept))
	}
	defer o.close()
	if len(o.text()) != maxKept || len(r.Files) != 1 || r.Files[0] != "logs/x.out" {
		t.Errorf("%d bytes kept, files %v", len(o.text()), r.Files)
	}
	o.size = maxLogged - 1
	if err := o.take([]byte("abc")); err == nil || !strings.Contains(err.Error(), "64 MiB") || o.take([]byte("x")) != nil {
		t.Errorf("a log without end: %v", err)
	}
}

func TestListens(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:0050 0100007F:9C40 01 00000000:00000000
`
	for port, want := range map[int]bool{8080: true, 80: false, 81: false} {
		if listens(table, "tcp", port) != want {
			t.Errorf("port %d: %v", port, !want)
		}
	}
	if !listens(table, "udp", 80) {
		t.Error("a UDP port has no state LISTEN")
	}
}

func TestTrace(t *testing.T) {
	s, err := topo.Options{Topo: "ring,4"}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	see := func(ends ...string) (seen []sighting) {
		for _, name := range ends {
			at = at.Add(time.Millisecond)
			seen = append(seen, sighting{observable(p)[name], at})
		}
		return seen
	}
	// s1: 1 h1, 2 s2, 3 s4; s2: 1 h2, 2 s1, 3 s3; s3: 1 h3, 2 s2, 3 s4; s4: 1 h4, 2 s3, 3 s1
	for _, c := range []struct {
		seen         []sighting
		path, others string
		arrived      bool
	}{
		{see("h1-eth0", "s1-eth1", "s1-eth2", "s2-eth2", "s2-eth1", "h2-eth0"), "s1 s2", "", true},
		{see("h1-eth0", "s1-eth1", "s1-eth2", "s1-eth3", "s2-eth2", "s4-eth3", "s2-eth1", "h2-eth0"), "s1 s2", "s4", true},
		{see("h1-eth0", "s1-eth1", "s1-eth2", "s2-eth2"), "s1 s2", "", false},
		{see("h1-eth0", "s1-eth1", "s1-eth2"), "s1", "", false}, // lost on the link
		{nil, "", "", false},
	} {
		path, others, arrived := trace(p, "h1", "h2", c.seen)
		if strings.Join(path, " ") != c.path || strings.Join(others, " ") != c.others || arrived != c.arrived {
			t.Errorf("path %v, others %v, arrived %v; want %+v", path, others, arrived, c)
		}
	}
}
