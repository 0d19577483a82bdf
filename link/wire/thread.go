package wire

import (
	"bytes"
	"log/slog"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// schedAttr is struct sched_attr (sched_setattr(2)), its first version.
type schedAttr struct {
	size, policy              uint32
	flags                     uint64
	nice                      int32
	priority                  uint32
	runtime, deadline, period uint64
}

// shortSlice is the slice of a thread that is to wait for a core as little as it may: the least
// that there is, ns (Linux 6.12; others take no notice).
const shortSlice = 100_000

// prefer asks that the calling thread gets a core as soon as it has something to do: as a
// real-time thread where that is permitted (root), else as one that is nice to no one, else as
// one that asks for short turns.
func prefer(log *slog.Logger) {
	set := func(a schedAttr) error {
		a.size = uint32(unsafe.Sizeof(a))
		a.flags = unix.SCHED_FLAG_RESET_ON_FORK
		if _, _, errno := unix.Syscall(unix.SYS_SCHED_SETATTR, 0, uintptr(unsafe.Pointer(&a)), 0); errno != 0 {
			return errno
		}
		return nil
	}
	if set(schedAttr{policy: unix.SCHED_FIFO, priority: 1}) == nil {
		return
	}
	if set(schedAttr{nice: -20, runtime: shortSlice}) == nil {
		return
	}
	if err := set(schedAttr{runtime: shortSlice}); err != nil {
		log.Debug("wires run at ordinary priority", "error", err)
	}
}

// A spinner decides whether to wait for the last microseconds before a time awake: the kernel
// wakes a thread some microseconds late, a little later each time than it need be, and the
// time until then may be had for nothing if a core has nothing else to do.
type spinner struct {
	loadavg int   // a descriptor, -1 if there is none
	late    int64 // the median of how late the kernel is, ns
	asked   int64 // when the kernel was asked for the load
	idle    bool  // a core was
}

const (
	// maxSpin bounds the time awake before a time, ns.
	maxSpin = 50_000
	// lateStep is by how much an observation moves the median, ns.
	lateStep = 250
	// loadInterval is how long an answer about the load holds, ns.
	loadInterval = 5_000_000
)

func newSpinner() *spinner {
	fd, err := unix.Open("/proc/loadavg", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	return &spinner{loadavg: fd}
}

func (s *spinner) close() {
	if s.loadavg >= 0 {
		unix.Close(s.loadavg)
	}
}

// woken learns from how late the kernel was.
func (s *spinner) woken(late int64) {
	if late > s.late {
		s.late = min(s.late+lateStep, maxSpin)
	} else {
		s.late = max(s.late-lateStep, 0)
	}
}

// margin returns how long before a time to be woken.
func (s *spinner) margin(now int64) int64 {
	if now-s.asked > loadInterval {
		s.asked = now
		s.idle = s.idleCore()
	}
	if !s.idle {
		return 0
	}
	return s.late
}

// idleCore reports whether there are no more threads that can run than cores.
func (s *spinner) idleCore() bool {
	var b [64]byte
	if s.loadavg < 0 {
		return false
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(s.loadavg), uintptr(unsafe.Pointer(&b)), uintptr(len(b)), 0, 0, 0)
	return errno == 0 && runnable(b[:n]) <= runtime.NumCPU()
}

// runnable returns how many threads can run, from proc_loadavg(5): "0.20 0.18 0.12 1/80 11206".
func runnable(loadavg []byte) int {
	for range 3 {
		_, loadavg, _ = bytes.Cut(loadavg, []byte{' '})
	}
	running, _, _ := bytes.Cut(loadavg, []byte{'/'})
	n, err := strconv.Atoi(string(running))
	if err != nil {
		return 1 << 30
	}
	return n
}
