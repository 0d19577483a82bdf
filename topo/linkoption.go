package topo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A LinkKey is a setting of links: one vocabulary for command lines, the REPL, files,
// scripts and JSON.
type LinkKey struct {
	Name   string
	Syntax string // of the value
	Doc    string // one line
	// Way says that the setting may differ between the directions.
	Way bool

	parse func(s *LinkSettings, i *Impairment, value string) error
	text  func(s *LinkSettings, i *Impairment) string // empty if not set
}

// LinkKeys lists the settings of links in the order in which they are written.
func LinkKeys() []LinkKey { return slices.Clone(linkKeys()) }

func linkKeys() []LinkKey {
	way := func(name, syntax, doc string, field func(*Impairment) value) LinkKey {
		return LinkKey{name, syntax, doc, true,
			func(_ *LinkSettings, i *Impairment, v string) error { return field(i).set(v) },
			func(_ *LinkSettings, i *Impairment) string { return field(i).text() },
		}
	}
	whole := func(name, syntax, doc string, field func(*LinkSettings) value) LinkKey {
		return LinkKey{name, syntax, doc, false,
			func(s *LinkSettings, _ *Impairment, v string) error { return field(s).set(v) },
			func(s *LinkSettings, _ *Impairment) string { return field(s).text() },
		}
	}
	return []LinkKey{
		whole("driver", "DRIVER", "auto, veth, netem, wire, patch between Open vSwitch switches, or memif between dpdk nodes; hw for a NIC", func(s *LinkSettings) value { return wordValue(&s.Driver, "", linkDrivers...) }),
		way("bw", "RATE", "rate: 10 (Mbit/s), 64kbit, 2.5gbit; 1 kbit/s to 40 Gbit/s", func(i *Impairment) value { return rateValue{&i.Rate} }),
		way("burst", "BYTES", "what may pass at once after a pause (none)", func(i *Impairment) value { return bytesValue{&i.Burst} }),
		way("delay", "TIME", "one-way delay: 5ms, 250us", func(i *Impairment) value { return timeValue{&i.Delay} }),
		way("jitter", "TIME", "deviation from the delay", func(i *Impairment) value { return timeValue{&i.Jitter} }),
		way("distribution", "NAME", "of the jitter: uniform, normal, pareto, paretonormal", func(i *Impairment) value {
			return wordValue(&i.Distribution, "", Uniform, Normal, Pareto, ParetoNormal)
		}),
		way("overtake", "BOOL", "jitter may change the order of frames", func(i *Impairment) value { return boolValue{&i.Overtake} }),
		way("loss", "PERCENT", "share of frames lost", func(i *Impairment) value { return percentValue{&i.Loss} }),
		way("loss_burst", "N", "mean number of frames lost in a row", func(i *Impairment) value { return burstValue{&i.LossBurst} }),
		way("gemodel", "P/R/BAD/GOOD", "Gilbert-Elliott loss in percent, as tc's gemodel", func(i *Impairment) value { return geValue{&i.GilbertElliott} }),
		way("drop", "LIST", "numbers of the frames to lose: 3+10-12", func(i *Impairment) value { return rangesValue{&i.Drop} }),
		way("drop_if", "FILTER", "lose frames that a capture filter matches: 'udp port 53'", func(i *Impairment) value { return stringValue{&i.DropIf} }),
		way("duplicate", "PERCENT", "share of frames sent twice", func(i *Impairment) value { return percentValue{&i.Duplicate} }),
		way("corrupt", "PERCENT", "share of frames with a bit inverted", func(i *Impairment) value { return percentValue{&i.Corrupt} }),
		way("reorder", "PERCENT", "share of frames that skip the delay", func(i *Impairment) value { return percentValue{&i.Reorder} }),
		way("reorder_gap", "N", "only every N-th frame may be reordered", func(i *Impairment) value { return countValue{&i.ReorderGap} }),
		way("queue", "SIZE", "queue before the rate: 100 (frames), 64kB, 20ms", func(i *Impairment) value { return queueValue{&i.Queue} }),
		way("aqm", "NAME", "queue discipline: droptail, red, codel, fq_codel", func(i *Impairment) value {
			return wordValue(&i.AQM, "", DropTail, RED, CoDel, FQCoDel)
		}),
		way("ecn", "BOOL", "mark ECN-capable frames instead of dropping them", func(i *Impairment) value { return boolValue{&i.ECN} }),
		way("aqm_target", "TIME", "CoDel's target (5ms)", func(i *Impairment) value { return timeValue{&i.AQMTarget} }),
		way("aqm_interval", "TIME", "CoDel's interval (100ms)", func(i *Impairment) value { return timeValue{&i.AQMInterval} }),
		way("red_min", "BYTES", "RED's lower threshold (a quarter of the queue)", func(i *Impairment) value { return bytesValue{&i.REDMin} }),
		way("red_max", "BYTES", "RED's upper threshold (three quarters of the queue)", func(i *Impairment) value { return bytesValue{&i.REDMax} }),
		way("red_probability", "PERCENT", "RED's drops at the upper threshold (10)", func(i *Impairment) value { return percentValue{&i.REDProbability} }),
		way("slot", "TIME[-TIME]", "deliver in bursts this far apart", func(i *Impairment) value { return slotValue{&i.Slot} }),
		way("slot_packets", "N", "frames in a slot's burst at most", func(i *Impairment) value { return countValue{&i.Slot.Packets} }),
		way("slot_bytes", "BYTES", "bytes in a slot's burst at most", func(i *Impairment) value { return bytesValue{&i.Slot.Bytes} }),
		way("trace", "FILE", "rate, delay and loss over time: a Mahimahi trace or CSV", func(i *Impairment) value { return stringValue{&i.Trace} }),
		whole("mtu", "BYTES", "largest IP packet (1500)", func(s *LinkSettings) value { return mtuValue{&s.MTU} }),
		whole("seed", "N", "the same frames meet the same fate in every run (wire)", func(s *LinkSettings) value { return seedValue{&s.Seed} }),
		whole("force", "BOOL", "lend a NIC that the machine is using (hw)", func(s *LinkSettings) value { return boolValue{&s.Force} }),
		whole("record", "FILE", "write each frame's fate to a CSV file, in whose name {link} is the link's (wire)", func(s *LinkSettings) value { return stringValue{&s.Record} }),
	}
}

