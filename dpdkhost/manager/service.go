package manager

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

// An Instance is one NF process, or one of several NFs in a process.
type Instance struct {
	ID      uint16 // from 1, unique in the manager's life as far as numbers last
	Service uint16
	Name    string
	Weight  int  // share of the service's flows; 1 by default
	Shared  bool // its processor is the manager's too: it is woken late
	Trust   Trust
	// Fresh is how many empty frames it has, to make packets in.
	Fresh int
	// Wire says that it gets packets as they are on a wire: checksums complete, super-frames cut.
	Wire bool

	rings     *shm.Pair  // nil of a fused one
	fused     *fused     // nil of one with rings
	guard     *guard     // nil of a trusted one
	out       []shm.Desc // for it, from this turn
	waking    bool
	draining  bool
	suspended bool // its process is gone
	hold      bool // and its flows are kept for the next one: their packets are dropped
	fresh     int  // empty frames that it has
	// Where packets that it makes are in a chain, as of an edit of the chains.
	chain    uint16
	pos      uint8
	chainsAt int
	stats    InstanceStats
	latency  Histogram
	sample   int // how many packets go until one is measured
}

// InstanceStats counts an NF's packets.
type InstanceStats struct {
	Received    uint64 `json:"received"`    // by the NF
	ReceiveDrop uint64 `json:"receiveDrop"` // its ring was full
	Transmitted uint64 `json:"transmitted"` // by the NF
	Next        uint64 `json:"next"`
	ToNF        uint64 `json:"toNF"`
	Out         uint64 `json:"out"`
	Cloned      uint64 `json:"cloned"`
	Dropped     uint64 `json:"dropped"` // by its verdict
	Controller  uint64 `json:"controller"`
	Wakeups     uint64 `json:"wakeups"` // it slept, and was woken for packets
	Invalid     uint64 `json:"invalid"` // descriptors of frames that are not its own, or beyond their frame
}

// A service is the instances that do the same, one of which each flow goes to.
type service struct {
	id        uint16
	instances []*Instance
	table     []*Instance // by hash; nil with one instance or none
}

// tableSize is the size of a service's table: a prime well above 100 times the instances that
// make sense on one machine (Maglev, section 5.3).
const tableSize = 4093

// only returns the instance of a service without a table, nil if there is none.
func (s *service) only() *Instance {
	if len(s.instances) == 1 && !s.instances[0].draining {
		return s.instances[0]
	}
	return nil
}

// pick returns the instance of a flow.
func (s *service) pick(hash uint32) *Instance { return s.table[hash%tableSize] }

// balance builds the table by Maglev hashing (Eisenbud et al. 2016, section 3.4): shares follow
// the weights, and an instance that comes or goes moves few flows of the others.
func (s *service) balance() {
	var live []*Instance
	for _, i := range s.instances {
		if !i.draining {
			live = append(live, i)
		}
	}
	s.table = nil
	if len(live) == 0 || len(s.instances) == 1 {
		if len(live) == 0 && len(s.instances) > 0 {
			return // draining all: there is none
		}
		return
	}
	slices.SortFunc(live, func(a, b *Instance) int { return cmp.Compare(a.ID, b.ID) })
	table := make([]*Instance, tableSize)
	type walk struct{ at, skip uint64 }
	walks := make([]walk, len(live))
	for n, i := range live {
		h := fnv.New64a()
		fmt.Fprintf(h, "%d/%d", i.Service, i.ID)
		sum := h.Sum64()
		walks[n] = walk{sum % tableSize, 1 + (sum>>32)%(tableSize-1)}
	}
	for filled := 0; ; {
		for n, i := range live {
			for range max(1, i.Weight) {
				for table[walks[n].at] != nil {
					walks[n].at = (walks[n].at + walks[n].skip) % tableSize
				}
				table[walks[n].at] = i
				if filled++; filled == tableSize {
					s.table = table
					return
				}
			}
		}
	}
}

// MaxService is the highest number of a service.
const MaxService = 4095

// Slots is the default number of slots of a ring.
const Slots = 16384

// Attach makes the rings of a new instance and puts it into its service. What it returns goes
// to the NF: the rings, and the memory that its frames are in.
func (m *Manager) Attach(i Instance, slots int) (*Instance, *shm.Pair, *shm.Memory, error) {
	rings, err := shm.NewPair(cmp.Or(slots, Slots))
	if err != nil {
		return nil, nil, nil, err
	}
	i.rings = rings
	n, err := m.attach(&i)
	if err != nil {
		return nil, nil, nil, errors.Join(err, rings.Close())
	}
	return n, rings, m.memoryOf(n), nil
}

// AttachFused puts an NF that the manager calls itself into its service. Detach does not close
// it.
func (m *Manager) AttachFused(i Instance, f nf.Function) (*Instance, error) {
	if i.Trust != Trusted {
		return nil, fmt.Errorf("NF %s: what is fused has the manager's memory: it cannot be %s", i.Name, i.Trust)
	}
	i.fused = newFused(f)
	if source, ok := f.(nf.Source); ok {
		i.Fresh = source.Frames()
	}
	return m.attach(&i)
}

