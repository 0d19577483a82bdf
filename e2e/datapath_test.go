package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// needKernelDatapath skips the test unless this kernel forwards for Open vSwitch. Asking
// loads the module, if there is one.
func needKernelDatapath(t *testing.T) {
	t.Helper()
	if _, err := netlink.GenlFamilyGet("ovs_datapath"); err != nil {
		t.Skip("this kernel has no openvswitch module")
	}
}

// dpctl lists datapaths of the tests' own network namespace, where there may be none.
func dpctl(t *testing.T) {
	t.Helper()
	out, err := exec.Command("ovs-dpctl", "show").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("ovs-dpctl show: %v\n%s", err, out)
	}
	if _, err := netlink.LinkByName("ovs-system"); err == nil {
		t.Error("there is an ovs-system outside the sandbox")
	}
}

// TestKernelDatapath lets the kernel forward: for ordinary users too, in whose namespaces it
// does so since Linux 4.6.
func TestKernelDatapath(t *testing.T) {
	needKernelDatapath(t)
	check := func(t *testing.T, u user, args, all string) {
		t.Helper()
		r := start(t, launch{user: u, prompt: true, args: strings.Fields(args)})
		r.ready()
		r.eventually("pingall", all+" received")
		has(t, r.ask("s1 ovs-appctl dpif/show"), "system@ovs-system", "hit:")
		dpctl(t)
		r.in.Close()
		if code := r.wait(); code > 1 { // 1: on a busy machine the first pings are lost
			t.Errorf("exit status %d", code)
		}
		r.gone()
		dpctl(t)
	}
	for _, c := range []struct{ name, all, args string }{
		{"auto", "12 of 12", "--topo tree,2,2"},
		{"patch", "6 of 6", "--topo linear,3 --link ovs --switch ovsk,datapath=kernel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) { check(t, u, c.args, c.all) })
		})
	}
	for _, c := range []struct{ name, all, args string }{
		{"1.0", "2 of 2", "--topo linear,2 --switch ovsk,datapath=kernel,protocols=OpenFlow10"},
		{"1.3", "6 of 6", "--topo ring,3 --switch ovsk,datapath=kernel,protocols=OpenFlow13"},
		{"standalone", "2 of 2", "--topo linear,2 --switch ovsk,datapath=kernel,failMode=standalone --controller none"},
		{"ovsc", "2 of 2", "--topo linear,2 --switch ovsk,datapath=kernel,protocols=OpenFlow13 --controller ovsc"},
		{"IPv6", "2 of 2", "--topo linear,2 --ip6 --switch ovsk,datapath=kernel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			check(t, ordinary(), c.args, c.all)
		})
	}
}

// TestKernelDatapathChanges changes a network whose switches forward in the kernel, and
// some that do not.
func TestKernelDatapathChanges(t *testing.T) {
	needKernelDatapath(t)
	needRoot(t)
	r := start(t, launch{user: rootUser, prompt: true, args: strings.Fields("--topo linear,2 --switch ovsk,datapath=kernel")})
	r.ready()
	has(t, r.ask("capture s1-s2 link.pcapng"), "capturing on s1-eth2")
	r.eventually("pingall", "2 of 2 received")
	r.ask("capture stop 1")
	if file, err := os.Stat(r.file("link.pcapng")); err != nil || file.Size() < 500 {
		t.Errorf("pings of the kernel datapath are not captured: %v, %v", file, err)
	}
	r.ask("link s1 s2 down")
	has(t, r.ask("pingall"), "0 of 2 received")
	r.ask("link s1 s2 up")
	r.eventually("pingall", "2 of 2 received")
	r.ask("switch s1 stop")
	has(t, r.ask("pingall"), "0 of 2 received")
	has(t, r.ask("s2 ip link show"), "s1-eth1") // a port stays without its bridge
	r.ask("switch s1 start")
	r.eventually("pingall", "2 of 2 received")

	r.ask("add switch s3 --datapath user")
	r.ask("add switch s4 --datapath kernel")
	r.ask("add host h3")
	r.ask("add host h4")
	for _, l := range []string{"s2 s3", "s2 s4", "h3 s3", "h4 s4"} {
		r.ask("add link %s", l)
	}
	r.eventually("pingall", "12 of 12 received")
	has(t, r.ask("s1 ovs-appctl dpif/show"), "system@ovs-system", "dummy@ovs-dummy")
	r.eventually("iperf h1 h4 --time 1s", "bit/s received")

	r.kill("ovs-vswitchd")
	r.expect("ovs-vswitchd ended")
	r.eventually("pingall", "12 of 12 received")
	r.ask("del s3")
	r.ask("del h3")
	r.eventually("pingall", "6 of 6 received")
	r.finish(1) // pings were lost
	dpctl(t)
}

// TestJustBooted builds a network on a machine that has been up for a second, in whose first
// ten Open vSwitch cannot serve the kernel.
func TestJustBooted(t *testing.T) {
	needKernelDatapath(t)
	needRoot(t)
	need(t, "unshare")
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	var up int
	if _, err := fmt.Sscanf(string(text), "%d", &up); err != nil {
		t.Fatal(err)
	}
	r := start(t, launch{user: rootUser, prompt: true, wrap: []string{"unshare", "--fork", "--kill-child", "--time", fmt.Sprintf("--monotonic=%d", 1-up)},
		args: strings.Fields("--topo single,2 --switch ovsk,datapath=kernel")})
	r.ready()
	r.eventually("pingall", "2 of 2 received")
	r.in.Close()
	r.wait()
	r.gone()
}
