package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"weft/control"
	"weft/internal/confine"
	"weft/internal/ns"
	"weft/internal/ovs"
	"weft/internal/sandbox"
	"weft/link"
	"weft/link/netem"
	"weft/node"
	"weft/topo"
)

// Env is where a network is built.
type Env struct {
	Name string
	// Dir is a directory in memory for the network's files.
	Dir      string
	Rootless bool
	// Broker reaches the user's own namespaces.
	Broker *sandbox.Broker
	Log    *slog.Logger
	// Confine keeps programs on nodes from changing anything of the machine's; nil: they may.
	Confine *Confinement
}

// A Confinement says what confined programs see and may write to.
type Confinement = confine.Config

// A Network is a running network. Its methods may be called concurrently.
//
//	Up ──► built ──Start──► running ──Close──► closed
type Network struct {
	env      Env
	started  time.Time
	datapath topo.Datapath // where a switch says auto
	local    bool          // bridges of the user datapath have local ports
	fabric   *ns.Net       // holds Open vSwitch and all switch ports
	nl       *netlink.Handle
	events   events
	taps     taps
	captures captures
	logs     logs
	links    links
	// netemFeatures are those of this kernel, found out once.
	netemFeatures func() netem.Features
	faults        faults
	// verifying serialises VerifyLinks.
	verifying sync.Mutex

	// change serialises live changes; mu guards the fields below.
	change sync.Mutex

	mu          sync.Mutex
	plan        *topo.Plan
	hosts       map[string]*node.Host
	shells      map[string]*node.Shell // of switches, and "" of the fabric
	tasks       map[*node.Task]string  // what Exec started, on which node
	ovs         *ovs.Instance          // nil without Open vSwitch switches
	ovsReady    func() (*ovs.Instance, error)
	running     map[string]bool // switches
	dpdk        map[string]*dpdkNode
	relays      map[channel]*control.Relay
	targets     map[channel]string // of relays, as Open vSwitch knows them
	channels    int                // opened so far
	experiments map[channel]*experiment
	controllers map[string]*controller
	listeners   map[string]net.Listener        // of switches, in the user's namespaces
	uplinks     map[string]*sandbox.Uplink     // of gateways
	builtin     map[string]*control.Controller // those of that kind
	confined    *ns.Place                      // of programs of the fabric, if they are confined
	isUp        bool
	stopRunning context.CancelFunc // ends commands; nil before RunCommands
	closed      bool
	ended       chan struct{} // closed when Close begins
}

// A channel is a control channel's name.
type channel struct{ Switch, Controller string }

// workers bounds what is built at the same time: most of it waits for one lock of the
// kernel's (RTNL).
func workers() int { return max(2, runtime.NumCPU()) }

// Up builds the network of plan in the calling thread's namespaces; Start makes its switches
// forward. On error nothing is left but what the sandbox's end removes.
func Up(ctx context.Context, plan *topo.Plan, env Env, progress func(Event)) (*Network, error) {
	n := &Network{
		env: env, plan: plan.Clone(), started: time.Now(), ended: make(chan struct{}),
		hosts: map[string]*node.Host{}, shells: map[string]*node.Shell{}, tasks: map[*node.Task]string{}, running: map[string]bool{}, dpdk: map[string]*dpdkNode{},
		relays: map[channel]*control.Relay{}, targets: map[channel]string{}, experiments: map[channel]*experiment{},
		controllers: map[string]*controller{}, builtin: map[string]*control.Controller{}, listeners: map[string]net.Listener{}, uplinks: map[string]*sandbox.Uplink{},
		links: links{running: map[int]*runningLink{}, gates: map[*ns.Net]*link.Gates{}},
	}
	n.netemFeatures = sync.OnceValue(netem.Probe)
	n.plan.Name = env.Name
	n.local = localPorts(n.plan)
	if err := n.build(ctx, progress); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Network) build(ctx context.Context, progress func(Event)) (err error) {
	if n.fabric, err = ns.Current(); err != nil {
		return err
	}
	if n.nl, err = n.fabric.Handle(); err != nil {
		return err
	}
	// What makes a device send by itself is off before the first switch port is made.
	if err := node.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
		return fmt.Errorf("fabric: %w", err)
	}
	if err := n.writeEtc(); err != nil {
		return err
	}
	if n.datapath, err = chooseDatapath(n.plan); err != nil {
		return err
	}
	for _, sw := range n.plan.Switches {
		if err := n.usable(sw); err != nil {
			return err
		}
		if sw.Driver.OVS() {
			n.startOVS(ctx)
		}
	}
	p := &reporter{report: progress}
	p.stage(StageHosts)
	if err := n.makeHosts(ctx, n.plan.Hosts, p); err != nil {
		return err
	}
	p.stage(StageSwitches)
	if err := n.makeDPDK(n.plan.Switches); err != nil {
		return err
	}
	if n.ovsReady != nil {
		if n.ovs, err = n.ovsReady(); err != nil {
			return err
		}
	}
	for _, sw := range n.plan.Switches {
		p.done(sw.Name)
	}
	p.stage(StageLinks)
	if err := n.makeLinks(ctx, n.plan.Links, p); err != nil {
		return err
	}
	p.stage(StageConfigure)
	err = n.each(ctx, len(n.plan.Hosts), func(i int) error {
		defer p.done(n.plan.Hosts[i].Name)
		return n.configureHost(&n.plan.Hosts[i])
	})
	if err != nil {
		return err
	}
	for _, h := range n.plan.Hosts {
		if h.NAT == nil {
			continue
		}
		if err := n.openGateway(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// each calls f for 0 … count-1 on a few goroutines, and stops at the first error.
func (n *Network) each(ctx context.Context, count int, f func(int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers())
	for i := range count {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return f(i)
		})
	}
	return g.Wait()
}

