package main

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
)

// Results are what one call of the benchmark measured.
type Results struct {
	Machine    Machine     `json:"machine"`
	Benchmarks []Benchmark `json:"benchmarks"`
}

// A Machine is where it was measured, with what.
type Machine struct {
	Date        string `json:"date"` // UTC
	Kernel      string `json:"kernel"`
	CPUs        int    `json:"cpus"`
	Mininet     string `json:"mininet"`
	OpenVSwitch string `json:"openVSwitch"`
}

func cpus() int { return runtime.NumCPU() }

// A Benchmark is some work and how contenders did it.
type Benchmark struct {
	Name         string      `json:"name"`
	Work         string      `json:"work"`
	Unit         string      `json:"unit"` // s, Gbit/s or MiB
	LessIsBetter bool        `json:"lessIsBetter"`
	Contenders   []Contender `json:"contenders"`
	Goals        []Goal      `json:"goals"`
}

// A Contender is one way to do the work.
type Contender struct {
	Name    string    `json:"name"`
	Command string    `json:"command"`
	Runs    []float64 `json:"runs"` // in the benchmark's unit, in order
	Median  float64   `json:"median,omitempty"`
	Notes   []string  `json:"notes,omitempty"`  // about runs
	Errors  []string  `json:"errors,omitempty"` // of the runs that failed
}

// A Goal is how much better weft should be than another contender: the ratio of
// the medians, above 1 if weft is better.
type Goal struct {
	Than    string  `json:"than"`
	AtLeast float64 `json:"atLeast"`
	Ratio   float64 `json:"ratio,omitempty"` // 0 if either has no result
	Met     bool    `json:"met"`
}

// judge fills in medians and goals.
func (b *Benchmark) judge(goals []Goal) {
	medians := map[string]float64{}
	for i, c := range b.Contenders {
		if len(c.Runs) > 0 {
			b.Contenders[i].Median = median(c.Runs)
			medians[c.Name] = b.Contenders[i].Median
		}
	}
	b.Goals = slices.Clone(goals)
	for i := range b.Goals {
		g := &b.Goals[i]
		ours, theirs := medians[nameWeft], medians[g.Than]
		if ours == 0 || theirs == 0 {
			continue
		}
		g.Ratio = ours / theirs
		if b.LessIsBetter {
			g.Ratio = theirs / ours
		}
		g.Met = g.Ratio >= g.AtLeast
	}
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// verdict is an error that names what failed.
func (r Results) verdict() error {
	var failed []string
	for _, b := range r.Benchmarks {
		for _, c := range b.Contenders {
			if c.Name == nameWeft && len(c.Errors) > 0 {
				failed = append(failed, fmt.Sprintf("%s: weft failed in %d of %d runs", b.Name, len(c.Errors), len(c.Errors)+len(c.Runs)))
			}
		}
		for _, g := range b.Goals {
			if !g.Met {
				failed = append(failed, fmt.Sprintf("%s: asked at least %g× of %s, got %s", b.Name, g.AtLeast, g.Than, times(g.Ratio)))
			}
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not all is well:\n  %s", strings.Join(failed, "\n  "))
	}
	return nil
}

// Markdown writes the results as tables: the ratios, then the commands and their runs.
func (r Results) Markdown(w io.Writer) error {
	out := bufio.NewWriter(w)
	m := r.Machine
	fmt.Fprintf(out, "%s UTC, Linux %s, %d CPUs, Mininet %s, %s. Medians; a ratio above 1 means that weft is better.\n\n",
		m.Date, m.Kernel, m.CPUs, m.Mininet, m.OpenVSwitch)
	fmt.Fprintln(out, "| work | weft | compared with | ratio | at least | |")
	fmt.Fprintln(out, "| --- | --- | --- | --- | --- | --- |")
	for _, b := range r.Benchmarks {
		for _, g := range b.Goals {
			fmt.Fprintf(out, "| %s | %s | %s: %s | %s | %g× | %s |\n",
				b.Work, b.median(nameWeft), g.Than, b.median(g.Than), times(g.Ratio), g.AtLeast, g.verdict())
		}
	}
	fmt.Fprint(out, "\n| benchmark | contender | runs | command |\n| --- | --- | --- | --- |\n")
	for _, b := range r.Benchmarks {
		for _, c := range b.Contenders {
			var runs []string
			for _, v := range c.Runs {
				runs = append(runs, format(v, b.Unit))
			}
			runs = append(runs, c.Notes...)
			for _, e := range c.Errors {
				first, _, _ := strings.Cut(e, "\n")
				runs = append(runs, "failed: "+strings.ReplaceAll(first, "|", `\|`))
			}
			fmt.Fprintf(out, "| %s | %s | %s | `%s` |\n", b.Name, c.Name, strings.Join(runs, ", "), c.Command)
		}
	}
	return out.Flush()
}

func (g Goal) verdict() string {
	switch {
	case g.Met:
		return "met"
	case g.Ratio == 0:
		return "not measured"
	}
	return "missed"
}

// median is a contender's median for people.
func (b Benchmark) median(name string) string {
	for _, c := range b.Contenders {
		if c.Name == name && len(c.Runs) > 0 {
			return format(c.Median, b.Unit)
		}
	}
	return "nothing"
}

// format gives three digits.
func format(v float64, unit string) string {
	digits := 0
	switch {
	case v < 10:
		digits = 2
	case v < 100:
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, v, unit)
}

func times(ratio float64) string {
	if ratio == 0 {
		return "nothing"
	}
	return strings.TrimSpace(format(ratio, "")) + "×"
}
