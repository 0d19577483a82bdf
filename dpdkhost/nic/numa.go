package nic

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// A Node is a NUMA node: processors with memory of their own, and the NICs that are plugged in
// there. From another node all of these are farther away.
type Node struct {
	Node int `json:"node"`
	// CPUs are the numbers of its processors, as the kernel counts them: from 0.
	CPUs []int `json:"cpus"`
}

// Nodes lists the NUMA nodes, by number; none of a kernel without NUMA.
func (r Root) Nodes() (nodes []Node) {
	dirs, _ := filepath.Glob(r.path("sys/devices/system/node/node[0-9]*"))
	for _, dir := range dirs {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "node"))
		cpus, lerr := parseList(Root(dir).text("cpulist"))
		if err == nil && lerr == nil {
			nodes = append(nodes, Node{n, cpus})
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return a.Node - b.Node })
	return nodes
}

// maxCPU bounds the numbers of processors; the kernel's own bound is 8,192.
const maxCPU = 1 << 16

// parseList reads a list of processors (cpuset(7), "List format"): 0-3,8.
func parseList(text string) (cpus []int, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to := from
		if err == nil && isRange {
			to, err = strconv.Atoi(last)
		}
		if err != nil || from < 0 || to < from || to > maxCPU {
			return nil, fmt.Errorf("%q is no list of processors", text)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// String writes the node's processors as people number cores: from 1.
func (n Node) String() string {
	if len(n.CPUs) == 0 {
		return fmt.Sprintf("none on node %d, which has memory only", n.Node)
	}
	return fmt.Sprintf("%s on node %d", ranges(n.CPUs), n.Node)
}

// ranges writes processors as cores from 1: 1-4,9.
func ranges(cpus []int) string {
	var parts []string
	for i := 0; i < len(cpus); {
		k := i
		for k+1 < len(cpus) && cpus[k+1] == cpus[k]+1 {
			k++
		}
		if part := strconv.Itoa(cpus[i] + 1); k == i {
			parts = append(parts, part)
		} else {
			parts = append(parts, part+"-"+strconv.Itoa(cpus[k]+1))
		}
		i = k + 1
	}
	return strings.Join(parts, ",")
}

// Home returns the NUMA node that most of some interfaces are plugged in at, of two with as many
// the lower one; -1 if none of them has one. They are interfaces of this network namespace; those
// without a card have no node.
func (r Root) Home(interfaces []string) int {
	counts := map[int]int{}
	home := -1
	for _, name := range interfaces {
		node := r.nodeOf(name)
		if node < 0 {
			continue
		}
		counts[node]++
		if home < 0 || counts[node] > counts[home] || counts[node] == counts[home] && node < home {
			home = node
		}
	}
	return home
}

// nodeOf returns the NUMA node of an interface; -1 if none is known.
func (r Root) nodeOf(name string) int {
	if !filepath.IsLocal(name) {
		return -1
	}
	if r.exists("sys/class/net", name) {
		return r.number(-1, "sys/class/net", name, "device/numa_node")
	}
	// That /sys is of another network namespace: its card it does show.
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return -1
	}
	if address := r.addressOf(dev); address != "" {
		return r.number(-1, "sys/bus/pci/devices", address, "numa_node")
	}
	return -1
}
