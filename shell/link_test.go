package shell

import (
	"net/http"
	"slices"
	"testing"

	"weft/link"
	"weft/network"
	"weft/topo"
)

// links answers with all links that are asked for, and counters.
func (f *fakeNetwork) links(r *http.Request) (any, error) {
	var ids []int
	for _, name := range r.URL.Query()["link"] {
		views, _, err := f.state.Plan.FindLinks(name)
		if err != nil {
			return nil, err
		}
		for _, v := range views {
			ids = append(ids, v.ID)
		}
	}
	found := []network.LinkState{}
	for _, l := range f.state.Links {
		if ids == nil || slices.Contains(ids, l.ID) {
			found = append(found, withCounters(l))
		}
	}
	return found, nil
}

func withCounters(l network.LinkState) network.LinkState {
	l.Counters = &[2]network.LinkCounters{
		{Counters: link.Counters{Delivered: 1234, DeliveredBytes: 1_234_567, Queued: 3, InFlight: 2, Lost: 12, Overflow: 4, Marked: 5}, Stopped: 6},
		{Counters: link.Counters{Delivered: 17, DeliveredBytes: 1700}},
	}
	return l
}

// changeLink changes links as a network would, in what the tests look at.
func (f *fakeNetwork) changeLink(r *http.Request) (any, error) {
	q := body[network.LinkChange](r)
	name := r.PathValue("a")
	if b := r.PathValue("b"); b != "" {
		name += "-" + b
	}
	views, oneWay, err := f.state.Plan.FindLinks(name)
	if err != nil {
		return nil, err
	}
	changed := []network.LinkState{}
	for _, v := range views {
		for i := range f.state.Links {
			l := &f.state.Links[i]
			if l.ID != v.ID {
				continue
			}
			if q.Up != nil {
				l.Up = [2]bool{*q.Up, *q.Up}
			}
			if q.Cut != nil {
				if l.Cut[0] = *q.Cut; !oneWay {
					l.Cut[1] = *q.Cut
				}
			}
			if len(q.Options) > 0 {
				if l.Settings, err = f.state.Plan.ChangeLink(v, q.Options...); err != nil {
					return nil, err
				}
				l.Settings.Driver = topo.LinkWire
			}
			changed = append(changed, withCounters(*l))
		}
	}
	return changed, nil
}

func TestLink(t *testing.T) {
	lines := []string{
		"link", "links", "help link", "link show", "link show h1 s1", "link show 2 h1-eth0",
		"link set h1-s1 delay=50ms loss=1", "link set s1 h1 ab:bw=10 'drop_if=udp port 53'", "link set h1-s1 seed=7 record=/tmp/x.csv",
		"links", "link down s1-h1", "link up h1-s1", "link cut h1->s1", "link show h1-s1", "link mend h1->s1", "link down h1→s1", "links",
		"link set", "link set h1-s1", "link set delay=5ms", "link set h9-s1 delay=5ms", "link set h1 h2 delay=5ms", "link set h1-s1 delay=5",
		"link set h1-s1 dealy=5ms", "link set h1-s1 'drop_if=udp", "link show h1-s1 x=y", "link down", "link down h1-s1 delay=5ms",
		"link cut nosuch", "link nosuch", "link show --nosuch",
	}
	for name, cfg := range map[string]Config{"link.txt": {}, "link-json.txt": {JSON: true}, "link-mininet.txt": {Dialect: Mininet}} {
		golden(t, name, transcript(t, newFakeNetwork(), cfg, lines))
	}
}

// What Mininet says of interfaces with TC.
func TestMininetTC(t *testing.T) {
	for _, c := range []struct {
		options []string
		want    string
	}{
		{nil, ""},
		{[]string{"bw=10", "delay=5ms", "loss=1"}, "(10.00Mbit 5ms delay 1.00000% loss) "},
		{[]string{"bw=64kbit", "jitter=1ms", "delay=10ms", "aqm=red", "ecn=1"}, "(0.06Mbit 10ms delay 1ms jitter ECN) "},
		{[]string{"bw=1.5", "enable_red=1"}, "(1.50Mbit RED) "},
	} {
		var s topo.LinkSettings
		if err := s.Set(c.options...); err != nil {
			t.Fatal(err)
		}
		if got := mininetTC(s.AB); got != c.want {
			t.Errorf("%v: %q, want %q", c.options, got, c.want)
		}
	}
}
