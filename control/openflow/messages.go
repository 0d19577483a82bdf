package openflow

import (
	"encoding/binary"
	"fmt"
	"strings"

	"weft/control"
)

// A messageKey is a type in a version.
type messageKey struct {
	version control.Version
	typ     control.Type
}

// tables are all layouts.
type tables struct {
	messages      map[messageKey]layout
	multiparts    map[control.Version]kinds
	fields        map[fieldID]matchField
	actions10     kinds
	actions11     kinds
	actions       kinds // of OpenFlow 1.2 and later
	niciraActions kinds
	instructions  kinds
	experimenters map[uint64]map[uint64]kind // messages by experimenter and type
	properties    properties
}

// in lists versions.
func in(first, last control.Version) (vs []control.Version) {
	for v := first; v <= last; v++ {
		vs = append(vs, v)
	}
	return vs
}

// Names of enumerations and flags.
var (
	fragments    = []string{"normal", "drop", "reassemble", "mask"}
	flowCommands = []string{"add", "modify", "modify_strict", "delete", "delete_strict"}
	portReasons  = []string{"add", "delete", "modify"}
	roles        = []string{"nochange", "equal", "master", "slave"}
	groupTypes   = []string{"all", "select", "indirect", "fast_failover"}
	bandTypes    = []string{"", "drop", "dscp_remark"}
	meterFlags   = []string{"kbps", "pktps", "burst", "stats"}
	tableConfig  = []string{"", "", "eviction", "vacancy_events"}
)

func packetInReason(v control.Version) part {
	if v < control.OpenFlow14 {
		return enum("reason", 1, "no_match", "action", "invalid_ttl")
	}
	return enum("reason", 1, "table_miss", "apply_action", "invalid_ttl", "action_set", "group", "packet_out")
}

func flowRemovedReason(v control.Version) part {
	if v < control.OpenFlow14 {
		return enum("reason", 1, "idle_timeout", "hard_timeout", "delete", "group_delete")
	}
	return enum("reason", 1, "idle_timeout", "hard_timeout", "delete", "group_delete", "meter_delete", "eviction")
}

func flowFlags(v control.Version) part {
	if v == control.OpenFlow10 {
		return usual(flags("flags", 2, "send_flow_rem", "check_overlap", "emergency"))
	}
	return usual(flags("flags", 2, "send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"))
}

// flowCommand10 is the command of a FLOW_MOD of OpenFlow 1.0, with a table in its upper
// byte if Nicira's extension flow_mod_table_id is on.
func flowCommand10(r *reader) {
	if !r.need(2, "command") {
		return
	}
	n := r.uint(2)
	r.add("command", Number{n, names(flowCommands).text(n & 0xff)}, 2)
	if table := n >> 8; table > 0 {
		r.out = append(r.out, Field{Name: "table_id", Value: Number{N: table}})
	}
}

// capabilities of a switch.
func capabilities(v control.Version) part {
	switch {
	case v == control.OpenFlow10:
		return flags("capabilities", 4, "flow_stats", "table_stats", "port_stats", "stp", "", "ip_reasm", "queue_stats", "arp_match_ip")
	case v == control.OpenFlow11:
		return flags("capabilities", 4, "flow_stats", "table_stats", "port_stats", "group_stats", "", "ip_reasm", "queue_stats", "arp_match_ip")
	}
	return flags("capabilities", 4, "flow_stats", "table_stats", "port_stats", "group_stats", "", "ip_reasm", "queue_stats",
		"", "port_blocked", "bundles", "flow_monitoring")
}

