package port

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	bpflink "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/shm"
	"weft/link"
)

// Modes of an XDP port: native is the driver's, generic works with any.
const (
	modeNative  = "native"
	modeGeneric = "generic"
)

// An xdp port is an AF_XDP socket on each receive queue of an interface. The small frames of the
// packet memory are their UMEM, with all others of the manager: a frame goes from one interface to
// another and is copied by nobody but the kernel, and with a NIC whose driver can do it (zero copy),
// by nobody.
type xdp struct {
	opener *Opener
	index  int  // of the interface
	max    int  // the longest packet that it takes, bytes
	zero   bool // the driver copies nothing

	redirect *ebpf.Map
	program  *ebpf.Program
	attached bpflink.Link

	queues []*xdpQueue // by number; packets leave by the first, in their order
	next   int         // the queue to look at first
	events int         // an epoll(7) of the sockets, if there are several; else -1

	pool    *manager.Pool // nil before the first packet
	held    []uint64      // bits: the frames that the port or the kernel has
	finish  []shm.Desc
	dropped uint64 // segments for which there was no room
}

// programName is the name of the program that hands packets to the socket.
const programName = "weft_port"

// foreign are the programs that other users of AF_XDP leave on an interface when they are killed,
// libxdp and DPDK.
var foreign = []string{programName, "xsk_def_prog", "xdp_dispatcher", "xsk_prog"}

func openXDP(o *Opener, c Config) (manager.Port, error) {
	device, err := netlink.LinkByName(c.Device)
	if err != nil {
		return nil, err
	}
	attrs := device.Attrs()
	if room := smallRoom - 14 - 4; attrs.MTU > room {
		return nil, fmt.Errorf("the MTU of %s is %d: AF_XDP takes at most %d here; give the link a smaller one, or use kind: packet", c.Device, attrs.MTU, room)
	}
	queues := rxQueues(device)
	if queues > maxQueues {
		which := "combined"
		if device.Type() == "veth" {
			which = "rx"
		}
		return nil, fmt.Errorf("%s has %d receive queues: a port has at most %d; `ethtool -L %s %s %d`, or use kind: packet", c.Device, queues, maxQueues, c.Device, which, maxQueues)
	}
	if err := clearStale(device); err != nil {
		return nil, err
	}
	if err := prepare(device); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	modes := []string{modeNative, modeGeneric}
	if c.Mode != "" {
		modes = []string{c.Mode}
	}
	small, _ := o.mem.Frames()
	var errs []error
	for _, mode := range modes {
		for _, sharing := range o.sharing(device, mode) {
			x := &xdp{opener: o, index: attrs.Index, max: attrs.MTU + 14 + 4, events: -1, held: make([]uint64, (small+63)/64)}
			err := x.open(mode, queues, sharing)
			if err == nil {
				o.ports = append(o.ports, x)
				return x, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", mode, explain(err)), x.close())
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
				return nil, errors.Join(errs...) // no other mode will be permitted
			}
		}
	}
	return nil, errors.Join(errs...)
}

// sharing returns the ports of which an interface may use the registered packet memory (UMEM), the
// best first; nil to register it once more. All that share it copy packets, or none may
// (xp_assign_dev_shared), so a NIC shares with what copies nothing, if it can do that too.
func (o *Opener) sharing(device netlink.Link, mode string) (list []*xdp) {
	zero := onBus(device) && mode == modeNative
	for _, x := range o.ports {
		if x.zero == zero {
			return []*xdp{x, nil}
		}
	}
	return []*xdp{nil}
}

// onBus reports whether an interface is a real NIC. That it is on a bus is not read from /sys, which
// shows another namespace's interfaces.
func onBus(device netlink.Link) bool { return device.Attrs().ParentDev != "" }

// explain says what to do about an error.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: AF_XDP needs root, or CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF outside of user namespaces; kind: packet works without", err)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w: this kernel is without CONFIG_XDP_SOCKETS; use kind: packet", err)
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%w: the packet memory must be locked: raise `ulimit -l`", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: another program has the interface", err)
	}
	return err
}

