package port

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

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

// An xdp port is an AF_XDP socket on an interface. The small frames of the packet memory are its
// UMEM, with all others of the manager: a frame goes from one interface to another and is copied
// by nobody but the kernel, and with a NIC whose driver can do it (zero copy), by nobody.
type xdp struct {
	opener *Opener
	fd     int
	index  int // of the interface
	max    int // the longest packet that it takes, bytes
	zero   bool

	redirect *ebpf.Map
	program  *ebpf.Program
	attached bpflink.Link

	fill, done *xdpRing[uint64]
	rx, tx     *xdpRing[unix.XDPDesc]

	pool    *manager.Pool // nil before the first packet
	held    []uint64      // bits: the frames that the port or the kernel has
	inFill  int
	unsent  int // taken from us, not yet reported as done
	finish  []shm.Desc
	dropped uint64 // segments for which there was no room
}

// xdpSlots is how many slots the four rings have each.
const xdpSlots = 2048

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
	if attrs.NumRxQueues > 1 {
		if n := rxQueues(c.Device); n > 1 {
			return nil, fmt.Errorf("%s has %d receive queues, and the port serves one: `ethtool -L %s combined 1`, or use kind: packet", c.Device, n, c.Device)
		}
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
	var errs []error
	for _, mode := range modes {
		x := &xdp{opener: o, fd: -1, index: attrs.Index, max: attrs.MTU + 14 + 4}
		err := x.open(mode)
		if err == nil {
			small, _ := o.mem.Frames()
			x.held = make([]uint64, (small+63)/64)
			o.sockets = append(o.sockets, x)
			return x, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", mode, explain(err)), x.close())
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			break // no other mode will be permitted
		}
	}
	return nil, errors.Join(errs...)
}

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

// rxQueues returns how many receive queues an interface uses.
func rxQueues(device string) int {
	n, err := link.RxQueues(device)
	if err != nil {
		return 1
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

// open makes the socket, its rings and the program. The opener is locked.
func (x *xdp) open(mode string) (err error) {
	if x.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		x.fd = -1
		return fmt.Errorf("AF_XDP socket: %w", err)
	}
	var shared *xdp
	if len(x.opener.sockets) > 0 {
		shared = x.opener.sockets[0]
	}
	mem := x.opener.mem
	if shared == nil {
		small, _ := mem.Frames()
		reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&mem.Bytes()[0]))), Len: uint64(small * shm.FrameSize), Size: shm.FrameSize}
		if _, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(x.fd), unix.SOL_XDP, unix.XDP_UMEM_REG, uintptr(unsafe.Pointer(&reg)), unsafe.Sizeof(reg), 0); errno != 0 {
			return fmt.Errorf("packet memory for AF_XDP: %w", errno)
		}
	}
	type offsets = unix.XDPMmapOffsets
	type offset = unix.XDPRingOffset
	if x.fill, err = newXDPRing[uint64](x.fd, xdpSlots, unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_PGOFF_FILL_RING, func(o *offsets) offset { return o.Fr }); err != nil {
		return err
	}
	if x.done, err = newXDPRing[uint64](x.fd, xdpSlots, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_UMEM_PGOFF_COMPLETION_RING, func(o *offsets) offset { return o.Cr }); err != nil {
		return err
	}
	if x.rx, err = newXDPRing[unix.XDPDesc](x.fd, xdpSlots, unix.XDP_RX_RING, unix.XDP_PGOFF_RX_RING, func(o *offsets) offset { return o.Rx }); err != nil {
		return err
	}
	if x.tx, err = newXDPRing[unix.XDPDesc](x.fd, xdpSlots, unix.XDP_TX_RING, unix.XDP_PGOFF_TX_RING, func(o *offsets) offset { return o.Tx }); err != nil {
		return err
	}
	// What one system call may send; older kernels send 32.
	unix.SetsockoptInt(x.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, xdpSlots)
	if unix.SetsockoptInt(x.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketRoom) != nil {
		unix.SetsockoptInt(x.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketRoom)
	}
	if err := x.attach(mode); err != nil {
		return err
	}
	address := &unix.SockaddrXDP{Flags: unix.XDP_USE_NEED_WAKEUP, Ifindex: uint32(x.index)}
	if mode == modeGeneric {
		address.Flags |= unix.XDP_COPY
	}
	if shared != nil {
		address.Flags, address.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(shared.fd)
	}
	if err := unix.Bind(x.fd, address); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	var options uint32
	size := uint32(4)
	unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(x.fd), unix.SOL_XDP, unix.XDP_OPTIONS, uintptr(unsafe.Pointer(&options)), uintptr(unsafe.Pointer(&size)), 0)
	x.zero = options&unix.XDP_OPTIONS_ZEROCOPY != 0
	if err := x.redirect.Put(uint32(0), uint32(x.fd)); err != nil {
		return fmt.Errorf("socket for the XDP program: %w", err)
	}
	return nil
}

