package script

import (
	"strings"
	"testing"

	"weft/topo"
)

// DPDK nodes of scripts are those of files.
func TestDPDK(t *testing.T) {
	s := mustTopology(t, `
net.addDPDK('nf1', ['firewall@2 --rules web.rules', 'bridge'], chains={'default': ['firewall', 3], 'fast': '3→port:1'}, flows=['tcp,actions=chain:fast'])
dpdk('nf2', nfs=[{'name': 'web', 'command': './web', 'service': 4, 'core': 1}], portKind='packet')
net.addSwitch('nf3', driver='dpdk', nfs='bridge', failMode='secure')
link(host('h1'), 'nf1')
`, nil)
	for i, want := range []string{"default 2→3, fast 3→port:1", "", ""} {
		var got []string
		for _, c := range s.Switches[i].DPDK.Chains {
			got = append(got, c.Name+" "+c.String())
		}
		if s.Switches[i].Driver != topo.DriverDPDK || strings.Join(got, ", ") != want {
			t.Errorf("%s: driver %s, chains %q, not %q", s.Switches[i].Name, s.Switches[i].Driver, strings.Join(got, ", "), want)
		}
	}
	if f := s.Switches[0].DPDK.NFs[0]; f.Service != 2 || strings.Join(f.Args, " ") != "--rules web.rules" {
		t.Errorf("NF %+v", f)
	}
	if f := s.Switches[1].DPDK.NFs[0]; f.Command != "./web" || f.Core != 1 || s.Switches[1].DPDK.PortKind != "packet" {
		t.Errorf("NF %+v", f)
	}
	for text, want := range map[string]string{
		"net.addDPDK('nf1', ['bridge'], chains={'default': ['nat']})": `there is no NF "nat"`,
		"net.addDPDK('nf1', ['bridge'], chains=[1])":                  "is not a dict",
		"net.addDPDK('nf1', driver='ovs')":                            "driver dpdk",
		"net.addDPDK('nf1', [7])":                                     "7",
		"net.addDPDK('nf1', 'bridge@x')":                              "not a service",
	} {
		if _, err := topology(t, text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}
