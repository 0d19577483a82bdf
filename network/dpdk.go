package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"weft/dpdkhost"
	"weft/dpdkhost/eal"
	"weft/dpdkhost/nic"
	"weft/dpdkhost/onvm"
	"weft/dpdkhost/port"
	"weft/dpdkhost/server"
	"weft/internal/ns"
	"weft/link"
	"weft/node"
	"weft/topo"
)

// A DPDK node is a switch of driver dpdk. Its ports are in a network namespace of its own, which
// Network.hosts has under its name, and belong to its manager, a process that the engine
// starts, watches, and starts again when it dies.
//
//	h1 ── nf1-eth1 ┐              ┌ NF processes
//	               ├ manager ─────┤
//	h2 ── nf1-eth2 ┘      │       └ …
//	                  relay ── controller

// A dpdkNode is the manager of a DPDK node as it runs.
type dpdkNode struct {
	backend dpdkhost.Backend
	process *managerProcess // nil for other managers than weft's own
	close   func() error    // of the node's end
}

// The bounds of what a manager may take.
const (
	managerStart = 30 * time.Second // until all its NFs take packets
	managerEnd   = 8 * time.Second  // to end by itself
)

// A managerProcess is the process of weft's own manager.
type managerProcess struct {
	pid     int
	started time.Time
	said    lastLines
	ended   chan struct{}
	how     string // set before ended is closed
	asked   bool   // its end was asked for; guarded by Network.mu
}

// lastLines keeps the end of what a program writes.
type lastLines struct {
	mu   sync.Mutex
	text []byte
}

const keptOutput = 4 << 10

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.text = bytes.Clone(l.text[max(0, len(l.text)-keptOutput):])
	return len(p), nil
}

// String returns the last line.
func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(l.text)), "\n")
	return lines[len(lines)-1]
}

// makeDPDK makes the namespaces of DPDK nodes.
func (n *Network) makeDPDK(switches []topo.PlannedSwitch) error {
	for _, sw := range switches {
		if sw.DPDK == nil {
			continue
		}
		if err := os.MkdirAll(n.dpdkDir(sw), 0o700); err != nil {
			return fmt.Errorf("dpdk node %s: %w", sw.Name, err)
		}
		if err := os.MkdirAll(n.ovsDir(), 0o700); err != nil { // where the sockets of all switches are
			return fmt.Errorf("dpdk node %s: %w", sw.Name, err)
		}
		confined := n.confinement(sw)
		if confined != nil { // where its own sockets are, those of its controllers and of memif links
			c := *confined
			c.Writable = append(slices.Clone(c.Writable), n.dpdkDir(sw), n.ovsDir(), n.memifDir())
			if err := os.MkdirAll(n.memifDir(), 0o700); err != nil {
				return fmt.Errorf("dpdk node %s: %w", sw.Name, err)
			}
			confined = &c
		}
		h, err := node.NewHost(node.HostConfig{Name: sw.Name, Etc: n.etc(), Env: n.programEnv(), Writable: []string{n.ovsDir()}, Confine: confined})
		if err != nil {
			return fmt.Errorf("dpdk node %s: %w", sw.Name, err)
		}
		n.mu.Lock()
		n.hosts[sw.Name] = h
		n.mu.Unlock()
	}
	return nil
}

// confinement says how the programs of a DPDK node are kept from changing the machine; nil: they are
// not. NFs that are programs of a file's own are, unless the user trusts the file: what it names
// runs in the namespaces of the manager, which then has no more to do with the machine than they.
func (n *Network) confinement(sw topo.PlannedSwitch) *Confinement {
	if n.env.Confine != nil || n.plan.Trusted || sw.DPDK.Manager != topo.ManagerWeft {
		return n.env.Confine
	}
	var c *Confinement
	for _, f := range sw.DPDK.NFs {
		if f.Command == "" {
			continue
		}
		if c == nil {
			c = &Confinement{}
		}
		if f.Dir != "" && !slices.Contains(c.Readable, f.Dir) {
			c.Readable = append(c.Readable, f.Dir)
		}
	}
	return c
}

