// Package managertest has a running NF manager with ports in memory, for tests. It may import
// dpdkhost/manager, dpdkhost/nf and dpdkhost/shm.
package managertest

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

// A Queue is a port in memory.
type Queue struct {
	mu   sync.Mutex
	in   [][]byte
	sent [][]byte
}

func (q *Queue) Receive(into []shm.Desc, pool *manager.Pool) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(into) && len(q.in) > 0 {
		frame, ok := pool.Get(len(q.in[0]))
		if !ok {
			break
		}
		into[n] = shm.Desc{Frame: frame, Offset: shm.Headroom, Length: uint32(len(q.in[0]))}
		copy(pool.Memory().Packet(&into[n]), q.in[0])
		q.in = q.in[1:]
		n++
	}
	return n
}

func (q *Queue) Send(list []shm.Desc, pool *manager.Pool) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range list {
		q.sent = append(q.sent, slices.Clone(pool.Memory().Packet(&list[i])))
		pool.Free(list[i].Frame)
	}
	return len(list)
}

func (q *Queue) FD() int      { return -1 }
func (q *Queue) Close() error { return nil }

// A Lab has a running manager with two queues as its ports 1 and 2.
type Lab struct {
	*manager.Manager
	t      testing.TB
	Queues [2]*Queue
	small  int
	large  int
}

// New makes a lab that ends with the test.
func New(t testing.TB) *Lab {
	m, err := manager.New(manager.Config{Frames: 1024, Large: 8})
	if err != nil {
		t.Fatal(err)
	}
	b := &Lab{Manager: m, t: t}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	b.small, b.large, _ = m.Left()
	for i := range b.Queues {
		b.Queues[i] = &Queue{}
		if err := m.AddPort(uint16(i+1), "queue", b.Queues[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// Take returns what was sent out of the port since the last time.
func (q *Queue) Take() (sent []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range q.sent {
		sent = append(sent, string(p))
	}
	q.sent = nil
	return sent
}

// Put lets packets come in by the port when the manager looks next.
func (q *Queue) Put(packets ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range packets {
		q.in = append(q.in, []byte(p))
	}
}

// Send lets packets come in by port 1.
func (b *Lab) Send(packets ...string) {
	b.Queues[0].Put(packets...)
	b.Do(func() {})
}

// Arrive waits for packets at port 2 and takes them.
func (b *Lab) Arrive(want ...string) {
	b.t.Helper()
	var got []string
	b.Eventually("packets", func() bool {
		b.Do(func() {})
		got = append(got, b.Queues[1].Take()...)
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		b.t.Fatalf("packets %q, want %q", got, want)
	}
}

// Eventually waits for something, 20 s at most.
func (b *Lab) Eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// Whole checks that all frames are free.
func (b *Lab) Whole() {
	b.t.Helper()
	b.Eventually("all frames free", func() bool {
		small, large, _ := b.Left()
		return small == b.small && large == b.large
	})
}

// Must ends the test at an error.
func (b *Lab) Must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// RunNF lets an NF work by its rings until the test ends or stop is called, with mappings of its
// own as in a process of its own.
func (b *Lab) RunNF(rings *shm.Pair, mem *shm.Memory, f nf.Function) (stop func()) {
	b.t.Helper()
	again := func(f *os.File) *os.File {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		b.Must(err)
		return os.NewFile(uintptr(fd), f.Name())
	}
	rings, err := shm.OpenPair(again(rings.File()))
	b.Must(err)
	small, large := mem.Frames()
	mem, err = shm.OpenMemory(again(mem.File()), small, large, false)
	b.Must(err)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		defer rings.Close()
		defer mem.Close()
		e := &nf.Edge{Memory: mem, Rings: rings, Bell: b.Bell()}
		for {
			select {
			case <-done:
				return
			default:
			}
			if e.Turn(f) == 0 {
				b.Bell().Ring()
				rings.Receive.Wait(int64(time.Millisecond), nil)
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(done); <-stopped })
	b.t.Cleanup(stop)
	return stop
}
