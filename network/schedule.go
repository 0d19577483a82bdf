package network

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/topo"
)

// A Step is a line of a schedule.
type Step struct {
	Line int           `json:"line"`
	At   time.Duration `json:"atNs"` // after the schedule's start
	// Link is a name of links (topo.Plan.FindLinks), Change what is done to them.
	Link   string     `json:"link,omitempty"`
	Change LinkChange `json:"change,omitzero"`
	// Partition is in force from then on; Heal ends one.
	Partition [][]string `json:"partition,omitempty"`
	Heal      bool       `json:"heal,omitempty"`
	text      string
}

// ParseSchedule reads lines TIME LINK ACTION, separated by blanks or commas:
//
//	# seconds, or with a unit, since the start
//	0    s1-s2   delay=10ms bw=10
//	2.5  s1->s2  cut
//	5s   s1-s2   mend
//	10s  -       partition {h1,h2}|rest
//	20s  -       heal
//
// An action is up, down, cut, mend, or options as topo.LinkSettings.Set takes them. The error
// names all that is wrong, with numbers of lines. The steps are in the order of time.
func ParseSchedule(text string, plan *topo.Plan) ([]Step, error) {
	var steps []Step
	var errs []error
	number := 0
	for line := range strings.Lines(text) {
		number++
		words, err := scheduleWords(line)
		if err == nil && (len(words) == 0 || len(steps) == 0 && strings.EqualFold(words[0], "time")) {
			continue // the heading of a table
		}
		var s Step
		if err == nil {
			s, err = parseStep(words, plan)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		s.Line, s.text = number, strings.Join(words[1:], " ")
		steps = append(steps, s)
	}
	if len(errs) == 0 && len(steps) == 0 {
		errs = append(errs, errors.New("the schedule is empty; write lines TIME LINK ACTION, for example 5s s1-s2 delay=50ms"))
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return int(a.At/time.Nanosecond - b.At/time.Nanosecond) })
	if len(errs) == 0 {
		errs = rehearse(steps, plan)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return steps, nil
}

// scheduleWords splits a line at blanks and commas, but not within quotes or braces.
func scheduleWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var inside rune // the quote or brace that ends it
	begun := false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, c := range line {
		switch {
		case inside != 0 && c == inside:
			if c == '}' {
				word.WriteRune(c)
			}
			inside = 0
		case inside != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			inside, begun = c, true
		case c == '{':
			inside, begun = '}', true
			word.WriteRune(c)
		case c == '#' && !begun:
			end()
			return words, nil
		case strings.ContainsRune(" \t\r\n,;", c):
			end()
		default:
			begun = true
			word.WriteRune(c)
		}
	}
	if inside != 0 {
		return nil, fmt.Errorf("there is no closing %c", inside)
	}
	end()
	return words, nil
}

// latest bounds the time of a step.
const latest = 1000 * time.Hour

func parseStep(words []string, plan *topo.Plan) (s Step, err error) {
	if len(words) < 3 && !(len(words) == 2 && words[1] == "heal") {
		return s, errors.New("write TIME LINK ACTION, for example 5s s1-s2 delay=50ms, or 5s - heal")
	}
	if s.At, err = parseOffset(words[0]); err != nil {
		return s, err
	}
	name, action := words[1], words[2:]
	if name == "heal" {
		name, action = "-", words[1:]
	}
	if name == "partition" {
		name, action = "-", words[1:]
	}
	if name == "-" {
		switch {
		case action[0] == "partition" && len(action) > 1:
			s.Partition, err = topo.ParseGroups(strings.Join(action[1:], " "))
		case action[0] == "heal" && len(action) == 1:
			s.Heal = true
		default:
			err = fmt.Errorf("%q is nothing that happens to no link; write partition {h1,h2}|{h3}, or heal", strings.Join(action, " "))
		}
		return s, err
	}
	s.Link = name
	_, oneWay, err := plan.FindLinks(name)
	if err != nil {
		return s, err
	}
	yes, no := true, false
	c := &s.Change
	switch word := action[0]; {
	case strings.Contains(word, "="):
		c.Options = action
		return s, nil
	case len(action) > 1:
		return s, fmt.Errorf("%q is too much after %s", strings.Join(action[1:], " "), word)
	case word == "up" && !oneWay:
		c.Up = &yes
	case word == "down" && !oneWay:
		c.Up = &no
	case word == "cut", word == "down":
		c.Cut = &yes
	case word == "mend", word == "up":
		c.Cut = &no
	default:
		return s, fmt.Errorf("there is no action %q; write up, down, cut, mend, or options such as delay=50ms", word)
	}
	return s, nil
}

