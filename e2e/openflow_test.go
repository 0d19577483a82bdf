package e2e

import (
	"regexp"
	"syscall"
	"testing"
)

// TestOpenflow follows a conversation at the prompt, from another terminal and in a file.
func TestOpenflow(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "linear,2", "--capture", "control=of.pcapng"}})
		r.ready()
		args := []string{"openflow"}
		if r.network != "" {
			args = append(args, r.network)
		}
		live := start(t, launch{user: u, args: args, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
		stats := start(t, launch{user: u, args: append(args, "--stats", "--json"), env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
		live.expect("listening to")
		stats.expect("listening to")
		r.ask("openflow on s1 --type PACKET_IN --match arp_spa=10.0.0.1")
		has(t, r.ask("pingall"), "2 of 2 received")
		has(t, r.ask("flows s2 --interval 0.1"), "switch", "pkt/s")
		has(t, r.ask("trace s1 in_port=1,dl_dst=00:00:00:00:00:99"), `bridge("s1")`)
		r.expect("s1 → c0 OF1.3 PACKET_IN xid=0 in_port=1 reason=no_match 10.0.0.1 → 10.0.0.2 ARP who has 10.0.0.2")
		r.ask("openflow off")
		stats.cmd.Process.Signal(syscall.SIGINT)
		stats.exits(0)
		has(t, stats.out(), `"flowSetup":`)
		r.finish(0)
		live.exits(0)
		has(t, live.out(), "PACKET_IN", "PACKET_OUT", "FLOW_MOD")
		has(t, live.err(), "has ended")

		file := r.file("of.pcapng")
		text := weft(t, u, 0, "openflow", file)
		for _, want := range []string{
			`c0 → s1 OF1\.3 HELLO`, `s2 → c0 OF1\.3 FEATURES_REPLY .*datapath_id=0000000000000002`,
			`c0 → s1 OF1\.3 FLOW_MOD .*add .*actions=\[output:`, `s1 → c0 OF1\.3 MULTIPART_REPLY port_desc`,
		} {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
		has(t, weft(t, u, 0, "openflow", file, "--stats"), "PACKET_IN", "flow setup: ", "FLOW_MOD or PACKET_OUT")
	})
}
