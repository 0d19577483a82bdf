package control

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// A scripted is a recording made by a Recorder of messages at given times.
type scripted struct {
	at         time.Duration
	fromSwitch bool
	data       []byte
}

// record writes messages with a Recorder and reads them back.
func record(t testing.TB, list []scripted) (*Recording, string) {
	t.Helper()
	var b bytes.Buffer
	r := NewRecorder(&b, "s1", "c0", func(err error) { t.Error(err) })
	for _, m := range list {
		tap := TapMessage{Time: r.header.Start.Add(m.at), Switch: "s1", Controller: "c0", FromSwitch: m.fromSwitch, Data: m.data}
		r.Tap(tap)
		tap.Switch = "s2" // of another channel
		r.Tap(tap)
	}
	r.Tap(TapMessage{Event: TapOpened, Switch: "s1", Controller: "c0"})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n, lost := r.Count(); n != uint64(len(list)) || lost != 0 {
		t.Errorf("%d messages, %d lost; want %d", n, lost, len(list))
	}
	rec, err := ReadRecording(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return rec, b.String()
}

// withXID sets a message's transaction ID.
func withXID(m []byte, xid uint32) []byte {
	m = slices.Clone(m)
	binary.BigEndian.PutUint32(m[4:], xid)
	return m
}

// frame is an IPv4 packet between hosts, of which tag is a part.
func frame(src, dst, tag byte) []byte {
	f := make([]byte, 60)
	f[5], f[11], f[12], f[59] = dst, src, 8, tag
	return f
}

func mac(n byte) MAC { return MAC{5: n} }

// buffered makes a PACKET_IN one about a packet that the switch keeps.
func buffered(m []byte, id uint32) []byte {
	m = slices.Clone(m)
	binary.BigEndian.PutUint32(m[8:], id)
	return m
}

// conversation is of a controller that sets up a switch and answers three PACKET_INs in
// different ways.
func conversation(v Version) []scripted {
	out := func(xid, buffer uint32, data []byte) []byte {
		return AppendPacketOut(nil, v, xid, PacketOut{BufferID: buffer, InPort: 1, Outputs: []uint32{2}, Data: data})
	}
	flow := func(xid uint32, src, dst byte) []byte {
		return AppendFlowMod(nil, v, xid, FlowMod{Match: Match{Src: mac(src), Dst: mac(dst)}, Output: 2})
	}
	const ms = time.Millisecond
	return []scripted{
		{1 * ms, true, AppendHello(nil, 7, VersionSet(v))},
		{2 * ms, false, AppendHello(nil, 8, VersionSet(v))},
		{3 * ms, false, AppendEmpty(nil, v, TypeFeaturesRequest, 9)},
		{4 * ms, true, (&fakeSwitch{version: v, dpid: 1}).features(9)},
		{5 * ms, false, AppendSetConfig(nil, v, 10)},
		{6 * ms, false, AppendEmpty(nil, v, BarrierRequest(v), 11)},
		{7 * ms, true, AppendEmpty(nil, v, BarrierReply(v), 11)},
		{8 * ms, true, packetIn(v, 1, frame(1, 2, 'a'))},
		{9 * ms, false, out(12, NoBuffer, frame(1, 2, 'a'))}, // by the packet
		{10 * ms, true, packetIn(v, 1, frame(1, 2, 'b'))},
		{11 * ms, false, flow(13, 2, 1)}, // by the addresses, the way back
		{12 * ms, false, out(14, NoBuffer, frame(1, 2, 'b'))},
		{13 * ms, true, withXID(buffered(packetIn(v, 3, frame(3, 4, 'c')), 77), 21)},
		{14 * ms, false, flow(21, 9, 9)},   // by the transaction
		{15 * ms, false, out(15, 77, nil)}, // by the buffer
		{16 * ms, false, out(16, 78, nil)}, // of none
		{17 * ms, true, AppendEmpty(nil, v, TypeEchoRequest, 22)},
		{18 * ms, false, AppendEmpty(nil, v, TypeEchoReply, 22)},
	}
}

func TestRecorder(t *testing.T) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		rec, text := record(t, conversation(v))
		var b strings.Builder
		for _, m := range rec.Messages {
			fmt.Fprintf(&b, "%2d %v %-10s %-16s xid %-2d", m.Number, m.At, m.From, m.Type, m.XID)
			if m.Answers > 0 {
				fmt.Fprintf(&b, " answers %d", m.Answers)
			}
			fmt.Fprintln(&b)
		}
		golden(t, "recording-"+v.String()+".txt", b.String())
		if rec.Switch != "s1" || rec.Controller != "c0" || rec.Start.IsZero() {
			t.Errorf("header %+v", rec)
		}
		// What a killed recorder leaves can be read.
		cut, err := ReadRecording(strings.NewReader(text[:len(text)-10]))
		if err != nil || len(cut.Messages) != len(rec.Messages)-1 {
			t.Errorf("of a recording without its end %d of %d messages were read: %v", len(cut.Messages), len(rec.Messages), err)
		}
	}
}

