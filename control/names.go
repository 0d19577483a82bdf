package control

import "fmt"

// A Type is the type of an OpenFlow message. What types from 16 on mean depends on
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
	TypePortMod
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
	case t <= TypePortMod:
		name = [...]string{
			"HELLO", "ERROR", "ECHO_REQUEST", "ECHO_REPLY", "EXPERIMENTER",
			"FEATURES_REQUEST", "FEATURES_REPLY", "GET_CONFIG_REQUEST", "GET_CONFIG_REPLY",
			"SET_CONFIG", "PACKET_IN", "FLOW_REMOVED", "PORT_STATUS", "PACKET_OUT",
			"FLOW_MOD", "PORT_MOD",
		}[t]
	case v == OpenFlow10:
		name = at(t-16, "STATS_REQUEST", "STATS_REPLY", "BARRIER_REQUEST", "BARRIER_REPLY",
			"QUEUE_GET_CONFIG_REQUEST", "QUEUE_GET_CONFIG_REPLY")
	case v <= OpenFlow12 && (t == TypeMultipartRequest || t == TypeMultipartReply):
		name = at(t-TypeMultipartRequest, "STATS_REQUEST", "STATS_REPLY")
	case t <= lastType(v) && !(v >= OpenFlow14 && (t == 22 || t == 23)):
		name = at(t-16, "GROUP_MOD", "TABLE_MOD", "MULTIPART_REQUEST", "MULTIPART_REPLY",
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
	t := at(typ, "HELLO_FAILED", "BAD_REQUEST", "BAD_ACTION", "BAD_INSTRUCTION", "BAD_MATCH",
		"FLOW_MOD_FAILED", "GROUP_MOD_FAILED", "PORT_MOD_FAILED", "TABLE_MOD_FAILED",
		"QUEUE_OP_FAILED", "SWITCH_CONFIG_FAILED", "ROLE_REQUEST_FAILED", "METER_MOD_FAILED",
		"TABLE_FEATURES_FAILED")
	if v == OpenFlow10 {
		t = at(typ, "HELLO_FAILED", "BAD_REQUEST", "BAD_ACTION", "FLOW_MOD_FAILED",
			"PORT_MOD_FAILED", "QUEUE_OP_FAILED")
	}
	if t == "" {
		t = fmt.Sprintf("error type %d", typ)
	}
	var c string
	switch typ {
	case ErrorHelloFailed:
		c = at(code, "INCOMPATIBLE", "EPERM")
	case ErrorBadRequest:
		c = at(code, "BAD_VERSION", "BAD_TYPE", "BAD_MULTIPART", "BAD_EXPERIMENTER", "BAD_EXP_TYPE",
			"EPERM", "BAD_LEN", "BUFFER_EMPTY", "BUFFER_UNKNOWN", "BAD_TABLE_ID", "IS_SLAVE",
			"BAD_PORT", "BAD_PACKET", "MULTIPART_BUFFER_OVERFLOW")
		if v == OpenFlow10 {
			c = at(code, "BAD_VERSION", "BAD_TYPE", "BAD_STAT", "BAD_VENDOR", "BAD_SUBTYPE",
				"EPERM", "BAD_LEN", "BUFFER_EMPTY", "BUFFER_UNKNOWN")
		}
	}
	if c == "" {
		c = fmt.Sprintf("code %d", code)
	}
	return t + "/" + c
}

// at returns the i'th name, or "".
func at[T ~uint8 | ~uint16](i T, names ...string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return ""
}
