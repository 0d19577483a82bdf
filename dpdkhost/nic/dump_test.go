package nic

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

// A list that was interrupted is asked for again; other errors are errors.
func TestWhole(t *testing.T) {
	calls := 0
	list, err := whole(func() ([]int, error) {
		if calls++; calls < 3 {
			return []int{1}, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
		}
		return []int{1, 2}, nil
	})
	if err != nil || len(list) != 2 || calls != 3 {
		t.Errorf("%v, %v after %d calls", list, err, calls)
	}
	calls = 0
	other := errors.New("other")
	if _, err := whole(func() ([]int, error) { calls++; return nil, other }); err != other || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
