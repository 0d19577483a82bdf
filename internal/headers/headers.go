// Package headers reads the headers of packets: what the OpenFlow tools say of a frame, and
// TCP segments. It does the little that gopacket/layers would be needed for, whose
// initialisation costs each process of weft 5 ms and 7 MB.
//
// It imports nothing of weft.
package headers

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// A Layer is one of the header types below.
type Layer any

// Header types. Those of a packet come in order; what is cut off or unknown ends them.
type (
	// Ethernet is IEEE 802.3's header with a type.
	Ethernet struct {
		Src, Dst net.HardwareAddr
		Type     uint16
	}
	// VLAN is an IEEE 802.1Q tag.
	VLAN struct {
		ID, Priority uint16
		Type         uint16
	}
	// MPLS is a label stack entry (RFC 3032).
	MPLS struct{ Label uint32 }
	// ARP is RFC 826's.
	ARP struct {
		Operation    uint16
		SrcHW        net.HardwareAddr
		SrcIP, DstIP []byte
	}
	// IP is an IPv4 or IPv6 header.
	IP struct {
		Src, Dst       netip.Addr
		Protocol       uint8
		Fragment       bool
		FragmentOffset int // bytes
	}
	// Ports is the beginning of a UDP or SCTP header.
	Ports struct {
		Protocol uint8
		Src, Dst uint16
	}
	// TCP is a TCP header with its payload.
	TCP struct {
		Src, Dst                uint16
		Seq                     uint32
		SYN, FIN, RST, PSH, ACK bool
		Payload                 []byte
	}
	// ICMP is ICMP for IPv4 or, if V6, for IPv6.
	ICMP struct {
		V6         bool
		Type, Code uint8
		Target     netip.Addr // of a neighbour solicitation or advertisement
	}
	// LLDP is IEEE 802.1AB's, its first two identifiers.
	LLDP struct{ Chassis, Port []byte }
)

// Ethernet types.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100
	TypeIPv6 = 0x86dd
	TypeMPLS = 0x8847
	TypeLLDP = 0x88cc
)

// IP protocols.
const (
	ProtocolHopByHop = 0
	ProtocolICMP     = 1
	ProtocolTCP      = 6
	ProtocolUDP      = 17
	ProtocolICMPv6   = 58
	ProtocolSCTP     = 132
)

// Frame returns the headers of an Ethernet frame, or of its start.
func Frame(b []byte) []Layer {
	if len(b) < 14 {
		return nil
	}
	e := Ethernet{Dst: b[:6], Src: b[6:12], Type: binary.BigEndian.Uint16(b[12:])}
	return typed([]Layer{e}, e.Type, b[14:])
}

func typed(ls []Layer, t uint16, b []byte) []Layer {
	switch {
	case t == TypeVLAN && len(b) >= 4:
		tag := binary.BigEndian.Uint16(b)
		v := VLAN{ID: tag & 0xfff, Priority: tag >> 13, Type: binary.BigEndian.Uint16(b[2:])}
		return typed(append(ls, v), v.Type, b[4:])
	case t == TypeMPLS && len(b) >= 4:
		entry := binary.BigEndian.Uint32(b)
		ls = append(ls, MPLS{Label: entry >> 12})
		if entry&0x100 == 0 {
			return typed(ls, TypeMPLS, b[4:])
		}
		return append(ls, Network(b[4:])...)
	case t == TypeARP && len(b) >= 8:
		hw, ip := int(b[4]), int(b[5])
		if len(b) < 8+2*(hw+ip) {
			return ls
		}
		a := b[8:]
		return append(ls, ARP{Operation: binary.BigEndian.Uint16(b[6:]), SrcHW: a[:hw], SrcIP: a[hw : hw+ip], DstIP: a[2*hw+ip : 2*(hw+ip)]})
	case t == TypeIPv4 || t == TypeIPv6:
		return append(ls, Network(b)...)
	case t == TypeLLDP:
		return append(ls, lldp(b))
	}
	return ls
}

func lldp(b []byte) LLDP {
	var l LLDP
	for len(b) >= 2 {
		kind, n := b[0]>>1, int(binary.BigEndian.Uint16(b)&0x1ff)
		if kind == 0 || len(b) < 2+n {
			break
		}
		if v := b[2 : 2+n]; n > 1 {
			switch kind { // the first byte says what kind of identifier it is
			case 1:
				l.Chassis = v[1:]
			case 2:
				l.Port = v[1:]
			}
		}
		b = b[2+n:]
	}
	return l
}

// Network returns the headers of an IPv4 or IPv6 packet.
func Network(b []byte) []Layer {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if head < 20 || len(b) < head {
			return nil
		}
		if total >= head && total < len(b) { // the rest is padding; 0 is a segment to be split
			b = b[:total]
		}
		src, _ := netip.AddrFromSlice(b[12:16])
		dst, _ := netip.AddrFromSlice(b[16:20])
		fragment := binary.BigEndian.Uint16(b[6:])
		ip := IP{Src: src, Dst: dst, Protocol: b[9], FragmentOffset: int(fragment&0x1fff) * 8}
		ip.Fragment = fragment&0x2000 != 0 || ip.FragmentOffset > 0
		if ip.FragmentOffset > 0 {
			return []Layer{ip}
		}
		return transport([]Layer{ip}, ip.Protocol, b[head:])
	case len(b) >= 40 && b[0]>>4 == 6:
		if n := 40 + int(binary.BigEndian.Uint16(b[4:])); n > 40 && n < len(b) {
			b = b[:n]
		}
		src, _ := netip.AddrFromSlice(b[8:24])
		dst, _ := netip.AddrFromSlice(b[24:40])
		next := b[6]
		ls, rest := []Layer{IP{Src: src, Dst: dst, Protocol: next}}, b[40:]
		for next == ProtocolHopByHop || next == 43 || next == 60 { // options and routing (RFC 8200)
			if len(rest) < 8 || len(rest) < 8+int(rest[1])*8 {
				return ls
			}
			next, rest = rest[0], rest[8+int(rest[1])*8:]
		}
		return transport(ls, next, rest)
	}
	return nil
}

func transport(ls []Layer, protocol uint8, b []byte) []Layer {
	switch {
	case protocol == ProtocolTCP && len(b) >= 20:
		head := int(b[12]>>4) * 4
		if head < 20 || len(b) < head {
			return ls
		}
		flags := b[13]
		return append(ls, TCP{Src: binary.BigEndian.Uint16(b), Dst: binary.BigEndian.Uint16(b[2:]), Seq: binary.BigEndian.Uint32(b[4:]),
			FIN: flags&1 != 0, SYN: flags&2 != 0, RST: flags&4 != 0, PSH: flags&8 != 0, ACK: flags&16 != 0, Payload: b[head:]})
	case protocol == ProtocolUDP && len(b) >= 8, protocol == ProtocolSCTP && len(b) >= 12:
		return append(ls, Ports{Protocol: protocol, Src: binary.BigEndian.Uint16(b), Dst: binary.BigEndian.Uint16(b[2:])})
	case (protocol == ProtocolICMP || protocol == ProtocolICMPv6) && len(b) >= 4:
		i := ICMP{V6: protocol == ProtocolICMPv6, Type: b[0], Code: b[1]}
		if i.V6 && (i.Type == 135 || i.Type == 136) && len(b) >= 24 {
			i.Target, _ = netip.AddrFromSlice(b[8:24])
		}
		return append(ls, i)
	}
	return ls
}
