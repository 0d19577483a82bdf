// Package nic finds network cards on the PCI bus, says what stands between them and DPDK, and
// binds them to another driver and back. All it knows comes from a tree of files, "/" on a
// machine, so that tests can show it machines that they do not have. It imports nothing of
// weft's.
package nic

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Root is the tree of a machine: "/" or a fixture.
type Root string

func (r Root) path(elem ...string) string {
	return filepath.Join(append([]string{string(r)}, elem...)...)
}

// text returns the content of a file without white space around it; empty if there is none.
func (r Root) text(elem ...string) string {
	b, err := os.ReadFile(r.path(elem...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number returns the number in a file; otherwise the default.
func (r Root) number(otherwise int, elem ...string) int {
	n, err := strconv.ParseInt(r.text(elem...), 0, 64)
	if err != nil {
		return otherwise
	}
	return int(n)
}

// link returns the last element of what a symbolic link points to; empty if there is none.
func (r Root) link(elem ...string) string {
	target, err := os.Readlink(r.path(elem...))
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// names lists a directory; nothing if there is none.
func (r Root) names(elem ...string) []string {
	entries, err := os.ReadDir(r.path(elem...))
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (r Root) exists(elem ...string) bool {
	_, err := os.Lstat(r.path(elem...))
	return err == nil
}

// A NIC is a network card's function on the PCI bus.
type NIC struct {
	Address string `json:"address"` // PCI: domain:bus:device.function
	Vendor  uint16 `json:"vendor"`
	Device  uint16 `json:"device"`
	Model   string `json:"model,omitempty"` // from pci.ids
	Driver  string `json:"driver,omitempty"`
	// NUMA is the node that it belongs to; -1 where the machine has none.
	NUMA int `json:"numa"`
	// Group is the IOMMU group; empty without an IOMMU. GroupMates are the other devices in it
	// that are not bridges: they change hands together.
	Group      string   `json:"iommuGroup,omitempty"`
	GroupMates []Device `json:"groupMates,omitempty"`
	// Interfaces are its network interfaces, if its driver is the kernel's.
	Interfaces []Interface `json:"interfaces,omitempty"`
	// VirtualFunctions and MaxVirtualFunctions are those of SR-IOV; PhysicalFunction is the
	// address of the card's own function if this is a virtual one.
	VirtualFunctions    int    `json:"virtualFunctions,omitempty"`
	MaxVirtualFunctions int    `json:"maxVirtualFunctions,omitempty"`
	PhysicalFunction    string `json:"physicalFunction,omitempty"`
}

// A Device is a neighbour in an IOMMU group.
type Device struct {
	Address string `json:"address"`
	Driver  string `json:"driver,omitempty"`
}

// An Interface is what the kernel makes of a NIC.
type Interface struct {
	Name  string `json:"name"`
	MAC   string `json:"mac"`
	State string `json:"state"` // operstate (RFC 2863): up, down, unknown, …
	Up    bool   `json:"up"`    // administratively
	// Speed is in Mbit/s; 0 if it is not known.
	Speed     int      `json:"speed,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// DefaultRoute says that the machine's way out is over it.
	DefaultRoute bool `json:"defaultRoute,omitempty"`
}

const devices = "sys/bus/pci/devices"

var addressForm = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// ParseAddress reads a PCI address; the domain may be left out.
func ParseAddress(text string) (string, error) {
	a := strings.ToLower(strings.TrimSpace(text))
	if strings.Count(a, ":") == 1 {
		a = "0000:" + a
	}
	if !addressForm.MatchString(a) {
		return "", fmt.Errorf("%q is not a PCI address; write for example 0000:03:00.0, as weft dpdk status lists them", text)
	}
	return a, nil
}

// List returns the machine's NICs by address, without what the network stack knows of them
// (see Network).
func (r Root) List() ([]NIC, error) {
	entries, err := os.ReadDir(r.path(devices))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no PCI bus
	}
	if err != nil {
		return nil, fmt.Errorf("PCI devices: %w", err)
	}
	names := r.models()
	var list []NIC
	for _, e := range entries {
		// 0x02: network controllers (PCI Code and ID Assignment Specification, section 1.3).
		if class := r.number(0, devices, e.Name(), "class"); class>>16 != 2 {
			continue
		}
		list = append(list, r.read(e.Name(), names))
	}
	return list, nil
}

func (r Root) read(address string, names map[[2]uint16]string) NIC {
	n := NIC{
		Address:             address,
		Vendor:              uint16(r.number(0, devices, address, "vendor")),
		Device:              uint16(r.number(0, devices, address, "device")),
		Driver:              r.link(devices, address, "driver"),
		NUMA:                r.number(-1, devices, address, "numa_node"),
		Group:               r.link(devices, address, "iommu_group"),
		VirtualFunctions:    r.number(0, devices, address, "sriov_numvfs"),
		MaxVirtualFunctions: r.number(0, devices, address, "sriov_totalvfs"),
		PhysicalFunction:    r.link(devices, address, "physfn"),
	}
	n.Model = cmp.Or(names[[2]uint16{n.Vendor, n.Device}], names[[2]uint16{n.Vendor, 0}])
	if n.Group != "" {
		for _, mate := range r.names(devices, address, "iommu_group/devices") {
			// Bridges (class 0x06) stay with their driver: VFIO allows it.
			if mate != address && r.number(0, devices, mate, "class")>>16 != 6 {
				n.GroupMates = append(n.GroupMates, Device{mate, r.link(devices, mate, "driver")})
			}
		}
	}
	// virtio devices have theirs one floor down.
	for _, pattern := range []string{"net/*", "virtio*/net/*"} {
		found, _ := filepath.Glob(r.path(devices, address, pattern))
		for _, dir := range found {
			n.Interfaces = append(n.Interfaces, r.readInterface(dir))
		}
	}
	return n
}

func (r Root) readInterface(dir string) Interface {
	at := Root(dir)
	return Interface{
		Name: filepath.Base(dir), MAC: at.text("address"), State: at.text("operstate"),
		Up: at.number(0, "flags")&1 != 0, Speed: max(0, at.number(0, "speed")),
	}
}

// models reads the names of devices from pci.ids, where the machine has it; the name of device
// 0 is its vendor's.
func (r Root) models() map[[2]uint16]string {
	names := map[[2]uint16]string{}
	var text []byte
	for _, file := range []string{"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"} {
		if b, err := os.ReadFile(r.path(file)); err == nil {
			text = b
			break
		}
	}
	var vendor uint16
	var vendorName string
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.HasPrefix(line, "C ") {
			break // classes follow
		}
		isDevice := strings.HasPrefix(line, "\t")
		id, name, ok := strings.Cut(strings.TrimPrefix(line, "\t"), "  ")
		n, err := strconv.ParseUint(id, 16, 16)
		if !ok || err != nil || strings.HasPrefix(line, "\t\t") {
			continue
		}
		if isDevice {
			names[[2]uint16{vendor, uint16(n)}] = vendorName + " " + name
		} else {
			vendor, vendorName = uint16(n), name
			names[[2]uint16{vendor, 0}] = name
		}
	}
	return names
}

// bifurcated are drivers that share a card with DPDK: it needs no other.
var bifurcated = []string{"mlx4_core", "mlx5_core", "mana"}

// Bifurcated reports whether DPDK uses the card beside its kernel driver.
func (n *NIC) Bifurcated() bool { return slices.Contains(bifurcated, n.Driver) }

// forDPDK are drivers that give a card to a process.
var forDPDK = []string{"vfio-pci", "uio_pci_generic", "igb_uio"}

// Taken reports whether the card is with a driver that gives it to a process.
func (n *NIC) Taken() bool { return slices.Contains(forDPDK, n.Driver) }

// InUse returns why the card should stay where it is, in words; empty if nothing speaks for it.
func (n *NIC) InUse() string {
	for _, i := range n.Interfaces {
		switch {
		case i.DefaultRoute:
			return fmt.Sprintf("the machine's default route is over %s", i.Name)
		case i.Up && len(i.Addresses) > 0:
			return fmt.Sprintf("%s is up and has the address %s", i.Name, i.Addresses[0])
		}
	}
	for _, mate := range n.GroupMates {
		if mate.Driver != "" && !slices.Contains(forDPDK, mate.Driver) {
			return fmt.Sprintf("%s in the same IOMMU group %s is in use by the driver %s", mate.Address, n.Group, mate.Driver)
		}
	}
	return ""
}
