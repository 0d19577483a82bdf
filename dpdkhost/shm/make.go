package shm

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What only the manager does.

// NewMemory makes memory for a number of frames and of large frames. It lies on huge pages
// where the machine has enough of them free: a quarter faster. Its size is sealed: who gets
// the file cannot cut it off under others (memfd_create(2)).
func NewMemory(frames, large int) (*Memory, error) {
	if frames <= 0 || frames > maxFrames || large < 0 || large > maxFrames {
		return nil, fmt.Errorf("packet memory of %d and %d frames: at most %d", frames, large, maxFrames)
	}
	size := frames*FrameSize + large*LargeSize
	f, mapped, err := anonymous("weft-frames", size, unix.MFD_HUGETLB)
	if err != nil {
		f, mapped, err = anonymous("weft-frames", size, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("packet memory of %d frames: %w", frames, err)
	}
	return &Memory{file: f, mapping: mapped, small: uint32(frames), large: uint32(large)}, nil
}

// anonymous makes a sealed file in memory and maps it.
func anonymous(name string, size int, flags int) (*os.File, mapping, error) {
	if flags&unix.MFD_HUGETLB != 0 {
		size = (size + hugePage - 1) &^ (hugePage - 1)
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|flags)
	if err != nil {
		return nil, mapping{}, err
	}
	f := os.NewFile(uintptr(fd), name)
	var mapped mapping
	if err = unix.Ftruncate(fd, int64(size)); err == nil {
		mapped, err = mapPages(f, size, syscall.PROT_READ|syscall.PROT_WRITE)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		return nil, mapping{}, errors.Join(err, f.Close())
	}
	return f, mapped, nil
}

// maxSlots bounds a ring.
const maxSlots = 1 << 20

// NewPair makes the rings of an NF, each with so many slots, a power of two.
func NewPair(slots int) (*Pair, error) {
	if slots < 2 || slots > maxSlots || slots&(slots-1) != 0 {
		return nil, fmt.Errorf("a ring of %d slots: write a power of two from 2 to %d", slots, maxSlots)
	}
	f, mapped, err := anonymous("weft-rings", 2*ringBytes(slots), 0)
	if err != nil {
		return nil, fmt.Errorf("rings: %w", err)
	}
	return pairOf(f, mapped), nil
}

// NewBell makes a bell.
func NewBell() (*Bell, error) {
	f, mapped, err := anonymous("weft-bell", unix.Getpagesize(), 0)
	if err != nil {
		return nil, fmt.Errorf("doorbell: %w", err)
	}
	// Not EFD_NONBLOCK: what does not block, Go's runtime watches, in each process that has the
	// file, and wakes a thread of its own whenever the bell rings.
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("doorbell: %w", err)
	}
	return bellOf(f, os.NewFile(uintptr(fd), "weft-bell"), mapped), nil
}

// Sleep says that the thread is about to wait for the bell's event file. If it finds work
// after that, or has waited, it says Awake.
func (b *Bell) Sleep() { b.word.Store(1) }

// Awake takes Sleep back, and empties the event file if the bell has rung, as epoll(7) says.
func (b *Bell) Awake(rung bool) {
	b.word.Store(0)
	if !rung {
		return
	}
	var count [8]byte
	iov := unix.Iovec{Base: &count[0], Len: 8}
	// A hostile NF may have emptied it, and the manager waits for nobody: not read(2).
	_, _, errno := unix.RawSyscall6(unix.SYS_PREADV2, b.event.Fd(), uintptr(unsafe.Pointer(&iov)), 1, ^uintptr(0), ^uintptr(0), unix.RWF_NOWAIT)
	if errno == unix.EOPNOTSUPP || errno == unix.ENOSYS { // before Linux 5.8
		unix.RawSyscall(unix.SYS_READ, b.event.Fd(), uintptr(unsafe.Pointer(&count)), 8)
	}
}
