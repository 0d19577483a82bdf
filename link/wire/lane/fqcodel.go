package lane

import (
	"encoding/binary"

	"weft/link/record"
)

// fqCodel is a fair queue with CoDel for each flow (RFC 8290).
type fqCodel struct {
	lane    *Lane
	flows   []flow
	fresh   flowList // flows that have just begun
	old     flowList
	packets int
	bytes   int64
}

const (
	fqFlows = 1024
	// fqBatch is how many frames of the largest flow are dropped at once when the queue is
	// full, so that to look for it does not cost much (RFC 8290, section 4.1).
	fqBatch = 64
)

// A flow is a queue of those frames whose headers have the same hash.
type flow struct {
	fifo
	codel  codelState
	credit int
	listed bool
	next   *flow
}

// A flowList is a queue of flows.
type flowList struct{ first, last *flow }

func (l *flowList) push(f *flow) {
	f.next = nil
	if l.first == nil {
		l.first = f
	} else {
		l.last.next = f
	}
	l.last = f
}

func (l *flowList) pop() { l.first = l.first.next }

func newFQCoDel(l *Lane) *fqCodel { return &fqCodel{lane: l, flows: make([]flow, fqFlows)} }

// quantum is what a flow may send in its turn, bytes: a frame of the MTU.
func (q *fqCodel) quantum() int { return q.lane.cfg.MTU + ethernetLen }

func (q *fqCodel) size() (int, int64) { return q.packets, q.bytes }

func (q *fqCodel) push(_ int64, e entry) {
	over := q.lane.full(e.bytes)
	q.add(e)
	if over {
		q.shorten()
	}
}

func (q *fqCodel) add(e entry) {
	f := &q.flows[flowHash(e.buf.data, q.lane.streams[effectFlow])%fqFlows]
	f.add(e)
	q.packets++
	q.bytes += int64(e.bytes)
	if !f.listed {
		f.listed = true
		f.credit = q.quantum()
		q.fresh.push(f)
	}
}

// shorten drops frames from the head of the largest flow: up to half of it.
func (q *fqCodel) shorten() {
	largest := &q.flows[0]
	for i := range q.flows {
		if q.flows[i].bytes > largest.bytes {
			largest = &q.flows[i]
		}
	}
	enough := largest.bytes / 2
	for range fqBatch {
		e, ok := largest.take()
		if !ok {
			return
		}
		q.count(&e)
		q.lane.lose(&e, record.Overflow)
		if largest.bytes <= enough {
			return
		}
	}
}

// count takes a frame that has left a flow out of the sums.
func (q *fqCodel) count(e *entry) {
	q.packets--
	q.bytes -= int64(e.bytes)
}

// pop is RFC 8290, section 4.2.
func (q *fqCodel) pop(now int64) (entry, bool) {
	for {
		list := &q.fresh
		if list.first == nil {
			list = &q.old
		}
		f := list.first
		if f == nil {
			return entry{}, false
		}
		if f.credit <= 0 {
			f.credit += q.quantum()
			list.pop()
			q.old.push(f)
			continue
		}
		packets, bytes := f.size()
		e, ok := f.codel.pop(q.lane, &f.fifo, now)
		left, leftBytes := f.size()
		q.packets -= packets - left // with what CoDel has dropped
		q.bytes -= bytes - leftBytes
		if ok {
			f.credit -= e.bytes
			return e, true
		}
		// A new flow that runs empty goes once round with the old ones, so that it cannot stay
		// new for ever.
		fresh := list == &q.fresh
		list.pop()
		if fresh && q.old.first != nil {
			q.old.push(f)
		} else {
			f.listed = false
		}
	}
}

func (q *fqCodel) take() (entry, bool) {
	for i := range q.flows {
		if e, ok := q.flows[i].take(); ok {
			q.count(&e)
			return e, true
		}
	}
	return entry{}, false
}

// flowHash returns a hash of what frames of a flow share: addresses, protocol and ports, or
// else the Ethernet header.
func flowHash(data []byte, salt stream) uint64 {
	ip, etherType := network(data)
	h := uint64(salt)
	add := func(b []byte) {
		for ; len(b) >= 4; b = b[4:] {
			h = mix(h ^ uint64(binary.BigEndian.Uint32(b)))
		}
	}
	var protocol byte
	transport := ip
	fragment := false
	switch {
	case etherType == 0x0800 && len(data) >= ip+20:
		add(data[ip+12 : ip+20])
		protocol = data[ip+9]
		transport += int(data[ip]&15) * 4
		fragment = binary.BigEndian.Uint16(data[ip+6:])&0x3fff != 0
	case etherType == 0x86dd && len(data) >= ip+ip6Len:
		add(data[ip+8 : ip+ip6Len])
		protocol = data[ip+6]
		transport += ip6Len
	default:
		add(data[VirtioLen : VirtioLen+12])
		return mix(h ^ uint64(etherType))
	}
	h = mix(h ^ uint64(protocol))
	switch protocol {
	case 6, 17, 132: // TCP, UDP, SCTP
		if !fragment && len(data) >= transport+4 {
			add(data[transport : transport+4])
		}
	}
	return h
}
