package manager

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How people write flows, as ovs-ofctl(8) spells them:
//
//	in_port=1,tcp,nw_dst=10.0.0.0/8,tp_dst=80,priority=100,idle_timeout=60,actions=chain:web

// DefaultPriority is that of a flow which names none (ovs-ofctl(8)).
const DefaultPriority = 32768

// MaxPort is the highest number of a port.
const MaxPort = ServicePort - 1

// A form is how a field's value is written.
type form uint8

const (
	number form = iota
	hexNumber
	macForm
	ipv4Form
	ipv6Form
	vlanForm
	tosForm // DSCP, written as the whole byte
)

// A field is a part of a Key that flows match on.
type field struct {
	name        string
	word, shift int
	bits        int // 128: this word and the next
	form        form
	// The Ethernet type that the flow must match on too, and the protocols; nil for any.
	types     []uint64
	protocols []uint64
}

// fields returns the table of fields, in the order in which they are written. Where two names
// stand for one part, the first whose conditions hold is written.
func fields() []field {
	tcp, udp, sctp, icmp, icmp6 := []uint64{6}, []uint64{17}, []uint64{132}, []uint64{1}, []uint64{58}
	ipTypes, ip4Types := []uint64{typeIPv4, typeIPv6}, []uint64{typeIPv4, typeARP}
	v4, v6, arp := []uint64{typeIPv4}, []uint64{typeIPv6}, []uint64{typeARP}
	return []field{
		{"in_port", 7, 0, 16, number, nil, nil},
		{"dl_src", 1, 16, 48, macForm, nil, nil},
		{"dl_dst", 0, 16, 48, macForm, nil, nil},
		{"dl_vlan", 6, 48, 16, vlanForm, nil, nil},
		{"dl_type", 7, 16, 16, hexNumber, nil, nil},
		{"arp_spa", 3, 0, 32, ipv4Form, arp, nil},
		{"arp_tpa", 5, 0, 32, ipv4Form, arp, nil},
		{"arp_op", 7, 56, 8, number, arp, nil},
		{"nw_src", 3, 0, 32, ipv4Form, ip4Types, nil},
		{"nw_dst", 5, 0, 32, ipv4Form, ip4Types, nil},
		{"ipv6_src", 2, 0, 128, ipv6Form, v6, nil},
		{"ipv6_dst", 4, 0, 128, ipv6Form, v6, nil},
		{"nw_proto", 7, 56, 8, number, ipTypes, nil},
		{"nw_tos", 7, 48, 6, tosForm, ipTypes, nil},
		{"ip_dscp", 7, 48, 6, number, ipTypes, nil},
		{"icmp_type", 6, 32, 16, number, v4, icmp},
		{"icmp_code", 6, 16, 16, number, v4, icmp},
		{"icmpv6_type", 6, 32, 16, number, v6, icmp6},
		{"icmpv6_code", 6, 16, 16, number, v6, icmp6},
		{"tp_src", 6, 32, 16, number, ipTypes, []uint64{6, 17, 132}},
		{"tp_dst", 6, 16, 16, number, ipTypes, []uint64{6, 17, 132}},
		{"tcp_src", 6, 32, 16, number, ipTypes, tcp},
		{"tcp_dst", 6, 16, 16, number, ipTypes, tcp},
		{"udp_src", 6, 32, 16, number, ipTypes, udp},
		{"udp_dst", 6, 16, 16, number, ipTypes, udp},
		{"sctp_src", 6, 32, 16, number, ipTypes, sctp},
		{"sctp_dst", 6, 16, 16, number, ipTypes, sctp},
	}
}

// A shorthand is a word that stands for an Ethernet type and perhaps a protocol.
type shorthand struct {
	name           string
	kind, protocol uint64
}