// LinkSettings is what people set of a link: how it is made and what it does to frames.
type LinkSettings struct {
	Driver LinkDriver `json:"driver,omitempty"`
	AB     Impairment `json:"ab,omitzero"` // from A to B
	BA     Impairment `json:"ba,omitzero"` // from B to A
	// MTU is the largest IP packet of both ends, in bytes; 0 means 1500.
	MTU int `json:"mtu,omitempty"`
	// Seed makes chance repeatable; nil for a random one.
	Seed *uint64 `json:"seed,omitempty"`
	// Record is a file to which the fate of each frame goes.
	Record string `json:"record,omitempty"`
	// Force lends a NIC that the machine is using.
	Force bool `json:"force,omitempty"`
}

// Impaired reports whether the link does anything to its frames.
func (s LinkSettings) Impaired() bool { return !s.AB.IsZero() || !s.BA.IsZero() }

// NeedsWire reports whether only the wire driver does what is asked on every machine.
func (s LinkSettings) NeedsWire() bool {
	only := func(i Impairment) bool { return i.Trace != "" || i.Drop != "" || i.DropIf != "" }
	return s.Seed != nil || s.Record != "" || only(s.AB) || only(s.BA)
}

// Set changes settings. An option is KEY=VALUE for both directions, or ab:KEY=VALUE or
// ba:KEY=VALUE for one; see LinkKeys, and Mininet's names max_queue_size, use_htb,
// latency_ms, enable_ecn and enable_red. The value 0, false or none takes a setting back. Its
// error, OptionErrors, names all that is wrong; s is then unchanged.
func (s *LinkSettings) Set(options ...string) error {
	next := *s
	var errs OptionErrors
	fail := func(option int, err error) { errs = append(errs, OptionError{option, err}) }
	seen := map[string]bool{}
	keys := linkKeys()
	for i, o := range options {
		name, value, ok := strings.Cut(o, "=")
		if !ok {
			fail(i, fmt.Errorf("%q is not KEY=VALUE; write for example delay=5ms", o))
			continue
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if seen[name] {
			fail(i, fmt.Errorf("%s is given twice; write it once", name))
			continue
		}
		seen[name] = true
		if err := next.set(keys, name, value); err != nil {
			fail(i, err)
		}
	}
	if len(errs) == 0 {
		if err := next.check(); err != nil {
			fail(-1, err)
		}
	}
	if len(errs) > 0 {
		return errs
	}
	*s = next
	return nil
}

// OptionErrors is all that is wrong with a list of options, in one line.
type OptionErrors []OptionError

// An OptionError is what is wrong with one option.
type OptionError struct {
	Option int // its place in the list; -1: of options that are right one by one
	Err    error
}

func (e OptionErrors) Error() string {
	var texts []string
	for _, o := range e {
		texts = append(texts, o.Err.Error())
	}
	return strings.Join(texts, "; ")
}

func (s *LinkSettings) set(keys []LinkKey, name, value string) error {
	ways := []*Impairment{&s.AB, &s.BA}
	key := name
	if way, rest, ok := strings.Cut(name, ":"); ok {
		key = rest
		switch way {
		case "ab":
			ways = ways[:1]
		case "ba":
			ways = ways[1:]
		default:
			return fmt.Errorf("%q: a direction is ab or ba, not %q", name, way)
		}
	}
	key, value, err := fromMininet(key, value)
	if key == "" || err != nil {
		return err
	}
	k := slices.IndexFunc(keys, func(k LinkKey) bool { return k.Name == key })
	if k < 0 {
		var names []string
		for _, k := range keys {
			names = append(names, k.Name)
		}
		return unknown("option", key, names)
	}
	if !keys[k].Way {
		if key != name {
			return fmt.Errorf("%s is the same for both directions; write %s=%s", key, key, value)
		}
		ways = ways[:1]
	}
	for _, i := range ways {
		if err := keys[k].parse(s, i, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// fromMininet turns an option of Mininet's TCLink into ours; an empty key means that there
// is nothing to set.
func fromMininet(key, value string) (string, string, error) {
	switch key {
	case "max_queue_size":
		return "queue", value, nil
	case "enable_ecn":
		return "ecn", value, nil
	case "latency_ms":
		return "queue", value + "ms", nil
	case "enable_red":
		var on bool
		if err := (boolValue{&on}).set(value); err != nil || !on {
			return "", "", err
		}
		return "aqm", string(RED), nil
	case "use_htb", "use_tbf", "use_hfsc":
		// How Mininet shapes a rate; ours is the same whichever is asked for.
		var on bool
		if err := (boolValue{&on}).set(value); err != nil {
			return "", "", fmt.Errorf("%s: %w", key, err)
		}
		return "", "", nil
	case "speedup", "gro", "txo", "rxo":
		return "", "", fmt.Errorf("%s is of Mininet's own machinery; leave it out", key)
	}
	return key, value, nil
}

// Options returns the options that Set would take to give these settings, in the order of
// LinkKeys: what both directions share once, then ab: and ba:.
func (s LinkSettings) Options() []string {
	var both, ab, ba []string
	for _, k := range linkKeys() {
		a, b := k.text(&s, &s.AB), k.text(&s, &s.BA)
		switch {
		case a == b && a != "":
			both = append(both, k.Name+"="+a)
		default:
			if a != "" {
				ab = append(ab, "ab:"+k.Name+"="+a)
			}
			if b != "" {
				ba = append(ba, "ba:"+k.Name+"="+b)
			}
		}
	}
	return slices.Concat(both, ab, ba)
}

// check returns what is wrong with settings that are right one by one.
func (s LinkSettings) check() error {
	way := func(name string, i Impairment) error {
		if err := i.check(); err != nil {
			return fmt.Errorf("%s%w", name, err)
		}
		return nil
	}
	var errs []error
	if s.AB == s.BA {
		errs = append(errs, way("", s.AB))
	} else {
		errs = append(errs, way("ab: ", s.AB), way("ba: ", s.BA))
	}
	switch s.Driver {
	case "", LinkAuto, LinkWire:
	case LinkNetem:
		if s.NeedsWire() {
			errs = append(errs, errors.New("seed, record, trace, drop and drop_if need the driver wire; leave driver=netem out"))
		}
	case LinkHW:
		if s.Impaired() || s.Seed != nil || s.Record != "" {
			errs = append(errs, errors.New("a hw link is what the NIC is plugged into, and weft impairs nothing on it; put a switch between and impair the link to that"))
		}
	case LinkMemif:
		if s.Impaired() || s.Seed != nil || s.Record != "" || s.MTU != 0 {
			errs = append(errs, errors.New("a memif link is memory that the managers share: weft impairs and records nothing on it, and it has no MTU; leave driver memif out, or put these settings on another link"))
		}
	default:
		if s.Impaired() || s.Seed != nil || s.Record != "" {
			errs = append(errs, fmt.Errorf("a %s link impairs nothing; leave the driver out, or write netem or wire", s.Driver))
		}
		if s.Driver == LinkPatch && s.MTU != 0 {
			errs = append(errs, errors.New("a patch link has no MTU; leave mtu out"))
		}
	}
	return errors.Join(errs...)
}

// MarshalJSON writes an object with the keys of LinkKeys.
func (i Impairment) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	for _, k := range linkKeys() {
		if !k.Way {
			continue
		}
		if text := k.text(nil, &i); text != "" {
			if buf.Len() > 1 {
				buf.WriteByte(',')
			}
			v, err := json.Marshal(text)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&buf, "%q:%s", k.Name, v)
		}
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON writes; values may be numbers and booleans too.
func (i *Impairment) UnmarshalJSON(b []byte) error {
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &values); err != nil {
		return err
	}
	var s LinkSettings
	var errs []error
	for _, k := range linkKeys() {
		raw, ok := values[k.Name]
		if !ok || !k.Way {
			continue
		}
		delete(values, k.Name)
		text := string(raw)
		if raw[0] == '"' {
			if err := json.Unmarshal(raw, &text); err != nil {
				return err
			}
		}
		if err := k.parse(&s, &s.AB, text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.Name, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		errs = append(errs, fmt.Errorf("unknown key %q of a link's direction", name))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	*i = s.AB
	return nil
}

// A value is one setting as text.
type value interface {
	set(text string) error
	text() string // empty if not set
}

type (
	rateValue    struct{ v *Rate }
	timeValue    struct{ v *time.Duration }
	bytesValue   struct{ v *int64 }
	countValue   struct{ v *int }
	mtuValue     struct{ v *int }
	percentValue struct{ v *Percent }
	burstValue   struct{ v *float64 }
	boolValue    struct{ v *bool }
	stringValue  struct{ v *string }
	rangesValue  struct{ v *Ranges }
	geValue      struct{ v *GilbertElliott }
	queueValue   struct{ v *Queue }
	slotValue    struct{ v *Slot }
	seedValue    struct{ v **uint64 }
)

// off reports whether text takes a setting back.
func off(text string) bool { return text == "0" || text == "none" || text == "" }

func (x rateValue) set(text string) (err error) {
	if off(text) {
		*x.v = 0
		return nil
	}
	*x.v, err = ParseRate(text)
	return err
}

func (x rateValue) text() string {
	if *x.v == 0 {
		return ""
	}
	return x.v.String()
}

const maxLinkTime = time.Hour

func parseTime(text string) (time.Duration, error) {
	if off(text) {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if _, bare := strconv.ParseFloat(text, 64); bare == nil {
		return 0, fmt.Errorf("%s has no unit; write %sms", text, text)
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a time; write for example 5ms, 250us or 1.5s", text)
	}
	if d < 0 || d > maxLinkTime {
		return 0, fmt.Errorf("%s is not between 0 and %s", text, formatTime(maxLinkTime))
	}
	return d, nil
}

// formatTime writes a time with one unit.
func formatTime(d time.Duration) string {
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"s", time.Second}, {"ms", time.Millisecond}, {"us", time.Microsecond}} {
		if d >= u.d {
			return strconv.FormatFloat(float64(d)/float64(u.d), 'f', -1, 64) + u.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}

func (x timeValue) set(text string) (err error) {
	d, err := parseTime(text)
	if err == nil {
		*x.v = d
	}
	return err
}

func (x timeValue) text() string {
	if *x.v == 0 {
		return ""
	}
	return formatTime(*x.v)
}

var byteUnits = []struct {
	name  string
	bytes int64
}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}}

func parseBytes(text string) (int64, error) {
	number, unit := strings.ToLower(text), int64(1)
	for _, u := range byteUnits {
		if n, ok := strings.CutSuffix(number, strings.ToLower(u.name)); ok {
			number, unit = n, u.bytes
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if n := f * float64(unit); err != nil || !(n >= 0 && n <= 1<<40) {
		return 0, fmt.Errorf("%q is not a number of bytes; write for example 64kB", text)
	}
	return int64(f * float64(unit)), nil
}

func formatBytes(n int64) string {
	for _, u := range byteUnits {
		if n%u.bytes == 0 && n >= u.bytes {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return ""
}

func (x bytesValue) set(text string) error {
	if off(text) {
		*x.v = 0
		return nil
	}
	n, err := parseBytes(text)
	if err == nil {
		*x.v = n
	}
	return err
}

func (x bytesValue) text() string { return formatBytes(*x.v) }

func (x countValue) set(text string) error {
	if off(text) {
		*x.v = 0
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1e9 {
		return fmt.Errorf("%q is not a number from 1 to 1000000000", text)
	}
	*x.v = n
	return nil
}

func (x countValue) text() string {
	if *x.v == 0 {
		return ""
	}
	return strconv.Itoa(*x.v)
}

// The MTUs that Ethernet devices take; IPv6 needs 1280 (RFC 8200, section 5).
const (
	minMTU = 68
	maxMTU = 65535
)

func (x mtuValue) set(text string) error {
	if off(text) {
		*x.v = 0
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < minMTU || n > maxMTU {
		return fmt.Errorf("%q is not an MTU from %d to %d", text, minMTU, maxMTU)
	}
	*x.v = n
	return nil
}

func (x mtuValue) text() string { return countValue(x).text() }

func parsePercent(text string) (Percent, error) {
	f, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
	if err != nil || !(f >= 0 && f <= 100) {
		return 0, fmt.Errorf("%q is not a percentage from 0 to 100", text)
	}
	return Percent(f), nil
}

func (p Percent) text() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) }

func (x percentValue) set(text string) error {
	if off(text) {
		*x.v = 0
		return nil
	}
	p, err := parsePercent(text)
	if err == nil {
		*x.v = p
	}
	return err
}

func (x percentValue) text() string {
	if *x.v == 0 {
		return ""
	}
	return x.v.text()
}

func (x burstValue) set(text string) error {
	if off(text) {
		*x.v = 0
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 1 && f <= 1e6) {
		return fmt.Errorf("%q is not a mean from 1 to 1000000", text)
	}
	*x.v = f
	return nil
}

func (x burstValue) text() string {
	if *x.v == 0 {
		return ""
	}
	return strconv.FormatFloat(*x.v, 'f', -1, 64)
}

func (x boolValue) set(text string) error {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on":
		*x.v = true
	case "false", "0", "no", "off", "none", "":
		*x.v = false
	default:
		return fmt.Errorf("%q is not true or false", text)
	}
	return nil
}

func (x boolValue) text() string {
	if !*x.v {
		return ""
	}
	return "true"
}

func (x stringValue) set(text string) error {
	if text == "none" {
		text = ""
	}
	*x.v = text
	return nil
}

func (x stringValue) text() string { return *x.v }

func (x rangesValue) set(text string) error {
	if off(text) {
		text = ""
	}
	r := Ranges(text)
	_, err := r.List()
	if err == nil {
		*x.v = r
	}
	return err
}

func (x rangesValue) text() string { return string(*x.v) }

func (x geValue) set(text string) error {
	if off(text) {
		*x.v = GilbertElliott{}
		return nil
	}
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 4 {
		return fmt.Errorf("%q is not P/R/BAD/GOOD; write for example 1/10/100/0", text)
	}
	ge := GilbertElliott{Bad: 100}
	for i, p := range []*Percent{&ge.P, &ge.R, &ge.Bad, &ge.Good}[:len(parts)] {
		var err error
		if *p, err = parsePercent(parts[i]); err != nil {
			return err
		}
	}
	*x.v = ge
	return nil
}

func (x geValue) text() string {
	if *x.v == (GilbertElliott{}) {
		return ""
	}
	return strings.Join([]string{x.v.P.text(), x.v.R.text(), x.v.Bad.text(), x.v.Good.text()}, "/")
}

func (x queueValue) set(text string) error {
	var q Queue
	if !off(text) {
		var err error
		if n, bad := strconv.Atoi(text); bad == nil && n > 0 && n <= 1e9 {
			q.Packets = n
		} else if n, bad := parseBytes(text); bad == nil && strings.HasSuffix(strings.ToLower(text), "b") && n > 0 {
			q.Bytes = n
		} else if q.Time, err = parseTime(text); err != nil || q.Time == 0 {
			return fmt.Errorf("%q is not the size of a queue; write 100 (frames), 64kB or 20ms", text)
		}
	}
	*x.v = q
	return nil
}

func (x queueValue) text() string {
	switch q := *x.v; {
	case q.Packets != 0:
		return strconv.Itoa(q.Packets)
	case q.Bytes != 0:
		return formatBytes(q.Bytes)
	case q.Time != 0:
		return formatTime(q.Time)
	}
	return ""
}

func (x slotValue) set(text string) error {
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		high = low
	}
	a, err := parseTime(low)
	if err != nil {
		return err
	}
	b, err := parseTime(high)
	if err != nil {
		return err
	}
	if b < a {
		return fmt.Errorf("%q has its longer time first", text)
	}
	x.v.Min, x.v.Max = a, b
	return nil
}

func (x slotValue) text() string {
	switch {
	case x.v.Max == 0:
		return ""
	case x.v.Min == x.v.Max:
		return formatTime(x.v.Min)
	}
	low := "0s"
	if x.v.Min != 0 {
		low = formatTime(x.v.Min)
	}
	return low + "-" + formatTime(x.v.Max)
}

func (x seedValue) set(text string) error {
	if text == "none" || text == "" {
		*x.v = nil
		return nil
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return fmt.Errorf("%q is not a seed; write a number from 0 to 2^64-1", text)
	}
	*x.v = &n
	return nil
}

func (x seedValue) text() string {
	if *x.v == nil {
		return ""
	}
	return strconv.FormatUint(**x.v, 10)
}

type words[T ~string] struct {
	v    *T
	none T
	all  []T
}

// wordValue is a setting that is one of a few words; none stands for not set.
func wordValue[T ~string](v *T, none T, all ...T) value { return words[T]{v, none, all} }

func (x words[T]) set(text string) error {
	w := T(strings.ToLower(text))
	if w == "none" || w == "" || w == x.none {
		*x.v = ""
		return nil
	}
	if !slices.Contains(x.all, w) {
		var names []string
		for _, a := range x.all {
			names = append(names, string(a))
		}
		return fmt.Errorf("%q is not one of %s", text, strings.Join(names, ", "))
	}
	*x.v = w
	return nil
}

func (x words[T]) text() string {
	if *x.v == x.none {
		return ""
	}
	return string(*x.v)
}
