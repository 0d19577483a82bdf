package topo

import "net/netip"

// A Plan is a network in which nothing is left to choose: the same Spec gives the
// same Plan on every machine. Its order is the order in which people see nodes.
type Plan struct {
	Name        string              `json:"name,omitempty"`
	Hosts       []PlannedHost       `json:"hosts"`
	Switches    []PlannedSwitch     `json:"switches"`
	Controllers []PlannedController `json:"controllers"`
	Links       []PlannedLink       `json:"links"`
	Addressing  Addressing          `json:"addressing"`
}

// A PlannedHost is a Host with its interfaces.
type PlannedHost struct {
	Name         string      `json:"name"`
	Interfaces   []Interface `json:"interfaces"`
	DefaultRoute netip.Addr  `json:"defaultRoute,omitzero"`
	PrivateDirs  []string    `json:"privateDirs,omitempty"`
	NAT          *NAT        `json:"nat,omitempty"`
}

// A PlannedSwitch is a Switch with its ports.
type PlannedSwitch struct {
	Name        string       `json:"name"`
	Driver      SwitchDriver `json:"driver"`
	Device      string       `json:"device"` // kernel name of the bridge, at most 15 bytes
	DPID        uint64       `json:"dpid"`
	Protocols   []string     `json:"protocols,omitempty"`
	FailMode    string       `json:"failMode"`
	Datapath    Datapath     `json:"datapath"`
	STP         bool         `json:"stp,omitempty"`
	Controllers []string     `json:"controllers"` // names; empty for none
	Interfaces  []Interface  `json:"interfaces"`
}

// A PlannedController is a Controller with its defaults filled in.
type PlannedController = Controller

// An Interface is one end of a link on a node.
type Interface struct {
	// Name is what people see (h1-eth0). Device is the kernel's name: the same
	// where it fits into 15 bytes, else derived from it; unique in the network.
	Name   string `json:"name"`
	Device string `json:"device"`
	// Port is the OpenFlow port on a switch, the interface number on a host.
	Port int          `json:"port"`
	MAC  string       `json:"mac"`
	IP   netip.Prefix `json:"ip,omitzero"`
	IP6  netip.Prefix `json:"ip6,omitzero"`
	Link int          `json:"link"` // PlannedLink.ID
}

// A PlannedLink names its two interfaces.
type PlannedLink struct {
	// ID is unique in the network's life: a deleted link's ID is not used again.
	ID     int        `json:"id"`
	A      PlannedEnd `json:"a"`
	B      PlannedEnd `json:"b"`
	Driver LinkDriver `json:"driver"`
}

// A PlannedEnd names an interface of a node.
type PlannedEnd struct {
	Node      string `json:"node"`
	Interface string `json:"interface"` // Interface.Name
}
