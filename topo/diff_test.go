package topo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// small is a network to change: two switches, a link with a delay, three hosts, a controller.
func small() Spec {
	s := Spec{
		Hosts:       []Host{{Name: "h1"}, {Name: "h2"}, {Name: "h3"}},
		Switches:    []Switch{{Name: "s1"}, {Name: "s2"}},
		Controllers: []Controller{{Name: "c0"}},
		Links:       []Link{link("h1", "s1"), link("h2", "s1"), link("h3", "s2"), link("s1", "s2", "delay=5ms")},
	}
	return s
}

func link(a, b string, options ...string) Link {
	l := Link{A: LinkEnd{Node: a}, B: LinkEnd{Node: b}}
	if err := l.Set(options...); err != nil {
		panic(err)
	}
	return l
}

// brief writes a Diff, a line for each change.
func brief(d *Diff) string {
	var lines []string
	add := func(sign, kind, name string, what []string) {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", sign, kind, name, strings.Join(what, ", "))))
	}
	node := func(c any) string {
		b, _ := json.Marshal(c)
		var v struct{ Name string }
		json.Unmarshal(b, &v)
		return v.Name
	}
	write(d.Links, "link", func(l PlannedLink) string { return l.A.Interface + "-" + l.B.Interface }, add)
	write(d.Hosts, "host", func(v PlannedHost) string { return node(v) }, add)
	write(d.Switches, "switch", func(v PlannedSwitch) string { return node(v) }, add)
	write(d.Controllers, "controller", func(v PlannedController) string { return node(v) }, add)
	return strings.Join(lines, "\n")
}

