// Package vnet reads and changes frames that come with a struct virtio_net_hdr
// (linux/virtio_net.h): what a kernel left for the device to do, which are checksums and the
// cutting of super-frames (TSO, USO). It imports nothing of weft's.
package vnet

import (
	"encoding/binary"
	"math/bits"
)

// Len is the length of struct virtio_net_hdr, bytes. Its numbers are in the machine's byte order.
const Len = 10

// Fields of struct virtio_net_hdr, and what they may have.
const (
	flags     = 0
	kind      = 1
	headLen   = 2
	segment   = 4
	sumStart  = 6
	sumOffset = 8

	needsSum = 1 // a flag
	tcp4     = 1 // kinds
	tcp6     = 4
	udpL4    = 5
	withCWR  = 0x80 // with a kind: the first frame has the flag CWR
)

const (
	ethernetLen      = 14
	vlanLen          = 4
	tcpSequence      = 4
	tcpFlags         = 13
	tcpFIN, tcpPSH   = 1, 8
	tcpCWR           = 0x80
	udpLen           = 8
	udpLength        = 4
	ip4Length, ip4ID = 2, 4
	ip4Sum           = 10
	ip6Length        = 4
	ip6Len           = 40
)

// Expressible reports whether a feature of a sending device (ethtool -k) leaves to it only what
// the header can say: no VLAN tags beside the frame, no tunnels' segments. Features that are not
// about sending are.
func Expressible(feature string) bool {
	switch feature {
	case "tx-scatter-gather", "tx-scatter-gather-fraglist", "tx-checksum-ip-generic",
		"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation", "tx-udp-segmentation",
		"tx-generic-segmentation":
		return true
	}
	return len(feature) < 3 || feature[:3] != "tx-"
}

// Unfinished reports whether a header leaves anything to do.
func Unfinished(header []byte) bool { return header[flags]&needsSum != 0 || header[kind] != 0 }

// Network returns where the network header is in a frame, behind VLAN tags, and the Ethernet
// type that says what it is; 0 if the frame is too short for one.
func Network(frame []byte) (ip int, etherType uint16) {
	ip = ethernetLen
	if len(frame) < ip {
		return ip, 0
	}
	etherType = binary.BigEndian.Uint16(frame[ip-2:])
	for (etherType == 0x8100 || etherType == 0x88a8) && len(frame) >= ip+vlanLen {
		ip += vlanLen
		etherType = binary.BigEndian.Uint16(frame[ip-2:])
	}
	return ip, etherType
}

// A Super says which frames a super-frame stands for.
type Super struct {
	Count   int // frames; 0 if it is no super-frame, or one that is not understood
	Head    int // bytes at the beginning that each frame repeats, up to the payload
	Payload int // bytes of each frame but the last

	six, udp      bool
	ip, transport int // offsets of headers
	whole         int // bytes of all
}

// Understand looks at a frame and its header.
func Understand(header, frame []byte) (s Super) {
	what := header[kind] &^ withCWR
	payload := int(binary.NativeEndian.Uint16(header[segment:]))
	if what == 0 || payload == 0 || header[flags]&needsSum == 0 {
		return s
	}
	ip, etherType := Network(frame)
	transport := int(binary.NativeEndian.Uint16(header[sumStart:]))
	shortest := 20
	six := etherType == 0x86dd
	if six {
		shortest = ip6Len
	} else if etherType != 0x0800 {
		return s
	}
	if transport < ip+shortest || len(frame) < transport+20 {
		return s
	}
	var head int
	switch {
	case what == udpL4:
		head = transport + udpLen
	case what == tcp4 && !six, what == tcp6 && six:
		n := int(frame[transport+12]>>4) * 4
		if n < 20 {
			return s
		}
		head = transport + n
	default:
		return s
	}
	if len(frame) <= head {
		return s
	}
	return Super{
		Count: (len(frame) - head + payload - 1) / payload, Head: head, Payload: payload,
		six: six, udp: what == udpL4, ip: ip, transport: transport, whole: len(frame),
	}
}

