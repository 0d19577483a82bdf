package experiment

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A Progress tells people how an experiment goes on: a line for each step and, at a terminal,
// a last line that says what runs and how long it still takes. In a pipe all lines stay; with
// JSON each event is a line of its own.
type Progress struct {
	w        io.Writer
	terminal bool
	asJSON   bool
	colours  bool
	width    int

	mu      sync.Mutex
	trials  int // of the experiment
	begun   int // trials
	current *TrialResult
	// expected is how long a trial takes: as its steps say, then as the trials before took.
	expected   time.Duration
	took       time.Duration // trials that have ended
	ended      int
	trialBegan time.Time
	steps      map[string]running // that run, by name
	order      []string
	stage      string
	shown      bool // a last line is there
	stop       chan struct{}
	done       sync.WaitGroup
}

// running is a step under way.
type running struct {
	Begin
	at time.Time
}

// ProgressConfig says how a Progress writes.
type ProgressConfig struct {
	Writer io.Writer
	// Terminal says that lines can be written over; Width is that of the window, columns.
	Terminal bool
	Width    int
	Colours  bool
	JSON     bool
}

// NewProgress returns a Progress of an experiment of so many trials, each of which is expected to
// take so long (0: nobody knows).
func NewProgress(c ProgressConfig, trials int, expected time.Duration) *Progress {
	p := &Progress{w: c.Writer, terminal: c.Terminal, asJSON: c.JSON, colours: c.Colours, width: c.Width,
		trials: trials, expected: expected, steps: map[string]running{}, stop: make(chan struct{})}
	if p.width < 20 {
		p.width = 80
	}
	if p.terminal && !p.asJSON {
		p.done.Go(p.tick)
	}
	return p
}

// tick renews the last line.
func (p *Progress) tick() {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.mu.Lock()
			p.last()
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

// Close removes the last line.
func (p *Progress) Close() {
	close(p.stop)
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// Event shows an event.
func (p *Progress) Event(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asJSON {
		enc := json.NewEncoder(p.w)
		enc.SetEscapeHTML(false)
		enc.Encode(e)
		return
	}
	switch {
	case e.Trial != nil:
		p.begun++
		p.current, p.trialBegan, p.steps, p.order = e.Trial, time.Now(), map[string]running{}, nil
		if p.trials > 1 {
			p.line("", "trial %d of %d%s", p.begun, p.trials, p.arguments(e.Trial))
		}
	case e.Stage != "":
		p.stage = e.Stage
	case e.Begin != nil:
		p.stage = ""
		if _, twice := p.steps[e.Begin.Name]; !twice {
			p.order = append(p.order, e.Begin.Name)
		}
		p.steps[e.Begin.Name] = running{*e.Begin, time.Now()}
	case e.Step != nil:
		delete(p.steps, e.Step.Name)
		p.step(e.Step)
	case e.Note != nil:
		p.line("yellow", "  note   %s", e.Note.Text)
	case e.Ended != nil:
		p.ended++
		p.took += time.Since(p.trialBegan)
		p.steps, p.stage = map[string]running{}, ""
		p.trialEnded(e.Ended)
	}
	if p.terminal {
		p.last()
	}
}

// arguments says which point of the sweep a trial is at.
func (p *Progress) arguments(t *TrialResult) string {
	text := t.Arguments.Text()
	if text != "" {
		text = ": " + text
	}
	return text
}

// step shows a step that has ended.
func (p *Progress) step(s *StepResult) {
	word, colour := string(s.Status), ""
	switch s.Status {
	case Passed:
		word, colour = "pass", "green"
	case Failed:
		word, colour = "FAIL", "red"
	case Broken:
		word, colour = "ERROR", "red"
	case Skipped:
		word = "skip"
	case Interrupted:
		word = "ended"
	}
	text := s.Name
	if s.Summary != "" {
		text += "  " + s.Summary
	}
	if s.Check && s.Points != 1 && s.Status != Skipped {
		text += fmt.Sprintf("  (%s of %s)", formatNumber(s.Earned), plural(s.Points, "point"))
	}
	p.line(colour, "  %-5s  %s  %s", word, text, formatDuration(time.Duration(s.Seconds*1e9)))
	if s.Message != "" && s.Status != Interrupted {
		for line := range strings.Lines(s.Message) {
			p.line(colour, "         %s", strings.TrimRight(line, "\n"))
		}
	}
}

// trialEnded sums a trial up.
func (p *Progress) trialEnded(t *TrialResult) {
	if t.Message != "" {
		for line := range strings.Lines(t.Message) {
			p.line("red", "  %s: %s", t.Status, strings.TrimRight(line, "\n"))
		}
	}
	if p.trials > 1 {
		p.line("", "  %s, %s", t.Totals.Text(), t.Fidelity.Text())
	}
}

// line writes a line that stays.
func (p *Progress) line(colour, format string, args ...any) {
	p.clear()
	text := printable(fmt.Sprintf(format, args...))
	if code := map[string]string{"green": "32", "red": "31", "yellow": "33"}[colour]; code != "" && p.colours {
		text = "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	fmt.Fprintln(p.w, text)
}

// printable takes control characters out: what programs print does not drive the terminal.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' || c >= 0x7f && c < 0xa0 {
			return '·'
		}
		return c
	}, text)
}

