package topo

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// The largest network that Generate makes.
const (
	MaxNodes = 100_000
	MaxLinks = 1_000_000
)

// A Generator makes networks of one shape from a few numbers.
type Generator struct {
	Name   string
	Doc    string // one line
	Params []Param

	// size returns the numbers of nodes and links; float64 because they may be
	// beyond any integer.
	size  func(a []int) (nodes, links float64)
	check func(a []int) error // what Params cannot say; nil for nothing
	build func(a []int, n *maker)
}

// A Param is a number that a Generator takes.
type Param struct {
	Name     string
	Doc      string
	Default  int
	Required bool // there is no default
	Min, Max int  // inclusive
}

// Usage returns how the generator is written, such as "linear[,k=2][,n=1]".
func (g Generator) Usage() string {
	var b strings.Builder
	b.WriteString(g.Name)
	for _, p := range g.Params {
		if p.Required {
			fmt.Fprintf(&b, ",%s", strings.ToUpper(p.Name))
		} else {
			fmt.Fprintf(&b, "[,%s=%d]", p.Name, p.Default)
		}
	}
	return b.String()
}

// Generators returns all generators. The first six make the networks of Mininet,
// with its names, ports and order.
func Generators() []Generator {
	count := func(name, doc string, def, least int) Param {
		return Param{Name: name, Doc: doc, Default: def, Min: least, Max: MaxNodes}
	}
	required := func(p Param) Param {
		p.Required = true
		return p
	}
	perSwitch := count("n", "hosts per switch", 1, 0)
	// flat is the size of k switches with n hosts each.
	flat := func(links func(k float64) float64) func(a []int) (float64, float64) {
		return func(a []int) (float64, float64) {
			k, n := float64(a[0]), float64(a[1])
			return k + k*n, k*n + links(k)
		}
	}
	single := func(a []int) (float64, float64) { return float64(a[0]) + 1, float64(a[0]) }
	return []Generator{
		{
			Name: "minimal", Doc: "one switch and two hosts",
			size:  func([]int) (float64, float64) { return 3, 2 },
			build: func(_ []int, n *maker) { buildSingle([]int{2}, n) },
		},
		{
			Name: "single", Doc: "one switch and k hosts",
			Params: []Param{count("k", "hosts", 2, 1)},
			size:   single,
			build:  buildSingle,
		},
		{
			Name: "reversed", Doc: "one switch and k hosts, the first host on the last port",
			Params: []Param{count("k", "hosts", 2, 1)},
			size:   single,
			build:  buildReversed,
		},
		{
			Name: "linear", Doc: "k switches in a row with n hosts each",
			Params: []Param{count("k", "switches", 2, 1), perSwitch},
			size:   flat(func(k float64) float64 { return k - 1 }),
			build: func(a []int, n *maker) {
				n.row(a[0], a[1], func(i int) {
					if i > 1 {
						n.link(n.switchName(i), n.switchName(i-1))
					}
				})
			},
		},
		{
			Name: "tree", Doc: "a tree of switches with hosts as its leaves",
			Params: []Param{count("depth", "levels of switches", 1, 1), count("fanout", "children of a switch", 2, 1)},
			size: func(a []int) (float64, float64) {
				depth, fanout := float64(a[0]), float64(a[1])
				nodes := depth + 1
				if fanout > 1 {
					nodes = (math.Pow(fanout, depth+1) - 1) / (fanout - 1)
				}
				return nodes, nodes - 1
			},
			build: func(a []int, n *maker) { n.tree(a[0], a[1]) },
		},
		{
			Name: "torus", Doc: "x rows of y switches, joined round the edges, with n hosts each; it has loops",
			Params: []Param{required(count("x", "switches in the first direction", 0, 3)),
				required(count("y", "switches in the second direction", 0, 3)), perSwitch},
			size: func(a []int) (float64, float64) {
				s, n := float64(a[0])*float64(a[1]), float64(a[2])
				return s + s*n, 2*s + s*n
			},
			build: buildTorus,
		},
		{
			Name: "ring", Doc: "k switches in a ring with n hosts each; it has a loop",
			Params: []Param{count("k", "switches", 3, 3), perSwitch},
			size:   flat(func(k float64) float64 { return k }),
			build: func(a []int, n *maker) {
				n.row(a[0], a[1], nil)
				for i := 1; i <= a[0]; i++ {
					n.link(n.switchName(i), n.switchName(i%a[0]+1))
				}
			},
		},
		{
			Name: "mesh", Doc: "k switches, each joined to every other, with n hosts each; it has loops",
			Params: []Param{count("k", "switches", 3, 1), perSwitch},
			size:   flat(func(k float64) float64 { return k * (k - 1) / 2 }),
			build: func(a []int, n *maker) {
				n.row(a[0], a[1], nil)
				for i := 1; i <= a[0]; i++ {
					for j := i + 1; j <= a[0]; j++ {
						n.link(n.switchName(i), n.switchName(j))
					}
				}
			},
		},
		{
			Name: "star", Doc: "a core switch s1 and k leaf switches with n hosts each",
			Params: []Param{count("k", "leaf switches", 3, 1), perSwitch},
			size: func(a []int) (float64, float64) {
				k, n := float64(a[0]), float64(a[1])
				return 1 + k + k*n, k + k*n
			},
			build: func(a []int, n *maker) {
				n.addSwitch("s1", 0)
				for i := range a[0] {
					leaf := n.switchName(i + 2)
					n.addSwitch(leaf, 0)
					n.addHosts(a[1], leaf)
					n.link(leaf, "s1")
				}
			},
		},
		{
			Name: "fattree", Doc: "a fat tree of switches with k ports: k pods, k³/4 hosts; it has loops",
			Params: []Param{{Name: "k", Doc: "ports per switch, even", Default: 4, Min: 2, Max: 72}},
			size: func(a []int) (float64, float64) {
				k := float64(a[0])
				return 5*k*k/4 + k*k*k/4, 3 * k * k * k / 4
			},
			check: func(a []int) error {
				if a[0]%2 != 0 {
					return fmt.Errorf("k is %d, an odd number; write an even one", a[0])
				}
				return nil
			},
			build: buildFatTree,
		},
		{
			Name: "leafspine", Doc: "leaf switches with hosts, each joined to every spine switch; it has loops",
			Params: []Param{count("leaves", "leaf switches", 2, 1), count("spines", "spine switches", 2, 1), count("hosts", "hosts per leaf", 2, 0)},
			size: func(a []int) (float64, float64) {
				l, s, h := float64(a[0]), float64(a[1]), float64(a[2])
				return l + s + l*h, l*s + l*h
			},
			build: buildLeafSpine,
		},
		{
			Name: "random", Doc: "switches joined at random, all reachable, with hosts each; the same for the same seed; it has loops",
			Params: []Param{count("switches", "switches", 10, 1), count("degree", "links between switches per switch, on average", 3, 0),
				count("hosts", "hosts per switch", 1, 0), {Name: "seed", Doc: "of the random numbers", Default: 1, Max: math.MaxInt}},
			size: func(a []int) (float64, float64) {
				s, d, h := float64(a[0]), float64(a[1]), float64(a[2])
				return s + s*h, max(s-1, s*d/2) + s*h
			},
			check: func(a []int) error {
				if a[1] >= a[0] && a[0] > 1 {
					return fmt.Errorf("degree is %d with %d switches; write at most %d", a[1], a[0], a[0]-1)
				}
				return nil
			},
			build: buildRandom,
		},
	}
}