// Bounds returns where the payload of frames in a row begins and ends.
func (s *Super) Bounds(first, count int) (from, to int) {
	return s.Head + first*s.Payload, min(s.Head+(first+count)*s.Payload, s.whole)
}

// Divide turns copies of a super-frame's header and of its first Head bytes into those of a part
// of it: count frames from the one numbered first.
func (s *Super) Divide(header, head []byte, first, count int) {
	from, to := s.Bounds(first, count)
	if count == 1 {
		header[kind] = 0
		binary.NativeEndian.PutUint16(header[segment:], 0)
	}
	if first > 0 {
		header[kind] &^= withCWR
	}
	binary.NativeEndian.PutUint16(header[headLen:], uint16(s.Head))
	ip, transport := head[s.ip:], head[s.transport:]
	ipHeaders := s.transport - s.ip
	length := s.Head - s.transport + to - from
	if s.six {
		binary.BigEndian.PutUint16(ip[ip6Length:], uint16(ipHeaders-ip6Len+length))
	} else {
		binary.BigEndian.PutUint16(ip[ip4Length:], uint16(ipHeaders+length))
		binary.BigEndian.PutUint16(ip[ip4ID:], binary.BigEndian.Uint16(ip[ip4ID:])+uint16(first))
		binary.BigEndian.PutUint16(ip[ip4Sum:], 0)
		binary.BigEndian.PutUint16(ip[ip4Sum:], ^Fold(Sum(0, ip[:ipHeaders])))
	}
	// The transport's checksum field has the sum of the pseudo-header, in which only the
	// length changes.
	whole := s.whole - s.transport
	at := s.transport + int(binary.NativeEndian.Uint16(header[sumOffset:]))
	if at+2 <= len(head) {
		sum := uint64(binary.BigEndian.Uint16(head[at:])) + uint64(^uint16(whole)) + uint64(length)
		binary.BigEndian.PutUint16(head[at:], Fold(sum))
	}
	if s.udp {
		binary.BigEndian.PutUint16(transport[udpLength:], uint16(length))
		return
	}
	seq := transport[tcpSequence:]
	binary.BigEndian.PutUint32(seq, binary.BigEndian.Uint32(seq)+uint32(first*s.Payload))
	if first > 0 {
		transport[tcpFlags] &^= tcpCWR
	}
	if first+count < s.Count {
		transport[tcpFlags] &^= tcpFIN | tcpPSH
	}
}

// Complete computes the checksum of a frame that was left to the device. A super-frame has one
// checksum for each of its frames: divide it first.
func Complete(header, frame []byte) {
	if header[flags]&needsSum == 0 {
		return
	}
	header[flags] &^= needsSum
	start := int(binary.NativeEndian.Uint16(header[sumStart:]))
	at := start + int(binary.NativeEndian.Uint16(header[sumOffset:]))
	if start > len(frame) || at+2 > len(frame) {
		return
	}
	c := ^Fold(Sum(0, frame[start:]))
	if c == 0 {
		c = 0xffff // the same in this arithmetic, and of UDP 0 means none (RFC 768)
	}
	binary.BigEndian.PutUint16(frame[at:], c)
}

// Moved says that n bytes were put into a frame before its network header.
func Moved(header []byte, n int) {
	if header[flags]&needsSum != 0 {
		binary.NativeEndian.PutUint16(header[sumStart:], binary.NativeEndian.Uint16(header[sumStart:])+uint16(n))
	}
	if l := binary.NativeEndian.Uint16(header[headLen:]); l != 0 {
		binary.NativeEndian.PutUint16(header[headLen:], l+uint16(n))
	}
}

// Sum adds the 16-bit words of b to a sum (RFC 1071). Only the last b of a sum may have an odd
// length.
func Sum(s uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 32 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), carry)
		s, carry = bits.Add64(s, 0, carry)
		s += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(last[:]), 0)
		s += carry
	}
	return s
}

// Fold makes a sum one word.
func Fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
