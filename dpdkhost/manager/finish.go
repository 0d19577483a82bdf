package manager

import (
	"weft/dpdkhost/shm"
	"weft/internal/vnet"
)

// maxSegments bounds the frames that a super-frame stands for: UDP has 128 at most, TCP with the
// least segment of the Internet (536 bytes) 123.
const maxSegments = 256

// Finish appends to a list what a packet is on a wire: itself with its checksum complete or, of a
// super-frame, each of its frames in a frame of its own. Packets without a virtio header are
// as on a wire already. It returns how many frames of a super-frame are lost for want of memory. It
// is for ports that have no offloads, and for who needs packets without.
func (p *Pool) Finish(d shm.Desc, list []shm.Desc) (longer []shm.Desc, lost int) {
	if d.Flags&shm.HasVnet == 0 {
		return append(list, d), 0
	}
	mem := p.m.mem
	// A copy: an NF may still write there.
	header := [vnet.Len]byte(mem.Frame(d.Frame))
	d.Flags &^= shm.HasVnet
	packet := mem.Packet(&d)
	s := vnet.Understand(header[:], packet)
	if s.Count <= 1 {
		vnet.Complete(header[:], packet)
		return append(list, d), 0
	}
	for i := range min(s.Count, maxSegments) {
		from, to := s.Bounds(i, 1)
		length := s.Head + to - from
		frame, ok := uint32(0), false
		if length <= shm.LargeSize-shm.Headroom {
			frame, ok = p.Get(length)
		}
		if !ok {
			lost++
			continue
		}
		part, whole := header, mem.Frame(frame)[shm.Headroom:][:length]
		copy(whole, packet[:s.Head])
		copy(whole[s.Head:], packet[from:to])
		s.Divide(part[:], whole[:s.Head], i, 1)
		vnet.Complete(part[:], whole)
		list = append(list, shm.Desc{Frame: frame, Length: uint32(length), Offset: shm.Headroom, Port: d.Port})
	}
	p.Free(d.Frame)
	return list, lost + max(0, s.Count-maxSegments)
}
