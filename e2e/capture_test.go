package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tshark prints what it reads in a file. cut allows a file that ends within a packet.
func tshark(t *testing.T, file string, cut bool, args ...string) []string {
	t.Helper()
	need(t, "tshark")
	var complaint bytes.Buffer
	cmd := exec.Command("tshark", append([]string{"-n", "-r", file, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"}, args...)...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil && !(cut && strings.Contains(complaint.String(), "cut short")) {
		t.Fatalf("tshark %v: %v: %s", args, err, complaint.String())
	}
	if text := strings.TrimRight(string(out), "\n"); text != "" {
		return strings.Split(text, "\n")
	}
	return nil
}

// conversations checks a capture of control channels: whole TCP conversations of OpenFlow,
// with nothing wrong, and as many messages as weft counted.
func conversations(t *testing.T, r *run, file string, count int) {
	t.Helper()
	// tshark 4.0 is wrong about a FLOW_MOD of OpenFlow 1.0 without actions, which is 72 bytes
	// long, and about all matches of 1.5: tcpdump's files look the same to it.
	const wrong = "openflow_v1 && tcp.len == 72 || openflow_v6"
	if bad := tshark(t, file, false, "-Y", "_ws.malformed && !("+wrong+") || tcp.checksum.status == 0 || ip.checksum.status == 0 || tcp.analysis.flags"); bad != nil {
		t.Errorf("tshark finds fault with:\n%s", strings.Join(bad, "\n"))
	}
	messages := 0
	for _, protocol := range tshark(t, file, false, "-T", "fields", "-e", "_ws.col.Protocol") {
		if protocol == "OpenFlow" {
			messages++
		}
	}
	found := regexp.MustCompile(regexp.QuoteMeta(filepath.Base(file)) + `: \d+ packets, (\d+) OpenFlow messages, 0 dropped`).FindStringSubmatch(r.err())
	if found == nil || found[1] != strconv.Itoa(messages) || messages < 10 {
		t.Errorf("tshark sees %d messages; weft says:\n%s", messages, r.err())
	}
	for flags, name := range map[string]string{"0x002": "SYN", "0x011": "FIN"} {
		n := len(tshark(t, file, false, "-Y", "tcp.flags == "+flags))
		if flags == "0x011" {
			n /= 2 // of both sides
		}
		if n != count {
			t.Errorf("%d conversations have a %s, want %d", n, name, count)
		}
	}
	comments := tshark(t, file, false, "-T", "fields", "-e", "frame.comment", "-Y", "frame.comment")
	if !strings.Contains(strings.Join(comments, "\n"), "s1 → c0 OpenFlow ") {
		t.Errorf("comments:\n%s", strings.Join(comments, "\n"))
	}
}

func TestCaptureControl(t *testing.T) {
	need(t, "tshark", "ovs-testcontroller")
	port := freePort(t, "127.0.0.1")
	keys := makeKeys(t)
	cmd := exec.Command("ovs-testcontroller", "--unixctl=none", "-O", "OpenFlow13", "--private-key="+keys+"/key.pem",
		"--certificate="+keys+"/cert.pem", "--ca-cert="+keys+"/cert.pem", "pssl:"+port+":127.0.0.1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	of := func(version, controller string) []string {
		return []string{"--switch", "ovs,protocols=" + version, "--controller", controller}
	}
	mutual := fmt.Sprintf(",cacert=%s/cert.pem,cert=%[1]s/cert.pem,key=%[1]s/key.pem", keys)
	for _, c := range []struct {
		name string
		args []string
	}{
		{"built in, 1.0", of("OpenFlow10", "builtin")},
		{"built in, 1.3", of("OpenFlow13", "builtin")},
		{"process, 1.4", of("OpenFlow14", "cmd:exec ovs-testcontroller --unixctl=none -O OpenFlow14 ptcp:{port}")},
		{"process, 1.5", of("OpenFlow15", "cmd:exec ovs-testcontroller --unixctl=none -O OpenFlow15 ptcp:{port}")},
		{"TLS, 1.3", of("OpenFlow13", "ssl:127.0.0.1:"+port+mutual)},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				r := start(t, launch{user: u, args: append(c.args, "--topo", "linear,2", "--capture", "control=of.pcapng", "--test", "pingall")})
				r.exits(0)
				conversations(t, r, r.file("of.pcapng"), 2)
			})
		})
	}
}

