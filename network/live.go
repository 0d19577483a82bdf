package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"weft/internal/ovs"
	"weft/topo"
)

// edit applies a change to a copy of the plan, then to the network, and takes the copy as
// the plan if both went well. n.change is held.
func (n *Network) edit(change func(*topo.Plan) error, realise func() error, undo func()) error {
	before := n.plan
	next := before.Clone()
	if err := change(next); err != nil {
		return err
	}
	n.setPlan(next)
	n.tellTopology() // before a port between switches comes up
	if err := realise(); err != nil {
		if undo != nil {
			undo()
		}
		n.setPlan(before)
		n.tellTopology()
		return err
	}
	return n.writeEtc()
}

func (n *Network) setPlan(p *topo.Plan) {
	n.mu.Lock()
	n.plan = p
	n.mu.Unlock()
}

// AddHost adds a host without interfaces.
func (n *Network) AddHost(ctx context.Context, h topo.Host) (added topo.PlannedHost, err error) {
	n.change.Lock()
	defer n.change.Unlock()
	err = n.edit(func(p *topo.Plan) (err error) {
		added, err = p.AddHost(h)
		return err
	}, func() error {
		if err := n.makeHosts(ctx, []topo.PlannedHost{added}, &reporter{}); err != nil {
			return err
		}
		return n.configureHost(&added)
	}, func() { n.dropHost(h.Name) })
	n.nodeEvent(err, KindNodeAdded, h.Name, "added")
	return added, err
}

// nodeEvent tells of a change of a node, unless it failed.
func (n *Network) nodeEvent(err error, kind, name, what string) {
	if err == nil {
		n.events.send(Event{Kind: kind, Node: name, Message: what})
	}
}