// writeEtc writes the files that hosts see in /etc: their names resolve on every host.
func (n *Network) writeEtc() error {
	old, err := os.ReadFile("/etc/hosts")
	if err != nil {
		old = []byte("127.0.0.1 localhost\n")
	}
	var sb strings.Builder
	sb.Write(old)
	for _, h := range n.plan.Hosts {
		if len(h.Interfaces) == 0 {
			continue
		}
		if ip := h.Interfaces[0].IP; ip.IsValid() {
			fmt.Fprintf(&sb, "%s %s\n", ip.Addr(), h.Name)
		}
		if ip := h.Interfaces[0].IP6; ip.IsValid() {
			fmt.Fprintf(&sb, "%s %s\n", ip.Addr(), h.Name)
		}
	}
	if err := os.MkdirAll(n.etc(), 0o755); err != nil {
		return fmt.Errorf("names of hosts: %w", err)
	}
	// Written in place: hosts have this very file mounted.
	if err := os.WriteFile(filepath.Join(n.etc(), "hosts"), []byte(sb.String()), 0o644); err != nil {
		return fmt.Errorf("names of hosts: %w", err)
	}
	return nil
}

func (n *Network) etc() string { return filepath.Join(n.env.Dir, "etc") }

func (n *Network) ovsDir() string { return filepath.Join(n.env.Dir, "ovs") }

// programEnv is what programs on nodes find in their environment.
func (n *Network) programEnv() []string {
	return append(ovs.Env(n.ovsDir()), "WEFT_NETWORK="+n.env.Name)
}

func (n *Network) makeHosts(ctx context.Context, hosts []topo.PlannedHost, p *reporter) error {
	return n.each(ctx, len(hosts), func(i int) error {
		h, err := node.NewHost(node.HostConfig{
			Name: hosts[i].Name, IPv6: n.plan.Addressing.IP6Base.IsValid(), Forward: hosts[i].NAT != nil,
			PrivateDirs: hosts[i].PrivateDirs, Files: hosts[i].Files, FilesDir: filepath.Join(n.env.Dir, "files"),
			Etc: n.etc(), Env: n.programEnv(), Confine: n.env.Confine,
		})
		if err != nil {
			return err
		}
		if len(hosts[i].Files) > 0 {
			if _, err := h.Place(); err != nil { // now, not when a program is to find them
				return errors.Join(err, h.Close())
			}
		}
		n.mu.Lock()
		n.hosts[hosts[i].Name] = h
		n.mu.Unlock()
		p.done(hosts[i].Name)
		return nil
	})
}

// firstIndex keeps the interface indices of links away from those that the kernel gives, in their
// lower 16 bits too: those tell interfaces apart in PACKET_FANOUT groups of DPDK's af_packet.
const firstIndex = 1<<20 + 1<<15

