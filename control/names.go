package control

import "fmt"

// A Type is the type of an OpenFlow message. What types from 15 on mean depends on
// the version.
type Type uint8

// The types that all versions share.
const (
	TypeHello Type = iota
	TypeError
	TypeEchoRequest
	TypeEchoReply
	TypeExperimenter
	TypeFeaturesRequest
	TypeFeaturesReply
	TypeGetConfigRequest
	TypeGetConfigReply
	TypeSetConfig
	TypePacketIn
	TypeFlowRemoved
	TypePortStatus
	TypePacketOut
	TypeFlowMod
)

// BarrierRequest and BarrierReply return the types of barriers in a version.
func BarrierRequest(v Version) Type {
	if v == OpenFlow10 {
		return 18
	}
	return 20
}

// BarrierReply returns the type of a barrier's reply in v.
func BarrierReply(v Version) Type { return BarrierRequest(v) + 1 }

// The types of multipart messages from OpenFlow 1.1 on.
const (
	TypeMultipartRequest Type = 18
	TypeMultipartReply   Type = 19
)

// Name returns the name of t in version v without its prefix OFPT_, "PACKET_IN".
func (t Type) Name(v Version) string {
	var name string
	switch {
	case t == TypeExperimenter && v == OpenFlow10:
		name = "VENDOR"
	case t <= TypeFlowMod:
		name = [...]string{
			"HELLO", "ERROR", "ECHO_REQUEST", "ECHO_REPLY", "EXPERIMENTER",
			"FEATURES_REQUEST", "FEATURES_REPLY", "GET_CONFIG_REQUEST", "GET_CONFIG_REPLY",
			"SET_CONFIG", "PACKET_IN", "FLOW_REMOVED", "PORT_STATUS", "PACKET_OUT",
			"FLOW_MOD",
		}[t]
	case v == OpenFlow10:
		name = at(t-15, "PORT_MOD", "STATS_REQUEST", "STATS_REPLY", "BARRIER_REQUEST", "BARRIER_REPLY",
			"QUEUE_GET_CONFIG_REQUEST", "QUEUE_GET_CONFIG_REPLY")
	case v <= OpenFlow12 && (t == TypeMultipartRequest || t == TypeMultipartReply):
		name = at(t-TypeMultipartRequest, "STATS_REQUEST", "STATS_REPLY")
	case t <= lastType(v) && !(v >= OpenFlow14 && (t == 22 || t == 23)):
		name = at(t-15, "GROUP_MOD", "PORT_MOD", "TABLE_MOD", "MULTIPART_REQUEST", "MULTIPART_REPLY",
			"BARRIER_REQUEST", "BARRIER_REPLY", "QUEUE_GET_CONFIG_REQUEST", "QUEUE_GET_CONFIG_REPLY",
			"ROLE_REQUEST", "ROLE_REPLY", "GET_ASYNC_REQUEST", "GET_ASYNC_REPLY", "SET_ASYNC",
			"METER_MOD", "ROLE_STATUS", "TABLE_STATUS", "REQUESTFORWARD", "BUNDLE_CONTROL",
			"BUNDLE_ADD_MESSAGE", "CONTROLLER_STATUS")
	}
	if name == "" {
		return fmt.Sprintf("type %d", uint8(t))
	}
	return name
}

// lastType returns the highest type of v, which is at least OpenFlow 1.1.
func lastType(v Version) Type {
	switch v {
	case OpenFlow11:
		return 23
	case OpenFlow12:
		return 25
	case OpenFlow13:
		return 29
	case OpenFlow14:
		return 34
	}
	return 35
}

// The types of ERROR messages that all versions share.
const (
	ErrorHelloFailed uint16 = 0
	ErrorBadRequest  uint16 = 1
)

// Codes of ErrorHelloFailed and ErrorBadRequest.
const (
	CodeIncompatible uint16 = 0
	CodeBadVersion   uint16 = 0
	CodeBadLength    uint16 = 6
)

