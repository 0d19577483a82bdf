// Package onvm runs an installed OpenNetVM on a node: the backend onvm of DPDK nodes. It
// starts OpenNetVM's manager and network functions (NFs) themselves, not their scripts, which
// insist on NICs bound for DPDK; it wires the node's links in as DPDK's devices, watches over
// all processes, and reads the manager's statistics. It may import dpdkhost, dpdkhost/eal, topo
// and internal packages.
//
// OpenNetVM 21.10 is what it was made for: https://github.com/sdnfv/openNetVM.
package onvm

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/dpdkhost"
	"weft/dpdkhost/eal"
	"weft/topo"
)

// OpenNetVM's limits (onvm_common.h).
const (
	maxService    = 31
	maxInstances  = 32 // of one service
	defaultPrefix = "onvm"
	// A fixed place for memory that the processes share: OpenNetVM passes pointers.
	baseAddress = "0x7f000000000"
)

// Config says what a DPDK node with OpenNetVM does.
type Config struct {
	// Node is the node's name, for messages.
	Node string
	// Dir is a directory of the node's own, for DPDK's files.
	Dir string
	// Home is where OpenNetVM was built; default $ONVM_HOME. Programs that are not there are
	// looked for in PATH.
	Home string
	// Ports of any kind of eal's; Auto is Packet, because OpenNetVM's DPDK is an old one. DPDK
	// numbers NICs first.
	Ports []eal.Port
	// Memory of the manager, MB, on huge pages; default 512.
	Memory int
	// HugeDir is where a file system of huge pages is mounted; default the first there is.
	HugeDir string
	// CPUs are the processors for all, as the kernel counts them; default all.
	CPUs []int
	// SharedCores makes NFs sleep while they have nothing to do (-c).
	SharedCores bool
	// NFs to begin with, and the chain: OpenNetVM has the default chain only, of one
	// service, which passes packets on itself. OpenNetVM does not notice that an NF dies: until
	// its successor is there, packets for it are lost, whatever OnDeath says.
	NFs    []topo.NF
	Chains []topo.Chain
	Flows  []string
	// Wait is how long the manager, and each NF, may take until it is ready; default 30 s.
	Wait time.Duration
	// Place is the node's, where the interfaces are; nil for this process' own.
	Place eal.Place
	Log   *slog.Logger
}

// Validate looks at what needs no machine, and finds all errors.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	kinds := map[eal.Kind]bool{}
	for k := range c.Ports {
		errs = append(errs, c.Ports[k].Validate())
		kinds[c.Ports[k].Kind] = true
	}
	if len(c.Ports) > 63 {
		fail("%d ports: at most 63", len(c.Ports))
	}
	if c.Dir == "" || len(c.Dir) > 60 {
		fail("the directory %q: DPDK's sockets in it need a path of at most 60 bytes", c.Dir)
	}
	if c.SharedCores && (kinds[eal.Packet] || kinds[eal.XDP] || kinds[eal.Auto] || kinds[""]) && len(c.Ports) > 0 {
		fail("OpenNetVM's shared cores (-c) need ports with two queues, and links of the kernel's have one: without -c its NFs share cores too, awake")
	}
	if c.Memory < 0 {
		fail("memory of %d MB", c.Memory)
	}
	for k := range c.NFs {
		errs = append(errs, validateNF(&c.NFs[k]))
	}
	for _, ch := range c.Chains {
		errs = append(errs, validateChain(ch))
	}
	if len(c.Flows) > 0 {
		fail("flows: OpenNetVM's flow table belongs to its NFs and cannot be written from outside: %w; use manager: weft", dpdkhost.ErrUnsupported)
	}
	return errors.Join(errs...)
}

// validateChain accepts the only chain that OpenNetVM has.
func validateChain(c topo.Chain) error {
	if c.Name != topo.DefaultChain || len(c.Services) != 1 || c.Out != 0 || c.Services[0] < 1 || c.Services[0] > maxService {
		return fmt.Errorf("chain %s: OpenNetVM's default chain is one service of 1 to %d, which passes packets on itself (an option of the NF, often -d SERVICE); other chains are %w; use manager: weft", c.Name, maxService, dpdkhost.ErrUnsupported)
	}
	return nil
}

