package topo

import (
	"encoding/json"
	"reflect"
	"testing"
)

// What a plan says of itself gives the same plan, also after changes.
func TestPlanSpec(t *testing.T) {
	nat := ""
	seed := uint64(7)
	for name, o := range map[string]Options{
		"minimal":   {},
		"mac":       {Topo: "linear,3", MAC: true, ARP: true, IPBase: "192.168.7.10/24", IP6: "fd00::/64", Name: "lab"},
		"nat":       {Topo: "single,2", NAT: &nat},
		"leafspine": {Topo: "leafspine,3,2,2"},
		"reversed":  {Topo: "reversed,4"},
		"torus":     {Topo: "torus,3,3"},
		"patch":     {Topo: "linear,2", Link: "ovs", Switch: "ovsk,protocols=OpenFlow13,datapath=user"},
		"bridges":   {Topo: "linear,2", Switch: "lxbr,stp=1", Controllers: []string{"none"}},
		"ovsbr":     {Topo: "linear,2", Switch: "ovsbr"},
		"remote":    {Controllers: []string{"remote,ip=10.1.2.3", "ssl:[::1]:6653"}},
		"impaired":  {Topo: "single,2", Link: "tc,bw=10,ab:delay=5ms", Seed: &seed},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := o.Spec()
			if err != nil {
				t.Fatal(err)
			}
			p := mustPlan(t, s)
			checkSpec(t, p)
			if len(p.Hosts) < 2 || len(p.Switches) == 0 {
				return
			}
			// After changes there are gaps, which nothing but what is said can fill.
			if err := p.RemoveNode(p.Hosts[0].Name); err != nil {
				t.Fatal(err)
			}
			checkSpec(t, p)
			if _, err := p.AddHost(Host{Name: "late", Files: []File{{Path: "/etc/x", Content: "x"}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := p.AddLink(Link{A: LinkEnd{Node: p.Switches[0].Name}, B: LinkEnd{Node: "late"}}); err != nil {
				t.Fatal(err)
			}
			checkSpec(t, p)
		})
	}
}

func checkSpec(t *testing.T, p *Plan) {
	t.Helper()
	s := p.Spec()
	again, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	if !samePlan(again, p) {
		t.Errorf("planned again, it is different: %s\nfrom %s\nwant %s", asJSON(t, again), asJSON(t, s), asJSON(t, p))
	}
	if !reflect.DeepEqual(again.Controllers, p.Controllers) || again.Name != p.Name || again.Addressing != p.Addressing {
		t.Errorf("%+v\n%+v", again, p)
	}
	a, _ := json.Marshal(s)
	b, _ := json.Marshal(again.Spec())
	if string(a) != string(b) {
		t.Errorf("said again, it is different:\n%s\n%s", a, b)
	}
}

// A network that needs little said is said in few words.
func TestPlanSpecShort(t *testing.T) {
	s, err := Options{Topo: "single,2"}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(mustPlan(t, s).Spec())
	want := `{"hosts":[{"name":"h1"},{"name":"h2"}],"switches":[{"name":"s1"}],"controllers":[{"name":"c0","kind":"builtin"}],` +
		`"links":[{"a":{"node":"h1"},"b":{"node":"s1"}},{"a":{"node":"h2"},"b":{"node":"s1"}}]}`
	if string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
