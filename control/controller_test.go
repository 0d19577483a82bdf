package control

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// topologies to try; each switch has a host.
func topologies() map[string]func(f *fabric, v func(int) Version) {
	line := func(n int) func(*fabric, func(int) Version) {
		return func(f *fabric, v func(int) Version) {
			for i := range n {
				f.addSwitch(v(i))
				if i > 0 {
					f.link(i-1, i)
				}
			}
		}
	}
	return map[string]func(*fabric, func(int) Version){
		"single": func(f *fabric, v func(int) Version) {
			s := f.addSwitch(v(0))
			f.addHost(s)
			f.addHost(s)
		},
		"line": line(4),
		"ring": func(f *fabric, v func(int) Version) {
			line(6)(f, v)
			f.link(5, 0)
		},
		"mesh with double links": func(f *fabric, v func(int) Version) {
			for i := range 5 {
				f.addSwitch(v(i))
				for j := range i {
					f.link(j, i)
					f.link(j, i)
				}
			}
		},
		"bridge in line": func(f *fabric, v func(int) Version) {
			line(4)(f, v)
			f.addBridge()
			f.addSwitch(v(5))
			f.link(3, 4)
			f.link(4, 5)
		},
		"bridges in parallel": func(f *fabric, v func(int) Version) {
			f.addBridge()
			f.addSwitch(v(1))
			f.addSwitch(v(2))
			f.addBridge()
			f.link(0, 1)
			f.link(0, 2)
			f.link(1, 3)
			f.link(2, 3)
		},
		"bridges beside links": func(f *fabric, v func(int) Version) {
			line(3)(f, v)
			f.addBridge()
			f.addBridge()
			f.link(0, 3)
			f.link(3, 4)
			f.link(4, 2)
			f.addSwitch(v(5))
			f.link(4, 5)
			f.link(5, 3)
		},
		"bridge twice at a switch": func(f *fabric, v func(int) Version) {
			f.addSwitch(v(0))
			f.addSwitch(v(1))
			f.addBridge()
			f.link(0, 2)
			f.link(0, 2)
			f.link(2, 1)
		},
		"tree": func(f *fabric, v func(int) Version) {
			for i := range 7 {
				f.addHost(f.addSwitch(v(i)))
				if i > 0 {
					f.link((i-1)/2, i)
				}
			}
		},
	}
}

func TestReachability(t *testing.T) {
	versions := map[string]func(int) Version{
		"1.0":   func(int) Version { return OpenFlow10 },
		"1.3":   func(int) Version { return OpenFlow13 },
		"mixed": func(i int) Version { return []Version{OpenFlow10, OpenFlow13}[i%2] },
	}
	for topology, build := range topologies() {
		for version, v := range versions {
			t.Run(topology+" "+version, func(t *testing.T) {
				f := newFabric(t)
				build(f, v)
				f.start()
				f.checkAll()
			})
		}
	}
}

func TestTorus(t *testing.T) {
	const n = 10
	f := newFabric(t)
	for range n * n {
		f.addSwitch(OpenFlow13)
	}
	for x := range n {
		for y := range n {
			f.link(x*n+y, (x+1)%n*n+y)
			f.link(x*n+y, x*n+(y+1)%n)
		}
	}
	f.start()
	for _, h := range f.hosts {
		f.send(h, broadcast)
	}
	f.settle()
	for id := uint32(1); id <= n*n; id++ {
		for _, h := range f.hosts {
			if got, want := f.got(id, h), btoi(f.hosts[id-1] != h); got != want {
				t.Fatalf("broadcast %d came %d times to %v", id, got, h.mac)
			}
		}
		if moves := f.moves[id]; moves != n*n-1 {
			t.Fatalf("broadcast %d crossed %d links, want %d", id, moves, n*n-1)
		}
	}
	var ids []uint32
	for _, h := range f.hosts {
		ids = append(ids, f.send(h, f.hosts[0].mac))
	}
	f.settle()
	for i, id := range ids {
		if got := f.got(id, f.hosts[0]); got != btoi(i > 0) {
			t.Errorf("a frame of host %d came %d times", i, got)
		}
	}
}