func write[T any](c Changes[T], kind string, name func(T) string, add func(sign, kind, name string, what []string)) {
	for _, v := range c.Remove {
		add("-", kind, name(v), nil)
	}
	for _, ch := range c.Change {
		add("~", kind, name(ch.To), ch.What)
	}
	for _, ch := range c.Replace {
		add("!", kind, name(ch.To), ch.What)
	}
	for _, v := range c.Add {
		add("+", kind, name(v), nil)
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"nothing", func(*Spec) {}, ""},
		{"a host", func(s *Spec) {
			s.Hosts = append(s.Hosts, Host{Name: "h4"})
			s.Links = append(s.Links, link("h4", "s1"))
		}, "+ link h4-eth0-s1-eth4\n+ host h4"},
		{"a host in the middle", func(s *Spec) {
			s.Hosts = slices.Insert(s.Hosts, 1, Host{Name: "h4"})
			s.Links = slices.Insert(s.Links, 0, link("h4", "s1"))
		}, "+ link h4-eth0-s1-eth4\n+ host h4"},
		{"no host", func(s *Spec) { s.Hosts, s.Links = s.Hosts[1:], s.Links[1:] }, "- link h1-eth0-s1-eth1\n- host h1"},
		{"no link", func(s *Spec) { s.Links = s.Links[1:] }, "- link h1-eth0-s1-eth1"},
		{"the order", func(s *Spec) { slices.Reverse(s.Hosts); slices.Reverse(s.Links) }, ""},
		{"ends turned", func(s *Spec) {
			for i := range s.Links {
				l := &s.Links[i]
				l.A, l.B = l.B, l.A
			}
		}, ""},
		{"a delay", func(s *Spec) { s.Links[3] = link("s1", "s2", "delay=10ms") }, "~ link s1-eth3-s2-eth2 delay 5ms → 10ms"},
		{"a delay one way", func(s *Spec) { s.Links[3] = link("s2", "s1", "ab:delay=10ms", "ba:delay=5ms") }, "~ link s1-eth3-s2-eth2 ba:delay 5ms → 10ms"},
		{"no delay", func(s *Spec) { s.Links[3] = link("s1", "s2") }, "~ link s1-eth3-s2-eth2 delay 5ms → none"},
		{"an impairment", func(s *Spec) { s.Links[0] = link("h1", "s1", "bw=10", "loss=1") }, "~ link h1-eth0-s1-eth1 bw none → 10mbit, loss none → 1"},
		{"an MTU", func(s *Spec) { s.Links[0] = link("h1", "s1", "mtu=9000") }, "~ link h1-eth0-s1-eth1 mtu none → 9000"},
		{"a driver", func(s *Spec) { s.Links[3].Driver = LinkWire }, "~ link s1-eth3-s2-eth2 driver auto → wire"},
		{"a second link", func(s *Spec) { s.Links = append(s.Links, link("s1", "s2")) }, "+ link s1-eth4-s2-eth3"},
		{"a second link first", func(s *Spec) {
			s.Links = slices.Insert(s.Links, 0, link("s1", "s2"))
			s.Links[4].A.Interface = "s1-eth3"
		}, "+ link s1-eth4-s2-eth3"},
		{"a port", func(s *Spec) { port := 7; s.Links[0].B.Port = &port }, "! link h1-eth0-s1-eth7 s1-eth1 (port 1) → s1-eth7 (port 7)"},
		{"another's port", func(s *Spec) { port := 2; s.Links[0].B.Port = &port },
			"! link h1-eth0-s1-eth2 s1-eth1 (port 1) → s1-eth2 (port 2)\n! link h2-eth0-s1-eth1 s1-eth2 (port 2) → s1-eth1 (port 1)"},
		{"an address", func(s *Spec) { s.Hosts[0].IP = netip.MustParsePrefix("10.0.0.9/8") }, "~ host h1 ip 10.0.0.1/8 → 10.0.0.9/8"},
		{"an address at the link", func(s *Spec) { s.Links[0].A.IP = netip.MustParsePrefix("10.0.0.9/8") }, "~ host h1 ip 10.0.0.1/8 → 10.0.0.9/8"},
		{"the same address", func(s *Spec) { s.Links[0].A.IP = netip.MustParsePrefix("10.0.0.1/8") }, ""},
		{"another's address", func(s *Spec) { s.Hosts[2].IP = netip.MustParsePrefix("10.0.0.1/8") },
			"~ host h1 ip 10.0.0.1/8 → 10.0.0.3/8\n~ host h3 ip 10.0.0.3/8 → 10.0.0.1/8"},
		{"a MAC", func(s *Spec) { s.Hosts[0].MAC = "00:00:00:00:00:99" },
			"~ host h1 mac none → 00:00:00:00:00:99, h1-eth0 mac 02:f5:52:bf:e5:68 → 00:00:00:00:00:99"},
		{"a gateway", func(s *Spec) { s.Hosts[0].DefaultRoute = netip.MustParseAddr("10.0.0.3") }, "~ host h1 defaultRoute none → 10.0.0.3"},
		{"a private directory", func(s *Spec) { s.Hosts[0].PrivateDirs = []string{"/var/run"} },
			"! link h1-eth0-s1-eth1 h1 is made anew\n! host h1 privateDirs none → [\"/var/run\"]"},
		{"a protocol", func(s *Spec) { s.Switches[0].Protocols = []string{"OpenFlow13"} }, "~ switch s1 protocols none → [\"OpenFlow13\"]"},
		{"a datapath ID", func(s *Spec) { s.Switches[0].DPID = 17 }, "~ switch s1 dpid 1 → 17"},
		{"a bridge", func(s *Spec) { s.Switches[1].Driver = DriverLinux }, "~ switch s2 controllers [\"c0\"] → none, datapath auto → none, dpid 2 → 0, driver ovs → lxbr, failMode secure → none"},
		{"a switch and all", func(s *Spec) { s.Switches, s.Hosts, s.Links = s.Switches[:1], s.Hosts[:2], s.Links[:2] },
			"- link h3-eth0-s2-eth1\n- link s1-eth3-s2-eth2\n- host h3\n- switch s2"},
		{"a controller", func(s *Spec) { s.Controllers = append(s.Controllers, Controller{Name: "c1"}) },
			"~ switch s1 controllers [\"c0\"] → [\"c0\",\"c1\"]\n~ switch s2 controllers [\"c0\"] → [\"c0\",\"c1\"]\n+ controller c1"},
		{"another controller", func(s *Spec) { s.Controllers[0].Kind, s.Controllers[0].Port = ControllerRemote, 6655 },
			"~ controller c0 address none → 127.0.0.1, kind builtin → remote, port none → 6655, transport none → tcp"},
		{"a host that was a switch", func(s *Spec) {
			s.Switches, s.Hosts = s.Switches[:1], append(s.Hosts, Host{Name: "s2"})
		}, "- link h3-eth0-s2-eth1\n- link s1-eth3-s2-eth2\n+ link h3-eth0-s2-eth0\n+ link s1-eth3-s2-eth1\n+ host s2\n- switch s2"},
		{"a gateway to the outside", func(s *Spec) {
			s.Hosts = append(s.Hosts, Host{Name: "nat0", NAT: &NAT{}})
			s.Links = append(s.Links, link("nat0", "s1"))
		}, "+ link nat0-eth0-s1-eth4\n~ host h1 defaultRoute none → 10.0.0.4\n~ host h2 defaultRoute none → 10.0.0.4\n~ host h3 defaultRoute none → 10.0.0.4\n+ host nat0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := small().Plan()
			if err != nil {
				t.Fatal(err)
			}
			untouched := before.Clone()
			spec := small()
			c.change(&spec)
			d, err := before.Diff(spec)
			if err != nil {
				t.Fatal(err)
			}
			if got := brief(d); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if d.IsEmpty() != (c.want == "") {
				t.Error("IsEmpty says otherwise")
			}
			if text(before) != text(untouched) {
				t.Error("the plan has changed")
			}
			sound(t, d.Plan)
			again, err := d.Plan.Diff(spec)
			if err != nil || !again.IsEmpty() {
				t.Errorf("once more: %v\n%s", err, brief(again))
			}
		})
	}
}

func text(p *Plan) string {
	b, _ := json.Marshal(p)
	return string(b)
}

