package agent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"weft/control"
	"weft/dpdkhost/manager"
)

// parseMatch reads a match of a version and returns what follows it.
func parseMatch(v control.Version, b []byte) (m manager.Match, rest []byte, err error) {
	if v == control.OpenFlow10 {
		if len(b) < matchLen10 {
			return m, nil, errShort
		}
		m, err = parseMatch10(b)
		return m, b[matchLen10:], err
	}
	if len(b) < 4 {
		return m, nil, errShort
	}
	n := int(be.Uint16(b[2:]))
	padded := (n + 7) &^ 7
	if be.Uint16(b) != 1 {
		return m, nil, &refusal{errBadMatch, 0, "a match that is not OXM"}
	}
	if n < 4 || padded > len(b) {
		return m, nil, &refusal{errBadMatch, 1, "a match longer than its message"}
	}
	m, err = parseOXM(b[4:n])
	return m, b[padded:], err
}

func appendMatch(b []byte, v control.Version, m *manager.Match) []byte {
	if v == control.OpenFlow10 {
		return appendMatch10(b, m)
	}
	start := len(b)
	b = append(b, 0, 1, 0, 0)
	b = appendOXM(b, m)
	n := len(b) - start
	be.PutUint16(b[start+2:], uint16(n))
	for ; n%8 != 0; n++ {
		b = append(b, 0)
	}
	return b
}

// A match of OpenFlow 1.0 (section 5.2.3): wildcards, then fields in fixed places.
const matchLen10 = 40

// field10 is a field of ofp_match: its wildcard bit, and its place.
type field10 struct {
	wild  uint32
	at    int
	size  int
	field manager.Field
}

func fields10() []field10 {
	return []field10{
		{1 << 0, 4, 2, manager.InPort}, {1 << 2, 6, 6, manager.EthSrc}, {1 << 3, 12, 6, manager.EthDst},
		{1 << 1, 18, 2, manager.VLAN}, {1 << 20, 20, 1, manager.VLANPrio}, {1 << 4, 22, 2, manager.EthType},
		{1 << 21, 24, 1, manager.DSCP}, {1 << 5, 25, 1, manager.IPProto},
		{1 << 6, 36, 2, manager.SrcPort}, {1 << 7, 38, 2, manager.DstPort},
	}
}

// noVLAN is dl_vlan of untagged packets.
const noVLAN = 0xffff

func parseMatch10(b []byte) (m manager.Match, err error) {
	wild := be.Uint32(b)
	for _, f := range fields10() {
		if wild&f.wild != 0 {
			continue
		}
		value := uintAt(b[f.at:], f.size)
		switch f.field {
		case manager.VLAN:
			if value == noVLAN {
				value = 0
			} else {
				value = value&0xfff | manager.VLANPresent
			}
		case manager.DSCP:
			value >>= 2
		case manager.VLANPrio:
			if wild&(1<<1) == 0 && be.Uint16(b[18:]) == noVLAN {
				continue // there is none
			}
		}
		if f.at >= 24 && !networkFields(b, wild) {
			continue // ignored without the Ethernet type (section 3.4)
		}
		m.Is(f.field, value)
	}
	for i, at := range []int{28, 32} {
		ignored := min(wild>>(8+6*i)&63, 32)
		if ignored == 32 || !networkFields(b, wild) {
			continue
		}
		mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<ignored)
		m.SetAddress([]manager.AddressField{manager.IPSrc, manager.IPDst}[i], b[at:at+4], mask)
	}
	return m, nil
}

// networkFields reports whether a match of 1.0 is of IPv4 or ARP, so that its network fields
// count.
func networkFields(b []byte, wild uint32) bool {
	kind := be.Uint16(b[22:])
	return wild&(1<<4) == 0 && (kind == 0x0800 || kind == 0x0806)
}

// appendMatch10 leaves out what 1.0 cannot say.
func appendMatch10(b []byte, m *manager.Match) []byte {
	start := len(b)
	b = append(b, make([]byte, matchLen10)...)
	o := b[start:]
	wild := uint32(1<<22 - 1)
	for _, f := range fields10() {
		value, mask := m.Get(f.field)
		if mask == 0 {
			continue
		}
		wild &^= f.wild
		switch f.field {
		case manager.VLAN:
			if value &^= manager.VLANPresent; value == 0 && m.Key[6]>>48&manager.VLANPresent == 0 {
				value = noVLAN
			}
		case manager.DSCP:
			value <<= 2
		}
		putUint(o[f.at:], f.size, value)
	}
	for i, at := range []int{28, 32} {
		value, mask := m.Address([]manager.AddressField{manager.IPSrc, manager.IPDst}[i], 4)
		copy(o[at:], value)
		wild &^= 63 << (8 + 6*i)
		wild |= uint32(bits.TrailingZeros32(be.Uint32(mask))) << (8 + 6*i)
	}
	be.PutUint32(o, wild)
	return b
}

// An oxm is a field of OXM's basic class (OpenFlow 1.3.5, section 7.2.3.7).
type oxm struct {
	id    uint8
	size  int
	field manager.Field // 0 with an address
	addr  manager.AddressField
	// The field asks for this too: of the Ethernet type and of the IP protocol, 0 for any.
	kind  uint16
	proto uint8
}

