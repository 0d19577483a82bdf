package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"weft/dpdkhost"
	"weft/dpdkhost/eal"
	"weft/dpdkhost/port"
	"weft/dpdkhost/server"
	"weft/internal/ovs"
	"weft/node"
	"weft/topo"
)

// Links that come and go at a DPDK node that runs are ports that its manager gets and loses: its
// NFs, chains, flows and the other ports go on. Foreign managers have their ports from their start
// to their end, and are started anew.

// A replugger is a manager of a DPDK node whose ports come and go while it runs.
type replugger interface {
	AddPorts(ctx context.Context, list ...server.Port) error
	RemovePorts(ctx context.Context, numbers ...int) error
}

var _ replugger = (*server.Client)(nil)

// attach makes new interfaces part of their nodes: all ports of Open vSwitch at once, and those of
// each DPDK node.
func (n *Network) attach(ctx context.Context, ends []topo.PlannedEnd) error {
	var ports []ovs.Bridge
	for _, e := range ends {
		p, err := n.attachEnd(e)
		if err != nil {
			return fmt.Errorf("interface %s of %s: %w", e.Interface, e.Node, err)
		}
		ports = append(ports, p...)
	}
	if len(ports) > 0 {
		if err := n.ovs.AddPorts(ctx, ports...); err != nil {
			return err
		}
	}
	return n.eachDPDK(ends, func(sw topo.PlannedSwitch, d *dpdkNode, new []topo.Interface) error { return n.plug(ctx, sw, d, new) })
}

// attachEnd makes a new interface part of its node; what it returns is for Open vSwitch to
// add. Those of DPDK nodes are left out.
func (n *Network) attachEnd(e topo.PlannedEnd) ([]ovs.Bridge, error) {
	i := n.plan.Interface(e)
	if h := n.plan.Host(e.Node); h != nil {
		n.mu.Lock()
		host := n.hosts[e.Node]
		n.mu.Unlock()
		c := node.NetConfig{Addresses: []node.Address{{Device: i.Device, IP: i.IP, IP6: i.IP6}}}
		if len(h.Interfaces) == 1 {
			c.Gateway = h.DefaultRoute
		}
		return nil, host.Configure(c)
	}
	sw := n.plan.Switch(e.Node)
	switch {
	case sw == nil, n.isOff(e.Node), sw.DPDK != nil: // none is outside, beyond a NIC
		return nil, nil
	case sw.Driver == topo.DriverLinux:
		return nil, node.BridgePort(n.nl, sw.Device, i.Device)
	}
	port := node.OVSPortConfig(n.ovsPort(*i), n.portDatapath(e.Node))
	return []ovs.Bridge{{Name: sw.Device, Ports: []ovs.Port{port}}}, nil
}

// eachDPDK calls f for each DPDK node that runs and has some of the ends, with these.
func (n *Network) eachDPDK(ends []topo.PlannedEnd, f func(topo.PlannedSwitch, *dpdkNode, []topo.Interface) error) error {
	var errs []error
	for k, e := range ends {
		sameNode := func(o topo.PlannedEnd) bool { return o.Node == e.Node }
		sw := n.plan.Switch(e.Node)
		if sw == nil || sw.DPDK == nil || slices.ContainsFunc(ends[:k], sameNode) {
			continue
		}
		n.mu.Lock()
		d := n.dpdk[e.Node]
		n.mu.Unlock()
		var list []topo.Interface
		for _, o := range ends[k:] {
			if i := n.plan.Interface(o); sameNode(o) && i != nil {
				list = append(list, *i)
			}
		}
		if d == nil || len(list) == 0 {
			continue
		}
		if err := f(*sw, d, list); err != nil {
			errs = append(errs, fmt.Errorf("dpdk node %s: %w", sw.Name, err))
		}
	}
	return errors.Join(errs...)
}

// plug gives a manager the ports of new interfaces.
func (n *Network) plug(ctx context.Context, sw topo.PlannedSwitch, d *dpdkNode, new []topo.Interface) error {
	r, ok := d.backend.(replugger)
	if !ok {
		if err := n.stopDPDK(sw.Name); err != nil {
			n.env.Log.Warn("NF manager", "node", sw.Name, "error", err)
		}
		return n.startAnew(ctx, sw.Name)
	}
	if err := n.openDPDKPorts(sw.Name, new); err != nil {
		return err
	}
	return unlessEnded(r.AddPorts(ctx, n.serverPorts(sw, new)...))
}

// unlessEnded forgives a manager that has just died: it is started again as the plan says then.
func unlessEnded(err error) error {
	if errors.Is(err, dpdkhost.ErrEnded) {
		return nil
	}
	return err
}

// serverPorts are interfaces as weft's own manager knows them.
func (n *Network) serverPorts(sw topo.PlannedSwitch, list []topo.Interface) (ports []server.Port) {
	for _, i := range list {
		c := port.Config{Kind: port.Kind(sw.DPDK.PortKind), Device: i.Device}
		if m := n.memifOf(sw.Name, i); m != nil {
			c = port.Config{Kind: port.Memif, Memif: m}
		}
		ports = append(ports, server.Port{Number: i.Port, Config: c})
	}
	return ports
}

