package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain makes the test binary the command that Options.Probe needs, and the one
// that examines the machine as another user.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "probe":
			if err := Probe(os.Args[2:], os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "examine":
			json.NewEncoder(os.Stdout).Encode(Examine(context.Background(), live()))
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func live() Options { return Options{Probe: []string{"/proc/self/exe", "probe"}} }

// plant makes a tree of files; a name that ends in "*" is a program.
func plant(t *testing.T, files map[string]string) tree {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if n, ok := strings.CutSuffix(name, "*"); ok {
			name, mode = n, 0o755
		}
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return tree(root)
}

// ubuntu is a server with all that weft can use.
func ubuntu() map[string]string {
	return map[string]string{
		"etc/os-release":            "PRETTY_NAME=\"Ubuntu 24.04 LTS\"\nID=ubuntu\n",
		"etc/subuid":                "ann:100000:65536\nbob:165536:65536\n",
		"etc/subgid":                "ann:100000:65536\n",
		"proc/sys/kernel/osrelease": "6.8.0-31-generic\n",
		"proc/sys/kernel/apparmor_restrict_unprivileged_userns":      "1\n",
		"proc/sys/user/max_user_namespaces":                          "63000\n",
		"proc/sys/user/max_net_namespaces":                           "63000\n",
		"proc/sys/net/ipv4/neigh/default/gc_thresh3":                 "1048576\n",
		"proc/self/ns/net":                                           "",
		"proc/self/ns/user":                                          "",
		"proc/self/cgroup":                                           "0::/user.slice\n",
		"proc/self/limits":                                           "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 1048576              files     \n",
		"lib/modules/6.8.0-31-generic/modules.dep":                   "kernel/net/openvswitch/openvswitch.ko.zst: kernel/net/nsh/nsh.ko.zst\nkernel/net/sched/sch_netem.ko.zst:\nkernel/net/sched/sch_tbf.ko.zst:\nkernel/drivers/net/ifb.ko.zst:\nkernel/drivers/net/veth.ko.zst:\nkernel/net/bridge/bridge.ko.zst: kernel/net/llc/llc.ko.zst\nkernel/drivers/vfio/pci/vfio-pci.ko.zst:\nkernel/net/netfilter/nf_tables.ko.zst:\n",
		"lib/modules/6.8.0-31-generic/modules.builtin":               "kernel/drivers/net/tun.ko\n",
		"boot/config-6.8.0-31-generic":                               "CONFIG_XDP_SOCKETS=y\nCONFIG_VETH=m\n# CONFIG_X is not set\n",
		"sys/module/bridge/version":                                  "2.3\n",
		"sys/fs/cgroup/cgroup.controllers":                           "cpuset cpu io memory pids\n",
		"sys/fs/cgroup/user.slice/cgroup.procs":                      "",
		"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages":      "512\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages":    "500\n",
		"sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages":   "0\n",
		"sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages": "0\n",
		"sys/kernel/iommu_groups/0/type":                             "DMA-FQ\n",
		"sys/kernel/iommu_groups/1/type":                             "DMA-FQ\n",
		"dev/vfio/vfio":                                              "",
		"dev/net/tun":                                                "",
		"usr/sbin/ovsdb-server*":                                     "",
		"usr/sbin/ovs-vswitchd*":                                     "",
		"usr/bin/ovsdb-tool*":                                        "",
		"usr/bin/ovs-vsctl*":                                         "",
		"usr/bin/ovs-ofctl*":                                         "",
		"usr/bin/newuidmap*":                                         "",
		"usr/bin/newgidmap*":                                         "",
		"usr/bin/pasta*":                                             "",
		"usr/bin/tshark*":                                            "",
		"usr/bin/xterm":                                              "not a program",
	}
}

// container has next to nothing.
func container() map[string]string {
	return map[string]string{
		"proc/sys/kernel/osrelease":                  "5.10.0",
		"proc/sys/kernel/unprivileged_userns_clone":  "0",
		"proc/sys/net/ipv4/neigh/default/gc_thresh3": "1024",
		"proc/self/limits":                           "Max open files            1024                 1024              files     \n",
		"usr/bin/ovs-vsctl*":                         "",
	}
}

// build makes a machine of files, without this machine's own things.
func build(t *testing.T, files map[string]string, uid int, user string) *machine {
	m := &machine{tree: plant(t, files), uid: uid, user: user, cpus: 4}
	m.kernel = m.tree.kernel()
	m.programs = m.tree.programs("/usr/local/bin:/usr/bin")
	return m
}

func find(t *testing.T, r Report, id string) Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no check %q", id)
	return Check{}
}

