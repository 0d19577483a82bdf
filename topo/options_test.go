package topo

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseSwitch(t *testing.T) {
	tests := map[string]Switch{
		"":        {Driver: DriverOVS},
		"default": {Driver: DriverOVS},
		"ovsk,protocols=OpenFlow13,failMode=standalone,datapath=user,stp=1,dpid=0x1f,batch=1": {Driver: DriverOVS,
			Protocols: []string{"OpenFlow13"}, FailMode: "standalone", Datapath: DatapathUser, STP: true, DPID: 0x1f},
		"ovs,protocols=openflow10,OpenFlow13,FAILMODE=Secure": {Driver: DriverOVS, Protocols: []string{"OpenFlow10", "OpenFlow13"}, FailMode: "secure"},
		"ovsbr,stp=True":              {Driver: DriverOVSBridge, STP: true},
		"lxbr,stp=1":                  {Driver: DriverLinux, STP: true},
		"ovs,dpid=00000000000000ab":   {Driver: DriverOVS, DPID: 0xab},
		"ovs, datapath=afxdp , stp=0": {Driver: DriverOVS, Datapath: DatapathAFXDP},
	}
	for text, want := range tests {
		if got, err := ParseSwitch(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseSwitch(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestParseController(t *testing.T) {
	tests := map[string]Controller{
		"":                            {Kind: ControllerBuiltin},
		"default":                     {Kind: ControllerBuiltin},
		"ref":                         {Kind: ControllerBuiltin},
		"builtin,port=6653":           {Kind: ControllerBuiltin, Port: 6653},
		"ovsc,inside=1":               {Kind: ControllerOVS, Inside: true},
		"remote":                      {Kind: ControllerRemote},
		"remote,ip=10.0.0.1,port=9":   {Kind: ControllerRemote, Address: "10.0.0.1", Port: 9},
		"remote,127.0.0.1:6653":       {Kind: ControllerRemote, Address: "127.0.0.1", Port: 6653},
		"remote,127.0.0.1,6653":       {Kind: ControllerRemote, Address: "127.0.0.1", Port: 6653},
		"remote,ssl:sdn.example:6653": {Kind: ControllerRemote, Transport: "ssl", Address: "sdn.example", Port: 6653},
		"remote,::1":                  {Kind: ControllerRemote, Address: "::1"},
		"remote,ip=[::1]:7":           {Kind: ControllerRemote, Address: "::1", Port: 7},
		"tcp:[::1]:6653":              {Kind: ControllerRemote, Transport: "tcp", Address: "::1", Port: 6653},
		"ssl:127.0.0.1:6653,cacert=/ca.pem,cert=/c.pem,key=/k.pem": {Kind: ControllerRemote, Transport: "ssl",
			Address: "127.0.0.1", Port: 6653, CACert: "/ca.pem", Cert: "/c.pem", Key: "/k.pem"},
		"remote,ip=a,protocol=SSL":                  {Kind: ControllerRemote, Transport: "ssl", Address: "a"},
		"ryu,ryu.app.simple_switch_13":              {Kind: ControllerRyu, Command: "ryu.app.simple_switch_13"},
		"ryu,app.py,--verbose,--x=1,port=6653":      {Kind: ControllerRyu, Command: "app.py --verbose --x=1", Port: 6653},
		"osken,a,b":                                 {Kind: ControllerOSKen, Command: "a b"},
		"cmd:python3 c.py, --port={port} a:b":       {Kind: ControllerCommand, Command: "python3 c.py, --port={port} a:b"},
		"cmd,inside=1,port=6653:pox.py openflow:of": {Kind: ControllerCommand, Inside: true, Port: 6653, Command: "pox.py openflow:of"},
	}
	for text, want := range tests {
		if got, err := ParseController(text); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("ParseController(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	if got, err := ParseController("none"); err != nil || len(got) != 0 {
		t.Errorf("ParseController(none) = %v, %v", got, err)
	}
}

func TestParseOthers(t *testing.T) {
	for text, want := range map[string]LinkDriver{"": LinkVeth, "default": LinkVeth, "veth": LinkVeth, "ovs": LinkPatch, "patch": LinkPatch} {
		if got, err := ParseLink(text); err != nil || got != (LinkSettings{Driver: want}) {
			t.Errorf("ParseLink(%q) = %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"10.0.0.0/8": "10.0.0.0/8", "10.0/8": "10.0.0.0/8", "192.168.1.0": "192.168.1.0/24", "10.0.0.5/16": "10.0.0.5/16", "10.1": "10.0.0.1/24"} {
		if got, err := ParseIPBase(text); err != nil || got.String() != want {
			t.Errorf("ParseIPBase(%q) = %v, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"fd00::/64": "fd00::/64", "fd00::": "fd00::/64", "2001:db8::5/48": "2001:db8::5/48"} {
		if got, err := ParseIP6Base(text); err != nil || got.String() != want {
			t.Errorf("ParseIP6Base(%q) = %v, %v, want %s", text, got, err, want)
		}
	}
	if h, connect, err := ParseNAT(""); err != nil || h.Name != "nat0" || h.NAT == nil || connect != "" {
		t.Errorf("ParseNAT: %+v, %q, %v", h, connect, err)
	}
	h, connect, err := ParseNAT("name=gw,ip=10.0.0.254,mac=02:00:00:00:00:FE,subnet=10.0/8,connect=s2")
	if err != nil || h.Name != "gw" || h.IP != prefix("10.0.0.254/8") || h.MAC != "02:00:00:00:00:fe" || h.NAT.Subnet != prefix("10.0.0.0/8") || connect != "s2" {
		t.Errorf("ParseNAT: %+v, %q, %v", h, connect, err)
	}
}

// TestOptionErrors holds the messages for options that are wrong.
func TestOptionErrors(t *testing.T) {
	parsers := []struct {
		name  string
		parse func(string) error
		texts []string
	}{
		{"switch", func(s string) error { _, err := ParseSwitch(s); return err }, []string{
			"user", "ivs", "osv", "ovs,x", "ovs,failmod=secure", "ovs,failMode=open", "ovs,stp=maybe", "ovs,protocols=OpenFlow19", "ovs,protocols=",
			"ovs,protocols=OpenFlow10,1.3", "ovs,dpid=0", "ovs,dpid=xyz", "ovs,batch=0", "ovsbr,failMode=secure", "lxbr,protocols=OpenFlow13", "ovs,stp=1,stp=1", "ovs,datapath=dpdk"}},
		{"controller", func(s string) error { _, err := ParseController(s); return err }, []string{
			"nox", "remotee", "builtin,x=1", "builtin,6653", "remote,1,2,3", "remote,host:0", "remote,[::1", "remote,[x]:1", "remote,port=x", "remote,transport=udp", "remote,cert=a",
			"remote,ip=", "ssl:", "ryu", "ryu,inside=1", "ryu,app,inside=2", "ryu,app,prot=1", "cmd", "cmd,inside=1", "cmd:", "cmd,x:y", "none,x", "ovsc,a"}},
		{"link", func(s string) error { _, err := ParseLink(s); return err }, []string{"tc,bw=fast", "tc,bw=10,bw=10", "tcu,10", "vet", "veth,bw=10", "ovs,x"}},
		{"nat", func(s string) error { _, _, err := ParseNAT(s); return err }, []string{"nat0", "flush=1", "ip=x,subnet=y", "mac=1"}},
		{"ipbase", func(s string) error { _, err := ParseIPBase(s); return err }, []string{"", "x", "10.0.0.0/33", "fd00::/64", "1.2.3.4.5/8"}},
		{"ip6", func(s string) error { _, err := ParseIP6Base(s); return err }, []string{"", "10.0.0.0/8", "fd00::/129", "::ffff:1.2.3.4/120"}},
		{"options", func(s string) error {
			nat := s
			_, err := Options{Topo: s, Switch: s, Controllers: []string{s, "none", s}, Link: s, IPBase: s, IP6: s, NAT: &nat, Name: "a/b"}.Spec()
			return err
		}, []string{"wrong"}},
		{"options together", func(s string) error {
			nat := s
			_, err := Options{IPBase: "10.0.0.0/30", NAT: &nat, Switch: "ovs,dpid=5", Topo: "linear,3"}.Spec()
			return err
		}, []string{"connect=s9", "name=h1"}},
	}
	var b strings.Builder
	for _, p := range parsers {
		for _, text := range p.texts {
			err := p.parse(text)
			if err == nil {
				t.Errorf("%s %q: no error", p.name, text)
				continue
			}
			fmt.Fprintf(&b, "%s %s\n\t%s\n", p.name, text, strings.ReplaceAll(err.Error(), "\n", "\n\t"))
		}
	}
	golden(t, "option-errors.txt", []byte(b.String()))
}

func TestOptionsSpec(t *testing.T) {
	nat := "connect=s2"
	s, err := Options{Topo: "torus,3,3", Switch: "lxbr,stp=1", Controllers: []string{"remote", "none", "ryu,app"}, Link: "ovs", NAT: &nat}.Spec()
	if err == nil {
		t.Error("torus has no switch s2")
	}
	nat = "connect=s2x2"
	s, err = Options{Topo: "torus,3,3", Switch: "lxbr,stp=1", Controllers: []string{"remote", "none", "ryu,app"}, Link: "ovs", NAT: &nat}.Spec()
	if err != nil {
		t.Fatal(err)
	}
	if s.Switches[4].DPID != 0 || !s.Switches[4].STP || s.Switches[4].Driver != DriverLinux {
		t.Errorf("switch: %+v", s.Switches[4])
	}
	if len(s.Controllers) != 2 || s.Controllers[0].Name != "c0" || s.Controllers[1].Name != "c1" {
		t.Errorf("controllers: %+v", s.Controllers)
	}
	last := s.Links[len(s.Links)-1]
	if last.A.Node != "nat0" || last.B.Node != "s2x2" {
		t.Errorf("the gateway's link: %+v", last)
	}
	for _, l := range s.Links {
		if l.Driver != LinkVeth && l.Driver != "" {
			t.Errorf("a patch link between Linux bridges: %+v", l)
		}
	}
}

// fuzzText gives texts to parse, whose errors must fit into a line.
func fuzzText(f *testing.F, parse func(t *testing.T, text string) error, seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := parse(t, text); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: an error of several lines: %v", text, err)
		}
	})
}

func FuzzParseSwitch(f *testing.F) {
	fuzzText(f, func(t *testing.T, text string) error {
		s, err := ParseSwitch(text)
		if err != nil {
			return err
		}
		s.Name = "s1"
		if err := (Spec{Switches: []Switch{s}}).Validate(); err != nil {
			t.Errorf("%q makes a switch that is not valid: %v", text, err)
		}
		return nil
	}, "ovsk,protocols=OpenFlow13,OpenFlow10", "lxbr,stp=1", "ovsbr,dpid=ff,batch=1")
}

func FuzzParseController(f *testing.F) {
	fuzzText(f, func(t *testing.T, text string) error {
		list, err := ParseController(text)
		if err != nil || len(list) == 0 {
			return err
		}
		list[0].Name = "c0"
		if err := (Spec{Controllers: list}).Validate(); err != nil {
			t.Errorf("%q makes a controller that is not valid: %v", text, err)
		}
		return nil
	}, "remote,ip=1.2.3.4,port=5", "tcp:[::1]:6653", "cmd,inside=1:x {port}", "ryu,a,--b=c", "ssl:a:1,cacert=x", "none")
}

func FuzzParseLink(f *testing.F) {
	fuzzText(f, func(_ *testing.T, text string) error { _, err := ParseLink(text); return err }, "veth", "tc,bw=1", "ovs")
}

func FuzzParseNAT(f *testing.F) {
	fuzzText(f, func(_ *testing.T, text string) error { _, _, err := ParseNAT(text); return err }, "ip=1.2.3.4/8,connect=s1", "subnet=10/8")
}

func FuzzParseIPBase(f *testing.F) {
	fuzzText(f, func(t *testing.T, text string) error {
		p, err := ParseIPBase(text)
		if err == nil && !p.Addr().Is4() {
			t.Errorf("%q is %v", text, p)
		}
		return err
	}, "10.0/8", "10.0.0.1")
}

func FuzzParseIP6Base(f *testing.F) {
	fuzzText(f, func(t *testing.T, text string) error {
		p, err := ParseIP6Base(text)
		if err == nil && !p.Addr().Is6() {
			t.Errorf("%q is %v", text, p)
		}
		return err
	}, "fd00::/64", "::1")
}

// A file's network keeps what it says; options say the rest, or what they say anew.
func TestOptionsCustom(t *testing.T) {
	shaped := Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s1"}}
	if err := shaped.Set("bw=10"); err != nil {
		t.Fatal(err)
	}
	custom := Spec{
		Name: "lab", Hosts: []Host{{Name: "h1"}, {Name: "h2"}},
		Switches:    []Switch{{Name: "s1", STP: true}, {Name: "s2"}},
		Controllers: []Controller{{Name: "c7", Kind: ControllerRemote}},
		Links:       []Link{shaped, {A: LinkEnd{Node: "h2"}, B: LinkEnd{Node: "s2"}}, {A: LinkEnd{Node: "s1"}, B: LinkEnd{Node: "s2"}}},
	}
	s, err := Options{Custom: &custom}.Spec()
	if err != nil || s.Name != "lab" || !s.Switches[0].STP || len(s.Controllers) != 1 || s.Controllers[0].Name != "c7" ||
		s.Links[0].LinkSettings != shaped.LinkSettings || s.Links[1].Driver != LinkVeth {
		t.Errorf("without options: %+v, %v", s, err)
	}
	s, err = Options{Custom: &custom, Name: "mine", Switch: "ovs,protocols=OpenFlow13", Controllers: []string{"none"}, Link: "ovs", MAC: true}.Spec()
	if err != nil || s.Name != "mine" || s.Switches[0].STP || s.Switches[1].Protocols[0] != "OpenFlow13" || !s.Addressing.AutoMAC ||
		s.Links[0].LinkSettings != shaped.LinkSettings || s.Links[1].Driver != LinkVeth || s.Links[2].Driver != LinkPatch {
		t.Errorf("with options: %+v, %v", s, err)
	}
	if len(custom.Controllers) != 1 || custom.Links[2].Driver != "" {
		t.Errorf("the options changed the file's network: %+v", custom)
	}
}
