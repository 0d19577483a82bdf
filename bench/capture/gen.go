package main

import (
	"fmt"
	"net"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr (sendmmsg(2)).
type mmsghdr struct {
	hdr unix.Msghdr
	_   uint32
	_   [4]byte
}

// batch is how many frames one call sends.
const batch = 64

// generate sends frames of size bytes on a device for a time, rate a second (0: as many
// as it can), and returns how many. They are UDP to a neighbour that does not exist.
func generate(device string, size int, span time.Duration, rate int) (int, error) {
	runtime.LockOSThread()
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return 0, fmt.Errorf("packet socket: %w", err)
	}
	defer unix.Close(fd)
	// Past the queue of the device: it would be the bottleneck. The tap of captures is
	// before it, so the frames are captured where they arrive.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return 0, fmt.Errorf("past the queue: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: dev.Index}); err != nil {
		return 0, fmt.Errorf("bind to %s: %w", device, err)
	}
	frame := make([]byte, size)
	copy(frame, []byte{2, 0, 0, 0, 0, 9})
	copy(frame[6:], dev.HardwareAddr)
	copy(frame[12:], []byte{8, 0, 0x45, 0, byte((size - 14) >> 8), byte(size - 14), 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 9})
	iov := unix.Iovec{Base: &frame[0], Len: uint64(size)}
	var msgs [batch]mmsghdr
	for i := range msgs {
		msgs[i].hdr.Iov, msgs[i].hdr.Iovlen = &iov, 1
	}
	sent := 0
	start := time.Now()
	for end := start.Add(span); time.Now().Before(end); {
		if rate > 0 && float64(sent) > time.Since(start).Seconds()*float64(rate) {
			continue
		}
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs)), batch, 0, 0, 0)
		switch errno {
		case 0:
			sent += int(n)
		case unix.ENOBUFS, unix.EAGAIN, unix.EINTR:
		default:
			return sent, fmt.Errorf("send on %s: %w", device, errno)
		}
	}
	return sent, nil
}
