// Package agent lets OpenFlow controllers steer an NF manager: to them it is a switch with one
// table, of OpenFlow 1.0 (1.0.1) or 1.3 (1.3.5). Its ports are those of the node, and each
// service is a port too, of number 0x8000 + service: an output there is an NF's input, and what an
// NF sends on (NEXT) comes back with that number as its input port. Packets that no flow is for go to
// the controller, unless there is a default chain. It may import control and dpdkhost/manager.
//
//	controller ── Conn: messages ──► flow director
//	           ◄── PACKET_IN, FLOW_REMOVED, PORT_STATUS ── Hooks
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"weft/control"
	"weft/dpdkhost/manager"
)

// A Port is a port of the node or a service.
type Port struct {
	Number uint32
	Name   string // 15 bytes at most are shown
	MAC    control.MAC
	Up     bool
	Speed  uint32 // Mbit/s; 0 if not known
}

// service reports whether a port is one.
func (p *Port) service() bool { return p.Number >= manager.ServicePort }

// Config says what an agent is.
type Config struct {
	Name     string
	DPID     uint64
	Versions control.Versions // of 1.0 and 1.3; 0 for both
	Manager  *manager.Manager
	// Ports returns the ports as they are now. It is asked twice a second.
	Ports func() []Port
	// Dial connects to a controller that SetControllers names.
	Dial func(ctx context.Context, target string) (net.Conn, error)
	// Management, if not nil, is where programs such as ovs-ofctl(8) find the switch, as at the
	// socket that Open vSwitch has for each bridge. They are told nothing that they do not ask for,
	// unless they ask for packets (SET_CONFIG).
	Management net.Listener
	Log        *slog.Logger
}

// An Agent speaks to controllers.
type Agent struct {
	Config
	ctx context.Context
	all sync.WaitGroup

	mu          sync.Mutex
	controllers map[string]context.CancelFunc // by target
	conns       map[*conn]bool
	ports       []Port
	generation  uint64 // of the last change of masters
	generated   bool

	hooking sync.Mutex // while the manager's hooks are set
}

// Times that bound what an agent waits for.
const (
	dialTimeout  = 5 * time.Second
	helloTimeout = 10 * time.Second
	// A controller that says nothing for idleTimeout is sent an ECHO_REQUEST, and given up if it
	// says nothing for as long again.
	idleTimeout = 10 * time.Second
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 2 * time.Second
	portsEvery  = 500 * time.Millisecond
)

// Start starts an agent, which has no controllers yet and runs until ctx ends.
func Start(ctx context.Context, c Config) (*Agent, error) {
	if c.Versions == 0 {
		c.Versions = control.VersionSet(control.OpenFlow10, control.OpenFlow13)
	}
	if c.Versions&^control.VersionSet(control.OpenFlow10, control.OpenFlow13) != 0 {
		return nil, fmt.Errorf("%s speaks OpenFlow 1.0 and 1.3, not %v", c.Name, c.Versions)
	}
	a := &Agent{Config: c, ctx: ctx, controllers: map[string]context.CancelFunc{}, conns: map[*conn]bool{}}
	a.ports = c.Ports()
	if err := a.hook(); err != nil {
		return nil, err
	}
	a.all.Go(a.watchPorts)
	if c.Management != nil {
		context.AfterFunc(ctx, func() { c.Management.Close() })
		a.all.Go(a.acceptPrograms)
	}
	return a, nil
}

// SetControllers connects to these controllers and no others. Connections that there are to some
// of them stay; nothing else changes: not the flows, nor what packets do.
func (a *Agent) SetControllers(targets []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for target, end := range a.controllers {
		if !slices.Contains(targets, target) {
			end()
			delete(a.controllers, target)
		}
	}
	for _, target := range targets {
		if a.controllers[target] != nil || a.ctx.Err() != nil {
			continue
		}
		ctx, end := context.WithCancel(a.ctx)
		a.controllers[target] = end
		a.all.Go(func() { a.keep(ctx, target) })
	}
}

// Wait waits until the agent has ended, after its context.
func (a *Agent) Wait() error {
	<-a.ctx.Done()
	a.SetControllers(nil) // none is added any more
	a.all.Wait()
	if err := a.Manager.SetHooks(manager.Hooks{}); !errors.Is(err, manager.ErrClosed) {
		return err
	}
	return nil
}

