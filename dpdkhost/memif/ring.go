package memif

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The layout of a ring (memif_ring_t): cookie, flags and head in the first cache line, tail in
// the second, descriptors from the third on. Flags share a word with head; who writes the one
// does not write the other.
const (
	ringHead = 128
	descLen  = 16
	cookie   = 0x3E31F20

	noInterrupt = 1 // a ring's flag: its consumer polls
	next        = 1 // a descriptor's flag: the packet goes on in the next one

	largestRingLog2 = 14 // as in DPDK
)

// desc is a descriptor (memif_desc_t).
type desc struct {
	flags    uint16
	region   uint16
	length   uint32
	offset   uint32
	metadata uint32
}

// ringBytes is the room of a ring.
func ringBytes(log2 int) int { return ringHead + descLen<<log2 }

// A ring is one direction. The client writes head: with it, it hands over what it has sent, or
// buffers for what it is to get. The server writes tail: so much of that is done. Only what is
// ours is kept here; what the peer writes is read once and checked.
type ring struct {
	word  *atomic.Uint32 // flags, and head in the upper half
	tail  *atomic.Uint32
	descs []desc
	event int    // wakes the consumer
	ours  uint16 // the client's head, or the server's tail
	size  uint16
	mask  uint16
	// client says which side we are.
	client bool
}

// errGarbled says that the peer wrote something into a ring that the protocol does not have.
var errGarbled = errors.New("the peer wrote nonsense into a ring")

// ringOver lays a ring over memory that begins at a multiple of 8 bytes and is large enough.
func ringOver(mem []byte, log2 int, client bool, event int) *ring {
	size := uint16(1) << log2
	r := &ring{
		word: (*atomic.Uint32)(unsafe.Pointer(&mem[4])), tail: (*atomic.Uint32)(unsafe.Pointer(&mem[64])),
		descs: unsafe.Slice((*desc)(unsafe.Pointer(&mem[ringHead])), size),
		event: event, size: size, mask: size - 1, client: client,
	}
	if !client {
		r.ours = uint16(r.tail.Load())
	}
	return r
}

// theirs returns the index that the peer writes.
func (r *ring) theirs() uint16 {
	if r.client {
		return uint16(r.tail.Load())
	}
	return uint16(r.word.Load() >> 16)
}

// publish shows the peer our index, n further than before.
func (r *ring) publish(n int) {
	r.ours += uint16(n)
	if r.client {
		r.word.Add(uint32(n) << 16)
	} else {
		r.tail.Store(uint32(r.ours))
	}
}

// ring wakes the consumer unless it polls.
func (r *ring) ring() {
	if r.word.Load()&noInterrupt == 0 {
		one := [8]byte{1}
		unix.Write(r.event, one[:]) // it does not block; if it is full, the consumer is awake
	}
}

// interrupts says, as the ring's consumer, whether the producer is to wake us.
func (r *ring) interrupts(on bool) {
	if on {
		r.word.And(^uint32(noInterrupt))
	} else {
		r.word.Or(noInterrupt)
	}
}