// TestCaptureAsTcpdump compares what weft and tcpdump capture of the same connections over
// the loopback interface: the bytes, and the switches' addresses.
func TestCaptureAsTcpdump(t *testing.T) {
	needRoot(t)
	need(t, "tshark", "tcpdump", "ovs-testcontroller")
	for _, version := range []string{"OpenFlow10", "OpenFlow13", "OpenFlow15"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			port := freePort(t, "127.0.0.1")
			controller := exec.Command("ovs-testcontroller", "--unixctl=none", "-O", version, "ptcp:"+port+":127.0.0.1")
			raw := filepath.Join(t.TempDir(), "raw.pcap")
			said, err := os.Create(filepath.Join(t.TempDir(), "said"))
			if err != nil {
				t.Fatal(err)
			}
			defer said.Close()
			dump := exec.Command("tcpdump", "-Z", "root", "-U", "-i", "lo", "-w", raw, "tcp port "+port)
			dump.Stderr = said
			for _, cmd := range []*exec.Cmd{controller, dump} {
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			}
			until(mostReady, func() bool {
				text, _ := os.ReadFile(said.Name())
				return strings.Contains(string(text), "listening on")
			})
			r := start(t, launch{user: rootUser, args: []string{"--topo", "linear,2", "--switch", "ovs,protocols=" + version,
				"--controller", "remote,127.0.0.1:" + port, "--capture", "control=of.pcapng", "--test", "pingall"}})
			r.exits(0)
			conversations(t, r, r.file("of.pcapng"), 2)
			ours := payloads(t, r.file("of.pcapng"), "6653")
			if len(ours) != 4 { // two switches, two directions
				t.Errorf("%d directions", len(ours))
			}
			var theirs map[string]string
			same := until(mostReady, func() bool {
				theirs = payloads(t, raw, port)
				return maps.Equal(ours, theirs)
			})
			if !same {
				t.Errorf("weft:\n%v\ntcpdump:\n%v", ours, theirs)
			}
		})
	}
}

// payloads returns what each side of each connection has sent, by the switch's port and
// side.
func payloads(t *testing.T, file, controllerPort string) map[string]string {
	t.Helper()
	sent := map[string]string{}
	// The kernel of a busy machine sends what it has not seen acknowledged twice.
	const once = "tcp.len > 0 && !tcp.analysis.retransmission && !tcp.analysis.spurious_retransmission && !tcp.analysis.fast_retransmission"
	for _, line := range tshark(t, file, true, "-Y", once, "-T", "fields", "-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "tcp.payload") {
		f := strings.Split(line, "\t")
		side := f[0] + " switch"
		if f[0] == controllerPort {
			side = f[1] + " controller"
		}
		sent[side] += f[2]
	}
	return sent
}

// capturing starts weft capture on the network of r.
func (r *run) capturing(args ...string) *run {
	r.t.Helper()
	args = append([]string{"capture"}, args...)
	if r.network != "" {
		args = append([]string{"capture", r.network}, args[1:]...)
	}
	c := start(r.t, launch{user: r.user, args: args, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
	c.expect("capturing on ")
	return c
}

func TestCaptureLink(t *testing.T) {
	need(t, "tshark", "tcpdump")
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "linear,2"}})
		r.ready()
		link := r.capturing("s1-s2", "-w", "link.pcapng", "-f", "icmp", "-c", "4")
		all := r.capturing("all", "-w", "all.pcapng.zst", "--segment")
		has(t, r.ask("capture h1 h1.pcapng --filter icmp or arp"), "capturing on h1-eth0")
		has(t, r.ask("ping h1 h2 --count 2"), "2 of 2 received")
		has(t, r.ask("iperf h1 h2 --time 0.2"), "received")
		link.exits(0)
		has(t, link.err(), "link.pcapng: 4 packets, 0 dropped")
		if got := tshark(t, link.file("link.pcapng"), false, "-Y", "icmp", "-T", "fields", "-e", "frame.interface_name", "-e", "icmp.type"); strings.Join(got, ",") != "s1-eth2\t8,s1-eth2\t0,s1-eth2\t8,s1-eth2\t0" {
			t.Errorf("on the link: %q", got)
		}
		has(t, r.ask("capture"), "1: h1 to h1.pcapng, running")
		has(t, r.ask("capture stop 1"), "h1.pcapng: ")
		all.cmd.Process.Signal(syscall.SIGINT)
		all.exits(0)
		file := all.file("all.pcapng.zst")
		names := strings.Join(tshark(t, file, false, "-T", "fields", "-e", "frame.interface_name"), "\n")
		has(t, names, "h1-eth0", "h2-eth0", "s2-eth2", "s1–c0", "s2–c0")
		if bad := tshark(t, file, false, "-Y", "_ws.malformed || tcp.checksum.status == 0 || frame.len > 1514 && !openflow"); bad != nil {
			t.Errorf("in all.pcapng.zst:\n%s", strings.Join(bad[:min(5, len(bad))], "\n"))
		}
		r.finish(0)
	})
}

