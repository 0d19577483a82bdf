package nf_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
	"weft/dpdkhost/shm"
)

func ip4(protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next,
		SrcIP: netip.MustParseAddr("fd00::1").AsSlice(), DstIP: netip.MustParseAddr("fd00::2").AsSlice()}
}

func udp() *layers.UDP { return &layers.UDP{SrcPort: 4000, DstPort: 53} }
func tcp() *layers.TCP {
	return &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 1, ACK: true, Window: 500}
}

func TestFillChecksums(t *testing.T) {
	data := gopacket.Payload("an odd number of bytes!")
	for name, list := range map[string][]gopacket.SerializableLayer{
		"TCP":    {nftest.Ether(layers.EthernetTypeIPv4), ip4(6), tcp(), data},
		"UDP":    {nftest.Ether(layers.EthernetTypeIPv4), ip4(17), udp(), data},
		"TCP6":   {nftest.Ether(layers.EthernetTypeIPv6), ip6(6), tcp(), data},
		"UDP6":   {nftest.Ether(layers.EthernetTypeIPv6), ip6(17), udp(), data},
		"ICMP":   {nftest.Ether(layers.EthernetTypeIPv4), ip4(1), &layers.ICMPv4{TypeCode: 8 << 8, Id: 7}, data},
		"ICMPv6": {nftest.Ether(layers.EthernetTypeIPv6), ip6(58), &layers.ICMPv6{TypeCode: 128 << 8}, gopacket.Payload("\x00\x07\x00\x01abc")},
	} {
		t.Run(name, func(t *testing.T) {
			want := nftest.Frame(t, list...)
			b := append([]byte{}, want...)
			h := nf.ParseHeaders(b)
			if h.Payload == 0 {
				t.Fatalf("%+v", h)
			}
			h.FillChecksums(b)
			if string(b) != string(want) {
				t.Errorf("% x, want\n% x", b, want)
			}
		})
	}
}

// Changing any field leaves the checksum that a new computation finds; in an unfinished packet,
// once it is finished.
func TestRewrite(t *testing.T) {
	lab := nftest.New(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		payload := make([]byte, random.IntN(40))
		for i := range payload {
			payload[i] = byte(random.Uint32())
		}
		var list []gopacket.SerializableLayer
		six, transport := random.IntN(2) == 1, gopacket.SerializableLayer(udp())
		protocol := layers.IPProtocol(17)
		if random.IntN(2) == 1 {
			transport, protocol = tcp(), 6
		}
		if six {
			list = append(list, nftest.Ether(layers.EthernetTypeIPv6), ip6(protocol))
		} else {
			list = append(list, nftest.Ether(layers.EthernetTypeIPv4), ip4(protocol))
		}
		b := nftest.Frame(t, append(list, transport, gopacket.Payload(payload))...)
		a, c := netip.AddrFrom4([4]byte(payloadOr(random, 4))), netip.AddrFrom4([4]byte(payloadOr(random, 4)))
		if six {
			a, c = netip.AddrFrom16([16]byte(payloadOr(random, 16))), netip.AddrFrom16([16]byte(payloadOr(random, 16)))
		}
		from, to := uint16(random.Uint32()), uint16(random.Uint32())
		var seen [2]string
		for k, p := range []nf.Packet{lab.Packet(1, b), lab.Unfinished(1, b, 0)} {
			h := p.Headers()
			p.SetSource(&h, a)
			p.SetDestination(&h, c)
			p.SetSourcePort(&h, from)
			p.SetDestinationPort(&h, to)
			p.DecrementTTL(&h)
			if unfinished := k == 1; p.Unfinished() != unfinished {
				t.Fatalf("unfinished: %v", p.Unfinished())
			}
			if !p.CompleteChecksum() || p.Unfinished() {
				t.Fatal("not completed")
			}
			nftest.Decode(t, p.Data())
			f := h.Flow(p.Data())
			if f.Source() != a || f.Destination() != c || f.SrcPort != from || f.DstPort != to || h.TTL(p.Data()) != 63 {
				t.Fatalf("%+v", f)
			}
			seen[k] = string(p.Data())
		}
		if seen[0] != seen[1] {
			t.Fatalf("% x, unfinished\n% x", seen[0], seen[1])
		}
	}
}

