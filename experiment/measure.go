package experiment

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"weft/api"
	"weft/network"
	"weft/topo"
)

// allHosts stands for all hosts of a network.
const allHosts = "all"

// shortPair reads "h1 -> h2".
func shortPair(a Action, text string) error {
	from, to, err := splitPair(text)
	if err != nil || len(from) != 1 || len(to) != 1 {
		return fmt.Errorf("%q is not from one host to another; write for example h1 -> h2", text)
	}
	switch a := a.(type) {
	case *Ping:
		a.From, a.To = from[0], to[0]
	case *Iperf:
		a.From, a.To = from[0], to[0]
	case *Path:
		a.From, a.To = from[0], to[0]
	}
	return nil
}

// splitPair reads "h1 h2 -> h3".
func splitPair(text string) (from, to []string, err error) {
	a, b, ok := strings.Cut(text, "->")
	if !ok {
		a, b, ok = strings.Cut(text, "→")
	}
	from, to = splitNames(a), splitNames(b)
	if !ok || len(from) == 0 || len(to) == 0 {
		return nil, nil, fmt.Errorf("%q is not from some hosts to others; write for example h1 h2 -> h3", text)
	}
	return from, to, nil
}

func shortHosts(a Action, text string) error {
	a.(*PingAll).Hosts = splitNames(text)
	return nil
}

func shortReach(a Action, text string) error {
	r, ok := a.(*Reach)
	if !ok {
		r = &a.(*Unreachable).Reach
	}
	if strings.TrimSpace(text) == allHosts {
		r.From, r.To = []string{allHosts}, []string{allHosts}
		return nil
	}
	var err error
	r.From, r.To, err = splitPair(text)
	return err
}

// hosts resolves names of hosts, of which all may stand for each.
func hosts(plan *topo.Plan, names []string) []string {
	var found []string
	for _, n := range names {
		if n != allHosts {
			found = append(found, n)
			continue
		}
		for _, h := range plan.Hosts {
			found = append(found, h.Name)
		}
	}
	return found
}

// wantHosts says which names are no hosts.
func wantHosts(plan *topo.Plan, names ...string) error {
	var errs []error
	for _, n := range names {
		if n == allHosts || plan.Host(n) != nil {
			continue
		}
		if n == "" {
			continue // Decode says that a field is missing
		}
		if plan.Switch(n) != nil {
			errs = append(errs, fmt.Errorf("%s is a switch; this needs a host", n))
			continue
		}
		errs = append(errs, unknown("host", n, hosts(plan, []string{allHosts})))
	}
	return errors.Join(errs...)
}

// wantDifferent refuses the same host at both ends.
func wantDifferent(what, from, to string) error {
	if from != "" && from == to {
		return fmt.Errorf("%s needs two hosts; this names %s twice", what, from)
	}
	return nil
}

// Ping exchanges echoes between two hosts, sent at even times whatever comes back.
type Ping struct {
	From     string        `key:"from" doc:"host that asks" required:"true"`
	To       string        `key:"to" doc:"host that answers" required:"true"`
	Count    int           `key:"count" doc:"how many echoes (3)" min:"1" max:"65535"`
	Interval time.Duration `key:"interval" doc:"time between echoes (100ms)"`
	Wait     time.Duration `key:"wait" doc:"how long an answer may take (1s)"`
	IPv6     bool          `key:"ipv6" doc:"over IPv6"`
}

func (p *Ping) String() string { return "ping " + p.From + " -> " + p.To }

// Validate wants two hosts.
func (p *Ping) Validate(plan *topo.Plan) error {
	return errors.Join(wantHosts(plan, p.From, p.To), wantDifferent("a ping", p.From, p.To))
}

func (p *Ping) values() (count int, interval, wait time.Duration) {
	count, interval, wait = p.Count, p.Interval, p.Wait
	if count == 0 {
		count = 3
	}
	if interval == 0 {
		interval = 100 * time.Millisecond
	}
	if wait == 0 {
		wait = time.Second
	}
	return count, interval, wait
}

// Estimate is the time in which the echoes are sent.
func (p *Ping) Estimate() time.Duration {
	count, interval, _ := p.values()
	return time.Duration(count-1) * interval
}

