// Package network turns a topo.Plan into a running network and works on it: live
// changes, ping, iperf, shells on nodes. It is the only package that joins nodes,
// links, switches and controllers. It may import node, link, control, capture and
// the internal packages; it runs inside the sandbox.
package network

import (
	"net/netip"
	"time"

	"weft/topo"
)

// Results are values; text is made from them in package shell, at the end.

// An Event reports progress or a change of a network.
type Event struct {
	// Seq numbers the events of a network's life from 1; progress has none.
	Seq  uint64    `json:"seq,omitempty"`
	Time time.Time `json:"time"`
	// Kind is what happened, for programs: see the Kind constants. Progress has none.
	Kind string `json:"kind,omitempty"`
	// Stage is the step of building or closing: see the Stage constants. Node is
	// the node (or link "h1-s1") that it finished with; empty at the start of the stage.
	Stage string `json:"stage,omitempty"`
	// Node is the host, switch or controller that it is about.
	Node string `json:"node,omitempty"`
	// Link is a link's name, h1-s1; Interface that of one of its ends.
	Link      string `json:"link,omitempty"`
	Interface string `json:"interface,omitempty"`
	// Controller is the one that Node is connected to, or no longer.
	Controller string `json:"controller,omitempty"`
	// PID and Status are of a program; Status is valid when it has ended.
	PID    int `json:"pid,omitempty"`
	Status int `json:"status,omitempty"`
	// Level is a slog level name ("INFO", "WARN", "ERROR") for events with a Message.
	Level string `json:"level,omitempty"`
	// Message says it for people.
	Message string `json:"message,omitempty"`
}

// The kinds of events.
const (
	KindReady        = "network.ready"
	KindEnding       = "network.ending"
	KindNodeAdded    = "node.added"
	KindNodeRemoved  = "node.removed"
	KindNodeChanged  = "node.changed"
	KindLinkAdded    = "link.added"
	KindLinkRemoved  = "link.removed"
	KindLinkChanged  = "link.changed" // its settings, or it was cut, taken down or up
	KindPortUp       = "port.up"      // of a switch: both ends of its link are up
	KindPortDown     = "port.down"
	KindStarted      = "switch.started"
	KindStopped      = "switch.stopped"
	KindConnected    = "controller.connected" // a switch to a controller
	KindDisconnected = "controller.disconnected"
	KindProcess      = "process.started"
	KindProcessEnded = "process.ended"
	KindNote         = "note" // anything else
)

// The stages, in their order.
const (
	StageHosts       = "hosts"
	StageSwitches    = "switches"
	StageLinks       = "links"
	StageConfigure   = "configure"
	StageControllers = "controllers"
	StageStart       = "start" // switches connect to their controllers
	StageReady       = "ready"
	StageStop        = "stop"
)

// A State is what a network is at this moment.
type State struct {
	Name        string            `json:"name"`
	Started     time.Time         `json:"started"`
	Plan        *topo.Plan        `json:"plan"`
	Datapath    topo.Datapath     `json:"datapath"` // in force where a switch says auto
	Rootless    bool              `json:"rootless"`
	Hosts       []HostState       `json:"hosts"`
	Switches    []SwitchState     `json:"switches"`
	Controllers []ControllerState `json:"controllers"`
	Links       []LinkState       `json:"links"`
}

// A HostState is a host now. PID is that of its shell, 0 if none runs.
type HostState struct {
	Name string `json:"name"`
	PID  int    `json:"pid,omitempty"`
}

// A SwitchState is a switch now.
type SwitchState struct {
	Name        string              `json:"name"`
	Running     bool                `json:"running"`
	Connections []ControlConnection `json:"connections"`
}

// A ControlConnection is the control channel between a switch and a controller.
type ControlConnection struct {
	Switch     string `json:"switch"`
	Controller string `json:"controller"`
	Connected  bool   `json:"connected"`
	// Version is the OpenFlow version agreed on ("1.0", "1.3"), if connected.
	Version string `json:"version,omitempty"`
	// Reason says why it is not connected: refused, version mismatch, closed.
	Reason string `json:"reason,omitempty"`
}

