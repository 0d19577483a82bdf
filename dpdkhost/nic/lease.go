package nic

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Request asks for a NIC for a network.
type Request struct {
	Loan
	// DPDK asks for it in the way that a DPDK program uses it (Machine.Way): that may be without
	// an interface.
	DPDK bool `json:"dpdk,omitempty"`
	// For says for whom: "network net1".
	For string `json:"for"`
}

// A Lease is a NIC that a network has.
type Lease struct {
	// Address of its card; empty if it has none.
	Address string `json:"address,omitempty"`
	Way     Way    `json:"way,omitempty"`    // if it is for DPDK
	Driver  string `json:"driver,omitempty"` // of its card
	// Name and MAC of its interface in the namespace that it was lent to; empty if it has none.
	Name string `json:"name,omitempty"`
	MAC  string `json:"mac,omitempty"`

	record  *Record
	machine Root
	to      int
}

// Take lends a NIC of the calling thread's network namespace: its interface to the namespace with
// the descriptor to, or the card itself to DPDK programs. Return puts it back.
func (j Journal) Take(ctx context.Context, machine Root, r Request, to int) (*Lease, error) {
	l := &Lease{machine: machine, to: to}
	if r.DPDK {
		done, err := j.takeCard(ctx, r, l)
		if err != nil || done {
			return l, err
		}
	}
	record, err := j.Lend(machine, r.Loan, to, r.For)
	if err != nil {
		return nil, err
	}
	l.record = record
	l.Address, l.Name, l.MAC = record.Lent.Address, r.Name, record.Lent.MAC
	if l.Name == "" {
		l.Name = record.Lent.Name
	}
	if r.MAC != "" {
		l.MAC = r.MAC
	}
	return l, nil
}

// takeCard gives a card to DPDK, unless DPDK needs its interface instead.
func (j Journal) takeCard(ctx context.Context, r Request, l *Lease) (done bool, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return false, fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	address, err := ParseAddress(r.NIC)
	if err != nil {
		dev, err := l.machine.find(h, r.NIC)
		if err != nil {
			return false, err
		}
		address = l.machine.addressOf(dev)
	}
	n, err := l.machine.joined(h, address)
	if err != nil {
		return false, err
	}
	c := l.machine.Machine().Way(n)
	l.Address, l.Way, l.Driver = n.Address, c.Way, n.Driver
	switch c.Way {
	case WayNone:
		return false, fmt.Errorf("DPDK cannot use %s: %s: %s", n.Address, c.Why, c.Mend)
	case WayBifurcated, WayXDP:
		return false, nil
	}
	l.Driver = c.Driver
	l.record, err = j.Bind(ctx, l.machine, n, Binding{Driver: c.Driver, Force: r.Force}, r.For)
	return true, err
}

// Return puts the NIC back.
func (l *Lease) Return(ctx context.Context) error {
	switch {
	case l.record == nil:
		return nil // it was as it had to be
	case l.record.Lent != nil:
		return l.record.GiveBack(ctx, l.machine, l.to)
	}
	return l.record.Undo(ctx, l.machine)
}
