package port

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/shm"
	"weft/internal/device"
	"weft/internal/vnet"
)

// A packet port is a packet socket on an interface (packet(7)). What fits in a slot of its
// receive ring (TPACKET_V2) costs no system call; of larger frames, which are super-frames or
// jumbo frames, the ring says when they came, and the socket's queue has them (PACKET_COPY_THRESH).
type packet struct {
	fd   int
	mem  []byte // of the rings
	ring []byte
	at   int // the slot to read next
	out  sender
	lost uint64
	aux  device.Aux
}

// The receive ring: 4 MiB of kernel memory for a port.
const (
	ringSlots = 2048
	slotSize  = 2048
	ringBlock = 64 << 10
)

// socketRoom is how many bytes of memory large frames may take that wait for the manager.
const socketRoom = 16 << 20

func openPacket(_ *Opener, c Config) (manager.Port, error) {
	fd, err := device.OpenSocket(socketRoom)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: packet sockets need CAP_NET_RAW, which root has, and who made the user namespace", err)
		}
		return nil, err
	}
	p := &packet{fd: fd, out: sender{large: -1}}
	if err := p.setUp(c.Device); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *packet) setUp(name string) (err error) {
	for _, o := range []struct{ name, value int }{
		{unix.PACKET_VERSION, unix.TPACKET_V2},
		{unix.PACKET_COPY_THRESH, slotSize},
		{unix.PACKET_QDISC_BYPASS, 0}, // captures on the interface see what leaves; it costs nothing to speak of
		{unix.PACKET_LOSS, 1},         // a packet that the send ring refuses is no reason to stop
	} {
		if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, o.name, o.value); err != nil {
			return fmt.Errorf("packet socket, option %d: %w", o.name, err)
		}
	}
	for _, r := range []struct{ option, slots int }{{unix.PACKET_RX_RING, ringSlots}, {unix.PACKET_TX_RING, sendSlots}} {
		size := r.slots * slotSize
		req := unix.TpacketReq{Block_size: ringBlock, Block_nr: uint32(size / ringBlock), Frame_size: slotSize, Frame_nr: uint32(r.slots)}
		if err := unix.SetsockoptTpacketReq(p.fd, unix.SOL_PACKET, r.option, &req); err != nil {
			return fmt.Errorf("packet ring of %d MiB: %w", size>>20, err)
		}
	}
	// One after the other (packet_mmap).
	p.mem, err = unix.Mmap(p.fd, 0, (ringSlots+sendSlots)*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("packet rings: %w", err)
	}
	p.ring, p.out.ring = p.mem[:ringSlots*slotSize], p.mem[ringSlots*slotSize:]
	index, err := device.Index(name)
	if err != nil {
		return err
	}
	join := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(p.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &join); err != nil {
		return fmt.Errorf("promiscuous mode of %s: %w", name, err)
	}
	if err := device.Bind(p.fd, name); err != nil {
		return err
	}
	p.out.fd = p.fd
	if p.out.large, err = device.OpenSocket(socketRoom); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(p.out.large, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 0); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	// Without a protocol nothing is received.
	if err := unix.Bind(p.out.large, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	return nil
}

// slot returns the header of a slot of the ring.
func (p *packet) slot(i int) *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&p.ring[i*slotSize]))
}

// Receive takes packets out of the ring.
func (p *packet) Receive(into []shm.Desc, pool *manager.Pool) int {
	n := 0
	for n < len(into) {
		h := p.slot(p.at)
		status := atomic.LoadUint32(&h.Status)
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		ok, room := false, true
		switch {
		case h.Snaplen == h.Len:
			ok, room = p.take(&into[n], h, pool)
		case status&unix.TP_STATUS_COPY != 0:
			ok, room = p.takeLarge(&into[n], pool)
		}
		if !room {
			break // it waits in the ring
		}
		atomic.StoreUint32(&h.Status, unix.TP_STATUS_KERNEL)
		if p.at++; p.at == ringSlots {
			p.at = 0
		}
		if ok {
			n++
		} else {
			p.lost++
		}
	}
	return n
}

