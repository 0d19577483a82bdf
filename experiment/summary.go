package experiment

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A PointSummary has the quantities of all steps at a point of the sweep, over its trials.
type PointSummary struct {
	Point      int               `json:"point"`
	Arguments  Arguments         `json:"arguments"`
	Trials     int               `json:"trials"` // that were begun
	Passed     int               `json:"passed"` // trials
	Totals     Totals            `json:"totals"`
	Quantities []QuantitySummary `json:"quantities"`
}

// A QuantitySummary describes a number that was measured in several trials: times in
// seconds, rates in bit/s.
type QuantitySummary struct {
	Step     string  `json:"step"`
	Quantity string  `json:"quantity"`
	Unit     Unit    `json:"unit"`
	Count    int     `json:"count"`
	Mean     float64 `json:"mean"`
	Median   float64 `json:"median"`
	Min      float64 `json:"min"`
	Max      float64 `json:"max"`
	StdDev   float64 `json:"stddev"` // of the sample
	// CI95 is half the width of the 95 % confidence interval of the mean, by Student's t;
	// null for a single value.
	CI95 *float64 `json:"ci95"`

	expected bool // a condition was on it
}

// summarise describes the trials of each point.
func summarise(trials []*TrialResult) []PointSummary {
	var all []PointSummary
	for _, t := range trials {
		if len(all) == 0 || all[len(all)-1].Point != t.Point {
			all = append(all, PointSummary{Point: t.Point, Arguments: t.Arguments})
		}
		p := &all[len(all)-1]
		p.Trials++
		if t.Status == Passed {
			p.Passed++
		}
		p.Totals.add(t.Totals)
	}
	for i := range all {
		all[i].Quantities = quantities(trials, all[i].Point)
	}
	return all
}

// quantities collects the numbers measured at a point, in the order of the steps. A step
// that was carried out several times counts as often.
func quantities(trials []*TrialResult, point int) []QuantitySummary {
	type key struct{ step, quantity string }
	found := map[key][]float64{}
	unit, expected := map[key]Unit{}, map[key]bool{}
	var order []key
	for _, t := range trials {
		if t.Point != point {
			continue
		}
		for _, s := range t.Steps {
			kind, err := LookupKind(s.Kind)
			if err != nil {
				continue // a script's own check measures nothing
			}
			for _, q := range kind.Quantities {
				v, ok := number(s.Values[q.Name])
				if !ok {
					continue
				}
				k := key{s.Name, q.Name}
				if found[k] == nil {
					order = append(order, k)
				}
				found[k], unit[k] = append(found[k], v), q.Unit
				for _, v := range s.Expected {
					expected[k] = expected[k] || v.Quantity == q.Name && !v.Default
				}
			}
		}
	}
	var all []QuantitySummary
	for _, k := range order {
		q := describeNumbers(found[k])
		q.Step, q.Quantity, q.Unit, q.expected = k.step, k.quantity, unit[k], expected[k]
		all = append(all, q)
	}
	return all
}

// number is a value as a number, times in seconds.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case time.Duration:
		return v.Seconds(), true
	}
	return 0, false
}

// describeNumbers makes statistics of at least one number.
func describeNumbers(values []float64) QuantitySummary {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	q := QuantitySummary{Count: n, Min: sorted[0], Max: sorted[n-1], Median: (sorted[(n-1)/2] + sorted[n/2]) / 2}
	for _, v := range values {
		q.Mean += v / float64(n)
	}
	if n < 2 {
		return q
	}
	var squares float64
	for _, v := range values {
		squares += (v - q.Mean) * (v - q.Mean)
	}
	q.StdDev = math.Sqrt(squares / float64(n-1))
	half := studentT(n-1) * q.StdDev / math.Sqrt(float64(n))
	q.CI95 = &half
	return q
}

// studentT is the 97.5 % quantile of Student's t distribution: exact to three digits up to 30
// degrees of freedom, above by the first terms of its expansion about the normal's (Abramowitz
// and Stegun, 26.7.5).
func studentT(degrees int) float64 {
	table := []float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
		2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
		2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042}
	if degrees <= len(table) {
		return table[degrees-1]
	}
	const z = 1.959964
	n := float64(degrees)
	return z + (z*z*z+z)/(4*n) + (5*math.Pow(z, 5)+16*z*z*z+3*z)/(96*n*n)
}

// Show writes a value of the quantity for people.
func (q QuantitySummary) Show(v float64) string {
	if q.Unit == Time {
		return FormatValue(Time, time.Duration(v*1e9))
	}
	return FormatValue(q.Unit, v)
}

// ShowCI writes the confidence interval for people; nothing for a single value.
func (q QuantitySummary) ShowCI() string {
	if q.CI95 == nil {
		return ""
	}
	return q.Show(*q.CI95)
}

// Text says mean, range and confidence for people.
func (q QuantitySummary) Text() string {
	if q.Count == 1 {
		return q.Show(q.Mean)
	}
	return fmt.Sprintf("%s ± %s (median %s, %s to %s)", q.Show(q.Mean), q.ShowCI(), q.Show(q.Median), q.Show(q.Min), q.Show(q.Max))
}

// isMain reports whether people want to see the quantity first: something is expected of it,
// or it is what its step is made for.
func (q QuantitySummary) isMain() bool {
	return q.expected || slices.Contains([]string{"rate", "rtt", "loss", "jitter", "setup", "ready", "reached"}, q.Quantity)
}

// Main returns the quantities that people want to see first, Others the rest.
func (p PointSummary) Main() []QuantitySummary {
	return slices.DeleteFunc(slices.Clone(p.Quantities), func(q QuantitySummary) bool { return !q.isMain() })
}

// Others returns the quantities that are not Main.
func (p PointSummary) Others() []QuantitySummary {
	return slices.DeleteFunc(slices.Clone(p.Quantities), QuantitySummary.isMain)
}
