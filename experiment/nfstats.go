package experiment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weft/dpdkhost"
	"weft/topo"
)

// FunctionStats looks at the counters of network functions (NFs): of one, with all of its
// instances, or of all that a DPDK node has.
type FunctionStats struct {
	Node    string `key:"node" doc:"the DPDK node" required:"true"`
	NF      string `key:"nf" doc:"an NF or a service (all)"`
	Counter string `key:"counter" doc:"a counter of the NF's own, for the quantity counter"`
}

// functionQuantities are those of FunctionStats. Those of instances are added up.
func functionQuantities() []Quantity {
	list := []Quantity{
		{"instances", Number, "how many run"},
		{"restarts", Number, "how often a process of theirs died and was started again"},
		{"counter", Number, "the NF's own counter that the step names"},
		{"latency", Time, "median time of a packet in the hop, sampled; of the slowest instance"},
		{"latency_p99", Time, "99th percentile of these times"},
		{"latency_max", Time, "the longest of them"},
	}
	for _, c := range instanceCounters() {
		list = append(list, Quantity{c.name, Number, c.doc})
	}
	return list
}

// An instanceCounter is a counter that all NFs have.
type instanceCounter struct {
	name, doc string
	of        func(*dpdkhost.Instance) uint64
}

func instanceCounters() []instanceCounter {
	return []instanceCounter{
		{"received", "packets that it got", func(i *dpdkhost.Instance) uint64 { return i.Received }},
		{"sent", "packets about which it decided", func(i *dpdkhost.Instance) uint64 { return i.Sent }},
		{"dropped", "packets that it dropped", func(i *dpdkhost.Instance) uint64 { return i.Dropped }},
		{"rx_drops", "packets that its ring had no room for", func(i *dpdkhost.Instance) uint64 { return i.RxDrops }},
		{"next", "packets that it sent on along their chain", func(i *dpdkhost.Instance) uint64 { return i.Next }},
		{"to_nf", "packets that it sent to a service", func(i *dpdkhost.Instance) uint64 { return i.ToNF }},
		{"out", "packets that it sent out of a port", func(i *dpdkhost.Instance) uint64 { return i.Out }},
		{"cloned", "packets of which it sent copies", func(i *dpdkhost.Instance) uint64 { return i.Cloned }},
		{"controller", "packets that it sent to the controller", func(i *dpdkhost.Instance) uint64 { return i.Controller }},
		{"invalid", "packets that were not its own", func(i *dpdkhost.Instance) uint64 { return i.Invalid }},
	}
}

// shortFunctionStats reads "fw1 firewall".
func shortFunctionStats(a Action, text string) error {
	words := strings.Fields(text)
	if len(words) < 1 || len(words) > 2 {
		return fmt.Errorf("%q is not a node and perhaps an NF; write for example fw1 firewall", text)
	}
	f := a.(*FunctionStats)
	if f.Node = words[0]; len(words) == 2 {
		f.NF = words[1]
	}
	return nil
}

func (f *FunctionStats) String() string {
	text := "nfstats " + f.Node
	if f.NF != "" {
		text += " " + f.NF
	}
	if f.Counter != "" {
		text += " " + f.Counter
	}
	return text
}

// Validate wants a DPDK node, and an NF that there is or may have been started.
func (f *FunctionStats) Validate(plan *topo.Plan) error {
	if f.Node == "" {
		return nil // Decode says so
	}
	d, err := dpdkNode(plan, f.Node)
	if err == nil && f.NF != "" {
		err = checkFunction(d, f.NF)
	}
	if f.Counter != "" && f.NF == "" {
		err = errors.Join(err, errors.New("counter: name the NF that counts, too"))
	}
	return err
}

// Estimate is that of a look.
func (f *FunctionStats) Estimate() time.Duration { return time.Second }

// Do looks.
func (f *FunctionStats) Do(ctx context.Context, t *Trial) (Outcome, error) {
	var list []dpdkhost.Instance
	if f.NF != "" {
		var err error
		if list, err = t.instances(ctx, f.Node, f.NF); err != nil {
			return Outcome{}, err
		}
	} else {
		st, err := t.Client.NFs(ctx, f.Node)
		if err != nil {
			return Outcome{}, err
		}
		list = st.Instances
	}
	v := Values{"instances": float64(len(list))}
	restarts := 0
	var slowest dpdkhost.Latency
	for i := range list {
		restarts += list[i].Restarts
		l := list[i].Latency
		slowest = dpdkhost.Latency{P50: max(slowest.P50, l.P50), P99: max(slowest.P99, l.P99), Max: max(slowest.Max, l.Max)}
	}
	v["restarts"] = float64(restarts)
	if slowest.Max > 0 {
		v["latency"], v["latency_p99"], v["latency_max"] = slowest.P50, slowest.P99, slowest.Max
	}
	for _, c := range instanceCounters() {
		var sum uint64
		for i := range list {
			sum += c.of(&list[i])
		}
		v[c.name] = float64(sum)
	}
	o := Outcome{Values: v, Detail: list, Summary: fmt.Sprintf("%v received, %v sent on, %v dropped", v["received"], v["next"], v["dropped"])}
	if f.Counter == "" {
		return o, nil
	}
	var sum uint64
	for _, i := range list {
		n, there := i.Counters[f.Counter]
		if !there {
			return Outcome{}, fmt.Errorf("%s: the NF %s: %w", f.Node, f.NF, unknown("counter", f.Counter, slices.Sorted(maps.Keys(i.Counters))))
		}
		sum += n
	}
	v["counter"] = float64(sum)
	o.Summary = fmt.Sprintf("%s %d", f.Counter, sum)
	return o, nil
}

