package conversation

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"time"

	"weft/internal/canvas"
)

// ErrNothingToPlot says that no flow setup was seen.
var ErrNothingToPlot = errors.New("no PACKET_IN was answered, so there is no latency to plot")

// The plot's size and margins, pixels.
const (
	plotWidth, plotHeight = 800, 480
	plotLeft, plotRight   = 60, 20
	plotTop, plotBottom   = 40, 60
)

// WriteSVG plots the latency of flow setups.
func (s Setup) WriteSVG(w io.Writer) error { return s.plot(canvas.NewSVG(plotWidth, plotHeight), w) }

// WritePNG plots the latency of flow setups.
func (s Setup) WritePNG(w io.Writer) error { return s.plot(canvas.NewPNG(plotWidth, plotHeight), w) }

// plot draws which share of flow setups took at most how long, the times in a logarithmic
// scale.
func (s Setup) plot(c canvas.Canvas, w io.Writer) error {
	if s.First.Count == 0 {
		return ErrNothingToPlot
	}
	black, grey, faint := color.RGBA{0, 0, 0, 255}, color.RGBA{110, 110, 110, 255}, color.RGBA{222, 222, 222, 255}
	low, high := decades(s.First, s.FlowMod, s.PacketOut)
	x := func(d time.Duration) float64 {
		at := (math.Log10(max(float64(d), 1)) - low) / (high - low)
		return plotLeft + math.Min(math.Max(at, 0), 1)*(plotWidth-plotLeft-plotRight)
	}
	y := func(share float64) float64 { return plotHeight - plotBottom - share*(plotHeight-plotTop-plotBottom) }

	c.Text(plotWidth/2, 22, 1, black, fmt.Sprintf("Flow setup: %d PACKET_INs, %d unanswered", s.PacketIns, s.Unanswered))
	for share := 0.0; share <= 1; share += 0.25 {
		c.Line(plotLeft, y(share), plotWidth-plotRight, y(share), faint)
		c.Text(plotLeft-6, y(share)+4, 2, grey, fmt.Sprintf("%.0f%%", 100*share))
	}
	for e := low; e <= high; e++ {
		at := time.Duration(math.Round(math.Pow(10, e)))
		c.Line(x(at), y(0), x(at), y(1), faint)
		c.Text(x(at), y(0)+18, 1, grey, at.String())
	}
	c.Text(plotWidth/2, plotHeight-18, 1, grey, "time from PACKET_IN to the answer")
	c.Line(plotLeft, y(0), plotWidth-plotRight, y(0), black)
	c.Line(plotLeft, y(0), plotLeft, y(1), black)

	row := 0.0
	for _, series := range []struct {
		name  string
		l     Latency
		color color.RGBA
	}{
		{"FLOW_MOD", s.FlowMod, color.RGBA{31, 92, 153, 255}},
		{"PACKET_OUT", s.PacketOut, color.RGBA{179, 89, 0, 255}},
		{"first of both", s.First, color.RGBA{34, 120, 60, 255}},
	} {
		l := series.l
		if l.Count == 0 {
			continue
		}
		before := 0.0
		for i, t := range l.sorted {
			share := float64(i+1) / float64(l.Count)
			c.Line(x(t), y(before), x(t), y(share), series.color)
			if i+1 < l.Count {
				c.Line(x(t), y(share), x(l.sorted[i+1]), y(share), series.color)
			}
			before = share
		}
		c.Text(plotLeft+12, plotTop+14+16*row, 0, series.color,
			fmt.Sprintf("%s: %d, p50 %v ms, p99 %v ms", series.name, l.Count, l.Median, l.P99))
		row++
	}
	return c.Write(w)
}

// decades returns the powers of ten, of nanoseconds, between which all times are.
func decades(all ...Latency) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, l := range all {
		if l.Count > 0 {
			low = math.Min(low, math.Floor(math.Log10(math.Max(float64(l.Min), 1))))
			high = math.Max(high, math.Ceil(math.Log10(math.Max(float64(l.Max), 1))))
		}
	}
	if high <= low {
		high = low + 1
	}
	return low, high
}
