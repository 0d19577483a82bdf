package port

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/shm"
)

// An xdpQueue is an AF_XDP socket on one queue of an interface, with its four rings.
type xdpQueue struct {
	number int
	fd     int

	fill, done *xdpRing[uint64]
	rx, tx     *xdpRing[unix.XDPDesc]

	empty  int // frames that the kernel has for packets to come
	unsent int // taken from us, not yet reported as done
}

// xdpSlots is how many slots the four rings have each.
const xdpSlots = 2048

func newXDPQueue(number int) (*xdpQueue, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("AF_XDP socket: %w", err)
	}
	return &xdpQueue{number: number, fd: fd}, nil
}

// bind makes the rings and binds the socket. It uses the packet memory as another does, or
// registers it.
func (q *xdpQueue) bind(mem *shm.Memory, index int, mode string, with *xdpQueue) (err error) {
	if with == nil {
		small, _ := mem.Frames()
		reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&mem.Bytes()[0]))), Len: uint64(small * shm.FrameSize), Size: shm.FrameSize}
		if _, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(q.fd), unix.SOL_XDP, unix.XDP_UMEM_REG, uintptr(unsafe.Pointer(&reg)), unsafe.Sizeof(reg), 0); errno != 0 {
			return fmt.Errorf("packet memory for AF_XDP: %w", errno)
		}
	}
	type offsets = unix.XDPMmapOffsets
	type offset = unix.XDPRingOffset
	if q.fill, err = newXDPRing[uint64](q.fd, xdpSlots, unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_PGOFF_FILL_RING, func(o *offsets) offset { return o.Fr }); err != nil {
		return err
	}
	if q.done, err = newXDPRing[uint64](q.fd, xdpSlots, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_UMEM_PGOFF_COMPLETION_RING, func(o *offsets) offset { return o.Cr }); err != nil {
		return err
	}
	if q.rx, err = newXDPRing[unix.XDPDesc](q.fd, xdpSlots, unix.XDP_RX_RING, unix.XDP_PGOFF_RX_RING, func(o *offsets) offset { return o.Rx }); err != nil {
		return err
	}
	if q.tx, err = newXDPRing[unix.XDPDesc](q.fd, xdpSlots, unix.XDP_TX_RING, unix.XDP_PGOFF_TX_RING, func(o *offsets) offset { return o.Tx }); err != nil {
		return err
	}
	// What one system call may send; older kernels send 32.
	unix.SetsockoptInt(q.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, xdpSlots)
	if unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketRoom) != nil {
		unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketRoom)
	}
	address := &unix.SockaddrXDP{Flags: unix.XDP_USE_NEED_WAKEUP, Ifindex: uint32(index), QueueID: uint32(q.number)}
	if mode == modeGeneric {
		address.Flags |= unix.XDP_COPY
	}
	if with != nil {
		address.Flags, address.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(with.fd)
	}
	if err := unix.Bind(q.fd, address); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// copiesNothing reports whether the driver reads and writes the packet memory itself.
func (q *xdpQueue) copiesNothing() bool {
	var options uint32
	q.ask(unix.XDP_OPTIONS, unsafe.Pointer(&options), unsafe.Sizeof(options))
	return options&unix.XDP_OPTIONS_ZEROCOPY != 0
}

func (q *xdpQueue) statistics() (s unix.XDPStatistics) {
	q.ask(unix.XDP_STATISTICS, unsafe.Pointer(&s), unsafe.Sizeof(s))
	return s
}

func (q *xdpQueue) ask(option uintptr, into unsafe.Pointer, size uintptr) {
	length := uint32(size)
	unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(q.fd), unix.SOL_XDP, option, uintptr(into), uintptr(unsafe.Pointer(&length)), 0)
}

// filled shows the kernel the empty frames that were put.
func (q *xdpQueue) filled() {
	q.fill.publish()
	if q.fill.asleep() {
		unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(q.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	}
}

// room reports whether there is room for a packet to send: the completion ring must have some for
// all that are on their way.
func (q *xdpQueue) room() bool { return q.unsent < xdpSlots && q.tx.room(1) > 0 }

// put puts a packet to send.
func (q *xdpQueue) put(d unix.XDPDesc) {
	q.tx.put(d)
	q.unsent++
}

// kick lets the kernel send.
func (q *xdpQueue) kick() {
	q.tx.publish()
	for range xdpSlots / 32 {
		if !q.tx.asleep() {
			return
		}
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(q.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EAGAIN || q.tx.room(len(q.tx.slots)) == len(q.tx.slots) {
			return // all sent; or no room, or the interface is down or gone: they wait
		}
	}
}

func (q *xdpQueue) close() error {
	return errors.Join(q.fill.close(), q.done.close(), q.rx.close(), q.tx.close(), unix.Close(q.fd))
}