func payloadOr(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// A UDP checksum that was left out stays so, and one that comes out as 0 is 0xffff.
func TestUDPWithoutChecksum(t *testing.T) {
	lab := nftest.New(t)
	b := nftest.Frame(t, nftest.Ether(layers.EthernetTypeIPv4), ip4(17), udp())
	b[14+20+6], b[14+20+7] = 0, 0
	p := lab.Packet(1, b)
	h := p.Headers()
	p.SetSourcePort(&h, 9)
	if b := p.Data(); b[14+20+6] != 0 || b[14+20+7] != 0 {
		t.Error("a checksum where there was none")
	}
	for port := range 1 << 16 {
		p := lab.Packet(1, frame4(t))
		h := p.Headers()
		p.SetSourcePort(&h, uint16(port))
		if binary.BigEndian.Uint16(p.Data()[14+20+6:]) == 0 {
			t.Fatal("a checksum of 0")
		}
	}
}

func frame4(t *testing.T) []byte {
	// Made once by hand: 65,536 serialisations would take seconds.
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 2, 2, 0, 8, 0, 0}
	h := nf.ParseHeaders(b)
	h.FillChecksums(b)
	return b
}

func TestHeaders(t *testing.T) {
	vlan := &layers.Dot1Q{VLANIdentifier: 7, Type: layers.EthernetTypeIPv4}
	b := nftest.Frame(t, nftest.Ether(layers.EthernetTypeDot1Q), vlan, ip4(6), tcp(), gopacket.Payload("x"))
	h := nf.ParseHeaders(append(b, 0, 0, 0)) // padding
	if want := (nf.Headers{Type: 0x800, VLAN: 7, Version: 4, Protocol: 6, Network: 18, Transport: 38, Payload: 58, End: 59}); h != want {
		t.Errorf("%+v, want %+v", h, want)
	}
	second := ip4(17)
	second.FragOffset = 100
	h = nf.ParseHeaders(nftest.Frame(t, nftest.Ether(layers.EthernetTypeIPv4), second, gopacket.Payload("0123456789")))
	if !h.Fragment || h.Transport != 0 || h.HasPorts() || h.Protocol != 17 {
		t.Errorf("a fragment: %+v", h)
	}
	// Hop-by-hop options, then a first fragment, then UDP.
	six := nftest.Frame(t, nftest.Ether(layers.EthernetTypeIPv6), ip6(0), gopacket.Payload("\x2c\x00\x01\x04\x00\x00\x00\x00"+"\x11\x00\x00\x01\x00\x00\x00\x01"+"\x0f\xa0\x00\x35\x00\x08\x00\x00"))
	h = nf.ParseHeaders(six)
	if src, dst := h.Ports(six); !h.Fragment || h.Protocol != 17 || src != 4000 || dst != 53 {
		t.Errorf("%+v: ports %d, %d", h, src, dst)
	}
	six[14+40+8+3] = 9 // not the first
	if h = nf.ParseHeaders(six); !h.Fragment || h.Transport != 0 || h.Protocol != 17 {
		t.Errorf("an IPv6 fragment: %+v", h)
	}
}

func TestFlow(t *testing.T) {
	b := nftest.Frame(t, nftest.Ether(layers.EthernetTypeIPv4), ip4(1), &layers.ICMPv4{TypeCode: 8 << 8, Id: 7})
	h := nf.ParseHeaders(b)
	request := h.Flow(b)
	if request.SrcPort != 7 || request.DstPort != 0 || request.Source() != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("%+v", request)
	}
	reply := ip4(1)
	reply.SrcIP, reply.DstIP = reply.DstIP, reply.SrcIP
	b = nftest.Frame(t, nftest.Ether(layers.EthernetTypeIPv4), reply, &layers.ICMPv4{TypeCode: 0, Id: 7})
	h = nf.ParseHeaders(b)
	if h.Flow(b) != request.Reverse() {
		t.Errorf("%+v is not the reverse of %+v", h.Flow(b), request)
	}
	f, r := request, request.Reverse()
	if f.Hash() == r.Hash() {
		t.Error("both directions have one hash")
	}
}

