package linktest

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/link"
)

func rate(t *testing.T, add Adder) {
	l := NewLab(t, add, "bw=10", "queue=1MB")
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	const n, length = 200, 1000
	want := time.Duration(float64((n-1)*length*8) / 10e6 * float64(time.Second))
	// A machine that is busy otherwise is slower, an emulated one several times; a unit that is
	// mistaken for another makes eight times.
	best := time.Hour
	for try := 0; try < 3 && best > want*11/10; try++ {
		before := len(to.all(t))
		for range n {
			from.send(t, 0, length)
		}
		got := to.quiet(t, l)[before:]
		if len(got) != n {
			t.Fatalf("%d of %d frames arrived", len(got), n)
		}
		took := got[n-1].time.Sub(got[0].time) + got[0].at // since the first was sent: it may be late
		t.Logf("%d frames in %v; %v at the rate", n, took, want)
		if took < want*98/100-time.Millisecond {
			t.Errorf("%d frames of %d bytes in %v; want %v", n, length, took, want)
		}
		best = min(best, took)
	}
	if best > 4*want {
		t.Errorf("%d frames of %d bytes in %v at best; want %v", n, length, best, want)
	}
	// A lone frame takes its time, too.
	before := len(to.all(t))
	l.try(t, "bw=100kbit")
	for way := range 2 {
		from, to := newSender(t, l, way), newSink(t, l, 1-way)
		from.send(t, way, length)
		if got := to.quiet(t, l); len(got) != 1 || got[0].at < 79*time.Millisecond {
			t.Errorf("way %d: a frame of %d bytes took %+v at 100 kbit/s; want 80ms", way, length, got)
		}
		if c := l.Counters(t)[way]; c.Delivered != uint64(len(to.all(t))+(1-way)*before) || c.Down+c.Lost+c.Overflow != 0 {
			t.Errorf("way %d: counters %+v", way, c)
		}
	}
}

// queue is how many frames of a burst wait.
func queue(t *testing.T, add Adder) {
	const length, n = 1000, 200
	for _, c := range []struct {
		queue string
		want  int
	}{
		{"10", 10},
		{"20kB", 20},
		{"160ms", 20},
		{"", 30}, // 20 frames of the MTU
	} {
		options := []string{"bw=1"}
		if c.queue != "" {
			options = append(options, "queue="+c.queue)
		}
		l := NewLab(t, add, options...)
		from, to := newSender(t, l, 0), newSink(t, l, 1)
		start := time.Now()
		for range n {
			from.send(t, 0, length)
		}
		Eventually(t, "the link takes the burst", func() bool { return taken(l.Counters(t)[0]) >= l.sent[0] })
		// What has left meanwhile made room.
		left := int(time.Since(start) / (8 * time.Millisecond))
		got := len(to.quiet(t, l))
		t.Logf("queue=%s: %d of %d frames arrived, %d had left meanwhile", c.queue, got, n, left)
		if got < c.want || got > c.want+left+3 {
			t.Errorf("queue=%s: %d of %d frames arrived; want %d, and the one that is sent", c.queue, got, n, c.want)
		}
		if k := l.Counters(t)[0]; k.Overflow != uint64(n-got) || k.Delivered != uint64(got) {
			t.Errorf("queue=%s: counters %+v; want %d dropped", c.queue, k, n-got)
		}
	}
}

// unpushed is a sender that a queue does not push back on.
func unpushed(t *testing.T, add Adder) {
	l := NewLab(t, add, "bw=1", "queue=2MB")
	socks := l.UDP(t)
	const n = 400
	refused := 0
	must(t, control(socks[0], func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10); err != nil {
			return err
		}
		for range n {
			if err := unix.Send(fd, make([]byte, 1000), unix.MSG_DONTWAIT); err != nil {
				refused++
				time.Sleep(time.Millisecond)
			}
		}
		return nil
	}))
	if refused > n/10 {
		t.Errorf("the sender was refused %d of %d frames", refused, n)
	}
	Eventually(t, "the link has what was sent", func() bool {
		c := l.Counters(t)[0]
		return c.Delivered+c.Queued+c.InFlight >= n*9/10
	})
}

func control(c *net.UDPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	if err == nil {
		err = failed
	}
	return err
}

