package packetfile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/klauspost/compress/zstd"
)

var at = time.Unix(1767323045, 123456789)

// pcap returns a pcap file of packets, in the form of libpcap.
func pcap(order binary.ByteOrder, magic uint32, link LinkType, packets ...string) []byte {
	frac := uint32(123456)
	if magic == pcapNano {
		frac = 123456789
	}
	b := put(order, nil, magic, uint32(2)|4<<16, 0, 0, 65535, uint32(link))
	for _, p := range packets {
		b = append(put(order, b, uint32(at.Unix()), frac, uint32(len(p)), uint32(len(p)+1)), p...)
	}
	return b
}

func put(order binary.ByteOrder, b []byte, words ...uint32) []byte {
	for _, w := range words {
		var x [4]byte
		order.PutUint32(x[:], w)
		b = append(b, x[:]...)
	}
	return b
}

// pcapng returns a pcapng file as gopacket writes it.
func pcapng(t testing.TB, packets ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{Name: "s1–c0", LinkType: layers.LinkTypeEthernet, SnapLength: 65535}, pcapgo.DefaultNgWriterOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(p), Length: len(p) + 1}, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compressed(t testing.TB, make func(io.Writer) io.WriteCloser, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := make(&out)
	w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read lists what a file holds.
func read(b []byte) (list []string, err error) {
	f, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	for {
		p, err := f.Next()
		if err != nil {
			return list, err
		}
		list = append(list, fmt.Sprintf("%s %d %q %s/%d", p.Time.UTC().Format("15:04:05.000000000"), p.LinkType, p.Interface, p.Data, p.Length))
	}
}

func TestFormats(t *testing.T) {
	zip := func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
	zst := func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	micro := `03:04:05.123456000 1 "" one/4|03:04:05.123456000 1 "" two/4`
	nano := strings.ReplaceAll(micro, "456000", "456789")
	ng := strings.ReplaceAll(nano, `""`, `"s1–c0"`)
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"little endian", pcap(binary.LittleEndian, pcapMicro, 1, "one", "two"), micro},
		{"big endian", pcap(binary.BigEndian, pcapMicro, 1, "one", "two"), micro},
		{"nanoseconds", pcap(binary.LittleEndian, pcapNano, 1, "one", "two"), nano},
		{"pcapng", pcapng(t, "one", "two"), ng},
		{"pcapng twice", append(pcapng(t, "one"), pcapng(t, "two")...), ng},
		{"gzip", compressed(t, zip, pcapng(t, "one", "two")), ng},
		{"zstd", compressed(t, zst, pcapng(t, "one", "two")), ng},
		{"a simple packet of microseconds", hexFile(t,
			"0a0d0d0a0000001c1a2b3c4d00010000ffffffffffffffff0000001c",
			"00000001 0000001c 00010000 00000002 0009000106000000 0000001c",
			"00000003 00000014 00000003 61620000 00000014"), ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(tt.file)
			if tt.want == "" {
				if len(got) != 1 || !strings.HasSuffix(got[0], ` 1 "" ab/3`) {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if err != io.EOF || strings.Join(got, "|") != tt.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func hexFile(t *testing.T, blocks ...string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(blocks, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A file may end anywhere, as after kill -9: what was whole is read.
func TestCutFiles(t *testing.T) {
	for name, file := range map[string][]byte{"pcap": pcap(binary.LittleEndian, pcapMicro, 1, "one", "two"), "pcapng": pcapng(t, "one", "two")} {
		most := 0
		for n := range file {
			got, err := read(file[:n])
			if err == nil {
				t.Fatalf("%s, %d bytes: no end", name, n)
			}
			if len(got) < most {
				t.Errorf("%s, %d bytes: %d packets, where fewer bytes had %d", name, n, len(got), most)
			}
			most = len(got)
		}
		if _, err := read(file[:len(file)-1]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	for name, file := range map[string]string{
		"empty": "", "short": "ab", "text": "hello, this is no capture",
		"huge packet": string(put(binary.LittleEndian, pcap(binary.LittleEndian, pcapMicro, 1), 0, 0, 1<<31, 1<<31)),
		"huge block":  string(put(binary.LittleEndian, pcapng(t), 6, 1<<31, 0, 0)),
		"tiny block":  string(put(binary.LittleEndian, pcapng(t), 6, 4, 0, 0)),
		"no interface": string(put(binary.BigEndian, []byte("\x0a\x0d\x0d\x0a\x00\x00\x00\x1c\x1a\x2b\x3c\x4d\x00\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x1c"),
			6, 32, 0, 0, 0, 0, 0, 32)),
	} {
		if _, err := read([]byte(file)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNetwork(t *testing.T) {
	ip4 := "\x45" + strings.Repeat("4", 19)
	ip6 := "\x60" + strings.Repeat("6", 39)
	mac := strings.Repeat("m", 12)
	for _, tt := range []struct {
		link LinkType
		data string
		want string
	}{
		{LinkEthernet, mac + "\x08\x00" + ip4, ip4},
		{LinkEthernet, mac + "\x86\xdd" + ip6, ip6},
		{LinkEthernet, mac + "\x81\x00\x00\x05\x08\x00" + ip4, ip4},
		{LinkEthernet, mac + "\x88\xa8\x00\x05\x81\x00\x00\x05\x86\xdd" + ip6, ip6},
		{LinkEthernet, mac + "\x08\x06" + ip4, ""},
		{LinkEthernet, mac + "\x81", ""},
		{LinkSLL, strings.Repeat("s", 14) + "\x08\x00" + ip4, ip4},
		{LinkSLL2, "\x08\x00" + strings.Repeat("s", 18) + ip4, ip4},
		{LinkNull, "\x02\x00\x00\x00" + ip4, ip4},
		{LinkLoop, "\x00\x00\x00\x18" + ip6, ip6},
		{LinkRaw, ip4, ip4}, {LinkRawBSD, ip6, ip6}, {LinkIPv6, ip6, ip6},
		{LinkRaw, "", ""}, {LinkNull, "x", ""}, {LinkSLL2, "x", ""},
		{147, ip4, ""},
	} {
		if got := (Packet{LinkType: tt.link, Data: []byte(tt.data)}).Network(); string(got) != tt.want {
			t.Errorf("link type %d, %q: %q", tt.link, tt.data, got)
		}
	}
	if !LinkSLL2.Known() || LinkType(147).Known() {
		t.Error("Known")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(pcap(binary.LittleEndian, pcapMicro, 1, "one", "two"))
	f.Add(pcap(binary.BigEndian, pcapNano, LinkSLL, "one"))
	f.Add(pcapng(f, "one", "two"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		for range 1000 {
			p, err := r.Next()
			if err != nil {
				return
			}
			p.Network()
		}
	})
}
