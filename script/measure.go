package script

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"weft/network"
	"weft/topo"
)

// A Measured is what came of a measurement that a script made as Mininet does, for whoever
// shows it.
type Measured struct {
	Ping  *network.PingResult // or
	Iperf *network.IperfResult
	Hosts []string // of pings
	All   bool     // pings between all hosts were asked for
	Full  bool     // with round-trip times
	Asked string   // rate of UDP, as the script wrote it
}

func liveNetwork() []method[*netObject] {
	pings := func(name, usage, doc string, all, pair, full bool) method[*netObject] {
		return method[*netObject]{name: name, usage: usage, doc: doc, run: func(c *call, n *netObject) (starlark.Value, error) {
			return pingHosts(c, n.w, all, pair, full)
		}}
	}
	return []method[*netObject]{
		pings("ping", "[HOSTS], [TIMEOUT]", "ping between hosts; the share of pings lost, in percent", false, false, false),
		pings("pingAll", "[TIMEOUT]", "ping between all hosts", true, false, false),
		pings("pingPair", "", "ping between the first two hosts", true, true, false),
		pings("pingFull", "[HOSTS], [TIMEOUT]", "ping between hosts; a list of (node, node, (sent, received, min, avg, max, mdev)), times in ms", false, false, true),
		pings("pingAllFull", "[TIMEOUT]", "ping between all hosts, with times", true, false, true),
		pings("pingPairFull", "", "ping between the first two hosts, with times", true, true, true),
		{name: "iperf", usage: "[HOSTS], l4Type='TCP', udpBw='10M', seconds=5", doc: "measure throughput; the rates of server and client as text", run: iperf},
		{name: "configLinkStatus", usage: "NODE, NODE, 'up'|'down'", doc: "take the links between two nodes up or down", run: configLinkStatus},
		{name: "waitConnected", usage: "[TIMEOUT]", doc: "wait until all switches have their controllers; whether they have", run: waitConnected},
		{name: "staticArp", doc: "give all hosts each other's MACs", run: staticARP},
		{name: "start", doc: "the end of the description: weft run goes on with the network", run: func(c *call, n *netObject) (starlark.Value, error) {
			if err := c.nothing(); err != nil {
				return nil, err
			}
			if n.w.started == nil {
				return nil, errors.New("the network runs already")
			}
			return starlark.None, n.w.started(c)
		}},
		{name: "stop", doc: "nothing: the network ends with what started it", run: func(c *call, n *netObject) (starlark.Value, error) {
			if n.w.started == nil {
				return nil, errors.New("the network ends with the prompt: exit")
			}
			return starlark.None, c.nothing()
		}},
	}
}

// hostsOf reads a list of hosts; nil or None means all.
func (w *world) hostsOf(v starlark.Value) ([]string, error) {
	if v == nil || v == starlark.None {
		return w.list(hostKind)
	}
	all, ok := v.(starlark.Iterable)
	if !ok {
		return nil, fmt.Errorf("%s is not a list of hosts", shortly(v))
	}
	var names []string
	for x := range starlark.Elements(all) {
		name, err := textOf(x, "a host or its name")
		if err != nil {
			return nil, err
		}
		k, err := w.kindOf(name)
		if err != nil {
			return nil, err
		}
		if k != hostKind {
			return nil, fmt.Errorf("%s is a %s, not a host", name, k)
		}
		names = append(names, name)
	}
	return names, nil
}

