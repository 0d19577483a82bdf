package lane

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/topo"
)

// A Trace is rate, delay and loss over time. It starts over at its end.
type Trace struct {
	// Of a Mahimahi trace: when opportunities bytes may leave, ns, in order.
	chances []int64
	// Of a CSV file.
	rows   []row
	period int64 // ns
	rated  bool  // some row has a rate
	bits   float64
}

// A row holds from its time on; what is NaN is that of the link's settings.
type row struct {
	start             int64   // ns
	rate, delay, loss float64 // bit/s, ns, probability
}

// opportunity is what may leave at once with a Mahimahi trace: an IP packet of 1,500 bytes
// with the 4 bytes that Mahimahi's TUN devices put before it.
const (
	opportunity         = 1504
	opportunityOverhead = 4 - ethernetLen // of a frame's size
)

const (
	maxTraceTime  = 1000 * time.Hour
	maxTraceLines = 10_000_000
)

// ParseTrace reads a trace: a Mahimahi trace has a number of milliseconds in each line, in
// which 1,504 bytes may leave. CSV has a first line that names its columns, which
// are time and some of rate, delay and loss, with the units of link settings. A row holds until the
// time of the next; the last one as long as the one before it. An empty field
// leaves the link's own setting. Lines that begin with # are comments.
//
// An error names the line.
func ParseTrace(text []byte) (*Trace, error) {
	p := traceParser{t: &Trace{}}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if number > maxTraceLines {
			return nil, fmt.Errorf("line %d: a trace has at most %d lines", number, maxTraceLines)
		}
		s := strings.TrimSpace(string(line))
		if number == 1 {
			s = strings.TrimPrefix(s, "\ufeff")
		}
		if s == "" || s[0] == '#' {
			continue
		}
		if err := p.line(s); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return p.t, nil
}

type traceParser struct {
	t       *Trace
	columns []string // of CSV
}