func TestReadRecordingErrors(t *testing.T) {
	head := `{"format":"weft-control/1","switch":"s1","controller":"c0","start":"2026-01-02T03:04:05Z"}` + "\n"
	for text, want := range map[string]string{
		"":                                  "no recording of a control channel",
		"{}\n":                              "no recording of a control channel",
		head + "x\n":                        "line 2 of the recording",
		head + `{"n":1}` + "\n":             "not one whole message",
		head + `{"n":1,"data":"0g"}` + "\n": "line 2 of the recording: data",
		head + `{"n":1,"from":"switch","data":"0400000800000000"}` + "\n" + `{"n":3,"from":"switch","data":"0400000800000000"}` + "\n": "line 3 of the recording: message 3 where 2 is due",
		head + `{"n":1,"from":"switch","answers":1,"data":"0400000800000000"}` + "\n":                                                  "answers 1",
		head + `{"n":1,"from":"me","data":"0400000800000000"}` + "\n":                                                                  `from "me"`,
		head + `{"n":1,"from":"switch","data":"040000090000000000ff"}` + "\n":                                                          "not one whole message",
	} {
		if _, err := ReadRecording(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	rec, err := ReadRecording(strings.NewReader(head + `{"lost":3}` + "\n"))
	if err != nil || len(rec.Messages) != 0 {
		t.Fatal(rec, err)
	}
	if _, err := NewPlayer(rec, false, nil); err == nil {
		t.Error("an empty recording can be replayed")
	}
}

// A Recorder whose file cannot take more says so, once, and stops.
func TestRecorderFails(t *testing.T) {
	failed := make(chan error, 2)
	r := NewRecorder(&limitedWriter{w: &bytes.Buffer{}, left: 10}, "s1", "c0", func(err error) { failed <- err })
	if err := await(t, failed, "the failure"); !strings.Contains(err.Error(), "recording of s1–c0") {
		t.Error(err)
	}
	for range 2 * recordQueue {
		r.Tap(TapMessage{Switch: "s1", Controller: "c0", Data: AppendEmpty(nil, OpenFlow13, TypeEchoRequest, 1)})
	}
	if r.Close() == nil {
		t.Error("Close returns no error")
	}
}

// play connects to a Player as a switch, past the handshake.
func play(t *testing.T, rec *Recording, timed bool, v Version) (*Player, net.Conn, *Reader) {
	t.Helper()
	noLeak(t)
	p, err := NewPlayer(rec, timed, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := p.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(testLimit))
	t.Cleanup(func() { conn.Close() })
	r := NewReader(conn)
	find(r, TypeHello)
	conn.Write(AppendHello(nil, 1, VersionSet(v)))
	return p, conn, r
}

func TestReplay(t *testing.T) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		t.Run(v.String(), func(t *testing.T) {
			rec, _ := record(t, conversation(v))
			p, conn, r := play(t, rec, false, v)
			var read []Message
			next := func(want Type) Message {
				t.Helper()
				for len(read) == 0 {
					batch, err := r.Read()
					if err != nil {
						t.Fatalf("no %s: %v", want.Name(v), err)
					}
					for m := range batch.All() {
						read = append(read, slices.Clone(m))
					}
				}
				m := read[0]
				read = read[1:]
				if m.Type() != want {
					t.Fatalf("%v, want a %s", m, want.Name(v))
				}
				return m
			}
			features := next(TypeFeaturesRequest)
			conn.Write((&fakeSwitch{version: v, dpid: 1}).features(features.XID()))
			if m := next(TypeSetConfig); m.XID() != 10 {
				t.Errorf("SET_CONFIG has xid %d", m.XID())
			}
			if m := next(BarrierRequest(v)); m.XID() != 11 {
				t.Errorf("BARRIER_REQUEST has xid %d", m.XID())
			}
			conn.Write(AppendEmpty(nil, v, BarrierReply(v), 11))
			if _, out, _ := parsePacketOut(t, next(TypePacketOut)); !slices.Equal(out, []uint32{2}) {
				t.Errorf("what answers nothing: a PACKET_OUT to %v", out)
			}
			conn.Write(AppendEmpty(nil, v, TypeEchoRequest, 99))
			if m := next(TypeEchoReply); m.XID() != 99 {
				t.Errorf("ECHO_REPLY has xid %d", m.XID())
			}
			// The first like it, with a live packet; then the second, and that again.
			for i, tag := range []byte("xyz") {
				conn.Write(packetIn(v, 1, frame(1, 2, tag)))
				if i > 0 {
					next(TypeFlowMod)
				}
				if _, _, data := parsePacketOut(t, next(TypePacketOut)); !bytes.Equal(data, frame(1, 2, tag)) {
					t.Errorf("answer %d sends %x", i, data)
				}
			}
			conn.Write(packetIn(v, 9, frame(1, 2, 'n'))) // like none
			// Another buffer and transaction than were recorded.
			conn.Write(withXID(buffered(packetIn(v, 3, frame(3, 4, 'c')), 88), 55))
			if m := next(TypeFlowMod); m.XID() != 55 {
				t.Errorf("FLOW_MOD has xid %d", m.XID())
			}
			if m := next(TypePacketOut); binary.BigEndian.Uint32(m[8:]) != 88 {
				t.Errorf("PACKET_OUT %x", m)
			}
			// The same packet, not kept by the switch this time.
			conn.Write(packetIn(v, 3, frame(3, 4, 'd')))
			next(TypeFlowMod)
			if _, _, data := parsePacketOut(t, next(TypePacketOut)); !bytes.Equal(data, frame(3, 4, 'd')) {
				t.Errorf("a packet without buffer: %x", data)
			}
			if sent, recorded := p.Played(); sent != 12 || recorded != 8 {
				t.Errorf("%d sent of %d", sent, recorded)
			}
		})
	}
}

