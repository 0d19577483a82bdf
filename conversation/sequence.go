package conversation

import (
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"time"

	"weft/control"
	"weft/control/openflow"
)

// A Sequence is a diagram of who told whom what, as SVG or Mermaid. It is not for
// concurrent use.
type Sequence struct {
	// Limit is how many messages are drawn, the first ones; 0 means MaxSequence.
	Limit    int
	switches []string
	others   []string // controllers
	messages []told
	missed   int
}

// MaxSequence is how many messages a diagram has if nothing else is said: browsers are
// slow with more.
const MaxSequence = 2000

// told is a message in a Sequence.
type told struct {
	at       time.Time
	from, to string
	label    string
}

// Add adds a message, which says d.
func (s *Sequence) Add(m control.TapMessage, d openflow.Decoded) {
	limit := s.Limit
	if limit == 0 {
		limit = MaxSequence
	}
	if len(s.messages) >= limit {
		s.missed++
		return
	}
	if !slices.Contains(s.switches, m.Switch) {
		s.switches = append(s.switches, m.Switch)
	}
	if !slices.Contains(s.others, m.Controller) {
		s.others = append(s.others, m.Controller)
	}
	t := told{m.Time, m.Switch, m.Controller, d.Brief(100)}
	if !m.FromSwitch {
		t.from, t.to = t.to, t.from
	}
	s.messages = append(s.messages, t)
}

// names returns who takes part, switches first.
func (s *Sequence) names() []string { return slices.Concat(s.switches, s.others) }

func (s *Sequence) remark() string {
	if s.missed == 0 {
		return ""
	}
	return fmt.Sprintf("and %d messages more", s.missed)
}

// WriteMermaid writes the diagram in Mermaid's language.
func (s *Sequence) WriteMermaid(w io.Writer) error {
	var b strings.Builder
	b.WriteString("sequenceDiagram\n")
	all := s.names()
	id := func(name string) string { return fmt.Sprintf("n%d", slices.Index(all, name)) }
	for _, n := range all {
		fmt.Fprintf(&b, "    participant %s as %s\n", id(n), mermaidText(n))
	}
	for _, m := range s.messages {
		fmt.Fprintf(&b, "    %s->>%s: %s %s\n", id(m.from), id(m.to), s.since(m.at), mermaidText(m.label))
	}
	if r := s.remark(); r != "" {
		fmt.Fprintf(&b, "    Note over %s: %s\n", id(all[0]), r)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mermaidText escapes what means something in Mermaid.
func mermaidText(s string) string {
	return strings.NewReplacer("#", "#35;", ";", "#59;", "\n", " ", "<", "#lt;", ">", "#gt;").Replace(s)
}

// since writes a time after the first message.
func (s *Sequence) since(at time.Time) string {
	return fmt.Sprintf("%.6f", at.Sub(s.messages[0].at).Seconds())
}

// Measures of the drawing, pixels.
const (
	laneWidth  = 220
	timeWidth  = 100
	headHeight = 50
	rowHeight  = 24
)

// WriteSVG draws the diagram.
func (s *Sequence) WriteSVG(w io.Writer) error {
	var b strings.Builder
	all := s.names()
	width := timeWidth + laneWidth*max(len(all), 1) + 500
	height := headHeight + rowHeight*(len(s.messages)+2)
	x := func(name string) int { return timeWidth + laneWidth/2 + laneWidth*slices.Index(all, name) }
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	b.WriteString(`<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>` + "\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for i, n := range all {
		fill := "#dbe9f6"
		if i >= len(s.switches) {
			fill = "#fde5cf"
		}
		fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#999" stroke-dasharray="4 3"/>`+"\n", x(n), headHeight-10, x(n), height-10)
		fmt.Fprintf(&b, `<rect x="%d" y="10" width="%d" height="30" rx="4" fill="%s" stroke="#666"/>`+"\n", x(n)-laneWidth/2+10, laneWidth-20, fill)
		fmt.Fprintf(&b, `<text x="%d" y="30" text-anchor="middle" font-weight="bold">%s</text>`+"\n", x(n), html.EscapeString(n))
	}
	for i, m := range s.messages {
		y := headHeight + rowHeight*(i+1)
		from, to := x(m.from), x(m.to)
		color := "#1f5c99"
		if slices.Contains(s.others, m.from) {
			color = "#b35900"
		}
		fmt.Fprintf(&b, `<text x="8" y="%d" fill="#666" font-family="monospace">%s</text>`+"\n", y+4, s.since(m.at))
		fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" marker-end="url(#tip)"/>`+"\n", from, y, to, y, color)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", min(from, to)+8, y-4, color, html.EscapeString(m.label))
	}
	if r := s.remark(); r != "" {
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text>`+"\n", timeWidth, height-8, r)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
