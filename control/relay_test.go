package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A rig is a relay under test, between a socket for the switch and a controller.
type rig struct {
	t      *testing.T
	relay  *Relay
	socket string
	status chan Status
	mu     sync.Mutex
	taps   []string
}

func newRig(t *testing.T, hello time.Duration, dial func(context.Context) (net.Conn, error)) *rig {
	t.Helper()
	noLeak(t)
	g := &rig{t: t, socket: filepath.Join(t.TempDir(), "s"), status: make(chan Status, 1000)}
	l, err := net.Listen("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	g.relay = startRelay(RelayConfig{
		Switch: "s1", Controller: "c0", Listener: l, Dial: dial,
		Tap: func(m TapMessage) {
			if m.Event != TapData {
				return
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			g.taps = append(g.taps, fmt.Sprintf("%v %s", m.FromSwitch, m.Data.Type().Name(m.Data.Version())))
		},
		OnChange: func(s Status) { g.status <- s },
	}, hello)
	t.Cleanup(func() {
		closed := make(chan error, 1)
		go func() { closed <- g.relay.Close() }()
		if err := await(t, closed, "Close"); err != nil {
			t.Error(err)
		}
	})
	return g
}

// connect connects as the switch.
func (g *rig) connect() net.Conn {
	conn, err := net.Dial("unix", g.socket)
	if err != nil {
		g.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(testLimit))
	g.t.Cleanup(func() { conn.Close() })
	return conn
}

// waitReason waits for a status with a reason.
func (g *rig) waitReason(want string) {
	g.t.Helper()
	for {
		if s := await(g.t, g.status, "the reason "+want); s.Reason == want {
			if s.Connected || s.Version != "" || s.Since.IsZero() {
				g.t.Errorf("status %+v", s)
			}
			return
		}
	}
}

func (g *rig) waitConnected(version string) {
	g.t.Helper()
	for {
		if s := await(g.t, g.status, "a connection"); s.Connected {
			if s.Version != version || s.Reason != "" {
				g.t.Errorf("status %+v", s)
			}
			return
		}
	}
}

// listen returns a dialer to a TCP listener, and its accepted connections.
func listen(t *testing.T) (func(context.Context) (net.Conn, error), <-chan net.Conn, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	conns := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(testLimit))
			t.Cleanup(func() { c.Close() })
			conns <- c
		}
	}()
	return dialTCP(l.Addr().String()), conns, l.Addr().String()
}

