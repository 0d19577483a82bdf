package builtin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
)

func firewallOf(t *testing.T, text string) nf.Function {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fw.rules")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return start(t, "firewall", "--rules", name)
}

func TestFirewall(t *testing.T) {
	lab := nftest.New(t)
	web := nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", "S", "")
	web6 := nftest.TCP(t, "[fd00::1]:4000", "[fd00::2]:80", "S", "")
	dns := nftest.UDP(t, "10.0.0.1:4000", "10.0.0.2:53", "x")
	ping := nftest.Echo(t, "10.0.0.1", "10.0.0.2", 7, true)
	arp := nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", nftest.SrcMAC, "10.0.0.2")
	fragment := nftest.IP("10.0.0.1", "10.0.0.2", layers.IPProtocolTCP)
	fragment[1].(*layers.IPv4).FragOffset = 10
	later := nftest.Frame(t, append(fragment, gopacket.Payload("0123456789012345678901234567"))...)
	for _, c := range []struct {
		rules string
		frame []byte
		want  string
	}{
		{"default allow", web, "next"},
		{"default drop", web, "drop"},
		{"allow tcp", web, "next"},
		{"allow tcp", dns, "drop"},
		{"allow tcp dport 80", web, "next"},
		{"allow tcp dport 443,79-81", web6, "next"},
		{"allow tcp dport 81-90", web, "drop"},
		{"allow tcp sport 4000", web, "next"},
		{"allow tcp sport 80", web, "drop"},
		{"allow tcp sport 4000 dport 81", web, "drop"},
		{"allow from 10.0.0.0/24", web, "next"},
		{"allow from 10.0.0.0/24", web6, "drop"},
		{"allow to fd00::/16", web6, "next"},
		{"allow to 10.0.0.1", web, "drop"},
		{"allow ip", web6, "drop"},
		{"allow ip6", web6, "next"},
		{"allow tcp flags syn,!ack", web, "next"},
		{"allow tcp flags ack", web, "drop"},
		{"allow tcp flags !syn", web, "drop"},
		{"allow icmp type 8", ping, "next"},
		{"allow icmp type 0", ping, "drop"},
		{"allow 17", dns, "next"},
		{"allow port 1", web, "next"},
		{"allow port 2", web, "drop"},
		{"allow vlan 0", web, "next"},
		{"allow vlan 7", web, "drop"},
		// The first rule decides.
		{"drop tcp dport 80\nallow tcp", web, "drop"},
		{"allow tcp dport 80\ndrop tcp", web, "next"},
		// Later fragments have no ports, and pass or not by the rest.
		{"allow tcp dport 80", later, "drop"},
		{"allow tcp", later, "next"},
		// What is not IP passes unless it is named.
		{"drop", arp, "next"},
		{"drop arp", arp, "drop"},
		{"allow from any to any", web, "next"},
	} {
		if got := verdicts(lab.Run(firewallOf(t, c.rules), lab.Packet(1, c.frame))); got != c.want {
			t.Errorf("%q: %s, want %s", c.rules, got, c.want)
		}
	}
}

