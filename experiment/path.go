package experiment

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"weft/internal/headers"
	"weft/internal/packetfile"
	"weft/network"
	"weft/topo"
)

// Path finds which nodes a packet crosses on its way between two hosts: it sends one and
// sees where it passes.
type Path struct {
	From string        `key:"from" doc:"host that sends" required:"true"`
	To   string        `key:"to" doc:"host that receives" required:"true"`
	TCP  int           `key:"tcp" doc:"a packet to a TCP port instead of a ping" min:"1" max:"65535"`
	UDP  int           `key:"udp" doc:"a packet to a UDP port instead of a ping" min:"1" max:"65535"`
	Wait time.Duration `key:"wait" doc:"how long an answer may take (1s)"`
	IPv6 bool          `key:"ipv6" doc:"over IPv6"`
}

func (p *Path) String() string {
	text := "path " + p.From + " -> " + p.To
	switch {
	case p.TCP != 0:
		text += fmt.Sprintf(" tcp %d", p.TCP)
	case p.UDP != 0:
		text += fmt.Sprintf(" udp %d", p.UDP)
	}
	return text
}

// maxPathLinks bounds how many links are watched.
const maxPathLinks = 1024

// Validate wants two hosts, and links that can be watched.
func (p *Path) Validate(plan *topo.Plan) error {
	errs := []error{wantHosts(plan, p.From, p.To), wantDifferent("a path", p.From, p.To)}
	if p.TCP != 0 && p.UDP != 0 {
		errs = append(errs, errors.New("a port is of tcp or of udp; make two steps of it"))
	}
	for _, l := range plan.Links {
		if l.Driver == topo.LinkPatch {
			errs = append(errs, fmt.Errorf("path sees packets on links, and %s-%s is a patch inside Open vSwitch; make it a veth link", l.A.Node, l.B.Node))
			break
		}
		if l.Driver == topo.LinkMemif {
			errs = append(errs, fmt.Errorf("path sees packets on links, and %s-%s is shared memory; make it a veth link", l.A.Node, l.B.Node))
			break
		}
	}
	if len(plan.Links) > maxPathLinks {
		errs = append(errs, fmt.Errorf("path watches all links, at most %d; this network has %d", maxPathLinks, len(plan.Links)))
	}
	return errors.Join(errs...)
}

// Estimate is that of three packets.
func (p *Path) Estimate() time.Duration { return time.Second }

// Do sends a packet to teach switches the way, and another that it watches.
func (p *Path) Do(ctx context.Context, t *Trial) (Outcome, error) {
	if err := p.send(ctx, t); err != nil {
		return Outcome{}, err
	}
	seen, err := p.watch(ctx, t)
	if err != nil {
		return Outcome{}, err
	}
	path, others, arrived := trace(t.Plan(), p.From, p.To, seen)
	v := Values{"path": path, "others": others, "hops": float64(len(path)), "received": 0.0}
	if arrived {
		v["received"] = 1.0
	}
	o := Outcome{Values: v, Detail: map[string]any{"path": path, "others": others, "received": arrived}}
	o.Summary = strings.Join(slices.Concat([]string{p.From}, path, []string{p.To}), " - ")
	if !arrived {
		o.Summary = p.From + " - " + strings.Join(path, " - ") + " and no further"
		if len(path) == 0 {
			o.Summary = "seen nowhere beyond " + p.From
		}
	}
	if len(others) > 0 {
		o.Summary += "; also at " + list(others, 6)
	}
	return o, nil
}

// send sends what is watched. Whether it is answered does not matter.
func (p *Path) send(ctx context.Context, t *Trial) error {
	wait := cmp.Or(p.Wait, time.Second)
	if p.TCP == 0 && p.UDP == 0 {
		_, err := t.Client.Train(ctx, network.TrainRequest{Src: p.From, Dst: p.To, IPv6: p.IPv6, Count: 1, Timeout: wait})
		return err
	}
	_, err := t.Client.Reach(ctx, network.ReachRequest{Pairs: [][2]string{{p.From, p.To}}, UDP: p.UDP != 0,
		Port: max(p.TCP, p.UDP), IPv6: p.IPv6, Timeout: wait, Tries: 1})
	return err
}

// A sighting is a packet that passed an interface.
type sighting struct {
	end topo.PlannedEnd
	at  time.Time
}

// watch sends a packet and returns where it was seen, in the order of time.
func (p *Path) watch(ctx context.Context, t *Trial) ([]sighting, error) {
	from, to := hostAddress(t.Plan(), p.From, p.IPv6), hostAddress(t.Plan(), p.To, p.IPv6)
	q := network.CaptureRequest{SnapLen: 128}
	ends := observable(t.Plan())
	for name := range ends {
		q.Targets = append(q.Targets, name)
	}
	slices.Sort(q.Targets)
	if _, err := exec.LookPath("tcpdump"); err == nil && from.IsValid() && to.IsValid() {
		// Less to copy; what is not filtered here is so below.
		q.Filter = fmt.Sprintf("src host %s and dst host %s", from, to)
	}
	run, err := t.Client.Capture(ctx, q)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	copied := make(chan error, 1)
	go func() {
		_, err := run.Copy(&file)
		copied <- err
	}()
	err = p.send(ctx, t)
	run.Stop()
	select {
	case e := <-copied:
		err = errors.Join(err, e)
	case <-time.After(stopTimeout):
		err = fmt.Errorf("the capture has not ended within %s", formatDuration(stopTimeout))
	}
	if err != nil {
		return nil, err
	}
	return p.sightings(&file, from, to, ends)
}

