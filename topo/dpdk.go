package topo

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// DriverDPDK makes a switch a DPDK node: its ports belong to a manager of network functions
// (NFs), which leads packets through chains of them. To controllers it is a switch whose
// output actions name services too.
const DriverDPDK SwitchDriver = "dpdk"

// NFManager names what moves packets on a DPDK node.
type NFManager string

// The managers.
const (
	ManagerWeft NFManager = "weft" // weft's own, the default
	ManagerONVM NFManager = "onvm" // an installed OpenNetVM
	ManagerDPDK NFManager = "dpdk" // any DPDK program
)

// DPDK is what a DPDK node has besides a switch.
type DPDK struct {
	Manager NFManager `json:"manager,omitempty"` // default weft
	// PortKind is how the manager reaches the node's links: auto (default), packet (a packet
	// socket; super-frames of TSO pass whole) or xdp (AF_XDP; root).
	PortKind string `json:"portKind,omitempty"`
	// NICs are real NICs by PCI address; their port numbers follow those of the links.
	NICs []string `json:"nics,omitempty"`
	// Command is the program of manager dpdk, a shell command, in which {eal} stands for the
	// arguments of the EAL and {ports} for the number of ports.
	Command string `json:"command,omitempty"`
	// Hugepages in MB; 0 for none.
	Hugepages int `json:"hugepages,omitempty"`
	// Spin keeps the manager's thread looking for packets instead of asleep; it takes a core.
	Spin   bool    `json:"spin,omitempty"`
	NFs    []NF    `json:"nfs,omitempty"`
	Chains []Chain `json:"chains,omitempty"`
	// Flows lead packets into chains, as ovs-ofctl spells matches:
	// "in_port=1,tcp,nw_dst=10.0.0.2,actions=chain:web". Actions are chain:NAME,
	// service:N, output:PORT, controller and drop.
	Flows []string `json:"flows,omitempty"`
}

// NF is a network function: a program, or one that comes with weft, as instances of a service.
type NF struct {
	// Name of one that comes with weft, or of the instance if there is a Command.
	Name string `json:"name"`
	// Args of the NF, as words.
	Args []string `json:"args,omitempty"`
	// Command is the user's own program, a shell command, and Dir the directory in which it runs. In a container it is words: the program
	// and its arguments.
	Command string `json:"command,omitempty"`
	Dir     string `json:"dir,omitempty"`
	// Image is a container image of podman's on this machine, and RootFS a directory with all that
	// a container sees: the NF runs in one then. Without a Command the image says which program.
	Image  string `json:"image,omitempty"`
	RootFS string `json:"rootfs,omitempty"`
	// Host is a host of the network in whose namespaces it runs.
	Host string `json:"host,omitempty"`
	// Outside says that somebody else starts it, where they like: its service awaits it.
	Outside bool `json:"outside,omitempty"`
	// Service is the number that chains know it by, from 1; by default the one after the NF
	// before it.
	Service int `json:"service,omitempty"`
	// Instances share the service's flows; default 1.
	Instances int `json:"instances,omitempty"`
	// Weight is an instance's share; default 1.
	Weight int `json:"weight,omitempty"`
	// Core is the processor that it runs on, from 1; 0 for any.
	Core int `json:"core,omitempty"`
	// Fused runs it in the manager's own process: fastest, and without protection.
	Fused bool `json:"fused,omitempty"`
	// ReadOnly maps the packet memory so that it cannot change packets; Copy gives it
	// copies of packets in memory of its own.
	ReadOnly bool `json:"readOnly,omitempty"`
	Copy     bool `json:"copy,omitempty"`
	// Restart is what happens when it dies: no, on-failure (default) or always. OnDeath is
	// what happens to its flows until then: move (default, to the service's other instances)
	// or drop.
	Restart string `json:"restart,omitempty"`
	OnDeath string `json:"onDeath,omitempty"`
}