// actionBits are sets of actions by number, as in OpenFlow 1.0 to 1.2 and of groups.
func actionBits(name string, v control.Version) part {
	if v == control.OpenFlow10 {
		return quiet(flags(name, 4, "output", "set_vlan_vid", "set_vlan_pcp", "strip_vlan", "set_dl_src", "set_dl_dst",
			"set_nw_src", "set_nw_dst", "set_nw_tos", "set_tp_src", "set_tp_dst", "enqueue"))
	}
	return quiet(flags(name, 4, "output", "set_vlan_vid", "set_vlan_pcp", "set_dl_src", "set_dl_dst", "set_nw_src", "set_nw_dst",
		"set_nw_tos", "set_nw_ecn", "set_tp_src", "set_tp_dst", "copy_ttl_out", "copy_ttl_in", "set_mpls_label", "set_mpls_tc",
		"set_mpls_ttl", "dec_mpls_ttl", "push_vlan", "pop_vlan", "push_mpls", "pop_mpls", "set_queue", "group",
		"set_nw_ttl", "dec_nw_ttl", "set_field", "push_pbb", "pop_pbb", "copy_field", "meter"))
}

// rates are what a port can do.
func rates(name string, v control.Version) part {
	if v == control.OpenFlow10 {
		return usual(flags(name, 4, "10mb_hd", "10mb_fd", "100mb_hd", "100mb_fd", "1gb_hd", "1gb_fd", "10gb_fd",
			"copper", "fiber", "autoneg", "pause", "pause_asym"))
	}
	return usual(flags(name, 4, "10mb_hd", "10mb_fd", "100mb_hd", "100mb_fd", "1gb_hd", "1gb_fd", "10gb_fd",
		"40gb_fd", "100gb_fd", "1tb_fd", "other", "copper", "fiber", "autoneg", "pause", "pause_asym"))
}

func portConfig(name string, v control.Version) part {
	if v == control.OpenFlow10 {
		return usual(flags(name, 4, "port_down", "no_stp", "no_recv", "no_recv_stp", "no_flood", "no_fwd", "no_packet_in"))
	}
	return usual(flags(name, 4, "port_down", "", "no_recv", "", "", "no_fwd", "no_packet_in"))
}

func portState(v control.Version) part {
	if v == control.OpenFlow10 {
		return usual(number("state", 4, func(n uint64) string {
			// Bits 8 and 9 are a number: the state of the spanning tree.
			text := names{"stp_listen", "stp_learn", "stp_forward", "stp_block"}.text(n >> 8 & 3)
			if n&1 != 0 {
				text = "link_down|" + text
			}
			return text
		}))
	}
	return usual(flags("state", 4, "link_down", "blocked", "live"))
}

// portLayout is the description of a port.
func portLayout(v control.Version) layout {
	switch {
	case v == control.OpenFlow10:
		return layout{port("port_no"), mac("hw_addr"), str("name", 16), portConfig("config", v), portState(v),
			quiet(rates("curr", v)), quiet(rates("advertised", v)), quiet(rates("supported", v)), quiet(rates("peer", v))}
	case v < control.OpenFlow14:
		return layout{port("port_no"), pad(4), mac("hw_addr"), pad(2), str("name", 16), portConfig("config", v), portState(v),
			quiet(rates("curr", v)), quiet(rates("advertised", v)), quiet(rates("supported", v)), quiet(rates("peer", v)),
			quiet(num("curr_speed", 4)), quiet(num("max_speed", 4))}
	}
	return layout{port("port_no"), length, pad(2), mac("hw_addr"), pad(2), str("name", 16), portConfig("config", v), portState(v),
		quiet(propertyList(func(t *tables) kinds { return t.properties.port }))}
}

// ports are descriptions of ports, up to the end.
func ports(v control.Version) part {
	switch {
	case v == control.OpenFlow10:
		return list("ports", each(48, portLayout(v)...))
	case v < control.OpenFlow14:
		return list("ports", each(64, portLayout(v)...))
	}
	return list("ports", sized(4, portLayout(v)...))
}

// bucket is a bucket of a group.
func bucket(v control.Version) func(*reader) any {
	if v < control.OpenFlow15 {
		return sized(0, length, usual(num("weight", 2)), usual(port("watch_port")), usual(groupID("watch_group")), pad(4), actions)
	}
	return sized(0, length, save, hexa("bucket_id", 4), savedActions,
		usual(propertyList(func(t *tables) kinds { return t.properties.bucket })))
}

