package capture

import (
	"encoding/binary"
	"runtime"
	"time"
)

// Block types and options of pcapng (draft-ietf-opsawg-pcapng, sections 4 and 3.5). All
// numbers are little-endian here.
const (
	blockSection    = 0x0A0D0D0A
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6

	byteOrderMagic = 0x1A2B3C4D

	optEnd     = 0
	optComment = 1

	optSectionOS  = 3
	optSectionApp = 4

	optInterfaceName        = 2
	optInterfaceDescription = 3
	optInterfaceResolution  = 9
	optInterfaceFilter      = 11

	optPacketFlags = 2

	optStatsStart    = 2
	optStatsEnd      = 3
	optStatsReceived = 4
	optStatsDropped  = 7 // by the system: here, because a queue was full
	optStatsUser     = 8
)

// linkEthernet is LINKTYPE_ETHERNET, of all interfaces: so every tool reads the file.
const linkEthernet = 1

// Flags of packets (section 4.3.1).
const (
	flagInbound  = 1
	flagOutbound = 2
)

// An iface is an interface of the stream.
type iface struct {
	Statistics
	description string
	filter      string
	snapLen     uint32
	listed      bool // it is in the stream, as number
	number      uint32
}

// A packet is one of the stream.
type packet struct {
	iface    *iface
	time     int64 // since 1970, ns
	data     []byte
	length   int    // on the link, bytes; data may be shorter
	vlan     uint32 // TPID and TCI to be put in after the MACs; 0: none
	flags    uint32
	comment  []byte
	segment  int  // payload of each segment that it is to be split into; 0: none
	unsummed bool // its transport checksum is left to the hardware
}

var zeros [8]byte

// begin appends the head of a block and returns where it starts.
func begin(b []byte, kind uint32) ([]byte, int) {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, kind)
	return binary.LittleEndian.AppendUint32(b, 0), at
}

// end completes the block that starts at at.
func end(b []byte, at int) []byte {
	n := uint32(len(b) - at + 4)
	binary.LittleEndian.PutUint32(b[at+4:], n)
	return binary.LittleEndian.AppendUint32(b, n)
}

// pad appends zeros after n bytes, up to a multiple of four.
func pad(b []byte, n int) []byte { return append(b, zeros[:-n&3]...) }

// option appends an option. A text that is empty is left out.
func option[T string | []byte](b []byte, code uint16, text T) []byte {
	if len(text) == 0 {
		return b
	}
	text = text[:min(len(text), 0xFFFF)]
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	return pad(append(b, text...), len(text))
}

func option64(b []byte, code uint16, v uint64) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, 8)
	return binary.LittleEndian.AppendUint64(b, v)
}

func endOptions(b []byte) []byte { return append(b, zeros[:4]...) }

// appendSection appends a section header block.
func appendSection(b []byte, application string) []byte {
	b, at := begin(b, blockSection)
	b = binary.LittleEndian.AppendUint32(b, byteOrderMagic)
	b = binary.LittleEndian.AppendUint32(b, 1)          // version 1.0
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0)) // its length is not known
	b = option(b, optSectionOS, runtime.GOOS)
	b = option(b, optSectionApp, application)
	return end(endOptions(b), at)
}

// appendInterface appends an interface description block.
func appendInterface(b []byte, i *iface) []byte {
	b, at := begin(b, blockInterface)
	b = binary.LittleEndian.AppendUint32(b, linkEthernet)
	b = binary.LittleEndian.AppendUint32(b, i.snapLen)
	b = option(b, optInterfaceName, i.Name)
	b = option(b, optInterfaceDescription, i.description)
	b = option(b, optInterfaceResolution, "\x09") // nanoseconds
	if i.filter != "" {
		b = option(b, optInterfaceFilter, "\x00"+i.filter) // as text
	}
	return end(endOptions(b), at)
}

// appendPacket appends an enhanced packet block.
func appendPacket(b []byte, p *packet) []byte {
	b, at := begin(b, blockPacket)
	length, captured := uint32(p.length), uint32(len(p.data))
	if p.vlan != 0 {
		length += 4
		captured = min(captured+4, p.iface.snapLen)
	}
	b = binary.LittleEndian.AppendUint32(b, p.iface.number)
	b = binary.LittleEndian.AppendUint32(b, uint32(uint64(p.time)>>32))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.time))
	b = binary.LittleEndian.AppendUint32(b, captured)
	b = binary.LittleEndian.AppendUint32(b, length)
	if from := len(b); p.vlan != 0 && len(p.data) >= 12 {
		b = append(b, p.data[:12]...)
		b = binary.BigEndian.AppendUint32(b, p.vlan)
		b = append(b, p.data[12:]...)[:from+int(captured)]
	} else {
		b = append(b, p.data[:captured]...)
	}
	b = pad(b, int(captured))
	if p.flags != 0 {
		b = binary.LittleEndian.AppendUint32(b, optPacketFlags|4<<16)
		b = binary.LittleEndian.AppendUint32(b, p.flags)
	}
	b = option(b, optComment, p.comment)
	if p.flags != 0 || len(p.comment) > 0 {
		b = endOptions(b)
	}
	return end(b, at)
}

// appendStatistics appends an interface statistics block.
func appendStatistics(b []byte, i *iface, start, stop time.Time) []byte {
	b, at := begin(b, blockStatistics)
	b = binary.LittleEndian.AppendUint32(b, i.number)
	b = append(b, timestamp(stop)...)
	b = option(b, optStatsStart, timestamp(start))
	b = option(b, optStatsEnd, timestamp(stop))
	b = option64(b, optStatsReceived, i.Received)
	b = option64(b, optStatsDropped, i.Dropped)
	b = option64(b, optStatsUser, i.Written)
	return end(endOptions(b), at)
}

// timestamp returns a time as two words, the high one first.
func timestamp(t time.Time) string {
	ns := uint64(t.UnixNano())
	b := binary.LittleEndian.AppendUint32(nil, uint32(ns>>32))
	return string(binary.LittleEndian.AppendUint32(b, uint32(ns)))
}
