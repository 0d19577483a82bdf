package graph

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"

	"weft/topo"
)

// A drawing is SVG under way.
type drawing struct {
	strings.Builder
	at map[string]point
}

// svg draws hosts and switches where layout puts them, and controllers in a row above.
func (g Graph) svg(w io.Writer) error {
	index := map[string]int{}
	var names []string
	g.eachNode(func(k kind, name, _ string) {
		if k != controllerKind {
			index[name] = len(names)
			names = append(names, name)
		}
	})
	var edges []edge
	for _, l := range g.Plan.Links {
		edges = append(edges, edge{index[l.A.Node], index[l.B.Node]})
	}
	places, err := layout(len(names), edges)
	if err != nil {
		return err
	}
	const margin, rowHeight = 60.0, 70.0
	top := margin
	if len(g.Plan.Controllers) > 0 {
		top += rowHeight
	}
	low, high := bounds(places)
	width := max(high.x-low.x+2*margin, float64(len(g.Plan.Controllers))*110+margin)
	height := high.y - low.y + top + margin
	d := &drawing{at: map[string]point{}}
	shift := (width - (high.x - low.x)) / 2
	for i, name := range names {
		d.at[name] = point{places[i].x - low.x + shift, places[i].y - low.y + top}
	}
	for i, c := range g.Plan.Controllers {
		d.at[c.Name] = point{width * (float64(i) + 1) / float64(len(g.Plan.Controllers)+1), margin * 0.7}
	}
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(d, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", html.EscapeString(g.Plan.Name))
	g.drawControl(d)
	g.drawLinks(d)
	g.eachNode(d.node)
	d.WriteString("</svg>\n")
	_, err = io.WriteString(w, d.String())
	return err
}

func bounds(list []point) (low, high point) {
	for i, p := range list {
		if i == 0 {
			low, high = p, p
		}
		low = point{min(low.x, p.x), min(low.y, p.y)}
		high = point{max(high.x, p.x), max(high.y, p.y)}
	}
	return low, high
}

// maxControl is up to how many control channels are drawn as lines; more hide the rest.
const maxControl = 24

func (g Graph) drawControl(d *drawing) {
	count := 0
	g.eachControl(func(string, string) { count++ })
	if count > maxControl {
		return
	}
	d.WriteString(`<g stroke="#b0b0b0" stroke-dasharray="2 4">` + "\n")
	g.eachControl(func(sw, c string) {
		a, b := d.at[c], d.at[sw]
		fmt.Fprintf(d, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", a.x, a.y, b.x, b.y)
	})
	d.WriteString("</g>\n")
}

// drawLinks draws links, those between the same nodes beside each other.
func (g Graph) drawLinks(d *drawing) {
	type pair struct{ a, b string }
	of := func(l topo.PlannedLink) pair { return pair{min(l.A.Node, l.B.Node), max(l.A.Node, l.B.Node)} }
	total, drawn := map[pair]int{}, map[pair]int{}
	for _, l := range g.Plan.Links {
		total[of(l)]++
	}
	d.WriteString(`<g stroke="#555" stroke-width="1.5" fill="none">` + "\n")
	var labels strings.Builder
	for _, l := range g.Plan.Links {
		p := of(l)
		a, b := d.at[p.a], d.at[p.b]
		bend := (float64(drawn[p]) - float64(total[p]-1)/2) * 36
		drawn[p]++
		far := max(1, math.Hypot(b.x-a.x, b.y-a.y))
		mid := point{(a.x+b.x)/2 - (b.y-a.y)/far*bend, (a.y+b.y)/2 + (b.x-a.x)/far*bend}
		style := ""
		if g.Down[l.ID] {
			style = ` stroke="#c00" stroke-dasharray="6 4"`
		}
		fmt.Fprintf(d, "<path d=\"M%.1f %.1f Q%.1f %.1f %.1f %.1f\"%s><title>%s</title></path>\n", a.x, a.y, mid.x, mid.y, b.x, b.y, style,
			html.EscapeString(strings.TrimSpace(l.A.Interface+" - "+l.B.Interface+" "+label(l))))
		if text := label(l); text != "" {
			fmt.Fprintf(&labels, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", (a.x+b.x)/4+mid.x/2, (a.y+b.y)/4+mid.y/2-4, html.EscapeString(short(text, 28)))
		}
	}
	d.WriteString("</g>\n")
	if labels.Len() > 0 {
		fmt.Fprintf(d, `<g font-size="9" text-anchor="middle" fill="#555" stroke="white" stroke-width="3" paint-order="stroke">`+"\n%s</g>\n", labels.String())
	}
}

// node draws a node: hosts as boxes, switches round, DPDK nodes with corners and their NFs, controllers and NICs dashed.
func (d *drawing) node(k kind, name, detail string) {
	p := d.at[name]
	text := short(name, 10)
	half := max(18, float64(len([]rune(text)))*3.8+8)
	fmt.Fprintf(d, "<g><title>%s</title>", html.EscapeString(strings.TrimSpace(name+" "+detail)))
	switch k {
	case switchKind:
		fmt.Fprintf(d, `<ellipse cx="%.1f" cy="%.1f" rx="%.1f" ry="16" fill="#dbe9f6" stroke="#2b6ca3"/>`, p.x, p.y, half)
	case dpdkKind: // six corners
		fmt.Fprintf(d, `<path d="M%.1f %.1f l10 -15 h%.1f l10 15 l-10 15 h%.1f z" fill="#ece2f5" stroke="#6b3fa0"/>`, p.x-half-4, p.y, 2*half-12, -2*half+12)
	case controllerKind:
		fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="%.1f" height="28" fill="#fff6df" stroke="#b8860b" stroke-dasharray="4 2"/>`, p.x-half, p.y-14, 2*half)
	case nicKind:
		fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="%.1f" height="26" fill="#f0f0f0" stroke="#555" stroke-dasharray="2 2"/>`, p.x-half, p.y-13, 2*half)
	default:
		fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="%.1f" height="26" rx="5" fill="#eef5e9" stroke="#5b8c3a"/>`, p.x-half, p.y-13, 2*half)
	}
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, p.x, p.y+4, html.EscapeString(text))
	most := 16
	if k == dpdkKind {
		most = 28
	}
	if detail != "" {
		fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="middle" font-size="9" fill="#555" stroke="white" stroke-width="3" paint-order="stroke">%s</text>`, p.x, p.y+24, html.EscapeString(short(detail, most)))
	}
	d.WriteString("</g>\n")
}

// short cuts a text to some characters.
func short(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}