func oxms() []oxm {
	return []oxm{
		{id: 0, size: 4, field: manager.InPort},
		{id: 3, size: 6, field: manager.EthDst}, {id: 4, size: 6, field: manager.EthSrc}, {id: 5, size: 2, field: manager.EthType},
		{id: 6, size: 2, field: manager.VLAN}, {id: 7, size: 1, field: manager.VLANPrio},
		{id: 8, size: 1, field: manager.DSCP}, {id: 10, size: 1, field: manager.IPProto},
		{id: 11, size: 4, addr: manager.IPSrc, kind: 0x0800}, {id: 12, size: 4, addr: manager.IPDst, kind: 0x0800},
		{id: 13, size: 2, field: manager.SrcPort, proto: 6}, {id: 14, size: 2, field: manager.DstPort, proto: 6},
		{id: 15, size: 2, field: manager.SrcPort, proto: 17}, {id: 16, size: 2, field: manager.DstPort, proto: 17},
		{id: 17, size: 2, field: manager.SrcPort, proto: 132}, {id: 18, size: 2, field: manager.DstPort, proto: 132},
		{id: 19, size: 1, field: manager.SrcPort, kind: 0x0800, proto: 1}, {id: 20, size: 1, field: manager.DstPort, kind: 0x0800, proto: 1},
		{id: 21, size: 2, field: manager.IPProto, kind: 0x0806},
		{id: 22, size: 4, addr: manager.IPSrc, kind: 0x0806}, {id: 23, size: 4, addr: manager.IPDst, kind: 0x0806},
		{id: 26, size: 16, addr: manager.IPSrc, kind: 0x86dd}, {id: 27, size: 16, addr: manager.IPDst, kind: 0x86dd},
		{id: 29, size: 1, field: manager.SrcPort, kind: 0x86dd, proto: 58}, {id: 30, size: 1, field: manager.DstPort, kind: 0x86dd, proto: 58},
	}
}

const classBasic = 0x8000

func parseOXM(b []byte) (m manager.Match, err error) {
	seen := map[uint8]bool{}
	for len(b) > 0 {
		if len(b) < 4 || 4+int(b[3]) > len(b) {
			return m, &refusal{errBadMatch, 1, "a field longer than its match"}
		}
		class, id, masked, n := be.Uint16(b), b[2]>>1, b[2]&1 != 0, int(b[3])
		body := b[4 : 4+n]
		b = b[4+n:]
		var f *oxm
		for _, o := range oxms() {
			if class == classBasic && o.id == id {
				f = &o
			}
		}
		if f == nil {
			return m, &refusal{errBadMatch, 6, fmt.Sprintf("field %d of class %#x", id, class)}
		}
		if n != f.size && !masked || masked && n != 2*f.size {
			return m, &refusal{errBadMatch, 1, fmt.Sprintf("field %d of %d bytes", id, n)}
		}
		if seen[id] {
			return m, &refusal{errBadMatch, 10, fmt.Sprintf("field %d twice", id)}
		}
		seen[id] = true
		value, mask := body[:f.size], bytes.Repeat([]byte{0xff}, f.size)
		if masked {
			mask = body[f.size:]
		}
		if !f.fits(&m) {
			return m, &refusal{errBadMatch, 9, fmt.Sprintf("field %d without those before it", id)}
		}
		if f.addr != 0 {
			m.SetAddress(f.addr, value, mask)
			continue
		}
		num, bits := uintAt(value, f.size), uintAt(mask, f.size)
		if num>>f.field.Bits() != 0 {
			if f.field != manager.InPort {
				return m, &refusal{errBadMatch, 7, fmt.Sprintf("field %d of value %d", id, num)}
			}
			num = 0 // no packet comes from a reserved port
		}
		m.Set(f.field, num, bits)
	}
	return m, nil
}

// fits reports whether a match has what a field asks for besides.
func (f *oxm) fits(m *manager.Match) bool {
	kind, _ := m.Get(manager.EthType)
	proto, _ := m.Get(manager.IPProto)
	return (f.kind == 0 || kind == uint64(f.kind)) && (f.proto == 0 || proto == uint64(f.proto) && kind != 0x0806)
}

func appendOXM(b []byte, m *manager.Match) []byte {
	for _, f := range oxms() {
		var value, mask []byte
		if f.addr != 0 {
			value, mask = m.Address(f.addr, f.size)
		} else {
			num, bits := m.Get(f.field)
			value, mask = make([]byte, f.size), make([]byte, f.size)
			putUint(value, f.size, num)
			putUint(mask, f.size, bits)
			if bits == 1<<f.field.Bits()-1 {
				mask = bytes.Repeat([]byte{0xff}, f.size) // all of it
			}
		}
		kind, _ := m.Get(manager.EthType)
		switch {
		case bytes.Count(mask, []byte{0}) == len(mask) || !f.fits(m):
			continue
		case f.id == 10 && kind == 0x0806: // as arp_op
			continue
		case (f.id == 13 || f.id == 14) && kind == 0:
			continue
		}
		head := uint32(classBasic)<<16 | uint32(f.id)<<9 | uint32(f.size)
		if bytes.Count(mask, []byte{0xff}) == len(mask) {
			b = append(be.AppendUint32(b, head), value...)
			continue
		}
		b = be.AppendUint32(b, head&^0xff|1<<8|uint32(2*f.size))
		b = append(append(b, value...), mask...)
	}
	return b
}

func uintAt(b []byte, size int) (n uint64) {
	for _, c := range b[:size] {
		n = n<<8 | uint64(c)
	}
	return n
}

func putUint(b []byte, size int, n uint64) {
	for i := size - 1; i >= 0; i-- {
		b[i], n = byte(n), n>>8
	}
}
