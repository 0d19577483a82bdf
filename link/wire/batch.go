package wire

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many frames are read or written with one system call at most.
const batchSize = 32

// A batch is reads and writes that the kernel does with one system call, one after the other,
// as recvmmsg(2) would if devices were sockets (io_uring(7)). None of them waits. Of the time
// that a short frame takes, a quarter is saved. It belongs to one thread.
type batch struct {
	ring int
	maps [][]byte

	tail         *uint32 // of what is asked for
	head, filled *uint32 // of what is done
	entries      []batchEntry
	done         []batchDone
	asked        int
	works        bool // with the files that wires have
	results      [batchSize]int32
	receipts     [batchSize]receipt

	free []int32 // places in the ring's own table of descriptors, which is looked up sooner
}

// batchEntry is struct io_uring_sqe (linux/io_uring.h).
type batchEntry struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	offset        uint64
	addr          uint64
	length        uint32
	opFlags       uint32
	userData      uint64
	_             [24]byte
}

// batchDone is struct io_uring_cqe.
type batchDone struct {
	userData uint64
	result   int32
	flags    uint32
}

// batchParams is struct io_uring_params.
type batchParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

const (
	opRead, opWrite  = 22, 23 // IORING_OP_
	opReceive        = 10     // IORING_OP_RECVMSG
	fixedFile        = 1      // IOSQE_FIXED_FILE
	getEvents        = 1      // IORING_ENTER_GETEVENTS
	registerFiles    = 2      // IORING_REGISTER_FILES
	updateFiles      = 6      // IORING_REGISTER_FILES_UPDATE
	offsetSubmission = 0
	offsetCompletion = 0x8000000
	offsetEntries    = 0x10000000
	places           = 64
)

// newBatch fails where the kernel has no io_uring or does not let this process use it.
func newBatch() (b *batch, err error) {
	var p batchParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, batchSize, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring: %w", errno)
	}
	b = &batch{ring: int(fd)}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	area := func(offset int64, length uint32) ([]byte, error) {
		m, err := unix.Mmap(b.ring, offset, int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return nil, fmt.Errorf("io_uring: %w", err)
		}
		b.maps = append(b.maps, m)
		return m, nil
	}
	sq, err := area(offsetSubmission, p.sq.array+4*p.sqEntries)
	if err != nil {
		return b, err
	}
	cq, err := area(offsetCompletion, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(batchDone{})))
	if err != nil {
		return b, err
	}
	entries, err := area(offsetEntries, p.sqEntries*uint32(unsafe.Sizeof(batchEntry{})))
	if err != nil {
		return b, err
	}
	word := func(m []byte, at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&m[at])) }
	b.tail, b.head, b.filled = word(sq, p.sq.tail), word(cq, p.cq.head), word(cq, p.cq.tail)
	b.entries = unsafe.Slice((*batchEntry)(unsafe.Pointer(&entries[0])), p.sqEntries)
	b.done = unsafe.Slice((*batchDone)(unsafe.Pointer(&cq[p.cq.cqes])), p.cqEntries)
	for i := range p.sqEntries {
		*word(sq, p.sq.array+4*i) = i
	}
	// The table is of use, not needed.
	var none [places]int32
	for i := range none {
		none[i] = -1
	}
	if b.register(registerFiles, unsafe.Pointer(&none), places) == 0 {
		for i := range none {
			b.free = append(b.free, int32(i)+1)
		}
	}
	return b, nil
}

func (b *batch) close() {
	for _, m := range b.maps {
		unix.Munmap(m)
	}
	unix.Close(b.ring)
}

func (b *batch) register(what uintptr, arg unsafe.Pointer, n int) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_REGISTER, uintptr(b.ring), what, uintptr(arg), uintptr(n), 0, 0)
	return errno
}

// put puts a descriptor, or -1 for none, at a place in the table.
func (b *batch) put(place int32, fd int) bool {
	value := int32(fd)
	update := struct {
		offset, _ uint32
		fds       uint64
	}{offset: uint32(place - 1), fds: uint64(uintptr(unsafe.Pointer(&value)))}
	return b.register(updateFiles, unsafe.Pointer(&update), 1) == 0
}

// forget lets go of an end before it is closed.
func (b *batch) forget(e *end) {
	if e.place != 0 && b.put(e.place, -1) {
		b.free = append(b.free, e.place)
	}
	e.place = 0
}

// addRead adds a read from an end, of which there may be batchSize with the writes. Who reads what
// came from a packet socket completes it: receipts has one for each, in their order.
func (b *batch) addRead(e *end, space []byte) {
	if e.tap {
		b.add(opRead, e, unsafe.Pointer(&space[0]), len(space), unix.RWF_NOWAIT)
	} else {
		b.add(opReceive, e, unsafe.Pointer(b.receipts[b.asked].prepare(space)), 1, unix.MSG_DONTWAIT)
	}
}

// addWrite adds a write to an end.
func (b *batch) addWrite(e *end, data []byte) {
	b.add(opWrite, e, unsafe.Pointer(&data[0]), len(data), unix.RWF_NOWAIT)
}

func (b *batch) add(opcode uint8, e *end, what unsafe.Pointer, length int, flags uint32) {
	if n := len(b.free); e.place == 0 && n > 0 && b.put(b.free[n-1], e.fd) {
		e.place = b.free[n-1]
		b.free = b.free[:n-1]
	}
	tail := *b.tail
	entry := &b.entries[int(tail)%len(b.entries)]
	*entry = batchEntry{opcode: opcode, fd: int32(e.fd), addr: uint64(uintptr(what)), length: uint32(length),
		opFlags: flags, userData: uint64(b.asked)}
	if e.place != 0 {
		entry.fd, entry.flags = e.place-1, fixedFile
	}
	atomic.StoreUint32(b.tail, tail+1)
	b.asked++
}

// check fails if reads failed because they were batched: not every file can say that it would have to
// wait, before Linux 5.11 TAP devices could not.
func (b *batch) check(results []int32) error {
	for _, r := range results {
		if r == -int32(unix.EOPNOTSUPP) || r == -int32(unix.EINVAL) {
			return fmt.Errorf("io_uring: read: %w", unix.Errno(-r))
		}
	}
	b.works = true
	return nil
}

// do does what was added, and says what read and write would have returned: numbers of bytes, or
// less than 0 the number of an error. It fails if the ring is of no more use.
func (b *batch) do() (results []int32, err error) {
	n := b.asked
	b.asked = 0
	results = b.results[:n]
	for i := range results {
		results[i] = -int32(unix.EIO)
	}
	for left := n; left > 0; {
		taken, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(b.ring), uintptr(left), uintptr(n), getEvents, 0, 0)
		switch {
		case errno == 0:
			left -= int(taken)
		case errno != unix.EINTR:
			err = fmt.Errorf("io_uring: %w", errno)
			left = 0
		}
	}
	head := *b.head
	for ; head != atomic.LoadUint32(b.filled); head++ {
		d := b.done[int(head)%len(b.done)]
		results[d.userData] = d.result
	}
	atomic.StoreUint32(b.head, head)
	return results, err
}