func TestCaptureMistakes(t *testing.T) {
	t.Parallel()
	r := start(t, launch{user: ordinary(), prompt: true, args: []string{"--topo", "linear,2", "--link", "ovs"}})
	r.ready()
	for _, c := range []struct {
		status int
		want   string
		args   []string
	}{
		{2, "what to capture on", nil},
		{1, `there is no interface, node, link or control channel "h9"`, []string{"h9", "-w", "x"}},
		{1, "is a patch inside Open vSwitch", []string{"s1-s2", "-w", "x"}},
		{1, "s1→s2: name the link, and one way of it with -Q: s1-s2 -Q out", []string{"s1→s2", "-w", "x"}},
		{1, "there is no control channel between s1 and c9", []string{"s1:c9", "-w", "x"}},
		{1, "no such file or directory", []string{"control", "-w", "none/x"}},
		{2, "files: says how many", []string{"control", "-w", "x", "-b", "files:2"}},
		{1, `filter "foo bar"`, []string{"control", "-w", "x", "-f", "foo bar"}},
	} {
		bad := start(t, launch{user: r.user, args: append([]string{"capture"}, c.args...), env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
		bad.exits(c.status)
		has(t, bad.err(), c.want)
		if _, err := os.Stat(bad.file("x")); err == nil {
			t.Errorf("%q: there is a file", c.args)
		}
	}
	r.finish(0)
	for _, arg := range []string{"control", "=x", "control="} {
		has(t, weft(t, ordinary(), 2, "--capture", arg), "write TARGET[,TARGET...]=FILE")
	}
}

// TestCaptureKilled kills a capture, and a network that is captured, in the middle of
// traffic: the file can be read.
func TestCaptureKilled(t *testing.T) {
	need(t, "tshark")
	for _, victim := range []string{"capture", "network"} {
		t.Run(victim, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "single,2"}})
				r.ready()
				c := r.capturing("h1", "control", "-w", "x.pcapng", "-s", "100")
				r.say("iperf h1 h2 --time 60s")
				file := c.file("x.pcapng")
				until(mostReady, func() bool {
					st, err := os.Stat(file)
					return err == nil && st.Size() > 1<<20
				})
				if victim == "capture" {
					c.cmd.Process.Kill()
					c.exits(-int(syscall.SIGKILL))
					r.cmd.Process.Signal(syscall.SIGTERM)
					r.exits(128 + int(syscall.SIGTERM))
				} else {
					r.kill("keeper")
					// The engine may or may not find the time to end it.
					if code := c.wait(); code == 1 {
						has(t, c.err(), "the network is gone")
					} else if code != 0 {
						t.Errorf("exit status %d", code)
					}
					r.gone()
				}
				// Whoever is killed while it writes may leave its last packet cut.
				if n := len(tshark(t, file, victim == "capture", "-T", "fields", "-e", "frame.number")); n < 1000 {
					t.Errorf("%d packets can be read", n)
				}
			})
		})
	}
}

// TestCaptureFullDisk checks that a full disk ends a capture and nothing else.
func TestCaptureFullDisk(t *testing.T) {
	needRoot(t)
	need(t, "tshark")
	dir := filepath.Join(shared.dir, "full")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("full", dir, "tmpfs", 0, "size=1m,mode=0777"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	file := filepath.Join(dir, "x.pcapng")
	r := start(t, launch{user: rootUser, prompt: true, args: []string{"--topo", "single,2", "--capture", "h1=" + file}})
	r.ready()
	r.ask("iperf h1 h2 --time 0.5")
	r.expect("Warning: capture to " + file + " has ended: write " + file + ": no space left on device")
	has(t, r.ask("pingall"), "2 of 2 received")
	r.finish(1)
	if n := len(tshark(t, file, false, "-T", "fields", "-e", "frame.number")); n < 10 {
		t.Errorf("%d packets can be read", n)
	}
}

// TestCapturePipe checks that a reader that has seen enough ends a capture in good order.
func TestCapturePipe(t *testing.T) {
	t.Parallel()
	need(t, "tshark")
	r := start(t, launch{user: ordinary(), prompt: true, args: []string{"--topo", "single,2"}})
	r.ready()
	c := start(t, launch{user: r.user, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()},
		wrap: []string{"sh", "-c", `"$@" | tshark -r - -c 2 >seen 2>/dev/null; echo ended >&2`, "sh"}, args: []string{"capture", "h1", "-w", "-"}})
	c.expect("capturing on h1-eth0 to standard output")
	until(mostReady, func() bool {
		r.ask("pingall")
		return strings.Contains(c.err(), "ended")
	})
	c.exits(0)
	has(t, c.err(), "standard output: ")
	r.finish(0)
}
