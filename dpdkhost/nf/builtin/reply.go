package builtin

import (
	"encoding/binary"
	"net/netip"
	"time"

	"weft/dpdkhost/nf"
)

// replies makes packets into messages about them, to their senders, out of the port that they
// came in by, and not too many (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4).
type replies struct {
	left   int
	filled time.Time
	// Suppressed counts what was not said.
	Suppressed uint64
}

// repliesPerSecond bounds them.
const repliesPerSecond = 1000

func (r *replies) tick(now time.Time) {
	if now.Sub(r.filled) >= time.Second {
		r.left, r.filled = repliesPerSecond, now
	}
}

// What messages say: type and code of ICMP and of ICMPv6 (RFC 792, 1812, 4443).
type message struct{ type4, code4, type6, code6 byte }

func timeExceeded() message { return message{11, 0, 3, 0} }
func noRoute() message      { return message{3, 0, 1, 0} }
func prohibited() message   { return message{3, 13, 1, 1} }
func tooBig() message       { return message{3, 4, 2, 0} }

// icmp makes the packet an ICMP error about itself, from an address, or from its own destination if
// that is not valid; word is the second word of the message, such as an MTU. It reports whether
// one may be sent.
func (r *replies) icmp(p *nf.Packet, h *nf.Headers, from netip.Addr, m message, word uint32) bool {
	b := p.Data()
	if !answerable(h, b) {
		return false
	}
	if r.left == 0 {
		r.Suppressed++
		return false
	}
	src, dst := h.Addresses(b)
	if !from.IsValid() {
		from = dst
	}
	network, quoted := h.Network, h.End-h.Network
	head, most := 20, 576-20-8
	if h.Version == 6 {
		head, most = 40, 1280-40-8
	}
	quoted = min(quoted, most)
	// The packet itself becomes what is quoted: new headers go before it, and Ethernet's moves.
	var ethernet [64]byte
	if network > len(ethernet) {
		return false
	}
	copy(ethernet[:], b[:network])
	p.Whole()
	if !p.Resize(head+8, network+quoted-p.Len()) {
		return false
	}
	r.left--
	b = p.Data()
	copy(b, ethernet[:network])
	turnEthernet(b)
	ip := b[network:]
	clear(ip[:head+8])
	icmp := ip[head:]
	binary.BigEndian.PutUint32(icmp[4:], word)
	if h.Version == 4 {
		ip[0], ip[8], ip[9] = 0x45, 64, nf.ProtocolICMP
		ip[1] = 0xc0 // internetwork control (RFC 1812, section 4.3.2.5)
		binary.BigEndian.PutUint16(ip[2:], uint16(head+8+quoted))
		icmp[0], icmp[1] = m.type4, m.code4
	} else {
		ip[0], ip[6], ip[7] = 0x60, nf.ProtocolICMPv6, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(8+quoted))
		icmp[0], icmp[1] = m.type6, m.code6
	}
	putAddresses(ip, from, src)
	made := p.Headers()
	made.FillChecksums(b)
	p.Out(p.Port())
	return true
}

// putAddresses writes source and destination into an IP header.
func putAddresses(ip []byte, src, dst netip.Addr) {
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		copy(ip[12:], s[:])
		copy(ip[16:], d[:])
		return
	}
	s, d := src.As16(), dst.As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
}

func turnEthernet(b []byte) {
	src := [6]byte(b[6:12])
	copy(b[6:12], b[:6])
	copy(b, src[:])
}

// answerable reports whether a packet's sender may be told about it: not about ICMP errors,
// later fragments, broadcasts, multicasts or nobody.
func answerable(h *nf.Headers, b []byte) bool {
	if h.Version == 0 || b[0]&1 != 0 || h.Transport == 0 {
		return false
	}
	src, dst := h.Addresses(b)
	if src.IsUnspecified() || src.IsMulticast() || dst.IsMulticast() || src.IsLoopback() {
		return false
	}
	switch kind := b[h.Transport:h.End]; {
	case h.Protocol == nf.ProtocolICMP && h.Version == 4:
		return len(kind) > 0 && (kind[0] == 8 || kind[0] == 0 || kind[0] >= 13 && kind[0] <= 18)
	case h.Protocol == nf.ProtocolICMPv6 && h.Version == 6:
		return len(kind) > 0 && kind[0] >= 128
	}
	return true
}

// refuse answers a packet that may not pass: TCP with a reset (RFC 9293, section 3.10.7.1), the rest
// with ICMP.
func (r *replies) refuse(p *nf.Packet, h *nf.Headers) bool {
	if h.Protocol != nf.ProtocolTCP || h.Payload == 0 {
		return r.icmp(p, h, netip.Addr{}, prohibited(), 0)
	}
	b := p.Data()
	t := b[h.Transport:]
	flags := t[13]
	if flags&tcpRST != 0 || !answerable(h, b) {
		return false
	}
	if r.left == 0 {
		r.Suppressed++
		return false
	}
	seq, ack := binary.BigEndian.Uint32(t[4:]), binary.BigEndian.Uint32(t[8:])
	length := uint32(h.End - h.Payload)
	if flags&tcpSYN != 0 {
		length++
	}
	if flags&tcpFIN != 0 {
		length++
	}
	src, dst := h.Addresses(b)
	end := h.Transport + 20
	p.Whole()
	if !p.Resize(0, end-p.Len()) {
		return false
	}
	r.left--
	b = p.Data()
	turnEthernet(b)
	ip, t := b[h.Network:], b[h.Transport:]
	putAddresses(ip, dst, src)
	if h.Version == 4 {
		ip[8] = 64
		binary.BigEndian.PutUint16(ip[2:], uint16(end-h.Network))
		binary.BigEndian.PutUint16(ip[6:], 0)
	} else {
		ip[7] = 64
		binary.BigEndian.PutUint16(ip[4:], uint16(end-h.Network-40))
	}
	var ports [4]byte
	copy(ports[:], t[2:4])
	copy(ports[2:], t[:2])
	clear(t[:20])
	copy(t, ports[:])
	t[12] = 5 << 4
	if flags&tcpACK != 0 {
		t[13] = tcpRST
		binary.BigEndian.PutUint32(t[4:], ack)
	} else {
		t[13] = tcpRST | tcpACK
		binary.BigEndian.PutUint32(t[8:], seq+length)
	}
	made := p.Headers()
	made.FillChecksums(b)
	p.Out(p.Port())
	return true
}
