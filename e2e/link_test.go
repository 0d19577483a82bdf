package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// needTAP skips the test where the user may not make TAP devices.
func needTAP(t *testing.T, u user) {
	t.Helper()
	st, err := os.Stat("/dev/net/tun")
	if err != nil || !u.root() && st.Mode().Perm()&0o006 != 0o006 {
		t.Skip("no /dev/net/tun for " + u.name)
	}
}

// link runs weft link on the network of r, from another terminal.
func (r *run) link(status int, action string, args ...string) string {
	r.t.Helper()
	words := []string{"link", action}
	if r.network != "" {
		words = append(words, r.network)
	}
	c := start(r.t, launch{user: r.user, args: append(words, args...), env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
	c.exits(status)
	return c.out() + c.err()
}

// roundTrip pings once and returns the time in milliseconds.
func (r *run) roundTrip() float64 {
	r.t.Helper()
	out := r.ask("h1 ping -c 1 -W 20 h2")
	m := regexp.MustCompile(`time=([0-9.]+) ms`).FindStringSubmatch(out)
	if m == nil {
		r.t.Fatalf("no answer to a ping:\n%s", out)
	}
	ms, _ := strconv.ParseFloat(m[1], 64)
	return ms
}

// TestLinks builds networks of impaired links, and changes what they do.
func TestLinks(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		needTAP(t, u)
		for _, args := range []string{"--topo linear,2 --mac", "--topo linear,2 --switch lxbr --mac"} {
			t.Run(strings.ReplaceAll(args, " ", "_"), func(t *testing.T) {
				t.Parallel()
				r := start(t, launch{user: u, prompt: true, args: append(strings.Fields(args), "--link", "tc,bw=50,delay=5ms,mtu=1400")})
				r.ready()
				has(t, r.ask("links"), "delay=5ms", "bw=50mbit", "mtu=1400")
				r.eventually("pingall", "2 of 2 received")
				// Three links there, three back.
				if ms := r.roundTrip(); ms < 30 {
					t.Errorf("round trip of %g ms, want 30 at least", ms)
				}
				has(t, r.ask("h1 ip link show h1-eth0"), "mtu 1400")
				has(t, r.ask("link set h1-s1 mtu=1300"), "mtu=1300")
				has(t, r.ask("h1 ip link show h1-eth0"), "mtu 1300")
				has(t, r.ask("link set s2 s1 ab:delay=40ms"), "s2-eth2 → s1-eth2: bw=50mbit delay=40ms", "s1-eth2 → s2-eth2: bw=50mbit delay=5ms")
				if ms := r.roundTrip(); ms < 65 {
					t.Errorf("round trip of %g ms, want 65 at least", ms)
				}
				has(t, r.ask("link set s2 s1 ab:delay=-1s"), "is not between 0")
				has(t, r.ask("iperfudp 500k h1 h2 --time 1"), "datagrams lost")
				r.finish(1) // what could not be set
			})
		}
	})
	t.Run("refused", func(t *testing.T) {
		u := ordinary()
		has(t, weft(t, u, 2, "--link", "tc,bw=1tbit", "--test", "none"), "bw")
		has(t, weft(t, u, 2, "--link", "veth,delay=5ms", "--test", "none"), "impairs nothing")
		has(t, weft(t, u, 2, "--link", "wire,loss_burst=3", "--test", "none"), "loss_burst")
		has(t, weft(t, u, 2, "--seed", "x", "--test", "none"), "not a seed")
		has(t, weft(t, u, 1, "--link", "wire,trace=/nonexistent", "--test", "none"), "/nonexistent")
	})
	t.Run("mininet", func(t *testing.T) {
		u := ordinary()
		needTAP(t, u)
		has(t, weft(t, u, 0, "mn", "--link", "tc,bw=10,delay=5ms,loss=0.5", "--test", "none"),
			"*** Adding links:\n(10.00Mbit 5ms delay 0.50000% loss) (10.00Mbit 5ms delay 0.50000% loss) (h1, s1) (10.00Mbit ",
			"s1 ...(10.00Mbit 5ms delay 0.50000% loss) (10.00Mbit 5ms delay 0.50000% loss) \n")
	})
}

// TestImpairInUse impairs a veth pair that is in use, and stops that: no packet is lost, and
// the switches see nothing of it.
func TestImpairInUse(t *testing.T) {
	need(t, "nft")
	eachUser(t, func(t *testing.T, u user) {
		needTAP(t, u)
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "linear,2"}})
		r.ready()
		r.eventually("pingall", "2 of 2 received")
		ports := r.ask("sh ovs-ofctl show s1 | grep -v xid")
		device := r.ask("h1 ip -br addr show h1-eth0")
		for _, link := range []string{"s1-s2", "h1-s1"} {
			file := r.file("ping")
			r.ask("h1 ping -q -i 0.02 -c 60 -W 20 h2 > %s &", file)
			has(t, r.ask("link set %s delay=30ms", link), "delay=30ms")
			if ms := r.roundTrip(); ms < 60 {
				t.Errorf("%s: round trip of %g ms, want 60 at least", link, ms)
			}
			has(t, r.ask("link set %s mtu=1300", link), "mtu=1300")
			r.ask("link set %s bw=40 delay=10ms seed=3", link)
			has(t, r.ask("link set %s delay=0 bw=0 seed=none", link), "veth")
			has(t, r.ask("h1 wait; cat %s", file), "60 packets transmitted, 60 received")
		}
		has(t, r.ask("h1 ip link show h1-eth0"), "mtu 1300")
		r.ask("link set h1-s1 mtu=0")
		has(t, r.ask("h1 ip link show h1-eth0"), "mtu 1500")
		if after := r.ask("sh ovs-ofctl show s1 | grep -v xid"); after != ports {
			t.Errorf("ports of s1 were\n%sand are\n%s", ports, after)
		}
		if after := r.ask("h1 ip -br addr show h1-eth0"); after != device {
			t.Errorf("h1-eth0 was\n%sand is\n%s", device, after)
		}
		var left string
		if !until(mostReady, func() bool { left = r.ask("h1 ip -br link"); return !strings.Contains(left, "weft-") }) {
			t.Errorf("left in h1:\n%s", left)
		}
		r.finish(0)
	})
}

