package main

import (
	"testing"
	"time"

	"weft/internal/doctor"
	"weft/network"
)

func TestDelayCheck(t *testing.T) {
	echoes := func(late, lateOne time.Duration) (list []network.Echo) {
		for i := range 100 {
			e := network.Echo{RTT: 2 * (measuredDelay + late)}
			if i == 50 {
				e.RTT = 2 * (measuredDelay + lateOne)
			}
			list = append(list, e)
		}
		return append(list, network.Echo{}) // lost
	}
	for _, test := range []struct {
		echoes []network.Echo
		status doctor.Status
		detail string
	}{
		{echoes(20*time.Microsecond, 300*time.Microsecond), doctor.OK, "a delay is exceeded by 20 µs in the median, and by 300 µs in one of a hundred packets"},
		{echoes(150*time.Microsecond, 300*time.Microsecond), doctor.Warn, "a delay is exceeded by 150 µs in the median, and by 300 µs in one of a hundred packets"},
		{echoes(20*time.Microsecond, 7*time.Millisecond), doctor.Warn, "a delay is exceeded by 20 µs in the median, and by 7000 µs in one of a hundred packets"},
		{[]network.Echo{{}, {}}, doctor.Warn, "no echo came back over a link"},
	} {
		if c := delayCheck(test.echoes); c.Status != test.status || c.Detail != test.detail {
			t.Errorf("%+v, want %s, %s", c, test.status, test.detail)
		}
	}
}
