package control

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// testLimit bounds every wait of the tests; none should come near it.
const testLimit = 20 * time.Second

// A fabric joins fake switches in software and counts what its frames do.
type fabric struct {
	t        testing.TB
	c        *Controller
	switches []*fakeSwitch
	hosts    []*fakeHost
	links    []TopologyLink

	mu        sync.Mutex
	frames    uint32
	moves     map[uint32]int               // transmissions between switches, by frame
	delivered map[uint32]map[*fakeHost]int // copies received
	packetIns int
	activity  int // grows with everything that a frame does
}

type fakeHost struct {
	mac  MAC
	at   *fakeSwitch
	port uint32
}

type fakeSwitch struct {
	f       *fabric
	dpid    uint64
	version Version
	conn    net.Conn
	wmu     sync.Mutex
	echo    chan struct{}
	served  chan error

	// A switch that is alone has no controller and is a learning bridge.
	alone bool

	mu     sync.Mutex
	ports  map[uint32]*fakePort
	flows  []fakeFlow
	learnt map[MAC]uint32 // of one that is alone
	joined bool           // the controller has asked for features
}

type fakePort struct {
	up       bool
	peer     *fakeSwitch
	peerPort uint32
}

type fakeFlow struct {
	match    Match
	priority uint16
	cookie   uint64
	output   uint32
}

func newFabric(t testing.TB) *fabric {
	return &fabric{
		t: t, c: NewController(nil),
		moves:     make(map[uint32]int),
		delivered: make(map[uint32]map[*fakeHost]int),
	}
}

// addSwitch adds a switch with one host, on port 1.
func (f *fabric) addSwitch(v Version) *fakeSwitch {
	s := &fakeSwitch{
		f: f, dpid: uint64(len(f.switches) + 1), version: v,
		ports: map[uint32]*fakePort{},
	}
	f.switches = append(f.switches, s)
	f.addHost(s)
	return s
}

// addBridge adds a switch without a controller, and without a host.
func (f *fabric) addBridge() *fakeSwitch {
	s := &fakeSwitch{f: f, dpid: uint64(len(f.switches) + 1), alone: true, ports: map[uint32]*fakePort{}, learnt: map[MAC]uint32{}}
	f.switches = append(f.switches, s)
	return s
}

func (f *fabric) addHost(s *fakeSwitch) *fakeHost {
	port := uint32(len(s.ports) + 1)
	s.ports[port] = &fakePort{up: true}
	n := len(f.hosts) + 1
	h := &fakeHost{MAC{0, 0, 0, 0, byte(n >> 8), byte(n)}, s, port}
	f.hosts = append(f.hosts, h)
	return h
}

// link joins two switches.
func (f *fabric) link(a, b int) {
	sa, sb := f.switches[a], f.switches[b]
	pa, pb := uint32(len(sa.ports)+1), uint32(len(sb.ports)+1)
	sa.ports[pa] = &fakePort{up: true, peer: sb, peerPort: pb}
	sb.ports[pb] = &fakePort{up: true, peer: sa, peerPort: pa}
	f.links = append(f.links, TopologyLink{sa.dpid, pa, sb.dpid, pb, true})
}

// tell tells the controller the topology.
func (f *fabric) tell() {
	var others []uint64
	for _, s := range f.switches {
		if s.alone {
			others = append(others, s.dpid)
		}
	}
	f.c.SetTopology(f.links, others...)
}

// start tells the controller the topology and connects all switches.
func (f *fabric) start() {
	f.tell()
	for _, s := range f.switches {
		if !s.alone {
			s.connect()
		}
	}
	f.t.Cleanup(func() {
		for _, s := range f.switches {
			s.disconnect()
		}
	})
	f.settle()
}

func (s *fakeSwitch) connect() {
	ours, theirs := net.Pipe()
	s.conn, s.echo, s.served = ours, make(chan struct{}, 1), make(chan error, 1)
	s.joined = false
	served, echo := s.served, s.echo
	go func() { served <- s.f.c.Serve(context.Background(), theirs) }()
	ready := make(chan struct{})
	go s.read(ours, echo, ready)
	s.write(AppendHello(nil, 1, VersionSet(s.version)))
	await(s.f.t, ready, "the controller's FEATURES_REQUEST")
}

func (s *fakeSwitch) disconnect() {
	if s.conn == nil {
		return
	}
	s.conn.Close()
	if err := await(s.f.t, s.served, "Serve to return"); err != nil {
		s.f.t.Errorf("Serve of switch %d: %v", s.dpid, err)
	}
	s.conn = nil
}

