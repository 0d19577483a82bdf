package manager

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"weft/dpdkhost/shm"
)

// A Chain is the services that packets pass, one after the other, and the port by which they
// leave; without one the last service says where they go.
type Chain struct {
	Name     string   `json:"name"`
	Services []uint16 `json:"services"`
	Out      uint16   `json:"out,omitempty"`
}

// MaxChain bounds a chain's length.
const MaxChain = 64

// DefaultChain is the name of the chain of packets that no flow is for.
const DefaultChain = "default"

// A chain never changes: an edited one is a new one, and packets that are on their way stay
// with the old.
type chain struct {
	Chain
	id    uint16
	steps []uint16
	m     *Manager
	// isFull is what full said in the turn asked.
	asked  uint64
	isFull bool
}

// full reports whether one of the chain's services has almost no room: three quarters of all
// the rings of its instances are in use.
func (c *chain) full() bool {
	if c.asked != c.m.turns {
		c.asked, c.isFull = c.m.turns, c.measure()
	}
	return c.isFull
}

func (c *chain) measure() bool {
	for _, id := range c.steps {
		s := c.m.services[id]
		if s == nil || len(s.instances) == 0 {
			continue
		}
		used, all := 0, 0
		for _, i := range s.instances {
			if i.rings == nil {
				continue
			}
			used += i.rings.Receive.Cap() - i.rings.Receive.Free()
			all += i.rings.Receive.Cap()
		}
		if 4*used > 3*all {
			return true
		}
	}
	return false
}

// SetChain makes a chain or changes it for packets that come from now on.
func (m *Manager) SetChain(c Chain) error {
	switch {
	case c.Name == "":
		return errors.New("a chain needs a name")
	case len(c.Services) > MaxChain:
		return fmt.Errorf("chain %s: %d services are more than %d", c.Name, len(c.Services), MaxChain)
	case slices.ContainsFunc(c.Services, func(s uint16) bool { return s == 0 || s > MaxService }):
		return fmt.Errorf("chain %s: services have numbers from 1 to %d", c.Name, MaxService)
	}
	c.Services = slices.Clone(c.Services)
	var failed error
	err := m.Do(func() {
		id := slices.IndexFunc(m.byID, func(old *chain) bool { return old.id != 0 && m.chains[old.Name] != old && !m.inUse(old.id) })
		if id < 0 {
			if id = len(m.byID); id > 1<<16-1 {
				failed = errors.New("too many chains")
				return
			}
			m.byID = append(m.byID, nil)
		}
		n := &chain{Chain: c, id: uint16(id), steps: c.Services, m: m}
		m.byID[id] = n
		m.edits++
		old := m.chains[c.Name]
		m.chains[c.Name] = n
		if c.Name == DefaultChain {
			m.standard = n
		}
		if old != nil {
			m.flows.change(func(f *Flow) {
				if f.chain == old.id {
					f.chain = n.id
				}
			})
		}
	})
	return cmp.Or(err, failed)
}

// DeleteChain removes a chain that no flow names. Packets on their way along it stay on it.
func (m *Manager) DeleteChain(name string) error {
	var failed error
	err := m.Do(func() {
		c := m.chains[name]
		users := len(m.flows.which(func(f *Flow) bool { return f.Verdict.leadsTo(name) }))
		switch {
		case c == nil:
			failed = fmt.Errorf("there is no chain %q", name)
			return
		case users > 0:
			failed = fmt.Errorf("chain %s: %d flows lead into it; delete them first", name, users)
			return
		}
		delete(m.chains, name)
		m.edits++
		if m.standard == c {
			m.standard = nil
		}
	})
	return cmp.Or(err, failed)
}

// inUse reports whether a packet is on its way along a chain.
func (m *Manager) inUse(id uint16) bool {
	return slices.ContainsFunc(m.meta, func(mt meta) bool { return mt.owner != ownerPool && mt.chain == id })
}

// AddFlow puts a flow into the flow director.
func (m *Manager) AddFlow(f Flow) error { return m.AddFlows(f) }

// AddFlows puts flows into the flow director, between two packets. With an error those before the
// flow that failed are there.
func (m *Manager) AddFlows(list ...Flow) error {
	var failed error
	err := m.Do(func() {
		for _, f := range list {
			if failed = m.addFlow(f); failed != nil {
				failed = fmt.Errorf("flow: %w", failed)
				return
			}
		}
	})
	return cmp.Or(err, failed)
}

