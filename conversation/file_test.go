package conversation

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/klauspost/compress/zstd"

	"weft/control"
	"weft/internal/packetfile"
)

// A segment is a TCP segment between a switch at 10.0.0.1:40000 and a controller at
// 10.0.0.2.
type segment struct {
	fromSwitch bool
	seq        uint32
	syn        bool
	data       string
}

// A dump writes segments to a capture file.
type dump struct {
	link LinkType
	v6   bool
	port uint16 // the controller's
}

type LinkType = packetfile.LinkType

// before is what stands before the network layer of a link type.
func (d dump) before() string {
	mac := "\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x01"
	ether := "\x08\x00"
	if d.v6 {
		ether = "\x86\xdd"
	}
	return map[LinkType]string{
		packetfile.LinkEthernet: mac + ether, packetfile.LinkSLL: strings.Repeat("\x00", 14) + ether,
		packetfile.LinkSLL2: ether + strings.Repeat("\x00", 18), packetfile.LinkNull: "\x02\x00\x00\x00",
	}[d.link]
}

func (d dump) file(t testing.TB, segments ...segment) []byte {
	t.Helper()
	var out bytes.Buffer
	w := pcapgo.NewWriterNanos(&out)
	head := binary.LittleEndian.AppendUint32(nil, 0xa1b23c4d)
	for _, v := range []uint32{2 | 4<<16, 0, 0, 1 << 16, uint32(d.link)} { // gopacket knows no SLL2
		head = binary.LittleEndian.AppendUint32(head, v)
	}
	out.Write(head)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, s := range segments {
		packet := append([]byte(d.before()), d.packet(t, s)...)
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(packet), Length: len(packet)}, packet); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Millisecond)
	}
	return out.Bytes()
}

// packet returns a segment with its IP header.
func (d dump) packet(t testing.TB, s segment) []byte {
	t.Helper()
	port := d.port
	if port == 0 {
		port = 6653
	}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: layers.TCPPort(port), Seq: s.seq, SYN: s.syn, ACK: !s.syn || !s.fromSwitch, Window: 100}
	src, dst := net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 2)
	if d.v6 {
		src, dst = net.ParseIP("fd00::1"), net.ParseIP("fd00::2")
	}
	if !s.fromSwitch {
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
		src, dst = dst, src
	}
	var ip gopacket.NetworkLayer = &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
	if d.v6 {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
	}
	tcp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ip.(gopacket.SerializableLayer), tcp, gopacket.Payload(s.data)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Messages of OpenFlow 1.3.
