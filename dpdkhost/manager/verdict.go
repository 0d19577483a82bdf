package manager

import (
	"slices"
	"time"

	"weft/dpdkhost/shm"
)

// A Verdict is what happens to a packet at the entry: the first that is set of its fields; a
// zero one drops it.
type Verdict struct {
	Chain      string
	Service    uint16 // 0 for none
	Port       uint16 // 0 for none
	Back       bool   // out of the port by which it came
	Flood      bool   // out of all ports but that by which it came
	Controller bool
	// And is what happens to copies of it besides.
	And []Verdict
}

// leadsTo reports whether a packet or a copy of it gets on a chain.
func (v *Verdict) leadsTo(chain string) bool {
	return v.Chain == chain || slices.ContainsFunc(v.And, func(a Verdict) bool { return a.leadsTo(chain) })
}

// ServicePort is the number, as of a port, of service 0: service 5 is port 0x8005 to flows and to
// controllers. A packet that is on no chain enters the flow director anew with the number of its
// service as the input port when an NF sends it on (NEXT).
const ServicePort = 0x8000

// maxHops bounds how often a packet may enter the flow director.
const maxHops = 64

// act does to a packet what a verdict says.
func (m *Manager) act(d *shm.Desc, v *Verdict) {
	for i := range v.And {
		if c, ok := m.copyOf(d); ok {
			m.act(&c, &v.And[i])
		}
	}
	switch {
	case v.Chain != "":
		if c := m.chains[v.Chain]; c != nil {
			m.toChain(d, c)
			return
		}
		m.discard(one(d), &m.drops.NoService)
	case v.Service != 0:
		m.toService(one(d), v.Service)
	case v.Port != 0:
		m.toPort(one(d), v.Port)
	case v.Back:
		m.toPort(one(d), m.meta[d.Frame].port)
	case v.Flood:
		m.flood(d)
	case v.Controller:
		m.toController(d)
	default:
		m.pool.Free(d.Frame)
	}
}

// flood sends a packet out of all ports but its own.
func (m *Manager) flood(d *shm.Desc) {
	last := uint16(0)
	for n, p := range m.ports {
		if p == nil || uint16(n) == d.Port {
			continue
		}
		if last != 0 {
			if c, ok := m.copyOf(d); ok {
				m.toPort(one(&c), last)
			}
		}
		last = uint16(n)
	}
	if last == 0 {
		m.pool.Free(d.Frame)
		return
	}
	m.toPort(one(d), last)
}

// copyOf copies a packet into a frame of its own.
func (m *Manager) copyOf(d *shm.Desc) (c shm.Desc, ok bool) {
	frame, ok := m.pool.Get(int(d.Length))
	if ok && int(d.Offset)+int(d.Length) > len(m.mem.Frame(frame)) {
		m.pool.Free(frame)
		ok = false
	}
	if !ok {
		m.drops.NoMemory++
		return c, false
	}
	c = *d
	c.Frame = frame
	copy(m.mem.Frame(frame), m.mem.Frame(d.Frame)[:int(d.Offset)+int(d.Length)])
	m.meta[frame] = m.meta[d.Frame]
	m.meta[frame].owner = ownerManager
	return c, true
}

// Inject lets a packet of a controller's take a verdict, as if it had come in by a port, 0 for none.
// With lookup, the flow director says what happens to it instead.
func (m *Manager) Inject(packet []byte, port uint16, v Verdict, lookup bool) error {
	return m.Do(func() {
		frame, ok := m.pool.Get(len(packet))
		if ok && shm.Headroom+len(packet) > len(m.mem.Frame(frame)) {
			m.pool.Free(frame)
			ok = false
		}
		if !ok {
			m.drops.NoMemory++
			return
		}
		m.meta[frame] = meta{place: place{owner: ownerManager, port: port}}
		d := shm.Desc{Frame: frame, Offset: shm.Headroom, Length: uint32(len(packet)), Port: port}
		copy(m.mem.Packet(&d), packet)
		if lookup {
			m.again = append(m.again, d)
		} else {
			m.act(&d, &v)
		}
		m.flush()
	})
}

// enterAgain leads packets through the flow director that are on no chain any more.
func (m *Manager) enterAgain() {
	for list := m.again; len(list) > 0; {
		part := list[:min(len(list), burst)]
		list = list[len(part):]
		keys, found := &m.keys, &m.found
		for k := range part {
			parseKey(&keys[k], m.mem.Packet(&part[k]), part[k].Port)
		}
		m.flows.lookup(keys[:len(part)], found[:])
		for k := range part {
			d := &part[k]
			service := d.Port
			d.Port = m.meta[d.Frame].port
			f := found[k]
			if f == nil {
				m.missed(d, service)
				continue
			}
			f.count(d.Length, m.now)
			if f.chain != 0 {
				m.toChain(d, m.byID[f.chain])
			} else {
				m.special(d, f.flow-1, service)
			}
		}
	}
	m.again = m.again[:0]
}

// toChain puts a packet at the start of a chain.
func (m *Manager) toChain(d *shm.Desc, c *chain) {
	at := place{owner: ownerManager, chain: c.id, port: m.meta[d.Frame].port}
	m.place(one(d), at)
	m.forward(one(d), at)
}

// special does what a flow says that is more than a chain. port is that by which the packet came
// into the flow director.
func (m *Manager) special(d *shm.Desc, f int32, port uint16) {
	m.current, m.entered = &m.flows.flows[f], port
	m.act(d, &m.current.Verdict)
	m.current = nil
}

// missed gives a packet to the controller that no flow is for, or drops it.
func (m *Manager) missed(d *shm.Desc, port uint16) {
	if m.hooks.Miss == nil {
		m.drops.NoFlow++
		m.pool.Free(d.Frame)
		return
	}
	m.tell(d, port, nil, false)
}

// tell hands a packet to the OpenFlow agent as it would be on a wire: it may come back. The
// packet ends here.
func (m *Manager) tell(d *shm.Desc, port uint16, f *Flow, asked bool) {
	list, lost := m.pool.Finish(*d, nil)
	m.drops.NoMemory += uint64(lost)
	for i := range list {
		m.hooks.Miss(port, m.mem.Packet(&list[i]), f, asked)
		m.pool.Free(list[i].Frame)
	}
}

// Hooks are what an OpenFlow agent is told, on the manager's thread: it must not wait, and must
// not keep the packet.
type Hooks struct {
	// Miss gets packets that no flow is for, if there is no default chain, and those that a flow
	// or an NF sends to the controller: f is that flow, asked an NF's or a flow's wish. A flow of
	// priority 0 that matches all stands for no flow (OpenFlow 1.3.5, section 5.4).
	Miss func(port uint16, packet []byte, f *Flow, asked bool)
	// Removed is told of a flow that is gone at a time of the manager's clock, and whether a
	// timeout is why.
	Removed func(f *Flow, now time.Duration, expired bool)
}

// SetHooks says who is told of packets and flows.
func (m *Manager) SetHooks(h Hooks) error { return m.Do(func() { m.hooks = h }) }

// Overlaps reports whether a packet may match both.
func (m *Match) Overlaps(o *Match) bool {
	for i := range m.Mask {
		if (m.Key[i]^o.Key[i])&m.Mask[i]&o.Mask[i] != 0 {
			return false
		}
	}
	return true
}

// Covers reports whether all packets of another match are packets of m too.
func (m *Match) Covers(o *Match) bool {
	for i := range m.Mask {
		if m.Mask[i]&^o.Mask[i] != 0 || (m.Key[i]^o.Key[i])&m.Mask[i] != 0 {
			return false
		}
	}
	return true
}
