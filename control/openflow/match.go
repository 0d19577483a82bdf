package openflow

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"

	"weft/control"
)

// The classes of OXM and NXM fields, and of the statistics of OpenFlow 1.5 (OXS).
const (
	classNXM0         = 0x0000
	classNXM1         = 0x0001
	classBasic        = 0x8000
	classRegisters    = 0x8001
	classStatistics   = 0x8002
	classExperimenter = 0xffff
)

// A matchField is a field that can be matched on or set.
type matchField struct {
	name string
	size int // bytes
	text func([]byte) string
}

// fieldID is a field's class and number.
type fieldID struct {
	class uint16
	id    uint8
}

func decimal(b []byte) string { return strconv.FormatUint(bigEndian(b), 10) }

func hexadecimal(b []byte) string {
	if len(b) > 8 {
		return "0x" + fmt.Sprintf("%x", b)
	}
	return hexText(bigEndian(b))
}

func fullHex(b []byte) string { return fmt.Sprintf("0x%0*x", 2*len(b), b) }

func portText(b []byte) string {
	n := bigEndian(b)
	if len(b) == 2 {
		n = widePort(n)
	}
	if s := portName(n); s != "" {
		return s
	}
	return strconv.FormatUint(n, 10)
}

// vlanText writes a VLAN ID without the bit that says that there is one.
func vlanText(b []byte) string {
	switch n := bigEndian(b); {
	case n == 0:
		return "none"
	case n&0x1000 != 0:
		return strconv.FormatUint(n&^0x1000, 10)
	default:
		return hexText(n)
	}
}

