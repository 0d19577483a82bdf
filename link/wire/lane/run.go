package lane

import "encoding/binary"

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
		r.divide(head, len(rest))
	}
	if r.marked {
		mark(head)
	}
	return head, rest
}

// divide turns headers of a super-frame into those of a part of it with so much payload.
func (r *Run) divide(head []byte, payload int) {
	b := r.buf
	if r.count == 1 {
		head[virtioType] = 0
		binary.NativeEndian.PutUint16(head[virtioSegment:], 0)
	}
	if r.first > 0 {
		head[virtioType] &^= virtioWithCWR
	}
	binary.NativeEndian.PutUint16(head[virtioHead:], uint16(b.head-VirtioLen))
	ip, transport := head[b.ip:], head[b.transport:]
	ipHeaders := b.transport - b.ip
	length := b.head - b.transport + payload
	if b.six {
		binary.BigEndian.PutUint16(ip[ip6Length:], uint16(ipHeaders-ip6Len+length))
	} else {
		binary.BigEndian.PutUint16(ip[ip4Length:], uint16(ipHeaders+length))
		binary.BigEndian.PutUint16(ip[ip4ID:], binary.BigEndian.Uint16(ip[ip4ID:])+uint16(r.first))
		binary.BigEndian.PutUint16(ip[ip4Sum:], 0)
		binary.BigEndian.PutUint16(ip[ip4Sum:], ^fold(sum(ip[:ipHeaders])))
	}
	// The transport's checksum field has the sum of the pseudo-header, in which only the
	// length changes.
	whole := b.head - b.transport + len(b.data) - b.head
	at := b.transport + int(binary.NativeEndian.Uint16(head[virtioSumOffset:]))
	if at+2 <= len(head) {
		s := uint64(binary.BigEndian.Uint16(head[at:])) + uint64(^uint16(whole)) + uint64(length)
		binary.BigEndian.PutUint16(head[at:], fold(s))
	}
	if b.udp {
		binary.BigEndian.PutUint16(transport[udpLength:], uint16(length))
		return
	}
	seq := transport[tcpSequence:]
	binary.BigEndian.PutUint32(seq, binary.BigEndian.Uint32(seq)+uint32(r.first*b.payload))
	if r.first > 0 {
		transport[tcpFlags] &^= tcpCWR
	}
	if r.first+r.count < b.count {
		transport[tcpFlags] &^= tcpFIN | tcpPSH
	}
}

// mark sets Congestion Experienced (RFC 3168) in the IP header of a frame, if it has one.
func mark(head []byte) {
	ip, etherType := network(head)
	switch {
	case etherType == 0x0800 && len(head) >= ip+20:
		word := binary.BigEndian.Uint16(head[ip:])
		binary.BigEndian.PutUint16(head[ip:], word|3)
		s := uint64(^binary.BigEndian.Uint16(head[ip+ip4Sum:])) + uint64(^word) + uint64(word|3)
		binary.BigEndian.PutUint16(head[ip+ip4Sum:], ^fold(s))
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
	ip = VirtioLen + ethernetLen
	if len(data) < ip {
		return ip, 0
	}
	etherType = binary.BigEndian.Uint16(data[ip-2:])
	for (etherType == 0x8100 || etherType == 0x88a8) && len(data) >= ip+vlanLen {
		ip += vlanLen
		etherType = binary.BigEndian.Uint16(data[ip-2:])
	}
	return ip, etherType
}

// sum adds the 16-bit words of b (RFC 1071).
func sum(b []byte) uint64 {
	var s uint64
	for len(b) >= 4 {
		s += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	switch len(b) {
	case 3:
		s += uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8
	case 2:
		s += uint64(b[0])<<24 | uint64(b[1])<<16
	case 1:
		s += uint64(b[0]) << 24
	}
	return s
}

// fold makes a sum one word.
func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// complete computes the checksum that was left to the device.
func (b *Buffer) complete() {
	d := b.data
	if d[virtioFlags]&virtioNeedsSum == 0 {
		return
	}
	d[virtioFlags] &^= virtioNeedsSum
	start := VirtioLen + int(binary.NativeEndian.Uint16(d[virtioSumStart:]))
	at := start + int(binary.NativeEndian.Uint16(d[virtioSumOffset:]))
	if start > len(d) || at+2 > len(d) {
		return
	}
	c := ^fold(sum(d[start:]))
	if c == 0 {
		c = 0xffff // the same in this arithmetic, and of UDP 0 means none (RFC 768)
	}
	binary.BigEndian.PutUint16(d[at:], c)
}
