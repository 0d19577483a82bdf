package conversation

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"weft/control"
	"weft/control/openflow"
)

// Statistics say what a conversation consisted of.
type Statistics struct {
	// First and Last are when the first and the last message passed.
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Messages int       `json:"messages"`
	Bytes    int       `json:"bytes"`
	Types    []Count   `json:"types"`
	Setup    Setup     `json:"flowSetup"`
}

// A Count is how often a message of a type was sent, and by whom.
type Count struct {
	Type           string `json:"type"`
	FromSwitch     int    `json:"fromSwitch"`
	FromController int    `json:"fromController"`
	Bytes          int    `json:"bytes"`
}

// Setup says how long controllers took from a PACKET_IN to what it caused.
type Setup struct {
	PacketIns int `json:"packetIns"`
	// Unanswered caused nothing that could be told to be theirs.
	Unanswered int `json:"unanswered"`
	// First is the time to the first FLOW_MOD or PACKET_OUT, FlowMod and PacketOut to the
	// first of each.
	First     Latency `json:"first"`
	FlowMod   Latency `json:"flowMod"`
	PacketOut Latency `json:"packetOut"`
}

// A Latency is a distribution of times, milliseconds in JSON.
type Latency struct {
	Count  int          `json:"count"`
	Min    Milliseconds `json:"min"`
	Mean   Milliseconds `json:"mean"`
	Median Milliseconds `json:"p50"`
	P90    Milliseconds `json:"p90"`
	P95    Milliseconds `json:"p95"`
	P99    Milliseconds `json:"p99"`
	Max    Milliseconds `json:"max"`

	sorted []time.Duration
}

// Milliseconds is a time that JSON has as a number of milliseconds.
type Milliseconds time.Duration

// MarshalJSON writes milliseconds.
func (m Milliseconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(m)/float64(time.Millisecond), 'f', -1, 64), nil
}

// How long and how many PACKET_INs of a connection are remembered.
const (
	maxWaiting     = 4096
	maxWaitingTime = 30 * time.Second
)

// A Counter makes Statistics of messages. It is not for concurrent use.
type Counter struct {
	stats    Statistics
	types    map[string]*Count
	channels map[connection]*setups
	times    [3][]time.Duration // first, flow mod, packet out
}

// A connection is one between a switch and a controller.
type connection struct {
	sw, controller string
	number         int
}

// setups are the PACKET_INs of a connection that may still cause something.
type setups struct{ waiting []*asked }

// An asked is a PACKET_IN.
type asked struct {
	at       time.Time
	xid      uint32
	buffer   uint64
	inPort   uint64
	data     string
	headers  openflow.Fields
	answered [3]bool // by anything, a FLOW_MOD, a PACKET_OUT
}

// The kinds of answers.
const (
	byAny = iota
	byFlowMod
	byPacketOut
)

// NewCounter returns a Counter that has counted nothing.
func NewCounter() *Counter {
	return &Counter{types: map[string]*Count{}, channels: map[connection]*setups{}}
}

// Add counts a message, which says d. Messages come in the order of their time.
func (c *Counter) Add(m control.TapMessage, d openflow.Decoded) {
	s := &c.stats
	if s.Messages == 0 {
		s.First = m.Time
	}
	s.Last = m.Time
	s.Messages++
	s.Bytes += d.Length
	t := c.types[d.Name]
	if t == nil {
		t = &Count{Type: d.Name}
		c.types[d.Name] = t
	}
	t.Bytes += d.Length
	if m.FromSwitch {
		t.FromSwitch++
	} else {
		t.FromController++
	}
	key := connection{m.Switch, m.Controller, m.Conn}
	w := c.channels[key]
	if w == nil {
		w = &setups{}
		c.channels[key] = w
	}
	c.follow(w, m, d)
}