// matchFields returns the fields of all classes (OpenFlow 1.5.1, 7.2.3; NXM as in Open
// vSwitch).
func matchFields() map[fieldID]matchField {
	fields := map[fieldID]matchField{}
	class := func(class uint16, first uint8, list ...matchField) {
		for i, f := range list {
			if f.name != "" {
				fields[fieldID{class, first + uint8(i)}] = f
			}
		}
	}
	class(classBasic, 0,
		matchField{"in_port", 4, portText}, matchField{"in_phy_port", 4, portText},
		matchField{"metadata", 8, hexadecimal},
		matchField{"eth_dst", 6, macText}, matchField{"eth_src", 6, macText}, matchField{"eth_type", 2, fullHex},
		matchField{"vlan_vid", 2, vlanText}, matchField{"vlan_pcp", 1, decimal},
		matchField{"ip_dscp", 1, decimal}, matchField{"ip_ecn", 1, decimal}, matchField{"ip_proto", 1, decimal},
		matchField{"ipv4_src", 4, ipText}, matchField{"ipv4_dst", 4, ipText},
		matchField{"tcp_src", 2, decimal}, matchField{"tcp_dst", 2, decimal},
		matchField{"udp_src", 2, decimal}, matchField{"udp_dst", 2, decimal},
		matchField{"sctp_src", 2, decimal}, matchField{"sctp_dst", 2, decimal},
		matchField{"icmpv4_type", 1, decimal}, matchField{"icmpv4_code", 1, decimal},
		matchField{"arp_op", 2, decimal}, matchField{"arp_spa", 4, ipText}, matchField{"arp_tpa", 4, ipText},
		matchField{"arp_sha", 6, macText}, matchField{"arp_tha", 6, macText},
		matchField{"ipv6_src", 16, ipText}, matchField{"ipv6_dst", 16, ipText}, matchField{"ipv6_flabel", 4, hexadecimal},
		matchField{"icmpv6_type", 1, decimal}, matchField{"icmpv6_code", 1, decimal},
		matchField{"ipv6_nd_target", 16, ipText}, matchField{"ipv6_nd_sll", 6, macText}, matchField{"ipv6_nd_tll", 6, macText},
		matchField{"mpls_label", 4, decimal}, matchField{"mpls_tc", 1, decimal}, matchField{"mpls_bos", 1, decimal},
		matchField{"pbb_isid", 3, decimal}, matchField{"tunnel_id", 8, hexadecimal}, matchField{"ipv6_exthdr", 2, hexadecimal},
		matchField{}, matchField{"pbb_uca", 1, decimal}, matchField{"tcp_flags", 2, hexadecimal},
		matchField{"actset_output", 4, portText}, matchField{"packet_type", 4, fullHex})
	class(classExperimenter, 42, // Open Networking Foundation
		matchField{"tcp_flags", 2, hexadecimal}, matchField{"actset_output", 4, portText})
	class(classNXM0, 0,
		matchField{"in_port", 2, portText}, matchField{"eth_dst", 6, macText}, matchField{"eth_src", 6, macText},
		matchField{"eth_type", 2, fullHex}, matchField{"vlan_tci", 2, fullHex},
		matchField{"ip_tos", 1, decimal}, matchField{"ip_proto", 1, decimal},
		matchField{"ipv4_src", 4, ipText}, matchField{"ipv4_dst", 4, ipText},
		matchField{"tcp_src", 2, decimal}, matchField{"tcp_dst", 2, decimal},
		matchField{"udp_src", 2, decimal}, matchField{"udp_dst", 2, decimal},
		matchField{"icmpv4_type", 1, decimal}, matchField{"icmpv4_code", 1, decimal},
		matchField{"arp_op", 2, decimal}, matchField{"arp_spa", 4, ipText}, matchField{"arp_tpa", 4, ipText})
	for i := range 16 {
		class(classNXM1, uint8(i), matchField{"reg" + strconv.Itoa(i), 4, hexadecimal})
	}
	class(classNXM1, 16,
		matchField{"tunnel_id", 8, hexadecimal}, matchField{"arp_sha", 6, macText}, matchField{"arp_tha", 6, macText},
		matchField{"ipv6_src", 16, ipText}, matchField{"ipv6_dst", 16, ipText},
		matchField{"icmpv6_type", 1, decimal}, matchField{"icmpv6_code", 1, decimal},
		matchField{"ipv6_nd_target", 16, ipText}, matchField{"ipv6_nd_sll", 6, macText}, matchField{"ipv6_nd_tll", 6, macText},
		matchField{"ip_frag", 1, hexadecimal}, matchField{"ipv6_flabel", 4, hexadecimal},
		matchField{"ip_ecn", 1, decimal}, matchField{"ip_ttl", 1, decimal}, matchField{"cookie", 8, hexadecimal},
		matchField{"tun_src", 4, ipText}, matchField{"tun_dst", 4, ipText}, matchField{"pkt_mark", 4, hexadecimal},
		matchField{"tcp_flags", 2, hexadecimal}, matchField{"dp_hash", 4, hexadecimal}, matchField{"recirc_id", 4, hexadecimal},
		matchField{"conj_id", 4, decimal}, matchField{"tun_gbp_id", 2, decimal}, matchField{"tun_gbp_flags", 1, hexadecimal})
	for i := range 64 {
		// Their sizes differ.
		class(classNXM1, uint8(40+i), matchField{"tun_metadata" + strconv.Itoa(i), 0, hexadecimal})
	}
	class(classNXM1, 104,
		matchField{"tun_flags", 2, hexadecimal}, matchField{"ct_state", 4, hexadecimal}, matchField{"ct_zone", 2, decimal},
		matchField{"ct_mark", 4, hexadecimal}, matchField{"ct_label", 16, hexadecimal},
		matchField{"tun_ipv6_src", 16, ipText}, matchField{"tun_ipv6_dst", 16, ipText},
		matchField{"xxreg0", 16, hexadecimal}, matchField{"xxreg1", 16, hexadecimal},
		matchField{"xxreg2", 16, hexadecimal}, matchField{"xxreg3", 16, hexadecimal})
	class(classNXM1, 119,
		matchField{"ct_nw_proto", 1, decimal}, matchField{"ct_nw_src", 4, ipText}, matchField{"ct_nw_dst", 4, ipText},
		matchField{"ct_ipv6_src", 16, ipText}, matchField{"ct_ipv6_dst", 16, ipText},
		matchField{"ct_tp_src", 2, decimal}, matchField{"ct_tp_dst", 2, decimal})
	for i := range 8 {
		class(classRegisters, uint8(i), matchField{"xreg" + strconv.Itoa(i), 8, hexadecimal})
	}
	class(classStatistics, 0,
		matchField{"duration", 8, durationText}, matchField{"idle_time", 8, durationText}, matchField{},
		matchField{"flow_count", 4, decimal}, matchField{"packet_count", 8, decimal}, matchField{"byte_count", 8, decimal})
	return fields
}

