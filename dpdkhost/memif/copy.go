package memif

import (
	"weft/dpdkhost/shm"
)

// Receivers and senders move packets through one ring. Their methods run on the manager's
// thread; an error ends the connection.
type receiver interface {
	// receive fills descriptors with packets.
	receive(into []shm.Desc, pool frames) (int, error)
	// waiting reports whether there is something to receive.
	waiting() bool
	// reclaim gives the frames back that the ring has.
	reclaim(pool frames)
}

type sender interface {
	// send takes packets, from the first on, and returns how many.
	send(list []shm.Desc, pool frames) (int, error)
	// reap gives the frames back of packets that have left.
	reap(pool frames) error
	reclaim(pool frames)
}

// frames is manager.Pool.
type frames interface {
	Get(length int) (frame uint32, ok bool)
	Free(frame uint32)
	Memory() *shm.Memory
}

// buffers are where the packets of a ring lie that are copied: for a server wherever the client
// says, inside its regions; for a client in regions of its own, where it put them, whatever the
// descriptors say meanwhile.
type buffers struct {
	ring    *ring
	regions [][]byte
	base    int // the client's first buffer, in region 0
	size    int // of the client's buffers
}

// at returns the buffer of a slot. d is a copy of its descriptor.
func (b *buffers) at(slot uint16, d *desc) ([]byte, error) {
	if b.ring.client {
		from := b.base + int(slot)*b.size
		return b.regions[0][from : from+b.size], nil
	}
	if int(d.region) >= len(b.regions) {
		return nil, errGarbled
	}
	region := b.regions[d.region]
	if uint64(d.offset)+uint64(d.length) > uint64(len(region)) || d.length == 0 {
		return nil, errGarbled
	}
	return region[d.offset : uint64(d.offset)+uint64(d.length)], nil
}

// available returns how many slots are ours: packets to receive, or buffers to fill. A client
// has no others than those that the server is done with.
func (b *buffers) available() (int, error) {
	r := b.ring
	n := r.theirs() - r.ours
	if r.client {
		n += r.size
	}
	if n > r.size {
		return 0, errGarbled
	}
	return int(n), nil
}

// reset makes a client's descriptors as they were.
func (b *buffers) reset(slot uint16) {
	b.ring.descs[slot] = desc{length: uint32(b.size), offset: uint32(b.base + int(slot)*b.size)}
}

// batch is how many descriptors are read at once.
const batch = 64

// A copyReceiver copies packets into frames.
type copyReceiver struct {
	buffers
	lost *uint64
	// Frames that receive has filled and not yet handed over: what is lost if the peer's memory
	// faults meanwhile.
	held []uint32
}

// newCopyReceiver begins; a client offers all its buffers.
func newCopyReceiver(b buffers, lost *uint64) *copyReceiver {
	r := &copyReceiver{buffers: b, lost: lost}
	if b.ring.client {
		for slot := range b.ring.descs {
			b.reset(uint16(slot))
		}
		b.ring.publish(len(b.ring.descs))
	}
	return r
}

func (c *copyReceiver) waiting() bool {
	n, err := c.available()
	return n > 0 || err != nil
}

func (c *copyReceiver) receive(into []shm.Desc, pool frames) (int, error) {
	got, err := c.copyOut(into, pool)
	c.held = c.held[:0]
	return got, err
}

func (c *copyReceiver) copyOut(into []shm.Desc, pool frames) (int, error) {
	r := c.ring
	ready, err := c.available()
	if ready == 0 || err != nil {
		return 0, err
	}
	mem := pool.Memory()
	var parts [maxParts][]byte
	var local [batch]desc
	held, from := 0, 0 // what local holds, from which slot on
	got, used := 0, 0
	for got < len(into) && used < ready {
		total, count := 0, 0
		for more := true; more; count++ {
			i := used + count
			if i == ready || count == maxParts {
				return got, errGarbled // a packet without an end
			}
			if i >= from+held {
				from, held = i, copyDescs(local[:], r, r.ours+uint16(i), ready-i)
			}
			d := &local[i-from]
			b, err := c.at((r.ours+uint16(i))&r.mask, d)
			if err != nil {
				return got, err
			}
			if int(d.length) > len(b) {
				return got, errGarbled
			}
			parts[count] = b[:d.length]
			total += len(parts[count])
			more = d.flags&next != 0
		}
		if total > largest {
			return got, errGarbled
		}
		used += count
		if total < shortest {
			continue
		}
		frame, ok := pool.Get(total)
		if !ok {
			*c.lost++ // as on a NIC without buffers
			continue
		}
		c.held = append(c.held, frame)
		room := mem.Frame(frame)[shm.Headroom:]
		for _, p := range parts[:count] {
			copy(room, p)
			room = room[len(p):]
		}
		into[got] = shm.Desc{Frame: frame, Length: uint32(total), Offset: shm.Headroom}
		got++
	}
	if r.client {
		for i := range used {
			c.reset((r.ours + uint16(i)) & r.mask)
		}
	}
	r.publish(used)
	return got, nil
}

func (c *copyReceiver) reclaim(pool frames) {
	for _, f := range c.held {
		pool.Free(f)
	}
	c.held = nil
}

// shortest and largest are the bounds of a packet, an Ethernet header and what a large frame
// holds; maxParts is into how many buffers it may be split.
const (
	shortest = 14
	largest  = shm.LargeSize - shm.Headroom
	maxParts = 128
)

// copyDescs copies n descriptors out of a ring, where the peer may change them at any time, from
// a slot on, and returns how many.
func copyDescs(into []desc, r *ring, from uint16, n int) int {
	n = min(n, len(into))
	first := copy(into[:n], r.descs[from&r.mask:])
	copy(into[first:n], r.descs)
	return n
}

// A copySender copies packets into buffers, several if one is too short. It frees their frames
// at the end: until then, the peer's memory may fault, and nothing is sent.
type copySender struct{ buffers }

func (c *copySender) free(list []shm.Desc, pool frames) {
	for k := range list {
		pool.Free(list[k].Frame)
	}
}

func (c *copySender) reap(frames) error { return nil }

func (c *copySender) reclaim(frames) {}

func (c *copySender) send(list []shm.Desc, pool frames) (int, error) {
	r := c.ring
	room, err := c.available()
	if err != nil {
		return 0, err
	}
	mem := pool.Memory()
	var local [batch]desc
	held, from := 0, 0
	sent, used := 0, 0
	for k := range list {
		rest := mem.Packet(&list[k])
		count := 0
		for len(rest) > 0 {
			i := used + count
			if i == room {
				break
			}
			if i >= from+held || i < from {
				from, held = i, copyDescs(local[:], r, r.ours+uint16(i), room-i)
			}
			d := local[i-from]
			slot := (r.ours + uint16(i)) & r.mask
			b, err := c.at(slot, &d)
			if err != nil {
				c.free(list[:sent], pool)
				return sent, err
			}
			n := copy(b, rest)
			rest = rest[n:]
			if r.client {
				c.reset(slot)
			}
			out := &r.descs[slot]
			out.length = uint32(n)
			out.flags = 0
			if len(rest) > 0 {
				out.flags = next
			}
			count++
		}
		if len(rest) > 0 {
			break
		}
		used += count
		sent++
	}
	if used > 0 {
		r.publish(used)
		r.ring()
	}
	c.free(list[:sent], pool)
	return sent, nil
}