// TestFaults lets links fail, one way too, keeps hosts apart, and puts all right again.
func TestFaults(t *testing.T) {
	need(t, "nft")
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "single,3", "--ip6"}})
		r.ready()
		r.eventually("pingall", "6 of 6 received")
		const quick = "pingall --tries 1 --timeout 300ms"
		r.ask("link cut 's1->h1'")
		r.eventually(quick, "2 of 6 received")
		has(t, r.link(0, "show", "h1-s1"), "s1-eth1 → h1-eth0: cut", "stopped by a cut")
		has(t, r.link(0, "mend", "s1→h1"))
		has(t, r.ask("pingall"), "6 of 6 received")

		has(t, r.ask("partition {h1,h2}|{h3}"), "partition {h1,h2}|{h3}")
		r.eventually(quick, "2 of 6 received")
		r.eventually(quick+" -6", "2 of 6 received")
		has(t, r.link(0, "partition", "h1|rest"), "partition {h1}|{rest}")
		r.ask("add host h4")
		r.ask("add link h4 s1")
		has(t, r.ask("pingall --tries 1 --timeout 300ms h1 h4"), "0 of 2 received")
		has(t, r.ask("pingall h2 h4"), "2 of 2 received")
		has(t, r.link(0, "heal"))
		r.eventually("pingall", "12 of 12 received")
		has(t, r.link(1, "heal"), "no partition")

		file := r.file("schedule")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write("0 h1-s1 cut\n1 h9-s1 cut\n1 h1-s1 explode\n")
		has(t, r.ask("link schedule %s", file), "line 2: there is no link", "line 3: there is no action")
		write("0, h1-s1, cut\n3600, h1-s1, mend\n")
		has(t, r.ask("link schedule %s", file), "schedule of 2 steps")
		r.eventually("pingall --tries 1 --timeout 300ms h1 h2", "0 of 2 received")
		has(t, r.ask("link faults"), "schedule of 2 steps until 1h0m0s  1")
		r.ask("link stop")
		r.ask("link mend h1-s1")
		has(t, r.ask("link faults"), "nothing goes on")

		r.ask("link flap h2-s1 --period 1h --down 30m")
		r.eventually("links", "down")
		has(t, r.ask("pingall --tries 1 --timeout 300ms h1 h2"), "0 of 2 received")
		has(t, r.ask("link flap h2-s1 --mtbf 1s --mttr 1s"), "is about this link already")
		r.ask("link stop")
		r.eventually("pingall", "12 of 12 received")
		r.eventually("pingall -6", "12 of 12 received") // addresses come back with the interface
		r.ask("link flap h2-s1 --mtbf 50ms --mttr 50ms --count 3 --seed 1 --cut")
		r.eventually("link faults", "nothing goes on")
		r.eventually("pingall", "12 of 12 received")
		r.finish(1)
	})
}

// TestVerify measures links, and finds what a user does to one behind weft's back.
func TestVerify(t *testing.T) {
	need(t, "nft")
	eachUser(t, func(t *testing.T, u user) {
		for _, kind := range []string{"ovs", "lxbr"} {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "linear,2", "--switch", kind}})
				r.ready()
				r.eventually("pingall", "2 of 2 received")
				has(t, r.ask("link verify"), "nothing was asked of any link")
				sent := func() int {
					n, _ := strconv.Atoi(strings.TrimSpace(r.ask("sh cat /sys/class/net/s2-eth1/statistics/tx_packets; echo")))
					return n
				}
				before := sent()
				has(t, r.ask("link verify s1-s2"), "s1-eth2  s2-eth2  veth", "s2-eth2  s1-eth2  veth")
				// No switch has taken notice of hundreds of frames.
				if after := sent(); after > before+50 {
					t.Errorf("s2 has sent to h2: %d packets before, %d after", before, after)
				}
				r.ask("sh nft add table netdev e2e")
				r.ask("sh nft add chain netdev e2e c '{ type filter hook egress device s1-eth2 priority 0; }'")
				r.ask("sh nft add rule netdev e2e c drop")
				out := r.link(1, "verify", "s1-s2", "--json")
				var checks []struct {
					From    struct{ Interface string }
					Figures []struct {
						Name     string
						Measured float64
						Verdict  string
					}
				}
				if err := json.Unmarshal([]byte(out), &checks); err != nil || len(checks) != 2 {
					t.Fatalf("%v: %s", err, out)
				}
				for _, c := range checks {
					for _, f := range c.Figures {
						if f.Name == "loss" && (f.Measured == 100 && f.Verdict == "off") != (c.From.Interface == "s1-eth2") {
							t.Errorf("from %s: %+v", c.From.Interface, f)
						}
					}
				}
				r.ask("link s1 s2 down")
				has(t, r.ask("link verify s1-s2"), "it is down")
				r.finish(1)
			})
		}
	})
}

// TestDoctorLinks measures what links can do, in a network that then is gone.
func TestDoctorLinks(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, args: []string{"doctor", "--links", "--json"}})
		r.exits(0)
		has(t, r.out(), `"link-delay"`, "in the median", `"link-rate"`, "Gbit/s", `"link-frames"`, "frames of 66 bytes a second")
	})
}