// durationText writes seconds and nanoseconds, four bytes each.
func durationText(b []byte) string {
	return fmt.Sprintf("%d.%09ds", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]))
}

// fieldName returns the name of a field, class_0x…_field_… if it has none.
func (t *tables) fieldName(id fieldID) string {
	if f, ok := t.fields[id]; ok {
		return f.name
	}
	return fmt.Sprintf("field_%#04x_%d", id.class, id.id)
}

// field reads a field of OXM or NXM: header, value and mask.
func (r *reader) field() (Field, bool) {
	if !r.need(4, "a match field") {
		return Field{}, false
	}
	head := r.b[:4]
	class, id, masked, n := binary.BigEndian.Uint16(head), head[2]>>1, head[2]&1 != 0, int(head[3])
	if 4+n > len(r.b) {
		r.fail("a match field of %d bytes where %d are left", 4+n, len(r.b))
		return Field{}, false
	}
	fid := fieldID{class, id}
	body, at := r.b[4:4+n], r.base+4
	if class == classExperimenter && n >= 4 {
		if binary.BigEndian.Uint32(body) != experimenterONF {
			fid.id = 0xff // of an experimenter that is not known
		}
		body, at = body[4:], at+4
	}
	defer r.skip(4 + n)
	size := len(body)
	if masked {
		size /= 2
	}
	known, ok := r.t.fields[fid]
	out := Field{Name: r.t.fieldName(fid), offset: at, size: size}
	value, mask := body[:size], body[len(body)-size:]
	switch {
	case !ok || known.size != 0 && size != known.size || size == 0 || masked && len(body)%2 != 0:
		out.Value, out.size = Data(body), len(body)
	case masked:
		out.Value = Text(maskedText(known, value, mask))
	default:
		out.Value = fieldValue(known, value)
	}
	return out, true
}

// fieldValue returns a value as a Number if that is what its text says.
func fieldValue(f matchField, b []byte) any {
	text := f.text(b)
	if len(b) > 8 || len(b) == 6 {
		return Text(text)
	}
	n := bigEndian(b)
	if text == strconv.FormatUint(n, 10) {
		text = ""
	} else if len(b) == 4 && text == ipText(b) {
		return Text(text)
	}
	return Number{n, text}
}

// maskedText writes a value with its mask, as a prefix where that is how it is written.
func maskedText(f matchField, value, mask []byte) string {
	if len(value) == 4 || len(value) == 16 {
		if a, err := netip.ParseAddr(f.text(value)); err == nil {
			if n, ok := prefixLen(mask); ok {
				return fmt.Sprintf("%v/%d", a, n)
			}
			return a.String() + "/" + f.text(mask)
		}
	}
	if len(value) == 6 && f.text(value) == macText(value) {
		return macText(value) + "/" + macText(mask)
	}
	if f.name == "vlan_vid" || f.name == "in_port" {
		return fullHex(value) + "/" + fullHex(mask)
	}
	return f.text(value) + "/" + hexadecimal(mask)
}

// prefixLen returns the number of leading ones of mask if no other bit is set.
func prefixLen(mask []byte) (int, bool) {
	n := 0
	for i, c := range mask {
		ones := bits.LeadingZeros8(^c)
		n += ones
		if ones < 8 {
			for _, c := range append([]byte{c << ones}, mask[i+1:]...) {
				if c != 0 {
					return 0, false
				}
			}
			return n, true
		}
	}
	return n, true
}