// DefaultChain is the name of the chain of packets that no flow is for. A node of fail mode
// standalone, the default, that describes no chain has one through all its services in their
// order; one that describes no NFs either is a bridge. One of fail mode secure sends packets that
// no flow is for to its controllers, which are all if none are named; one of standalone has none
// then.
const DefaultChain = "default"

// Chain is the services that packets pass in their order, and the port by which they leave; 0:
// the last NF says where they go.
type Chain struct {
	Name     string `json:"name"`
	Services []int  `json:"services"`
	Out      int    `json:"out,omitempty"`
}

// portKinds are what DPDK.PortKind may be.
var portKinds = []string{"auto", "packet", "xdp"}

// The words of NF.Restart and NF.OnDeath, the defaults first.
var (
	restartWords = []string{"on-failure", "always", "no"}
	deathWords   = []string{"move", "drop"}
)

// Words lists the managers.
func (NFManager) Words() []string { return allWords(ManagerWeft, ManagerONVM, ManagerDPDK) }

// The bounds of a node's description.
const (
	maxNFs       = 256 // instances of all services
	maxChains    = 1024
	maxSteps     = 64 // of a chain
	maxNFWeight  = 100
	maxCore      = 4096
	maxHugepages = 1 << 20 // MB
)

// Clone returns a copy that shares nothing with d; nil of nil.
func (d *DPDK) Clone() *DPDK {
	if d == nil {
		return nil
	}
	c := *d
	c.NICs, c.NFs, c.Chains, c.Flows = slices.Clone(d.NICs), slices.Clone(d.NFs), slices.Clone(d.Chains), slices.Clone(d.Flows)
	for i := range c.NFs {
		c.NFs[i].Args = slices.Clone(c.NFs[i].Args)
	}
	for i := range c.Chains {
		c.Chains[i].Services = slices.Clone(c.Chains[i].Services)
	}
	return &c
}