func (m *Manager) memoryOf(n *Instance) *shm.Memory {
	if n.guard != nil && n.guard.private != nil {
		return n.guard.private
	}
	return m.mem
}

func (m *Manager) attach(n *Instance) (*Instance, error) {
	if n.Service == 0 || n.Service > MaxService {
		return nil, fmt.Errorf("service %d: services have numbers from 1 to %d", n.Service, MaxService)
	}
	if n.Fresh < 0 || n.Fresh > maxFresh {
		return nil, fmt.Errorf("NF %s: %d empty frames: at most %d", n.Name, n.Fresh, maxFresh)
	}
	var err error
	if n.guard, err = m.newGuard(n.Trust); err != nil {
		return nil, fmt.Errorf("NF %s: %w", n.Name, err)
	}
	n.out, n.Weight, n.chainsAt = make([]shm.Desc, 0, 2*ringBurst), max(1, n.Weight), -1
	err = m.Do(func() {
		at := slices.Index(m.instances, nil)
		if at < 0 {
			at = len(m.instances)
			m.instances = append(m.instances, nil)
		}
		n.ID = uint16(at) + 1
		m.instances[at] = n
		s := m.services[n.Service]
		if s == nil {
			s = &service{id: n.Service}
			m.services[n.Service] = s
		}
		s.instances = append(s.instances, n)
		m.hashed = m.hashed || len(s.instances) > 1
		s.balance()
		m.refill(n)
	})
	if err != nil {
		return nil, errors.Join(err, n.guard.close())
	}
	return n, nil
}

// maxFresh bounds the empty frames of an instance.
const maxFresh = 8192

// Suspend takes back all that an instance has whose process is gone; the instance keeps its
// number and its counters. Its packets are dropped, or go to the service's others if move is
// set, until Resume.
func (m *Manager) Suspend(n *Instance, move bool) (reclaimed int, err error) {
	rings, guard := n.rings, n.guard
	err = m.Do(func() {
		n.suspended, n.draining, n.hold = true, move, !move
		if s := m.services[n.Service]; s != nil {
			s.balance()
		}
		reclaimed = m.reclaim(n)
		n.rings, n.guard = nil, nil
	})
	if err != nil {
		return 0, err
	}
	return reclaimed, errors.Join(rings.Close(), guard.close())
}

// Resume gives a suspended instance new rings, for a new process.
func (m *Manager) Resume(n *Instance, slots int) (*shm.Pair, *shm.Memory, error) {
	rings, err := shm.NewPair(cmp.Or(slots, Slots))
	if err != nil {
		return nil, nil, err
	}
	g, err := m.newGuard(n.Trust)
	if err != nil {
		return nil, nil, errors.Join(err, rings.Close())
	}
	err = m.Do(func() {
		n.rings, n.guard, n.suspended, n.draining, n.hold = rings, g, false, false, false
		if s := m.services[n.Service]; s != nil {
			s.balance()
		}
		m.refill(n)
	})
	if err != nil {
		return nil, nil, errors.Join(err, rings.Close(), g.close())
	}
	return rings, m.memoryOf(n), nil
}

// reclaim takes the frames of an instance back.
func (m *Manager) reclaim(n *Instance) (count int) {
	owner := n.owner()
	for i := range m.meta {
		if m.meta[i].owner == owner {
			m.pool.Free(uint32(i))
			count++
		}
	}
	for _, d := range n.out {
		m.pool.Free(d.Frame)
		count++
	}
	n.out, n.fresh, n.waking = n.out[:0], 0, false
	m.waking = slices.DeleteFunc(m.waking, func(o *Instance) bool { return o == n })
	return count
}

// Drain lets an instance have no more packets, waits until it has none left, at most so
// long, and reports whether it has none.
func (m *Manager) Drain(n *Instance, wait time.Duration) (bool, error) {
	err := m.Do(func() {
		n.draining = true
		if s := m.services[n.Service]; s != nil {
			s.balance()
		}
	})
	deadline := time.Now().Add(wait)
	for err == nil {
		held := 0
		err = m.Do(func() { held = m.held(n) })
		if held == 0 || time.Now().After(deadline) {
			return held == 0, err
		}
		time.Sleep(time.Millisecond)
	}
	return false, err
}

// held counts the frames that an instance has.
func (m *Manager) held(n *Instance) (count int) {
	owner := n.owner()
	for i := range m.meta {
		if m.meta[i].owner == owner && !m.meta[i].fresh {
			count++
		}
	}
	return count
}

// Detach takes an instance out, whatever state its process is in, and takes its frames back. It
// returns how many it had.
func (m *Manager) Detach(n *Instance) (reclaimed int, err error) {
	err = errors.Join(m.Do(func() {
		if s := m.services[n.Service]; s != nil {
			s.instances = slices.DeleteFunc(s.instances, func(o *Instance) bool { return o == n })
			if s.balance(); len(s.instances) == 0 {
				m.services[n.Service] = nil
			}
		}
		reclaimed = m.reclaim(n)
		m.instances[n.ID-1] = nil
	}))
	if n.rings != nil {
		err = errors.Join(err, n.rings.Close())
	}
	return reclaimed, errors.Join(err, n.guard.close())
}

func (n *Instance) owner() uint16 { return firstInstance + n.ID - 1 }
