package nf

import (
	"encoding/binary"
	"net/netip"
)

// Ethernet types and IP protocols that Headers knows (IANA).
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeIPv6 = 0x86dd

	ProtocolICMP   = 1
	ProtocolTCP    = 6
	ProtocolUDP    = 17
	ProtocolESP    = 50
	ProtocolICMPv6 = 58
	ProtocolSCTP   = 132
)

// Headers says where the headers of a packet are. Of what is cut off, wrong or unknown there is
// no header: its place and those after it are 0.
type Headers struct {
	Type      uint16 // Ethernet type, after VLAN tags
	VLAN      uint16 // number of the outer VLAN; 0 if there is no tag
	Version   uint8  // of IP, 4 or 6; 0 if it is another protocol
	Protocol  uint8  // above IP, after extension headers
	Fragment  bool   // the packet is a part of a datagram
	Network   int    // offset of what follows Ethernet and VLAN tags
	Transport int    // offset of the header of TCP, UDP, ICMP or another; 0 in a fragment but the first
	Payload   int    // offset of the payload of TCP, UDP, ICMP or SCTP
	End       int    // where the IP packet ends; padding follows
}

// Headers finds the headers of the packet.
func (p *Packet) Headers() Headers { return ParseHeaders(p.Data()) }

const (
	etherLen = 14
	tagLen   = 4
	ip4Len   = 20
	ip6Len   = 40
)

// ParseHeaders finds the headers of an Ethernet frame.
func ParseHeaders(b []byte) (h Headers) {
	if len(b) < etherLen {
		return h
	}
	h.Type, h.Network = binary.BigEndian.Uint16(b[12:]), etherLen
	for (h.Type == 0x8100 || h.Type == 0x88a8) && len(b) >= h.Network+tagLen {
		if h.VLAN == 0 {
			h.VLAN = binary.BigEndian.Uint16(b[h.Network:]) & 0xfff
		}
		h.Type = binary.BigEndian.Uint16(b[h.Network+2:])
		h.Network += tagLen
	}
	h.End = len(b)
	switch ip := b[h.Network:]; {
	case h.Type == TypeIPv4 && len(ip) >= ip4Len && ip[0]>>4 == 4:
		h.ip4(b)
	case h.Type == TypeIPv6 && len(ip) >= ip6Len && ip[0]>>4 == 6:
		h.ip6(b)
	}
	return h
}

func (h *Headers) ip4(b []byte) {
	ip := b[h.Network:]
	header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if header < ip4Len || header > len(ip) || total != 0 && total < header {
		return
	}
	if total != 0 { // 0 is more than 65,535 (BIG TCP)
		h.End = min(h.End, h.Network+total)
	}
	fragment := binary.BigEndian.Uint16(ip[6:])
	h.Version, h.Protocol, h.Fragment = 4, ip[9], fragment&0x3fff != 0
	if fragment&0x1fff == 0 {
		h.transport(b, h.Network+header)
	}
}

func (h *Headers) ip6(b []byte) {
	ip := b[h.Network:]
	if n := int(binary.BigEndian.Uint16(ip[4:])); n != 0 { // 0 is a jumbogram or more than 65,535
		h.End = min(h.End, h.Network+ip6Len+n)
	}
	h.Version = 6
	next, at, first := ip[6], h.Network+ip6Len, true
	// Extension headers (RFC 8200, section 4). A sender of many wants to hide something.
	for range 8 {
		size := 0
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination
			if at+8 > h.End {
				return
			}
			size = 8 + int(b[at+1])*8
		case 44: // fragment
			if at+8 > h.End {
				return
			}
			size = 8
			part := binary.BigEndian.Uint16(b[at+2:])
			first = part>>3 == 0
			h.Fragment = h.Fragment || part&^6 != 0
		default:
			h.Protocol = next
			if first {
				h.transport(b, at)
			}
			return
		}
		if at+size > h.End {
			return
		}
		next, at = b[at], at+size
		if !first {
			h.Protocol = next
			return
		}
	}
}

// transport finds the transport header at an offset, and the payload after it.
func (h *Headers) transport(b []byte, at int) {
	size := 0
	switch h.Protocol {
	case ProtocolTCP:
		if size = 20; at+size <= h.End {
			size = int(b[at+12]>>4) * 4
		}
		if size < 20 {
			return
		}
	case ProtocolUDP, ProtocolICMP, ProtocolICMPv6:
		size = 8
	case ProtocolSCTP:
		size = 12
	default:
		if at <= h.End {
			h.Transport = at
		}
		return
	}
	if at+size <= h.End {
		h.Transport, h.Payload = at, at+size
	}
}

