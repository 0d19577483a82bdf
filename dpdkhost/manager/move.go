package manager

import (
	"maps"
	"slices"

	"weft/dpdkhost/shm"
)

// enter starts packets that a port received on their way.
func (m *Manager) enter(p *entry, batch []shm.Desc) {
	p.stats.Received += uint64(len(batch))
	if m.flows.count == 0 {
		for k := range batch {
			d := &batch[k]
			p.stats.ReceivedBytes += uint64(d.Length)
			m.meta[d.Frame] = meta{owner: ownerManager, port: p.number}
			d.Port = p.number
			m.start0(p, d, m.standard)
		}
		return
	}
	var keys [burst]Key
	var found [burst]int32
	// What follows is in no cache, as a rule: passes that only touch memory let a burst wait for
	// its misses together.
	var hint uint64
	for k := range batch {
		if b := m.mem.Packet(&batch[k]); len(b) > 0 {
			hint += uint64(b[0])
		}
	}
	for k := range batch {
		d := &batch[k]
		p.stats.ReceivedBytes += uint64(d.Length)
		parseKey(&keys[k], m.mem.Packet(d), p.number)
	}
	m.flows.lookup(keys[:len(batch)], found[:])
	for _, f := range found[:len(batch)] {
		if f != noFlow {
			hint += m.flows.use[f].Packets
			if m.verdicts[f] != nil {
				hint++
			}
		}
	}
	keep(hint)
	for k := range batch {
		d := &batch[k]
		d.Port = p.number
		mt := meta{owner: ownerManager, port: p.number}
		if m.hashed {
			mt.hash, mt.hash1 = keys[k].flowHash(), true
		}
		m.meta[d.Frame] = mt
		f := found[k]
		if f == noFlow {
			m.start0(p, d, m.standard)
		} else if c := m.verdicts[f]; c != nil && c.full() {
			p.stats.BackPressure++
			m.pool.Free(d.Frame)
		} else {
			m.verdict(d, f)
		}
	}
}

// start0 puts a packet at the start of a chain. A chain of which a ring is almost full takes no
// more: better here, where no work was done on the packet yet.
func (m *Manager) start0(p *entry, d *shm.Desc, c *chain) {
	if c == nil {
		m.missed(d, p.number)
		return
	}
	if c.full() {
		p.stats.BackPressure++
		m.pool.Free(d.Frame)
		return
	}
	m.meta[d.Frame].chain = c.id
	m.step(d, c, 0)
}

// step sends a packet to a place in a chain.
func (m *Manager) step(d *shm.Desc, c *chain, pos int) {
	if pos < len(c.steps) {
		m.meta[d.Frame].pos = uint8(pos)
		m.toService(d, c.steps[pos])
		return
	}
	if c.Out == 0 {
		m.drops.ChainEnd++
		m.pool.Free(d.Frame)
		return
	}
	m.toPort(d, c.Out)
}

// dispatch does what an NF decided. Nothing in a descriptor is believed: a frame must be the
// NF's own.
func (m *Manager) dispatch(n *Instance, batch []shm.Desc) {
	owner := n.owner()
	for k := range batch {
		d := &batch[k]
		if n.guard != nil && !n.guard.in(m, n, d) || !m.mem.Valid(d) || m.meta[d.Frame].owner != owner {
			n.stats.Invalid++
			continue
		}
		mt := &m.meta[d.Frame]
		mt.owner = ownerManager
		if mt.fresh {
			mt.fresh = false
			mt.chain, mt.pos = m.place(n)
			n.fresh--
		}
		d.Port = mt.port
		if mt.stamp != 0 {
			n.latency.Add(m.sinceStamp(mt.stamp))
			mt.stamp = 0
		}
		n.stats.Transmitted++
		switch d.Action {
		case shm.Next:
			n.stats.Next++
			m.next(n, d, mt)
		case shm.ToNF:
			n.stats.ToNF++
			m.toService(d, d.To)
		case shm.Out:
			n.stats.Out++
			m.toPort(d, d.To)
		case shm.Clone:
			n.stats.Cloned++
			if c, ok := m.copyOf(d); ok {
				m.toService(&c, d.To)
			}
			m.next(n, d, mt)
		case shm.Controller:
			n.stats.Controller++
			m.toController(d)
		default:
			n.stats.Dropped++
			m.pool.Free(d.Frame)
		}
	}
	if n.fresh < n.Fresh {
		m.refill(n)
	}
}

// next sends a packet on to the next place in its chain. One that is on no chain enters the flow
// director again.
func (m *Manager) next(n *Instance, d *shm.Desc, mt *meta) {
	if mt.chain != 0 || m.flows.count == 0 {
		m.step(d, m.byID[mt.chain], int(mt.pos)+1)
		return
	}
	if mt.pos++; mt.pos > maxHops {
		m.drops.Loop++
		m.pool.Free(d.Frame)
		return
	}
	d.Port = ServicePort + n.Service
	m.again = append(m.again, *d)
}

// refill gives an instance the empty frames that it lacks, as far as there are any.
func (m *Manager) refill(n *Instance) {
	if n.rings != nil && n.rings.Receive.Free() < n.rings.Receive.Cap()/2 {
		return
	}
	for ; n.fresh < n.Fresh && len(n.out) < cap(n.out); n.fresh++ {
		frame, ok := m.pool.Get(0)
		if !ok {
			return
		}
		m.meta[frame] = meta{owner: ownerManager, fresh: true}
		n.out = append(n.out, shm.Desc{Frame: frame, Offset: shm.Headroom, Action: shm.Buffer})
	}
}

