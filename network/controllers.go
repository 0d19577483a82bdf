package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sort"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"weft/control"
	"weft/node"
	"weft/topo"
)

// A controller is one that the network's switches connect to.
type controller struct {
	plan    topo.PlannedController
	address string        // HOST:PORT in the user's namespaces; empty: none
	process *node.Process // nil if weft does not run it
	close   func()
	dial    func(ctx context.Context) (net.Conn, error)
}

// Start starts the controllers, connects the switches to them and makes them forward.
func (n *Network) Start(ctx context.Context, progress func(Event)) error {
	n.change.Lock()
	defer n.change.Unlock()
	if n.isUp {
		return errors.New("the network has been started already")
	}
	p := &reporter{report: progress}
	p.stage(StageControllers)
	for _, c := range n.plan.Controllers {
		if err := n.launchController(ctx, c); err != nil {
			return err
		}
		p.done(c.Name)
	}
	n.tellTopology()
	p.stage(StageStart)
	err := n.startSwitches(ctx, n.plan.Switches)
	if err == nil {
		err = n.awaitMemif(ctx)
	}
	if err != nil {
		return err
	}
	for _, sw := range n.plan.Switches {
		p.done(sw.Name)
	}
	n.isUp = true
	n.watchPorts("")
	n.events.send(Event{Kind: KindReady, Message: "the network is ready"})
	go debug.FreeOSMemory() // building took more than running does
	p.stage(StageReady)
	return nil
}

// launchController starts a controller and takes it into the network.
func (n *Network) launchController(ctx context.Context, c topo.PlannedController) error {
	started, err := n.startController(ctx, c)
	if err != nil {
		return fmt.Errorf("controller %s: %w", c.Name, err)
	}
	n.mu.Lock()
	n.controllers[c.Name] = started
	n.mu.Unlock()
	if p := started.process; p != nil {
		n.events.send(Event{Kind: KindProcess, Node: c.Name, PID: p.PID, Message: "listens at " + p.Address})
		go func() {
			<-p.Done()
			n.events.send(Event{Kind: KindProcessEnded, Node: c.Name, PID: p.PID, Message: "has ended"})
		}()
	}
	return nil
}

// endController ends a controller and all channels to it.
func (n *Network) endController(name string) error {
	err := n.closeChannels(func(ch channel) bool { return ch.Controller == name })
	n.mu.Lock()
	c := n.controllers[name]
	delete(n.controllers, name)
	delete(n.builtin, name)
	n.mu.Unlock()
	if c != nil {
		c.close()
	}
	return err
}

func (n *Network) startController(ctx context.Context, c topo.PlannedController) (*controller, error) {
	switch c.Kind {
	case topo.ControllerBuiltin:
		return n.startBuiltin(ctx, c)
	case topo.ControllerRemote:
		dial, err := node.RemoteDialer(c, n.env.Broker.DialTCP)
		return &controller{plan: c, address: node.RemoteAddress(c), dial: dial, close: func() {}}, err
	}
	p, err := node.StartController(ctx, c, n.env.Broker, n.programEnv(), n.log(c.Name))
	if err != nil {
		return nil, err
	}
	return &controller{plan: c, address: p.Address, process: p, dial: p.Dial, close: func() { p.Close() }}, nil
}

// startBuiltin starts weft's own controller. With an address it also listens there, in the
// user's namespaces, and the switches reach it that way, so that what they say can be
// seen on the user's loopback interface.
func (n *Network) startBuiltin(ctx context.Context, c topo.PlannedController) (*controller, error) {
	// Each is one of its own: a switch has a connection to each.
	builtin := control.NewController(n.env.Log)
	n.mu.Lock()
	n.builtin[c.Name] = builtin
	n.mu.Unlock()
	life, end := context.WithCancel(context.Background())
	if c.Port == 0 {
		return &controller{plan: c, close: end, dial: builtin.Dial}, nil
	}
	l, err := n.env.Broker.ListenTCP(ctx, net.JoinHostPort(c.Address, strconv.Itoa(c.Port)))
	if errors.Is(err, unix.EADDRINUSE) {
		l, err = n.env.Broker.ListenTCP(ctx, net.JoinHostPort(c.Address, "0"))
	}
	if err != nil {
		end()
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go builtin.Serve(life, conn)
		}
	}()
	address := l.Addr().String()
	return &controller{plan: c, address: address, close: func() { end(); l.Close() },
		dial: func(ctx context.Context) (net.Conn, error) { return n.env.Broker.DialTCP(ctx, address) }}, nil
}

// openChannels starts the relays of a switch that do not run, and returns Open vSwitch's
// targets for all of them.
func (n *Network) openChannels(sw topo.PlannedSwitch) ([]string, error) {
	var targets []string
	for _, name := range sw.Controllers {
		ch := channel{sw.Name, name}
		n.mu.Lock()
		c, target := n.controllers[name], n.targets[ch]
		n.mu.Unlock()
		switch {
		case target != "":
		case c == nil:
			return nil, fmt.Errorf("switch %s: no controller named %s", sw.Name, name)
		default:
			var err error
			if target, err = n.openChannel(ch, c); err != nil {
				return nil, fmt.Errorf("control channel %s–%s: %w", sw.Name, name, err)
			}
		}
		targets = append(targets, target)
	}
	return targets, nil
}

