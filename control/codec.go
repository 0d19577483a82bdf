package control

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
)

// What follows reads and writes the messages of OpenFlow 1.0 (1.0.1, section 5) and
// 1.3 (1.3.5, section 7) that a controller needs. Parse functions take the version
// from the message and return slices of it; Append functions append a whole message
// and treat every version but 1.0 as 1.3.

// A MAC is an Ethernet address. The zero MAC stands for none.
type MAC [6]byte

// String returns the usual form, "00:00:00:00:00:01".
func (a MAC) String() string { return net.HardwareAddr(a[:]).String() }

// Multicast reports whether a is a group address; broadcast is one.
func (a MAC) Multicast() bool { return a[0]&1 != 0 }

// Ports with a meaning of their own, as numbered in OpenFlow 1.3. Parse and Append
// functions convert those of 1.0.
const (
	PortController uint32 = 0xfffffffd
	PortLocal      uint32 = 0xfffffffe
	PortAny        uint32 = 0xffffffff
)

// NoBuffer is the buffer ID of a packet that is in the message.
const NoBuffer uint32 = 0xffffffff

// noLimit asks for whole packets (OFPCML_NO_BUFFER in 1.3).
const noLimit uint16 = 0xffff

// port10 converts a port number of OpenFlow 1.0, where reserved ones start at 0xff00.
func port10(p uint16) uint32 {
	if p >= 0xff00 {
		return 0xffff0000 | uint32(p)
	}
	return uint32(p)
}

// An ErrorMessage is an ERROR.
type ErrorMessage struct {
	Version    Version
	Type, Code uint16
	// Data is the start of the message that the error is about; for
	// ErrorHelloFailed a text.
	Data []byte
}

// String names the error: "HELLO_FAILED/INCOMPATIBLE: only 1.0 here".
func (e ErrorMessage) String() string {
	s := ErrorName(e.Version, e.Type, e.Code)
	switch {
	case e.Type == ErrorHelloFailed:
		if text := printable(e.Data); text != "" {
			s += ": " + text
		}
	case len(e.Data) >= HeaderLen:
		s += " about a " + Type(e.Data[1]).Name(Version(e.Data[0]))
	}
	return s
}

// printable returns b up to its first zero byte if that is ASCII text, else "".
func printable(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	for _, c := range b {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(b)
}

// ParseError reads an ERROR.
func ParseError(m Message) (ErrorMessage, error) {
	if len(m) < 12 {
		return ErrorMessage{}, shortError(m)
	}
	return ErrorMessage{
		Version: m.Version(),
		Type:    binary.BigEndian.Uint16(m[8:]),
		Code:    binary.BigEndian.Uint16(m[10:]),
		Data:    m[12:],
	}, nil
}

// AppendError appends an ERROR. Of a message it is about, Data need have no more than
// 64 bytes.
func AppendError(b []byte, xid uint32, e ErrorMessage) []byte {
	start := len(b)
	b = begin(b, e.Version, TypeError, xid)
	b = be16(b, e.Type)
	b = be16(b, e.Code)
	b = append(b, e.Data[:min(len(e.Data), MaxMessage-12)]...)
	return finish(b, start)
}

// AppendEmpty appends a message that is a header alone, such as FEATURES_REQUEST or a
// barrier.
func AppendEmpty(b []byte, v Version, t Type, xid uint32) []byte {
	return finish(begin(b, v, t, xid), len(b))
}

// AppendEchoReply appends the answer to the ECHO_REQUEST m.
func AppendEchoReply(b []byte, m Message) []byte {
	start := len(b)
	b = begin(b, m.Version(), TypeEchoReply, m.XID())
	b = append(b, m.Body()...)
	return finish(b, start)
}

// AppendSetConfig appends a SET_CONFIG that asks for whole packets in PACKET_INs.
func AppendSetConfig(b []byte, v Version, xid uint32) []byte {
	start := len(b)
	b = begin(b, v, TypeSetConfig, xid)
	b = be16(b, 0) // fragments are handled like other packets
	b = be16(b, noLimit)
	return finish(b, start)
}

// A Port is a port of a switch.
type Port struct {
	Number uint32
	MAC    MAC
	Name   string
	// Up is false if the port is set down or its link is.
	Up bool
	// Silent ports take no part in flooding (OFPPC_NO_FLOOD of 1.0) and are no place from which
	// the controller wants packets (OFPPC_NO_PACKET_IN of 1.3): services of a DPDK node.
	Silent bool
}

// portDown and linkDown are the bits of a port's config and state, in 1.0 and 1.3.
const portDown, linkDown = 1, 1

// The bits of a port's config that make it Silent.
const noFlood10, noPacketIn13 = 1 << 4, 1 << 6

// The length of a port's description in bytes.
const portLen10, portLen13 = 48, 64

// parsePorts reads descriptions of ports up to the end of m.
func parsePorts(m Message, b []byte) ([]Port, error) {
	n := portLen13
	if m.Version() == OpenFlow10 {
		n = portLen10
	}
	if len(b)%n != 0 {
		return nil, fmt.Errorf("a %s with ports of %d bytes where each has %d",
			m.Type().Name(m.Version()), len(b), n)
	}
	ports := make([]Port, 0, len(b)/n)
	for ; len(b) > 0; b = b[n:] {
		ports = append(ports, parsePort(m.Version(), b))
	}
	return ports, nil
}

// parsePort reads one port, of which b has all bytes.
func parsePort(v Version, b []byte) Port {
	var p Port
	if v == OpenFlow10 {
		p.Number = port10(binary.BigEndian.Uint16(b))
		b = b[2:]
	} else {
		p.Number = binary.BigEndian.Uint32(b)
		b = b[8:]
	}
	copy(p.MAC[:], b)
	b = b[6:]
	if v != OpenFlow10 {
		b = b[2:]
	}
	name, _, _ := bytes.Cut(b[:16], []byte{0})
	p.Name = string(name)
	config, state := binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])
	p.Up = config&portDown == 0 && state&linkDown == 0
	silent := uint32(noPacketIn13)
	if v == OpenFlow10 {
		silent = noFlood10
	}
	p.Silent = config&silent != 0
	return p
}

