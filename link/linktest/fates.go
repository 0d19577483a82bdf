package linktest

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func loss(t *testing.T, add Adder) {
	l := NewLab(t, add)
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	lost := uint64(0)
	for _, percent := range []float64{0, 10, 100} {
		l.try(t, "loss="+text(percent))
		before := len(to.all(t))
		const n = 3000
		sendMany(t, l, from, 0, n, 100)
		missing := n - (len(to.quiet(t, l)) - before)
		near(t, "lost at "+text(percent)+" %", missing, n, percent/100, 1)
		lost += uint64(missing)
		if c := l.Counters(t)[0]; c.Lost != lost || c.Delivered != uint64(from.next)-lost {
			t.Errorf("counters say %d lost, %d delivered; it was %d of %d", c.Lost, c.Delivered, lost, from.next)
		}
	}
}

// bursts are losses of several frames in a row.
func bursts(t *testing.T, add Adder) {
	for _, options := range [][]string{{"ab:loss=10", "ab:loss_burst=5"}, {"ab:gemodel=2.2222/20/100/0"}, {"ab:loss=10", "ab:loss_burst=5", "ab:bw=1000"}} {
		l := NewLab(t, add, options...)
		from, to := newSender(t, l, 0), newSink(t, l, 1)
		const n = 6000
		sendMany(t, l, from, 0, n, 100)
		got := to.quiet(t, l)
		near(t, "lost", n-len(got), n, 0.1, 5)
		runs, next := 0, 0
		for _, f := range got {
			if f.number != next {
				runs++
			}
			next = f.number + 1
		}
		mean := float64(next-len(got)) / float64(max(1, runs))
		t.Logf("%v: %d lost, %.2f in a row", options, n-len(got), mean)
		if mean < 3.2 || mean > 7.5 {
			t.Errorf("%v: losses of %.2f frames in a row; want 5", options, mean)
		}
	}
}

func duplicate(t *testing.T, add Adder) {
	for _, c := range []struct {
		options     []string
		none, twice float64
	}{
		{[]string{"ab:duplicate=20"}, 0, 0.2},
		{[]string{"ab:duplicate=20", "ab:loss=20"}, 0.2, 0.16},
		{[]string{"ab:duplicate=20", "ab:loss=20", "ab:bw=1000"}, 0.2, 0.16},
	} {
		l := NewLab(t, add, c.options...)
		from, to := newSender(t, l, 0), newSink(t, l, 1)
		const n = 3000
		sendMany(t, l, from, 0, n, 100)
		got := to.quiet(t, l)
		copies := make([]int, n)
		for _, f := range got {
			copies[f.number]++
		}
		count := [4]int{}
		for _, n := range copies {
			count[min(n, 3)]++
		}
		near(t, "lost", count[0], n, c.none, 1)
		near(t, "doubled", count[2], n, c.twice, 1)
		if count[3] != 0 {
			t.Errorf("%v: %d frames arrived more than twice", c.options, count[3])
		}
		k := l.Counters(t)[0]
		if k.Delivered != uint64(len(got)) || k.Delivered+k.Lost != n+k.Duplicated {
			t.Errorf("%v: counters %+v; %d arrived", c.options, k, len(got))
		}
		if c.none == 0 && k.Duplicated != uint64(count[2]) {
			t.Errorf("%v: counters say %d doubled; it was %d", c.options, k.Duplicated, count[2])
		}
	}
}

func corrupt(t *testing.T, add Adder) {
	l := NewLab(t, add, "ab:corrupt=30")
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	const n, length = 2000, 1000
	sendMany(t, l, from, 0, n, length)
	got := to.quiet(t, l)
	if len(got) != n {
		t.Errorf("%d of %d frames arrived", len(got), n)
	}
	damaged, second := 0, 0
	for _, f := range got {
		if f.bits > 1 {
			t.Fatalf("frame %d has %d bits inverted", f.number, f.bits)
		}
		damaged += f.bits
		if f.bits != 0 && f.bitAt >= length/2 {
			second++
		}
	}
	near(t, "damaged", damaged, n, 0.3, 1)
	near(t, "damaged in their second half", second, damaged, 0.5, 1)
	t.Run("payload", func(t *testing.T) { payload(t, add) })
}

// payload is damaged as headers are, though a host's segments have it in memory of its own; TCP
// finds each.
func payload(t *testing.T, add Adder) {
	l := NewLab(t, add, "ab:corrupt=5")
	fd := packetSocket(t, l, 1)
	defer unix.Close(fd)
	transfer(t, l, Addr(1), make([]byte, 1<<20)) // zeros
	b := make([]byte, 1<<16)
	segments, damaged := 0, 0
	const headers = 80 // at most
	const size = 1448  // of a segment; several may come as one frame
	for {
		n, from, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING || n < 1000 {
			continue
		}
		segments += (n - headers + size - 1) / size
		if slices.ContainsFunc(b[headers:n], func(v byte) bool { return v != 0 }) {
			damaged++
		}
	}
	near(t, "segments damaged in their payload", damaged, segments, 0.05*(1514-headers)/1514, 1)
}

// down is a link whose receiver is down for a while.
func down(t *testing.T, add Adder) {
	l := NewLab(t, add, "delay=1ms")
	from, to := newSender(t, l, 0), newSink(t, l, 1)
	from.send(t, 0, 100)
	to.quiet(t, l)
	must(t, l.SetUp(1, false))
	for range 10 {
		from.send(t, 0, 100)
	}
	Eventually(t, "10 frames are counted as lost at the end that is down", func() bool { return l.Counters(t)[0].Down == 10 })
	must(t, l.SetUp(1, true))
	Eventually(t, "frames arrive again", func() bool {
		from.send(t, 0, 100)
		time.Sleep(10 * time.Millisecond)
		got := to.all(t)
		return got[len(got)-1].number > 10
	})
}
