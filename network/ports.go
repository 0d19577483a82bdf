package network

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/topo"
)

// watchPorts tells when the kernel takes ports of switches up or down, whoever is the cause: a
// port is up while both ends of its link are. It ends with the network.
func (n *Network) watchPorts() {
	updates := make(chan netlink.LinkUpdate, 1024)
	w := &portWatch{Network: n, up: map[string]bool{}}
	subscribe := func(failed chan error) error {
		return netlink.LinkSubscribeWithOptions(updates, n.ended, netlink.LinkSubscribeOptions{
			ListExisting: true, ReceiveBufferSize: 1 << 20,
			ErrorCallback: func(err error) {
				select {
				case failed <- err:
				default:
				}
			},
		})
	}
	failed := make(chan error, 1)
	if err := subscribe(failed); err != nil {
		n.env.Log.Warn("changes of switch ports are not seen", "error", err)
		return
	}
	go func() {
		for {
			select {
			case u, ok := <-updates:
				if !ok {
					return
				}
				w.see(u)
			case err := <-failed:
				n.env.Log.Warn("changes of switch ports are not seen any more", "error", err)
				return
			case <-n.ended:
				return
			}
		}
	}()
}

// A portWatch knows the devices of ports and which of them are up.
type portWatch struct {
	*Network
	plan  *topo.Plan // whose ports are below
	ports map[string]topo.PlannedEnd
	up    map[string]bool
}

// see takes note of a device's state.
func (w *portWatch) see(u netlink.LinkUpdate) {
	device := u.Attrs().Name
	if u.Header.Type == unix.RTM_DELLINK {
		delete(w.up, device) // the link's removal has been told
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

// port returns the port that a device in the fabric is.
func (w *portWatch) port(device string) (topo.PlannedEnd, bool) {
	w.mu.Lock()
	plan := w.Network.plan
	w.mu.Unlock()
	if plan != w.plan {
		w.plan, w.ports = plan, map[string]topo.PlannedEnd{}
		for _, sw := range plan.Switches {
			for _, i := range sw.Interfaces {
				w.ports[i.Device] = topo.PlannedEnd{Node: sw.Name, Interface: i.Name}
			}
		}
	}
	p, ok := w.ports[device]
	return p, ok
}