// Do sends echoes.
func (p *Ping) Do(ctx context.Context, t *Trial) (Outcome, error) {
	count, interval, wait := p.values()
	r, err := t.Client.Train(ctx, network.TrainRequest{Src: p.From, Dst: p.To, IPv6: p.IPv6, Count: count, Interval: interval, Timeout: wait})
	if err != nil {
		return Outcome{}, err
	}
	var rtts []time.Duration
	name := p.From + " → " + p.To
	series := Series{Name: name, Plot: PlotRTT}
	for _, e := range r.Echoes {
		if e.RTT > 0 {
			rtts = append(rtts, e.RTT)
			series.Points = append(series.Points, Point{e.At.Seconds(), e.RTT.Seconds()})
		}
	}
	return Outcome{Detail: r, Values: rttValues(len(r.Echoes), len(rtts), rtts), Summary: rttSummary(len(r.Echoes), len(rtts), rtts),
		Series: []Series{series, lossSeries(name, r.Echoes)}}, nil
}

// lossSeries is the share of echoes lost over time, in at most 50 parts of ten echoes or
// more.
func lossSeries(name string, echoes []network.Echo) Series {
	s := Series{Name: name, Plot: PlotLoss}
	part := max(10, (len(echoes)+49)/50)
	for c := range slices.Chunk(echoes, part) {
		lost := 0
		for _, e := range c {
			if e.RTT == 0 {
				lost++
			}
		}
		middle := (c[0].At + c[len(c)-1].At) / 2
		s.Points = append(s.Points, Point{middle.Seconds(), 100 * float64(lost) / float64(len(c))})
	}
	return s
}

// pingOutcome is what a ping between one or many pairs measured.
func pingOutcome(r network.PingResult) Outcome {
	var rtts []time.Duration
	var why []string
	for _, p := range r.Pairs {
		rtts = append(rtts, p.RTT...)
		if p.Error != "" && !slices.Contains(why, p.Error) {
			why = append(why, p.Error)
		}
	}
	o := Outcome{Detail: r, Values: rttValues(r.Sent, r.Received, rtts), Summary: rttSummary(r.Sent, r.Received, rtts)}
	if len(why) > 0 {
		o.Summary += ": " + strings.Join(why[:min(len(why), 3)], "; ")
	}
	return o
}

func rttValues(sent, received int, rtts []time.Duration) Values {
	v := Values{"sent": float64(sent), "received": float64(received)}
	if sent > 0 {
		v["loss"] = 100 * float64(sent-received) / float64(sent)
	}
	if len(rtts) == 0 {
		return v
	}
	sorted := slices.Sorted(slices.Values(rtts))
	var sum, squares float64
	for _, d := range rtts {
		sum += float64(d)
		squares += float64(d) * float64(d)
	}
	mean := sum / float64(len(rtts))
	v["rtt"] = time.Duration(mean)
	v["rtt_min"], v["rtt_max"] = sorted[0], sorted[len(sorted)-1]
	v["rtt_median"] = sorted[len(sorted)/2]
	v["rtt_p95"] = sorted[min(len(sorted)-1, len(sorted)*95/100)]
	v["rtt_mdev"] = time.Duration(math.Sqrt(max(0, squares/float64(len(rtts))-mean*mean)))
	return v
}

func rttSummary(sent, received int, rtts []time.Duration) string {
	text := fmt.Sprintf("%d of %d received", received, sent)
	if len(rtts) == 0 {
		return text
	}
	v := rttValues(sent, received, rtts)
	return fmt.Sprintf("%s, rtt %s (%s to %s)", text, FormatValue(Time, v["rtt"]), FormatValue(Time, v["rtt_min"]), FormatValue(Time, v["rtt_max"]))
}

// PingAll exchanges echoes between hosts, each with each.
type PingAll struct {
	Hosts []string      `key:"hosts" doc:"hosts to ping between (all)"`
	Count int           `key:"count" doc:"how many echoes each pair exchanges (1)" min:"1" max:"65535"`
	Tries int           `key:"tries" doc:"how often an echo is tried before it counts as lost (3)" min:"1" max:"65535"`
	Wait  time.Duration `key:"wait" doc:"how long an answer may take (1s)"`
	IPv6  bool          `key:"ipv6" doc:"over IPv6"`
}

func (p *PingAll) String() string {
	if len(p.Hosts) == 0 || slices.Contains(p.Hosts, allHosts) {
		return "pingall"
	}
	return "pingall " + list(p.Hosts, 8)
}

// Validate wants hosts.
func (p *PingAll) Validate(plan *topo.Plan) error {
	if n := len(hosts(plan, p.Hosts)); len(p.Hosts) > 0 && n < 2 || len(plan.Hosts) < 2 {
		return errors.New("pingall needs two hosts or more")
	}
	return wantHosts(plan, p.Hosts...)
}