// hook asks the manager for the packets that no flow is for while there is who takes them: so
// it counts those for which there is nobody.
func (a *Agent) hook() error {
	a.hooking.Lock()
	defer a.hooking.Unlock()
	h := manager.Hooks{Removed: a.flowRemoved}
	a.mu.Lock()
	for c := range a.conns {
		if c.listens() {
			h.Miss = a.packetIn
		}
	}
	a.mu.Unlock()
	if err := a.Manager.SetHooks(h); !errors.Is(err, manager.ErrClosed) {
		return err
	}
	return nil
}

// keep keeps a connection to one controller.
func (a *Agent) keep(ctx context.Context, target string) {
	backoff := minBackoff
	for ctx.Err() == nil {
		served, err := a.connect(ctx, target)
		if err != nil && ctx.Err() == nil {
			a.Log.Info("OpenFlow controller", "node", a.Name, "err", err)
		}
		if served {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// acceptPrograms serves programs that connect to the management socket.
func (a *Agent) acceptPrograms() {
	for {
		nc, err := a.Management.Accept()
		switch {
		case a.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				nc.Close()
			}
			return
		case err != nil:
			a.Log.Warn("OpenFlow management socket", "node", a.Name, "err", err)
			time.Sleep(minBackoff) // out of files: later there may be some
		default:
			a.all.Go(func() {
				if _, err := a.serve(a.ctx, nc, true); err != nil {
					a.Log.Debug("OpenFlow management connection", "node", a.Name, "err", err)
				}
			})
		}
	}
}

// connect serves one connection to a controller, and reports whether it came so far.
func (a *Agent) connect(ctx context.Context, target string) (served bool, err error) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	nc, err := a.Dial(dialing, target)
	cancel()
	if err != nil {
		return false, err
	}
	return a.serve(ctx, nc, false)
}

// serve serves a connection, which it closes, and reports whether a version was agreed on.
func (a *Agent) serve(ctx context.Context, nc net.Conn, program bool) (served bool, err error) {
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	c := &conn{Agent: a, nc: nc, reader: control.NewReader(nc), program: program, out: make(chan []byte, maxQueue), gone: make(chan struct{})}
	if err := c.hello(); err != nil {
		return false, err
	}
	a.mu.Lock()
	a.conns[c] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.conns, c)
		a.mu.Unlock()
		err = cmp.Or(err, a.hook())
	}()
	if err := a.hook(); err != nil {
		return true, err
	}
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		c.write()
	}()
	err = c.read()
	close(c.gone)
	nc.Close()
	<-writer
	return true, err
}

// watchPorts tells controllers of ports that come, go or change.
func (a *Agent) watchPorts() {
	tick := time.NewTicker(portsEvery)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
			a.comparePorts(a.Ports())
		}
	}
}

func (a *Agent) comparePorts(now []Port) {
	a.mu.Lock()
	before := a.ports
	a.ports = now
	a.mu.Unlock()
	find := func(list []Port, n uint32) *Port {
		if i := slices.IndexFunc(list, func(p Port) bool { return p.Number == n }); i >= 0 {
			return &list[i]
		}
		return nil
	}
	for i := range before {
		if find(now, before[i].Number) == nil {
			a.portStatus(control.PortDeleted, &before[i])
		}
	}
	for i := range now {
		switch old := find(before, now[i].Number); {
		case old == nil:
			a.portStatus(control.PortAdded, &now[i])
		case *old != now[i]:
			a.portStatus(control.PortModified, &now[i])
		}
	}
}

// each calls f for every connection that is told what it did not ask for.
func (a *Agent) each(f func(*conn)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.conns {
		if !c.program || c.miss > 0 {
			f(c)
		}
	}
}

func (a *Agent) portStatus(reason control.PortReason, p *Port) {
	a.each(func(c *conn) { c.send(appendPortStatus(nil, c.version, reason, p)) })
}

// packetIn hands a packet to the controllers, on the manager's thread.
func (a *Agent) packetIn(port uint16, packet []byte, f *manager.Flow, asked bool) {
	cookie := ^uint64(0) // of none (section 7.4.1)
	if f != nil {
		cookie = f.Cookie
	}
	a.each(func(c *conn) {
		if c.listens() {
			c.offer(appendPacketIn(nil, c.version, port, packet, cookie, asked))
		}
	})
}

// flowRemoved tells controllers of a flow's end, on the manager's thread.
func (a *Agent) flowRemoved(f *manager.Flow, now time.Duration, expired bool) {
	a.each(func(c *conn) {
		if c.listens() {
			c.offer(appendFlowRemoved(nil, c.version, f, now, expired))
		}
	})
}

// known returns the ports as controllers were told of them.
func (a *Agent) known() []Port {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ports
}
