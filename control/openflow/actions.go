package openflow

import (
	"fmt"

	"weft/control"
)

// Experimenters whose messages and actions are known.
const (
	experimenterNicira = 0x00002320
	experimenterONF    = 0x4f4e4600
)

// actionKinds returns the actions of OpenFlow 1.0 (1.0.1, 5.2.4), of 1.1 (A.2.5), and of
// later versions (1.5.1, 7.2.6), which share their numbers.
func actionKinds() (v10, v11, later kinds) {
	output := kind{"output", layout{port("port"), quietMaxLen, align}}
	vlan := func(name string) kind { return kind{name, layout{num("vlan_vid", 2), align}} }
	one := func(name string, s part) kind { return kind{name, layout{s, align}} }
	none := func(name string) kind { return kind{name, layout{align}} }
	v10 = kinds{
		0: output,
		1: vlan("set_vlan_vid"), 2: one("set_vlan_pcp", num("vlan_pcp", 1)), 3: none("strip_vlan"),
		4: one("set_dl_src", mac("eth_src")), 5: one("set_dl_dst", mac("eth_dst")),
		6: one("set_nw_src", ipv4("ipv4_src")), 7: one("set_nw_dst", ipv4("ipv4_dst")),
		8: one("set_nw_tos", num("ip_tos", 1)),
		9: one("set_tp_src", num("tp_src", 2)), 10: one("set_tp_dst", num("tp_dst", 2)),
		11:     {"enqueue", layout{port("port"), pad(6), num("queue_id", 4)}},
		0xffff: {"vendor", layout{experimenterAction}},
	}
	later = kinds{
		0:  output,
		11: none("copy_ttl_out"), 12: none("copy_ttl_in"),
		15: one("set_mpls_ttl", num("ttl", 1)), 16: none("dec_mpls_ttl"),
		17: one("push_vlan", hexa("eth_type", 2)), 18: none("pop_vlan"),
		19: one("push_mpls", hexa("eth_type", 2)), 20: one("pop_mpls", hexa("eth_type", 2)),
		21: one("set_queue", num("queue_id", 4)), 22: one("group", groupID("group_id")),
		23: one("set_nw_ttl", num("ttl", 1)), 24: none("dec_nw_ttl"),
		25: one("set_field", fieldStep), 26: one("push_pbb", hexa("eth_type", 2)), 27: none("pop_pbb"),
		28: {"copy_field", layout{num("n_bits", 2), num("src_offset", 2), num("dst_offset", 2), pad(2),
			fieldName("src"), fieldName("dst"), align}},
		29:     one("meter", num("meter_id", 4)),
		0xffff: {"experimenter", layout{experimenterAction}},
	}
	v11 = kinds{
		1: vlan("set_vlan_vid"), 2: v10[2], 3: v10[4], 4: v10[5], 5: v10[6], 6: v10[7], 7: v10[8],
		8: one("set_nw_ecn", num("ip_ecn", 1)), 9: v10[9], 10: v10[10],
		13: one("set_mpls_label", num("mpls_label", 4)), 14: one("set_mpls_tc", num("mpls_tc", 1)),
	}
	for typ, k := range later {
		if typ <= 24 || typ == 0xffff {
			v11[typ] = k
		}
	}
	return v10, v11, later
}

// quietMaxLen is how much of a packet goes to the controller: of interest to people only
// where it goes there.
func quietMaxLen(r *reader) {
	if to, _ := r.out.Get("port"); to.Value == (Number{uint64(control.PortController), "controller"}) {
		usual(maxLen("max_len"))(r)
		return
	}
	quiet(maxLen("max_len"))(r)
}

// fieldStep reads one field with its value.
func fieldStep(r *reader) {
	if f, ok := r.field(); ok {
		r.out = append(r.out, f)
	}
}

// fieldName reads the header of a field, as its name.
func fieldName(name string) part {
	return func(r *reader) {
		if v := r.fieldHeader(); v != nil {
			r.out = append(r.out, Field{Name: name, Value: v, offset: r.base - 4, size: 4})
		}
	}
}

// fieldHeader reads the header of a field without its value.
func (r *reader) fieldHeader() any {
	if !r.need(4, "a match field's header") {
		return nil
	}
	n := 4
	id := fieldID{uint16(bigEndian(r.b[:2])), r.b[2] >> 1}
	if id.class == classExperimenter && len(r.b) >= 8 {
		n = 8
	}
	r.skip(n)
	return Text(r.t.fieldName(id))
}

