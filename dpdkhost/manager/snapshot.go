package manager

import (
	"slices"
	"time"
)

// A Snapshot is a moment of a manager.
type Snapshot struct {
	Ports     []PortSnapshot
	Instances []InstanceSnapshot // by ID
	Chains    []Chain            // by name
	Drops     Drops
	Small     int // free frames
	Large     int
}

// PortSnapshot is a port. Lost counts what Lossy ports lost.
type PortSnapshot struct {
	Number uint16
	Name   string
	PortStats
	LostReceived, LostSent uint64
}

// InstanceSnapshot is an NF.
type InstanceSnapshot struct {
	ID, Service uint16
	Name        string
	Draining    bool
	Suspended   bool
	InstanceStats
	P50, P99, Max time.Duration // of the time in its ring and in it, sampled
}

// Snapshot returns what there is and its counters.
func (m *Manager) Snapshot() (s Snapshot, err error) {
	err = m.Do(func() {
		for _, p := range m.ports {
			if p == nil {
				continue
			}
			ps := PortSnapshot{Number: p.number, Name: p.name, PortStats: p.stats}
			if l, ok := p.port.(Lossy); ok {
				ps.LostReceived, ps.LostSent = l.Lost()
			}
			s.Ports = append(s.Ports, ps)
		}
		for _, n := range m.instances {
			if n != nil {
				s.Instances = append(s.Instances, InstanceSnapshot{n.ID, n.Service, n.Name, n.draining, n.suspended, n.stats,
					n.latency.Percentile(0.5), n.latency.Percentile(0.99), n.latency.Percentile(1)})
			}
		}
		for _, c := range m.chains {
			s.Chains = append(s.Chains, c.Chain)
		}
		slices.SortFunc(s.Chains, func(a, b Chain) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
		s.Drops = m.drops
		s.Small, s.Large = m.pool.Left()
	})
	return s, err
}

// Flows returns the flows, those of higher priority first.
func (m *Manager) Flows() (all []Flow, now time.Duration, err error) {
	err = m.Do(func() {
		m.flows.each(func(_ int32, f *Flow) { all = append(all, *f) })
		now = m.now
	})
	slices.SortStableFunc(all, func(a, b Flow) int { return int(b.Priority) - int(a.Priority) })
	return all, now, err
}
