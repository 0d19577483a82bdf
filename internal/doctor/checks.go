package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// What a large network needs.
const (
	largeHosts = 1024
	// largeFiles is how many files the busiest process has open at largeHosts:
	// for each host a namespace, a port's socket and one for what runs on it.
	largeFiles = 4 * largeHosts
	// largeNeighbours lets 256 hosts talk to each other.
	largeNeighbours = 1 << 16
)

func (m *machine) checks() []Check {
	checks := []Check{
		m.privileges(),
		m.userNamespaces(),
		m.idMaps(),
		m.networkNamespaces(),
	}
	checks = append(checks, m.kernelFeatures()...)
	checks = append(checks,
		m.openVSwitch(),
		m.kernelDatapath(),
		m.afxdp(),
		m.nat(),
		m.rootlessNAT(),
		m.cgroups(),
		m.hugepages(),
		m.vfio(),
		m.openFiles(),
		m.neighbours(),
	)
	return append(checks, m.tools()...)
}

// found sets the status and what goes with it.
func (c Check) found(detail string) Check {
	c.Status, c.Detail = OK, detail
	return c
}

func (c Check) lacks(s Status, detail, effect, fix string) Check {
	c.Status, c.Detail, c.Effect, c.Fix = s, detail, effect, fix
	return c
}

func (m *machine) privileges() Check {
	c := Check{ID: "root", Title: "privileges"}
	if m.uid != 0 {
		c = c.found("ordinary user " + m.user)
		c.Effect = "networks are made in a user namespace; hardware NICs, AF_XDP, hugepages and NAT by the kernel need root"
		return c
	}
	return c.found("root")
}

func (m *machine) userNamespaces() Check {
	c := Check{ID: "userns", Title: "user namespaces", Required: m.uid != 0}
	effect, status := "an ordinary user cannot build networks here; root can", Warn
	if m.uid != 0 {
		effect, status = "networks can only be built by root: sudo weft", Missing
	}
	// AppArmor lets an ordinary user make the namespace and then denies all power in
	// it. What root may do says nothing about the settings below.
	admin := m.features[featureAdmin]
	if m.uid != 0 && m.userns.ok() && admin.ok() {
		return c.found("works")
	}
	sysctls := []struct {
		name string
		bad  int
		set  int
	}{
		{"kernel.unprivileged_userns_clone", 0, 1},
		{"user.max_user_namespaces", 0, 15000},
		{"kernel.apparmor_restrict_unprivileged_userns", 1, 0},
	}
	for _, s := range sysctls {
		n, ok := m.tree.number("proc/sys/" + strings.ReplaceAll(s.name, ".", "/"))
		if !ok || n != s.bad {
			continue
		}
		fix := fmt.Sprintf("sudo sysctl -w %s=%d", s.name, s.set)
		return c.lacks(status, fmt.Sprintf("%s is %d", s.name, s.bad), effect, fix)
	}
	switch {
	case m.userns.failed():
		return c.lacks(status, m.userns.err, effect, "")
	case m.uid != 0 && admin.failed():
		return c.lacks(status, "made, but without power over it: "+admin.err, effect, "")
	case m.userns.ok():
		return c.found("works")
	case !m.tree.exists("proc/self/ns/user"):
		return c.lacks(status, "this kernel has none", effect, "")
	}
	return c.found("nothing forbids them (not tried)")
}

func (m *machine) idMaps() Check {
	c := Check{ID: "idmap", Title: "user ID ranges"}
	if m.uid == 0 {
		return c.found("root needs none")
	}
	const effect = "hosts have one user, root; programs that change to another user fail there"
	if m.programs["newuidmap"] == "" || m.programs["newgidmap"] == "" {
		return c.lacks(Warn, "newuidmap is not installed", effect, "sudo apt-get install uidmap")
	}
	uids, gids := m.tree.subIDs("etc/subuid", m.user, m.uid), m.tree.subIDs("etc/subgid", m.user, m.uid)
	if uids == 0 || gids == 0 {
		return c.lacks(Warn, "/etc/subuid and /etc/subgid give "+m.user+" none", effect,
			"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "+m.user)
	}
	return c.found(fmt.Sprintf("%d users and %d groups", uids, gids))
}

