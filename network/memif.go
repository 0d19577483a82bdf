package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"weft/dpdkhost/memif"
	"weft/topo"
)

// A memif link is memory that the managers of two DPDK nodes share, or one and a program outside.
// The link itself is a socket, by which they agree on that memory; each side finds the other
// again when it starts anew.
//
//	manager of nf1 ─ server ── socket ── client ─ manager of nf2

// errNoDevices says what cannot be done to such a link.
var errNoDevices = errors.New("it is memory that managers share (memif), with no device to take down, cut or impair; make it a veth link for that")

// memifDir has the sockets of links.
func (n *Network) memifDir() string { return filepath.Join(n.env.Dir, "memif") }

// makeMemif makes what there is of a memif link before its nodes start.
func (n *Network) makeMemif(l topo.PlannedLink) (*runningLink, error) {
	if err := os.MkdirAll(n.memifDir(), 0o700); err != nil {
		return nil, err
	}
	return &runningLink{driver: topo.LinkMemif, settings: l.LinkSettings, record: noRecord{}}, nil
}

// noRecord is the record of a link that has none.
type noRecord struct{}

func (noRecord) Close() error { return nil }

// memifOf returns the node's side of a link that is shared memory, nil if i is an end of another.
func (n *Network) memifOf(name string, i topo.Interface) *memif.Config {
	l := n.linkOf(i)
	if l == nil || l.Driver != topo.LinkMemif {
		return nil
	}
	c := &memif.Config{Name: name[:min(len(name), 31)]} // as much as memif has room for
	if outside, _, ok := l.Outside(); ok {
		m, _, err := topo.ParseMemif(outside.Node)
		if err != nil {
			return nil // the plan has checked it
		}
		c.Socket, c.ID, c.Server, c.Secret = m.Socket, m.ID, m.Server, m.Secret
		return c
	}
	c.Socket = filepath.Join(n.memifDir(), strconv.Itoa(l.ID))
	c.Server = n.memifServer(l) == name
	return c
}

// memifServer returns the node that serves the socket of a link between nodes: a DPDK program, since
// it is weft's managers that never tire of connecting; else A.
func (n *Network) memifServer(l *topo.PlannedLink) string {
	if b := n.plan.Switch(l.B.Node); b != nil && b.DPDK != nil && b.DPDK.Manager == topo.ManagerDPDK {
		return l.B.Node
	}
	return l.A.Node
}

// memifTime bounds how long a manager is waited for that tells of a link.
const memifTime = 2 * time.Second

// memifState completes the state of a memif link by what a manager of weft's at one of its ends
// tells: it is up while the other side is connected.
func (n *Network) memifState(l topo.PlannedLink, s *LinkState) {
	for k, e := range []topo.PlannedEnd{l.A, l.B} {
		sw := n.plan.Switch(e.Node)
		if sw == nil || sw.DPDK == nil || sw.DPDK.Manager != topo.ManagerWeft {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), memifTime)
		st, err := n.NFs(ctx, e.Node)
		cancel()
		if err != nil {
			continue
		}
		for _, p := range st.Ports {
			if p.Name != e.Interface {
				continue
			}
			s.Up = [2]bool{p.Peer != "", p.Peer != ""}
			c := &[2]LinkCounters{}
			c[k].Delivered, c[k].DeliveredBytes, c[k].Down = p.Sent, p.TxBytes, p.TxDrops
			c[1-k].Delivered, c[1-k].DeliveredBytes, c[1-k].Down = p.Received, p.RxBytes, p.RxDrops
			s.Counters = c
			return
		}
	}
}

// memifConnects bounds how long the managers of two nodes that run may take to find each other.
const memifConnects = 10 * time.Second

// awaitMemif waits until managers that share memory are connected, so that no first packet is
// lost. Programs outside come when they like.
func (n *Network) awaitMemif(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, memifConnects)
	defer cancel()
	for _, l := range n.plan.Links {
		for l.Driver == topo.LinkMemif && n.managed(l.A.Node) && n.managed(l.B.Node) {
			var s LinkState
			if n.memifState(l, &s); s.Up[0] {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("link %s: the managers of its ends do not find each other within %v (memif)", linkTitle(l), memifConnects)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// managed reports whether a DPDK node's manager runs.
func (n *Network) managed(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dpdk[name] != nil
}

// closeMemif removes the socket of a link between nodes.
func (n *Network) closeMemif(l topo.PlannedLink) error {
	if err := os.Remove(filepath.Join(n.memifDir(), strconv.Itoa(l.ID))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("socket: %w", err)
	}
	return nil
}
