package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket/pcapgo"
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

// What is asked of AF_XDP ports that only the kernel's queues could do is refused; captures of their
// links see the packets at the other end.
func TestDPDKAFXDP(t *testing.T) {
	needRoot(t)
	dir := place(t, rootUser, nil)
	file := filepath.Join(dir, "net.yaml")
	text := "hosts: h1 h2\ndpdk: {s1: {portKind: xdp, nfs: [bridge]}}\nlinks: [h1 -- s1, s1 -- h2]\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := start(t, launch{user: rootUser, prompt: true, args: []string{"--custom", file, "--capture", "s1-h1=link.pcapng"}})
	r.ready()
	has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
	has(t, r.ask("link cut s1-h1"), "pass by what stops frames: take portKind packet")
	has(t, r.ask("link set s1-h1 delay=5ms"), "pass by what impairs a link: take portKind packet")
	has(t, r.ask("capture s1-eth1 port.pcapng"), "an AF_XDP port, which captures do not see")
	r.ask("link set s1-h1 mtu=1700")
	r.ask("link set s1-h2 mtu=1700")
	has(t, r.ask("h1 ping -c 1 -M do -s 1600 h2"), "1 received")
	has(t, r.ask("link set s1-h2 mtu=4000"), "MTU 4000")
	r.ask("link s1 h1 down")
	r.ask("link s1 h1 up")
	r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
	r.ask("add host h3")
	has(t, r.ask("add link h3 s1"), "added link")
	r.ask("h3 ip link delete h3-eth0")
	r.expect("s1-eth3 is gone")
	has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
	r.finish(1) // what was refused, and pings that were lost
	if n := echoes(t, r.file("link.pcapng")); n < 6 {
		t.Errorf("%d pings and answers in the capture, want 6 at least", n)
	}
}

// echoes counts the ICMP packets in a capture.
func echoes(t *testing.T, file string) (count int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if err != nil {
			return count
		}
		if len(data) > 23 && data[12] == 8 && data[13] == 0 && data[23] == 1 {
			count++
		}
	}
}

// A capture at a port of a DPDK node has what passes it, both ways.
func TestDPDKCapture(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2", "--capture", "s1-eth1=port.pcapng"}})
		r.ready()
		has(t, r.ask("h1 ping -c 5 -i 0.1 h2"), "5 received")
		r.finish(0)
		if n := echoes(t, r.file("port.pcapng")); n != 10 {
			t.Errorf("%d pings and answers in the capture, want 10", n)
		}
	})
}

// Whatever is killed while NFs run on a DPDK node, nothing is left of them.
func TestDPDKKilled(t *testing.T) {
	for _, victim := range victims[:3] {
		t.Run(victim, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				kind := "packet"
				if u.root() {
					kind = "xdp"
				}
				dir := place(t, u, nil)
				file := filepath.Join(dir, "net.yaml")
				text := "hosts: h1 h2\ndpdk: {s1: {portKind: " + kind + ", nfs: [{name: monitor, copy: true}, {name: tracker, fused: true}, {name: bridge, instances: 2}]}}\nlinks: [h1 -- s1, s1 -- h2]\n"
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				r := start(t, launch{user: u, prompt: true, args: []string{"--custom", file}})
				r.ready()
				has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
				r.note()
				programs := r.programs()
				if kind == "xdp" && len(programs) < 2 {
					t.Errorf("XDP programs %v of two ports", programs)
				}
				r.kill(victim)
				r.afterKill(victim, false)
				for _, id := range programs {
					if !until(mostGone, func() bool {
						p, err := ebpf.NewProgramFromID(id)
						if err == nil {
							p.Close()
						}
						return err != nil
					}) {
						t.Errorf("the XDP program %d is left", id)
					}
				}
			})
		})
	}
}

// programs returns the eBPF programs that the run's processes have.
func (r *run) programs() (list []ebpf.ProgramID) {
	for _, p := range marked(r.mark) {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", p.pid))
		for _, f := range files {
			text, _ := os.ReadFile(f)
			for line := range strings.Lines(string(text)) {
				if name, value, _ := strings.Cut(line, ":"); name == "prog_id" {
					if id, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
						list = append(list, ebpf.ProgramID(id))
					}
				}
			}
		}
	}
	return list
}
