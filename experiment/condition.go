package experiment

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/topo"
)

// A Unit is what a quantity is counted in.
type Unit string

// The units, and the types of their values.
const (
	Number  Unit = "number"  // float64
	Percent Unit = "percent" // float64, 0 to 100
	Time    Unit = "time"    // time.Duration
	Rate    Unit = "rate"    // float64, bit/s
	Text    Unit = "text"    // string
	Nodes   Unit = "nodes"   // []string
)

// A Quantity is something about the outcome of an action that can be expected.
type Quantity struct {
	Name string `json:"name"`
	Unit Unit   `json:"unit"`
	Doc  string `json:"doc"`
}

// A Condition is what a value is expected to be.
type Condition struct {
	unit Unit
	// low and high bound numbers; open says that the bound itself is outside.
	low, high         float64
	openLow, openHigh bool
	not               bool
	how               textMatch
	text              string
	pattern           *regexp.Regexp
	nodes             []string
	source            string // as it was written
}

type textMatch int

const (
	textIs textMatch = iota
	textContains
	textMatches
)

// ParseCondition reads a condition on a value of a unit.
//
// On numbers, percentages, times and rates: 5, < 5, <= 5, > 5, >= 5, below 5, at most 5,
// above 5, at least 5, not 5, 5..10 (from 5 to 10), 10 +- 0.5, 10 +- 5%. Times have a unit as in
// 5ms, rates as in 10mbit. On texts and lists of nodes: is, is not, contains, does not
// contain; on texts also matches and does not match, with a regular expression (RE2,
// where ^ and $ are ends of lines). A text without one of these words must be equal.
func ParseCondition(u Unit, text string) (Condition, error) {
	c := Condition{unit: u, source: strings.TrimSpace(text), low: math.Inf(-1), high: math.Inf(1)}
	var err error
	switch u {
	case Text:
		err = c.parseText()
	case Nodes:
		err = c.parseNodes()
	default:
		err = c.parseNumber()
	}
	return c, err
}

// String returns the condition as it was written.
func (c Condition) String() string { return c.source }

// MarshalJSON writes the condition as it was written.
func (c Condition) MarshalJSON() ([]byte, error) { return json.Marshal(c.source) }

// cutOperator takes the operator off that begins text; longer ones come first in list.
func cutOperator(text string, operators []string) (operator, rest string) {
	for _, o := range operators {
		after, ok := strings.CutPrefix(text, o)
		isWord := o[len(o)-1] >= 'a' && o[len(o)-1] <= 'z'
		if ok && (!isWord || after == "" || after[0] == ' ' || after[0] == '\n') {
			return o, strings.TrimSpace(after)
		}
	}
	return "", text
}

func textOperators() []string {
	return []string{"does not contain", "does not match", "is not", "contains", "matches", "is", "not"}
}

func (c *Condition) parseText() error {
	operator, rest := cutOperator(c.source, textOperators())
	c.text = rest
	switch operator {
	case "does not contain":
		c.how, c.not = textContains, true
	case "contains":
		c.how = textContains
	case "does not match", "matches":
		c.how, c.not = textMatches, operator != "matches"
		if rest == "" {
			return fmt.Errorf("%q has no pattern; write for example %s ^done", c.source, operator)
		}
		var err error
		if c.pattern, err = regexp.Compile("(?m)" + rest); err != nil {
			var syntax interface{ Error() string } = err
			return fmt.Errorf("%q is not a regular expression: %s", rest, strings.TrimPrefix(syntax.Error(), "error parsing regexp: "))
		}
	case "is not", "not":
		c.not = true
	}
	if c.how == textContains && rest == "" {
		return fmt.Errorf("%q does not say what; write for example %s OK", c.source, operator)
	}
	return nil
}

func (c *Condition) parseNodes() error {
	operator, rest := cutOperator(c.source, textOperators())
	switch operator {
	case "does not match", "matches":
		return fmt.Errorf("%q: nodes match no pattern; write is, is not, contains or does not contain", c.source)
	case "does not contain", "contains":
		c.how, c.not = textContains, operator != "contains"
	case "is not", "not":
		c.not = true
	}
	c.nodes = splitNames(rest)
	if len(c.nodes) == 0 {
		return fmt.Errorf("%q names no node; write for example contains s2", c.source)
	}
	return nil
}

func (c *Condition) parseNumber() error {
	operator, rest := cutOperator(c.source, []string{"<=", ">=", "==", "!=", "<", ">", "=", "at most", "at least", "below", "above", "is not", "is", "not"})
	if operator == "" {
		if a, b, ok := strings.Cut(rest, ".."); ok {
			return c.parseBetween(a, b)
		}
		for _, sign := range []string{"±", "+-", "+/-"} {
			if a, b, ok := strings.Cut(rest, sign); ok {
				return c.parseAround(a, b)
			}
		}
	}
	v, err := c.value(rest)
	if err != nil {
		return err
	}
	switch operator {
	case "<", "below":
		c.high, c.openHigh = v, true
	case "<=", "at most":
		c.high = v
	case ">", "above":
		c.low, c.openLow = v, true
	case ">=", "at least":
		c.low = v
	default:
		c.low, c.high = v, v
		c.not = operator == "!=" || operator == "not" || operator == "is not"
	}
	return nil
}

