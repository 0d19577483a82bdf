package openflow

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"weft/control"
)

// A Decoded message says what a Message means. Decoder.Decode makes it.
//
// Fields have the names of the OpenFlow specification without its prefixes, and those
// of matches and headers of packets the names of OXM fields, in every version:
// eth_src, ipv4_dst, tcp_src. So one filter fits all versions.
type Decoded struct {
	Version control.Version
	// Name is the type's name, with that of a multipart message's or experimenter's
	// own type: "PACKET_IN", "MULTIPART_REPLY flow", "NICIRA set_flow_format".
	Name   string
	Type   control.Type
	XID    uint32
	Length int // bytes, header included
	Fields Fields
	// Malformed says what could not be read; what could not is in Fields as bytes.
	Malformed string
}

// A Field is a named part of a message. Value is one of:
//
//	Number  an integer, perhaps with a name
//	Text    an address, a name, a number with a mask
//	Data    bytes without a known meaning
//	Packet  a packet of the network
//	Item    an action, instruction, property, bucket …: a kind with fields
//	Fields  a match, a structure
//	List    Items, Numbers or Texts
//	Decoded a message within the message
type Field struct {
	Name  string
	Value any
	// Usual is set if the value is what one expects (no buffer, cookie 0): people
	// are not told of it.
	Usual bool

	// Where the value stands in the message, bytes; size is 0 for what has parts.
	offset, size int
}

// Fields are fields in the order of the message.
type Fields []Field

// A Number is an unsigned integer of up to 64 bits.
type Number struct {
	N uint64
	// Text is how it is written, if that is not decimal: a name or hexadecimal.
	Text string
}

// Text is a value that is best written as text.
type Text string

// Data is bytes without a known meaning.
type Data []byte

// An Item has a kind ("output", "apply_actions"), which says what its Fields are.
type Item struct {
	Kind   string
	Fields Fields
}

// A List is values of one kind.
type List []any

// A Packet is a packet of the network, or its start.
type Packet struct {
	Summary string // "10.0.0.1 → 10.0.0.2 ICMP echo request"
	Headers Fields // named as the fields of a match
	Data    Data
}

// Get returns the first field called name at the top level of f.
func (f Fields) Get(name string) (Field, bool) {
	for _, g := range f {
		if g.Name == name {
			return g, true
		}
	}
	return Field{}, false
}

// Span says where in the message the value stands, bytes; size is 0 if it has parts, or is
// not in the message as such. A mask follows its value.
func (f Field) Span() (offset, size int) { return f.offset, f.size }

// Find calls visit for each field called name in f and all that it contains, until it
// returns true, and returns whether it did.
func (f Fields) Find(name string, visit func(Field) bool) bool {
	return f.Walk(func(g Field) bool { return g.Name == name && visit(g) })
}

// Walk calls visit for each field of f and all that it contains, outer ones first, until
// it returns true, and returns whether it did.
func (f Fields) Walk(visit func(Field) bool) bool {
	for _, g := range f {
		if visit(g) || walkValue(g.Value, visit) {
			return true
		}
	}
	return false
}

func walkValue(v any, visit func(Field) bool) bool {
	switch v := v.(type) {
	case Fields:
		return v.Walk(visit)
	case Item:
		return v.Fields.Walk(visit)
	case Packet:
		return v.Headers.Walk(visit)
	case Decoded:
		return v.Fields.Walk(visit)
	case List:
		for _, e := range v {
			if walkValue(e, visit) {
				return true
			}
		}
	}
	return false
}

// Uint returns the number in the first field called name, wherever it is.
func (f Fields) Uint(name string) (n uint64, ok bool) {
	f.Find(name, func(g Field) bool {
		if v, is := g.Value.(Number); is {
			n, ok = v.N, true
		}
		return ok
	})
	return n, ok
}

// MarshalJSON writes a number, or a string if the number has a text.
func (n Number) MarshalJSON() ([]byte, error) {
	if n.Text != "" {
		return marshal(n.Text)
	}
	return strconv.AppendUint(nil, n.N, 10), nil
}

// MarshalJSON writes hexadecimal digits.
func (d Data) MarshalJSON() ([]byte, error) { return marshal(hex.EncodeToString(d)) }

// MarshalJSON writes an object with the fields in their order. Of fields with the same
// name the second is called name_2, and so on.
func (f Fields) MarshalJSON() ([]byte, error) { return marshalObject(nil, f) }

// MarshalJSON writes the kind as "type" beside the fields.
func (i Item) MarshalJSON() ([]byte, error) {
	return marshalObject(Fields{{Name: "type", Value: Text(i.Kind)}}, i.Fields)
}

// MarshalJSON writes summary, headers, length and the bytes.
func (p Packet) MarshalJSON() ([]byte, error) {
	return marshalObject(nil, Fields{
		{Name: "summary", Value: Text(p.Summary)},
		{Name: "length", Value: Number{N: uint64(len(p.Data))}},
		{Name: "headers", Value: p.Headers},
		{Name: "data", Value: p.Data},
	})
}

// MarshalJSON writes the header and the fields as one object.
func (d Decoded) MarshalJSON() ([]byte, error) {
	head := Fields{
		{Name: "version", Value: Text(d.Version.String())},
		{Name: "message", Value: Text(d.Name)},
		{Name: "xid", Value: Number{N: uint64(d.XID)}},
		{Name: "length", Value: Number{N: uint64(d.Length)}},
	}
	if d.Malformed != "" {
		head = append(head, Field{Name: "malformed", Value: Text(d.Malformed)})
	}
	return marshalObject(head, Fields{{Name: "fields", Value: d.Fields}})
}

func marshalObject(parts ...Fields) ([]byte, error) {
	b := []byte{'{'}
	seen := map[string]int{}
	for _, fields := range parts {
		for _, f := range fields {
			name := f.Name
			if seen[f.Name]++; seen[f.Name] > 1 {
				name += "_" + strconv.Itoa(seen[f.Name])
			}
			if len(b) > 1 {
				b = append(b, ',')
			}
			key, err := marshal(name)
			if err != nil {
				return nil, err
			}
			value, err := marshal(f.Value)
			if err != nil {
				return nil, err
			}
			b = append(append(append(b, key...), ':'), value...)
		}
	}
	return append(b, '}'), nil
}

// marshal writes JSON without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