// sound checks that a plan's index is that of its contents.
func sound(t *testing.T, p *Plan) {
	t.Helper()
	x := newIndex(p)
	if !reflect.DeepEqual(x.nodes, p.index.nodes) || !reflect.DeepEqual(x.ends, p.index.ends) || len(x.claims) != len(p.index.claims) {
		t.Error("the plan's index is another's")
	}
	ids := map[int]bool{}
	for _, l := range p.Links {
		if ids[l.ID] || l.ID >= p.NextLinkID {
			t.Errorf("link ID %d is there twice, or not below %d", l.ID, p.NextLinkID)
		}
		ids[l.ID] = true
		for _, e := range []PlannedEnd{l.A, l.B} {
			if i := p.Interface(e); i == nil || i.Link != l.ID {
				t.Errorf("interface %s of link %d: %v", e.Interface, l.ID, i)
			}
		}
	}
}

func TestDiffRefuses(t *testing.T) {
	p, err := small().Plan()
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Spec){
		"ipBase 10.0.0.0/8 → 10.1.0.0/16: this concerns": func(s *Spec) { s.Addressing.IPBase = netip.MustParsePrefix("10.1.0.0/16") },
		"autoMAC none → true: this concerns":             func(s *Spec) { s.Addressing.AutoMAC = true },
		"there is no node \"h9\"":                        func(s *Spec) { s.Links = append(s.Links, link("h9", "s1")) },
		"already a host":                                 func(s *Spec) { s.Hosts = append(s.Hosts, Host{Name: "h1"}) },
	} {
		s := small()
		change(&s)
		if _, err := p.Diff(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// A network that has changed live becomes what its description says, and never two things at
// once.
func FuzzDiff(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, seed+1)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		before, err := randomSpec(a).Plan()
		if err != nil {
			return
		}
		spec := randomSpec(b)
		want, err := spec.Plan()
		d, errDiff := before.Diff(spec)
		if err != nil {
			if errDiff == nil {
				t.Errorf("Plan says %v, Diff nothing", err)
			}
			return
		}
		if errDiff != nil {
			t.Fatalf("Diff of a valid Spec: %v", errDiff)
		}
		sound(t, d.Plan)
		if len(d.Plan.Links) != len(want.Links) || len(d.Plan.Hosts) != len(want.Hosts) {
			t.Error("the plan is another network's")
		}
		if n := len(before.Links) - len(d.Links.Remove) + len(d.Links.Add); n != len(want.Links) {
			t.Errorf("%d links remain of %d", n, len(want.Links))
		}
		if again, err := d.Plan.Diff(spec); err != nil || !again.IsEmpty() {
			t.Errorf("once more: %v\n%s", err, brief(again))
		}
	})
}

// randomSpec makes a small network; those of two seeds have much in common.
func randomSpec(seed uint64) Spec {
	r := rand.New(rand.NewPCG(seed, 1))
	var s Spec
	var nodes []string
	for i := range 4 {
		if r.IntN(4) > 0 {
			h := Host{Name: fmt.Sprintf("h%d", i)}
			if r.IntN(4) == 0 {
				h.IP = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + r.IntN(8))}), 8)
			}
			s.Hosts, nodes = append(s.Hosts, h), append(nodes, h.Name)
		}
	}
	for i := range 3 {
		name := fmt.Sprintf("s%d", i)
		if r.IntN(8) == 0 {
			name = fmt.Sprintf("h%d", i)
		}
		if r.IntN(4) > 0 {
			sw := Switch{Name: name}
			if r.IntN(4) == 0 {
				sw.DPID = uint64(1 + r.IntN(3))
			}
			s.Switches, nodes = append(s.Switches, sw), append(nodes, name)
		}
	}
	for range r.IntN(8) {
		if len(nodes) < 2 {
			break
		}
		l := Link{A: LinkEnd{Node: nodes[r.IntN(len(nodes))]}, B: LinkEnd{Node: nodes[r.IntN(len(nodes))]}}
		if r.IntN(4) == 0 {
			port := 1 + r.IntN(3)
			l.A.Port = &port
		}
		if r.IntN(4) == 0 {
			l.B.Interface = fmt.Sprintf("%s-eth%d", l.B.Node, 1+r.IntN(3))
		}
		if r.IntN(3) == 0 {
			l.Set(fmt.Sprintf("delay=%dms", r.IntN(3)))
		}
		s.Links = append(s.Links, l)
	}
	return s
}

func BenchmarkDiff(b *testing.B) {
	s, err := Options{Topo: "single,1024"}.Spec()
	if err != nil {
		b.Fatal(err)
	}
	p, err := s.Plan()
	if err != nil {
		b.Fatal(err)
	}
	s.Hosts = append(s.Hosts, Host{Name: "h1025"})
	s.Links = append(s.Links, link("h1025", "s1"))
	for b.Loop() {
		if d, err := p.Diff(s); err != nil || d.Links.count()+d.Hosts.count()+d.Switches.count() != 2 {
			b.Fatal(err, brief(d))
		}
	}
}
