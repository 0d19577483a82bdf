// Package node realises one node of a topo.Plan: a host (network namespace), a switch
// (Open vSwitch or Linux bridge), a NAT gateway, a controller process; and runs programs
// on it. It speaks of namespaces and interface names, never of links.
package node

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/confine"
	"weft/internal/ns"
	"weft/internal/sandbox"
	"weft/topo"
)

// HostConfig says what a host is made of.
type HostConfig struct {
	Name string
	// IPv6 gives interfaces link-local addresses. Without it the host sends no frame of
	// its own accord.
	IPv6 bool
	// Forward makes it a router.
	Forward bool
	// PrivateDirs are directories of which the host's programs see an empty copy.
	PrivateDirs []string
	// Files are seen by the host's programs alone; they are kept below FilesDir.
	Files    []topo.File
	FilesDir string
	// Etc holds files that the host's programs see in /etc under the same names.
	Etc string
	// Env is added to the environment of programs.
	Env []string
	// Confine keeps programs from changing anything of the machine's; nil: they may.
	Confine *confine.Config
	// Writable are directories that the programs of ConfinedPlace may write to, if Confine is nil.
	Writable []string
}

// A Host is a network namespace. It costs no process, and no namespace but that one, until
// a program runs on it.
type Host struct {
	cfg HostConfig
	net *ns.Net

	mu       sync.Mutex
	place    *ns.Place
	confined *ns.Place // nil until it is needed
	shell    *Shell
}

// NewHost makes a host without interfaces but lo.
func NewHost(cfg HostConfig) (*Host, error) {
	n, err := ns.New(func() error {
		// Only where needed: finding a file below /proc/sys/net takes the longer, the
		// more network namespaces there are.
		if !cfg.Forward {
			return nil
		}
		if err := Sysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
		return Sysctl("net/ipv6/conf/all/forwarding", "1")
	})
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", cfg.Name, err)
	}
	return &Host{cfg: cfg, net: n}, nil
}

// Sysctl sets a parameter of the calling thread's network namespace; key has slashes. A
// kernel without IPv6 has no parameters of its.
func Sysctl(key, value string) error {
	err := os.WriteFile("/proc/sys/"+key, []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) && bytes.HasPrefix([]byte(key), []byte("net/ipv6/")) {
		return nil
	}
	return err
}

// Net returns the host's network namespace.
func (h *Host) Net() *ns.Net { return h.net }

// An Address is one interface's configuration on a host.
type Address struct {
	Device  string
	IP, IP6 netip.Prefix // may be invalid: none
	// MAC is that of the device, for Reconfigure.
	MAC string
}

// A Neighbour is a permanent entry of the ARP or NDP table.
type Neighbour struct {
	IP  netip.Addr
	MAC net.HardwareAddr
}

// A NetConfig is what Configure sets on a host.
type NetConfig struct {
	Addresses  []Address
	Gateway    netip.Addr  // of the default route; may be invalid
	Neighbours []Neighbour // reached over the first address's device
}

