package builtin

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
)

// to gives a frame another destination MAC address.
func to(m mac, b []byte) []byte {
	b = append([]byte{}, b...)
	copy(b, m[:])
	return b
}

var nobody = "\x00\x00\x00\x00\x00\x00"

func routerUnderTest(t testing.TB) (*router, mac, mac) {
	f := start(t, "router", "--port", "1=10.0.1.1/24,fd00:1::1/64", "--port", "2=10.0.2.1/24,fd00:2::1/64", "--mac", "2=02:00:00:00:00:bb",
		"--route", "10.9.0.0/16=10.0.2.9", "--route", "10.9.1.0/24=10.0.1.9", "--route", "fd09::/16=fd00:2::9",
		"--neighbour", "10.0.2.9=02:00:00:00:00:29", "--neighbour", "10.0.1.9=02:00:00:00:00:19", "--neighbour", "fd00:2::9=02:00:00:00:00:69",
		"--neighbour", "10.0.2.2=02:00:00:00:00:22").(*router)
	return f, mac{2, 0, 10, 0, 1, 1}, mac{2, 0, 0, 0, 0, 0xbb}
}

func TestRouter(t *testing.T) {
	lab := nftest.New(t)
	r, one, two := routerUnderTest(t)
	for _, c := range []struct{ name, dst, out, mac string }{
		{"on a link", "10.0.2.2", "out 2", "02:00:00:00:00:22"},
		{"by a route", "10.9.3.3", "out 2", "02:00:00:00:00:29"},
		{"by the longest prefix", "10.9.1.3", "out 1", "02:00:00:00:00:19"},
		{"IPv6", "fd09::1", "out 2", "02:00:00:00:00:69"},
	} {
		src := "10.0.1.2"
		if strings.Contains(c.dst, ":") {
			src = "fd00:1::2"
		}
		whole := nftest.Echo(t, src, c.dst, 7, true)
		for _, p := range []nf.Packet{lab.Packet(1, to(one, whole)), lab.Unfinished(1, to(one, nftest.UDP(t, netip.AddrPortFrom(netip.MustParseAddr(src), 1).String(), netip.AddrPortFrom(netip.MustParseAddr(c.dst), 2).String(), "hello")), 0)} {
			got := lab.Run(r, p)[0]
			got.Packet.CompleteChecksum()
			if got.Verdict != c.out {
				t.Errorf("%s: %s", c.name, got.Verdict)
				continue
			}
			d := nftest.Decode(t, got.Data)
			h := nf.ParseHeaders(got.Data)
			from := two
			if c.out == "out 1" {
				from = one
			}
			if d.LinkLayer().LinkFlow().String() != fmt.Sprintf("%s->%s", from, c.mac) || h.TTL(got.Data) != 63 {
				t.Errorf("%s: %v", c.name, d)
			}
		}
	}
	counted(t, r, map[string]uint64{"forwarded": 8})
}

