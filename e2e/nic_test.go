package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A card stands for a NIC of the machine, which it is to weft: an interface that somebody uses,
// and beyond it another, far, in a namespace of the test's.
type card struct {
	t         *testing.T
	name, far string
	as        string // what it was
}

// newCard plugs one in, with an address, a route, and settings of its own. n is its number: cards
// of tests that run at the same time have other addresses.
func newCard(t *testing.T, n int) *card {
	t.Helper()
	needRoot(t)
	need(t, "ip")
	c := &card{t: t, name: fmt.Sprintf("nic%d", n), far: fmt.Sprintf("far%d", n)}
	run := func(format string, args ...any) {
		t.Helper()
		words := strings.Fields(fmt.Sprintf(format, args...))
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(words, " "), err, out)
		}
	}
	run("ip link add %s type veth peer name %s", c.name, c.far)
	t.Cleanup(func() { exec.Command("ip", "link", "delete", c.far).Run() })
	run("ip link set %s mtu 1400 up", c.name)
	run("ip link set %s alias uplink", c.name)
	run("ip address add 203.0.%d.1/24 dev %s", n, c.name)
	run("ip route add 198.51.%d.0/24 via 203.0.%d.9 dev %s metric 7", n, n, c.name)
	run("ip link set %s up", c.far)
	run("ip address add 203.0.%d.200/24 dev %s", 100+n, c.far)
	c.as = c.look()
	return c
}

// look tells what the interface is, as far as it is not the kernel's to say.
func (c *card) look() string {
	var text strings.Builder
	for _, command := range []string{"ip -o link show " + c.name, "ip -o -4 address show " + c.name, "ip -4 route show dev " + c.name} {
		words := strings.Fields(command)
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			return string(out)
		}
		for line := range strings.Lines(string(out)) {
			if number, rest, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(rest, c.name) {
				_, line = number, rest
			} else if ok {
				line = rest
			}
			text.WriteString(line)
		}
	}
	return text.String()
}

// back checks that the interface becomes what it was.
func (c *card) back() {
	c.t.Helper()
	is := ""
	if !until(mostGone, func() bool { is = c.look(); return is == c.as }) {
		c.t.Errorf("the NIC is not what it was:\n%s\nbut\n%s", c.as, is)
	}
	if !until(mostGone, func() bool { return !c.journalled() }) {
		c.t.Error("the journal has it still")
	}
}

// journalled reports whether the NIC is in the journal.
func (c *card) journalled() bool {
	files, _ := filepath.Glob("/run/weft-machine/*")
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), fmt.Sprintf("%q", c.name)) {
			return true
		}
	}
	return false
}

// network writes a network with the NIC at a node, and returns the file's name.
func (c *card) network(node, settings string) string {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "net.yaml")
	n := strings.TrimPrefix(c.far, "far")
	text := fmt.Sprintf("hosts: {h1: {ip: 203.0.1%02s.1/24}, h2: {ip: 203.0.1%02s.2/24}}\nswitches: [s1]\nlinks:\n  - h2 -- s1\n  - %s -- hw:%s: {%s}\n", n, n, node, c.name, settings)
	if node != "s1" {
		text += "  - h1 -- s1\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// A NIC lent to a switch port and to a host carries traffic and is what it was afterwards.
func TestLendNIC(t *testing.T) {
	for i, node := range []string{"s1", "h1", "h1/eth9"} {
		t.Run(strings.ReplaceAll(node, "/", "-"), func(t *testing.T) {
			t.Parallel()
			c := newCard(t, 1+i)
			r := up(t, rootUser, "--allow", c.network(node, "force: true, mtu: 1300"))
			host := map[bool]string{true: "h2", false: "h1"}[node == "s1"]
			r.exec(nil, host, "ping", "-c1", "-W5", fmt.Sprintf("203.0.%d.200", 101+i)).exits(0)
			if is := c.look(); !strings.Contains(is, "does not exist") {
				t.Errorf("while it is lent, the machine has it too: %s", is)
			}
			has(t, weft(t, rootUser, 0, "link", "show", r.network), "hw:"+c.name, "hw, up")
			if node == "h1/eth9" {
				show := r.exec(nil, "h1", "ip", "-o", "link", "show", "eth9")
				show.exits(0)
				has(t, show.out(), "mtu 1300")
				has(t, weft(t, rootUser, 1, "link", "cut", r.network, "h1-hw:"+c.name), "cannot be cut")
				weft(t, rootUser, 0, "link", "down", r.network, "eth9")
				has(t, weft(t, rootUser, 0, "link", "show", r.network, "eth9"), "hw, down")
			}
			r.also(0, "down")
			c.back()
			r.gone()
		})
	}
}

// Whatever is killed, the NIC comes back.
func TestKillLendNIC(t *testing.T) {
	for i, victim := range []string{"weft-keeper", "weft-init", "weft-engine"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			c := newCard(t, 11+i)
			r := up(t, rootUser, "--allow", c.network("s1", "force: true"))
			r.kill(victim)
			c.back()
			r.gone()
		})
	}
	t.Run("weft-lend", func(t *testing.T) {
		t.Parallel()
		c := newCard(t, 15)
		r := up(t, rootUser, "--allow", c.network("s1", "force: true"))
		r.kill("weft-lend")
		has(t, r.also(1, "down"), c.name, "weft clean")
		r.gone()
		// The kernel deletes an interface without a card with the network; weft clean knows.
		weft(t, rootUser, 0, "clean")
		if c.journalled() {
			t.Error("weft clean leaves the journal as it is")
		}
	})
}

// What is in use stays; who may not lend is told.
func TestRefuseNIC(t *testing.T) {
	c := newCard(t, 21)
	has(t, weft(t, rootUser, 1, "up", "--allow", c.network("h1", "")), "nic21 is up and has the address 203.0.21.1/24", "force")
	has(t, weft(t, rootUser, 2, "up", c.network("h1", "")), "takes the NIC nic21 of this machine for h1", "--allow")
	c.back()
	missing := &card{t: t, name: "nosuch0", far: "far22"}
	has(t, weft(t, rootUser, 1, "up", "--allow", missing.network("h1", "")), "this machine has no NIC nosuch0 (it has: ", c.name)
	missing.name = "lo"
	has(t, weft(t, rootUser, 1, "up", "--allow", missing.network("h1", "")), "lo cannot be lent")
	missing.name = "0000:ff:1f.7"
	has(t, weft(t, rootUser, 1, "up", "--allow", missing.network("h1", "")), "there is no NIC 0000:ff:1f.7")
	c.back()
}

// An ordinary user is told that this takes root.
func TestRefuseNICRootless(t *testing.T) {
	u := ordinary()
	file := filepath.Join(shared.dir, "rootless-nic.yaml")
	if err := os.WriteFile(file, []byte("hosts: [h1]\nlinks: [h1 -- hw:eth3]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	has(t, weft(t, u, 1, "up", "--allow", file), "the NIC eth3 can be lent by root only")
}
