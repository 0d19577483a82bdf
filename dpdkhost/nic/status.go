package nic

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// A Status is what there is for DPDK on a machine, and what is missing.
type Status struct {
	NICs      []NICStatus `json:"nics"`
	Machine   Machine     `json:"machine"`
	Obstacles []Obstacle  `json:"obstacles"`
	// Changed is what weft changed of this machine and has not put back.
	Changed []Changed `json:"changed,omitempty"`
}

// A NICStatus is a NIC and the way that a DPDK program would use it.
type NICStatus struct {
	NIC
	DPDK Choice `json:"dpdk"`
}

// A Changed is an Entry of the journal.
type Changed struct {
	What string `json:"what"`
	For  string `json:"for"`
}

// An Obstacle is something between a NIC and DPDK, and what mends it: as a rule a command.
type Obstacle struct {
	NIC  string `json:"nic,omitempty"` // its address; empty: of the machine
	What string `json:"what"`
	Mend string `json:"mend"`
}

// Status tells of a machine; stack is what its network stack uses interfaces for.
func (r Root) Status(stack Stack, j Journal) (*Status, error) {
	list, err := r.List()
	if err != nil {
		return nil, err
	}
	Join(list, stack)
	entries, err := j.Entries()
	if err != nil {
		return nil, err
	}
	s := &Status{Machine: r.Machine(), NICs: []NICStatus{}, Obstacles: []Obstacle{}}
	for _, e := range entries {
		s.Changed = append(s.Changed, Changed{e.String(), e.For})
	}
	markLent(list, entries)
	for _, n := range list {
		c := s.Machine.Way(n)
		s.NICs = append(s.NICs, NICStatus{n, c})
		if why, mend := n.need(); why != "" {
			s.Obstacles = append(s.Obstacles, Obstacle{n.Address, why, mend})
		}
		if c.Mend != "" {
			s.Obstacles = append(s.Obstacles, Obstacle{n.Address, c.Why, c.Mend})
		}
	}
	if !slices.ContainsFunc(s.Machine.Hugepages, func(h Hugepages) bool { return h.Free > 0 }) {
		s.Obstacles = append(s.Obstacles, Obstacle{What: "no hugepage is free; DPDK is slower without, weft's own manager needs none", Mend: "weft dpdk hugepages 512"})
	}
	for _, f := range s.Machine.Stale {
		s.Obstacles = append(s.Obstacles, Obstacle{What: "left by a DPDK program that has ended: " + f, Mend: "rm -r " + f})
	}
	return s, nil
}

