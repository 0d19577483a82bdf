package manager

import (
	"encoding/binary"
	"testing"
)

// frameOf is an Ethernet frame of IPv4 with ports, or with ICMP's type and code in their place.
func frameOf(protocol byte, src, dst uint32, a, b uint16) []byte {
	f := make([]byte, 14+20+8)
	binary.BigEndian.PutUint16(f[12:], typeIPv4)
	ip := f[14:]
	ip[0], ip[9] = 0x45, protocol
	binary.BigEndian.PutUint32(ip[12:], src)
	binary.BigEndian.PutUint32(ip[16:], dst)
	binary.BigEndian.PutUint16(ip[20:], a)
	binary.BigEndian.PutUint16(ip[22:], b)
	return f
}

// Both ways of a flow have one hash, whatever port they come by, and other flows have others.
func TestFlowHash(t *testing.T) {
	hash := func(port uint16, f []byte) uint32 {
		var k Key
		parseKey(&k, f, port)
		return k.flowHash()
	}
	const h1, h2 = 0x0a000001, 0x0a000002
	for _, protocol := range []byte{6, 17, 132} {
		if hash(1, frameOf(protocol, h1, h2, 1000, 80)) != hash(2, frameOf(protocol, h2, h1, 80, 1000)) {
			t.Errorf("protocol %d: the answer has another hash", protocol)
		}
	}
	if hash(1, frameOf(1, h1, h2, 8<<8, 0)) != hash(2, frameOf(1, h2, h1, 0, 0)) {
		t.Error("the answer to a ping has another hash")
	}
	seen := map[uint32]bool{}
	for port := range uint16(2000) {
		seen[hash(1, frameOf(6, h1, h2, 1000+port, 80))] = true
	}
	for host := range uint32(2000) {
		seen[hash(1, frameOf(17, h1, h2+1+host, 1000, 80))] = true
	}
	if len(seen) < 3990 {
		t.Errorf("4000 flows have %d hashes", len(seen))
	}
}
