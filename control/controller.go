package control

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	flowPriority = 10
	flowIdle     = 60 // seconds
	// flowCookie marks the flows between hosts ("weft"), so that deleting them
	// spares the table-miss flow and the user's own.
	flowCookie = 0x77656674
)

// maxHosts bounds the host table. When it is full it is emptied, and learnt anew.
const maxHosts = 1 << 17

// Times that bound what the controller waits for.
const (
	handshakeTimeout = 10 * time.Second
	// A switch that says nothing for idleTimeout is sent an ECHO_REQUEST, and
	// given up if it says nothing for as long again.
	idleTimeout = 15 * time.Second
)

// A Controller is the built-in controller: a learning switch over the whole network.
// It knows the links between the switches, so that loops do no harm:
//
//   - Hosts are learnt where their packets enter the network, at ports that lead to
//     no other switch. What carries packets on by itself between such ports (a bridge without a
//     controller, network functions in line) joins islands, in each of which a host
//     has a place: its own, or the port to what it is behind. Where such a way would close a loop,
//     its port is blocked.
//   - What has no known destination is flooded along a spanning tree.
//   - The first packet between two hosts installs flows both ways on every switch of
//     a shortest path, for as long as they are used; no further packet between them
//     comes to the controller.
//
// Each connection has a goroutine that reads and one that writes. All that is known
// is guarded by one lock, which is taken once for all messages that have arrived
// together and never held while waiting.
type Controller struct {
	log       *slog.Logger
	handshake time.Duration
	idle      time.Duration
	queue     int

	mu    sync.Mutex
	graph graph
	stale bool // graph must settle before it is used
	hosts map[host]location
	dirty []*datapath // those with something in out
	steps []step      // scratch
	ports []uint32    // scratch
}

// A host is an address in an island (graph). Without padding it is hashed in one go.
type host struct {
	island uint64
	mac    [8]byte // the last two are 0
}

func hostOf(island uint64, mac MAC) (h host) {
	h.island = island
	copy(h.mac[:], mac[:])
	return h
}

// address returns the host's MAC address.
func (h host) address() MAC { return MAC(h.mac[:6]) }

// A location is where a host is.
type location struct {
	dpid uint64
	port uint32
}

// NewController returns a Controller that knows no links yet. log may be nil.
func NewController(log *slog.Logger) *Controller {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Controller{
		log:       log,
		handshake: handshakeTimeout,
		idle:      idleTimeout,
		queue:     maxQueue,
		graph:     graph{switches: make(map[uint64]*datapath)},
		hosts:     make(map[host]location),
	}
}

// SetTopology says which links there are between switches of this controller, and with
// others: switches among them, by DPIDs of theirs or any that no other has, that forward frames by
// themselves. It may be called at any time. A new link must be told before its ports come up,
// because until then they count as ports to hosts.
func (c *Controller) SetTopology(links []TopologyLink, others ...uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.graph.others = make(map[uint64]bool, len(others))
	for _, dpid := range others {
		c.graph.others[dpid] = true
	}
	kept := make(map[TopologyLink]bool, len(links))
	trunks := make(map[location]bool, 2*len(links))
	for _, l := range links {
		kept[l.ends()] = true
		if !c.graph.leavesIsland(l) {
			trunks[location{l.DPIDA, l.PortA}] = true
			trunks[location{l.DPIDB, l.PortB}] = true
		}
	}
	gone := slices.ContainsFunc(c.graph.links, func(l TopologyLink) bool { return !kept[l.ends()] })
	for h, at := range c.hosts {
		if trunks[at] {
			delete(c.hosts, h)
			gone = true
		}
	}
	c.graph.links = slices.Clone(links)
	c.stale = true
	c.settle()
	if gone {
		c.deleteFlows()
	}
	c.flush()
}

// Connected returns the DPIDs of the switches that are past the handshake, ascending.
func (c *Controller) Connected() []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.graph.switches))
}