// parseOffset reads a time since the start: 2.5 (seconds), 2.5s, 1m30s.
func parseOffset(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if f, bad := strconv.ParseFloat(text, 64); bad == nil && f >= 0 && f <= latest.Seconds() {
		return time.Duration(f * float64(time.Second)), nil
	}
	if err != nil || d < 0 || d > latest {
		return 0, fmt.Errorf("%q is not a time since the start; write 2.5 (seconds), 500ms or 1m30s", text)
	}
	return d, nil
}

// rehearse does the steps to a copy of the plan, and says which cannot be done.
func rehearse(steps []Step, plan *topo.Plan) []error {
	var errs []error
	plan = plan.Clone()
	for _, s := range steps {
		if err := s.rehearse(plan); err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", s.Line, err))
		}
	}
	return errs
}

func (s Step) rehearse(plan *topo.Plan) error {
	if s.Partition != nil {
		_, err := plan.Partition(s.Partition)
		return err
	}
	if s.Link == "" || len(s.Change.Options) == 0 {
		return nil
	}
	views, oneWay, err := plan.FindLinks(s.Link)
	if err != nil {
		return err
	}
	c := s.Change
	if oneWay {
		if c, err = c.oneWay(); err != nil {
			return err
		}
	}
	for _, v := range views {
		settings, err := plan.ChangeLink(v, c.Options...)
		if err != nil {
			return err
		}
		for _, file := range []string{settings.Record, settings.AB.Trace, settings.BA.Trace} {
			if file != "" && !filepath.IsAbs(file) {
				return fmt.Errorf("write the whole path of the file %s", file)
			}
		}
	}
	return nil
}

// startSchedule does what a schedule says when it says so.
func (n *Network) startSchedule(text string) ([]Fault, error) {
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	steps, err := ParseSchedule(text, plan)
	if err != nil {
		return nil, err
	}
	title := fmt.Sprintf("schedule of %d steps until %v", len(steps), steps[len(steps)-1].At)
	f, err := n.startFault("schedule", title, 0, func(ctx context.Context, note func(int, time.Time)) error {
		start := time.Now()
		var errs []error
		for i, s := range steps {
			at := start.Add(s.At)
			note(i, at)
			if !sleepUntil(ctx, at) {
				break
			}
			// What has begun is finished.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
			err := n.doStep(ctx, s)
			cancel()
			if err != nil {
				// The rest may still be right.
				errs = append(errs, fmt.Errorf("line %d: %w", s.Line, err))
				n.events.emit("WARN", "", fmt.Sprintf("schedule: line %d: %v", s.Line, err))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return nil, err
	}
	return []Fault{f}, nil
}

func (n *Network) doStep(ctx context.Context, s Step) error {
	n.events.emit("INFO", "", fmt.Sprintf("schedule: %v: %s", s.At, s.text))
	switch {
	case s.Partition != nil:
		_, err := n.startPartition(ctx, s.Partition)
		return err
	case s.Heal:
		return n.Heal(ctx)
	}
	_, err := n.ChangeLink(ctx, s.Link, "", s.Change)
	return err
}

// Heal ends the partition, if there is one.
func (n *Network) Heal(ctx context.Context) error {
	for _, f := range n.Faults() {
		if f.Kind == "partition" {
			return n.StopFaults(ctx, f.ID)
		}
	}
	return nil
}