// savedBuckets are as many bytes of buckets as were saved.
func savedBuckets(r *reader) {
	if r.err == nil {
		r.listOf("buckets", r.saved, bucket(r.v))
	}
}

// bands are those of a meter.
func bands(r *reader) {
	k := kinds{
		1:      {"drop", layout{num("rate", 4), usual(num("burst_size", 4)), pad(4)}},
		2:      {"dscp_remark", layout{num("rate", 4), usual(num("burst_size", 4)), num("prec_level", 1), pad(3)}},
		0xffff: {"experimenter", layout{num("rate", 4), usual(num("burst_size", 4)), hexa("experimenter", 4), data("data")}},
	}
	list("bands", tlv(k, "band", 1))(r)
}

// tableDesc is the description of a table since OpenFlow 1.4.
var tableDesc = layout{length, tableID("table_id"), pad(1), usual(flags("config", 4, tableConfig...)),
	propertyList(func(t *tables) kinds { return t.properties.tableMod })}

// inner is what is left: a message within the message.
func inner(r *reader) {
	if !r.need(control.HeaderLen, "a message") {
		return
	}
	n := int(binary.BigEndian.Uint16(r.b[2:]))
	if n < control.HeaderLen || n > len(r.b) {
		r.fail("a message of %d bytes where %d are left", n, len(r.b))
		return
	}
	if r.depth >= maxDepth {
		r.fail("nested more than %d deep", maxDepth)
		return
	}
	d := decode(r.t, control.Message(r.b[:n]), r.base, r.depth+1)
	r.group("message", d)
	r.skip(n)
	if d.Malformed != "" {
		r.fail("%s: %s", d.Name, d.Malformed)
	}
}

// errorBody is an ERROR: names of type and code, and the message that it is about, or the
// start of that.
func errorBody(r *reader) {
	if !r.need(4, "error") {
		return
	}
	e := control.ErrorMessage{Version: r.v, Type: uint16(r.uint(2)), Code: uint16(bigEndian(r.b[2:4])), Data: r.b[4:]}
	name := control.ErrorName(e.Version, e.Type, e.Code)
	typ, code, _ := strings.Cut(name, "/")
	r.out = append(r.out, Field{Name: "error", Value: Text(name)})
	quiet(number("type", 2, func(uint64) string { return strings.ToLower(typ) }))(r)
	quiet(number("code", 2, func(uint64) string { return strings.ToLower(code) }))(r)
	text := asciiText(e.Data)
	switch {
	case e.Type == control.ErrorHelloFailed && text != "":
		r.add("text", Text(text), len(r.b))
	case e.Type == 0xffff:
		inline(layout{hexa("experimenter", 4), data("data")})(r)
	case len(e.Data) >= control.HeaderLen && e.Data[0] >= 1 && control.Version(e.Data[0]) <= control.OpenFlow15 && r.depth < maxDepth:
		m := control.Message(e.Data)
		about := decode(r.t, m, r.base, r.depth+1)
		if n := int(binary.BigEndian.Uint16(m[2:])); n > len(m) {
			about.Malformed = "" // only its start is there
		}
		r.group("about", about)
		r.skip(len(r.b))
	default:
		data("data")(r)
	}
}

// versionBitmapElement is the type of the only HELLO element.
const versionBitmapElement = 1

// helloElements are those of a HELLO; before OpenFlow 1.3 what is there need not be any.
func helloElements(r *reader) {
	if r.v < control.OpenFlow13 && (len(r.b) < 4 || bigEndian(r.b[:2]) != versionBitmapElement || bigEndian(r.b[2:4]) > uint64(len(r.b))) {
		data("data")(r)
		return
	}
	k := kinds{versionBitmapElement: {"versionbitmap", layout{versionBitmap, data("more")}}}
	for len(r.b) > 0 && r.err == nil {
		item, ok := tlv(k, "element", 8)(r).(Item)
		switch {
		case !ok:
		case item.Kind == "versionbitmap":
			r.out = append(r.out, item.Fields...)
		default:
			r.group("element", item)
		}
	}
}

