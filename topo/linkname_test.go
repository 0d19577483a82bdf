package topo

import (
	"strings"
	"testing"
)

// linkPlan has parallel links, and names with hyphens.
func linkPlan(t *testing.T) *Plan {
	t.Helper()
	end := func(node string) LinkEnd { return LinkEnd{Node: node} }
	p, err := Spec{
		Hosts:    []Host{{Name: "h1"}, {Name: "web-1"}},
		Switches: []Switch{{Name: "s1"}, {Name: "s2"}},
		Links: []Link{
			{A: end("h1"), B: end("s1")},
			{A: end("s1"), B: end("s2")},
			{A: end("s2"), B: end("s1")},
			{A: end("web-1"), B: end("s2")},
		},
	}.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFindLinks(t *testing.T) {
	p := linkPlan(t)
	for _, c := range []struct{ name, want string }{
		{"h1-s1", "1"},
		{"s1-h1", "1T"},
		{"s1-s2", "2 3T"},
		{"s2→s1", "one way: 2T 3"},
		{"h1->s1", "one way: 1"},
		{"web-1-s2", "4"},
		{"s2-web-1", "4T"},
		{"h1-eth0", "1"},
		{"s1-eth1", "1T"},
		{"web-1-eth0", "4"},
		{"3", "3"},
		{"h1-s2", `there is no link "h1-s2"; did you mean h1-s1?`},
		{"9", `there is no link "9"; write NODE-NODE, the name of an interface, or an ID`},
		{"", `there is no link ""; write NODE-NODE, the name of an interface, or an ID`},
	} {
		views, oneWay, err := p.FindLinks(c.name)
		var got []string
		for _, v := range views {
			text := string(rune('0' + v.ID))
			if v.Turned {
				text += "T"
			}
			got = append(got, text)
			near, far := v.A, v.B
			if v.Turned {
				near, far = v.B, v.A
			}
			if v.Near() != near || v.Far() != far {
				t.Errorf("%s: from %v to %v", c.name, v.Near(), v.Far())
			}
		}
		text := strings.Join(got, " ")
		if oneWay {
			text = "one way: " + text
		}
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s: %s; want %s", c.name, text, c.want)
		}
	}
}

func TestChangeLink(t *testing.T) {
	p := linkPlan(t)
	change := func(name string, options ...string) string {
		t.Helper()
		views, _, err := p.FindLinks(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.ChangeLink(views[0], options...)
		if err != nil {
			return err.Error()
		}
		if got := p.Links[views[0].ID-1].LinkSettings; strings.Join(got.Options(), " ") != strings.Join(s.Options(), " ") {
			t.Errorf("%s: returned %v, the plan has %v", name, s, got)
		}
		return strings.Join(s.Options(), " ")
	}
	for _, c := range []struct{ name, options, want string }{
		{"s1-h1", "ab:delay=5ms", "driver=auto ba:delay=5ms"}, // a veth pair may be impaired
		{"h1-s1", "ab:loss=1", "driver=auto ab:loss=1 ba:delay=5ms"},
		{"h1-s1", "delay=0 loss=0", "driver=veth"},
		{"h1-s1", "seed=7", "driver=auto seed=7"},
		{"h1-s1", "seed=none record=/tmp/{link}.csv", "driver=auto record=/tmp/h1-eth0_s1-eth1.csv"},
		{"h1-s1", "seed=7 record=none", "driver=auto seed=7"},
		{"h1-s1", "driver=wire", "driver=wire seed=7"},
		{"h1-s1", "driver=netem", "seed, record, trace, drop and drop_if need the driver wire; leave driver=netem out"},
		{"h1-s1", "driver=netem seed=none", "a wire link cannot become a netem link while it exists; delete it and add it again"},
		{"h1-s1", "mtu=9000", "driver=wire mtu=9000 seed=7"},
		{"h1-s1", "mtu=0", "driver=wire seed=7"},
		{"h1-s1", "mtu=60", `mtu: "60" is not an MTU from 68 to 65535`},
		{"s1-eth1", "loss=101", `loss: "101" is not a percentage from 0 to 100`},
		{"web-1-s2", "driver=patch", "a veth link cannot become a patch link while it exists; delete it and add it again"},
	} {
		if got := change(c.name, strings.Fields(c.options)...); got != c.want {
			t.Errorf("%s %s: %s; want %s", c.name, c.options, got, c.want)
		}
	}
}

// In a network with a seed, a link that is impaired later has one of its own, the same as if
// it had been impaired from the start.
func TestChangeLinkSeed(t *testing.T) {
	seed := uint64(42)
	spec := Spec{Seed: &seed, Hosts: []Host{{Name: "h1"}, {Name: "h2"}},
		Links: []Link{{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "h2"}}}}
	late, err := spec.Plan()
	if err != nil {
		t.Fatal(err)
	}
	s, err := late.ChangeLink(LinkView{late.Links[0], false}, "loss=1")
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Links[0].Set("loss=1"); err != nil {
		t.Fatal(err)
	}
	early, err := spec.Plan()
	if err != nil {
		t.Fatal(err)
	}
	if want := early.Links[0].LinkSettings; s.Seed == nil || *s.Seed != *want.Seed || s.Driver != LinkWire {
		t.Errorf("changed to %q, planned as %q", s.Options(), want.Options())
	}
}
