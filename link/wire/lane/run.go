package lane

import (
	"encoding/binary"

	"weft/internal/vnet"
)

// Offsets in IP headers, and the length of IPv6's.
const (
	ip4Sum = 10
	ip6Len = 40
)

// A Run is frames of one buffer, in a row, that leave together.
type Run struct {
	buf          *Buffer
	first, count int
	marked       bool
	bytes        int
	entries      int
	due          int64 // of the first
}

// Frames returns the number of frames.
func (r *Run) Frames() int { return r.count }

// Whole reports whether frames leave as they came, in one piece.
func (r *Run) Whole() bool { return r.count == r.buf.count && !r.marked }

// Parts returns what to give to the device: headers, which are made in scratch if they are
// not as they came, and the rest of the frame or super-frame, which may be empty.
func (r *Run) Parts(scratch []byte) (head, rest []byte) {
	b := r.buf
	if r.Whole() {
		return b.data, nil
	}
	from := b.head + r.first*b.payload
	to := min(b.head+(r.first+r.count)*b.payload, len(b.data))
	if b.count == 1 {
		from, to = b.head, len(b.data)
	}
	head, rest = append(scratch[:0], b.data[:b.head]...), b.data[from:to]
	if r.count != b.count {
		b.super.Divide(head[:VirtioLen], head[VirtioLen:], r.first, r.count)
	}
	if r.marked {
		mark(head)
	}
	return head, rest
}

// mark sets Congestion Experienced (RFC 3168) in the IP header of a frame, if it has one.
func mark(head []byte) {
	ip, etherType := network(head)
	switch {
	case etherType == 0x0800 && len(head) >= ip+20:
		word := binary.BigEndian.Uint16(head[ip:])
		binary.BigEndian.PutUint16(head[ip:], word|3)
		s := uint64(^binary.BigEndian.Uint16(head[ip+ip4Sum:])) + uint64(^word) + uint64(word|3)
		binary.BigEndian.PutUint16(head[ip+ip4Sum:], ^vnet.Fold(s))
	case etherType == 0x86dd && len(head) >= ip+ip6Len:
		head[ip+1] |= 3 << 4
	}
}

// capable reports whether a frame says that it can be marked (RFC 3168: ECT(0), ECT(1)), or
// is marked already.
func capable(data []byte) bool {
	ip, etherType := network(data)
	switch {
	case etherType == 0x0800 && len(data) >= ip+20:
		return data[ip+1]&3 != 0
	case etherType == 0x86dd && len(data) >= ip+ip6Len:
		return data[ip+1]>>4&3 != 0
	}
	return false
}

// network returns where the network header is in a frame behind its virtio header, and the
// Ethernet type that says what it is.
func network(data []byte) (ip int, etherType uint16) {
	ip, etherType = vnet.Network(data[min(VirtioLen, len(data)):])
	return VirtioLen + ip, etherType
}

// complete computes the checksum that was left to the device.
func (b *Buffer) complete() { vnet.Complete(b.data[:VirtioLen], b.data[VirtioLen:]) }