// Estimate knows nothing of the network.
func (p *PingAll) Estimate() time.Duration { return time.Second }

// Do pings.
func (p *PingAll) Do(ctx context.Context, t *Trial) (Outcome, error) {
	q := network.PingRequest{IPv6: p.IPv6, Timeout: p.Wait, Tries: p.Tries, Count: p.Count}
	if len(p.Hosts) > 0 {
		q.Hosts = hosts(t.Plan(), p.Hosts)
	}
	r, err := t.Client.Ping(ctx, q)
	if err != nil {
		return Outcome{}, err
	}
	return pingOutcome(r), nil
}

// Iperf measures throughput.
type Iperf struct {
	From   string        `key:"from" doc:"host that sends" required:"true"`
	To     string        `key:"to" doc:"host that receives" required:"true"`
	Time   time.Duration `key:"time" doc:"how long (5s)"`
	UDP    bool          `key:"udp" doc:"UDP, at a rate, instead of TCP"`
	Rate   topo.Rate     `key:"rate" doc:"at which UDP is sent (10mbit)"`
	Length int           `key:"length" doc:"payload of a datagram, bytes (1470)" min:"24" max:"65507"`
	Port   int           `key:"port" doc:"of the receiver (a free one)" min:"1" max:"65535"`
	IPv6   bool          `key:"ipv6" doc:"over IPv6"`
}

func (p *Iperf) String() string {
	if p.UDP {
		return "iperf UDP " + p.From + " -> " + p.To
	}
	return "iperf " + p.From + " -> " + p.To
}

// Validate wants two hosts.
func (p *Iperf) Validate(plan *topo.Plan) error {
	errs := []error{wantHosts(plan, p.From, p.To), wantDifferent("iperf", p.From, p.To)}
	if !p.UDP && (p.Rate != 0 || p.Length != 0) {
		errs = append(errs, errors.New("rate and length are of UDP; write udp: true too, or leave them out"))
	}
	return errors.Join(errs...)
}

// Estimate is the time of the measurement.
func (p *Iperf) Estimate() time.Duration {
	if p.Time == 0 {
		return 5 * time.Second
	}
	return p.Time
}

// Do measures.
func (p *Iperf) Do(ctx context.Context, t *Trial) (Outcome, error) {
	r, err := t.Client.Iperf(ctx, network.IperfRequest{Client: p.From, Server: p.To, UDP: p.UDP, Rate: uint64(p.Rate),
		IPv6: p.IPv6, Duration: p.Time, Port: p.Port, Length: p.Length})
	var answered *api.Error
	if err != nil && (ctx.Err() != nil || !errors.As(err, &answered)) {
		return Outcome{}, err
	}
	if err != nil { // nothing arrived: a rate of zero, not an experiment that is broken
		return Outcome{Values: Values{"rate": 0.0, "bytes": 0.0}, Summary: err.Error()}, nil
	}
	v := Values{"rate": r.ServerBps, "sent_rate": r.ClientBps, "bytes": float64(r.Bytes)}
	s := Series{Name: p.From + " → " + p.To, Plot: PlotRate}
	for i, part := range r.Intervals {
		if i == 0 {
			v["rate_min"], v["rate_max"] = part.Bps, part.Bps
		}
		v["rate_min"], v["rate_max"] = min(v["rate_min"].(float64), part.Bps), max(v["rate_max"].(float64), part.Bps)
		s.Points = append(s.Points, Point{T: ((part.Start + part.End) / 2).Seconds(), V: part.Bps})
	}
	summary := fmt.Sprintf("%s received, %s sent", formatRate(r.ServerBps), formatRate(r.ClientBps))
	if p.UDP {
		if r.Sent > 0 {
			v["loss"] = 100 * float64(r.LostPackets) / float64(r.Sent)
			summary += ", " + FormatValue(Percent, v["loss"]) + " lost"
		}
		v["jitter"], v["out_of_order"] = r.Jitter, float64(r.OutOfOrder)
	} else {
		v["retransmits"] = float64(r.Retransmits)
	}
	return Outcome{Values: v, Detail: r, Summary: summary, Series: []Series{s}}, nil
}

// Reach tries whether hosts reach others.
type Reach struct {
	From []string      `key:"from" doc:"hosts that try (all)"`
	To   []string      `key:"to" doc:"hosts to reach (all)"`
	TCP  int           `key:"tcp" doc:"a TCP port instead of a ping" min:"1" max:"65535"`
	UDP  int           `key:"udp" doc:"a UDP port instead of a ping" min:"1" max:"65535"`
	IPv6 bool          `key:"ipv6" doc:"over IPv6"`
	Wait time.Duration `key:"wait" doc:"how long an answer may take (1s)"`
}

