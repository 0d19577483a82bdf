package manager

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

// A queue is a port in memory.
type queue struct {
	mu   sync.Mutex
	in   [][]byte
	sent [][]byte
}

func (q *queue) Receive(into []shm.Desc, pool *Pool) int {
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

func (q *queue) Send(list []shm.Desc, pool *Pool) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range list {
		q.sent = append(q.sent, slices.Clone(pool.Memory().Packet(&list[i])))
		pool.Free(list[i].Frame)
	}
	return len(list)
}

func (q *queue) FD() int      { return -1 }
func (q *queue) Close() error { return nil }

// A bench has a running manager with two queues as its ports 1 and 2.
type bench struct {
	*Manager
	t     *testing.T
	ports [2]*queue
	small int
	large int
}

func newBench(t *testing.T) *bench {
	m, err := New(Config{Frames: 1024, Large: 8})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Manager: m, t: t}
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
	for i := range b.ports {
		b.ports[i] = &queue{}
		if err := m.AddPort(uint16(i+1), "queue", b.ports[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// send lets packets come in by port 1.
func (b *bench) send(packets ...string) {
	b.ports[0].mu.Lock()
	for _, p := range packets {
		b.ports[0].in = append(b.ports[0].in, []byte(p))
	}
	b.ports[0].mu.Unlock()
	b.Do(func() {})
}

// arrive waits for packets at port 2 and takes them.
func (b *bench) arrive(want ...string) {
	b.t.Helper()
	var got []string
	b.eventually("packets", func() bool {
		b.Do(func() {})
		b.ports[1].mu.Lock()
		defer b.ports[1].mu.Unlock()
		for _, p := range b.ports[1].sent {
			got = append(got, string(p))
		}
		b.ports[1].sent = nil
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		b.t.Fatalf("packets %q, want %q", got, want)
	}
}

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// whole checks that all frames are free.
func (b *bench) whole() {
	b.t.Helper()
	b.eventually("all frames free", func() bool {
		small, large, _ := b.Left()
		return small == b.small && large == b.large
	})
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// run lets an NF work by its rings until the test ends or stop is called, with mappings of its
// own as in a process of its own.
func (b *bench) run(rings *shm.Pair, mem *shm.Memory, f nf.Function) (stop func()) {
	b.t.Helper()
	again := func(f *os.File) *os.File {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		b.must(err)
		return os.NewFile(uintptr(fd), f.Name())
	}
	rings, err := shm.OpenPair(again(rings.File()))
	b.must(err)
	small, large := mem.Frames()
	mem, err = shm.OpenMemory(again(mem.File()), small, large, false)
	b.must(err)
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

// mark writes a letter over a packet's first byte.
func mark(letter byte) nf.Handler {
	return func(batch []nf.Packet) {
		for i := range batch {
			batch[i].Data()[0] = letter
			batch[i].Next()
		}
	}
}

func TestFusedChain(t *testing.T) {
	b := newBench(t)
	for s := range uint16(3) {
		_, err := b.AttachFused(Instance{Service: s + 1, Name: "mark"}, nf.Handler(func(batch []nf.Packet) {
			for i := range batch {
				batch[i].Data()[s] = 'a' + byte(s)
				batch[i].Next()
			}
		}))
		b.must(err)
	}
	// Against the order of the instances: it takes a round for each.
	b.must(b.SetChain(Chain{DefaultChain, []uint16{3, 2, 1}, 2}))
	b.send("----1", "----2")
	b.arrive("abc-1", "abc-2")
	b.whole()
	s, err := b.Snapshot()
	b.must(err)
	if len(s.Instances) != 3 || s.Instances[0].Next != 2 || s.Instances[2].Received != 2 || s.Ports[1].Sent != 2 {
		t.Errorf("%+v", s)
	}
}

// Fused NFs that send packets to each other for ever do not stop the manager.
func TestFusedLoop(t *testing.T) {
	b := newBench(t)
	for s := range 2 {
		_, err := b.AttachFused(Instance{Service: uint16(s + 1)}, nf.Handler(func(batch []nf.Packet) {
			for i := range batch {
				batch[i].To(2 - s)
			}
		}))
		b.must(err)
	}
	b.must(b.SetChain(Chain{DefaultChain, []uint16{1}, 2}))
	b.send("for ever")
	b.must(b.SetChain(Chain{DefaultChain, nil, 2}))
	b.send("past it")
	b.arrive("past it")
}

// A clockwork makes a packet at each tick until it has made some.
type clockwork struct {
	kept []nf.Packet
	left int
}

func (c *clockwork) Frames() int { return 4 }

func (c *clockwork) Handle(batch []nf.Packet) {
	for i := range batch {
		if !batch[i].Fresh() {
			batch[i].Next()
			continue
		}
		batch[i].Keep()
		c.kept = append(c.kept, batch[i])
	}
}

func (c *clockwork) Tick(_ time.Time, send []nf.Packet) (int, time.Duration) {
	if c.left == 0 || len(c.kept) == 0 {
		return 0, time.Millisecond
	}
	p := c.kept[0]
	c.kept = c.kept[1:]
	c.left--
	p.Resize(0, 1)
	p.Data()[0] = '0' + byte(c.left)
	p.Next()
	send[0] = p
	return 1, time.Millisecond
}

func TestFusedSource(t *testing.T) {
	b := newBench(t)
	b.must(b.SetChain(Chain{DefaultChain, []uint16{7}, 2}))
	n, err := b.AttachFused(Instance{Service: 7}, &clockwork{left: 9})
	b.must(err)
	b.arrive("8", "7", "6", "5", "4", "3", "2", "1", "0")
	reclaimed, err := b.Detach(n)
	if b.must(err); reclaimed != 4 {
		t.Errorf("%d empty frames came back, want 4", reclaimed)
	}
	b.whole()
}

func TestTrust(t *testing.T) {
	long := string(make([]byte, shm.FrameSize-shm.Headroom)) // as much as a frame holds
	for _, c := range []struct {
		trust Trust
		name  string
		f     nf.Handler
		send  string
		want  string
	}{
		{Trusted, "cuts", func(batch []nf.Packet) { batch[0].Resize(-2, 0); batch[0].Next() }, "abcd", "cd"},
		{ReadOnly, "may not cut", func(batch []nf.Packet) { batch[0].Resize(-2, 0); batch[0].Next() }, "abcd", "abcd"},
		{Copying, "marks", mark('x'), "abcd", "xbcd"},
		{Copying, "cuts", func(batch []nf.Packet) { batch[0].Resize(-2, -1); batch[0].Next() }, "abcd", "c"},
		{Copying, "grows into a large frame", func(batch []nf.Packet) {
			copy(batch[0].Data(), "long")
			batch[0].Resize(8, 0)
			copy(batch[0].Data(), "12345678")
			batch[0].Next()
		}, long, "12345678long" + long[4:]},
	} {
		t.Run(string(c.trust)+" "+c.name, func(t *testing.T) {
			b := newBench(t)
			b.must(b.SetChain(Chain{DefaultChain, []uint16{1}, 2}))
			_, rings, mem, err := b.Attach(Instance{Service: 1, Trust: c.trust}, 64)
			b.must(err)
			if (mem == b.Memory()) != (c.trust != Copying) {
				t.Error("only a copying NF has memory of its own")
			}
			b.run(rings, mem, c.f)
			b.send(c.send)
			b.arrive(c.want)
			b.whole()
		})
	}
	b := newBench(t)
	if _, _, _, err := b.Attach(Instance{Service: 1, Trust: "blind"}, 64); err == nil {
		t.Error("trust of any kind is taken")
	}
	if _, err := b.AttachFused(Instance{Service: 1, Trust: Copying}, mark('x')); err == nil {
		t.Error("a fused NF cannot have memory of its own")
	}
}

// A copying NF names frames of its own memory that it does not have.
func TestCopyingInvents(t *testing.T) {
	b := newBench(t)
	b.must(b.SetChain(Chain{DefaultChain, []uint16{1}, 2}))
	n, rings, mem, err := b.Attach(Instance{Service: 1, Trust: Copying}, 64)
	b.must(err)
	rings.Transmit.Push([]shm.Desc{{Frame: 17, Length: 10, Action: shm.Next}, {Frame: 1 << 30, Length: 10}, {Frame: 3, Length: 1 << 31}})
	rings.Transmit.Publish()
	b.Bell().Ring()
	b.eventually("the descriptors are refused", func() bool {
		s, err := b.Snapshot()
		b.must(err)
		return s.Instances[0].Invalid == 3
	})
	b.run(rings, mem, mark('x'))
	b.send("abcd")
	b.arrive("xbcd")
	_, err = b.Detach(n)
	b.must(err)
	b.whole()
}

// The process of an NF dies with packets in its hands, and another takes its place.
func TestSuspend(t *testing.T) {
	for _, move := range []bool{false, true} {
		b := newBench(t)
		b.must(b.SetChain(Chain{DefaultChain, []uint16{1}, 2}))
		n, rings, mem, err := b.Attach(Instance{Service: 1}, 64)
		b.must(err)
		held := make(chan struct{}, 2)
		stop := b.run(rings, mem, nf.Handler(func(batch []nf.Packet) {
			for i := range batch {
				batch[i].Keep()
				held <- struct{}{}
			}
		}))
		b.send("lost", "lost")
		<-held
		<-held
		stop()
		if move {
			_, other, mem, err := b.Attach(Instance{Service: 1}, 64)
			b.must(err)
			b.run(other, mem, mark('m'))
		}
		reclaimed, err := b.Suspend(n, move)
		if b.must(err); reclaimed != 2 {
			t.Errorf("%d frames came back, want 2", reclaimed)
		}
		b.whole()
		b.send("while dead")
		if move {
			b.arrive("mhile dead")
		} else {
			b.eventually("the packet is dropped", func() bool {
				s, err := b.Snapshot()
				b.must(err)
				return s.Instances[0].ReceiveDrop == 1
			})
		}
		rings, mem, err = b.Resume(n, 64)
		b.must(err)
		b.run(rings, mem, mark('r'))
		if !move {
			b.send("again")
			b.arrive("rgain")
		}
		b.whole()
		_, err = b.Detach(n)
		b.must(err)
	}
}

// What an NF makes that is in no chain goes nowhere.
func TestSourceWithoutChain(t *testing.T) {
	b := newBench(t)
	_, err := b.AttachFused(Instance{Service: 7}, &clockwork{left: 3})
	b.must(err)
	b.eventually("the packets are dropped", func() bool {
		s, err := b.Snapshot()
		b.must(err)
		return s.Drops.ChainEnd == 3
	})
}