func ring(t *testing.T, n int) *fabric {
	f := newFabric(t)
	for i := range n {
		f.addSwitch([]Version{OpenFlow10, OpenFlow13}[i%2])
		if i > 0 {
			f.link(i-1, i)
		}
	}
	f.link(n-1, 0)
	f.start()
	return f
}

func TestPortStatusFailover(t *testing.T) {
	f := ring(t, 5)
	f.checkAll()
	for _, l := range f.links {
		// One end alone says so, as when the other switch is slow.
		a := f.switches[l.DPIDA-1]
		a.setPort(l.PortA, false)
		f.settle()
		f.checkAll()
		a.setPort(l.PortA, true)
		f.settle()
		f.checkAll()
	}
}

func TestPortDeleted(t *testing.T) {
	f := ring(t, 3)
	l := f.links[0]
	a := f.switches[l.DPIDA-1]
	a.ports[l.PortA].up = false
	a.write(a.portStatus(PortDeleted, l.PortA, true))
	f.settle()
	f.checkAll()
	a.ports[l.PortA].up = true
	a.write(a.portStatus(PortAdded, l.PortA, true))
	f.settle()
	f.checkAll()
}

func TestSetTopology(t *testing.T) {
	f := ring(t, 4)
	f.checkAll()
	for i := range f.links {
		f.links[i].Up = false
		f.tell()
		f.settle()
		f.checkAll()
		f.links[i].Up = true
		f.tell()
		f.settle()
		f.checkAll()
	}
}

// Where a bridge without a controller is a second way, it is taken when the first fails.
func TestFailoverToBridge(t *testing.T) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		f := newFabric(t)
		f.addSwitch(v)
		f.addSwitch(v)
		f.addBridge()
		f.link(0, 1)
		f.link(0, 2)
		f.link(2, 1)
		f.start()
		f.checkAll()
		a := f.switches[0]
		port := f.links[0].PortA
		for range 2 {
			a.setPort(port, false)
			f.settle()
			f.checkAll()
			a.setPort(port, true)
			f.settle()
			f.checkAll()
		}
	}
}

// What comes from a port that is no place for hosts is sent on, and nobody is learnt there.
func TestServicePort(t *testing.T) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		f := newFabric(t)
		s := f.addSwitch(v)
		f.addHost(s)
		f.start()
		f.checkAll()
		a, b := f.hosts[0], f.hosts[1]
		const service = 0x8001
		s.mu.Lock() // a flow of the user's leads frames there; an NF sends them on
		s.flows = append([]fakeFlow{{match: Match{InPort: a.port}, priority: 100, output: service}}, s.flows...)
		s.mu.Unlock()
		frame := make([]byte, 60)
		copy(frame, b.mac[:])
		copy(frame[6:], a.mac[:])
		frame[17] = 200 // its number
		s.write(packetIn(v, service, frame))
		f.settle()
		if n := f.got(200, b); n != 1 {
			t.Errorf("OpenFlow %v: the frame came %d times", v, n)
		}
		id := f.send(b, a.mac)
		f.settle()
		if n := f.got(id, a); n != 1 {
			t.Errorf("OpenFlow %v: an answer came %d times", v, n)
		}
		s.mu.Lock()
		if !slices.ContainsFunc(s.flows, func(o fakeFlow) bool { return o.match == Match{service, a.mac, b.mac} && o.output == b.port }) {
			t.Errorf("OpenFlow %v: no flow carries what the NF sends on: %+v", v, s.flows)
		}
		s.mu.Unlock()
	}
}

// Who is known stays known when an island gets another name, or grows.
func TestIslandChangesKeepHosts(t *testing.T) {
	f := newFabric(t)
	for i := range 3 {
		f.addHost(f.addSwitch(OpenFlow13))
		if i > 0 {
			f.link(i-1, i)
		}
	}
	f.start()
	for _, h := range f.hosts {
		f.send(h, broadcast)
	}
	f.settle()
	direct := func(from, to *fakeHost) {
		t.Helper()
		id := f.send(from, to.mac)
		f.settle()
		if f.got(id, to) != 1 || len(f.delivered[id]) != 1 {
			t.Errorf("the frame came to %d hosts, %d times to the right one", len(f.delivered[id]), f.got(id, to))
		}
	}
	f.switches[0].disconnect() // the lowest
	f.settle()
	direct(f.hosts[4], f.hosts[2])
	f.switches[0].connect()
	f.settle()
	direct(f.hosts[5], f.hosts[2])
	direct(f.hosts[4], f.hosts[0])
}

