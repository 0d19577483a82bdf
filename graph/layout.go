package graph

import (
	"errors"
	"fmt"
	"math"
)

// maxNodes bounds what is laid out: distances between all pairs are kept.
const maxNodes = 2500

// A point is a place in the plane, in pixels.
type point struct{ x, y float64 }

// An edge joins two vertices.
type edge struct{ a, b int }

// errLarge is matched by the error of a network too large to be laid out.
var errLarge = errors.New("too large for a drawing")

// layout places n vertices so that the distance of two in the plane is that in the graph, as
// far as it can be (stress majorization: Gansner, Koren, North, "Graph Drawing by Stress
// Majorization", 2004). It is the same in every run.
func layout(n int, edges []edge) ([]point, error) {
	if n > maxNodes {
		return nil, fmt.Errorf("%d nodes: %w, at most %d are: take dot, or json", n, errLarge, maxNodes)
	}
	d := distances(n, edges)
	at := begin(n, d)
	for range iterations(n) {
		majorize(at, d)
	}
	turn(at)
	spread(at)
	return at, nil
}

// Sizes, in pixels.
const (
	edgeLength = 100.0
	leastRoom  = 58.0 // between the centres of two nodes
)

// iterations is how often all vertices are moved: small drawings may be fine.
func iterations(n int) int { return max(12, min(300, 3_000_000/max(1, n*n))) }

// distances returns the lengths of the shortest ways between all vertices. An edge is the
// longer, the more others its ends have, so that there is room around them.
func distances(n int, edges []edge) [][]float64 {
	near := make([][]int, n)
	seen := map[edge]bool{}
	for _, e := range edges {
		if key := (edge{min(e.a, e.b), max(e.a, e.b)}); e.a != e.b && !seen[key] {
			seen[key] = true
			near[e.a], near[e.b] = append(near[e.a], e.b), append(near[e.b], e.a)
		}
	}
	length := func(a, b int) float64 {
		room := float64(max(len(near[a]), len(near[b]))) * leastRoom / (2 * math.Pi)
		return max(edgeLength, room)
	}
	d := make([][]float64, n)
	longest := edgeLength
	for from := range n {
		d[from] = shortest(from, near, length)
		for _, v := range d[from] {
			if !math.IsInf(v, 1) {
				longest = max(longest, v)
			}
		}
	}
	for _, row := range d { // what nothing joins stands beside
		for i, v := range row {
			if math.IsInf(v, 1) {
				row[i] = longest + edgeLength
			}
		}
	}
	return d
}

// shortest returns the distances from a vertex (Bellman and Ford, with a queue).
func shortest(from int, near [][]int, length func(a, b int) float64) []float64 {
	d := make([]float64, len(near))
	for i := range d {
		d[i] = math.Inf(1)
	}
	d[from] = 0
	waiting := make([]bool, len(near))
	for queue := []int{from}; len(queue) > 0; {
		a := queue[0]
		queue = queue[1:]
		waiting[a] = false
		for _, b := range near[a] {
			if v := d[a] + length(a, b); v < d[b]-1e-9 {
				if d[b] = v; !waiting[b] {
					queue, waiting[b] = append(queue, b), true
				}
			}
		}
	}
	return d
}

// begin places vertices by their distances from a few that are far from each other (pivots), and
// those that have the same a little apart.
func begin(n int, d [][]float64) []point {
	at := make([]point, n)
	if n == 0 {
		return at
	}
	farthest := func(from ...int) int {
		best, most := 0, -1.0
		for i := range n {
			least := math.Inf(1)
			for _, f := range from {
				least = min(least, d[f][i])
			}
			if least > most {
				best, most = i, least
			}
		}
		return best
	}
	a := farthest(0)
	b := farthest(a)
	c := farthest(a, b)
	e := farthest(a, b, c)
	for i := range at {
		// The golden angle spreads without a pattern.
		s, t := math.Sincos(float64(i) * 2.399963)
		at[i] = point{(d[a][i]-d[b][i])/2 + 20*t, (d[c][i]-d[e][i])/2 + 20*s}
	}
	return at
}

// majorize moves each vertex to where the others want it, weighted by their nearness.
func majorize(at []point, d [][]float64) {
	for i := range at {
		var x, y, sum float64
		for j := range at {
			if i == j {
				continue
			}
			w := 1 / (d[i][j] * d[i][j])
			dx, dy := at[i].x-at[j].x, at[i].y-at[j].y
			far := math.Hypot(dx, dy)
			pull := 0.0
			if far > 1e-6 {
				pull = d[i][j] / far
			}
			x += w * (at[j].x + dx*pull)
			y += w * (at[j].y + dy*pull)
			sum += w
		}
		if sum > 0 {
			at[i] = point{x / sum, y / sum}
		}
	}
}

// turn lays the longest direction level, because screens are wide.
func turn(at []point) {
	var mx, my float64
	for _, p := range at {
		mx, my = mx+p.x/float64(len(at)), my+p.y/float64(len(at))
	}
	var xx, xy, yy float64
	for _, p := range at {
		xx, xy, yy = xx+(p.x-mx)*(p.x-mx), xy+(p.x-mx)*(p.y-my), yy+(p.y-my)*(p.y-my)
	}
	s, c := math.Sincos(-math.Atan2(2*xy, xx-yy) / 2)
	for i, p := range at {
		at[i] = point{(p.x-mx)*c - (p.y-my)*s, (p.x-mx)*s + (p.y-my)*c}
	}
}

// spread moves vertices apart that lie on each other.
func spread(at []point) {
	for range 60 {
		moved := false
		for i := range at {
			for j := range i {
				dx, dy := at[i].x-at[j].x, at[i].y-at[j].y
				far := math.Hypot(dx, dy)
				if far >= leastRoom {
					continue
				}
				moved = true
				if far < 1e-6 {
					dx, dy, far = 1, 0, 1
				}
				push := (leastRoom - far) / 2 / far
				at[i] = point{at[i].x + dx*push, at[i].y + dy*push}
				at[j] = point{at[j].x - dx*push, at[j].y - dy*push}
			}
		}
		if !moved {
			return
		}
	}
}
