package eal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost"
	"weft/link"
	"weft/topo"
)

// Config says what a DPDK node with a DPDK program does.
type Config struct {
	// Node is the node's name, for messages.
	Node string
	// Dir is a directory of the node's own, for DPDK's files.
	Dir string
	// Command is the program, a shell command, in which {eal}, {ports} and {portmask} are
	// put in: see Options.Command.
	Command string
	Options
	// Restart says when it is started again: no, on-failure (default) or always.
	Restart string
	// Wait is how long it may take until it serves its ports; default 20 s.
	Wait time.Duration
	// Place is the node's, where the program runs and the interfaces are; nil for this
	// process' own.
	Place Place
	Log   *slog.Logger
}

// Validate looks at what needs no machine, and finds all errors.
func (c *Config) Validate() error {
	var errs []error
	for k := range c.Ports {
		errs = append(errs, c.Ports[k].Validate())
	}
	if path := telemetrySocket(c.Dir, c.Prefix); c.Dir == "" || len(path) > 107 {
		errs = append(errs, fmt.Errorf("the directory %q: DPDK's sockets in it need a path of at most 107 bytes", c.Dir))
	}
	if strings.TrimSpace(c.Command) == "" {
		errs = append(errs, errors.New("say which DPDK program is to run (command)"))
	}
	if c.Hugepages < 0 || c.Memory < 0 || c.Lcores < 0 || c.Lcores > 128 {
		errs = append(errs, fmt.Errorf("huge pages %d MB, memory %d MB, %d lcores: at least 0, and at most 128 lcores", c.Hugepages, c.Memory, c.Lcores))
	}
	if len(c.Ports) > 63 {
		errs = append(errs, fmt.Errorf("%d ports: at most 63", len(c.Ports)))
	}
	return errors.Join(append(errs, CheckRestart(c.Restart))...)
}

// A Backend is a DPDK program that runs.
type Backend struct {
	config  Config
	names   []string // DPDK's, of the ports
	program string
	process *Process
}

var _ dpdkhost.Backend = (*Backend)(nil)

// Open starts a node's DPDK program and waits until it has its ports.
func Open(ctx context.Context, c Config) (*Backend, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Node, err)
	}
	if c.Place == nil {
		c.Place = Here{}
	}
	c.Ports = Choose(c.Ports, c.Place)
	if len(c.CPUs) == 0 {
		var err error
		if c.CPUs, err = OwnCPUs(); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Node, err)
		}
	}
	line, names, err := c.Options.Command(c.Command)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Node, err)
	}
	b := &Backend{config: c, names: names, program: programName(c.Command)}
	b.process, err = Start(Command{
		Name: c.Node + ": " + b.program, Argv: []string{"sh", "-c", line}, Env: []string{"RUNTIME_DIRECTORY=" + c.Dir},
		Dir: "/", Restart: c.Restart, Place: c.Place, Log: c.Log,
		Before: func() error { return Prepare(c.Ports) },
		After:  func() { Clear(c.Ports) },
	})
	if err != nil {
		return nil, err
	}
	if err := b.wait(ctx); err != nil {
		return nil, errors.Join(err, b.process.Stop(true))
	}
	return b, nil
}

// programName returns what a shell command runs.
func programName(command string) string {
	words := strings.Fields(command)
	if words[0] == "exec" && len(words) > 1 {
		words = words[1:]
	}
	return filepath.Base(words[0])
}

