package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tries are what to do first with each sample network, by its file: lines of the prompt, and
// what the answer has. A line that begins with ~ is asked until the answer has it.
func tries() map[string][][2]string {
	pings := func(from, to string) [2]string { return [2]string{from + " ping -c3 -i0.1 " + to, "3 received"} }
	connect := func(port int) string {
		return fmt.Sprintf("timeout 1 bash -c '</dev/tcp/10.2.0.2/%d' && echo rea''ched || echo bar''red", port)
	}
	return map[string][][2]string{
		"bottleneck.yaml": {{"iperf left1 right1 --time 300ms", "bit/s received"}, {"link set s1-s2 queue=500", "queue=500"},
			{"link set s1-s2 aqm=fq_codel", "aqm=fq_codel"}, pings("left1", "right1")},
		"controllers.yaml": {{"status", "s2      c1          connected"}, {"pingall h1 h2", "2 of 2 received"}, {"pingall h2 h3", "2 of 2 received"},
			{"control s2 c0 down", "the channel is cut"}, {"pingall h2 h3", "2 of 2 received"}},
		"fattree.yaml": {{"pingall", "240 of 240 received"}, {"flows edge1x1", "dl_dst="}},
		"firewall-lab.yaml": {
			{"~inside " + connect(80), "reached"}, {"~inside " + connect(23), "reached"},
			{"fw nft add table inet f", ""},
			{"fw nft add chain inet f forward '{ type filter hook forward priority 0; policy drop; }'", ""},
			{"inside " + connect(80), "barred"},
			{"fw nft add rule inet f forward tcp dport 80 accept", ""},
			{"fw nft add rule inet f forward tcp sport 80 ct state established accept", ""},
			{"~inside " + connect(80), "reached"}, {"inside " + connect(23), "barred"}},
		"first.yaml":     {pings("h1", "h2"), {"net", "h1-eth0"}, {"dump", "h2"}, {"pingall", "2 of 2 received"}},
		"flows-lab.yaml": {{"h1 ping -c1 -W1 h2", "0 received"}, {"s1 ovs-ofctl add-flow s1 ip,nw_dst=10.0.0.2,actions=output:2", ""}, {"s1 ovs-ofctl add-flow s1 ip,nw_dst=10.0.0.1,actions=output:1", ""}, pings("h1", "h2"), {"flows s1", "nw_dst=10.0.0.2"}, {"trace s1 in_port=1,ip,nw_dst=10.0.0.2", "output:2"}, {"h3 ping -c1 -W1 h2", "0 received"}},
		"ipv6.yaml":      {{"capture h1 v6.pcapng", "capturing on h1-eth0"}, pings("h1", "-6 fd00::2"), {"h1 ip -6 neigh", "fd00::2 "}, {"capture stop", "packets"}, {"pingall -6", "12 of 12 received"}},
		"leafspine.yaml": {{"iperf h1 h8 --time 300ms", "bit/s received"}, {"switch spine1 stop", ""}, {"~pingall", "56 of 56 received"}},
		"lossy.yaml":     {{"h1 ping -q -c40 -i0.02 h2", "40 packets transmitted"}, {"link show h1-s1", "loss=5"}},
		"nat.yaml":       {{"nat0 nft list ruleset", "masquerade"}, {"pingall", "12 of 12 received"}},
		"nf-balancer.yaml": {{"~h1 timeout 2 bash -c 'exec 3<>/dev/tcp/10.0.0.100/8080; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'", "web"},
			{"nf tell 1 servers", "10.0.0.12:8080"}},
		"nf-chain.yaml": {pings("h1", "h2"), {"nf list", "bridge"}, {"nf start monitor@2", "instance 2 of service 2"},
			{"nf chain set default 2→1", ""}, pings("h1", "h2"), {"nf chain list", "monitor→bridge"}, {"nf stats", "monitor"}},
		"nf-firewall.yaml": {pings("h1", "h3"), {"pingall", "12 of 12 received"}, {"nf tell 1 rules", "allow icmp"}},
		"nf-steering.yaml": {pings("h1", "h2"), {"~flows nf1 --interval 0", "in_port=32769,"}, {"nf stats", "icmp 3 "}, {"h1 timeout 2 bash -c '</dev/tcp/10.0.0.2/23' || echo bar''red", "barred"},
			{"iperf h1 h2 --time 300ms", "bit/s received"}, {"dpctl dump-ports", "port monitor: rx pkts="}},
		"nf-router.yaml": {pings("h1", "h3"), {"nf tell 1 routes", "10.0.2.0/24"}},
		"qos.yaml":       {{"iperf h1 h2 --time 300ms", "bit/s received"}, {"iperf h1 h3 --time 300ms", "bit/s received"}, {"link set h3-s1 bw=50", "bw=50mbit"}},
		"ring.yaml":      {pings("h1", "h3"), {"link s1 s2 down", ""}, {"~pingall", "12 of 12 received"}, {"link s1 s2 up", ""}, {"~pingall", "12 of 12 received"}},
		"router.yaml":    {pings("h1", "h3"), {"r0 ip route", "172.16.0.0/12"}, {"link r0 s2 down", ""}, {"h1 ping -c1 -W1 h2", "0 received"}, pings("h1", "h3")},
		"stp.yaml":       {{"~pingall", "6 of 6 received"}, {"s1 ovs-ofctl show s1", "s1-eth1"}},
		"tree.yaml":      {{"pingall", "56 of 56 received"}, {"link s1 s2 down", ""}, {"~pingall --tries 1 --timeout 300ms", "24 of 56 received"}},
		"wan.graphml":    {pings("h-Lisbon", "h-Helsinki"), {"links", "delay=2.46ms"}},

		"campus.star buildings=2 floors=1": {{"pingall", "received"}},
		"clos.star spines=2 leaves=2":      {{"pingall", "received"}, {"switch spine1 stop", ""}, {"~pingall", "12 of 12 received"}},
		"dumbbell.star":                    {{"pingall", "received"}},
		"fattree.star k=2":                 {{"pingall", "received"}},
		"flow-exercise.star":               {{"dpctl add-flow priority=10,in_port=1,actions=output:2", ""}, {"flows s1", "priority"}},
		"random-failure.star switches=4":   {{"pingall", "received"}},
		"ring-failure.star switches=4":     {{"pingall", "12 of 12 received"}},
		"wan.star":                         {pings("lisbon", "10.0.0.6")},
	}
}

