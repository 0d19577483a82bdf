package topo

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is different (-update rewrites it): got\n%s\nwant\n%s", file, got, want)
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func mustPlan(t testing.TB, s Spec) *Plan {
	t.Helper()
	p, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func port(n int) *int { return &n }

func TestPlanGolden(t *testing.T) {
	nat := ""
	tests := map[string]Options{
		"minimal":   {},
		"mac-ip6":   {Name: "lab", Topo: "linear,2", MAC: true, ARP: true, IPBase: "192.168.7.10/24", IP6: "fd00::/64"},
		"nat":       {Topo: "single,2", NAT: &nat},
		"bridges":   {Topo: "linear,2", Switch: "lxbr,stp=1", Controllers: []string{"none"}},
		"patch":     {Topo: "linear,2", Link: "ovs", Switch: "ovsk,protocols=OpenFlow10,OpenFlow13,datapath=user"},
		"remote":    {Controllers: []string{"remote,ip=10.1.2.3,port=6633", "ssl:[::1]:6653"}},
		"leafspine": {Topo: "leafspine,2,1,1"},
	}
	for name, o := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := o.Spec()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "plan/"+name+".json", asJSON(t, mustPlan(t, s)))
		})
	}
}

// TestPlanErrors holds the messages for all that can be wrong, all at once.
func TestPlanErrors(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
	}{
		{"names", Spec{Name: "a/b", Hosts: []Host{{Name: ""}, {Name: "a b"}, {Name: "h1"}, {Name: "h1"}, {Name: "x\xff"}, {Name: ".."}},
			Switches: []Switch{{Name: "h1"}, {Name: "s\u200b1"}}, Controllers: []Controller{{Name: "h1"}}}},
		{"links", Spec{Hosts: []Host{{Name: "h1"}, {Name: "h2"}}, Switches: []Switch{{Name: "s1"}, {Name: "s2"}, {Name: "br", Driver: DriverLinux}}, Controllers: []Controller{{Name: "c0"}},
			Links: []Link{
				{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s9"}},
				{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "c0"}},
				{A: LinkEnd{Node: "s1"}, B: LinkEnd{Node: "s1"}},
				{A: LinkEnd{Node: "h1", Port: port(-1)}, B: LinkEnd{Node: "s1", Port: port(0)}},
				{A: LinkEnd{Node: "h2"}, B: LinkEnd{Node: "s1", Port: port(4)}},
				{A: LinkEnd{Node: "h2"}, B: LinkEnd{Node: "s1", Port: port(4)}},
				{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s1"}, LinkSettings: LinkSettings{Driver: LinkPatch}},
				{A: LinkEnd{Node: "br"}, B: LinkEnd{Node: "s1"}, LinkSettings: LinkSettings{Driver: LinkPatch}},
				{A: LinkEnd{Node: "s2"}, B: LinkEnd{Node: "s1"}, LinkSettings: LinkSettings{Driver: "tc"}},
				{A: LinkEnd{Node: "s2", IP: prefix("10.0.0.9/8")}, B: LinkEnd{Node: "s1", Interface: "a b"}},
				{A: LinkEnd{Node: "s2", Interface: "same"}, B: LinkEnd{Node: "s1"}},
				{A: LinkEnd{Node: "s2", Interface: "same"}, B: LinkEnd{Node: "s1", Port: port(70000)}},
			}}},
		{"addresses", Spec{Hosts: []Host{
			{Name: "h1", IP: prefix("10.0.0.2/8"), MAC: "02:00:00:00:00:01"},
			{Name: "h2", IP: prefix("10.0.0.2/8"), MAC: "02-00-00-00-00-01"},
			{Name: "h3", IP: prefix("10.0.0.0/8"), MAC: "01:00:00:00:00:01"},
			{Name: "h4", IP: prefix("10.255.255.255/8"), MAC: "no"},
			{Name: "h5", IP: prefix("fd00::1/64"), IP6: prefix("10.0.0.7/8"), MAC: "0:0:0:0:0:0"},
			{Name: "h6", IP: prefix("127.0.0.1/8"), DefaultRoute: netip.MustParseAddr("10.0.0.1")},
			{Name: "h7", DefaultRoute: netip.MustParseAddr("11.0.0.1"), PrivateDirs: []string{"var", "/x/.."}},
			{Name: "h8", IP: prefix("10.0.0.8/8"), NAT: &NAT{Subnet: prefix("fd00::/8")}},
		}, Switches: []Switch{{Name: "s1"}}, Links: []Link{
			{A: LinkEnd{Node: "h8", IP: prefix("10.0.0.9/8")}, B: LinkEnd{Node: "s1"}},
		}}},
		{"bases", Spec{Addressing: Addressing{IPBase: prefix("fd00::/64"), IP6Base: prefix("10.0.0.0/8")}}},
		{"base too small", Spec{Addressing: Addressing{IPBase: prefix("10.0.0.0/30")}, Hosts: []Host{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}}},
		{"base6 too small", Spec{Addressing: Addressing{IP6Base: prefix("fd00::/127")}, Hosts: []Host{{Name: "a"}, {Name: "b"}}}},
		{"switches", Spec{Controllers: []Controller{{Name: "c0"}}, Switches: []Switch{
			{Name: "s1", DPID: 7, Protocols: []string{"OpenFlow16"}, FailMode: "open", Datapath: "dpdk", Controllers: []string{"c0", "c0", "c9"}},
			{Name: "s2", DPID: 7},
			{Name: "s3", Driver: "user"},
			{Name: "s4", Driver: DriverOVSBridge, FailMode: "secure"},
			{Name: "s5", Driver: DriverOVSBridge, Controllers: []string{"c0"}},
			{Name: "s6", Driver: DriverLinux, FailMode: "standalone"},
			{Name: "s7", Driver: DriverLinux, Protocols: []string{"OpenFlow13"}},
		}}},
		{"controllers", Spec{Controllers: []Controller{
			{Name: "c0", Kind: "nox"},
			{Name: "c1", Kind: ControllerRyu},
			{Name: "c2", Kind: ControllerCommand, Command: " "},
			{Name: "c3", Kind: ControllerRemote, Command: "x", Inside: true, Port: 70000, Transport: "udp", Address: "a b"},
			{Name: "c4", Kind: ControllerBuiltin, Transport: "ssl"},
			{Name: "c5", Kind: ControllerRemote, Cert: "x.pem"},
			{Name: "c6", Kind: ControllerRemote, Transport: "ssl", Cert: "x.pem"},
			{Name: "c7", Kind: ControllerOVS, Command: "x"},
		}}},
		{"patch between datapaths", Spec{Switches: []Switch{{Name: "s1", Datapath: DatapathKernel}, {Name: "s2", Datapath: DatapathUser}},
			Links: []Link{{A: LinkEnd{Node: "s1"}, B: LinkEnd{Node: "s2"}, LinkSettings: LinkSettings{Driver: LinkPatch}}}}},
	}
	var b strings.Builder
	for _, test := range tests {
		p, err := test.spec.Plan()
		if err == nil || p != nil {
			t.Errorf("%s: no error", test.name)
		}
		fmt.Fprintf(&b, "# %s\n%v\n\n", test.name, err)
	}
	golden(t, "plan-errors.txt", []byte(b.String()))
}

