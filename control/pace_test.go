package control

import (
	"testing"
	"time"
)

// Only what comes faster than stormRate is made to gather.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		name  string
		age   time.Duration // of the sample that ends
		count int
		storm bool
	}{
		{"slow", time.Hour, stormSample, false},
		{"fast", -time.Hour, stormSample, true},
		{"one huge batch in a while", 10 * time.Minute, 65535, false},
		{"too few to tell", -time.Hour, stormSample - 1, false},
	} {
		p := pace{since: time.Now().Add(-c.age)}
		if p.passed(c.count); p.storm != c.storm {
			t.Errorf("%s: storm is %v", c.name, p.storm)
		}
	}
	var first pace // of a session, which began at no time
	if first.passed(stormSample); first.storm {
		t.Error("the first messages are taken for a storm")
	}
}
