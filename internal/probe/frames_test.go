package probe

import (
	"context"
	"testing"
	"time"
)

// A train over a veth pair arrives whole, in both directions.
func TestFrames(t *testing.T) {
	cable := newCable(t)
	host := Device{"h1-eth0", "eth0", cable[0].Do}
	port := Device{"h2-eth0", "eth0", cable[1].Do}
	// The kernel takes a while to notice that the cable is there.
	for deadline := time.Now().Add(10 * time.Second); ; {
		r, err := Frames(context.Background(), host, port, FrameTrain{Count: 1, Size: 60, Rate: 1e6, Wait: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Arrivals) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no frame arrives")
		}
	}
	for _, ends := range [][2]Device{{host, port}, {port, host}} {
		r, err := Frames(context.Background(), ends[0], ends[1], FrameTrain{Count: 500, Size: 200, Rate: 20e6, Wait: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if r.Sent != 500 || len(r.Arrivals)+r.Overrun != 500 || r.Duplicates+r.Corrupted+r.Reordered != 0 {
			t.Errorf("%d sent, %d arrived, %d overran, %d twice, %d damaged, %d late", r.Sent, len(r.Arrivals), r.Overrun, r.Duplicates, r.Corrupted, r.Reordered)
		}
		// 200 bytes each 80 µs.
		if r.SentIn < 499*80*time.Microsecond {
			t.Errorf("sent within %v", r.SentIn)
		}
		for _, a := range r.Arrivals {
			if a.Delay < 0 || a.Delay > time.Minute {
				t.Fatalf("frame %d took %v", a.Seq, a.Delay)
			}
		}
	}
	if _, err := Frames(context.Background(), Device{"nosuch", "nosuch", host.Do}, port, FrameTrain{Count: 1, Size: 60, Rate: 1}); err == nil {
		t.Error("no error without a device")
	}
	if _, err := Frames(context.Background(), host, port, FrameTrain{Count: 1, Size: 59, Rate: 1}); err == nil {
		t.Error("no error for a frame that is too small")
	}
}

func TestParseFrame(t *testing.T) {
	b := make([]byte, 100)
	putFrame(b, 7, 3, 1234)
	if seq, wall, intact, ok := parseFrame(append([]byte(nil), b...), 7); seq != 3 || wall != 1234 || !intact || !ok {
		t.Errorf("%d %d %v %v", seq, wall, intact, ok)
	}
	if _, _, _, ok := parseFrame(append([]byte(nil), b...), 8); ok {
		t.Error("another run's frame is taken")
	}
	b[60] ^= 1
	if _, _, intact, ok := parseFrame(append([]byte(nil), b...), 7); intact || !ok {
		t.Errorf("a damaged frame: intact %v, taken %v", intact, ok)
	}
	if _, _, _, ok := parseFrame(b[:20], 7); ok {
		t.Error("a part of a frame is taken")
	}
	r := frameReceiver{run: 7, seen: make([]bool, 5)}
	for _, seq := range []uint32{0, 2, 1, 1, 9, 4} {
		putFrame(b, 7, seq, time.Now().UnixNano())
		r.take(append([]byte(nil), b...), time.Now())
	}
	b[70] ^= 1
	r.take(b, time.Now())
	if got := r.result; len(got.Arrivals) != 5 || got.Duplicates != 1 || got.Reordered != 1 || got.Corrupted != 1 {
		t.Errorf("%+v", got)
	}
}