func TestFirewallKeep(t *testing.T) {
	lab := nftest.New(t)
	f := firewallOf(t, "allow tcp from 10.0.0.1 keep\nallow icmp type 8 keep")
	there := func() nf.Packet {
		return lab.Packet(1, nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", "S", ""))
	}
	back := func() nf.Packet { return lab.Packet(2, nftest.TCP(t, "10.0.0.2:80", "10.0.0.1:4000", "SA", "")) }
	other := func() nf.Packet { return lab.Packet(2, nftest.TCP(t, "10.0.0.2:81", "10.0.0.1:4000", "SA", "")) }
	pong := func() nf.Packet { return lab.Packet(2, nftest.Echo(t, "10.0.0.2", "10.0.0.1", 7, false)) }
	if got := verdicts(lab.Run(f, back(), pong(), there(), back(), other(), lab.Packet(1, nftest.Echo(t, "10.0.0.1", "10.0.0.2", 7, true)), pong())); got != "drop, drop, next, next, drop, next, next" {
		t.Error(got)
	}
	tick(f, 4*time.Minute)
	lab.Run(f, there())
	tick(f, 6*time.Minute)
	if got := verdicts(lab.Run(f, back(), pong())); got != "next, drop" {
		t.Error("four minutes after the last packet and six:", got)
	}
	counted(t, f, map[string]uint64{"flows": 1, "answers": 3})
}

func TestFirewallReject(t *testing.T) {
	lab := nftest.New(t)
	f := firewallOf(t, "default reject")
	tick(f, 2*time.Second)
	list := lab.Run(f,
		lab.Packet(1, nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", "S", "")),
		lab.Packet(1, nftest.TCP(t, "[fd00::1]:4000", "[fd00::2]:80", "PA", "hello")),
		lab.Packet(1, nftest.UDP(t, "10.0.0.1:4000", "10.0.0.2:53", strings.Repeat("x", 1000))),
		lab.Packet(1, nftest.UDP(t, "[fd00::1]:4000", "[fd00::2]:53", strings.Repeat("x", 1400))),
		lab.Packet(1, nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", "R", "")))
	if got := verdicts(list); got != "out 1, out 1, out 1, out 1, drop" {
		t.Fatal(got)
	}
	p := nftest.Decode(t, list[0].Data)
	rst := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !rst.RST || !rst.ACK || rst.Ack != 1001 || rst.SrcPort != 80 || rst.DstPort != 4000 || p.NetworkLayer().NetworkFlow().String() != "10.0.0.2->10.0.0.1" ||
		p.LinkLayer().LinkFlow().Src().String() != "02:00:00:00:00:02" {
		t.Errorf("%v", p)
	}
	p = nftest.Decode(t, list[1].Data)
	if rst = p.Layer(layers.LayerTypeTCP).(*layers.TCP); !rst.RST || rst.ACK || rst.Seq != 2000 {
		t.Errorf("%v", p)
	}
	p = nftest.Decode(t, list[2].Data)
	if m := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); m.TypeCode != layers.CreateICMPv4TypeCode(3, 13) || len(list[2].Data) != 14+576 {
		t.Errorf("%v", p)
	}
	p = nftest.Decode(t, list[3].Data)
	if m := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); m.TypeCode != layers.CreateICMPv6TypeCode(1, 1) || len(list[3].Data) != 14+1280 {
		t.Errorf("%v", p)
	}
	// Not too many messages.
	told := 0
	for range 2 * repliesPerSecond {
		if lab.Run(f, lab.Packet(1, nftest.UDP(t, "10.0.0.1:4000", "10.0.0.2:53", "")))[0].Verdict != "drop" {
			told++
		}
	}
	if told != repliesPerSecond-4 {
		t.Errorf("%d more messages in one second, want %d", told, repliesPerSecond-4)
	}
}

func TestFirewallCommands(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fw.rules")
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("# web only\n\nallow tcp dport 80 # and no TLS\ndefault drop\n")
	f := start(t, "firewall", "--rules", name, "--rule", "allow icmp")
	lab := nftest.New(t)
	lab.Run(f, lab.Packet(1, nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", "S", "")), lab.Packet(1, nftest.UDP(t, "10.0.0.1:4000", "10.0.0.2:80", "")))
	text, err := f.(nf.Commander).Command([]string{"rules"})
	want := "packets bytes rule place 0 0 allow icmp --rule:1 1 60 allow tcp dport 80 " + name + ":3 1 default drop"
	if err != nil || squeeze(text) != want {
		t.Errorf("%v\n%s", err, text)
	}
	counted(t, f, map[string]uint64{"rule1": 0, "rule2": 1, "default": 1, "allowed": 1, "dropped": 1})
	write("allow nonsense\n")
	if _, err := f.(nf.Commander).Command([]string{"reload"}); err == nil || !strings.Contains(err.Error(), name+":1: ") {
		t.Errorf("%v", err)
	}
	if got := verdicts(lab.Run(f, lab.Packet(1, nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", "S", "")))); got != "next" {
		t.Error("a wrong file changed the rules")
	}
	write("drop tcp\n")
	if text, err := f.(nf.Commander).Command([]string{"reload"}); err != nil || text != "2 rules\n" {
		t.Errorf("%v %s", err, text)
	}
	if got := verdicts(lab.Run(f, lab.Packet(1, nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", "S", "")))); got != "drop" {
		t.Error("the rules are the old ones")
	}
}

// All mistakes of a file come at once, each with its line.
func TestRuleMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"pass":                            `"pass": the action is allow, drop or reject`,
		"default":                         `"": the action is`,
		"allow tcpp":                      `"tcpp": expected a protocol`,
		"allow tcp dport":                 `dport: of what? a value is missing`,
		"allow dport 80":                  `ports: of tcp, udp or sctp?`,
		"allow tcp dport 80-":             `dport 80-: "80-" is no port or range`,
		"allow tcp dport 90-80":           `dport 90-80: "90-80" is no port or range`,
		"allow tcp dport 65536":           `dport 65536: "65536" is no port`,
		"allow tcp dport 1 dport 2":       `dport 2: there are some already`,
		"allow from 10.0.0.1/24":          `from 10.0.0.1/24: has bits beyond its length; did you mean 10.0.0.0/24 or 10.0.0.1?`,
		"allow from 10.0.0.0/33":          `from 10.0.0.0/33: no address or network`,
		"allow from 10.0.0.1 to fd00::1":  `to fd00::1: IPv4 and IPv6 in one rule`,
		"allow ip6 from 10.0.0.1":         `from 10.0.0.1: IPv4 and IPv6 in one rule`,
		"allow udp flags syn":             `flags: only tcp has them`,
		"allow tcp flags syn,!syn":        `flags: one is to be set and not set`,
		"allow tcp flags synn":            `flags synn: "synn": TCP's flags are`,
		"allow type 8":                    `type: of icmp or icmp6?`,
		"allow icmp type 300":             `type 300: a number from 0 to 255`,
		"drop tcp keep":                   `keep: only what is allowed has answers`,
		"reject arp":                      `reject: only IP can be told; drop it`,
		"allow arp from 10.0.0.1":         `arp: such packets have no IP header`,
		"allow tcp udp":                   `udp: there is a protocol already`,
		"allow vlan 5000":                 `vlan 5000: a number from 0, for none, to 4095`,
		"allow port 0":                    `port 0: port "0": ports have numbers`,
		"default allow\ndefault drop":     `there is a default in line 1 already`,
		"allow from fe80::1%eth0":         `from fe80::1%eth0: no address or network`,
		"allow tcp\nallow nonsense\npass": `"nonsense": expected`,
	} {
		_, err := parseRules(strings.NewReader(line), "f")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
	_, err := parseRules(strings.NewReader("x\nallow tcp\ny"), "f")
	if err == nil || !strings.Contains(err.Error(), "f:1: ") || !strings.Contains(err.Error(), "f:3: ") {
		t.Errorf("not all mistakes: %v", err)
	}
}

// Whatever a file holds, it gives rules that mean the same again, or errors with lines.
func FuzzRules(f *testing.F) {
	f.Add("default drop\nallow tcp from 10.0.0.0/8 to any dport 80,8000-8100 keep\n")
	f.Add("reject udp sport 1\ndrop tcp flags syn,!ack port 2 vlan 7 # x\nallow icmp type 8\ndrop arp")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := parseRules(strings.NewReader(text), "f")
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "f:") {
					t.Fatalf("%q has no place", line)
				}
			}
			return
		}
		for _, r := range set.list {
			again, err := parseRules(strings.NewReader(r.text), "f")
			if err != nil || len(again.list) != 1 || again.list[0].text != r.text {
				t.Fatalf("%q again: %v", r.text, err)
			}
		}
	})
}
