package capture

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// bigFrame returns a TCP segment with a payload of n bytes that counts, over IPv4 or IPv6.
func bigFrame(six bool, flags byte, n int) []byte {
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}
	if six {
		b[12], b[13] = 0x86, 0xDD
		b = append(b, 0x60, 0, 0, 0, 0, 0, protocolTCP, 64)
		for _, last := range []byte{1, 2} {
			b = append(b, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last)
		}
		binary.BigEndian.PutUint16(b[18:], uint16(tcpLen+n))
	} else {
		b = append(b, 0x45, 0, 0, 0, 0, 9, 0x40, 0, 64, protocolTCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
		binary.BigEndian.PutUint16(b[16:], uint16(ip4Len+tcpLen+n))
	}
	b = append(b, 0, 80, 0x9C, 0x40, 0, 0, 0, 100, 0, 0, 0, 1, tcpLen<<2, flags, 0xFF, 0xFF, 0, 0, 0, 0)
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		name     string
		six      bool
		payload  int
		segment  int
		unsummed bool
		want     []int // payloads
	}{
		{"short", false, 100, 0, false, []int{100}},
		{"checksum only", false, 100, 0, true, []int{100}},
		{"no payload", false, 0, 0, true, []int{0}},
		{"two and a bit", false, 2000, 900, true, []int{900, 900, 200}},
		{"exactly two", false, 1800, 900, true, []int{900, 900}},
		{"IPv6", true, 3000, 1428, true, []int{1428, 1428, 144}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCapture(t, Config{Segment: true})
			i := c.newInterface("eth0", "")
			b := bigFrame(tt.six, tcpACK|tcpPSH|tcpFIN, tt.payload)
			var s segmenter
			list := s.split(&packet{iface: i, data: b, length: len(b), segment: tt.segment, unsummed: tt.unsummed})
			var sizes []int
			var text []byte
			head := len(b) - tt.payload
			for k, p := range list {
				sizes = append(sizes, len(p.data)-head)
				text = append(text, p.data[head:]...)
				if fin := p.data[head-tcpLen+13]&tcpFIN != 0; fin != (k == len(list)-1) {
					t.Errorf("segment %d: FIN %v", k, fin)
				}
				c.append(&list[k])
			}
			if !slices.Equal(sizes, tt.want) || !bytes.Equal(text, b[head:]) {
				t.Errorf("segments of %v, want %v", sizes, tt.want)
			}
			if tt.unsummed {
				wellFormed(t, c.out)
			}
		})
	}
}

func TestNotSplit(t *testing.T) {
	for name, b := range map[string][]byte{
		"ARP":         append(make([]byte, 12), 8, 6, 0, 1),
		"fragment":    append(make([]byte, 12), 8, 0, 0x45),
		"TCP options": func() []byte { b := bigFrame(false, tcpACK, 4); b[46] = 0xF0; return b }(),
		"nothing":     nil,
	} {
		var s segmenter
		list := s.split(&packet{data: b, length: len(b), segment: 100, unsummed: true})
		if len(list) != 1 || !bytes.Equal(list[0].data, b) || list[0].comment == nil {
			t.Errorf("%s: %d packets, comment %q", name, len(list), list[0].comment)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(bigFrame(false, tcpACK, 3000), 1000)
	f.Add(bigFrame(true, tcpACK, 3000), 1)
	f.Add(numberedFrame(1, 5000, 0x81, 0, 0, 5), 1400)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if len(b) > 1<<16 || size < 0 {
			return
		}
		before := bytes.Clone(b)
		var s segmenter
		total := 0
		list := s.split(&packet{data: b, length: len(b), segment: size, unsummed: true})
		for _, p := range list {
			if len(p.data) > len(b) {
				t.Fatalf("a segment of %d bytes out of %d", len(p.data), len(b))
			}
			total += len(p.data)
		}
		if total < len(b) {
			t.Fatalf("%d bytes out of %d", total, len(b))
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the packet was changed")
		}
	})
}
