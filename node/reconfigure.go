package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Reconfigure changes the addresses and the default route of a host from what Configure set
// to others, and tells the network of its new addresses. Interfaces that are not in both stay
// as they are.
func (h *Host) Reconfigure(from, to NetConfig) error {
	nl, err := h.net.Handle()
	if err != nil {
		return fmt.Errorf("host %s: %w", h.cfg.Name, err)
	}
	defer nl.Close()
	before := map[string]Address{}
	for _, a := range from.Addresses {
		before[a.Device] = a
	}
	for _, a := range to.Addresses {
		old, ok := before[a.Device]
		if !ok || old == a {
			continue
		}
		if err := h.readdress(nl, old, a); err != nil {
			return fmt.Errorf("host %s: interface %s: %w", h.cfg.Name, a.Device, err)
		}
	}
	switch {
	case to.Gateway.IsValid():
		err = nl.RouteReplace(&netlink.Route{Gw: to.Gateway.AsSlice()})
	case from.Gateway.IsValid():
		err = nl.RouteDel(&netlink.Route{Gw: from.Gateway.AsSlice()})
		if errors.Is(err, unix.ESRCH) {
			err = nil // it went with an address
		}
	}
	if err != nil {
		return fmt.Errorf("host %s: default route: %w", h.cfg.Name, err)
	}
	return nil
}

// readdress gives a device other addresses.
func (h *Host) readdress(nl *netlink.Handle, from, to Address) error {
	dev, err := nl.LinkByName(to.Device)
	if err != nil {
		return err
	}
	mac := dev.Attrs().HardwareAddr
	if from.MAC != to.MAC {
		if mac, err = net.ParseMAC(to.MAC); err != nil {
			return err
		}
		if err := nl.LinkSetHardwareAddr(dev, mac); err != nil {
			return fmt.Errorf("MAC %s: %w", mac, err)
		}
	}
	for _, p := range [][2]netip.Prefix{{from.IP, to.IP}, {from.IP6, to.IP6}} {
		if p[0] == p[1] {
			continue
		}
		// The old one first: others of its network would go with it.
		if p[0].IsValid() {
			if err := nl.AddrDel(dev, netlinkAddress(p[0])); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("remove address %s: %w", p[0], err)
			}
		}
		if p[1].IsValid() {
			if err := nl.AddrReplace(dev, netlinkAddress(p[1])); err != nil {
				return fmt.Errorf("address %s: %w", p[1], err)
			}
		}
	}
	if !to.IP.IsValid() {
		return nil
	}
	return h.net.Do(func() error { return announce(dev.Attrs().Index, mac, to.IP.Addr()) })
}

// announce tells all on a link in the calling thread's namespace who has an address now, by
// an ARP announcement (RFC 5227, section 2.3).
func announce(device int, mac net.HardwareAddr, ip netip.Addr) error {
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("announce %s: %w", ip, err)
	}
	defer unix.Close(s)
	arp := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, request
	arp = append(arp, mac...)
	arp = append(arp, ip.AsSlice()...)
	arp = append(arp, make([]byte, len(mac))...)
	arp = append(arp, ip.AsSlice()...)
	to := &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: device, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	if err := unix.Sendto(s, arp, 0, to); err != nil && !errors.Is(err, unix.ENETDOWN) {
		return fmt.Errorf("announce %s: %w", ip, err)
	}
	return nil
}

// bigEndian returns v as it lies in memory in network byte order.
func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// SetNeighbours makes permanent entries of the ARP and NDP tables for what device reaches, and
// removes those in gone that are not among them.
func (h *Host) SetNeighbours(device string, gone, list []Neighbour) error {
	nl, err := h.net.Handle()
	if err != nil {
		return fmt.Errorf("host %s: %w", h.cfg.Name, err)
	}
	defer nl.Close()
	dev, err := nl.LinkByName(device)
	if err != nil {
		return fmt.Errorf("host %s: interface %s: %w", h.cfg.Name, device, err)
	}
	stays := map[netip.Addr]bool{}
	for _, n := range list {
		stays[n.IP] = true
		if err := nl.NeighSet(neighbour(dev.Attrs().Index, n)); err != nil {
			return fmt.Errorf("host %s: neighbour %s: %w", h.cfg.Name, n.IP, err)
		}
	}
	for _, n := range gone {
		if stays[n.IP] {
			continue
		}
		if err := nl.NeighDel(neighbour(dev.Attrs().Index, n)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("host %s: remove neighbour %s: %w", h.cfg.Name, n.IP, err)
		}
	}
	return nil
}

func neighbour(device int, n Neighbour) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: device, State: netlink.NUD_PERMANENT, IP: n.IP.AsSlice(), HardwareAddr: n.MAC}
}

// netlinkAddress is an address for a device of a host.
func netlinkAddress(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // weft's addresses are unique
	}
	return a
}