func (c *Condition) parseBetween(a, b string) error {
	low, errA := c.value(a)
	high, errB := c.value(b)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if low > high {
		return fmt.Errorf("%q: the first is above the second; write %s..%s", c.source, strings.TrimSpace(b), strings.TrimSpace(a))
	}
	c.low, c.high = low, high
	return nil
}

func (c *Condition) parseAround(a, b string) error {
	middle, err := c.value(a)
	if err != nil {
		return err
	}
	var off float64
	if share, ok := strings.CutSuffix(strings.TrimSpace(b), "%"); ok && c.unit != Percent {
		p, err := parseFloat(share)
		if err != nil || p < 0 {
			return fmt.Errorf("%q: %q is not a share; write for example %s +- 5%%", c.source, strings.TrimSpace(b), strings.TrimSpace(a))
		}
		off = math.Abs(middle) * p / 100
	} else if off, err = c.value(b); err != nil {
		return err
	}
	c.low, c.high = middle-off, middle+off
	return nil
}

// value reads a number of the condition's unit: nanoseconds of a time, bit/s of a rate.
func (c *Condition) value(text string) (float64, error) {
	text = strings.TrimSpace(text)
	switch c.unit {
	case Time:
		d, err := parseDuration(text)
		if err != nil {
			return 0, err
		}
		return float64(d), nil
	case Rate:
		if text == "0" {
			return 0, nil
		}
		r, err := topo.ParseRate(text)
		return float64(r), err
	case Percent:
		text = strings.TrimSpace(strings.TrimSuffix(text, "%"))
	}
	v, err := parseFloat(text)
	if err != nil {
		example := map[Unit]string{Number: "5, at least 5, at most 5, 5..10", Percent: "0, at most 5%, 5..10"}[c.unit]
		return 0, fmt.Errorf("%q is not a %s; write for example %s", text, c.unit, example)
	}
	return v, nil
}

func parseFloat(text string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
		err = errors.New("not a finite number")
	}
	return v, err
}

// parseDuration reads a time: 500ms, 2s, 1m30s; a number alone is seconds.
func parseDuration(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a time; write for example 500ms, 10s or 1m30s", text)
	}
	return d, nil
}

// splitNames splits a list of names at blanks and commas.
func splitNames(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}

// Holds reports whether a value is as expected; it must be of the condition's unit.
func (c Condition) Holds(v any) bool {
	holds := false
	switch v := v.(type) {
	case float64:
		holds = c.within(v)
	case time.Duration:
		holds = c.within(float64(v))
	case string:
		switch c.how {
		case textIs:
			holds = strings.TrimSpace(v) == c.text
		case textContains:
			holds = strings.Contains(v, c.text)
		case textMatches:
			holds = c.pattern.MatchString(v)
		}
	case []string:
		if c.how == textIs {
			holds = slices.Equal(v, c.nodes)
			break
		}
		holds = !slices.ContainsFunc(c.nodes, func(n string) bool { return !slices.Contains(v, n) })
		if c.not { // "does not contain s2 s3" means neither
			return !slices.ContainsFunc(c.nodes, func(n string) bool { return slices.Contains(v, n) })
		}
	default:
		return false // nothing was measured
	}
	return holds != c.not
}

func (c Condition) within(v float64) bool {
	return (v > c.low || v == c.low && !c.openLow) && (v < c.high || v == c.high && !c.openHigh)
}

// FormatValue writes a value for people.
func FormatValue(u Unit, v any) string {
	switch v := v.(type) {
	case time.Duration:
		return formatDuration(v)
	case float64:
		switch u {
		case Rate:
			return formatRate(v)
		case Percent:
			return formatNumber(v) + " %"
		}
		return formatNumber(v)
	case string:
		return formatText(v)
	case []string:
		if len(v) == 0 {
			return "none"
		}
		return strings.Join(v, " ")
	case nil:
		return "nothing"
	}
	return fmt.Sprint(v)
}

// formatNumber writes whole numbers as they are, others with three significant digits.
func formatNumber(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := 2
	for limit := 10.0; digits > 0 && math.Abs(v) >= limit; limit *= 10 {
		digits--
	}
	if v != 0 && math.Abs(v) < 0.1 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

func formatDuration(d time.Duration) string {
	switch abs := d.Abs(); {
	case abs == 0:
		return "0 s"
	case abs >= time.Minute:
		return d.Round(time.Second).String()
	case abs >= time.Second:
		return formatNumber(d.Seconds()) + " s"
	case abs >= time.Millisecond:
		return formatNumber(float64(d)/1e6) + " ms"
	default:
		return formatNumber(float64(d)/1e3) + " µs"
	}
}

func formatRate(bps float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "Gbit/s"}, {1e6, "Mbit/s"}, {1e3, "kbit/s"}} {
		if bps >= unit.size {
			return formatNumber(bps/unit.size) + " " + unit.name
		}
	}
	return formatNumber(bps) + " bit/s"
}

// formatText writes a text on one line, cut to what a message has room for.
func formatText(s string) string {
	s = strings.TrimSpace(s)
	const most = 120
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}

// list joins names, the first most of them.
func list(names []string, most int) string {
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
