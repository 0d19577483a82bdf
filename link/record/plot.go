package record

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"weft/internal/canvas"
)

// A Summary is what a record says of one direction.
type Summary struct {
	Frames  uint64            `json:"frames"` // copies included
	Bytes   uint64            `json:"bytes"`  // delivered
	Fates   map[string]uint64 `json:"fates"`  // frames by fate
	Copies  uint64            `json:"copies,omitempty"`
	Marked  uint64            `json:"marked,omitempty"`
	Corrupt uint64            `json:"corrupted,omitempty"`
	// Delays of delivered frames.
	Least  time.Duration `json:"leastDelay"`
	Median time.Duration `json:"medianDelay"`
	P99    time.Duration `json:"p99Delay"`
	Most   time.Duration `json:"mostDelay"`
	// Queue is the most that waited for the rate when a frame came, bytes.
	Queue uint32 `json:"queue"`
}

// A Plot is a record to look at: what has become of frames, and when.
type Plot struct {
	Missing uint64 // frames that could not be recorded
	ways    [2][]Frame
	start   time.Duration
	end     time.Duration
}

// A Source yields the frames of a record; see Reader.
type Source interface {
	Read() (Frame, error)
	Missing() uint64
}

// ErrEmpty says that a record has no frame.
var ErrEmpty = errors.New("no frame is recorded")

// NewPlot reads a record.
func NewPlot(r Source) (*Plot, error) {
	p := &Plot{start: math.MaxInt64}
	for {
		f, err := r.Read()
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		p.ways[f.Way] = append(p.ways[f.Way], f)
		p.start, p.end = min(p.start, f.Arrival), max(p.end, f.Arrival)
	}
	p.Missing = r.Missing()
	if p.end < p.start {
		return nil, ErrEmpty
	}
	return p, nil
}

// Summary says what has become of the frames of a direction.
func (p *Plot) Summary(way int) Summary {
	s := Summary{Fates: map[string]uint64{}}
	var delays []time.Duration
	for i := range p.ways[way] {
		f := &p.ways[way][i]
		s.Frames++
		s.Fates[f.Fate.String()]++
		s.Queue = max(s.Queue, f.QueueBytes)
		for _, c := range []struct {
			is bool
			n  *uint64
		}{{f.Copy, &s.Copies}, {f.Marked, &s.Marked}, {f.Corrupted, &s.Corrupt}} {
			if c.is {
				*c.n++
			}
		}
		if f.Fate == Delivered {
			s.Bytes += uint64(f.Bytes)
			delays = append(delays, f.Delay())
		}
	}
	slices.Sort(delays)
	if n := len(delays); n > 0 {
		s.Least, s.Median, s.P99, s.Most = delays[0], delays[n/2], delays[n*99/100], delays[n-1]
	}
	return s
}

// String is the summary in a line.
func (s Summary) String() string {
	var parts []string
	for _, fate := range fates() {
		if n := s.Fates[fate]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, fate))
		}
	}
	text := fmt.Sprintf("%d frames: %s", s.Frames, strings.Join(parts, ", "))
	if s.Fates[Delivered.String()] > 0 {
		text += fmt.Sprintf("; delay %v to %v, median %v, p99 %v", round(s.Least), round(s.Most), round(s.Median), round(s.P99))
	}
	for _, c := range []struct {
		n    uint64
		what string
	}{{s.Copies, "copies"}, {s.Marked, "marked"}, {s.Corrupt, "corrupted"}} {
		if c.n > 0 {
			text += fmt.Sprintf("; %d %s", c.n, c.what)
		}
	}
	return text
}

func round(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

// The plot's sizes, pixels: three panels, each with both directions.
const (
	width, height = 900, 640
	left, right   = 80, 20
	panelTop      = 50
	panelHeight   = 160
	panelGap      = 30
)

// WriteSVG draws the delay of frames, the queue and the losses over time.
func (p *Plot) WriteSVG(w io.Writer) error { return p.draw(canvas.NewSVG(width, height), w) }

// WritePNG draws the delay of frames, the queue and the losses over time.
func (p *Plot) WritePNG(w io.Writer) error { return p.draw(canvas.NewPNG(width, height), w) }

// A column is what happened in the time of one column of pixels.
type column struct {
	frames, lost int
	low, high    float64 // delay, ms
	queue        float64 // kB
}

func (p *Plot) columns(way int) []column {
	list := make([]column, width-left-right)
	span := max(p.end-p.start, 1)
	for i := range p.ways[way] {
		f := &p.ways[way][i]
		c := &list[int(float64(f.Arrival-p.start)/float64(span)*float64(len(list)-1))]
		c.queue = max(c.queue, float64(f.QueueBytes)/1e3)
		if f.Fate != Delivered {
			c.lost++
			continue
		}
		d := float64(f.Delay()) / float64(time.Millisecond)
		if c.frames == 0 || d < c.low {
			c.low = d
		}
		c.high = max(c.high, d)
		c.frames++
	}
	return list
}

func (p *Plot) draw(c canvas.Canvas, w io.Writer) error {
	black, grey, faint := color.RGBA{0, 0, 0, 255}, color.RGBA{110, 110, 110, 255}, color.RGBA{222, 222, 222, 255}
	colors := []color.RGBA{{31, 92, 153, 255}, {179, 89, 0, 255}}
	all := [2][]column{p.columns(0), p.columns(1)}
	for way, name := range ways() {
		c.Text(left, float64(18+16*way), 0, colors[way], name+": "+p.Summary(way).String())
	}
	for i, panel := range []struct {
		title string
		value func(column) (low, high float64, ok bool)
	}{
		{"delay, ms", func(c column) (float64, float64, bool) { return c.low, c.high, c.frames > 0 }},
		{"queue, kB", func(c column) (float64, float64, bool) { return 0, c.queue, c.queue > 0 }},
		{"frames lost", func(c column) (float64, float64, bool) { return 0, float64(c.lost), c.lost > 0 }},
	} {
		top := float64(panelTop + i*(panelHeight+panelGap))
		most := 0.0
		for _, list := range all {
			for _, col := range list {
				_, high, _ := panel.value(col)
				most = max(most, high)
			}
		}
		if most == 0 {
			most = 1
		}
		y := func(v float64) float64 { return top + panelHeight*(1-v/most) }
		for share := 0.0; share <= 1; share += 0.5 {
			c.Line(left, y(share*most), width-right, y(share*most), faint)
			c.Text(left-6, y(share*most)+4, 2, grey, fmt.Sprintf("%.4g", share*most))
		}
		c.Text(left+4, top+12, 0, black, panel.title)
		for way, list := range all {
			for x, col := range list {
				if low, high, ok := panel.value(col); ok {
					// At least a pixel is seen.
					c.Line(float64(left+x), y(low), float64(left+x), y(high)-0.5, colors[way])
				}
			}
		}
		c.Line(left, y(0), width-right, y(0), black)
	}
	bottom := float64(panelTop + 3*(panelHeight+panelGap) - panelGap)
	for share := 0.0; share <= 1; share += 0.25 {
		at := p.start + time.Duration(share*float64(p.end-p.start))
		c.Text(left+share*(width-left-right), bottom+16, 1, grey, fmt.Sprintf("%.3g s", at.Seconds()))
	}
	return c.Write(w)
}