func (m *machine) networkNamespaces() Check {
	c := Check{ID: "netns", Title: "network namespaces", Required: true}
	const effect = "weft cannot build networks here"
	if m.sandbox.failed() {
		if m.uid == 0 {
			return c.lacks(Missing, m.sandbox.err, effect+"; a container must be started with --privileged", "")
		}
		return c.lacks(Missing, m.sandbox.err, effect, "")
	}
	if !m.tree.exists("proc/self/ns/net") {
		return c.lacks(Missing, "this kernel has none", effect, "")
	}
	const limit = "user.max_net_namespaces"
	if n, ok := m.tree.number("proc/sys/user/max_net_namespaces"); ok && n < largeHosts+largeHosts/4 {
		return c.lacks(Warn, fmt.Sprintf("%s is %d", limit, n), fmt.Sprintf("networks have at most %d hosts", n),
			"sudo sysctl -w "+limit+"=16384")
	}
	if m.sandbox.ok() {
		return c.found("works")
	}
	return c.found("this kernel has them (not tried)")
}

// kernelFeatures are those of which the kernel alone decides.
func (m *machine) kernelFeatures() []Check {
	var checks []Check
	for _, f := range []struct {
		Check
		status Status // if the kernel lacks it
		effect string
	}{
		{Check{ID: "veth", Title: "veth links", Required: true}, Missing, "weft cannot build networks here"},
		{Check{ID: "tun", Title: "TUN/TAP"}, Missing, "no links of the driver wire, no local ports of switches that forward in user space (local=1), no NAT without root"},
		{Check{ID: "bridge", Title: "Linux bridge"}, Missing, "no switches of kind lxbr"},
		{Check{ID: "netem", Title: "netem"}, Warn, "weft itself carries the frames of impaired links (driver wire), not the kernel"},
		{Check{ID: "tbf", Title: "TBF"}, Warn, "weft itself carries the frames of links with a rate (driver wire), not the kernel"},
		{Check{ID: "ifb", Title: "IFB"}, Warn, "weft itself carries the frames of links with a rate (driver wire), not the kernel"},
	} {
		a := m.has(f.ID)
		switch {
		case a.yes:
			checks = append(checks, f.found(a.how))
		case !a.known:
			checks = append(checks, f.lacks(Warn, a.how, "weft finds out when a network needs it", ""))
		default:
			checks = append(checks, f.lacks(f.status, a.how, f.effect, m.mend(a)))
		}
	}
	return checks
}

// mend is the command that gives a kernel a feature that it lacks.
func (m *machine) mend(a answer) string {
	switch {
	case a.id == "tun" && !m.tree.exists("dev/net/tun"):
		return "sudo mkdir -p /dev/net && sudo mknod -m 666 /dev/net/tun c 10 200"
	case a.id == "tun":
		return "sudo chmod 666 /dev/net/tun"
	case m.kernel.listed && m.tree.osRelease("ID") == "ubuntu":
		return "sudo apt-get install linux-modules-extra-" + m.kernel.release
	case m.kernel.listed && strings.Contains(m.kernel.release, "cloud"):
		return "sudo apt-get install linux-image-amd64"
	}
	return ""
}

// missingOVS names the programs of Open vSwitch that are not installed.
func (m *machine) missingOVS() []string {
	var names []string
	for _, p := range ovsPrograms() {
		if m.programs[p] == "" {
			names = append(names, p)
		}
	}
	return names
}

func (m *machine) openVSwitch() Check {
	c := Check{ID: "openvswitch", Title: "Open vSwitch", Required: true}
	missing := m.missingOVS()
	const effect, install = "weft cannot build networks with OpenFlow switches", "sudo apt-get install openvswitch-switch"
	switch {
	case len(missing) == len(ovsPrograms()):
		return c.lacks(Missing, "not installed", effect, install)
	case len(missing) > 0:
		return c.lacks(Missing, "lacks "+join(missing), effect, install)
	case m.ovs == "":
		return c.found("installed")
	}
	return c.found(m.ovs)
}

func (m *machine) kernelDatapath() Check {
	c := Check{ID: "ovs-kernel", Title: "Open vSwitch in the kernel"}
	a := m.has("ovs")
	const user = "switches forward in user space, with segmentation offload (datapath user)"
	switch {
	case a.yes:
		c = c.found(a.how)
		c.Effect = "switches forward in the kernel (datapath kernel)"
		return c
	case !a.known:
		return c.lacks(Warn, a.how, user, "sudo modprobe openvswitch")
	}
	return c.lacks(Warn, a.how, user, m.mend(a))
}