// follow joins PACKET_INs with what they caused.
func (c *Counter) follow(w *setups, m control.TapMessage, d openflow.Decoded) {
	kind := d.Name
	if _, sub, ok := strings.Cut(d.Name, " "); ok {
		kind = sub
	}
	switch {
	case m.FromSwitch && (kind == "PACKET_IN" || strings.HasPrefix(kind, "nx_packet_in")):
		c.stats.Setup.PacketIns++
		w.add(newAsked(m, d))
	case !m.FromSwitch && (kind == "FLOW_MOD" || kind == "nx_flow_mod"):
		c.answer(w, m, d, byFlowMod)
	case !m.FromSwitch && kind == "PACKET_OUT":
		c.answer(w, m, d, byPacketOut)
	}
}

func newAsked(m control.TapMessage, d openflow.Decoded) *asked {
	a := &asked{at: m.Time, xid: d.XID, buffer: uint64(control.NoBuffer)}
	if n, ok := d.Fields.Uint("buffer_id"); ok {
		a.buffer = n
	}
	a.inPort, _ = d.Fields.Uint("in_port")
	if f, ok := d.Fields.Get("packet"); ok {
		if p, ok := f.Value.(openflow.Packet); ok {
			a.data, a.headers = string(p.Data), p.Headers
		}
	}
	return a
}

// add remembers a PACKET_IN and forgets the oldest ones.
func (w *setups) add(a *asked) {
	old := 0
	for old < len(w.waiting) && (len(w.waiting)-old >= maxWaiting || a.at.Sub(w.waiting[old].at) > maxWaitingTime) {
		old++
	}
	w.waiting = append(slices.Delete(w.waiting, 0, old), a)
}

// answer finds the PACKET_IN that caused a message and notes how long that took.
func (c *Counter) answer(w *setups, m control.TapMessage, d openflow.Decoded, kind int) {
	i := w.cause(d, kind)
	if i < 0 {
		return
	}
	a := w.waiting[i]
	took := m.Time.Sub(a.at)
	for _, k := range []int{byAny, kind} {
		if !a.answered[k] {
			a.answered[k] = true
			c.times[k] = append(c.times[k], took)
		}
	}
	if a.answered[byFlowMod] && a.answered[byPacketOut] {
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
}

// cause returns which PACKET_IN caused a message, -1 if none can be told: that with its
// buffer, else the oldest whose packet is in it, that has its xid, or whose packet its
// match is for.
func (w *setups) cause(d openflow.Decoded, kind int) int {
	free := func(is func(*asked) bool) int {
		return slices.IndexFunc(w.waiting, func(a *asked) bool { return !a.answered[kind] && is(a) })
	}
	if n, ok := d.Fields.Uint("buffer_id"); ok && uint32(n) != control.NoBuffer {
		// The last, since buffers are used again.
		for i := len(w.waiting) - 1; i >= 0; i-- {
			if w.waiting[i].buffer == n {
				return i
			}
		}
		return -1
	}
	if kind == byPacketOut {
		f, ok := d.Fields.Get("packet")
		p, isPacket := f.Value.(openflow.Packet)
		if !ok || !isPacket {
			return -1
		}
		return free(func(a *asked) bool { return a.data == string(p.Data) })
	}
	command, _ := d.Fields.Get("command")
	if n, ok := command.Value.(openflow.Number); ok && n.N >= 3 {
		return -1 // deletes flows
	}
	if d.XID != 0 {
		if i := free(func(a *asked) bool { return a.xid == d.XID }); i >= 0 {
			return i
		}
	}
	f, _ := d.Fields.Get("match")
	match, _ := f.Value.(openflow.Fields)
	return free(func(a *asked) bool { return a.covered(match) })
}

// covered reports whether the packet is one of those that a match is for, and the match
// is for some packets only.
func (a *asked) covered(match openflow.Fields) bool {
	compared := 0
	for _, f := range match {
		if f.Name == "in_port" {
			if n, ok := f.Value.(openflow.Number); !ok || n.N != a.inPort {
				return false
			}
			continue // alone it says too little
		}
		h, ok := a.headers.Get(f.Name)
		if !ok {
			continue // a field that the summary does not have
		}
		if !sameValue(h.Value, f.Value) {
			return false
		}
		compared++
	}
	return compared > 0
}

// sameValue compares a header with a field of a match, which may have a mask.
func sameValue(header, match any) bool {
	switch m := match.(type) {
	case openflow.Number:
		h, ok := header.(openflow.Number)
		return ok && (h.N == m.N || equal(h, m.Text))
	case openflow.Text:
		return equal(header, string(m)) || strings.Contains(string(m), "/") && !strings.Contains(string(m), ":")
	}
	return false
}

// Statistics returns what has been counted so far.
func (c *Counter) Statistics() Statistics {
	s := c.stats
	for _, t := range c.types {
		s.Types = append(s.Types, *t)
	}
	slices.SortFunc(s.Types, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.FromSwitch+b.FromController, a.FromSwitch+a.FromController), strings.Compare(a.Type, b.Type))
	})
	s.Setup.First, s.Setup.FlowMod, s.Setup.PacketOut = latency(c.times[byAny]), latency(c.times[byFlowMod]), latency(c.times[byPacketOut])
	s.Setup.Unanswered = s.Setup.PacketIns - s.Setup.First.Count
	return s
}

