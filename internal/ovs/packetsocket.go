package ovs

import (
	"os"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ovs-vswitchd reads each port of the user datapath from an AF_PACKET socket. The engine
// reaches those sockets by pidfd_getfd(2).

// receiveBuffer is how much a port may have waiting, bytes. The kernel's default holds three
// segments of 64 KiB: one time slice of a busy machine, and TCP loses most of them.
const receiveBuffer = 8 << 20

// tendPacketSockets gives the packet sockets of process pid a receive buffer of receiveBuffer,
// or the most that the system allows an ordinary user (net.core.rmem_max), and keeps frames of
// an EtherType from them, if it is not 0. Those in tended, by inode, it leaves alone, and adds
// the others there.
func tendPacketSockets(pid int, ignore uint16, tended map[uint64]bool) {
	filter := portFilter(ignore)
	eachPacketSocket(pid, func(fd int) {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			if tended[st.Ino] {
				unix.Close(fd)
				return
			}
			tended[st.Ino] = true
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
		if ignore != 0 {
			unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
		}
		unix.Close(fd)
	})
}

// memInfoDrops is the place of the drops in what SO_MEMINFO returns (SK_MEMINFO_DROPS of
// linux/sock_diag.h), and memInfoLen how much that is.
const (
	memInfoDrops = 8
	memInfoLen   = 9
)

// SocketDrops returns how many frames the ports' packet sockets had no room for: 0 where the
// kernel forwards.
func (i *Instance) SocketDrops() (drops uint64) {
	i.mu.Lock()
	vswitch := i.vswitch
	i.mu.Unlock()
	if vswitch == nil {
		return 0
	}
	eachPacketSocket(vswitch.cmd.Process.Pid, func(fd int) {
		defer unix.Close(fd)
		var info [memInfoLen]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 && int(size) >= 4*(memInfoDrops+1) {
			drops += uint64(info[memInfoDrops])
		}
	})
	return drops
}

// portFilter is what ovs-vswitchd's own filter is, nothing that goes out, without frames of an
// EtherType.
func portFilter(ignore uint16) []unix.SockFilter {
	const packetType = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: packetType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PACKET_OUTGOING, Jt: 3},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(ignore), Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

// holdPacketSockets duplicates the packet sockets of process pid into this one; release
// closes them, many at a time.
//
// The kernel waits for an RCU grace period (10 to 20 ms) when the last reference to a
// packet socket goes (packet_release). A dying process closes its files one after the
// other: 15 s for 1,000 ports. Grace periods are shared by those who wait at the same
// time.
func holdPacketSockets(pid int) (release func()) {
	var held []int
	eachPacketSocket(pid, func(fd int) { held = append(held, fd) })
	return func() {
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
}

// eachPacketSocket calls f with a duplicate, which f owns, of each packet socket of
// process pid.
func eachPacketSocket(pid int, f func(fd int)) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
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
			f(fd)
		} else {
			unix.Close(fd)
		}
	}
}
