// Package port has the ports of the built-in manager: how packets come from interfaces of the
// kernel, and from files, into the packet memory, and leave it. It may import dpdkhost/shm,
// dpdkhost/manager, dpdkhost/memif, link (ethtool) and internal packages.
//
//	packet  an interface that is there, by a packet socket        super-frames pass whole
//	tap     an interface that the port makes, for a host          super-frames pass whole
//	xdp     an interface that is there, by AF_XDP, without copies frames as on a wire
//	pcap    packets from a file; what is sent goes to another     frames as on a wire
//	memif   shared memory with a program that speaks memif
//
// A super-frame stands for many frames of TCP or UDP (TSO, USO); with it goes a virtio header, in
// the frame's headroom (shm.HasVnet), and its checksum is not complete. Such packets cost a
// fraction of what their frames would; NFs that only look at headers and send packets on need
// not know about them. An NF that wants packets as on a wire asks for that at the port: Plain.
package port

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/memif"
	"weft/dpdkhost/shm"
)

// A Kind is how a port reaches what is behind it.
type Kind string

// The kinds. Auto is the best of those that work here: TAP for an interface that is not there,
// else XDP for a real NIC and Packet for everything else.
const (
	Auto   Kind = "auto"
	Packet Kind = "packet"
	TAP    Kind = "tap"
	XDP    Kind = "xdp"
	Pcap   Kind = "pcap"
	Memif  Kind = "memif"
)

// Config says what a port is.
type Config struct {
	Kind Kind `json:"kind,omitempty"` // default Auto
	// Device is an interface of the calling thread's network namespace: of a TAP port the one to
	// make, of the others one that is there.
	Device string `json:"device,omitempty"`
	// MAC and MTU of the interface that a TAP port makes.
	MAC string `json:"mac,omitempty"`
	MTU int    `json:"mtu,omitempty"`
	// Plain makes every packet come in as on a wire: checksums complete, super-frames divided.
	Plain bool `json:"plain,omitempty"`
	// Mode of an XDP port: native or generic; by default native, and generic where that fails.
	Mode string `json:"mode,omitempty"`
	// Replay says what a Pcap port does.
	Replay
	// Memif says what a Memif port does.
	Memif *memif.Config `json:"memif,omitempty"`
}

func openMemif(o *Opener, c Config) (manager.Port, error) { return memif.Open(*c.Memif, o.mem) }

// An Opener opens the ports of one manager; its XDP ports share the packet memory. It may be used
// concurrently.
type Opener struct {
	mem *shm.Memory
	tun string // the file that makes TAP devices

	mu    sync.Mutex
	ports []*xdp // open
}

// NewOpener returns an opener of ports for a manager.
func NewOpener(m *manager.Manager) *Opener { return &Opener{mem: m.Memory()} }

// A constructor opens a port of one kind.
type constructor func(*Opener, Config) (manager.Port, error)

// constructors is the table of the kinds.
func constructors() map[Kind]constructor {
	return map[Kind]constructor{
		Packet: openPacket,
		TAP:    openTAP,
		XDP:    openXDP,
		Pcap:   openPcap,
		Memif:  openMemif,
	}
}

// Kinds returns the kinds of ports, sorted.
func Kinds() []Kind { return slices.Sorted(maps.Keys(constructors())) }

// Validate looks at what needs no machine.
func (c *Config) Validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("port %s: %s", cmp.Or(c.Device, c.File, c.Sink, "without a name"), fmt.Sprintf(format, args...))
	}
	kind := cmp.Or(c.Kind, Auto)
	if constructors()[kind] == nil && kind != Auto {
		var names []string
		for _, k := range Kinds() {
			names = append(names, string(k))
		}
		return fail("there is no kind %q: there are auto, %s", c.Kind, strings.Join(names, ", "))
	}
	if (kind == Auto || kind == Packet || kind == TAP || kind == XDP) && (c.Device == "" || len(c.Device) > 15 || strings.ContainsAny(c.Device, "/ \t\n") || c.Device == "." || c.Device == "..") {
		return fail("it needs the name of an interface, at most 15 characters, not %q", c.Device)
	}
	if c.MAC != "" {
		if mac, err := net.ParseMAC(c.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return fail("%q is no MAC address of an interface", c.MAC)
		}
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65521) {
		return fail("MTU %d: write one from 68 to 65521", c.MTU)
	}
	if !slices.Contains([]string{"", modeNative, modeGeneric}, c.Mode) {
		return fail("there is no XDP mode %q: write %s or %s", c.Mode, modeNative, modeGeneric)
	}
	switch kind {
	case Pcap:
		if err := c.Replay.validate(); err != nil {
			return fail("%v", err)
		}
	case Memif:
		if c.Memif == nil {
			return fail("it needs what memif needs: a socket")
		}
		if err := c.Memif.Check(); err != nil {
			return fail("%v", err)
		}
	}
	return nil
}

// Open opens a port and says of what kind it is.
func (o *Opener) Open(c Config) (manager.Port, Kind, error) {
	if err := c.Validate(); err != nil {
		return nil, "", err
	}
	kind := cmp.Or(c.Kind, Auto)
	try := []Kind{kind}
	if kind == Auto {
		try = choose(c.Device)
	}
	var errs []error
	for _, k := range try {
		p, err := constructors()[k](o, c)
		if err == nil {
			if c.Plain && (k == Packet || k == TAP) { // the others have no other frames
				p = &plain{Port: p}
			}
			return p, k, nil
		}
		errs = append(errs, fmt.Errorf("port %s (%s): %w", cmp.Or(c.Device, c.File, c.Sink), k, err))
	}
	return nil, "", errors.Join(errs...)
}

// choose returns the kinds to try for an interface, the best first.
func choose(device string) []Kind {
	l, err := netlink.LinkByName(device)
	switch {
	case err != nil:
		return []Kind{TAP}
	case onBus(l):
		return []Kind{XDP, Packet}
	}
	return []Kind{Packet}
}