// dpdkDir is the directory of a node's own; sockets are in it, so its path is short.
func (n *Network) dpdkDir(sw topo.PlannedSwitch) string {
	return filepath.Join(n.env.Dir, "dpdk", sw.Device)
}

// openDPDKPorts takes the ends of links at a DPDK node up. They have no addresses, and send
// nothing by themselves.
func (n *Network) openDPDKPorts(name string, list []topo.Interface) error {
	n.mu.Lock()
	h := n.hosts[name]
	n.mu.Unlock()
	var c node.NetConfig
	for _, i := range list {
		if n.memifOf(name, i) == nil {
			c.Addresses = append(c.Addresses, node.Address{Device: i.Device})
		}
	}
	return h.Configure(c)
}

// framesOnly reports whether a node's ports take frames as on a wire only: neither checksums
// to be completed nor segments to be divided.
func (n *Network) framesOnly(name string) bool {
	sw := n.plan.Switch(name)
	return sw != nil && (n.portDatapath(name) == topo.DatapathAFXDP ||
		sw.DPDK != nil && (sw.DPDK.Manager != topo.ManagerWeft || sw.DPDK.PortKind == string(port.XDP)))
}

// startDPDK starts the manager of a DPDK node and waits until it moves packets.
func (n *Network) startDPDK(ctx context.Context, sw topo.PlannedSwitch) error {
	ctx, cancel := context.WithTimeout(ctx, managerStart)
	defer cancel()
	if err := n.openDPDKPorts(sw.Name, sw.Interfaces); err != nil {
		return err
	}
	targets, err := n.openChannels(sw)
	if err != nil {
		return err
	}
	n.mu.Lock()
	h := n.hosts[sw.Name]
	n.mu.Unlock()
	place, err := h.Place()
	if err != nil {
		return err
	}
	if err := n.placeNFs(sw, sw.DPDK.NFs); err != nil {
		return err
	}
	nics, err := n.leaseNICs(ctx, sw, place.Net)
	if err != nil {
		return err
	}
	d := &dpdkNode{close: nics.Close}
	switch sw.DPDK.Manager {
	case topo.ManagerDPDK:
		d.backend, err = n.startProgram(ctx, sw, place, n.programPorts(sw, nics))
	case topo.ManagerONVM:
		d.backend, err = onvm.Open(ctx, onvm.Config{Node: sw.Name, Dir: n.dpdkDir(sw), Ports: n.programPorts(sw, nics), Memory: sw.DPDK.Hugepages,
			NFs: sw.DPDK.NFs, Chains: sw.DPDK.Chains, Flows: sw.DPDK.Flows, Place: place, Log: n.env.Log})
	default:
		d.backend, d.process, err = n.startManager(ctx, sw, place, targets)
	}
	if err != nil {
		return errors.Join(err, nics.Close())
	}
	stop := n.watchPorts(sw.Name)
	d.close = func() error {
		stop()
		return nics.Close()
	}
	n.mu.Lock()
	n.dpdk[sw.Name] = d
	n.mu.Unlock()
	if d.process != nil {
		go n.superviseManager(sw.Name, d)
	}
	return nil
}

// managerConfig is what a manager's process is told.
func (n *Network) managerConfig(sw topo.PlannedSwitch, targets []string) server.Config {
	c := server.Config{
		Node: sw.Name, Dir: n.dpdkDir(sw), Spin: sw.DPDK.Spin,
		NFs: sw.DPDK.NFs, Chains: sw.DPDK.Chains, Rules: sw.DPDK.Flows,
	}
	c.OpenFlow = &server.OpenFlow{DPID: sw.DPID, Protocols: sw.Protocols, Targets: targets, Management: n.managementSocket(sw)}
	c.Ports = n.serverPorts(sw, sw.Interfaces)
	return c
}