func (m *machine) afxdp() Check {
	c := Check{ID: "afxdp", Title: "AF_XDP"}
	const effect = "datapath afxdp cannot be asked for"
	a := m.has("afxdp")
	switch program := m.programs["ovs-vswitchd"]; {
	case !a.known:
		return c.lacks(Warn, a.how, effect, "")
	case !a.yes:
		return c.lacks(Missing, a.how, effect, "")
	case program == "":
		return c.lacks(Missing, "no Open vSwitch", effect, "sudo apt-get install openvswitch-switch")
	case !m.tree.uses(program, "libxdp") && !m.tree.uses(program, "libbpf"):
		return c.lacks(Missing, "this Open vSwitch is built without it", effect, "")
	case m.uid != 0:
		return c.lacks(Missing, "needs root", effect, "sudo weft")
	}
	return c.found(a.how + "; Open vSwitch is built with it")
}

func (m *machine) nat() Check {
	c := Check{ID: "nftables", Title: "nftables"}
	const effect = "no NAT by the kernel"
	a := m.has("nftables")
	switch {
	case a.yes:
		return c.found(a.how)
	case !a.known:
		return c.lacks(Warn, a.how, "weft finds out when a network needs it", "sudo modprobe nf_tables")
	}
	return c.lacks(Warn, a.how, effect, m.mend(a))
}

func (m *machine) rootlessNAT() Check {
	c := Check{ID: "usernet", Title: "NAT without root"}
	var has []string
	for _, p := range []string{"slirp4netns", "pasta"} {
		if m.programs[p] != "" {
			has = append(has, p)
		}
	}
	if len(has) == 0 {
		return c.lacks(Warn, "neither slirp4netns nor pasta is installed",
			"--nat needs root", "sudo apt-get install slirp4netns")
	}
	if a := m.has("tun"); a.known && !a.yes && m.uid != 0 {
		return c.lacks(Warn, join(has)+", but they need TUN/TAP", "--nat needs root", m.mend(a))
	}
	return c.found(join(has))
}

func (m *machine) cgroups() Check {
	c := Check{ID: "cgroup", Title: "control groups"}
	const none = "no matter yet: this version sets no CPU limits"
	if v2 := m.tree.read("sys/fs/cgroup/cgroup.controllers"); v2 != "" {
		if !strings.Contains(" "+v2+" ", " cpu ") {
			return c.lacks(Warn, "v2 without cpu: "+v2, none, "")
		}
		if m.uid != 0 && !m.delegated() {
			return c.lacks(Warn, "v2, none delegated to "+m.user, none, "systemd-run --user --scope -p Delegate=yes weft")
		}
		return c.found("v2: " + v2)
	}
	var v1 []string
	for line := range strings.Lines(m.tree.read("proc/cgroups")) {
		f := strings.Fields(line)
		if len(f) == 4 && f[3] == "1" && f[1] != "0" {
			v1 = append(v1, f[0])
		}
	}
	if len(v1) == 0 {
		return c.lacks(Warn, "none mounted", none, "")
	}
	if m.uid != 0 {
		return c.lacks(Warn, "v1: "+strings.Join(v1, " ")+"; for root only", none, "")
	}
	return c.found("v1: " + strings.Join(v1, " "))
}

// delegated reports whether the process's own cgroup may be divided by its user.
func (m *machine) delegated() bool {
	_, group, ok := strings.Cut(m.tree.read("proc/self/cgroup"), "0::")
	group, _, _ = strings.Cut(group, "\n")
	return ok && m.tree.writable("sys/fs/cgroup/"+group+"/cgroup.procs")
}

func (m *machine) hugepages() Check {
	c := Check{ID: "hugepages", Title: "hugepages"}
	const dir = "sys/kernel/mm/hugepages"
	var sizes []string
	free := 0
	for _, d := range m.tree.list(dir) {
		kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(d, "hugepages-"), "kB"))
		if err != nil {
			continue
		}
		total, _ := m.tree.number(dir + "/" + d + "/nr_hugepages")
		idle, _ := m.tree.number(dir + "/" + d + "/free_hugepages")
		free += idle
		sizes = append(sizes, fmt.Sprintf("%s: %d of %d free", byteSize(kb), idle, total))
	}
	const effect = "no matter yet: this version has no DPDK hosts"
	switch {
	case len(sizes) == 0:
		return c.lacks(Warn, "this kernel has none", effect, "")
	case free == 0:
		return c.lacks(Warn, join(sizes), effect, "sudo sysctl -w vm.nr_hugepages=512")
	}
	return c.found(join(sizes))
}