func versionBitmap(r *reader) {
	if r.need(4, "versions") {
		n := r.uint(4)
		r.add("versions", Number{n, control.Versions(n).String()}, 4)
	}
}

// totalLen is the length of the whole packet, of interest if only a part of it is there.
func totalLen(r *reader) {
	quiet(num("total_len", 2))(r)
}

// cutShort brings total_len back if the packet is not whole.
func cutShort(r *reader) {
	i := -1
	for k, f := range r.out {
		if f.Name == "total_len" {
			i = k
		}
	}
	if i >= 0 && r.err == nil {
		r.out[i].Usual = r.out[i].Value.(Number).N == uint64(len(r.b))
	}
}

// messageLayouts returns the layouts of all messages after their header. Numbers in
// comments are the sections of OpenFlow 1.3.5, where a layout is that of later versions
// too unless one of theirs follows.
func messageLayouts() map[messageKey]layout {
	all := map[messageKey]layout{}
	def := func(first, last control.Version, typ control.Type, l func(v control.Version) layout) {
		for _, v := range in(first, last) {
			all[messageKey{v, typ}] = l(v)
		}
	}
	same := func(first, last control.Version, typ control.Type, parts ...part) {
		def(first, last, typ, func(control.Version) layout { return parts })
	}
	const first, last = control.OpenFlow10, control.OpenFlow15

	same(first, last, control.TypeHello, helloElements) // 7.5.1
	same(first, last, control.TypeError, errorBody)     // 7.5.4
	same(first, last, control.TypeEchoRequest, data("data"))
	same(first, last, control.TypeEchoReply, data("data"))
	same(first, last, control.TypeExperimenter, experimenterMessage)
	same(first, last, control.TypeFeaturesRequest)
	same(first, last, control.TypeGetConfigRequest)
	for _, t := range []control.Type{control.TypeGetConfigReply, control.TypeSetConfig} { // 7.3.2
		same(first, last, t, usual(enum("flags", 2, fragments...)), maxLen("miss_send_len"))
	}
	def(control.OpenFlow10, control.OpenFlow10, control.TypeFeaturesReply, func(v control.Version) layout { // 7.3.1
		return layout{dpid("datapath_id"), num("n_buffers", 4), num("n_tables", 1), pad(3), capabilities(v), actionBits("actions", v), ports(v)}
	})
	def(control.OpenFlow11, control.OpenFlow12, control.TypeFeaturesReply, func(v control.Version) layout {
		return layout{dpid("datapath_id"), num("n_buffers", 4), num("n_tables", 1), pad(3), capabilities(v), pad(4), ports(v)}
	})
	def(control.OpenFlow13, last, control.TypeFeaturesReply, func(v control.Version) layout {
		return layout{dpid("datapath_id"), num("n_buffers", 4), num("n_tables", 1), usual(num("auxiliary_id", 1)), pad(2), capabilities(v), pad(4)}
	})
	def(control.OpenFlow10, control.OpenFlow10, control.TypePacketIn, func(v control.Version) layout { // 7.4.1
		return layout{bufferID, totalLen, front(port("in_port")), packetInReason(v), pad(1), cutShort, packet("packet")}
	})
	def(control.OpenFlow11, control.OpenFlow11, control.TypePacketIn, func(v control.Version) layout {
		return layout{bufferID, port("in_port"), quiet(port("in_phy_port")), totalLen, packetInReason(v), usual(num("table_id", 1)), cutShort, packet("packet")}
	})
	def(control.OpenFlow12, last, control.TypePacketIn, func(v control.Version) layout {
		return layout{bufferID, totalLen, packetInReason(v), usual(num("table_id", 1)), since(control.OpenFlow13, usual(hexa("cookie", 8))),
			front(match), pad(2), cutShort, packet("packet")}
	})
	def(control.OpenFlow10, control.OpenFlow10, control.TypeFlowRemoved, func(v control.Version) layout { // 7.4.2
		return layout{match, usual(hexa("cookie", 8)), num("priority", 2), flowRemovedReason(v), pad(1),
			duration, usual(num("idle_timeout", 2)), pad(2), num("packet_count", 8), num("byte_count", 8)}
	})
	def(control.OpenFlow11, control.OpenFlow14, control.TypeFlowRemoved, func(v control.Version) layout {
		return layout{usual(hexa("cookie", 8)), num("priority", 2), flowRemovedReason(v), usual(num("table_id", 1)), duration,
			usual(num("idle_timeout", 2)), until(control.OpenFlow12, pad(2)), since(control.OpenFlow12, usual(num("hard_timeout", 2))),
			num("packet_count", 8), num("byte_count", 8), front(match)}
	})
	def(control.OpenFlow15, control.OpenFlow15, control.TypeFlowRemoved, func(v control.Version) layout {
		return layout{usual(num("table_id", 1)), flowRemovedReason(v), num("priority", 2), usual(num("idle_timeout", 2)),
			usual(num("hard_timeout", 2)), usual(hexa("cookie", 8)), front(match), statistics}
	})
	def(first, last, control.TypePortStatus, func(v control.Version) layout { // 7.4.3
		return layout{enum("reason", 1, portReasons...), pad(7), inline(portLayout(v))}
	})
	same(control.OpenFlow10, control.OpenFlow10, control.TypePacketOut, bufferID, port("in_port"), save, savedActions, packet("packet")) // 7.3.6
	same(control.OpenFlow11, control.OpenFlow14, control.TypePacketOut, bufferID, port("in_port"), save, pad(6), savedActions, packet("packet"))
	same(control.OpenFlow15, control.OpenFlow15, control.TypePacketOut, bufferID, save, pad(2), match, savedActions, packet("packet"))
	same(control.OpenFlow10, control.OpenFlow10, control.TypeFlowMod, // 7.3.4.1
		match, usual(hexa("cookie", 8)), front(flowCommand10), usual(num("idle_timeout", 2)),
		usual(num("hard_timeout", 2)), num("priority", 2), bufferID, usual(port("out_port")), flowFlags(control.OpenFlow10), actions)
	def(control.OpenFlow11, last, control.TypeFlowMod, func(v control.Version) layout {
		return layout{usual(hexa("cookie", 8)), usual(hexa("cookie_mask", 8)), usual(tableID("table_id")),
			front(enum("command", 1, flowCommands...)), usual(num("idle_timeout", 2)), usual(num("hard_timeout", 2)),
			num("priority", 2), bufferID, usual(port("out_port")), usual(groupID("out_group")), flowFlags(v),
			until(control.OpenFlow14, pad(2)), since(control.OpenFlow14, usual(num("importance", 2))), match, instructions}
	})
	portMod := func(v control.Version) layout { // 7.3.4.3
		return layout{port("port_no"), since(control.OpenFlow11, pad(4)), mac("hw_addr"), since(control.OpenFlow11, pad(2)),
			portConfig("config", v), portConfig("mask", v), rates("advertise", v), pad(4)}
	}
	def(control.OpenFlow10, control.OpenFlow10, 15, portMod)
	def(control.OpenFlow11, control.OpenFlow13, 16, portMod)
	def(control.OpenFlow14, last, 16, func(v control.Version) layout {
		return layout{port("port_no"), pad(4), mac("hw_addr"), pad(2), portConfig("config", v), portConfig("mask", v),
			propertyList(func(t *tables) kinds { return t.properties.portMod })}
	})

	for _, v := range in(first, last) {
		t := multipartRequest(v) // 7.3.5
		all[messageKey{v, t}], all[messageKey{v, t + 1}] = layout{multipart}, layout{multipart}
		all[messageKey{v, control.BarrierRequest(v)}], all[messageKey{v, control.BarrierReply(v)}] = layout{}, layout{}
	}
	same(control.OpenFlow10, control.OpenFlow10, 20, port("port"), pad(2)) // queues, 7.3.7
	same(control.OpenFlow10, control.OpenFlow10, 21, port("port"), pad(6),
		list("queues", sized(4, num("queue_id", 4), length, pad(2), queueProperties)))
	same(control.OpenFlow11, control.OpenFlow13, 22, port("port"), pad(4))
	same(control.OpenFlow11, control.OpenFlow11, 23, port("port"), pad(4),
		list("queues", sized(4, num("queue_id", 4), length, pad(2), queueProperties)))
	same(control.OpenFlow12, control.OpenFlow13, 23, port("port"), pad(4),
		list("queues", sized(8, num("queue_id", 4), port("port"), length, pad(6), queueProperties)))

	groupCommand := enum("command", 2, "add", "modify", "delete", "insert_bucket", "", "remove_bucket")
	groupType := enum("group_type", 1, groupTypes...)
	def(control.OpenFlow11, control.OpenFlow14, 15, func(v control.Version) layout { // 7.3.4.2
		return layout{groupCommand, groupType, pad(1), groupID("group_id"), list("buckets", bucket(v))}
	})
	same(control.OpenFlow15, control.OpenFlow15, 15, groupCommand, groupType, pad(1), groupID("group_id"), save, pad(2),
		number("command_bucket_id", 4, func(n uint64) string {
			return specially(n, 0xfffffffd, "first", 0xfffffffe, "last", 0xffffffff, "all")
		}), savedBuckets, propertyList(func(t *tables) kinds { return t.properties.experimenter }))
	same(control.OpenFlow11, control.OpenFlow13, 17, tableID("table_id"), pad(3), flags("config", 4, tableConfig...)) // 7.3.3
	same(control.OpenFlow14, last, 17, tableID("table_id"), pad(3), flags("config", 4, tableConfig...),
		propertyList(func(t *tables) kinds { return t.properties.tableMod }))
	for _, t := range []control.Type{24, 25} { // 7.3.9
		same(control.OpenFlow12, control.OpenFlow14, t, enum("role", 4, roles...), pad(4), num("generation_id", 8))
		same(control.OpenFlow15, control.OpenFlow15, t, enum("role", 4, roles...),
			number("short_id", 2, func(n uint64) string { return specially(n, 0xffff, "undefined") }), pad(2), num("generation_id", 8))
	}
	for _, t := range []control.Type{27, 28} { // 7.3.10
		same(control.OpenFlow13, control.OpenFlow13, t,
			hexa("packet_in_mask_master", 4), hexa("packet_in_mask_slave", 4),
			hexa("port_status_mask_master", 4), hexa("port_status_mask_slave", 4),
			hexa("flow_removed_mask_master", 4), hexa("flow_removed_mask_slave", 4))
		same(control.OpenFlow14, last, t, propertyList(func(t *tables) kinds { return t.properties.async }))
	}
	same(control.OpenFlow13, last, 26)
	same(control.OpenFlow13, last, 29, enum("command", 2, "add", "modify", "delete"), flags("flags", 2, meterFlags...), meterID, bands)

	same(control.OpenFlow14, last, 30, enum("role", 4, roles...), enum("reason", 1, "master_request", "config", "experimenter"), pad(3),
		num("generation_id", 8), propertyList(func(t *tables) kinds { return t.properties.experimenter }))
	same(control.OpenFlow14, last, 31, enum("reason", 1, "", "", "", "vacancy_down", "vacancy_up"), pad(7), inline(tableDesc))
	same(control.OpenFlow14, last, 32, inner)
	bundleFlags := usual(flags("flags", 2, "atomic", "ordered", "time"))
	bundleProperties := propertyList(func(t *tables) kinds { return t.properties.bundle })
	same(control.OpenFlow14, last, 33, num("bundle_id", 4), bundleCommand, bundleFlags, bundleProperties)
	same(control.OpenFlow14, last, 34, num("bundle_id", 4), pad(2), bundleFlags, inner, bundleProperties)
	same(control.OpenFlow15, control.OpenFlow15, 35, inline(controllerStatus))
	return all
}