func (r *reader) actionTable() kinds {
	switch r.v {
	case control.OpenFlow10:
		return r.t.actions10
	case control.OpenFlow11:
		return r.t.actions11
	}
	return r.t.actions
}

// action reads an action.
func action(r *reader) any { return tlv(r.actionTable(), "action", 1)(r) }

// actions are what is left of the stretch.
func actions(r *reader) { list("actions", action)(r) }

// savedActions are as many bytes of actions as were saved.
func savedActions(r *reader) {
	if r.err == nil {
		r.listOf("actions", r.saved, action)
	}
}

// experimenterAction reads an action after its type and length.
func experimenterAction(r *reader) {
	if !r.need(4, "experimenter") {
		return
	}
	switch id := r.uint(4); {
	case id == experimenterNicira && len(r.b) >= 6:
		r.skip(4)
		subtype := uint16(r.uint(2))
		r.skip(2)
		k, ok := r.t.niciraActions[subtype]
		if !ok {
			k = kind{fmt.Sprintf("action_%d", subtype), layout{data("data")}}
		}
		r.kind = "nx_" + k.name
		inline(k.layout)(r)
	case id == experimenterONF && len(r.b) >= 8 && bigEndian(r.b[4:6]) == 3200:
		r.skip(8)
		r.kind = "copy_field"
		inline(layout{num("n_bits", 2), num("src_offset", 2), num("dst_offset", 2), pad(2),
			fieldName("src"), fieldName("dst"), align})(r)
	default:
		inline(layout{hexa("experimenter", 4), data("data")})(r)
	}
}

// fieldBits reads the start and number of bits of a field, in the six bytes or, with
// apart, two and later four that Nicira's actions have for them: "reg0[0..15]".
func fieldBits(name string) part {
	return func(r *reader) {
		if r.need(6, name) {
			b := bigEndian(r.b[:2])
			text := r.bitRange(r.b[2:6], b>>6, b&63+1)
			r.add(name, Text(text), 6)
		}
	}
}

func (r *reader) bitRange(header []byte, start, n uint64) string {
	name := r.t.fieldName(fieldID{uint16(bigEndian(header[:2])), header[2] >> 1})
	if n == 1 {
		return fmt.Sprintf("%s[%d]", name, start)
	}
	return fmt.Sprintf("%s[%d..%d]", name, start, start+n-1)
}

// niciraActions returns Nicira's actions by subtype (nicira-ext and ofp-actions of Open
// vSwitch).
func niciraActionKinds() kinds {
	raw := layout{data("data")}
	return kinds{
		1:  {"resubmit", layout{port16("in_port"), align}},
		2:  {"set_tunnel", layout{pad(2), hexa("tunnel_id", 4)}},
		4:  {"set_queue", layout{pad(2), num("queue_id", 4)}},
		5:  {"pop_queue", layout{align}},
		6:  {"reg_move", layout{regMove}},
		7:  {"reg_load", layout{fieldBits("dst"), hexa("value", 8)}},
		8:  {"note", raw},
		9:  {"set_tunnel64", layout{pad(6), hexa("tunnel_id", 8)}},
		10: {"multipath", raw}, 11: {"autopath", raw}, 12: {"bundle", raw}, 13: {"bundle_load", raw},
		14: {"resubmit_table", layout{port16("in_port"), tableID("table_id"), align}},
		15: {"output_reg", layout{fieldBits("src"), quiet(maxLen("max_len")), align}},
		16: {"learn", layout{
			usual(num("idle_timeout", 2)), usual(num("hard_timeout", 2)), num("priority", 2), usual(hexa("cookie", 8)),
			usual(flags("flags", 2, "send_flow_rem", "delete_learned", "write_result")), num("table_id", 1), pad(1),
			usual(num("fin_idle_timeout", 2)), usual(num("fin_hard_timeout", 2)), list("specs", learnSpec)}},
		17: {"exit", layout{align}},
		18: {"dec_ttl", layout{align}},
		19: {"fin_timeout", layout{num("idle_timeout", 2), num("hard_timeout", 2), align}},
		20: {"controller", layout{maxLen("max_len"), num("controller_id", 2), packetInReason(control.OpenFlow10), align}},
		21: {"dec_ttl_cnt_ids", raw}, 22: {"write_metadata", layout{pad(6), hexa("metadata", 8), hexa("mask", 8)}},
		23: {"push_mpls", layout{hexa("eth_type", 2), align}}, 24: {"pop_mpls", layout{hexa("eth_type", 2), align}},
		25: {"set_mpls_ttl", layout{num("ttl", 1), align}}, 26: {"dec_mpls_ttl", layout{align}},
		27: {"stack_push", layout{stackBits}}, 28: {"stack_pop", layout{stackBits}},
		29: {"sample", raw},
		30: {"set_mpls_label", layout{pad(2), num("mpls_label", 4)}}, 31: {"set_mpls_tc", layout{num("mpls_tc", 1), align}},
		32: {"output_reg2", raw}, 33: {"reg_load2", layout{pad(6), fieldStep, align}},
		34: {"conjunction", layout{num("clause", 1), num("n_clauses", 1), num("id", 4)}},
		35: {"ct", layout{
			flags("flags", 2, "commit", "force"), usual(hexa("zone_src", 4)), num("zone", 2),
			usual(tableID("recirc_table")), pad(3), usual(num("alg", 2)), actions}},
		36: {"nat", raw}, 37: {"controller2", raw}, 38: {"sample2", raw},
		39: {"output_trunc", layout{port16("port"), num("max_len", 4)}},
		41: {"sample3", raw}, 42: {"clone", layout{pad(6), actions}}, 43: {"ct_clear", layout{align}},
		44: {"resubmit_table_ct", layout{port16("in_port"), tableID("table_id"), align}},
		45: {"learn2", raw}, 46: {"encap", raw}, 47: {"decap", raw}, 48: {"dec_nsh_ttl", layout{align}},
		49: {"check_pkt_larger", raw}, 51: {"delete_field", raw},
	}
}

