// Package nf is what a network function (NF) is written with. An NF is a function that gets
// packets in batches and says of each what happens to it; Run connects it to the manager
// that started the program. Packets lie in memory that the manager and all NFs share: nothing
// is copied. The package imports only dpdkhost/shm.
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

// A Packet is a packet and what the NF decided about it. A packet about which it decides
// nothing is dropped.
type Packet struct {
	desc shm.Desc
	mem  *shm.Memory
}

// Data returns the packet, an Ethernet frame, to read and to change in place.
func (p *Packet) Data() []byte { return p.mem.Packet(&p.desc) }

// Port returns the number of the port by which the packet came in.
func (p *Packet) Port() int { return int(p.desc.Port) }

// Drop lets the packet end here.
func (p *Packet) Drop() { p.desc.Action = shm.Drop }

// Next sends the packet to the next service of its chain, or out of the chain's port.
func (p *Packet) Next() { p.desc.Action = shm.Next }

// To sends the packet to a service.
func (p *Packet) To(service int) { p.desc.Action, p.desc.To = shm.ToNF, uint16(service) }

// Out sends the packet out of a port.
func (p *Packet) Out(port int) { p.desc.Action, p.desc.To = shm.Out, uint16(port) }

// Clone sends a copy of the packet to a service, and the packet to the next.
func (p *Packet) Clone(service int) { p.desc.Action, p.desc.To = shm.Clone, uint16(service) }

// Controller sends the packet to the network's OpenFlow controller.
func (p *Packet) Controller() { p.desc.Action = shm.Controller }

// Resize makes the packet longer or shorter, by front bytes at its beginning and back bytes at
// its end, which may be negative. It reports whether there is room; otherwise the
// packet stays as it is. New bytes have any value.
func (p *Packet) Resize(front, back int) bool {
	d := p.desc
	offset, length := int(d.Offset)-front, int(d.Length)+front+back
	if offset < 0 || length < 0 || offset > 1<<16-1 {
		return false
	}
	d.Offset, d.Length = uint16(offset), uint32(length)
	if p.mem.Packet(&d) == nil {
		return false
	}
	p.desc = d
	return true
}

// A Handler decides about packets. It may not keep them.
type Handler func(batch []Packet)

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
		e.batch[i] = Packet{e.descs[i], e.Memory}
	}
	h(e.batch[:n])
	for i := range n {
		e.descs[i] = e.batch[i].desc
	}
	e.Rings.Transmit.Push(e.descs[:n])
	e.Rings.Transmit.Publish()
	return n
}