var bundleCommand = enum("command", 2, "open_request", "open_reply", "close_request", "close_reply",
	"commit_request", "commit_reply", "discard_request", "discard_reply")

// multipartRequest returns the type of a multipart request, or STATS_REQUEST, in v.
func multipartRequest(v control.Version) control.Type {
	if v == control.OpenFlow10 {
		return 16
	}
	return control.TypeMultipartRequest
}

// duration is seconds and nanoseconds.
func duration(r *reader) {
	num("duration_sec", 4)(r)
	quiet(num("duration_nsec", 4))(r)
}

func meterID(r *reader) {
	number("meter_id", 4, func(n uint64) string {
		return specially(n, 0xfffffffd, "slowpath", 0xfffffffe, "controller", 0xffffffff, "all")
	})(r)
}

// queueProperties are those of a queue before OpenFlow 1.4.
func queueProperties(r *reader) {
	k := kinds{
		0:      {"none", layout{align}},
		1:      {"min_rate", layout{pad(4), num("rate", 2), pad(6)}},
		2:      {"max_rate", layout{pad(4), num("rate", 2), pad(6)}},
		0xffff: {"experimenter", layout{pad(4), hexa("experimenter", 4), pad(4), data("data")}},
	}
	usual(list("properties", tlv(k, "property", 1)))(r)
}

