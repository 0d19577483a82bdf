package openflow

import "weft/control"

// properties are the properties that structures of OpenFlow 1.4 and later end with, by
// where they are.
type properties struct {
	port, portMod, portStats, queue, queueStats    kinds
	bucket, tableMod, tableFeatures, async, bundle kinds
	bundleFeatures, controllerStatus, experimenter kinds
}

// propertyList reads what is left as properties of a table.
func propertyList(of func(*tables) kinds) part {
	return func(r *reader) {
		usual(list("properties", tlv(of(r.t), "property", 8)))(r)
	}
}

// propertyKinds returns the properties (OpenFlow 1.5.1, 7.2 and 7.3; table features also
// of 1.3).
func propertyKinds() properties {
	experimenter := kind{"experimenter", layout{hexa("experimenter", 4), num("exp_type", 4), data("data")}}
	only := func(k kinds) kinds {
		k[0xffff] = experimenter
		return k
	}
	optical := layout{pad(4), num("flags", 4), num("tx_freq_lmda", 4), num("tx_offset", 4), num("tx_grid_span", 4),
		num("rx_freq_lmda", 4), num("rx_offset", 4), num("rx_grid_span", 4),
		num("tx_pwr", 2), num("rx_pwr", 2), num("bias_current", 2), num("temperature", 2)}
	v := control.OpenFlow15
	fields := func(r *reader) { list("fields", func(r *reader) any { return r.fieldHeader() })(r) }
	instructionIDs := list("instructions", tlv(idsOf(instructionKinds()), "instruction", 1))
	_, _, later := actionKinds()
	actionIDs := list("actions", tlv(idsOf(later), "action", 1))
	tables := list("tables", func(r *reader) any {
		n := r.uint(1)
		r.skip(1)
		return Number{N: n}
	})
	p := properties{
		port: only(kinds{
			0: {"ethernet", layout{pad(4), rates("curr", v), rates("advertised", v), rates("supported", v), rates("peer", v),
				num("curr_speed", 4), num("max_speed", 4)}},
			1: {"optical", layout{pad(4), num("supported", 4), num("tx_min_freq_lmda", 4), num("tx_max_freq_lmda", 4),
				num("tx_grid_freq_lmda", 4), num("rx_min_freq_lmda", 4), num("rx_max_freq_lmda", 4), num("rx_grid_freq_lmda", 4),
				num("tx_pwr_min", 2), num("tx_pwr_max", 2)}},
			2: {"pipeline_input", layout{fields}}, 3: {"pipeline_output", layout{fields}},
			4: {"recirculate", layout{list("ports", func(r *reader) any {
				if !r.need(4, "port") {
					return nil
				}
				n := r.uint(4)
				r.skip(4)
				return Number{n, portName(n)}
			})}},
		}),
		portMod: only(kinds{
			0: {"ethernet", layout{rates("advertise", v)}},
			1: {"optical", layout{num("configure", 4), num("freq_lmda", 4), num("fl_offset", 4), num("grid_span", 4), num("tx_pwr", 4)}},
		}),
		portStats: only(kinds{
			0: {"ethernet", layout{pad(4), num("rx_frame_err", 8), num("rx_over_err", 8), num("rx_crc_err", 8), num("collisions", 8)}},
			1: {"optical", optical},
		}),
		queue: only(kinds{
			1: {"min_rate", layout{num("rate", 2), align}},
			2: {"max_rate", layout{num("rate", 2), align}},
		}),
		queueStats: only(kinds{}),
		bucket: only(kinds{
			0: {"weight", layout{num("weight", 2), align}},
			1: {"watch_port", layout{port("port")}},
			2: {"watch_group", layout{groupID("group")}},
		}),
		tableMod: only(kinds{
			2: {"eviction", layout{flags("flags", 4, "other", "importance", "lifetime")}},
			3: {"vacancy", layout{num("vacancy_down", 1), num("vacancy_up", 1), num("vacancy", 1), align}},
		}),
		bundle: only(kinds{1: {"time", layout{pad(4), scheduled("scheduled_time")}}}),
		bundleFeatures: only(kinds{1: {"time", layout{pad(4), scheduled("accuracy"), scheduled("max_future"),
			scheduled("max_past"), scheduled("timestamp")}}}),
		controllerStatus: only(kinds{0: {"uri", layout{func(r *reader) { str("uri", len(r.b))(r) }}}}),
		async:            only(kinds{0xfffe: experimenter}),
		experimenter:     only(kinds{}),
		tableFeatures:    kinds{0xfffe: experimenter, 0xffff: {"experimenter_miss", experimenter.layout}},
	}
	for i, name := range []string{"packet_in", "port_status", "flow_removed", "role_status", "table_status", "requestforward",
		"flow_stats", "controller_status"} {
		p.async[uint16(2*i)] = kind{name + "_slave", layout{hexa("mask", 4)}}
		p.async[uint16(2*i+1)] = kind{name + "_master", layout{hexa("mask", 4)}}
	}
	for _, f := range []struct {
		typ  uint16
		name string
		part part
	}{
		{0, "instructions", instructionIDs}, {2, "next_tables", tables}, {4, "write_actions", actionIDs},
		{6, "apply_actions", actionIDs}, {12, "write_setfield", fields}, {14, "apply_setfield", fields},
		{18, "write_copyfield", fields}, {20, "apply_copyfield", fields},
	} {
		p.tableFeatures[f.typ] = kind{f.name, layout{f.part}}
		p.tableFeatures[f.typ+1] = kind{f.name + "_miss", layout{f.part}}
	}
	p.tableFeatures[8] = kind{"match", layout{fields}}
	p.tableFeatures[10] = kind{"wildcards", layout{fields}}
	p.tableFeatures[16] = kind{"table_sync_from", layout{tables}}
	p.tableFeatures[22] = kind{"packet_types", layout{data("data")}}
	return p
}