// segments are what large frames of the kernel's become, before one of them meets its fate.
func segments(t *testing.T, add Adder) {
	l := NewLab(t, add, "ab:loss=1")
	const bytes = 10 << 20
	took := transfer(t, l, Addr(1), make([]byte, bytes))
	c := l.Counters(t)[0]
	sent := int(c.Delivered + c.Lost)
	t.Logf("%d frames in %v, %d lost", sent, took, c.Lost)
	if sent < bytes/1448 {
		t.Errorf("%d frames for %d bytes", sent, bytes)
	}
	near(t, "lost", int(c.Lost), sent, 0.01, 1)
}

// tcp fills a queue and feels its drops.
func tcp(t *testing.T, add Adder) {
	l := NewLab(t, add, "bw=20", "delay=5ms", "queue=30")
	const bytes = 3 << 20
	took := transfer(t, l, Addr(1), make([]byte, bytes))
	c := l.Counters(t)[0]
	t.Logf("%.1f Mbit/s, %+v", bytes*8/took.Seconds()/1e6, c)
	if c.Overflow == 0 {
		t.Error("nothing was dropped: the sender is pushed back")
	}
	if goodput := bytes * 8 / took.Seconds(); goodput > 20e6 {
		t.Errorf("%.1f Mbit/s over 20", goodput/1e6)
	}
}

// flood sends UDP at about twice the rate of 5 Mbit/s, and every 20 ms a frame of another flow. It
// returns how many of those it sent.
func flood(t *testing.T, l *Lab, socks, sparse [2]*net.UDPConn) (large, small int) {
	t.Helper()
	start := time.Now()
	for i := range 600 {
		time.Sleep(time.Until(start.Add(time.Duration(i) * 800 * time.Microsecond)))
		_, err := socks[0].Write(make([]byte, 972))
		must(t, err)
		large++
		l.sent[0]++
		if i%25 == 0 {
			_, err := sparse[0].Write(make([]byte, 20))
			must(t, err)
			small++
			l.sent[0]++
		}
	}
	return large, small
}

// aqm drops before the queue is full.
func aqm(t *testing.T, add Adder) {
	for _, options := range [][]string{
		{"aqm=red", "queue=2MB", "red_min=20kB", "red_max=60kB", "red_probability=20"},
		{"aqm=codel", "queue=2000"},
		{"aqm=fq_codel", "queue=2000"},
	} {
		l := NewLab(t, add)
		l.try(t, append(options, "bw=5")...)
		large, small := flood(t, l, l.UDP(t), l.UDPOn(t, 5001))
		newSink(t, l, 1).quiet(t, l)
		c := l.Counters(t)[0]
		t.Logf("%v: %+v", options, c)
		if c.AQMDrops < 5 || c.Overflow != 0 {
			t.Errorf("%v: %d dropped, %d for want of room; want drops, and room", options, c.AQMDrops, c.Overflow)
		}
		if n := int(c.Delivered + c.AQMDrops); n != large+small {
			t.Errorf("%v: counters %+v; sent %d", options, c, large+small)
		}
	}
}

// fair is a queue in which one flow does not suffer from another.
func fair(t *testing.T, add Adder) {
	l := NewLab(t, add)
	l.try(t, "bw=5", "aqm=fq_codel", "queue=50")
	socks, sparse := l.UDP(t), l.UDPOn(t, 5001)
	large, small := flood(t, l, socks, sparse)
	newSink(t, l, 1).quiet(t, l)
	got := pending(t, sparse[1])
	if got != small {
		t.Errorf("%d of %d frames of the small flow arrived", got, small)
	}
	if n := pending(t, socks[1]); n > large*9/10 {
		t.Errorf("%d of %d frames of the large flow arrived; it was twice the rate", n, large)
	}
}

// pending counts the datagrams that a socket has.
func pending(t *testing.T, c *net.UDPConn) (n int) {
	t.Helper()
	must(t, control(c, func(fd int) error {
		b := make([]byte, 2000)
		for {
			if _, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT); err != nil {
				return nil
			}
			n++
		}
	}))
	return n
}

