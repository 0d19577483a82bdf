package experiment

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Extent returns how many trials an experiment has, and how long each takes as far as its
// steps say; 0: they do not.
func (e *Experiment) Extent() (trials int, each time.Duration) {
	points := Points(e.Parameters, e.Sweep)
	trials = len(points) * max(e.Trials, 1)
	in, err := e.Prepare(points[0])
	if err != nil {
		return trials, 0
	}
	if in.Expected > 0 {
		return trials, in.Expected
	}
	return trials, estimate(in.Steps)
}

// Describe writes what an experiment would do.
func (e *Experiment) Describe(w io.Writer, asJSON bool) error {
	jobs, err := plan(e)
	if err != nil {
		return &UsageError{err}
	}
	type trial struct {
		Arguments Arguments `json:"arguments"`
		Trial     int       `json:"trial"`
		Hosts     int       `json:"hosts"`
		Switches  int       `json:"switches"`
		Links     int       `json:"links"`
		Steps     []string  `json:"steps"`
	}
	var all []trial
	for _, j := range jobs {
		all = append(all, trial{j.result.Arguments, j.result.Trial, len(j.plan.Hosts), len(j.plan.Switches), len(j.plan.Links), titles(j.instance.Steps, "")})
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(all)
	}
	for i, t := range all {
		if i > 0 && t.Trial > 1 {
			continue // as the first of its point
		}
		head := fmt.Sprintf("%s, %s, %s", plural(float64(t.Hosts), "host"), plural(float64(t.Switches), "switch"), plural(float64(t.Links), "link"))
		if text := t.Arguments.Text(); text != "" {
			head = text + ": " + head
		}
		if n := max(e.Trials, 1); n > 1 {
			head += fmt.Sprintf(", %d trials", n)
		}
		if _, err := fmt.Fprintf(w, "%s\n", head); err != nil {
			return err
		}
		for _, s := range t.Steps {
			if _, err := fmt.Fprintf(w, "  %s\n", s); err != nil {
				return err
			}
		}
	}
	return nil
}

// titles lists steps, those within others indented.
func titles(steps []Step, indent string) []string {
	var all []string
	for _, s := range steps {
		text := indent + s.Title()
		if s.Name != "" {
			text += " (" + s.Action.String() + ")"
		}
		for _, e := range s.expectations() {
			for _, c := range e.Conditions {
				text += fmt.Sprintf("; %s %s", e.Quantity, c)
			}
		}
		all = append(all, text)
		if inner := KindOf(s.Action).steps; inner != nil {
			all = append(all, titles(inner(s.Action), indent+"  ")...)
		}
	}
	return all
}

// WriteText writes for people what came of an experiment; with the steps that failed, if
// nobody was told of them.
func (r *Result) WriteText(w io.Writer, failures bool) error {
	var sb strings.Builder
	if failures {
		for _, t := range r.Trials {
			for _, s := range t.Steps {
				if s.Status == Failed || s.Status == Broken {
					fmt.Fprintf(&sb, "%s: %s: %s\n", s.Status, s.Name, strings.ReplaceAll(s.Message, "\n", "; "))
				}
			}
		}
	}
	if len(r.Trials) > 1 {
		t := tabwriter.NewWriter(&sb, 0, 0, 2, ' ', 0)
		for _, p := range r.Summary {
			head := r.pointName(p.Arguments)
			if head == "" {
				head = "all trials"
			}
			fmt.Fprintf(t, "%s\t%d of %s passed\t%s\n", head, p.Passed, plural(float64(p.Trials), "trial"), p.Totals.Text())
			for _, q := range p.Main() {
				fmt.Fprintf(t, "  %s\t%s\t%s\n", q.Step, q.Quantity, q.Text())
			}
		}
		t.Flush()
	}
	fmt.Fprintf(&sb, "%s: %s; %s\n", r.Status, strings.Replace(r.Totals.Text(), " passed", "", 1), r.Fidelity.Text())
	if r.Message != "" && r.Status != Passed {
		fmt.Fprintf(&sb, "%s\n", r.Message)
	}
	if r.Directory != "" {
		fmt.Fprintf(&sb, "results in %s\n", r.Directory)
	}
	_, err := io.WriteString(w, printableLines(sb.String()))
	return err
}

// pointName says which point of the sweep arguments are, "" if nothing is swept over.
func (r *Result) pointName(a Arguments) string {
	swept := Arguments{}
	for _, axis := range r.Sweep {
		swept[axis.Parameter] = a[axis.Parameter]
	}
	return swept.Text()
}

// printableLines is printable for several lines.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}
