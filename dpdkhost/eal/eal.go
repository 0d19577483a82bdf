// Package eal runs DPDK programs on a node: the backend dpdk of DPDK nodes, for any program on
// DPDK's environment abstraction layer (EAL): testpmd, l3fwd, pktgen, one's own. It makes
// the EAL's arguments, wires the node's ports as DPDK's devices, starts the program in the
// node's namespaces, watches over it, and asks it by DPDK's telemetry. What it has for
// supervised processes package onvm uses too. It may import dpdkhost, dpdkhost/memif, link, topo
// and internal packages.
//
//	node's link   ─ net_af_xdp (root), net_af_packet ─┐
//	shared memory ─ net_memif, net_virtio_user, net_vhost ─ program ─ telemetry socket ─► State
//	real NIC      ─ -a PCI address ───────────────────┘
package eal

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"weft/dpdkhost/memif"
)

// A Kind is how DPDK reaches what is behind a port.
type Kind string

// The kinds. Auto is XDP where that is allowed, else Packet.
const (
	Auto   Kind = "auto"
	Packet Kind = "packet" // net_af_packet
	XDP    Kind = "xdp"    // net_af_xdp
	Memif  Kind = "memif"  // net_memif
	Virtio Kind = "virtio" // net_virtio_user: the driver's side of vhost-user
	Vhost  Kind = "vhost"  // net_vhost: the device's side of vhost-user
	NIC    Kind = "nic"    // a NIC bound to a driver for DPDK, or a bifurcated one
)

// Port is one port of a DPDK program.
type Port struct {
	// Number of the port, from 1, as weft counts.
	Number int  `json:"number"`
	Kind   Kind `json:"kind,omitempty"` // default Auto
	// Device is the interface, or the PCI address of a NIC.
	Device string `json:"device,omitempty"`
	// Socket of Virtio and Vhost. Server says that the program makes it. A Virtio port that is
	// the server holds the program up until its peer comes.
	Socket string `json:"socket,omitempty"`
	Server bool   `json:"server,omitempty"`
	// Memif is the program's side of a Memif port.
	Memif *memif.Config `json:"memif,omitempty"`
}

var (
	interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.:@-]{1,15}$`)
	pciAddress    = regexp.MustCompile(`^([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
)

// Validate looks at what needs no machine.
func (p *Port) Validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("port %d (%s): %s", p.Number, cmp.Or(p.Label(), string(p.Kind)), fmt.Sprintf(format, args...))
	}
	// Device arguments are separated by commas, and have no quotes.
	path := func(s string) error {
		if s == "" || strings.ContainsAny(s, ", \t\n") || len(s) > 107 {
			return fail("the socket %q: a path of at most 107 bytes without commas and blanks", s)
		}
		return nil
	}
	if p.Number < 1 {
		return fail("number %d: ports count from 1", p.Number)
	}
	switch cmp.Or(p.Kind, Auto) {
	case Auto, Packet, XDP:
		if !interfaceName.MatchString(p.Device) {
			return fail("%q is no name of an interface that DPDK takes", p.Device)
		}
	case NIC:
		if !pciAddress.MatchString(p.Device) {
			return fail("%q is no PCI address: write it like 0000:00:04.0", p.Device)
		}
	case Virtio, Vhost:
		return path(p.Socket)
	case Memif:
		if p.Memif == nil {
			return fail("say which memif")
		}
		if err := p.Memif.Check(); err != nil {
			return fmt.Errorf("port %d: %w", p.Number, err)
		}
		if strings.ContainsAny(p.Memif.Secret, ", \t\n") {
			return fail("a secret for DPDK is without commas and blanks")
		}
		return path(strings.TrimPrefix(p.Memif.Socket, "@"))
	default:
		return fail("there is no kind %q: there are auto, packet, xdp, memif, virtio, vhost, nic", p.Kind)
	}
	return nil
}

// name returns what DPDK calls the port's device; n tells devices of one kind apart.
func (p *Port) name(n int) string {
	switch p.Kind {
	case NIC:
		if strings.Count(p.Device, ":") == 1 {
			return "0000:" + p.Device
		}
		return p.Device
	case XDP:
		return fmt.Sprint("net_af_xdp", n)
	case Memif:
		return fmt.Sprint("net_memif", n)
	case Virtio:
		return fmt.Sprint("net_virtio_user", n)
	case Vhost:
		return fmt.Sprint("net_vhost", n)
	}
	return fmt.Sprint("net_af_packet", n)
}