// Timed, everything comes by itself, as it was, and not before its time.
func TestReplayTimed(t *testing.T) {
	rec, _ := record(t, conversation(OpenFlow13))
	start := time.Now() // before it begins to count
	_, conn, r := play(t, rec, true, OpenFlow13)
	features := find(r, TypeFeaturesRequest)
	conn.Write((&fakeSwitch{version: OpenFlow13, dpid: 1}).features(features.XID()))
	var got []uint32
	for len(got) < 8 {
		batch, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.All() {
			got = append(got, m.XID())
		}
	}
	if want := []uint32{10, 11, 12, 13, 14, 21, 15, 16}; !slices.Equal(got, want) {
		t.Errorf("xids %v, want %v", got, want)
	}
	if took := time.Since(start); took < 14*time.Millisecond { // after the HELLO at 2 ms
		t.Errorf("it took %v", took)
	}
}

func TestReplayVersionMismatch(t *testing.T) {
	rec, _ := record(t, conversation(OpenFlow13))
	_, _, r := play(t, rec, false, OpenFlow10)
	e, err := ParseError(find(r, TypeError))
	if err != nil || e.Type != ErrorHelloFailed || !strings.Contains(string(e.Data), "the recording is of OpenFlow 1.3, the switch speaks 1.0") {
		t.Errorf("%v, %v", e, err)
	}
}

// What Open vSwitch was told by the built-in controller it is told again by a recording,
// without that controller, and hosts reach each other.
func TestOpenVSwitchReplay(t *testing.T) {
	g := newOVSRing(t, "OpenFlow13")
	connected := func(s Status) bool { return s.Connected }
	g.waitStatus(connected)
	recorders := make([]*Recorder, len(g.relays))
	files := make([]*bytes.Buffer, len(g.relays))
	for i, r := range g.relays {
		r.SetDown(true)
		files[i] = &bytes.Buffer{}
		recorders[i] = NewRecorder(files[i], r.cfg.Switch, "c0", func(err error) { t.Error(err) })
	}
	g.record(recorders)
	for _, r := range g.relays {
		r.SetDown(false)
	}
	g.waitStatus(connected)
	g.pingAll()
	g.record(nil)
	for i, r := range g.relays {
		if err := recorders[i].Close(); err != nil {
			t.Fatal(err)
		}
		rec, err := ReadRecording(files[i])
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlayer(rec, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetDial(p.Dial)
	}
	g.run("for s in s1 s2 s3; do ovs-ofctl -O OpenFlow13 del-flows $s; done")
	g.run("for h in h1 h2 h3; do nsenter --net=/run/netns/$h ip neigh flush all; done")
	g.waitStatus(connected)
	g.pingAll()
	for _, r := range g.relays {
		r.SetDial(nil)
	}
	g.waitStatus(func(s Status) bool { return s.Reason == reasonDiverted || s.Connected })
	g.waitStatus(connected)
	g.pingAll()
}

func FuzzReadRecording(f *testing.F) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		_, text := record(f, conversation(v)[7:13]) // short: the fuzzer minimizes what it finds
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rec, err := ReadRecording(strings.NewReader(text))
		if err != nil {
			return
		}
		p, err := NewPlayer(rec, false, nil)
		if err != nil {
			return
		}
		for _, list := range p.answers {
			for _, a := range list {
				for _, m := range a.messages {
					for _, id := range []uint32{NoBuffer, 5} {
						b := a.adapt(m, 9, PacketIn{BufferID: id, Data: make([]byte, MaxMessage)})
						if n, err := messageLen(b); err != nil || n != len(b) {
							t.Fatalf("%x became %x", m, b)
						}
					}
				}
			}
		}
	})
}

// FuzzCauses looks for answers among whatever a switch and a controller may say.
func FuzzCauses(f *testing.F) {
	for _, m := range conversation(OpenFlow10) {
		f.Add(m.data, m.data)
	}
	f.Fuzz(func(t *testing.T, asked, said []byte) {
		for _, b := range [][]byte{asked, said} {
			if n, err := messageLen(b); err != nil || n != len(b) || n == 0 {
				return
			}
		}
		var c causes
		now := time.Now()
		c.add(1, TapMessage{Time: now, Data: asked})
		c.of(TapMessage{Time: now, Data: said})
	})
}
