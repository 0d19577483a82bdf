package manager

import "encoding/binary"

// A Key is what the flow director knows of a packet, OpenFlow's fields in fixed places: as
// words, so that masking and comparing are a few instructions.
//
//	0: destination MAC                  1: source MAC
//	2, 3: source address                4, 5: destination address
//	6: VLAN (with present bit), ports,  7: IP protocol, DSCP, IP version,
//	   VLAN priority                       Ethernet type, input port
//
// A flow by 5-tuple is in four words.
type Key [8]uint64

// VLANPresent is the bit of Key's VLAN that tells a packet of VLAN 0 from an untagged one
// (OpenFlow 1.3, OFPVID_PRESENT).
const VLANPresent = 0x1000

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
	typeIPv6 = 0x86dd
)

// parseKey reads the key of an Ethernet frame. Fields that the frame has not are zero. Of a
// fragment that is not the first the ports are zero too.
func parseKey(k *Key, frame []byte, port uint16) {
	if len(frame) >= plainSize && parsePlain(k, (*[plainSize]byte)(frame), port) {
		return
	}
	*k = Key{}
	k[7] = uint64(port)
	if len(frame) < 14 {
		return
	}
	k[0] = binary.BigEndian.Uint64(frame) &^ 0xffff
	k[1] = binary.BigEndian.Uint64(frame[6:]) &^ 0xffff
	kind := binary.BigEndian.Uint16(frame[12:])
	p := frame[14:]
	for depth := 0; (kind == typeVLAN || kind == typeQinQ) && len(p) >= 4 && depth < 2; depth++ {
		if depth == 0 {
			k[6] = uint64(binary.BigEndian.Uint16(p)&0xfff|VLANPresent)<<48 | uint64(p[0]>>5)
		}
		kind = binary.BigEndian.Uint16(p[2:])
		p = p[4:]
	}
	k[7] |= uint64(kind) << 16
	switch kind {
	case typeIPv4:
		parseIPv4(k, p)
	case typeIPv6:
		parseIPv6(k, p)
	case typeARP:
		if len(p) >= 28 { // RFC 826; the operation as the protocol, as OpenFlow 1.0 has it
			k[3] = uint64(binary.BigEndian.Uint32(p[14:]))
			k[5] = uint64(binary.BigEndian.Uint32(p[24:]))
			k[7] |= uint64(p[7]) << 56
		}
	}
}

// plainSize is what parsePlain reads.
const plainSize = 38

// parsePlain reads the key of what most packets are: TCP or UDP in IPv4 without options, VLAN or
// fragments. It reports whether it is such a packet.
func parsePlain(k *Key, p *[plainSize]byte, port uint16) bool {
	const version, notFirst = 0x45, 0x1fff
	if binary.BigEndian.Uint16(p[12:]) != typeIPv4 || p[14] != version || binary.BigEndian.Uint16(p[20:])&notFirst != 0 || p[23] != 17 && p[23] != 6 {
		return false
	}
	k[0] = binary.BigEndian.Uint64(p[:]) &^ 0xffff
	k[1] = binary.BigEndian.Uint64(p[6:]) &^ 0xffff
	k[2], k[3] = 0, uint64(binary.BigEndian.Uint32(p[26:]))
	k[4], k[5] = 0, uint64(binary.BigEndian.Uint32(p[30:]))
	k[6] = uint64(binary.BigEndian.Uint32(p[34:])) << 16
	k[7] = uint64(p[23])<<56 | uint64(p[15]>>2)<<48 | 4<<40 | typeIPv4<<16 | uint64(port)
	return true
}

func parseIPv4(k *Key, p []byte) {
	if len(p) < 20 {
		return
	}
	header := int(p[0]&15) * 4
	k[3] = uint64(binary.BigEndian.Uint32(p[12:]))
	k[5] = uint64(binary.BigEndian.Uint32(p[16:]))
	k[7] |= uint64(p[9])<<56 | uint64(p[1]>>2)<<48 | 4<<40
	if fragment := binary.BigEndian.Uint16(p[6:]) & 0x1fff; fragment == 0 && header >= 20 && len(p) > header {
		parsePorts(k, p[9], p[header:])
	}
}

func parseIPv6(k *Key, p []byte) {
	if len(p) < 40 {
		return
	}
	k[2], k[3] = binary.BigEndian.Uint64(p[8:]), binary.BigEndian.Uint64(p[16:])
	k[4], k[5] = binary.BigEndian.Uint64(p[24:]), binary.BigEndian.Uint64(p[32:])
	next, class := p[6], (p[0]<<4|p[1]>>4)>>2
	p = p[40:]
	// Extension headers (RFC 8200, section 4): a few at the most.
	for range 8 {
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination
			if len(p) < 8 || len(p) < 8+int(p[1])*8 {
				p = nil
				break
			}
			next, p = p[0], p[8+int(p[1])*8:]
			continue
		case 44: // fragment
			if len(p) < 8 {
				p = nil
				break
			}
			first := binary.BigEndian.Uint16(p[2:])>>3 == 0
			next = p[0]
			if p = p[8:]; !first {
				p = nil
			}
			continue
		}
		break
	}
	k[7] |= uint64(next)<<56 | uint64(class)<<48 | 6<<40
	parsePorts(k, next, p)
}

