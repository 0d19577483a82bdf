package manager_test

import (
	"testing"
	"time"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/manager/managertest"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

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
	b := managertest.New(t)
	for s := range uint16(3) {
		_, err := b.AttachFused(manager.Instance{Service: s + 1, Name: "mark"}, nf.Handler(func(batch []nf.Packet) {
			for i := range batch {
				batch[i].Data()[s] = 'a' + byte(s)
				batch[i].Next()
			}
		}))
		b.Must(err)
	}
	// Against the order of the instances: it takes a round for each.
	b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{3, 2, 1}, 2}))
	b.Send("----1", "----2")
	b.Arrive("abc-1", "abc-2")
	b.Whole()
	s, err := b.Snapshot()
	b.Must(err)
	if len(s.Instances) != 3 || s.Instances[0].Next != 2 || s.Instances[2].Received != 2 || s.Ports[1].Sent != 2 {
		t.Errorf("%+v", s)
	}
}

// Fused NFs that send packets to each other for ever do not stop the manager.
func TestFusedLoop(t *testing.T) {
	b := managertest.New(t)
	for s := range 2 {
		_, err := b.AttachFused(manager.Instance{Service: uint16(s + 1)}, nf.Handler(func(batch []nf.Packet) {
			for i := range batch {
				batch[i].To(2 - s)
			}
		}))
		b.Must(err)
	}
	b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{1}, 2}))
	b.Send("for ever")
	b.Must(b.SetChain(manager.Chain{manager.DefaultChain, nil, 2}))
	b.Send("past it")
	b.Arrive("past it")
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
	b := managertest.New(t)
	b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{7}, 2}))
	n, err := b.AttachFused(manager.Instance{Service: 7}, &clockwork{left: 9})
	b.Must(err)
	b.Arrive("8", "7", "6", "5", "4", "3", "2", "1", "0")
	reclaimed, err := b.Detach(n)
	if b.Must(err); reclaimed != 4 {
		t.Errorf("%d empty frames came back, want 4", reclaimed)
	}
	b.Whole()
}

func TestTrust(t *testing.T) {
	long := string(make([]byte, shm.FrameSize-shm.Headroom)) // as much as a frame holds
	for _, c := range []struct {
		trust manager.Trust
		name  string
		f     nf.Handler
		send  string
		want  string
	}{
		{manager.Trusted, "cuts", func(batch []nf.Packet) { batch[0].Resize(-2, 0); batch[0].Next() }, "abcd", "cd"},
		{manager.ReadOnly, "may not cut", func(batch []nf.Packet) { batch[0].Resize(-2, 0); batch[0].Next() }, "abcd", "abcd"},
		{manager.Copying, "marks", mark('x'), "abcd", "xbcd"},
		{manager.Copying, "cuts", func(batch []nf.Packet) { batch[0].Resize(-2, -1); batch[0].Next() }, "abcd", "c"},
		{manager.Copying, "grows into a large frame", func(batch []nf.Packet) {
			copy(batch[0].Data(), "long")
			batch[0].Resize(8, 0)
			copy(batch[0].Data(), "12345678")
			batch[0].Next()
		}, long, "12345678long" + long[4:]},
	} {
		t.Run(string(c.trust)+" "+c.name, func(t *testing.T) {
			b := managertest.New(t)
			b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{1}, 2}))
			_, rings, mem, err := b.Attach(manager.Instance{Service: 1, Trust: c.trust}, 64)
			b.Must(err)
			if (mem == b.Memory()) != (c.trust != manager.Copying) {
				t.Error("only a copying NF has memory of its own")
			}
			b.RunNF(rings, mem, c.f)
			b.Send(c.send)
			b.Arrive(c.want)
			b.Whole()
		})
	}
	b := managertest.New(t)
	if _, _, _, err := b.Attach(manager.Instance{Service: 1, Trust: "blind"}, 64); err == nil {
		t.Error("trust of any kind is taken")
	}
	if _, err := b.AttachFused(manager.Instance{Service: 1, Trust: manager.Copying}, mark('x')); err == nil {
		t.Error("a fused NF cannot have memory of its own")
	}
}

