package nf

import (
	"encoding/binary"

	"weft/dpdkhost/shm"
)

// A Packet is a packet and what the NF decided about it. A packet about which it decides
// nothing is dropped. A copy of a Packet is the same packet: of those that the NF keeps, one
// copy is used.
type Packet struct {
	desc shm.Desc
	mem  *shm.Memory
}

// NewPacket returns the packet that a descriptor from the manager stands for. NFs do not need it.
func NewPacket(d shm.Desc, mem *shm.Memory) (p Packet) {
	p.Load(&d, mem)
	return p
}

// Load makes p the packet that a descriptor from the manager stands for. NFs do not need it.
func (p *Packet) Load(d *shm.Desc, mem *shm.Memory) {
	p.desc = *d
	if d.Action != shm.Buffer {
		p.desc.Action = shm.Drop // what the NF before decided counts no more
	}
	if p.mem != mem { // a pointer is dear to write while memory is collected
		p.mem = mem
	}
}

// Verdict returns what the NF decided, as a descriptor for the manager; not ok if the NF keeps
// the packet. NFs do not need it.
func (p *Packet) Verdict() (d shm.Desc, ok bool) { return p.desc, p.desc.Action != shm.Buffer }

// Data returns the packet, an Ethernet frame, to read and to change in place.
func (p *Packet) Data() []byte { return p.mem.Packet(&p.desc) }

// Len returns the packet's length in bytes.
func (p *Packet) Len() int { return int(p.desc.Length) }

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

// Keep leaves the packet with the NF, which copies it and sends it with a Ticker's Tick, after
// another verdict. Frames are few: who keeps many starves the ports.
func (p *Packet) Keep() { p.desc.Action = shm.Buffer }

// Fresh reports whether this is no packet but an empty frame, which a Source asked for. It is
// kept unless the NF decides otherwise.
func (p *Packet) Fresh() bool { return p.desc.Action == shm.Buffer }

// Resize makes the packet longer or shorter, by front bytes at its beginning and back bytes at
// its end, which may be negative. It reports whether there is room; otherwise the
// packet stays as it is. New bytes have any value.
func (p *Packet) Resize(front, back int) bool {
	d := p.desc
	offset, length := int(d.Offset)-front, int(d.Length)+front+back
	if length < 0 || offset < 0 || offset > 1<<16-1 || d.Flags&shm.HasVnet != 0 && offset < vnetLen {
		return false
	}
	d.Offset, d.Length = uint16(offset), uint32(length)
	if p.mem.Packet(&d) == nil {
		return false
	}
	if v := p.vnet(); v != nil && v[vnetFlags]&vnetNeedsChecksum != 0 {
		start := int(binary.NativeEndian.Uint16(v[vnetStart:])) + front
		if start < 0 || start > length {
			return false // the place of the checksum would be cut off: complete it first
		}
		binary.NativeEndian.PutUint16(v[vnetStart:], uint16(start))
	}
	p.desc = d
	return true
}

// struct virtio_net_hdr (linux/virtio_net.h), in the machine's byte order. The 12 bytes of
// virtio 1.0 begin with the same 10.
const (
	vnetFlags   = 0 // uint8
	vnetGSO     = 1 // uint8: how it is to be cut, 0 for not
	vnetSegment = 4 // uint16: payload of a segment
	vnetStart   = 6 // uint16: the checksum is over everything from here on
	vnetOffset  = 8 // uint16: and stands here, from vnetStart
	vnetLen     = 12

	vnetNeedsChecksum = 1
)

// vnet returns the packet's virtio_net_hdr, nil if it has none.
func (p *Packet) vnet() []byte {
	if p.desc.Flags&shm.HasVnet == 0 {
		return nil
	}
	return p.mem.Frame(p.desc.Frame)[:vnetLen]
}
