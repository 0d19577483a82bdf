package experiment

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

//go:embed report.html
var reportTemplate string

// A report is what the template of the report sees.
type report struct {
	*Result
	Picture template.HTML // of the topology; empty if no network came up
	Sweeps  []figure
	Views   []trialView
	// Verdict is the status in capitals.
	Verdict string
}

// A figure is a picture with its title.
type figure struct {
	Title   string
	Drawing template.HTML
}

// A trialView is a trial as the report shows it.
type trialView struct {
	*TrialResult
	Title string
	Plots []figure
	// Fold hides it at first: there are many.
	Fold bool
}

// writeReport writes the report: one page of HTML that needs nothing else.
func (r *Result) writeReport(w io.Writer, picture template.HTML) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"seconds": seconds,
		"percent": percent,
		"point":   r.pointName,
		"number":  formatNumber,
		"joined":  func(list []string) string { return strings.Join(list, ", ") },
		"swept":   func(a Axis) string { return strings.Join(a.Values, ", ") },
	}).Parse(reportTemplate)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	v := report{Result: r, Picture: picture, Sweeps: r.sweepFigures(), Verdict: strings.ToUpper(string(r.Status))}
	for _, t := range r.Trials {
		v.Views = append(v.Views, r.view(t))
	}
	if err := t.Execute(w, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// view prepares a trial for the report.
func (r *Result) view(t *TrialResult) trialView {
	v := trialView{TrialResult: t, Title: "Checks and steps", Fold: len(r.Trials) > 1}
	if len(r.Trials) > 1 {
		v.Title = fmt.Sprintf("Trial %d", t.Trial)
		if text := r.pointName(t.Arguments); text != "" {
			v.Title += ": " + text
		}
	}
	marks := changes(t)
	end := 0.0
	for _, m := range marks {
		end = max(end, m.t)
	}
	for _, s := range t.Series {
		for _, p := range s.Points {
			end = max(end, p.T)
		}
	}
	for _, kind := range []struct {
		plot  Plot
		title string
		unit  Unit
	}{{PlotRate, "Throughput", Rate}, {PlotRTT, "Round-trip time", Time}, {PlotLoss, "Loss", Percent}} {
		var series []Series
		for _, s := range t.Series {
			if s.Plot == kind.plot && len(s.Points) > 0 {
				series = append(series, s)
			}
		}
		if len(series) > 0 {
			v.Plots = append(v.Plots, figure{kind.title, drawPlot(kind.title, kind.unit, series, marks, end)})
		}
	}
	return v
}

// changes are the moments at which steps changed the network.
func changes(t *TrialResult) []mark {
	var all []mark
	for _, s := range t.Steps {
		if slices.Contains([]string{"up", "down", "link", "cut", "mend", "control"}, s.Kind) && s.Status == Done {
			all = append(all, mark{s.T, s.Name})
		}
	}
	return all
}

// sweepFigures shows how what was measured depends on the parameter, if one is swept over.
func (r *Result) sweepFigures() []figure {
	if len(r.Sweep) != 1 || len(r.Summary) < 2 {
		return nil
	}
	var all []figure
	for _, first := range r.Summary[0].Quantities {
		if !slices.Contains([]string{"rate", "rtt", "loss", "setup"}, first.Quantity) {
			continue
		}
		var labels []string
		var points []QuantitySummary
		for _, p := range r.Summary {
			for _, q := range p.Quantities {
				if q.Step == first.Step && q.Quantity == first.Quantity {
					labels, points = append(labels, p.Arguments[r.Sweep[0].Parameter]), append(points, q)
				}
			}
		}
		if len(points) > 1 && slices.ContainsFunc(points, func(q QuantitySummary) bool { return q.Max > 0 }) {
			title := fmt.Sprintf("%s: %s by %s", first.Step, first.Quantity, r.Sweep[0].Parameter)
			all = append(all, figure{title, drawSweep(title, first.Unit, labels, points)})
		}
	}
	return all
}
