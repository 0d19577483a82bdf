package shell

import (
	"bytes"
	"testing"
	"time"

	"weft/network"
)

func TestProgress(t *testing.T) {
	plan := newFakeNetwork().state.Plan
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	up := []network.Event{
		{Stage: network.StageHosts}, {Stage: network.StageHosts, Node: "h2"}, {Stage: network.StageHosts, Node: "h1"},
		{Stage: network.StageSwitches}, {Stage: network.StageSwitches, Node: "s1"},
		{Level: "WARN", Message: "the datapath is slow"},
		{Stage: network.StageLinks}, {Stage: network.StageLinks, Node: "h2-s1"}, {Level: "INFO", Message: "half way"},
		{Stage: network.StageLinks, Node: "h1-s1"},
		{Stage: network.StageConfigure}, {Stage: network.StageConfigure, Node: "h1"},
		{Stage: network.StageControllers}, {Stage: network.StageControllers, Node: "c0"},
		{Stage: network.StageStart}, {Stage: network.StageStart, Node: "s1"},
		{Stage: network.StageReady},
	}
	down := []network.Event{
		{Stage: network.StageStop}, {Stage: network.StageStop, Node: "h2"}, {Stage: network.StageStop, Node: "s1"},
		{Level: "ERROR", Node: "h1", Message: "a program does not end"},
		{Stage: network.StageStop, Node: "c0"}, {Stage: network.StageStop, Node: "h1-s1"},
	}
	for name, d := range map[string]Dialect{"progress-mininet.txt": Mininet, "progress-native.txt": Native} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			for _, events := range [][]network.Event{up, down} {
				p := NewProgress(&b, d, plan)
				for i, e := range events {
					e.Time = start.Add(time.Duration(i) * 10 * time.Millisecond)
					p.Event(e)
				}
				p.Close()
				p.Close()
			}
			NewProgress(&b, d, plan).Completed(5123 * time.Millisecond)
			golden(t, name, b.String())
		})
	}
}

// Nodes are shown as soon as those before them are done.
func TestProgressIsPrompt(t *testing.T) {
	var b bytes.Buffer
	p := NewProgress(&b, Mininet, newFakeNetwork().state.Plan)
	head := "*** Creating network\n*** Adding controller\n*** Adding hosts:\n"
	for _, tt := range []struct {
		e    network.Event
		want string
	}{
		{network.Event{Stage: network.StageHosts}, head},
		{network.Event{Stage: network.StageHosts, Node: "h2"}, head},
		{network.Event{Stage: network.StageHosts, Node: "h1"}, head + "h1 h2 \n"},
	} {
		if p.Event(tt.e); b.String() != tt.want {
			t.Errorf("after %+v: %q, want %q", tt.e, b.String(), tt.want)
		}
	}
}