// controllerStatus is the status of a controller in OpenFlow 1.5.
var controllerStatus = layout{length, num("short_id", 2), enum("role", 4, roles...),
	enum("reason", 1, "request", "channel_status", "role", "controller_added", "controller_removed", "short_id", "experimenter"),
	enum("channel_status", 1, "up", "down"), pad(6), propertyList(func(t *tables) kinds { return t.properties.controllerStatus })}

// experimenterMessage is what follows the header of an experimenter's message.
func experimenterMessage(r *reader) {
	if !r.need(8, "experimenter") {
		if r.err != nil && len(r.b) >= 4 { // a VENDOR of 1.0 needs no type
			r.err = nil
			hexa("experimenter", 4)(r)
		}
		return
	}
	id, typ := r.uint(4), bigEndian(r.b[4:8])
	k, ok := r.t.experimenters[id][typ]
	if !ok {
		inline(layout{experimenterName, num("exp_type", 4), data("data")})(r)
		return
	}
	r.skip(8)
	r.kind = k.name
	inline(k.layout)(r)
}

func experimenterName(r *reader) {
	number("experimenter", 4, func(n uint64) string {
		if s := specially(n, experimenterNicira, "nicira", experimenterONF, "onf", 0x00001540, "intel"); s != "" {
			return s
		}
		return fmt.Sprintf("%#08x", n)
	})(r)
}

