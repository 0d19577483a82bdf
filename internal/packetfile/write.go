package packetfile

import (
	"encoding/binary"
	"time"
)

// AppendHeader appends the header of a pcap file of Ethernet frames with times in nanoseconds.
func AppendHeader(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, pcapNano)
	b = append(b, 2, 0, 4, 0) // version 2.4
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, maxBlock)
	return binary.LittleEndian.AppendUint32(b, uint32(LinkEthernet))
}

// AppendPacket appends a packet for such a file.
func AppendPacket(b []byte, at time.Time, data []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}