// end says where a link's end goes and what it is called there.
func (n *Network) end(e topo.PlannedEnd) (link.End, error) {
	i := n.plan.Interface(e)
	if i == nil {
		return link.End{}, fmt.Errorf("plan has no interface %s of %s", e.Interface, e.Node)
	}
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return link.End{}, fmt.Errorf("interface %s: %w", i.Name, err)
	}
	end := link.End{Device: i.Device, MAC: mac}
	if net := n.netOf(e.Node); net != n.fabric {
		end.Net = net
	}
	return end, nil
}

// netOf returns the namespace that holds a node's interfaces.
func (n *Network) netOf(name string) *ns.Net {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h, ok := n.hosts[name]; ok {
		return h.Net()
	}
	return n.fabric
}

// configureHost gives a host its addresses, routes and neighbours.
func (n *Network) configureHost(h *topo.PlannedHost) error {
	c := hostConfig(*h)
	if n.plan.Addressing.StaticARP {
		c.Neighbours = n.neighbours(h.Name)
	}
	n.mu.Lock()
	host := n.hosts[h.Name]
	n.mu.Unlock()
	return host.Configure(c)
}

// hostConfig is what a host's interfaces are given.
func hostConfig(h topo.PlannedHost) node.NetConfig {
	c := node.NetConfig{Gateway: h.DefaultRoute}
	for _, i := range h.Interfaces {
		c.Addresses = append(c.Addresses, node.Address{Device: i.Device, IP: i.IP, IP6: i.IP6, MAC: i.MAC})
	}
	return c
}

// neighbours lists the first addresses of all hosts but one.
func (n *Network) neighbours(except string) []node.Neighbour {
	var all []node.Neighbour
	for _, h := range n.plan.Hosts {
		if h.Name != except {
			all = append(all, neighboursOf(h)...)
		}
	}
	return all
}

// neighboursOf is how other hosts know a host.
func neighboursOf(h topo.PlannedHost) (all []node.Neighbour) {
	if len(h.Interfaces) == 0 {
		return nil
	}
	i := h.Interfaces[0]
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return nil // Plan checked it
	}
	for _, ip := range []netip.Prefix{i.IP, i.IP6} {
		if ip.IsValid() {
			all = append(all, node.Neighbour{IP: ip.Addr(), MAC: mac})
		}
	}
	return all
}

// Close ends controllers and Open vSwitch, and lets go of all nodes. It goes to the end
// whatever fails, and may be called twice.
func (n *Network) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	if n.stopRunning != nil {
		n.stopRunning()
	}
	close(n.ended)
	uplinks := n.uplinks
	relays, controllers, hosts, shells, managers := n.relays, n.controllers, n.hosts, n.shells, n.dpdk
	listeners, confined := n.listeners, n.confined
	sw, ready := n.ovs, n.ovsReady
	n.mu.Unlock()
	n.events.send(Event{Kind: KindEnding, Message: "the network ends"})
	n.closeFaults()
	errs := []error{n.closeDPDK(managers)}
	for _, r := range relays {
		errs = append(errs, r.Close())
	}
	n.mu.Lock()
	errs = append(errs, n.endExperiments(func(channel) bool { return true }))
	n.mu.Unlock()
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	var wg sync.WaitGroup
	for _, c := range controllers {
		wg.Go(func() { c.close() })
	}
	if sw == nil && ready != nil {
		sw, _ = ready()
	}
	for _, s := range shells {
		s.Close()
	}
	for _, u := range uplinks {
		errs = append(errs, u.Close())
	}
	for _, h := range hosts {
		errs = append(errs, h.Close())
	}
	if confined != nil {
		errs = append(errs, confined.Close())
	}
	if sw != nil {
		errs = append(errs, sw.Close())
	}
	wg.Wait()
	errs = append(errs, n.closeLinks())
	errs = append(errs, n.captures.close()) // last: they see the end
	n.events.close()
	return errors.Join(errs...)
}

// A reporter turns the progress of parallel work into events.
type reporter struct {
	mu     sync.Mutex
	name   string
	report func(Event)
}

func (r *reporter) stage(name string) {
	r.mu.Lock()
	r.name = name
	r.mu.Unlock()
	r.done("")
}

func (r *reporter) done(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report != nil {
		r.report(Event{Time: time.Now(), Stage: r.name, Node: node})
	}
}
