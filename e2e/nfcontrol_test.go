package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Open vSwitch's tools and what shows flows find the flow table of a DPDK node as they find a
// bridge's.
func TestDPDKFlows(t *testing.T) {
	need(t, "ovs-ofctl")
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2"}})
		r.ready()
		has(t, r.ask("flows"), "s1", "no flows")
		r.ask("dpctl add-flow priority=7,icmp,actions=drop")
		has(t, r.ask("h1 ping -c 1 -W 1 h2"), "0 received")
		r.ask("s1 ovs-ofctl -O OpenFlow13 mod-flows s1 icmp,actions=NORMAL")
		has(t, r.ask("h1 ping -c 1 -W 5 h2"), "1 received")
		has(t, r.ask("flows s1 --interval 0"), "NORMAL", "icmp")
		has(t, r.ask("dpctl dump-flows"), "table=0, n_packets=", "priority=7,icmp actions=NORMAL")
		has(t, r.ask("nf flow list"), "chain:default")
		has(t, r.ask("dpctl show"), "1(s1-eth1)", "32769(bridge)")
		has(t, r.ask("dpctl del-flows"), "*** s1")
		has(t, r.ask("nf flow list --json"), "[]")
		has(t, r.ask("dump"), "dpdk switch")
		has(t, r.ask("inspect s1"), `"manager": "weft"`)
		r.in.Close()
		r.exits(1) // a ping was lost, and what follows must not be the cause
		o := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2"}})
		o.ready()
		o.say("trace s1 in_port=1,icmp")
		o.expect("s1 is a dpdk node")
		o.in.Close()
		o.exits(1)
	})
}

// Controllers come and go, and the NF manager of a DPDK node, with its flows and NFs, goes on as
// it was.
func TestDPDKApplyControllers(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		file := func(name, controllers string) string {
			text := "hosts: h1 h2\ncontrollers: c0 c1\nswitches: s1\ndpdk:\n  nf1: {nfs: bridge, " + controllers + "}\nlinks: [h1 -- nf1, nf1 -- h2]\n"
			return filepath.Join(place(t, u, map[string]string{name: text}), name)
		}
		with := func(names string) string { return file("with.yaml", "controllers: ["+names+"]") }
		r := up(t, u, with(""))
		apply := func(f string) string {
			args := []string{"apply", f}
			if r.network != "" {
				args = append(args, r.network)
			}
			a := start(t, launch{user: u, args: args, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
			a.exits(0)
			return a.out()
		}
		pid := func() string { return strings.Fields(r.also(0, "exec", "nf1", "--", "pgrep", "-f", "nf-manager"))[0] }
		before := pid()
		flood := r.exec(nil, "h1", "--", "ping", "-q", "-i", "0.005", "-c", "400", "10.0.0.2")
		for _, names := range []string{"c0", "c0, c1", "c1", ""} {
			has(t, apply(with(names)), "nf1")
			for c := range 2 {
				name := fmt.Sprintf("c%d", c)
				if strings.Contains(names, name) {
					has(t, r.also(0, "control", "nf1", name, "up"), name)
				}
			}
		}
		flood.wait() // 1, if a ping was lost
		// A controller that is about to connect may miss a packet; a manager that is started anew, dozens.
		var sent, received int
		_, counts, _ := strings.Cut(flood.out(), "statistics ---\n")
		if _, err := fmt.Sscanf(counts, "%d packets transmitted, %d received", &sent, &received); err != nil || received < sent-10 {
			t.Errorf("packets are lost: %v\n%s", err, flood.out())
		}
		// Nobody takes what flows send to controllers: the chain does.
		r.also(0, "exec", "h1", "--", "ip", "neigh", "flush", "all")
		has(t, r.also(0, "exec", "h1", "--", "ping", "-c1", "-W5", "10.0.0.2"), "1 received")
		if after := pid(); after != before {
			t.Errorf("the manager was process %s and is %s", before, after)
		}
	})
}

