package experiment

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// The elements of JUnit's XML, in the form that both of the schemas in use take: Jenkins'
// (junit-10.xsd of its xUnit plugin) and that of Ant's JUnit task.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Package    string          `xml:"package,attr"`
		ID         int             `xml:"id,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Hostname   string          `xml:"hostname,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
		Out        string          `xml:"system-out"`
		Err        string          `xml:"system-err"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		Class     string        `xml:"classname,attr"`
		Time      string        `xml:"time,attr"`
		Failure   *junitProblem `xml:"failure"`
		Error     *junitProblem `xml:"error"`
		IsSkipped *junitSkipped `xml:"skipped"`
	}
	junitProblem struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
	junitSkipped struct{}
)

// writeJUnit writes the checks of all trials as JUnit's XML: a suite for each trial.
func (r *Result) writeJUnit(w io.Writer) error {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	var all junitSuites
	for i, t := range r.Trials {
		s := r.junitSuite(t)
		s.ID, s.Hostname = i, host
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n")
	return err
}

// junitSuite is a trial. What broke it is a test case of its own, so that no CI system takes
// a network that did not come up for one that passed.
func (r *Result) junitSuite(t *TrialResult) junitSuite {
	name := r.Name
	if text := r.pointName(t.Arguments); text != "" {
		name += ", " + text
	}
	if len(r.Trials) > 1 {
		name += fmt.Sprintf(", trial %d", t.Trial)
	}
	s := junitSuite{Name: name, Package: "weft", Timestamp: t.Started.UTC().Format("2006-01-02T15:04:05"), Time: junitTime(t.Seconds)}
	s.Properties = []junitProperty{
		{"weft", r.Versions.Weft}, {"kernel", r.Versions.Kernel}, {"openvswitch", r.Versions.OVS},
		{"fidelity", t.Fidelity.Text()}, {"points", formatNumber(t.Totals.Earned) + " of " + formatNumber(t.Totals.Points)},
	}
	if t.Seed != nil {
		s.Properties = append(s.Properties, junitProperty{"seed", fmt.Sprint(*t.Seed)})
	}
	for _, n := range sortedNames(t.Arguments) {
		s.Properties = append(s.Properties, junitProperty{"parameter " + n, t.Arguments[n]})
	}
	add := func(c junitCase) {
		c.Class = strings.ReplaceAll(r.Name, ".", " ") // classes have points
		s.Cases = append(s.Cases, c)
		s.Tests++
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.IsSkipped != nil:
			s.Skipped++
		}
	}
	broken := false // a step tells what broke the trial
	var out, errs strings.Builder
	for _, step := range t.Steps {
		fmt.Fprintf(&out, "%8.3f s  %-7s  %s  %s\n", step.T, step.Status, step.Name, step.Summary)
		if step.Check || step.Status == Broken || step.Status == Failed {
			add(junitStep(step))
			broken = broken || step.Status == Broken
		}
	}
	for _, n := range t.Notes {
		fmt.Fprintf(&errs, "%8.3f s  %s\n", n.T, n.Text)
	}
	if !broken && (t.Status == Broken || t.Status == Interrupted) {
		add(junitCase{Name: "the trial", Time: junitTime(t.Seconds), Error: &junitProblem{Message: t.Message, Type: string(t.Status), Text: t.Message}})
	}
	if r.Strict && t.Fidelity.Verdict != FidelityOK {
		add(junitCase{Name: "fidelity", Time: "0.000", Failure: &junitProblem{Message: t.Fidelity.Text(), Type: "fidelity", Text: t.Fidelity.Text()}})
	}
	s.Out, s.Err = out.String(), errs.String()
	return s
}

func junitStep(s StepResult) junitCase {
	c := junitCase{Name: strings.Join(strings.Fields(s.Name), " "), Time: junitTime(s.Seconds)}
	text := s.Message
	if s.Summary != "" {
		text += "\n" + s.Summary
	}
	if s.Position != "" {
		text += "\n" + s.Position
	}
	switch s.Status {
	case Failed:
		c.Failure = &junitProblem{Message: s.Message, Type: s.Kind, Text: text}
	case Broken, Interrupted:
		c.Error = &junitProblem{Message: s.Message, Type: s.Kind, Text: text}
	case Skipped:
		c.IsSkipped = &junitSkipped{}
	}
	return c
}

func junitTime(seconds float64) string {
	return fmt.Sprintf("%.3f", max(0, time.Duration(seconds*float64(time.Second)).Seconds()))
}
