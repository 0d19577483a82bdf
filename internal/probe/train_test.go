package probe

import (
	"context"
	"testing"
	"time"
)

func TestTrain(t *testing.T) {
	l := newLab(t, 2)
	for _, ipv6 := range []bool{false, true} {
		echoes, err := Train(context.Background(), l.hosts[0], l.hosts[1], TrainConfig{IPv6: ipv6, Count: 5, Interval: 2 * time.Millisecond, Timeout: 5 * time.Second})
		must(t, err)
		if len(echoes) != 5 {
			t.Fatalf("%d echoes, want 5", len(echoes))
		}
		for i, e := range echoes {
			if e.RTT <= 0 {
				t.Errorf("ipv6 %v: echo %d is lost", ipv6, i)
			}
			if e.At < time.Duration(i)*2*time.Millisecond {
				t.Errorf("echo %d was sent after %v, too early", i, e.At)
			}
		}
	}
}

// A train goes on while nothing comes back, and says what is lost.
func TestTrainLoss(t *testing.T) {
	l := newLab(t, 2)
	port, err := l.fabric.LinkByName("p2")
	must(t, err)
	must(t, l.fabric.LinkSetDown(port))
	echoes, err := Train(context.Background(), l.hosts[0], l.hosts[1], TrainConfig{Count: 3, Interval: time.Millisecond, Timeout: 50 * time.Millisecond})
	must(t, err)
	if len(echoes) != 3 {
		t.Fatalf("%d echoes, want 3", len(echoes))
	}
	for i, e := range echoes {
		if e.RTT != 0 {
			t.Errorf("echo %d was answered over a link that is down", i)
		}
	}
}

func TestTrainEnds(t *testing.T) {
	l := newLab(t, 2)
	for after := 20 * time.Millisecond; ; after *= 2 {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(after, cancel)
		echoes, err := Train(ctx, l.hosts[0], l.hosts[1], TrainConfig{Count: 1000, Interval: time.Minute, Timeout: time.Minute})
		if len(echoes) == 0 && err != nil && after < 10*time.Second {
			continue // it ended before it began
		}
		if err == nil || len(echoes) != 1 {
			t.Errorf("%d echoes, error %v", len(echoes), err)
		}
		break
	}
	if _, err := Train(context.Background(), l.hosts[0], Host{Name: "h9"}, TrainConfig{Count: 1, Timeout: time.Second}); err == nil {
		t.Error("a host without an address was pinged")
	}
}