func (n *Network) dropHost(name string) error {
	n.mu.Lock()
	h, up := n.hosts[name], n.uplinks[name]
	delete(n.hosts, name)
	delete(n.uplinks, name)
	n.mu.Unlock()
	var errs []error
	if up != nil {
		errs = append(errs, up.Close())
	}
	if h != nil {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// AddSwitch adds a switch without ports, and starts it if the network is started.
func (n *Network) AddSwitch(ctx context.Context, s topo.Switch) (added topo.PlannedSwitch, err error) {
	n.change.Lock()
	defer n.change.Unlock()
	err = n.edit(func(p *topo.Plan) (err error) {
		added, err = p.AddSwitch(s)
		return err
	}, func() (err error) {
		if err := n.usable(added); err != nil {
			return err
		}
		if err := n.makeDPDK([]topo.PlannedSwitch{added}); err != nil {
			return err
		}
		if added.Driver.OVS() && n.ovs == nil {
			n.startOVS(ctx)
			if n.ovs, err = n.ovsReady(); err != nil {
				return err
			}
		}
		if !n.isUp {
			return nil
		}
		return n.startSwitches(ctx, []topo.PlannedSwitch{added})
	}, func() {
		if added.DPDK != nil {
			n.dropHost(added.Name)
		}
	})
	n.nodeEvent(err, KindNodeAdded, s.Name, "added")
	return added, err
}

// AddLink adds a link. A host's first interface gets the address that the host has or is
// due; its switch sees a new port.
func (n *Network) AddLink(ctx context.Context, l topo.Link) (added topo.PlannedLink, err error) {
	n.change.Lock()
	defer n.change.Unlock()
	startAgain := func() error { return nil }
	err = n.edit(func(p *topo.Plan) (err error) {
		added, err = p.AddLink(l)
		return err
	}, func() error {
		for _, e := range []topo.PlannedEnd{added.A, added.B} {
			if sw := n.plan.Switch(e.Node); sw != nil {
				if err := n.usable(*sw); err != nil {
					return err
				}
			}
		}
		if err := n.makeLinks(ctx, []topo.PlannedLink{added}, &reporter{}); err != nil {
			return err
		}
		if err := n.attach(ctx, []topo.PlannedEnd{added.A, added.B}); err != nil {
			return err
		}
		if err := n.awaitMemif(ctx); err != nil {
			return err
		}
		n.linkEvent(added, "added")
		return n.repartition(ctx)
	}, func() { startAgain, _ = n.detach(context.WithoutCancel(ctx), added) })
	if err != nil {
		return added, errors.Join(err, startAgain())
	}
	n.events.send(Event{Kind: KindLinkAdded, Link: added.A.Node + "-" + added.B.Node, Message: "added"})
	return added, nil
}

// detach takes links out of their switches, all at once, and deletes their devices. startAgain is
// to be called when the plan is without them.
func (n *Network) detach(ctx context.Context, links ...topo.PlannedLink) (startAgain func() error, err error) {
	var ports []ovs.Bridge
	var ends []topo.PlannedEnd
	for _, l := range links {
		for _, e := range []topo.PlannedEnd{l.A, l.B} {
			ends = append(ends, e)
			i, sw := n.plan.Interface(e), n.plan.Switch(e.Node)
			if i != nil && sw != nil && !n.isOff(e.Node) && sw.Driver.OVS() {
				ports = append(ports, ovs.Bridge{Name: sw.Device, Ports: []ovs.Port{{Name: i.Device}}})
			}
		}
	}
	startAgain, err = n.unplug(ctx, ends)
	errs := []error{err}
	if len(ports) > 0 {
		errs = append(errs, n.ovs.DeletePorts(ctx, ports...))
	}
	for _, l := range links {
		if err := n.unmakeLink(l); err != nil {
			errs = append(errs, fmt.Errorf("link %s: %w", linkTitle(l), err))
		}
	}
	return startAgain, errors.Join(errs...)
}

// onDevice calls f with the device of an interface and a handle in its namespace.
func (n *Network) onDevice(e topo.PlannedEnd, f func(*netlink.Handle, netlink.Link) error) error {
	n.mu.Lock()
	i := n.plan.Interface(e)
	n.mu.Unlock()
	if i == nil {
		return fmt.Errorf("%s has no interface %s", e.Node, e.Interface)
	}
	h := n.nl
	if net := n.netOf(e.Node); net != n.fabric {
		var err error
		if h, err = net.Handle(); err != nil {
			return err
		}
		defer h.Close()
	}
	dev, err := h.LinkByName(i.Device)
	if err == nil {
		err = f(h, dev)
	}
	if err != nil {
		return fmt.Errorf("interface %s of %s: %w", e.Interface, e.Node, err)
	}
	return nil
}

// DeleteLink removes all links between two nodes.
func (n *Network) DeleteLink(ctx context.Context, a, b string) error {
	n.change.Lock()
	defer n.change.Unlock()
	links, err := n.linksBetween(a, b)
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		if err := n.canUnplug(l, ""); err != nil {
			return err
		}
	}
	for _, l := range links {
		errs = append(errs, n.removeLink(ctx, l))
	}
	return errors.Join(errs...)
}

func (n *Network) removeLink(ctx context.Context, l topo.PlannedLink) error {
	startAgain, err := n.detach(ctx, l)
	if err != nil {
		return errors.Join(err, startAgain())
	}
	n.linkEvent(l, "removed")
	n.tellUnplugged(l)
	err = n.edit(func(p *topo.Plan) error { return p.RemoveLink(l.ID) }, func() error { return nil }, nil)
	if err == nil {
		n.events.send(Event{Kind: KindLinkRemoved, Link: l.A.Node + "-" + l.B.Node, Message: "removed"})
	}
	return errors.Join(err, startAgain())
}

// linksBetween returns the links between two nodes, at least one.
func (n *Network) linksBetween(a, b string) ([]topo.PlannedLink, error) {
	for _, name := range []string{a, b} {
		if !topo.Outside(name) && n.plan.Host(name) == nil && n.plan.Switch(name) == nil {
			return nil, fmt.Errorf("no host or switch named %s", name)
		}
	}
	links := n.plan.LinksBetween(a, b)
	if len(links) == 0 {
		return nil, fmt.Errorf("no link between %s and %s", a, b)
	}
	return links, nil
}

// DeleteNode removes a host or a switch with its links.
func (n *Network) DeleteNode(ctx context.Context, name string) error {
	n.change.Lock()
	defer n.change.Unlock()
	sw := n.plan.Switch(name)
	if sw == nil && n.plan.Host(name) == nil {
		return fmt.Errorf("no host or switch named %s", name)
	}
	if err := n.plan.Clone().RemoveNode(name); err != nil {
		return err // before anything is gone
	}
	links := slices.DeleteFunc(slices.Clone(n.plan.Links), func(l topo.PlannedLink) bool { return l.A.Node != name && l.B.Node != name })
	for _, l := range links {
		if err := n.canUnplug(l, name); err != nil {
			return err
		}
	}
	if sw != nil { // before its links go, one after the other
		if err := n.endSwitch(ctx, *sw); err != nil {
			return err
		}
	}
	for _, l := range links {
		if err := n.removeLink(ctx, l); err != nil {
			return err
		}
	}
	n.endTasks(name)
	err := n.edit(func(p *topo.Plan) error { return p.RemoveNode(name) },
		func() error { return n.dropHost(name) }, nil)
	n.nodeEvent(err, KindNodeRemoved, name, "removed")
	return err
}

// endSwitch ends a switch and what runs in its name.
func (n *Network) endSwitch(ctx context.Context, sw topo.PlannedSwitch) error {
	n.mu.Lock()
	running, sh := n.running[sw.Name], n.shells[sw.Name]
	delete(n.shells, sw.Name)
	n.mu.Unlock()
	if sh != nil {
		sh.Close()
	}
	n.endTasks(sw.Name)
	if !running {
		return nil
	}
	return n.stopSwitch(ctx, sw)
}