// experimenterMessages returns the messages of experimenters: Nicira's, as in Open
// vSwitch, and those of the Open Networking Foundation for OpenFlow 1.3.
func experimenterMessages() map[uint64]map[uint64]kind {
	raw := layout{data("data")}
	role := layout{enum("role", 4, "other", "master", "slave")}
	packetIns := enum("format", 4, "openflow10", "nxm", "nxt_packet_in2")
	return map[uint64]map[uint64]kind{
		experimenterNicira: {
			10: {"nx_role_request", role}, 11: {"nx_role_reply", role},
			12: {"nx_set_flow_format", layout{enum("format", 4, "openflow10", "", "nxm")}},
			13: {"nx_flow_mod", layout{usual(hexa("cookie", 8)), front(flowCommand10),
				usual(num("idle_timeout", 2)), usual(num("hard_timeout", 2)), num("priority", 2), bufferID,
				usual(port16("out_port")), flowFlags(control.OpenFlow10), save, pad(6), nxMatch, actions}},
			14: {"nx_flow_removed", layout{usual(hexa("cookie", 8)), num("priority", 2), flowRemovedReason(control.OpenFlow10),
				usual(num("table_id", 1)), duration, usual(num("idle_timeout", 2)), save, num("packet_count", 8), num("byte_count", 8), nxMatch}},
			15: {"nx_flow_mod_table_id", layout{num("set", 1), pad(7)}},
			16: {"nx_set_packet_in_format", layout{packetIns}},
			17: {"nx_packet_in", layout{bufferID, totalLen, packetInReason(control.OpenFlow10), usual(num("table_id", 1)),
				usual(hexa("cookie", 8)), save, pad(6), front(nxMatch), pad(2), cutShort, packet("packet")}},
			18: {"nx_flow_age", layout{}},
			19: {"nx_set_async_config", layout{
				hexa("packet_in_mask_master", 4), hexa("packet_in_mask_slave", 4),
				hexa("port_status_mask_master", 4), hexa("port_status_mask_slave", 4),
				hexa("flow_removed_mask_master", 4), hexa("flow_removed_mask_slave", 4)}},
			20: {"nx_set_controller_id", layout{pad(6), num("controller_id", 2)}},
			21: {"nx_flow_monitor_cancel", layout{num("id", 4)}},
			22: {"nx_flow_monitor_paused", raw}, 23: {"nx_flow_monitor_resumed", raw},
			24: {"nx_tlv_table_mod", raw}, 25: {"nx_tlv_table_request", raw}, 26: {"nx_tlv_table_reply", raw},
			27: {"nx_set_async_config2", layout{propertyList(func(t *tables) kinds { return t.properties.async })}},
			28: {"nx_resume", layout{packetIn2}}, 29: {"nx_ct_flush_zone", layout{pad(6), num("zone", 2)}},
			30: {"nx_packet_in2", layout{packetIn2}}, 32: {"nx_ct_flush", raw},
		},
		experimenterONF: {
			1911: {"onf_flow_monitor_cancel", layout{num("id", 4)}},
			2300: {"onf_bundle_control", layout{num("bundle_id", 4), bundleCommand, usual(flags("flags", 2, "atomic", "ordered"))}},
			2301: {"onf_bundle_add_message", layout{num("bundle_id", 4), pad(2), usual(flags("flags", 2, "atomic", "ordered")), inner,
				propertyList(func(t *tables) kinds { return t.properties.bundle })}},
		},
	}
}