// NodeStats looks at the counters of a DPDK node: of its ports, of what its manager gave up, and at
// its chains.
type NodeStats struct {
	Node  string `key:"node" doc:"the DPDK node" required:"true"`
	Port  int    `key:"port" doc:"only this port (all)"`
	Cause string `key:"cause" doc:"only what the manager gave up for this cause: noFlow, noService, noPort, chainEnd, noMemory, loop, controller (all)"`
	Chain string `key:"chain" doc:"the chain for the quantity steps (default)"`
}

func nodeQuantities() []Quantity {
	return []Quantity{
		{"received", Number, "packets that came in by its ports"},
		{"sent", Number, "packets that left by them"},
		{"rx_drops", Number, "packets that came when there was no room"},
		{"tx_drops", Number, "packets that a port could not send"},
		{"back_pressure", Number, "packets that were not let in, since a ring of their chain was full"},
		{"given_up", Number, "packets that the manager dropped, for all causes or the step's"},
		{"flows", Number, "entries of the flow director"},
		{"chains", Number, "chains"},
		{"steps", Text, "the chain, as in 1→3→2"},
		{"free", Number, "frames of the packet memory that are free"},
	}
}

func shortNodeStats(a Action, text string) error {
	a.(*NodeStats).Node = text
	return nil
}

func (s *NodeStats) String() string {
	text := "nfnode " + s.Node
	if s.Port != 0 {
		text += fmt.Sprintf(" port %d", s.Port)
	}
	return text
}

// Validate wants a DPDK node, and a port that it has.
func (s *NodeStats) Validate(plan *topo.Plan) error {
	if s.Node == "" {
		return nil // Decode says so
	}
	d, err := dpdkNode(plan, s.Node)
	if err != nil || s.Port == 0 || len(d.NICs) > 0 {
		return err
	}
	var ports []string
	for _, i := range plan.Switch(s.Node).Interfaces {
		if ports = append(ports, fmt.Sprint(i.Port)); i.Port == s.Port {
			return nil
		}
	}
	return unknown("port of "+s.Node, fmt.Sprint(s.Port), ports)
}

// Estimate is that of a look.
func (s *NodeStats) Estimate() time.Duration { return time.Second }

// Do looks.
func (s *NodeStats) Do(ctx context.Context, t *Trial) (Outcome, error) {
	st, err := t.Client.NFs(ctx, s.Node)
	if err != nil {
		return Outcome{}, err
	}
	var received, sent, rxDrops, txDrops, backPressure, givenUp uint64
	found := s.Port == 0
	for _, p := range st.Ports {
		if s.Port == 0 || p.Number == s.Port {
			found = true
			received, sent = received+p.Received, sent+p.Sent
			rxDrops, txDrops, backPressure = rxDrops+p.RxDrops, txDrops+p.TxDrops, backPressure+p.BackPressure
		}
	}
	if !found {
		return Outcome{}, fmt.Errorf("%s has no port %d", s.Node, s.Port)
	}
	for cause, n := range st.Drops {
		if s.Cause == "" || cause == s.Cause {
			givenUp += n
		}
	}
	if _, there := st.Drops[s.Cause]; s.Cause != "" && !there {
		return Outcome{}, unknown("cause", s.Cause, slices.Sorted(maps.Keys(st.Drops)))
	}
	v := Values{"received": float64(received), "sent": float64(sent), "rx_drops": float64(rxDrops), "tx_drops": float64(txDrops),
		"back_pressure": float64(backPressure), "given_up": float64(givenUp), "flows": float64(st.FlowCount), "chains": float64(len(st.Chains)), "free": float64(st.Pool.Free)}
	name := s.Chain
	if name == "" {
		name = topo.DefaultChain
	}
	if i := slices.IndexFunc(st.Chains, func(c topo.Chain) bool { return c.Name == name }); i >= 0 {
		v["steps"] = st.Chains[i].String()
	} else if s.Chain != "" {
		return Outcome{}, fmt.Errorf("%s has no chain %q", s.Node, s.Chain)
	}
	return Outcome{Values: v, Detail: st, Summary: fmt.Sprintf("%d received, %d sent, %d given up", received, sent, givenUp)}, nil
}

// keepFunctions writes what NFs have counted to the results, a file for each DPDK node.
func (t *Trial) keepFunctions(ctx context.Context) {
	for _, s := range t.Plan().Switches {
		if s.DPDK == nil {
			continue
		}
		st, err := t.Client.NFs(ctx, s.Name)
		name := "nf-" + fileName(s.Name) + ".json"
		if err == nil {
			err = writeJSON(filepath.Join(t.Dir, name), st)
		}
		if err != nil {
			t.Note("%s: the counters of its NFs are not in the results: %s", s.Name, err)
			continue
		}
		t.addFile(name)
	}
}
