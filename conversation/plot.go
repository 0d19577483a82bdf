package conversation

import (
	"errors"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// ErrNothingToPlot says that no flow setup was seen.
var ErrNothingToPlot = errors.New("no PACKET_IN was answered, so there is no latency to plot")

// The plot's size and margins, pixels.
const (
	plotWidth, plotHeight = 800, 480
	plotLeft, plotRight   = 60, 20
	plotTop, plotBottom   = 40, 60
)

// A canvas is drawn on. Coordinates are pixels from the upper left corner.
type canvas interface {
	line(x1, y1, x2, y2 float64, c color.RGBA)
	// text writes s whose left end, middle or right end (align 0, 1, 2) is at x.
	text(x, y float64, align int, c color.RGBA, s string)
	write(w io.Writer) error
}

// WriteSVG plots the latency of flow setups.
func (s Setup) WriteSVG(w io.Writer) error { return s.plot(&svgCanvas{}, w) }

// WritePNG plots the latency of flow setups.
func (s Setup) WritePNG(w io.Writer) error { return s.plot(newPNGCanvas(), w) }

// plot draws which share of flow setups took at most how long, the times in a logarithmic
// scale.
func (s Setup) plot(c canvas, w io.Writer) error {
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

	c.text(plotWidth/2, 22, 1, black, fmt.Sprintf("Flow setup: %d PACKET_INs, %d unanswered", s.PacketIns, s.Unanswered))
	for share := 0.0; share <= 1; share += 0.25 {
		c.line(plotLeft, y(share), plotWidth-plotRight, y(share), faint)
		c.text(plotLeft-6, y(share)+4, 2, grey, fmt.Sprintf("%.0f%%", 100*share))
	}
	for e := low; e <= high; e++ {
		at := time.Duration(math.Round(math.Pow(10, e)))
		c.line(x(at), y(0), x(at), y(1), faint)
		c.text(x(at), y(0)+18, 1, grey, at.String())
	}
	c.text(plotWidth/2, plotHeight-18, 1, grey, "time from PACKET_IN to the answer")
	c.line(plotLeft, y(0), plotWidth-plotRight, y(0), black)
	c.line(plotLeft, y(0), plotLeft, y(1), black)

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
			c.line(x(t), y(before), x(t), y(share), series.color)
			if i+1 < l.Count {
				c.line(x(t), y(share), x(l.sorted[i+1]), y(share), series.color)
			}
			before = share
		}
		c.text(plotLeft+12, plotTop+14+16*row, 0, series.color,
			fmt.Sprintf("%s: %d, p50 %v ms, p99 %v ms", series.name, l.Count, l.Median, l.P99))
		row++
	}
	return c.write(w)
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

// An svgCanvas writes SVG.
type svgCanvas struct{ b strings.Builder }

func hexColor(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

func (s *svgCanvas) line(x1, y1, x2, y2 float64, c color.RGBA) {
	fmt.Fprintf(&s.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, hexColor(c))
}

func (s *svgCanvas) text(x, y float64, align int, c color.RGBA, text string) {
	anchor := [...]string{"start", "middle", "end"}[align]
	fmt.Fprintf(&s.b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, hexColor(c), html.EscapeString(text))
}

func (s *svgCanvas) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<rect width="%d" height="%d" fill="white"/>
%s</svg>
`, plotWidth, plotHeight, plotWidth, plotHeight, plotWidth, plotHeight, s.b.String())
	return err
}

// A pngCanvas draws pixels.
type pngCanvas struct{ img *image.RGBA }

func newPNGCanvas() *pngCanvas {
	img := image.NewRGBA(image.Rect(0, 0, plotWidth, plotHeight))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	return &pngCanvas{img}
}

func (p *pngCanvas) line(x1, y1, x2, y2 float64, c color.RGBA) {
	steps := int(math.Max(math.Abs(x2-x1), math.Abs(y2-y1))) + 1
	for i := range steps + 1 {
		t := float64(i) / float64(steps)
		p.img.SetRGBA(int(math.Round(x1+t*(x2-x1))), int(math.Round(y1+t*(y2-y1))), c)
	}
}

func (p *pngCanvas) text(x, y float64, align int, c color.RGBA, text string) {
	text = strings.ReplaceAll(text, "µ", "u") // the font is ASCII
	face := basicfont.Face7x13
	left := x - float64(align)/2*float64(face.Advance*utf8.RuneCountInString(text))
	d := font.Drawer{Dst: p.img, Src: image.NewUniform(c), Face: face, Dot: fixed.P(int(left), int(y))}
	d.DrawString(text)
}

func (p *pngCanvas) write(w io.Writer) error { return png.Encode(w, p.img) }
