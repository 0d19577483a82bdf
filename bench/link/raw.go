package main

import (
	"fmt"
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSource sends the shortest Ethernet frames, of a protocol that nobody listens to (IEEE
// 802's local experimental type): what is measured is the link and not what is behind it.
func rawSource(c loadConfig) (Sent, error) {
	var s Sent
	const local = 0x88b5
	dev, err := net.InterfaceByName("eth0")
	if err != nil {
		return s, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return s, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return s, fmt.Errorf("qdisc bypass: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: dev.Index}); err != nil {
		return s, err
	}
	frame := make([]byte, 60) // 64 with the frame check sequence
	copy(frame, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, local >> 8, local & 255})
	var msgs [batchSize]mmsghdr
	iov := unix.Iovec{Base: &frame[0]}
	iov.SetLen(len(frame))
	for i := range msgs {
		msgs[i].hdr.Iov = &iov
		msgs[i].hdr.SetIovlen(1)
	}
	start := time.Now()
	for time.Since(start) < c.duration {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs)), batchSize, 0, 0, 0)
		if errno != 0 && errno != unix.ENOBUFS {
			return s, errno
		}
		if errno == 0 {
			s.Frames += uint64(n)
		}
	}
	s.Seconds = time.Since(start).Seconds()
	return s, nil
}
