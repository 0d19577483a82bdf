package e2e

import (
	"strings"
	"testing"
)

// Links come, go and change at a DPDK node that runs: pings through it are not lost, and its NFs go
// on.
func TestDPDKLinks(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2"}})
		r.ready()
		has(t, r.ask("h1 ping -c 1 h2"), "1 received")
		r.ask("add host h3")
		r.ask("h1 ping -i 0.02 -c 300 -W 60 -q h2 > %s &", r.file("pings"))

		has(t, r.ask("add link h3 s1"), "added link")
		has(t, r.ask("nf stats"), "s1-eth3")
		r.ask("nf flow add in_port=3,actions=output:1")
		r.ask("nf flow add ip,nw_dst=10.0.0.3,actions=output:3")
		r.ask("nf flow add arp,arp_tpa=10.0.0.3,actions=output:3")
		has(t, r.ask("h3 ping -c 2 -i 0.1 h1"), "2 received")
		has(t, r.ask("nf chain set default bridge→port:9"), "s1 has no port 9")
		has(t, r.ask("nf chain set web bridge→port:3"))
		has(t, r.ask("del link h3 s1"), "chain web of s1 leaves by its port 3")
		has(t, r.ask("nf chain delete web"))
		has(t, r.ask("del link h3 s1"), "port 3 (s1-eth3) is gone", "ip,nw_dst=10.0.0.3,actions=output:3")
		if text := r.ask("nf stats"); strings.Contains(text, "s1-eth3") {
			t.Errorf("there is a port without a link:\n%s", text)
		}
		has(t, r.ask("add link h3 s1"), "added link")
		r.eventually("h3 ping -c 1 -W 1 h1", "1 received")

		r.ask("link s1 h3 down")
		has(t, r.ask("h3 ping -c 1 -W 1 h1"), "unreachable")
		r.ask("link s1 h3 up")
		r.eventually("h3 ping -c 1 -W 1 h1", "1 received")
		r.ask("link set s1-h3 mtu=4000")
		r.ask("link set s1-h1 mtu=4000")
		has(t, r.ask("h3 ping -c 1 -M do -s 3000 h1"), "1 received")
		r.ask("link set s1-h3 delay=5ms")
		has(t, r.ask("h3 ping -c 1 h1"), "1 received")
		r.ask("link cut s1-h3")
		has(t, r.ask("h3 ping -c 1 -W 1 h1"), "0 received")
		r.ask("link mend s1-h3")
		has(t, r.ask("h3 ping -c 1 h1"), "1 received")

		r.ask("h3 ip link delete h3-eth0")
		r.expect("s1-eth3 is gone")
		if !until(mostReady, func() bool { return !strings.Contains(r.ask("nf stats"), "s1-eth3") }) {
			t.Errorf("there is a port without an interface:\n%s", r.ask("nf stats"))
		}
		r.ask("del link h3 s1")
		has(t, r.ask("add link h3 s1"), "added link")
		r.eventually("h3 ping -c 1 -W 1 h1", "1 received")
		r.ask("del h3")

		if !until(mostReady, func() bool { return strings.Contains(r.read("pings"), "transmitted") }) {
			t.Fatalf("the pings do not end\n%s", r.transcript())
		}
		has(t, r.read("pings"), "300 packets transmitted, 300 received")
		has(t, r.ask("nf list"), "bridge", "running")
		if text := r.ask("nf list"); strings.Contains(text, "restart") {
			t.Errorf("NFs were started again:\n%s", text)
		}
		r.in.Close()
		r.wait() // 1: pings were lost
		r.gone()
	})
}
