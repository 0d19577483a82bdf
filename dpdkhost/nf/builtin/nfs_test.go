package builtin

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
)

func TestBridge(t *testing.T) {
	lab := nftest.New(t)
	f := start(t, "bridge", "--pair", "1:2", "--pair", "3:7")
	b := nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "x")
	got := lab.Run(f, lab.Packet(1, b), lab.Packet(2, b), lab.Packet(3, b), lab.Packet(7, b), lab.Packet(4, b), lab.Packet(300, b))
	if want := "out 2, out 1, out 7, out 3, next, next"; verdicts(got) != want {
		t.Errorf("%s, want %s", verdicts(got), want)
	}
	if string(got[0].Data) != string(b) {
		t.Error("the packet is another")
	}
}

func TestForward(t *testing.T) {
	lab := nftest.New(t)
	b := nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "x")
	for line, want := range map[string]string{"": "next", "--service 7": "to 7", "--port 3": "out 3"} {
		if got := lab.Run(start(t, "forward", strings.Fields(line)...), lab.Packet(1, b)); verdicts(got) != want {
			t.Errorf("%s: %s, want %s", line, verdicts(got), want)
		}
	}
	got := lab.Run(start(t, "forward", "--swap", "--dst", "02:00:00:00:00:09"), lab.Packet(1, b))[0].Data
	if string(got[:6]) != "\x02\x00\x00\x00\x00\x09" || string(got[6:12]) != nftest.DstMAC || string(got[12:]) != string(b[12:]) {
		t.Errorf("% x", got)
	}
}

// solicit is a neighbour solicitation.
func solicit(t *testing.T, src, dst string) []byte {
	list := nftest.IP(src, dst, layers.IPProtocolICMPv6)
	list[1].(*layers.IPv6).HopLimit = 255
	return nftest.Frame(t, append(list, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)},
		&layers.ICMPv6NeighborSolicitation{TargetAddress: netip.MustParseAddr(dst).AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: []byte(nftest.SrcMAC)}}})...)
}

