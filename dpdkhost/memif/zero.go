package memif

import (
	"unsafe"

	"weft/dpdkhost/shm"
)

// packetRegion is the region that is our packet memory.
const packetRegion = 1

// roomInFrame is the length of the buffers that a server gets.
const roomInFrame = shm.FrameSize - shm.Headroom

// placeIn returns where a frame's byte lies in the packet memory.
func placeIn(mem *shm.Memory, d *shm.Desc) uint32 {
	all := mem.Bytes()
	return uint32(uintptr(unsafe.Pointer(&mem.Frame(d.Frame)[d.Offset])) - uintptr(unsafe.Pointer(&all[0])))
}

// A zeroReceiver hands free frames to the server and gets packets in them.
type zeroReceiver struct {
	ring   *ring
	frames []uint32   // by slot
	taken  uint16     // the first slot that is not received yet
	parts  []shm.Desc // of a packet that is not complete yet
	lost   *uint64
}

func newZeroReceiver(r *ring, lost *uint64) *zeroReceiver {
	return &zeroReceiver{ring: r, frames: make([]uint32, r.size), lost: lost}
}

func (z *zeroReceiver) waiting() bool { return z.ring.theirs() != z.taken }

func (z *zeroReceiver) receive(into []shm.Desc, pool frames) (int, error) {
	r := z.ring
	ready := int(r.theirs() - z.taken)
	if ready > int(r.ours-z.taken) {
		return 0, errGarbled
	}
	var local [batch]desc
	got, held, at := 0, 0, 0
	for ; ready > 0 && got < len(into); ready-- {
		if at == held {
			held, at = copyDescs(local[:], r, z.taken, ready), 0
		}
		d := &local[at]
		at++
		if d.length > roomInFrame || len(z.parts) == maxParts {
			return got, errGarbled
		}
		part := shm.Desc{Frame: z.frames[z.taken&r.mask], Length: d.length, Offset: shm.Headroom}
		z.taken++
		if more := d.flags&next != 0; more || len(z.parts) > 0 {
			z.parts = append(z.parts, part)
			if more || !z.join(&part, pool) {
				continue
			}
		}
		if part.Length < shortest {
			pool.Free(part.Frame)
			continue
		}
		into[got] = part
		got++
	}
	z.offer(pool)
	return got, nil
}

// join makes one packet of the parts, and reports whether there was a frame for it.
func (z *zeroReceiver) join(d *shm.Desc, pool frames) bool {
	total := 0
	for _, p := range z.parts {
		total += int(p.Length)
	}
	frame, ok := uint32(0), total <= largest
	if ok {
		frame, ok = pool.Get(total)
	}
	if ok {
		mem := pool.Memory()
		room := mem.Frame(frame)[shm.Headroom:]
		for k := range z.parts {
			room = room[copy(room, mem.Packet(&z.parts[k])):]
		}
		*d = shm.Desc{Frame: frame, Length: uint32(total), Offset: shm.Headroom}
	}
	if !ok {
		*z.lost++
	}
	z.dropParts(pool)
	return ok
}

func (z *zeroReceiver) dropParts(pool frames) {
	for _, p := range z.parts {
		pool.Free(p.Frame)
	}
	z.parts = z.parts[:0]
}

// offer fills the ring with free frames.
func (z *zeroReceiver) offer(pool frames) {
	r := z.ring
	want := int(r.size - (r.ours - z.taken))
	n := 0
	for ; n < want; n++ {
		frame, ok := pool.Get(0)
		if !ok {
			break
		}
		slot := (r.ours + uint16(n)) & r.mask
		z.frames[slot] = frame
		r.descs[slot] = desc{region: packetRegion, length: roomInFrame, offset: frame*shm.FrameSize + shm.Headroom}
	}
	if n > 0 {
		r.publish(n)
	}
}

func (z *zeroReceiver) reclaim(pool frames) {
	z.dropParts(pool)
	for ; z.taken != z.ring.ours; z.taken++ {
		pool.Free(z.frames[z.taken&z.ring.mask])
	}
}

// A zeroSender lets the server read packets where they lie.
type zeroSender struct {
	ring   *ring
	frames []uint32 // by slot
	reaped uint16   // the first slot that the server has not done with
}

func newZeroSender(r *ring) *zeroSender { return &zeroSender{ring: r, frames: make([]uint32, r.size)} }

func (z *zeroSender) reap(pool frames) error {
	done := z.ring.theirs()
	if done-z.reaped > z.ring.ours-z.reaped {
		return errGarbled
	}
	for ; z.reaped != done; z.reaped++ {
		pool.Free(z.frames[z.reaped&z.ring.mask])
	}
	return nil
}

func (z *zeroSender) send(list []shm.Desc, pool frames) (int, error) {
	if err := z.reap(pool); err != nil {
		return 0, err
	}
	r := z.ring
	n := min(len(list), int(r.size-(r.ours-z.reaped)))
	mem := pool.Memory()
	for k := range list[:n] {
		d := &list[k]
		slot := (r.ours + uint16(k)) & r.mask
		z.frames[slot] = d.Frame
		r.descs[slot] = desc{region: packetRegion, length: d.Length, offset: placeIn(mem, d)}
	}
	if n > 0 {
		r.publish(n)
		r.ring()
	}
	return n, nil
}

func (z *zeroSender) reclaim(pool frames) {
	for ; z.reaped != z.ring.ours; z.reaped++ {
		pool.Free(z.frames[z.reaped&z.ring.mask])
	}
}