func (p *traceParser) line(s string) error {
	switch {
	case p.columns != nil:
		return p.row(s)
	case len(p.t.chances) == 0 && strings.ContainsAny(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz"):
		return p.header(s)
	}
	ms, err := strconv.ParseUint(s, 10, 64)
	if err != nil || ms > uint64(maxTraceTime/time.Millisecond) {
		return fmt.Errorf("%q is not a number of milliseconds; a Mahimahi trace has one in each line, and CSV begins with a line like time,rate,delay,loss", s)
	}
	at := int64(ms) * int64(time.Millisecond)
	if n := len(p.t.chances); n > 0 && at < p.t.chances[n-1] {
		return fmt.Errorf("%d ms comes after %d ms; times may not go back", ms, p.t.chances[n-1]/int64(time.Millisecond))
	}
	p.t.chances = append(p.t.chances, at)
	return nil
}

func (p *traceParser) header(s string) error {
	for name := range strings.SplitSeq(strings.ToLower(s), ",") {
		name = strings.TrimSpace(name)
		switch {
		case !slices.Contains([]string{"time", "rate", "delay", "loss"}, name):
			return fmt.Errorf("there is no column %q; they are time, rate, delay and loss", name)
		case slices.Contains(p.columns, name):
			return fmt.Errorf("column %s is there twice", name)
		}
		p.columns = append(p.columns, name)
	}
	switch {
	case !slices.Contains(p.columns, "time"):
		return errors.New("the column time is missing")
	case len(p.columns) == 1:
		return errors.New("there is no column rate, delay or loss")
	}
	return nil
}

func (p *traceParser) row(s string) error {
	fields := strings.Split(s, ",")
	if len(fields) != len(p.columns) {
		return fmt.Errorf("%d fields; there are %d columns: %s", len(fields), len(p.columns), strings.Join(p.columns, ","))
	}
	r := row{rate: math.NaN(), delay: math.NaN(), loss: math.NaN()}
	for i, name := range p.columns {
		field := strings.TrimSpace(fields[i])
		if field == "" {
			if name == "time" {
				return errors.New("the time is missing")
			}
			continue
		}
		var s topo.LinkSettings
		var err error
		switch name {
		case "time":
			r.start, err = parseTraceTime(field)
		case "rate":
			var rate topo.Rate
			rate, err = topo.ParseRate(field)
			r.rate = float64(rate)
			p.t.rated = true
		case "delay":
			err = s.Set("delay=" + field)
			r.delay = float64(s.AB.Delay)
		case "loss":
			err = s.Set("loss=" + field)
			r.loss = s.AB.Loss.Probability()
		}
		if err != nil {
			return err
		}
	}
	rows := p.t.rows
	switch {
	case len(rows) == 0 && r.start != 0:
		return fmt.Errorf("the first row has the time %s; it must be 0", fields[slices.Index(p.columns, "time")])
	case len(rows) > 0 && r.start <= rows[len(rows)-1].start:
		return fmt.Errorf("the time %s is not after that of the row before", fields[slices.Index(p.columns, "time")])
	}
	p.t.rows = append(rows, r)
	return nil
}

// parseTraceTime reads a time; a bare number is of seconds.
func parseTraceTime(s string) (int64, error) {
	d, err := time.ParseDuration(s)
	if f, bare := strconv.ParseFloat(s, 64); bare == nil {
		d, err = time.Duration(f*float64(time.Second)), nil
		if !(math.Abs(f) < maxTraceTime.Seconds()) {
			d = -1
		}
	}
	if err != nil || d < 0 || d > maxTraceTime {
		return 0, fmt.Errorf("%q is not a time from 0 to 1000h; write for example 1.5s, 250ms or 2 (seconds)", s)
	}
	return int64(d), nil
}

// end checks the whole and finds its period.
func (p *traceParser) end() error {
	t := p.t
	if n := len(t.chances); n > 0 {
		t.period = t.chances[n-1]
		if t.period == 0 {
			return errors.New("the last time is 0 ms; it says when the trace starts over, and must be later")
		}
		t.rated = true
		t.bits = float64(n) * opportunity * 8
		return nil
	}
	n := len(t.rows)
	if n == 0 {
		return errors.New("the trace is empty")
	}
	last := t.rows[n-1].start
	if n == 1 {
		t.period = int64(time.Second)
	} else {
		t.period = last + last - t.rows[n-2].start
	}
	for i, r := range t.rows {
		end := t.period
		if i+1 < n {
			end = t.rows[i+1].start
		}
		if !math.IsNaN(r.rate) {
			t.bits += r.rate * float64(end-r.start) / 1e9
		}
	}
	return nil
}

// Period returns after how long the trace starts over.
func (t *Trace) Period() time.Duration { return time.Duration(t.period) }

// mean returns the mean rate, bit/s.
func (t *Trace) mean() float64 { return t.bits / (float64(t.period) / 1e9) }

// at returns the row that holds at a time since the beginning, and when it began and ends.
func (t *Trace) at(since int64) (r *row, start, end int64) {
	if len(t.rows) == 0 {
		return nil, 0, Never
	}
	round := since - since%t.period
	i, found := slices.BinarySearchFunc(t.rows, since-round, func(r row, at int64) int {
		return int(min(1, max(-1, r.start-at)))
	})
	if !found {
		i--
	}
	end = round + t.period
	if i+1 < len(t.rows) {
		end = round + t.rows[i+1].start
	}
	return &t.rows[i], round + t.rows[i].start, end
}

// traced is the rate of a CSV trace.
type traced struct {
	trace *Trace
	start int64   // when the trace began
	rate  float64 // where the trace has none; 0 for no bound
	done  float64 // when all has passed, ns since start
}

func (s *traced) depart(t int64, frame int) int64 {
	s.done = max(s.done, float64(t-s.start))
	bits := float64(frame) * 8
	from := int64(s.done)
	for idle := int64(0); idle <= s.trace.period; {
		r, _, end := s.trace.at(from)
		rate := r.rate
		if math.IsNaN(rate) {
			rate = s.rate
			if rate == 0 {
				return max(t, s.start+int64(s.done))
			}
		}
		room := (float64(end) - s.done) * rate / 1e9
		if bits <= room && rate > 0 {
			s.done += bits / rate * 1e9
			return max(t, s.start+int64(s.done))
		}
		if rate == 0 {
			idle += end - from
		} else {
			idle = 0
		}
		bits -= max(room, 0)
		s.done, from = float64(end), end
	}
	return Never // the trace has no rate but 0
}

// chances is the rate of a Mahimahi trace.
type chances struct {
	trace *Trace
	start int64
	round int64 // when this round of the trace began, since start
	next  int   // index of the opportunity
	left  int   // of it
}

func (s *chances) depart(t int64, frame int) int64 {
	since := t - s.start
	list := s.trace.chances
	if s.round+list[s.next] < since {
		// What was not used is lost.
		if round := (since - 1) / s.trace.period * s.trace.period; round > s.round {
			s.round, s.next = round, 0
		}
		at, _ := slices.BinarySearch(list[s.next:], since-s.round)
		s.next += at
		s.left = opportunity
	}
	need := max(1, frame+opportunityOverhead)
	for {
		if s.next == len(list) {
			s.round += s.trace.period
			s.next = 0
		}
		used := min(need, s.left)
		need -= used
		s.left -= used
		if need == 0 {
			return max(t, s.start+s.round+list[s.next])
		}
		s.next++
		s.left = opportunity
	}
}
