package experiment

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"html/template"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// sample is a result with all that there can be.
func sample() *Result {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seed := uint64(7)
	trial := func(point, n int, delay string, rtt time.Duration, steps ...StepResult) *TrialResult {
		t := &TrialResult{Point: point, Trial: n, Arguments: Arguments{"delay": delay}, Seed: &seed, Directory: "trial", Started: at, Seconds: 2.5, BuildSeconds: 0.5,
			Status: Passed, Fidelity: Fidelity{Verdict: FidelityOK, Reasons: []Reason{}},
			Notes: []Note{{1, "s1: <warning> & more"}}, Files: []string{"logs/001-h1-exec.out"},
			Series: []Series{{"h1 → h2", PlotRTT, []Point{{0, 0.01}, {1, 0.02}}}, {"h1 → h2", PlotRate, []Point{{0.5, 1e6}}}, {"h1 → h2", PlotLoss, []Point{{0.5, 0}}}}}
		first := StepResult{Name: "fast", Kind: "ping", Check: true, Status: Passed, Points: 2, Earned: 2, Seconds: 0.25, Attempts: 1, Summary: "3 of 3 received",
			Values: Values{"rtt": rtt, "loss": 0.0}, Expected: []Verdict{{Quantity: "rtt", Condition: "below 50ms", Value: "10 ms", Passed: true}}}
		for _, s := range append([]StepResult{first, {Name: "down s1-s2", Kind: "down", Status: Done, T: 0.5}}, steps...) {
			s.Number = len(t.Steps) + 1
			t.Steps = append(t.Steps, s)
			t.Totals.count(s)
		}
		return t
	}
	failed := StepResult{Name: "reach <all>", Kind: "reach", Check: true, Status: Failed, Points: 1, Message: "unreached is 1, expected 0", Position: "x.yaml:5:5"}
	broken := StepResult{Name: "h1: \x01false", Kind: "exec", Status: Broken, Message: "no such node"}
	skipped := StepResult{Name: "iperf h1 -> h2", Kind: "iperf", Check: true, Status: Skipped, Points: 1}
	r := &Result{Schema: ResultSchema, Name: "sample.net", Doc: "What it is <about>.", File: "x.yaml", Source: "steps: <none>\n", Status: Failed, Started: at, Seconds: 10, Seed: &seed,
		Parameters: []Parameter{{"delay", "5ms", ""}}, Sweep: []Axis{{"delay", []string{"1ms", "5ms"}}},
		Versions: Versions{Weft: "1", Kernel: "6", OVS: "3", Machine: "amd64"}, Trials: []*TrialResult{
			trial(1, 1, "1ms", 10*time.Millisecond), trial(1, 2, "1ms", 20*time.Millisecond, failed),
			trial(2, 1, "5ms", 30*time.Millisecond, broken, skipped),
		}}
	r.Trials[1].Status, r.Trials[2].Status, r.Trials[2].Message = Failed, Broken, "no such node"
	r.Trials[2].Fidelity = Fidelity{Verdict: FidelityDegraded, Reasons: []Reason{{0, 1, "a thread that slept woke up to 36 ms late"}}}
	for _, t := range r.Trials {
		r.Totals.add(t.Totals)
	}
	r.Fidelity = worst(r.Trials)
	r.Summary = summarise(r.Trials)
	return r
}

// The elements that the schemas of Jenkins (junit-10.xsd) and of Ant's JUnit task allow, in
// Ant's order, and the attributes that one of them requires.
var junit = map[string]struct {
	attributes, children []string
}{
	"testsuites": {nil, []string{"testsuite"}},
	"testsuite":  {[]string{"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time"}, []string{"properties", "testcase", "system-out", "system-err"}},
	"properties": {nil, []string{"property"}},
	"property":   {[]string{"name", "value"}, nil},
	"testcase":   {[]string{"name", "classname", "time"}, []string{"failure", "error", "skipped"}},
	"failure":    {[]string{"message", "type"}, nil},
	"error":      {[]string{"message", "type"}, nil},
	"skipped":    {nil, nil},
	"system-out": {nil, nil},
	"system-err": {nil, nil},
}

