// Package openflow says what OpenFlow messages mean: it decodes OpenFlow 1.0 to 1.5 and
// Nicira's extensions into values, and writes them for people on one line or as JSON.
// Layouts of messages are tables; what is not in them is shown by type and bytes.
// (The libraries for Go that exist know single versions, drop what they do not know, or
// panic on it.)
//
// It may import control, internal/headers for the packets within messages, and the standard
// library.
package openflow

import (
	"encoding/binary"
	"maps"
	"slices"

	"weft/control"
)

// A Decoder decodes messages of OpenFlow 1.0 to 1.5 and Nicira's. It may be used
// concurrently.
type Decoder struct{ tables *tables }

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder {
	t := &tables{
		messages:      messageLayouts(),
		multiparts:    map[control.Version]kinds{},
		fields:        matchFields(),
		niciraActions: niciraActionKinds(),
		instructions:  instructionKinds(),
		experimenters: experimenterMessages(),
		properties:    propertyKinds(),
	}
	t.actions10, t.actions11, t.actions = actionKinds()
	for _, v := range in(control.OpenFlow10, control.OpenFlow15) {
		t.multiparts[v] = multipartKinds(v)
	}
	return &Decoder{t}
}

// Decode reads m, whatever it holds: what cannot be read is in the result as bytes.
func (d *Decoder) Decode(m control.Message) Decoded { return decode(d.tables, m, 0, 0) }

// decode reads a message that stands at an offset of another, that deep.
func decode(t *tables, m control.Message, base, depth int) Decoded {
	if len(m) < control.HeaderLen {
		return Decoded{Name: "bytes", Length: len(m), Malformed: "shorter than a header",
			Fields: Fields{{Name: "unread", Value: Data(m), offset: base, size: len(m)}}}
	}
	v, typ := m.Version(), m.Type()
	out := Decoded{Version: v, Type: typ, Name: typ.Name(v), XID: m.XID(), Length: len(m)}
	l, known := t.messages[messageKey{v, typ}]
	switch {
	case known:
	case typ == control.TypeHello: // of a version that does not exist yet
		l = t.messages[messageKey{control.OpenFlow15, typ}]
	default:
		l = layout{data("body")}
	}
	r := &reader{t: t, v: v, reply: typ == multipartRequest(v)+1, b: m.Body(), base: base + control.HeaderLen, depth: depth}
	r.run(l)
	out.Fields = r.out
	if r.kind != "" {
		out.Name += " " + r.kind
	}
	switch n := int(binary.BigEndian.Uint16(m[2:])); {
	case r.err != nil:
		out.Malformed = r.err.Error()
	case n != len(m):
		out.Malformed = "the header has another length"
	}
	return out
}

// Names returns the names that Decoded.Name may have for what is known, in order.
func (d *Decoder) Names() []string {
	all := map[string]bool{}
	for key := range d.tables.messages {
		name := key.typ.Name(key.version)
		all[name] = true
		switch {
		case key.typ == multipartRequest(key.version) || key.typ == multipartRequest(key.version)+1:
			for _, k := range d.tables.multiparts[key.version] {
				all[name+" "+k.name] = true
			}
		case key.typ == control.TypeExperimenter:
			for _, types := range d.tables.experimenters {
				for _, k := range types {
					all[name+" "+k.name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}