// What a router tells senders.
func TestRouterMessages(t *testing.T) {
	lab := nftest.New(t)
	r, one, _ := routerUnderTest(t)
	tick(r, 2*time.Second)
	old := nftest.IP("10.0.1.2", "10.0.2.2", layers.IPProtocolUDP)
	old[1].(*layers.IPv4).TTL = 1
	old6 := nftest.IP("fd00:1::2", "fd00:2::2", layers.IPProtocolUDP)
	old6[1].(*layers.IPv6).HopLimit = 1
	big := nftest.IP("10.0.1.2", "10.0.2.2", layers.IPProtocolUDP)
	big[1].(*layers.IPv4).Flags = layers.IPv4DontFragment
	udp := &layers.UDP{SrcPort: 1, DstPort: 2}
	long := gopacket.Payload(make([]byte, 1600))
	for _, c := range []struct {
		name  string
		frame []byte
		want  string // the message, from, to
	}{
		{"time exceeded", nftest.Frame(t, append(old, udp)...), "11/0 10.0.1.1->10.0.1.2"},
		{"hop limit exceeded", nftest.Frame(t, append(old6, udp)...), "3/0 fd00:1::1->fd00:1::2"},
		{"no route", nftest.UDP(t, "10.0.1.2:1", "192.0.2.1:2", ""), "3/0 10.0.1.1->10.0.1.2"},
		{"no route for IPv6", nftest.UDP(t, "[fd00:1::2]:1", "[2001:db8::1]:2", ""), "1/0 fd00:1::1->fd00:1::2"},
		{"too big", nftest.Frame(t, append(big, udp, long)...), "3/4 10.0.1.1->10.0.1.2"},
		{"too big for IPv6", nftest.UDP(t, "[fd00:1::2]:1", "[fd00:2::2]:2", string(long)), "2/0 fd00:1::1->fd00:1::2"},
	} {
		got := lab.Run(r, lab.Packet(1, to(one, c.frame)))[0]
		if got.Verdict != "out 1" {
			t.Errorf("%s: %s", c.name, got.Verdict)
			continue
		}
		d := nftest.Decode(t, got.Data)
		h := nf.ParseHeaders(got.Data)
		text := fmt.Sprintf("%d/%d %v", got.Data[h.Transport], got.Data[h.Transport+1], d.NetworkLayer().NetworkFlow())
		if text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
		if strings.HasPrefix(c.name, "too big") && binary.BigEndian.Uint32(got.Data[h.Transport+4:]) != 1500 {
			t.Errorf("%s: without the MTU", c.name)
		}
		// It quotes the packet.
		if quote := got.Data[h.Payload:]; string(quote[:8]) != string(c.frame[14:22]) {
			t.Errorf("%s: quotes % x", c.name, quote)
		}
	}
	// A super-frame is as large as its segments.
	super := lab.Unfinished(1, to(one, nftest.TCP(t, "10.0.1.2:1", "10.0.2.2:2", "A", strings.Repeat("x", 9000))), 1400)
	if got := lab.Run(r, super)[0]; got.Verdict != "out 2" || got.Packet.Segment() != 1400 {
		t.Error("a super-frame:", got.Verdict)
	}
}

