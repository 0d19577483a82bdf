package openflow

import (
	"fmt"
	"strconv"
	"strings"

	"weft/control"
)

// lineTime is how times are written in lines.
const lineTime = "15:04:05.000000"

// Line writes m, which says d, for people:
//
//	12:00:00.123456 s1 → c0 OF1.3 PACKET_IN xid=7 in_port=1 reason=no_match 10.0.0.1 → 10.0.0.2 ICMP echo request
func Line(m control.TapMessage, d Decoded) string {
	from, to := m.Switch, m.Controller
	if !m.FromSwitch {
		from, to = to, from
	}
	return m.Time.Format(lineTime) + " " + from + " → " + to + " " + d.String()
}

// String writes the message on one line for people. It leaves out what is Usual.
func (d Decoded) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "OF%v %s xid=%d", d.Version, d.Name, d.XID)
	d.writeFields(&b)
	return b.String()
}

// writeFields writes what follows the header.
func (d Decoded) writeFields(b *strings.Builder) {
	for _, f := range d.Fields {
		if list, ok := f.Value.(List); f.Usual || ok && len(list) == 0 && d.deletes() {
			continue
		}
		b.WriteByte(' ')
		writeField(b, f)
	}
	if strings.Contains(d.Name, "type ") {
		fmt.Fprintf(b, " length=%d", d.Length)
	}
	if d.Malformed != "" {
		fmt.Fprintf(b, " (malformed: %s)", d.Malformed)
	}
}

// deletes reports whether the message deletes flows, which then need no actions.
func (d Decoded) deletes() bool {
	f, _ := d.Fields.Get("command")
	n, ok := f.Value.(Number)
	return ok && strings.HasPrefix(n.Text, "delete")
}

// writeInstructions writes actions as those of OpenFlow 1.0 if that is all they do.
func writeInstructions(b *strings.Builder, list List) {
	if len(list) == 0 {
		b.WriteString("actions=drop")
		return
	}
	for i, v := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		item, _ := v.(Item)
		if actions, ok := item.Fields.Get("actions"); ok && item.Kind == "apply_actions" {
			writeField(b, actions)
			continue
		}
		writeValue(b, v)
	}
}

// writeField writes a field of a message. Names that say no more than their value are
// left out: an enumeration that comes first, a packet, the fields of a match.
func writeField(b *strings.Builder, f Field) {
	switch v := f.Value.(type) {
	case Packet:
		b.WriteString(v.Summary)
		return
	case Decoded:
		b.WriteString("{" + v.String() + "}")
		return
	case Fields:
		if f.Name == "match" || f.Name == "stats" {
			if len(v) == 0 {
				b.WriteString(f.Name + "=any")
			}
			writeFields(b, v)
			return
		}
	case Number:
		if f.Name == "command" && v.Text != "" {
			b.WriteString(v.Text)
			return
		}
	case List:
		if len(v) == 0 && f.Name == "actions" {
			b.WriteString("actions=drop")
			return
		}
		if f.Name == "instructions" {
			writeInstructions(b, v)
			return
		}
	}
	b.WriteString(f.Name)
	b.WriteByte('=')
	writeValue(b, f.Value)
}

// writeFields writes name=value, separated by commas.
func writeFields(b *strings.Builder, fields Fields) {
	first := true
	for _, f := range fields {
		if f.Usual {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		writeField(b, f)
	}
}

func writeValue(b *strings.Builder, v any) {
	switch v := v.(type) {
	case Number:
		if v.Text != "" {
			b.WriteString(v.Text)
		} else {
			b.WriteString(strconv.FormatUint(v.N, 10))
		}
	case Text:
		writeText(b, string(v))
	case Data:
		b.WriteString(hexData(v))
	case Item:
		writeItem(b, v)
	case Packet:
		b.WriteString(v.Summary)
	case Decoded:
		b.WriteString("{" + v.String() + "}")
	case Fields:
		b.WriteByte('{')
		writeFields(b, v)
		b.WriteByte('}')
	case List:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(' ')
			}
			writeValue(b, e)
		}
		b.WriteByte(']')
	}
}

// writeText writes a text, quoted if it has blanks or what could break a line.
func writeText(b *strings.Builder, s string) {
	for _, c := range s {
		if c <= ' ' || c == '"' || !strconv.IsPrint(c) {
			b.WriteString(strconv.Quote(s))
			return
		}
	}
	b.WriteString(s)
}

// writeItem writes kind, kind:value or kind(name=value,…).
func writeItem(b *strings.Builder, i Item) {
	b.WriteString(i.Kind)
	var shown Fields
	for _, f := range i.Fields {
		if !f.Usual {
			shown = append(shown, f)
		}
	}
	switch {
	case len(shown) == 0:
	case len(shown) == 1 && i.Kind == "set_field":
		b.WriteByte(':')
		writeField(b, shown[0])
	case len(shown) == 1:
		b.WriteByte(':')
		writeValue(b, shown[0].Value)
	default:
		b.WriteByte('(')
		writeFields(b, shown)
		b.WriteByte(')')
	}
}

// Brief writes name and fields on at most most characters.
func (d Decoded) Brief(most int) string {
	var b strings.Builder
	b.WriteString(d.Name)
	d.writeFields(&b)
	text := []rune(b.String())
	if len(text) > most {
		text = append(text[:most-1], '…')
	}
	return string(text)
}
