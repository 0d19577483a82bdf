package server

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/nic"
	"weft/topo"
)

// machine makes the /sys of a machine: processors of each node, and the nodes of interfaces.
func machine(t *testing.T, nodes []string, interfaces map[string]int) string {
	t.Helper()
	root := t.TempDir()
	write := func(text string, elem ...string) {
		path := filepath.Join(append([]string{root, "sys"}, elem...)...)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, cpus := range nodes {
		write(cpus, "devices/system/node", fmt.Sprintf("node%d", i), "cpulist")
	}
	for name, node := range interfaces {
		write(fmt.Sprint(node), "class/net", name, "device/numa_node")
	}
	return root
}

// A manager and its NFs are on the node of the NICs, if that has room for them.
func TestDivide(t *testing.T) {
	two := []string{"0-3,8-9", "4-7"}
	nics := map[string]int{"n0": 0, "n1": 1, "m1": 1, "none": -1}
	all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	for name, c := range map[string]struct {
		nodes      []string
		interfaces []string
		cpus       []int
		home       int
		near       []int
	}{
		"a NIC on each node":           {two, []string{"n1", "n0"}, all, 0, []int{0, 1, 2, 3, 8, 9}},
		"most NICs on the second":      {two, []string{"n0", "n1", "m1"}, all, 1, []int{4, 5, 6, 7}},
		"links and a NIC":              {two, []string{"no-such-1", "none", "n1", "../n0"}, all, 1, []int{4, 5, 6, 7}},
		"links only":                   {two, []string{"no-such-1"}, all, -1, all},
		"no ports":                     {two, nil, all, -1, all},
		"one node":                     {[]string{"0-9"}, []string{"n0"}, all, -1, all},
		"no NUMA":                      {nil, []string{"n0"}, all, -1, all},
		"part of the processors":       {two, []string{"n1"}, []int{0, 1, 5, 6}, 1, []int{5, 6}},
		"one processor there":          {two, []string{"n1"}, []int{0, 1, 5}, 1, []int{0, 1, 5}},
		"a node with memory only":      {[]string{"0-9", ""}, []string{"n1"}, all, 1, all},
		"a list that cannot be read":   {[]string{"0-9", "x-"}, []string{"n1"}, all, -1, all},
		"a node that does not show up": {two, []string{"n7"}, all, -1, all},
	} {
		n, near := divide(nic.Root(machine(t, c.nodes, nics)), c.interfaces, c.cpus)
		if n.home != c.home || !slices.Equal(near, c.near) {
			t.Errorf("%s: node %d, processors %v; want %d, %v", name, n.home, near, c.home, c.near)
		}
	}
	n, near := divide(nic.Root(machine(t, two, nics)), []string{"n1"}, all)
	if at := n.ofAll(near); at == nil || *at != 1 {
		t.Errorf("processors %v are on node %v", near, at)
	}
	if at := n.ofAll(all); at != nil {
		t.Errorf("all processors are on node %d", *at)
	}
	if at := n.ofAll([]int{77}); at != nil {
		t.Errorf("a processor that there is not is on node %d", *at)
	}
}

// The kernel has the processes where divide says, and a state tells where all is.
func TestNearNICs(t *testing.T) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var cpus []string
	for cpu := range 8 * len(set) * 8 {
		if set.IsSet(cpu) {
			cpus = append(cpus, fmt.Sprint(cpu))
		}
	}
	if len(cpus) < 2 {
		t.Skip("needs two processors")
	}
	home, rest := strings.Join(cpus[:2], ","), strings.Join(append(cpus[2:], "6000"), ",")
	p := ports(t, flows(t, 1), 0, 1)
	p[0].Device = "card"
	l := start(t, Config{Machine: machine(t, []string{home, rest}, map[string]int{"card": 0}), Ports: p,
		NFs: []topo.NF{{Name: "bridge", Service: 1}, {Name: "bridge", Service: 2, Core: coreOf(cpus[1])}}})
	st := l.state()
	for i, in := range st.Instances {
		if in.Node == nil || *in.Node != 0 {
			t.Errorf("%s (%d) is on node %v, want 0", in.Name, i, in.Node)
		}
	}
	var got unix.CPUSet
	if err := unix.SchedGetaffinity(st.Instances[0].PID, &got); err != nil {
		t.Fatal(err)
	}
	if got.Count() != 2 {
		t.Errorf("the NF without a core may run on %d processors, want 2", got.Count())
	}
	_, _, errno := unix.Syscall6(unix.SYS_GET_MEMPOLICY, 0, 0, 0, 0, 0, 0)
	if errno != 0 {
		t.Logf("where memory lies is not asked: get_mempolicy(2): %v", errno)
	} else if st.Pool.Node == nil || *st.Pool.Node != 0 {
		t.Errorf("packet memory is on node %v, want 0, which every machine has", st.Pool.Node)
	}
	plain := start(t, Config{Machine: t.TempDir(), NFs: []topo.NF{{Name: "bridge", Service: 1}}}).state()
	if plain.Pool.Node != nil || plain.Instances[0].Node != nil {
		t.Errorf("a machine without nodes has some: %v, %v", plain.Pool.Node, plain.Instances[0].Node)
	}
}

func coreOf(cpu string) int {
	n := 0
	fmt.Sscan(cpu, &n)
	return n + 1
}
