package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/port"
	"weft/internal/ovs"
	"weft/internal/probe"
	"weft/node"
	"weft/topo"
)

// chooseDatapath returns the datapath of switches that say auto: the kernel's if this
// kernel has the openvswitch module, else ovs-vswitchd's own. As root, asking loads it.
func chooseDatapath(plan *topo.Plan) (topo.Datapath, error) {
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	for _, sw := range plan.Switches {
		if sw.Datapath == topo.DatapathKernel && err != nil {
			return "", fmt.Errorf("switch %s: this kernel has no openvswitch module: take datapath=user, or `sudo modprobe openvswitch`", sw.Name)
		}
	}
	if err != nil {
		return topo.DatapathUser, nil
	}
	return topo.DatapathKernel, nil
}

// usable says why a switch cannot be built here, nil if it can.
func (n *Network) usable(sw topo.PlannedSwitch) error {
	if sw.DPDK != nil && sw.DPDK.Manager == topo.ManagerWeft {
		c := n.managerConfig(sw, nil)
		if err := c.Validate(); err != nil {
			return fmt.Errorf("dpdk node %s: %w", sw.Name, err)
		}
		if sw.DPDK.PortKind == string(port.XDP) && n.env.Rootless {
			return fmt.Errorf("dpdk node %s: AF_XDP ports need root: take portKind packet, or leave it out", sw.Name)
		}
	}
	if sw.Datapath == topo.DatapathAFXDP && n.env.Rootless {
		return fmt.Errorf("switch %s: AF_XDP ports need root: take datapath=user", sw.Name)
	}
	if sw.Local && n.portDatapath(sw.Name) != topo.DatapathKernel {
		if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
			return fmt.Errorf("switch %s: a local port needs /dev/net/tun (%w): `sudo chmod 666 /dev/net/tun`, or leave local out", sw.Name, err)
		}
		if !n.local {
			return fmt.Errorf("switch %s: the network was started without local ports: leave local out", sw.Name)
		}
	}
	for _, i := range sw.Interfaces {
		l := n.linkOf(i)
		if l == nil || l.Driver != topo.LinkPatch {
			continue
		}
		if a, b := n.bridgeType(l.A.Node), n.bridgeType(l.B.Node); a != b {
			return fmt.Errorf("link %s–%s: a patch joins switches of one datapath, these have %s and %s", l.A.Node, l.B.Node, a, b)
		}
	}
	return nil
}

// localPorts says whether bridges of the user datapath have a device each, as a switch of
// the plan asks for. All have or none: patches join bridges of one kind.
func localPorts(plan *topo.Plan) bool {
	return slices.ContainsFunc(plan.Switches, func(sw topo.PlannedSwitch) bool { return sw.Local })
}

func (n *Network) linkOf(i topo.Interface) *topo.PlannedLink {
	for k := range n.plan.Links {
		if n.plan.Links[k].ID == i.Link {
			return &n.plan.Links[k]
		}
	}
	return nil
}

// portDatapath returns the datapath in force on a switch; empty for others.
func (n *Network) portDatapath(name string) topo.Datapath {
	sw := n.plan.Switch(name)
	switch {
	case sw == nil || !sw.Driver.OVS():
		return ""
	case sw.Datapath == topo.DatapathAuto:
		return n.datapath
	}
	return sw.Datapath
}

// bridgeType names who forwards: the kernel or ovs-vswitchd.
func (n *Network) bridgeType(name string) topo.Datapath {
	if d := n.portDatapath(name); d != topo.DatapathAFXDP {
		return d
	}
	return topo.DatapathUser
}

// startOVS starts Open vSwitch beside other work, once.
func (n *Network) startOVS(ctx context.Context) {
	if n.ovsReady != nil {
		return
	}
	tso := true
	for _, sw := range n.plan.Switches {
		// AF_XDP ports carry no segments longer than a frame.
		tso = tso && n.portDatapath(sw.Name) != topo.DatapathAFXDP
	}
	type result struct {
		i   *ovs.Instance
		err error
	}
	ch := make(chan result, 1)
	go func() {
		if err := os.MkdirAll(n.ovsDir(), 0o700); err != nil {
			ch <- result{nil, err}
			return
		}
		i, err := ovs.Start(ctx, ovs.Config{Dir: n.ovsDir(), UserTSO: tso, Ignore: probe.EtherType, Dummy: !n.local, Log: n.env.Log, OnRestart: func(daemon string, cause error) {
			n.events.emit("WARN", "", fmt.Sprintf("%s ended (%v) and was started again", daemon, cause))
		}, OnFailure: func(err error) {
			n.events.emit("ERROR", "", fmt.Sprintf("Open vSwitch stays down: %v", err))
		}})
		ch <- result{i, err}
	}()
	n.ovsReady = sync.OnceValues(func() (*ovs.Instance, error) {
		r := <-ch
		return r.i, r.err
	})
}