// maxQueues bounds the queues of an interface.
const maxQueues = 64

// rxQueues returns how many receive queues an interface uses.
func rxQueues(device netlink.Link) int {
	if device.Attrs().NumRxQueues <= 1 {
		return 1
	}
	n, err := link.RxQueues(device.Attrs().Name)
	if err != nil || n < 1 {
		return 1 // a driver that cannot say it
	}
	return n
}

// clearStale removes an XDP program that a process left on an interface. It leaves others alone.
func clearStale(device netlink.Link) error {
	x := device.Attrs().Xdp
	if x == nil || !x.Attached {
		return nil
	}
	name := "?"
	if p, err := ebpf.NewProgramFromID(ebpf.ProgramID(x.ProgId)); err == nil {
		if info, err := p.Info(); err == nil {
			name = info.Name
		}
		p.Close()
	} else if errors.Is(err, unix.EPERM) {
		return explain(err)
	}
	ifname := device.Attrs().Name
	if !slices.ContainsFunc(foreign, func(f string) bool { return strings.HasPrefix(name, f) }) {
		return fmt.Errorf("%s has an XDP program, %s (id %d): if nobody needs it, `ip link set dev %s xdp off`", ifname, name, x.ProgId, ifname)
	}
	for _, flag := range []int{0, unix.XDP_FLAGS_DRV_MODE, unix.XDP_FLAGS_SKB_MODE} {
		netlink.LinkSetXdpFdWithFlags(device, -1, flag)
	}
	again, err := netlink.LinkByIndex(device.Attrs().Index)
	if err == nil && again.Attrs().Xdp != nil && again.Attrs().Xdp.Attached {
		return fmt.Errorf("%s has an XDP program, %s, of a process that still runs: end that first", ifname, name)
	}
	return err
}

// Plain reports whether a feature of a sending device (ethtool -k) leaves no work to who receives:
// what the host's side of a veth pair may keep whose other side is an XDP port, for
// link.KeepFeatures. Without that, checksums stay unfinished, and nobody can tell.
func Plain(feature string) bool { return !strings.HasPrefix(feature, "tx-") }

// prepare makes an interface give frames as on a wire, and the other side of a veth pair too, if it
// is in the same namespace still.
func prepare(device netlink.Link) error {
	keep := func(feature string) bool {
		switch feature {
		case "rx-lro", "rx-gro-hw", "rx-vlan-hw-parse", "rx-vlan-stag-hw-parse":
			return false
		}
		return true
	}
	if err := link.KeepFeatures(device.Attrs().Name, keep); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	if device.Type() != "veth" || device.Attrs().NetNsID >= 0 {
		return nil
	}
	peer, err := netlink.LinkByIndex(device.Attrs().ParentIndex)
	if err != nil {
		return fmt.Errorf("the other side of %s: %w", device.Attrs().Name, err)
	}
	return link.KeepFeatures(peer.Attrs().Name, Plain)
}

