package openflow

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"weft/control"
)

// A layout says what a stretch of a message consists of. A part reads one part of it
// and notes what it read. The tables of layouts are what this package knows of the
// wire format; everything else about decoding is in this file.
//
//	Message ─► reader ─ layout: part, part, … ─► Fields
//	              └─ sub-readers for what has a length of its own
type layout []part

type part func(*reader)

// A reader reads a stretch of a message. After an error its parts do nothing.
type reader struct {
	t     *tables
	v     control.Version
	reply bool // in a multipart reply
	b     []byte
	base  int    // offset of b in the message, bytes
	depth int    // of messages and lists within each other
	saved int    // a length that a later part needs, bytes
	kind  string // what the stretch turned out to be, if a part found out
	out   Fields
	err   error
}

// maxDepth bounds how deep messages and lists may be within each other.
const maxDepth = 24

// run runs a layout and keeps what it left over, so that nothing is lost.
func (r *reader) run(l layout) {
	for _, s := range l {
		s(r)
	}
	if len(r.b) > 0 {
		name := "rest"
		if r.err != nil {
			name = "unread"
		}
		r.add(name, Data(r.b), len(r.b))
		r.b = nil
	}
}

// add notes a value of size bytes that the stretch begins with, and passes over it.
func (r *reader) add(name string, v any, size int) {
	r.out = append(r.out, Field{Name: name, Value: v, offset: r.base, size: size})
	r.skip(size)
}

// group notes a value with parts.
func (r *reader) group(name string, v any) {
	r.out = append(r.out, Field{Name: name, Value: v, offset: r.base})
}

func (r *reader) skip(n int) { r.b, r.base = r.b[n:], r.base+n }

