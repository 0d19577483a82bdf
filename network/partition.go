package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"weft/link"
	"weft/topo"
)

// A partition keeps groups of nodes apart, by two rules that hold in every topology:
//
//   - no link between nodes of different groups carries anything;
//   - nothing reaches a host, over whatever way, that a host of another group has sent: the
//     node at the other end of each of its links drops that by its source MAC, and, where a
//     router has put its own in that place, by its source address.
//
// Nodes in no group hear everybody and are heard by all.

// startPartition partitions the network, or partitions it otherwise.
func (n *Network) startPartition(ctx context.Context, groups [][]string) (Fault, error) {
	n.change.Lock()
	defer n.change.Unlock()
	in, err := n.plan.Partition(groups)
	if err != nil {
		return Fault{}, fmt.Errorf("partition: %w", err)
	}
	if err := n.partition(ctx, in); err != nil {
		return Fault{}, fmt.Errorf("partition: %w", err)
	}
	// The one before has nothing to put right any more.
	if old := n.links.partition; old != nil {
		old.replaced = true
		old.stop()
	}
	p := &partition{groups: groups}
	f, err := n.startFault("partition", "partition "+topo.FormatGroups(groups), 0, func(ctx context.Context, _ func(int, time.Time)) error {
		<-ctx.Done()
		if n.ending() {
			return nil
		}
		n.change.Lock()
		defer n.change.Unlock()
		if p.replaced {
			return nil
		}
		n.links.partition = nil
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
		defer cancel()
		return n.partition(ctx, nil)
	})
	if err != nil {
		return Fault{}, err
	}
	p.stop = func() { n.stopFault(f.ID) }
	n.links.partition = p
	return f, nil
}

// A partition is the one that is in force. It is guarded by Network.change.
type partition struct {
	groups   [][]string
	stop     func()
	replaced bool
}

// repartition lets what was added to the network have its part in the partition. n.change is
// held.
func (n *Network) repartition(ctx context.Context) error {
	p := n.links.partition
	if p == nil {
		return nil
	}
	var groups [][]string // of those that are still there
	for _, g := range p.groups {
		g = slices.DeleteFunc(slices.Clone(g), func(name string) bool {
			return name != topo.Rest && n.plan.Host(name) == nil && n.plan.Switch(name) == nil
		})
		if len(g) > 0 {
			groups = append(groups, g)
		}
	}
	var in map[string]int
	if len(groups) > 1 {
		var err error
		if in, err = n.plan.Partition(groups); err != nil {
			return fmt.Errorf("partition: %w", err)
		}
	}
	return n.partition(ctx, in)
}

// partition keeps the nodes that are in groups apart; without any it heals. n.change is held.
func (n *Network) partition(ctx context.Context, in map[string]int) error {
	var changes []endsChange
	used := map[*link.Gates]map[int]bool{} // groups whose bars a namespace needs
	for _, l := range n.plan.Links {
		r := n.runningLink(l.ID)
		if r == nil {
			continue
		}
		c := endsChange{l, r, r.ends}
		a, b := in[l.A.Node], in[l.B.Node]
		for i, end := range []struct {
			node, peer  string
			near, other int
		}{{l.A.Node, l.B.Node, a, b}, {l.B.Node, l.A.Node, b, a}} {
			c.next[i].barred = ""
			switch {
			case end.near != 0 && end.other != 0 && end.near != end.other:
				c.next[i].barred = barAll
			case end.other != 0 && n.plan.Host(end.peer) != nil:
				c.next[i].barred = barName(end.other)
				g := n.gatesOf(end.node)
				if used[g] == nil {
					used[g] = map[int]bool{}
				}
				used[g][end.other] = true
			}
		}
		changes = append(changes, c)
	}
	for g, groups := range used {
		for group := range groups {
			if err := g.SetBar(barName(group), n.strangers(in, group)); err != nil {
				return err
			}
		}
	}
	if err := n.setAllEnds(ctx, changes); err != nil {
		return err
	}
	n.links.mu.Lock()
	var all []*link.Gates
	for _, g := range n.links.gates {
		all = append(all, g)
	}
	n.links.mu.Unlock()
	for _, g := range all {
		if len(in) == 0 {
			if err := g.DeleteBars(); err != nil {
				return err
			}
		}
	}
	return nil
}

func barName(group int) string { return fmt.Sprintf("group%d", group) }

// strangers are the hosts in other groups.
func (n *Network) strangers(in map[string]int, group int) link.Bar {
	var b link.Bar
	for _, h := range n.plan.Hosts {
		if g := in[h.Name]; g == 0 || g == group {
			continue
		}
		for _, i := range h.Interfaces {
			if i.MAC != "" { // a NIC's own is not known; its addresses are
				b.MACs = append(b.MACs, i.MAC)
			}
			for _, p := range []netip.Prefix{i.IP, i.IP6} {
				if p.IsValid() && !slices.Contains(b.Addresses, p.Addr()) {
					b.Addresses = append(b.Addresses, p.Addr())
				}
			}
		}
	}
	return b
}