// Configure sets lo up and gives the host's interfaces their addresses and routes.
func (h *Host) Configure(c NetConfig) error {
	nl, err := h.net.Handle()
	if err != nil {
		return fmt.Errorf("host %s: %w", h.cfg.Name, err)
	}
	defer nl.Close()
	if err := h.configure(nl, c); err != nil {
		return fmt.Errorf("host %s: %w", h.cfg.Name, err)
	}
	return nil
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
const addrGenNone = 1

func (h *Host) configure(nl *netlink.Handle, c NetConfig) error {
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}} // always
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	first := -1
	for _, a := range c.Addresses {
		dev, err := nl.LinkByName(a.Device)
		if err != nil {
			return fmt.Errorf("interface %s: %w", a.Device, err)
		}
		if !h.cfg.IPv6 {
			// A kernel without IPv6 has nothing to turn off.
			if err := nl.LinkSetIP6AddrGenMode(dev, addrGenNone); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
				return fmt.Errorf("interface %s: no link-local address: %w", a.Device, err)
			}
		}
		if err := nl.LinkSetUp(dev); err != nil {
			return fmt.Errorf("interface %s up: %w", a.Device, err)
		}
		if first < 0 {
			first = dev.Attrs().Index
		}
		for _, p := range []netip.Prefix{a.IP, a.IP6} {
			if !p.IsValid() {
				continue
			}
			if err := nl.AddrAdd(dev, netlinkAddress(p)); err != nil {
				return fmt.Errorf("address %s on %s: %w", p, a.Device, err)
			}
		}
	}
	if c.Gateway.IsValid() {
		if err := nl.RouteAdd(&netlink.Route{Gw: c.Gateway.AsSlice()}); err != nil {
			return fmt.Errorf("default route via %s: %w", c.Gateway, err)
		}
	}
	for _, n := range c.Neighbours {
		if err := nl.NeighSet(neighbour(first, n)); err != nil {
			return fmt.Errorf("neighbour %s: %w", n.IP, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Shell returns the host's persistent shell, which it starts if need be.
func (h *Host) Shell() (*Shell, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shell != nil {
		return h.shell, nil
	}
	place, err := h.enter()
	if err != nil {
		return nil, err
	}
	h.shell = NewShell(h.cfg.Name, place, h.cfg.Env)
	return h.shell, nil
}

// Place returns where the host's programs run.
func (h *Host) Place() (*ns.Place, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.enter()
}

// enter makes the host's place if it has none yet. h.mu is held.
func (h *Host) enter() (*ns.Place, error) {
	if h.place == nil {
		p, err := h.newPlace(h.cfg.Confine)
		if err != nil {
			return nil, err
		}
		h.place = p
	}
	return h.place, nil
}

// Confined reports whether all its programs are kept from changing the machine.
func (h *Host) Confined() bool { return h.cfg.Confine != nil }

// ConfinedPlace returns where those of the host's programs run that may change nothing of the
// machine's, whatever others may.
func (h *Host) ConfinedPlace() (*ns.Place, error) {
	if h.cfg.Confine != nil {
		return h.Place()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.confined == nil {
		p, err := h.newPlace(&confine.Config{Writable: h.cfg.Writable})
		if err != nil {
			return nil, err
		}
		h.confined = p
	}
	return h.confined, nil
}

func (h *Host) newPlace(c *confine.Config) (*ns.Place, error) {
	p, err := NewPlace(h.net, h.cfg.Name, c, func() error { return h.mounts(c) })
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.cfg.Name, err)
	}
	return p, nil
}

// NewPlace makes mount and UTS namespaces for the programs of a node and calls mounts inside.
// Those of a confined one are started with less rights.
func NewPlace(net *ns.Net, name string, c *confine.Config, mounts func() error) (*ns.Place, error) {
	p, err := ns.NewPlace(net, hostname(name), mounts)
	if err == nil && c != nil {
		p.Restrict = confine.Thread
	}
	return p, err
}

// mounts runs inside the host's mount namespace.
func (h *Host) mounts(c *confine.Config) error {
	if err := sandbox.MountSys(); err != nil {
		return err
	}
	if err := h.putFiles(); err != nil {
		return err
	}
	files, err := os.ReadDir(h.cfg.Etc)
	if err != nil && h.cfg.Etc != "" {
		return err
	}
	for _, f := range files {
		to := filepath.Join("/etc", f.Name())
		if _, err := os.Stat(to); err != nil {
			continue // nothing to cover
		}
		if slices.ContainsFunc(h.cfg.Files, func(f topo.File) bool { return f.Path == to }) {
			continue // the host has its own
		}
		if err := unix.Mount(filepath.Join(h.cfg.Etc, f.Name()), to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", to, err)
		}
	}
	if c != nil {
		if err := c.Mount(); err != nil {
			return err
		}
	}
	for _, dir := range h.cfg.PrivateDirs {
		if err := os.MkdirAll(dir, 0o755); errors.Is(err, unix.EROFS) {
			return fmt.Errorf("private directory %s: it does not exist, and nothing may be made where the programs are confined", dir)
		} else if err != nil {
			return fmt.Errorf("private directory: %w", err)
		}
		if err := unix.Mount("weft", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("private directory %s: %w", dir, err)
		}
	}
	return h.putPrivateFiles()
}

// hostname cuts a name to what sethostname(2) takes: 64 bytes.
func hostname(name string) string { return name[:min(len(name), 64)] }

// PID returns the process ID of the host's shell, 0 if none runs.
func (h *Host) PID() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shell == nil {
		return 0
	}
	return h.shell.PID()
}

// Close ends the host's shell and what it runs, and lets go of the namespaces.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shell != nil {
		h.shell.Close()
	}
	for _, p := range []*ns.Place{h.place, h.confined} {
		if p != nil {
			p.Close()
		}
	}
	return h.net.Close()
}