// argument returns the EAL's arguments for a port.
func (p *Port) arguments(n int) []string {
	name := p.name(n)
	device := func(format string, args ...any) []string {
		return []string{"--vdev", name + "," + fmt.Sprintf(format, args...)}
	}
	switch p.Kind {
	case NIC:
		return []string{"-a", name}
	case Memif:
		m := p.Memif
		role := "client"
		if m.Server {
			role = "server"
		}
		abstract := "no"
		if strings.HasPrefix(m.Socket, "@") {
			abstract = "yes"
		}
		text := fmt.Sprintf("role=%s,id=%d,socket=%s,socket-abstract=%s", role, m.ID, strings.TrimPrefix(m.Socket, "@"), abstract)
		if m.RingSize != 0 {
			text += fmt.Sprintf(",rsize=%d", bits.TrailingZeros(uint(m.RingSize)))
		}
		if m.Secret != "" {
			text += ",secret=" + m.Secret
		}
		return device("%s", text)
	case Virtio:
		if p.Server {
			return device("path=%s,server=1", p.Socket)
		}
		return device("path=%s", p.Socket)
	case Vhost:
		if p.Server {
			return device("iface=%s", p.Socket)
		}
		return device("iface=%s,client=1", p.Socket)
	}
	return device("iface=%s", p.Device)
}

// Options are what the EAL of any DPDK program has to know.
type Options struct {
	Ports []Port
	// Prefix tells the files of DPDK programs apart; default weft.
	Prefix string
	// Hugepages is the memory on huge pages, MB; 0 for none.
	Hugepages int
	// Memory is that on ordinary pages, MB, if there are no huge pages; default 256.
	Memory int
	// CPUs are the processors that the program may use, as the kernel counts them. Its lcores,
	// by default two, of which the first is for commands and control, share them, unless
	// Dedicated, which gives each one of its own.
	CPUs      []int
	Lcores    int
	Dedicated bool
}

// arguments returns the EAL's arguments, and DPDK's names of the ports in their order.
func (o *Options) arguments() (args, names []string) {
	lcores := cmp.Or(o.Lcores, 2)
	var set []string
	for i := range lcores {
		on := ""
		if o.Dedicated {
			on = strconv.Itoa(o.CPUs[i%len(o.CPUs)])
		} else {
			var all []string
			for _, cpu := range o.CPUs {
				all = append(all, strconv.Itoa(cpu))
			}
			on = "(" + strings.Join(all, ",") + ")"
		}
		set = append(set, fmt.Sprintf("%d@%s", i, on))
	}
	args = append(args, "--lcores", strings.Join(set, ","), "--file-prefix", cmp.Or(o.Prefix, "weft"))
	if o.Hugepages > 0 {
		// Nothing is left on a file system, whatever happens to the program.
		args = append(args, "--in-memory", "-m", strconv.Itoa(o.Hugepages))
	} else {
		args = append(args, "--no-huge", "-m", strconv.Itoa(cmp.Or(o.Memory, 256)))
	}
	devices, names := Devices(o.Ports)
	return append(args, devices...), names
}

// Devices returns the EAL's arguments that give a program its ports, and DPDK's names of them
// in the order of the ports. DPDK itself numbers NICs first, then the others in this order.
func Devices(ports []Port) (args, names []string) {
	count := map[string]int{}
	nics := false
	for _, p := range ports {
		base := p.name(0)
		n := count[base]
		count[base]++
		args = append(args, p.arguments(n)...)
		names = append(names, p.name(n))
		nics = nics || p.Kind == NIC
	}
	if !nics {
		args = append([]string{"--no-pci"}, args...)
	}
	return args, names
}

// Command returns the user's command with {eal} and {ports} put in: the arguments of the EAL, up to
// and without "--", and the number of ports. {portmask} is a bit for each port. A command
// without {eal} gets it behind its first word.
func (o *Options) Command(command string) (line string, names []string, err error) {
	if strings.TrimSpace(command) == "" {
		return "", nil, errors.New("say which DPDK program is to run (command)")
	}
	args, names := o.arguments()
	text := Quote(args)
	if !strings.Contains(command, "{eal}") {
		program, rest, _ := strings.Cut(strings.TrimSpace(command), " ")
		command = program + " {eal} " + rest
	}
	return strings.NewReplacer("{eal}", text, "{ports}", strconv.Itoa(len(o.Ports)),
		"{portmask}", fmt.Sprintf("%#x", uint64(1)<<len(o.Ports)-1)).Replace(command), names, nil
}

// Label returns what people call a port.
func (p *Port) Label() string {
	if p.Memif != nil {
		return p.Memif.Socket
	}
	return cmp.Or(p.Device, p.Socket)
}

// Quote makes one line for the shell of words.
func Quote(words []string) string {
	quoted := make([]string, len(words))
	for i := range words {
		quoted[i] = quote(words[i])
	}
	return strings.Join(quoted, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_.,:@%+=/-]+$`)

// quote makes a word of the shell.
func quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// telemetrySocket returns the path of a program's telemetry socket (rte_telemetry).
func telemetrySocket(dir, prefix string) string {
	return filepath.Join(dir, "dpdk", cmp.Or(prefix, "weft"), "dpdk_telemetry.v2")
}
