package e2e

import (
	"strings"
	"testing"
)

// TestDPDKNode pings through network functions, and changes them while they run.
func TestDPDKNode(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2"}})
		r.ready()
		has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
		has(t, r.ask("nf"), "bridge", "running")
		has(t, r.ask("nf start monitor@2"), "instance 2 of service 2")
		r.ask("nf chain set default 2->bridge")
		has(t, r.ask("nf chain list"), "2→1", "monitor→bridge")
		has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
		has(t, r.ask("nf stats"), "icmp 6")
		has(t, r.ask("nf stop 1"), "is the only instance of service 1", "chain default")
		r.ask("nf scale 1 2")
		has(t, r.ask("nf list --json"), `"id":3`)
		r.ask("nf flow add icmp drop")
		has(t, r.ask("nf flow list"), "icmp", "drop")
		has(t, r.ask("h1 ping -c 1 -W 1 h2"), "0 received")
		r.ask("nf flow delete icmp")
		has(t, r.ask("h1 ping -c 1 h2"), "1 received")
		pid := strings.TrimSpace(r.ask("s1 pgrep -f nf-manager"))
		r.ask("s1 kill -9 %s", strings.Fields(pid)[0])
		r.expect("It is started again with its NFs, chains and flows")
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		has(t, r.ask("nf chain list"), "2→1") // as it was changed

		r.ask("h2 ip link delete h2-eth0")
		r.expect("s1-eth2 is gone")
		pid = strings.TrimSpace(r.ask("s1 pgrep -f nf-manager"))
		r.ask("s1 kill -9 %s", strings.Fields(pid)[0])
		r.expect("starts without port 2")
		r.ask("del link h2 s1")
		r.ask("add link h2 s1")
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		r.finish(1) // pings were lost
	})
}

// A controller steers a node that leaves nothing to chains: its flows carry the pings, and its
// conversation is seen as a switch's is.
func TestDPDKController(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk,failMode=secure", "--topo", "single,2"}})
		r.ready()
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
		has(t, r.ask("nf flow list"), "output:1", "output:2")
		has(t, r.ask("status"), "connected")
		told := func(text string) { // what the switch says is shown between commands
			if !until(mostReady, func() bool { r.ask("sh true"); return strings.Contains(r.out()+r.err(), text) }) {
				t.Errorf("no %s\n%s", text, r.transcript())
			}
		}
		r.ask("openflow on s1 --type PORT_STATUS")
		r.ask("add host h3")
		r.ask("add link h3 s1")
		told("reason=add port_no=3")
		r.eventually("h3 ping -c 1 -W 1 h1", "1 received")
		r.ask("del link h3 s1")
		told("reason=delete port_no=3")
		r.ask("openflow off")
		r.ask("nf flow delete")
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received") // it learns anew
		r.in.Close()
		r.wait() // 1, if a ping was lost
	})
}

// An NF that dies is started again, and packets pass through it.
func TestNFDies(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2"}})
		r.ready()
		has(t, r.ask("h1 ping -c 1 h2"), "1 received")
		r.ask("s1 pkill -9 -f nf-run")
		r.eventually("nf list", "1 restarts")
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		r.in.Close()
		r.wait() // 1, if a ping was lost
	})
}