// last writes what runs and how long it still takes over the last line.
func (p *Progress) last() {
	var parts []string
	if p.stage != "" {
		parts = append(parts, p.stage)
	}
	for _, name := range p.order {
		r, ok := p.steps[name]
		if !ok {
			continue
		}
		text := name + " " + formatSeconds(time.Since(r.at))
		if limit := max(r.Expected, r.Within); limit > 0 {
			text += " of " + formatSeconds(limit)
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		p.clear()
		return
	}
	text := "  " + strings.Join(parts, ", ")
	if left, ok := p.left(); ok {
		text += "; about " + formatSeconds(left) + " to go"
	}
	if p.trials > 1 {
		text = fmt.Sprintf("  %d/%d%s", max(p.begun, 1), p.trials, text)
	}
	text = printable(text)
	if utf8.RuneCountInString(text) >= p.width {
		text = string([]rune(text)[:p.width-2]) + "…"
	}
	fmt.Fprint(p.w, "\r\x1b[K"+text)
	p.shown = true
}

// left is how long it still takes.
func (p *Progress) left() (time.Duration, bool) {
	each := p.expected
	if p.ended > 0 {
		each = p.took / time.Duration(p.ended)
	}
	if each == 0 {
		return 0, false
	}
	all := each * time.Duration(p.trials-p.begun)
	if p.begun > p.ended {
		all += max(0, each-time.Since(p.trialBegan))
	}
	return all, true
}

// clear takes the last line away.
func (p *Progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// formatSeconds writes whole seconds.
func formatSeconds(d time.Duration) string {
	if d = d.Round(time.Second); d >= time.Minute {
		return d.String()
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

// plural writes a number of things.
func plural(n float64, what string) string {
	if n != 1 {
		what += "s"
	}
	return formatNumber(n) + " " + what
}

// Text says for people how many checks passed.
func (t Totals) Text() string {
	if t.Checks == 0 {
		return "no checks"
	}
	text := fmt.Sprintf("%d of %s passed", t.Passed, plural(float64(t.Checks), "check"))
	if t.Points != float64(t.Checks) || t.Earned != float64(t.Passed) {
		text += fmt.Sprintf(", %s of %s", formatNumber(t.Earned), plural(t.Points, "point"))
	}
	return text
}

// Text says for people how a network kept its time.
func (f Fidelity) Text() string {
	text := "fidelity " + f.Verdict
	if len(f.Reasons) > 0 {
		text += ": " + f.Reasons[0].Text
		if more := len(f.Reasons) - 1; more > 0 {
			text += fmt.Sprintf(" (and %d more)", more)
		}
	}
	return text
}

// Text writes arguments on one line.
func (a Arguments) Text() string {
	var parts []string
	for _, name := range sortedNames(a) {
		parts = append(parts, name+"="+a[name])
	}
	return strings.Join(parts, " ")
}
