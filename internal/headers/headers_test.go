package headers

import (
	"encoding/hex"
	"fmt"
	"testing"
)

func TestFrame(t *testing.T) {
	for _, c := range []struct{ name, frame, want string }{
		{"ARP request", "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002",
			"headers.Ethernet headers.ARP{Operation:0x1"},
		{"VLAN, TCP SYN", "020000000002 020000000001 8100 600a 0800 4500002800000000 40060000 0a000001 0a000002 1a0b 1388 00000001 00000000 5002 ffff 0000 0000 ffff",
			"headers.Ethernet headers.VLAN headers.IP headers.TCP"},
		{"a fragment", "020000000002 020000000001 0800 4500002800002001 40110000 0a000001 0a000002 0035 0035", "headers.Ethernet headers.IP"},
		{"cut off", "020000000002 020000000001 0800 4500", "headers.Ethernet"},
		{"too short", "0200", ""},
	} {
		b, err := hex.DecodeString(stripped(c.frame))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i, l := range Frame(b) {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%T", l)
			if a, ok := l.(ARP); ok {
				got += fmt.Sprintf("{Operation:%#x", a.Operation)
			}
			if tcp, ok := l.(TCP); ok && (!tcp.SYN || tcp.ACK || tcp.Dst != 5000 || len(tcp.Payload) != 0) {
				t.Errorf("%s: %+v", c.name, tcp)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func stripped(s string) string {
	var b []byte
	for _, c := range []byte(s) {
		if c != ' ' {
			b = append(b, c)
		}
	}
	return string(b)
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45\x00\x00\x28"))
	f.Fuzz(func(t *testing.T, b []byte) {
		Frame(b)
		Network(b)
	})
}
