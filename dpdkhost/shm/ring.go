package shm

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// A Ring carries descriptors from one producer to one consumer, which may be in different
// processes. What the other side may write is read once and checked: whatever a hostile
// peer puts there, nobody leaves the ring's memory.
//
//	producer: Push … Publish, Wake        consumer: Peek … Release, or Wait
type Ring struct {
	shared *ringHead
	slots  []Desc
	mask   uint32
	// Each side's own copy of its index, and its last look at the other's.
	head, tail uint32
	soon       bool // the consumer was woken soon after it had begun to wait
}

// ringHead is what both sides see; each field on a cache line of its own (two, because
// processors fetch pairs).
type ringHead struct {
	tail  atomic.Uint32 // next slot that the producer fills
	_     [124]byte
	head  atomic.Uint32 // next slot that the consumer reads
	_     [124]byte
	sleep atomic.Uint32 // the consumer sleeps on it (futex(2)) while it is 1
	_     [124]byte
}

// ringBytes is the room of a ring of n slots.
func ringBytes(n int) int { return int(unsafe.Sizeof(ringHead{})) + n*descSize }

// ringAt lays a ring of n slots over memory, n a power of two.
func ringAt(mem []byte, n int) *Ring {
	head := (*ringHead)(unsafe.Pointer(&mem[0]))
	first := (*Desc)(unsafe.Pointer(&mem[unsafe.Sizeof(ringHead{})]))
	r := &Ring{shared: head, slots: unsafe.Slice(first, n), mask: uint32(n - 1)}
	r.head, r.tail = head.head.Load(), head.tail.Load()
	return r
}

// Len returns how many descriptors wait.
func (r *Ring) Len() int { return int(min(r.shared.tail.Load()-r.shared.head.Load(), r.mask+1)) }

// Cap returns how many fit.
func (r *Ring) Cap() int { return len(r.slots) }

// Free returns how many slots the producer may fill now.
func (r *Ring) Free() int {
	used := r.tail - r.shared.head.Load()
	if used > r.mask+1 {
		return 0 // the other side lies
	}
	return int(r.mask + 1 - used)
}

// Push puts descriptors into the ring and returns how many fitted. The consumer sees them
// after Publish.
func (r *Ring) Push(list []Desc) int {
	n := min(len(list), r.Free())
	at := r.tail & r.mask
	first := copy(r.slots[at:], list[:n])
	copy(r.slots, list[first:n])
	r.tail += uint32(n)
	return n
}

// Publish shows the consumer what was pushed.
func (r *Ring) Publish() { r.shared.tail.Store(r.tail) }

// Wake wakes the consumer if it sleeps, and reports whether it did. Call it late, after other
// work: on a shared processor the consumer would push the producer aside.
func (r *Ring) Wake() (woken bool) {
	if woken = r.shared.sleep.Load() != 0 && r.shared.sleep.Swap(0) != 0; woken {
		futexWake(&r.shared.sleep)
	}
	return woken
}

// Pop copies descriptors out of the ring and returns how many.
func (r *Ring) Pop(list []Desc) int {
	ready := r.shared.tail.Load() - r.head
	if ready > r.mask+1 {
		// No honest producer is a ring ahead: skip what it claims.
		r.head = r.shared.tail.Load()
		r.shared.head.Store(r.head)
		return 0
	}
	n := min(len(list), int(ready))
	if n == 0 {
		return 0
	}
	at := r.head & r.mask
	first := copy(list[:n], r.slots[at:])
	copy(list[first:n], r.slots)
	r.head += uint32(n)
	r.shared.head.Store(r.head)
	return n
}

// Empty reports whether the consumer has nothing to read.
func (r *Ring) Empty() bool { return r.shared.tail.Load() == r.head }

// Wait sleeps until Wake is called, the timeout (nanoseconds; below zero for none) is over or a
// signal comes. It returns at once if there is something to read, or if unless, which may be nil,
// says so.
func (r *Ring) Wait(timeout int64, unless func() bool) {
	r.shared.sleep.Store(1)
	if !r.Empty() || unless != nil && unless() {
		r.shared.sleep.Store(0)
		return
	}
	r.soon = futexWait(&r.shared.sleep, 1, timeout, r.soon)
	r.shared.sleep.Store(0)
}

