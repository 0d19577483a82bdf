// Package server is the process of a DPDK node's built-in manager: it opens the node's ports,
// starts its network functions (NFs) and watches over them, and can be asked and told by a Unix
// socket. Who runs a node starts it with Start, and gets a dpdkhost.Backend. It may import dpdkhost,
// its subpackages and topo.
//
//	engine ── Client ── control socket (HTTP, JSON) ──► server ──► manager.Manager
//	                                                      │ starts, watches, restarts
//	NF process ── socket of NFs (dpdkhost/nf) ────────────┘
//
// All that it starts ends with it, however it ends: NFs get SIGKILL from the kernel
// (PR_SET_PDEATHSIG), and those that somebody else started see their connection end.
package server

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf/builtin"
	"weft/dpdkhost/port"
	"weft/topo"
)

// Config says what a manager's process does.
type Config struct {
	// Node is the node's name, for messages.
	Node string `json:"node"`
	// Dir is a directory of the node's own: sockets and the NFs' logs are there.
	Dir string `json:"dir"`
	// Frames, Large and Flows are as in manager.Config; 0 for its defaults.
	Frames int `json:"frames,omitempty"`
	Large  int `json:"large,omitempty"`
	Flows  int `json:"flows,omitempty"`
	// Machine is where the machine's /sys is; "" for /.
	Machine string `json:"machine,omitempty"`
	// Spin keeps the manager's thread looking for packets.
	Spin   bool         `json:"spin,omitempty"`
	Ports  []Port       `json:"ports,omitempty"`
	NFs    []topo.NF    `json:"nfs,omitempty"`
	Chains []topo.Chain `json:"chains,omitempty"`
	// Rules are the flows to begin with, as in topo.DPDK.Flows.
	Rules []string `json:"rules,omitempty"`
	// Outside is a listening socket at which NFs connect that somebody else starts, where they do
	// not see Dir; nil for none. Its process has it as the file outsideFD.
	Outside    *os.File `json:"-"`
	HasOutside bool     `json:"outside,omitempty"`
	// OpenFlow, if not nil, lets controllers and programs steer the flow director.
	OpenFlow *OpenFlow `json:"openflow,omitempty"`
}

// OpenFlow says what a manager is as a switch, and who steers it.
type OpenFlow struct {
	DPID uint64 `json:"dpid"`
	// Protocols are versions as in topo.Switch; empty for all that the agent speaks.
	Protocols []string `json:"protocols,omitempty"`
	// Targets are sockets at which controllers, or relays to them, are: "unix:PATH". They can be
	// others later.
	Targets []string `json:"targets,omitempty"`
	// Management is the path of the socket at which ovs-ofctl finds the switch; empty for none.
	Management string `json:"management,omitempty"`
}

// Port is a port with its number, from 1.
type Port struct {
	Number int `json:"number"`
	port.Config
}

// The files in Config.Dir.
const (
	controlName = "control"
	nfName      = "nf"
)

// NFSocket returns the path of the socket that NFs connect to.
func (c *Config) NFSocket() string { return filepath.Join(c.Dir, nfName) }

// maxPath bounds the path of a Unix socket (unix(7)).
const maxPath = 107

// Validate looks at what needs no machine, and finds all errors.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Dir == "" || len(filepath.Join(c.Dir, controlName)) > maxPath {
		fail("the directory %q: a socket in it needs a path of at most %d bytes", c.Dir, maxPath)
	}
	if err := validatePorts(c.Ports); err != nil {
		errs = append(errs, err)
	}
	for _, f := range c.NFs {
		if err := validateNF(f); err != nil {
			errs = append(errs, err)
		}
	}
	if c.OpenFlow != nil {
		if len(c.OpenFlow.Management) > maxPath {
			fail("the path of a socket has at most %d bytes: %s", maxPath, c.OpenFlow.Management)
		}
		if _, err := c.OpenFlow.versions(); err != nil {
			errs = append(errs, err)
		}
	}
	for _, f := range c.Rules {
		if _, err := manager.ParseFlow(f); err != nil {
			errs = append(errs, fmt.Errorf("flow %q: %w", f, err))
		}
	}
	return errors.Join(errs...)
}