// talk attaches to a network that lives on, types lines and looks for what each answer is to have.
func (r *run) talk(t *testing.T, dialogue [][2]string) {
	t.Helper()
	prompt := start(t, launch{user: r.user, prompt: true, args: []string{"attach", strings.TrimSpace(lastLine(r.out()))},
		env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
	for _, d := range dialogue {
		if line, again := strings.CutPrefix(d[0], "~"); again {
			prompt.eventually(line, d[1])
		} else {
			has(t, prompt.ask("%s", line), d[1])
		}
	}
	prompt.in.Close()
	prompt.wait() // 1, if pings were to be lost
}

// TestSampleNetworks builds all samples as `weft up` does, does what they say is to be tried first,
// and takes them down.
func TestSampleNetworks(t *testing.T) {
	dir := samples(t)
	missing := map[string]bool{}
	for _, pattern := range []string{"*.yaml", "*.star", "*.graphml"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "\nsteps:") { // those are for TestTopologies
				missing[filepath.Base(f)] = true
			}
		}
	}
	for line := range tries() {
		words := strings.Fields(line)
		if !missing[words[0]] {
			t.Errorf("there is no sample %s", words[0])
		}
		delete(missing, words[0])
	}
	for name := range missing {
		t.Errorf("nothing is tried with %s", name)
	}
	for line, dialogue := range tries() {
		words := strings.Fields(line)
		t.Run(words[0], func(t *testing.T) {
			t.Parallel()
			u := ordinary()
			if !canImpair(u) {
				needRoot(t)
				u = rootUser
			}
			args := []string{filepath.Join(dir, words[0])}
			if filepath.Ext(words[0]) != ".star" { // these are part of the program
				args[0] = "@" + strings.TrimSuffix(words[0], filepath.Ext(words[0]))
			}
			r := up(t, u, append(args, words[1:]...)...)
			r.talk(t, dialogue)
			r.also(0, "down")
			r.gone()
		})
	}
}