// take copies a packet out of a slot. Without room there was no frame for it.
func (p *packet) take(d *shm.Desc, h *unix.Tpacket2Hdr, pool *manager.Pool) (ok, room bool) {
	from := p.ring[p.at*slotSize:][:slotSize]
	data, header := from[h.Mac:][:h.Len], from[int(h.Mac)-vnet.Len:][:vnet.Len]
	frame, ok := pool.Get(len(data))
	if !ok {
		return false, false
	}
	*d = shm.Desc{Frame: frame, Offset: shm.Headroom, Length: h.Len}
	mem := pool.Memory().Frame(frame)
	copy(mem[shm.Headroom:], data)
	if tag, ok := device.Tag(h.Status, h.Vlan_tci, h.Vlan_tpid); ok {
		putTag(d, mem, header, tag)
	}
	if vnet.Unfinished(header) {
		copy(mem, header)
		d.Flags = shm.HasVnet
	}
	return true, true
}

// takeLarge reads a packet from the socket's queue.
func (p *packet) takeLarge(d *shm.Desc, pool *manager.Pool) (ok, room bool) {
	frame, ok := pool.Get(shm.LargeSize - shm.Headroom)
	if !ok {
		return false, false
	}
	mem := pool.Memory().Frame(frame)
	n, auxLen, err := p.out.receive(mem, &p.aux)
	if err != nil || n < vnet.Len+14 {
		pool.Free(frame)
		return false, true
	}
	*d = shm.Desc{Frame: frame, Offset: shm.Headroom, Length: uint32(n - vnet.Len)}
	header := mem[:vnet.Len]
	if tag, ok := p.aux.Tag(auxLen); ok {
		putTag(d, mem, header, tag)
	}
	if vnet.Unfinished(header) {
		d.Flags = shm.HasVnet
	}
	return true, true
}

// putTag puts a VLAN tag back.
func putTag(d *shm.Desc, mem, header []byte, tag [device.TagLen]byte) {
	d.Offset -= device.TagLen
	d.Length += device.TagLen
	b := mem[d.Offset:]
	copy(b[:device.TagAt], b[device.TagLen:])
	copy(b[device.TagAt:], tag[:])
	vnet.Moved(header, device.TagLen)
}

// Send sends packets.
func (p *packet) Send(list []shm.Desc, pool *manager.Pool) int { return p.out.send(list, pool) }

// FD returns the socket.
func (p *packet) FD() int { return p.fd }

// Lost counts packets.
func (p *packet) Lost() (received, sent uint64) {
	if s, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		p.lost += uint64(s.Drops) // since it was asked last
	}
	return p.lost, p.out.lost
}

// Close closes the socket.
func (p *packet) Close() error {
	if p.fd < 0 {
		return nil
	}
	var errs []error
	if p.mem != nil {
		errs = append(errs, unix.Munmap(p.mem))
	}
	if p.out.large >= 0 {
		errs = append(errs, unix.Close(p.out.large))
	}
	errs = append(errs, unix.Close(p.fd))
	p.fd, p.mem = -1, nil
	return errors.Join(errs...)
}

// A sender sends packets and their virtio headers by a packet socket. What fits in a slot of the
// send ring goes there, and one system call sends all; larger ones take a call each.
type sender struct {
	fd    int
	large int // another socket: one with a send ring sends nothing else
	ring  []byte
	at    int // the slot to fill next
	first int // the slot that was filled first since the last kick
	queue int // slots filled since
	lost  uint64
	iov   [2]unix.Iovec
	none  [vnet.Len]byte // the header of a packet that has none
}

// The send ring: 2 MiB of kernel memory for a port. A packet begins with its virtio header, where the
// slot's own header ends.
const (
	sendSlots  = 1024
	sendOffset = 32
)

// headLen is where hdr_len is in a virtio header: so many bytes the kernel copies into memory of its
// own, instead of keeping the slot until the receiver has read the rest.
const headLen = 2

func (s *sender) slot(i int) *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&s.ring[i*slotSize]))
}

