package openflow

import (
	"fmt"
	"net/netip"
	"strings"

	"weft/internal/headers"
)

// ReadPacket says what an Ethernet frame, or its start, is. Headers have the names of OXM
// fields.
func ReadPacket(frame []byte) Packet { return summarise(frame) }

// summarise says in a few words what the Ethernet frame b, or its start, is.
func summarise(b []byte) Packet {
	p := Packet{Data: b}
	if len(b) < 14 {
		p.Summary = fmt.Sprintf("packet of %d bytes", len(b))
		return p
	}
	s := summary{packet: &p}
	for _, l := range headers.Frame(b) {
		s.layer(l)
	}
	p.Summary = s.text()
	return p
}

// A summary collects what the layers of a packet say; the innermost counts.
type summary struct {
	packet   *Packet
	src, dst string
	what     []string
}

func (s *summary) header(name string, value any) {
	s.packet.Headers = append(s.packet.Headers, Field{Name: name, Value: value})
}

func (s *summary) number(name string, n uint64) { s.header(name, Number{N: n}) }

func (s *summary) addresses(kind, src, dst string) {
	s.src, s.dst = src, dst
	s.header(kind+"_src", Text(src))
	s.header(kind+"_dst", Text(dst))
}

func (s *summary) text() string {
	text := s.src + " → " + s.dst
	if s.src == "" {
		text = fmt.Sprintf("packet of %d bytes", len(s.packet.Data))
	}
	return strings.Join(append([]string{text}, s.what...), " ")
}

func (s *summary) say(format string, args ...any) {
	s.what = append(s.what, fmt.Sprintf(format, args...))
}

func (s *summary) layer(l headers.Layer) {
	switch l := l.(type) {
	case headers.Ethernet:
		s.addresses("eth", l.Src.String(), l.Dst.String())
		s.ethType(l.Type)
	case headers.VLAN:
		s.number("vlan_vid", uint64(l.ID))
		s.number("vlan_pcp", uint64(l.Priority))
		s.say("VLAN %d", l.ID)
		s.ethType(l.Type)
	case headers.MPLS:
		s.number("mpls_label", uint64(l.Label))
		s.say("MPLS %d", l.Label)
	case headers.ARP:
		s.arp(l)
	case headers.IP:
		kind := "ipv4"
		if l.Src.Is6() {
			kind = "ipv6"
		}
		s.addresses(kind, l.Src.String(), l.Dst.String())
		s.protocol(l.Protocol)
		if l.Fragment {
			s.say("fragment at %d", l.FragmentOffset)
		}
	case headers.TCP:
		s.ports("tcp", uint64(l.Src), uint64(l.Dst))
		s.say("TCP %s", tcpFlags(l))
	case headers.Ports:
		s.portsOf(l)
	case headers.ICMP:
		s.icmp(l)
	case headers.LLDP:
		s.say("LLDP chassis %s port %s", lldpID(l.Chassis), lldpID(l.Port))
	}
}

func (s *summary) portsOf(l headers.Ports) {
	if l.Protocol == headers.ProtocolSCTP {
		s.ports("sctp", uint64(l.Src), uint64(l.Dst))
		s.say("SCTP")
		return
	}
	s.ports("udp", uint64(l.Src), uint64(l.Dst))
	s.say("UDP")
	for _, p := range []uint16{l.Dst, l.Src} {
		switch p {
		case 53:
			s.say("DNS")
			return
		case 67, 68:
			s.say("DHCP")
			return
		}
	}
}

func (s *summary) icmp(l headers.ICMP) {
	field, title, names := "icmpv4", "ICMP", icmpNames
	if l.V6 {
		field, title, names = "icmpv6", "ICMPv6", icmp6Names
	}
	s.number(field+"_type", uint64(l.Type))
	s.number(field+"_code", uint64(l.Code))
	name := names[l.Type]
	if name == "" {
		name = fmt.Sprintf("type %d code %d", l.Type, l.Code)
	}
	s.say("%s %s", title, name)
	if !l.Target.IsValid() {
		return
	}
	s.header("ipv6_nd_target", Text(l.Target.String()))
	if l.Type == 135 {
		s.say("who has %s", l.Target)
	} else {
		s.say("%s is here", l.Target)
	}
}

func (s *summary) ethType(t uint16) {
	s.header("eth_type", Number{uint64(t), fmt.Sprintf("%#04x", t)})
	switch t {
	case headers.TypeARP, headers.TypeIPv4, headers.TypeIPv6, headers.TypeVLAN, headers.TypeMPLS, headers.TypeLLDP:
	case 0x8942, 0x8999:
		s.say("BDDP")
	default:
		s.say("type %#04x", t)
	}
}

func (s *summary) protocol(p uint8) {
	s.number("ip_proto", uint64(p))
	switch p {
	case headers.ProtocolTCP, headers.ProtocolUDP, headers.ProtocolSCTP, headers.ProtocolICMP, headers.ProtocolICMPv6, headers.ProtocolHopByHop:
	default:
		s.say("protocol %d", p)
	}
}

// ports adds ports to the addresses.
func (s *summary) ports(protocol string, src, dst uint64) {
	s.number(protocol+"_src", src)
	s.number(protocol+"_dst", dst)
	s.src, s.dst = withPort(s.src, src), withPort(s.dst, dst)
}

func withPort(address string, port uint64) string {
	if a, err := netip.ParseAddr(address); err == nil && port < 1<<16 {
		return netip.AddrPortFrom(a, uint16(port)).String()
	}
	return fmt.Sprintf("%s:%d", address, port)
}

func (s *summary) arp(l headers.ARP) {
	s.number("arp_op", uint64(l.Operation))
	ip := func(name string, b []byte) string {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return ""
		}
		s.header(name, Text(a.String()))
		return a.String()
	}
	src, dst := ip("arp_spa", l.SrcIP), ip("arp_tpa", l.DstIP)
	s.src, s.dst = src, dst
	switch {
	case l.Operation == arpRequest && src == dst:
		s.say("ARP announcement")
	case l.Operation == arpRequest:
		s.say("ARP who has %s", dst)
	case l.Operation == arpReply:
		s.say("ARP %s is at %s", src, l.SrcHW.String())
	default:
		s.say("ARP operation %d", l.Operation)
	}
}

// Operations of ARP (RFC 826).
const (
	arpRequest = 1
	arpReply   = 2
)

// Names of ICMP types (RFC 792, RFC 4443 and RFC 4861).
var (
	icmpNames = map[uint8]string{
		0: "echo reply", 3: "destination unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded", 12: "parameter problem",
	}
	icmp6Names = map[uint8]string{
		1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem",
		128: "echo request", 129: "echo reply", 130: "multicast listener query", 131: "multicast listener report",
		133: "router solicitation", 134: "router advertisement",
		135: "neighbor solicitation", 136: "neighbor advertisement", 143: "multicast listener report",
	}
)

func tcpFlags(l headers.TCP) string {
	var set []string
	for _, f := range []struct {
		on   bool
		name string
	}{{l.SYN, "SYN"}, {l.FIN, "FIN"}, {l.RST, "RST"}, {l.PSH, "PSH"}, {l.ACK, "ACK"}} {
		if f.on {
			set = append(set, f.name)
		}
	}
	return strings.Join(set, ",")
}

// lldpID writes an identifier as text if it is, else in hexadecimal.
func lldpID(b []byte) string {
	if text := asciiText(b); text != "" {
		return text
	}
	return hexData(b)
}