// A host behind a bridge may go to the other side of it, where its island is another.
func TestHostMovesBetweenIslands(t *testing.T) {
	f := newFabric(t)
	f.addSwitch(OpenFlow13)
	f.addSwitch(OpenFlow10)
	f.addBridge()
	f.link(0, 2)
	f.link(2, 1)
	f.start()
	f.checkAll()
	h, to := f.hosts[0], f.switches[1]
	to.ports[9] = &fakePort{up: true}
	to.setPort(9, true)
	f.settle()
	f.mu.Lock()
	h.at, h.port = to, 9
	f.mu.Unlock()
	f.send(h, broadcast)
	f.settle()
	f.checkAll()
}

// A partition must come apart cleanly, and together again.
func TestPartition(t *testing.T) {
	f := newFabric(t)
	for range 2 {
		f.addHost(f.addSwitch(OpenFlow13))
	}
	f.link(0, 1)
	f.start()
	f.checkAll()
	l := f.links[0]
	f.switches[0].setPort(l.PortA, false)
	f.switches[1].setPort(l.PortB, false)
	f.settle()
	same, other := f.send(f.hosts[0], f.hosts[1].mac), f.send(f.hosts[0], f.hosts[2].mac)
	f.settle()
	if f.got(same, f.hosts[1]) != 1 || f.got(other, f.hosts[2]) != 0 {
		t.Errorf("got %d on the same side, %d on the other", f.got(same, f.hosts[1]), f.got(other, f.hosts[2]))
	}
	f.switches[0].setPort(l.PortA, true)
	f.switches[1].setPort(l.PortB, true)
	f.settle()
	f.checkAll()
}

// Links that come and go under traffic must not start a storm.
func TestChangesUnderTraffic(t *testing.T) {
	f := ring(t, 8)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		links := slices.Clone(f.links)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			links[i%8].Up = false
			f.c.SetTopology(links)
			links[i%8].Up = true
			f.c.SetTopology(links)
			runtime.Gosched()
		}
	}()
	for i := range 50 {
		for _, h := range f.hosts {
			f.send(h, broadcast)
			f.send(h, f.hosts[i%8].mac)
		}
	}
	close(stop)
	<-stopped
	f.settle()
	f.checkAll()
}

func TestDisconnect(t *testing.T) {
	f := ring(t, 5)
	gone := f.switches[2]
	gone.disconnect()
	f.settle()
	if got, want := f.c.Connected(), []uint64{1, 2, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("connected: %v, want %v", got, want)
	}
	for _, from := range f.hosts {
		for _, to := range f.hosts {
			if from == to || from.at == gone || to.at == gone {
				continue
			}
			id := f.send(from, to.mac)
			f.settle()
			if n := f.got(id, to); n != 1 {
				t.Errorf("without switch 3 a frame from %v came %d times to %v", from.mac, n, to.mac)
			}
		}
	}
	gone.connect()
	f.settle()
	f.checkAll()
}

// What is cut off from the controller goes on forwarding, so flows through it stay.
func TestDisconnectKeepsFlows(t *testing.T) {
	f := newFabric(t)
	for i := range 3 {
		f.addSwitch(OpenFlow13)
		if i > 0 {
			f.link(i-1, i)
		}
	}
	f.start()
	f.checkAll()
	f.switches[1].disconnect()
	f.settle()
	id := f.send(f.hosts[0], f.hosts[2].mac)
	f.settle()
	if n := f.got(id, f.hosts[2]); n != 1 {
		t.Errorf("the frame came %d times", n)
	}
}

