package openflow

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// summarise says in a few words what the Ethernet frame b, or its start, is.
func summarise(b []byte) Packet {
	p := Packet{Data: b}
	if len(b) < 14 {
		p.Summary = fmt.Sprintf("packet of %d bytes", len(b))
		return p
	}
	s := summary{packet: &p}
	decoded := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	for _, l := range decoded.Layers() {
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

func (s *summary) layer(l gopacket.Layer) {
	switch l := l.(type) {
	case *layers.Ethernet:
		s.addresses("eth", l.SrcMAC.String(), l.DstMAC.String())
		s.ethType(l.EthernetType)
	case *layers.Dot1Q:
		s.number("vlan_vid", uint64(l.VLANIdentifier))
		s.number("vlan_pcp", uint64(l.Priority))
		s.say("VLAN %d", l.VLANIdentifier)
		s.ethType(l.Type)
	case *layers.MPLS:
		s.number("mpls_label", uint64(l.Label))
		s.say("MPLS %d", l.Label)
	case *layers.ARP:
		s.arp(l)
	case *layers.IPv4:
		s.addresses("ipv4", l.SrcIP.String(), l.DstIP.String())
		s.protocol(l.Protocol)
		if l.FragOffset > 0 || l.Flags&layers.IPv4MoreFragments != 0 {
			s.say("fragment at %d", int(l.FragOffset)*8)
		}
	case *layers.IPv6:
		s.addresses("ipv6", l.SrcIP.String(), l.DstIP.String())
		s.protocol(l.NextHeader)
	case *layers.TCP:
		s.ports("tcp", uint64(l.SrcPort), uint64(l.DstPort))
		s.say("TCP %s", tcpFlags(l))
	case *layers.UDP:
		s.ports("udp", uint64(l.SrcPort), uint64(l.DstPort))
		s.say("UDP")
	case *layers.SCTP:
		s.ports("sctp", uint64(l.SrcPort), uint64(l.DstPort))
		s.say("SCTP")
	case *layers.ICMPv4:
		s.number("icmpv4_type", uint64(l.TypeCode.Type()))
		s.number("icmpv4_code", uint64(l.TypeCode.Code()))
		s.say("ICMP %s", icmpName(l.TypeCode.String(), map[uint8]string{8: "echo request", 0: "echo reply"}[l.TypeCode.Type()]))
	case *layers.ICMPv6:
		s.number("icmpv6_type", uint64(l.TypeCode.Type()))
		s.number("icmpv6_code", uint64(l.TypeCode.Code()))
		s.say("ICMPv6 %s", icmpName(l.TypeCode.String(), icmp6Names[l.TypeCode.Type()]))
	case *layers.ICMPv6NeighborSolicitation:
		s.header("ipv6_nd_target", Text(l.TargetAddress.String()))
		s.say("who has %s", l.TargetAddress)
	case *layers.ICMPv6NeighborAdvertisement:
		s.header("ipv6_nd_target", Text(l.TargetAddress.String()))
		s.say("%s is here", l.TargetAddress)
	case *layers.LinkLayerDiscovery:
		s.say("LLDP chassis %s port %s", lldpID(l.ChassisID.ID), lldpID(l.PortID.ID))
	case *layers.DNS:
		s.say("DNS")
	case *layers.DHCPv4:
		s.say("DHCP")
	}
}

func (s *summary) ethType(t layers.EthernetType) {
	s.header("eth_type", Number{uint64(t), fmt.Sprintf("%#04x", uint16(t))})
	switch t {
	case layers.EthernetTypeARP, layers.EthernetTypeIPv4, layers.EthernetTypeIPv6, layers.EthernetTypeDot1Q,
		layers.EthernetTypeMPLSUnicast, layers.EthernetTypeLinkLayerDiscovery:
	case 0x8942, 0x8999:
		s.say("BDDP")
	default:
		s.say("type %#04x", uint16(t))
	}
}

func (s *summary) protocol(p layers.IPProtocol) {
	s.number("ip_proto", uint64(p))
	switch p {
	case layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolSCTP, layers.IPProtocolICMPv4, layers.IPProtocolICMPv6,
		layers.IPProtocolIPv6HopByHop:
	default:
		s.say("protocol %d", uint8(p))
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

func (s *summary) arp(l *layers.ARP) {
	s.number("arp_op", uint64(l.Operation))
	ip := func(name string, b []byte) string {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return ""
		}
		s.header(name, Text(a.String()))
		return a.String()
	}
	src, dst := ip("arp_spa", l.SourceProtAddress), ip("arp_tpa", l.DstProtAddress)
	s.src, s.dst = src, dst
	switch {
	case l.Operation == layers.ARPRequest && src == dst:
		s.say("ARP announcement")
	case l.Operation == layers.ARPRequest:
		s.say("ARP who has %s", dst)
	case l.Operation == layers.ARPReply:
		s.say("ARP %s is at %s", src, macText(l.SourceHwAddress))
	default:
		s.say("ARP operation %d", l.Operation)
	}
}

var icmp6Names = map[uint8]string{
	128: "echo request", 129: "echo reply", 133: "router solicitation", 134: "router advertisement",
	135: "neighbor solicitation", 136: "neighbor advertisement", 143: "multicast listener report",
}

// icmpName returns a name of ours, or that of the library in small letters.
func icmpName(theirs, ours string) string {
	if ours != "" {
		return ours
	}
	return strings.ToLower(theirs)
}

func tcpFlags(l *layers.TCP) string {
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