func pingHosts(c *call, w *world, all, pair, full bool) (starlark.Value, error) {
	l, err := w.running()
	if err != nil {
		return nil, err
	}
	var which, timeout starlark.Value
	switch {
	case pair:
		err = c.take(nil)
	case all:
		err = c.take([]string{"timeout?"}, &timeout)
	default:
		err = c.take([]string{"hosts?", "timeout?"}, &which, &timeout)
	}
	if err != nil {
		return nil, err
	}
	if err := c.done("hosts", "timeout"); err != nil {
		return nil, err
	}
	hosts, err := w.hostsOf(which)
	if err != nil {
		return nil, err
	}
	if pair {
		if len(hosts) < 2 {
			return nil, fmt.Errorf("it needs two hosts, the network has %d", len(hosts))
		}
		hosts = hosts[:2]
	}
	q := network.PingRequest{Hosts: hosts}
	if timeout != nil && timeout != starlark.None {
		if text, ok := timeout.(starlark.String); ok { // Mininet takes '1' as well as 1
			if f, err := strconv.ParseFloat(string(text), 64); err == nil {
				timeout = starlark.Float(f)
			}
		}
		if q.Timeout, err = durationOf(timeout); err != nil {
			return nil, fmt.Errorf("timeout: %w", err)
		}
		q.Tries = 1
	}
	var r network.PingResult
	err = l.wait(c, func() error {
		var err error
		r, err = l.client.Ping(c.ctx(), q)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.show(Measured{Ping: &r, Hosts: hosts, All: all && !pair, Full: full})
	if full {
		return w.pingDetails(r)
	}
	if r.Sent == 0 {
		return starlark.Float(0), nil
	}
	return starlark.Float(100 * float64(r.Lost()) / float64(r.Sent)), nil
}

// pingDetails is what Mininet's pingFull returns.
func (w *world) pingDetails(r network.PingResult) (starlark.Value, error) {
	var rows []starlark.Tuple
	for _, p := range r.Pairs {
		row := starlark.Tuple{}
		for _, name := range []string{p.Src, p.Dst} {
			n, err := w.node(name)
			if err != nil {
				return nil, err
			}
			row = append(row, n)
		}
		s := SpreadOf(p.RTT)
		rows = append(rows, append(row, starlark.Tuple{starlark.MakeInt(p.Sent), starlark.MakeInt(p.Received),
			starlark.Float(s.Min), starlark.Float(s.Avg), starlark.Float(s.Max), starlark.Float(s.Mdev)}))
	}
	return listOf(rows), nil
}

// A Spread is what ping says of round-trip times, milliseconds.
type Spread struct{ Min, Avg, Max, Mdev float64 }

func (s Spread) String() string {
	return fmt.Sprintf("%.3f/%.3f/%.3f/%.3f", s.Min, s.Avg, s.Max, s.Mdev)
}

// SpreadOf sums up round-trip times.
func SpreadOf(rtt []time.Duration) Spread {
	if len(rtt) == 0 {
		return Spread{}
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	s := Spread{Min: ms(slices.Min(rtt)), Max: ms(slices.Max(rtt))}
	for _, d := range rtt {
		s.Avg += ms(d) / float64(len(rtt))
	}
	for _, d := range rtt {
		s.Mdev += (ms(d) - s.Avg) * (ms(d) - s.Avg) / float64(len(rtt))
	}
	s.Mdev = math.Sqrt(s.Mdev)
	return s
}

// iperf is Mininet's: between the first and the last host if none are given.
func iperf(c *call, n *netObject) (starlark.Value, error) {
	l, err := n.w.running()
	if err != nil {
		return nil, err
	}
	var which, seconds starlark.Value = nil, starlark.MakeInt(5)
	var proto, rate starlark.Value = starlark.String("TCP"), starlark.String("10M")
	if err := c.take([]string{"hosts?", "l4Type?", "udpBw?", "seconds?"}, &which, &proto, &rate, &seconds); err != nil {
		return nil, err
	}
	if err := c.done("hosts", "l4Type", "udpBw", "seconds"); err != nil {
		return nil, err
	}
	hosts, err := n.w.hostsOf(which)
	if err != nil {
		return nil, err
	}
	if len(hosts) < 2 || hosts[0] == hosts[len(hosts)-1] || which != nil && len(hosts) != 2 {
		return nil, errors.New("it needs two different hosts: net.iperf([h1, h2])")
	}
	q := network.IperfRequest{Client: hosts[0], Server: hosts[len(hosts)-1]}
	asked := ""
	switch strings.ToUpper(plain(proto)) {
	case "TCP":
	case "UDP":
		asked = plain(rate)
		q.UDP = true
		if q.Rate, err = udpRate(asked); err != nil {
			return nil, fmt.Errorf("udpBw: %w", err)
		}
	default:
		return nil, fmt.Errorf("l4Type: %s is neither 'TCP' nor 'UDP'", shortly(proto))
	}
	if q.Duration, err = durationOf(seconds); err != nil || q.Duration <= 0 {
		return nil, fmt.Errorf("seconds: %s is not a time above 0", shortly(seconds))
	}
	var r network.IperfResult
	err = l.wait(c, func() error {
		var err error
		r, err = l.client.Iperf(c.ctx(), q)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.show(Measured{Iperf: &r, Asked: asked})
	rates := []starlark.String{starlark.String(Rate(r.ServerBps)), starlark.String(Rate(r.ClientBps))}
	if q.UDP {
		rates = append([]starlark.String{starlark.String(asked)}, rates...)
	}
	return listOf(rates), nil
}

// udpRate reads a rate as iperf takes it: 10M, 500k, or bit/s; and as links take it: 10mbit.
func udpRate(text string) (uint64, error) {
	number := text
	unit := 1.0
	for suffix, factor := range map[string]float64{"k": 1e3, "m": 1e6, "g": 1e9} {
		if n, ok := strings.CutSuffix(strings.ToLower(text), suffix); ok {
			number, unit = n, factor
		}
	}
	if f, err := strconv.ParseFloat(number, 64); err == nil && f*unit >= 1 && f*unit <= float64(topo.MaxRate) {
		return uint64(f * unit), nil
	}
	r, err := topo.ParseRate(text)
	if err != nil || r == 0 {
		return 0, fmt.Errorf("%q is not a rate; write for example '10M'", text)
	}
	return uint64(r), nil
}

func configLinkStatus(c *call, n *netObject) (starlark.Value, error) {
	l, err := n.w.running()
	if err != nil {
		return nil, err
	}
	var a, b, status starlark.Value
	if err := c.take([]string{"src", "dst", "status"}, &a, &b, &status); err != nil {
		return nil, err
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	x, y, err := (&call{args: starlark.Tuple{a, b}}).pair(n.w)
	if err != nil {
		return nil, err
	}
	if status != starlark.String("up") && status != starlark.String("down") {
		return nil, fmt.Errorf("%s is neither 'up' nor 'down'", shortly(status))
	}
	found, err := n.w.between(x, y)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no link joins %s and %s", x, y)
	}
	if err != nil {
		return nil, err
	}
	up := status == starlark.String("up")
	for _, x := range found {
		if err := l.changeLink(c, x, network.LinkChange{Up: &up}); err != nil {
			return nil, err
		}
	}
	return starlark.None, nil
}

// connectTime is how long waitConnected waits if nothing else is said; Mininet has no bound.
const connectTime = 30 * time.Second

func waitConnected(c *call, n *netObject) (starlark.Value, error) {
	l, err := n.w.running()
	if err != nil {
		return nil, err
	}
	var timeout, delay starlark.Value
	if err := c.take([]string{"timeout?", "delay?"}, &timeout, &delay); err != nil {
		return nil, err
	}
	limit := connectTime
	if timeout != nil && timeout != starlark.None {
		if limit, err = durationOf(timeout); err != nil {
			return nil, fmt.Errorf("timeout: %w", err)
		}
	}
	var missing []network.ControlConnection
	err = l.do(c, func() error {
		var err error
		missing, err = l.client.Wait(c.ctx(), limit)
		return err
	})
	return starlark.Bool(len(missing) == 0), errors.Join(err, c.done("timeout"))
}

func staticARP(c *call, n *netObject) (starlark.Value, error) {
	l, err := n.w.running()
	if err != nil {
		return nil, err
	}
	if err := c.nothing(); err != nil {
		return nil, err
	}
	plan, err := l.plan()
	if err != nil {
		return nil, err
	}
	for _, h := range plan.Hosts {
		if len(h.Interfaces) == 0 {
			continue
		}
		var lines []string
		for _, other := range plan.Hosts {
			if other.Name != h.Name && len(other.Interfaces) > 0 && other.Interfaces[0].IP.IsValid() {
				i := other.Interfaces[0]
				lines = append(lines, fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", i.IP.Addr(), i.MAC, h.Interfaces[0].Device))
			}
		}
		if len(lines) == 0 {
			continue
		}
		x := &node{n.w, h.Name, hostKind}
		if _, err := x.must(c, "printf '%s\\n' "+Quote(strings.Join(lines, "\n"))+" | ip -batch -"); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return starlark.None, nil
}
