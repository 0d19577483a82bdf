// Package probe is weft's own ping and iperf. Its sockets are opened inside the
// network namespaces of the hosts and stay there wherever they are used from, so a
// probe needs no program on a host and no process in its namespace: one loop pings
// between a thousand hosts.
//
// It imports nothing else of weft and knows nothing of networks: a Host is a name,
// its addresses and a way into its namespace.
package probe

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A Host is where probes run.
type Host struct {
	Name string
	// IP and IP6 are the addresses that others reach the host at, without a zone;
	// either may be the zero Addr.
	IP, IP6 netip.Addr
	// Do calls f on a thread that is inside the host's network namespace. The
	// probes only open sockets there; they never block in f. It may be nil for a
	// host that is only pinged.
	Do func(f func() error) error
}

// addr returns the host's IPv4 or IPv6 address, invalid if it has none.
func (h Host) addr(ipv6 bool) netip.Addr {
	if ipv6 {
		return h.IP6.WithZone("")
	}
	return h.IP.Unmap()
}

// noAddress says that a host cannot be probed.
func (h Host) noAddress(ipv6 bool) string {
	if ipv6 {
		return h.Name + " has no IPv6 address"
	}
	return h.Name + " has no IPv4 address"
}

// socket opens a socket inside the host's namespace; it closes the socket again if
// setup, which runs there too, fails.
func (h Host) socket(ipv6 bool, typ, proto int, setup func(fd int) error) (int, error) {
	fd := -1
	err := h.Do(func() (err error) {
		family := unix.AF_INET
		if ipv6 {
			family = unix.AF_INET6
		}
		if fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto); err != nil {
			return err
		}
		return setup(fd)
	})
	if err != nil && fd >= 0 {
		unix.Close(fd)
	}
	return fd, err
}

// sockaddr is addr and port as the kernel takes them.
func sockaddr(addr netip.Addr, port int) unix.Sockaddr {
	if addr.Is4() {
		return &unix.SockaddrInet4{Addr: addr.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: addr.As16(), Port: port}
}

// pollSlice is how long a wait in the kernel lasts at most before its loop looks
// whether it was cancelled.
const pollSlice = 50 * time.Millisecond

// waitFor waits until fd is ready for events (unix.POLLIN, unix.POLLOUT), and returns
// unix.ETIMEDOUT at the deadline.
func waitFor(ctx context.Context, fd int, events int16, deadline time.Time) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, int(min(left, pollSlice)/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
}
