package lane

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"weft/link/record"
)

// Frames of super-frames are, byte for byte, those that they stand for, in whatever groups
// they leave.
func TestSegments(t *testing.T) {
	for _, f := range shapes() {
		for _, options := range [][]string{
			{"delay=1ms"},               // whole
			{"bw=10", "queue=10000"},    // one by one
			{"jitter=1ms", "delay=1ms"}, // in groups
			{"jitter=10ms", "delay=10ms", "overtake=true"},
			{"duplicate=50"},
		} {
			s := newSim(t, 1, options...)
			s.full = true
			s.offer(0, f.frame())
			s.finish()
			want := f.wanted(false)
			copies := 0
			seen := make([]bool, len(want))
			for _, got := range s.out {
				found := false
				for i := range want {
					if bytes.Equal(got, want[i]) {
						if seen[i] {
							copies++
						}
						found, seen[i] = true, true
					}
				}
				if !found {
					t.Fatalf("%+v with %v: no such frame was sent:\n%s", f, options, hex.Dump(got))
				}
			}
			if len(s.out) != len(want)+int(s.lane.c.Duplicated) || copies != int(s.lane.c.Duplicated) {
				t.Errorf("%+v with %v: %d frames, want %d and %d copies", f, options, len(s.out), len(want), s.lane.c.Duplicated)
			}
			for i, f := range s.fates() {
				if !f.Copy && f.Bytes != len(want[f.Number-1]) {
					t.Errorf("frame %d is recorded with %d bytes and has %d", i, f.Bytes, len(want[f.Number-1]))
				}
			}
		}
	}
}

// What needs no splitting is not split; frames that are due together leave together.
func TestWhole(t *testing.T) {
	f := shape{tcp: true, payload: 30 * 1448, segment: 1448}
	pool := NewPool(NewBudget(1 << 30))
	for _, c := range []struct {
		options []string
		runs    int
	}{
		{[]string{"delay=5ms"}, 1},
		{[]string{"delay=5ms", "slot=1ms"}, 1},
		{[]string{"delay=5ms", "drop=10"}, 2},
		{[]string{"delay=5ms", "drop=1+30"}, 1},
	} {
		l, err := New(pool, 1, nil, 0, config(t, c.options...))
		if err != nil {
			t.Fatal(err)
		}
		s := &sim{tb: t, pool: pool, lane: l}
		s.offer(0, f.frame())
		counters := s.finish()
		if s.runs != c.runs {
			t.Errorf("%v: %d runs, want %d", c.options, s.runs, c.runs)
		}
		if counters.Delivered+counters.Filtered != 30 {
			t.Errorf("%v: %+v", c.options, counters)
		}
	}
}

func TestMark(t *testing.T) {
	for _, f := range append(shapes(), shape{payload: 100, ecn: 1}, shape{six: true, payload: 100, ecn: 2}) {
		f.ecn = max(f.ecn, 1)
		b := Buffer{data: f.frame()}
		b.Fill(len(b.data))
		if !capable(b.data) {
			t.Errorf("%+v is not capable", f)
		}
		want := f.wanted(true)
		for i := range b.count {
			r := Run{buf: &b, first: i, count: 1, marked: true}
			head, rest := r.Parts(nil)
			one := Buffer{data: append(bytes.Clone(head), rest...)}
			one.complete()
			if got := one.data[VirtioLen:]; !bytes.Equal(got, want[i]) {
				t.Fatalf("%+v, frame %d:\n%swant\n%s", f, i, hex.Dump(got), hex.Dump(want[i]))
			}
		}
	}
	for _, data := range [][]byte{small(100), make([]byte, VirtioLen+ethernetLen), (shape{six: true, payload: 1}).frame()} {
		if capable(data) {
			t.Error("a frame without ECN is capable")
		}
		mark(data) // does not panic
	}
}

// A corrupt frame differs in one bit, and its checksum is that of what was sent.
func TestCorrupt(t *testing.T) {
	for _, f := range shapes() {
		s := newSim(t, 7, "corrupt=100")
		s.full = true
		s.offer(0, f.frame())
		if c := s.finish(); c.Corrupted != uint64(len(s.out)) {
			t.Fatalf("%+v: %d frames, %d corrupted", f, len(s.out), c.Corrupted)
		}
		for i, want := range f.wanted(false) {
			if n := difference(s.out[i], want); n != 1 {
				t.Errorf("%+v, frame %d: %d bits differ", f, i, n)
			}
		}
		for _, f := range s.end {
			if !f.Corrupted || f.Fate != record.Delivered {
				t.Errorf("%+v", f)
			}
		}
	}
}

// difference returns how many bits differ.
func difference(a, b []byte) int {
	if len(a) != len(b) {
		return -1
	}
	n := 0
	for i := range a {
		for x := a[i] ^ b[i]; x != 0; x &= x - 1 {
			n++
		}
	}
	return n
}

// Nothing that a device gives makes a lane panic, or makes it lose count of bytes.
func FuzzSegments(f *testing.F) {
	for _, s := range shapes() {
		f.Add(s.frame(), uint64(1))
	}
	f.Add(make([]byte, VirtioLen+ethernetLen), uint64(2))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		if len(data) < VirtioLen+ethernetLen || len(data) > classSize(classes-1) {
			return
		}
		b := Buffer{data: bytes.Clone(data)}
		b.Fill(len(data))
		sum := 0
		for i := range b.count {
			r := Run{buf: &b, first: i, count: 1}
			head, rest := r.Parts(nil)
			if len(head)+len(rest)-VirtioLen != b.size(i, 1) {
				t.Fatalf("frame %d of %d has %d bytes, size says %d", i, b.count, len(head)+len(rest)-VirtioLen, b.size(i, 1))
			}
			sum += b.size(i, 1)
		}
		if sum != b.Bytes() || sum != b.size(0, b.count) {
			t.Fatalf("%d frames have %d bytes; Bytes says %d, size %d", b.count, sum, b.Bytes(), b.size(0, b.count))
		}
		for _, options := range [][]string{
			{"corrupt=50", "duplicate=50", "mtu=9000"},
			{"bw=1000", "aqm=fq_codel", "ecn=true", "mtu=65535"},
			{"loss=50", "jitter=1ms", "delay=1ms"},
		} {
			s := newSim(t, seed, options...)
			s.offer(0, data)
			s.finish()
		}
	})
}

// Frames that leave later than they were due are counted, and by how much.
func TestLate(t *testing.T) {
	pool := NewPool(NewBudget(1 << 30))
	l, err := New(pool, 1, nil, 0, config(t, "delay=10ms"))
	if err != nil {
		t.Fatal(err)
	}
	for i, left := range []int64{10 * ms, 15 * ms, 16 * ms, 40 * ms, 10 * ms} {
		b := pool.Scratch()
		b.Fill(copy(b.Space(), make([]byte, VirtioLen+60)))
		from := int64(i) * 1000 * ms
		l.Arrive(from, b)
		r, ok := l.Depart(from + left)
		if !ok {
			t.Fatalf("frame %d does not leave", i)
		}
		l.Done(&r, record.Delivered, from+left)
	}
	if c := l.Counters(5000 * ms); c.Late != 2 || c.LateMax != 30*time.Millisecond || c.Delivered != 5 {
		t.Errorf("%d of %d late, by up to %v; want 2 of 5, by 30 ms", c.Late, c.Delivered, c.LateMax)
	}
}