// fieldList reads what is left as fields, each a Field of the result.
func fieldList(r *reader) {
	for len(r.b) > 0 && r.err == nil {
		if f, ok := r.field(); ok {
			r.out = append(r.out, f)
		}
	}
}

// padded reads a structure of type, length and fields, padded to eight bytes: an OXM
// match, the match of OpenFlow 1.1, or the statistics of 1.5.
func padded(name string, standard layout) part {
	return func(r *reader) {
		if !r.need(4, name) {
			return
		}
		typ, n := r.uint(2), int(binary.BigEndian.Uint16(r.b[2:]))
		if n < 4 || n > len(r.b) {
			r.fail("%s of %d bytes where %d are left", name, n, len(r.b))
			return
		}
		l := layout{pad(4), fieldList}
		if typ == 0 && standard != nil {
			l = append(layout{pad(4)}, standard...)
		}
		r.group(name, r.sub(n, l))
		r.skip(min((n+7)&^7-n, len(r.b)))
	}
}

// match is the match of a message in any version.
func match(r *reader) {
	if r.v == control.OpenFlow10 {
		if r.need(40, "match") {
			r.group("match", r.sub(40, layout{match10}))
		}
		return
	}
	padded("match", layout{match11})(r)
}

// statistics are those of a flow in OpenFlow 1.5.
func statistics(r *reader) { padded("stats", nil)(r) }

// nxMatch is a match of as many bytes as were saved, padded to eight.
func nxMatch(r *reader) {
	n := r.saved
	if r.need(n, "match") {
		r.group("match", r.sub(n, layout{fieldList}))
		r.skip(min((n+7)&^7-n, len(r.b)))
	}
}

// A fixedField is a field at a fixed place of a match before OXM.
type fixedField struct {
	wild   int // its bit in the wildcards; -1: it has a mask
	offset int // bytes from the start of the match, without type and length
	mask   int // offset of the mask; for IPv4 in 1.0, the bit where its length starts
	field  matchField
}

// match10 reads the match of OpenFlow 1.0 (1.0.1, 5.2.3).
func match10(r *reader) {
	wild := uint32(r.uint(4))
	ip := r.b
	names := upperNames(binary.BigEndian.Uint16(ip[22:]), wild&(1<<4) == 0, ip[25], wild&(1<<5) == 0)
	for _, f := range []fixedField{
		{wild: 0, offset: 4, field: matchField{"in_port", 2, portText}},
		{wild: 2, offset: 6, field: matchField{"eth_src", 6, macText}},
		{wild: 3, offset: 12, field: matchField{"eth_dst", 6, macText}},
		{wild: 1, offset: 18, field: matchField{"vlan_vid", 2, vlan10Text}},
		{wild: 20, offset: 20, field: matchField{"vlan_pcp", 1, decimal}},
		{wild: 4, offset: 22, field: matchField{"eth_type", 2, fullHex}},
		{wild: 21, offset: 24, field: matchField{"ip_tos", 1, decimal}},
		{wild: 5, offset: 25, field: matchField{names.proto, 1, decimal}},
		{wild: -1, offset: 28, mask: 8, field: matchField{names.src, 4, ipText}},
		{wild: -1, offset: 32, mask: 14, field: matchField{names.dst, 4, ipText}},
		{wild: 6, offset: 36, field: matchField{names.from, 2, decimal}},
		{wild: 7, offset: 38, field: matchField{names.to, 2, decimal}},
	} {
		mask := []byte(nil)
		if f.wild < 0 {
			ignored := min(int(wild>>f.mask&63), 32)
			mask = binary.BigEndian.AppendUint32(nil, uint32(uint64(1)<<32-uint64(1)<<ignored))
		} else if wild&(1<<f.wild) != 0 {
			continue
		}
		r.fixed(f, mask)
	}
	r.skip(len(r.b))
}