// sightings reads where the packet was seen.
func (p *Path) sightings(r io.Reader, from, to netip.Addr, ends map[string]topo.PlannedEnd) ([]sighting, error) {
	var seen []sighting
	err := eachPacket(r, func(pk packetfile.Packet) {
		if e, known := ends[pk.Interface]; known && p.isOurs(pk.Data, from, to) {
			seen = append(seen, sighting{e, pk.Time})
		}
	})
	slices.SortStableFunc(seen, func(a, b sighting) int { return a.at.Compare(b.at) })
	return seen, err
}

// isOurs reports whether a frame carries the packet that was sent.
func (p *Path) isOurs(frame []byte, from, to netip.Addr) bool {
	hosts := false
	for _, l := range headers.Frame(frame) {
		switch l := l.(type) {
		case headers.IP:
			hosts = l.Src == from && l.Dst == to
		case headers.ICMP:
			return hosts && p.TCP == 0 && p.UDP == 0 && (l.Type == 8 || l.Type == 128)
		case headers.TCP:
			return hosts && p.TCP != 0 && int(l.Dst) == p.TCP
		case headers.Ports:
			return hosts && p.UDP != 0 && int(l.Dst) == p.UDP
		}
	}
	return false
}

// hostAddress is the first address of a host.
func hostAddress(plan *topo.Plan, name string, ipv6 bool) netip.Addr {
	h := plan.Host(name)
	for _, i := range h.Interfaces {
		if p := map[bool]netip.Prefix{false: i.IP, true: i.IP6}[ipv6]; p.IsValid() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// observable returns the ends of links by the names of their interfaces, without names that
// several have: a capture does not tell these apart.
func observable(plan *topo.Plan) map[string]topo.PlannedEnd {
	ends := map[string]topo.PlannedEnd{}
	count := map[string]int{}
	for _, l := range plan.Links {
		for _, e := range []topo.PlannedEnd{l.A, l.B} {
			if topo.Outside(e.Node) {
				continue // there is nothing to watch at outside
			}
			ends[e.Interface] = e
			count[e.Interface]++
		}
	}
	for name, n := range count {
		if n > 1 {
			delete(ends, name)
		}
	}
	return ends
}

// trace returns the nodes between two hosts that a packet crossed, in order, and those that
// saw it beside its way: a switch that floods sends it there too. If it did not arrive, the
// way is that to where it was seen last.
func trace(plan *topo.Plan, from, to string, seen []sighting) (path, others []string, arrived bool) {
	at := map[topo.PlannedEnd]time.Time{}
	for _, s := range seen {
		if _, known := at[s.end]; !known {
			at[s.end] = s.at
		}
	}
	ends := observable(plan)
	first := map[string]time.Time{} // when it was at each node
	neighbours := map[string][]string{}
	last := from
	for _, l := range plan.Links {
		var when time.Time
		crossed := true
		for _, e := range []topo.PlannedEnd{l.A, l.B} {
			t, sighted := at[e]
			if _, can := ends[e.Interface]; can {
				crossed = crossed && sighted
			}
			if sighted && t.After(when) {
				when = t
			}
		}
		if !crossed || when.IsZero() {
			continue
		}
		neighbours[l.A.Node] = append(neighbours[l.A.Node], l.B.Node)
		neighbours[l.B.Node] = append(neighbours[l.B.Node], l.A.Node)
		for _, node := range []string{l.A.Node, l.B.Node} {
			if t, known := first[node]; !known || when.Before(t) {
				first[node] = when
			}
		}
	}
	for node, t := range first {
		if node != from && (last == from || t.After(first[last]) || t.Equal(first[last]) && node < last) {
			last = node
		}
	}
	goal := to
	if _, arrived = first[to]; !arrived {
		goal = last
	}
	path = way(from, goal, neighbours, first)
	if arrived {
		path = path[:max(len(path)-1, 0)]
	}
	others = []string{}
	for node := range first {
		if node != from && node != to && !slices.Contains(path, node) {
			others = append(others, node)
		}
	}
	slices.SortFunc(others, func(a, b string) int { return cmp.Or(first[a].Compare(first[b]), strings.Compare(a, b)) })
	return path, others, arrived
}

// way returns the nodes after from on the shortest way to goal, over neighbours that were
// reached early first.
func way(from, goal string, neighbours map[string][]string, first map[string]time.Time) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		next := neighbours[queue[0]]
		slices.SortStableFunc(next, func(a, b string) int { return first[a].Compare(first[b]) })
		for _, n := range next {
			if _, known := before[n]; !known {
				before[n] = queue[0]
				queue = append(queue, n)
			}
		}
	}
	path := []string{}
	if _, known := before[goal]; known {
		for n := goal; n != from; n = before[n] {
			path = append(path, n)
		}
	}
	slices.Reverse(path)
	return path
}
