// Package dpdkhost is DPDK nodes as the rest of weft sees them: what a running one tells
// (State) and what can be done to it (Backend), whatever manages its network functions (NFs).
// Its subpackages do the work:
//
//	shm ← nf ← (NF processes)          packet memory and rings; what an NF is written with
//	shm ← manager ← port, agent        the built-in manager, its ports, its OpenFlow agent
//	server                             the manager's process: control socket, NFs' socket
//	eal, onvm                          foreign managers: any DPDK program, OpenNetVM
//	nic                                real NICs: sysfs, binding, hugepages
//
// It may import topo.
package dpdkhost

import (
	"context"
	"errors"
	"time"

	"weft/topo"
)

// A Backend is the manager of one running DPDK node. Methods may be called at any time from any
// goroutine; after the node's end they return an error that wraps ErrEnded.
type Backend interface {
	// State tells of ports, instances, chains and flows.
	State(ctx context.Context) (*State, error)
	// Start starts instances of an NF and waits until they take packets.
	Start(ctx context.Context, nf topo.NF) ([]Instance, error)
	// Stop ends an instance: drained first, unless at once is asked for.
	Stop(ctx context.Context, instance int, atOnce bool) error
	// Change changes chains, flows or an instance.
	Change(ctx context.Context, c Change) error
	// Close ends the manager and everything that it started.
	Close() error
}

// A Commander is a Backend whose NFs take commands while they run.
type Commander interface {
	// Command sends words to an instance and returns its answer, text for people.
	Command(ctx context.Context, instance int, words []string) (string, error)
}

// A Steered is a Backend that OpenFlow controllers steer.
type Steered interface {
	// SetControllers connects the node to the controllers at these Unix sockets, "unix:PATH", and
	// no others. Connections that there are to some of them stay, as do flows.
	SetControllers(ctx context.Context, targets []string) error
}

// ErrEnded says that the node's manager does not run any more.
var ErrEnded = errors.New("the NF manager does not run")

// ErrUnsupported says that this manager cannot do that; the error around it says why and
// what to use instead.
var ErrUnsupported = errors.New("not supported by this NF manager")

// A Change is one change; one field is set.
type Change struct {
	Chain       *topo.Chain `json:"chain,omitempty"`       // made or changed, for packets that come from now on
	DeleteChain string      `json:"deleteChain,omitempty"` // its name
	AddFlow     string      `json:"addFlow,omitempty"`     // as in topo.DPDK.Flows
	DeleteFlows *string     `json:"deleteFlows,omitempty"` // a match; "" for all
	Move        *Move       `json:"move,omitempty"`        // to another processor
}

// Move puts an instance on a processor.
type Move struct {
	Instance int `json:"instance"`
	Core     int `json:"core"` // from 1; 0 for any
}

// State is a moment of a DPDK node.
type State struct {
	Manager   topo.NFManager    `json:"manager"`
	At        time.Time         `json:"at"`
	Ports     []Port            `json:"ports"`
	Instances []Instance        `json:"instances"`
	Chains    []topo.Chain      `json:"chains"`
	Flows     []Flow            `json:"flows"`     // those of the highest priorities: 10,000 at most
	FlowCount int               `json:"flowCount"` // all of them
	Drops     map[string]uint64 `json:"drops"`     // packets that the manager gave up, by cause
	Pool      Pool              `json:"pool"`
}

// Pool is the packet memory.
type Pool struct {
	Frames int  `json:"frames"`
	Free   int  `json:"free"`
	Huge   bool `json:"huge"` // on huge pages
	// Node is the NUMA node that it is on, of a machine with several.
	Node *int `json:"node,omitempty"`
}

// Port is a port and its counters since the node started. Packets and bytes include Ethernet
// headers, not the frame check sequence.
type Port struct {
	Number       int    `json:"number"`
	Name         string `json:"name"` // interface or PCI address
	Kind         string `json:"kind"` // packet, tap, xdp, memif, pcap, nic
	Received     uint64 `json:"received"`
	RxBytes      uint64 `json:"rxBytes"`
	Sent         uint64 `json:"sent"`
	TxBytes      uint64 `json:"txBytes"`
	RxDrops      uint64 `json:"rxDrops"`
	TxDrops      uint64 `json:"txDrops"`
	Peer         string `json:"peer,omitempty"` // of memif: what is connected; "" if nobody is
	BackPressure uint64 `json:"backPressure"`   // not let in: a ring of their chain was full
}

// Instance is one running NF and its counters since it started.
type Instance struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Service int    `json:"service"`
	Core    int    `json:"core,omitempty"` // 0 for any
	// Node is the NUMA node that it runs on, of a machine with several; nil if it may run on any.
	Node     *int   `json:"node,omitempty"`
	PID      int    `json:"pid,omitempty"`
	Parent   int    `json:"parent,omitempty"` // the instance that it is a copy of (scale)
	State    string `json:"state"`            // starting, running, draining, paused, dead
	Restarts int    `json:"restarts,omitempty"`
	Fused    bool   `json:"fused,omitempty"`  // it runs in the manager's process
	Trust    string `json:"trust,omitempty"`  // read-only or copy; "" for trusted
	Log      string `json:"log,omitempty"`    // what its process wrote: the name of one of the network's logs
	Socket   string `json:"socket,omitempty"` // of an awaited one: where it finds the manager

	Received   uint64 `json:"received"`
	Sent       uint64 `json:"sent"`
	RxDrops    uint64 `json:"rxDrops"` // its ring was full
	Out        uint64 `json:"out"`
	ToNF       uint64 `json:"toNF"`
	Dropped    uint64 `json:"dropped"` // by its verdict
	Next       uint64 `json:"next"`
	Cloned     uint64 `json:"cloned"`
	Controller uint64 `json:"controller"`
	Invalid    uint64 `json:"invalid"` // descriptors that were not its own
	Wakeups    uint64 `json:"wakeups"` // it slept, and was woken for packets
	// TxDrops and Buffered are OpenNetVM's: an NF of weft's waits when the manager has no room, and
	// keeps packets without a word.
	TxDrops  uint64 `json:"txDrops,omitempty"`
	Buffered uint64 `json:"buffered,omitempty"`

	// Latency of a packet in this hop, from the manager to the verdict, sampled.
	Latency Latency `json:"latency"`
	// Counters that the NF itself shows.
	Counters map[string]uint64 `json:"counters,omitempty"`
}

// Awaited is the state of an instance that somebody else is to start (topo.NF.Outside).
const Awaited = "awaited"

// Latency are percentiles.
type Latency struct {
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

// Flow is an entry of the flow director.
type Flow struct {
	Match    string        `json:"match"`
	Actions  string        `json:"actions"`
	Priority int           `json:"priority"`
	Cookie   uint64        `json:"cookie,omitempty"`
	Packets  uint64        `json:"packets"`
	Bytes    uint64        `json:"bytes"`
	Age      time.Duration `json:"age"`
	Idle     time.Duration `json:"idleTimeout,omitempty"`
	Hard     time.Duration `json:"hardTimeout,omitempty"`
}
