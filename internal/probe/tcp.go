package probe

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tcpChunk = 1 << 20 // bytes sent or received with one system call
	// tcpUnsent bounds what waits in the sender's socket beyond its congestion
	// window, so that the end of a run does not wait for megabytes on a slow link.
	tcpUnsent = 1 << 20
)

// measureTCP measures TCP. Each side is a goroutine in blocking system calls. The
// sender sends the same memory over and over with sendfile, so that the kernel
// passes references to its pages instead of copies; the receiver discards what
// arrives inside the kernel. What is measured is the network between.
func measureTCP(ctx context.Context, cfg IperfConfig, result *IperfResult) error {
	client, server, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer unix.Close(client)
	defer unix.Close(server)
	source, err := zeros(tcpChunk)
	if err != nil {
		return err
	}
	defer unix.Close(source)

	var received atomic.Uint64
	var stop atomic.Bool
	broken := make(chan error, 2)
	sender, receiver := make(chan struct{}), make(chan struct{})
	start := time.Now()
	go func() {
		defer close(sender)
		for !stop.Load() {
			var from int64
			if _, err := unix.Sendfile(client, source, &from, tcpChunk); err != nil && err != unix.EINTR {
				broken <- fmt.Errorf("send: %w", err)
				return
			}
		}
	}()
	go func() {
		defer close(receiver)
		buf := make([]byte, tcpChunk) // never written to
		for {
			n, _, err := unix.Recvfrom(server, buf, unix.MSG_TRUNC)
			switch {
			case err == unix.EINTR:
			case err != nil:
				broken <- fmt.Errorf("receive: %w", err)
				return
			case n == 0:
				return
			default:
				received.Add(uint64(n))
			}
		}
	}()

	result.Intervals, err = meter(ctx, start, cfg.Duration, &received, broken)
	result.Duration = time.Since(start)
	result.Bytes = received.Load()
	result.ServerBps = bps(result.Bytes, result.Duration)
	if info, err := unix.GetsockoptTCPInfo(client, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
		result.ClientBps = bps(info.Bytes_acked, result.Duration)
		result.Retransmits = uint64(info.Total_retrans)
	}

	// A blocked sender is woken by the end of its direction, a receiver by that of
	// the connection; what is on its way has a moment to arrive.
	stop.Store(true)
	unix.Shutdown(client, unix.SHUT_WR)
	if err == nil {
		select {
		case <-receiver:
		case <-ctx.Done():
		case <-time.After(settleWithin):
		}
	}
	unix.Shutdown(client, unix.SHUT_RDWR)
	unix.Shutdown(server, unix.SHUT_RDWR)
	<-sender
	<-receiver
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("the connection broke after %.1f s: %w", result.Duration.Seconds(), err)
	case result.Bytes == 0:
		return fmt.Errorf("connected, but %s received nothing in %v: do full-size packets get through (MTU, checksum offload)?", cfg.Server.Name, cfg.Duration)
	}
	return nil
}

// connect makes a TCP connection from the client to the server and returns both ends,
// in blocking mode.
func connect(ctx context.Context, cfg IperfConfig) (client, server int, err error) {
	listener, err := cfg.Server.bind(cfg, unix.SOCK_STREAM)
	if err != nil {
		return -1, -1, err
	}
	defer unix.Close(listener)
	if err := unix.Listen(listener, 1); err != nil {
		return -1, -1, fmt.Errorf("listen on %s: %w", cfg.Server.Name, err)
	}
	port, err := boundPort(listener)
	if err != nil {
		return -1, -1, err
	}
	peer := sockaddr(cfg.Server.addr(cfg.IPv6), port)
	client, err = cfg.Client.socket(cfg.IPv6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, tcpUnsent)
	})
	if err != nil {
		return -1, -1, fmt.Errorf("open a socket on %s: %w", cfg.Client.Name, err)
	}
	defer func() {
		if err != nil {
			unix.Close(client)
		}
	}()
	deadline := time.Now().Add(answerWithin)
	if err = unix.Connect(client, peer); err == unix.EINPROGRESS {
		if err = waitFor(ctx, client, unix.POLLOUT, deadline); err == nil {
			var code int
			if code, err = unix.GetsockoptInt(client, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
				err = unix.Errno(code)
			}
		}
	}
	if err == nil {
		err = waitFor(ctx, listener, unix.POLLIN, deadline)
	}
	if err == nil {
		server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, unix.ETIMEDOUT):
		err = fmt.Errorf("%s did not accept a connection from %s within %v", cfg.Server.Name, cfg.Client.Name, answerWithin)
	case err != nil:
		err = fmt.Errorf("connect: %w", err)
	default:
		err = unix.SetNonblock(client, false)
	}
	return client, server, err
}

// bind opens a socket on the host that is bound to cfg.Port.
func (h Host) bind(cfg IperfConfig, typ int) (int, error) {
	fd, err := h.socket(cfg.IPv6, typ, 0, func(fd int) error {
		if typ == unix.SOCK_STREAM {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
				return err
			}
		}
		return unix.Bind(fd, sockaddr(h.addr(cfg.IPv6), cfg.Port))
	})
	if err != nil {
		return -1, fmt.Errorf("listen on port %d of %s: %w", cfg.Port, h.Name, err)
	}
	return fd, nil
}

// boundPort returns the port that a socket is bound to.
func boundPort(fd int) (int, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("getsockname: %w", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return name.Port, nil
	case *unix.SockaddrInet6:
		return name.Port, nil
	}
	return 0, fmt.Errorf("getsockname: not an Internet address: %T", name)
}

// zeros returns a file of size zero bytes that is in memory.
func zeros(size int) (int, error) {
	fd, err := unix.MemfdCreate("iperf", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if _, err := unix.Write(fd, make([]byte, size)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("fill memory to send: %w", err)
	}
	return fd, nil
}
