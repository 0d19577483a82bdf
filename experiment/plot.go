package experiment

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// The size of a plot and its margins, units of its view box.
const (
	plotWidth, plotHeight = 760, 230
	plotLeft, plotRight   = 70, 12
	plotTop, plotBottom   = 26, 30
	// plotColours is how many lines differ in colour; plotNames how many have their name
	// beside them.
	plotColours, plotNames = 8, 8
	// plotPoints bounds the points of a line: more than a screen shows.
	plotPoints = 1500
)

// A mark is a moment at which a network was changed.
type mark struct {
	t    float64
	text string
}

// drawPlot draws series over time as SVG. Colours are classes of the report, so that they
// suit paper and dark screens. end is where the axis of time ends, seconds.
func drawPlot(title string, unit Unit, series []Series, marks []mark, end float64) template.HTML {
	top := 0.0
	for _, s := range series {
		for _, p := range s.Points {
			top = max(top, p.V)
		}
	}
	if unit == Percent {
		top = max(top, 1)
	}
	xs, ys := niceSteps(end, 8), niceSteps(top, 4)
	xMax, yMax := max(end, 1e-9), ys[len(ys)-1]
	x := func(t float64) float64 { return plotLeft + t/xMax*(plotWidth-plotLeft-plotRight) }
	y := func(v float64) float64 { return plotHeight - plotBottom - v/yMax*(plotHeight-plotTop-plotBottom) }

	var sb strings.Builder
	fmt.Fprintf(&sb, `<svg class="plot" viewBox="0 0 %d %d" role="img" aria-label="%s over time">`+"\n", plotWidth, plotHeight, html.EscapeString(title))
	text := func(x, y float64, class, s string) {
		fmt.Fprintf(&sb, `<text x="%.1f" y="%.1f" class="%s">%s</text>`+"\n", x, y, class, html.EscapeString(s))
	}
	for _, v := range ys {
		fmt.Fprintf(&sb, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`+"\n", plotLeft, y(v), plotWidth-plotRight, y(v))
		text(plotLeft-6, y(v)+4, "end", plotValue(unit, v))
	}
	for _, t := range xs {
		if t <= xMax {
			text(x(t), plotHeight-plotBottom+16, "middle", strconv.FormatFloat(t, 'g', 6, 64)+" s")
		}
	}
	for i, m := range marks {
		fmt.Fprintf(&sb, `<g class="mark"><line x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><title>%s</title>`, x(m.t), plotTop, x(m.t), plotHeight-plotBottom, html.EscapeString(m.text))
		class, at := "start", x(m.t)+3
		if m.t > 0.8*xMax {
			class, at = "end", x(m.t)-3
		}
		text(at, float64(plotTop+9+11*(i%4)), class, shorten(m.text, 28))
		sb.WriteString("</g>\n")
	}
	for i, s := range series {
		drawLine(&sb, i, s, x, y)
	}
	legend := float64(plotLeft)
	for i, s := range series[:min(len(series), plotNames)] {
		name := shorten(s.Name, 24)
		fmt.Fprintf(&sb, `<g class="s%d"><rect x="%.1f" y="6" width="10" height="10"/></g>`, i%plotColours, legend)
		text(legend+14, 15, "start", name)
		legend += 26 + 6.6*float64(len([]rune(name)))
	}
	if len(series) > plotNames {
		text(legend, 15, "start", fmt.Sprintf("and %d more", len(series)-plotNames))
	}
	fmt.Fprintf(&sb, `<line class="axis" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`, plotLeft, y(0), plotWidth-plotRight, y(0))
	sb.WriteString("</svg>")
	return template.HTML(sb.String())
}

// drawLine draws a series: a line, and points where they are few.
func drawLine(sb *strings.Builder, i int, s Series, x, y func(float64) float64) {
	points := thin(s.Points)
	fmt.Fprintf(sb, `<g class="s%d"><title>%s</title><polyline points="`, i%plotColours, html.EscapeString(s.Name))
	for _, p := range points {
		fmt.Fprintf(sb, "%.1f,%.1f ", x(p.T), y(p.V))
	}
	sb.WriteString(`"/>`)
	if len(points) <= 60 {
		for _, p := range points {
			fmt.Fprintf(sb, `<circle cx="%.1f" cy="%.1f" r="2"/>`, x(p.T), y(p.V))
		}
	}
	sb.WriteString("</g>\n")
}

// thin keeps the least and the greatest value of each part of a long series, so that no peak
// is lost.
func thin(points []Point) []Point {
	if len(points) <= plotPoints {
		return points
	}
	part := (2*len(points) + plotPoints - 1) / plotPoints
	var kept []Point
	for i := 0; i < len(points); i += part {
		low, high := points[i], points[i]
		for _, p := range points[i:min(i+part, len(points))] {
			if p.V < low.V {
				low = p
			}
			if p.V > high.V {
				high = p
			}
		}
		if low.T > high.T {
			low, high = high, low
		}
		kept = append(kept, low, high)
	}
	return kept
}

// niceSteps returns about n round numbers from 0 to at least end.
func niceSteps(end float64, n int) []float64 {
	if end <= 0 {
		end = 1
	}
	raw := end / float64(n)
	magnitude := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * magnitude
	for _, f := range []float64{1, 2, 2.5, 5} {
		if f*magnitude >= raw {
			step = f * magnitude
			break
		}
	}
	var all []float64
	for i := 0; ; i++ {
		all = append(all, float64(i)*step)
		if float64(i)*step >= end*(1-1e-9) {
			return all
		}
	}
}

// plotValue writes a value beside an axis.
func plotValue(unit Unit, v float64) string {
	if unit == Time {
		return FormatValue(Time, time.Duration(v*1e9))
	}
	return FormatValue(unit, v)
}

func shorten(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// drawSweep draws how a quantity depends on a parameter: its mean, and its confidence
// interval as a bar. Values of the parameter are set side by side, evenly.
func drawSweep(title string, unit Unit, labels []string, points []QuantitySummary) template.HTML {
	top := 0.0
	for _, p := range points {
		top = max(top, p.Max)
		if p.CI95 != nil {
			top = max(top, min(p.Mean+*p.CI95, 2*p.Max))
		}
	}
	ys := niceSteps(top, 4)
	yMax := ys[len(ys)-1]
	x := func(i int) float64 {
		return plotLeft + (float64(i)+0.5)/float64(len(points))*(plotWidth-plotLeft-plotRight)
	}
	y := func(v float64) float64 {
		return plotHeight - plotBottom - min(max(v, 0), yMax)/yMax*(plotHeight-plotTop-plotBottom)
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, `<svg class="plot" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", plotWidth, plotHeight, html.EscapeString(title))
	for _, v := range ys {
		fmt.Fprintf(&sb, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text x="%d" y="%.1f" class="end">%s</text>`+"\n",
			plotLeft, y(v), plotWidth-plotRight, y(v), plotLeft-6, y(v)+4, html.EscapeString(plotValue(unit, v)))
	}
	sb.WriteString(`<g class="s0"><polyline points="`)
	for i, p := range points {
		fmt.Fprintf(&sb, "%.1f,%.1f ", x(i), y(p.Mean))
	}
	sb.WriteString(`"/>`)
	for i, p := range points {
		fmt.Fprintf(&sb, `<circle cx="%.1f" cy="%.1f" r="3"><title>%s: %s</title></circle>`, x(i), y(p.Mean), html.EscapeString(labels[i]), html.EscapeString(p.Text()))
		if p.CI95 != nil {
			fmt.Fprintf(&sb, `<line x1="%[1]s" y1="%.1[2]f" x2="%[1]s" y2="%.1[3]f"/>`, strconv.FormatFloat(x(i), 'f', 1, 64), y(p.Mean-*p.CI95), y(p.Mean+*p.CI95))
		}
	}
	sb.WriteString("</g>\n")
	for i, l := range labels {
		fmt.Fprintf(&sb, `<text x="%.1f" y="%d" class="middle">%s</text>`+"\n", x(i), plotHeight-plotBottom+16, html.EscapeString(shorten(l, max(6, 110/len(labels)))))
	}
	fmt.Fprintf(&sb, `<line class="axis" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/></svg>`, plotLeft, y(0), plotWidth-plotRight, y(0))
	return template.HTML(sb.String())
}
