package nic

import (
	"fmt"
	"slices"
)

// A Way is how a DPDK program gets at a card.
type Way string

// The ways, best first.
const (
	// WayBifurcated: DPDK works beside the kernel driver, which keeps the interface.
	WayBifurcated Way = "bifurcated"
	// WayXDP: the kernel driver passes frames on by AF_XDP sockets; the interface is lent.
	WayXDP Way = "af_xdp"
	// WayVFIO: the card is the program's, the IOMMU keeps it to the program's memory.
	WayVFIO Way = "vfio"
	// WayNoIOMMU and WayUIO: the same without an IOMMU; the card can write anywhere.
	WayNoIOMMU Way = "vfio without IOMMU"
	WayUIO     Way = "uio"
	// WayNone: not at all, as the machine is.
	WayNone Way = "none"
)

// A Choice is a way and its reason.
type Choice struct {
	Way Way `json:"way"`
	// Driver is the one that the card must have for it; empty: its own.
	Driver string `json:"driver,omitempty"`
	// Why in words. If there is no way or only a slow one, Mend is what would make a better one: as
	// a rule a command.
	Why  string `json:"why"`
	Mend string `json:"mend,omitempty"`
}

// bifurcated are drivers that share a card with DPDK: it needs no other.
var bifurcated = []string{"mlx4_core", "mlx5_core", "mana"}

// zeroCopy are drivers that receive straight into the memory of AF_XDP sockets (those that set
// NETDEV_XDP_ACT_XSK_ZEROCOPY). With others AF_XDP copies, and a driver of DPDK's own is faster.
var zeroCopy = []string{"i40e", "ice", "igb", "igc", "ixgbe", "nfp", "stmmac", "gve"}

// forDPDK are drivers that give a card to a process, in the order of preference.
var forDPDK = []string{"vfio-pci", "uio_pci_generic", "igb_uio"}

// Way says how a DPDK program would use a card, and why so.
func (m Machine) Way(n NIC) Choice {
	c := m.way(n)
	if c.Way == WayNone && m.AFXDP && n.Driver != "" {
		c.Way, c.Why = WayXDP, c.Why+", so the kernel copies each frame"
	}
	return c
}

// way is Way without AF_XDP that copies, which is the last resort.
func (m Machine) way(n NIC) Choice {
	hasIOMMU := n.Group != "" && m.IOMMU // vfio makes groups without one too
	switch {
	case n.Bus != pci:
		return Choice{Way: WayNone, Why: fmt.Sprintf("DPDK has no driver for the bus %s", n.Bus), Mend: "use a NIC on the PCI bus, or the manager weft, which takes any interface"}
	case n.Bifurcated():
		return Choice{Way: WayBifurcated, Why: fmt.Sprintf("%s shares the card with DPDK", n.Driver)}
	case n.Driver == "vfio-pci" && hasIOMMU:
		return Choice{WayVFIO, n.Driver, "it has that driver", ""}
	case n.Driver == "vfio-pci":
		return Choice{WayNoIOMMU, n.Driver, "it has that driver", ""}
	case n.Taken():
		return Choice{WayUIO, n.Driver, "it has that driver", ""}
	case m.AFXDP && slices.Contains(zeroCopy, n.Driver):
		return Choice{Way: WayXDP, Why: fmt.Sprintf("%s receives straight into AF_XDP sockets, and keeps the card", n.Driver)}
	case m.VFIO && hasIOMMU:
		return Choice{WayVFIO, "vfio-pci", "there is an IOMMU and vfio-pci", ""}
	case m.VFIO && m.NoIOMMU:
		return Choice{WayNoIOMMU, "vfio-pci", "there is no IOMMU, and vfio may do without", ""}
	case len(m.UIO) > 0:
		return Choice{WayUIO, m.UIO[0], "that driver is loaded", ""}
	case m.VFIO:
		return Choice{Way: WayNone, Why: "vfio-pci needs an IOMMU, and there is none",
			Mend: "boot with intel_iommu=on (or amd_iommu=on), or allow unsafe DMA: echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"}
	case hasIOMMU:
		return Choice{Way: WayNone, Why: "vfio-pci is not loaded", Mend: "modprobe vfio-pci"}
	}
	return Choice{Way: WayNone, Why: "there is no IOMMU, and no uio driver is loaded", Mend: "modprobe uio_pci_generic"}
}

// bindTo returns the driver that gives a card to a process.
func (m Machine) bindTo(n NIC) (string, error) {
	if n.Bifurcated() {
		return "", fmt.Errorf("DPDK uses it with its driver %s as it is; there is nothing to bind", n.Driver)
	}
	m.AFXDP = false // which needs no other driver
	c := m.way(n)
	if c.Way == WayNone {
		return "", fmt.Errorf("%s: %s", c.Why, c.Mend)
	}
	return c.Driver, nil
}

// Bifurcated reports whether DPDK uses the card beside its kernel driver.
func (n *NIC) Bifurcated() bool { return slices.Contains(bifurcated, n.Driver) }

// Taken reports whether the card is with a driver that gives it to a process.
func (n *NIC) Taken() bool { return slices.Contains(forDPDK, n.Driver) }
