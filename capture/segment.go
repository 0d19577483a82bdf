package capture

import "encoding/binary"

// Protocol numbers and the places of header fields.
const (
	protocolTCP = 6
	protocolUDP = 17

	ethernetLen = 14
	vlanTagLen  = 4
	ip4Len      = 20
	ip6Len      = 40
	tcpLen      = 20
	udpLen      = 8

	etherIP4 = 0x0800
	etherIP6 = 0x86DD
)

// TCP flags (RFC 9293, section 3.1).
const (
	tcpFIN = 1 << iota
	tcpSYN
	_
	tcpPSH
	tcpACK
	_
	_
	tcpCWR
)

// A frame says where the headers of an IP packet are.
type frame struct {
	ip, transport, payload int // offsets
	protocol               byte
	six                    bool
}

// parseFrame finds the headers of a TCP or UDP packet in an Ethernet frame.
func parseFrame(b []byte) (f frame, ok bool) {
	f.ip = ethernetLen
	if len(b) < f.ip {
		return f, false
	}
	kind := binary.BigEndian.Uint16(b[12:])
	for (kind == 0x8100 || kind == 0x88A8) && len(b) >= f.ip+vlanTagLen {
		kind = binary.BigEndian.Uint16(b[f.ip+2:])
		f.ip += vlanTagLen
	}
	switch ip := b[f.ip:]; {
	case kind == etherIP4 && len(ip) >= ip4Len && ip[0]>>4 == 4:
		f.protocol = ip[9]
		f.transport = f.ip + int(ip[0]&15)*4
		if ip[0]&15 < 5 {
			return f, false
		}
	case kind == etherIP6 && len(ip) >= ip6Len && ip[0]>>4 == 6:
		f.six = true
		f.protocol = ip[6]
		f.transport = f.ip + ip6Len
	default:
		return f, false
	}
	switch {
	case f.protocol == protocolUDP && len(b) >= f.transport+udpLen:
		f.payload = f.transport + udpLen
	case f.protocol == protocolTCP && len(b) >= f.transport+tcpLen:
		n := int(b[f.transport+12]>>4) * 4
		f.payload = f.transport + n
		return f, n >= tcpLen && f.payload <= len(b)
	default:
		return f, false
	}
	return f, true
}

// finish sets the lengths and checksums of the packet in b, which ends with it.
func (f frame) finish(b []byte) {
	ip, transport := b[f.ip:], b[f.transport:]
	addrs := ip[12:20]
	if f.six {
		addrs = ip[8:40]
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ip6Len))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], checksum(sum(0, ip[:f.transport-f.ip])))
	}
	at := 16 // of the checksum in TCP
	if f.protocol == protocolUDP {
		at = 6
		binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	}
	binary.BigEndian.PutUint16(transport[at:], 0)
	c := checksum(sum(pseudo(addrs, f.protocol, len(transport)), transport))
	if c == 0 && f.protocol == protocolUDP {
		c = 0xFFFF // zero means none
	}
	binary.BigEndian.PutUint16(transport[at:], c)
}

// A segmenter makes the packets that hardware would.
type segmenter struct {
	list []packet
	data []byte // of the packets in list
}

// split returns what hardware would make of p, valid until the next call: one packet, or
// several if it is longer than a segment, with the checksums that were left to it.
func (s *segmenter) split(p *packet) []packet {
	s.list, s.data = s.list[:0], s.data[:0]
	f, ok := parseFrame(p.data)
	if !ok || p.length > len(p.data) || p.segment == 0 && !p.unsummed {
		s.list = append(s.list, *p)
		if p.segment > 0 {
			s.list[0].comment = []byte("left whole: weft splits TCP and UDP over IP only")
		}
		return s.list
	}
	size := p.segment
	payload := p.data[f.payload:]
	if size == 0 {
		size = max(1, len(payload))
	}
	for from := 0; from == 0 || from < len(payload); from += size {
		part := payload[from:min(from+size, len(payload))]
		start := len(s.data)
		s.data = append(append(s.data, p.data[:f.payload]...), part...)
		b := s.data[start:]
		if !f.six && from > 0 {
			id := b[f.ip+4:]
			binary.BigEndian.PutUint16(id, binary.BigEndian.Uint16(id)+uint16(from/size))
		}
		if f.protocol == protocolTCP {
			tcp := b[f.transport:]
			binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(from))
			if from+size < len(payload) {
				tcp[13] &^= tcpFIN | tcpPSH
			}
			if from > 0 {
				tcp[13] &^= tcpCWR
			}
		}
		f.finish(b)
		s.list = append(s.list, *p)
		last := &s.list[len(s.list)-1]
		last.data, last.length = b, len(b)
	}
	return s.list
}