// Features is a FEATURES_REPLY.
type Features struct {
	DPID  uint64
	Ports []Port // in OpenFlow 1.0 only; see ParsePortDesc
}

// ParseFeatures reads a FEATURES_REPLY.
func ParseFeatures(m Message) (Features, error) {
	if len(m) < 32 {
		return Features{}, shortError(m)
	}
	f := Features{DPID: binary.BigEndian.Uint64(m[8:])}
	if m.Version() != OpenFlow10 {
		return f, nil
	}
	var err error
	f.Ports, err = parsePorts(m, m[32:])
	return f, err
}

// multipartPortDesc is the multipart type of port descriptions.
const multipartPortDesc = 13

// AppendPortDescRequest appends the request for a switch's ports of OpenFlow 1.3.
func AppendPortDescRequest(b []byte, v Version, xid uint32) []byte {
	start := len(b)
	b = begin(b, v, TypeMultipartRequest, xid)
	b = be16(b, multipartPortDesc)
	b = append(b, make([]byte, 6)...)
	return finish(b, start)
}

// ParsePortDesc reads a multipart reply of OpenFlow 1.3. Its ports are nil if it is
// not about ports; more says that another reply follows.
func ParsePortDesc(m Message) (ports []Port, more bool, err error) {
	if len(m) < 16 {
		return nil, false, shortError(m)
	}
	if binary.BigEndian.Uint16(m[8:]) != multipartPortDesc {
		return nil, false, nil
	}
	ports, err = parsePorts(m, m[16:])
	return ports, m[11]&1 != 0, err
}

// PortReason says what happened to a port.
type PortReason uint8

// The reasons of a PORT_STATUS.
const (
	PortAdded PortReason = iota
	PortDeleted
	PortModified
)

// A PortStatus is a PORT_STATUS.
type PortStatus struct {
	Reason PortReason
	Port   Port
}

// ParsePortStatus reads a PORT_STATUS.
func ParsePortStatus(m Message) (PortStatus, error) {
	if len(m) < 16+portLen10 || m.Version() != OpenFlow10 && len(m) < 16+portLen13 {
		return PortStatus{}, shortError(m)
	}
	return PortStatus{PortReason(m[8]), parsePort(m.Version(), m[16:])}, nil
}

// A PacketIn is a PACKET_IN: a packet that a switch asks about.
type PacketIn struct {
	// BufferID is NoBuffer if Data is the whole packet.
	BufferID uint32
	InPort   uint32
	Data     []byte // the packet, or its start
}