// await receives from ch within testLimit.
func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(testLimit):
		t.Fatalf("waited in vain for %s", what)
		panic("not reached")
	}
}

func (s *fakeSwitch) write(b []byte) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.conn != nil {
		s.conn.Write(b)
	}
}

// settle waits until nothing happens any more: an echo's reply comes after all that
// the controller did before, so two rounds without activity are the end.
func (f *fabric) settle() {
	f.t.Helper()
	last, same := -1, 0
	for same < 3 {
		for _, s := range f.switches {
			if s.conn == nil {
				continue
			}
			s.write(AppendEmpty(nil, s.version, TypeEchoRequest, 7))
			await(f.t, s.echo, fmt.Sprintf("an echo reply to switch %d", s.dpid))
		}
		f.mu.Lock()
		now := f.activity
		f.mu.Unlock()
		if now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
}

// read is the switch's side of the control channel.
func (s *fakeSwitch) read(conn net.Conn, echo, ready chan struct{}) {
	r := NewReader(conn)
	for {
		batch, err := r.Read()
		if err != nil {
			return
		}
		for m := range batch.All() {
			switch t := m.Type(); {
			case t == TypeEchoReply:
				echo <- struct{}{}
			case t == TypeEchoRequest:
				s.write(AppendEchoReply(nil, m))
			case t == TypeFeaturesRequest:
				s.write(s.features(m.XID()))
				close(ready)
			case t == TypeMultipartRequest && s.version == OpenFlow13:
				s.write(s.portDesc(m.XID()))
			case t == TypeFlowMod:
				s.flowMod(m)
			case t == TypePacketOut:
				in, ports, data := parsePacketOut(s.f.t, m)
				for _, p := range ports {
					s.output(in, p, data)
				}
			case t == TypeError:
				e, _ := ParseError(m)
				s.f.t.Errorf("switch %d got %v", s.dpid, e)
			}
		}
	}
}

func (s *fakeSwitch) flowMod(m Message) {
	command, f, mask := parseFlowMod(s.f.t, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.f.mu.Lock()
	s.f.activity++
	s.f.mu.Unlock()
	s.flows = slices.DeleteFunc(s.flows, func(o fakeFlow) bool {
		if command == FlowAdd {
			return o.match == f.match && o.priority == f.priority
		}
		return (f.match.InPort == 0 || f.match.InPort == o.match.InPort) &&
			(f.match.Src == MAC{} || f.match.Src == o.match.Src) &&
			(f.match.Dst == MAC{} || f.match.Dst == o.match.Dst) &&
			o.cookie&mask == f.cookie&mask
	})
	if command == FlowAdd {
		s.flows = append(s.flows, f)
		slices.SortStableFunc(s.flows, func(a, b fakeFlow) int { return int(b.priority) - int(a.priority) })
	}
}

// receive is the data plane: a frame comes in at a port.
func (s *fakeSwitch) receive(in uint32, frame []byte) {
	dst, src := MAC(frame), MAC(frame[6:])
	s.mu.Lock()
	out, hit := PortController, s.version == OpenFlow10
	if p := s.ports[in]; p == nil || !p.up {
		s.mu.Unlock()
		return
	}
	if s.alone {
		s.learnt[src] = in
		to := []uint32{s.learnt[dst]}
		if to[0] == 0 {
			to = slices.Sorted(maps.Keys(s.ports))
		}
		s.mu.Unlock()
		for _, port := range to {
			s.output(in, port, frame)
		}
		return
	}
	for _, f := range s.flows {
		if (f.match.InPort == 0 || f.match.InPort == in) && (f.match.Src == MAC{} || f.match.Src == src) &&
			(f.match.Dst == MAC{} || f.match.Dst == dst) {
			out, hit = f.output, true
			break
		}
	}
	s.mu.Unlock()
	switch {
	case !hit:
	case out == PortController:
		s.f.mu.Lock()
		s.f.packetIns++
		s.f.activity++
		s.f.mu.Unlock()
		s.write(packetIn(s.version, in, frame))
	default:
		s.output(in, out, frame)
	}
}

func (s *fakeSwitch) output(in, port uint32, frame []byte) {
	s.mu.Lock()
	p := s.ports[port]
	up := p != nil && p.up
	s.mu.Unlock()
	if !up || port == in {
		return
	}
	id := binary.BigEndian.Uint32(frame[14:])
	s.f.mu.Lock()
	s.f.activity++
	if p.peer != nil {
		s.f.moves[id]++
		storm := s.f.moves[id] > 20*len(s.f.switches)
		s.f.mu.Unlock()
		if storm {
			s.f.t.Errorf("frame %d is in a loop", id)
			return
		}
		p.peer.receive(p.peerPort, frame)
		return
	}
	defer s.f.mu.Unlock()
	for _, h := range s.f.hosts {
		if h.at == s && h.port == port {
			if s.f.delivered[id] == nil {
				s.f.delivered[id] = make(map[*fakeHost]int)
			}
			s.f.delivered[id][h]++
		}
	}
}

// setPort sets the state of a port and tells the controller.
func (s *fakeSwitch) setPort(port uint32, up bool) {
	s.mu.Lock()
	s.ports[port].up = up
	s.mu.Unlock()
	s.write(s.portStatus(PortModified, port, up))
}

// broadcast is the destination of everyone.
var broadcast = MAC{255, 255, 255, 255, 255, 255}

// send has a host send one frame and returns its number.
func (f *fabric) send(from *fakeHost, to MAC) uint32 {
	f.mu.Lock()
	f.frames++
	id := f.frames
	f.mu.Unlock()
	frame := make([]byte, 60)
	copy(frame, to[:])
	copy(frame[6:], from.mac[:])
	frame[12], frame[13] = 0x88, 0xb5 // an experiment's own EtherType
	binary.BigEndian.PutUint32(frame[14:], id)
	from.at.receive(from.port, frame)
	return id
}

// got returns how many copies of a frame a host received.
func (f *fabric) got(id uint32, h *fakeHost) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.delivered[id][h]
}

// count returns the number of PACKET_INs so far.
func (f *fabric) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.packetIns
}

