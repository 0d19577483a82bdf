package wire

import (
	"slices"
	"testing"
	"time"
)

func TestDelay(t *testing.T) {
	l := newLab(t)
	socks := l.udp(t)
	for _, want := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		l.set(t, "delay="+want.String())
		oneWay(t, socks) // neighbours are found
		var got []time.Duration
		for range 11 {
			got = append(got, oneWay(t, socks))
		}
		slices.Sort(got)
		t.Logf("delay %v: median %v, from %v to %v", want, got[5], got[0], got[10])
		if got[0] < want {
			t.Errorf("delay %v: a frame took only %v", want, got[0])
		}
	}
	c, err := l.wire.Counters()
	must(t, err)
	t.Logf("%+v", c)
}