func TestAddresses(t *testing.T) {
	s := Spec{
		Addressing: Addressing{IPBase: prefix("10.0.0.0/24"), IP6Base: prefix("fd00::/64"), AutoMAC: true},
		Hosts: []Host{
			{Name: "a"},
			{Name: "b", IP: prefix("10.0.0.3/24")},
			{Name: "c"}, // its number is 3, whose IPv4 address is taken
			{Name: "d", MAC: "00:00:00:00:00:05"},
			{Name: "e"}, // two links; the address is on the lower port
			{Name: "f"}, // the address is given on its link
		},
		Switches: []Switch{{Name: "s1"}},
		Links: []Link{
			{A: LinkEnd{Node: "e", Port: port(3)}, B: LinkEnd{Node: "s1"}},
			{A: LinkEnd{Node: "e", Port: port(1)}, B: LinkEnd{Node: "s1"}},
			{A: LinkEnd{Node: "f", IP: prefix("172.16.0.1/16")}, B: LinkEnd{Node: "s1"}},
		},
	}
	p := mustPlan(t, s)
	var got []string
	for _, h := range p.Hosts {
		got = append(got, fmt.Sprint(h.Name, " ", h.IP, " ", h.IP6, " ", h.MAC))
	}
	want := []string{
		"a 10.0.0.1/24 fd00::1/64 00:00:00:00:00:01",
		"b 10.0.0.3/24 fd00::2/64 00:00:00:00:00:02",
		"c 10.0.0.4/24 fd00::4/64 00:00:00:00:00:04",
		"d 10.0.0.5/24 fd00::5/64 00:00:00:00:00:05",
		"e 10.0.0.6/24 fd00::6/64 00:00:00:00:00:06",
		"f 172.16.0.1/16 fd00::7/64 00:00:00:00:00:07",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	e := p.Host("e")
	if e.Interfaces[0].Name != "e-eth1" || e.Interfaces[0].IP != e.IP || e.Interfaces[0].MAC != e.MAC || e.Interfaces[1].IP.IsValid() {
		t.Errorf("interfaces of e: %+v", e.Interfaces)
	}
}

func TestNth(t *testing.T) {
	tests := []struct {
		base string
		n    uint64
		want string
	}{
		{"10.0.0.0/8", 0, "10.0.0.1/8"},
		{"10.0.0.0/8", 255, "10.0.1.0/8"},
		{"10.0.0.9/24", 0, "10.0.0.9/24"},
		{"10.0.0.250/24", 4, "10.0.0.254/24"},
		{"10.0.0.250/24", 5, "invalid Prefix"},
		{"10.0.0.0/32", 0, "invalid Prefix"},
		{"10.0.0.0/31", 0, "10.0.0.1/31"},
		{"255.255.255.254/0", 1 << 40, "invalid Prefix"},
		{"fd00::/64", 0, "fd00::1/64"},
		{"fd00::ffff/64", 1, "fd00::1:0/64"},
		{"fd00::/127", 1, "invalid Prefix"},
	}
	for _, test := range tests {
		if got := nth(prefix(test.base), test.n); got.String() != test.want {
			t.Errorf("nth(%s, %d) = %s, want %s", test.base, test.n, got, test.want)
		}
	}
}

func TestDPIDs(t *testing.T) {
	p := mustPlan(t, Spec{Switches: []Switch{
		{Name: "core"}, {Name: "s2"}, {Name: "s12"}, {Name: "x12"}, {Name: "s0"}, {Name: "any", DPID: 2}, {Name: "s99999999999999999999"}, {Name: "l5", Driver: DriverLinux},
	}})
	ids := map[string]uint64{}
	for _, s := range p.Switches {
		ids[s.Name] = s.DPID
	}
	if ids["any"] != 2 || ids["s12"] != 12 || ids["l5"] != 0 {
		t.Errorf("DPIDs: %v", ids)
	}
	for _, name := range []string{"core", "s2", "x12", "s0", "s99999999999999999999"} {
		if ids[name] != hashDPID(name, 0) || ids[name]>>48 != 0 {
			t.Errorf("the DPID of %s is %x, not its hash", name, ids[name])
		}
	}
}

func TestDevices(t *testing.T) {
	long := "a-very-long-switch-name"
	s := Spec{
		Hosts: []Host{{Name: "h1"}, {Name: "h2"}, {Name: "a-very-long-host-name"}},
		Switches: []Switch{{Name: "s1"}, {Name: "s1-eth1"}, {Name: "lo"}, {Name: "ovs-system"}, {Name: "all"}, {Name: "x:y"},
			{Name: "schön"}, {Name: "br%d"}, {Name: long}},
		Links: []Link{
			{A: LinkEnd{Node: "h1", Interface: "eth0"}, B: LinkEnd{Node: "s1"}},
			{A: LinkEnd{Node: "h2", Interface: "eth0"}, B: LinkEnd{Node: "s1", Interface: "s1"}},
			{A: LinkEnd{Node: "a-very-long-host-name"}, B: LinkEnd{Node: long, Port: port(65279)}},
			{A: LinkEnd{Node: "h1", Interface: "lo"}, B: LinkEnd{Node: long}},
		},
	}
	p := mustPlan(t, s)
	var b strings.Builder
	for _, sw := range p.Switches {
		fmt.Fprintf(&b, "%s %s\n", sw.Name, sw.Device)
		for _, f := range sw.Interfaces {
			fmt.Fprintf(&b, "  %s %s\n", f.Name, f.Device)
		}
	}
	for _, h := range p.Hosts {
		fmt.Fprintf(&b, "%s\n", h.Name)
		for _, f := range h.Interfaces {
			fmt.Fprintf(&b, "  %s %s\n", f.Name, f.Device)
		}
	}
	golden(t, "devices.txt", []byte(b.String()))
	checkUnique(t, p)

	// Another node elsewhere changes nothing.
	s.Switches = append([]Switch{{Name: long + "2"}}, s.Switches...)
	q := mustPlan(t, s)
	if got, want := q.Switch(long), p.Switch(long); !reflect.DeepEqual(got, want) {
		t.Errorf("one more switch changes %+v to %+v", want, got)
	}
}

func TestRoutes(t *testing.T) {
	s := Spec{
		Hosts: []Host{
			{Name: "h1"},
			{Name: "h2", DefaultRoute: netip.MustParseAddr("10.0.0.1")},
			{Name: "h3", IP: prefix("192.168.0.1/24")},
			{Name: "nat0", NAT: &NAT{}},
		},
		Switches: []Switch{{Name: "s1"}},
		Links:    []Link{{A: LinkEnd{Node: "nat0"}, B: LinkEnd{Node: "s1"}}},
	}
	p := mustPlan(t, s)
	want := map[string]string{"h1": "10.0.0.4", "h2": "10.0.0.1", "h3": "invalid IP", "nat0": "invalid IP"}
	for _, h := range p.Hosts {
		if got := h.DefaultRoute.String(); got != want[h.Name] {
			t.Errorf("default route of %s: %s, want %s", h.Name, got, want[h.Name])
		}
	}
	if got := p.Host("nat0").NAT.Subnet.String(); got != "10.0.0.0/8" {
		t.Errorf("NAT subnet %s", got)
	}
	h, err := p.AddHost(Host{Name: "h5"})
	if err != nil || h.DefaultRoute.String() != "10.0.0.4" || h.IP.String() != "10.0.0.5/8" {
		t.Errorf("AddHost: %+v, %v", h, err)
	}
	s.Hosts = append(s.Hosts, Host{Name: "nat1", NAT: &NAT{}})
	if p := mustPlan(t, s); p.Host("h1").DefaultRoute.IsValid() {
		t.Error("there are two gateways and h1 has a default route")
	}
}

func TestLiveEdits(t *testing.T) {
	spec, err := Options{Topo: "linear,2"}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	p := mustPlan(t, spec)

	h, err := p.AddHost(Host{Name: "h3"})
	if err != nil || h.IP != prefix("10.0.0.3/8") || len(h.Interfaces) != 0 {
		t.Fatalf("AddHost: %+v, %v", h, err)
	}
	sw, err := p.AddSwitch(Switch{Name: "s3"})
	if err != nil || sw.DPID != 3 || !slices.Equal(sw.Controllers, []string{"c0"}) {
		t.Fatalf("AddSwitch: %+v, %v", sw, err)
	}
	l, err := p.AddLink(Link{A: LinkEnd{Node: "h3"}, B: LinkEnd{Node: "s3"}})
	if err != nil || l.ID != 4 || p.Interface(l.A).IP != h.IP || p.Interface(l.B).Port != 1 {
		t.Fatalf("AddLink: %+v, %v", l, err)
	}
	l2, err := p.AddLink(Link{A: LinkEnd{Node: "h3"}, B: LinkEnd{Node: "s1"}})
	if err != nil || p.Interface(l2.A).IP.IsValid() || p.Interface(l2.B).Name != "s1-eth3" {
		t.Fatalf("AddLink: %+v, %v", l2, err)
	}

	// The address stays with the host while its first interface is away.
	if err := p.RemoveLink(l.ID); err != nil {
		t.Fatal(err)
	}
	if p.Interface(l.A) != nil || len(p.LinksBetween("s3", "h3")) != 0 {
		t.Error("the link is still there")
	}
	if _, err := p.AddHost(Host{Name: "thief", IP: h.IP}); err == nil {
		t.Error("the address of h3 could be taken")
	}
	l3, err := p.AddLink(Link{A: LinkEnd{Node: "s1"}, B: LinkEnd{Node: "h3"}})
	if err != nil || l3.ID != 6 || p.Interface(l3.B).IP != h.IP || p.Host("h3").Interfaces[0].Name != "h3-eth0" {
		t.Fatalf("AddLink: %+v, %v", l3, err)
	}
	if got := p.LinksBetween("h3", "s1"); !slices.Equal(got, []PlannedLink{l2, l3}) {
		t.Errorf("LinksBetween: %+v", got)
	}

	if err := p.RemoveNode("s1"); err != nil {
		t.Fatal(err)
	}
	if p.Switch("s1") != nil || p.Switch("s2") == nil || p.Switch("s2").Name != "s2" || len(p.Links) != 1 || len(p.Host("h3").Interfaces) != 0 || len(p.Host("h1").Interfaces) != 0 {
		t.Errorf("after RemoveNode: %s", asJSON(t, p))
	}
	if sw, err := p.AddSwitch(Switch{Name: "s1"}); err != nil || sw.DPID != 1 {
		t.Errorf("s1 again: %+v, %v", sw, err)
	}

	// The first link's own address replaces the one that was reserved.
	if _, err := p.AddLink(Link{A: LinkEnd{Node: "h3", IP: prefix("172.16.0.1/16"), MAC: "02:00:00:00:00:09"}, B: LinkEnd{Node: "s1"}}); err != nil {
		t.Fatal(err)
	}
	if got := p.Host("h3"); got.IP != prefix("172.16.0.1/16") || got.Interfaces[0].IP != got.IP {
		t.Errorf("h3: %+v", got)
	}
	if _, err := p.AddHost(Host{Name: "h4", IP: h.IP}); err != nil {
		t.Errorf("the address that h3 gave up: %v", err)
	}
	checkUnique(t, p)
	if got, want := newIndex(p), p.index; !reflect.DeepEqual(got.nodes, want.nodes) || !reflect.DeepEqual(got.ends, want.ends) || !sameKeys(got.claims, want.claims) {
		t.Errorf("the index is not that of the plan: %v, want %v", want, got)
	}
}

func sameKeys(a, b map[claim]string) bool {
	for k := range a {
		if _, ok := b[k]; !ok {
			return false
		}
	}
	return len(a) == len(b)
}

func TestLiveErrors(t *testing.T) {
	spec, err := Options{Topo: "single,2", IPBase: "10.0.0.0/29"}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	p := mustPlan(t, spec)
	before, index := asJSON(t, p), newIndex(p)
	edits := map[string]func() error{
		"name":  func() error { _, err := p.AddHost(Host{Name: "a b"}); return err },
		"taken": func() error { _, err := p.AddHost(Host{Name: "s1"}); return err },
		"ip":    func() error { _, err := p.AddHost(Host{Name: "h3", IP: prefix("10.0.0.1/29")}); return err },
		"route": func() error {
			_, err := p.AddHost(Host{Name: "h3", DefaultRoute: netip.MustParseAddr("1.1.1.1")})
			return err
		},
		"dpid":       func() error { _, err := p.AddSwitch(Switch{Name: "s2", DPID: 1}); return err },
		"controller": func() error { _, err := p.AddSwitch(Switch{Name: "s2", Controllers: []string{"c1"}}); return err },
		"end":        func() error { _, err := p.AddLink(Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s2"}}); return err },
		"port": func() error {
			_, err := p.AddLink(Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s1", Port: port(2)}})
			return err
		},
		"no node":           func() error { return p.RemoveNode("h9") },
		"remove controller": func() error { return p.RemoveNode("c0") },
		"no link":           func() error { return p.RemoveLink(9) },
	}
	for name, edit := range edits {
		if err := edit(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if !bytes.Equal(asJSON(t, p), before) || !reflect.DeepEqual(p.index.nodes, index.nodes) || !sameKeys(p.index.claims, index.claims) {
			t.Errorf("%s: the plan has changed", name)
		}
	}
}

func TestLookups(t *testing.T) {
	spec, err := Options{Topo: "tree,2,2"}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	made := mustPlan(t, spec)
	literal := *made
	literal.index = nil
	for name, p := range map[string]*Plan{"made": made, "literal": &literal, "clone": made.Clone()} {
		if p.Host("h3") == nil || p.Host("h3").Name != "h3" || p.Host("s1") != nil || p.Host("h9") != nil ||
			p.Switch("s3") == nil || p.Switch("s3").Name != "s3" || p.Switch("h1") != nil ||
			p.Controller("c0") == nil || p.Controller("c1") != nil {
			t.Errorf("%s: a node is missing, or found where it is not", name)
		}
		for _, l := range p.Links {
			for _, e := range []PlannedEnd{l.A, l.B} {
				if f := p.Interface(e); f == nil || f.Name != e.Interface || f.Link != l.ID {
					t.Errorf("%s: %v is %+v", name, e, f)
				}
			}
		}
		if p.Interface(PlannedEnd{"h1", "s2-eth1"}) != nil || p.Interface(PlannedEnd{"h9", "x"}) != nil {
			t.Errorf("%s: an interface that is not there", name)
		}
	}
	c := made.Clone()
	c.Hosts[0].Interfaces[0].Name = "changed"
	c.Switches[0].Controllers[0] = "changed"
	if made.Hosts[0].Interfaces[0].Name == "changed" || made.Switches[0].Controllers[0] == "changed" {
		t.Error("a clone shares memory with its original")
	}
}

func TestRoundTrip(t *testing.T) {
	nat := ""
	s, err := Options{Topo: "fattree", NAT: &nat, IP6: "fd00::/64"}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	s.Switches[0].Controllers = []string{}
	p := mustPlan(t, s)
	var q Plan
	if err := json.Unmarshal(asJSON(t, p), &q); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p.index.nodes, q.index.nodes) || !reflect.DeepEqual(p.index.ends, q.index.ends) || !sameKeys(p.index.claims, q.index.claims) {
		t.Error("the index changes on the way through JSON")
	}
	p.index, q.index = nil, nil
	if !reflect.DeepEqual(p, &q) {
		t.Errorf("a plan changes on the way through JSON:\n%s\n%s", asJSON(t, p), asJSON(t, q))
	}
	var again Spec
	if err := json.Unmarshal(asJSON(t, s), &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s, again) {
		t.Error("a spec changes on the way through JSON")
	}
	if err := json.Unmarshal([]byte(`{"hosts": 3}`), &q); err == nil {
		t.Error("no error for what is no plan")
	}
}

// checkUnique checks what must be unique in any plan.
func checkUnique(t *testing.T, p *Plan) {
	t.Helper()
	seen := map[string]string{}
	once := func(what, value, owner string) {
		key := what + " " + value
		if other, ok := seen[key]; ok {
			t.Errorf("%s is that of %q and of %q", key, other, owner)
		}
		seen[key] = owner
	}
	device := func(scope, device, owner string) {
		once("device in "+scope, device, owner)
		if !legalDevice(device) {
			t.Errorf("%q is no device name (%q)", device, owner)
		}
	}
	iface := func(node, scope string, f Interface) {
		device(scope, f.Device, f.Name)
		once("MAC", f.MAC, f.Name)
		once("name on "+node, f.Name, f.Name)
		once("port on "+node, fmt.Sprint(f.Port), f.Name)
	}
	for _, c := range p.Controllers {
		once("node", c.Name, "controller")
	}
	for _, h := range p.Hosts {
		once("node", h.Name, "host")
		once("address", h.IP.Addr().String(), h.Name)
		for _, f := range h.Interfaces {
			iface(h.Name, h.Name, f)
		}
	}
	for _, s := range p.Switches {
		once("node", s.Name, "switch")
		device("", s.Device, s.Name)
		if s.Driver != DriverLinux {
			once("DPID", fmt.Sprint(s.DPID), s.Name)
			if s.DPID == 0 {
				t.Errorf("%q has the DPID 0", s.Name)
			}
		}
		for _, f := range s.Interfaces {
			iface(s.Name, "", f)
		}
	}
}

// FuzzPlan makes a network of the lines of its input: each a node, linked to the
// one before; what begins with "h" is a host.
func FuzzPlan(f *testing.F) {
	f.Add("h1\ns1\nh2")
	f.Add("s1-eth1\ns1\nlo\novs-system\ns1-eth2")
	f.Add("a-very-long-name-1\na-very-long-name-2\na-very-long-name-3\nh-very-long-name")
	f.Add("h\x00\n..\nall\n\u00a0\n%d")
	f.Fuzz(func(t *testing.T, text string) {
		var s Spec
		names := strings.Split(text, "\n")
		for i, name := range names {
			if strings.HasPrefix(name, "h") {
				s.Hosts = append(s.Hosts, Host{Name: name})
			} else {
				s.Switches = append(s.Switches, Switch{Name: name})
			}
			if i > 0 {
				s.Links = append(s.Links, Link{A: LinkEnd{Node: names[i-1]}, B: LinkEnd{Node: name}})
			}
		}
		p, err := s.Plan()
		if err != nil {
			return
		}
		checkUnique(t, p)
		if again := mustPlan(t, s); !bytes.Equal(asJSON(t, p), asJSON(t, again)) {
			t.Error("the same spec gives two plans")
		}
		live := mustPlan(t, Spec{})
		for _, h := range s.Hosts {
			if _, err := live.AddHost(h); err != nil {
				t.Fatal(err)
			}
		}
		for _, sw := range s.Switches {
			if _, err := live.AddSwitch(sw); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range s.Links {
			if _, err := live.AddLink(l); err != nil {
				t.Fatal(err)
			}
		}
		checkUnique(t, live)
		for _, name := range names {
			if err := live.RemoveNode(name); err != nil {
				t.Fatal(err)
			}
		}
		if len(live.index.claims)+len(live.index.ends)+len(live.index.nodes)+len(live.Links) != 0 {
			t.Errorf("left when all is removed: %+v", live.index)
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	for _, arg := range []string{"single,10000", "reversed,10000", "linear,5000", "tree,4,10"} {
		s, err := Generate(arg)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(arg, func(b *testing.B) {
			for b.Loop() {
				mustPlan(b, s)
			}
		})
	}
}

func BenchmarkAddHost(b *testing.B) {
	s, err := Generate("single,10000")
	if err != nil {
		b.Fatal(err)
	}
	p := mustPlan(b, s)
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("x%d", i)
		if _, err := p.AddHost(Host{Name: name}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestListenPorts(t *testing.T) {
	p := mustPlan(t, Spec{Switches: []Switch{{Name: "s1", ListenPort: 6654}, {Name: "s2"}}})
	if p.Switches[0].ListenPort != 6654 || p.Switches[1].ListenPort != 0 {
		t.Errorf("ports: %+v", p.Switches)
	}
	for _, test := range []struct {
		add  Switch
		want string
	}{
		{Switch{Name: "s3", ListenPort: 6654}, "switch s3: the listening port 6654 is already that of switch s1; write another or leave it out"},
		{Switch{Name: "s3", ListenPort: 65536}, "switch s3: the listening port 65536 is not from 0 to 65535"},
	} {
		if _, err := p.AddSwitch(test.add); err == nil || err.Error() != test.want {
			t.Errorf("AddSwitch(%+v): %v, want %s", test.add, err, test.want)
		}
	}
	if err := p.RemoveNode("s1"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.AddSwitch(Switch{Name: "s3", ListenPort: 6654}); err != nil {
		t.Errorf("the port of a removed switch is taken: %v", err)
	}
}