// parsePorts reads the ports of TCP, UDP and SCTP, and type and code of ICMP, as OpenFlow
// does.
func parsePorts(k *Key, protocol uint8, p []byte) {
	switch protocol {
	case 6, 17, 132:
		if len(p) >= 4 {
			k[6] |= uint64(binary.BigEndian.Uint32(p)) << 16
		}
	case 1, 58:
		if len(p) >= 2 {
			k[6] |= uint64(p[0])<<32 | uint64(p[1])<<16
		}
	}
}

const (
	hashSeed   = 0xa0761d6478bd642f
	hashFactor = 0xe7037ed1a0b428db
)

// hash mixes a key into a number of which every bit depends on every field. It is the
// multiply-and-fold of wyhash.
func (k *Key) hash() uint64 {
	h := fold(k[0]^hashSeed, k[1]^hashFactor)
	h = fold(k[2]^h, k[3]^hashSeed)
	h = fold(k[4]^h, k[5]^hashFactor)
	return fold(k[6]^h^hashSeed, k[7]^hashFactor)
}

// flowHash is the same for all packets of a flow, both ways, so that an instance hears whole
// conversations, and not 0: it leaves out what differs between hops, which end sends, and, of ICMP,
// what differs between a question and its answer.
func (k *Key) flowHash() uint32 {
	a, b := k[6]>>32&0xffff, k[6]>>16&0xffff // ports
	protocol := k[7] & (0xff << 56)
	if protocol == 1<<56 || protocol == 58<<56 {
		a, b = 0, 0
	}
	h := fold((k[3]^k[5])^hashSeed, (k[3]+k[5])^hashFactor)
	h = fold(h^((a^b)<<32|(a+b)), protocol^hashFactor)
	switch {
	case k[2]|k[4] != 0:
		h = fold(h^k[2]^k[4], (k[2]+k[4])^hashFactor)
	case k[3]|k[5]|k[7]>>40 == 0:
		h = fold(h^k[0], k[1]^hashFactor)
	}
	return uint32(h>>32) | 1
}

// and returns the fields of k that a mask keeps.
func (k *Key) and(mask *Key) (masked Key) {
	for i := range k {
		masked[i] = k[i] & mask[i]
	}
	return masked
}

// A Field is the place of a field in a Key: word, shift and bits, a byte each.
type Field uint32

// The fields. ICMP's type and code stand in the places of the ports, ARP's operation in that of
// the IP protocol, as in OpenFlow 1.0.
const (
	InPort    Field = 7<<16 | 0<<8 | 16
	EthDst    Field = 0<<16 | 16<<8 | 48
	EthType   Field = 7<<16 | 16<<8 | 16
	EthSrc    Field = 1<<16 | 16<<8 | 48
	VLAN      Field = 6<<16 | 48<<8 | 16 // with VLANPresent; 0 for untagged
	VLANPrio  Field = 6<<16 | 0<<8 | 3
	SrcPort   Field = 6<<16 | 32<<8 | 16
	DstPort   Field = 6<<16 | 16<<8 | 16
	IPProto   Field = 7<<16 | 56<<8 | 8
	DSCP      Field = 7<<16 | 48<<8 | 6
	IPVersion Field = 7<<16 | 40<<8 | 8
)

// Bits returns the size of a field in bits.
func (f Field) Bits() int { return int(uint8(f)) }

func (f Field) word() int    { return int(f >> 16) }
func (f Field) shift() uint8 { return uint8(f >> 8) }
func (f Field) all() uint64  { return 1<<uint8(f) - 1 }

// Set makes a match ask for the bits of value that mask has.
func (m *Match) Set(f Field, value, mask uint64) {
	mask &= f.all()
	m.Key[f.word()] = m.Key[f.word()]&^(f.all()<<f.shift()) | value&mask<<f.shift()
	m.Mask[f.word()] = m.Mask[f.word()]&^(f.all()<<f.shift()) | mask<<f.shift()
}

// Is makes a match ask for a value.
func (m *Match) Is(f Field, value uint64) { m.Set(f, value, f.all()) }

// Get returns what a match asks for.
func (m *Match) Get(f Field) (value, mask uint64) {
	return m.Key[f.word()] >> f.shift() & f.all(), m.Mask[f.word()] >> f.shift() & f.all()
}

// An AddressField is the place of an IP address in a Key.
type AddressField uint8

// The addresses; those of ARP (spa, tpa) stand there too.
const (
	IPSrc AddressField = 2
	IPDst AddressField = 4
)

// SetAddress makes a match ask for the bits of an address, 4 or 16 bytes, that mask, as long, has.
func (m *Match) SetAddress(f AddressField, value, mask []byte) {
	if len(value) == 4 {
		m.Key[f], m.Mask[f] = 0, 0
		m.Mask[f+1] = uint64(binary.BigEndian.Uint32(mask))
		m.Key[f+1] = uint64(binary.BigEndian.Uint32(value)) & m.Mask[f+1]
		return
	}
	for i := range AddressField(2) {
		m.Mask[f+i] = binary.BigEndian.Uint64(mask[8*i:])
		m.Key[f+i] = binary.BigEndian.Uint64(value[8*i:]) & m.Mask[f+i]
	}
}

// Address returns what a match asks for of an address of 4 or 16 bytes.
func (m *Match) Address(f AddressField, size int) (value, mask []byte) {
	if size == 4 {
		return binary.BigEndian.AppendUint32(nil, uint32(m.Key[f+1])), binary.BigEndian.AppendUint32(nil, uint32(m.Mask[f+1]))
	}
	for i := range AddressField(2) {
		value = binary.BigEndian.AppendUint64(value, m.Key[f+i])
		mask = binary.BigEndian.AppendUint64(mask, m.Mask[f+i])
	}
	return value, mask
}