func TestJUnit(t *testing.T) {
	r := sample()
	r.Strict = true
	var buf bytes.Buffer
	if err := r.writeJUnit(&buf); err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.xml", regexp.MustCompile(`hostname="[^"]*"`).ReplaceAll(buf.Bytes(), []byte(`hostname="here"`)))
	var path []string
	last := map[int]int{} // per depth, the place of the last child among those allowed
	dec := xml.NewDecoder(&buf)
	for {
		tok, err := dec.Token()
		if err != nil {
			break
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			name := tok.Name.Local
			rule, known := junit[name]
			if !known {
				t.Fatalf("there is no element %s", name)
			}
			if len(path) > 0 {
				at := slices.Index(junit[path[len(path)-1]].children, name)
				if at < 0 || at < last[len(path)] {
					t.Errorf("%s is not allowed there in %v", name, path)
				}
				last[len(path)] = at
			}
			var has []string
			for _, a := range tok.Attr {
				has = append(has, a.Name.Local)
			}
			if !slices.Equal(has, rule.attributes) {
				t.Errorf("%s has attributes %v, want %v", name, has, rule.attributes)
			}
			path = append(path, name)
			last[len(path)] = 0
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
	if len(path) != 0 {
		t.Errorf("the document ends within %v", path)
	}
}

// golden compares with a file of testdata, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n%s", name, got)
	}
}

func TestText(t *testing.T) {
	r := sample()
	r.Directory = "results/x"
	var buf bytes.Buffer
	if err := r.WriteText(&buf, true); err != nil {
		t.Fatal(err)
	}
	golden(t, "text.txt", buf.Bytes())
}

// The report is one file: it refers to nothing, and is HTML all through.
func TestReport(t *testing.T) {
	var buf bytes.Buffer
	if err := sample().writeReport(&buf, template.HTML("<svg><title>picture</title></svg>")); err != nil {
		t.Fatal(err)
	}
	page := buf.String()
	for _, bad := range []string{"http:", "https:", "<script", "<link", "src=", "href=", "@import", "url("} {
		if strings.Contains(page, bad) {
			t.Errorf("the report has %q", bad)
		}
	}
	for _, good := range []string{"sample.net", "FAILED", "What it is &lt;about&gt;.", "reach &lt;all&gt;", "unreached is 1, expected 0", "picture", "Round-trip time", "Throughput",
		"woke up to 36 ms late", "steps: &lt;none&gt;", "prefers-color-scheme: dark", "@media print", "&lt;warning&gt; &amp; more", "fast: rtt by delay", "down s1-s2"} {
		if !strings.Contains(page, good) {
			t.Errorf("the report lacks %q", good)
		}
	}
	open := 0
	for z := html.NewTokenizer(strings.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken:
			if open != 0 {
				t.Errorf("%d elements are not closed", open)
			}
			return
		case html.StartTagToken:
			if name, _ := z.TagName(); !slices.Contains([]string{"meta", "br"}, string(name)) {
				open++
			}
		case html.EndTagToken:
			open--
		}
	}
}

func TestResultJSON(t *testing.T) {
	text, err := json.MarshalIndent(sample(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "result.json", append(text, '\n'))
}

func TestDescribeNumbers(t *testing.T) {
	q := describeNumbers([]float64{4, 2, 6, 8})
	if q.Mean != 5 || q.Median != 5 || q.Min != 2 || q.Max != 8 || math.Abs(q.StdDev-2.58199) > 1e-4 || math.Abs(*q.CI95-3.182*2.58199/2) > 1e-3 {
		t.Errorf("%+v, ±%v", q, *q.CI95)
	}
	if one := describeNumbers([]float64{3}); one.CI95 != nil || one.StdDev != 0 || one.Mean != 3 {
		t.Errorf("%+v", one)
	}
	// From tables of the t distribution.
	for degrees, want := range map[int]float64{1: 12.706, 10: 2.228, 30: 2.042, 31: 2.040, 60: 2.000, 120: 1.980, 100000: 1.960} {
		if got := studentT(degrees); math.Abs(got-want) > 6e-4 {
			t.Errorf("t of %d degrees: %.4f, want %.3f", degrees, got, want)
		}
	}
}

func TestPlots(t *testing.T) {
	var many []Point
	for i := range 100_000 {
		many = append(many, Point{float64(i), 1})
	}
	many[77_777].V = 1000
	kept := thin(many)
	if len(kept) > plotPoints+2 || !slices.ContainsFunc(kept, func(p Point) bool { return p.V == 1000 }) {
		t.Errorf("%d points, or the peak is lost", len(kept))
	}
	for _, end := range []float64{0, 1e-6, 0.3, 1, 7, 99, 12345, 9.99e9} {
		steps := niceSteps(end, 5)
		if steps[0] != 0 || steps[len(steps)-1] < end*(1-1e-9) || len(steps) > 12 {
			t.Errorf("steps to %v: %v", end, steps)
		}
	}
	if svg := drawPlot("<x>", Rate, []Series{{"a", PlotRate, nil}}, nil, 0); strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "<x>") {
		t.Errorf("a plot of nothing: %s", svg)
	}
}