// packetIn2 is the properties of Nicira's PACKET_IN2, in place of fields.
func packetIn2(r *reader) {
	k := kinds{
		0: {"", layout{packet("packet")}},
		1: {"", layout{quiet(num("total_len", 4))}},
		2: {"", layout{bufferID}},
		3: {"", layout{usual(num("table_id", 1)), align}},
		4: {"", layout{pad(4), usual(hexa("cookie", 8))}},
		5: {"", layout{packetInReason(control.OpenFlow14), align}},
		6: {"", layout{matchProperty}},
		7: {"", layout{data("userdata")}},
		8: {"", layout{quiet(data("continuation"))}},
	}
	var packets Fields
	for len(r.b) > 0 && r.err == nil {
		item, ok := tlv(k, "property", 8)(r).(Item)
		switch {
		case !ok:
		case item.Kind != "":
			r.group("property", item)
		case len(item.Fields) > 0 && item.Fields[0].Name == "packet":
			packets = append(packets, item.Fields...) // people read it last
		case len(item.Fields) > 0 && item.Fields[0].Name == "match":
			r.out = append(item.Fields, r.out...)
		default:
			r.out = append(r.out, item.Fields...)
		}
	}
	r.out = append(r.out, packets...)
}

// matchProperty is what is left: fields, as one match.
func matchProperty(r *reader) {
	r.saved = len(r.b)
	nxMatch(r)
}