// attach puts a program on the interface that gives the packets of queue 0 to the socket. It goes
// with its descriptor, so also when this process is killed.
func (x *xdp) attach(mode string) (err error) {
	x.redirect, err = ebpf.NewMap(&ebpf.MapSpec{Name: programName, Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
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
func (x *xdp) Receive(into []shm.Desc, pool *manager.Pool) int {
	x.pool = pool
	x.reap()
	n := min(x.rx.ready(), len(into))
	got := 0
	for range n {
		d := x.rx.take()
		frame := uint32(d.Addr / shm.FrameSize)
		x.inFill--
		if !x.hold(frame, false) {
			continue // not ours: no kernel does that
		}
		into[got] = shm.Desc{Frame: frame, Offset: uint16(d.Addr % shm.FrameSize), Length: d.Len}
		got++
	}
	if n > 0 {
		x.rx.release()
	}
	if n > 0 || x.inFill < xdpSlots/2 {
		x.refill()
	}
	return got
}

// refill gives the kernel frames for packets to come.
func (x *xdp) refill() {
	small, _ := x.opener.mem.Frames()
	// One port must not have all that there is.
	want := min(xdpSlots, max(64, small/8)) - x.inFill
	if want < 32 && x.inFill > 0 {
		return
	}
	want = min(want, x.fill.room(want))
	put := 0
	for ; put < want; put++ {
		frame, ok := x.pool.Get(smallRoom)
		if !ok {
			break
		}
		x.hold(frame, true)
		x.fill.put(uint64(frame) * shm.FrameSize)
	}
	if put == 0 {
		return
	}
	x.inFill += put
	x.fill.publish()
	if x.fill.asleep() {
		unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(x.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	}
}

// reap takes back the frames of packets that have left.
func (x *xdp) reap() {
	if x.unsent == 0 {
		return
	}
	n := x.done.ready()
	for range n {
		frame := uint32(x.done.take() / shm.FrameSize)
		if x.hold(frame, false) {
			x.pool.Free(frame)
		}
	}
	if n > 0 {
		x.unsent -= n
		x.done.release()
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
	x.kick()
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
	// The completion ring must have room for all that is on its way.
	if x.unsent < xdpSlots && x.tx.room(1) > 0 {
		return true
	}
	x.kick()
	x.reap()
	return x.unsent < xdpSlots && x.tx.room(1) > 0
}

func (x *xdp) put(d *shm.Desc) {
	x.hold(d.Frame, true)
	x.tx.put(unix.XDPDesc{Addr: uint64(d.Frame)*shm.FrameSize + uint64(d.Offset), Len: d.Length})
	x.unsent++
}

// kick lets the kernel send.
func (x *xdp) kick() {
	x.tx.publish()
	for range xdpSlots / 32 {
		if !x.tx.asleep() {
			return
		}
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(x.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EAGAIN || x.tx.room(len(x.tx.slots)) == len(x.tx.slots) {
			return // all sent; or no room, or the interface is down or gone: they wait
		}
	}
}

// FD returns the socket.
func (x *xdp) FD() int { return x.fd }

// Lost counts packets.
func (x *xdp) Lost() (received, sent uint64) {
	var s unix.XDPStatistics
	size := uint32(unsafe.Sizeof(s))
	unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(x.fd), unix.SOL_XDP, unix.XDP_STATISTICS, uintptr(unsafe.Pointer(&s)), uintptr(unsafe.Pointer(&size)), 0)
	return s.Rx_dropped + s.Rx_ring_full + s.Rx_fill_ring_empty_descs, x.dropped + s.Tx_invalid_descs
}

// Close removes the program and the socket and takes all frames back.
func (x *xdp) Close() error {
	if x.fd < 0 {
		return nil
	}
	x.opener.mu.Lock()
	x.opener.sockets = slices.DeleteFunc(x.opener.sockets, func(o *xdp) bool { return o == x })
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
	errs = append(errs, x.fill.close(), x.done.close(), x.rx.close(), x.tx.close())
	if x.fd >= 0 {
		errs = append(errs, unix.Close(x.fd))
		x.fd = -1
	}
	return errors.Join(errs...)
}
