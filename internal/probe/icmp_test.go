package probe

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var sample = echo{
	ident: 0x1234, run: 0x0102030405060708, pair: 1047551, serial: 3, try: 2,
	wall: 1_700_000_000_123_456_789, clock: 42 * time.Second,
}

// replyTo is what a host answers to an echo request.
func replyTo(request []byte, ipv6 bool) []byte {
	reply := bytes.Clone(request)
	reply[0] = icmpEchoReply
	if ipv6 {
		reply[0] = icmpv6EchoReply
		return reply
	}
	reply[2], reply[3] = 0, 0
	binary.BigEndian.PutUint16(reply[2:], checksum(reply))
	return reply
}

func TestEcho(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		request := make([]byte, echoLen)
		sample.put(request, ipv6)
		requestType, replyType := byte(icmpEchoRequest), byte(icmpEchoReply)
		if ipv6 {
			requestType, replyType = icmpv6EchoRequest, icmpv6EchoReply
		} else if checksum(request) != 0 {
			t.Errorf("the request's checksum is wrong: %x", request)
		}
		if got, ok := parseEcho(request, requestType); !ok || got != sample {
			t.Errorf("request: %+v, %v", got, ok)
		}
		if _, ok := parseEcho(request, replyType); ok {
			t.Error("a request passes for a reply")
		}
		reply := replyTo(request, ipv6)
		if got, ok := parseEcho(reply, replyType); !ok || got != sample {
			t.Errorf("reply: %+v, %v", got, ok)
		}
		for i := range reply {
			damaged := bytes.Clone(reply)
			damaged[i] ^= 0x10
			if _, ok := parseEcho(damaged, replyType); ok && !ipv6 {
				t.Errorf("a reply with byte %d damaged passes", i)
			}
			if _, ok := parseEcho(reply[:i], replyType); ok {
				t.Errorf("the first %d bytes pass", i)
			}
		}
	}
}

func TestChecksum(t *testing.T) {
	for _, test := range []struct {
		in   []byte
		want uint16
	}{
		{nil, 0xffff},
		{[]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, ^uint16(0xddf2)}, // RFC 1071, 3
		{[]byte{0xff}, 0x00ff},
		{bytes.Repeat([]byte{0xff}, 1000), 0},
	} {
		if got := checksum(test.in); got != test.want {
			t.Errorf("checksum of %x is %#x, want %#x", test.in, got, test.want)
		}
	}
}

func TestStripIPv4(t *testing.T) {
	packet := func(first byte, n int) []byte {
		b := make([]byte, n)
		b[0] = first
		return b
	}
	for _, test := range []struct {
		in   []byte
		want int // bytes left, -1 for none
	}{
		{nil, -1},
		{packet(0x45, 19), -1},
		{packet(0x45, 20), 0},
		{packet(0x45, 84), 64},
		{packet(0x46, 84), 60},
		{packet(0x44, 84), -1},
		{packet(0x4f, 59), -1},
		{packet(0x65, 84), -1},
	} {
		rest, ok := stripIPv4(test.in)
		if ok != (test.want >= 0) || ok && len(rest) != test.want {
			t.Errorf("%x: %d bytes, %v, want %d", test.in, len(rest), ok, test.want)
		}
	}
}

// errorQueue is the control message of an ICMP error.
func errorQueue(level, typ int32, errno unix.Errno, offender unix.Sockaddr) []byte {
	ne := binary.NativeEndian
	data := ne.AppendUint32(nil, uint32(errno))
	data = append(data, make([]byte, 12)...)
	switch o := offender.(type) {
	case *unix.SockaddrInet4:
		data = ne.AppendUint16(data, unix.AF_INET)
		data = append(append(data, 0, 0), o.Addr[:]...)
		data = append(data, make([]byte, 8)...)
	case *unix.SockaddrInet6:
		data = ne.AppendUint16(data, unix.AF_INET6)
		data = append(append(data, make([]byte, 6)...), o.Addr[:]...)
		data = append(data, make([]byte, 4)...)
	default:
		data = append(data, make([]byte, 16)...)
	}
	b := make([]byte, unix.CmsgSpace(len(data)))
	ne.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	ne.PutUint32(b[8:], uint32(level))
	ne.PutUint32(b[12:], uint32(typ))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func TestParseICMPError(t *testing.T) {
	v4 := sockaddr(netip.MustParseAddr("10.0.0.2"), 0)
	v6 := sockaddr(netip.MustParseAddr("fd00::2"), 0)
	for _, test := range []struct {
		name string
		in   []byte
		want string // empty for none
	}{
		{"nothing", nil, ""},
		{"other", errorQueue(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 0, nil), ""},
		{"cut", errorQueue(unix.IPPROTO_IP, unix.IP_RECVERR, unix.EHOSTUNREACH, v4)[:30], ""},
		{"v4", errorQueue(unix.IPPROTO_IP, unix.IP_RECVERR, unix.EHOSTUNREACH, v4), "no route to host, says 10.0.0.2"},
		{"v6", errorQueue(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.ENETUNREACH, v6), "network is unreachable, says fd00::2"},
		{"local", errorQueue(unix.IPPROTO_IP, unix.IP_RECVERR, unix.EMSGSIZE, nil), "message too long"},
	} {
		got, ok := parseICMPError(test.in)
		if ok != (test.want != "") || ok && got.String() != test.want {
			t.Errorf("%s: %q, %v, want %q", test.name, got, ok, test.want)
		}
	}
}

func FuzzEcho(f *testing.F) {
	request := make([]byte, echoLen)
	sample.put(request, false)
	f.Add(append([]byte{0x45, 19: 0}, replyTo(request, false)...))
	f.Add([]byte{0x4f})
	f.Fuzz(func(t *testing.T, packet []byte) {
		message, ok := stripIPv4(packet)
		if !ok {
			return
		}
		e, ok := parseEcho(message, icmpEchoReply)
		if !ok {
			return
		}
		again := make([]byte, echoLen)
		e.put(again, false)
		if !bytes.Equal(replyTo(again, false), message) {
			t.Errorf("%x became %x", message, again)
		}
	})
}

func FuzzICMPError(f *testing.F) {
	f.Add(errorQueue(unix.IPPROTO_IP, unix.IP_RECVERR, unix.EHOSTUNREACH, sockaddr(netip.MustParseAddr("10.0.0.2"), 0)))
	f.Add(errorQueue(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.EHOSTUNREACH, sockaddr(netip.MustParseAddr("fd00::2"), 0)))
	f.Fuzz(func(t *testing.T, control []byte) {
		if e, ok := parseICMPError(control); ok && e.String() == "" {
			t.Errorf("%x has no text", control)
		}
	})
}