// Unreachable tries whether hosts do not reach others.
type Unreachable struct{ Reach }

func (r *Reach) String() string       { return r.text("reach") }
func (r *Unreachable) String() string { return r.text("unreachable") }

func (r *Reach) text(verb string) string {
	name := func(names []string) string {
		if len(names) == 0 {
			return allHosts
		}
		return list(names, 6)
	}
	text := verb + " " + name(r.From) + " -> " + name(r.To)
	switch {
	case r.TCP != 0:
		text += fmt.Sprintf(" tcp %d", r.TCP)
	case r.UDP != 0:
		text += fmt.Sprintf(" udp %d", r.UDP)
	}
	return text
}

// Validate wants hosts.
func (r *Reach) Validate(plan *topo.Plan) error {
	errs := []error{wantHosts(plan, r.From...), wantHosts(plan, r.To...)}
	if len(r.pairs(plan)) == 0 {
		errs = append(errs, errors.New("there are no two different hosts to try; name others"))
	}
	if r.TCP != 0 && r.UDP != 0 {
		errs = append(errs, errors.New("a port is of tcp or of udp; make two steps of it"))
	}
	return errors.Join(errs...)
}

// pairs lists who tries whom.
func (r *Reach) pairs(plan *topo.Plan) [][2]string {
	from, to := r.From, r.To
	if len(from) == 0 {
		from = []string{allHosts}
	}
	if len(to) == 0 {
		to = []string{allHosts}
	}
	var pairs [][2]string
	for _, a := range hosts(plan, from) {
		for _, b := range hosts(plan, to) {
			if a != b && !slices.Contains(pairs, [2]string{a, b}) {
				pairs = append(pairs, [2]string{a, b})
			}
		}
	}
	return pairs
}

// Estimate is that of hosts that answer.
func (r *Reach) Estimate() time.Duration { return time.Second }

// Estimate is that of hosts that do not answer.
func (r *Unreachable) Estimate() time.Duration {
	if r.Wait > 0 {
		return r.Wait
	}
	return time.Second
}

// Do tries.
func (r *Reach) Do(ctx context.Context, t *Trial) (Outcome, error) { return r.try(ctx, t, 3) }

// Do tries once: silence is what is hoped for.
func (r *Unreachable) Do(ctx context.Context, t *Trial) (Outcome, error) { return r.try(ctx, t, 1) }

func (r *Reach) try(ctx context.Context, t *Trial, tries int) (Outcome, error) {
	pairs := r.pairs(t.Plan())
	yes, no, result, err := r.probe(ctx, t, pairs, tries)
	if err != nil {
		return Outcome{}, err
	}
	o := Outcome{Values: Values{"pairs": float64(len(pairs)), "reached": float64(len(yes)), "unreached": float64(len(no))}, Detail: result}
	o.Summary = fmt.Sprintf("%d of %d reached", len(yes), len(pairs))
	switch {
	case len(no) > 0 && len(no) <= len(yes):
		o.Summary += "; not " + list(no, 4)
	case len(yes) > 0 && len(no) > 0:
		o.Summary += ": " + list(yes, 4)
	}
	return o, nil
}

// probe returns which pairs reach each other and which do not.
func (r *Reach) probe(ctx context.Context, t *Trial, pairs [][2]string, tries int) (yes, no []string, detail any, err error) {
	sort := func(src, dst string, reached bool) {
		if reached {
			yes = append(yes, src+" -> "+dst)
		} else {
			no = append(no, src+" -> "+dst)
		}
	}
	if r.TCP == 0 && r.UDP == 0 {
		result, err := t.Client.Ping(ctx, network.PingRequest{Pairs: pairs, IPv6: r.IPv6, Timeout: r.Wait, Tries: tries})
		for _, p := range result.Pairs {
			sort(p.Src, p.Dst, p.Received > 0)
		}
		return yes, no, result, err
	}
	result, err := t.Client.Reach(ctx, network.ReachRequest{Pairs: pairs, UDP: r.UDP != 0, Port: max(r.TCP, r.UDP), IPv6: r.IPv6, Timeout: r.Wait, Tries: tries})
	for _, p := range result.Pairs {
		sort(p.Src, p.Dst, p.Reached)
	}
	return yes, no, result, err
}
