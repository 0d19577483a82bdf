package network

import (
	"fmt"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/topo"
)

// watchPorts tells when the kernel takes ports up or down, whoever is the cause: a port is up
// while both ends of its link are. They are those of a DPDK node, or with an empty name those of
// all other switches. It ends with the network, or when it is told to.
func (n *Network) watchPorts(node string) (stop func()) {
	updates := make(chan netlink.LinkUpdate, 1024)
	w := &portWatch{Network: n, node: node, up: map[string]bool{}}
	end := make(chan struct{})
	stop = sync.OnceFunc(func() { close(end) })
	subscribe := func(failed chan error) error {
		return n.netOf(node).Do(func() error {
			return netlink.LinkSubscribeWithOptions(updates, end, netlink.LinkSubscribeOptions{
				ListExisting: true, ReceiveBufferSize: 1 << 20,
				ErrorCallback: func(err error) {
					select {
					case failed <- err:
					default:
					}
				},
			})
		})
	}
	failed := make(chan error, 1)
	if err := subscribe(failed); err != nil {
		n.env.Log.Warn("changes of switch ports are not seen", "node", node, "error", err)
		return stop
	}
	go func() {
		defer stop()
		for {
			select {
			case u, ok := <-updates:
				if !ok {
					return
				}
				w.see(u)
			case <-end:
				return
			case err := <-failed:
				select {
				case <-end:
				case <-n.ended:
				default:
					n.env.Log.Warn("changes of switch ports are not seen any more", "node", node, "error", err)
				}
				return
			case <-n.ended:
				return
			}
		}
	}()
	return stop
}

// A portWatch knows the devices of ports and which of them are up.
type portWatch struct {
	*Network
	node  string     // whose ports these are; empty for all but DPDK nodes
	plan  *topo.Plan // whose ports are below
	ports map[string]topo.PlannedEnd
	up    map[string]bool
}

// see takes note of a device's state.
func (w *portWatch) see(u netlink.LinkUpdate) {
	device := u.Attrs().Name
	if u.Header.Type == unix.RTM_DELLINK {
		delete(w.up, device)
		if port, ok := w.port(device); ok {
			w.vanished(port)
		}
		return
	}
	up := u.IfInfomsg.Flags&unix.IFF_LOWER_UP != 0 && u.IfInfomsg.Flags&unix.IFF_UP != 0
	was, known := w.up[device]
	w.up[device] = up
	if was == up || !known {
		return
	}
	port, ok := w.port(device)
	if !ok {
		return
	}
	e := Event{Kind: KindPortDown, Node: port.Node, Interface: port.Interface, Message: port.Interface + " is down"}
	if up {
		e.Kind, e.Message = KindPortUp, port.Interface+" is up"
	}
	w.events.send(e)
}

// vanished tells of a port whose device went without its link: the removal of one is told
// elsewhere.
func (w *portWatch) vanished(port topo.PlannedEnd) {
	w.mu.Lock()
	plan, closed := w.Network.plan, w.closed
	w.mu.Unlock()
	i := plan.Interface(port)
	if i == nil || closed || w.runningLink(i.Link) == nil {
		return
	}
	k := slices.IndexFunc(plan.Links, func(l topo.PlannedLink) bool { return l.ID == i.Link })
	if k < 0 {
		return
	}
	ends := plan.Links[k].A.Node + " " + plan.Links[k].B.Node
	w.events.send(Event{Kind: KindPortDown, Level: "WARN", Node: port.Node, Interface: port.Interface,
		Message: fmt.Sprintf("%s is gone: it, or the other end of its link, was deleted; `del link %s` and `add link %s` make it anew", port.Interface, ends, ends)})
}

// port returns the port that a device is.
func (w *portWatch) port(device string) (topo.PlannedEnd, bool) {
	w.mu.Lock()
	plan := w.Network.plan
	w.mu.Unlock()
	if plan != w.plan {
		w.plan, w.ports = plan, map[string]topo.PlannedEnd{}
		for _, sw := range plan.Switches {
			if w.node != "" && sw.Name != w.node || w.node == "" && sw.DPDK != nil {
				continue
			}
			for _, i := range sw.Interfaces {
				w.ports[i.Device] = topo.PlannedEnd{Node: sw.Name, Interface: i.Name}
			}
		}
	}
	p, ok := w.ports[device]
	return p, ok
}