// startSwitches makes switches forward: all Open vSwitch bridges in one transaction.
func (n *Network) startSwitches(ctx context.Context, switches []topo.PlannedSwitch) error {
	var bridges []ovs.Bridge
	for _, sw := range switches {
		if sw.Driver == topo.DriverLinux {
			if err := node.LinuxBridge(n.nl, sw); err != nil {
				return fmt.Errorf("switch %s: %w", sw.Name, err)
			}
			continue
		}
		if sw.DPDK != nil {
			if err := n.startDPDK(ctx, sw); err != nil {
				return fmt.Errorf("switch %s: %w", sw.Name, err)
			}
			continue
		}
		targets, err := n.openChannels(sw)
		if err != nil {
			return err
		}
		bridges = append(bridges, node.OVSBridge(sw, n.portDatapath(sw.Name), n.local, n.ovsPorts(sw), targets))
	}
	if len(bridges) > 0 {
		if err := n.ovs.AddBridges(ctx, bridges...); err != nil {
			return fmt.Errorf("start switches: %w", err)
		}
	}
	for _, sw := range switches {
		if err := n.listen(ctx, sw); err != nil {
			return err
		}
	}
	for _, sw := range switches {
		n.mu.Lock()
		n.running[sw.Name] = true
		n.mu.Unlock()
		n.events.send(Event{Kind: KindStarted, Node: sw.Name, Message: "started"})
	}
	return nil
}

func (n *Network) ovsPorts(sw topo.PlannedSwitch) []node.OVSPort {
	ports := make([]node.OVSPort, 0, len(sw.Interfaces))
	for _, i := range sw.Interfaces {
		ports = append(ports, n.ovsPort(i))
	}
	return ports
}

func (n *Network) ovsPort(i topo.Interface) node.OVSPort {
	p := node.OVSPort{Interface: i}
	if l := n.linkOf(i); l != nil && l.Driver == topo.LinkPatch {
		peer := l.A
		if peer.Interface == i.Name {
			peer = l.B
		}
		p.Peer = n.plan.Interface(peer).Device
	}
	return p
}

// SetSwitch starts or stops a switch. A stopped switch has no bridge; its ports stay, and are
// down: its neighbours notice, as they do of one that is switched off.
func (n *Network) SetSwitch(ctx context.Context, name string, running bool) error {
	n.change.Lock()
	defer n.change.Unlock()
	sw := n.plan.Switch(name)
	if sw == nil {
		return fmt.Errorf("no switch named %s", name)
	}
	n.mu.Lock()
	is := n.running[name]
	n.mu.Unlock()
	if is == running {
		return nil
	}
	if running {
		if err := n.setPorts(*sw, true); err != nil {
			return err
		}
		if err := n.startSwitches(ctx, []topo.PlannedSwitch{*sw}); err != nil {
			return err
		}
		if err := n.awaitMemif(ctx); err != nil {
			return err
		}
		return n.cutPatches(ctx, name)
	}
	if err := n.stopSwitch(ctx, *sw); err != nil {
		return err
	}
	return n.setPorts(*sw, false)
}

// releaseTime bounds how long Open vSwitch may take to let a port go.
const releaseTime = 2 * time.Second

// setPorts takes the ports of a switch down with it, or up again: but those of links that are
// down, whose other end says so.
func (n *Network) setPorts(sw topo.PlannedSwitch, up bool) error {
	released := time.Now().Add(releaseTime)
	var errs []error
	for _, l := range n.plan.Links {
		for i, e := range []topo.PlannedEnd{l.A, l.B} {
			peer := []topo.PlannedEnd{l.B, l.A}[i]
			if e.Node != sw.Name || l.Driver == topo.LinkPatch || l.Driver == topo.LinkMemif || up && !n.isOff(peer.Node) && !n.linkState(l, false).Up[1-i] {
				continue
			}
			errs = append(errs, n.onDevice(e, func(h *netlink.Handle, dev netlink.Link) (err error) {
				if up {
					return h.LinkSetUp(dev)
				}
				// Open vSwitch lets go of a port after it has said that it is gone, and then
				// sets all of its flags, as it remembers them.
				for dev.Attrs().RawFlags&unix.IFF_PROMISC != 0 && time.Now().Before(released) {
					time.Sleep(time.Millisecond)
					if dev, err = h.LinkByName(dev.Attrs().Name); err != nil {
						return err
					}
				}
				return h.LinkSetDown(dev)
			}))
		}
	}
	return errors.Join(errs...)
}

// isOff reports whether a node is a switch that is stopped.
func (n *Network) isOff(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.plan.Switch(name) != nil && !n.running[name]
}

func (n *Network) stopSwitch(ctx context.Context, sw topo.PlannedSwitch) error {
	var err error
	if sw.DPDK != nil {
		err = n.stopDPDK(sw.Name)
	} else if sw.Driver == topo.DriverLinux {
		err = node.DeleteLinuxBridge(n.nl, sw.Device)
	} else {
		err = n.ovs.DeleteBridges(ctx, sw.Device)
	}
	if err != nil {
		return fmt.Errorf("stop switch %s: %w", sw.Name, err)
	}
	n.mu.Lock()
	delete(n.running, sw.Name)
	n.mu.Unlock()
	n.events.send(Event{Kind: KindStopped, Node: sw.Name, Message: "stopped"})
	return errors.Join(n.unlisten(sw.Name),
		n.closeChannels(func(ch channel) bool { return ch.Switch == sw.Name }))
}

// closeChannels ends the control channels that match.
func (n *Network) closeChannels(match func(channel) bool) error {
	var errs []error
	n.mu.Lock()
	defer n.mu.Unlock()
	for ch, r := range n.relays {
		if match(ch) {
			errs = append(errs, r.Close())
			delete(n.relays, ch)
			delete(n.targets, ch)
		}
	}
	errs = append(errs, n.endExperiments(match))
	return errors.Join(errs...)
}
