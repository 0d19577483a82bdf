package network

import (
	"fmt"

	"weft/topo"
)

// A NodeState is all that is known of a node: one of its fields is set.
type NodeState struct {
	Host       *HostDetail       `json:"host,omitempty"`
	Switch     *SwitchDetail     `json:"switch,omitempty"`
	Controller *ControllerDetail `json:"controller,omitempty"`
}

// A HostDetail is a host as it is planned and runs.
type HostDetail struct {
	topo.PlannedHost
	// PID is that of its shell, 0 if none runs. Programs are those that were started beside it.
	PID      int   `json:"pid,omitempty"`
	Programs []int `json:"programs,omitempty"`
}

// A SwitchDetail is a switch as it is planned and runs.
type SwitchDetail struct {
	topo.PlannedSwitch
	Running bool `json:"running"`
	// InForce is the datapath, where the plan says auto.
	InForce     topo.Datapath       `json:"inForce,omitempty"`
	Connections []ControlConnection `json:"connections"`
}

// A ControllerDetail is a controller as it is planned and runs.
type ControllerDetail struct {
	topo.PlannedController
	// Listening is where it is reached, HOST:PORT; empty for the built-in one without a listener.
	Listening string `json:"listening,omitempty"`
	// PID is that of the process that weft runs for it, if it does.
	PID         int                 `json:"pid,omitempty"`
	Connections []ControlConnection `json:"connections"`
}

// Node returns all that is known of a node.
func (n *Network) Node(name string) (NodeState, error) {
	n.mu.Lock()
	plan := n.plan.Clone()
	host, run, running := n.hosts[name], n.controllers[name], n.running[name]
	var programs []int
	for t, on := range n.tasks {
		if on == name {
			programs = append(programs, t.PID)
		}
	}
	n.mu.Unlock()
	connections := func(match func(ControlConnection) bool) []ControlConnection {
		list := []ControlConnection{}
		for _, c := range n.connections() {
			if match(c) {
				list = append(list, c)
			}
		}
		return list
	}
	if h := plan.Host(name); h != nil {
		d := &HostDetail{PlannedHost: *h, Programs: programs}
		if host != nil {
			d.PID = host.PID()
		}
		return NodeState{Host: d}, nil
	}
	if s := plan.Switch(name); s != nil {
		return NodeState{Switch: &SwitchDetail{PlannedSwitch: *s, Running: running, InForce: n.portDatapath(name),
			Connections: connections(func(c ControlConnection) bool { return c.Switch == name })}}, nil
	}
	c := plan.Controller(name)
	if c == nil {
		return NodeState{}, fmt.Errorf("%w is called %q", ErrNoNode, name)
	}
	d := &ControllerDetail{PlannedController: *c, Connections: connections(func(c ControlConnection) bool { return c.Controller == name })}
	if run != nil {
		d.Listening = run.address
		if run.process != nil {
			d.PID = run.process.PID
		}
	}
	return NodeState{Controller: d}, nil
}
