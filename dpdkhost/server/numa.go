package server

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nic"
)

// A manager works on the NUMA node that its NICs are plugged in at: its thread, its memory, and NFs
// to which nobody gives a core. A core that is named for an NF is taken wherever it is.

// numa is how a manager's machine is divided. On one with a single node, or where the ports have no
// cards, nothing is placed.
type numa struct {
	nodes []nic.Node // none on a machine with a single one
	home  int        // -1 for none
}

// leastNear is how many processors of a node a manager and its NFs need to be kept there: on one
// alone two that look for packets would be in each other's way.
const leastNear = 2

// divide looks how the machine is divided, and which of the processors are to be used: those of
// the ports' node, if there are enough, else all.
func divide(root nic.Root, interfaces []string, cpus []int) (n numa, near []int) {
	n = numa{home: -1}
	if nodes := root.Nodes(); len(nodes) > 1 {
		n.nodes = nodes
		n.home = root.Home(interfaces)
	}
	for _, cpu := range cpus {
		if n.home >= 0 && n.of(cpu) == n.home {
			near = append(near, cpu)
		}
	}
	if len(near) < leastNear {
		return n, cpus
	}
	return n, near
}

// of returns the node of a processor; -1 if it is not known.
func (n numa) of(cpu int) int {
	for _, node := range n.nodes {
		if slices.Contains(node.CPUs, cpu) {
			return node.Node
		}
	}
	return -1
}

// ofAll returns the node of all of some processors; nil if they are of several, or unknown.
func (n numa) ofAll(cpus []int) *int {
	node := -1
	for i, cpu := range cpus {
		if of := n.of(cpu); i > 0 && of != node {
			return nil
		} else if node = of; of < 0 {
			return nil
		}
	}
	if node < 0 {
		return nil
	}
	return &node
}

// makeManager makes the manager with its memory on the home node, as far as there is some.
func (n numa) makeManager(c manager.Config) (m *manager.Manager, err error) {
	if n.home < 0 {
		return manager.New(c)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var home unix.CPUSet // a set of nodes here
	home.Set(n.home)
	if err := unix.SetMemPolicy(unix.MPOL_PREFERRED, &home); err != nil {
		c.Log.Warn("packet memory is not placed", "node", n.home, "error", fmt.Errorf("set_mempolicy: %w", err))
	} else {
		defer unix.SetMemPolicy(unix.MPOL_DEFAULT, &unix.CPUSet{})
	}
	return manager.New(c)
}

// memory returns the node on which the packet memory lies, as the kernel says; nil on a machine
// with a single node, or if it does not say.
func (n numa) memory(m *manager.Manager) *int {
	const flagNode, flagAddr = 1, 2 // get_mempolicy(2): MPOL_F_NODE, MPOL_F_ADDR
	if len(n.nodes) == 0 {
		return nil
	}
	var node int32
	bytes := m.Memory().Bytes()
	_, _, errno := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&node)), 0, 0, uintptr(unsafe.Pointer(&bytes[0])), flagNode|flagAddr, 0)
	if errno != 0 {
		return nil
	}
	is := int(node)
	return &is
}

// settle looks how the machine is divided and puts this process, and so what it starts, where it
// is to be.
func (s *server) settle() error {
	var interfaces []string
	for _, p := range s.config.Ports {
		interfaces = append(interfaces, p.Device)
	}
	s.numa, s.near = divide(nic.Root(cmp.Or(s.config.Machine, "/")), interfaces, s.cpus)
	if len(s.near) == len(s.cpus) {
		return nil
	}
	var set unix.CPUSet
	for _, cpu := range s.near {
		set.Set(cpu)
	}
	if err := place(os.Getpid(), &set); err != nil {
		return fmt.Errorf("the manager's processors on node %d: %w", s.numa.home, err)
	}
	s.log.Info("near the NICs", "node", s.numa.home, "cores", coresText(s.near))
	return nil
}
