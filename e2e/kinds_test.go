package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestKinds brings up all kinds of switches, shapes and addresses, with loops.
func TestKinds(t *testing.T) {
	cases := []struct{ args string }{
		{"--topo minimal"},
		{"--topo single,4 --mac --arp"},
		{"--topo linear,4 --ipbase 192.168.7.0/24"},
		{"--topo tree,2,3 --switch ovsk,protocols=OpenFlow13"},
		{"--topo tree,2,2 --switch ovsk,protocols=OpenFlow10"},
		{"--topo torus,3,3"},
		{"--topo ring,5"},
		{"--topo mesh,4"},
		{"--topo ring,4 --ip6"},
		{"--topo linear,3 --switch ovsbr"},
		{"--topo linear,3 --switch ovsk,failMode=standalone --controller none"},
		{"--topo linear,3 --switch lxbr"},
		{"--topo single,3 --switch ovsk,datapath=user"},
		{"--topo tree,2,2 --link ovs"},
		{"--topo ring,4 --link ovs"},
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.args, " ", "_"), func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				args := append(strings.Fields(c.args), "--test", "pingall")
				if slices.Contains(args, "--ip6") {
					args = append(args, "--test", "pingall -6")
				}
				weft(t, u, 0, args...)
			})
		})
	}
	t.Run("stp", func(t *testing.T) {
		t.Parallel()
		// Spanning trees need 30 s until ports forward.
		u := ordinary()
		r := start(t, launch{user: u, prompt: true, args: strings.Fields("--topo ring,3 --switch lxbr,stp=1")})
		r.ready()
		if !until(mostReady, func() bool { return strings.Contains(r.ask("pingall"), "6 of 6 received") }) {
			t.Error("no ping through a ring of Linux bridges with STP")
		}
		r.in.Close()
		if code := r.wait(); code > 1 {
			t.Errorf("exit status %d", code)
		}
		r.gone()
	})
	t.Run("afxdp", func(t *testing.T) {
		needRoot(t)
		t.Parallel()
		weft(t, rootUser, 0, "--topo", "single,3", "--switch", "ovsk,datapath=afxdp", "--test", "pingall")
	})
	t.Run("afxdp needs root", func(t *testing.T) {
		t.Parallel()
		has(t, weft(t, ordinary(), 1, "--topo", "single,3", "--switch", "ovsk,datapath=afxdp", "--test", "pingall"),
			"AF_XDP", "root", "datapath=user")
	})
	t.Run("subuid", func(t *testing.T) {
		needRoot(t)
		t.Parallel()
		u, err := withSubIDs()
		if err != nil {
			t.Skip(err.Error())
		}
		weft(t, u, 0, "--topo", "tree,2,2", "--test", "pingall")
	})
}