func byteSize(kb int) string {
	if kb >= 1<<20 {
		return fmt.Sprintf("%d GiB", kb>>20)
	}
	return fmt.Sprintf("%d MiB", kb>>10)
}

func (m *machine) vfio() Check {
	c := Check{ID: "vfio", Title: "VFIO"}
	const effect = "no matter yet: this version has no DPDK hosts"
	groups := len(m.tree.list("sys/kernel/iommu_groups"))
	here := m.tree.exists("dev/vfio/vfio")
	state := m.kernel.module("vfio_pci", "CONFIG_VFIO_PCI")
	iommu := fmt.Sprintf("%d IOMMU groups", groups)
	if groups == 0 {
		iommu = "no IOMMU (enable it in the firmware, and in the kernel's command line: intel_iommu=on)"
	}
	switch {
	case !here && state == absent:
		return c.lacks(Missing, "this kernel has no vfio-pci", effect, "")
	case !here:
		return c.lacks(Warn, "vfio-pci is not loaded; "+iommu, effect, "sudo modprobe vfio-pci")
	case groups == 0:
		return c.lacks(Warn, iommu, effect, "")
	}
	return c.found(iommu)
}

func (m *machine) openFiles() Check {
	c := Check{ID: "files", Title: "open files"}
	n, ok := m.tree.openFiles()
	switch {
	case !ok:
		return c.lacks(Warn, "limit unknown: /proc is not mounted", "", "")
	case n < largeFiles:
		return c.lacks(Warn, fmt.Sprintf("at most %d", n),
			fmt.Sprintf("networks have at most about %d hosts", n*largeHosts/largeFiles),
			"sudo prlimit --pid $$ --nofile=65536:65536")
	}
	return c.found(fmt.Sprintf("%d, enough for %d hosts", n, largeHosts))
}

// neighbours looks at the size of the kernel's ARP table, which all namespaces of
// the machine share. Permanent entries do not count.
func (m *machine) neighbours() Check {
	c := Check{ID: "neighbours", Title: "ARP table"}
	const name = "net.ipv4.neigh.default.gc_thresh3"
	n, ok := m.tree.number("proc/sys/net/ipv4/neigh/default/gc_thresh3")
	switch {
	case !ok:
		return c.lacks(Warn, "size not visible from here", "", "")
	case n < largeNeighbours:
		return c.lacks(Warn, fmt.Sprintf("%d entries for all hosts of all networks together", n),
			"more pairs than that in a few seconds lose packets, unless hosts have static ARP (--arp)",
			fmt.Sprintf("sudo sysctl -w %s=%d", name, largeNeighbours*16))
	}
	return c.found(fmt.Sprintf("%d entries", n))
}

// tools are programs that are good to have.
func (m *machine) tools() []Check {
	var checks []Check
	for _, t := range []struct {
		id, title, effect, fix string
		any                    []string
	}{
		{"tcpdump", "tcpdump", "not on hosts' command lines; weft captures without it", "sudo apt-get install tcpdump", []string{"tcpdump"}},
		{"wireshark", "Wireshark", "captures go to files only", "sudo apt-get install wireshark", []string{"wireshark", "tshark"}},
		{"xterm", "xterm", "the command xterm does not work", "sudo apt-get install xterm", []string{"xterm"}},
		{"podman", "podman", "NFs of dpdk nodes cannot run in containers", "sudo apt-get install podman crun", []string{"podman"}},
		{"testcontroller", "ovs-testcontroller", "--controller ovsc does not work; weft's own controller does", "sudo apt-get install openvswitch-testcontroller", []string{"ovs-testcontroller"}},
		{"ryu", "Ryu or OS-Ken", "--controller ryu and osken do not work", "sudo apt-get install python3-os-ken", []string{"ryu-manager", "osken-manager"}},
	} {
		c := Check{ID: t.id, Title: t.title}
		var has []string
		for _, p := range t.any {
			if m.programs[p] != "" {
				has = append(has, m.programs[p])
			}
		}
		if len(has) == 0 {
			checks = append(checks, c.lacks(Warn, "not installed", t.effect, t.fix))
			continue
		}
		checks = append(checks, c.found(join(has)))
	}
	return checks
}