// send sends packets and frees them. It returns how many, and puts those that the kernel refused
// at the end.
func (s *sender) send(list []shm.Desc, pool *manager.Pool) int {
	mem := pool.Memory()
	sent, end := 0, len(list)
	for sent < end {
		d := &list[sent]
		data, header := mem.Packet(d), s.none[:]
		if d.Flags&shm.HasVnet != 0 {
			header = mem.Frame(d.Frame)[:vnet.Len]
		}
		if len(data) > slotSize-sendOffset-vnet.Len {
			if s.kick() != 0 {
				break
			}
			switch s.sendLarge(header, data) {
			case 0:
				pool.Free(d.Frame)
				sent++
			case unix.EMSGSIZE, unix.EINVAL:
				// This one is too long or has a header that says nonsense: on with the others.
				end--
				list[sent], list[end] = list[end], list[sent]
			default:
				return sent // no room (ENOBUFS, EAGAIN), or the interface is down or gone
			}
			continue
		}
		h := s.slot(s.at)
		if atomic.LoadUint32(&h.Status) != unix.TP_STATUS_AVAILABLE {
			if s.queue == 0 || s.kick() != 0 || atomic.LoadUint32(&h.Status) != unix.TP_STATUS_AVAILABLE {
				break
			}
		}
		into := s.ring[s.at*slotSize+sendOffset:][:vnet.Len+len(data)]
		copy(into, header)
		binary.NativeEndian.PutUint16(into[headLen:], uint16(len(data)))
		copy(into[vnet.Len:], data)
		h.Len = uint32(len(into))
		atomic.StoreUint32(&h.Status, unix.TP_STATUS_SEND_REQUEST)
		if s.at++; s.at == sendSlots {
			s.at = 0
		}
		s.queue++
		pool.Free(d.Frame)
		sent++
	}
	s.kick()
	return sent
}

// kick lets the kernel send what is in the ring. What it cannot send, because the interface is down
// or gone, is lost.
func (s *sender) kick() unix.Errno {
	for told := false; s.queue > 0; {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			s.first, s.queue = s.at, 0
			return 0
		case errno == unix.EINTR:
		case errno == unix.ENETDOWN && !told:
			told = true // that it is down, or was, is told once; then there is another error, or none
		case errno == unix.EAGAIN, errno == unix.ENOBUFS:
			// No memory now: they go with the next.
			return errno
		default:
			s.giveUp()
			return errno
		}
	}
	return 0
}

// giveUp takes back what the kernel has not sent.
func (s *sender) giveUp() {
	at := s.first
	for range s.queue {
		h := s.slot(at)
		if atomic.LoadUint32(&h.Status) == unix.TP_STATUS_SEND_REQUEST {
			if s.lost++; at != s.at && s.queue > 0 {
				s.at, s.queue = at, 0 // the first of them, where the kernel is
			}
			atomic.StoreUint32(&h.Status, unix.TP_STATUS_AVAILABLE)
		}
		if at++; at == sendSlots {
			at = 0
		}
	}
	s.first, s.queue = s.at, 0
}

// sendLarge sends a packet that fits in no slot.
func (s *sender) sendLarge(header, data []byte) unix.Errno {
	s.iov[0].Base, s.iov[1].Base = &header[0], &data[0]
	s.iov[0].SetLen(vnet.Len)
	s.iov[1].SetLen(len(data))
	m := unix.Msghdr{Iov: &s.iov[0]}
	m.SetIovlen(2)
	for told := false; ; told = true {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.large), uintptr(unsafe.Pointer(&m)), unix.MSG_DONTWAIT)
		if errno != unix.EINTR && (errno != unix.ENETDOWN || told) {
			return errno
		}
	}
}

// receive reads a packet with its virtio header from the socket's queue into a frame.
func (s *sender) receive(mem []byte, aux *device.Aux) (n, controlLen int, err error) {
	v := &s.iov
	v[0].Base, v[1].Base = &mem[0], &mem[shm.Headroom]
	v[0].SetLen(vnet.Len)
	v[1].SetLen(len(mem) - shm.Headroom)
	m := unix.Msghdr{Iov: &v[0], Control: &aux[0]}
	m.SetIovlen(2)
	m.SetControllen(len(aux))
	for {
		r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&m)), unix.MSG_DONTWAIT)
		switch {
		case errno == unix.EINTR, errno == unix.ENETDOWN: // told once
			continue
		case errno != 0:
			return 0, 0, errno
		case m.Flags&unix.MSG_TRUNC != 0:
			return 0, 0, unix.EMSGSIZE
		}
		return int(r), int(m.Controllen), nil
	}
}