// A ControllerState is a controller now.
type ControllerState struct {
	Name    string `json:"name"`
	Address string `json:"address"` // HOST:PORT; empty for the built-in one without a listener
	PID     int    `json:"pid,omitempty"`
}

// A PingRequest asks for echoes between hosts.
type PingRequest struct {
	// Hosts to ping between, each to each; nil means all. Pairs, if given, are
	// used instead.
	Hosts []string    `json:"hosts,omitempty"`
	Pairs [][2]string `json:"pairs,omitempty"`
	IPv6  bool        `json:"ipv6,omitempty"`
	// Timeout is the wait for each reply (default 1 s). Tries is how often a pair
	// is tried before it counts as lost (default 3).
	Timeout time.Duration `json:"timeout,omitempty"`
	Tries   int           `json:"tries,omitempty"`
	// Count is how many echoes are exchanged per pair (default 1); each is tried
	// Tries times.
	Count int `json:"count,omitempty"`
}

// A PingResult lists all pairs, sources in the order of the hosts, then destinations.
type PingResult struct {
	Pairs    []PingPair    `json:"pairs"`
	Sent     int           `json:"sent"`     // echoes asked for, without retries
	Received int           `json:"received"` // echoes answered
	Duration time.Duration `json:"durationNs"`
}

// Lost returns the number of echoes that no try answered.
func (r PingResult) Lost() int { return r.Sent - r.Received }

// A PingPair is one source and destination.
type PingPair struct {
	Src      string          `json:"src"`
	Dst      string          `json:"dst"`
	DstIP    netip.Addr      `json:"dstIP,omitzero"`
	Sent     int             `json:"sent"`
	Received int             `json:"received"`
	Retries  int             `json:"retries,omitempty"`
	RTT      []time.Duration `json:"rttNs,omitempty"` // of the received, in order
	Error    string          `json:"error,omitempty"` // why nothing could be sent
}

// An IperfRequest asks for a throughput measurement from Client to Server.
type IperfRequest struct {
	Client   string        `json:"client"`
	Server   string        `json:"server"`
	UDP      bool          `json:"udp,omitempty"`
	Rate     uint64        `json:"rate,omitempty"` // UDP sending rate, bit/s of payload (default 10 Mbit/s)
	IPv6     bool          `json:"ipv6,omitempty"`
	Duration time.Duration `json:"duration,omitempty"` // default 5 s
	Port     int           `json:"port,omitempty"`     // default: a free one
	// Length is the size of a UDP datagram's payload, bytes (default 1470).
	Length int `json:"length,omitempty"`
}

// A TrainRequest asks for echo requests from Src to Dst at even times, whatever comes back.
type TrainRequest struct {
	Src      string        `json:"src"`
	Dst      string        `json:"dst"`
	IPv6     bool          `json:"ipv6,omitempty"`
	Count    int           `json:"count"`
	Interval time.Duration `json:"interval"`
	Timeout  time.Duration `json:"timeout"` // for the reply to each
}

// A TrainResult has all echoes, in the order of their requests.
type TrainResult struct {
	Started time.Time `json:"started"`
	Echoes  []Echo    `json:"echoes"`
}

// A ReachRequest asks whether packets from hosts arrive at a port of others. Where no
// program has the port, it is opened for that time.
type ReachRequest struct {
	Pairs [][2]string `json:"pairs"` // source, destination
	UDP   bool        `json:"udp,omitempty"`
	Port  int         `json:"port"`
	IPv6  bool        `json:"ipv6,omitempty"`
	// Timeout is the wait for each try (default 1 s), Tries how many there are of UDP
	// (default 3).
	Timeout time.Duration `json:"timeout,omitempty"`
	Tries   int           `json:"tries,omitempty"`
}

// A ReachResult lists the pairs in the order asked for.
type ReachResult struct {
	Pairs []ReachPair `json:"pairs"`
}

// A ReachPair says whether the source reached the destination, or why not.
type ReachPair struct {
	Src     string `json:"src"`
	Dst     string `json:"dst"`
	Reached bool   `json:"reached"`
	Reason  string `json:"reason,omitempty"`
}