// regMove reads from where to where how many bits are copied.
func regMove(r *reader) {
	if !r.need(14, "reg_move") {
		return
	}
	n := bigEndian(r.b[:2])
	src := r.bitRange(r.b[6:10], bigEndian(r.b[2:4]), n)
	dst := r.bitRange(r.b[10:14], bigEndian(r.b[4:6]), n)
	r.out = append(r.out, Field{Name: "src", Value: Text(src), offset: r.base, size: 14},
		Field{Name: "dst", Value: Text(dst), offset: r.base, size: 14})
	r.skip(14)
}

// stackBits reads what is pushed or popped.
func stackBits(r *reader) {
	if r.need(8, "stack") {
		text := r.bitRange(r.b[2:6], bigEndian(r.b[:2]), bigEndian(r.b[6:8]))
		r.add("field", Text(text), 8)
		align(r)
	}
}

// learnSpec reads what a learn action copies or matches: a header of 16 bits, a source
// (a field or a constant) and a destination (none for outputs).
func learnSpec(r *reader) any {
	if !r.need(2, "learn") {
		return nil
	}
	head := int(r.uint(2))
	if head == 0 { // padding
		r.skip(len(r.b))
		return nil
	}
	n, constant, to := head&0x7ff, head&(1<<13) != 0, head>>11&3
	size := 2
	if constant {
		size += (n + 15) / 16 * 2
	} else {
		size += 6
	}
	from := size
	if to != 2 {
		size += 6
	}
	if !r.need(size, "learn") {
		return nil
	}
	src := ""
	if constant {
		src = hexadecimal(r.b[2:from])
	} else {
		src = r.bitRange(r.b[2:6], bigEndian(r.b[6:8]), uint64(n))
	}
	kind := names{"match", "load", "output", "reserved"}.text(uint64(to))
	f := Fields{{Name: "src", Value: Text(src), offset: r.base, size: size}}
	if to != 2 {
		dst := r.bitRange(r.b[from:from+4], bigEndian(r.b[from+4:from+6]), uint64(n))
		f = append(f, Field{Name: "dst", Value: Text(dst), offset: r.base, size: size})
	}
	r.skip(size)
	return Item{kind, f}
}

// instructionKinds returns the instructions (OpenFlow 1.5.1, 7.2.5).
func instructionKinds() kinds {
	return kinds{
		1:      {"goto_table", layout{num("table_id", 1), pad(3)}},
		2:      {"write_metadata", layout{pad(4), hexa("metadata", 8), hexa("mask", 8)}},
		3:      {"write_actions", layout{pad(4), actions}},
		4:      {"apply_actions", layout{pad(4), actions}},
		5:      {"clear_actions", layout{align}},
		6:      {"meter", layout{num("meter_id", 4)}},
		7:      {"stat_trigger", layout{flags("flags", 4, "periodic", "only_first"), statistics}},
		0xffff: {"experimenter", layout{hexa("experimenter", 4), data("data")}},
	}
}

// instructions are what is left of the stretch.
func instructions(r *reader) {
	list("instructions", tlv(r.t.instructions, "instruction", 1))(r)
}
