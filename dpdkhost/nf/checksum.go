package nf

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Sum adds the 16-bit words of b to a sum for a checksum (RFC 1071). Only the last b of a sum
// may have an odd length.
func Sum(acc uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(last[:]), 0)
		acc += carry
	}
	return acc
}

// Folded returns a sum in 16 bits.
func Folded(acc uint64) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc)
}

// Checksum returns the checksum of a sum.
func Checksum(acc uint64) uint16 { return ^Folded(acc) }

// pseudoSum returns the sum of the pseudo-header of a transport protocol (RFC 9293, section
// 3.1; RFC 8200, section 8.1).
func (h *Headers) pseudoSum(b []byte) uint64 {
	src, _, size := h.addresses()
	return Sum(uint64(h.Protocol)+uint64(h.End-h.Transport), b[src:src+2*size])
}

// checksumAt returns where the transport checksum stands, and whether the addresses are part
// of it; 0 if there is none that weft knows.
func (h *Headers) checksumAt(b []byte) (at int, pseudo bool) {
	if h.Transport == 0 || h.Payload == 0 {
		return 0, false
	}
	switch h.Protocol {
	case ProtocolTCP:
		return h.Transport + 16, true
	case ProtocolUDP:
		if at = h.Transport + 6; h.Version == 4 && b[at] == 0 && b[at+1] == 0 {
			return 0, false // its sender left it out (RFC 768)
		}
		return at, true
	case ProtocolICMP:
		return h.Transport + 2, false
	case ProtocolICMPv6:
		return h.Transport + 2, true
	}
	return 0, false
}

// FillChecksums computes the checksums of IPv4, TCP, UDP and ICMP anew, for packets that an NF
// makes. The checksum of a packet on the way is better changed than made new: else it says
// nothing any more about what happened to the packet before.
func (h *Headers) FillChecksums(b []byte) {
	if h.Version == 4 {
		ip := b[h.Network:]
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], Checksum(Sum(0, ip[:int(ip[0]&15)*4])))
	}
	if h.Fragment || h.Payload == 0 {
		return
	}
	if h.Protocol == ProtocolUDP {
		b[h.Transport+6] = 0xff // it is not left out
	}
	at, pseudo := h.checksumAt(b)
	if at == 0 {
		return
	}
	binary.BigEndian.PutUint16(b[at:], 0)
	acc := uint64(0)
	if pseudo {
		acc = h.pseudoSum(b)
	}
	h.put(b, at, Checksum(Sum(acc, b[h.Transport:h.End])))
}

// put stores a checksum: in UDP zero means none.
func (h *Headers) put(b []byte, at int, sum uint16) {
	if sum == 0 && h.Protocol == ProtocolUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], sum)
}

// Unfinished reports whether the transport checksum is left to whoever puts the packet on a
// wire: it holds the sum of the pseudo-header only.
func (p *Packet) Unfinished() bool {
	v := p.vnet()
	return v != nil && v[vnetFlags]&vnetNeedsChecksum != 0
}

// Segment returns the payload of each segment if the packet is a super-frame that whoever puts
// it on a wire cuts into segments (TSO, GSO), and 0 for an ordinary one.
func (p *Packet) Segment() int {
	if v := p.vnet(); v != nil && v[vnetGSO] != 0 {
		return int(binary.NativeEndian.Uint16(v[vnetSegment:]))
	}
	return 0
}

// CompleteChecksum finishes the checksum of an Unfinished packet. It reports whether the packet is
// now as on a wire: a super-frame stays as it is.
func (p *Packet) CompleteChecksum() bool {
	if p.Segment() != 0 {
		return false
	}
	if !p.Unfinished() {
		return true
	}
	v, b := p.vnet(), p.Data()
	start := int(binary.NativeEndian.Uint16(v[vnetStart:]))
	at := start + int(binary.NativeEndian.Uint16(v[vnetOffset:]))
	if at+2 > len(b) {
		return false
	}
	// Padding of short frames counts too: it is zero, and the kernel does the same.
	sum := Checksum(Sum(0, b[start:]))
	if sum == 0 {
		sum = 0xffff // the same number; in UDP zero means none
	}
	binary.BigEndian.PutUint16(b[at:], sum)
	v[vnetFlags] &^= vnetNeedsChecksum
	return true
}