// scheduled is a time in seconds and nanoseconds.
func scheduled(name string) part {
	return group(name, 16, num("seconds", 8), num("nanoseconds", 4), pad(4))
}

// idsOf returns kinds with the names of k, whose entries are type and length alone.
func idsOf(k kinds) kinds {
	ids := kinds{}
	for typ, kd := range k {
		ids[typ] = kind{kd.name, layout{align}}
	}
	return ids
}

// multipart reads type, flags and body of a multipart message.
func multipart(r *reader) {
	if !r.need(4, "multipart type") {
		return
	}
	kd, ok := r.t.multiparts[r.v][uint16(r.uint(2))]
	if ok {
		r.skip(2)
		r.kind = kd.name
	} else {
		kd.layout = layout{data("body")}
		num("multipart_type", 2)(r)
	}
	usual(flags("flags", 2, "more"))(r)
	since(control.OpenFlow11, pad(4))(r)
	inline(kd.layout)(r)
}

// multipartKinds returns the multipart messages of a version, requests and replies
// (OpenFlow 1.0.1, 5.3.5; 1.3.5, 7.3.5; 1.5.1, 7.3.5).
func multipartKinds(v control.Version) kinds {
	replies := func(name string, entry func(*reader) any) part { return reply(list(name, entry)) }
	flowRequest := inline(layout{usual(tableID("table_id")), pad(3), usual(port("out_port")), usual(groupID("out_group")), pad(4),
		usual(hexa("cookie", 8)), usual(hexa("cookie_mask", 8)), match})
	if v == control.OpenFlow10 {
		flowRequest = inline(layout{match, usual(tableID("table_id")), pad(1), usual(port("out_port"))})
	}
	flow10 := sized(0, length, usual(num("table_id", 1)), pad(1), front(match), duration, num("priority", 2),
		usual(num("idle_timeout", 2)), usual(num("hard_timeout", 2)), pad(6), usual(hexa("cookie", 8)),
		num("packet_count", 8), num("byte_count", 8), actions)
	flow11 := sized(0, length, usual(num("table_id", 1)), pad(1), duration, num("priority", 2),
		usual(num("idle_timeout", 2)), usual(num("hard_timeout", 2)), until(control.OpenFlow13, pad(2)), since(control.OpenFlow13, flowFlags(v)),
		until(control.OpenFlow14, pad(4)), since(control.OpenFlow14, usual(num("importance", 2)), pad(2)),
		usual(hexa("cookie", 8)), num("packet_count", 8), num("byte_count", 8), front(match), instructions)
	flow15 := sized(0, length, pad(2), usual(num("table_id", 1)), pad(1), num("priority", 2),
		usual(num("idle_timeout", 2)), usual(num("hard_timeout", 2)), flowFlags(v), usual(num("importance", 2)),
		usual(hexa("cookie", 8)), front(match), statistics, instructions)
	flow := flow11
	switch v {
	case control.OpenFlow10:
		flow = flow10
	case control.OpenFlow15:
		flow = flow15
	}
	counters := func(names ...string) (l layout) {
		for _, n := range names {
			l = append(l, num(n, 8))
		}
		return l
	}
	portCounters := counters("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped", "rx_errors", "tx_errors")
	oldPortCounters := append(portCounters[:8:8], counters("rx_frame_err", "rx_over_err", "rx_crc_err", "collisions")...)
	queueCounters := counters("tx_bytes", "tx_packets", "tx_errors")
	bucketCounters := list("buckets", each(16, counters("packet_count", "byte_count")...))

	k := kinds{
		0:      {"desc", layout{reply(str("mfr_desc", 256), str("hw_desc", 256), str("sw_desc", 256), str("serial_num", 32), str("dp_desc", 256))}},
		1:      {"flow", layout{request(flowRequest), replies("flows", flow)}},
		2:      {"aggregate", layout{request(flowRequest), reply(aggregate(v))}},
		3:      {"table", layout{replies("tables", tableStats(v))}},
		0xffff: {"experimenter", layout{experimenterName, since(control.OpenFlow11, num("exp_type", 4)), data("data")}},
	}
	switch {
	case v == control.OpenFlow10:
		k[4] = kind{"port", layout{request(port("port_no"), pad(6)),
			replies("ports", each(104, append(layout{port("port_no"), pad(6)}, oldPortCounters...)...))}}
		k[5] = kind{"queue", layout{request(port("port_no"), pad(2), queueID),
			replies("queues", each(32, append(layout{port("port_no"), pad(2), queueID}, queueCounters...)...))}}
		k[0xffff] = kind{"vendor", layout{niciraStats}}
		return k
	case v < control.OpenFlow13:
		k[4] = kind{"port", layout{request(port("port_no"), pad(4)),
			replies("ports", each(104, append(layout{port("port_no"), pad(4)}, oldPortCounters...)...))}}
		k[5] = kind{"queue", layout{request(port("port_no"), queueID),
			replies("queues", each(32, append(layout{port("port_no"), queueID}, queueCounters...)...))}}
	case v == control.OpenFlow13:
		k[4] = kind{"port", layout{request(port("port_no"), pad(4)),
			replies("ports", each(112, append(append(layout{port("port_no"), pad(4)}, oldPortCounters...), duration)...))}}
		k[5] = kind{"queue", layout{request(port("port_no"), queueID),
			replies("queues", each(40, append(append(layout{port("port_no"), queueID}, queueCounters...), duration)...))}}
	default:
		k[4] = kind{"port", layout{request(port("port_no"), pad(4)),
			replies("ports", sized(0, append(append(layout{length, pad(2), port("port_no"), duration}, portCounters...),
				propertyList(func(t *tables) kinds { return t.properties.portStats }))...))}}
		k[5] = kind{"queue", layout{request(port("port_no"), queueID),
			replies("queues", sized(0, append(append(layout{length, pad(6), port("port_no"), queueID}, queueCounters...), duration,
				propertyList(func(t *tables) kinds { return t.properties.queueStats }))...))}}
	}
	k[6] = kind{"group", layout{request(groupID("group_id"), pad(4)),
		replies("groups", sized(0, length, pad(2), groupID("group_id"), num("ref_count", 4), pad(4),
			num("packet_count", 8), num("byte_count", 8), since(control.OpenFlow13, duration), bucketCounters))}}
	k[7] = kind{"group_desc", layout{since(control.OpenFlow15, request(groupID("group_id"), pad(4))),
		replies("groups", sized(0, length, enum("group_type", 1, groupTypes...), pad(1), groupID("group_id"),
			until(control.OpenFlow15, list("buckets", bucket(v))),
			since(control.OpenFlow15, save, pad(6), savedBuckets, propertyList(func(t *tables) kinds { return t.properties.experimenter }))))}}
	k[8] = kind{"group_features", layout{reply(flags("types", 4, groupTypes...),
		flags("capabilities", 4, "select_weight", "select_liveness", "chaining", "chaining_checks"),
		num("max_groups_all", 4), num("max_groups_select", 4), num("max_groups_indirect", 4), num("max_groups_fast_failover", 4),
		actionBits("actions_all", v), actionBits("actions_select", v), actionBits("actions_indirect", v), actionBits("actions_fast_failover", v))}}
	if v < control.OpenFlow13 {
		return k
	}
	meterRequest := request(meterID, pad(4))
	k[9] = kind{"meter", layout{meterRequest,
		replies("meters", sized(4, meterID, length, pad(6), num("flow_count", 4), num("packet_in_count", 8), num("byte_in_count", 8),
			duration, list("bands", each(16, counters("packet_band_count", "byte_band_count")...))))}}
	k[10] = kind{"meter_config", layout{meterRequest,
		replies("meters", sized(0, length, flags("flags", 2, meterFlags...), meterID, bands))}}
	k[11] = kind{"meter_features", layout{reply(num("max_meter", 4), flags("band_types", 4, bandTypes...), flags("capabilities", 4, meterFlags...),
		num("max_bands", 1), num("max_color", 1), pad(2),
		since(control.OpenFlow15, meterFeatureFlags))}}
	k[12] = kind{"table_features", layout{list("tables", sized(0, length, tableID("table_id"),
		until(control.OpenFlow15, pad(5)), since(control.OpenFlow15, enum("command", 1, "replace", "modify", "enable", "disable"),
			flags("features", 4, "ingress_table", "egress_table", "", "", "first_egress")),
		str("name", 32), hexa("metadata_match", 8), hexa("metadata_write", 8),
		until(control.OpenFlow14, usual(flags("config", 4, tableConfig...))), since(control.OpenFlow14, usual(flags("capabilities", 4, tableConfig...))),
		num("max_entries", 4), propertyList(func(t *tables) kinds { return t.properties.tableFeatures })))}}
	k[13] = kind{"port_desc", layout{since(control.OpenFlow15, request(port("port_no"), pad(4))), reply(ports(v))}}
	if v < control.OpenFlow14 {
		return k
	}
	k[14] = kind{"table_desc", layout{replies("tables", sized(0, tableDesc...))}}
	k[15] = kind{"queue_desc", layout{request(port("port_no"), queueID),
		replies("queues", sized(8, port("port_no"), queueID, length, pad(6), propertyList(func(t *tables) kinds { return t.properties.queue })))}}
	k[16] = kind{"flow_monitor", layout{
		request(num("monitor_id", 4), usual(port("out_port")), usual(groupID("out_group")),
			flags("flags", 2, "initial", "add", "removed", "modify", "instructions", "no_abbrev", "only_own"),
			tableID("table_id"), enum("command", 1, "add", "modify", "delete"), match),
		replies("updates", sized(0, length, flowUpdate))}}
	if v < control.OpenFlow15 {
		return k
	}
	k[1] = kind{"flow_desc", k[1].layout}
	k[10] = kind{"meter_desc", k[10].layout}
	k[17] = kind{"flow_stats", layout{request(flowRequest),
		replies("flows", sized(0, length, pad(2), usual(num("table_id", 1)), usual(enum("reason", 1, "request", "trigger")),
			num("priority", 2), front(match), statistics))}}
	k[18] = kind{"controller_status", layout{replies("controllers", sized(0, controllerStatus...))}}
	k[19] = kind{"bundle_features", layout{
		request(flags("feature_request_flags", 4, "timestamp", "time_set_sched"), pad(4)),
		reply(flags("capabilities", 2, "atomic", "ordered", "time"), pad(6)),
		propertyList(func(t *tables) kinds { return t.properties.bundleFeatures })}}
	return k
}