// Dial returns the switch's side of a new connection to the controller, which lasts
// until that is closed. It fits RelayConfig.Dial.
func (c *Controller) Dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		if err := c.Serve(context.Background(), ours); err != nil {
			c.log.Debug("connection of a switch to the built-in controller", "err", err)
		}
	}()
	return theirs, nil
}

// Serve speaks with one switch on conn until the switch closes it, which is no error,
// or it must be given up, or ctx ends. It closes conn.
func (c *Controller) Serve(ctx context.Context, conn net.Conn) error {
	d := &datapath{peer: newPeer(conn, c.queue)}
	stop := context.AfterFunc(ctx, func() { d.peer.fail(ctx.Err()) })
	defer stop()
	err := d.peer.reason(c.converse(d))
	c.leave(d)
	d.peer.close()
	if endedByPeer(err) {
		return nil
	}
	if d.joined {
		c.log.Warn("connection to a switch has ended", "dpid", dpidText(d.dpid), "err", err)
		return fmt.Errorf("switch %s: %w", dpidText(d.dpid), err)
	}
	return err
}

// dpidText writes a DPID as Open vSwitch does.
func dpidText(dpid uint64) string { return fmt.Sprintf("%016x", dpid) }

// converse reads and handles what the switch says.
func (c *Controller) converse(d *datapath) error {
	d.peer.send(AppendHello(nil, 0, VersionSet(OpenFlow10, OpenFlow13)))
	r := NewReader(d.peer.conn)
	deadline := time.Now().Add(c.handshake)
	asked := false // an ECHO_REQUEST awaits its reply
	for {
		if d.joined {
			deadline = time.Now().Add(c.idle)
		}
		d.peer.conn.SetReadDeadline(deadline)
		batch, err := r.Read()
		switch {
		case err == nil:
			asked = false
			if err = c.handle(d, batch); err == nil {
				err = d.peer.drain(c.idle)
			}
		case !errors.Is(err, os.ErrDeadlineExceeded):
		case !d.joined:
			err = fmt.Errorf("the switch has not finished the handshake within %v", c.handshake)
		case asked:
			err = fmt.Errorf("the switch has not answered an echo request within %v", c.idle)
		default:
			asked = true
			d.peer.send(AppendEmpty(nil, d.version, TypeEchoRequest, 0))
			err = nil
		}
		if err != nil {
			return err
		}
	}
}

// leave forgets a connection.
func (c *Controller) leave(d *datapath) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.graph.switches[d.dpid] == d {
		delete(c.graph.switches, d.dpid)
		c.stale = true
		c.settle()
		c.flush()
	}
}

// settle brings the graph up to date.
func (c *Controller) settle() {
	if !c.stale {
		return
	}
	c.stale = false
	broke, moved := c.graph.settle()
	if moved {
		c.regroup()
	}
	if c.graph.blocks {
		c.forget(func(at location) bool {
			d := c.graph.switches[at.dpid]
			return d != nil && d.blocked[at.port]
		})
	}
	if broke {
		c.deleteFlows()
	}
}

// regroup gives hosts the islands that their places are in now. Where islands grow together, a
// host may have a place too many: it is learnt anew.
func (c *Controller) regroup() {
	before := c.hosts
	c.hosts = make(map[host]location, len(before))
	var twice []host
	for h, at := range before {
		now := host{c.graph.island(at.dpid), h.mac}
		if _, known := c.hosts[now]; known {
			twice = append(twice, now)
		}
		c.hosts[now] = at
	}
	c.drop(twice)
}

// deleteFlows deletes the flows between hosts, on all switches.
func (c *Controller) deleteFlows() {
	for _, d := range c.graph.switches {
		c.deleteMatching(d, Match{})
	}
}

// deleteFlowsTo deletes the flows to a host, in its island.
func (c *Controller) deleteFlowsTo(h host) {
	for _, d := range c.graph.switches {
		if d.island == h.island {
			c.deleteMatching(d, Match{Dst: h.address()})
		}
	}
}