func TestHostMoves(t *testing.T) {
	f := ring(t, 4)
	f.checkAll()
	h := f.hosts[0]
	f.switches[2].ports[9] = &fakePort{up: true}
	f.switches[2].setPort(9, true)
	f.settle()
	f.mu.Lock()
	h.at, h.port = f.switches[2], 9
	f.mu.Unlock()
	f.send(h, broadcast)
	f.settle()
	f.checkAll()
}

func TestEdgePortDownForgetsHost(t *testing.T) {
	f := ring(t, 4)
	f.checkAll()
	h := f.hosts[0]
	f.switches[0].setPort(1, false)
	f.switches[2].ports[9] = &fakePort{up: true}
	f.switches[2].setPort(9, true)
	f.settle()
	f.mu.Lock()
	h.at, h.port = f.switches[2], 9
	f.mu.Unlock()
	id := f.send(f.hosts[1], h.mac) // it is silent at its new place: flooded
	f.settle()
	if n := f.got(id, h); n != 1 {
		t.Errorf("the frame came %d times", n)
	}
}

func TestDropped(t *testing.T) {
	f := ring(t, 3)
	for _, dst := range []MAC{{1, 0x80, 0xc2, 0, 0, 0}, {1, 0x80, 0xc2, 0, 0, 0xe}} {
		id := f.send(f.hosts[0], dst)
		f.settle()
		if len(f.delivered[id]) != 0 || f.moves[id] != 0 {
			t.Errorf("a frame to %v was forwarded", dst)
		}
	}
	odd := &fakeHost{broadcast, f.switches[0], 1}
	if id := f.send(odd, broadcast); len(f.delivered[id]) != 0 {
		t.Error("a frame from the broadcast address was forwarded")
	}
	f.switches[0].write(packetIn(OpenFlow10, 1, []byte("short")))
	f.settle()
}

// The user's own flows outlive those of the controller.
func TestForeignFlowsStay(t *testing.T) {
	f := newFabric(t)
	f.addSwitch(OpenFlow13)
	f.addSwitch(OpenFlow13)
	f.link(0, 1)
	f.start()
	f.checkAll()
	s := f.switches[0]
	s.mu.Lock()
	s.flows = append(s.flows, fakeFlow{match: Match{InPort: 77}, priority: 3, output: 1})
	s.mu.Unlock()
	s.setPort(f.links[0].PortA, false)
	f.settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.flows) != 2 { // and the table miss
		t.Errorf("flows left: %+v", s.flows)
	}
}

// talk connects to a controller and returns the connection and Serve's result.
func talk(t *testing.T, c *Controller) (net.Conn, *Reader, <-chan error) {
	ours, theirs := net.Pipe()
	ours.SetDeadline(time.Now().Add(testLimit))
	t.Cleanup(func() { ours.Close() })
	served := make(chan error, 1)
	go func() { served <- c.Serve(context.Background(), theirs) }()
	return ours, NewReader(ours), served
}

// find reads until a message of a type; nil if the connection ends before.
func find(r *Reader, typ Type) Message {
	for {
		batch, err := r.Read()
		if err != nil {
			return nil
		}
		for m := range batch.All() {
			if m.Type() == typ {
				return slices.Clone(m)
			}
		}
	}
}

