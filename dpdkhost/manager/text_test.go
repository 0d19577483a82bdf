package manager

import (
	"reflect"
	"strings"
	"testing"
)

func TestFlowText(t *testing.T) {
	for text, want := range map[string]string{
		"actions=drop": "",
		"in_port=1,tcp,nw_dst=10.0.0.2,actions=chain:web":                                             "",
		"udp6,ipv6_src=fd00::/64,ipv6_dst=fd00::2,tp_dst=53,priority=7,actions=service:3":             "",
		"arp,arp_spa=10.0.0.1,arp_op=1,actions=output:1,controller":                                   "",
		"dl_src=02:00:00:00:00:01,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=flood":           "",
		"dl_vlan=0xffff,dl_type=0x88cc,actions=controller":                                            "",
		"dl_vlan=7,ip,nw_proto=47,nw_tos=184,actions=drop":                                            "",
		"icmp,icmp_type=8,icmp_code=0,actions=output:32767":                                           "",
		"icmp6,icmpv6_type=135,actions=output:2":                                                      "",
		"tcp,tp_src=0x400/0xfc00,actions=output:2":                                                    "tcp,tp_src=1024/0xfc00,actions=output:2",
		" tcp_dst=80  tcp priority=100 idle_timeout=60s,hard_timeout=300,cookie=7 actions= output:2 ": "tcp,tp_dst=80,priority=100,cookie=0x7,idle_timeout=60,hard_timeout=300,actions=output:2",
		"ip,nw_src=10.1.2.3/255.0.255.0,nw_dst=10.9.9.9/8,actions=drop":                               "ip,nw_src=10.0.2.0/255.0.255.0,nw_dst=10.0.0.0/8,actions=drop",
		"dl_type=0x800,nw_proto=6,ip_dscp=46,actions=drop":                                            "tcp,nw_tos=184,actions=drop",
		"arp,nw_dst=10.0.0.7,actions=drop":                                                            "arp,arp_tpa=10.0.0.7,actions=drop",
		"in_port=32773,actions=chain:a,chain:b,service:4095":                                          "",
		"ip,nw_dst=0.0.0.0/0,priority=0,actions=drop":                                                 "ip,priority=0,actions=drop",
	} {
		f, err := ParseFlow(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if want == "" {
			want = text
		}
		// Written in the order of the fields.
		sorted := func(s string) string {
			words := strings.Split(s, ",")
			return strings.Join(words, ",")
		}
		got := f.String()
		again, err := ParseFlow(got)
		if err != nil || !reflect.DeepEqual(again, f) {
			t.Errorf("%s: written as %s, and read again as %+v, %v", text, got, again, err)
		}
		if len(strings.Split(got, ",")) != len(strings.Split(want, ",")) || !sameWords(sorted(got), want) {
			t.Errorf("%s: written as %s, want %s", text, got, want)
		}
	}
}

func sameWords(a, b string) bool {
	for _, w := range strings.Split(a, ",") {
		if !strings.Contains(","+b+",", ","+w+",") {
			return false
		}
	}
	return true
}

func TestFlowTextErrors(t *testing.T) {
	for text, want := range map[string]string{
		"tcp":                                "it has no actions: end it with actions=chain:NAME, service:N, output:PORT, flood, controller or drop",
		"actions=":                           "actions= without an action; write drop to drop",
		"nw_dst=10.0.0.1,actions=drop":       "nw_dst is of tcp, udp, icmp, sctp, ip, arp: match on that too",
		"tp_dst=80,ip,actions=drop":          "tp_dst is of tcp, udp, sctp, tcp6, udp6, sctp6: match on that too",
		"tcp,udp,actions=drop":               "udp contradicts what stands before it",
		"tcp,nw_proto=17,actions=drop":       "nw_proto=17: it contradicts what stands before it",
		"ip,nw_dst=10.0.0,actions=drop":      `nw_dst=10.0.0: "10.0.0" is no IPv4 address`,
		"ip,nw_dst=10.0.0.1/33,actions=drop": "nw_dst=10.0.0.1/33: write a prefix of 0 to 32 bits",
		"ip,nw_tos=3,actions=drop":           "nw_tos=3: the last two bits are not DSCP: write a multiple of 4",
		"dl_vlan=5000,actions=drop":          "dl_vlan=5000: write a VLAN from 0 to 4095, or 0xffff for none",
		"dl_src=5,actions=drop":              `dl_src=5: "5" is no MAC address`,
		"in_port=99999,actions=drop":         "in_port=99999: write a number from 0 to 36863",
		"priority=-1,actions=drop":           "priority=-1: write a number from 0 to 65535",
		"idle_timeout=1h,actions=drop":       "idle_timeout=1h: write seconds from 0 to 65535",
		"chain:web":                          `"chain:web" is an action: write actions=chain:web`,
		"web,actions=drop":                   `unknown field "web": write FIELD=VALUE, or ip, arp, tcp, udp, icmp, sctp, ipv6, tcp6, udp6, icmp6 or sctp6`,
		"actions=drop,output:1":              "drop stands alone",
		"actions=output:0":                   `action "output:0": ports have numbers from 1 to 32767`,
		"actions=service:5000":               `action "service:5000": services have numbers from 1 to 4095`,
		"actions=normal":                     `unknown action "normal": there are chain:NAME, service:N, output:PORT, flood, controller and drop`,
	} {
		if _, err := ParseFlow(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
	if _, err := ParseMatch("tcp,actions=drop"); err == nil {
		t.Error("a match with actions")
	}
	if m, err := ParseMatch(""); err != nil || m != (Match{}) {
		t.Errorf("all packets: %+v, %v", m, err)
	}
}

// Whatever is read is written so that it is read again.
func FuzzFlow(f *testing.F) {
	f.Add("in_port=1,tcp,nw_dst=10.0.0.2/24,tp_dst=80/0xfff0,priority=5,idle_timeout=3,cookie=0x9,actions=chain:web,output:2")
	f.Add("dl_src=02:00:00:00:00:01/ff:ff:00:00:00:00,dl_vlan=0,udp6,ipv6_dst=fd00::1/ffff::1,actions=flood,controller")
	f.Fuzz(func(t *testing.T, text string) {
		flow, err := ParseFlow(text)
		if err != nil {
			return
		}
		if again, err := ParseFlow(flow.String()); err != nil || !reflect.DeepEqual(again, flow) {
			t.Fatalf("%s: %+v, %v\nwant %+v", flow, again, err, flow)
		}
	})
}
