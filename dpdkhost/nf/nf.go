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
package nf

import (
	"weft/dpdkhost/shm"
)

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

// Turn lets h decide about the packets that wait, at most Batch, and returns how many. What
// the manager has no room for is kept for the next turn.
func (e *Edge) Turn(h Handler) int {
	room := e.Rings.Transmit.Free()
	n := e.Rings.Receive.Pop(e.descs[:min(Batch, room)])
	if n == 0 {
		return 0
	}
	for i := range n {
		e.batch[i] = NewPacket(e.descs[i], e.Memory)
	}
	h(e.batch[:n])
	decided := 0
	for i := range n {
		if d, ok := e.batch[i].Verdict(); ok {
			e.descs[decided] = d
			decided++
		}
	}
	e.Rings.Transmit.Push(e.descs[:decided])
	e.Rings.Transmit.Publish()
	return n
}