// wait waits until the program has started all its ports.
func (b *Backend) wait(ctx context.Context) error {
	limit := cmp.Or(b.config.Wait, 20*time.Second)
	deadline := time.After(limit)
	was := errors.New("it has no telemetry socket: is it a DPDK program, and without --no-telemetry?")
	for {
		if err := b.process.Err(); err != nil {
			return err // what never ran is not started again
		}
		_, devices, err := b.ask(false)
		if err == nil {
			was = nil
			for k, name := range b.names {
				if d := devices[name]; d == nil {
					was = fmt.Errorf("it does not have port %d (%s) as %s", b.config.Ports[k].Number, b.config.Ports[k].Device, name)
				} else if d.Started == 0 {
					was = fmt.Errorf("it has not started port %d (%s)", b.config.Ports[k].Number, name)
				}
			}
			if was == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s: %w", b.config.Node, b.program, ctx.Err())
		case <-b.process.Ended():
		case <-deadline:
			return fmt.Errorf("%s: %s was not ready within %v: %w; it printed:\n  %s", b.config.Node, b.program, limit, was, strings.Join(telling(b.process.Output()), "\n  "))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

var complaint = regexp.MustCompile(`(?i)error|fail|cannot|could not|unable|invalid|denied|not enough|no such`)

// telling returns the lines of an output that say what is wrong; the last ones if none does.
func telling(lines []string) []string {
	const most = 8
	var list []string
	for _, l := range lines {
		if complaint.MatchString(l) && !slices.Contains(list, l) {
			list = append(list, l)
		}
	}
	if len(list) == 0 {
		list = lines[max(0, len(lines)-most):]
	}
	return list[:min(len(list), most)]
}

// ask asks the program for its number and its ports.
func (b *Backend) ask(counters bool) (pid int, devices map[string]*device, err error) {
	t, err := DialTelemetry(telemetrySocket(b.config.Dir, b.config.Prefix))
	if err != nil {
		return 0, nil, err
	}
	defer t.Close()
	devices, err = t.devices(counters)
	return t.PID, devices, err
}

// State implements dpdkhost.Backend.
func (b *Backend) State(context.Context) (*dpdkhost.State, error) {
	s := &dpdkhost.State{Manager: topo.ManagerDPDK, At: time.Now(), Chains: []topo.Chain{}, Flows: []dpdkhost.Flow{}}
	pid, devices, err := b.ask(true)
	i := dpdkhost.Instance{ID: 1, Name: b.program, State: "running", PID: pid, Restarts: b.process.Restarts()}
	if err != nil {
		if i.State = "dead"; b.process.PID() != 0 {
			i.State = "starting"
		}
		select {
		case <-b.process.Ended():
			return nil, fmt.Errorf("%w: %w", dpdkhost.ErrEnded, cmp.Or(b.process.Err(), errStopped))
		default:
		}
	}
	for k, p := range b.config.Ports {
		port := dpdkhost.Port{Number: p.Number, Name: p.Label(), Kind: string(p.Kind)}
		if d := devices[b.names[k]]; d != nil {
			port.Received, port.RxBytes = d.stats.InPackets, d.stats.InBytes
			port.Sent, port.TxBytes = d.stats.OutPackets, d.stats.OutBytes
			port.RxDrops, port.TxDrops = d.stats.Missed+d.stats.InErrors+d.stats.NoBuffer, d.stats.OutErrors
			i.Received += port.Received
			i.Sent += port.Sent
		}
		s.Ports = append(s.Ports, port)
	}
	s.Instances = []dpdkhost.Instance{i}
	s.Pool.Huge = b.config.Hugepages > 0
	return s, nil
}

var errStopped = errors.New("it was stopped")

func (b *Backend) unsupported(what, instead string) error {
	return fmt.Errorf("%s: %s: manager dpdk runs one program, %s, %w: %s", b.config.Node, what, b.program, dpdkhost.ErrUnsupported, instead)
}

// Start implements dpdkhost.Backend: there is nothing to start.
func (b *Backend) Start(context.Context, topo.NF) ([]dpdkhost.Instance, error) {
	return nil, b.unsupported("start an NF", "use manager: weft or onvm for network functions")
}

// Stop ends the program, instance 1, for good.
func (b *Backend) Stop(_ context.Context, instance int, atOnce bool) error {
	if instance != 1 {
		return fmt.Errorf("%s: there is no instance %d: the program is instance 1", b.config.Node, instance)
	}
	return b.process.Stop(atOnce)
}

// Change implements dpdkhost.Backend: chains and flows are the program's own matter.
func (b *Backend) Change(_ context.Context, c dpdkhost.Change) error {
	if c.Move != nil {
		return b.unsupported("move", "its processors are those of its lcores, which are given at the start")
	}
	return b.unsupported("change chains or flows", "what the program does with packets is its own matter; use manager: weft")
}

// Input writes a line to the program's standard input: testpmd --interactive takes commands there.
func (b *Backend) Input(line string) error { return b.process.Input(line) }

// Output returns the last lines that the program printed.
func (b *Backend) Output() []string { return b.process.Output() }

// Close ends the program.
func (b *Backend) Close() error { return b.process.Stop(false) }

// OwnCPUs returns the processors that this process may use.
func OwnCPUs() (list []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	const maxCPU = 1024 // of CPU_SET(3)
	for cpu := range maxCPU {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list, nil
}

// Choose returns ports with what Auto means at a place.
func Choose(ports []Port, place Place) []Port {
	ports = slices.Clone(ports)
	best := Kind("")
	for k := range ports {
		if p := &ports[k]; cmp.Or(p.Kind, Auto) == Auto {
			if best == "" {
				best = Packet
				if place.Do(tryXDP) == nil {
					best = XDP
				}
			}
			p.Kind = best
		}
	}
	return ports
}

// tryXDP tries what AF_XDP needs: a socket, and an XDP program loaded. The root of a user
// namespace may not do that, nor may programs of confined experiments.
func tryXDP() error {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const pass = 2 // XDP_PASS
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()}})
	if err != nil {
		return err
	}
	return p.Close()
}

// Prepare makes ports ready for a DPDK program, on a thread in the node's namespaces:
// interfaces are up, without offloads that DPDK's drivers do not understand, and without an XDP program
// that a dead one left; sockets that a dead one left are gone. The interfaces' peers need the
// same (link.OffloadsOff): their kernels would leave checksums to DPDK.
func Prepare(ports []Port) error {
	for _, p := range ports {
		switch p.Kind {
		case Packet, XDP:
			l, err := netlink.LinkByName(p.Device)
			if err != nil {
				return fmt.Errorf("port %d: interface %s: %w", p.Number, p.Device, err)
			}
			clearXDP(l)
			if err := link.OffloadsOff(p.Device); err != nil {
				return fmt.Errorf("port %d: %w", p.Number, err)
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return fmt.Errorf("port %d: %s up: %w", p.Number, p.Device, err)
			}
		case Memif:
			if p.Memif.Server {
				removeStale(p.Memif.Socket)
			}
		case Virtio, Vhost:
			if p.Server {
				removeStale(p.Socket)
			}
		}
	}
	return nil
}

// Clear takes away what a DPDK program that was killed leaves on interfaces.
func Clear(ports []Port) {
	for _, p := range ports {
		if p.Kind != XDP {
			continue
		}
		if l, err := netlink.LinkByName(p.Device); err == nil {
			clearXDP(l)
		}
	}
}

// clearXDP takes XDP programs off an interface, which is the DPDK program's alone.
func clearXDP(l netlink.Link) {
	if x := l.Attrs().Xdp; x == nil || !x.Attached {
		return
	}
	for _, mode := range []int{unix.XDP_FLAGS_DRV_MODE, unix.XDP_FLAGS_SKB_MODE, 0} {
		netlink.LinkSetXdpFdWithFlags(l, -1, mode) // of which one is the right one
	}
}

// removeStale removes a socket that nobody listens to: DPDK would not replace it.
func removeStale(path string) {
	if strings.HasPrefix(path, "@") {
		return
	}
	for _, network := range []string{"unixpacket", "unix"} {
		c, err := net.DialTimeout(network, path, time.Second)
		if err == nil {
			c.Close()
			return
		}
		if errors.Is(err, syscall.EPROTOTYPE) {
			continue
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
		}
		return
	}
}