func TestARP(t *testing.T) {
	lab := nftest.New(t)
	f := start(t, "arp", "--address", "10.0.0.2=02:00:00:00:00:07", "--address", "fd00::2=02:00:00:00:00:08")
	nobody := "\x00\x00\x00\x00\x00\x00"
	got := lab.Run(f,
		lab.Packet(3, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", nobody, "10.0.0.2")),
		lab.Packet(3, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", nobody, "10.0.0.3")),
		lab.Packet(3, nftest.ARP(t, 2, nftest.SrcMAC, "10.0.0.2", nftest.DstMAC, "10.0.0.2")),
		lab.Packet(4, solicit(t, "fd00::1", "fd00::2")),
		lab.Packet(4, solicit(t, "::", "fd00::2")),
		lab.Packet(4, solicit(t, "fd00::1", "fd00::3")))
	if want := "out 3, next, next, out 4, out 4, next"; verdicts(got) != want {
		t.Fatalf("%s, want %s", verdicts(got), want)
	}
	a := nftest.Decode(t, got[0].Data).Layer(layers.LayerTypeARP).(*layers.ARP)
	if a.Operation != 2 || string(a.SourceHwAddress) != "\x02\x00\x00\x00\x00\x07" || string(a.SourceProtAddress) != "\x0a\x00\x00\x02" ||
		string(a.DstHwAddress) != nftest.SrcMAC || string(a.DstProtAddress) != "\x0a\x00\x00\x01" || string(got[0].Data[:6]) != nftest.SrcMAC {
		t.Errorf("%+v", a)
	}
	p := nftest.Decode(t, got[3].Data)
	n := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	ip := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if n.Flags != 0x60 || n.TargetAddress.String() != "fd00::2" || len(n.Options) != 1 || string(n.Options[0].Data) != "\x02\x00\x00\x00\x00\x08" ||
		ip.DstIP.String() != "fd00::1" || ip.HopLimit != 255 {
		t.Errorf("%v", p)
	}
	p = nftest.Decode(t, got[4].Data)
	ip = p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if ip.DstIP.String() != "ff02::1" || string(got[4].Data[:6]) != "\x33\x33\x00\x00\x00\x01" {
		t.Errorf("duplicate address detection is answered to %v", p)
	}
	counted(t, f, map[string]uint64{"answered": 3})
}

func TestMonitor(t *testing.T) {
	lab := nftest.New(t)
	f := start(t, "monitor")
	big := nftest.UDP(t, "10.0.0.1:1", "10.0.0.9:2", strings.Repeat("x", 1000))
	got := lab.Run(f, lab.Packet(1, big), lab.Packet(1, big),
		lab.Packet(1, nftest.TCP(t, "10.0.0.2:1", "10.0.0.9:2", "S", "")),
		lab.Packet(1, nftest.Echo(t, "fd00::1", "fd00::2", 1, true)),
		lab.Packet(1, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", nftest.SrcMAC, "10.0.0.2")),
		lab.Packet(1, []byte("not even Ethernet")))
	if verdicts(got) != "next, next, next, next, next, next" {
		t.Error(verdicts(got))
	}
	counted(t, f, map[string]uint64{"packets": 6, "ipv4": 3, "ipv6": 1, "udp": 2, "tcp": 1, "icmp": 1, "arp": 1, "other": 1})
	text, err := f.(nf.Commander).Command([]string{"top", "2"})
	want := "talker    packets  bytes  at most\n10.0.0.1  2        2084   -0\nfd00::1   1        66     -0\n"
	if err != nil || text != want {
		t.Errorf("%v\n%s, want\n%s", err, text, want)
	}
	for _, words := range [][]string{nil, {"top", "0"}, {"bottom"}} {
		if _, err := f.(nf.Commander).Command(words); err == nil {
			t.Errorf("%q is a command", words)
		}
	}
}

// More talkers than there is room for: the largest stay.
func TestMonitorForgets(t *testing.T) {
	lab := nftest.New(t)
	f := start(t, "monitor", "--talkers", "10")
	for n := range 200 {
		small := netip.AddrFrom4([4]byte{10, 1, 0, byte(n)}).String()
		lab.Run(f, lab.Packet(1, nftest.UDP(t, "10.0.0.1:1", "10.0.0.9:2", strings.Repeat("x", 1000))), lab.Packet(1, nftest.UDP(t, small+":1", "10.0.0.9:2", "")))
	}
	text, err := f.(nf.Commander).Command([]string{"top", "1"})
	if err != nil || !strings.Contains(text, "10.0.0.1  200      208400  -0") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestLimiter(t *testing.T) {
	lab := nftest.New(t)
	f := start(t, "limiter", "--rate", "8kbit", "--burst", "2000", "--per", "source") // 1,000 bytes a second
	a := nftest.UDP(t, "10.0.0.1:1", "10.0.0.9:2", strings.Repeat("x", 1000-42))
	b := nftest.UDP(t, "10.0.0.2:1", "10.0.0.9:2", strings.Repeat("x", 1000-42))
	run := func() string {
		return verdicts(lab.Run(f, lab.Packet(1, a), lab.Packet(1, a), lab.Packet(1, a), lab.Packet(1, b)))
	}
	if got := run(); got != "next, next, drop, next" {
		t.Error(got)
	}
	tick(f, time.Second)
	if got := run(); got != "next, drop, drop, next" {
		t.Error("a second later:", got)
	}
	counted(t, f, map[string]uint64{"passed": 5, "dropped": 3, "buckets": 2})
	tick(f, 10*time.Second)
	counted(t, f, map[string]uint64{"buckets": 0})
	full := start(t, "limiter", "--rate", "1mbit", "--per", "source", "--buckets", "1")
	if got := verdicts(lab.Run(full, lab.Packet(1, a), lab.Packet(1, b))); got != "next, drop" {
		t.Error("no room for a bucket:", got)
	}
}

func TestTracker(t *testing.T) {
	lab := nftest.New(t)
	file := filepath.Join(t.TempDir(), "flows.json")
	f := start(t, "tracker", "--export", file)
	there := func(flags string) nf.Packet {
		return lab.Packet(1, nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", flags, ""))
	}
	back := func(flags string) nf.Packet {
		return lab.Packet(2, nftest.TCP(t, "10.0.0.2:80", "10.0.0.1:4000", flags, ""))
	}
	lab.Run(f, there("S"), back("SA"), there("A"), lab.Packet(1, nftest.Echo(t, "10.0.0.1", "10.0.0.2", 7, true)), lab.Packet(2, nftest.Echo(t, "10.0.0.2", "10.0.0.1", 7, false)))
	text, err := f.(nf.Commander).Command([]string{"flows"})
	want := "flow                                 packets  bytes    state  idle\n" +
		"icmp 10.0.0.1:7 > 10.0.0.2           1/1      60/60           0s\n" +
		"tcp 10.0.0.1:4000 > 10.0.0.2:80      2/1      120/60   open   0s\n"
	if err != nil || squeeze(text) != squeeze(want) {
		t.Errorf("%v\n%s", err, text)
	}
	tick(f, time.Second)
	lab.Run(f, there("FA"), back("FA"))
	tick(f, 4*time.Second)
	counted(t, f, map[string]uint64{"flows": 1, "ended": 1})
	b, err := os.ReadFile(file)
	var e exported
	if err != nil || json.Unmarshal(b, &e) != nil || e.State != "closed" || e.Packets != [2]uint64{3, 2} || e.Port != 80 || e.Last.Sub(e.First) != time.Second {
		t.Errorf("%v %s", err, b)
	}
	tick(f, time.Hour)
	counted(t, f, map[string]uint64{"flows": 0, "ended": 2})
	if text, err := f.(nf.Commander).Command([]string{"json"}); err != nil || text != "[]\n" {
		t.Errorf("%v %s", err, text)
	}
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestPcap(t *testing.T) {
	lab := nftest.New(t)
	name := filepath.Join(t.TempDir(), "x.pcap")
	f := start(t, "pcap", "--file", name, "--snap", "60", "--limit", "200")
	b := nftest.UDP(t, "10.0.0.1:1", "10.0.0.9:2", strings.Repeat("x", 100))
	lab.Run(f, lab.Packet(1, b), lab.Packet(1, b), lab.Packet(1, b))
	if err := f.(*pcap).Close(); err != nil {
		t.Fatal(err)
	}
	counted(t, f, map[string]uint64{"written": 2, "skipped": 1})
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	data, info, err := r.ReadPacketData()
	if err != nil || string(data) != string(b[:60]) || info.Length != len(b) || !info.Timestamp.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("%v %+v % x", err, info, data)
	}
	second := start(t, "pcap", "--file", name)
	second.(*pcap).Close()
	if _, err := os.Stat(name + ".1"); err != nil {
		t.Error("the second instance has no file of its own")
	}
}