// place returns where in a chain the packets are that an instance makes: at its service in the
// default chain, else in the first that has it.
func (m *Manager) place(n *Instance) (chain uint16, pos uint8) {
	if n.chainsAt == m.edits {
		return n.chain, n.pos
	}
	n.chainsAt, n.chain, n.pos = m.edits, 0, 255
	names := slices.Sorted(maps.Keys(m.chains))
	if m.standard != nil {
		names = append([]string{DefaultChain}, names...)
	}
	for _, name := range names {
		c := m.chains[name]
		if at := slices.Index(c.steps, n.Service); at >= 0 {
			n.chain, n.pos = c.id, uint8(at)
			break
		}
	}
	return n.chain, n.pos
}

// toService queues a packet for the instance of a service that its flow belongs to.
func (m *Manager) toService(d *shm.Desc, id uint16) {
	var s *service
	if int(id) < len(m.services) {
		s = m.services[id]
	}
	if s == nil {
		m.drops.NoService++
		m.pool.Free(d.Frame)
		return
	}
	var n *Instance
	if s.table == nil {
		n = s.pick(0)
	} else {
		n = s.pick(m.hashOf(d))
	}
	if n == nil {
		m.drops.NoService++
		m.pool.Free(d.Frame)
		return
	}
	if n.suspended {
		n.stats.ReceiveDrop++
		m.pool.Free(d.Frame)
		return
	}
	if n.Wire && d.Flags&shm.HasVnet != 0 {
		m.onWire(n, d)
	} else {
		n.out = append(n.out, *d)
	}
	if len(n.out) >= ringBurst && n.fused == nil {
		m.deliver(n)
	}
}

// onWire queues the frames that a packet is on a wire for an instance. All are where the packet is
// in its chain.
func (m *Manager) onWire(n *Instance, d *shm.Desc) {
	mt, from := m.meta[d.Frame], len(n.out)
	list, lost := m.pool.Finish(*d, n.out)
	for k := range list[from:] {
		part := &list[from+k]
		part.To, part.Action = d.To, d.Action
		m.meta[part.Frame] = mt
	}
	n.out = list
	m.drops.NoMemory += uint64(lost)
}

// hashOf returns the hash of a packet's flow as it came in: rewriting a packet does not change
// the instances that it meets.
func (m *Manager) hashOf(d *shm.Desc) uint32 {
	mt := &m.meta[d.Frame]
	if !mt.hash1 {
		var k Key
		parseKey(&k, m.mem.Packet(d), mt.port)
		mt.hash, mt.hash1 = k.flowHash(), true
	}
	return mt.hash
}

// deliver puts what waits for an instance into its ring.
func (m *Manager) deliver(n *Instance) {
	if n.fused != nil {
		m.runFused(n)
		return
	}
	owner := n.owner()
	fit := min(len(n.out), n.rings.Receive.Free())
	for k := range n.out[:fit] {
		d := &n.out[k]
		mt := &m.meta[d.Frame]
		mt.owner = owner
		if n.sample++; n.sample%latencySample == 0 {
			mt.stamp = m.stamp()
		}
		if n.guard != nil && !n.guard.out(m, d) {
			// No room in its own memory: as if its ring were full from here on.
			mt.owner = ownerManager
			fit = k
			break
		}
	}
	n.rings.Receive.Push(n.out[:fit])
	n.rings.Receive.Publish()
	n.stats.Received += uint64(fit)
	for _, d := range n.out[fit:] {
		if m.meta[d.Frame].fresh {
			n.fresh--
		} else {
			n.stats.ReceiveDrop++
		}
		m.pool.Free(d.Frame)
	}
	n.out = n.out[:0]
	if n.fresh < n.Fresh {
		m.refill(n)
	}
	if !n.Shared || n.rings.Receive.Free() < n.rings.Receive.Cap()/2 {
		n.rings.Receive.Wake()
	} else if !n.waking {
		n.waking = true
		m.waking = append(m.waking, n)
	}
}

// toPort queues a packet for a port.
func (m *Manager) toPort(d *shm.Desc, number uint16) {
	if int(number) >= len(m.ports) || m.ports[number] == nil {
		m.drops.NoPort++
		m.pool.Free(d.Frame)
		return
	}
	p := m.ports[number]
	p.out = append(p.out, *d)
	if len(p.out) >= ringBurst {
		m.transmit(p)
	}
}

func (m *Manager) transmit(p *entry) {
	var bytes uint64
	for k := range p.out {
		m.meta[p.out[k].Frame].owner = ownerPort
		bytes += uint64(p.out[k].Length)
	}
	sent := p.port.Send(p.out, m.pool)
	p.stats.Sent += uint64(sent)
	p.stats.SentBytes += bytes
	for _, d := range p.out[sent:] {
		p.stats.SentBytes -= uint64(d.Length)
		p.stats.SendDrop++
		m.pool.Free(d.Frame)
	}
	p.out = p.out[:0]
}

// toController hands a copy of a packet to the OpenFlow agent. One that only a flow for all misses
// sends there takes the default chain while there is no controller.
func (m *Manager) toController(d *shm.Desc) {
	f := m.current
	missed := f != nil && f.Priority == 0 && f.Mask == Key{}
	switch {
	case m.hooks.Miss != nil:
		m.hooks.Miss(m.meta[d.Frame].port, m.mem.Packet(d), f, !missed)
	case missed && m.standard != nil:
		m.current = nil // what NFs want is not that flow's doing
		m.meta[d.Frame].chain = m.standard.id
		m.step(d, m.standard, 0)
		return
	default:
		m.drops.Controller++
	}
	m.pool.Free(d.Frame)
}
