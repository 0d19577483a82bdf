package netfile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"weft/topo"
)

// GraphML (graphml.graphdrawing.org), as the Internet Topology Zoo has it: every node becomes a
// switch with a host, every edge a link. The delay is that of light in fibre along the great
// circle between the ends, of which the Zoo knows the coordinates.

// fibreSpeed is that of light in fibre, in kilometres a second: c divided by a refractive index
// of 1.468 (ITU-T G.652).
const fibreSpeed = 299792.458 / 1.468

// earthRadius is the mean radius of the Earth in kilometres (IUGG).
const earthRadius = 6371.0088

// A graphNode is a node of GraphML.
type graphNode struct {
	id           string
	data         map[string]string
	line, column int
}

type graphEdge struct {
	source, target string
	data           map[string]string
	line, column   int
}

// readGraphML reads a GraphML file.
func readGraphML(path string, text []byte, p Params) (topo.Spec, error) {
	f := newForeign(path, p)
	if line, column, what := firstIllegal(text); what != "" {
		f.at(line, column, "%s", what)
		return f.finish()
	}
	nodes, edges := f.graph(text)
	if len(f.errs) == 0 {
		f.fromGraph(nodes, edges)
	}
	return f.finish()
}

// graph reads nodes and edges with their data by the names of the keys.
func (f *foreign) graph(text []byte) (nodes []graphNode, edges []graphEdge) {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Entity = map[string]string{}
	d.CharsetReader = func(label string, r io.Reader) (io.Reader, error) {
		if strings.EqualFold(label, "utf-8") || strings.EqualFold(label, "us-ascii") || strings.EqualFold(label, "ascii") {
			return r, nil
		}
		return nil, fmt.Errorf("the file is in %s; save it as UTF-8", label)
	}
	keys := map[string]string{}
	var data map[string]string // of the node or edge that is open
	var dataKey string
	var value strings.Builder
	graphs, depth := 0, 0
	for {
		line, column := d.InputPos()
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var syntax *xml.SyntaxError
			if line, column = d.InputPos(); errors.As(err, &syntax) {
				f.at(syntax.Line, 0, "this is not XML: %s", syntax.Msg)
			} else {
				f.at(line, column, "%s", strings.TrimPrefix(err.Error(), "xml: "))
			}
			return nil, nil
		}
		switch t := token.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				f.at(line, column, "elements are more than %d deep inside others", maxDepth)
				return nil, nil
			}
			attr := map[string]string{}
			for _, a := range t.Attr {
				attr[a.Name.Local] = a.Value
			}
			switch t.Name.Local {
			case "graphml":
			case "key":
				keys[attr["id"]] = attr["attr.name"]
			case "graph":
				if graphs++; graphs > 1 {
					f.at(line, column, "there is a second graph in the file; make it a file of its own")
					return nil, nil
				}
			case "node":
				if attr["id"] == "" {
					f.at(line, column, "the node has no id; write <node id=\"n1\">")
				}
				data = map[string]string{}
				nodes = append(nodes, graphNode{attr["id"], data, line, column})
				if len(nodes) > topo.MaxNodes/2 {
					f.at(line, column, "the graph has more than %d nodes", topo.MaxNodes/2)
					return nil, nil
				}
			case "edge":
				data = map[string]string{}
				if attr["source"] == "" || attr["target"] == "" {
					f.at(line, column, "the edge has no source or no target; write <edge source=\"n1\" target=\"n2\">")
				}
				edges = append(edges, graphEdge{attr["source"], attr["target"], data, line, column})
				if len(edges) > topo.MaxLinks/2 {
					f.at(line, column, "the graph has more than %d edges", topo.MaxLinks/2)
					return nil, nil
				}
			case "data":
				dataKey = attr["key"]
				if name := keys[dataKey]; name != "" {
					dataKey = name
				}
				value.Reset()
			default:
				if depth == 1 {
					f.at(line, column, "<%s> is not GraphML, which begins with <graphml>", t.Name.Local)
					return nil, nil
				}
			}
		case xml.CharData:
			if dataKey != "" && value.Len() < 1<<16 {
				value.Write(t)
			}
		case xml.EndElement:
			depth--
			switch t.Name.Local {
			case "data":
				if data != nil {
					data[dataKey] = strings.TrimSpace(value.String())
				}
				dataKey = ""
			case "node", "edge":
				data = nil
			}
		}
	}
	if graphs == 0 && len(f.errs) == 0 {
		f.at(1, 1, "there is no <graph> in the file")
	}
	return nodes, edges
}