func TestRouterItself(t *testing.T) {
	lab := nftest.New(t)
	r, one, two := routerUnderTest(t)
	tick(r, 2*time.Second)
	got := lab.Run(r,
		lab.Packet(1, to(one, nftest.Echo(t, "10.0.1.2", "10.0.2.1", 7, true))),
		lab.Packet(1, to(one, nftest.Echo(t, "fd00:1::2", "fd00:1::1", 7, true))),
		lab.Packet(2, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.2.5", nobody, "10.0.2.1")),
		lab.Packet(2, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.2.5", nobody, "10.0.1.1")),
		lab.Packet(1, to(one, nftest.TCP(t, "10.0.1.2:1", "10.0.1.1:22", "S", ""))),
		lab.Packet(1, nftest.UDP(t, "10.0.1.2:1", "10.0.2.2:2", "for another MAC")),
		lab.Packet(3, nftest.UDP(t, "10.0.1.2:1", "10.0.2.2:2", "of another port")),
		lab.Packet(1, to(one, nftest.UDP(t, "10.0.1.2:1", "224.0.0.9:2", "multicast"))))
	if v := verdicts(got); v != "out 1, out 1, out 2, drop, out 1, drop, next, drop" {
		t.Fatal(v)
	}
	for i, want := range []string{"10.0.2.1->10.0.1.2", "fd00:1::1->fd00:1::2"} {
		d := nftest.Decode(t, got[i].Data)
		h := nf.ParseHeaders(got[i].Data)
		if _, request, ok := h.Echo(got[i].Data); !ok || request || d.NetworkLayer().NetworkFlow().String() != want || h.TTL(got[i].Data) != 64 {
			t.Errorf("%v", d)
		}
	}
	a := nftest.Decode(t, got[2].Data).Layer(layers.LayerTypeARP).(*layers.ARP)
	if string(a.SourceHwAddress) != string(two[:]) {
		t.Errorf("%+v", a)
	}
	counted(t, r, map[string]uint64{"notForUs": 1, "local": 3})
}

// Packets wait while the router asks for a neighbour, and leave in their order once it answers.
func TestRouterAsks(t *testing.T) {
	lab := nftest.New(t)
	r, one, two := routerUnderTest(t)
	packet := func(payload string) nf.Packet {
		return lab.Packet(1, to(one, nftest.UDP(t, "10.0.1.2:1", "10.0.2.7:2", payload)))
	}
	if r.Frames() < 1 || verdicts(lab.Run(r, lab.Fresh())) != "keep" {
		t.Fatal("it wants no empty frames")
	}
	if v := verdicts(lab.Run(r, packet("first"), packet("second"))); v != "keep, keep" {
		t.Fatal(v)
	}
	asked := nftest.Results(tick(r, time.Second))
	if verdicts(asked) != "out 2" {
		t.Fatal(verdicts(asked))
	}
	a := nftest.Decode(t, asked[0].Data).Layer(layers.LayerTypeARP).(*layers.ARP)
	if a.Operation != 1 || string(a.SourceHwAddress) != string(two[:]) || string(a.SourceProtAddress) != "\x0a\x00\x02\x01" ||
		string(a.DstProtAddress) != "\x0a\x00\x02\x07" || string(asked[0].Data[:6]) != "\xff\xff\xff\xff\xff\xff" {
		t.Errorf("%+v", a)
	}
	if again := tick(r, time.Second+10*time.Millisecond); len(again) != 0 {
		t.Error("it asks again at once:", verdicts(nftest.Results(again)))
	}
	hw := "\x02\x00\x00\x00\x00\x77"
	lab.Run(r, lab.Packet(2, nftest.ARP(t, 2, hw, "10.0.2.7", string(two[:]), "10.0.2.1")))
	lab.Run(r, lab.Packet(2, to(two, nftest.ARP(t, 2, hw, "10.0.2.7", string(two[:]), "10.0.2.1"))))
	sent := nftest.Results(tick(r, time.Second+20*time.Millisecond))
	if verdicts(sent) != "out 2, out 2" {
		t.Fatal(verdicts(sent))
	}
	for i, want := range []string{"first", "second"} {
		d := nftest.Decode(t, sent[i].Data)
		if string(d.ApplicationLayer().Payload()) != want || string(sent[i].Data[:6]) != hw {
			t.Errorf("%v", d)
		}
	}
	if v := verdicts(lab.Run(r, packet("third"))); v != "out 2" {
		t.Error(v)
	}
	text, err := r.Command([]string{"neighbours"})
	if err != nil || !strings.Contains(text, "10.0.2.7   02:00:00:00:00:77  port 2, heard 0s ago") {
		t.Errorf("%v\n%s", err, text)
	}
}

// Nobody answers: the packets go back, and no frame is lost. Without empty frames a waiting packet
// becomes the question.
func TestRouterAsksInVain(t *testing.T) {
	lab := nftest.New(t)
	r, one, _ := routerUnderTest(t)
	lab.Run(r, lab.Packet(1, to(one, nftest.UDP(t, "[fd00:1::2]:1", "[fd00:2::7]:2", "first"))), lab.Packet(1, to(one, nftest.UDP(t, "[fd00:1::2]:1", "[fd00:2::7]:2", "second"))))
	asked := nftest.Results(tick(r, time.Second))
	if verdicts(asked) != "out 2" {
		t.Fatal(verdicts(asked))
	}
	d := nftest.Decode(t, asked[0].Data)
	ask := d.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
	if ask.TargetAddress.String() != "fd00:2::7" || d.NetworkLayer().NetworkFlow().String() != "fd00:2::1->ff02::1:ff00:7" ||
		string(asked[0].Data[:6]) != "\x33\x33\xff\x00\x00\x07" {
		t.Errorf("%v", d)
	}
	var back []string
	for s := 2; s < 10; s++ {
		for _, result := range nftest.Results(tick(r, time.Duration(s)*time.Second)) {
			back = append(back, result.Verdict)
		}
	}
	if strings.Join(back, ", ") != "out 2" { // the second packet as the second question
		t.Error(back)
	}
	counted(t, r, map[string]uint64{"noNeighbour": 2})
	for n := range 10 {
		lab.Run(r, lab.Packet(1, to(one, nftest.UDP(t, "10.0.1.2:1", "10.0.2.8:2", fmt.Sprint(n)))))
	}
	counted(t, r, map[string]uint64{"noNeighbour": 2 + 10 - maxWaiting})
}

func TestRouterCommands(t *testing.T) {
	r, _, _ := routerUnderTest(t)
	if _, err := r.Command([]string{"add", "192.0.2.0/24=10.0.1.9"}); err != nil {
		t.Error(err)
	}
	if _, err := r.Command([]string{"delete", "10.9.1.0/24"}); err != nil {
		t.Error(err)
	}
	text, err := r.Command([]string{"routes"})
	want := "10.0.1.0/24 link port 1 10.0.2.0/24 link port 2 10.9.0.0/16 10.0.2.9 port 2 192.0.2.0/24 10.0.1.9 port 1 " +
		"fd00:1::/64 link port 1 fd00:2::/64 link port 2 fd09::/16 fd00:2::9 port 2"
	if err != nil || squeeze(text) != want {
		t.Errorf("%v\n%s", err, text)
	}
	for _, line := range []string{"add 10.0.1.0/24=10.0.2.9", "add 10.8.0.0/16=192.168.0.1", "add 10.8.0.0/16=fd00:1::9", "delete 10.0.1.0/24", "delete 10.77.0.0/16", "delete x", ""} {
		if _, err := r.Command(strings.Fields(line)); err == nil {
			t.Errorf("%q is done", line)
		}
	}
}

func balancerUnderTest(t testing.TB, args ...string) *balancer {
	b := start(t, "balancer", append([]string{"--vip", "10.0.0.100:80", "--mac", "02:00:00:00:00:99",
		"--server", "10.0.0.11:8080", "--server", "10.0.0.12:8080", "--server", "10.0.0.13:8080"}, args...)...).(*balancer)
	for n := byte(11); n < 20; n++ {
		b.neighbours.fix(netip.AddrFrom4([4]byte{10, 0, 0, n}), mac{2, 0, 0, 0, 0, n})
	}
	return b
}

// flowTo returns which server a client's flow goes to.
func flowTo(t *testing.T, lab *nftest.Lab, b *balancer, client int) string {
	t.Helper()
	frame := nftest.TCP(t, fmt.Sprintf("10.0.0.1:%d", client), "10.0.0.100:80", "S", "")
	for k, p := range []nf.Packet{lab.Packet(1, frame), lab.Unfinished(1, frame, 0)} {
		got := lab.Run(b, p)[0]
		if got.Verdict != "out 2" {
			t.Fatalf("client %d: %s", client, got.Verdict)
		}
		got.Packet.CompleteChecksum()
		d := nftest.Decode(t, got.Data)
		dst := d.NetworkLayer().NetworkFlow().Dst().String()
		if d.TransportLayer().TransportFlow().Dst().String() != "8080" || got.Data[5] != netip.MustParseAddr(dst).As4()[3] {
			t.Fatalf("%v", d)
		}
		if k == 1 {
			return dst
		}
	}
	return ""
}

func TestBalancer(t *testing.T) {
	lab := nftest.New(t)
	b := balancerUnderTest(t)
	first, count := map[int]string{}, map[string]int{}
	for client := 1000; client < 1600; client++ {
		first[client] = flowTo(t, lab, b, client)
		count[first[client]]++
	}
	for server, n := range count {
		if n < 150 || n > 250 {
			t.Errorf("%s has %d of 600 flows", server, n)
		}
	}
	// The answer comes from the virtual address.
	got := lab.Run(b, lab.Packet(2, nftest.TCP(t, "10.0.0.12:8080", "10.0.0.1:1000", "SA", "")), lab.Packet(2, nftest.TCP(t, "10.0.0.12:22", "10.0.0.1:1000", "SA", "")),
		lab.Packet(1, nftest.TCP(t, "10.0.0.12:8080", "10.0.0.1:1000", "SA", "")))
	if verdicts(got) != "out 1, out 1, out 2" {
		t.Error(verdicts(got))
	}
	if d := nftest.Decode(t, got[0].Data); d.NetworkLayer().NetworkFlow().String() != "10.0.0.100->10.0.0.1" || d.TransportLayer().TransportFlow().String() != "80->1000" {
		t.Errorf("%v", d)
	}
	if d := nftest.Decode(t, got[1].Data); d.NetworkLayer().NetworkFlow().String() != "10.0.0.12->10.0.0.1" {
		t.Errorf("%v", d)
	}
	// A server that goes takes only its own flows with it.
	if _, err := b.Command([]string{"remove", "10.0.0.12:8080"}); err != nil {
		t.Fatal(err)
	}
	for client, server := range first {
		now := flowTo(t, lab, b, client)
		if now != server && server != "10.0.0.12" || now == "10.0.0.12" {
			t.Fatalf("client %d moved from %s to %s", client, server, now)
		}
	}
	// One that comes takes no known flow, but new ones.
	if _, err := b.Command([]string{"add", "10.0.0.14:8080,weight=3"}); err != nil {
		t.Fatal(err)
	}
	if s := flowTo(t, lab, b, 1000); s == "10.0.0.14" {
		t.Error("a known flow moved")
	}
	count = map[string]int{}
	for client := 2000; client < 2500; client++ {
		count[flowTo(t, lab, b, client)]++
	}
	if count["10.0.0.14"] < 250 || count["10.0.0.14"] > 350 {
		t.Errorf("three of five parts of 500 flows: %v", count)
	}
	if _, err := b.Command([]string{"drain", "10.0.0.14:8080"}); err != nil {
		t.Fatal(err)
	}
	for client := 3000; client < 3050; client++ {
		if flowTo(t, lab, b, client) == "10.0.0.14" {
			t.Fatal("a new flow to a server that drains")
		}
	}
	if text, err := b.Command([]string{"servers"}); err != nil || !strings.Contains(text, "10.0.0.14:8080  3 ") || !strings.Contains(text, "draining") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestBalancerItself(t *testing.T) {
	lab := nftest.New(t)
	b := balancerUnderTest(t)
	got := lab.Run(b,
		lab.Packet(1, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", nobody, "10.0.0.100")),
		lab.Packet(1, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", nobody, "10.0.0.11")),
		lab.Packet(1, nftest.Echo(t, "10.0.0.1", "10.0.0.100", 7, true)),
		lab.Packet(1, nftest.Echo(t, "10.0.0.1", "10.0.0.11", 7, true)),
		lab.Packet(1, nftest.TCP(t, "10.0.0.1:1", "10.0.0.100:81", "S", "")),
		lab.Packet(2, to(b.mac, nftest.ARP(t, 2, nftest.SrcMAC, "10.0.0.11", string(b.mac[:]), "10.0.0.100"))))
	if v := verdicts(got); v != "out 1, out 2, out 1, out 2, drop, drop" {
		t.Error(v)
	}
	if d := nftest.Decode(t, got[2].Data); d.NetworkLayer().NetworkFlow().String() != "10.0.0.100->10.0.0.1" {
		t.Errorf("%v", d)
	}
	// A whole address: anything goes to a server, also IPv6 echo.
	six := start(t, "balancer", "--vip", "fd00::100", "--server", "fd00::11").(*balancer)
	six.neighbours.fix(netip.MustParseAddr("fd00::11"), mac{2, 0, 0, 0, 0, 11})
	got = lab.Run(six, lab.Packet(1, nftest.Echo(t, "fd00::1", "fd00::100", 7, true)), lab.Packet(2, nftest.Echo(t, "fd00::11", "fd00::1", 7, false)))
	if v := verdicts(got); v != "out 2, out 1" {
		t.Fatal(v)
	}
	for i, want := range []string{"fd00::1->fd00::11", "fd00::100->fd00::1"} {
		if d := nftest.Decode(t, got[i].Data); d.NetworkLayer().NetworkFlow().String() != want {
			t.Errorf("%v", d)
		}
	}
	// It asks who has a server.
	asking := start(t, "balancer", "--vip", "10.0.0.100:80", "--server", "10.0.0.11").(*balancer)
	lab.Run(asking, lab.Fresh(), lab.Packet(1, nftest.TCP(t, "10.0.0.1:1", "10.0.0.100:80", "S", "")))
	if v := verdicts(nftest.Results(tick(asking, time.Second))); v != "out 2" {
		t.Error(v)
	}
	lab.Run(asking, lab.Packet(2, to(asking.mac, nftest.ARP(t, 2, nftest.SrcMAC, "10.0.0.11", string(asking.mac[:]), "10.0.0.100"))))
	if v := verdicts(nftest.Results(tick(asking, time.Second))); v != "out 2" {
		t.Error("the packet that waited:", v)
	}
}

func natUnderTest(t testing.TB, args ...string) *nat {
	return start(t, "nat", append([]string{"--address", "203.0.113.1", "--address", "2001:db8::1", "--mac", "02:00:00:00:00:99"}, args...)...).(*nat)
}

func TestNAT(t *testing.T) {
	lab := nftest.New(t)
	for name, c := range map[string]struct{ there, back func(port uint16) []byte }{
		"TCP": {func(uint16) []byte { return nftest.TCP(t, "10.0.0.1:4000", "198.51.100.7:80", "S", "") },
			func(p uint16) []byte {
				return nftest.TCP(t, "198.51.100.7:80", fmt.Sprintf("203.0.113.1:%d", p), "SA", "")
			}},
		"UDP, a low port": {func(uint16) []byte { return nftest.UDP(t, "10.0.0.1:153", "198.51.100.7:153", "x") },
			func(p uint16) []byte {
				return nftest.UDP(t, "198.51.100.7:153", fmt.Sprintf("203.0.113.1:%d", p), "y")
			}},
		"UDP6": {func(uint16) []byte { return nftest.UDP(t, "[fd00::1]:4000", "[2001:db8:7::1]:153", "x") },
			func(p uint16) []byte {
				return nftest.UDP(t, "[2001:db8:7::1]:153", fmt.Sprintf("[2001:db8::1]:%d", p), "y")
			}},
		"echo":   {func(uint16) []byte { return nftest.Echo(t, "10.0.0.1", "198.51.100.7", 4000, true) }, func(p uint16) []byte { return nftest.Echo(t, "198.51.100.7", "203.0.113.1", p, false) }},
		"echo 6": {func(uint16) []byte { return nftest.Echo(t, "fd00::1", "2001:db8:7::1", 4000, true) }, func(p uint16) []byte { return nftest.Echo(t, "2001:db8:7::1", "2001:db8::1", p, false) }},
	} {
		t.Run(name, func(t *testing.T) {
			n := natUnderTest(t)
			packets := []nf.Packet{lab.Packet(1, c.there(0))}
			if !strings.HasPrefix(name, "echo") {
				packets = append(packets, lab.Unfinished(1, c.there(0), 0))
			}
			var outside uint16
			for _, p := range packets {
				got := lab.Run(n, p)[0]
				got.Packet.CompleteChecksum()
				d := nftest.Decode(t, got.Data)
				h := nf.ParseHeaders(got.Data)
				f := h.Flow(got.Data)
				if got.Verdict != "out 2" || !n.isOwn(f.Source()) || mac(got.Data[6:12]) != n.mac {
					t.Fatalf("%s: %v", got.Verdict, d)
				}
				outside = f.SrcPort
			}
			if want := uint16(4000); name == "UDP, a low port" && outside < 1024 || name != "UDP, a low port" && outside != want {
				t.Errorf("port %d outside", outside)
			}
			got := lab.Run(n, lab.Packet(2, c.back(outside)))[0]
			d := nftest.Decode(t, got.Data)
			h := nf.ParseHeaders(got.Data)
			f, want := h.Flow(got.Data), nf.ParseHeaders(c.there(0))
			if got.Verdict != "out 1" || f != want.Flow(c.there(0)).Reverse() || string(got.Data[:6]) != nftest.SrcMAC {
				t.Errorf("%s: %v", got.Verdict, d)
			}
			if v := verdicts(lab.Run(n, lab.Packet(2, c.back(outside+1)))); v != "drop" {
				t.Error("unasked:", v)
			}
		})
	}
}

// Two hosts with one port; a port outside again after its time.
func TestNATPorts(t *testing.T) {
	lab := nftest.New(t)
	n := natUnderTest(t, "--ports", "4000-4001", "--udp-timeout", "10s")
	run := func(host string) (uint16, string) {
		got := lab.Run(n, lab.Packet(1, nftest.UDP(t, host, "198.51.100.7:153", "")))[0]
		h := nf.ParseHeaders(got.Data)
		src, _ := h.Ports(got.Data)
		return src, got.Verdict
	}
	a, _ := run("10.0.0.1:4000")
	b, _ := run("10.0.0.2:4000")
	if _, v := run("10.0.0.3:4000"); a != 4000 || b != 4001 || v != "drop" {
		t.Errorf("ports %d, %d, then %s", a, b, v)
	}
	counted(t, n, map[string]uint64{"mappings": 2, "noPort": 1, "out": 2})
	tick(n, 5*time.Second)
	run("10.0.0.2:4000")
	tick(n, 11*time.Second)
	if c, v := run("10.0.0.3:4000"); c != 4000 || v != "out 2" {
		t.Errorf("port %d, %s", c, v)
	}
	text, err := n.Command([]string{"mappings"})
	if want := "protocol inside outside idle udp 10.0.0.2:4000 203.0.113.1:4001 6s udp 10.0.0.3:4000 203.0.113.1:4000 0s"; err != nil || squeeze(text) != want {
		t.Errorf("%v\n%s", err, text)
	}
}

// A free port is found if there is one, the next after the last.
func TestPortSet(t *testing.T) {
	var s portSet
	r := portRange{1000, 65535}
	for want := 1000; want <= 65535; want++ {
		p, ok := s.free(r)
		if !ok || int(p) != want {
			t.Fatalf("port %d, %v, want %d", p, ok, want)
		}
		s.add(p)
	}
	if p, ok := s.free(r); ok {
		t.Fatalf("port %d of a full set", p)
	}
	for _, p := range []uint16{1000, 40000, 65535} {
		s.remove(p)
		if got, ok := s.free(r); !ok || got != p {
			t.Errorf("port %d, %v, want %d", got, ok, p)
		}
		s.add(p)
	}
	for _, one := range []portRange{{1, 1}, {65535, 65535}, {1, 65535}} {
		var s portSet
		p, ok := s.free(one)
		s.add(p)
		if again, more := s.free(one); !ok || p != one.from || more != (one.to > one.from) || more && again != p+1 {
			t.Errorf("of %v: %d, then %d %v", one, p, again, more)
		}
	}
}

func TestNATOthers(t *testing.T) {
	lab := nftest.New(t)
	n := natUnderTest(t)
	sctp := nftest.Frame(t, append(nftest.IP("10.0.0.1", "198.51.100.7", layers.IPProtocolSCTP), gopacket.Payload("012345678901234567890123"))...)
	got := lab.Run(n,
		lab.Packet(2, nftest.ARP(t, 1, nftest.SrcMAC, "203.0.113.9", nobody, "203.0.113.1")),
		lab.Packet(1, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", nobody, "198.51.100.7")),
		lab.Packet(2, nftest.Echo(t, "198.51.100.7", "203.0.113.1", 7, true)),
		lab.Packet(1, sctp),
		lab.Packet(2, nftest.UDP(t, "198.51.100.7:1", "10.0.0.1:1", "")),
		lab.Packet(2, solicit(t, "fe80::7", "fe80::1")),
		lab.Packet(3, sctp))
	if v := verdicts(got); v != "out 2, out 2, out 2, drop, drop, out 1, next" {
		t.Error(v)
	}
}

// ICMP errors find their way back, with what they quote as it was.
func TestNATErrors(t *testing.T) {
	lab := nftest.New(t)
	n := natUnderTest(t)
	sent := lab.Run(n, lab.Packet(1, nftest.UDP(t, "10.0.0.1:153", "198.51.100.7:153", "question")))[0].Data
	quote := append([]byte{}, sent[14:14+28]...)
	unreachable := nftest.Frame(t, append(nftest.IP("198.51.100.254", "203.0.113.1", layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 1)}, gopacket.Payload(quote))...)
	got := lab.Run(n, lab.Packet(2, unreachable))[0]
	d := nftest.Decode(t, got.Data)
	h := nf.ParseHeaders(got.Data)
	inner, size, ports, ok := quoted(got.Data[h.Payload:h.End], 4)
	q := got.Data[h.Payload:h.End]
	if got.Verdict != "out 1" || d.NetworkLayer().NetworkFlow().String() != "198.51.100.254->10.0.0.1" || !ok || inner.Protocol != 17 || size != 4 ||
		string(q[12:16]) != "\x0a\x00\x00\x01" || binary.BigEndian.Uint16(q[ports:]) != 153 || nf.Checksum(nf.Sum(0, q[:20])) != 0 {
		t.Errorf("%s: %v\n% x", got.Verdict, d, q)
	}
	// The other way: the host inside says that nobody listens to an answer.
	answer := lab.Run(n, lab.Packet(2, nftest.UDP(t, "198.51.100.7:153", fmt.Sprintf("203.0.113.1:%d", binary.BigEndian.Uint16(sent[34:])), "answer")))[0].Data
	refused := nftest.Frame(t, append(nftest.IP("10.0.0.1", "198.51.100.7", layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, gopacket.Payload(append([]byte{}, answer[14:14+28]...)))...)
	got = lab.Run(n, lab.Packet(1, refused))[0]
	d = nftest.Decode(t, got.Data)
	h = nf.ParseHeaders(got.Data)
	q = got.Data[h.Payload:h.End]
	if got.Verdict != "out 2" || d.NetworkLayer().NetworkFlow().String() != "203.0.113.1->198.51.100.7" ||
		string(q[16:20]) != "\xcb\x00\x71\x01" || string(q[22:24]) != string(sent[34:36]) {
		t.Errorf("%s: %v\n% x", got.Verdict, d, q)
	}
	// About what nobody sent.
	copy(unreachable[14+28+20:], "\x00\x09")
	if v := verdicts(lab.Run(n, lab.Packet(2, unreachable))); v != "drop" {
		t.Error(v)
	}
}