// NFs in line between switches, as the samples have them: whoever the controller is, packets pass
// through them and come back, and flows carry them.
func TestNFsBetweenSwitches(t *testing.T) {
	need(t, "ovs-testcontroller", "python3")
	env := osKenForAll(t)
	dir := samples(t)
	learning, err := os.ReadFile("testdata/learning.py")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "learning.py"), learning, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	tcp := func(address string, port int) string {
		return fmt.Sprintf("h1 timeout 2 bash -c '</dev/tcp/%s/%d' || echo bar''red", address, port)
	}
	// A flow for each connection takes a lost packet or two.
	web := "h1 timeout 15 bash -c 'exec 3<>/dev/tcp/10.0.0.100/8080; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'"
	dialogues := map[string][][2]string{
		"nf-firewall.yaml": {{"~pingall", "12 of 12 received"}, {tcp("10.0.0.3", 23), "barred"}, {"nf stats", "icmp"}, {"~flows s2 --interval 0", "output:1 "}},
		"nf-router.yaml":   {{"~pingall", "12 of 12 received"}, {"nf tell 1 routes", "10.0.2.0/24"}, {"~flows s2 --interval 0", "output:1 "}},
		"nf-balancer.yaml": {{"~pingall", "20 of 20 received"}, {"~" + web, "web"}, {"nf tell 1 servers", "10.0.0.12:8080"}, {"~flows s2 --interval 0", "output:1 "}},
	}
	controllers := map[string]string{
		"builtin":            "",
		"os-ken":             "{kind: osken, command: " + filepath.Join(dir, "learning.py") + "}",
		"ovs-testcontroller": "{kind: cmd, command: '" + testController + "'}",
	}
	for name, controller := range controllers {
		t.Run(name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				for sample, dialogue := range dialogues {
					t.Run(sample, func(t *testing.T) {
						text, err := os.ReadFile(filepath.Join(dir, sample))
						if err != nil {
							t.Fatal(err)
						}
						if controller != "" {
							text = fmt.Appendf(text, "controllers: {c0: %s}\ndefaults: {switch: {protocols: [OpenFlow13]}}\n", controller)
						}
						r := upWith(t, u, env, filepath.Join(place(t, u, map[string]string{sample: string(text)}), sample), "--allow")
						r.talk(t, dialogue)
					})
				}
			})
		})
	}
}

// block returns the first block of a language in a section of a page.
func block(t *testing.T, page, section, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, "\n## "+section+"\n")
	if found {
		_, rest, found = strings.Cut(rest, "\n```"+language+"\n")
	}
	text, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatalf("no block of %s in section %s", language, section)
	}
	return text
}

// The app and the network of the page on NFs: os-ken steers a DPDK node, asks for statistics, and
// what they say to each other is seen, and captured so that tshark reads it.
func TestSteering(t *testing.T) {
	need(t, "tshark", "python3")
	env := osKenForAll(t)
	page, err := os.ReadFile("../docs/nf.md")
	if err != nil {
		t.Fatal(err)
	}
	const section = "Steered by a controller"
	app, lab := block(t, string(page), section, "python"), block(t, string(page), section, "yaml")
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"steer.py": app})
		file := filepath.Join(dir, "steer.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(lab, "/home/me", dir)), 0o644); err != nil {
			t.Fatal(err)
		}
		r := upWith(t, u, env, file, "--allow")
		captured := filepath.Join(dir, "of.pcapng")
		r.talk(t, [][2]string{
			{"capture control " + captured, "capturing on"},
			{"~h1 ping -c 1 -W 1 h2", "1 received"},
			{"h1 ping -c 4 -i 0.1 h2", "4 received"},
			{"flows nf1 --interval 0", "output:32769"},
			{"flows nf1 --interval 0", "in_port=32769,"},
			{"control", "nf1     c0          OpenFlow 1.3"},
			{"nf stats", "icmp "},
			{"h1 ping -c 13 -i 0.1 h2", "13 received"}, // the controller asks each second
			{"capture stop", "packets"},
		})
		if bad := tshark(t, captured, false, "-Y", "_ws.malformed || tcp.checksum.status == 0 || tcp.analysis.flags"); bad != nil {
			t.Errorf("tshark finds fault with:\n%s", strings.Join(bad, "\n"))
		}
		for name, filter := range map[string]string{
			"PACKET_IN of a host":     "openflow_v4.type == 10 && openflow_v4.oxm.value_uint32 == 1",
			"PACKET_IN of an NF":      "openflow_v4.type == 10 && openflow_v4.oxm.value_uint32 == 0x8001",
			"FLOW_MOD to a service":   "openflow_v4.type == 14 && openflow_v4.action.output.port == 0x8001",
			"statistics of a service": "openflow_v4.type == 19 && openflow_v4.port_stats.port_no == 0x8001",
			"statistics of flows":     "openflow_v4.type == 19 && openflow_v4.flow_stats.priority == 10",
		} {
			if tshark(t, captured, false, "-Y", filter) == nil {
				t.Errorf("the capture has no %s", name)
			}
		}
		has(t, weft(t, u, 0, "openflow", captured), "nf1 → c0 OF1.3 PACKET_IN", "c0 → nf1 OF1.3 FLOW_MOD", "MULTIPART_REPLY")
	})
}