// Generate makes the network that arg names: "tree", "tree,2,3" or
// "tree,depth=2,fanout=3".
func Generate(arg string) (Spec, error) {
	a := splitArg(arg)
	all := Generators()
	i := slices.IndexFunc(all, func(g Generator) bool { return g.Name == a.name })
	if i < 0 {
		var names []string
		for _, g := range all {
			names = append(names, g.Name)
		}
		return Spec{}, unknown("topology", a.name, names)
	}
	g := all[i]
	values, err := g.values(a)
	if err != nil {
		return Spec{}, fmt.Errorf("topology %s: %w (usage: %s)", g.Name, err, g.Usage())
	}
	n := &maker{ports: map[string]int{}}
	g.build(values, n)
	return n.spec(), nil
}

// values reads the arguments of a, in the order of g.Params.
func (g Generator) values(a arg) ([]int, error) {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	values := make([]int, len(g.Params))
	given := make([]bool, len(g.Params))
	set := func(i int, text string) {
		p := g.Params[i]
		v, err := strconv.Atoi(text)
		switch {
		case given[i]:
			fail("%s is given twice", p.Name)
		case errors.Is(err, strconv.ErrRange):
			fail("%s is %s, which is out of range", p.Name, text)
		case err != nil:
			fail("%s is %q, which is not a whole number", p.Name, text)
		case v < p.Min:
			fail("%s is %d; write at least %d", p.Name, v, p.Min)
		case v > p.Max:
			fail("%s is %d; write at most %d", p.Name, v, p.Max)
		}
		values[i], given[i] = v, true
	}
	for i, text := range a.pos {
		if i >= len(g.Params) {
			fail("%q is too much; leave it out", text)
			break
		}
		set(i, text)
	}
	for _, o := range a.opts {
		i := slices.IndexFunc(g.Params, func(p Param) bool { return strings.EqualFold(p.Name, o.key) })
		if i < 0 {
			var names []string
			for _, p := range g.Params {
				names = append(names, p.Name)
			}
			errs = append(errs, unknown("parameter", o.key, names))
			continue
		}
		set(i, o.value)
	}
	for i, p := range g.Params {
		switch {
		case given[i]:
		case p.Required:
			fail("%s is missing", p.Name)
		default:
			values[i] = p.Default
		}
	}
	if len(errs) > 0 {
		return nil, oneLine(errs)
	}
	if g.check != nil {
		if err := g.check(values); err != nil {
			return nil, err
		}
	}
	if nodes, links := g.size(values); nodes > MaxNodes || links > MaxLinks {
		return nil, fmt.Errorf("%.7g nodes and %.7g links are too many; at most %d and %d are made", nodes, links, MaxNodes, MaxLinks)
	}
	return values, nil
}

