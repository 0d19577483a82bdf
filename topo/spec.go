// Package topo describes networks. A Spec is what a person wrote (flags, a file,
// a script); Spec.Plan turns it into a Plan, in which everything that can be known
// without touching a machine is fixed: names, ports, MACs, addresses, datapath IDs.
// Both are plain values that marshal to JSON.
//
// topo imports no other package of weft and nothing that touches the machine.
package topo

import "net/netip"

// A Spec is the description of a network as its user gave it. Zero fields mean
// "weft chooses"; Plan fills them in.
type Spec struct {
	// Name of the network, unique among the user's running networks. Empty: chosen
	// when it comes up.
	Name        string       `json:"name,omitempty"`
	Hosts       []Host       `json:"hosts,omitempty"`
	Switches    []Switch     `json:"switches,omitempty"`
	Controllers []Controller `json:"controllers,omitempty"`
	Links       []Link       `json:"links,omitempty"`
	Addressing  Addressing   `json:"addressing,omitzero"`
	// Commands run on nodes when the network is up.
	Commands []Command `json:"run,omitempty"`
	// Seed gives every impaired link a seed of its own, so that a run can be repeated.
	Seed *uint64 `json:"seed,omitempty"`
}

// Addressing says how hosts get the addresses that the Spec does not give.
type Addressing struct {
	// IPBase is the IPv4 network of the hosts (default 10.0.0.0/8). Numbering
	// starts at its host part, or at 1 if that is zero, as in Mininet.
	IPBase netip.Prefix `json:"ipBase,omitzero"`
	// IP6Base is the IPv6 network of the hosts; IPv6 is off if it is not set.
	IP6Base netip.Prefix `json:"ip6Base,omitzero"`
	// AutoMAC numbers MACs (h1 has 00:00:00:00:00:01). Otherwise MACs are derived
	// from the names: stable, unique and locally administered.
	AutoMAC bool `json:"autoMAC,omitempty"`
	// StaticARP gives every host a permanent neighbour entry for every other.
	StaticARP bool `json:"staticARP,omitempty"`
}

// A Host is a network namespace with interfaces, on which programs run.
type Host struct {
	Name string `json:"name"`
	// IP and IP6 are the addresses of the first interface. An invalid (zero)
	// prefix means the next free one of the base.
	IP  netip.Prefix `json:"ip,omitzero"`
	IP6 netip.Prefix `json:"ip6,omitzero"`
	MAC string       `json:"mac,omitempty"`
	// DefaultRoute is the gateway's address.
	DefaultRoute netip.Addr `json:"defaultRoute,omitzero"`
	// PrivateDirs are directories of which this host has its own, empty copy.
	PrivateDirs []string `json:"privateDirs,omitempty"`
	// Files are what the host's programs find at a path; others do not see them.
	Files []File `json:"files,omitempty"`
	// NAT makes the host a gateway to the user's own network.
	NAT *NAT `json:"nat,omitempty"`
}

// NAT says how a gateway host reaches the outside.
type NAT struct {
	// Subnet is the inside network that is translated (default: IPBase).
	Subnet netip.Prefix `json:"subnet,omitzero"`
}

// SwitchDriver names what realises a switch.
type SwitchDriver string

// The switch drivers.
const (
	DriverOVS       SwitchDriver = "ovs"   // Open vSwitch under OpenFlow control
	DriverOVSBridge SwitchDriver = "ovsbr" // Open vSwitch as a plain learning bridge
	DriverLinux     SwitchDriver = "lxbr"  // Linux bridge
)

// OVS reports whether Open vSwitch realises switches of this driver.
func (d SwitchDriver) OVS() bool { return d == DriverOVS || d == DriverOVSBridge }

// OpenFlow reports whether switches of this driver speak OpenFlow.
func (d SwitchDriver) OpenFlow() bool { return d != DriverLinux }

// Datapath names where Open vSwitch forwards packets.
type Datapath string

// The datapaths. Auto takes kernel where the machine has it, user otherwise.
const (
	DatapathAuto   Datapath = "auto"
	DatapathKernel Datapath = "kernel" // openvswitch kernel module
	DatapathUser   Datapath = "user"   // ovs-vswitchd itself, with TSO
	DatapathAFXDP  Datapath = "afxdp"  // ovs-vswitchd with AF_XDP ports; needs root
)

