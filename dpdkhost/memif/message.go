package memif

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Control messages: 128 bytes each, packed, in the machine's byte order (memif.h).
const (
	messageLen = 128
	nameLen    = 32
	secretLen  = 24
	reasonLen  = 96
	version    = 2 << 8
)

// The kinds of messages.
const (
	kindNone uint16 = iota
	kindAck
	kindHello
	kindInit
	kindAddRegion
	kindAddRing
	kindConnect
	kindConnected
	kindDisconnect
)

func kindName(kind uint16) string {
	names := []string{"NONE", "ACK", "HELLO", "INIT", "ADD_REGION", "ADD_RING", "CONNECT", "CONNECTED", "DISCONNECT"}
	if int(kind) < len(names) {
		return names[kind]
	}
	return fmt.Sprint("message of kind ", kind)
}

// message is one control message.
type message [messageLen]byte

func newMessage(kind uint16) (m message) {
	binary.NativeEndian.PutUint16(m[:], kind)
	return m
}

func (m *message) kind() uint16 { return binary.NativeEndian.Uint16(m[:]) }

// text returns the field of n bytes at a place, up to its first zero.
func (m *message) text(at, n int) string {
	b := m[at : at+n]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(bytes.ToValidUTF8(b, []byte("?")))
}

// hello is what a server offers.
type hello struct {
	name            string
	oldest, newest  uint16 // versions
	lastRegion      uint16
	lastToClient    uint16 // the highest index of a ring from server to client
	lastToServer    uint16
	largestRingLog2 uint8
}

func (h hello) message() message {
	m := newMessage(kindHello)
	copy(m[2:2+nameLen-1], h.name)
	b := m[2+nameLen:]
	for i, v := range []uint16{h.oldest, h.newest, h.lastRegion, h.lastToClient, h.lastToServer} {
		binary.NativeEndian.PutUint16(b[2*i:], v)
	}
	b[10] = h.largestRingLog2
	return m
}

func (m *message) hello() hello {
	b := m[2+nameLen:]
	n := func(i int) uint16 { return binary.NativeEndian.Uint16(b[2*i:]) }
	return hello{m.text(2, nameLen), n(0), n(1), n(2), n(3), n(4), b[10]}
}

// introduction is what a client says first (INIT).
type introduction struct {
	version uint16
	id      uint32
	mode    uint8 // 0 is Ethernet
	secret  string
	name    string
}

func (i introduction) message() message {
	m := newMessage(kindInit)
	binary.NativeEndian.PutUint16(m[2:], i.version)
	binary.NativeEndian.PutUint32(m[4:], i.id)
	m[8] = i.mode
	copy(m[9:9+secretLen], i.secret)
	copy(m[9+secretLen:9+secretLen+nameLen-1], i.name)
	return m
}

func (m *message) introduction() introduction {
	return introduction{
		version: binary.NativeEndian.Uint16(m[2:]), id: binary.NativeEndian.Uint32(m[4:]), mode: m[8],
		secret: m.text(9, secretLen), name: m.text(9+secretLen, nameLen),
	}
}

// addRegion comes with the file of a region.
type addRegion struct {
	index uint16
	size  uint64
}

func (a addRegion) message() message {
	m := newMessage(kindAddRegion)
	binary.NativeEndian.PutUint16(m[2:], a.index)
	binary.NativeEndian.PutUint64(m[4:], a.size)
	return m
}

func (m *message) addRegion() addRegion {
	return addRegion{binary.NativeEndian.Uint16(m[2:]), binary.NativeEndian.Uint64(m[4:])}
}

// addRing comes with the event file (eventfd(2)) of a ring.
type addRing struct {
	toServer bool
	index    uint16
	region   uint16
	offset   uint32
	log2     uint8
	private  uint16 // bytes before each packet
}

func (a addRing) message() message {
	m := newMessage(kindAddRing)
	if a.toServer {
		m[2] = 1
	}
	binary.NativeEndian.PutUint16(m[4:], a.index)
	binary.NativeEndian.PutUint16(m[6:], a.region)
	binary.NativeEndian.PutUint32(m[8:], a.offset)
	m[12] = a.log2
	binary.NativeEndian.PutUint16(m[13:], a.private)
	return m
}

func (m *message) addRing() addRing {
	n := func(at int) uint16 { return binary.NativeEndian.Uint16(m[at:]) }
	return addRing{n(2)&1 != 0, n(4), n(6), binary.NativeEndian.Uint32(m[8:]), m[12], n(13)}
}

// named makes CONNECT and CONNECTED, which carry the name of an interface.
func named(kind uint16, name string) message {
	m := newMessage(kind)
	copy(m[2:2+nameLen-1], name)
	return m
}

func disconnect(reason string) message {
	m := newMessage(kindDisconnect)
	copy(m[6:6+reasonLen-1], reason)
	return m
}

// reason returns why the peer disconnected.
func (m *message) reason() string { return m.text(6, reasonLen) }
