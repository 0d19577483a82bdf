package nic

import (
	"os"

	"golang.org/x/sys/unix"
)

// locked reports whether a process holds a record lock on a file, as the DPDK primary does on
// its config as long as it lives.
func (Root) locked(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_RDLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return true // better to leave a file than to take it
	}
	return lock.Type != unix.F_UNLCK
}
