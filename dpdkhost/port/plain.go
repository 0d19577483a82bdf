package port

import (
	"weft/dpdkhost/manager"
	"weft/dpdkhost/shm"
)

// A plain port has what another receives, as on a wire.
type plain struct {
	manager.Port
	pool    *manager.Pool
	waiting []shm.Desc // frames of the last super-frame
	lost    uint64
}

// Receive fills descriptors.
func (p *plain) Receive(into []shm.Desc, pool *manager.Pool) int {
	p.pool = pool
	if len(p.waiting) == 0 {
		n := p.Port.Receive(into, pool)
		last := n - 1
		for last >= 0 && into[last].Flags&shm.HasVnet == 0 {
			last--
		}
		if last < 0 {
			return n
		}
		p.waiting = p.waiting[:0:cap(p.waiting)]
		for _, d := range into[:n] {
			var lost int
			p.waiting, lost = pool.Finish(d, p.waiting)
			p.lost += uint64(lost)
		}
	}
	n := copy(into, p.waiting)
	p.waiting = p.waiting[:copy(p.waiting, p.waiting[n:])]
	return n
}

// Lost counts packets that were lost.
func (p *plain) Lost() (received, sent uint64) {
	if l, ok := p.Port.(manager.Lossy); ok {
		received, sent = l.Lost()
	}
	return received + p.lost, sent
}

// Close closes the port.
func (p *plain) Close() error {
	for _, d := range p.waiting {
		p.pool.Free(d.Frame)
	}
	p.waiting = nil
	return p.Port.Close()
}