// The OXM headers of the fields that are matched on (OpenFlow 1.3.5, 7.2.3.7).
const (
	oxmInPort uint32 = 0x80000004
	oxmEthDst uint32 = 0x80000606
	oxmEthSrc uint32 = 0x80000806
)

// ParsePacketIn reads a PACKET_IN.
func ParsePacketIn(m Message) (PacketIn, error) {
	if len(m) < 18 {
		return PacketIn{}, shortError(m)
	}
	if m.Version() == OpenFlow10 {
		return PacketIn{
			BufferID: binary.BigEndian.Uint32(m[8:]),
			InPort:   port10(binary.BigEndian.Uint16(m[14:])),
			Data:     m[18:],
		}, nil
	}
	if len(m) < 32 {
		return PacketIn{}, shortError(m)
	}
	match := m[24:]
	n := int(binary.BigEndian.Uint16(match[2:]))
	padded := (n + 7) &^ 7
	if n < 4 || padded+2 > len(match) {
		return PacketIn{}, fmt.Errorf("a PACKET_IN with a match of %d bytes where %d are left", n, len(match))
	}
	p := PacketIn{BufferID: binary.BigEndian.Uint32(m[8:]), Data: match[padded+2:]}
	for f := match[4:n]; len(f) >= 4; {
		size := 4 + int(f[3])
		if size > len(f) {
			return PacketIn{}, fmt.Errorf("a PACKET_IN with a match field of %d bytes where %d are left", size, len(f))
		}
		if binary.BigEndian.Uint32(f) == oxmInPort {
			p.InPort = binary.BigEndian.Uint32(f[4:])
		}
		f = f[size:]
	}
	return p, nil
}

// A PacketOut is a PACKET_OUT: a packet that a switch is to send.
type PacketOut struct {
	// BufferID is that of the PACKET_IN, or NoBuffer if Data is the packet.
	BufferID uint32
	InPort   uint32
	Outputs  []uint32 // ports; none drops the packet
	Data     []byte
}

// AppendPacketOut appends the PACKET_OUTs for p: more than one where the ports do not
// fit into one message, none where not even one port does.
func AppendPacketOut(b []byte, v Version, xid uint32, p PacketOut) []byte {
	fixed, action := 24, 16
	if v == OpenFlow10 {
		fixed, action = 16, 8
	}
	if p.BufferID != NoBuffer {
		p.Data = nil
	}
	fit := (MaxMessage - fixed - len(p.Data)) / action
	if fit <= 0 {
		return b
	}
	for {
		n := min(fit, len(p.Outputs))
		start := len(b)
		b = begin(b, v, TypePacketOut, xid)
		b = be32(b, p.BufferID)
		if v == OpenFlow10 {
			b = be16(b, uint16(p.InPort))
			b = be16(b, uint16(n*action))
		} else {
			b = be32(b, p.InPort)
			b = be16(b, uint16(n*action))
			b = append(b, 0, 0, 0, 0, 0, 0)
		}
		for _, port := range p.Outputs[:n] {
			b = appendOutput(b, v, port)
		}
		b = finish(append(b, p.Data...), start)
		p.Outputs = p.Outputs[n:]
		if len(p.Outputs) == 0 {
			return b
		}
	}
}

// appendOutput appends the action to send to port.
func appendOutput(b []byte, v Version, port uint32) []byte {
	b = be16(b, 0) // OFPAT_OUTPUT
	if v == OpenFlow10 {
		b = be16(b, 8)
		b = be16(b, uint16(port))
		return be16(b, noLimit)
	}
	b = be16(b, 16)
	b = be32(b, port)
	b = be16(b, noLimit)
	return append(b, 0, 0, 0, 0, 0, 0)
}

// A Match says which packets a flow is for. Zero fields match everything.
type Match struct {
	InPort   uint32
	Src, Dst MAC // Ethernet source and destination
}

// FlowCommand says what a FLOW_MOD does.
type FlowCommand uint8

// The commands used. FlowDelete deletes every flow that Match covers.
const (
	FlowAdd    FlowCommand = 0
	FlowDelete FlowCommand = 3
)

