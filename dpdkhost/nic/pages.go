package nic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Pages are hugepages of one size.
type Pages struct {
	Node  int `json:"node"` // -1: of the whole machine
	Size  int `json:"size"` // kB
	Total int `json:"total"`
}

// SetPages changes how many hugepages of a size (0 for the kernel's default) there are on a node
// or the whole machine. What there was is written down first; without anything to do there is
// no Record. If the kernel finds fewer that is an error, and all is as before.
func (j Journal) SetPages(ctx context.Context, machine Root, p Pages, who string) (*Record, error) {
	if p.Size == 0 {
		p.Size = machine.defaultPage()
	}
	before, err := machine.Machine().pages(p.Node, p.Size)
	if err != nil || before.Total == p.Total {
		return nil, err
	}
	r, err := j.Write(Entry{For: who, Pages: &before})
	if err != nil {
		return nil, err
	}
	if err := machine.setPages(p); err != nil {
		return nil, errors.Join(err, r.Undo(ctx, machine))
	}
	return r, nil
}

// pages counts the hugepages of a size on a node, or on all.
func (m Machine) pages(node, size int) (Pages, error) {
	p := Pages{Node: node, Size: size}
	if len(m.Hugepages) == 0 {
		return p, errors.New("this kernel has no hugepages (CONFIG_HUGETLBFS)")
	}
	found := false
	var sizes, nodes []string
	for _, h := range m.Hugepages {
		sizes, nodes = append(sizes, pageSize(h.Size)), append(nodes, strconv.Itoa(h.Node))
		if h.Size == size && (h.Node == node || node < 0) {
			found = true
			p.Total += h.Total
		}
	}
	if !found {
		slices.Sort(sizes)
		slices.Sort(nodes)
		return p, fmt.Errorf("there are no hugepages of %s%s (sizes: %s; nodes: %s)", pageSize(size), onNode(node),
			strings.Join(slices.Compact(sizes), ", "), strings.Join(slices.Compact(nodes), ", "))
	}
	return p, nil
}

// setPages asks for hugepages and looks how many there are.
func (r Root) setPages(p Pages) error {
	dir := "sys/kernel/mm/hugepages"
	if p.Node >= 0 {
		dir = fmt.Sprintf("sys/devices/system/node/node%d/hugepages", p.Node)
	}
	file := fmt.Sprintf("%s/hugepages-%dkB/nr_hugepages", dir, p.Size)
	if err := r.write(strconv.Itoa(p.Total), file); err != nil {
		return fmt.Errorf("hugepages: %w", err)
	}
	switch is := r.number(0, file); {
	case is < p.Total:
		return fmt.Errorf("the kernel found memory for %d of %d hugepages of %s%s; free some (echo 1 > /proc/sys/vm/compact_memory), or ask for fewer", is, p.Total, pageSize(p.Size), onNode(p.Node))
	case is > p.Total:
		return fmt.Errorf("%d hugepages of %s%s are in use, so that there cannot be %d; end what uses them", is, pageSize(p.Size), onNode(p.Node), p.Total)
	}
	return nil
}

// defaultPage is the kernel's default size of hugepages, kB.
func (r Root) defaultPage() int {
	for line := range strings.Lines(r.text("proc/meminfo")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Hugepagesize:" {
			if n, err := strconv.Atoi(f[1]); err == nil {
				return n
			}
		}
	}
	return 2048
}

// pageSize writes a size in kB.
func pageSize(kB int) string {
	switch {
	case kB >= 1<<20 && kB%(1<<20) == 0:
		return fmt.Sprintf("%d GB", kB>>20)
	case kB >= 1<<10 && kB%(1<<10) == 0:
		return fmt.Sprintf("%d MB", kB>>10)
	}
	return fmt.Sprintf("%d kB", kB)
}

func onNode(node int) string {
	if node < 0 {
		return ""
	}
	return fmt.Sprintf(" on node %d", node)
}

// ParsePageSize reads a size of hugepages, such as 2MB or 1GB, and returns it in kB; 0 for
// nothing.
func ParsePageSize(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	number := strings.TrimSuffix(strings.ToUpper(text), "B")
	for _, unit := range []struct {
		name string
		kB   int
	}{{"K", 1}, {"M", 1 << 10}, {"G", 1 << 20}} {
		if n, err := strconv.Atoi(strings.TrimSuffix(number, unit.name)); err == nil && strings.HasSuffix(number, unit.name) && n > 0 && n <= 1<<20 {
			return n * unit.kB, nil
		}
	}
	return 0, fmt.Errorf("%q is not a size of hugepages; write for example 2MB or 1GB", text)
}

// String says how many there are, for people.
func (h Hugepages) String() string {
	return fmt.Sprintf("%d of %s%s, %d free", h.Total, pageSize(h.Size), onNode(h.Node), h.Free)
}