// open makes sockets and program. The opener is locked.
func (x *xdp) open(mode string, queues int, sharing *xdp) error {
	if err := x.attach(mode, queues); err != nil {
		return err
	}
	for i := range queues {
		q, err := newXDPQueue(i)
		if err != nil {
			return err
		}
		x.queues = append(x.queues, q)
		var with *xdpQueue
		switch {
		case i > 0:
			with = x.queues[0]
		case sharing != nil:
			with = sharing.queues[0]
		}
		if err := q.bind(x.opener.mem, x.index, mode, with); err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
		if err := x.redirect.Put(uint32(i), uint32(q.fd)); err != nil {
			return fmt.Errorf("socket for the XDP program: %w", err)
		}
	}
	x.zero = x.queues[0].copiesNothing()
	if queues == 1 {
		return nil
	}
	var err error
	if x.events, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, q := range x.queues {
		if err := unix.EpollCtl(x.events, unix.EPOLL_CTL_ADD, q.fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	return nil
}

// attach puts a program on the interface that gives the packets of each queue to its socket. It goes
// with its descriptor, so also when this process is killed.
func (x *xdp) attach(mode string, queues int) (err error) {
	x.redirect, err = ebpf.NewMap(&ebpf.MapSpec{Name: programName, Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(queues)})
	if err != nil {
		return fmt.Errorf("map for AF_XDP: %w", err)
	}
	const queue, drop = 16, 1 // offset of rx_queue_index in struct xdp_md; XDP_DROP, without a socket
	x.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: programName, Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, queue, asm.Word),
			asm.LoadMapPtr(asm.R1, x.redirect.FD()),
			asm.Mov.Imm(asm.R3, drop),
			asm.FnRedirectMap.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		return fmt.Errorf("XDP program: %w", err)
	}
	flags := bpflink.XDPDriverMode
	if mode == modeGeneric {
		flags = bpflink.XDPGenericMode
	}
	x.attached, err = bpflink.AttachXDP(bpflink.XDPOptions{Program: x.program, Interface: x.index, Flags: flags})
	if err != nil {
		return fmt.Errorf("attach the XDP program: %w", err)
	}
	return nil
}

// hold notes that the kernel has a frame, or not any more; it reports whether that is new.
func (x *xdp) hold(frame uint32, has bool) bool {
	word, bit := &x.held[frame/64], uint64(1)<<(frame%64)
	if *word&bit != 0 == has {
		return false
	}
	*word ^= bit
	return true
}

// Receive takes packets from the kernel and gives it empty frames.
func (x *xdp) Receive(into []shm.Desc, pool *manager.Pool) (got int) {
	x.pool = pool
	x.reap()
	for range x.queues {
		q := x.queues[x.next]
		if x.next++; x.next == len(x.queues) {
			x.next = 0
		}
		n := min(q.rx.ready(), len(into)-got)
		for range n {
			d := q.rx.take()
			frame := uint32(d.Addr / shm.FrameSize)
			q.empty--
			if !x.hold(frame, false) {
				continue // not ours: no kernel does that
			}
			into[got] = shm.Desc{Frame: frame, Offset: uint16(d.Addr % shm.FrameSize), Length: d.Len}
			got++
		}
		if n > 0 {
			q.rx.release()
		}
		x.refill(q)
	}
	return got
}

// refill gives the kernel frames for packets to come, not few.
func (x *xdp) refill(q *xdpQueue) {
	small, _ := x.opener.mem.Frames()
	// One port must not have all that there is.
	want := min(xdpSlots, max(64, small/8/len(x.queues))) - q.empty
	if want < 32 && q.empty > 0 {
		return
	}
	want = min(want, q.fill.room(want))
	put := 0
	for ; put < want; put++ {
		frame, ok := x.pool.Get(smallRoom)
		if !ok {
			break
		}
		x.hold(frame, true)
		q.fill.put(uint64(frame) * shm.FrameSize)
	}
	if put > 0 {
		q.empty += put
		q.filled()
	}
}

// reap takes back the frames of packets that have left.
func (x *xdp) reap() {
	q := x.queues[0]
	if q.unsent == 0 {
		return
	}
	n := q.done.ready()
	for range n {
		frame := uint32(q.done.take() / shm.FrameSize)
		if x.hold(frame, false) {
			x.pool.Free(frame)
		}
	}
	if n > 0 {
		q.unsent -= n
		q.done.release()
	}
}

