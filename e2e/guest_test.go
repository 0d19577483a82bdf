package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A guest is a virtual machine with two emulated NICs that are plugged into each other, as
// `go tool vm -nics=2 -hugepages=64` makes it. Physical interfaces live in the machine's first
// network namespace: weft runs there.
type guest struct{ t *testing.T }

// The NICs' addresses.
const (
	firstNIC  = "0000:00:10.0"
	secondNIC = "0000:00:11.0"
)

// newGuest skips the test elsewhere.
func newGuest(t *testing.T) guest {
	t.Helper()
	needRoot(t)
	for _, nic := range []string{firstNIC, secondNIC} {
		if driver(nic) != "e1000e" {
			t.Skip("no emulated NICs: run this by go test -exec 'go tool vm -nics=2 -hugepages=64 --'")
		}
	}
	if out, err := exec.Command("modprobe", "vfio-pci").CombinedOutput(); err != nil {
		t.Skipf("this kernel has no vfio-pci: %v: %s", err, out)
	}
	return guest{t}
}

// driver returns the driver of a device on the PCI bus.
func driver(address string) string {
	link, err := os.Readlink(filepath.Join("/sys/bus/pci/devices", address, "driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

// outside are the words that run a command in the first network namespace.
func (g guest) outside() []string {
	return []string{"nsenter", "--net=/proc/" + os.Getenv(envInside) + "/ns/net"}
}

// start starts weft there.
func (g guest) start(args ...string) *run {
	g.t.Helper()
	return start(g.t, launch{user: rootUser, wrap: g.outside(), args: args})
}

// weft runs weft there.
func (g guest) weft(status int, args ...string) string {
	g.t.Helper()
	r := g.start(args...)
	r.exits(status)
	return r.out() + r.err()
}

// ip runs ip(8) there.
func (g guest) ip(args ...string) string {
	g.t.Helper()
	words := append(append(g.outside(), "ip"), args...)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		g.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// look tells what the NICs' interfaces are.
func (g guest) look() string {
	text := ""
	for _, name := range []string{"eth0", "eth1"} {
		for line := range strings.Lines(g.ip("-d", "address", "show", "dev", name)) {
			for _, what := range []string{"link/ether", "inet", "alias"} {
				if strings.HasPrefix(strings.TrimSpace(line), what) && !strings.Contains(line, " fe80:") { // which the kernel makes
					text += name + " " + line
				}
			}
		}
		for line := range strings.Lines(g.ip("route", "show", "dev", name)) {
			text += name + " " + strings.TrimSpace(strings.ReplaceAll(line, "linkdown", "")) + "\n" // the other end of the cable is another test's
		}
		text += name + " " + driver(map[string]string{"eth0": firstNIC, "eth1": secondNIC}[name]) + "\n"
	}
	return text
}

// up brings up a network of a file's text.
func (g guest) up(text string) *run {
	g.t.Helper()
	file := filepath.Join(g.t.TempDir(), "net.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	r := g.start("up", "--name", "guest", "--allow", file)
	if code := r.wait(); code != 0 {
		g.t.Fatalf("up: exit status %d\n%s", code, r.transcript())
	}
	return r
}

// ping waits until a ping of h1's comes back from 10.0.0.2: the link of NICs takes its time.
func (g guest) ping() {
	g.t.Helper()
	if !until(most, func() bool {
		e := g.start("exec", "guest", "h1", "ping", "-c1", "-W2", "10.0.0.2")
		e.wait()
		return strings.Contains(e.out(), "1 received")
	}) {
		g.t.Fatal("no ping through the NICs")
	}
}

// killAll kills all that is left of a run; the lenders of its NICs first, so that they do not
// notice.
func (g guest) killAll(r *run) {
	g.t.Helper()
	for _, lenders := range []bool{true, false} {
		for _, p := range marked(r.mark) {
			if (p.name() == "weft-lend") == lenders {
				syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
	}
	if !until(mostGone, func() bool { return len(marked(r.mark)) == 0 }) {
		r.hang("the end of what was killed")
	}
}

// Emulated NICs are seen, bound to vfio-pci, lent, and come back whatever happens.
func TestGuestNICs(t *testing.T) {
	g := newGuest(t)
	g.ip("address", "add", "192.0.2.1/24", "dev", "eth0")
	g.ip("link", "set", "eth0", "alias", "uplink")
	was := g.look()

	t.Run("status", func(t *testing.T) {
		var s struct {
			NICs []struct {
				Address, Driver, IOMMUGroup string
				Interfaces                  []struct{ Name, MAC string }
				DPDK                        struct{ Way, Driver string }
			}
			Machine struct {
				VFIO      bool
				Hugepages []struct{ Size, Free int }
			}
		}
		text := guest{t}.weft(0, "dpdk", "--json")
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if len(s.NICs) != 2 || !s.Machine.VFIO {
			t.Fatalf("want two NICs and vfio-pci:\n%s", text)
		}
		for i, n := range s.NICs {
			if n.Address != []string{firstNIC, secondNIC}[i] || n.Driver != "e1000e" || n.IOMMUGroup == "" || n.DPDK.Way != "vfio" || n.DPDK.Driver != "vfio-pci" ||
				len(n.Interfaces) != 1 || n.Interfaces[0].Name != fmt.Sprint("eth", i) || n.Interfaces[0].MAC != fmt.Sprintf("52:54:00:00:00:%02x", i+1) {
				t.Errorf("NIC %d is %+v", i, n)
			}
		}
		free := 0
		for _, h := range s.Machine.Hugepages {
			if h.Size == 2048 {
				free += h.Free
			}
		}
		if free != 64 {
			t.Errorf("%d hugepages of 2 MB are free, want 64", free)
		}
	})

	t.Run("bind", func(t *testing.T) {
		g := guest{t}
		g.ip("link", "set", "eth0", "up")
		has(t, g.weft(1, "dpdk", "bind", firstNIC), "eth0 is up and has the address 192.0.2.1/24", "--force")
		g.ip("link", "set", "eth0", "down")
		has(t, g.weft(0, "dpdk", "bind", "eth0", secondNIC), firstNIC+": e1000e → vfio-pci", secondNIC+": e1000e → vfio-pci")
		if driver(firstNIC) != "vfio-pci" || driver(secondNIC) != "vfio-pci" {
			t.Errorf("drivers %s, %s", driver(firstNIC), driver(secondNIC))
		}
		has(t, g.weft(0, "dpdk"), "vfio-pci", "the driver of "+firstNIC+", which was e1000e")
		has(t, g.weft(0, "dpdk", "unbind", secondNIC), secondNIC+": vfio-pci → e1000e")
		has(t, g.weft(0, "clean"), "put back the driver of "+firstNIC+", which was e1000e")
		if is := g.look(); is != was {
			t.Errorf("the NICs are\n%s\nand were\n%s", is, was)
		}
	})

	t.Run("hugepages", func(t *testing.T) {
		g := guest{t}
		has(t, g.weft(0, "dpdk", "hugepages", "80"), "80 of 2 MB on node 0, 80 free")
		has(t, g.weft(1, "dpdk", "hugepages", "100000"), "the kernel found memory for")
		has(t, g.weft(0, "clean"), "which was 64")
	})

	// Two hosts hear each other through the NICs, of which one is a port of Open vSwitch's kernel
	// datapath. They come back when the network ends. When all is killed, the kernel brings them
	// back, with other names, and weft clean makes them what they were.
	t.Run("lent", func(t *testing.T) {
		g := guest{t}
		network := "hosts: [h1, h2]\nswitches: [s1]\nlinks: [h1 -- s1, s1 -- hw:eth0, h2/eth7 -- hw:" + secondNIC + "]\n"
		g.up(network)
		g.ping()
		has(t, g.weft(0, "dpdk"), "network guest")
		has(t, g.weft(1, "dpdk", "bind", firstNIC), "it is lent to network guest")
		g.weft(0, "down", "guest")
		if is := g.look(); is != was {
			t.Errorf("after the end, the NICs are\n%s\nand were\n%s", is, was)
		}
		g.killAll(g.up(network))
		has(t, g.weft(0, "clean"), "put back the NIC eth0", "put back the NIC eth1")
		if is := g.look(); is != was {
			t.Errorf("the NICs are\n%s\nand were\n%s", is, was)
		}
	})

	// A DPDK node with weft's own manager has a NIC as a port; all of it ends in good order.
	t.Run("manager", func(t *testing.T) {
		g := guest{t}
		g.up("hosts: [h1, h2]\nswitches: {nf1: {driver: dpdk, dpdk: {nfs: [bridge]}}}\nlinks: [h1 -- nf1, nf1 -- hw:eth0, h2 -- hw:eth1]\n")
		g.ping()
		g.weft(0, "down", "guest")
		if is := g.look(); is != was {
			t.Errorf("the NICs are\n%s\nand were\n%s", is, was)
		}
	})

	// Two DPDK nodes hear each other through the NICs: weft's own manager has one that the machine
	// used by AF_XDP, testpmd the other card itself by vfio-pci. All is killed, and weft clean gives
	// both back with their drivers, addresses and routes.
	t.Run("killed", func(t *testing.T) {
		need(t, "dpdk-testpmd")
		g := guest{t}
		g.ip("link", "set", "eth0", "up")
		g.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.2", "dev", "eth0", "metric", "7")
		was := g.look()
		has(t, was, "198.51.100.0/24 via 192.0.2.2")
		r := g.up("hosts: [h1, h2]\ndpdk:\n  nf1: bridge\n  nf2:\n    manager: dpdk\n    nics: [\"" + secondNIC + "\"]\n    hugepages: 32\n" +
			"    command: dpdk-testpmd {eal} -- --forward-mode=io --auto-start --total-num-mbufs=16384\n" +
			"links: [h1 -- nf1, nf1 -- hw:eth0: {force: true}, h2 -- nf2]\n")
		g.ping()
		has(t, g.weft(0, "nf", "stats", "guest", "nf1"), "xdp")
		if driver(firstNIC) != "e1000e" || driver(secondNIC) != "vfio-pci" {
			t.Errorf("the cards have the drivers %s and %s", driver(firstNIC), driver(secondNIC))
		}
		has(t, g.weft(0, "dpdk"), "dpdk-testpmd (", "network guest")
		g.killAll(r)
		has(t, g.weft(0, "clean"), "put back the NIC eth0", "put back the driver of "+secondNIC+", which was e1000e")
		if is := g.look(); is != was {
			t.Errorf("the NICs are\n%s\nand were\n%s", is, was)
		}
	})
}