// A maker collects a network. It numbers ports in the order in which links are
// made, as Mininet does, whatever the order of the links in the end.
type maker struct {
	hosts    []Host
	switches []Switch
	links    []Link
	ports    map[string]int // the next port of each node
}

func (n *maker) addHost(name string) { n.hosts = append(n.hosts, Host{Name: name}) }

// addSwitch adds a switch; DPID 0 means that its name says it.
func (n *maker) addSwitch(name string, dpid uint64) {
	n.switches = append(n.switches, Switch{Name: name, DPID: dpid})
	n.ports[name] = 1
}

func (n *maker) link(a, b string) { n.linkPorts(a, n.ports[a], b, n.ports[b]) }

func (n *maker) linkPorts(a string, aPort int, b string, bPort int) {
	n.links = append(n.links, Link{A: LinkEnd{Node: a, Port: &aPort}, B: LinkEnd{Node: b, Port: &bPort}})
	n.ports[a]++
	n.ports[b]++
}

// spec returns the network in Mininet's order: hosts, switches and links sorted by
// their names as people count.
func (n *maker) spec() Spec {
	slices.SortStableFunc(n.hosts, func(a, b Host) int { return CompareNames(a.Name, b.Name) })
	slices.SortStableFunc(n.switches, func(a, b Switch) int { return CompareNames(a.Name, b.Name) })
	slices.SortStableFunc(n.links, func(a, b Link) int {
		return cmp.Or(CompareNames(a.A.Node, b.A.Node), CompareNames(a.B.Node, b.B.Node))
	})
	return Spec{Hosts: n.hosts, Switches: n.switches, Links: n.links}
}

func (n *maker) switchName(i int) string { return "s" + strconv.Itoa(i) }

// addHosts adds the next hosts, h1, h2 and so on, and links them to a switch.
func (n *maker) addHosts(count int, sw string) {
	for range count {
		name := "h" + strconv.Itoa(len(n.hosts)+1)
		n.addHost(name)
		n.link(name, sw)
	}
}

// row adds switches s1 to sK with hosts each: h1 to hK if it is one each, else h1s1,
// h2s1 and so on. It calls then, if not nil, after each switch.
func (n *maker) row(switches, hosts int, then func(i int)) {
	for i := 1; i <= switches; i++ {
		n.addSwitch(n.switchName(i), 0)
		for j := 1; j <= hosts; j++ {
			name := fmt.Sprintf("h%d", i)
			if hosts > 1 {
				name = fmt.Sprintf("h%ds%d", j, i)
			}
			n.addHost(name)
			n.link(name, n.switchName(i))
		}
		if then != nil {
			then(i)
		}
	}
}