// planDPDK checks what a DPDK node has besides a switch and fills in its defaults. standalone
// says that it has a default chain if it describes none.
func planDPDK(d *DPDK, standalone bool) (*DPDK, []fieldError) {
	var errs []fieldError
	fail := func(field, format string, args ...any) {
		errs = append(errs, fieldError{"dpdk." + field, fmt.Errorf(format, args...)})
	}
	if d = d.Clone(); d == nil {
		d = &DPDK{}
	}
	d.Manager, d.PortKind = cmp.Or(d.Manager, ManagerWeft), cmp.Or(d.PortKind, "auto")
	if !slices.Contains(portKinds, d.PortKind) {
		fail("portKind", "%w", unknown("kind of port", d.PortKind, portKinds))
	}
	if d.Hugepages < 0 || d.Hugepages > maxHugepages {
		fail("hugepages", "%d MB are not from 0 to %d", d.Hugepages, maxHugepages)
	}
	for i, nic := range d.NICs {
		if err := checkName(nic); err != nil {
			fail("nics", "NIC: %w", err)
		}
		if slices.Contains(d.NICs[:i], nic) {
			fail("nics", "the NIC %s is named twice; write it once", nic)
		}
	}
	switch d.Manager {
	case ManagerWeft:
		if len(d.NICs) > 0 {
			fail("nics", "manager weft takes NICs as links; leave nics out and write for example the link NODE -- %s%s", NICPrefix, d.NICs[0])
		}
		if standalone && len(d.NFs)+len(d.Chains)+len(d.Flows) == 0 {
			d.NFs = []NF{{Name: "bridge"}}
		}
	case ManagerONVM:
		if d.PortKind == "xdp" {
			fail("portKind", "OpenNetVM takes links as packet sockets; write packet or leave portKind out")
		}
		if len(d.Flows) > 0 {
			fail("flows", "OpenNetVM takes no flows from outside; leave flows out or write manager weft")
		}
		for _, c := range d.Chains {
			if c.Name != DefaultChain || len(c.Services) != 1 || c.Out != 0 {
				fail("chains", "chain %s: OpenNetVM has one chain, %s, of one service, which itself says where packets go; write for example %s: [1], or manager weft", c.Name, DefaultChain, DefaultChain)
			}
		}
	case ManagerDPDK:
		if strings.TrimSpace(d.Command) == "" {
			fail("command", "manager dpdk needs the program to run; write for example command: dpdk-testpmd {eal} -- --auto-start --total-num-mbufs=16384")
		}
		if len(d.NFs)+len(d.Chains)+len(d.Flows) > 0 {
			fail("manager", "a DPDK program of its own has no NFs, chains and flows; leave them out or write manager weft")
		}
	default:
		fail("manager", "%w", unknown("manager", string(d.Manager), NFManager("").Words()))
	}
	if d.Command != "" && d.Manager != ManagerDPDK {
		fail("command", "manager %s runs no command; leave it out or write manager dpdk", d.Manager)
	}
	d.NFs = NumberServices(d.NFs)
	instances := 0
	for i := range d.NFs {
		n := &d.NFs[i]
		n.Instances, n.Weight = cmp.Or(n.Instances, 1), cmp.Or(n.Weight, 1)
		n.Restart, n.OnDeath = cmp.Or(n.Restart, restartWords[0]), cmp.Or(n.OnDeath, deathWords[0])
		if err := n.check(d.Manager); err != nil {
			fail("nfs", "NF %d: %w", i+1, err)
		}
		instances += max(n.Instances, 0)
	}
	if d.Manager == ManagerWeft {
		for _, err := range checkAlone(d.NFs) {
			fail("nfs", "%w", err)
		}
	}
	if instances > maxNFs {
		fail("nfs", "%d instances of NFs are more than %d", instances, maxNFs)
	}
	if standalone && len(d.Chains) == 0 && len(d.NFs) > 0 && d.Manager == ManagerWeft {
		d.Chains = []Chain{d.wholeChain()}
	}
	if len(d.Chains) > maxChains {
		fail("chains", "%d chains are more than %d", len(d.Chains), maxChains)
	}
	for i, c := range d.Chains {
		if err := d.checkChain(c); err != nil {
			fail("chains", "%w", err)
		}
		if slices.ContainsFunc(d.Chains[:i], func(o Chain) bool { return o.Name == c.Name }) {
			fail("chains", "there are two chains %s; choose another name", c.Name)
		}
	}
	for _, f := range d.Flows {
		if err := d.checkFlow(f); err != nil {
			fail("flows", "%w", err)
		}
	}
	return d, errs
}

// Routes reports whether one of a node's NFs is a router. Then its sides are networks of their own:
// it carries no frame from one to the other as it is, and may be on a loop of links.
func (d *DPDK) Routes() bool {
	return slices.ContainsFunc(d.NFs, func(n NF) bool { return n.Name == "router" })
}

// SetDPDK makes the description of a DPDK node d, which must be complete but for its chains. The
// plan is unchanged if there is an error.
func (p *Plan) SetDPDK(name string, d *DPDK) error {
	s := p.Switch(name)
	if s == nil || s.DPDK == nil {
		return fmt.Errorf("no dpdk node is called %q", name)
	}
	if s.FailMode == "standalone" && len(d.Chains) == 0 && len(s.DPDK.Chains) > 0 {
		return fmt.Errorf("it has no other chain, and without one it would pass no packet; change the chain, or write failMode: secure")
	}
	d, errs := planDPDK(d, false)
	list := make([]error, len(errs))
	for i, err := range errs {
		list[i] = err.error
	}
	then := *s
	then.DPDK = d
	if err := oneLine(append(list, p.checkPlaces(name, d), then.checkOut())); err != nil {
		return err
	}
	s.DPDK = d
	return nil
}

// wholeChain leads packets through all services in the order of the NFs.
func (d *DPDK) wholeChain() Chain {
	c := Chain{Name: DefaultChain}
	for _, n := range d.NFs {
		if !slices.Contains(c.Services, n.Service) {
			c.Services = append(c.Services, n.Service)
		}
	}
	return c
}

