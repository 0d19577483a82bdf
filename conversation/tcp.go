package conversation

import (
	"slices"
	"time"
)

// How much of a connection is kept while something before it is missing.
const (
	maxPending      = 256 << 10 // bytes
	maxPendingParts = 1024
	maxPendingTime  = 3 * time.Second // of the capture's clock
)

// A half is one direction of a TCP connection: its segments in the order of their sequence
// numbers, without what was sent twice.
//
//	segments ─► next in line? ─ yes ─► deliver
//	                └─ no ─► pending ─ too much or too long ─► deliver, after a gap
type half struct {
	opened  bool
	next    uint32 // the sequence number that is expected
	pending []tcpSegment
	size    int // of pending, bytes
	last    time.Time

	started bool   // something was delivered
	rest    []byte // delivered, and no whole message yet
	framed  bool   // rest is known to start with a message
}

type tcpSegment struct {
	seq  uint32
	at   time.Time
	data []byte
}

// segment takes a segment; syn says that it opens the connection. What deliver is given
// is only valid during the call; gap says that bytes before it are missing, which is
// also so for a connection that was not seen from its start.
func (h *half) segment(seq uint32, syn bool, at time.Time, data []byte, deliver func(data []byte, gap bool) error) error {
	h.last = at
	if syn {
		seq++
		if !h.opened {
			h.opened, h.next = true, seq
		}
	}
	if len(data) == 0 {
		return nil
	}
	if !h.opened {
		h.opened, h.next = true, seq
		return h.take(data, true, deliver)
	}
	ahead := int32(seq - h.next)
	if ahead <= 0 {
		if int(-int64(ahead)) >= len(data) {
			return nil // sent again
		}
		if err := h.take(data[-int64(ahead):], false, deliver); err != nil {
			return err
		}
		return h.inLine(deliver)
	}
	h.pending = append(h.pending, tcpSegment{seq, at, slices.Clone(data)})
	h.size += len(data)
	if h.size > maxPending || len(h.pending) > maxPendingParts || at.Sub(h.pending[0].at) > maxPendingTime {
		return h.flush(deliver)
	}
	return nil
}

func (h *half) take(data []byte, gap bool, deliver func([]byte, bool) error) error {
	h.next += uint32(len(data))
	return deliver(data, gap)
}

// inLine delivers what is pending and next in line.
func (h *half) inLine(deliver func([]byte, bool) error) error {
	for len(h.pending) > 0 {
		i := h.nearest()
		s := h.pending[i]
		ahead := int32(s.seq - h.next)
		if ahead > 0 {
			return nil
		}
		h.drop(i)
		if back := int(-int64(ahead)); back < len(s.data) {
			if err := h.take(s.data[back:], false, deliver); err != nil {
				return err
			}
		}
	}
	return nil
}

// nearest returns which pending segment comes first.
func (h *half) nearest() int {
	best := 0
	for i, s := range h.pending {
		if int32(s.seq-h.next) < int32(h.pending[best].seq-h.next) {
			best = i
		}
	}
	return best
}

func (h *half) drop(i int) {
	h.size -= len(h.pending[i].data)
	h.pending = slices.Delete(h.pending, i, i+1)
}

// flush delivers all that is pending, gaps or not.
func (h *half) flush(deliver func([]byte, bool) error) error {
	for len(h.pending) > 0 {
		i := h.nearest()
		s := h.pending[i]
		h.drop(i)
		h.next = s.seq
		if err := h.take(s.data, true, deliver); err != nil {
			return err
		}
		if err := h.inLine(deliver); err != nil {
			return err
		}
	}
	return nil
}