// meterFeatureFlags are those of OpenFlow 1.5. Open vSwitch leaves them out.
func meterFeatureFlags(r *reader) {
	if len(r.b) > 0 {
		inline(layout{flags("features", 4, "action_set", "any_position", "multi_list"), pad(4)})(r)
	}
}

func queueID(r *reader) {
	number("queue_id", 4, func(n uint64) string { return specially(n, 0xffffffff, "all") })(r)
}

// aggregate is the sum of what flows have carried.
func aggregate(v control.Version) part {
	if v == control.OpenFlow15 {
		return statistics
	}
	return inline(layout{num("packet_count", 8), num("byte_count", 8), num("flow_count", 4), pad(4)})
}

// tableStats are the counters of a table.
func tableStats(v control.Version) func(*reader) any {
	counters := layout{num("active_count", 4), num("lookup_count", 8), num("matched_count", 8)}
	instructions := func(name string) part {
		return quiet(flags(name, 4, "", "goto_table", "write_metadata", "write_actions", "apply_actions", "clear_actions", "meter"))
	}
	miss := flags("config", 4, "continue", "drop")
	switch v {
	case control.OpenFlow10:
		return each(64, append(layout{num("table_id", 1), pad(3), str("name", 32), quiet(hexa("wildcards", 4)), num("max_entries", 4)}, counters...)...)
	case control.OpenFlow11:
		return each(88, append(layout{num("table_id", 1), pad(7), str("name", 32), quiet(hexa("wildcards", 4)), quiet(hexa("match", 4)),
			instructions("instructions"), actionBits("write_actions", v), actionBits("apply_actions", v), usual(miss), num("max_entries", 4)}, counters...)...)
	case control.OpenFlow12:
		return each(128, append(layout{num("table_id", 1), pad(7), str("name", 32), quiet(hexa("match", 8)), quiet(hexa("wildcards", 8)),
			actionBits("write_actions", v), actionBits("apply_actions", v), quiet(hexa("write_setfields", 8)), quiet(hexa("apply_setfields", 8)),
			quiet(hexa("metadata_match", 8)), quiet(hexa("metadata_write", 8)), instructions("instructions"), usual(miss), num("max_entries", 4)}, counters...)...)
	}
	return each(24, append(layout{num("table_id", 1), pad(3)}, counters...)...)
}