// need reports whether n bytes are left for what.
func (r *reader) need(n int, what string) bool {
	if r.err == nil && len(r.b) < n {
		r.fail("%s needs %d bytes where %d are left", what, n, len(r.b))
	}
	return r.err == nil
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// sub reads the next n bytes with a layout of their own and returns what it found.
func (r *reader) sub(n int, l layout) Fields { return r.child(n, l).out }

func (r *reader) child(n int, l layout) *reader {
	s := &reader{t: r.t, v: r.v, reply: r.reply, b: r.b[:n], base: r.base, depth: r.depth + 1}
	if s.depth > maxDepth {
		s.err = fmt.Errorf("nested more than %d deep", maxDepth)
	}
	s.run(l)
	r.skip(n)
	if s.err != nil && r.err == nil {
		r.err = s.err
	}
	return s
}

// uint returns the big endian number in the next size bytes, which must be there.
func (r *reader) uint(size int) uint64 { return bigEndian(r.b[:size]) }

func bigEndian(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// number reads a Number that text writes; text may be nil.
func number(name string, size int, text func(uint64) string) part {
	return func(r *reader) {
		if !r.need(size, name) {
			return
		}
		v := Number{N: r.uint(size)}
		if text != nil {
			v.Text = text(v.N)
		}
		r.add(name, v, size)
	}
}

func num(name string, size int) part { return number(name, size, nil) }

// hexa is a number that is written in hexadecimal.
func hexa(name string, size int) part { return number(name, size, hexText) }

func hexText(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

// dpid is a datapath ID with all its digits.
func dpid(name string) part {
	return number(name, 8, func(n uint64) string { return fmt.Sprintf("%016x", n) })
}

// names are the names of numbers; of those that have none, "" is as good as absent.
type names []string

func (s names) text(n uint64) string {
	if n < uint64(len(s)) {
		return s[n]
	}
	return ""
}

// enum is a number with names from 0 on.
func enum(name string, size int, values ...string) part {
	return number(name, size, names(values).text)
}

// flags is a set of flags, named from bit 0 on.
func flags(name string, size int, set ...string) part {
	return number(name, size, func(n uint64) string { return flagText(n, set) })
}

func flagText(n uint64, flags []string) string {
	var set []string
	for i, f := range flags {
		if n&(1<<i) != 0 && f != "" {
			set = append(set, f)
			n &^= 1 << i
		}
	}
	switch {
	case set == nil:
		return hexText(n)
	case n != 0:
		set = append(set, hexText(n))
	}
	return strings.Join(set, "|")
}

// portName names the reserved ports of OpenFlow 1.1 and later (1.3.5, 7.2.1).
func portName(n uint64) string {
	if n < 0xfffffff7 {
		return ""
	}
	return [...]string{"unset", "in_port", "table", "normal", "flood", "all", "controller", "local", "any"}[n-0xfffffff7]
}

// port is a port number, of two bytes in OpenFlow 1.0.
func port(name string) part {
	return func(r *reader) {
		if r.v == control.OpenFlow10 {
			port16(name)(r)
		} else {
			number(name, 4, portName)(r)
		}
	}
}

// widePort converts a port number of OpenFlow 1.0, where reserved ones start at 0xff00,
// to the numbers of later versions.
func widePort(n uint64) uint64 {
	if n >= 0xff00 {
		return 0xffff0000 | n
	}
	return n
}

// port16 is a port number of two bytes, as in OpenFlow 1.0 and Nicira's actions.
func port16(name string) part {
	return func(r *reader) {
		if r.need(2, name) {
			n := widePort(r.uint(2))
			v := Number{N: n, Text: portName(n)}
			if n == uint64(control.PortAny) {
				v.Text = "none"
			}
			r.add(name, v, 2)
		}
	}
}

func bufferID(r *reader) {
	usual(number("buffer_id", 4, func(n uint64) string { return specially(n, uint64(control.NoBuffer), "none") }))(r)
}

func groupID(name string) part {
	return number(name, 4, func(n uint64) string {
		return specially(n, 0xfffffffc, "all", 0xffffffff, "any")
	})
}

func tableID(name string) part {
	return number(name, 1, func(n uint64) string { return specially(n, 0xff, "all") })
}

func maxLen(name string) part {
	return number(name, 2, func(n uint64) string { return specially(n, 0xffff, "no_buffer") })
}

// specially returns the name in pairs of n, or "".
func specially(n uint64, pairs ...any) string {
	for i := 0; i < len(pairs); i += 2 {
		switch v := pairs[i].(type) {
		case int:
			if uint64(v) == n {
				return pairs[i+1].(string)
			}
		case uint64:
			if v == n {
				return pairs[i+1].(string)
			}
		}
	}
	return ""
}

// pad passes over n bytes, or over what is left if that is less and last.
func pad(n int) part {
	return func(r *reader) {
		if r.need(n, "padding") {
			r.skip(n)
		}
	}
}

// align passes over what is left of the stretch: its padding, at most 7 bytes.
func align(r *reader) {
	if r.err == nil && len(r.b) < 8 {
		r.skip(len(r.b))
	}
}

// bytesOf reads size bytes that text writes.
func bytesOf(name string, size int, text func([]byte) string) part {
	return func(r *reader) {
		if r.need(size, name) {
			r.add(name, Text(text(r.b[:size])), size)
		}
	}
}

func mac(name string) part  { return bytesOf(name, 6, macText) }
func ipv4(name string) part { return bytesOf(name, 4, ipText) }

// str reads a text of at most size bytes, padded with zeros.
func str(name string, size int) part { return bytesOf(name, size, cString) }

func macText(b []byte) string { return net.HardwareAddr(b).String() }

func ipText(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}

func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return strings.ToValidUTF8(string(b), "�")
}

// asciiText returns b up to its first zero byte if that is ASCII text, else "".
func asciiText(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	for _, c := range b {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(b)
}

// data is what is left, bytes without a known meaning.
func data(name string) part {
	return func(r *reader) {
		if r.err == nil && len(r.b) > 0 {
			r.add(name, Data(r.b), len(r.b))
		}
	}
}

// packet is what is left, a packet of the network.
func packet(name string) part {
	return func(r *reader) {
		if r.err == nil && len(r.b) > 0 {
			r.add(name, summarise(r.b), len(r.b))
		}
	}
}

// usual marks what a part reads as Usual if it is zero, or says none, any or all bits.
func usual(s part) part {
	return func(r *reader) {
		n := len(r.out)
		s(r)
		for i := n; i < len(r.out); i++ {
			r.out[i].Usual = isUsual(r.out[i])
		}
	}
}

func isUsual(f Field) bool {
	switch v := f.Value.(type) {
	case Number:
		all := f.size == 8 && v.N == 1<<64-1
		return v.N == 0 || all || slices.Contains([]string{"none", "any", "no_buffer", "unset"}, v.Text)
	case Text:
		return strings.Trim(string(v), "0:.") == ""
	case Fields:
		return len(v) == 0
	case List:
		return len(v) == 0
	}
	return false
}

// quiet marks what a part reads as Usual whatever it is.
func quiet(s part) part {
	return func(r *reader) {
		n := len(r.out)
		s(r)
		for i := n; i < len(r.out); i++ {
			r.out[i].Usual = true
		}
	}
}

// front puts what a part reads before everything read so far.
func front(s part) part {
	return func(r *reader) {
		n := len(r.out)
		s(r)
		r.out = slices.Concat(r.out[n:], r.out[:n])
	}
}

// group makes one field of what a layout reads of the next size bytes.
func group(name string, size int, l ...part) part {
	return func(r *reader) {
		if r.need(size, name) {
			r.group(name, r.sub(size, l))
		}
	}
}

// inline runs a layout as if its parts stood in the place of this one.
func inline(l layout) part {
	return func(r *reader) {
		for _, s := range l {
			s(r)
		}
	}
}

// since runs s in version v and later, until runs it before v.
func since(v control.Version, s ...part) part {
	return func(r *reader) {
		if r.v >= v {
			inline(s)(r)
		}
	}
}

func until(v control.Version, s ...part) part {
	return func(r *reader) {
		if r.v < v {
			inline(s)(r)
		}
	}
}

// request runs s in a multipart request, reply in a reply.
func request(s ...part) part {
	return func(r *reader) {
		if !r.reply {
			inline(s)(r)
		}
	}
}

func reply(s ...part) part {
	return func(r *reader) {
		if r.reply {
			inline(s)(r)
		}
	}
}

// list reads what is left as a list.
func list(name string, entry func(*reader) any) part {
	return func(r *reader) {
		if r.err == nil {
			r.listOf(name, len(r.b), entry)
		}
	}
}

// listOf reads the next n bytes as a list and notes it. An entry takes at least a byte.
func (r *reader) listOf(name string, n int, entry func(*reader) any) {
	if !r.need(n, name) {
		return
	}
	start := r.base
	var l List
	r.sub(n, layout{func(s *reader) {
		for len(s.b) > 0 && s.err == nil {
			if v := entry(s); v != nil {
				l = append(l, v)
			}
		}
		if len(s.b) > 0 { // what stopped it
			l = append(l, Item{"unread", Fields{{Name: "data", Value: Data(s.b), offset: s.base, size: len(s.b)}}})
			s.b = nil
		}
	}})
	r.out = append(r.out, Field{Name: name, Value: l, offset: start})
}

// each reads entries of size bytes.
func each(size int, l ...part) func(*reader) any {
	return func(r *reader) any {
		if !r.need(size, "an entry") {
			return nil
		}
		return r.sub(size, l)
	}
}

// sized reads entries whose length, in bytes, is in the two bytes at offset at.
func sized(at int, l ...part) func(*reader) any {
	return func(r *reader) any {
		if !r.need(at+2, "an entry") {
			return nil
		}
		n := int(binary.BigEndian.Uint16(r.b[at:]))
		if n < at+2 || n > len(r.b) {
			r.fail("an entry of %d bytes where %d are left", n, len(r.b))
			return nil
		}
		return r.sub(n, l)
	}
}

// save reads a length, in bytes, that a later part needs.
func save(r *reader) {
	if r.need(2, "length") {
		r.saved = int(r.uint(2))
		r.skip(2)
	}
}

// length is the length of what it is in, in bytes: of no interest but to the reader.
func length(r *reader) {
	if r.need(2, "length") {
		r.skip(2)
	}
}

// A kind is a name and the layout of what follows its type and length.
type kind struct {
	name   string
	layout layout
}

// kinds are the values that a type field may have.
type kinds map[uint16]kind

// tlv reads entries of type, length (both two bytes, the length counting them too) and
// value, padded to a multiple of align bytes. length counts no padding.
func tlv(k kinds, what string, align int) func(*reader) any {
	return func(r *reader) any {
		if !r.need(4, what) {
			return nil
		}
		typ, n := binary.BigEndian.Uint16(r.b), int(binary.BigEndian.Uint16(r.b[2:]))
		if n < 4 || n > len(r.b) {
			r.fail("%s of %d bytes where %d are left", what, n, len(r.b))
			return nil
		}
		kd, known := k[typ]
		if !known {
			kd = kind{fmt.Sprintf("%s_%d", what, typ), layout{data("data")}}
		}
		s := r.child(n, append(layout{pad(4)}, kd.layout...))
		item := Item{Kind: kd.name, Fields: s.out}
		if s.kind != "" {
			item.Kind = s.kind
		}
		r.skip(min((n+align-1)/align*align-n, len(r.b)))
		return item
	}
}

// hexData writes bytes as text, shortened for people.
func hexData(b []byte) string {
	const most = 32
	if len(b) > most {
		return hex.EncodeToString(b[:most]) + fmt.Sprintf("… (%d bytes)", len(b))
	}
	return hex.EncodeToString(b)
}
