package port

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An xdpRing is a ring that an AF_XDP socket shares with the kernel (Documentation/networking/
// af_xdp.rst). We are its producer or its consumer.
type xdpRing[T any] struct {
	mem                       []byte
	producer, consumer, flags *uint32
	slots                     []T
	mask                      uint32
	// Our own index, and our last look at the other's.
	mine, theirs uint32
}

// newXDPRing asks for a ring of n slots, a power of two; option makes it, offset is where to map
// it and where tells what lies where.
func newXDPRing[T any](fd, n, option int, offset int64, where func(*unix.XDPMmapOffsets) unix.XDPRingOffset) (*xdpRing[T], error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_XDP, option, n); err != nil {
		return nil, fmt.Errorf("AF_XDP ring of %d: %w", n, err)
	}
	var offsets unix.XDPMmapOffsets
	size := uint32(unsafe.Sizeof(offsets))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS, uintptr(unsafe.Pointer(&offsets)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return nil, fmt.Errorf("AF_XDP rings: %w", errno)
	}
	if size != uint32(unsafe.Sizeof(offsets)) {
		return nil, fmt.Errorf("AF_XDP needs Linux 5.4 or later")
	}
	at := where(&offsets)
	var slot T
	mem, err := unix.Mmap(fd, offset, int(at.Desc)+n*int(unsafe.Sizeof(slot)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("AF_XDP ring: %w", err)
	}
	word := func(at uint64) *uint32 { return (*uint32)(unsafe.Pointer(&mem[at])) }
	return &xdpRing[T]{
		mem: mem, producer: word(at.Producer), consumer: word(at.Consumer), flags: word(at.Flags),
		slots: unsafe.Slice((*T)(unsafe.Pointer(&mem[at.Desc])), n), mask: uint32(n - 1),
	}, nil
}

// room returns how many slots the producer may fill; want is what would do.
func (r *xdpRing[T]) room(want int) int {
	if n := len(r.slots) - int(r.mine-r.theirs); n >= want {
		return n
	}
	r.theirs = atomic.LoadUint32(r.consumer)
	return len(r.slots) - int(r.mine-r.theirs)
}

// put fills the next slot; there must be room.
func (r *xdpRing[T]) put(v T) {
	r.slots[r.mine&r.mask] = v
	r.mine++
}

// publish shows the kernel what was put.
func (r *xdpRing[T]) publish() { atomic.StoreUint32(r.producer, r.mine) }

// ready returns how many slots the consumer may read.
func (r *xdpRing[T]) ready() int {
	if r.theirs == r.mine {
		r.theirs = atomic.LoadUint32(r.producer)
	}
	return int(r.theirs - r.mine)
}

// take reads the next slot; one must be ready.
func (r *xdpRing[T]) take() T {
	v := r.slots[r.mine&r.mask]
	r.mine++
	return v
}

// release gives the slots that were read back to the kernel.
func (r *xdpRing[T]) release() { atomic.StoreUint32(r.consumer, r.mine) }

// asleep reports whether the kernel wants to be woken.
func (r *xdpRing[T]) asleep() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}

func (r *xdpRing[T]) close() error {
	if r == nil {
		return nil
	}
	return unix.Munmap(r.mem)
}