// validatePorts looks at ports to be opened.
func validatePorts(list []Port) error {
	var errs []error
	seen := map[int]bool{}
	for _, p := range list {
		if p.Number < 1 || p.Number > manager.MaxPort {
			errs = append(errs, fmt.Errorf("port %s: number %d: write one from 1 to %d", p.Device, p.Number, manager.MaxPort))
		} else if seen[p.Number] {
			errs = append(errs, fmt.Errorf("port %s: there are two ports %d", p.Device, p.Number))
		}
		seen[p.Number] = true
		errs = append(errs, p.Validate())
	}
	return errors.Join(errs...)
}

// validateNF looks at an NF to be started.
func validateNF(f topo.NF) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("NF %s: %s", cmp.Or(f.Name, "without a name"), fmt.Sprintf(format, args...))
	}
	switch {
	case f.Name == "" || len(f.Name) > 64 || strings.ContainsAny(f.Name, "/ \t\n\x00") || f.Name[0] == '.':
		return fail("a name has 1 to 64 characters, without / and blanks, and does not begin with a dot")
	case f.Service < 1 || f.Service > manager.MaxService:
		return fail("service %d: write a number from 1 to %d", f.Service, manager.MaxService)
	case f.Instances < 0 || f.Instances > maxInstances:
		return fail("%d instances: write a number from 1 to %d", f.Instances, maxInstances)
	case f.Weight < 0 || f.Weight > maxWeight:
		return fail("weight %d: write a number from 1 to %d", f.Weight, maxWeight)
	case f.Core < 0:
		return fail("core %d: cores count from 1; 0 for any", f.Core)
	case f.Fused && f.Command != "":
		return fail("what is fused runs in the manager's process: it comes with weft and has no command")
	case f.Fused && (f.Copy || f.ReadOnly):
		return fail("what is fused has the manager's memory: it cannot be copy or read-only")
	case f.Fused && f.Core != 0:
		return fail("what is fused runs on the manager's thread: it has no core of its own")
	case f.Fused && (f.Contained() || f.Host != ""):
		return fail("what is fused runs in the manager's process: in no container and on no host")
	case f.Image != "" && f.RootFS != "":
		return fail("a container has an image or a rootfs, not both")
	case f.RootFS != "" && strings.TrimSpace(f.Command) == "":
		return fail("a rootfs does not say which program it is: it needs a command")
	case strings.ContainsAny(f.Host, "/\x00") || f.Host == "..":
		return fail("%q is no host", f.Host)
	case f.Copy && f.ReadOnly:
		return fail("copy or read-only, not both: an NF that gets copies may write them")
	}
	if _, err := restartOf(f); err != nil {
		return fail("%v", err)
	}
	if f.OnDeath != "" && f.OnDeath != onDeathMove && f.OnDeath != onDeathDrop {
		return fail("on death %q: write %s or %s", f.OnDeath, onDeathMove, onDeathDrop)
	}
	if f.Builtin() {
		_, err := builtin.Find(f.Name)
		return err
	}
	return nil
}

const (
	maxInstances = 256
	maxWeight    = 256
)

// What happens to the flows of an NF that died (topo.NF.OnDeath).
const (
	onDeathMove = "move"
	onDeathDrop = "drop"
)

// A restart says when an NF that died is started again.
type restart int

const (
	restartOnFailure restart = iota
	restartNo
	restartAlways
)

func restartOf(f topo.NF) (restart, error) {
	switch f.Restart {
	case "", "on-failure":
		return restartOnFailure, nil
	case "no":
		return restartNo, nil
	case "always":
		return restartAlways, nil
	}
	return 0, fmt.Errorf("restart %q: write no, on-failure or always", f.Restart)
}