func shorthands() []shorthand {
	return []shorthand{
		{"tcp", typeIPv4, 6}, {"udp", typeIPv4, 17}, {"icmp", typeIPv4, 1}, {"sctp", typeIPv4, 132},
		{"tcp6", typeIPv6, 6}, {"udp6", typeIPv6, 17}, {"icmp6", typeIPv6, 58}, {"sctp6", typeIPv6, 132},
		{"ip", typeIPv4, 0}, {"ipv6", typeIPv6, 0}, {"arp", typeARP, 0},
	}
}

// set puts a value under a mask into a match. It reports whether the match has no other there.
func (m *Match) set(word, shift int, value, mask uint64) bool {
	was := m.Mask[word] & (mask << shift)
	if was != 0 && (m.Key[word]^value<<shift)&was != 0 {
		return false
	}
	m.Mask[word] |= mask << shift
	m.Key[word] |= value & mask << shift
	return true
}

func (m *Match) get(word, shift, bits int) (value, mask uint64) {
	all := uint64(math.MaxUint64) >> (64 - bits)
	return m.Key[word] >> shift & all, m.Mask[word] >> shift & all
}

// has reports whether a field's conditions hold in a match.
func (m *Match) has(f *field) bool {
	among := func(list []uint64, part Field) bool {
		value, mask := m.Get(part)
		return list == nil || mask == part.all() && slices.Contains(list, value)
	}
	return among(f.types, EthType) && among(f.protocols, IPProto)
}

// ParseMatch reads what a flow matches on; an empty text is all packets.
func ParseMatch(text string) (Match, error) {
	f, rest, err := parseFlow(text)
	switch {
	case err != nil:
		return Match{}, err
	case rest != "":
		return Match{}, errors.New("actions do not belong into a match")
	}
	return f.Match, nil
}

// ParseFlow reads a flow.
func ParseFlow(text string) (Flow, error) {
	f, actions, err := parseFlow(text)
	if err != nil {
		return f, err
	}
	if actions == "" {
		return f, errors.New("it has no actions: end it with actions=chain:NAME, service:N, output:PORT, flood, controller or drop")
	}
	f.Verdict, err = ParseActions(actions)
	return f, err
}

func parseFlow(text string) (f Flow, actions string, err error) {
	f.Priority = DefaultPriority
	text = strings.TrimSpace(text)
	if at := strings.Index(text, "actions="); at >= 0 && (at == 0 || strings.ContainsAny(text[at-1:at], ", \t")) {
		if actions = strings.TrimSpace(text[at+len("actions="):]); actions == "" {
			return f, "", errors.New("actions= without an action; write drop to drop")
		}
		text = text[:at]
	}
	var used []field
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		name, value, has := strings.Cut(word, "=")
		if !has {
			err = f.shorthand(name)
		} else {
			err = f.part(name, value, &used)
		}
		if err != nil {
			return f, "", err
		}
	}
	for i := range used {
		if !f.has(&used[i]) {
			return f, "", fmt.Errorf("%s is of %s: match on that too", used[i].name, used[i].owners())
		}
	}
	return f, actions, nil
}