// openChannel starts a relay and returns Open vSwitch's target for it, which no other has had.
func (n *Network) openChannel(ch channel, c *controller) (string, error) {
	n.mu.Lock()
	n.channels++
	path := filepath.Join(n.ovsDir(), "ctl-"+strconv.Itoa(n.channels))
	n.mu.Unlock()
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", err
	}
	r := control.NewRelay(control.RelayConfig{
		Switch: ch.Switch, Controller: ch.Controller, Listener: l, Dial: c.dial, Log: n.env.Log, Tap: n.taps.pass,
		OnChange: func(s control.Status) { n.channelChanged(ch, s) },
	})
	n.mu.Lock()
	n.relays[ch], n.targets[ch] = r, "unix:"+path
	n.mu.Unlock()
	return "unix:" + path, nil
}

// setControllers connects a running switch to the controllers that it is to have; to those in
// renewed once more.
func (n *Network) setControllers(ctx context.Context, sw topo.PlannedSwitch, renewed map[string]bool) error {
	err := n.closeChannels(func(ch channel) bool {
		return ch.Switch == sw.Name && (renewed[ch.Controller] || !slices.Contains(sw.Controllers, ch.Controller))
	})
	if err != nil {
		return err
	}
	targets, err := n.openChannels(sw)
	if err != nil {
		return err
	}
	if sw.DPDK != nil {
		return n.steerDPDK(ctx, sw.Name, targets)
	}
	return n.ovs.SetControllers(ctx, sw.Device, targets...)
}

func (n *Network) channelChanged(ch channel, s control.Status) {
	if s.Connected {
		n.events.send(Event{Kind: KindConnected, Node: ch.Switch, Controller: ch.Controller,
			Message: "connected to " + ch.Controller + " (OpenFlow " + s.Version + ")"})
	} else {
		n.events.send(Event{Kind: KindDisconnected, Node: ch.Switch, Controller: ch.Controller,
			Message: "not connected to " + ch.Controller + ": " + s.Reason})
	}
}

// tellTopology gives the built-in controller the links between switches.
func (n *Network) tellTopology() {
	n.mu.Lock()
	builtin := slices.Collect(maps.Values(n.builtin))
	n.mu.Unlock()
	if len(builtin) == 0 {
		return
	}
	links, others := topologyOf(n.plan)
	for _, c := range builtin {
		c.SetTopology(links, others...)
	}
}

// topologyOf returns the links between switches as controllers see them, and the switches that
// forward by themselves.
func topologyOf(plan *topo.Plan) (links []control.TopologyLink, others []uint64) {
	used := map[uint64]bool{}
	for _, sw := range plan.Switches {
		used[sw.DPID] = true
	}
	numbers := map[string]uint64{} // DPIDs, of all who forward frames as they are
	last := ^uint64(0)             // for those that have none
	for _, sw := range plan.Switches {
		if sw.DPDK != nil && len(sw.Controllers) == 0 && sw.DPDK.Routes() {
			continue // it is like a host
		}
		number := sw.DPID
		for ; number == 0 || number != sw.DPID && used[number]; last-- {
			number = last
		}
		numbers[sw.Name] = number
		if len(sw.Controllers) == 0 {
			others = append(others, number)
		}
	}
	for _, l := range plan.Links {
		a, b := numbers[l.A.Node], numbers[l.B.Node]
		if a == 0 || b == 0 {
			continue
		}
		links = append(links, control.TopologyLink{
			DPIDA: a, PortA: uint32(plan.Interface(l.A).Port),
			DPIDB: b, PortB: uint32(plan.Interface(l.B).Port), Up: true,
		})
	}
	return links, others
}

// connections returns all control channels, in the order of switches and controllers.
func (n *Network) connections() []ControlConnection {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []ControlConnection
	for _, sw := range n.plan.Switches {
		if !n.running[sw.Name] {
			continue
		}
		for _, name := range sw.Controllers {
			cc := ControlConnection{Switch: sw.Name, Controller: name}
			if r := n.relays[channel{sw.Name, name}]; r != nil {
				s := r.Status()
				cc.Connected, cc.Version, cc.Reason = s.Connected, s.Version, s.Reason
			}
			all = append(all, cc)
		}
	}
	return all
}

// Wait waits until every running switch is connected to all its controllers, at most
// timeout, and returns the connections that are missing.
func (n *Network) Wait(ctx context.Context, timeout time.Duration) ([]ControlConnection, error) {
	deadline := time.After(timeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		missing := []ControlConnection{}
		for _, cc := range n.connections() {
			if !cc.Connected {
				missing = append(missing, cc)
			}
		}
		if len(missing) == 0 {
			return missing, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline:
			sort.SliceStable(missing, func(i, j int) bool { return missing[i].Switch < missing[j].Switch })
			return missing, nil
		case <-time.After(pause):
		}
	}
}
