package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Direction says which packets of an interface are captured.
type Direction int

// The directions, as the interface's node sees them.
const (
	Both Direction = iota
	In
	Out
)

// A Device is an interface of the kernel's to capture on.
type Device struct {
	Name        string // what people call it
	Device      string // the kernel's name for it
	Description string
	Direction   Direction
}

// Sizes of a ring, bytes. A block holds the longest frame that segmentation offload leaves
// whole; all rings of a capture together are at most ringsTotal if there are many.
const (
	blockSize  = 256 << 10
	ringSize   = 16 << 20
	ringsTotal = 128 << 20
	ringLeast  = 1 << 20
)

// retireTimeout is how long the kernel waits for a block to fill.
const retireTimeout = 10 * time.Millisecond

// vnetLen is the length of struct virtio_net_hdr (linux/virtio_net.h).
const vnetLen = 10

// A ring is a source: a packet socket with a ring of blocks that the kernel fills
// (Documentation/networking/packet_mmap.rst, TPACKET_V3).
type ring struct {
	iface     *iface
	fd        int
	mem       []byte
	direction Direction
	mtu       int
	vnet      bool // each frame has a virtio_net_hdr

	block  int     // the one that is read
	left   int     // its packets that are left
	at     uintptr // the next one's place in mem
	packet packet
	have   bool // packet is the next one
}

// AddDevices adds links as sources. enter calls a function on a thread that is in the
// network namespace of the i-th device.
func (c *Capture) AddDevices(devices []Device, enter func(i int, f func() error) error) error {
	size := max(ringLeast, min(ringSize, ringsTotal/max(1, len(devices))))
	for i, d := range devices {
		var r *ring
		err := enter(i, func() (err error) {
			r, err = openRing(d, c.filters.link, size/blockSize, c.cfg.Segment)
			return err
		})
		if err != nil {
			return fmt.Errorf("capture on %s: %w", d.Name, err)
		}
		r.iface = c.newInterface(d.Name, d.Description)
		c.list(r.iface)
		c.sources = append(c.sources, r)
		c.polled = append(c.polled, unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN})
	}
	return nil
}

// openRing opens a ring in the thread's network namespace.
func openRing(d Device, filter []unix.SockFilter, blocks int, vnet bool) (r *ring, err error) {
	dev, err := net.InterfaceByName(d.Device)
	if err != nil {
		return nil, err
	}
	// Protocol 0: no packets before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	r = &ring{fd: fd, direction: d.Direction, mtu: dev.MTU, vnet: vnet}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, fmt.Errorf("packet ring, version 3: %w", err)
	}
	if vnet {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return nil, fmt.Errorf("lengths of segments: %w", err)
		}
	}
	if d.Direction == In {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return nil, fmt.Errorf("ignore outgoing packets: %w", err)
		}
	}
	req := unix.TpacketReq3{
		Block_size: blockSize, Block_nr: uint32(blocks),
		Frame_size: 2048, Frame_nr: uint32(blocks * blockSize / 2048),
		Retire_blk_tov: uint32(retireTimeout.Milliseconds()),
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("packet ring of %d bytes: %w", blocks*blockSize, err)
	}
	r.mem, err = unix.Mmap(fd, 0, blocks*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the packet ring: %w", err)
	}
	if err := r.attach(filter); err != nil {
		return nil, err
	}
	all := uint16(unix.ETH_P_ALL)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: dev.Index}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return r, nil
}

// attach makes filter the socket's; nil: none.
func (r *ring) attach(filter []unix.SockFilter) error {
	if len(filter) == 0 {
		return nil
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("attach the filter: %w", err)
	}
	return nil
}

// descriptor returns the head of a block, and its status, which the kernel shares.
func (r *ring) descriptor(block int) (*unix.TpacketHdrV1, *uint32) {
	d := (*unix.TpacketBlockDesc)(unsafe.Pointer(&r.mem[block*blockSize]))
	h := (*unix.TpacketHdrV1)(unsafe.Pointer(&d.Hdr))
	return h, &h.Block_status
}

