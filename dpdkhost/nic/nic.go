// Package nic finds the machine's network cards (NICs), says what stands between them and DPDK,
// binds them to another driver, lends their interfaces to network namespaces, and puts all back.
//
//	Root: /sys, /proc ──► NIC, Machine ──► Way, Obstacles      what there is, and what to do
//	Journal ──► Record ──► Bind, Lend, SetPages ──► Undo       what is changed, and put back
//
// What it knows of cards comes from a tree of files, "/" on a machine, so that tests can show
// it machines that they do not have. It imports nothing of weft's.
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

// A NIC is a network card's function on the PCI bus, or a physical interface of another bus.
type NIC struct {
	// Address on the bus; on PCI domain:bus:device.function.
	Address string `json:"address"`
	Bus     string `json:"bus"` // pci; others are not DPDK's: usb, virtio, vmbus, platform
	Vendor  uint16 `json:"vendor,omitempty"`
	Device  uint16 `json:"device,omitempty"`
	Model   string `json:"model,omitempty"` // from pci.ids
	Driver  string `json:"driver,omitempty"`
	// NUMA is the node that it belongs to; -1 where the machine has none.
	NUMA int `json:"numa"`
	// Group is the IOMMU group; empty without an IOMMU. GroupMates are the other devices in it
	// that are not bridges: they change hands together.
	Group      string   `json:"iommuGroup,omitempty"`
	GroupMates []Device `json:"groupMates,omitempty"`
	// Interfaces are its network interfaces in this namespace, if its driver is the kernel's.
	Interfaces []Interface `json:"interfaces,omitempty"`
	// LentTo says who has its interface meanwhile: "network net1". Users are the processes that
	// have the card itself open.
	LentTo string `json:"lentTo,omitempty"`
	Users  []User `json:"users,omitempty"`
	// VirtualFunctions and MaxVirtualFunctions are those of SR-IOV; PhysicalFunction is the
	// address of the card's own function if this is a virtual one.
	VirtualFunctions    int    `json:"virtualFunctions,omitempty"`
	MaxVirtualFunctions int    `json:"maxVirtualFunctions,omitempty"`
	PhysicalFunction    string `json:"physicalFunction,omitempty"`

	virtio []string // its devices on the virtio bus
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
	// PartOf are interfaces that are made of it: bridges, bonds, VLANs.
	PartOf []string `json:"partOf,omitempty"`
	XDP    bool     `json:"xdp,omitempty"` // it has an XDP program
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

// List returns the machine's NICs: those on the PCI bus by address, then others by interface.
// What only the network stack knows of them is added by Join.
func (r Root) List() ([]NIC, error) {
	entries, err := os.ReadDir(r.path(devices))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a machine without a PCI bus
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
	users := r.users()
	seen := map[string]bool{}
	for i := range list {
		n := &list[i]
		n.Users = users[n.Group]
		if n.Group == "" {
			for _, uio := range r.names(devices, n.Address, "uio") {
				n.Users = append(n.Users, users[uio]...)
			}
		}
		for _, f := range n.Interfaces {
			seen[f.Name] = true
		}
	}
	for _, name := range r.names("sys/class/net") {
		if !seen[name] && r.exists("sys/class/net", name, "device") {
			list = append(list, r.readOther(name))
		}
	}
	return list, nil
}

// Card returns the NIC with an address on the PCI bus, as List does.
func (r Root) Card(address string) (NIC, error) {
	list, err := r.List()
	if err != nil {
		return NIC{}, err
	}
	n, err := Find(list, address)
	if err != nil && r.exists(devices, address) {
		err = fmt.Errorf("%s is on the PCI bus, but no NIC", address)
	}
	return n, err
}

// Find returns the NIC on the PCI bus that a person names, by its address or its interface.
func Find(list []NIC, name string) (NIC, error) {
	address, err := ParseAddress(name)
	if err != nil {
		address = ""
	}
	var have []string
	for _, n := range list {
		named := slices.ContainsFunc(n.Interfaces, func(f Interface) bool { return f.Name == name })
		switch {
		case n.Bus != pci && named:
			return NIC{}, fmt.Errorf("%s is on the bus %s; only NICs on the PCI bus can get another driver", name, cmp.Or(n.Bus, "none"))
		case n.Bus != pci:
			continue
		case named || n.Address == address:
			return n, nil
		}
		have = append(have, n.Address)
	}
	if len(have) == 0 {
		return NIC{}, fmt.Errorf("there is no NIC %s: this machine has none on a PCI bus", name)
	}
	return NIC{}, fmt.Errorf("there is no NIC %s (there are: %s)", name, strings.Join(have, ", "))
}

// Join adds what the network stack knows of interfaces.
func Join(list []NIC, s Stack) {
	for i := range list {
		if len(list[i].Interfaces) == 0 {
			for _, address := range append([]string{list[i].Address}, list[i].virtio...) {
				list[i].Interfaces = append(list[i].Interfaces, s.Devices[address]...)
			}
		}
		for k := range list[i].Interfaces {
			f := &list[i].Interfaces[k]
			if len(f.PartOf) == 0 {
				f.PartOf = s.Upper[f.Name]
			}
			f.Addresses, f.DefaultRoute, f.XDP = s.Addresses[f.Name], s.DefaultRoute[f.Name], s.XDP[f.Name]
		}
	}
}

// Known returns the machine's NICs with what the network stack and the journal know of them.
func (r Root) Known(s Stack, j Journal) ([]NIC, error) {
	list, err := r.List()
	if err != nil {
		return nil, err
	}
	Join(list, s)
	entries, err := j.Entries()
	markLent(list, entries)
	return list, err
}

// markLent notes who has the interfaces of NICs.
func markLent(list []NIC, entries []Entry) {
	for _, e := range entries {
		for i := range list {
			if e.Lent != nil && e.Lent.Address == list[i].Address {
				list[i].LentTo = e.For
			}
		}
	}
}

const pci = "pci"

// readOther reads a physical interface that is on no PCI bus.
func (r Root) readOther(name string) NIC {
	dir := r.path("sys/class/net", name)
	device := Root(filepath.Join(dir, "device"))
	return NIC{
		Address: r.link("sys/class/net", name, "device"), Bus: device.link("subsystem"),
		Driver: device.link("driver"), NUMA: device.number(-1, "numa_node"),
		Interfaces: []Interface{r.readInterface(dir)},
	}
}

// interfaces returns those of a card. virtio devices have theirs one floor down.
func (r Root) interfaces(address string) (list []Interface) {
	for _, pattern := range []string{"net/*", "virtio*/net/*"} {
		found, _ := filepath.Glob(r.path(devices, address, pattern))
		for _, dir := range found {
			list = append(list, r.readInterface(dir))
		}
	}
	return list
}

func (r Root) read(address string, names map[[2]uint16]string) NIC {
	n := NIC{
		Address:             address,
		Bus:                 pci,
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
	n.Interfaces = r.interfaces(address)
	for _, name := range r.names(devices, address) {
		if strings.HasPrefix(name, "virtio") {
			n.virtio = append(n.virtio, name)
		}
	}
	return n
}

func (r Root) readInterface(dir string) Interface {
	at := Root(dir)
	f := Interface{
		Name: filepath.Base(dir), MAC: at.text("address"), State: at.text("operstate"),
		Up: at.number(0, "flags")&1 != 0, Speed: max(0, at.number(0, "speed")),
	}
	for _, name := range at.names() {
		if upper, ok := strings.CutPrefix(name, "upper_"); ok {
			f.PartOf = append(f.PartOf, upper)
		}
	}
	return f
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

// need says for what the interface is needed, in words, and what frees it; empty if for nothing.
func (f *Interface) need() (why, mend string) {
	switch {
	case f.DefaultRoute:
		return fmt.Sprintf("the machine's default route is over %s", f.Name), "leave it, or move the default route to another NIC: ip route replace default …"
	case len(f.PartOf) > 0:
		return fmt.Sprintf("%s is part of %s", f.Name, f.PartOf[0]), fmt.Sprintf("ip link set %s nomaster", f.Name)
	case f.Up && len(f.Addresses) > 0:
		return fmt.Sprintf("%s is up and has the address %s", f.Name, f.Addresses[0]), fmt.Sprintf("ip address flush dev %s", f.Name)
	case f.XDP:
		return fmt.Sprintf("%s has an XDP program", f.Name), fmt.Sprintf("ip link set dev %s xdp off", f.Name)
	}
	return "", ""
}

// need says why the card should stay where it is, in words, and what frees it; empty if nothing
// speaks for it. The cards in with go where it goes.
func (n *NIC) need(with ...string) (why, mend string) {
	for i := range n.Interfaces {
		if why, mend := n.Interfaces[i].need(); why != "" {
			return why, mend
		}
	}
	switch {
	case n.LentTo != "":
		return "it is lent to " + n.LentTo, "weft down " + strings.TrimPrefix(n.LentTo, "network ")
	case len(n.Users) > 0:
		return fmt.Sprintf("%s uses it", n.Users[0]), fmt.Sprintf("kill %d", n.Users[0].PID)
	case len(n.Interfaces) == 0 && n.Bus == pci && n.Driver != "" && !n.Taken() && n.Driver != "pci-stub":
		return fmt.Sprintf("its driver %s has no interface in this network namespace; it may have one in another", n.Driver),
			fmt.Sprintf("look for it there; or weft dpdk bind --force %s", n.Address)
	case n.VirtualFunctions > 0:
		return fmt.Sprintf("it has %d virtual functions, which go with its driver", n.VirtualFunctions),
			fmt.Sprintf("echo 0 > /sys/bus/pci/devices/%s/sriov_numvfs", n.Address)
	}
	for _, mate := range n.GroupMates {
		if mate.Driver != "" && !slices.Contains(forDPDK, mate.Driver) && !slices.Contains(with, mate.Address) {
			return fmt.Sprintf("%s in the same IOMMU group %s has the driver %s", mate.Address, n.Group, mate.Driver),
				fmt.Sprintf("weft dpdk bind %s %s", n.Address, mate.Address)
		}
	}
	return "", ""
}

// InUse says why the card should stay where it is, in words; empty if nothing speaks for it. The
// cards in with go where it goes.
func (n *NIC) InUse(with ...string) string {
	why, _ := n.need(with...)
	return why
}
