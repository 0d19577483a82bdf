package netfile

import (
	"strings"
	"testing"

	"weft/topo"
)

// A NIC is named at the end of a link; what all links are given is not for it.
func TestNIC(t *testing.T) {
	const text = `
hosts: [h1]
switches: [s1]
defaults: {link: {delay: 5ms}}
links:
  - h1 -- s1
  - h1/eth9 -- hw:eth3: {mtu: 9000, force: true}
  - {a: hw:0000:03:00.0, b: {node: s1, port: 7}}
`
	s, err := Parse(t.Context(), "net.yaml", []byte(text), Params{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Links[0].AB.Delay == 0 {
		t.Error("the defaults are lost")
	}
	if l := s.Links[1]; l.A.Interface != "eth9" || l.B != (topo.LinkEnd{Node: "hw:eth3"}) || l.MTU != 9000 || !l.Force || l.Impaired() {
		t.Errorf("link by name: %+v", l)
	}
	if l := s.Links[2]; l.A != (topo.LinkEnd{Node: "hw:0000:03:00.0"}) || l.B.Port == nil || *l.B.Port != 7 || l.Impaired() {
		t.Errorf("link by address: %+v", l)
	}
	p, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	out, err := YAML(p.Spec())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"b: 'hw:eth3', mtu: 9000", "hw:0000:03:00.0 -- s1/7"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("written without %q:\n%s", want, out)
		}
	}
	if _, err := Parse(t.Context(), "again.yaml", out, Params{}); err != nil {
		t.Errorf("read again: %v\n%s", err, out)
	}
	var notes []string
	if out, err = Python(p.Spec(), func(n string) { notes = append(notes, n) }); err != nil {
		t.Fatal(err)
	}
	if len(notes) < 2 || !strings.Contains(notes[len(notes)-1], "Intf('0000:03:00.0', node=net['s1'])") || strings.Contains(string(out), "hw:") {
		t.Errorf("for Mininet, notes %q:\n%s", notes, out)
	}
}