func TestText(t *testing.T) {
	denied := trial{true, "fork/exec /bin/true: operation not permitted"}
	works := trial{tried: true}
	tests := []struct {
		name   string
		files  map[string]string
		uid    int
		user   string
		more   func(*machine)
		usable bool
	}{
		{"root", ubuntu(), 0, "root", func(m *machine) {
			m.ovs, m.userns, m.sandbox = "3.3.0", works, works
			m.features = map[string]trial{"tun": works, "afxdp": works}
		}, true},
		{"apparmor", ubuntu(), 1000, "ann", func(m *machine) {
			m.ovs, m.userns, m.sandbox = "3.3.0", works, works
			m.features = map[string]trial{featureAdmin: denied}
		}, false},
		{"container", container(), 1001, "bob", func(m *machine) { m.userns, m.sandbox = denied, denied }, false},
		{"files", container(), 0, "root", func(m *machine) {}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := build(t, tt.files, tt.uid, tt.user)
			tt.more(m)
			r := m.report()
			if r.Usable() != tt.usable {
				t.Errorf("Usable is %v", r.Usable())
			}
			var b bytes.Buffer
			if err := r.Text(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name+".txt", b.Bytes())
		})
	}
}

// What an ordinary user's NAT needs besides its program is not passed over.
func TestRootlessNAT(t *testing.T) {
	for _, uid := range []int{0, 1000} {
		m := build(t, ubuntu(), uid, "ann")
		m.programs["pasta"] = "/usr/bin/pasta"
		m.features = map[string]trial{"tun": {true, "open /dev/net/tun: permission denied"}}
		c := find(t, m.report(), "usernet")
		if bad := c.Status != OK; bad != (uid != 0) || bad && !strings.Contains(c.Fix, "/dev/net/tun") {
			t.Errorf("user %d without TUN/TAP: %+v", uid, c)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test -update rewrites it. Got:\n%s", file, got)
	}
}

func TestColor(t *testing.T) {
	var b bytes.Buffer
	r := Report{Checks: []Check{Check{Title: "x"}.found("y")}}
	if err := r.ColorText(&b); err != nil {
		t.Fatal(err)
	}
	if want := "\x1b[32mok     \x1b[0m  x  y\n"; !strings.Contains(b.String(), want) {
		t.Errorf("got %q, want %q in it", b.String(), want)
	}
}

func TestModule(t *testing.T) {
	files := ubuntu()
	delete(files, "boot/config-6.8.0-31-generic")
	noConfig := plant(t, files).kernel()
	full := plant(t, ubuntu()).kernel()
	bare := plant(t, nil).kernel()
	alone := plant(t, map[string]string{"boot/config-": "CONFIG_VETH=m\nCONFIG_TUN=y\n"}).kernel()
	tests := []struct {
		name           string
		kernel         kernel
		module, option string
		want           moduleState
	}{
		{"built in", full, "tun", "CONFIG_TUN", present},
		{"loaded", full, "bridge", "CONFIG_BRIDGE", present},
		{"on disk", full, "vfio_pci", "CONFIG_VFIO_PCI", loadable},
		{"not there", full, "sch_foo", "CONFIG_NET_SCH_FOO", absent},
		{"never a module", full, "", "CONFIG_XDP_SOCKETS", present},
		{"list only, not there", noConfig, "sch_foo", "CONFIG_NET_SCH_FOO", absent},
		{"list only, never a module", noConfig, "", "CONFIG_XDP_SOCKETS", unknown},
		{"nothing known", bare, "veth", "CONFIG_VETH", unknown},
		{"config only, module", alone, "veth", "CONFIG_VETH", loadable},
		{"config only, built in", alone, "tun", "CONFIG_TUN", present},
	}
	for _, tt := range tests {
		if got := tt.kernel.module(tt.module, tt.option); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A trial must never make the kernel load a module.
func TestSafeFeatures(t *testing.T) {
	m := build(t, ubuntu(), 0, "root")
	got := strings.Join(m.safeFeatures(), " ")
	if want := "admin bridge tun afxdp"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSubIDs(t *testing.T) {
	tr := plant(t, map[string]string{"f": "ann:1:10\n1000:5:7\nbob:1:x\n:::\nann\n"})
	for _, tt := range []struct {
		user string
		uid  int
		want int
	}{{"ann", 1000, 17}, {"ann", 5, 10}, {"bob", 6, 0}, {"eve", 7, 0}} {
		if got := tr.subIDs("f", tt.user, tt.uid); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.user, got, tt.want)
		}
	}
}

func TestOVSVersion(t *testing.T) {
	for text, want := range map[string]string{
		"ovs-vswitchd (Open vSwitch) 3.1.0\nDPDK 22.11\n": "3.1.0",
		"something else": "",
		"":               "",
	} {
		if got := parseOVSVersion(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestProbeRefuses(t *testing.T) {
	if err := Probe([]string{"veth"}, &bytes.Buffer{}); err == nil {
		t.Error("Probe works outside namespaces of its own")
	}
}

func TestOtherRoot(t *testing.T) {
	r := Examine(context.Background(), Options{Root: string(plant(t, ubuntu())), Probe: []string{"/bin/false"}})
	if r.System != "Ubuntu 24.04 LTS" || r.Kernel != "6.8.0-31-generic" || r.Datapath != "kernel" {
		t.Errorf("got %q, %q, %q", r.System, r.Kernel, r.Datapath)
	}
}

// interfaces names what is in the test's own namespace.
func interfaces(t *testing.T) string {
	names := tree("/").list("sys/class/net")
	return strings.Join(names, " ")
}

func TestThisMachine(t *testing.T) {
	before := interfaces(t)
	r := Examine(context.Background(), live())
	if after := interfaces(t); after != before {
		t.Errorf("interfaces before: %s; after: %s", before, after)
	}
	checkLive(t, r)
}

func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	cmd := exec.Command("/proc/self/exe", "examine")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("may not change to another user here")
	}
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if c := find(t, r, "root"); !strings.HasPrefix(c.Detail, "ordinary user") {
		t.Errorf("root: %+v", c)
	}
	if c := find(t, r, "afxdp"); c.Status != Missing {
		t.Errorf("afxdp: %+v", c)
	}
	checkLive(t, r)
}

// checkLive holds what is true of a report of any machine.
func checkLive(t *testing.T, r Report) {
	t.Helper()
	var b bytes.Buffer
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", b.String())
	seen := map[string]bool{}
	for _, c := range r.Checks {
		if c.ID == "" || c.Title == "" || c.Detail == "" || c.Status == "" || seen[c.ID] {
			t.Errorf("incomplete or twice: %+v", c)
		}
		seen[c.ID] = true
	}
	if c := find(t, r, "netns"); c.Status == OK && find(t, r, "userns").Status == OK {
		if v := find(t, r, "veth"); v.Status == OK && !strings.Contains(v.Detail, "works") && !strings.Contains(v.Detail, "loads") {
			t.Errorf("veth was not tried: %+v", v)
		}
	}
	if (r.Datapath == "") != (find(t, r, "openvswitch").Status == Missing) {
		t.Errorf("datapath %q, %+v", r.Datapath, find(t, r, "openvswitch"))
	}
}

// FuzzTree reads files as they may be on any machine.
func FuzzTree(f *testing.F) {
	f.Add("ann:1:2\n", "kernel/x.ko.xz: y\n", "CONFIG_X=y\n", "Max open files 1 unlimited files\n")
	f.Fuzz(func(t *testing.T, subids, modules, config, limits string) {
		m := build(t, map[string]string{
			"etc/subuid": subids, "etc/subgid": subids, "etc/os-release": config,
			"lib/modules/modules.dep": modules, "lib/modules/modules.builtin": modules, "boot/config-": config,
			"proc/config.gz": config, "proc/self/limits": limits, "proc/cgroups": limits, "proc/self/cgroup": limits,
			"proc/sys/kernel/unprivileged_userns_clone": limits,
		}, 1000, "ann")
		r := m.report()
		if err := r.Text(&bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
		parseOVSVersion(limits)
	})
}