// A Switch forwards packets between its ports.
type Switch struct {
	Name   string       `json:"name"`
	Driver SwitchDriver `json:"driver,omitempty"` // default ovs
	// DPID is the datapath ID; 0 means derived from the name (s1 has 1).
	DPID uint64 `json:"dpid,omitempty"`
	// Protocols are OpenFlow versions as Open vSwitch spells them ("OpenFlow13").
	// Empty: whatever Open vSwitch offers by default.
	Protocols []string `json:"protocols,omitempty"`
	// FailMode is "secure" (default) or "standalone".
	FailMode string   `json:"failMode,omitempty"`
	Datapath Datapath `json:"datapath,omitempty"` // default auto
	STP      bool     `json:"stp,omitempty"`
	// Local gives an Open vSwitch switch of the user datapath a device of its own name, its
	// local port, which one of the kernel datapath always has. It needs /dev/net/tun
	// and costs 100 ms at the start.
	Local bool `json:"local,omitempty"`
	// Controllers names the controllers of this switch; nil means all, an empty
	// slice none.
	Controllers []string `json:"controllers,omitzero"`
	// DPDK describes a switch of driver dpdk.
	DPDK *DPDK `json:"dpdk,omitempty"`
	// ListenPort is a TCP port of the user's 127.0.0.1 at which the switch also
	// accepts OpenFlow connections (ovs-ofctl); 0 for none.
	ListenPort int `json:"listenPort,omitempty"`
}

// ControllerKind names what a controller is.
type ControllerKind string

// The kinds of controller.
const (
	ControllerBuiltin ControllerKind = "builtin" // weft's own learning controller
	ControllerRemote  ControllerKind = "remote"  // one that already runs somewhere
	ControllerOVS     ControllerKind = "ovsc"    // ovs-testcontroller
	ControllerRyu     ControllerKind = "ryu"     // ryu-manager with an app
	ControllerOSKen   ControllerKind = "osken"   // osken-manager with an app
	ControllerCommand ControllerKind = "cmd"     // any command
)

// A Controller programs switches over OpenFlow.
type Controller struct {
	Name string         `json:"name"`
	Kind ControllerKind `json:"kind"`
	// Transport is "tcp" (default) or "ssl".
	Transport string `json:"transport,omitempty"`
	// Address is an IPv4 or IPv6 address or a host name, as the user's own
	// namespaces see it. Default 127.0.0.1.
	Address string `json:"address,omitempty"`
	// Port is a TCP port. For a remote controller 0 means 6653, then 6633; for one
	// that weft starts, a free port.
	Port int `json:"port,omitempty"`
	// Command is what runs for the kinds that weft starts: the apps and their
	// arguments for ryu and osken, a shell command for cmd. In it {port} stands for
	// the port that the controller must listen on.
	Command string `json:"command,omitempty"`
	// Inside runs the command in the sandbox's control namespace rather than in
	// the user's own namespaces.
	Inside bool `json:"inside,omitempty"`
	// CACert, Cert and Key are PEM files for the ssl transport. Without CACert the
	// controller's certificate is not verified, as with ovs-vsctl's bootstrap.
	CACert string `json:"caCert,omitempty"`
	Cert   string `json:"cert,omitempty"`
	Key    string `json:"key,omitempty"`
}

// LinkDriver names what realises a link.
type LinkDriver string

// The link drivers. An empty one is LinkAuto.
const (
	// LinkAuto is a veth pair if nothing is impaired; else netem where the machine's kernel
	// can do all that is asked, and wire where it cannot.
	LinkAuto  LinkDriver = "auto"
	LinkVeth  LinkDriver = "veth"  // a veth pair
	LinkNetem LinkDriver = "netem" // a veth pair, impaired by the kernel's queueing disciplines
	LinkWire  LinkDriver = "wire"  // a TAP device at each end, frames carried by weft
	LinkPatch LinkDriver = "patch" // an Open vSwitch patch port pair, between switches
)

var linkDrivers = []LinkDriver{LinkAuto, LinkVeth, LinkNetem, LinkWire, LinkPatch, LinkHW, LinkMemif}

// A Link joins two nodes.
type Link struct {
	A LinkEnd `json:"a"`
	B LinkEnd `json:"b"`
	LinkSettings
}

// A LinkEnd is one node's side of a Link.
type LinkEnd struct {
	// Node is a host or switch, NICPrefix and a NIC of the machine, or MemifPrefix and a socket.
	Node string `json:"node"`
	// Interface is the interface's name; default NODE-ethPORT.
	Interface string `json:"interface,omitempty"`
	// Port is the OpenFlow port on a switch (from 1) or the interface number on
	// a host (from 0). Nil means the next free one.
	Port *int         `json:"port,omitempty"`
	MAC  string       `json:"mac,omitempty"`
	IP   netip.Prefix `json:"ip,omitzero"` // hosts only
	IP6  netip.Prefix `json:"ip6,omitzero"`
}
