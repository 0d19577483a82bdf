package manager

import (
	"maps"
	"slices"
	"unsafe"

	"weft/dpdkhost/shm"
)

// Packets move in runs: those of a burst that follow each other and fare alike. What is decided
// for a run costs its packets next to nothing.

// enter starts packets that a port received on their way, at most burst.
func (m *Manager) enter(p *entry, batch []shm.Desc) {
	p.stats.Received += uint64(len(batch))
	var bytes uint64
	for k := range batch {
		batch[k].Port = p.number
		bytes += uint64(batch[k].Length)
	}
	p.stats.ReceivedBytes += bytes
	if m.flows.count == 0 {
		if m.standard != nil {
			m.begin(p, batch, m.standard)
			return
		}
		for k := range batch {
			m.missed(&batch[k], p.number)
		}
		return
	}
	keys, found := m.keys[:len(batch)], m.found[:len(batch)]
	for k := range batch {
		parseKey(&keys[k], m.mem.Packet(&batch[k]), p.number)
	}
	m.flows.lookup(keys, found)
	if m.hashed {
		for k := range batch {
			m.meta[batch[k].Frame].hash = keys[k].flowHash()
		}
	}
	// The run that grows begins at from; all its packets are for one chain.
	from, run := 0, uint16(0)
	for k, f := range found {
		chain := uint16(0)
		if f != nil {
			f.count(batch[k].Length, m.now)
			chain = f.chain
		} else if m.standard != nil {
			chain = m.standard.id
		}
		if chain == run && run != 0 {
			continue
		}
		m.begin(p, batch[from:k], m.byID[run])
		if from, run = k, chain; chain != 0 {
			continue
		}
		m.place(batch[k:k+1], place{owner: ownerManager, port: p.number})
		if from++; f == nil {
			m.missed(&batch[k], p.number)
		} else {
			m.special(&batch[k], f.flow-1, p.number)
		}
	}
	m.begin(p, batch[from:], m.byID[run])
}

// begin puts packets that came in by a port at the start of a chain. A chain of which a ring is
// almost full takes no more: better here, where no work was done on the packets yet.
func (m *Manager) begin(p *entry, list []shm.Desc, c *chain) {
	switch {
	case len(list) == 0:
	case c.full():
		m.discard(list, &p.stats.BackPressure)
	default:
		at := place{owner: ownerManager, chain: c.id, port: p.number}
		m.place(list, at)
		m.forward(list, at)
	}
}

// place says that packets are at a place.
func (m *Manager) place(list []shm.Desc, at place) {
	metas := m.meta
	for k := range list {
		metas[list[k].Frame].place = at // in one piece: so it is one store
	}
}

// forward sends packets to the service of their chain whose turn it is, or out of the chain.
func (m *Manager) forward(list []shm.Desc, at place) {
	c := m.byID[at.chain]
	switch {
	case int(at.pos) < len(c.steps):
		m.toService(list, c.steps[at.pos])
	case c.Out == 0:
		m.discard(list, &m.drops.ChainEnd)
	default:
		m.toPort(list, c.Out)
	}
}

// discard gives the frames of packets back, and counts them.
func (m *Manager) discard(list []shm.Desc, count *uint64) {
	*count += uint64(len(list))
	for k := range list {
		m.pool.Free(list[k].Frame)
	}
}

// one is a packet as a list.
func one(d *shm.Desc) []shm.Desc { return unsafe.Slice(d, 1) }

// dispatch does what an NF decided. Nothing in a descriptor is believed: it must lie in its frame, and
// the frame must be the NF's own.
func (m *Manager) dispatch(n *Instance, batch []shm.Desc) {
	owner, metas, mem, guard := n.owner(), m.meta, m.mem, n.guard
	// The run that grows begins at from. Its packets are at one place and have one verdict.
	var at place
	var action shm.Action
	var to uint16
	from := 0
	for k := range batch {
		d := &batch[k]
		if guard != nil && !guard.in(m, n, d) || !mem.Valid(d) || metas[d.Frame].owner != owner {
			n.stats.Invalid++
			m.decide(n, batch[from:k], at)
			from = k + 1
			continue
		}
		mt := &metas[d.Frame]
		if mt.stamp != 0 || mt.fresh {
			m.note(n, mt)
		}
		here := mt.place
		here.owner = ownerManager
		mt.owner = ownerManager // from now on the NF has no other descriptor of the frame
		d.Port = here.port
		if here == at && d.Action == action && d.To == to && k > from {
			continue
		}
		m.decide(n, batch[from:k], at)
		from, at, action, to = k, here, d.Action, d.To
	}
	m.decide(n, batch[from:], at)
	if n.fresh < n.Fresh {
		m.refill(n)
	}
}

// note does for a packet from an NF what few need: it measures how long it took, or makes it a packet
// that was an empty frame.
func (m *Manager) note(n *Instance, mt *meta) {
	if mt.stamp != 0 {
		n.latency.Add(m.sinceStamp(mt.stamp))
		mt.stamp = 0
	}
	if mt.fresh {
		mt.fresh = false
		mt.chain, mt.pos = m.origin(n)
		n.fresh--
	}
}