func futexWake(word *atomic.Uint32) {
	const futexWake = 1 // not private: the other side is another process
	syscall.RawSyscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1, 0, 0, 0)
}

// awake is for how long a thread that waits keeps its processor of Go's. To get one anew takes
// several system calls and wakes a thread of the runtime, which is most of what a wake costs; what
// comes every now and then need not pay that. It ends before the runtime would complain (10 ms).
const awake = 5_000_000 // ns

// futexWait blocks the thread; with keep it does not give its processor to other goroutines before
// a while is over. It reports whether it was woken within that: then keep is of use the next time.
func futexWait(word *atomic.Uint32, is uint32, timeout int64, keep bool) (soon bool) {
	const futexWait = 0
	call := syscall.Syscall6
	if keep {
		call = syscall.RawSyscall6
	}
	first := int64(awake)
	if timeout >= 0 {
		first = min(first, timeout)
	}
	ts := syscall.NsecToTimespec(first)
	_, _, errno := call(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(is), uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno != syscall.ETIMEDOUT || first == timeout {
		return errno == 0
	}
	var rest *syscall.Timespec
	if timeout >= 0 {
		ts = syscall.NsecToTimespec(timeout - first)
		rest = &ts
	}
	syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(is), uintptr(unsafe.Pointer(rest)), 0, 0)
	return false
}

// A Pair is the two rings of an NF, in one file.
type Pair struct {
	file *os.File
	mapping
	// Receive carries packets to the NF, Transmit from it.
	Receive, Transmit *Ring
}

// OpenPair maps the rings that the manager made.
func OpenPair(f *os.File) (*Pair, error) {
	mapped, err := mapFile(f, syscall.PROT_READ|syscall.PROT_WRITE)
	if err != nil {
		return nil, fmt.Errorf("rings: %w", err)
	}
	return pairOf(f, mapped), nil
}

func pairOf(f *os.File, mapped mapping) *Pair {
	data := mapped.data
	half := len(data) / 2
	slots := (half - int(unsafe.Sizeof(ringHead{}))) / descSize
	return &Pair{f, mapped, ringAt(data[:half], slots), ringAt(data[half:], slots)}
}

// File returns the rings' file, to hand to the NF.
func (p *Pair) File() *os.File { return p.file }

// Close unmaps the rings and closes their file.
func (p *Pair) Close() error {
	err := p.unmap()
	if cerr := p.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// A Bell wakes one thread that has many rings to read, and files to poll: whoever publishes on
// one rings it. Its word says whether the thread sleeps; an eventfd(2) wakes it.
type Bell struct {
	file, event *os.File
	mapping
	word *atomic.Uint32
}

// OpenBell maps a bell of another process.
func OpenBell(word, event *os.File) (*Bell, error) {
	mapped, err := mapFile(word, syscall.PROT_READ|syscall.PROT_WRITE)
	if err != nil {
		return nil, fmt.Errorf("doorbell: %w", err)
	}
	return bellOf(word, event, mapped), nil
}

func bellOf(word, event *os.File, mapped mapping) *Bell {
	return &Bell{word, event, mapped, (*atomic.Uint32)(unsafe.Pointer(&mapped.data[0]))}
}

// Files returns the files of the bell, to hand to another process and to OpenBell.
func (b *Bell) Files() (word, event *os.File) { return b.file, b.event }

// Ring wakes the sleeper, if it sleeps.
func (b *Bell) Ring() {
	if b.word.Load() != 0 && b.word.Swap(0) != 0 {
		one := [8]byte{1}
		syscall.RawSyscall(syscall.SYS_WRITE, b.event.Fd(), uintptr(unsafe.Pointer(&one)), 8)
	}
}

// Close unmaps the bell and closes its files.
func (b *Bell) Close() error {
	return errors.Join(b.unmap(), b.file.Close(), b.event.Close())
}
