package manager

import (
	"time"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

// A fused NF is called on the manager's thread: there are no rings, no wake-ups and no other
// process, and no protection either.
type fused struct {
	function nf.Function
	ticker   nf.Ticker // nil if it is none
	tickAt   time.Time // zero for before the next batch only
	in       []shm.Desc
	batch    [nf.Batch]nf.Packet
	verdicts [nf.Batch]shm.Desc
}

func newFused(f nf.Function) *fused {
	ticker, _ := f.(nf.Ticker)
	return &fused{function: f, ticker: ticker, in: make([]shm.Desc, 0, 2*ringBurst)}
}

// runFused lets a fused NF decide about what waits for it.
func (m *Manager) runFused(n *Instance) {
	f := n.fused
	n.out, f.in = f.in[:0], n.out
	for rest := f.in; len(rest) > 0; {
		part := rest[:min(len(rest), nf.Batch)]
		rest = rest[len(part):]
		if f.ticker != nil {
			m.tick(n)
		}
		m.own(part, n.owner())
		for i := range part {
			f.batch[i].Load(&part[i], m.mem)
		}
		n.stats.Received += uint64(len(part))
		f.function.Handle(f.batch[:len(part)])
		m.decided(n, len(part))
	}
	if f.ticker != nil {
		m.tick(n) // what it keeps may be ready now
	}
}

// decided takes the verdicts on the first packets of a fused NF's batch.
func (m *Manager) decided(n *Instance, count int) {
	f, k := n.fused, 0
	for i := range count {
		if d, ok := f.batch[i].Verdict(); ok {
			f.verdicts[k] = d
			k++
		}
	}
	m.dispatch(n, f.verdicts[:k])
}

// tick does a fused NF's work without packets.
func (m *Manager) tick(n *Instance) {
	f := n.fused
	now := time.Now()
	made, next := f.ticker.Tick(now, f.batch[:])
	m.decided(n, made)
	if f.tickAt = now.Add(next); next < 0 {
		f.tickAt = time.Time{}
	}
}

// tickFused does the work that fused NFs have at their times, and returns how long the manager may
// sleep until the next; below zero for ever.
func (m *Manager) tickFused() time.Duration {
	soonest := time.Duration(-1)
	for _, n := range m.instances {
		if n == nil || n.fused == nil || n.fused.ticker == nil || n.fused.tickAt.IsZero() {
			continue
		}
		left := time.Until(n.fused.tickAt)
		if left <= 0 {
			m.tick(n)
			if n.fused.tickAt.IsZero() {
				continue
			}
			left = max(0, time.Until(n.fused.tickAt))
		}
		if soonest < 0 || left < soonest {
			soonest = left
		}
	}
	return soonest
}