// Complete checks an NF that is started on a node that runs, and fills in its defaults.
func (n NF) Complete(m NFManager) (NF, error) {
	n.Instances, n.Weight = cmp.Or(n.Instances, 1), cmp.Or(n.Weight, 1)
	n.Restart, n.OnDeath = cmp.Or(n.Restart, restartWords[0]), cmp.Or(n.OnDeath, deathWords[0])
	return n, n.check(m)
}

// check says what is wrong with an NF of which the defaults are filled in.
func (n NF) check(m NFManager) error {
	if err := checkName(n.Name); err != nil {
		return err
	}
	switch {
	case n.Service < 1 || n.Service > MaxService:
		return fmt.Errorf("%s: service %d is not from 1 to %d", n.Name, n.Service, MaxService)
	case n.Instances < 1 || n.Instances > maxNFs:
		return fmt.Errorf("%s: %d instances are not from 1 to %d", n.Name, n.Instances, maxNFs)
	case n.Weight < 1 || n.Weight > maxNFWeight:
		return fmt.Errorf("%s: weight %d is not from 1 to %d", n.Name, n.Weight, maxNFWeight)
	case n.Core < 0 || n.Core > maxCore:
		return fmt.Errorf("%s: core %d is not from 1 to %d, or 0 for any", n.Name, n.Core, maxCore)
	case !slices.Contains(restartWords, n.Restart):
		return fmt.Errorf("%s: restart: %w", n.Name, unknown("word", n.Restart, restartWords))
	case !slices.Contains(deathWords, n.OnDeath):
		return fmt.Errorf("%s: onDeath: %w", n.Name, unknown("word", n.OnDeath, deathWords))
	case n.Dir != "" && (n.Command == "" || n.Contained()):
		return fmt.Errorf("%s: %w", n.Name, errDirOfCommand)
	case n.Fused && n.Command != "":
		return fmt.Errorf("%s: only NFs that come with weft can be fused; leave fused or command out", n.Name)
	case n.Fused && n.Core != 0:
		return fmt.Errorf("%s: a fused NF runs on the manager's thread; leave core out", n.Name)
	case n.ReadOnly && n.Copy:
		return fmt.Errorf("%s: readOnly or copy, not both: an NF that gets copies may write them", n.Name)
	case n.Fused && (n.ReadOnly || n.Copy):
		return fmt.Errorf("%s: a fused NF is in the manager's own process; leave readOnly and copy out", n.Name)
	case n.Fused && (n.Contained() || n.Host != ""):
		return fmt.Errorf("%s: a fused NF is in the manager's own process; leave fused out, or image, rootfs and host", n.Name)
	case n.Outside && (n.Contained() || n.Host != "" || n.Command != "" || n.Fused || n.Core != 0 || n.Copy || len(n.Args) > 0 || n.Instances != 1 || n.Restart != restartWords[0]):
		return fmt.Errorf("%s: somebody else starts what is outside, as they like and as many as they like; leave all but name and service out", n.Name)
	case n.Outside && m != ManagerWeft:
		return fmt.Errorf("%s: only weft's own manager takes NFs from outside; leave outside out, or write manager weft", n.Name)
	case n.Image != "" && n.RootFS != "":
		return fmt.Errorf("%s: a container has an image or a rootfs, not both", n.Name)
	case strings.HasPrefix(n.Image, "-") || strings.ContainsAny(n.Image, " \t\n"):
		return fmt.Errorf("%s: %q is no name of an image", n.Name, n.Image)
	case n.RootFS != "" && (!strings.HasPrefix(n.RootFS, "/") || strings.ContainsAny(n.RootFS, ":,\\\n")):
		return fmt.Errorf("%s: rootfs %q: write the whole path of a directory, without colons, commas and backslashes", n.Name, n.RootFS)
	case n.RootFS != "" && strings.TrimSpace(n.Command) == "":
		return fmt.Errorf("%s: a rootfs does not say what to run; write command: with the program's path in it", n.Name)
	case m == ManagerONVM && (n.Contained() || n.Host != ""):
		return fmt.Errorf("%s: NFs of OpenNetVM run beside its manager; leave image, rootfs and host out, or write manager weft", n.Name)
	case m == ManagerONVM && (n.Fused || n.ReadOnly || n.Copy || n.OnDeath != deathWords[0] || n.Weight != 1):
		return fmt.Errorf("%s: OpenNetVM has no fused, readOnly, copy, onDeath and weight; leave them out or write manager weft", n.Name)
	}
	if m == ManagerWeft && n.Builtin() {
		if _, err := FindNFKind(n.Name); err != nil {
			return fmt.Errorf("%w (one of your own needs command, the program to run)", err)
		}
	}
	return nil
}