func (m *Manager) addFlow(f Flow) error {
	if v := f.Verdict; v.Chain != "" && m.chains[v.Chain] == nil {
		return fmt.Errorf("there is no chain %q", v.Chain)
	}
	for _, v := range f.Verdict.And {
		if v.Chain != "" && m.chains[v.Chain] == nil {
			return fmt.Errorf("there is no chain %q", v.Chain)
		}
	}
	f.Added, f.Used = m.now, m.now
	f.chain = m.chainOf(&f.Verdict)
	if m.flows.add(f) == noFlow {
		return fmt.Errorf("the flow director is full (%d flows)", m.flows.limit)
	}
	return nil
}

// chainOf returns the chain that a verdict is and nothing else; 0 if it is not.
func (m *Manager) chainOf(v *Verdict) uint16 {
	if c := m.chains[v.Chain]; c != nil && len(v.And) == 0 {
		return c.id
	}
	return 0
}

// RemoveFlows deletes the flows for which gone is true and returns them.
func (m *Manager) RemoveFlows(gone func(*Flow) bool) (removed []Flow, err error) {
	err = m.Do(func() { removed = m.removeFlows(gone, false) })
	return removed, err
}

func (m *Manager) removeFlows(gone func(*Flow) bool, expired bool) []Flow {
	return m.removeAll(m.flows.which(gone), expired)
}

func (m *Manager) removeAll(dead []int32, expired bool) []Flow {
	removed := m.flows.removeAll(dead)
	if m.hooks.Removed != nil {
		for i := range removed {
			if removed[i].Notify {
				m.hooks.Removed(&removed[i], m.now, expired)
			}
		}
	}
	return removed
}

// ChangeFlows gives the flows for which which is true another verdict and returns how many they
// are. Their counters and timeouts stay.
func (m *Manager) ChangeFlows(which func(*Flow) bool, v Verdict) (count int, err error) {
	err = m.Do(func() {
		chain := m.chainOf(&v)
		m.flows.change(func(f *Flow) {
			if which(f) {
				f.Verdict, f.chain = v, chain
				count++
			}
		})
	})
	return count, err
}

// expireFlows removes flows of which a timeout is over, and returns when to look again.
func (m *Manager) expireFlows() time.Duration {
	dead, wait := m.flows.expired(m.now)
	if len(dead) > 0 {
		m.removeAll(dead, true)
	}
	return wait
}

// A Port is where packets come in and leave. Its methods are called on the manager's thread
// and do not block.
type Port interface {
	// Receive fills descriptors with packets that came in, in frames from the pool, and returns
	// how many.
	Receive(into []shm.Desc, pool *Pool) int
	// Send takes packets and returns how many it took. It may change their order: those that it
	// took come first. It frees their frames when they have left.
	Send(list []shm.Desc, pool *Pool) int
	// FD returns the file that becomes readable when packets come in; -1 for a port that is
	// looked at whenever the manager is awake. It wakes the manager once (EPOLLET): then Receive is
	// called until it returns 0.
	FD() int
	// Close gives all frames back that the port has.
	Close() error
}

// A Lossy port counts packets of which nobody else knows: that came when there was no room for
// them, and that Send took and lost.
type Lossy interface {
	Lost() (received, sent uint64)
}

// A Sleeper is a port that must know when the manager's thread is about to wait for its file,
// to ask its other side for a wake. Sleep is called on that thread and reports whether there
// is work already; the next Receive says that the thread is awake again.
type Sleeper interface {
	Sleep() (work bool)
}

// PortStats counts a port's packets.
type PortStats struct {
	Received      uint64 `json:"received"`
	ReceivedBytes uint64 `json:"receivedBytes"`
	Sent          uint64 `json:"sent"`
	SentBytes     uint64 `json:"sentBytes"`
	SendDrop      uint64 `json:"sendDrop"`     // the port could not take them
	BackPressure  uint64 `json:"backPressure"` // not let in: their chain was full
}

// An entry is a port with its number and its packets to send.
type entry struct {
	port    Port
	sleeper Sleeper // the port, if it is one
	number  uint16
	name    string
	out     []shm.Desc
	stats   PortStats
}

// stamp is the time in units of 16 ns, never 0, in 32 bits: it wraps after a minute.
func (m *Manager) stamp() uint32 { return uint32(time.Since(m.start)/16) | 1 }

func (m *Manager) sinceStamp(s uint32) time.Duration { return time.Duration(m.stamp()-s) * 16 }

// latencySample is how many packets share one measurement of latency.
const latencySample = 64
