package manager

import (
	"slices"
	"testing"
	"time"

	"weft/dpdkhost/nf"
)

// from matches all packets of a port.
func from(port uint16) (m Match) {
	m.Key[0], m.Mask[0] = uint64(port), 0xffff
	return m
}

const frame = "ddddddssssss\x88\xb5 hello"

func TestVerdicts(t *testing.T) {
	marked := "x" + frame[1:]
	for _, c := range []struct {
		name  string
		flows []Flow
		want  []string // at port 2
		drops func(Drops) uint64
	}{
		{"to a port", []Flow{{Match: from(1), Verdict: Verdict{Port: 2}}}, []string{frame}, nil},
		{"through a service and the flow director again", []Flow{{Match: from(1), Verdict: Verdict{Service: 5}},
			{Match: from(ServicePort + 5), Verdict: Verdict{Port: 2}}}, []string{marked}, nil},
		{"copies", []Flow{{Match: from(1), Verdict: Verdict{Port: 2, And: []Verdict{{Port: 2}, {Chain: "web"}}}}}, []string{frame, frame, marked}, nil},
		{"flood", []Flow{{Match: from(1), Verdict: Verdict{Flood: true}}}, []string{frame}, nil},
		{"nothing", []Flow{{Match: from(1)}}, nil, func(Drops) uint64 { return 1 }},
		{"no flow", nil, nil, func(d Drops) uint64 { return d.NoFlow }},
		{"no controller", []Flow{{Match: from(1), Verdict: Verdict{Controller: true}}}, nil, func(d Drops) uint64 { return d.Controller }},
		{"no such port", []Flow{{Match: from(1), Verdict: Verdict{Port: 9}}}, nil, func(d Drops) uint64 { return d.NoPort }},
		{"a loop", []Flow{{Match: from(1), Verdict: Verdict{Service: 5}}, {Match: from(ServicePort + 5), Verdict: Verdict{Service: 5}}}, nil,
			func(d Drops) uint64 { return d.Loop }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			_, err := b.AttachFused(Instance{Service: 5}, mark('x'))
			b.must(err)
			b.must(b.SetChain(Chain{"web", []uint16{5}, 2}))
			for _, f := range c.flows {
				b.must(b.AddFlow(f))
			}
			b.send(frame)
			if c.want == nil {
				b.eventually("the drop", func() bool {
					s, err := b.Snapshot()
					b.must(err)
					return c.drops(s.Drops) == 1
				})
			}
			got := []string{}
			b.eventually("packets", func() bool {
				b.Do(func() {})
				b.ports[1].mu.Lock()
				defer b.ports[1].mu.Unlock()
				for _, p := range b.ports[1].sent {
					got = append(got, string(p))
				}
				b.ports[1].sent = nil
				return len(got) >= len(c.want)
			})
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("port 2 got %q, want %q", got, c.want)
			}
			b.whole()
		})
	}
}

func TestHooks(t *testing.T) {
	b := newBench(t)
	missed, removed := make(chan string, 8), make(chan int, 8)
	b.must(b.SetHooks(Hooks{
		Miss: func(port uint16, p []byte, asked bool) {
			if asked {
				missed <- "asked"
			} else {
				missed <- string(p)
			}
		},
		Removed: func(f *Flow, _ time.Duration, expired bool) { removed <- 1 },
	}))
	b.send(frame)
	if got := <-missed; got != frame {
		t.Errorf("the controller gets %q", got)
	}
	b.must(b.AddFlow(Flow{Match: from(1), Verdict: Verdict{Controller: true}, Notify: true}))
	b.send(frame)
	if got := <-missed; got != "asked" {
		t.Errorf("a flow to the controller: %q", got)
	}
	count, err := b.ChangeFlows(func(f *Flow) bool { return f.Match == from(1) }, Verdict{Port: 2})
	if b.must(err); count != 1 {
		t.Errorf("%d flows changed", count)
	}
	b.send(frame)
	b.arrive(frame)
	b.must(b.Inject([]byte("for port 2"), 0, Verdict{Port: 2}, false))
	b.arrive("for port 2")
	b.must(b.Inject([]byte(frame), 1, Verdict{}, true))
	b.arrive(frame)
	if _, err := b.RemoveFlows(func(*Flow) bool { return true }); err != nil || <-removed != 1 {
		t.Error("who asked for it is not told of the flow that is gone", err)
	}
	b.must(b.AddFlow(Flow{Match: from(1), Hard: time.Millisecond, Notify: true}))
	select {
	case n := <-removed:
		if n != 1 {
			t.Errorf("%d flows expired", n)
		}
	case <-time.After(20 * time.Second):
		t.Error("the flow does not expire")
	}
	b.whole()
}

func TestDeleteChain(t *testing.T) {
	b := newBench(t)
	b.must(b.SetChain(Chain{"web", []uint16{5}, 2}))
	b.must(b.AddFlow(Flow{Match: from(1), Verdict: Verdict{Chain: "web"}}))
	if b.DeleteChain("web") == nil || b.DeleteChain("no") == nil {
		t.Error("a chain in use, or one that is not there, is deleted")
	}
	b.RemoveFlows(func(*Flow) bool { return true })
	b.must(b.DeleteChain("web"))
	if err := b.AddFlow(Flow{Match: from(1), Verdict: Verdict{Chain: "web"}}); err == nil {
		t.Error("a flow leads into a chain that is gone")
	}
}

// An NF may hand packets on to services that come later in the same turn.
func TestNextWithoutFlows(t *testing.T) {
	b := newBench(t)
	_, err := b.AttachFused(Instance{Service: 1}, nf.Handler(func(batch []nf.Packet) {
		for i := range batch {
			batch[i].Out(2)
		}
	}))
	b.must(err)
	b.must(b.SetChain(Chain{DefaultChain, []uint16{1}, 0}))
	b.send("out")
	b.arrive("out")
}
