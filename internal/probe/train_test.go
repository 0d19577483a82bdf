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
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	echoes, err := Train(ctx, l.hosts[0], l.hosts[1], TrainConfig{Count: 1000, Interval: time.Second, Timeout: time.Second})
	if err == nil || len(echoes) == 0 || len(echoes) > 10 {
		t.Errorf("%d echoes, error %v", len(echoes), err)
	}
	if _, err := Train(context.Background(), l.hosts[0], Host{Name: "h9"}, TrainConfig{Count: 1, Timeout: time.Second}); err == nil {
		t.Error("a host without an address was pinged")
	}
}