// deleteMatching deletes the flows between hosts that match covers.
func (c *Controller) deleteMatching(d *datapath, match Match) {
	if !d.flows {
		return
	}
	out := c.out(d)
	*out = AppendFlowMod(*out, d.version, d.nextXID(), FlowMod{
		Command: FlowDelete, Match: match, Cookie: flowCookie,
	})
	d.flows = match != Match{}
}

// out returns the output of d, to append to.
func (c *Controller) out(d *datapath) *[]byte {
	if !d.dirty {
		d.dirty = true
		c.dirty = append(c.dirty, d)
	}
	return &d.out
}

// flush hands all output to the connections.
func (c *Controller) flush() {
	for _, d := range c.dirty {
		d.peer.send(d.out)
		d.out, d.dirty = d.out[:0], false
	}
	c.dirty = c.dirty[:0]
}

// handle handles messages that arrived together. An error ends the connection.
func (c *Controller) handle(d *datapath, batch Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.flush()
	if d.joined && c.graph.switches[d.dpid] != d {
		return errReplaced
	}
	for m := range batch.All() {
		if err := c.message(d, m); err != nil {
			return err
		}
	}
	c.settle()
	return nil
}

// message handles one message.
func (c *Controller) message(d *datapath, m Message) error {
	switch t := m.Type(); {
	case t == TypeHello:
		return c.hello(d, m)
	case t == TypeError:
		return c.errorMessage(d, m)
	case d.version == 0:
		return fmt.Errorf("the switch sent a %s before its HELLO", t.Name(m.Version()))
	case t == TypeEchoRequest:
		out := c.out(d)
		*out = AppendEchoReply(*out, m)
	case m.Version() != d.version:
		c.complain(d, m, CodeBadVersion, fmt.Errorf("a message of OpenFlow %v where %v was agreed", m.Version(), d.version))
	default:
		if err := c.dispatch(d, t, m); err != nil {
			c.complain(d, m, CodeBadLength, err)
		}
	}
	return nil
}

// dispatch handles the messages of an agreed version. An error says that m makes no
// sense. Messages that a controller need not know are skipped.
func (c *Controller) dispatch(d *datapath, t Type, m Message) error {
	switch {
	case t == TypePacketIn:
		p, err := ParsePacketIn(m)
		if err == nil && d.joined {
			c.packetIn(d, p)
		}
		return err
	case t == TypePortStatus:
		s, err := ParsePortStatus(m)
		if err == nil {
			c.setPort(d, s.Port.Number, s.Reason != PortDeleted && !s.Port.Silent, s.Port.Up)
		}
		return err
	case t == TypeFeaturesReply:
		f, err := ParseFeatures(m)
		if err == nil {
			c.join(d, f)
		}
		return err
	case t == TypeMultipartReply && d.version == OpenFlow13:
		ports, _, err := ParsePortDesc(m)
		for _, p := range ports {
			c.setPort(d, p.Number, !p.Silent, p.Up)
		}
		return err
	}
	return nil
}

// complain answers a message that makes no sense.
func (c *Controller) complain(d *datapath, m Message, code uint16, err error) {
	c.log.Warn("a switch sent a bad message", "dpid", dpidText(d.dpid), "err", err)
	out := c.out(d)
	*out = AppendError(*out, m.XID(), ErrorMessage{
		Version: d.version, Type: ErrorBadRequest, Code: code, Data: m[:min(len(m), 64)],
	})
}

// errorMessage handles an ERROR.
func (c *Controller) errorMessage(d *datapath, m Message) error {
	e, err := ParseError(m)
	if err != nil {
		return err
	}
	if e.Type == ErrorHelloFailed {
		return fmt.Errorf("the switch refused the connection: %v", e)
	}
	c.log.Warn("error from a switch", "dpid", dpidText(d.dpid), "err", e)
	return nil
}