// flowUpdate is an event of a flow monitor, after its length.
func flowUpdate(r *reader) {
	if !r.need(2, "event") {
		return
	}
	event := r.uint(2)
	enum("event", 2, "initial", "added", "removed", "modified", "abbrev", "paused", "resumed")(r)
	switch event {
	case 4:
		num("xid", 4)(r)
	case 5, 6:
		pad(4)(r)
	default:
		inline(layout{usual(num("table_id", 1)), flowRemovedReason(r.v), usual(num("idle_timeout", 2)), usual(num("hard_timeout", 2)),
			num("priority", 2), pad(4), usual(hexa("cookie", 8)), front(match), instructions})(r)
	}
}

// niciraStats are the statistics of vendors in OpenFlow 1.0: Nicira's flows, with NXM
// matches, and what is not known.
func niciraStats(r *reader) {
	if !r.need(12, "vendor") || bigEndian(r.b[:4]) != experimenterNicira || bigEndian(r.b[4:8]) > 1 {
		r.err = nil
		inline(layout{experimenterName, data("data")})(r)
		return
	}
	subtype := bigEndian(r.b[4:8])
	r.kind = []string{"nx_flow", "nx_aggregate"}[subtype]
	r.skip(12)
	switch {
	case !r.reply:
		inline(layout{usual(port16("out_port")), save, usual(tableID("table_id")), pad(3), nxMatch})(r)
	case subtype == 1:
		aggregate(r.v)(r)
	default:
		list("flows", sized(0, length, usual(num("table_id", 1)), pad(1), duration, num("priority", 2),
			usual(num("idle_timeout", 2)), usual(num("hard_timeout", 2)), save, quiet(num("idle_age", 2)), quiet(num("hard_age", 2)),
			usual(hexa("cookie", 8)), num("packet_count", 8), num("byte_count", 8), front(nxMatch), actions))(r)
	}
}