// Send gives packets to the kernel.
func (x *xdp) Send(list []shm.Desc, pool *manager.Pool) int {
	x.pool = pool
	x.reap()
	small, _ := x.opener.mem.Frames()
	sent, end := 0, len(list)
	for sent < end {
		d := &list[sent]
		switch {
		case d.Flags&shm.HasVnet != 0:
			x.sendFinished(*d)
			sent++
		case int(d.Length) > x.max, d.Frame >= uint32(small) && !x.small(d):
			end--
			list[sent], list[end] = list[end], list[sent]
		case !x.room():
			end = sent
		default:
			x.put(d)
			sent++
		}
	}
	x.queues[0].kick()
	return sent
}

// sendFinished sends what a packet stands for.
func (x *xdp) sendFinished(d shm.Desc) {
	var lost int
	x.finish, lost = x.pool.Finish(d, x.finish[:0])
	x.dropped += uint64(lost)
	small, _ := x.opener.mem.Frames()
	for i := range x.finish {
		d := &x.finish[i]
		if int(d.Length) > x.max || d.Frame >= uint32(small) && !x.small(d) || !x.room() {
			x.pool.Free(d.Frame)
			x.dropped++
			continue
		}
		x.put(d)
	}
}

// small moves a packet from a large frame, which is not in the UMEM, to a small one.
func (x *xdp) small(d *shm.Desc) bool {
	frame, ok := x.pool.Get(smallRoom)
	if !ok || int(d.Length) > smallRoom {
		if ok {
			x.pool.Free(frame)
		}
		return false
	}
	copy(x.opener.mem.Frame(frame)[shm.Headroom:], x.opener.mem.Packet(d))
	x.pool.Free(d.Frame)
	d.Frame, d.Offset = frame, shm.Headroom
	return true
}

// room reports whether there is room for a packet to send. If there is none, the kernel gets the
// chance to make some.
func (x *xdp) room() bool {
	q := x.queues[0]
	if q.room() {
		return true
	}
	q.kick()
	x.reap()
	return q.room()
}

func (x *xdp) put(d *shm.Desc) {
	x.hold(d.Frame, true)
	x.queues[0].put(unix.XDPDesc{Addr: uint64(d.Frame)*shm.FrameSize + uint64(d.Offset), Len: d.Length})
}

// FD returns the socket, or what watches all.
func (x *xdp) FD() int {
	if x.events >= 0 {
		return x.events
	}
	return x.queues[0].fd
}

// Resize tells the port the new MTU of its interface.
func (x *xdp) Resize(mtu int) { x.max = min(mtu+14+4, smallRoom) }

// Lost counts packets.
func (x *xdp) Lost() (received, sent uint64) {
	sent = x.dropped
	for _, q := range x.queues {
		s := q.statistics()
		received += s.Rx_dropped + s.Rx_ring_full + s.Rx_fill_ring_empty_descs
		sent += s.Tx_invalid_descs
	}
	return received, sent
}

// Close removes program and sockets and takes all frames back.
func (x *xdp) Close() error {
	if x.queues == nil {
		return nil
	}
	x.opener.mu.Lock()
	x.opener.ports = slices.DeleteFunc(x.opener.ports, func(o *xdp) bool { return o == x })
	x.opener.mu.Unlock()
	err := x.close()
	if x.zero {
		// The driver lets go of the frames after the socket is closed (xp_release_deferred).
		time.Sleep(50 * time.Millisecond)
	}
	for word, bits := range x.held {
		for bit := uint32(0); bits != 0; bit, bits = bit+1, bits>>1 {
			if bits&1 != 0 {
				x.pool.Free(uint32(word)*64 + bit)
			}
		}
		x.held[word] = 0
	}
	return err
}

func (x *xdp) close() error {
	var errs []error
	if x.attached != nil {
		errs = append(errs, x.attached.Close())
	}
	if x.program != nil {
		errs = append(errs, x.program.Close())
	}
	if x.redirect != nil {
		errs = append(errs, x.redirect.Close())
	}
	if x.events >= 0 {
		errs = append(errs, unix.Close(x.events))
		x.events = -1
	}
	for _, q := range x.queues {
		errs = append(errs, q.close())
	}
	x.queues = nil
	return errors.Join(errs...)
}