func TestNegotiation(t *testing.T) {
	for name, test := range map[string]struct {
		hello  []byte
		agreed Version // 0: refused
	}{
		"1.0":               {AppendHello(nil, 0, VersionSet(OpenFlow10)), OpenFlow10},
		"1.3":               {AppendHello(nil, 0, VersionSet(OpenFlow13)), OpenFlow13},
		"1.0 to 1.5":        {AppendHello(nil, 0, 0x7e), OpenFlow13},
		"1.0 and 1.4":       {AppendHello(nil, 0, VersionSet(OpenFlow10, OpenFlow14)), OpenFlow10},
		"1.3 no bitmap":     {AppendEmpty(nil, OpenFlow13, TypeHello, 0), OpenFlow13},
		"1.5 no bitmap":     {AppendEmpty(nil, OpenFlow15, TypeHello, 0), OpenFlow13},
		"9.9 no bitmap":     {AppendEmpty(nil, 99, TypeHello, 0), OpenFlow13},
		"1.4 alone":         {AppendHello(nil, 0, VersionSet(OpenFlow14)), 0},
		"1.1 alone":         {AppendHello(nil, 0, VersionSet(OpenFlow11)), 0},
		"1.2 no bitmap":     {AppendEmpty(nil, OpenFlow12, TypeHello, 0), 0},
		"1.0 with rubbish":  {[]byte{1, 0, 0, 12, 0, 0, 0, 0, 0, 9, 0, 99}, OpenFlow10},
		"1.3 short element": {[]byte{4, 0, 0, 12, 0, 0, 0, 0, 0, 9, 0, 99}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r, served := talk(t, NewController(nil))
			go conn.Write(test.hello)
			if test.agreed == 0 {
				m := find(r, TypeError)
				err := await(t, served, "Serve to return")
				if err == nil {
					t.Fatal("Serve returned no error")
				}
				if strings.Contains(name, "short") {
					return
				}
				if e, perr := ParseError(m); perr != nil || e.Type != ErrorHelloFailed || e.Code != CodeIncompatible {
					t.Errorf("got %v, %v", e, perr)
				} else if !strings.HasPrefix(string(e.Data), "version mismatch: ") {
					t.Errorf("text %q", e.Data)
				}
				return
			}
			if m := find(r, TypeFeaturesRequest); m == nil || m.Version() != test.agreed {
				t.Errorf("FEATURES_REQUEST %v", m)
			}
		})
	}
}

func TestBadMessages(t *testing.T) {
	for name, test := range map[string]struct {
		send []byte
		code uint16
		ends bool
	}{
		"short PACKET_IN":     {AppendEmpty(nil, OpenFlow13, TypePacketIn, 0), CodeBadLength, false},
		"short FEATURES":      {AppendEmpty(nil, OpenFlow13, TypeFeaturesReply, 0), CodeBadLength, false},
		"short PORT_STATUS":   {AppendEmpty(nil, OpenFlow13, TypePortStatus, 0), CodeBadLength, false},
		"short MULTIPART":     {AppendEmpty(nil, OpenFlow13, TypeMultipartReply, 0), CodeBadLength, false},
		"other version":       {AppendEmpty(nil, OpenFlow10, TypePacketIn, 0), CodeBadVersion, false},
		"length 3":            {[]byte{4, 10, 0, 3, 0, 0, 0, 0}, 0, true},
		"HTTP":                {[]byte("HTTP/1.1 200 OK\r\n\r\n"), 0, true},
		"refused":             {AppendError(nil, 0, ErrorMessage{OpenFlow13, ErrorHelloFailed, 0, []byte("no")}), 0, true},
		"PACKET_IN bad match": {finish(append(begin(nil, OpenFlow13, TypePacketIn, 0), make([]byte, 40)...), 0), CodeBadLength, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r, served := talk(t, NewController(nil))
			go conn.Write(append(AppendHello(nil, 0, VersionSet(OpenFlow13)), test.send...))
			if m := find(r, TypeError); test.ends {
				if err := await(t, served, "Serve to return"); err == nil {
					t.Error("Serve returned no error")
				}
			} else if e, err := ParseError(m); err != nil || e.Type != ErrorBadRequest || e.Code != test.code {
				t.Errorf("got %v, %v", e, err)
			}
		})
	}
	t.Run("unknown types are skipped", func(t *testing.T) {
		conn, r, _ := talk(t, NewController(nil))
		b := AppendHello(nil, 0, VersionSet(OpenFlow13))
		for typ := Type(20); typ < 40; typ++ {
			b = AppendEmpty(b, OpenFlow13, typ, 0)
		}
		echo := finish(append(begin(nil, OpenFlow13, TypeEchoRequest, 5), "hello"...), 0)
		go conn.Write(append(b, echo...))
		m := find(r, TypeEchoReply)
		if m == nil || m.XID() != 5 || !bytes.Equal(m.Body(), []byte("hello")) {
			t.Errorf("echo reply: %q", m)
		}
	})
}

