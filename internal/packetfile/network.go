package packetfile

import "encoding/binary"

// A LinkType says what a packet starts with, as numbered by tcpdump.org/linktypes.html.
type LinkType uint16

// The link types that Network knows.
const (
	LinkNull     LinkType = 0
	LinkEthernet LinkType = 1
	LinkRawBSD   LinkType = 12
	LinkRawOpen  LinkType = 14
	LinkRaw      LinkType = 101
	LinkLoop     LinkType = 108
	LinkSLL      LinkType = 113
	LinkIPv4     LinkType = 228
	LinkIPv6     LinkType = 229
	LinkSLL2     LinkType = 276
)

// Known reports whether Network can look into packets of the link type.
func (t LinkType) Known() bool {
	switch t {
	case LinkNull, LinkEthernet, LinkRawBSD, LinkRawOpen, LinkRaw, LinkLoop, LinkSLL, LinkIPv4, LinkIPv6, LinkSLL2:
		return true
	}
	return false
}

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

// Network returns the IPv4 or IPv6 packet in p, without what is before it, or nil.
func (p Packet) Network() []byte {
	b := p.Data
	switch p.LinkType {
	case LinkEthernet:
		return afterType(b, 12)
	case LinkSLL:
		return afterType(b, 14)
	case LinkSLL2:
		if len(b) < 20 {
			return nil
		}
		return ip(b[20:])
	case LinkNull, LinkLoop:
		// An address family whose number and byte order depend on the system.
		if len(b) < 4 {
			return nil
		}
		return ip(b[4:])
	case LinkRaw, LinkRawBSD, LinkRawOpen, LinkIPv4, LinkIPv6:
		return ip(b)
	}
	return nil
}

// afterType returns what follows the Ethernet type at an offset, VLAN tags left out.
func afterType(b []byte, at int) []byte {
	for len(b) >= at+2 {
		typ := binary.BigEndian.Uint16(b[at:])
		at += 2
		switch typ {
		case 0x8100, 0x88a8, 0x9100:
			at += 2
		case etherIPv4, etherIPv6:
			return ip(b[at:])
		default:
			return nil
		}
	}
	return nil
}

// ip returns b if it looks like IP.
func ip(b []byte) []byte {
	if len(b) >= 20 && (b[0]>>4 == 4 || b[0]>>4 == 6) {
		return b
	}
	return nil
}