// owners names the packets that have a field.
func (f *field) owners() string {
	var names []string
	for _, s := range shorthands() {
		var m Match
		m.set(EthType.word(), int(EthType.shift()), s.kind, EthType.all())
		if s.protocol != 0 {
			m.set(IPProto.word(), int(IPProto.shift()), s.protocol, IPProto.all())
		}
		if m.has(f) {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, ", ")
}

func (f *Flow) shorthand(name string) error {
	for _, s := range shorthands() {
		if s.name != name {
			continue
		}
		if !f.set(EthType.word(), int(EthType.shift()), s.kind, EthType.all()) ||
			s.protocol != 0 && !f.set(IPProto.word(), int(IPProto.shift()), s.protocol, IPProto.all()) {
			return fmt.Errorf("%s contradicts what stands before it", name)
		}
		return nil
	}
	if strings.ContainsRune(name, ':') || name == "drop" || name == "controller" || name == "flood" {
		return fmt.Errorf("%q is an action: write actions=%s", name, name)
	}
	return fmt.Errorf("unknown field %q: write FIELD=VALUE, or %s", name, "ip, arp, tcp, udp, icmp, sctp, ipv6, tcp6, udp6, icmp6 or sctp6")
}

// part reads one FIELD=VALUE.
func (f *Flow) part(name, value string, used *[]field) error {
	bad := func(err error) error { return fmt.Errorf("%s=%s: %w", name, value, err) }
	switch name {
	case "priority":
		n, err := strconv.ParseUint(value, 0, 16)
		if err != nil {
			return bad(errors.New("write a number from 0 to 65535"))
		}
		f.Priority = uint16(n)
		return nil
	case "cookie":
		n, err := strconv.ParseUint(value, 0, 64)
		if err != nil {
			return bad(errors.New("write a number of 64 bits"))
		}
		f.Cookie = n
		return nil
	case "idle_timeout", "hard_timeout":
		n, err := strconv.ParseUint(strings.TrimSuffix(value, "s"), 10, 16)
		if err != nil {
			return bad(errors.New("write seconds from 0 to 65535"))
		}
		if name[0] == 'i' {
			f.Idle = time.Duration(n) * time.Second
		} else {
			f.Hard = time.Duration(n) * time.Second
		}
		return nil
	}
	var names []string
	for _, d := range fields() {
		if d.name != name {
			names = append(names, d.name)
			continue
		}
		if err := d.parse(&f.Match, value); err != nil {
			return bad(err)
		}
		*used = append(*used, d)
		return nil
	}
	return fmt.Errorf("unknown field %q: there are %s, priority, cookie, idle_timeout and hard_timeout", name, strings.Join(names, ", "))
}

var errContradiction = errors.New("it contradicts what stands before it")

func (d *field) parse(m *Match, text string) error {
	text, maskText, masked := strings.Cut(text, "/")
	var value, mask [2]uint64
	var err error
	all := uint64(math.MaxUint64) >> (64 - min(d.bits, 64))
	mask[0] = all
	one := func(s string, from, to uint64) (n uint64) {
		if n, err = strconv.ParseUint(s, 0, 64); err != nil || n < from || n > to {
			err = fmt.Errorf("write a number from %d to %d", from, to)
		}
		return n
	}
	switch d.form {
	case macForm:
		if value[0], err = parseMAC(text); err == nil && masked {
			mask[0], err = parseMAC(maskText)
		}
	case ipv4Form, ipv6Form:
		value, mask, err = parsePrefix(text, maskText, masked, d.form == ipv6Form)
	case vlanForm:
		// As in ovs-ofctl, 0xffff is no VLAN at all.
		if value[0] = one(text, 0, 0xffff); err == nil {
			switch {
			case value[0] == 0xffff:
				value[0] = 0
			case value[0] > 4095:
				err = errors.New("write a VLAN from 0 to 4095, or 0xffff for none")
			default:
				value[0] |= VLANPresent
			}
		}
	case tosForm:
		if value[0] = one(text, 0, 252); err == nil && value[0]%4 != 0 {
			err = errors.New("the last two bits are not DSCP: write a multiple of 4")
		}
		value[0] /= 4
	default:
		top := all
		if d.name == "in_port" {
			top = ServicePort + MaxService
		} else if strings.HasPrefix(d.name, "icmp") {
			top = 255
		}
		if value[0] = one(text, 0, top); err == nil && masked {
			mask[0] = one(maskText, 0, all)
		}
	}
	if masked && err == nil && (d.form == vlanForm || d.form == tosForm) {
		err = errors.New("it takes no mask")
	}
	if err != nil {
		return err
	}
	if d.bits == 128 {
		if !m.set(d.word, 0, value[0], mask[0]) || !m.set(d.word+1, 0, value[1], mask[1]) {
			return errContradiction
		}
		return nil
	}
	if !m.set(d.word, d.shift, value[0], mask[0]) {
		return errContradiction
	}
	return nil
}

func parseMAC(text string) (uint64, error) {
	b, err := net.ParseMAC(text)
	if err != nil || len(b) != 6 {
		return 0, fmt.Errorf("%q is no MAC address", text)
	}
	return macValue(b), nil
}

func macValue(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(b))<<16 | uint64(binary.BigEndian.Uint16(b[4:]))
}