// unplug takes the ports of links that go from DPDK nodes that run. Managers that cannot let them
// go are stopped; startAgain is for when the plan is without the links.
func (n *Network) unplug(ctx context.Context, ends []topo.PlannedEnd) (startAgain func() error, err error) {
	var stopped []string
	err = n.eachDPDK(ends, func(sw topo.PlannedSwitch, d *dpdkNode, old []topo.Interface) error {
		r, ok := d.backend.(replugger)
		if !ok {
			stopped = append(stopped, sw.Name)
			return n.stopDPDK(sw.Name)
		}
		var numbers []int
		for _, i := range old {
			numbers = append(numbers, i.Port)
		}
		return unlessEnded(r.RemovePorts(ctx, numbers...))
	})
	return func() error {
		var errs []error
		for _, name := range stopped {
			errs = append(errs, n.startAnew(context.WithoutCancel(ctx), name))
		}
		return errors.Join(errs...)
	}, err
}

// startAnew starts a foreign manager again that was stopped because its ports are others now.
func (n *Network) startAnew(ctx context.Context, name string) error {
	sw := n.plan.Switch(name)
	if sw == nil {
		return nil
	}
	if err := n.startDPDK(ctx, *sw); err != nil {
		n.stays(name)
		return fmt.Errorf("dpdk node %s was stopped, as its links changed, and does not start again: %w; `switch %s start` tries again", name, err, name)
	}
	n.events.emit("WARN", name, fmt.Sprintf("manager %s has its ports from its start on: it was started anew, with %d links, and lost what was on its way", sw.DPDK.Manager, len(sw.Interfaces)))
	return nil
}

// stays notes that a switch is stopped, whoever stopped it.
func (n *Network) stays(name string) {
	n.mu.Lock()
	delete(n.running, name)
	delete(n.dpdk, name)
	n.mu.Unlock()
	n.events.send(Event{Kind: KindStopped, Node: name, Message: "stopped"})
}

// canUnplug says why a link cannot be taken from a DPDK node: chains leave by it. gone is a node
// that goes too.
func (n *Network) canUnplug(l topo.PlannedLink, gone string) error {
	for _, e := range []topo.PlannedEnd{l.A, l.B} {
		sw, i := n.plan.Switch(e.Node), n.plan.Interface(e)
		if sw == nil || sw.DPDK == nil || i == nil || e.Node == gone {
			continue
		}
		if names := sw.DPDK.ChainsOut(i.Port); len(names) > 0 {
			return fmt.Errorf("link %s: chain %s of %s leaves by its port %d; let it leave by another, or delete it first", linkTitle(l), strings.Join(names, ", "), e.Node, i.Port)
		}
	}
	return nil
}

// tellUnplugged warns of flows that send packets to ports that are gone.
func (n *Network) tellUnplugged(l topo.PlannedLink) {
	for _, e := range []topo.PlannedEnd{l.A, l.B} {
		sw, i := n.plan.Switch(e.Node), n.plan.Interface(e)
		if sw == nil || sw.DPDK == nil || i == nil {
			continue
		}
		if flows := sw.DPDK.FlowsOut(i.Port); len(flows) > 0 {
			n.events.emit("WARN", e.Node, fmt.Sprintf("port %d (%s) is gone, and the packets are dropped that flows send there: %s", i.Port, i.Name, strings.Join(flows, "; ")))
		}
	}
}

// present returns the interfaces of a node that are there, and tells of those that vanished.
func (n *Network) present(name string, list []topo.Interface) (there []topo.Interface) {
	for _, i := range list {
		err := n.onDevice(topo.PlannedEnd{Node: name, Interface: i.Name}, func(*netlink.Handle, netlink.Link) error { return nil })
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) && n.memifOf(name, i) == nil { // which has no device
			n.events.emit("WARN", name, fmt.Sprintf("the NF manager starts without port %d: %s is gone", i.Port, i.Name))
			continue
		}
		there = append(there, i)
	}
	return there
}

// passesBy says what to change on a node whose ports are AF_XDP: these send past the kernel's
// queues and past captures at the port itself, and receive before them. It is nil for others.
func (n *Network) passesBy(name string) error {
	n.mu.Lock()
	sw, datapath := n.plan.Switch(name), n.portDatapath(name)
	n.mu.Unlock()
	switch {
	case sw == nil:
	case datapath == topo.DatapathAFXDP:
		return errors.New("take datapath=user")
	case sw.DPDK != nil && n.portKind(sw) == eal.XDP:
		return errors.New("take portKind packet")
	}
	return nil
}

// portKind is how the manager of a DPDK node reaches the ends of links.
func (n *Network) portKind(sw *topo.PlannedSwitch) eal.Kind {
	kind := cmp.Or(eal.Kind(sw.DPDK.PortKind), eal.Auto)
	if kind != eal.Auto {
		return kind
	}
	n.mu.Lock()
	h := n.hosts[sw.Name]
	n.mu.Unlock()
	if sw.DPDK.Manager != topo.ManagerDPDK || n.env.Confine != nil || h == nil {
		return eal.Packet // confined programs may load no XDP program
	}
	place, err := h.Place()
	if err != nil {
		return eal.Packet // nothing starts there
	}
	return eal.Choose([]eal.Port{{Kind: eal.Auto}}, place)[0].Kind
}
