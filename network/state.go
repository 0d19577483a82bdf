package network

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"

	"weft/node"
	"weft/topo"
)

// State returns what the network is now.
func (n *Network) State() State {
	n.mu.Lock()
	plan := n.plan
	s := State{Name: n.env.Name, Started: n.started, Plan: plan, Datapath: n.datapath, Rootless: n.env.Rootless}
	for _, h := range plan.Hosts {
		hs := HostState{Name: h.Name}
		if host := n.hosts[h.Name]; host != nil {
			hs.PID = host.PID()
		}
		s.Hosts = append(s.Hosts, hs)
	}
	for _, sw := range plan.Switches {
		s.Switches = append(s.Switches, SwitchState{Name: sw.Name, Running: n.running[sw.Name], Connections: []ControlConnection{}})
	}
	for _, c := range plan.Controllers {
		cs := ControllerState{Name: c.Name}
		if run := n.controllers[c.Name]; run != nil {
			cs.Address = run.address
			if run.process != nil {
				cs.PID = run.process.PID
			}
		}
		s.Controllers = append(s.Controllers, cs)
	}
	n.mu.Unlock()
	byName := map[string]*SwitchState{}
	for i := range s.Switches {
		byName[s.Switches[i].Name] = &s.Switches[i]
	}
	for _, cc := range n.connections() {
		if sw := byName[cc.Switch]; sw != nil {
			sw.Connections = append(sw.Connections, cc)
		}
	}
	up := n.devices(plan)
	for _, l := range plan.Links {
		s.Links = append(s.Links, n.fillState(l, up))
	}
	return s
}

// devices says of each interface that exists whether it is administratively up.
func (n *Network) devices(plan *topo.Plan) map[topo.PlannedEnd]bool {
	up := map[topo.PlannedEnd]bool{}
	look := func(h *netlink.Handle, node string, interfaces []topo.Interface, links map[string]netlink.Link) {
		for _, i := range interfaces {
			if l := links[i.Device]; l != nil {
				up[topo.PlannedEnd{Node: node, Interface: i.Name}] = l.Attrs().RawFlags&1 != 0 // IFF_UP
			}
		}
	}
	list := func(h *netlink.Handle) map[string]netlink.Link {
		links, _ := h.LinkList()
		m := make(map[string]netlink.Link, len(links))
		for _, l := range links {
			m[l.Attrs().Name] = l
		}
		return m
	}
	fabric := list(n.nl)
	own := func(name string, interfaces []topo.Interface) {
		n.mu.Lock()
		host := n.hosts[name]
		n.mu.Unlock()
		if host == nil {
			return
		}
		if nl, err := host.Net().Handle(); err == nil {
			look(nl, name, interfaces, list(nl))
			nl.Close()
		}
	}
	for _, sw := range plan.Switches {
		if sw.DPDK != nil {
			own(sw.Name, sw.Interfaces)
			continue
		}
		look(n.nl, sw.Name, sw.Interfaces, fabric)
	}
	for _, h := range plan.Hosts {
		own(h.Name, h.Interfaces)
	}
	return up
}

// Shell returns the persistent shell of a host or switch, or with an empty name that of
// the fabric, where Open vSwitch runs.
func (n *Network) Shell(name string) (*node.Shell, error) {
	n.mu.Lock()
	host, plan := n.hosts[name], n.plan
	n.mu.Unlock()
	if host != nil {
		return host.Shell()
	}
	if name != "" && plan.Switch(name) == nil && plan.Controller(name) == nil {
		return nil, fmt.Errorf("no node named %s", name)
	}
	place, err := n.fabricPlace()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	sh := n.shells[name]
	if sh == nil {
		sh = node.NewShell(name, place, n.programEnv())
		n.shells[name] = sh
	}
	return sh, nil
}

// Names are the names of a network's nodes, by kind, in the plan's order.
type Names struct {
	Hosts       []string `json:"hosts"`
	Switches    []string `json:"switches"`
	Controllers []string `json:"controllers"`
}

// Brief returns what costs nothing to know: since when the network is there, the names of its
// nodes, and how many links it has.
func (n *Network) Brief() (started time.Time, nodes Names, links int) {
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	nodes = Names{Hosts: []string{}, Switches: []string{}, Controllers: []string{}}
	for _, h := range plan.Hosts {
		nodes.Hosts = append(nodes.Hosts, h.Name)
	}
	for _, s := range plan.Switches {
		nodes.Switches = append(nodes.Switches, s.Name)
	}
	for _, c := range plan.Controllers {
		nodes.Controllers = append(nodes.Controllers, c.Name)
	}
	return n.started, nodes, len(plan.Links)
}
