package network

import (
	"slices"
	"testing"

	"weft/control"
	"weft/topo"
)

// What controllers are told of a network: the links between switches, and which of them forward by
// themselves; a router is none.
func TestTopologyOf(t *testing.T) {
	none := []string{}
	spec := topo.Spec{
		Controllers: []topo.Controller{{Name: "c0", Kind: topo.ControllerBuiltin}},
		Hosts:       []topo.Host{{Name: "h1"}},
		Switches: []topo.Switch{
			{Name: "s1"}, {Name: "s2"}, {Name: "b1", Driver: topo.DriverOVSBridge}, {Name: "l1", Driver: topo.DriverLinux},
			{Name: "fw1", Driver: topo.DriverDPDK},
			{Name: "r1", Driver: topo.DriverDPDK, DPDK: &topo.DPDK{NFs: []topo.NF{{Name: "router"}}}},
			{Name: "st1", Driver: topo.DriverDPDK, FailMode: "secure"},
			{Name: "r2", Driver: topo.DriverDPDK, FailMode: "secure", DPDK: &topo.DPDK{NFs: []topo.NF{{Name: "router"}}}},
			{Name: "f1", Controllers: none},
		},
	}
	for i, name := range []string{"h1", "s2", "b1", "l1", "fw1", "r1", "st1", "r2", "f1"} {
		if i > 0 {
			spec.Links = append(spec.Links, topo.Link{A: topo.LinkEnd{Node: "s1"}, B: topo.LinkEnd{Node: name}})
		}
	}
	plan, err := spec.Plan()
	if err != nil {
		t.Fatal(err)
	}
	links, others := topologyOf(plan)
	dpid := func(name string) uint64 { return plan.Switch(name).DPID }
	lxbr := ^uint64(0)
	if want := []uint64{dpid("b1"), lxbr, dpid("fw1"), dpid("f1")}; !slices.Equal(others, want) {
		t.Errorf("others %x, want %x", others, want)
	}
	var want []control.TopologyLink
	for i, b := range []uint64{dpid("s2"), dpid("b1"), lxbr, dpid("fw1"), 0, dpid("st1"), dpid("r2"), dpid("f1")} {
		if b != 0 {
			want = append(want, control.TopologyLink{DPIDA: dpid("s1"), PortA: uint32(i + 1), DPIDB: b, PortB: 1, Up: true})
		}
	}
	if !slices.Equal(links, want) {
		t.Errorf("links\n%+v, want\n%+v", links, want)
	}
}
