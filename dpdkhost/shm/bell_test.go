package shm

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A bell that rings is readable until the sleeper is awake, and only then.
func TestBell(t *testing.T) {
	b, err := NewBell()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, event := b.Files()
	readable := func() bool {
		list := []unix.PollFd{{Fd: int32(event.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(list, 0)
		return n == 1 && err == nil
	}
	b.Ring()
	if readable() {
		t.Error("it rings for one who is awake")
	}
	for range 2 {
		b.Sleep()
		b.Ring()
		b.Ring()
		if !readable() {
			t.Error("it does not ring")
		}
		b.Awake(true)
		if readable() {
			t.Error("it rings after its sleeper is awake")
		}
	}
	b.Sleep()
	b.Awake(false)
	if b.Ring(); readable() {
		t.Error("it rings for one who is awake")
	}
}

// A process that empties the bell cannot make the sleeper wait.
func TestBellEmptied(t *testing.T) {
	b, err := NewBell()
	if err != nil {
		t.Fatal(err)
	}
	_, event := b.Files()
	for range 2 {
		b.Sleep()
		b.Ring()
		var count [8]byte
		if n, err := unix.Read(int(event.Fd()), count[:]); n != 8 || err != nil {
			t.Fatal(n, err)
		}
		done := make(chan struct{})
		go func() { b.Awake(true); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("it waits for a bell that was emptied")
		}
	}
	// Go's runtime watches files that do not block, and would wake at each ring.
	if flags, err := unix.FcntlInt(event.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags of the event file: %#x, %v", flags, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// A wait ends when it is due or woken, before and after the thread has given its processor away.
func TestWait(t *testing.T) {
	p, err := NewPair(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, d := range []int64{0, awake / 2, awake, 3 * awake} {
		p.Receive.Wait(d, nil) // nobody wakes it
	}
	for _, before := range []time.Duration{0, awake / 4, 3 * awake} {
		done := make(chan struct{})
		go func() { p.Receive.Wait(-1, nil); close(done) }()
		time.Sleep(before)
		for waiting := true; waiting; {
			p.Receive.Wake() // the other may not sleep yet
			select {
			case <-done:
				waiting = false
			case <-time.After(time.Millisecond):
			}
		}
	}
}
