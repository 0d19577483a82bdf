package manager_test

import (
	"slices"
	"testing"
	"time"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/manager/managertest"
	"weft/dpdkhost/nf"
)

// from matches all packets of a port.
func from(port uint16) (m manager.Match) {
	m.Is(manager.InPort, uint64(port))
	return m
}

const frame = "ddddddssssss\x88\xb5 hello"

func TestVerdicts(t *testing.T) {
	marked := "x" + frame[1:]
	for _, c := range []struct {
		name  string
		flows []manager.Flow
		want  []string // at port 2
		drops func(manager.Drops) uint64
	}{
		{"to a port", []manager.Flow{{Match: from(1), Verdict: manager.Verdict{Port: 2}}}, []string{frame}, nil},
		{"through a service and the flow director again", []manager.Flow{{Match: from(1), Verdict: manager.Verdict{Service: 5}},
			{Match: from(manager.ServicePort + 5), Verdict: manager.Verdict{Port: 2}}}, []string{marked}, nil},
		{"copies", []manager.Flow{{Match: from(1), Verdict: manager.Verdict{Port: 2, And: []manager.Verdict{{Port: 2}, {Chain: "web"}}}}}, []string{frame, frame, marked}, nil},
		{"flood", []manager.Flow{{Match: from(1), Verdict: manager.Verdict{Flood: true}}}, []string{frame}, nil},
		{"nothing", []manager.Flow{{Match: from(1)}}, nil, func(manager.Drops) uint64 { return 1 }},
		{"no flow", nil, nil, func(d manager.Drops) uint64 { return d.NoFlow }},
		{"no controller", []manager.Flow{{Match: from(1), Verdict: manager.Verdict{Controller: true}}}, nil, func(d manager.Drops) uint64 { return d.Controller }},
		{"no such port", []manager.Flow{{Match: from(1), Verdict: manager.Verdict{Port: 9}}}, nil, func(d manager.Drops) uint64 { return d.NoPort }},
		{"a loop", []manager.Flow{{Match: from(1), Verdict: manager.Verdict{Service: 5}}, {Match: from(manager.ServicePort + 5), Verdict: manager.Verdict{Service: 5}}}, nil,
			func(d manager.Drops) uint64 { return d.Loop }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := managertest.New(t)
			_, err := b.AttachFused(manager.Instance{Service: 5}, mark('x'))
			b.Must(err)
			b.Must(b.SetChain(manager.Chain{"web", []uint16{5}, 2}))
			for _, f := range c.flows {
				b.Must(b.AddFlow(f))
			}
			b.Send(frame)
			if c.want == nil {
				b.Eventually("the drop", func() bool {
					s, err := b.Snapshot()
					b.Must(err)
					return c.drops(s.Drops) == 1
				})
			}
			got := []string{}
			b.Eventually("packets", func() bool {
				b.Do(func() {})
				got = append(got, b.Queues[1].Take()...)
				return len(got) >= len(c.want)
			})
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("port 2 got %q, want %q", got, c.want)
			}
			b.Whole()
		})
	}
}

func TestHooks(t *testing.T) {
	b := managertest.New(t)
	missed, removed := make(chan string, 8), make(chan int, 8)
	b.Must(b.SetHooks(manager.Hooks{
		Miss: func(port uint16, p []byte, f *manager.Flow, asked bool) {
			if asked != (f != nil) {
				missed <- "asked by none"
			} else if asked {
				missed <- "asked"
			} else {
				missed <- string(p)
			}
		},
		Removed: func(f *manager.Flow, _ time.Duration, expired bool) { removed <- 1 },
	}))
	b.Send(frame)
	if got := <-missed; got != frame {
		t.Errorf("the controller gets %q", got)
	}
	b.Must(b.AddFlow(manager.Flow{Match: from(1), Verdict: manager.Verdict{Controller: true}, Notify: true}))
	b.Send(frame)
	if got := <-missed; got != "asked" {
		t.Errorf("a flow to the controller: %q", got)
	}
	count, err := b.ChangeFlows(func(f *manager.Flow) bool { return f.Match == from(1) }, manager.Verdict{Port: 2})
	if b.Must(err); count != 1 {
		t.Errorf("%d flows changed", count)
	}
	b.Send(frame)
	b.Arrive(frame)
	b.Must(b.Inject([]byte("for port 2"), 0, manager.Verdict{Port: 2}, false))
	b.Arrive("for port 2")
	b.Must(b.Inject([]byte(frame), 1, manager.Verdict{}, true))
	b.Arrive(frame)
	if _, err := b.RemoveFlows(func(*manager.Flow) bool { return true }); err != nil || <-removed != 1 {
		t.Error("who asked for it is not told of the flow that is gone", err)
	}
	b.Must(b.AddFlow(manager.Flow{Match: from(1), Hard: time.Millisecond, Notify: true}))
	select {
	case n := <-removed:
		if n != 1 {
			t.Errorf("%d flows expired", n)
		}
	case <-time.After(20 * time.Second):
		t.Error("the flow does not expire")
	}
	b.Whole()
}

func TestDeleteChain(t *testing.T) {
	b := managertest.New(t)
	b.Must(b.SetChain(manager.Chain{"web", []uint16{5}, 2}))
	b.Must(b.AddFlow(manager.Flow{Match: from(1), Verdict: manager.Verdict{Chain: "web"}}))
	if b.DeleteChain("web") == nil || b.DeleteChain("no") == nil {
		t.Error("a chain in use, or one that is not there, is deleted")
	}
	b.RemoveFlows(func(*manager.Flow) bool { return true })
	b.Must(b.DeleteChain("web"))
	if err := b.AddFlow(manager.Flow{Match: from(1), Verdict: manager.Verdict{Chain: "web"}}); err == nil {
		t.Error("a flow leads into a chain that is gone")
	}
}

// An NF may hand packets on to services that come later in the same turn.
func TestNextWithoutFlows(t *testing.T) {
	b := managertest.New(t)
	_, err := b.AttachFused(manager.Instance{Service: 1}, nf.Handler(func(batch []nf.Packet) {
		for i := range batch {
			batch[i].Out(2)
		}
	}))
	b.Must(err)
	b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{1}, 0}))
	b.Send("out")
	b.Arrive("out")
}
