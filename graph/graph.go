// Package graph draws networks: as SVG with a layout of its own, for Graphviz and Mermaid, and
// as JSON, both plain and after RFC 8345. It may import topo.
package graph

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"weft/topo"
)

// A Graph is a network to draw.
type Graph struct {
	Plan *topo.Plan
	// Down reports, by ID, which links are down; nil: none is known to be.
	Down map[int]bool
}

// A Format is a way to write a Graph.
type Format string

// The formats.
const (
	FormatDOT     Format = "dot"     // Graphviz
	FormatMermaid Format = "mermaid" // for Markdown
	FormatSVG     Format = "svg"
	FormatJSON    Format = "json"    // nodes and links
	FormatRFC8345 Format = "rfc8345" // ietf-network-topology, as RFC 7951 writes YANG in JSON
)

// Formats returns all formats.
func Formats() []Format {
	return []Format{FormatDOT, FormatMermaid, FormatSVG, FormatJSON, FormatRFC8345}
}

// Write writes g in a format.
func (g Graph) Write(w io.Writer, f Format) error {
	switch f {
	case FormatDOT:
		return g.dot(w)
	case FormatMermaid:
		return g.mermaid(w)
	case FormatSVG:
		return g.svg(w)
	case FormatJSON:
		return encode(w, g.value())
	case FormatRFC8345:
		return encode(w, g.rfc8345())
	}
	return fmt.Errorf("there is no format %q", f)
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// A kind is what a node is.
type kind string

const (
	hostKind       kind = "host"
	switchKind     kind = "switch"
	dpdkKind       kind = "dpdk"
	controllerKind kind = "controller"
	nicKind        kind = "nic" // outside, what a NIC is plugged into, or a memif socket
)

// eachNode calls f for each node, in the plan's order; detail is an address or the like.
func (g Graph) eachNode(f func(k kind, name, detail string)) {
	for _, s := range g.Plan.Switches {
		if s.DPDK != nil {
			f(dpdkKind, s.Name, nfs(s.DPDK))
		} else {
			f(switchKind, s.Name, "")
		}
	}
	for _, h := range g.Plan.Hosts {
		detail := ""
		switch {
		case h.IP.IsValid():
			detail = h.IP.Addr().String()
		case h.IP6.IsValid():
			detail = h.IP6.Addr().String()
		}
		f(hostKind, h.Name, detail)
	}
	for _, c := range g.Plan.Controllers {
		f(controllerKind, c.Name, string(c.Kind))
	}
	for _, l := range g.Plan.Links {
		if nic, _, ok := l.Outside(); ok {
			f(nicKind, nic.Node, "")
		}
	}
}

// nfs is what a DPDK node does with packets: the NFs of its default chain, all of them if it has
// none, or the program that it is.
func nfs(d *topo.DPDK) string {
	if d.Manager == topo.ManagerDPDK {
		name, _, _ := strings.Cut(strings.TrimSpace(d.Command), " ")
		return path.Base(name)
	}
	names := nfNames(d.NFs, nil)
	for _, c := range d.Chains {
		if c.Name == topo.DefaultChain {
			names = nfNames(d.NFs, c.Services)
		}
	}
	return strings.Join(names, " → ")
}

// nfNames are those of the NFs of services, in their order, with the number of their instances if
// there are several; of all services if nil.
func nfNames(list []topo.NF, services []int) (names []string) {
	if services == nil {
		for _, n := range list {
			if !slices.Contains(services, n.Service) {
				services = append(services, n.Service)
			}
		}
	}
	for _, s := range services {
		name, count := "", 0
		for _, n := range list {
			if n.Service == s {
				name, count = cmp.Or(name, n.Name), count+max(n.Instances, 1)
			}
		}
		if count > 1 {
			name = fmt.Sprintf("%s ×%d", name, count)
		}
		names = append(names, cmp.Or(name, fmt.Sprint(s)))
	}
	return names
}

// eachControl calls f for each control channel.
func (g Graph) eachControl(f func(sw, controller string)) {
	for _, s := range g.Plan.Switches {
		for _, c := range s.Controllers {
			f(s.Name, c)
		}
	}
}

// label is what a link does, for people.
func label(l topo.PlannedLink) string {
	l.Driver, l.Seed, l.Record = "", nil, ""
	return strings.Join(l.Options(), " ")
}

func (g Graph) dot(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "graph %s {\n\tlayout=neato; overlap=prism; splines=true;\n\tnode [fontname=\"sans-serif\"]; edge [fontname=\"sans-serif\" fontsize=10];\n", dotQuote(g.Plan.Name))
	shapes := map[kind]string{hostKind: "shape=box style=rounded", switchKind: "shape=ellipse style=filled fillcolor=\"#dbe9f6\"",
		dpdkKind: "shape=component style=filled fillcolor=\"#ece2f5\"", controllerKind: "shape=box style=dashed", nicKind: "shape=cds"}
	g.eachNode(func(k kind, name, detail string) {
		text := name
		if detail != "" {
			text += "\n" + detail
		}
		fmt.Fprintf(&b, "\t%s [label=%s %s];\n", dotQuote(name), dotQuote(text), shapes[k])
	})
	for _, l := range g.Plan.Links {
		var attributes []string
		if text := label(l); text != "" {
			attributes = append(attributes, "label="+dotQuote(text))
		}
		attributes = append(attributes, "tooltip="+dotQuote(l.A.Interface+" - "+l.B.Interface))
		if g.Down[l.ID] {
			attributes = append(attributes, "style=dashed color=red")
		}
		fmt.Fprintf(&b, "\t%s -- %s [%s];\n", dotQuote(l.A.Node), dotQuote(l.B.Node), strings.Join(attributes, " "))
	}
	g.eachControl(func(sw, c string) {
		fmt.Fprintf(&b, "\t%s -- %s [style=dotted color=gray];\n", dotQuote(c), dotQuote(sw))
	})
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// dotQuote writes a string of the DOT language, in which only the quote is escaped; \n is a line's
// end in labels.
func dotQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

func (g Graph) mermaid(w io.Writer) error {
	var b strings.Builder
	b.WriteString("graph TD\n")
	ids := map[string]string{}
	shapes := map[kind][2]string{hostKind: {"(", ")"}, switchKind: {"([", "])"}, dpdkKind: {"{{", "}}"}, controllerKind: {"[[", "]]"}, nicKind: {">", "]"}}
	g.eachNode(func(k kind, name, detail string) {
		ids[name] = fmt.Sprintf("n%d", len(ids)+1) // names may be words of Mermaid's: end
		text := mermaidText(name)
		if detail != "" {
			text += "<br>" + mermaidText(detail)
		}
		fmt.Fprintf(&b, "  %s%s\"%s\"%s\n", ids[name], shapes[k][0], text, shapes[k][1])
	})
	for _, l := range g.Plan.Links {
		line := "---"
		if g.Down[l.ID] {
			line = "-.-"
		}
		text := label(l)
		if text != "" {
			text = `|"` + mermaidText(text) + `"|`
		}
		fmt.Fprintf(&b, "  %s %s%s %s\n", ids[l.A.Node], line, text, ids[l.B.Node])
	}
	g.eachControl(func(sw, c string) { fmt.Fprintf(&b, "  %s -.- %s\n", ids[c], ids[sw]) })
	_, err := io.WriteString(w, b.String())
	return err
}

// mermaidText writes text within quotes, with Mermaid's entity codes.
func mermaidText(s string) string {
	return strings.NewReplacer(`"`, "#quot;", "#", "#35;", "<", "#lt;", ">", "#gt;", "&", "#amp;").Replace(s)
}

// A value is a Graph as plain JSON.
type value struct {
	Name  string      `json:"name,omitempty"`
	Nodes []nodeValue `json:"nodes"`
	Links []linkValue `json:"links"`
}

type nodeValue struct {
	Name string `json:"name"`
	Kind kind   `json:"kind"`
	// Address is a host's first.
	Address string `json:"address,omitempty"`
	// Controllers are a switch's.
	Controllers []string `json:"controllers,omitempty"`
	// NFs are what packets pass on a DPDK node.
	NFs string `json:"nfs,omitempty"`
}

type linkValue struct {
	A    topo.PlannedEnd `json:"a"`
	B    topo.PlannedEnd `json:"b"`
	Down bool            `json:"down,omitempty"`
	topo.LinkSettings
}

func (g Graph) value() value {
	v := value{Name: g.Plan.Name, Nodes: []nodeValue{}, Links: []linkValue{}}
	g.eachNode(func(k kind, name, detail string) {
		n := nodeValue{Name: name, Kind: k}
		if k == hostKind {
			n.Address = detail
		}
		if k == dpdkKind {
			n.NFs = detail
		}
		if s := g.Plan.Switch(name); s != nil {
			n.Controllers = s.Controllers
		}
		v.Nodes = append(v.Nodes, n)
	})
	for _, l := range g.Plan.Links {
		v.Links = append(v.Links, linkValue{l.A, l.B, g.Down[l.ID], l.LinkSettings})
	}
	return v
}
