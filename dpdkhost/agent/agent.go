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
	// Controllers are how to reach the controllers.
	Controllers []func(context.Context) (net.Conn, error)
	Log         *slog.Logger
}

// An Agent speaks to controllers.
type Agent struct {
	Config

	mu         sync.Mutex
	conns      map[*conn]bool
	ports      []Port
	generation uint64 // of the last change of masters
	generated  bool
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

// Run keeps connections to all controllers until ctx ends.
func Run(ctx context.Context, c Config) error {
	if c.Versions == 0 {
		c.Versions = control.VersionSet(control.OpenFlow10, control.OpenFlow13)
	}
	if c.Versions&^control.VersionSet(control.OpenFlow10, control.OpenFlow13) != 0 {
		return fmt.Errorf("%s speaks OpenFlow 1.0 and 1.3, not %v", c.Name, c.Versions)
	}
	a := &Agent{Config: c, conns: map[*conn]bool{}}
	a.ports = c.Ports()
	err := c.Manager.SetHooks(manager.Hooks{Miss: a.packetIn, Removed: a.flowRemoved})
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for _, dial := range c.Controllers {
		all.Go(func() { a.keep(ctx, dial) })
	}
	all.Go(func() { a.watchPorts(ctx) })
	all.Wait()
	if err := c.Manager.SetHooks(manager.Hooks{}); !errors.Is(err, manager.ErrClosed) {
		return err
	}
	return nil
}

// keep keeps a connection to one controller.
func (a *Agent) keep(ctx context.Context, dial func(context.Context) (net.Conn, error)) {
	backoff := minBackoff
	for ctx.Err() == nil {
		served, err := a.connect(ctx, dial)
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

// connect serves one connection, and reports whether it came so far.
func (a *Agent) connect(ctx context.Context, dial func(context.Context) (net.Conn, error)) (served bool, err error) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	nc, err := dial(dialing)
	cancel()
	if err != nil {
		return false, err
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	c := &conn{Agent: a, nc: nc, reader: control.NewReader(nc), out: make(chan []byte, maxQueue), gone: make(chan struct{})}
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
	}()
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
func (a *Agent) watchPorts(ctx context.Context) {
	tick := time.NewTicker(portsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
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

// each calls f for every connection that is served.
func (a *Agent) each(f func(*conn)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.conns {
		f(c)
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
		if c.role != roleSlave {
			c.offer(appendPacketIn(nil, c.version, port, packet, cookie, asked))
		}
	})
}

// flowRemoved tells controllers of a flow's end, on the manager's thread.
func (a *Agent) flowRemoved(f *manager.Flow, now time.Duration, expired bool) {
	a.each(func(c *conn) {
		if c.role != roleSlave {
			c.offer(appendFlowRemoved(nil, c.version, f, now, expired))
		}
	})
}

// Roles of controllers (OpenFlow 1.3.5, section 6.3.6).
const (
	roleNoChange uint32 = iota
	roleEqual
	roleMaster
	roleSlave
)

// A conn is a connection to a controller.
type conn struct {
	*Agent
	nc      net.Conn
	reader  *control.Reader
	version control.Version
	out     chan []byte
	gone    chan struct{}
	role    uint32 // guarded by Agent.mu; roleNoChange is equal
	miss    uint16 // miss_send_len, which is only told back: there are no buffers
}

// maxQueue is how many messages may wait for a controller that does not read. Packets beyond it
// are lost.
const maxQueue = 1024

// send queues a message, and gives the connection up if too much waits.
func (c *conn) send(b []byte) {
	select {
	case c.out <- b:
	default:
		c.nc.Close()
	}
}

// offer queues a message if there is room.
func (c *conn) offer(b []byte) {
	select {
	case c.out <- b:
	default:
	}
}

func (c *conn) write() {
	for {
		select {
		case <-c.gone:
			return
		case b := <-c.out:
			c.nc.SetWriteDeadline(time.Now().Add(2 * idleTimeout))
			if _, err := c.nc.Write(b); err != nil {
				c.nc.Close()
				return
			}
		}
	}
}

// hello agrees on a version.
func (c *conn) hello() error {
	c.nc.SetDeadline(time.Now().Add(helloTimeout))
	defer c.nc.SetDeadline(time.Time{})
	ours := control.AppendHello(nil, 1, c.Versions)
	if _, err := c.nc.Write(ours); err != nil {
		return err
	}
	batch, err := c.reader.Read()
	if err != nil {
		return err
	}
	var rest []control.Message
	for m := range batch.All() {
		rest = append(rest, m)
	}
	if rest[0].Type() != control.TypeHello {
		return fmt.Errorf("the controller begins with a %s", rest[0].Type().Name(rest[0].Version()))
	}
	mine, err := control.ParseHello(ours)
	if err != nil {
		return err
	}
	theirs, err := control.ParseHello(rest[0])
	if err == nil {
		c.version, err = control.Negotiate(mine, theirs)
	}
	if err == nil && !c.Versions.Has(c.version) {
		err = fmt.Errorf("the controller speaks OpenFlow %v", theirs)
	}
	if err != nil {
		text := "this switch speaks OpenFlow " + c.Versions.String()
		c.nc.Write(control.AppendError(nil, rest[0].XID(), control.ErrorMessage{Version: mine.Version,
			Type: control.ErrorHelloFailed, Code: control.CodeIncompatible, Data: []byte(text)}))
		return fmt.Errorf("%w; %s", err, text)
	}
	for _, m := range rest[1:] {
		c.answer(m)
	}
	return nil
}

// read answers messages until the controller is gone.
func (c *conn) read() error {
	asked := false // the last word was our ECHO_REQUEST
	for {
		c.nc.SetReadDeadline(time.Now().Add(idleTimeout))
		batch, err := c.reader.Read()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			if asked {
				return fmt.Errorf("the controller has said nothing for %v", 2*idleTimeout)
			}
			asked = true
			c.send(control.AppendEmpty(nil, c.version, control.TypeEchoRequest, 0))
			continue
		}
		if err != nil {
			return err
		}
		asked = false
		for m := range batch.All() {
			c.answer(m)
		}
	}
}

// A refusal is an error as OpenFlow tells it.
type refusal struct {
	kind, code uint16
	why        string
}

func (r *refusal) Error() string { return r.why }

// Types and codes of errors that are not the same in both versions are chosen by refuse.
const (
	errBadRequest     = 1
	errBadAction      = 2
	errBadInstruction = 3 // 1.3
	errBadMatch       = 4 // 1.3
	errRole           = 11
)

// answer does what a message asks.
func (c *conn) answer(m control.Message) {
	if m.Version() != c.version {
		c.refuse(m, &refusal{errBadRequest, 0, "another version"})
		return
	}
	switch m.Type() {
	case control.TypeHello, control.TypeEchoReply, control.TypeError:
		return
	case control.TypeEchoRequest:
		c.send(control.AppendEchoReply(nil, m))
		return
	}
	b, err := c.reply(m)
	if err == nil {
		for _, part := range b {
			c.send(part)
		}
		return
	}
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{errBadRequest, 6, err.Error()} // BAD_LEN
	}
	c.refuse(m, r)
}

func (c *conn) refuse(m control.Message, r *refusal) {
	c.Log.Debug("OpenFlow message refused", "node", c.Name, "message", m.String(), "why", r.why)
	c.send(control.AppendError(nil, m.XID(), control.ErrorMessage{Version: c.version, Type: r.kind, Code: r.code, Data: m[:min(len(m), 64)]}))
}

// reply returns the messages that answer m.
func (c *conn) reply(m control.Message) ([][]byte, error) {
	v := c.version
	switch t := m.Type(); {
	case t == control.TypeFeaturesRequest:
		return one(appendFeatures(nil, m, c.DPID, c.known())), nil
	case t == control.TypeGetConfigRequest:
		return one(appendConfig(nil, m, c.miss)), nil
	case t == control.TypeSetConfig:
		if len(m) < 12 {
			return nil, errShort
		}
		c.miss = be.Uint16(m[10:])
		return nil, nil
	case t == control.TypePacketOut:
		return nil, c.packetOut(m)
	case t == control.TypeFlowMod:
		return nil, c.flowMod(m)
	case t == control.BarrierRequest(v):
		// What came before is done.
		return one(control.AppendEmpty(nil, v, control.BarrierReply(v), m.XID())), nil
	case v == control.OpenFlow10 && t == typeStatsRequest10, v != control.OpenFlow10 && t == control.TypeMultipartRequest:
		return c.statistics(m)
	case v != control.OpenFlow10 && t == typeRoleRequest:
		return c.roleRequest(m)
	case t == control.TypeExperimenter:
		return nil, &refusal{errBadRequest, 3, "an experimenter's message"}
	}
	return nil, &refusal{errBadRequest, 1, "a message that this switch does not know"}
}

func one(b []byte) [][]byte { return [][]byte{b} }

// known returns the ports as controllers were told of them.
func (a *Agent) known() []Port {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ports
}

// slave reports whether the connection may only look.
func (c *conn) slave() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.role == roleSlave {
		return &refusal{errBadRequest, 10, "a slave may only look"}
	}
	return nil
}

// roleRequest changes roles (OpenFlow 1.3.5, section 7.3.9).
func (c *conn) roleRequest(m control.Message) ([][]byte, error) {
	if len(m) < 24 {
		return nil, errShort
	}
	role, generation := be.Uint32(m[8:]), be.Uint64(m[16:])
	c.mu.Lock()
	defer c.mu.Unlock()
	switch role {
	case roleNoChange:
	case roleMaster, roleSlave:
		if c.generated && int64(generation-c.generation) < 0 {
			return nil, &refusal{errRole, 0, "a generation that is over"}
		}
		c.generation, c.generated = generation, true
		if role == roleMaster {
			for o := range c.conns {
				if o.role == roleMaster {
					o.role = roleSlave
				}
			}
		}
		c.role = role
	case roleEqual:
		c.role = role
	default:
		return nil, &refusal{errRole, 2, "no such role"}
	}
	is := c.role
	if is == roleNoChange {
		is = roleEqual
	}
	return one(appendRole(nil, m.XID(), is, c.generation, c.generated)), nil
}