// startManager starts weft's own manager.
func (n *Network) startManager(ctx context.Context, sw topo.PlannedSwitch, place *ns.Place, targets []string) (dpdkhost.Backend, *managerProcess, error) {
	p := &managerProcess{started: time.Now(), ended: make(chan struct{})}
	config := n.managerConfig(sw, targets)
	if n.env.Broker != nil {
		outside, err := n.env.Broker.ListenNFs(ctx, sw.Device)
		if err != nil { // what runs inside needs none
			n.env.Log.Warn("NFs cannot be started outside", "node", sw.Name, "error", err)
		} else {
			config.Outside = outside
			defer outside.Close()
		}
	}
	backend, err := server.Start(ctx, config, func(cmd *exec.Cmd) error {
		out := io.MultiWriter(n.log(sw.Name), &p.said)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Args[0] = "weft" // not the engine's name, which it would go by
		cmd.Env = withSystemPath(append(cmd.Env, n.programEnv()...))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.WaitDelay = time.Second // NFs may hold its output
		if err := place.Do(cmd.Start); err != nil {
			return err
		}
		p.pid = cmd.Process.Pid
		go func() {
			cmd.Wait()
			p.how = cmd.ProcessState.String()
			close(p.ended)
		}()
		return nil
	})
	if err != nil {
		if p.pid != 0 {
			p.kill()
		}
		if last := p.said.String(); last != "" {
			err = fmt.Errorf("%w; it last said: %s", err, last)
		}
		return nil, nil, err
	}
	return backend, p, nil
}

// kill ends the process and what it started, and waits for it.
func (p *managerProcess) kill() {
	syscall.Kill(-p.pid, syscall.SIGKILL)
	select {
	case <-p.ended:
	case <-time.After(managerEnd):
	}
}

// startProgram starts a DPDK program of the user's.
func (n *Network) startProgram(ctx context.Context, sw topo.PlannedSwitch, place *ns.Place, ports []eal.Port) (dpdkhost.Backend, error) {
	return eal.Open(ctx, eal.Config{Node: sw.Name, Dir: n.dpdkDir(sw), Command: sw.DPDK.Command, Place: place, Log: n.env.Log,
		Options: eal.Options{Ports: ports, Prefix: "weft", Hugepages: sw.DPDK.Hugepages, Dedicated: sw.DPDK.Spin}})
}

// programPorts are the ports of a DPDK program: links, then the NICs that were leased for it.
func (n *Network) programPorts(sw topo.PlannedSwitch, nics leases) (ports []eal.Port) {
	kind, number := n.portKind(&sw), 0
	for _, i := range sw.Interfaces {
		p := eal.Port{Number: i.Port, Kind: kind, Device: i.Device}
		if m := n.memifOf(sw.Name, i); m != nil {
			p = eal.Port{Number: i.Port, Kind: eal.Memif, Memif: m}
		}
		ports = append(ports, p)
		number = max(number, i.Port)
	}
	for _, l := range nics {
		number++
		p := eal.Port{Number: number, Kind: eal.NIC, Device: l.Address}
		if l.Way == nic.WayXDP {
			p.Kind, p.Device = eal.XDP, l.Name
		}
		ports = append(ports, p)
	}
	return ports
}

// Restarts of a manager that dies: after a pause that doubles, until it lived so long that it
// counts as steady, or it has failed too often.
const (
	managerPause  = 200 * time.Millisecond
	managerSteady = 20 * time.Second
	managerTries  = 5
)