func TestIdleSwitch(t *testing.T) {
	c := NewController(nil)
	c.idle = 20 * time.Millisecond
	conn, r, served := talk(t, c)
	s := &fakeSwitch{version: OpenFlow10, dpid: 3}
	go conn.Write(append(AppendHello(nil, 0, VersionSet(OpenFlow10)), s.features(0)...))
	for range 3 { // answered, it stays
		m := find(r, TypeEchoRequest)
		if m == nil {
			t.Fatal("no echo request")
		}
		conn.Write(AppendEchoReply(nil, m))
	}
	for find(r, TypeEchoRequest) != nil { // not answered, it ends
	}
	if err := await(t, served, "Serve to return"); err == nil || !strings.Contains(err.Error(), "echo request") {
		t.Errorf("Serve: %v", err)
	}
	if got := c.Connected(); len(got) != 0 {
		t.Errorf("still connected: %v", got)
	}
}

func TestSilentSwitch(t *testing.T) {
	c := NewController(nil)
	c.handshake = 10 * time.Millisecond
	_, r, served := talk(t, c)
	find(r, TypeError)
	if err := await(t, served, "Serve to return"); err == nil || !strings.Contains(err.Error(), "handshake") {
		t.Errorf("Serve: %v", err)
	}
}

// A switch that does not read is given up; the others do not notice.
func TestSwitchThatDoesNotRead(t *testing.T) {
	f := newFabric(t)
	f.c.queue, f.c.idle = 16<<10, 2*time.Second
	f.addSwitch(OpenFlow13)
	f.start()
	conn, r, served := talk(t, f.c)
	s := &fakeSwitch{version: OpenFlow13, dpid: 99}
	go conn.Write(AppendHello(nil, 0, VersionSet(OpenFlow13)))
	find(r, TypeFeaturesRequest)
	go conn.Write(s.features(0))
	go func() {
		for conn != nil {
			if _, err := conn.Write(AppendEmpty(nil, OpenFlow13, TypeEchoRequest, 0)); err != nil {
				return
			}
		}
	}()
	if err := await(t, served, "Serve to return"); err == nil || !strings.Contains(err.Error(), "has not read") {
		t.Errorf("Serve: %v", err)
	}
	f.settle()
}

// What others have to tell it is bounded too.
func TestPeerOverflow(t *testing.T) {
	noLeak(t)
	ours, theirs := net.Pipe()
	defer ours.Close()
	p := newPeer(theirs, 1000)
	for p.reason(nil) == nil {
		p.send(make([]byte, 100))
	}
	if err := p.reason(nil); !strings.Contains(err.Error(), "does not read") {
		t.Error(err)
	}
	if err := p.drain(testLimit); err != nil {
		t.Error(err)
	}
	p.close()
}

func TestSameSwitchTwice(t *testing.T) {
	c := NewController(nil)
	s := &fakeSwitch{version: OpenFlow10, dpid: 3}
	join := append(AppendHello(nil, 0, VersionSet(OpenFlow10)), s.features(0)...)
	join = AppendEmpty(join, OpenFlow10, TypeEchoRequest, 0)
	old, oldR, oldServed := talk(t, c)
	go old.Write(join)
	find(oldR, TypeEchoReply)
	conn, r, _ := talk(t, c)
	go conn.Write(join)
	find(r, TypeEchoReply)
	if err := await(t, oldServed, "Serve to return"); !errors.Is(err, errReplaced) {
		t.Errorf("Serve of the old connection: %v", err)
	}
	if got := c.Connected(); !slices.Equal(got, []uint64{3}) {
		t.Errorf("connected: %v", got)
	}
}

func TestServeEndsWithContext(t *testing.T) {
	noLeak(t)
	ours, theirs := net.Pipe()
	defer ours.Close()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- NewController(nil).Serve(ctx, theirs) }()
	cancel()
	if err := await(t, served, "Serve to return"); !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
}

// noLeak checks at the end of a test that no goroutine is left.
func noLeak(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(testLimit); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				t.Fatalf("goroutines left:\n%s", buf[:runtime.Stack(buf, true)])
			}
		}
	})
}
