package topo

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// lent is a network with a NIC at a host, by name, and one at a switch, by address.
func lent() Spec {
	return Spec{
		Hosts:    []Host{{Name: "h1"}, {Name: "h2"}},
		Switches: []Switch{{Name: "s1"}},
		Links: []Link{
			{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s1"}},
			{A: LinkEnd{Node: "h1", Interface: "eth3"}, B: LinkEnd{Node: "hw:eth3"}, LinkSettings: LinkSettings{MTU: 9000, Force: true}},
			{A: LinkEnd{Node: "hw:0000:03:00.0"}, B: LinkEnd{Node: "s1"}},
		},
	}
}

func TestPlanNIC(t *testing.T) {
	p, err := lent().Plan()
	if err != nil {
		t.Fatal(err)
	}
	nic, node, ok := p.Links[1].NIC()
	if !ok || nic != (PlannedEnd{"hw:eth3", "hw:eth3"}) || node != (PlannedEnd{"h1", "eth3"}) {
		t.Errorf("link of h1: %v at %v, %v", nic, node, ok)
	}
	nic, node, ok = p.Links[2].NIC()
	if !ok || nic != (PlannedEnd{"hw:0000:03:00.0", "hw:0000:03:00.0"}) || node != (PlannedEnd{"s1", "s1-eth2"}) {
		t.Errorf("link of s1: %v at %v, %v", nic, node, ok)
	}
	if _, _, ok := p.Links[0].NIC(); ok {
		t.Error("a veth link lends a NIC")
	}
	for _, e := range []PlannedEnd{{"h1", "eth3"}, {"s1", "s1-eth2"}} {
		if i := p.Interface(e); i == nil || i.MAC != "" || i.Device != e.Interface {
			t.Errorf("%v: %+v: want a device of that name with its own MAC", e, i)
		}
	}
	if i := p.Interface(nic); i == nil || i.Name != nic.Interface {
		t.Errorf("the NIC is %+v", i)
	}
	for name, want := range map[string]int{"h1-hw:eth3": 1, "hw:eth3-h1": 1, "hw:0000:03:00.0-s1": 1, "hw:0000:03:00.0": 1} {
		if found, _, err := p.FindLinks(name); err != nil || len(found) != want {
			t.Errorf("FindLinks(%q): %d links, %v", name, len(found), err)
		}
	}
	if _, err := p.Spec().Plan(); err != nil {
		t.Errorf("the description of the plan: %v", err)
	}
	if d, err := p.Diff(lent()); err != nil || !d.IsEmpty() {
		t.Errorf("diff with itself: %+v, %v", d, err)
	}
	if trust := p.NeedsTrust(); len(trust) != 2 || !strings.Contains(trust[0].Error(), "eth3") {
		t.Errorf("needs trust: %v", trust)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var again Plan
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	// The index of a plan that was read knows what is lent.
	if _, err := again.AddLink(Link{A: LinkEnd{Node: "h2"}, B: LinkEnd{Node: "hw:eth3"}}); err == nil || !strings.Contains(err.Error(), "eth3 is lent to another node") {
		t.Errorf("the NIC lent twice: %v", err)
	}
	if _, err := again.ChangeLink(LinkView{PlannedLink: again.Links[1]}, "delay=5ms"); err == nil || !strings.Contains(err.Error(), "plugged into") {
		t.Errorf("an impaired NIC: %v", err)
	}
	if err := again.RemoveLink(again.Links[1].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := again.AddLink(Link{A: LinkEnd{Node: "hw:eth3"}, B: LinkEnd{Node: "h2"}}); err != nil {
		t.Errorf("a NIC that has come back: %v", err)
	}
}

// What is lent is written down as it was, the longer way round too.
func TestSaveNIC(t *testing.T) {
	want := lent()
	p, err := want.Plan()
	if err != nil {
		t.Fatal(err)
	}
	s := p.Spec()
	for i := range want.Links {
		got := s.Links[i]
		got.A.Port, got.B.Port = nil, nil
		if !reflect.DeepEqual(got, want.Links[i]) {
			t.Errorf("link %d: %+v, want %+v", i, got, want.Links[i])
		}
	}
}

func TestRefuseNIC(t *testing.T) {
	one := 1
	for name, c := range map[string]struct {
		link Link
		want string
	}{
		"two NICs":    {Link{A: LinkEnd{Node: "hw:a"}, B: LinkEnd{Node: "hw:b"}}, "write a host or switch at one end"},
		"no NIC":      {Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s1"}, LinkSettings: LinkSettings{Driver: LinkHW}}, "h1 -- hw:eth3"},
		"no name":     {Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "hw:"}}, "the name is empty"},
		"impaired":    {Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "hw:a"}, LinkSettings: LinkSettings{AB: Impairment{Loss: 1}}}, "put a switch between"},
		"veth":        {Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "hw:a"}, LinkSettings: LinkSettings{Driver: LinkVeth}}, "leave driver veth out"},
		"port":        {Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "hw:a", Port: &one}}, "at the other end"},
		"force":       {Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s1"}, LinkSettings: LinkSettings{Force: true}}, "force is about a NIC"},
		"twice":       {Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "hw:eth3"}}, "eth3 is lent to another node already"},
		"nowhere":     {Link{A: LinkEnd{Node: "h9"}, B: LinkEnd{Node: "hw:a"}}, `there is no node "h9"`},
		"bad address": {Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "hw:a b"}}, "has spaces"},
	} {
		s := lent()
		s.Links = append(s.Links, c.link)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	if err := (Spec{Hosts: []Host{{Name: "hw:eth3"}}}).Validate(); err == nil || !strings.Contains(err.Error(), "stands for a NIC") {
		t.Errorf("a host called as a NIC: %v", err)
	}
}