// Write writes the status for people.
func (s *Status) Write(w io.Writer) error {
	var b strings.Builder
	s.writeNICs(&b)
	b.WriteString("\n")
	s.writeMachine(&b)
	if len(s.Obstacles) > 0 {
		b.WriteString("\nObstacles\n")
		for _, o := range s.Obstacles {
			fmt.Fprintf(&b, "  %s%s\n      %s\n", prefixed(o.NIC), o.What, o.Mend)
		}
	}
	if len(s.Changed) > 0 {
		b.WriteString("\nChanged by weft\n")
		for _, c := range s.Changed {
			fmt.Fprintf(&b, "  %s (%s)\n", c.What, c.For)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func prefixed(nic string) string {
	if nic == "" {
		return ""
	}
	return nic + ": "
}

func (s *Status) writeNICs(w io.Writer) {
	if len(s.NICs) == 0 {
		fmt.Fprintln(w, "There are no NICs: no network card is on the PCI bus, and no interface has a device.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NIC\tDRIVER\tNODE\tGROUP\tINTERFACE\tLINK\tADDRESSES\tUSED BY\tDPDK")
	for _, n := range s.NICs {
		row := []string{n.Address, cmp.Or(n.Driver, "-"), number(n.NUMA), cmp.Or(n.Group, "-")}
		first := Interface{}
		if len(n.Interfaces) > 0 {
			first = n.Interfaces[0]
		}
		fmt.Fprintln(t, strings.Join(append(row, append(first.row(), cmp.Or(n.usedBy(), "-"), string(n.DPDK.Way))...), "\t"))
		for _, f := range n.Interfaces[min(1, len(n.Interfaces)):] {
			fmt.Fprintln(t, "\t\t\t\t"+strings.Join(f.row(), "\t")+"\t\t")
		}
	}
	t.Flush()
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, n := range s.NICs {
		fmt.Fprintf(t, "%s\t%s\t%s\n", n.Address, n.title(), n.DPDK.Why)
	}
	t.Flush()
}

// row is an interface's name, link and addresses.
func (f Interface) row() []string {
	if f.Name == "" {
		return []string{"-", "-", "-"}
	}
	link := f.State
	if f.Up && link == "down" {
		link = "no carrier"
	}
	if f.Speed > 0 {
		link += " " + speed(f.Speed)
	}
	return []string{f.Name, link, cmp.Or(strings.Join(f.Addresses, " "), "-")}
}

func speed(mbit int) string {
	if mbit >= 1000 && mbit%1000 == 0 {
		return strconv.Itoa(mbit/1000) + "G"
	}
	if mbit >= 1000 {
		return strconv.FormatFloat(float64(mbit)/1000, 'f', -1, 64) + "G"
	}
	return strconv.Itoa(mbit) + "M"
}

// usedBy says who uses the card now.
func (n *NIC) usedBy() string {
	var who []string
	if n.LentTo != "" {
		who = append(who, n.LentTo)
	}
	for _, u := range n.Users {
		who = append(who, u.String())
	}
	for _, f := range n.Interfaces {
		who = append(who, f.PartOf...)
		if f.DefaultRoute {
			who = append(who, "default route")
		} else if f.Up && len(f.Addresses) > 0 {
			who = append(who, "kernel")
		}
		if f.XDP {
			who = append(who, "XDP program")
		}
	}
	return strings.Join(who, ", ")
}

// title is the card's model and, of SR-IOV, what it is.
func (n *NIC) title() string {
	t := n.Model
	switch {
	case t == "" && n.Bus == pci:
		t = fmt.Sprintf("%04x:%04x", n.Vendor, n.Device)
	case t == "":
		t = n.Bus
	}
	switch {
	case n.PhysicalFunction != "":
		t += ", virtual function of " + n.PhysicalFunction
	case n.MaxVirtualFunctions > 0:
		t += fmt.Sprintf(", %d of %d virtual functions", n.VirtualFunctions, n.MaxVirtualFunctions)
	}
	return t
}

func number(n int) string {
	if n < 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// isolated writes the kernel's list of processors as people number cores: from 1.
func isolated(list string) string {
	cpus, err := parseList(list)
	if err != nil {
		return list
	}
	return ranges(cpus)
}

func (s *Status) writeMachine(w io.Writer) {
	m := s.Machine
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(m.Hugepages) == 0 {
		fmt.Fprintln(t, "hugepages\tnone: this kernel has no support for them")
	}
	for i, h := range m.Hugepages {
		name := ""
		if i == 0 {
			name = "hugepages"
		}
		fmt.Fprintf(t, "%s\t%s\n", name, h)
	}
	fmt.Fprintf(t, "hugetlbfs\t%s\n", cmp.Or(strings.Join(m.Mounts, ", "), "not mounted; programs with --in-memory do not need that"))
	for i, n := range m.Nodes {
		name := ""
		if i == 0 {
			name = "cores, from 1"
		}
		fmt.Fprintf(t, "%s\t%s\n", name, n)
	}
	fmt.Fprintf(t, "isolated cores\t%s\n", cmp.Or(isolated(m.Isolated), "none"))
	iommu := map[bool]string{true: "yes", false: "no"}[m.IOMMU]
	if m.NoIOMMU {
		iommu += "; vfio may do without"
	}
	fmt.Fprintf(t, "IOMMU\t%s\n", iommu)
	drivers := slices.Clone(m.UIO)
	if m.VFIO {
		drivers = slices.Insert(drivers, 0, "vfio-pci")
	}
	fmt.Fprintf(t, "drivers for DPDK\t%s\n", cmp.Or(strings.Join(drivers, ", "), "none loaded"))
	fmt.Fprintf(t, "AF_XDP\t%s\n", map[bool]string{true: "yes", false: "no"}[m.AFXDP])
	t.Flush()
}