// superviseManager tells of a manager's end, and starts another.
func (n *Network) superviseManager(name string, d *dpdkNode) {
	for tries := 0; ; {
		<-d.process.ended
		if time.Since(d.process.started) > managerSteady {
			tries = 0
		}
		text := "the NF manager ended (" + d.process.how + ")"
		if last := d.process.said.String(); last != "" {
			text += "; it last said: " + last
		}
		n.mu.Lock()
		asked := d.process.asked || n.closed
		n.mu.Unlock()
		if asked {
			return
		}
		if tries++; tries > managerTries {
			n.giveUp(name, d, fmt.Sprintf("%s. It stays down: %d starts did not help", text, managerTries))
			return
		}
		n.events.send(Event{Kind: KindProcessEnded, Level: "WARN", Node: name, PID: d.process.pid, Message: text + ". It is started again with its NFs, chains and flows; lost are packets on their way, counters, and flows of controllers"})
		select {
		case <-time.After(managerPause << (tries - 1)):
		case <-n.ended:
			return
		}
		next, err := n.restartManager(name, d)
		if err != nil {
			n.giveUp(name, d, fmt.Sprintf("the NF manager cannot be started again: %v", err))
			return
		}
		if next == nil {
			return // it is stopped, or others did it
		}
		n.events.send(Event{Kind: KindProcess, Node: name, PID: next.process.pid, Message: "the NF manager runs again"})
		d = next
	}
}

// giveUp leaves a node stopped whose manager does not live.
func (n *Network) giveUp(name string, d *dpdkNode, why string) {
	n.change.Lock()
	defer n.change.Unlock()
	n.mu.Lock()
	is := n.dpdk[name] == d && !n.closed
	n.mu.Unlock()
	if !is {
		return
	}
	if err := d.close(); err != nil {
		n.env.Log.Warn("NF manager", "node", name, "error", err)
	}
	n.stays(name)
	n.events.emit("ERROR", name, why+fmt.Sprintf("; `switch %s start` tries again", name))
}

// restartManager starts the manager of a node anew, as the plan describes it now; nil if d is
// not the node's any more.
func (n *Network) restartManager(name string, d *dpdkNode) (*dpdkNode, error) {
	n.change.Lock()
	defer n.change.Unlock()
	n.mu.Lock()
	sw, is, h, closed := n.plan.Switch(name), n.dpdk[name], n.hosts[name], n.closed
	var targets []string
	for _, c := range controllersOf(sw) {
		targets = append(targets, n.targets[channel{name, c}])
	}
	n.mu.Unlock()
	if sw == nil || is != d || closed {
		return nil, nil
	}
	place, err := h.Place()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), managerStart)
	defer cancel()
	next, then := &dpdkNode{close: d.close}, *sw
	then.Interfaces = n.present(name, sw.Interfaces)
	if next.backend, next.process, err = n.startManager(ctx, then, place, targets); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.dpdk[name] = next
	n.mu.Unlock()
	return next, nil
}

func controllersOf(sw *topo.PlannedSwitch) []string {
	if sw == nil {
		return nil
	}
	return sw.Controllers
}

// stopDPDK ends the manager of a DPDK node.
func (n *Network) stopDPDK(name string) error {
	n.mu.Lock()
	d := n.dpdk[name]
	delete(n.dpdk, name)
	if d != nil && d.process != nil {
		d.process.asked = true
	}
	n.mu.Unlock()
	if d == nil {
		return nil
	}
	return d.end()
}

// end ends a manager whose end is expected.
func (d *dpdkNode) end() (err error) {
	defer func() { err = errors.Join(err, d.close()) }()
	err = d.backend.Close()
	if d.process == nil {
		return err
	}
	select {
	case <-d.process.ended:
		return nil
	case <-time.After(managerEnd):
		d.process.kill()
		return errors.Join(err, fmt.Errorf("the NF manager did not end within %v and was killed", managerEnd))
	}
}

// closeDPDK ends all managers.
func (n *Network) closeDPDK(nodes map[string]*dpdkNode) error {
	errs := make([]error, 0, len(nodes))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, d := range nodes {
		wg.Go(func() {
			if err := d.end(); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("dpdk node %s: %w", name, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// keepFeatures turns off what the devices of both ends of a link leave to each other and keep does
// not want.
func (n *Network) keepFeatures(l topo.PlannedLink, keep func(feature string) bool) error {
	for _, e := range []topo.PlannedEnd{l.A, l.B} {
		device := n.plan.Interface(e).Device
		if err := n.netOf(e.Node).Do(func() error { return link.KeepFeatures(device, keep) }); err != nil {
			return err
		}
	}
	return nil
}
