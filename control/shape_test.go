package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// numbered returns n messages of the given length whose xids count from 1.
func numbered(n, size int) []byte {
	var b []byte
	for i := range n {
		m := make([]byte, size)
		copy(m, AppendEmpty(nil, OpenFlow13, TypeFlowMod, uint32(i+1)))
		binary.BigEndian.PutUint16(m[2:], uint16(size))
		b = append(b, m...)
	}
	return b
}

// shapedRig is a relay with both ends open, past their HELLOs.
func shapedRig(t *testing.T) (g *rig, sw, ctl net.Conn) {
	dial, conns, _ := listen(t)
	g = newRig(t, testLimit, dial)
	sw = g.connect()
	ctl = await(t, conns, "the relay's connection")
	hello := AppendHello(nil, 0, VersionSet(OpenFlow13))
	sw.Write(hello)
	ctl.Write(hello)
	readSome(t, sw, len(hello))
	readSome(t, ctl, len(hello))
	return g, sw, ctl
}

// What is held arrives whole and in order, whatever the shape, and through changes of it.
func TestShapeKeepsOrder(t *testing.T) {
	for name, s := range map[string]Shape{
		"delay":  {Delay: 20 * time.Millisecond},
		"jitter": {Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond},
		"rate":   {Rate: 20e6},
		"all":    {Delay: time.Millisecond, Jitter: time.Millisecond, Rate: 50e6},
	} {
		t.Run(name, func(t *testing.T) {
			g, sw, ctl := shapedRig(t)
			const n, size = 1000, 104
			want := bytes.Repeat(numbered(n, size), 4)
			go func() {
				for i, shape := range []Shape{{}, s, {}, s} {
					if err := g.relay.SetShape(ToSwitch, shape); err != nil {
						t.Error(err)
					}
					ctl.Write(want[i*n*size:][:n*size])
				}
			}()
			if got := readSome(t, sw, len(want)); !bytes.Equal(got, want) {
				t.Error("the messages are not the same")
			}
			for g.relay.Traffic(ToSwitch).Messages < 4*n+1 {
				time.Sleep(time.Millisecond) // counted after they are written
			}
			got := g.relay.Traffic(ToSwitch)
			if got.Messages != 4*n+1 || got.Bytes != uint64(len(want)+16) || got.Held != 0 || got.Shape != s {
				t.Errorf("to the switch: %+v", got)
			}
			if got := g.relay.Traffic(ToController); got.Messages != 1 || got.Shape != (Shape{}) {
				t.Errorf("to the controller: %+v", got)
			}
		})
	}
}

// A message is never early, and the other direction is not touched.
func TestShapeDelays(t *testing.T) {
	g, sw, ctl := shapedRig(t)
	const delay = 50 * time.Millisecond
	if err := g.relay.SetShape(ToController, Shape{Delay: delay}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	sw.Write(numbered(1, 8))
	readSome(t, ctl, 8)
	if took := time.Since(start); took < delay {
		t.Errorf("a message was held for %v, want %v", took, delay)
	}
	// 10,000 bit/s: the second of two messages of 125 bytes leaves after 0.2 s.
	if err := g.relay.SetShape(ToController, Shape{Rate: 10_000}); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	sw.Write(numbered(2, 125))
	readSome(t, ctl, 250)
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("250 bytes took %v at 10 kbit/s", took)
	}
}

// Taking the shape away lets go of what is held; without that it would be a minute.
func TestShapeCleared(t *testing.T) {
	g, sw, ctl := shapedRig(t)
	g.relay.SetShape(ToController, Shape{Delay: maxDelay})
	want := numbered(10, 100)
	sw.Write(want)
	for g.relay.Traffic(ToController).Held < int64(len(want)) {
		time.Sleep(time.Millisecond)
	}
	g.relay.SetShape(ToController, Shape{})
	if got := readSome(t, ctl, len(want)); !bytes.Equal(got, want) {
		t.Error("the messages are not the same")
	}
}

// What is held is bounded: the sender cannot go on.
func TestShapeBounded(t *testing.T) {
	g, sw, _ := shapedRig(t)
	g.relay.SetShape(ToController, Shape{Delay: maxDelay})
	chunk := numbered(100, 1000)
	taken := make(chan error, 1)
	go func() {
		var err error
		for sent := 0; err == nil && sent < 10*maxLine; sent += len(chunk) {
			_, err = sw.Write(chunk)
		}
		taken <- err
	}()
	for g.relay.Traffic(ToController).Held < maxLine && len(taken) == 0 {
		time.Sleep(time.Millisecond)
	}
	sw.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // enough to go on, if it could
	if err := await(t, taken, "the sender"); err == nil {
		t.Errorf("%d bytes were taken", 10*maxLine)
	}
	if held := g.relay.Traffic(ToController).Held; held < maxLine || held > maxLine+MaxMessage {
		t.Errorf("%d bytes are held", held)
	}
	g.relay.SetDown(true) // a cut does not wait for them
	g.waitReason(reasonCut)
}

// What a side said before it left still arrives.
func TestShapeDrains(t *testing.T) {
	g, sw, ctl := shapedRig(t)
	g.relay.SetShape(ToController, Shape{Delay: 20 * time.Millisecond})
	want := numbered(3, 8)
	sw.Write(want)
	sw.Close()
	if got := readSome(t, ctl, len(want)); !bytes.Equal(got, want) {
		t.Errorf("got %x", got)
	}
	g.waitReason("closed by the switch")
}

func TestShapeLimits(t *testing.T) {
	r := &Relay{}
	for s, want := range map[Shape]string{
		{Delay: -1}:                           "below zero",
		{Delay: time.Minute, Jitter: 1}:       "at most 1m0s",
		{Rate: 999}:                           "at least 1000",
		{Delay: time.Second, Rate: 1_000_000}: "",
	} {
		err := r.SetShape(ToSwitch, s)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestSetDial(t *testing.T) {
	g, sw, _ := shapedRig(t)
	elsewhere := errors.New("elsewhere")
	g.relay.SetDial(func(context.Context) (net.Conn, error) { return nil, elsewhere })
	if _, err := sw.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	g.connect()
	g.waitReason("elsewhere")
	dial, conns, _ := listen(t)
	g.relay.SetDial(dial)
	g.connect()
	await(t, conns, "the connection to the other controller")
}
