package experiment

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// tell tells a Progress of two trials.
func tell(c ProgressConfig) string {
	var buf bytes.Buffer
	c.Writer = &buf
	p := NewProgress(c, 2, time.Minute)
	for n := range 2 {
		t := &TrialResult{Trial: n + 1, Arguments: Arguments{"delay": "1ms"}, Totals: Totals{Checks: 2, Passed: 1, Points: 3, Earned: 1}, Fidelity: worst(nil)}
		p.Event(Event{Trial: t})
		p.Event(Event{Stage: "hosts"})
		p.Event(Event{Begin: &Begin{Name: "fast", Expected: time.Second}})
		p.Event(Event{Step: &StepResult{Name: "fast", Check: true, Status: Passed, Points: 1, Earned: 1, Summary: "3 of 3\x1b[31m", Seconds: 0.25}})
		p.Event(Event{Note: &Note{Text: "s1: gone"}})
		p.Event(Event{Step: &StepResult{Name: "reach", Check: true, Status: Failed, Points: 2, Message: "unreached is 1\nand more", Seconds: 1.5}})
		p.Event(Event{Step: &StepResult{Name: "down s1-s2", Status: Done}})
		p.Event(Event{Ended: t})
	}
	p.Close()
	return buf.String()
}

func TestProgress(t *testing.T) {
	golden(t, "progress.txt", []byte(tell(ProgressConfig{})))
	coloured := tell(ProgressConfig{Terminal: true, Colours: true, Width: 60})
	if !strings.Contains(coloured, "\x1b[32m  pass") || !strings.Contains(coloured, "1/2  fast 0 s of 1 s; about") {
		t.Errorf("%q", coloured)
	}
	if !strings.HasSuffix(coloured, "\n") || strings.Contains(coloured, "3 of 3\x1b") {
		t.Errorf("something is left over, or what a program printed drives the terminal: %q", coloured)
	}
	lines := strings.Split(strings.TrimSpace(tell(ProgressConfig{JSON: true})), "\n")
	if len(lines) != 16 || !strings.HasPrefix(lines[0], `{"trial":{`) {
		t.Errorf("%d lines, the first %s", len(lines), lines[0])
	}
}
