package network

import (
	"context"
	"errors"
	"fmt"
	"io"

	"weft/dpdkhost/nic"
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
	if net == n.fabric {
		if err := n.openPort(i.Device); err != nil {
			return errors.Join(err, lease.Close())
		}
	}
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	n.links.running[l.ID] = r
	return nil
}

// openPort takes the device of a switch port up, which sends nothing by itself.
func (n *Network) openPort(device string) error {
	dev, err := n.nl.LinkByName(device)
	if err == nil {
		n.nl.LinkSetIP6AddrGenMode(dev, addrGenNone) // a kernel without IPv6 has nothing to turn off
		err = n.nl.LinkSetUp(dev)
	}
	if err != nil {
		return fmt.Errorf("%s up: %w", device, err)
	}
	return nil
}