func latency(times []time.Duration) Latency {
	if len(times) == 0 {
		return Latency{}
	}
	sorted := slices.Sorted(slices.Values(times))
	var sum time.Duration
	for _, t := range sorted {
		sum += t
	}
	l := Latency{Count: len(sorted), sorted: sorted, Mean: Milliseconds(sum / time.Duration(len(sorted)))}
	l.Min, l.Max = Milliseconds(sorted[0]), Milliseconds(sorted[len(sorted)-1])
	l.Median, l.P90, l.P95, l.P99 = l.percentile(50), l.percentile(90), l.percentile(95), l.percentile(99)
	return l
}

// percentile returns the smallest time that p percent of all do not exceed.
func (l Latency) percentile(p float64) Milliseconds {
	i := int(math.Ceil(p/100*float64(len(l.sorted)))) - 1
	return Milliseconds(l.sorted[max(i, 0)])
}

// String writes milliseconds with three digits after the point.
func (m Milliseconds) String() string {
	return strconv.FormatFloat(float64(m)/float64(time.Millisecond), 'f', 3, 64)
}

// Write writes the statistics for people.
func (s Statistics) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "from switch\tfrom controller\tbytes\t  message\n")
	for _, c := range s.Types {
		fmt.Fprintf(t, "%d\t%d\t%d\t  %s\n", c.FromSwitch, c.FromController, c.Bytes, c.Type)
	}
	t.Flush()
	span := s.Last.Sub(s.First)
	fmt.Fprintf(w, "%d messages, %d bytes in %.3f s\n", s.Messages, s.Bytes, span.Seconds())
	if s.Setup.PacketIns == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nflow setup: %d PACKET_INs, %d of them unanswered; times to the answer in ms\n", s.Setup.PacketIns, s.Setup.Unanswered)
	fmt.Fprintf(t, "count\tmin\tmean\tp50\tp90\tp95\tp99\tmax\t  answer\n")
	for _, row := range []struct {
		name string
		l    Latency
	}{{"FLOW_MOD or PACKET_OUT", s.Setup.First}, {"FLOW_MOD", s.Setup.FlowMod}, {"PACKET_OUT", s.Setup.PacketOut}} {
		if l := row.l; l.Count > 0 {
			fmt.Fprintf(t, "%d\t%v\t%v\t%v\t%v\t%v\t%v\t%v\t  %s\n", l.Count, l.Min, l.Mean, l.Median, l.P90, l.P95, l.P99, l.Max, row.name)
		}
	}
	return t.Flush()
}
