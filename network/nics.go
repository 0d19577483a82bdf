package network

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/vishvananda/netlink"

	"weft/dpdkhost/nic"
	"weft/internal/ns"
	"weft/internal/sandbox"
	"weft/topo"
)

// makeHW lends a NIC to the node at the other end of a link: its interface comes to the node's
// namespace, with the name that the plan gives it there.
func (n *Network) makeHW(ctx context.Context, l topo.PlannedLink) error {
	outside, node, _ := l.NIC()
	name, _ := topo.NIC(outside.Node)
	if n.env.Rootless {
		return fmt.Errorf("the NIC %s can be lent by root only: sudo weft …", name)
	}
	i := n.plan.Interface(node)
	net := n.netOf(node.Node)
	lease, err := n.env.Broker.Lend(ctx, net.FD(), nic.Request{Loan: nic.Loan{
		NIC: name, Name: i.Device, MAC: i.MAC, MTU: l.MTU, Force: l.Force,
	}})
	if err != nil {
		return err
	}
	r := &runningLink{driver: topo.LinkHW, settings: l.LinkSettings, lease: lease, record: io.NopCloser(nil)}
	for k, e := range []topo.PlannedEnd{l.A, l.B} {
		if e == node {
			r.ends[k].device = i.Device
		}
	}
	if n.plan.Switch(node.Node) != nil {
		if err := n.onDevice(node, openPort); err != nil {
			return errors.Join(err, lease.Close())
		}
	}
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	n.links.running[l.ID] = r
	return nil
}

// leases are NICs that a DPDK program has.
type leases []*sandbox.Lease

// Close gives them back.
func (l leases) Close() error {
	var errs []error
	for _, x := range l {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// leaseNICs takes the NICs of a DPDK node for its program, in the way that DPDK uses each: the card
// itself, or its interface in the node's namespace.
func (n *Network) leaseNICs(ctx context.Context, sw topo.PlannedSwitch, net *ns.Net) (list leases, err error) {
	for _, name := range sw.DPDK.NICs {
		l, err := n.env.Broker.Lend(ctx, net.FD(), nic.Request{Loan: nic.Loan{NIC: name}, DPDK: true})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("dpdk node %s: %w", sw.Name, err), list.Close())
		}
		list = append(list, l)
	}
	return list, nil
}

// openPort takes a NIC up as the port of a switch or DPDK node: it receives what is for others
// too, and sends nothing by itself.
func openPort(h *netlink.Handle, dev netlink.Link) error {
	h.LinkSetIP6AddrGenMode(dev, addrGenNone) // a kernel without IPv6 has nothing to turn off
	if err := h.SetPromiscOn(dev); err != nil {
		return fmt.Errorf("promiscuous: %w", err)
	}
	return h.LinkSetUp(dev)
}