// hello agrees on a version and starts the handshake: the switch is set up before it
// tells its features, so that it asks about packets when it counts as connected.
func (c *Controller) hello(d *datapath, m Message) error {
	if d.version != 0 {
		return nil
	}
	theirs, err := ParseHello(m)
	if err != nil {
		return err
	}
	ours := VersionSet(OpenFlow10, OpenFlow13)
	v, err := Negotiate(Hello{OpenFlow13, ours}, theirs)
	out := c.out(d)
	if err != nil || !ours.Has(v) {
		text := fmt.Sprintf("version mismatch: switch speaks OpenFlow %v, controller %v", theirs, ours)
		*out = AppendError(*out, m.XID(), ErrorMessage{
			Version: min(OpenFlow13, theirs.Version),
			Type:    ErrorHelloFailed, Code: CodeIncompatible, Data: []byte(text),
		})
		return errors.New(text)
	}
	d.version = v
	d.ports = make(map[uint32]bool)
	b := AppendSetConfig(*out, v, d.nextXID())
	b = AppendFlowMod(b, v, d.nextXID(), FlowMod{Command: FlowDelete})
	if v == OpenFlow13 {
		b = AppendFlowMod(b, v, d.nextXID(), FlowMod{Output: PortController}) // table miss
	}
	b = AppendEmpty(b, v, BarrierRequest(v), d.nextXID())
	if v == OpenFlow13 {
		b = AppendPortDescRequest(b, v, d.nextXID())
	}
	*out = AppendEmpty(b, v, TypeFeaturesRequest, d.nextXID())
	return nil
}

// errReplaced ends the older of two connections of a switch.
var errReplaced = errors.New("the switch has connected again")

// join ends the handshake. A new connection of a switch replaces its old one.
func (c *Controller) join(d *datapath, f Features) {
	if d.joined {
		return
	}
	d.joined, d.dpid = true, f.DPID
	for _, p := range f.Ports {
		if !p.Silent {
			d.ports[p.Number] = p.Up
		}
	}
	if old := c.graph.switches[d.dpid]; old != nil {
		old.peer.fail(errReplaced)
	}
	c.graph.switches[d.dpid] = d
	c.stale = true
	c.forget(func(at location) bool { return at.dpid == d.dpid && !d.ports[at.port] })
	c.log.Debug("switch connected", "dpid", dpidText(d.dpid), "version", d.version.String(), "ports", len(d.ports))
}

// setPort notes the state of a port.
func (c *Controller) setPort(d *datapath, port uint32, exists, up bool) {
	was, known := d.ports[port]
	if exists {
		d.ports[port] = up
	} else {
		delete(d.ports, port)
		up = false
	}
	if !d.joined || was == up && known == exists {
		return
	}
	c.stale = true
	if !up {
		c.forget(func(at location) bool { return at == location{d.dpid, port} })
	}
}

// forget forgets the hosts at some locations, and the flows to them.
func (c *Controller) forget(where func(location) bool) {
	var gone []host
	for h, at := range c.hosts {
		if where(at) {
			gone = append(gone, h)
		}
	}
	c.drop(gone)
}

// drop forgets hosts, and the flows to them.
func (c *Controller) drop(gone []host) {
	slices.SortFunc(gone, func(a, b host) int { // the same in each run
		return cmp.Or(cmp.Compare(a.island, b.island), bytes.Compare(a.mac[:], b.mac[:]))
	})
	for _, h := range gone {
		delete(c.hosts, h)
		c.deleteFlowsTo(h)
	}
}

// ethernetHeader is the length of an Ethernet header in bytes.
const ethernetHeader = 14