// Builtin reports whether the NF comes with weft.
func (n NF) Builtin() bool { return n.Command == "" && !n.Contained() && !n.Outside }

// Contained reports whether the NF runs in a container.
func (n NF) Contained() bool { return n.Image != "" || n.RootFS != "" }

// nfOn returns the name of an NF that runs on a host.
func (d *DPDK) nfOn(host string) (name string, there bool) {
	if d != nil {
		if i := slices.IndexFunc(d.NFs, func(n NF) bool { return n.Host == host }); i >= 0 {
			return d.NFs[i].Name, true
		}
	}
	return "", false
}

// checkPlaces says which NFs are to run on hosts that there are not.
func (p *Plan) checkPlaces(name string, d *DPDK) error {
	if d == nil {
		return nil
	}
	var errs []error
	for _, n := range d.NFs {
		if n.Host != "" && p.Host(n.Host) == nil {
			errs = append(errs, fmt.Errorf("%s: the NF %s runs on %s, which is no host of the network", name, n.Name, n.Host))
		}
	}
	return oneLine(errs)
}

// checkChain says what is wrong with a chain.
func (d *DPDK) checkChain(c Chain) error {
	if err := checkName(c.Name); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	switch {
	case len(c.Services) == 0 && c.Out == 0:
		return fmt.Errorf("chain %s has no services; write for example [1, 2]", c.Name)
	case len(c.Services) > maxSteps:
		return fmt.Errorf("chain %s: %d services are more than %d", c.Name, len(c.Services), maxSteps)
	case c.Out < 0 || c.Out > maxPort:
		return fmt.Errorf("chain %s: port %d is not from 1 to %d", c.Name, c.Out, maxPort)
	}
	for _, s := range c.Services {
		if !d.hasService(s) {
			return fmt.Errorf("chain %s: no NF is in service %d; add one to nfs, or write another service", c.Name, s)
		}
	}
	return nil
}

// checkOut says which chains leave by ports that the node does not have.
func (s PlannedSwitch) checkOut() error {
	if s.DPDK == nil {
		return nil
	}
	var errs []error
	for _, c := range s.DPDK.Chains {
		ports := func(i Interface) bool { return i.Port == c.Out }
		if c.Out != 0 && len(s.DPDK.NICs) == 0 && !slices.ContainsFunc(s.Interfaces, ports) {
			errs = append(errs, fmt.Errorf("chain %s: %s has no port %d", c.Name, s.Name, c.Out))
		}
	}
	return oneLine(errs)
}

// ChainsOut returns the names of the chains that leave by a port.
func (d *DPDK) ChainsOut(port int) (names []string) {
	for _, c := range d.Chains {
		if c.Out == port {
			names = append(names, c.Name)
		}
	}
	return names
}

// FlowsOut returns the flows that send packets out of a port.
func (d *DPDK) FlowsOut(port int) (flows []string) {
	out := "output:" + strconv.Itoa(port)
	for _, f := range d.Flows {
		if _, actions, err := SplitFlow(f); err == nil && slices.ContainsFunc(strings.Split(actions, ","), func(a string) bool { return strings.EqualFold(strings.TrimSpace(a), out) }) {
			flows = append(flows, f)
		}
	}
	return flows
}