// Whole declares the packet, which the NF has made anew, to be as on a wire: with all checksums,
// no super-frame.
func (p *Packet) Whole() {
	if v := p.vnet(); v != nil {
		clear(v)
	}
}

// SetSource changes the source address and the checksums that it is in, also an unfinished one
// (RFC 1624). The address is of the packet's IP version.
func (p *Packet) SetSource(h *Headers, a netip.Addr) {
	src, _, _ := h.addresses()
	p.setAddress(h, src, a)
}

// SetDestination changes the destination address as SetSource does the source.
func (p *Packet) SetDestination(h *Headers, a netip.Addr) {
	_, dst, _ := h.addresses()
	p.setAddress(h, dst, a)
}

func (p *Packet) setAddress(h *Headers, at int, a netip.Addr) {
	if h.Version == 4 && a.Is4() {
		b := a.As4()
		p.change(h, at, b[:], true)
	} else if h.Version == 6 && a.Is6() {
		b := a.As16()
		p.change(h, at, b[:], true)
	}
}

// SetSourcePort changes the source port of a TCP or UDP packet, and the checksum.
func (p *Packet) SetSourcePort(h *Headers, port uint16) { p.SetTransport(h, 0, port) }

// SetDestinationPort changes the destination port of a TCP or UDP packet, and the checksum.
func (p *Packet) SetDestinationPort(h *Headers, port uint16) { p.SetTransport(h, 2, port) }

// SetTransport changes the 16-bit word at an even offset in the transport header, and the
// checksum of TCP, UDP or ICMP.
func (p *Packet) SetTransport(h *Headers, offset int, value uint16) {
	if h.Payload == 0 || offset < 0 || h.Transport+offset+2 > h.End {
		return
	}
	p.change(h, h.Transport+offset, []byte{byte(value >> 8), byte(value)}, false)
}

// SetNetwork changes the 16-bit word at an even offset of the IP header that is no address, and
// the header's checksum.
func (p *Packet) SetNetwork(h *Headers, offset int, value uint16) {
	if h.Version == 0 || offset < 0 || offset >= ip4Len-8 {
		return
	}
	p.change(h, h.Network+offset, []byte{byte(value >> 8), byte(value)}, false)
}

// TTL returns the time to live or the hop limit, 0 if the packet is not IP.
func (h *Headers) TTL(b []byte) int {
	switch h.Version {
	case 4:
		return int(b[h.Network+8])
	case 6:
		return int(b[h.Network+7])
	}
	return 0
}

// DecrementTTL takes one off the time to live or the hop limit, unless it is 0.
func (p *Packet) DecrementTTL(h *Headers) {
	b := p.Data()
	if h.TTL(b) == 0 {
		return
	}
	if h.Version == 6 {
		b[h.Network+7]--
		return
	}
	p.SetNetwork(h, 8, binary.BigEndian.Uint16(b[h.Network+8:])-0x100)
}

// change puts new bytes, an even number, at an even distance from the IP header, and keeps the
// checksums right: HC' = ~(~HC + ~m + m') (RFC 1624, equation 3). In an unfinished checksum, which is
// a sum and not its complement, only the pseudo-header counts.
func (p *Packet) change(h *Headers, at int, with []byte, pseudo bool) {
	b := p.Data()
	old := b[at : at+len(with)]
	delta := uint64(0)
	for i := 0; i < len(with); i += 2 {
		delta += uint64(^binary.BigEndian.Uint16(old[i:])) + uint64(binary.BigEndian.Uint16(with[i:]))
	}
	copy(old, with)
	inTransport := h.Transport != 0 && at >= h.Transport
	if h.Version == 4 && !inTransport {
		ip := b[h.Network+10:]
		binary.BigEndian.PutUint16(ip, Checksum(uint64(^binary.BigEndian.Uint16(ip))+delta))
	}
	sumAt, withAddresses := h.checksumAt(b)
	switch {
	case sumAt == 0 || !inTransport && !(pseudo && withAddresses):
	case p.Unfinished() && int(binary.NativeEndian.Uint16(p.vnet()[vnetStart:])) == h.Transport:
		if pseudo {
			binary.BigEndian.PutUint16(b[sumAt:], Folded(uint64(binary.BigEndian.Uint16(b[sumAt:]))+delta))
		}
	default:
		h.put(b, sumAt, Checksum(uint64(^binary.BigEndian.Uint16(b[sumAt:]))+delta))
	}
}
