package ovs

import (
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// holdPacketSockets duplicates the AF_PACKET sockets of process pid into this one; release
// closes them, many at a time.
//
// The kernel waits for an RCU grace period (10 to 20 ms) when the last reference to a
// packet socket goes (packet_release). ovs-vswitchd has one socket per port of the user
// datapath, and a dying process closes its files one after the other: 15 s for 1,000
// ports. Grace periods are shared by those who wait at the same time.
func holdPacketSockets(pid int) (release func()) {
	var held []int
	release = func() {
		var wg sync.WaitGroup
		next := make(chan int)
		for range min(len(held), 256) {
			wg.Go(func() {
				for fd := range next {
					unix.Close(fd)
				}
			})
		}
		for _, fd := range held {
			next <- fd
		}
		close(next)
		wg.Wait()
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return release
	}
	defer unix.Close(pidfd)
	entries, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			continue
		}
		if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_PACKET {
			held = append(held, fd)
		} else {
			unix.Close(fd)
		}
	}
	return release
}