// parsePrefix reads ADDRESS, ADDRESS/BITS or ADDRESS/MASK, as values for the words of a key.
func parsePrefix(text, maskText string, masked, six bool) (value, mask [2]uint64, err error) {
	kind, bits := "IPv4", 32
	if six {
		kind, bits = "IPv6", 128
	}
	words := func(text string) (w [2]uint64, err error) {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Is6() != six || a.Zone() != "" {
			return w, fmt.Errorf("%q is no %s address", text, kind)
		}
		if !six {
			b := a.As4()
			return [2]uint64{uint64(binary.BigEndian.Uint32(b[:]))}, nil
		}
		b := a.As16()
		return [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, nil
	}
	if value, err = words(text); err != nil {
		return value, mask, err
	}
	length := bits
	if masked {
		if n, nerr := strconv.Atoi(maskText); nerr == nil {
			if length = n; n < 0 || n > bits {
				return value, mask, fmt.Errorf("write a prefix of 0 to %d bits", bits)
			}
		} else if mask, err = words(maskText); err != nil {
			return value, mask, err
		} else {
			length = -1
		}
	}
	switch {
	case length < 0:
	case six:
		mask[0] = ^(uint64(math.MaxUint64) >> min(length, 64)) // a shift by 64 gives 0
		mask[1] = ^(uint64(math.MaxUint64) >> max(length-64, 0))
	default:
		mask[0] = 0xffffffff &^ (0xffffffff >> length)
	}
	value[0], value[1] = value[0]&mask[0], value[1]&mask[1]
	return value, mask, nil
}

// String writes the match as ParseMatch reads it; "" for all packets.
func (m Match) String() string {
	left := m
	var words []string
	kind, kindMask := m.Get(EthType)
	protocol, protocolMask := m.Get(IPProto)
	for _, s := range shorthands() {
		if kindMask != 0xffff || kind != s.kind || s.protocol != 0 && (protocolMask != 0xff || protocol != s.protocol) {
			continue
		}
		left.Mask[EthType.word()] &^= EthType.all() << EthType.shift()
		if s.protocol != 0 {
			left.Mask[IPProto.word()] &^= IPProto.all() << IPProto.shift()
		}
		words = append(words, s.name)
		break
	}
	for _, d := range fields() {
		if !m.has(&d) {
			continue
		}
		if text, ok := d.text(&left); ok {
			words = append(words, text)
		}
	}
	return strings.Join(words, ",")
}

// text writes a field and takes it out of the match, if it is there.
func (d *field) text(m *Match) (string, bool) {
	if d.bits == 128 {
		mask := [2]uint64{m.Mask[d.word], m.Mask[d.word+1]}
		if mask == [2]uint64{} {
			return "", false
		}
		a, b := wide(m.Key[d.word], m.Key[d.word+1]), wide(mask[0], mask[1])
		m.Mask[d.word], m.Mask[d.word+1] = 0, 0
		return d.name + "=" + prefixText(a, b), true
	}
	value, mask := m.get(d.word, d.shift, d.bits)
	all := uint64(math.MaxUint64) >> (64 - d.bits)
	if mask == 0 {
		return "", false
	}
	m.Mask[d.word] &^= all << d.shift
	plain := func(n uint64) string { return strconv.FormatUint(n, 10) }
	maskForm := func(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }
	switch d.form {
	case macForm:
		plain = func(n uint64) string {
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], n)
			return net.HardwareAddr(b[2:]).String()
		}
		maskForm = plain
	case ipv4Form:
		return d.name + "=" + prefixText(narrow(value), narrow(mask)), true
	case vlanForm:
		if mask == all {
			if value == 0 {
				return d.name + "=0xffff", true
			}
			return d.name + "=" + plain(value&^VLANPresent), true
		}
	case tosForm:
		return d.name + "=" + plain(value<<2), true
	case hexNumber:
		plain = maskForm
	}
	if mask != all {
		return d.name + "=" + plain(value) + "/" + maskForm(mask), true
	}
	return d.name + "=" + plain(value), true
}

