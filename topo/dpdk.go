package topo

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
	// PortKind is how the manager reaches the node's kernel links: auto (default), packet,
	// tap or xdp.
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
	// Command is the user's own program, a shell command.
	Command string `json:"command,omitempty"`
	Service int    `json:"service"`
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

// DefaultChain is the name of the chain of packets that no flow is for.
const DefaultChain = "default"

// Chain is the services that packets pass in their order, and the port by which they leave; 0:
// the last NF says where they go.
type Chain struct {
	Name     string `json:"name"`
	Services []int  `json:"services"`
	Out      int    `json:"out,omitempty"`
}
