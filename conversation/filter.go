// Package conversation is about what switches and controllers say to each other: it reads
// OpenFlow messages from capture files, picks some of them, counts them, measures how long
// flows take to be set up, and draws who told whom what.
//
//	capture file ── TCP reassembly, framing ──┐
//	running network (network.ControlMessage) ─┴─► control.TapMessage ─► Filter ─► lines, JSON,
//	                                                                    Statistics, Sequence
//
// It may import control, control/openflow, topo, internal/packetfile and internal/headers.
package conversation

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"weft/control"
	"weft/control/openflow"
	"weft/topo"
)

// A Filter picks messages. The zero Filter picks all. It is not for concurrent use.
type Filter struct {
	switches []string
	types    []string
	xids     []uint32
	tests    []*test
}

// A test is a field that a message must have, and its value if there is one.
type test struct {
	name, value string
	valued      bool
	seen        bool // some message had the field
}

// Selection is what a user writes to pick messages; each may hold several, separated by
// commas.
type Selection struct {
	Switches string // s1,s2
	Types    string // PACKET_IN,FLOW_MOD; flow for the multipart messages of that name
	XIDs     string // 7,0x8
	// Match is fields that must all be there, with a value or without:
	// in_port=1,ipv4_src=10.0.0.0/8,set_field. Names are those of openflow.Decoded, or
	// Open vSwitch's.
	Match string
}

// Filter reads s.
func (s Selection) Filter(d *openflow.Decoder) (Filter, error) {
	var f Filter
	f.switches = words(s.Switches)
	known := d.Names()
	for _, t := range words(s.Types) {
		if !slices.ContainsFunc(known, func(name string) bool { return isType(name, t) }) {
			return f, fmt.Errorf("there is no message type %q%s", t, didYouMean(strings.ToUpper(t), known))
		}
		f.types = append(f.types, t)
	}
	for _, x := range words(s.XIDs) {
		n, err := strconv.ParseUint(x, 0, 32)
		if err != nil {
			return f, fmt.Errorf("xid %q is no number of 32 bits", x)
		}
		f.xids = append(f.xids, uint32(n))
	}
	for _, m := range words(s.Match) {
		t := &test{}
		t.name, t.value, t.valued = strings.Cut(m, "=")
		if name, ok := aliases()[t.name]; ok {
			t.name = name
		}
		if t.name == "" {
			return f, fmt.Errorf("%q has no field: write field=value or field", m)
		}
		f.tests = append(f.tests, t)
	}
	return f, nil
}

func didYouMean(word string, known []string) string {
	if near := topo.Nearest(word, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// words splits s at commas and blanks.
func words(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == ',' || c == ' ' })
}

// aliases are the names that Open vSwitch has for fields.
func aliases() map[string]string {
	return map[string]string{
		"dl_src": "eth_src", "dl_dst": "eth_dst", "dl_type": "eth_type", "dl_vlan": "vlan_vid", "dl_vlan_pcp": "vlan_pcp",
		"nw_src": "ipv4_src", "nw_dst": "ipv4_dst", "nw_proto": "ip_proto", "nw_tos": "ip_tos", "ip_src": "ipv4_src", "ip_dst": "ipv4_dst",
		"tun_id": "tunnel_id", "icmp_type": "icmpv4_type", "icmp_code": "icmpv4_code", "table": "table_id", "buffer": "buffer_id",
	}
}

// Match reports whether f picks the message m, which says d.
func (f Filter) Match(m control.TapMessage, d openflow.Decoded) bool {
	switch {
	case len(f.switches) > 0 && !slices.Contains(f.switches, m.Switch):
		return false
	case len(f.xids) > 0 && !slices.Contains(f.xids, d.XID):
		return false
	case len(f.types) > 0 && !slices.ContainsFunc(f.types, func(t string) bool { return isType(d.Name, t) }):
		return false
	}
	for _, t := range f.tests {
		found := d.Fields.Find(t.name, func(g openflow.Field) bool {
			t.seen = true
			return !t.valued || equal(g.Value, t.value)
		})
		if !found {
			return false
		}
	}
	return true
}

// Unseen returns the fields asked for that no message had yet: they may be misspelt.
func (f Filter) Unseen() []string {
	var names []string
	for _, t := range f.tests {
		if !t.seen {
			names = append(names, t.name)
		}
	}
	return names
}

// isType reports whether a message of that name is what a user calls typ: its name, or the
// part that says its version's type, or the rest.
func isType(name, typ string) bool {
	first, rest, _ := strings.Cut(name, " ")
	return strings.EqualFold(name, typ) || strings.EqualFold(first, typ) || rest != "" && strings.EqualFold(rest, typ)
}

// equal reports whether a field has the value that a user wrote: the same text, the same
// number, or an address in that prefix.
func equal(value any, want string) bool {
	switch v := value.(type) {
	case openflow.Number:
		if v.Text != "" && strings.EqualFold(v.Text, want) {
			return true
		}
		n, err := strconv.ParseUint(want, 0, 64)
		if err != nil {
			return false
		}
		shown, err := strconv.ParseUint(v.Text, 0, 64) // a VLAN without its mark
		return n == v.N || err == nil && n == shown
	case openflow.Text:
		if strings.EqualFold(string(v), want) {
			return true
		}
		prefix, err := netip.ParsePrefix(want)
		if err != nil {
			return false
		}
		a, err := netip.ParseAddr(string(v))
		return err == nil && prefix.Contains(a)
	case openflow.Item:
		return strings.EqualFold(v.Kind, want)
	case openflow.List:
		return slices.ContainsFunc(v, func(e any) bool { return equal(e, want) })
	}
	return false
}
