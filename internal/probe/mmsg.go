package probe

import (
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A batch holds messages that are sent or received with one system call.
type batch struct {
	msgs    []mmsghdr
	iovecs  []unix.Iovec
	buffers [][]byte
	names   []unix.RawSockaddrInet6 // the larger of the two families
	control []byte                  // controlSize bytes for each message
}

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // bytes received or sent
}

// controlSize has room for a timestamp.
const controlSize = 64

// newBatch returns a batch of n messages with a buffer of size bytes each.
func newBatch(n, size int) *batch {
	b := &batch{
		msgs:    make([]mmsghdr, n),
		iovecs:  make([]unix.Iovec, n),
		buffers: make([][]byte, n),
		names:   make([]unix.RawSockaddrInet6, n),
		control: make([]byte, n*controlSize),
	}
	for i := range n {
		b.buffers[i] = make([]byte, size)
		b.iovecs[i].Base = &b.buffers[i][0]
		b.iovecs[i].SetLen(size)
		b.msgs[i].hdr.Iov = &b.iovecs[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

// recv receives as many messages as are there, with their senders and timestamps. A
// blocking socket waits for the first.
func (b *batch) recv(fd, flags int) (int, error) {
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = unix.SizeofSockaddrInet6
		h.Control = &b.control[i*controlSize]
		h.SetControllen(controlSize)
	}
	return b.call(unix.SYS_RECVMMSG, fd, len(b.msgs), flags|unix.MSG_WAITFORONE)
}

// send sends the first n buffers to the peer of a connected socket and returns how
// many were sent.
func (b *batch) send(fd, n int) (int, error) {
	return b.call(unix.SYS_SENDMMSG, fd, n, unix.MSG_NOSIGNAL)
}

func (b *batch) call(trap uintptr, fd, n, flags int) (int, error) {
	for {
		done, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), uintptr(n), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return int(done), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// data returns what was received of message i, as far as it fitted.
func (b *batch) data(i int) []byte {
	return b.buffers[i][:min(int(b.msgs[i].n), len(b.buffers[i]))]
}

// size returns the length of message i as it was received; it exceeds data's if the
// message was received with unix.MSG_TRUNC and did not fit.
func (b *batch) size(i int) int { return int(b.msgs[i].n) }

// from returns the sender of message i.
func (b *batch) from(i int) netip.Addr {
	switch name := &b.names[i]; name.Family {
	case unix.AF_INET:
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	case unix.AF_INET6:
		return netip.AddrFrom16(name.Addr)
	}
	return netip.Addr{}
}

// arrival returns when the kernel received message i, or fallback if it did not say.
// The socket must have SO_TIMESTAMPNS on and no other control messages.
func (b *batch) arrival(i int, fallback time.Time) time.Time {
	control := b.control[i*controlSize:]
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if int(b.msgs[i].hdr.Controllen) < unix.CmsgLen(int(unsafe.Sizeof(unix.Timespec{}))) ||
		header.Level != unix.SOL_SOCKET || header.Type != unix.SO_TIMESTAMPNS {
		return fallback
	}
	at := (*unix.Timespec)(unsafe.Pointer(&control[unix.CmsgLen(0)]))
	return time.Unix(at.Unix())
}