// checkAll has every host send a broadcast, and then a frame to every other: each
// must come exactly once, and then without the controller.
func (f *fabric) checkAll() {
	f.t.Helper()
	for _, from := range f.hosts {
		id := f.send(from, broadcast)
		f.settle()
		for _, to := range f.hosts {
			if n, want := f.got(id, to), btoi(to != from); n != want {
				f.t.Fatalf("broadcast of %v came %d times to %v, want %d", from.mac, n, to.mac, want)
			}
		}
	}
	for round := range 2 {
		before := f.count()
		var ids []uint32
		for _, from := range f.hosts {
			for _, to := range f.hosts {
				if from != to {
					ids = append(ids, f.send(from, to.mac))
				}
			}
			f.settle()
		}
		for _, from := range f.hosts {
			for _, to := range f.hosts {
				if from == to {
					continue
				}
				if n := f.got(ids[0], to); n != 1 {
					f.t.Fatalf("round %d: a frame from %v came %d times to %v", round, from.mac, n, to.mac)
				}
				ids = ids[1:]
			}
		}
		if n := f.count() - before; round == 1 && n != 0 {
			f.t.Fatalf("%d PACKET_INs between pairs that have flows", n)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The messages of a switch, and the parsing of a controller's: written apart from
// codec.go, after the specification.

func (s *fakeSwitch) features(xid uint32) []byte {
	b := begin(nil, s.version, TypeFeaturesReply, xid)
	b = be64(b, s.dpid)
	b = be32(b, 256)
	b = append(b, 254, 0, 0, 0)
	b = be32(b, 0)
	b = be32(b, 0)
	if s.version == OpenFlow10 {
		b = s.appendPorts(b)
	}
	return finish(b, 0)
}

func (s *fakeSwitch) portDesc(xid uint32) []byte {
	b := begin(nil, s.version, TypeMultipartReply, xid)
	b = append(b, 0, 13, 0, 0, 0, 0, 0, 0)
	return finish(s.appendPorts(b), 0)
}

func (s *fakeSwitch) appendPorts(b []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(s.ports)) {
		b = appendPort(b, s.version, n, s.ports[n].up)
	}
	return b
}

func (s *fakeSwitch) portStatus(reason PortReason, port uint32, up bool) []byte {
	b := begin(nil, s.version, TypePortStatus, 0)
	b = append(b, byte(reason), 0, 0, 0, 0, 0, 0, 0)
	return finish(appendPort(b, s.version, port, up), 0)
}

func appendPort(b []byte, v Version, port uint32, up bool) []byte {
	name := make([]byte, 16)
	copy(name, fmt.Sprintf("eth%d", port))
	mac := []byte{2, 0, 0, 0, 0, byte(port)}
	if v == OpenFlow10 {
		b = append(be16(b, uint16(port)), mac...)
	} else {
		b = append(be32(b, port), 0, 0, 0, 0)
		b = append(append(b, mac...), 0, 0)
	}
	b = append(b, name...)
	b = be32(b, 0)
	b = be32(b, uint32(btoi(!up)))
	rest := 16
	if v != OpenFlow10 {
		rest = 24
	}
	return append(b, make([]byte, rest)...)
}

func packetIn(v Version, in uint32, frame []byte) []byte {
	b := begin(nil, v, TypePacketIn, 0)
	b = be32(b, NoBuffer)
	b = be16(b, uint16(len(frame)))
	if v == OpenFlow10 {
		b = be16(b, uint16(in))
		b = append(b, 0, 0)
	} else {
		b = append(b, 0, 0)
		b = be64(b, 0)
		b = append(b, 0, 1, 0, 12, 0x80, 0, 0, 4)
		b = be32(b, in)
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	return finish(append(b, frame...), 0)
}

func parseFlowMod(t testing.TB, m Message) (FlowCommand, fakeFlow, uint64) {
	var f fakeFlow
	var command FlowCommand
	var mask uint64
	var actions []byte
	if m.Version() == OpenFlow10 {
		wild := binary.BigEndian.Uint32(m[8:])
		if wild&1 == 0 {
			f.match.InPort = uint32(binary.BigEndian.Uint16(m[12:]))
		}
		if wild&4 == 0 {
			f.match.Src = MAC(m[14:20])
		}
		if wild&8 == 0 {
			f.match.Dst = MAC(m[20:26])
		}
		if wild|13 != 0x3fffff {
			t.Errorf("FLOW_MOD with wildcards %#x", wild)
		}
		f.cookie = binary.BigEndian.Uint64(m[48:])
		command = FlowCommand(binary.BigEndian.Uint16(m[56:]))
		f.priority = binary.BigEndian.Uint16(m[62:])
		if len(m) > 72 {
			actions = m[72:]
		}
	} else {
		f.cookie, mask = binary.BigEndian.Uint64(m[8:]), binary.BigEndian.Uint64(m[16:])
		command = FlowCommand(m[25])
		f.priority = binary.BigEndian.Uint16(m[30:])
		n := int(binary.BigEndian.Uint16(m[50:]))
		for o := m[52 : 48+n]; len(o) > 0; o = o[4+o[3]:] {
			switch binary.BigEndian.Uint32(o) {
			case 0x80000004:
				f.match.InPort = binary.BigEndian.Uint32(o[4:])
			case 0x80000606:
				f.match.Dst = MAC(o[4:10])
			case 0x80000806:
				f.match.Src = MAC(o[4:10])
			default:
				t.Errorf("FLOW_MOD matches %x", o[:4])
			}
		}
		if rest := m[48+(n+7)/8*8:]; len(rest) > 0 {
			actions = rest[8:]
		}
	}
	if command == FlowAdd {
		out := parseOutputs(t, m.Version(), actions)
		if len(out) != 1 {
			t.Fatalf("FLOW_MOD with outputs %v", out)
		}
		f.output = out[0]
	}
	return command, f, mask
}

func parsePacketOut(t testing.TB, m Message) (in uint32, out []uint32, data []byte) {
	if m.Version() == OpenFlow10 {
		n := int(binary.BigEndian.Uint16(m[14:]))
		return uint32(binary.BigEndian.Uint16(m[12:])), parseOutputs(t, m.Version(), m[16:16+n]), slices.Clone(m[16+n:])
	}
	n := int(binary.BigEndian.Uint16(m[16:]))
	return binary.BigEndian.Uint32(m[12:]), parseOutputs(t, m.Version(), m[24:24+n]), slices.Clone(m[24+n:])
}

func parseOutputs(t testing.TB, v Version, b []byte) []uint32 {
	var out []uint32
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if binary.BigEndian.Uint16(b) != 0 || v == OpenFlow10 && n != 8 || v != OpenFlow10 && n != 16 {
			t.Fatalf("action %x", b)
		}
		if v == OpenFlow10 {
			out = append(out, uint32(binary.BigEndian.Uint16(b[4:])))
		} else {
			out = append(out, binary.BigEndian.Uint32(b[4:]))
		}
		b = b[n:]
	}
	return out
}
