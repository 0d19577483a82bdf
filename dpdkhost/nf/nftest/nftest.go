// Package nftest tries network functions (NFs) on packets without a manager. It may import
// dpdkhost/nf and dpdkhost/shm.
package nftest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

// A Lab has packet memory.
type Lab struct {
	t    testing.TB
	mem  *shm.Memory
	next [2]uint32 // frames to use, small and large
}

// New makes a lab for a test.
func New(t testing.TB) *Lab {
	t.Helper()
	mem, err := shm.NewMemory(frames, large)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return &Lab{t: t, mem: mem}
}

const frames, large = 512, 8

// Packet returns an Ethernet frame as a packet that came in by a port. A lab has 512 frames of
// 2 KiB, and 8 large ones: who makes more packets uses the first again.
func (l *Lab) Packet(port int, frame []byte) nf.Packet {
	return nf.NewPacket(l.place(port, frame), l.mem)
}

func (l *Lab) place(port int, frame []byte) shm.Desc {
	d := shm.Desc{Offset: shm.Headroom, Length: uint32(len(frame)), Port: uint16(port), Action: shm.Next}
	if len(frame) <= shm.FrameSize-shm.Headroom {
		d.Frame = l.next[0] % frames
		l.next[0]++
	} else {
		d.Frame = frames + l.next[1]%large
		l.next[1]++
	}
	copy(l.mem.Packet(&d), frame)
	return d
}

// Fresh returns an empty frame, as a Source gets them.
func (l *Lab) Fresh() nf.Packet {
	d := l.place(0, nil)
	d.Action = shm.Buffer
	return nf.NewPacket(d, l.mem)
}

// Unfinished returns a TCP or UDP packet as the kernel hands it out whose checksum is left to
// hardware: it holds the sum of the pseudo-header. A segment, if it is not 0, is
// the payload of the packets that are still to be made of this one.
func (l *Lab) Unfinished(port int, frame []byte, segment int) nf.Packet {
	h := nf.ParseHeaders(frame)
	at := 16
	if h.Protocol == nf.ProtocolUDP {
		at = 6
	}
	d := l.place(port, frame)
	d.Flags = shm.HasVnet
	b := l.mem.Packet(&d)
	addresses := b[h.Network+12 : h.Network+20]
	if h.Version == 6 {
		addresses = b[h.Network+8 : h.Network+40]
	}
	sum := nf.Sum(uint64(h.Protocol)+uint64(h.End-h.Transport), addresses)
	binary.BigEndian.PutUint16(b[h.Transport+at:], nf.Folded(sum))
	v := l.mem.Frame(d.Frame)
	clear(v[:12])
	v[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	binary.NativeEndian.PutUint16(v[6:], uint16(h.Transport))
	binary.NativeEndian.PutUint16(v[8:], uint16(at))
	if segment > 0 {
		v[1] = map[bool]byte{true: 1, false: 4}[h.Version == 4] // VIRTIO_NET_HDR_GSO_TCPV4, TCPV6
		binary.NativeEndian.PutUint16(v[2:], uint16(h.Payload))
		binary.NativeEndian.PutUint16(v[4:], uint16(segment))
	}
	return nf.NewPacket(d, l.mem)
}

// A Result is what an NF did with a packet.
type Result struct {
	Verdict string // drop, next, keep, controller, "to 2", "out 1", "clone 3"
	Packet  nf.Packet
	Data    []byte
}

// Run hands packets to an NF as one batch.
func (l *Lab) Run(f nf.Function, batch ...nf.Packet) []Result {
	f.Handle(batch)
	return Results(batch)
}

// Results tells what an NF decided about packets.
func Results(batch []nf.Packet) []Result {
	var list []Result
	for i := range batch {
		list = append(list, Result{verdict(&batch[i]), batch[i], batch[i].Data()})
	}
	return list
}

func verdict(p *nf.Packet) string {
	d, ok := p.Verdict()
	switch {
	case !ok:
		return "keep"
	case d.Action == shm.Next:
		return "next"
	case d.Action == shm.ToNF:
		return fmt.Sprint("to ", d.To)
	case d.Action == shm.Out:
		return fmt.Sprint("out ", d.To)
	case d.Action == shm.Clone:
		return fmt.Sprint("clone ", d.To)
	case d.Action == shm.Controller:
		return "controller"
	}
	return "drop"
}

// Counters returns what an NF counts.
func Counters(f nf.Counting) map[string]uint64 {
	m := map[string]uint64{}
	f.Counters(func(name string, value uint64) { m[name] = value })
	return m
}

// NoAllocations fails the test if a batch of packets, made anew each time by the function, costs
// an NF memory.
func (l *Lab) NoAllocations(f nf.Function, batch func(into []nf.Packet) []nf.Packet) {
	l.t.Helper()
	buffer := make([]nf.Packet, 0, nf.Batch)
	if n := testing.AllocsPerRun(100, func() { f.Handle(batch(buffer)) }); n != 0 {
		l.t.Errorf("%v allocations a batch", n)
	}
}