func dialTCP(addr string) func(context.Context) (net.Conn, error) {
	var d net.Dialer
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

func TestRelayReasons(t *testing.T) {
	hello10, hello13 := AppendHello(nil, 0, VersionSet(OpenFlow10)), AppendHello(nil, 0, VersionSet(OpenFlow13))
	plain13 := AppendEmpty(nil, OpenFlow13, TypeHello, 0)
	refusal := func(code uint16, text string) []byte {
		return AppendError(nil, 0, ErrorMessage{OpenFlow10, ErrorHelloFailed, code, []byte(text)})
	}
	for _, test := range []struct {
		name             string
		sw, ctl          []byte // what each says
		closes           side   // who then closes; 2: nobody
		want             string
		wantAtController []byte
	}{
		{"bitmaps differ", hello10, AppendHello(nil, 0, VersionSet(OpenFlow13, OpenFlow14)), 2,
			"version mismatch: switch speaks OpenFlow 1.0, controller 1.3, 1.4", hello10},
		{"refused by ERROR", hello10, append(slices.Clone(plain13), refusal(0, "no")...), controllerSide,
			"version mismatch: switch speaks OpenFlow 1.0, controller 1.3", hello10},
		{"refused for another reason", hello13, append(slices.Clone(hello13), refusal(1, "not you")...), controllerSide,
			"refused by the controller: HELLO_FAILED/EPERM: not you", hello13},
		{"HTTP", hello13, []byte("HTTP/1.1 400 Bad Request\r\n"), 2,
			`controller sent something that is not OpenFlow: "HTTP/1.1 400 Bad"`, nil},
		{"absurd length", hello13, []byte{4, 0, 0, 2}, 2,
			"controller sent something that is not OpenFlow: a HELLO of 2 bytes", nil},
		{"switch sends garbage", []byte("garbage!"), nil, 2,
			`switch sent something that is not OpenFlow: "garbage!"`, nil},
		{"controller closes", hello13, hello13, controllerSide, "closed by the controller", hello13},
		{"switch closes", hello13, hello13, switchSide, "closed by the switch", nil},
		{"controller closes in a message", hello13, append(slices.Clone(hello13), 4, 5, 0, 8), controllerSide,
			"closed by the controller", nil},
		{"controller is silent", hello13, nil, 2, "no HELLO from the controller within 500ms", hello13},
		{"controller stops within its HELLO", hello13, hello13[:9], 2, "no HELLO from the controller within 500ms", nil},
		{"HELLOs agree", hello13, hello13, 2, "the controller has not asked for the switch's features yet", hello13},
	} {
		t.Run(test.name, func(t *testing.T) {
			dial, conns, _ := listen(t)
			g := newRig(t, 500*time.Millisecond, dial)
			if s := g.relay.Status(); s.Reason != "the switch has not connected yet" {
				t.Errorf("at first: %+v", s)
			}
			sw := g.connect()
			sw.Write(test.sw)
			if test.sw[0] == 'g' {
				g.waitReason(test.want)
				return
			}
			ctl := await(t, conns, "the relay's connection")
			if test.wantAtController != nil {
				if got := readSome(t, ctl, len(test.wantAtController)); !bytes.Equal(got, test.wantAtController) {
					t.Errorf("the controller got %x", got)
				}
			}
			ctl.Write(test.ctl)
			switch test.closes {
			case switchSide:
				readSome(t, sw, len(hello13))
				sw.Close()
			case controllerSide:
				ctl.(*net.TCPConn).CloseWrite()
			}
			g.waitReason(test.want)
			if g.relay.Status().Reason == "" {
				t.Error("no reason left")
			}
		})
	}
}

func readSome(t *testing.T, r io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRelayRefusedThenUp(t *testing.T) {
	const addr = "127.0.0.1:1" // where nobody listens
	up := make(chan struct{})
	c := NewController(nil)
	g := newRig(t, testLimit, func(ctx context.Context) (net.Conn, error) {
		select {
		case <-up:
			return c.Dial(ctx)
		default:
			return dialTCP(addr)(ctx)
		}
	})
	s := &fakeSwitch{version: OpenFlow13, dpid: 1}
	sw := g.connect()
	sw.Write(AppendHello(nil, 0, VersionSet(OpenFlow13)))
	g.waitReason("connection refused by " + addr)

	// A switch that gives up and comes back does not hide the reason.
	sw.Close()
	sw = g.connect()
	sw.Write(AppendHello(nil, 0, VersionSet(OpenFlow13)))
	if r := g.relay.Status().Reason; r != "connection refused by "+addr {
		t.Errorf("reason %q", r)
	}
	close(up)
	if m := find(NewReader(sw), TypeFeaturesRequest); m == nil {
		t.Fatal("no FEATURES_REQUEST")
	}
	sw.Write(s.features(0))
	g.waitConnected("1.3")
	sw.Close()
	g.waitReason("closed by the switch")
}

func TestRelayTap(t *testing.T) {
	c := NewController(nil)
	g := newRig(t, testLimit, c.Dial)
	sw := g.connect()
	sw.Write(AppendHello(nil, 0, VersionSet(OpenFlow10)))
	r := NewReader(sw)
	find(r, TypeFeaturesRequest)
	s := &fakeSwitch{version: OpenFlow10, dpid: 1}
	sw.Write(AppendEmpty(s.features(0), OpenFlow10, TypeEchoRequest, 0))
	find(r, TypeEchoReply)
	g.waitConnected("1.0")
	g.mu.Lock()
	defer g.mu.Unlock()
	var got [2][]string
	for _, tap := range g.taps {
		from, name, _ := strings.Cut(tap, " ")
		got[btoi(from == "true")] = append(got[btoi(from == "true")], name)
	}
	for i, want := range []string{
		"HELLO SET_CONFIG FLOW_MOD BARRIER_REQUEST FEATURES_REQUEST ECHO_REPLY",
		"HELLO FEATURES_REPLY ECHO_REQUEST",
	} {
		if have := strings.Join(got[i], " "); have != want {
			t.Errorf("taps: %s\nwant  %s", have, want)
		}
	}
}

func TestRelaySetDown(t *testing.T) {
	c := NewController(nil)
	g := newRig(t, testLimit, c.Dial)
	join := func() net.Conn {
		sw := g.connect()
		s := &fakeSwitch{version: OpenFlow10, dpid: 1}
		sw.Write(AppendHello(nil, 0, VersionSet(OpenFlow10)))
		if find(NewReader(sw), TypeFeaturesRequest) != nil {
			sw.Write(s.features(0))
		}
		return sw
	}
	sw := join()
	g.waitConnected("1.0")
	g.relay.SetDown(true)
	g.waitReason("the channel is cut")
	io.Copy(io.Discard, sw) // ends
	g.relay.SetDown(true)   // again changes nothing
	refused := join()
	io.Copy(io.Discard, refused) // ends
	if s := g.relay.Status(); s.Connected || s.Reason != "the channel is cut" {
		t.Errorf("status %+v", s)
	}
	g.relay.SetDown(false)
	g.waitReason("the switch has not connected yet")
	join()
	g.waitConnected("1.0")
}

func TestRelayReplacesConnection(t *testing.T) {
	dial, conns, _ := listen(t)
	g := newRig(t, testLimit, dial)
	first := g.connect()
	first.Write(AppendHello(nil, 0, VersionSet(OpenFlow13)))
	ctl := await(t, conns, "the relay's connection")
	second := g.connect()
	second.Write(AppendHello(nil, 0, VersionSet(OpenFlow10)))
	io.Copy(io.Discard, first) // ends
	io.Copy(io.Discard, ctl)   // ends
	ctl = await(t, conns, "the relay's second connection")
	if got := readSome(t, ctl, HeaderLen); got[0] != byte(OpenFlow10) {
		t.Errorf("the controller got %x", got)
	}
}

// Close must not wait for a peer: not for a Dial under way, nor for one that does
// not read.
func TestRelayCloseWhileBusy(t *testing.T) {
	t.Run("dialing", func(t *testing.T) {
		dialing := make(chan struct{}, 1)
		g := newRig(t, testLimit, func(ctx context.Context) (net.Conn, error) {
			dialing <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		g.connect()
		await(t, dialing, "Dial")
	})
	t.Run("dialing in vain", func(t *testing.T) {
		g := newRig(t, testLimit, func(context.Context) (net.Conn, error) { return nil, errors.New("no way") })
		g.connect()
		g.waitReason("no way")
	})
	t.Run("switch left while dialing", func(t *testing.T) {
		dialing := make(chan struct{}, 1)
		g := newRig(t, testLimit, func(ctx context.Context) (net.Conn, error) {
			dialing <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		sw := g.connect()
		await(t, dialing, "Dial")
		sw.Close()
		g.waitReason("closed by the switch")
	})
	t.Run("controller does not read", func(t *testing.T) {
		dial, conns, _ := listen(t)
		g := newRig(t, testLimit, dial)
		sw := g.connect()
		b := AppendHello(nil, 0, VersionSet(OpenFlow13))
		for range 1000 {
			b = append(b, packetIn(OpenFlow13, 1, make([]byte, 60000))...)
		}
		sw.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := sw.Write(b)
		if err == nil {
			t.Errorf("all %d bytes were taken: no back-pressure", n)
		}
		await(t, conns, "the relay's connection")
	})
	t.Run("twice", func(t *testing.T) {
		g := newRig(t, testLimit, NewController(nil).Dial)
		if err := g.relay.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Every byte must come through, whatever pieces it comes in.
func TestRelayCarriesAll(t *testing.T) {
	dial, conns, _ := listen(t)
	g := newRig(t, testLimit, dial)
	sw := g.connect()
	b := AppendHello(nil, 0, VersionSet(OpenFlow13))
	for i := range 200 {
		n := []int{0, 1, 60, 1514, 9000, MaxMessage - 42}[i%6]
		b = append(b, packetIn(OpenFlow13, 1, bytes.Repeat([]byte{byte(i)}, n))...)
	}
	ctl := await(t, conns, "the relay's connection")
	check := func(from, to net.Conn) {
		t.Helper()
		go func() {
			for rest := b; len(rest) > 0; {
				n := min(len(rest), 1+len(rest)%7777)
				from.Write(rest[:n])
				rest = rest[n:]
			}
		}()
		if got := readSome(t, to, len(b)); !bytes.Equal(got, b) {
			t.Error("bytes were changed")
		}
	}
	check(sw, ctl)
	check(ctl, sw)
}