// HasPorts reports whether the packet has source and destination ports.
func (h *Headers) HasPorts() bool {
	return h.Payload != 0 && (h.Protocol == ProtocolTCP || h.Protocol == ProtocolUDP || h.Protocol == ProtocolSCTP)
}

// addresses returns where the source and the destination address stand, and their size.
func (h *Headers) addresses() (src, dst, size int) {
	if h.Version == 4 {
		return h.Network + 12, h.Network + 16, 4
	}
	return h.Network + 8, h.Network + 24, 16
}

// Addresses returns the source and the destination of an IP packet, invalid ones for
// another.
func (h *Headers) Addresses(b []byte) (src, dst netip.Addr) {
	switch h.Version {
	case 4:
		ip := b[h.Network:]
		return netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	case 6:
		ip := b[h.Network:]
		return netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	}
	return src, dst
}

// Ports returns the source and the destination port, 0 if there are none.
func (h *Headers) Ports(b []byte) (src, dst uint16) {
	if !h.HasPorts() {
		return 0, 0
	}
	return binary.BigEndian.Uint16(b[h.Transport:]), binary.BigEndian.Uint16(b[h.Transport+2:])
}

// A Flow is a 5-tuple, to be the key of a map. IPv4 addresses stand as mapped to IPv6 (RFC
// 4291, section 2.5.5.2). An echo request has the identifier of ICMP as its source port, a
// reply as its destination.
type Flow struct {
	Src, Dst         [16]byte
	SrcPort, DstPort uint16
	Protocol         uint8
	Version          uint8
}

// Flow returns the flow of an IP packet, the zero one for another. All fragments of a datagram
// but the first have ports of 0.
func (h *Headers) Flow(b []byte) (f Flow) {
	f.Version, f.Protocol = h.Version, h.Protocol
	switch h.Version {
	case 4:
		ip := b[h.Network:]
		f.Src[10], f.Src[11], f.Dst[10], f.Dst[11] = 0xff, 0xff, 0xff, 0xff
		copy(f.Src[12:], ip[12:16])
		copy(f.Dst[12:], ip[16:20])
	case 6:
		ip := b[h.Network:]
		copy(f.Src[:], ip[8:24])
		copy(f.Dst[:], ip[24:40])
	default:
		return f
	}
	if h.HasPorts() {
		f.SrcPort, f.DstPort = h.Ports(b)
	} else if id, request, ok := h.Echo(b); ok {
		if request {
			f.SrcPort = id
		} else {
			f.DstPort = id
		}
	}
	return f
}

// Echo returns the identifier of an ICMP echo request or reply.
func (h *Headers) Echo(b []byte) (id uint16, request, ok bool) {
	if h.Payload == 0 {
		return 0, false, false
	}
	t := b[h.Transport:]
	switch {
	case h.Protocol == ProtocolICMP && h.Version == 4 && (t[0] == 8 || t[0] == 0):
		request = t[0] == 8
	case h.Protocol == ProtocolICMPv6 && h.Version == 6 && (t[0] == 128 || t[0] == 129):
		request = t[0] == 128
	default:
		return 0, false, false
	}
	return binary.BigEndian.Uint16(t[4:]), request, true
}

// Reverse returns the flow of the answers.
func (f Flow) Reverse() Flow {
	f.Src, f.Dst, f.SrcPort, f.DstPort = f.Dst, f.Src, f.DstPort, f.SrcPort
	return f
}

// Hash mixes the flow into a number, the same on every machine. Answers have another.
func (f *Flow) Hash() uint64 {
	const m0, m1 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db // of wyhash
	h := fold(binary.LittleEndian.Uint64(f.Src[:])^m0, binary.LittleEndian.Uint64(f.Src[8:])^m1)
	h = fold(binary.LittleEndian.Uint64(f.Dst[:])^h, binary.LittleEndian.Uint64(f.Dst[8:])^m0)
	return fold(h^m0, uint64(f.SrcPort)<<32|uint64(f.DstPort)<<16|uint64(f.Protocol)<<8|uint64(f.Version)^m1)
}

// Source and Destination return the addresses of the flow.
func (f *Flow) Source() netip.Addr { return f.address(f.Src) }

// Destination returns the address that the flow goes to.
func (f *Flow) Destination() netip.Addr { return f.address(f.Dst) }

func (f *Flow) address(a [16]byte) netip.Addr {
	if f.Version == 4 {
		return netip.AddrFrom4([4]byte(a[12:]))
	}
	return netip.AddrFrom16(a)
}