// match11 reads the match of OpenFlow 1.1 (A.2.3), after its type and length.
func match11(r *reader) {
	if !r.need(84, "match") {
		return
	}
	wild := binary.BigEndian.Uint32(r.b[4:])
	names := upperNames(binary.BigEndian.Uint16(r.b[36:]), wild&(1<<3) == 0, r.b[39], wild&(1<<5) == 0)
	for _, f := range []fixedField{
		{wild: 0, offset: 0, field: matchField{"in_port", 4, portText}},
		{wild: -1, offset: 8, mask: 14, field: matchField{"eth_src", 6, macText}},
		{wild: -1, offset: 20, mask: 26, field: matchField{"eth_dst", 6, macText}},
		{wild: 1, offset: 32, field: matchField{"vlan_vid", 2, vlan10Text}},
		{wild: 2, offset: 34, field: matchField{"vlan_pcp", 1, decimal}},
		{wild: 3, offset: 36, field: matchField{"eth_type", 2, fullHex}},
		{wild: 4, offset: 38, field: matchField{"ip_tos", 1, decimal}},
		{wild: 5, offset: 39, field: matchField{names.proto, 1, decimal}},
		{wild: -1, offset: 40, mask: 44, field: matchField{names.src, 4, ipText}},
		{wild: -1, offset: 48, mask: 52, field: matchField{names.dst, 4, ipText}},
		{wild: 6, offset: 56, field: matchField{names.from, 2, decimal}},
		{wild: 7, offset: 58, field: matchField{names.to, 2, decimal}},
		{wild: 8, offset: 60, field: matchField{"mpls_label", 4, decimal}},
		{wild: 9, offset: 64, field: matchField{"mpls_tc", 1, decimal}},
		{wild: -1, offset: 68, mask: 76, field: matchField{"metadata", 8, hexadecimal}},
	} {
		mask := []byte(nil)
		if f.wild < 0 {
			for _, c := range r.b[f.mask : f.mask+f.field.size] {
				mask = append(mask, ^c) // here ones say what to ignore
			}
		} else if wild&(1<<f.wild) != 0 {
			continue
		}
		r.fixed(f, mask)
	}
	r.skip(84)
}

// fixed notes a field unless its mask says that everything matches.
func (r *reader) fixed(f fixedField, mask []byte) {
	b := r.b[f.offset : f.offset+f.field.size]
	out := Field{Name: f.field.name, offset: r.base + f.offset, size: f.field.size}
	switch {
	case mask != nil && isZero(mask):
		return
	case mask != nil && !isOnes(mask):
		out.Value = Text(maskedText(f.field, b, mask))
	default:
		out.Value = fieldValue(f.field, b)
	}
	r.out = append(r.out, out)
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func isOnes(b []byte) bool {
	for _, c := range b {
		if c != 0xff {
			return false
		}
	}
	return true
}

// vlan10Text writes a VLAN ID of OpenFlow 1.0 and 1.1, where 0xffff is a packet without.
func vlan10Text(b []byte) string {
	switch n := bigEndian(b); n {
	case 0xffff:
		return "none"
	case 0xfffe: // 1.1
		return "any"
	default:
		return strconv.FormatUint(n, 10)
	}
}

// upper are the names of the fields that mean different things in different protocols.
type upper struct{ proto, src, dst, from, to string }

// upperNames returns their names for an Ethernet type and a protocol, if they are known.
func upperNames(ethType uint16, typed bool, proto uint8, known bool) upper {
	u := upper{"ip_proto", "ipv4_src", "ipv4_dst", "tp_src", "tp_dst"}
	switch {
	case typed && ethType == 0x0806:
		return upper{"arp_op", "arp_spa", "arp_tpa", "tp_src", "tp_dst"}
	case !known:
		return u
	}
	switch proto {
	case 1:
		u.from, u.to = "icmpv4_type", "icmpv4_code"
	case 6:
		u.from, u.to = "tcp_src", "tcp_dst"
	case 17:
		u.from, u.to = "udp_src", "udp_dst"
	case 132:
		u.from, u.to = "sctp_src", "sctp_dst"
	}
	return u
}
