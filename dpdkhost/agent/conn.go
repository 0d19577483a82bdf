package agent

import (
	"errors"
	"fmt"
	"net"
	"time"

	"weft/control"
)

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
	program bool // it came to the management socket
	out     chan []byte
	gone    chan struct{}
	// Guarded by Agent.mu:
	role uint32 // roleNoChange is equal
	miss uint16 // miss_send_len; packets are whole whatever it is, but a program's 0 is none
}

// listens reports whether a connection takes packets. Agent.mu is held.
func (c *conn) listens() bool { return c.role != roleSlave && (!c.program || c.miss > 0) }

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
		c.mu.Lock()
		c.miss = be.Uint16(m[10:])
		c.mu.Unlock()
		return nil, c.hook()
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
	if err := c.setRole(role, generation); err != nil {
		return nil, err
	}
	if err := c.hook(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	is := c.role
	if is == roleNoChange {
		is = roleEqual
	}
	return one(appendRole(nil, m.XID(), is, c.generation, c.generated)), nil
}

// setRole gives a connection a role.
func (c *conn) setRole(role uint32, generation uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch role {
	case roleNoChange:
	case roleMaster, roleSlave:
		if c.generated && int64(generation-c.generation) < 0 {
			return &refusal{errRole, 0, "a generation that is over"}
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
		return &refusal{errRole, 2, "no such role"}
	}
	return nil
}
