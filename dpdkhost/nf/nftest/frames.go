package nftest

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"weft/dpdkhost/nf"
)

// The MAC addresses of frames that are made here.
const (
	SrcMAC = "\x02\x00\x00\x00\x00\x01"
	DstMAC = "\x02\x00\x00\x00\x00\x02"
)

// Frame makes a frame of headers, with lengths and checksums computed by gopacket, which is not
// the code under test.
func Frame(t testing.TB, list ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range list {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if s, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			s.SetNetworkLayerForChecksum(network)
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// Ether is the Ethernet header of a type.
func Ether(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: []byte(SrcMAC), DstMAC: []byte(DstMAC), EthernetType: kind}
}

// IP is an Ethernet and an IP header, of the version of the addresses.
func IP(src, dst string, protocol layers.IPProtocol) []gopacket.SerializableLayer {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if s.Is4() {
		return []gopacket.SerializableLayer{Ether(layers.EthernetTypeIPv4),
			&layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}}
	}
	return []gopacket.SerializableLayer{Ether(layers.EthernetTypeIPv6),
		&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}}
}

// UDP is a datagram from one ADDRESS:PORT to another.
func UDP(t testing.TB, src, dst, payload string) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return Frame(t, append(IP(s.Addr().String(), d.Addr().String(), layers.IPProtocolUDP),
		&layers.UDP{SrcPort: layers.UDPPort(s.Port()), DstPort: layers.UDPPort(d.Port())}, gopacket.Payload(payload))...)
}

// TCP is a segment from one ADDRESS:PORT to another with flags, of the letters FSRPA, sequence
// number 1000 and acknowledgement 2000.
func TCP(t testing.TB, src, dst, flags, payload string) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	h := &layers.TCP{SrcPort: layers.TCPPort(s.Port()), DstPort: layers.TCPPort(d.Port()), Seq: 1000, Window: 64240}
	for _, f := range flags {
		switch f {
		case 'F':
			h.FIN = true
		case 'S':
			h.SYN = true
		case 'R':
			h.RST = true
		case 'P':
			h.PSH = true
		case 'A':
			h.ACK, h.Ack = true, 2000
		}
	}
	return Frame(t, append(IP(s.Addr().String(), d.Addr().String(), layers.IPProtocolTCP), h, gopacket.Payload(payload))...)
}

// Echo is an ICMP echo request or reply, by the version of the addresses.
func Echo(t testing.TB, src, dst string, id uint16, request bool) []byte {
	if netip.MustParseAddr(src).Is4() {
		kind := layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0)
		if request {
			kind = layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0)
		}
		return Frame(t, append(IP(src, dst, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: kind, Id: id, Seq: 1}, gopacket.Payload("ping"))...)
	}
	kind := layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoReply, 0)
	if request {
		kind = layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)
	}
	return Frame(t, append(IP(src, dst, layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: kind},
		&layers.ICMPv6Echo{Identifier: id, SeqNumber: 1}, gopacket.Payload("ping"))...)
}

// ARP is a request (operation 1), to all, or an answer (2).
func ARP(t testing.TB, operation uint16, srcMAC, src, dstMAC, dst string) []byte {
	ether := Ether(layers.EthernetTypeARP)
	ether.SrcMAC, ether.DstMAC = []byte(srcMAC), []byte(dstMAC)
	if operation == 1 {
		ether.DstMAC = layers.EthernetBroadcast
	}
	return Frame(t, ether, &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: operation, SourceHwAddress: []byte(srcMAC), SourceProtAddress: netip.MustParseAddr(src).AsSlice(),
		DstHwAddress: []byte(dstMAC), DstProtAddress: netip.MustParseAddr(dst).AsSlice()})
}

// Decode returns the headers of a frame as gopacket sees them, and fails the test if it cannot
// read all of it or a checksum is wrong.
func Decode(t testing.TB, b []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Errorf("unreadable: %v\n% x", e.Error(), b[:min(len(b), 80)])
	}
	again := append([]byte{}, b...)
	h := nf.ParseHeaders(again)
	h.FillChecksums(again)
	if at := h.Transport + 6; h.Version == 4 && h.Protocol == nf.ProtocolUDP && h.Payload != 0 && b[at] == 0 && b[at+1] == 0 {
		again[at], again[at+1] = 0, 0 // left out
	}
	if string(again) != string(b) {
		t.Errorf("checksums are wrong:\n% x, want\n% x", b[:min(len(b), 80)], again[:min(len(b), 80)])
	}
	return p
}