// A copying NF names frames of its own memory that it does not have.
func TestCopyingInvents(t *testing.T) {
	b := managertest.New(t)
	b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{1}, 2}))
	n, rings, mem, err := b.Attach(manager.Instance{Service: 1, Trust: manager.Copying}, 64)
	b.Must(err)
	rings.Transmit.Push([]shm.Desc{{Frame: 17, Length: 10, Action: shm.Next}, {Frame: 1 << 30, Length: 10}, {Frame: 3, Length: 1 << 31}})
	rings.Transmit.Publish()
	b.Bell().Ring()
	b.Eventually("the descriptors are refused", func() bool {
		s, err := b.Snapshot()
		b.Must(err)
		return s.Instances[0].Invalid == 3
	})
	b.RunNF(rings, mem, mark('x'))
	b.Send("abcd")
	b.Arrive("xbcd")
	_, err = b.Detach(n)
	b.Must(err)
	b.Whole()
}

// The process of an NF dies with packets in its hands, and another takes its place.
func TestSuspend(t *testing.T) {
	for _, move := range []bool{false, true} {
		b := managertest.New(t)
		b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{1}, 2}))
		n, rings, mem, err := b.Attach(manager.Instance{Service: 1}, 64)
		b.Must(err)
		held := make(chan struct{}, 2)
		stop := b.RunNF(rings, mem, nf.Handler(func(batch []nf.Packet) {
			for i := range batch {
				batch[i].Keep()
				held <- struct{}{}
			}
		}))
		b.Send("lost", "lost")
		<-held
		<-held
		stop()
		if move {
			_, other, mem, err := b.Attach(manager.Instance{Service: 1}, 64)
			b.Must(err)
			b.RunNF(other, mem, mark('m'))
		}
		reclaimed, err := b.Suspend(n, move)
		if b.Must(err); reclaimed != 2 {
			t.Errorf("%d frames came back, want 2", reclaimed)
		}
		b.Whole()
		b.Send("while dead")
		if move {
			b.Arrive("mhile dead")
		} else {
			b.Eventually("the packet is dropped", func() bool {
				s, err := b.Snapshot()
				b.Must(err)
				return s.Instances[0].ReceiveDrop == 1
			})
		}
		rings, mem, err = b.Resume(n, 64)
		b.Must(err)
		b.RunNF(rings, mem, mark('r'))
		if !move {
			b.Send("again")
			b.Arrive("rgain")
		}
		b.Whole()
		_, err = b.Detach(n)
		b.Must(err)
	}
}

// What an NF makes that is in no chain goes nowhere.
func TestSourceWithoutChain(t *testing.T) {
	b := managertest.New(t)
	_, err := b.AttachFused(manager.Instance{Service: 7}, &clockwork{left: 3})
	b.Must(err)
	b.Eventually("the packets are dropped", func() bool {
		s, err := b.Snapshot()
		b.Must(err)
		return s.Drops.ChainEnd == 3
	})
}

// A wake-up is counted when an NF slept, and not when it was busy.
func TestWakeups(t *testing.T) {
	b := managertest.New(t)
	b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{1}, 2}))
	n, rings, _, err := b.Attach(manager.Instance{Service: 1}, 64)
	b.Must(err)
	counted := func(received, wakeups uint64) {
		t.Helper()
		b.Eventually("packets are counted", func() bool {
			s, err := b.Snapshot()
			b.Must(err)
			if s.Instances[0].Wakeups > wakeups {
				t.Fatalf("%d wake-ups, want %d", s.Instances[0].Wakeups, wakeups)
			}
			return s.Instances[0].Received == received && s.Instances[0].Wakeups == wakeups
		})
	}
	b.Send("busy")
	counted(1, 0)
	rings.Receive.Pop(make([]shm.Desc, 1))
	rings.Receive.Wait(-1, func() bool { b.Send("asleep"); return false }) // which it says before it asks
	counted(2, 1)
	b.Send("awake")
	counted(3, 1)
	_, err = b.Detach(n)
	b.Must(err)
}