// decide does with packets that are at one place what an NF decided about the first of them.
func (m *Manager) decide(n *Instance, list []shm.Desc, at place) {
	if len(list) == 0 {
		return
	}
	count := uint64(len(list))
	n.stats.Transmitted += count
	switch to := list[0].To; list[0].Action {
	case shm.Next:
		n.stats.Next += count
		m.next(n, list, at)
	case shm.ToNF:
		n.stats.ToNF += count
		m.toService(list, to)
	case shm.Out:
		n.stats.Out += count
		m.toPort(list, to)
	case shm.Clone:
		n.stats.Cloned += count
		for k := range list {
			if c, ok := m.copyOf(&list[k]); ok {
				m.toService(one(&c), to)
			}
		}
		m.next(n, list, at)
	case shm.Controller:
		n.stats.Controller += count
		for k := range list {
			m.toController(&list[k])
		}
	default:
		m.discard(list, &n.stats.Dropped)
	}
}

// next sends packets that are at one place on to the next in their chain. Those that are on no chain
// enter the flow director again.
func (m *Manager) next(n *Instance, list []shm.Desc, at place) {
	if at.chain == 0 && m.flows.count > 0 && at.pos >= maxHops {
		m.discard(list, &m.drops.Loop)
		return
	}
	at.pos++
	m.place(list, at)
	if at.chain != 0 || m.flows.count == 0 {
		m.forward(list, at)
		return
	}
	for k := range list {
		list[k].Port = ServicePort + n.Service
	}
	m.again = append(m.again, list...)
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
		m.meta[frame] = meta{place: place{owner: ownerManager, fresh: true}}
		n.out = append(n.out, shm.Desc{Frame: frame, Offset: shm.Headroom, Action: shm.Buffer})
	}
}

// origin returns where in a chain the packets are that an instance makes: at its service in the
// default chain, else in the first that has it.
func (m *Manager) origin(n *Instance) (chain uint16, pos uint8) {
	if n.chainsAt == m.edits {
		return n.chain, n.pos
	}
	n.chainsAt, n.chain, n.pos = m.edits, 0, 0
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

// toService queues packets for the instances of a service that their flows belong to.
func (m *Manager) toService(list []shm.Desc, id uint16) {
	var s *service
	if int(id) < len(m.services) {
		s = m.services[id]
	}
	switch {
	case s == nil:
		m.discard(list, &m.drops.NoService)
	case s.table == nil:
		m.queue(s.only(), list)
	default:
		for k := range list {
			m.queue(s.pick(m.hashOf(&list[k])), list[k:k+1])
		}
	}
}

// queue queues packets for an instance, nil for none.
func (m *Manager) queue(n *Instance, list []shm.Desc) {
	switch {
	case n == nil:
		m.discard(list, &m.drops.NoService)
		return
	case n.suspended:
		m.discard(list, &n.stats.ReceiveDrop)
		return
	case !n.Wire:
		n.out = append(n.out, list...)
	default:
		for k := range list {
			m.onWire(n, &list[k])
		}
	}
	if len(n.out) >= ringBurst && n.fused == nil {
		m.deliver(n)
	}
}

// onWire queues the frames that a packet is on a wire for an instance. All are where the packet is
// in its chain.
func (m *Manager) onWire(n *Instance, d *shm.Desc) {
	if d.Flags&shm.HasVnet == 0 {
		n.out = append(n.out, *d)
		return
	}
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
	if mt.hash == 0 {
		var k Key
		parseKey(&k, m.mem.Packet(d), mt.port)
		mt.hash = k.flowHash()
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
	m.own(n.out[:fit], owner)
	for ; n.sample < fit; n.sample += latencySample {
		m.meta[n.out[n.sample].Frame].stamp = m.stamp()
	}
	n.sample -= fit
	if n.guard != nil {
		for k := range n.out[:fit] {
			if !n.guard.out(m, &n.out[k]) {
				fit = k // no room in its own memory: as if its ring were full from here on
				break
			}
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
		n.wake()
	} else if !n.waking {
		n.waking = true
		m.waking = append(m.waking, n)
	}
}

// own says whose packets are.
func (m *Manager) own(list []shm.Desc, owner uint16) {
	metas := m.meta
	for k := range list {
		metas[list[k].Frame].owner = owner
	}
}

// toPort queues packets for a port.
func (m *Manager) toPort(list []shm.Desc, number uint16) {
	if int(number) >= len(m.ports) || m.ports[number] == nil {
		m.discard(list, &m.drops.NoPort)
		return
	}
	p := m.ports[number]
	p.out = append(p.out, list...)
	if len(p.out) >= ringBurst {
		m.transmit(p)
	}
}

func (m *Manager) transmit(p *entry) {
	var bytes uint64
	metas := m.meta
	for k := range p.out {
		metas[p.out[k].Frame] = meta{place: place{owner: ownerPort}}
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
		port := m.meta[d.Frame].port
		if f != nil {
			port = m.entered
		}
		m.tell(d, port, f, !missed)
		return
	case missed && m.standard != nil:
		m.current = nil // what NFs want is not that flow's doing
		m.toChain(d, m.standard)
		return
	default:
		m.drops.Controller++
	}
	m.pool.Free(d.Frame)
}
