package manager

import (
	"testing"
	"time"
)

// In each second of steps every flow is looked at once, however many there are, and only those
// end whose time is over.
func TestExpireInSteps(t *testing.T) {
	const flows = 2*expireStep + 100
	table := newFlowTable(flows)
	for k := range uint64(flows) {
		f := Flow{Match: Match{Key{3: k}, Key{3: ^uint64(0)}}, Priority: 1}
		switch k % 3 {
		case 0:
			f.Hard = 5 * time.Second
		case 1:
			f.Idle, f.Used = 2*time.Second, 4*time.Second
		}
		if table.add(f) == noFlow {
			t.Fatal("full")
		}
	}
	sweep := func(now time.Duration) (removed int) {
		for spent := time.Duration(0); spent < time.Second-time.Millisecond; {
			dead, wait := table.expired(now)
			if len(dead) > expireStep || wait <= 0 {
				t.Fatalf("%d flows, next in %v", len(dead), wait)
			}
			removed += len(table.removeAll(dead))
			spent += wait
		}
		return removed
	}
	third := (flows + 2) / 3
	for _, c := range []struct {
		now     time.Duration
		removed int
	}{{4 * time.Second, 0}, {5 * time.Second, third}, {5 * time.Second, 0}, {6 * time.Second, flows - third - flows/3}} {
		if n := sweep(c.now); n != c.removed {
			t.Errorf("after %v: %d flows removed, want %d", c.now, n, c.removed)
		}
	}
	if table.count != flows/3 || table.timed != 0 {
		t.Errorf("%d flows are left, %d of them with timeouts", table.count, table.timed)
	}
	if dead, wait := table.expired(time.Hour); dead != nil || wait != time.Second {
		t.Errorf("without timeouts: %d, %v", len(dead), wait)
	}
}
