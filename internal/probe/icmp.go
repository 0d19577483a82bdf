package probe

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ICMP types (RFC 792, RFC 4443).
const (
	icmpEchoReply     = 0
	icmpEchoRequest   = 8
	icmpv6EchoRequest = 128
	icmpv6EchoReply   = 129
)

// An echo packet is, after the IP header,
//
//	0  type, code, checksum, identifier, sequence number   8 bytes
//	8  run     nonce of the Ping call                      8
//	16 pair    index into PingConfig.Pairs                 4
//	20 serial  which echo of the pair, from 1              2
//	22 try     which try of that echo, from 1              2
//	24 wall    when it was sent, Unix time in ns           8
//	32 clock   when it was sent, ns since Ping began       8
//	40 filler  each byte is its offset                     24
//
// all big-endian: 64 bytes, as the ping program sends by default.
const (
	echoLen    = 64
	runOffset  = 8
	fillOffset = 40
)

// An echo is what weft writes into an echo request and reads from the reply.
type echo struct {
	ident       uint16
	run         uint64
	pair        uint32
	serial, try uint16
	wall        int64         // ns, to be set against the kernel's time of arrival
	clock       time.Duration // since the Ping call began; never steps
}

// put writes e as an echo request of echoLen bytes to b.
func (e *echo) put(b []byte, ipv6 bool) {
	b[0], b[1] = icmpEchoRequest, 0
	if ipv6 {
		b[0] = icmpv6EchoRequest
	}
	be := binary.BigEndian
	be.PutUint16(b[2:], 0)
	be.PutUint16(b[4:], e.ident)
	be.PutUint16(b[6:], e.serial)
	be.PutUint64(b[8:], e.run)
	be.PutUint32(b[16:], e.pair)
	be.PutUint16(b[20:], e.serial)
	be.PutUint16(b[22:], e.try)
	be.PutUint64(b[24:], uint64(e.wall))
	be.PutUint64(b[32:], uint64(e.clock))
	for i := fillOffset; i < echoLen; i++ {
		b[i] = byte(i)
	}
	if !ipv6 { // the kernel fills in ICMPv6's, which covers the addresses
		be.PutUint16(b[2:], checksum(b[:echoLen]))
	}
}

// parseEcho reads an ICMP message of the given type, request or reply. It reports
// false if the message is not one that weft wrote or did not arrive as it was written.
// The checksum is verified for replies over IPv4; the kernel has done so for IPv6.
func parseEcho(b []byte, typ byte) (echo, bool) {
	if len(b) != echoLen || b[0] != typ || b[1] != 0 {
		return echo{}, false
	}
	if typ == icmpEchoReply && checksum(b) != 0 {
		return echo{}, false
	}
	for i := fillOffset; i < echoLen; i++ {
		if b[i] != byte(i) {
			return echo{}, false
		}
	}
	be := binary.BigEndian
	e := echo{
		ident:  be.Uint16(b[4:]),
		run:    be.Uint64(b[8:]),
		pair:   be.Uint32(b[16:]),
		serial: be.Uint16(b[20:]),
		try:    be.Uint16(b[22:]),
		wall:   int64(be.Uint64(b[24:])),
		clock:  time.Duration(be.Uint64(b[32:])),
	}
	return e, be.Uint16(b[6:]) == e.serial
}

// stripIPv4 returns what follows the IPv4 header of packet.
func stripIPv4(packet []byte) ([]byte, bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return nil, false
	}
	n := int(packet[0]&0xf) * 4
	if n < 20 || n > len(packet) {
		return nil, false
	}
	return packet[n:], true
}

// checksum is the Internet checksum of b (RFC 1071). It is 0 for a message that
// contains its own checksum.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// An icmpError is an ICMP error message about an echo request of ours, or the
// kernel's own word that it could not be delivered.
type icmpError struct {
	errno unix.Errno
	from  netip.Addr // who says so; invalid if it is the kernel
}

func (e icmpError) String() string {
	if e.from.IsValid() {
		return e.errno.Error() + ", says " + e.from.String()
	}
	return e.errno.Error()
}

// parseICMPError reads the control messages that come with a message of a socket's
// error queue (ip(7), IP_RECVERR).
func parseICMPError(control []byte) (icmpError, bool) {
	const fixed = int(unsafe.Sizeof(unix.SockExtendedErr{}))
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return icmpError{}, false
	}
	for _, m := range messages {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if !v4 && !v6 || len(m.Data) < fixed {
			continue
		}
		e := icmpError{errno: unix.Errno(binary.NativeEndian.Uint32(m.Data))}
		// The offender's sockaddr follows: sockaddr_in has its address at offset 4,
		// sockaddr_in6 at 8.
		switch offender := m.Data[fixed:]; {
		case v4 && len(offender) >= 8 && binary.NativeEndian.Uint16(offender) == unix.AF_INET:
			e.from = netip.AddrFrom4([4]byte(offender[4:8]))
		case v6 && len(offender) >= 24 && binary.NativeEndian.Uint16(offender) == unix.AF_INET6:
			e.from = netip.AddrFrom16([16]byte(offender[8:24]))
		}
		return e, true
	}
	return icmpError{}, false
}

// echoFilter is a classic BPF program for a raw socket: it passes the echo replies
// to the Ping call with the given identifier and run, so that a socket is not
// woken for another's.
func echoFilter(ipv6 bool, ident uint16, run uint64) []unix.SockFilter {
	const (
		loadHeaderLen = unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH
		loadByte      = unix.BPF_LD | unix.BPF_B | unix.BPF_IND
		loadHalf      = unix.BPF_LD | unix.BPF_H | unix.BPF_IND
		loadWord      = unix.BPF_LD | unix.BPF_W | unix.BPF_IND
		jumpEqual     = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		accept        = unix.BPF_RET | unix.BPF_K
	)
	// X becomes the offset of the ICMP header: a raw IPv4 socket sees the IP header.
	start := unix.SockFilter{Code: loadHeaderLen, K: 0}
	reply := uint32(icmpEchoReply)
	if ipv6 {
		start = unix.SockFilter{Code: unix.BPF_LDX | unix.BPF_W | unix.BPF_IMM, K: 0}
		reply = icmpv6EchoReply
	}
	return []unix.SockFilter{
		start,
		{Code: loadByte, K: 0},
		{Code: jumpEqual, K: reply, Jf: 7},
		{Code: loadHalf, K: 4},
		{Code: jumpEqual, K: uint32(ident), Jf: 5},
		{Code: loadWord, K: runOffset},
		{Code: jumpEqual, K: uint32(run >> 32), Jf: 3},
		{Code: loadWord, K: runOffset + 4},
		{Code: jumpEqual, K: uint32(run), Jf: 1},
		{Code: accept, K: 0xffff},
		{Code: accept, K: 0},
	}
}