func TestResize(t *testing.T) {
	lab := nftest.New(t)
	b := nftest.Frame(t, nftest.Ether(layers.EthernetTypeIPv4), ip4(6), tcp(), gopacket.Payload("hello"))
	p := lab.Unfinished(1, b, 0)
	if !p.Resize(8, 0) {
		t.Fatal("there is room")
	}
	copy(p.Data(), b[:14]) // eight bytes go between Ethernet and IP
	if !p.CompleteChecksum() {
		t.Fatal("the checksum's place moved with the packet")
	}
	if !p.Resize(-8, 0) {
		t.Fatal("no way back")
	}
	copy(p.Data(), b[:14])
	nftest.Decode(t, p.Data())
	plain := lab.Packet(1, b)
	for name, resize := range map[string][2]int{
		"beyond the beginning": {shm.Headroom + 1, 0}, "beyond the end": {0, shm.FrameSize}, "less than nothing": {-len(b), -1},
	} {
		if plain.Resize(resize[0], resize[1]) || string(plain.Data()) != string(b) {
			t.Errorf("resized %s", name)
		}
	}
	if vnet := lab.Unfinished(1, b, 0); vnet.Resize(shm.Headroom, 0) {
		t.Error("resized into the virtio header")
	}
	if !plain.Resize(shm.Headroom, 0) || !plain.Resize(-shm.Headroom, 0) {
		t.Error("all of the headroom is there to be used")
	}
}

func TestSuperframe(t *testing.T) {
	lab := nftest.New(t)
	b := nftest.Frame(t, nftest.Ether(layers.EthernetTypeIPv4), ip4(6), tcp(), gopacket.Payload(make([]byte, 9000)))
	p := lab.Unfinished(1, b, 1448)
	if p.Segment() != 1448 || p.CompleteChecksum() || !p.Unfinished() {
		t.Error("a super-frame has no checksum to be completed")
	}
	p.Whole()
	if p.Segment() != 0 || p.Unfinished() {
		t.Error("still a super-frame")
	}
}

func TestRewriteWithoutAllocation(t *testing.T) {
	lab := nftest.New(t)
	p := lab.Packet(1, nftest.Frame(t, nftest.Ether(layers.EthernetTypeIPv6), ip6(17), udp(), gopacket.Payload("x")))
	a := netip.MustParseAddr("fd00::7")
	if n := testing.AllocsPerRun(100, func() {
		h := p.Headers()
		f := h.Flow(p.Data())
		p.SetSource(&h, a)
		p.SetSourcePort(&h, uint16(f.Hash()))
		p.DecrementTTL(&h)
		h.FillChecksums(p.Data())
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever comes, headers lie in the packet, in order, and rewriting stays in it.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02\x01\x01\x02\x02\x00\x08\x00\x00"))
	f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x86\xdd\x60\x00\x00\x00\x00\x08\x00\x40" + "0123456789abcdef0123456789abcdef" + "\x3a\x00\x00\x00\x00\x00\x00\x00" + "\x80\x00\x00\x00\x00\x00\x00\x00"))
	lab := nftest.New(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > shm.FrameSize-shm.Headroom {
			return
		}
		p := lab.Packet(1, b)
		h := p.Headers()
		if h.Payload != 0 && h.Transport == 0 || h.Payload > h.End || h.Transport > h.End || h.End > len(b) ||
			h.Transport != 0 && h.Transport < h.Network || h.Payload != 0 && h.Payload <= h.Transport {
			t.Fatalf("%+v of %d bytes", h, len(b))
		}
		h.Flow(b)
		p.SetSource(&h, netip.IPv6Loopback())
		p.SetDestination(&h, netip.AddrFrom4([4]byte{1, 2, 3, 4}))
		p.SetSourcePort(&h, 1)
		p.DecrementTTL(&h)
		h.FillChecksums(p.Data())
	})
}