const (
	hello    = "\x04\x00\x00\x08\x00\x00\x00\x01"
	echo     = "\x04\x02\x00\x0c\x00\x00\x00\x02abcd"
	reply    = "\x04\x03\x00\x0c\x00\x00\x00\x02abcd"
	barrier  = "\x04\x14\x00\x08\x00\x00\x00\x03"
	features = "\x04\x06\x00\x20\x00\x00\x00\x04" + "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// readAll returns what a file says, a word for each message: who, type and connection.
func readAll(b []byte) (string, Report, error) {
	var list []string
	r, err := ReadFile(bytes.NewReader(b), Ports(), func(m control.TapMessage) error {
		who := "c"
		if m.FromSwitch {
			who = "s"
		}
		list = append(list, fmt.Sprintf("%s%d.%d", who, m.Data.Type(), m.Conn))
		return nil
	})
	return strings.Join(list, " "), r, err
}

func TestReadFile(t *testing.T) {
	up := func(seq uint32, data string) segment { return segment{fromSwitch: true, seq: seq, data: data} }
	down := func(seq uint32, data string) segment { return segment{seq: seq, data: data} }
	syn := segment{fromSwitch: true, seq: 99, syn: true}
	synAck := segment{seq: 499, syn: true}
	all := []segment{syn, synAck, up(100, hello), down(500, hello), down(508, barrier+echo), up(108, features+reply)}
	const want = "s0.1 c0.1 c20.1 c2.1 s6.1 s3.1"
	for _, tt := range []struct {
		name     string
		dump     dump
		segments []segment
		want     string
		report   Report // what else than Packets, Messages and Connections
	}{
		{"Ethernet", dump{link: packetfile.LinkEthernet}, all, want, Report{}},
		{"IPv6", dump{link: packetfile.LinkEthernet, v6: true}, all, want, Report{}},
		{"cooked", dump{link: packetfile.LinkSLL}, all, want, Report{}},
		{"cooked 2", dump{link: packetfile.LinkSLL2}, all, want, Report{}},
		{"loopback of BSD", dump{link: packetfile.LinkNull}, all, want, Report{}},
		{"raw", dump{link: packetfile.LinkRaw}, all, want, Report{}},
		{"another port, from the HELLO on", dump{link: packetfile.LinkRaw, port: 7000}, all, want, Report{}},
		{"another port, from the middle on", dump{link: packetfile.LinkRaw, port: 7000}, all[4:], "", Report{}},
		{"a known port, from the middle on", dump{link: packetfile.LinkRaw}, all[4:], "c20.1 c2.1 s6.1 s3.1", Report{}},
		{"no OpenFlow", dump{link: packetfile.LinkRaw, port: 80}, []segment{syn, up(100, "GET / HTTP/1.0\r\n\r\n"), down(500, "HTTP/1.0 200\r\n")}, "", Report{}},
		{"no IP inside", dump{link: 147}, all, "", Report{Unknown: []int{147}}},
		{"sent twice", dump{link: packetfile.LinkRaw}, []segment{syn, syn, up(100, hello), up(100, hello), up(100, hello+echo), up(104, hello[4:]+echo+barrier)}, "s0.1 s2.1 s20.1", Report{}},
		{"out of order", dump{link: packetfile.LinkRaw}, []segment{syn, up(120, barrier), up(108, echo), up(100, hello), up(128, echo)}, "s0.1 s2.1 s20.1 s2.1", Report{}},
		{"byte by byte", dump{link: packetfile.LinkRaw}, slices.Concat([]segment{syn}, single(100, hello+echo+barrier)), "s0.1 s2.1 s20.1", Report{}},
		{"a segment is missing", dump{link: packetfile.LinkRaw}, []segment{syn, up(100, hello), up(120, barrier), up(128, echo)}, "s0.1 s20.1 s2.1", Report{Gaps: 1}},
		{"half a message is missing", dump{link: packetfile.LinkRaw}, []segment{syn, up(100, hello+echo[:5]), up(120, barrier)}, "s0.1 s20.1", Report{Gaps: 1, Skipped: 5}},
		{"half a message at the end", dump{link: packetfile.LinkRaw}, []segment{syn, up(100, hello+echo[:5])}, "s0.1", Report{Skipped: 5}},
		{"nonsense within", dump{link: packetfile.LinkRaw}, []segment{syn, up(100, hello), up(108, "\xff\xff\xff\xff\xff\xff\xff\xff"), up(116, echo)}, "s0.1 s2.1", Report{Skipped: 8}},
		{"the ports used anew", dump{link: packetfile.LinkRaw}, []segment{syn, up(100, hello+echo), {fromSwitch: true, seq: 7000, syn: true}, up(7001, hello+barrier)}, "s0.1 s2.1 s0.2 s20.2", Report{}},
		{"a switch that listens", dump{link: packetfile.LinkRaw}, []segment{down(500, hello), down(508, features), up(100, hello+barrier)}, "c0.1 s6.1 c0.1 c20.1", Report{}},
		{"sequence numbers that wrap", dump{link: packetfile.LinkRaw}, []segment{{fromSwitch: true, seq: 1<<32 - 5, syn: true}, up(1<<32-4, hello), up(4, echo)}, "s0.1 s2.1", Report{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, report, err := readAll(tt.dump.file(t, tt.segments...))
			tt.report.Packets, tt.report.Messages, tt.report.Connections = len(tt.segments), report.Messages, report.Connections
			if err != nil || got != tt.want || fmt.Sprint(report) != fmt.Sprint(tt.report) || report.Gaps != tt.report.Gaps {
				t.Errorf("got %q, %+v, %v", got, report, err)
			}
			if nothing := report.Describe(Ports()) != nil; nothing != (tt.want == "") {
				t.Errorf("Describe: %v", report.Describe(Ports()))
			}
		})
	}
}

// single cuts data into segments of a byte.
func single(seq uint32, data string) (list []segment) {
	for i := range len(data) {
		list = append(list, segment{fromSwitch: true, seq: seq + uint32(i), data: data[i : i+1]})
	}
	return list
}

// recorded returns a capture in testdata.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".pcapng.zst"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := z.DecodeAll(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// A file of weft's that ends anywhere is read up to there.
func TestReadCutFile(t *testing.T) {
	file := recorded(t, "builtin-1.3")
	most := 0
	for n := 300; n < len(file); n += 61 {
		_, report, err := readAll(file[:n])
		if err != nil || report.Messages < most {
			t.Fatalf("%d bytes: %+v, %v", n, report, err)
		}
		most = report.Messages
	}
	if _, report, err := readAll(file[:len(file)-200]); !report.Cut || !strings.Contains(report.String(), "ends within a packet") {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestReadNoCapture(t *testing.T) {
	if _, _, err := readAll([]byte("this is a text")); err == nil {
		t.Error("no error")
	}
}

func FuzzReadFile(f *testing.F) {
	syn := segment{fromSwitch: true, seq: 99, syn: true}
	f.Add(dump{link: packetfile.LinkRaw}.file(f, syn, segment{fromSwitch: true, seq: 100, data: hello + echo}))
	f.Add(dump{link: packetfile.LinkEthernet}.file(f, syn, segment{fromSwitch: true, seq: 108, data: echo}, segment{seq: 5, data: barrier}))
	f.Add(recorded(f, "builtin-1.3")[:4000])
	f.Fuzz(func(t *testing.T, b []byte) {
		ReadFile(bytes.NewReader(b), Ports(), func(m control.TapMessage) error {
			if len(m.Data) < control.HeaderLen || int(binary.BigEndian.Uint16(m.Data[2:])) != len(m.Data) {
				t.Errorf("%x is no whole message", []byte(m.Data))
			}
			return nil
		})
	})
}

// Segments of a stream, in any order and cut in any way, give the stream, or parts of it
// with gaps where parts are missing.
func FuzzSegments(f *testing.F) {
	f.Add([]byte("0123456789"), []byte{0, 4, 2, 6, 8, 2}, uint32(1<<32-3))
	f.Add([]byte("0123456789"), []byte{6, 4, 0, 3, 1, 5}, uint32(7))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, first uint32) {
		var h half
		h.segment(first-1, true, time.Time{}, nil, nil)
		got, at, gaps := []byte(nil), 0, 0
		deliver := func(data []byte, gap bool) error {
			if gap {
				gaps++
				at = bytes.Index(stream[at:], data) + at // anywhere ahead
				if at < 0 {
					t.Fatalf("%q is not in the stream", data)
				}
			} else if !bytes.HasPrefix(stream[min(at, len(stream)):], data) {
				t.Fatalf("%q at %d of %q", data, at, stream)
			}
			at += len(data)
			got = append(got, data...)
			return nil
		}
		if len(stream) > 200 || hasRepeats(stream) {
			return
		}
		for i := 0; i+1 < len(cuts); i += 2 {
			start := min(int(cuts[i]), len(stream))
			end := min(start+int(cuts[i+1]), len(stream))
			h.segment(first+uint32(start), false, time.Time{}, stream[start:end], deliver)
		}
		h.flush(deliver)
		if gaps == 0 && !bytes.HasPrefix(stream, got) {
			t.Errorf("got %q of %q", got, stream)
		}
	})
}

// hasRepeats reports whether a byte stands twice in b.
func hasRepeats(b []byte) bool {
	var seen [256]bool
	for _, c := range b {
		if seen[c] {
			return true
		}
		seen[c] = true
	}
	return false
}
