package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"weft/dpdkhost"
	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/port"
	"weft/topo"
)

// countersTimeout bounds how long the counters of NFs are waited for; those that are late show
// what they said last.
const countersTimeout = 200 * time.Millisecond

// maxFlows bounds the flows that a state lists.
const maxFlows = 10000

// state tells of everything.
func (s *server) state(ctx context.Context) (*dpdkhost.State, error) {
	s.askCounters(ctx)
	snap, err := s.m.Snapshot()
	if err != nil {
		return nil, err
	}
	flows, now, err := s.m.Flows()
	if err != nil {
		return nil, err
	}
	small, large := s.m.Memory().Frames()
	st := &dpdkhost.State{
		Manager: topo.ManagerWeft, At: time.Now(), FlowCount: len(flows),
		Ports: []dpdkhost.Port{}, Chains: []topo.Chain{}, Flows: []dpdkhost.Flow{}, Drops: map[string]uint64{},
		Pool: dpdkhost.Pool{Frames: small + large, Free: snap.Small + snap.Large, Huge: s.m.Memory().Huge(), Node: s.numa.memory(s.m)},
	}
	kinds, peers := map[int]port.Kind{}, map[int]string{}
	for _, p := range s.openPorts() {
		kinds[p.Number] = p.kind
		if m, ok := p.port.(peered); ok {
			peers[p.Number] = m.Peer()
		}
	}
	for _, p := range snap.Ports {
		st.Ports = append(st.Ports, dpdkhost.Port{
			Number: int(p.Number), Name: p.Name, Kind: string(kinds[int(p.Number)]), Peer: peers[int(p.Number)],
			Received: p.Received, RxBytes: p.ReceivedBytes, Sent: p.Sent, TxBytes: p.SentBytes,
			RxDrops: p.LostReceived, TxDrops: p.SendDrop + p.LostSent, BackPressure: p.BackPressure,
		})
	}
	for _, c := range snap.Chains {
		n := topo.Chain{Name: c.Name, Services: []int{}, Out: int(c.Out)}
		for _, id := range c.Services {
			n.Services = append(n.Services, int(id))
		}
		st.Chains = append(st.Chains, n)
	}
	for _, f := range flows[:min(len(flows), maxFlows)] {
		st.Flows = append(st.Flows, dpdkhost.Flow{
			Match: f.Match.String(), Actions: f.Verdict.String(), Priority: int(f.Priority), Cookie: f.Cookie,
			Packets: f.Packets, Bytes: f.Bytes, Age: max(0, now-f.Added), Idle: f.Idle, Hard: f.Hard,
		})
	}
	if text, err := json.Marshal(snap.Drops); err == nil {
		json.Unmarshal(text, &st.Drops) // Drops has numbers only
	}
	st.Instances = s.instanceStates(snap.Instances)
	return st, nil
}

func (s *server) instanceStates(snaps []manager.InstanceSnapshot) []dpdkhost.Instance {
	byID := map[uint16]manager.InstanceSnapshot{}
	for _, n := range snaps {
		byID[n.ID] = n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []dpdkhost.Instance{}
	for _, i := range s.instances {
		if i.mi != nil {
			d := i.show(byID[i.mi.ID])
			cpus := s.near
			if d.Core > 0 {
				cpus = []int{d.Core - 1}
			}
			d.Node = s.numa.ofAll(cpus)
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b dpdkhost.Instance) int { return a.ID - b.ID })
	return list
}

// show tells of an instance. The caller has the lock.
func (i *instance) show(n manager.InstanceSnapshot) dpdkhost.Instance {
	d := dpdkhost.Instance{
		ID: int(i.mi.ID), Name: i.nf.Name, Service: i.nf.Service, Core: i.nf.Core, PID: cmp.Or(i.worker, i.pid), State: i.state, Restarts: i.restarts,
		Fused: i.nf.Fused, Trust: string(i.mi.Trust), Log: i.logPath,
		Received: n.Received, Sent: n.Transmitted, RxDrops: n.ReceiveDrop, Out: n.Out, ToNF: n.ToNF, Dropped: n.Dropped,
		Next: n.Next, Cloned: n.Cloned, Controller: n.Controller, Invalid: n.Invalid, Wakeups: n.Wakeups,
		Latency:  dpdkhost.Latency{P50: n.P50, P99: n.P99, Max: n.Max},
		Counters: maps.Clone(i.counters),
	}
	if i.parent != nil && i.parent.mi != nil {
		d.Parent = int(i.parent.mi.ID)
	}
	if i.nf.Fused {
		d.PID, d.Log = os.Getpid(), ""
	}
	return d
}

// askCounters renews what NFs count.
func (s *server) askCounters(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, countersTimeout)
	defer cancel()
	s.mu.Lock()
	list := slices.Clone(s.instances)
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, i := range list {
		all.Go(func() {
			if r, err := s.request(ctx, i, nf.Request{Counters: true}); err == nil && r.Counters != nil {
				s.mu.Lock()
				i.counters = r.Counters
				s.mu.Unlock()
			}
		})
	}
	all.Wait()
}

// request asks an NF, wherever it runs.
func (s *server) request(ctx context.Context, i *instance, q nf.Request) (r nf.Reply, err error) {
	s.mu.Lock()
	conn, function, stopping := i.conn, i.function, i.stopping
	s.mu.Unlock()
	switch {
	case conn != nil:
		return conn.ask(ctx, q)
	case function == nil || stopping:
		return r, fmt.Errorf("NF %s does not run now", i.nf.Name)
	}
	err = s.m.Do(func() { r = answer(function, q) })
	return r, err
}

// answer is what a fused NF answers.
func answer(f nf.Function, q nf.Request) (r nf.Reply) {
	if c, ok := f.(nf.Counting); ok && q.Counters {
		r.Counters = map[string]uint64{}
		c.Counters(func(name string, value uint64) { r.Counters[name] = value })
	}
	if q.Command != nil {
		c, ok := f.(nf.Commander)
		if !ok {
			return nf.Reply{Error: "this NF takes no commands"}
		}
		text, err := c.Command(q.Command)
		if r.Text = text; err != nil {
			r.Error = err.Error()
		}
	}
	return r
}

// change does one change.
func (s *server) change(c dpdkhost.Change) error {
	switch {
	case c.Chain != nil:
		return s.setChain(*c.Chain)
	case c.DeleteChain != "":
		return s.m.DeleteChain(c.DeleteChain)
	case c.AddFlow != "":
		return s.addFlow(c.AddFlow)
	case c.DeleteFlows != nil:
		match, err := manager.ParseMatch(*c.DeleteFlows)
		if err != nil {
			return fmt.Errorf("flows %q: %w", *c.DeleteFlows, err)
		}
		removed, err := s.m.RemoveFlows(func(f *manager.Flow) bool { return match.Covers(&f.Match) })
		if err == nil && len(removed) == 0 && *c.DeleteFlows != "" {
			return fmt.Errorf("there is no flow %q", *c.DeleteFlows)
		}
		return err
	case c.Move != nil:
		i, err := s.find(c.Move.Instance)
		if err != nil {
			return err
		}
		return s.move(i, c.Move.Core)
	}
	return errors.New("a change with nothing in it")
}
