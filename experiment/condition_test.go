package experiment

import (
	"testing"
	"time"
)

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		unit  Unit
		text  string
		value any
		want  bool
	}{
		{Number, "5", 5.0, true}, {Number, "5", 5.1, false}, {Number, "= 5", 5.0, true}, {Number, "!= 5", 5.0, false},
		{Number, "not 5", 4.0, true}, {Number, "is not 5", 5.0, false}, {Number, "is 5", 5.0, true},
		{Number, "< 5", 5.0, false}, {Number, "<5", 4.9, true}, {Number, "<= 5", 5.0, true}, {Number, "> 5", 5.0, false},
		{Number, ">= 5", 5.0, true}, {Number, "at least 5", 5.0, true}, {Number, "at most 5", 5.1, false},
		{Number, "above 5", 5.0, false}, {Number, "below 5", 4.0, true},
		{Number, "5..10", 5.0, true}, {Number, "5 .. 10", 10.0, true}, {Number, "5..10", 10.1, false}, {Number, "-1..1", 0.0, true},
		{Number, "10 +- 5%", 10.5, true}, {Number, "10 ± 0.4", 10.5, false},
		{Percent, "5%", 5.0, true}, {Percent, "at most 5 %", 5.1, false}, {Percent, "10 +- 5%", 14.0, true},
		{Time, "< 50ms", 49 * time.Millisecond, true}, {Time, "above 1s", time.Second, false}, {Time, "2", 2 * time.Second, true},
		{Time, "20ms +- 10%", 22 * time.Millisecond, true}, {Time, "20ms..30ms", 19 * time.Millisecond, false},
		{Rate, "at least 9mbit", 9e6, true}, {Rate, "9..10", 9.5e6, true}, {Rate, "below 64kbit", 64e3, false}, {Rate, "0", 0.0, true},
		{Text, "OK", "OK\n", true}, {Text, "OK", "NOT OK", false}, {Text, "is not OK", "no", true}, {Text, "contains b", "abc", true},
		{Text, "does not contain b", "abc", false}, {Text, "matches ^b+$", "a\nbb\nc", true}, {Text, "does not match ^x", "abc", true},
		{Text, "island", "island", true}, {Text, "is contains", "contains", true},
		{Nodes, "s1 s2", []string{"s1", "s2"}, true}, {Nodes, "s2, s1", []string{"s1", "s2"}, false},
		{Nodes, "contains s2", []string{"s1", "s2"}, true}, {Nodes, "does not contain s2 s9", []string{"s1", "s2"}, false},
		{Nodes, "does not contain s8 s9", []string{"s1"}, true}, {Nodes, "is not s1", []string{"s1", "s2"}, true},
		{Number, "5", nil, false}, {Text, "does not contain x", nil, false}, // nothing was measured
	} {
		got, err := ParseCondition(c.unit, c.text)
		if err != nil {
			t.Errorf("%s %q: %v", c.unit, c.text, err)
		} else if got.Holds(c.value) != c.want {
			t.Errorf("%s %q of %v: %v, want %v", c.unit, c.text, c.value, !c.want, c.want)
		}
	}
}

func TestConditionErrors(t *testing.T) {
	for text, want := range map[string]string{
		"number/fast":            `"fast" is not a number; write for example 5, at least 5, at most 5, 5..10`,
		"number/":                `"" is not a number; write for example 5, at least 5, at most 5, 5..10`,
		"number/NaN":             `"NaN" is not a number; write for example 5, at least 5, at most 5, 5..10`,
		"number/10..5":           `"10..5": the first is above the second; write 5..10`,
		"number/10 +- x%":        `"10 +- x%": "x%" is not a share; write for example 10 +- 5%`,
		"percent/lots":           `"lots" is not a percent; write for example 0, at most 5%, 5..10`,
		"time/5 parsecs":         `"5 parsecs" is not a time; write for example 500ms, 10s or 1m30s`,
		"time/< -5ms":            `"-5ms" is not a time; write for example 500ms, 10s or 1m30s`,
		"rate/at least quick":    `"quick" is not a rate; write 10 (Mbit/s), 64kbit, 10mbit or 2.5gbit`,
		"text/matches (":         `"(" is not a regular expression: missing closing ): ` + "`(?m)(`",
		"text/matches":           `"matches" has no pattern; write for example matches ^done`,
		"text/contains":          `"contains" does not say what; write for example contains OK`,
		"nodes/matches s1":       `"matches s1": nodes match no pattern; write is, is not, contains or does not contain`,
		"nodes/does not contain": `"does not contain" names no node; write for example contains s2`,
	} {
		unit, condition, _ := cut(text)
		_, err := ParseCondition(Unit(unit), condition)
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}

func cut(text string) (a, b string, ok bool) {
	for i, c := range text {
		if c == '/' {
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

func TestFormatValue(t *testing.T) {
	for _, c := range []struct {
		unit  Unit
		value any
		want  string
	}{
		{Number, 5.0, "5"}, {Number, 1234567.0, "1234567"}, {Number, 5.256, "5.26"}, {Number, 52.56, "52.6"}, {Number, 525.6, "526"}, {Number, 0.0123, "0.0123"},
		{Percent, 12.5, "12.5 %"}, {Time, 5260 * time.Microsecond, "5.26 ms"}, {Time, 613 * time.Nanosecond, "0.61 µs"}, {Time, time.Duration(0), "0 s"},
		{Time, 90 * time.Second, "1m30s"}, {Rate, 9.41e6, "9.41 Mbit/s"}, {Rate, 1e9, "1 Gbit/s"}, {Rate, 0.0, "0 bit/s"},
		{Text, "a\nb", `"a\nb"`}, {Nodes, []string{"s1", "s2"}, "s1 s2"}, {Nodes, []string{}, "none"}, {Number, nil, "nothing"},
	} {
		if got := FormatValue(c.unit, c.value); got != c.want {
			t.Errorf("%v %v: %q, want %q", c.unit, c.value, got, c.want)
		}
	}
}
