package nic

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

// whole asks the kernel for a list again while changes elsewhere cut into its answer, which then
// may lack something (NLM_F_DUMP_INTR, Documentation/userspace-api/netlink/intro.rst).
func whole[T any](ask func() ([]T, error)) (list []T, err error) {
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		if list, err = ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		time.Sleep(wait)
	}
	return list, err
}
