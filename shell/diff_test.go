package shell

import (
	"net/netip"
	"strings"
	"testing"

	"weft/topo"
)

func TestWriteDiff(t *testing.T) {
	l := func(a, b string, options ...string) topo.Link {
		l := topo.Link{A: topo.LinkEnd{Node: a}, B: topo.LinkEnd{Node: b}}
		if err := l.Set(options...); err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := topo.Spec{
		Hosts:       []topo.Host{{Name: "h1"}, {Name: "h2"}, {Name: "h3"}},
		Switches:    []topo.Switch{{Name: "s1"}, {Name: "s2"}},
		Controllers: []topo.Controller{{Name: "c0"}},
		Links:       []topo.Link{l("h1", "s1"), l("h2", "s1"), l("h3", "s2"), l("s1", "s2")},
	}
	plan, err := before.Plan()
	if err != nil {
		t.Fatal(err)
	}
	var same strings.Builder
	d, err := plan.Diff(before)
	if err != nil {
		t.Fatal(err)
	}
	if WriteDiff(&same, d); same.String() != "nothing to change\n" {
		t.Error(same.String())
	}
	after := topo.Spec{
		Hosts:       []topo.Host{{Name: "h1", IP: netip.MustParsePrefix("10.0.0.9/8")}, {Name: "h2", PrivateDirs: []string{"/var/tmp"}}, {Name: "h4"}},
		Switches:    []topo.Switch{{Name: "s1", Protocols: []string{"OpenFlow13"}}, {Name: "s2"}, {Name: "s3"}},
		Controllers: []topo.Controller{{Name: "c0", Kind: topo.ControllerRemote}, {Name: "c1"}},
		Links:       []topo.Link{l("h1", "s1"), l("h2", "s1"), l("h4", "s3", "bw=10", "loss=1"), l("s1", "s2", "delay=5ms"), l("s2", "s3")},
		Commands:    []topo.Command{{Node: "h4", Command: "sysctl net.ipv4.tcp_congestion_control"}},
	}
	if d, err = plan.Diff(after); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	WriteDiff(&b, d)
	golden(t, "diff.txt", b.String())
}