// ErrorName returns the names of an ERROR's type and code in version v,
// "BAD_REQUEST/BAD_LEN". What it has no name for it gives as a number.
func ErrorName(v Version, typ, code uint16) string {
	e := at(typ, errorTypes(v)...)
	c := at(code, e.codes...)
	switch {
	case typ == errorExperimenter && v >= OpenFlow12:
		e.name = "EXPERIMENTER"
	case e.name == "":
		e.name = fmt.Sprintf("error type %d", typ)
	}
	if c == "" {
		c = fmt.Sprintf("code %d", code)
	}
	return e.name + "/" + c
}

// errorExperimenter is the type of the errors of experimenters.
const errorExperimenter uint16 = 0xffff

// An errorType is a type of errors and the names of its codes, from 0 on.
type errorType struct {
	name  string
	codes []string
}

// errorTypes returns the types of errors of a version, from 0 on (OpenFlow 1.0.1, 5.4.4;
// 1.5.1, 7.5.4). Codes of later versions are names in earlier ones too.
func errorTypes(v Version) []errorType {
	hello := errorType{"HELLO_FAILED", []string{"INCOMPATIBLE", "EPERM"}}
	action := []string{"BAD_TYPE", "BAD_LEN", "BAD_EXPERIMENTER", "BAD_EXP_TYPE", "BAD_OUT_PORT", "BAD_ARGUMENT", "EPERM", "TOO_MANY",
		"BAD_QUEUE", "BAD_OUT_GROUP", "MATCH_INCONSISTENT", "UNSUPPORTED_ORDER", "BAD_TAG", "BAD_SET_TYPE", "BAD_SET_LEN",
		"BAD_SET_ARGUMENT", "BAD_SET_MASK", "BAD_METER"}
	port := errorType{"PORT_MOD_FAILED", []string{"BAD_PORT", "BAD_HW_ADDR", "BAD_CONFIG", "BAD_ADVERTISE", "EPERM"}}
	queue := errorType{"QUEUE_OP_FAILED", []string{"BAD_PORT", "BAD_QUEUE", "EPERM"}}
	if v == OpenFlow10 {
		action[2], action[3] = "BAD_VENDOR", "BAD_VENDOR_TYPE"
		return []errorType{
			hello,
			{"BAD_REQUEST", []string{"BAD_VERSION", "BAD_TYPE", "BAD_STAT", "BAD_VENDOR", "BAD_SUBTYPE", "EPERM", "BAD_LEN",
				"BUFFER_EMPTY", "BUFFER_UNKNOWN"}},
			{"BAD_ACTION", action[:9]},
			{"FLOW_MOD_FAILED", []string{"ALL_TABLES_FULL", "OVERLAP", "EPERM", "BAD_EMERG_TIMEOUT", "BAD_COMMAND", "UNSUPPORTED"}},
			port, queue,
		}
	}
	return []errorType{
		hello,
		{"BAD_REQUEST", []string{"BAD_VERSION", "BAD_TYPE", "BAD_MULTIPART", "BAD_EXPERIMENTER", "BAD_EXP_TYPE", "EPERM", "BAD_LEN",
			"BUFFER_EMPTY", "BUFFER_UNKNOWN", "BAD_TABLE_ID", "IS_SLAVE", "BAD_PORT", "BAD_PACKET", "MULTIPART_BUFFER_OVERFLOW",
			"MULTIPART_REQUEST_TIMEOUT", "MULTIPART_REPLY_TIMEOUT", "MULTIPART_BAD_SCHED", "PIPELINE_FIELDS_ONLY", "UNKNOWN"}},
		{"BAD_ACTION", action},
		{"BAD_INSTRUCTION", []string{"UNKNOWN_INST", "UNSUP_INST", "BAD_TABLE_ID", "UNSUP_METADATA", "UNSUP_METADATA_MASK",
			"BAD_EXPERIMENTER", "BAD_EXP_TYPE", "BAD_LEN", "EPERM", "DUP_INST"}},
		{"BAD_MATCH", []string{"BAD_TYPE", "BAD_LEN", "BAD_TAG", "BAD_DL_ADDR_MASK", "BAD_NW_ADDR_MASK", "BAD_WILDCARDS", "BAD_FIELD",
			"BAD_VALUE", "BAD_MASK", "BAD_PREREQ", "DUP_FIELD", "EPERM"}},
		{"FLOW_MOD_FAILED", []string{"UNKNOWN", "TABLE_FULL", "BAD_TABLE_ID", "OVERLAP", "EPERM", "BAD_TIMEOUT", "BAD_COMMAND",
			"BAD_FLAGS", "CANT_SYNC", "BAD_PRIORITY", "IS_SYNC"}},
		{"GROUP_MOD_FAILED", []string{"GROUP_EXISTS", "INVALID_GROUP", "WEIGHT_UNSUPPORTED", "OUT_OF_GROUPS", "OUT_OF_BUCKETS",
			"CHAINING_UNSUPPORTED", "WATCH_UNSUPPORTED", "LOOP", "UNKNOWN_GROUP", "CHAINED_GROUP", "BAD_TYPE", "BAD_COMMAND",
			"BAD_BUCKET", "BAD_WATCH", "EPERM", "UNKNOWN_BUCKET", "BUCKET_EXISTS"}},
		port,
		{"TABLE_MOD_FAILED", []string{"BAD_TABLE", "BAD_CONFIG", "EPERM"}},
		queue,
		{"SWITCH_CONFIG_FAILED", []string{"BAD_FLAGS", "BAD_LEN", "EPERM"}},
		{"ROLE_REQUEST_FAILED", []string{"STALE", "UNSUP", "BAD_ROLE", "ID_UNSUP", "ID_IN_USE"}},
		{"METER_MOD_FAILED", []string{"UNKNOWN", "METER_EXISTS", "INVALID_METER", "UNKNOWN_METER", "BAD_COMMAND", "BAD_FLAGS",
			"BAD_RATE", "BAD_BURST", "BAD_BAND", "BAD_BAND_VALUE", "OUT_OF_METERS", "OUT_OF_BANDS"}},
		{"TABLE_FEATURES_FAILED", []string{"BAD_TABLE", "BAD_METADATA", "BAD_TYPE", "BAD_LEN", "BAD_ARGUMENT", "EPERM", "BAD_CAP",
			"BAD_MAX_ENT", "BAD_FEATURES", "BAD_COMMAND", "TOO_MANY"}},
		{"BAD_PROPERTY", []string{"BAD_TYPE", "BAD_LEN", "BAD_VALUE", "TOO_MANY", "DUP_TYPE", "BAD_EXPERIMENTER", "BAD_EXP_TYPE",
			"BAD_EXP_VALUE", "EPERM"}},
		{"ASYNC_CONFIG_FAILED", []string{"INVALID", "UNSUPPORTED", "EPERM"}},
		{"FLOW_MONITOR_FAILED", []string{"UNKNOWN", "MONITOR_EXISTS", "INVALID_MONITOR", "UNKNOWN_MONITOR", "BAD_COMMAND", "BAD_FLAGS",
			"BAD_TABLE_ID", "BAD_OUT"}},
		{"BUNDLE_FAILED", []string{"UNKNOWN", "EPERM", "BAD_ID", "BUNDLE_EXIST", "BUNDLE_CLOSED", "OUT_OF_BUNDLES", "BAD_TYPE",
			"BAD_FLAGS", "MSG_BAD_LEN", "MSG_BAD_XID", "MSG_UNSUP", "MSG_CONFLICT", "MSG_TOO_MANY", "MSG_FAILED", "TIMEOUT",
			"BUNDLE_IN_PROGRESS", "SCHED_NOT_SUPPORTED", "SCHED_FUTURE", "SCHED_PAST"}},
	}
}

// at returns the i'th of list, or nothing.
func at[T ~uint8 | ~uint16, V any](i T, list ...V) (v V) {
	if int(i) < len(list) {
		return list[i]
	}
	return v
}
