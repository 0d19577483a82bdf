package shell

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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

// startFault answers with what it was asked for, in words.
func (f *fakeNetwork) startFault(r *http.Request) (any, error) {
	q := body[network.FaultRequest](r)
	fault := network.Fault{ID: len(f.faults) + 1, Done: 3}
	switch {
	case q.Flap != nil:
		p := q.Flap
		fault.Kind, fault.Text = "flap", fmt.Sprintf("%v period %v down %v mtbf %v mttr %v count %d cut %v", p.Links, p.Period, p.Down, p.MTBF, p.MTTR, p.Count, p.Cut)
		if p.Seed != nil {
			fault.Text += fmt.Sprintf(" seed %d", *p.Seed)
		}
	case q.Partition != nil:
		fault.Kind, fault.Text = "partition", "partition "+topo.FormatGroups(q.Partition)
	default:
		if _, err := network.ParseSchedule(q.Schedule, f.state.Plan); err != nil {
			return nil, err
		}
		fault.Kind, fault.Text, fault.Next = "schedule", q.Schedule, time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	}
	f.faults = append(f.faults, fault)
	return []network.Fault{fault}, nil
}

func (f *fakeNetwork) stopFaults(r *http.Request) (any, error) {
	ids := r.URL.Query()["id"]
	if slices.Contains(ids, "9") {
		return nil, errors.New("there is no fault 9")
	}
	f.faults = slices.DeleteFunc(f.faults, func(f network.Fault) bool {
		return ids == nil || slices.Contains(ids, strconv.Itoa(f.ID))
	})
	return struct{}{}, nil
}

func TestFaults(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "5s h1-s1 cut", "bad": "5s h1-s9 cut\nx\n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lines := []string{
		"link faults", "link flap h1-s1 --period 2s --down 200ms --count 5", "link flap s1 h2 h1->s1 --mtbf 30 --mttr 2s --seed 7 --cut",
		"link schedule " + dir + "/good", "partition {h1} | rest", "link partition h1|h2", "link faults", "heal", "link stop 1", "link stop 9", "link stop", "link faults", "link heal",
		"link flap", "link flap h1-s1", "link flap h9-s1 --period 1s --down 100ms", "link flap h1-s1 --period soon", "link flap h1-s1 --count 0 --period 1 --down 0.1",
		"link flap h1-s1 --seed x", "link show --period 1s", "link set h1-s1 delay=1ms --cut",
		"link schedule", "link schedule " + dir + "/bad", "link schedule " + dir + "/empty", "link schedule " + dir + "/missing", "partition", "partition h1", "link partition {h1|h2}", "link stop x", "link faults now", "heal now",
	}
	for name, cfg := range map[string]Config{"faults.txt": {}, "faults-json.txt": {JSON: true}} {
		golden(t, name, strings.ReplaceAll(transcript(t, newFakeNetwork(), cfg, lines), dir, "DIR"))
	}
}

// verify answers with measurements of a link that is named by its ID.
func (f *fakeNetwork) verify(r *http.Request) (any, error) {
	views, _, err := f.state.Plan.FindLinks(body[network.VerifyRequest](r).Links[0])
	if err != nil {
		return nil, err
	}
	l := views[0]
	ok := func(name, unit string, asked, measured, tolerance float64) network.Figure {
		return network.Figure{Name: name, Unit: unit, Asked: asked, Measured: measured, Tolerance: tolerance, Verdict: network.VerdictOK}
	}
	off := ok("delay", "s", 0.05, 0.062, 0.0007)
	off.Verdict = network.VerdictOff
	unknown := ok("rate", "bit/s", 40e9, 0, 0)
	unknown.Verdict, unknown.Note = network.VerdictUnknown, "this machine sends only 3e+03 Mbit/s of such frames"
	good := network.LinkCheck{Link: l.ID, From: l.A, To: l.B, Driver: topo.LinkWire, Verdict: network.VerdictOK, Figures: []network.Figure{
		ok("delay", "s", 0.05, 0.0501, 0.0007), ok("jitter", "s", 0, 0.00001, 0.0002), ok("loss", "%", 1, 0.98, 0.4),
		ok("duplicate", "%", 2, 2.1, 0.5), ok("rate", "bit/s", 10e6, 9.99e6, 2e5)}}
	bad := network.LinkCheck{Link: l.ID, From: l.B, To: l.A, Driver: topo.LinkWire, Verdict: network.VerdictOff, Figures: []network.Figure{off, unknown}}
	if l.ID == 2 {
		bad.Figures, bad.Skipped = []network.Figure{}, "it is cut"
	}
	return []network.LinkCheck{good, bad}, nil
}

func TestVerify(t *testing.T) {
	lines := []string{"link verify", "link set h1-s1 delay=50ms", "link verify", "link verify s1 h2", "link verify --all",
		"link verify h9-s1", "link verify x=y", "link verify h1-s1 --all", "link show --all"}
	for name, cfg := range map[string]Config{"verify.txt": {}, "verify-json.txt": {JSON: true}} {
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