// tree adds a tree in depth-first order and returns its root.
func (n *maker) tree(depth, fanout int) string {
	if depth == 0 {
		name := "h" + strconv.Itoa(len(n.hosts)+1)
		n.addHost(name)
		return name
	}
	root := n.switchName(len(n.switches) + 1)
	n.addSwitch(root, 0)
	for range fanout {
		n.link(root, n.tree(depth-1, fanout))
	}
	return root
}

func buildSingle(a []int, n *maker) {
	n.addSwitch("s1", 0)
	n.addHosts(a[0], "s1")
}

func buildReversed(a []int, n *maker) {
	n.addSwitch("s1", 0)
	for i := 1; i <= a[0]; i++ {
		name := "h" + strconv.Itoa(i)
		n.addHost(name)
		n.linkPorts(name, 0, "s1", a[0]-i+1)
	}
}

func buildTorus(a []int, n *maker) {
	x, y, hosts := a[0], a[1], a[2]
	name := func(i, j int) string { return fmt.Sprintf("s%dx%d", i%x+1, j%y+1) }
	// Mininet's DPID is i*256+j, which is not unique beyond 255.
	stride := uint64(256)
	for stride <= uint64(y) {
		stride *= 256
	}
	for i := range x {
		for j := range y {
			sw := name(i, j)
			n.addSwitch(sw, uint64(i+1)*stride+uint64(j+1))
			for k := 1; k <= hosts; k++ {
				host := "h" + sw[1:]
				if hosts > 1 {
					host += "x" + strconv.Itoa(k)
				}
				n.addHost(host)
				n.link(host, sw)
			}
		}
	}
	for i := range x {
		for j := range y {
			n.link(name(i, j), name(i, j+1))
			n.link(name(i, j), name(i+1, j))
		}
	}
}

// layerDPID is a DPID that shows the layer of a switch and its place there.
func layerDPID(layer, place int) uint64 { return uint64(layer)<<20 | uint64(place) }

func buildFatTree(a []int, n *maker) {
	k, half := a[0], a[0]/2
	core := func(i int) string { return fmt.Sprintf("core%d", i+1) }
	agg := func(pod, i int) string { return fmt.Sprintf("agg%dx%d", pod+1, i+1) }
	edge := func(pod, i int) string { return fmt.Sprintf("edge%dx%d", pod+1, i+1) }
	for i := range half * half {
		n.addSwitch(core(i), layerDPID(1, i+1))
	}
	for pod := range k {
		for i := range half {
			n.addSwitch(agg(pod, i), layerDPID(2, (pod+1)<<8|i+1))
			n.addSwitch(edge(pod, i), layerDPID(3, (pod+1)<<8|i+1))
			n.addHosts(half, edge(pod, i))
		}
		for i := range half {
			for j := range half {
				n.link(edge(pod, i), agg(pod, j))
			}
		}
		for i := range half {
			for j := range half {
				n.link(agg(pod, i), core(i*half+j))
			}
		}
	}
}

func buildLeafSpine(a []int, n *maker) {
	leaf := func(i int) string { return fmt.Sprintf("leaf%d", i+1) }
	spine := func(i int) string { return fmt.Sprintf("spine%d", i+1) }
	for i := range a[1] {
		n.addSwitch(spine(i), layerDPID(1, i+1))
	}
	for i := range a[0] {
		n.addSwitch(leaf(i), layerDPID(2, i+1))
		n.addHosts(a[2], leaf(i))
		for j := range a[1] {
			n.link(leaf(i), spine(j))
		}
	}
}

func buildRandom(a []int, n *maker) {
	switches, degree, hosts, seed := a[0], a[1], a[2], a[3]
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	n.row(switches, hosts, nil)
	joined := map[[2]int]bool{}
	join := func(i, j int) {
		pair := [2]int{min(i, j), max(i, j)}
		if i != j && !joined[pair] {
			joined[pair] = true
			n.link(n.switchName(pair[0]+1), n.switchName(pair[1]+1))
		}
	}
	for i := 1; i < switches; i++ { // a tree first: all are reachable
		join(i, r.IntN(i))
	}
	want := min(switches*degree/2, switches*(switches-1)/2)
	for len(joined) < want {
		join(r.IntN(switches), r.IntN(switches))
	}
}
