package capture

import (
	"encoding/binary"
	"math/bits"
)

// sum adds the 16-bit words of b to a sum for a checksum (RFC 1071). Only the last b of a
// sum may have an odd length.
func sum(acc uint64, b []byte) uint64 {
	for len(b) >= 8 {
		var carry uint64
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		var carry uint64
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(last[:]), 0)
		acc += carry
	}
	return acc
}

// checksum returns the checksum of a sum.
func checksum(acc uint64) uint16 {
	for acc > 0xFFFF {
		acc = acc>>16 + acc&0xFFFF
	}
	return ^uint16(acc)
}

// pseudo returns the sum of the pseudo-header of a transport protocol over IPv4 or IPv6:
// addrs are both addresses as they stand in the header.
func pseudo(addrs []byte, protocol byte, length int) uint64 {
	var tail [8]byte
	binary.BigEndian.PutUint32(tail[:], uint32(length))
	tail[7] = protocol
	return sum(sum(0, addrs), tail[:])
}
