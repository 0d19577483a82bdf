package link

import (
	"strings"
	"testing"
)

// What nft is told when gates change.
func TestWriteGate(t *testing.T) {
	d := func(g Gate) Gate {
		g.Device = "s1-eth1"
		return g
	}
	for _, c := range []struct {
		name    string
		was, is Gate
		want    string
	}{
		{"nothing", d(Gate{}), d(Gate{}), ""},
		{"no change", d(Gate{Cut: true}), d(Gate{Cut: true}), ""},
		{"cut", Gate{}, d(Gate{Cut: true}), `
add counter netdev weft drop-s1-eth1
add chain netdev weft out-s1-eth1 { type filter hook egress device "s1-eth1" priority 0; }
add rule netdev weft out-s1-eth1 counter name drop-s1-eth1 drop
`},
		{"open", d(Gate{Cut: true}), d(Gate{}), `
flush chain netdev weft out-s1-eth1
delete chain netdev weft out-s1-eth1
`},
		{"through a wire, cut and barred", d(Gate{Cut: true}), d(Gate{Cut: true, Bar: "group1", Through: "wire~3a"}), `
flush chain netdev weft out-s1-eth1
add rule netdev weft out-s1-eth1 meta mark 0x77656674 meta mark set 0 accept
add rule netdev weft out-s1-eth1 counter name drop-s1-eth1 drop
add rule netdev weft out-s1-eth1 ether saddr @group1-mac counter name drop-s1-eth1 drop
add rule netdev weft out-s1-eth1 ip saddr @group1-ip counter name drop-s1-eth1 drop
add rule netdev weft out-s1-eth1 ip6 saddr @group1-ip6 counter name drop-s1-eth1 drop
add chain netdev weft in-_776972657e3361 { type filter hook ingress device "wire~3a" priority 0; }
add rule netdev weft in-_776972657e3361 meta mark set 0x77656674 fwd to "s1-eth1"
add rule netdev weft out-s1-eth1 fwd to "wire~3a"
`},
		{"the way out of a wire stays", d(Gate{Through: "wire~3a"}), d(Gate{}), `
flush chain netdev weft out-s1-eth1
delete chain netdev weft out-s1-eth1
`},
	} {
		var b strings.Builder
		writeGate(&b, c.was, c.is)
		if got := b.String(); got != strings.TrimPrefix(c.want, "\n") {
			t.Errorf("%s:\n%s", c.name, got)
		}
	}
}

func TestGateNames(t *testing.T) {
	g := NewGates(nil)
	for _, name := range []string{`a"b`, "eth*", "x;flush", "é"} {
		if err := g.Set(Gate{Device: name, Cut: true}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
