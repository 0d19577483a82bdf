package nic

import (
	"path/filepath"
	"strconv"
	"strings"
)

// A Machine is what DPDK programs need besides NICs.
type Machine struct {
	IOMMU     bool        `json:"iommu"`
	AFXDP     bool        `json:"afXDP"`   // the kernel has AF_XDP sockets
	VFIO      bool        `json:"vfio"`    // the driver vfio-pci is there
	NoIOMMU   bool        `json:"noiommu"` // VFIO works without an IOMMU, unsafely
	UIO       []string    `json:"uio,omitempty"`
	Hugepages []Hugepages `json:"hugepages"`
	// Nodes are the NUMA nodes with their processors.
	Nodes []Node `json:"nodes,omitempty"`
	// Mounts are where hugetlbfs is mounted.
	Mounts []string `json:"mounts,omitempty"`
	// Isolated are processors that the scheduler leaves alone (isolcpus), as a list.
	Isolated string `json:"isolated,omitempty"`
	// Stale are files of DPDK programs that have ended.
	Stale []string `json:"stale,omitempty"`
}

// Hugepages of one size on one node.
type Hugepages struct {
	Node  int `json:"node"` // -1 on a machine without nodes
	Size  int `json:"size"` // kB
	Total int `json:"total"`
	Free  int `json:"free"`
}

// Machine reads what there is.
func (r Root) Machine() Machine {
	m := Machine{
		IOMMU:    len(r.names("sys/class/iommu")) > 0,
		AFXDP:    strings.Contains("\n"+r.text("proc/net/protocols"), "\nXDP "),
		VFIO:     r.exists("sys/bus/pci/drivers/vfio-pci"),
		NoIOMMU:  strings.EqualFold(r.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode"), "Y"),
		Nodes:    r.Nodes(),
		Isolated: r.text("sys/devices/system/cpu/isolated"),
	}
	for _, d := range forDPDK[1:] {
		if r.exists("sys/bus/pci/drivers", d) {
			m.UIO = append(m.UIO, d)
		}
	}
	nodes, _ := filepath.Glob(r.path("sys/devices/system/node/node[0-9]*"))
	for _, dir := range nodes {
		node, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "node"))
		m.Hugepages = append(m.Hugepages, Root(dir).hugepages(node, "hugepages")...)
	}
	if len(nodes) == 0 {
		m.Hugepages = r.hugepages(-1, "sys/kernel/mm/hugepages")
	}
	for line := range strings.SplitSeq(r.text("proc/mounts"), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "hugetlbfs" {
			m.Mounts = append(m.Mounts, f[1])
		}
	}
	m.Stale = r.stale(m.Mounts)
	return m
}

func (r Root) hugepages(node int, dir string) (list []Hugepages) {
	for _, name := range r.names(dir) {
		size, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "hugepages-"), "kB"))
		if err != nil {
			continue
		}
		list = append(list, Hugepages{
			Node: node, Size: size,
			Total: r.number(0, dir, name, "nr_hugepages"), Free: r.number(0, dir, name, "free_hugepages"),
		})
	}
	return list
}

// stale lists what DPDK primaries leave behind: their run-time directories without a process
// that holds the lock of its config, and the hugepage files of those.
func (r Root) stale(mounts []string) (files []string) {
	dead := map[string]bool{}
	for _, prefix := range r.names("var/run/dpdk") {
		if r.locked(r.path("var/run/dpdk", prefix, "config")) {
			continue
		}
		dead[prefix] = true
		files = append(files, filepath.Join("/var/run/dpdk", prefix))
	}
	for _, mount := range mounts {
		found, _ := filepath.Glob(r.path(mount, "*map_*"))
		for _, f := range found {
			// EAL names them PREFIXmap_N, "rte" by default.
			if prefix, _, _ := strings.Cut(filepath.Base(f), "map_"); dead[prefix] || !r.exists("var/run/dpdk", prefix) {
				files = append(files, "/"+strings.TrimPrefix(strings.TrimPrefix(f, string(r)), "/"))
			}
		}
	}
	return files
}
