package node

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"

	"weft/internal/ovs"
	"weft/topo"
)

// OVSPort is how a switch's interface is attached to Open vSwitch.
type OVSPort struct {
	topo.Interface
	Peer string // device of the other end of a patch; empty for a device that exists
}

// OVSBridge describes a switch to Open vSwitch. datapath is the one in force; local says
// that bridges of the user datapath have a device of their own.
func OVSBridge(sw topo.PlannedSwitch, datapath topo.Datapath, local bool, ports []OVSPort, controllers []string) ovs.Bridge {
	b := ovs.Bridge{
		Name: sw.Device, DPID: sw.DPID, Protocols: sw.Protocols, FailMode: sw.FailMode,
		Datapath: ovs.DatapathUser, STP: sw.STP, Controllers: controllers,
	}
	switch {
	case datapath == topo.DatapathKernel:
		b.Datapath = ovs.DatapathKernel
	case !local:
		b.Datapath = ovs.DatapathDummy
	}
	for _, p := range ports {
		b.Ports = append(b.Ports, OVSPortConfig(p, datapath))
	}
	return b
}

// OVSPortConfig describes one port to Open vSwitch.
func OVSPortConfig(p OVSPort, datapath topo.Datapath) ovs.Port {
	port := ovs.Port{Name: p.Device, Number: p.Port}
	switch {
	case p.Peer != "":
		port.Type, port.Peer, port.MAC = "patch", p.Peer, p.MAC
	case datapath == topo.DatapathAFXDP:
		port.Type = "afxdp"
	}
	return port
}

// LinuxBridge makes a Linux bridge (lxbr) and takes devices as its ports.
func LinuxBridge(h *netlink.Handle, sw topo.PlannedSwitch) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = sw.Device
	attrs.HardwareAddr = net.HardwareAddr{2, 0, byte(sw.DPID >> 24), byte(sw.DPID >> 16), byte(sw.DPID >> 8), byte(sw.DPID)}
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := h.LinkAdd(br); err != nil {
		return fmt.Errorf("make Linux bridge %s: %w", sw.Device, err)
	}
	for _, p := range sw.Interfaces {
		if err := BridgePort(h, sw.Device, p.Device); err != nil {
			return err
		}
	}
	if sw.STP {
		if err := os.WriteFile("/sys/class/net/"+sw.Device+"/bridge/stp_state", []byte("1"), 0); err != nil {
			return fmt.Errorf("spanning tree on Linux bridge %s: %w", sw.Device, err)
		}
	}
	if err := h.LinkSetUp(br); err != nil {
		return fmt.Errorf("Linux bridge %s up: %w", sw.Device, err)
	}
	return nil
}

// BridgePort makes a device a port of a Linux bridge.
func BridgePort(h *netlink.Handle, bridge, device string) error {
	br, err := h.LinkByName(bridge)
	if err == nil {
		var port netlink.Link
		if port, err = h.LinkByName(device); err == nil {
			err = h.LinkSetMaster(port, br)
		}
	}
	if err != nil {
		return fmt.Errorf("port %s of Linux bridge %s: %w", device, bridge, err)
	}
	return nil
}

// DeleteLinuxBridge removes a Linux bridge; its ports stay.
func DeleteLinuxBridge(h *netlink.Handle, device string) error {
	br, err := h.LinkByName(device)
	if err == nil {
		err = h.LinkDel(br)
	}
	if err != nil {
		return fmt.Errorf("remove Linux bridge %s: %w", device, err)
	}
	return nil
}
