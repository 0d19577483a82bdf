package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// also runs a command on the network of r, from another terminal.
func (r *run) also(status int, command string, args ...string) string {
	r.t.Helper()
	c := r.alsoStart(command, args...)
	c.exits(status)
	return c.out() + c.err()
}

func (r *run) alsoStart(command string, args ...string) *run {
	r.t.Helper()
	words := []string{command}
	if r.network != "" {
		words = append(words, r.network)
	}
	return start(r.t, launch{user: r.user, args: append(words, args...), env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir(), "DISPLAY="}})
}

// TestControlChannel cuts, slows, records and replays a control channel.
func TestControlChannel(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "linear,2", "--switch", "ovs,protocols=OpenFlow13"}})
		r.ready()
		r.eventually("control", "OpenFlow 1.3")
		has(t, r.also(2, "control", "s1", "c0", "stop"), "choose from down, up")
		has(t, r.also(1, "control", "s1", "c9", "up"), "no controller named c9")

		has(t, r.also(0, "control", "s1", "c0", "down"), "the channel is cut")
		has(t, r.ask("status"), "the channel is cut")
		file := r.file("s1.jsonl")
		r.ask("control s2 c0 down")
		r.ask("control s1 c0 record %s", file)
		r.ask("control s2 c0 record %s", r.file("s2.jsonl"))
		r.also(0, "control", "s1", "c0", "up")
		r.ask("control s2 c0 up")
		r.eventually("wait", "connected")
		r.ask("h1 ip neigh flush all")
		r.ask("h2 ip neigh flush all")
		has(t, r.ask("pingall"), "2 of 2 received")
		var state struct {
			Recording *struct{ Messages int } `json:"recording"`
			Replay    *struct{ Recorded int } `json:"replay"`
		}
		list := r.also(0, "control", "--json")
		if !strings.Contains(list, `"recording"`) {
			t.Errorf("no recording in %s", list)
		}
		// Another controller: the switches forget their flows and are told them again. It
		// is for all: one that knew s2 only would think that it is alone.
		r.ask("control s2 c0 record off")
		r.ask("control s2 c0 replay %s", r.file("s2.jsonl"))
		has(t, r.also(0, "control", "s1", "c0", "record", "off"), "s1")
		if err := json.Unmarshal([]byte(r.also(0, "control", "s1", "c0", "replay", file, "--json")), &state); err != nil ||
			state.Recording != nil || state.Replay == nil || state.Replay.Recorded == 0 {
			t.Errorf("%+v, %v", state, err)
		}
		r.eventually("wait", "connected")
		r.ask("h1 ip neigh flush all")
		r.ask("h2 ip neigh flush all")
		r.eventually("pingall", "2 of 2 received")
		has(t, r.ask("control"), "replays "+file)
		r.ask("control s2 c0 clear")
		has(t, r.ask("control s1 c0 clear"), "s1")
		r.eventually("wait", "connected")
		if text := r.ask("control"); strings.Contains(text, "replays") {
			t.Errorf("after clear:\n%s", text)
		}

		has(t, r.ask("control s1 c0 delay 50ms 10ms --to switch"), "delay 50ms ± 10ms to switch")
		has(t, r.also(0, "control", "s1", "c0", "rate", "100kbit"), "100 kbit/s to controller", "100 kbit/s to switch")
		r.eventually("pingall", "2 of 2 received")
		r.ask("control s1 c0 clear")
		has(t, r.ask("control s1 c0 replay /etc/passwd"), "no recording of a control channel")
		r.finish(1) // what could not be replayed
	})
}

// TestWireshark shows packets of a running network in tshark.
func TestWireshark(t *testing.T) {
	need(t, "tshark")
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "linear,2"}})
		r.ready()
		has(t, r.also(1, "wireshark", "h1"), "DISPLAY is not set")
		has(t, r.also(1, "wireshark", "nosuch", "--tshark"), `"nosuch"`)
		w := r.alsoStart("wireshark", "h1", "s1:c0", "--tshark", "-f", "icmp", "--", "-c", "4")
		w.expect("Capturing on")
		until(mostReady, func() bool {
			r.ask("pingall")
			select {
			case <-w.ended:
				return true
			default:
				return false
			}
		})
		w.exits(0)
		has(t, w.out(), "ICMP", "10.0.0.1 → 10.0.0.2")
		// The network may end first.
		w = r.alsoStart("wireshark", "all", "--tshark")
		w.expect("Capturing on")
		r.finish(0)
		w.exits(0)
	})
}

// TestExtcap lets tshark find the interfaces of a running network by itself.
func TestExtcap(t *testing.T) {
	need(t, "tshark")
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "linear,2", "--name", "ext-" + u.name}})
		r.ready()
		env := []string{"HOME=" + r.dir, "XDG_CONFIG_HOME=" + r.file("config"), "XDG_RUNTIME_DIR=" + r.runtimeDir()}
		extcap := func(status int, args ...string) string {
			c := start(t, launch{user: u, args: append([]string{"extcap"}, args...), env: env})
			c.exits(status)
			return c.out() + c.err()
		}
		tshark := func(args ...string) string {
			cmd := exec.Command("tshark", args...)
			cmd.Dir = r.dir
			cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + r.tmpDir(), r.mark}, env...)
			cmd.SysProcAttr = &syscall.SysProcAttr{}
			if os.Geteuid() == 0 && !u.root() {
				cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
			}
			var complaint bytes.Buffer
			cmd.Stderr = &complaint
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("tshark %v: %v: %s", args, err, complaint.String())
			}
			return string(out)
		}
		has(t, extcap(2), "write install or uninstall")
		file := extcap(0, "install")
		file, _, _ = strings.Cut(file, ":")
		if filepath.Base(file) != "weft-extcap" || !strings.HasPrefix(file, r.dir) {
			t.Fatalf("installed at %q", file)
		}
		net := "weft:ext-" + u.name
		has(t, tshark("-D"), net+":h1-eth0 (weft: ext-"+u.name+" h1-eth0)", net+":s1:c0 (weft: ext-"+u.name+" control s1:c0)",
			net+":control", net+":all", net+":s2-eth2")
		show := func(iface, filter string, want ...string) {
			ended := make(chan string, 1)
			go func() { ended <- tshark("-l", "-i", net+":"+iface, "-f", filter, "-c", "3", "-a", "duration:60") }()
			if !until(mostReady, func() bool {
				r.ask("pingall")
				r.ask("control s1 c0 down")
				r.ask("control s1 c0 up")
				select {
				case out := <-ended:
					has(t, out, want...)
					return true
				default:
					return false
				}
			}) {
				t.Errorf("tshark does not end with packets of %s", iface)
			}
		}
		show("h1-eth0", "icmp", "ICMP", "10.0.0.1 → 10.0.0.2")
		show("s1:c0", "tcp", "127.0.0.1 → 127.0.0.1", "6653")
		has(t, extcap(0, "--extcap-interface", net+":h1-eth0", "--extcap-capture-filter", "icmp and ("), "icmp and (")
		if out := extcap(0, "--extcap-interface", net+":h1-eth0", "--extcap-capture-filter", "icmp"); out != "" {
			t.Errorf("a filter that is right: %s", out)
		}
		has(t, extcap(1, "--capture", "--extcap-interface", "eth0", "--fifo", "/dev/null"), "no interface of weft's")
		has(t, extcap(0, "uninstall"), "removed")
		if _, err := os.Stat(file); err == nil {
			t.Error("it is still there")
		}
		r.in.Close()
		r.wait()
		r.gone()
	})
}