// fromGraph makes a network of a graph.
func (f *foreign) fromGraph(nodes []graphNode, edges []graphEdge) {
	names, at := map[string]string{}, map[string]*graphNode{}
	parent := map[string]string{} // of nodes that are joined
	for i := range nodes {
		n := &nodes[i]
		if first := at[n.id]; first != nil {
			f.at(n.line, n.column, "there is a node with the id %q already, in line %d; write another", n.id, first.line)
			continue
		}
		label := n.data["label"]
		name := f.legalName(label, "n"+n.id)
		if label != "" && name != label {
			f.note("the node %q is called %s", label, name)
		}
		names[n.id], at[n.id], parent[n.id] = name, n, n.id
		f.addSwitch(topo.Switch{Name: name}, n.line, n.column)
	}
	for _, n := range nodes {
		if at[n.id].line != n.line || at[n.id].column != n.column {
			continue
		}
		host := f.legalName("h-"+names[n.id], "h"+n.id)
		f.addHost(topo.Host{Name: host}, n.line, n.column)
		f.addLink(topo.Link{A: topo.LinkEnd{Node: host}, B: topo.LinkEnd{Node: names[n.id]}}, n.line, n.column)
	}
	find := func(id string) string {
		for parent[id] != id {
			parent[id] = parent[parent[id]]
			id = parent[id]
		}
		return id
	}
	unplaced := 0
	for _, e := range edges {
		a, b := at[e.source], at[e.target]
		switch {
		case a == nil || b == nil:
			missing := e.source
			if a != nil {
				missing = e.target
			}
			f.at(e.line, e.column, "there is no node with the id %q", missing)
			continue
		case a == b:
			f.note("line %d: an edge from %s to itself is left out", e.line, names[e.source])
			continue
		}
		parent[find(e.source)] = find(e.target)
		l := topo.Link{A: topo.LinkEnd{Node: names[e.source]}, B: topo.LinkEnd{Node: names[e.target]}}
		var options []string
		if km, ok := f.distance(a, b); ok {
			if delay := fibreDelay(km); delay > 0 {
				options = append(options, "delay="+delay.String())
			}
		} else {
			unplaced++
		}
		if bw := f.speed(e); bw != "" {
			options = append(options, "bw="+bw)
		}
		if err := l.LinkSettings.Set(options...); err != nil {
			f.at(e.line, e.column, "%v", err)
		}
		f.addLink(l, e.line, e.column)
	}
	if unplaced > 0 {
		f.note("%d links have no delay: the file has no coordinates of one of their ends", unplaced)
	}
	parts := map[string]bool{}
	for id := range at {
		parts[find(id)] = true
	}
	if len(parts) > 1 {
		f.note("the graph has %d parts that are not joined; nodes of one do not reach those of another", len(parts))
	}
}

// distance returns how far apart two nodes are in kilometres, along the great circle.
func (f *foreign) distance(a, b *graphNode) (km float64, ok bool) {
	latA, lonA, okA := f.coordinates(a)
	latB, lonB, okB := f.coordinates(b)
	if !okA || !okB {
		return 0, false
	}
	return greatCircle(latA, lonA, latB, lonB), true
}

// greatCircle is the haversine formula, of degrees.
func greatCircle(latA, lonA, latB, lonB float64) float64 {
	rad := func(degrees float64) float64 { return degrees * math.Pi / 180 }
	half := func(x float64) float64 { return math.Pow(math.Sin(x/2), 2) }
	h := half(rad(latB-latA)) + math.Cos(rad(latA))*math.Cos(rad(latB))*half(rad(lonB-lonA))
	return 2 * earthRadius * math.Asin(math.Sqrt(min(1, h)))
}

// fibreDelay is how long light takes, to 10 µs.
func fibreDelay(km float64) time.Duration {
	return time.Duration(km / fibreSpeed * float64(time.Second)).Round(10 * time.Microsecond)
}

func (f *foreign) coordinates(n *graphNode) (lat, lon float64, ok bool) {
	latText, lonText := n.data["Latitude"], n.data["Longitude"]
	if latText == "" || lonText == "" {
		return 0, 0, false
	}
	lat, errLat := strconv.ParseFloat(latText, 64)
	lon, errLon := strconv.ParseFloat(lonText, 64)
	if errLat != nil || !(math.Abs(lat) <= 90) {
		f.at(n.line, n.column, "the latitude %q is not a number of degrees from -90 to 90", latText)
		return 0, 0, false
	}
	if errLon != nil || !(math.Abs(lon) <= 180) {
		f.at(n.line, n.column, "the longitude %q is not a number of degrees from -180 to 180", lonText)
		return 0, 0, false
	}
	return lat, lon, true
}

// speed returns the rate of an edge, empty if the file does not say one that links can have.
// LinkSpeedRaw is in bit/s; LinkSpeed with LinkSpeedUnits is for people.
func (f *foreign) speed(e graphEdge) string {
	bits, err := strconv.ParseFloat(e.data["LinkSpeedRaw"], 64)
	if err != nil {
		unit, known := map[string]float64{"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[strings.ToUpper(e.data["LinkSpeedUnits"])]
		speed := strings.TrimLeft(e.data["LinkSpeed"], "<>=~ ")
		number, err := strconv.ParseFloat(speed, 64)
		if e.data["LinkSpeed"] == "" || err != nil || !known {
			if e.data["LinkSpeed"] != "" {
				f.note("line %d: the speed %q is not a number and is left out", e.line, e.data["LinkSpeed"])
			}
			return ""
		}
		bits = number * unit
	}
	if !(bits >= float64(topo.MinRate)) {
		return ""
	}
	if bits > float64(topo.MaxRate) {
		f.note("line %d: %g Gbit/s are more than weft carries; the link has no limit", e.line, bits/1e9)
		return ""
	}
	return topo.Rate(bits).String()
}
