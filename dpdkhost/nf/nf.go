// Package nf is what a network function (NF) is written with. An NF is a function that gets
// packets in batches and says of each what happens to it; Run connects it to the manager
// that started the program. Packets lie in memory that the manager and all NFs share: nothing
// is copied. The package imports only dpdkhost/shm and the standard library.
//
//	func main() {
//		nf.Run(func(batch []nf.Packet) {
//			for i := range batch {
//				batch[i].Next()
//			}
//		})
//	}
//
// # Protocol
//
// For NFs in other languages. An NF connects to the Unix socket of type SOCK_SEQPACKET whose path
// is in WEFT_NF, and sends a Hello as JSON; in it the version is 1, and the key is WEFT_NF_KEY, if that
// is set. It gets a
// Welcome as JSON, and with it four files (SCM_RIGHTS): packet memory, rings, the bell's word
// and the bell's eventfd. From then on each message of the manager is a Request, to be answered with
// a Reply of the same ID. The end of the connection ends the NF, and the other way round.
//
//	packet memory   Welcome.Frames frames of 2,048 bytes, then Welcome.Large of 69,632
//	rings           two rings, each half of the file: to the NF, and from it
//	ring            0: tail, 128: head, 256: sleep (uint32 each), then slots of 16 bytes
//	slot            0: frame, 4: length (uint32); 8: offset, 10: to, 12: port (uint16);
//	                14: action, 15: flags (uint8)
//	bell            0: uint32, 1 while the manager sleeps; who sets it to 0 writes to the eventfd
//
// The producer fills the slot tail modulo the number of slots, a power of two, and then raises
// tail; the consumer reads at head and raises that. An NF with nothing to do sets sleep to 1, looks
// once more, and waits with futex(2), not private, while it is 1. Numbers are in the machine's byte
// order.
package nf

import (
	"fmt"

	"weft/dpdkhost/shm"
)

// Protocol is the version of the protocol that this package speaks. It grows with every change that
// the other side must know of; a manager takes NFs of its own version only.
const Protocol = 1

// OtherVersion is the error of a manager or an NF of another version; who says which of the two
// that is.
func OtherVersion(who string, version int) error {
	return fmt.Errorf("%s version %d of the NF protocol, and this is %d; renew the NF's library by weft nf new --library DIRECTORY, with the weft that runs the network, and build the NF again", who, version, Protocol)
}

// A Hello is an NF's first message.
type Hello struct {
	Version int    `json:"version"`           // Protocol
	Key     string `json:"key,omitempty"`     // of an NF that the manager started
	Name    string `json:"name,omitempty"`    // of one that it did not
	Service int    `json:"service,omitempty"` // likewise
	Weight  int    `json:"weight,omitempty"`
	// ReadOnly asks for memory that the NF cannot write.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Wire asks for packets as they are on a wire: checksums complete, super-frames cut.
	Wire bool `json:"wire,omitempty"`
	// Fresh is how many empty frames the NF wants to have, to make packets in.
	Fresh int `json:"fresh,omitempty"`
}

// A Welcome answers a Hello.
type Welcome struct {
	Version int `json:"version"` // Protocol

	Error  string `json:"error,omitempty"` // then there is nothing else
	ID     int    `json:"id"`
	Frames int    `json:"frames"`
	Large  int    `json:"large"`
	// ReadOnly says that the memory's file cannot be written.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Spin is for how many nanoseconds an NF with nothing to do looks for packets before it
	// sleeps. 0 where it shares its processor: then it also rings the bell as late as it can.
	Spin int64 `json:"spin,omitempty"`
}

// A Request is a message of the manager. One of its fields is set.
type Request struct {
	ID       int      `json:"id"`
	Stop     bool     `json:"stop,omitempty"` // and no reply
	Command  []string `json:"command,omitempty"`
	Counters bool     `json:"counters,omitempty"`
}

// A Reply answers a Request.
type Reply struct {
	ID       int               `json:"id"`
	Text     string            `json:"text,omitempty"`
	Error    string            `json:"error,omitempty"`
	Counters map[string]uint64 `json:"counters,omitempty"`
	// Leaving, in a message of the NF's own, asks for Stop after the last packet.
	Leaving bool `json:"leaving,omitempty"`
}

// Batch is the largest batch.
const Batch = 256

// An Edge is an NF's connection to its manager: rings, memory and the manager's bell.
type Edge struct {
	Memory *shm.Memory
	Rings  *shm.Pair
	Bell   *shm.Bell

	batch [Batch]Packet
	descs [Batch]shm.Desc
}

// Turn lets f decide about the packets that wait, at most Batch, and returns how many. What
// the manager has no room for is kept for the next turn.
func (e *Edge) Turn(f Function) int {
	room := e.Rings.Transmit.Free()
	n := e.Rings.Receive.Pop(e.descs[:min(Batch, room)])
	if n == 0 {
		return 0
	}
	for i := range n {
		e.batch[i].Load(&e.descs[i], e.Memory)
	}
	f.Handle(e.batch[:n])
	e.send(e.batch[:n])
	return n
}

// send hands packets to the manager that has room for them.
func (e *Edge) send(list []Packet) {
	decided := 0
	for i := range list {
		if d, ok := list[i].Verdict(); ok {
			e.descs[decided] = d
			decided++
		}
	}
	e.Rings.Transmit.Push(e.descs[:decided])
	e.Rings.Transmit.Publish()
}