// ecn marks instead of dropping.
func ecn(t *testing.T, add Adder) {
	for _, options := range [][]string{
		{"aqm=red", "queue=2MB", "red_min=20kB", "red_max=60kB", "red_probability=20", "ecn=true"},
		{"aqm=codel", "queue=2000", "ecn=true"},
		{"aqm=fq_codel", "queue=2000", "ecn=true"},
	} {
		l := NewLab(t, add)
		l.try(t, append(options, "bw=5")...)
		socks, sparse := l.UDP(t), l.UDPOn(t, 5001)
		const capable = 2 // ECT(0), RFC 3168
		for _, s := range []*net.UDPConn{socks[0], sparse[0]} {
			must(t, control(s, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, capable) }))
		}
		for _, s := range []*net.UDPConn{socks[1], sparse[1]} {
			must(t, control(s, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1) }))
		}
		flood(t, l, socks, sparse)
		newSink(t, l, 1).quiet(t, l)
		marked := marks(t, socks[1]) + marks(t, sparse[1])
		c := l.Counters(t)[0]
		t.Logf("%v: %d arrived marked, %+v", options, marked, c)
		if marked < 5 || c.Marked != uint64(marked) {
			t.Errorf("%v: %d arrived marked; counters %+v", options, marked, c)
		}
	}
}

// marks counts the datagrams that a socket has with congestion experienced.
func marks(t *testing.T, c *net.UDPConn) (n int) {
	t.Helper()
	must(t, control(c, func(fd int) error {
		b, oob := make([]byte, 2000), make([]byte, 128)
		for {
			_, oobn, _, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_DONTWAIT)
			if err != nil {
				return nil
			}
			messages, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil {
				return err
			}
			for _, m := range messages {
				if m.Header.Type == unix.IP_TOS && len(m.Data) > 0 && m.Data[0]&3 == 3 {
					n++
				}
			}
		}
	}))
	return n
}

// change changes the link while frames pass: none is lost, none overtakes.
func change(t *testing.T, add Adder) {
	l := NewLab(t, add)
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	send := func(n int, options ...string) {
		t.Helper()
		l.try(t, options...)
		for range n {
			from.send(t, 0, 200)
			time.Sleep(200 * time.Microsecond)
		}
	}
	for _, options := range [][]string{
		{"delay=20ms"}, {"delay=1ms"}, {"delay=30ms", "jitter=5ms"}, {"delay=5ms", "bw=20"},
		{"delay=5ms", "bw=50"}, {"delay=5ms", "bw=20", "jitter=3ms", "distribution=normal"},
		{"delay=5ms", "bw=20", "jitter=3ms"}, {"bw=30"}, {}, {"delay=5ms", "bw=20"},
	} {
		send(100, options...)
	}
	got := to.quiet(t, l)
	if len(got) != from.next {
		t.Errorf("%d of %d frames arrived; %+v", len(got), from.next, l.Counters(t)[0])
	}
	inOrder(t, got)
	// A queue of another kind is another queue: a frame may overtake those in the one before, but
	// none is lost.
	for _, options := range [][]string{{"queue=200"}, {"aqm=codel"}, {"queue=1MB"}, {"aqm=red", "queue=1MB"}, {}} {
		send(50, append(options, "bw=5")...)
	}
	if n := len(to.quiet(t, l)); n != from.next {
		t.Errorf("%d of %d frames arrived; %+v", n, from.next, l.Counters(t)[0])
	}
}

// mtu changes, and frames that are on their way and not larger arrive all the same.
func mtu(t *testing.T, add Adder) {
	l := NewLab(t, add, "delay=300ms", "bw=50")
	for way := range 2 {
		from, to := newSender(t, l, way), newSink(t, l, 1-way)
		for i, mtu := range []int{1000, 1400, 9000, 1300} {
			if i == 3 {
				to.quiet(t, l)
			}
			must(t, l.Link.SetMTU(mtu))
			l.try(t, "delay=300ms", "bw=50")
			for i, n := range l.Hosts {
				must(t, n.Do(func() error {
					d, err := net.InterfaceByName(Device(i))
					if err == nil && d.MTU != mtu {
						t.Errorf("%s has an MTU of %d; want %d", d.Name, d.MTU, mtu)
					}
					return err
				}))
			}
			from.send(t, way, mtu+link.EthernetLen)
		}
		if got := to.quiet(t, l); len(got) != 4 {
			t.Errorf("way %d: %d of 4 frames arrived; %+v", way, len(got), l.Counters(t)[way])
		}
	}
}