// packetIn decides about a packet.
func (c *Controller) packetIn(d *datapath, p PacketIn) {
	if len(p.Data) < ethernetHeader {
		return
	}
	c.settle()
	dst, src := MAC(p.Data[0:6]), MAC(p.Data[6:12])
	if src.Multicast() || src == (MAC{}) || linkLocal(dst) {
		return
	}
	if d.blocked[p.InPort] {
		return // it came another way too
	}
	t := d.trunks[p.InPort]
	// What comes from a port that is no place for hosts (Port.Silent) entered the network elsewhere:
	// an NF of a DPDK node, to which somebody's flow led it, sends it on.
	_, place := d.ports[p.InPort]
	enters := t == nil && place
	if enters {
		c.learn(hostOf(d.island, src), location{d.dpid, p.InPort})
	}
	if at, known := c.hosts[hostOf(d.island, dst)]; known && c.forward(d, p, src, dst, at, enters) {
		return
	}
	if t == nil || t.tree {
		c.flood(d, p)
	}
}

// linkLocal reports whether a bridge must not forward to a: 01:80:c2:00:00:0x, of
// LLDP, STP and others (IEEE 802.1Q, 8.6.3).
func linkLocal(a MAC) bool {
	return a[0] == 0x01 && a[1] == 0x80 && a[2] == 0xc2 && a[3] == 0 && a[4] == 0 && a[5] < 0x10
}

// learn notes where a host is.
func (c *Controller) learn(h host, at location) {
	was, known := c.hosts[h]
	if known && was == at {
		return
	}
	if known {
		c.deleteFlowsTo(h) // it has moved
	}
	if len(c.hosts) >= maxHosts {
		clear(c.hosts)
	}
	c.hosts[h] = at
}

// forward installs flows from here to the host at a location, and back too if the
// packet enters the network here, and sends the packet on its way. It reports false
// if there is no way. Flows are installed from the far end, so that the packet finds
// them; where it overtakes one, the next switch asks, and this continues from there.
func (c *Controller) forward(d *datapath, p PacketIn, src, dst MAC, at location, enters bool) bool {
	to := c.graph.switches[at.dpid]
	if to == nil {
		return false
	}
	var ok bool
	c.steps, ok = c.graph.path(c.steps[:0], d, p.InPort, to, at.port)
	if !ok {
		return false
	}
	if c.steps[0].out == p.InPort {
		return true // its own segment, or a flooded copy on a branch without dst
	}
	for _, s := range slices.Backward(c.steps) {
		c.install(s.dp, Match{InPort: s.in, Src: src, Dst: dst}, s.out)
		if enters {
			c.install(s.dp, Match{InPort: s.out, Src: dst, Dst: src}, s.in)
		}
	}
	c.packetOut(d, p, append(c.ports[:0], c.steps[0].out))
	return true
}

// install adds a flow.
func (c *Controller) install(d *datapath, match Match, output uint32) {
	d.flows = true
	out := c.out(d)
	*out = AppendFlowMod(*out, d.version, d.nextXID(), FlowMod{
		Match: match, Priority: flowPriority, Idle: flowIdle, Cookie: flowCookie, Output: output,
	})
}

// flood sends a packet to the hosts here and along the spanning tree.
func (c *Controller) flood(d *datapath, p PacketIn) {
	ports := c.ports[:0]
	for _, port := range d.flood {
		if port != p.InPort {
			ports = append(ports, port)
		}
	}
	if len(ports) > 0 {
		c.packetOut(d, p, ports)
	}
}

// packetOut has d send the packet of a PACKET_IN. ports becomes c.ports.
func (c *Controller) packetOut(d *datapath, p PacketIn, ports []uint32) {
	c.ports = ports
	out := c.out(d)
	*out = AppendPacketOut(*out, d.version, d.nextXID(), PacketOut{
		BufferID: p.BufferID, InPort: p.InPort, Outputs: ports, Data: p.Data,
	})
}

// A datapath is a switch on one connection.
type datapath struct {
	peer    *peer
	version Version // 0 until the HELLO
	xid     uint32
	joined  bool // past the handshake, with a DPID
	dpid    uint64
	ports   map[uint32]bool // whether each is up
	flows   bool            // it may have flows between hosts
	out     []byte          // goes to peer with the next flush
	dirty   bool
	place
}

// nextXID returns a transaction ID.
func (d *datapath) nextXID() uint32 {
	d.xid++
	return d.xid
}