func narrow(n uint64) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func wide(hi, lo uint64) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b)
}

// prefixText writes an address with its mask: the length of a prefix, if it is one.
func prefixText(a, mask netip.Addr) string {
	for bits := range mask.BitLen() + 1 {
		if prefixMask(bits, mask.BitLen()) == mask {
			if bits == mask.BitLen() {
				return a.String()
			}
			return fmt.Sprintf("%s/%d", a, bits)
		}
	}
	return a.String() + "/" + mask.String()
}

func prefixMask(bits, of int) netip.Addr {
	b := make([]byte, of/8)
	copy(b, net.CIDRMask(bits, of))
	a, _ := netip.AddrFromSlice(b)
	return a
}

// ParseActions reads the actions of a flow, with commas between.
func ParseActions(text string) (v Verdict, err error) {
	var list []Verdict
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		name, value, _ := strings.Cut(word, ":")
		var a Verdict
		n, nerr := strconv.ParseUint(value, 10, 16)
		switch {
		case name == "chain" && value != "" && !strings.ContainsAny(value, " \t\n"):
			a.Chain = value
		case name == "service" && nerr == nil && n > 0 && n <= MaxService:
			a.Service = uint16(n)
		case name == "service":
			return v, fmt.Errorf("action %q: services have numbers from 1 to %d", word, MaxService)
		case name == "output" && nerr == nil && n > 0 && n <= MaxPort:
			a.Port = uint16(n)
		case name == "output":
			return v, fmt.Errorf("action %q: ports have numbers from 1 to %d", word, MaxPort)
		case word == "flood":
			a.Flood = true
		case word == "controller":
			a.Controller = true
		case word == "drop":
			if strings.TrimSpace(text) != "drop" {
				return v, errors.New("drop stands alone")
			}
			return Verdict{}, nil
		default:
			return v, fmt.Errorf("unknown action %q: there are chain:NAME, service:N, output:PORT, flood, controller and drop", word)
		}
		list = append(list, a)
	}
	if len(list) > maxActions {
		return v, fmt.Errorf("%d actions are more than %d", len(list), maxActions)
	}
	v = list[0]
	v.And = list[1:]
	if len(v.And) == 0 {
		v.And = nil
	}
	return v, nil
}

// maxActions bounds the actions of a flow.
const maxActions = 64

// String writes the verdict as ParseActions reads it.
func (v Verdict) String() string {
	words := []string{v.first()}
	for _, a := range v.And {
		words = append(words, a.first())
	}
	return strings.Join(words, ",")
}

func (v Verdict) first() string {
	switch {
	case v.Chain != "":
		return "chain:" + v.Chain
	case v.Service != 0:
		return fmt.Sprint("service:", v.Service)
	case v.Port != 0:
		return fmt.Sprint("output:", v.Port)
	case v.Flood:
		return "flood"
	case v.Controller:
		return "controller"
	}
	return "drop"
}

// String writes the flow as ParseFlow reads it.
func (f Flow) String() string {
	var words []string
	if match := f.Match.String(); match != "" {
		words = []string{match}
	}
	if f.Priority != DefaultPriority {
		words = append(words, fmt.Sprint("priority=", f.Priority))
	}
	if f.Cookie != 0 {
		words = append(words, fmt.Sprintf("cookie=%#x", f.Cookie))
	}
	if f.Idle != 0 {
		words = append(words, fmt.Sprint("idle_timeout=", int(f.Idle/time.Second)))
	}
	if f.Hard != 0 {
		words = append(words, fmt.Sprint("hard_timeout=", int(f.Hard/time.Second)))
	}
	return strings.Join(append(words, "actions="+f.Verdict.String()), ",")
}