func validateNF(f *topo.NF) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("NF %s: %w", cmp.Or(f.Name, "without a name"), fmt.Errorf(format, args...))
	}
	switch {
	case f.Name == "" || strings.ContainsAny(f.Name, "/ \t\n\x00") || f.Name[0] == '.' || f.Name[0] == '-':
		return fail("a name is a word without /")
	case f.Service < 1 || f.Service > maxService:
		return fail("service %d: OpenNetVM has 1 to %d", f.Service, maxService)
	case f.Instances < 0 || f.Instances > maxInstances:
		return fail("%d instances: OpenNetVM has at most %d of a service", f.Instances, maxInstances)
	case f.Core < 0:
		return fail("core %d: cores count from 1; 0 for any", f.Core)
	case f.Fused, f.ReadOnly, f.Copy:
		return fail("fused, read-only and copying NFs are %w by OpenNetVM; use manager: weft", dpdkhost.ErrUnsupported)
	case f.Weight > 1:
		return fail("weights are %w by OpenNetVM: it shares flows evenly", dpdkhost.ErrUnsupported)
	}
	if err := eal.CheckRestart(f.Restart); err != nil {
		return fail("%w", err)
	}
	return nil
}

// find returns the path of one of OpenNetVM's programs.
func (c *Config) find(name string, places ...string) (string, error) {
	if c.Home != "" {
		for _, p := range places {
			matches, _ := filepath.Glob(filepath.Join(c.Home, p))
			for _, m := range matches {
				if st, err := os.Stat(m); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
					return m, nil
				}
			}
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	if c.Home == "" {
		return "", fmt.Errorf("%s is not in PATH: build OpenNetVM (https://github.com/sdnfv/openNetVM) and set ONVM_HOME, or use manager: weft", name)
	}
	return "", fmt.Errorf("%s is neither in PATH nor in %s, as %s: is it built there?", name, c.Home, strings.Join(places, " or "))
}

func (c *Config) manager() (string, error) {
	return c.find("onvm_mgr", "onvm/onvm_mgr/*/onvm_mgr", "onvm/onvm_mgr/build/app/onvm_mgr")
}

func (c *Config) function(name string) (string, error) {
	return c.find(name, "examples/"+name+"/build/app/"+name, "examples/"+name+"/build/"+name, "examples/"+name+"/*/"+name)
}

// eal returns what the EALs of all processes must agree on.
func (c *Config) eal(kind string) []string {
	return []string{"--huge-dir", c.HugeDir, "--proc-type=" + kind, "--file-prefix", defaultPrefix, "--base-virtaddr=" + baseAddress}
}

// order returns the ports as DPDK numbers them.
func (c *Config) order() []eal.Port {
	list := slices.Clone(c.Ports)
	rank := func(p eal.Port) int {
		if p.Kind == eal.NIC {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b eal.Port) int { return rank(a) - rank(b) })
	return list
}

// managerArguments returns the arguments of onvm_mgr.
func (c *Config) managerArguments() []string {
	lcores := 3 // statistics, receiving, sending
	if c.SharedCores {
		lcores++ // waking
	}
	var set []string
	for i := range lcores {
		set = append(set, fmt.Sprintf("%d@%d", i, c.CPUs[0]))
	}
	args := []string{"--lcores", strings.Join(set, ","), "-n", "4", "-m", strconv.Itoa(cmp.Or(c.Memory, 512))}
	devices, _ := eal.Devices(c.order())
	args = append(append(args, c.eal("primary")...), devices...)
	var cores uint64
	for _, cpu := range c.CPUs {
		if cpu < 64 {
			cores |= 1 << cpu
		}
	}
	args = append(args, "--", "-p", fmt.Sprintf("%x", uint64(1)<<len(c.Ports)-1), "-n", fmt.Sprintf("%#x", cores), "-s", "stdout", "-v", "3")
	for _, ch := range c.Chains {
		args = append(args, "-d", strconv.Itoa(ch.Services[0]))
	}
	if c.SharedCores {
		args = append(args, "-c")
	}
	return args
}

// functionArguments returns the arguments of an NF.
func (c *Config) functionArguments(f *topo.NF) []string {
	cpu := c.CPUs[0]
	if f.Core > 0 {
		cpu = f.Core - 1
	}
	args := append([]string{"-l", strconv.Itoa(cpu), "-n", "3", "--no-pci"}, c.eal("secondary")...)
	args = append(args, "--", "-r", strconv.Itoa(f.Service))
	if f.Core > 0 {
		args = append(args, "-m") // that core and no other
	}
	args = append(args, "-s", "--") // others may be on that core too
	return append(args, f.Args...)
}
