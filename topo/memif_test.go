package topo

import (
	"strings"
	"testing"
)

// shared is a network with shared memory between two nodes, and to a program outside.
func shared() Spec {
	dpdk := func(name string, d DPDK) Switch { return Switch{Name: name, Driver: DriverDPDK, DPDK: &d} }
	return Spec{
		Hosts:    []Host{{Name: "h1"}},
		Switches: []Switch{dpdk("nf1", DPDK{}), dpdk("nf2", DPDK{Manager: ManagerDPDK, Command: "x"}), dpdk("nf3", DPDK{Manager: ManagerDPDK, Command: "x"}), dpdk("vm", DPDK{Manager: ManagerONVM}), {Name: "s1"}},
		Links: []Link{
			{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "nf1"}},
			{A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "nf2"}, LinkSettings: LinkSettings{Driver: LinkMemif}},
			{A: LinkEnd{Node: "memif:/run/vpp/m.sock?id=2&role=server&secret=a=b"}, B: LinkEnd{Node: "nf1"}},
		},
	}
}

func TestPlanMemif(t *testing.T) {
	p, err := shared().Plan()
	if err != nil {
		t.Fatal(err)
	}
	outside, node, ok := p.Links[2].Outside()
	if !ok || p.Links[2].Driver != LinkMemif || node != (PlannedEnd{"nf1", "nf1-eth3"}) {
		t.Errorf("link to outside: %v at %v, %v", outside, node, ok)
	}
	m, ok, err := ParseMemif(outside.Node)
	if want := (Memif{"/run/vpp/m.sock", 2, true, "a=b"}); m != want || !ok || err != nil {
		t.Errorf("%+v, %v, %v: want %+v", m, ok, err, want)
	}
	if found, _, err := p.FindLinks("nf1-" + outside.Node); err != nil || len(found) != 1 {
		t.Errorf("FindLinks: %d links, %v", len(found), err)
	}
	again := p.Spec()
	if p2, err := again.Plan(); err != nil || p2.Links[1].Driver != LinkMemif || p2.Links[2].Driver != LinkMemif {
		t.Errorf("the description of the plan: %v", err)
	}
	if d, err := p.Diff(shared()); err != nil || !d.IsEmpty() {
		t.Errorf("diff with itself: %+v, %v", d, err)
	}
	if trust := p.NeedsTrust(); len(trust) != 1 || !strings.Contains(trust[0].Error(), "/run/vpp/m.sock") {
		t.Errorf("needs trust: %v", trust)
	}
	if _, err := p.AddLink(Link{A: LinkEnd{Node: "nf2"}, B: LinkEnd{Node: "memif:/run/vpp/m.sock?id=2"}}); err == nil || !strings.Contains(err.Error(), "another id") {
		t.Errorf("the same interface twice: %v", err)
	}
	if _, err := p.ChangeLink(LinkView{PlannedLink: p.Links[1]}, "delay=5ms"); err == nil || !strings.Contains(err.Error(), "memif") {
		t.Errorf("delay of shared memory: %v", err)
	}
}

func TestMemifErrors(t *testing.T) {
	memif := LinkSettings{Driver: LinkMemif}
	for want, l := range map[string]Link{
		"s1 is none":              {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "s1"}, LinkSettings: memif},
		"h1 is none":              {A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "memif:/m"}},
		"OpenNetVM, has no memif": {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "vm"}, LinkSettings: memif},
		"both DPDK programs":      {A: LinkEnd{Node: "nf2"}, B: LinkEnd{Node: "nf3"}, LinkSettings: memif},
		"leave driver wire out":   {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "memif:/m"}, LinkSettings: LinkSettings{Driver: LinkWire}},
		"it has no MTU":           {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "nf2"}, LinkSettings: LinkSettings{Driver: LinkMemif, MTU: 9000}},
		"impairs and records":     {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "memif:/m"}, LinkSettings: LinkSettings{Record: "x.csv"}},
		"dpdk node at one end":    {A: LinkEnd{Node: "hw:eth0"}, B: LinkEnd{Node: "memif:/m"}},
		"leave all but node out":  {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "memif:/m", MAC: "02:00:00:00:00:01"}},
		"write the whole path":    {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "memif:m"}},
		`"x" is not a number`:     {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "memif:/m?id=x"}},
		"client, server":          {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "memif:/m?role=master"}},
		"id, role, secret":        {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "memif:/m?ids=1"}},
		"at most 24 bytes":        {A: LinkEnd{Node: "nf1"}, B: LinkEnd{Node: "memif:/m?secret=1234567890123456789012345"}},
	} {
		s := shared()
		s.Links = append(s.Links[:1:1], l)
		if _, err := s.Plan(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s–%s: %v: want %q", l.A.Node, l.B.Node, err, want)
		}
	}
}

// The option is for the links that can be shared memory.
func TestOptionMemif(t *testing.T) {
	s, err := Options{Topo: "linear,2", Switch: "dpdk", Link: "memif"}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range s.Links {
		want := LinkVeth
		if l.A.Node[0] == 's' && l.B.Node[0] == 's' {
			want = LinkMemif
		}
		if l.Driver != want {
			t.Errorf("%s–%s is %s, want %s", l.A.Node, l.B.Node, l.Driver, want)
		}
	}
}