// A FlowMod is a FLOW_MOD.
type FlowMod struct {
	Command  FlowCommand
	Match    Match
	Priority uint16
	Idle     uint16 // seconds without a packet after which the flow ends; 0: never
	// Cookie marks the flow. FlowDelete with a Cookie other than 0 spares flows with
	// another one, except in OpenFlow 1.0, which cannot.
	Cookie uint64
	Output uint32 // the port to send to, for FlowAdd
}

// AppendFlowMod appends a FLOW_MOD.
func AppendFlowMod(b []byte, v Version, xid uint32, f FlowMod) []byte {
	if v == OpenFlow10 {
		return appendFlowMod10(b, xid, f)
	}
	start := len(b)
	b = begin(b, v, TypeFlowMod, xid)
	b = be64(b, f.Cookie)
	table, mask := uint8(0), uint64(0)
	if f.Command == FlowDelete {
		table = 0xff // OFPTT_ALL
		if f.Cookie != 0 {
			mask = ^uint64(0)
		}
	}
	b = be64(b, mask)
	b = append(b, table, byte(f.Command))
	b = be16(b, f.Idle)
	b = be16(b, 0) // no hard timeout
	b = be16(b, f.Priority)
	b = be32(b, NoBuffer)
	b = be32(b, PortAny)
	b = be32(b, PortAny) // OFPG_ANY
	b = be32(b, 0)       // flags and padding
	b = appendMatch13(b, f.Match)
	if f.Command == FlowAdd {
		b = be16(b, 4) // OFPIT_APPLY_ACTIONS
		b = be16(b, 8+16)
		b = be32(b, 0)
		b = appendOutput(b, v, f.Output)
	}
	return finish(b, start)
}

// appendMatch13 appends an OXM match with its padding.
func appendMatch13(b []byte, m Match) []byte {
	start := len(b)
	b = be16(b, 1) // OFPMT_OXM
	b = be16(b, 0)
	if m.InPort != 0 {
		b = be32(b, oxmInPort)
		b = be32(b, m.InPort)
	}
	if m.Dst != (MAC{}) {
		b = be32(b, oxmEthDst)
		b = append(b, m.Dst[:]...)
	}
	if m.Src != (MAC{}) {
		b = be32(b, oxmEthSrc)
		b = append(b, m.Src[:]...)
	}
	n := len(b) - start
	binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	for ; n%8 != 0; n++ {
		b = append(b, 0)
	}
	return b
}

// Wildcards of a match in OpenFlow 1.0.
const (
	wildAll    uint32 = 1<<22 - 1
	wildInPort uint32 = 1 << 0
	wildSrc    uint32 = 1 << 2
	wildDst    uint32 = 1 << 3
)

func appendFlowMod10(b []byte, xid uint32, f FlowMod) []byte {
	start := len(b)
	b = begin(b, OpenFlow10, TypeFlowMod, xid)
	wild := wildAll
	if f.Match.InPort != 0 {
		wild &^= wildInPort
	}
	if f.Match.Src != (MAC{}) {
		wild &^= wildSrc
	}
	if f.Match.Dst != (MAC{}) {
		wild &^= wildDst
	}
	b = be32(b, wild)
	b = be16(b, uint16(f.Match.InPort))
	b = append(b, f.Match.Src[:]...)
	b = append(b, f.Match.Dst[:]...)
	b = append(b, make([]byte, 22)...) // what is always wild
	b = be64(b, f.Cookie)
	b = be16(b, uint16(f.Command))
	b = be16(b, f.Idle)
	b = be16(b, 0) // no hard timeout
	b = be16(b, f.Priority)
	b = be32(b, NoBuffer)
	b = be16(b, 0xffff) // any output port: OFPP_NONE
	b = be16(b, 0)      // flags
	if f.Command == FlowAdd {
		b = appendOutput(b, OpenFlow10, f.Output)
	}
	return finish(b, start)
}

// begin appends a header whose length finish fills in.
func begin(b []byte, v Version, t Type, xid uint32) []byte {
	return be32(append(b, byte(v), byte(t), 0, 0), xid)
}

// finish sets the length of the message that starts at start and ends b.
func finish(b []byte, start int) []byte {
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

func be16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func be32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func be64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// shortError says that m ends before its fixed part does.
func shortError(m Message) error {
	if len(m) < HeaderLen {
		return fmt.Errorf("an OpenFlow message of %d bytes is too short", len(m))
	}
	return fmt.Errorf("a %s of %d bytes is too short", m.Type().Name(m.Version()), len(m))
}