// filled reports whether a block is the reader's.
func (r *ring) filled(block int) bool {
	_, status := r.descriptor(block)
	return atomic.LoadUint32(status)&unix.TP_STATUS_USER != 0
}

func (r *ring) blocks() int { return len(r.mem) / blockSize }

func (r *ring) peek() *packet {
	for !r.have {
		if r.left == 0 && !r.open() {
			return nil
		}
		r.read()
	}
	return &r.packet
}

// open begins the next block that has packets.
func (r *ring) open() bool {
	for r.filled(r.block) {
		h, _ := r.descriptor(r.block)
		if h.Num_pkts > 0 {
			r.left = int(h.Num_pkts)
			r.at = uintptr(r.block*blockSize) + uintptr(h.Offset_to_first_pkt)
			return true
		}
		r.release()
	}
	return false
}

// release gives the block back to the kernel.
func (r *ring) release() {
	_, status := r.descriptor(r.block)
	atomic.StoreUint32(status, unix.TP_STATUS_KERNEL)
	r.block = (r.block + 1) % r.blocks()
}

// linklayerOffset is where the sockaddr_ll of a packet is: after its header, aligned.
const linklayerOffset = (unix.SizeofTpacket3Hdr + unix.TPACKET_ALIGNMENT - 1) &^ (unix.TPACKET_ALIGNMENT - 1)

// read reads the header of the next packet.
func (r *ring) read() {
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&r.mem[r.at]))
	from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&r.mem[r.at+linklayerOffset]))
	outgoing := from.Pkttype == unix.PACKET_OUTGOING
	if r.direction == Out && !outgoing {
		r.skip()
		return
	}
	start := r.at + uintptr(h.Mac)
	p := &r.packet
	*p = packet{
		iface: r.iface, time: int64(h.Sec)*1e9 + int64(h.Nsec),
		data: r.mem[start : start+uintptr(h.Snaplen)], length: int(h.Len), flags: flagInbound,
	}
	if outgoing {
		p.flags = flagOutbound
	}
	if h.Status&unix.TP_STATUS_VLAN_VALID != 0 {
		tpid := uint32(unix.ETH_P_8021Q)
		if h.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			tpid = uint32(h.Hv1.Vlan_tpid)
		}
		p.vlan = tpid<<16 | h.Hv1.Vlan_tci
	}
	if r.vnet {
		p.segment = int(binary.NativeEndian.Uint16(r.mem[start-vnetLen+4:]))
		p.unsummed = r.mem[start-vnetLen]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0
	} else if p.length > r.mtu+maxLinkHeader {
		p.comment = fmt.Appendf(nil, "%d bytes left whole for segmentation offload; the MTU is %d", p.length, r.mtu)
	}
	r.have = true
}

// maxLinkHeader is the length of an Ethernet header with two VLAN tags.
const maxLinkHeader = 22

func (r *ring) next() {
	r.have = false
	r.skip()
}

// skip goes on to the packet after the one at at.
func (r *ring) skip() {
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&r.mem[r.at]))
	r.at += uintptr(h.Next_offset)
	if r.left--; r.left == 0 {
		r.release()
	}
}

// pressed reports whether half of the ring is full.
func (r *ring) pressed() bool { return r.filled((r.block + r.blocks()/2) % r.blocks()) }

// stop lets no packet pass the filter any more.
func (r *ring) stop() error {
	return r.attach([]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}})
}

func (r *ring) finish() error {
	s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		err = fmt.Errorf("statistics of %s: %w", r.iface.Name, err)
	} else {
		r.iface.Received, r.iface.Dropped = uint64(s.Packets), uint64(s.Drops)
	}
	return errors.Join(err, r.close())
}

func (r *ring) close() error {
	var err error
	if r.mem != nil {
		err = unix.Munmap(r.mem)
		r.mem = nil
	}
	return errors.Join(err, unix.Close(r.fd))
}
