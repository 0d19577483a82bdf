package wire

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"weft/internal/device"
	"weft/internal/vnet"
)

// A receipt takes a frame from a packet socket, with the VLAN tag that the kernel has taken out of
// it, which read(2) would lose. It stays where it is while the kernel fills it.
type receipt struct {
	msg unix.Msghdr
	iov unix.Iovec
	aux device.Aux
}

// prepare says where the frame is to be written, its virtio header first; the end is left free for
// a tag.
func (r *receipt) prepare(space []byte) *unix.Msghdr {
	r.iov.Base = &space[0]
	r.iov.SetLen(len(space) - device.TagLen)
	r.msg = unix.Msghdr{Iov: &r.iov, Control: &r.aux[0]}
	r.msg.SetIovlen(1)
	r.msg.SetControllen(len(r.aux))
	return &r.msg
}

// complete puts the tag back and returns the length of header and frame, which without it was n.
func (r *receipt) complete(space []byte, n int) int {
	tag, ok := r.aux.Tag(int(r.msg.Controllen))
	if !ok || n < vnet.Len+device.TagAt {
		return n
	}
	const at = vnet.Len + device.TagAt
	copy(space[at+device.TagLen:], space[at:n])
	copy(space[at:], tag[:])
	vnet.Moved(space, device.TagLen)
	return n + device.TagLen
}

// receive takes one frame.
func (r *receipt) receive(fd int, space []byte) (n int, errno unix.Errno) {
	size, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(r.prepare(space))), unix.MSG_DONTWAIT)
	if errno != 0 {
		return 0, errno
	}
	return r.complete(space, int(size)), 0
}
