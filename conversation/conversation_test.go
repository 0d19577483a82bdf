package conversation

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weft/control"
	"weft/control/openflow"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", path, got)
	}
}

// play calls f for the messages of a recorded capture, in universal time.
func play(t testing.TB, name string, f func(Message) error) {
	t.Helper()
	_, err := ReadFile(bytes.NewReader(recorded(t, name)), Ports(), func(m Message) error {
		m.Time = m.Time.UTC()
		return f(m)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// source is a recorded capture, in universal time.
func source(t testing.TB, name string) Source {
	file := recorded(t, name)
	return func(_ context.Context, emit func(Message) error) error {
		_, err := ReadFile(bytes.NewReader(file), Ports(), func(m Message) error {
			m.Time = m.Time.UTC()
			return emit(m)
		})
		return err
	}
}

// What people read of each kind of message, of each version.
func TestLines(t *testing.T) {
	var all strings.Builder
	d := openflow.NewDecoder()
	for _, name := range []string{"os-ken-1.0", "os-ken-1.2", "os-ken-1.3", "os-ken-1.4", "os-ken-1.5", "ovsc-1.4", "builtin-1.3"} {
		seen := map[string]int{}
		play(t, name, func(m Message) error {
			got := d.Decode(m.Data)
			most := 2
			if got.Name == "FLOW_MOD" {
				most = 200
			}
			if seen[got.Name]++; seen[got.Name] <= most {
				text := []rune(openflow.Line(m, got))
				fmt.Fprintln(&all, string(text[:min(len(text), 600)]))
			}
			return nil
		})
	}
	golden(t, "lines.txt", all.String())
}

func TestFilter(t *testing.T) {
	d := openflow.NewDecoder()
	for _, tt := range []struct {
		s    Selection
		want int // messages of builtin-1.3
		err  string
	}{
		{Selection{}, 32, ""},
		{Selection{Switches: "s1"}, 15, ""},
		{Selection{Switches: "s1,s2"}, 32, ""},
		{Selection{Switches: "s9"}, 0, ""},
		{Selection{Types: "PACKET_IN"}, 3, ""},
		{Selection{Types: "packet_in,packet_out"}, 6, ""},
		{Selection{Types: "port_desc"}, 4, ""},
		{Selection{Types: "MULTIPART_REPLY"}, 2, ""},
		{Selection{Types: "PACKET_IM"}, 0, `there is no message type "PACKET_IM"; did you mean PACKET_IN?`},
		{Selection{XIDs: "1,0x2"}, 6, ""},
		{Selection{XIDs: "many"}, 0, `xid "many" is no number of 32 bits`},
		{Selection{Types: "PACKET_IN", Match: "in_port=1"}, 2, ""},
		{Selection{Types: "PACKET_IN", Match: "arp_spa=10.0.0.1"}, 2, ""},
		{Selection{Types: "PACKET_IN", Match: "arp_tpa=10.0.0.0/24,dl_src"}, 3, ""},
		{Selection{Types: "PACKET_IN", Match: "eth_type=0x806"}, 3, ""},
		{Selection{Types: "PACKET_IN", Match: "ipv4_src=10.0.1.0/24"}, 0, ""},
		{Selection{Types: "FLOW_MOD", Match: "actions=output"}, 6, ""},
		{Selection{Types: "FLOW_MOD", Match: "instructions=apply_actions"}, 6, ""},
		{Selection{Match: "=1"}, 0, `"=1" has no field: write field=value or field`},
	} {
		f, err := tt.s.Filter(d)
		if err != nil || tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%+v: %v", tt.s, err)
			}
			continue
		}
		n := 0
		play(t, "builtin-1.3", func(m Message) error {
			if f.Match(m, d.Decode(m.Data)) {
				n++
			}
			return nil
		})
		if n != tt.want {
			t.Errorf("%+v: %d messages", tt.s, n)
		}
	}
}

func TestListener(t *testing.T) {
	for _, tt := range []struct {
		golden string
		s      Selection
		json   bool
		limit  int
	}{
		{"listener.txt", Selection{Switches: "s2", Match: "in_port"}, false, 3},
		{"listener.json", Selection{Types: "PACKET_IN,ERROR,HELLO,FLOW_MOD"}, true, 7},
	} {
		l, err := NewListener(tt.s)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		l.Lines, l.JSON, l.Limit = &out, tt.json, tt.limit
		if err := l.Listen(context.Background(), source(t, "builtin-1.3")); err != nil {
			t.Error(err)
		}
		if n := strings.Count(out.String(), "\n"); n != tt.limit {
			t.Errorf("%d lines where %d are the limit", n, tt.limit)
		}
		golden(t, tt.golden, out.String())
	}
}

// A listener does not outlive its context, nor does it print after its end.
func TestListenerEnds(t *testing.T) {
	l, err := NewListener(Selection{Match: "in_prot=1"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l.Lines = &out
	ctx, cancel := context.WithCancel(context.Background())
	stubborn, ended := make(chan struct{}), make(chan error)
	err = l.Listen(ctx, func(_ context.Context, emit func(Message) error) error {
		cancel()
		go func() {
			<-stubborn
			ended <- emit(Message{Data: control.Message(hello)})
		}()
		select {} // a read that nothing ends
	})
	if err != nil {
		t.Error(err)
	}
	close(stubborn)
	if err := <-ended; err == nil || out.Len() > 0 {
		t.Errorf("went on: %v, %q", err, &out)
	}
	if u := l.Unseen(); len(u) != 1 || u[0] != "in_prot" {
		t.Errorf("unseen: %v", u)
	}
}

func TestListenerErrors(t *testing.T) {
	l, err := NewListener(Selection{})
	if err != nil {
		t.Fatal(err)
	}
	l.Lines = broken{}
	if err := l.Listen(context.Background(), source(t, "builtin-1.3")); !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// counted returns the statistics of a recorded capture.
func counted(t *testing.T, name string) Statistics {
	c, d := NewCounter(), openflow.NewDecoder()
	play(t, name, func(m Message) error {
		c.Add(m, d.Decode(m.Data))
		return nil
	})
	return c.Statistics()
}

func TestStatistics(t *testing.T) {
	var out strings.Builder
	for _, name := range []string{"builtin-1.3", "ovsc-1.0", "os-ken-1.5"} {
		fmt.Fprintf(&out, "%s\n", name)
		if err := counted(t, name).Write(&out); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out)
	}
	golden(t, "statistics.txt", out.String())
}

// A PACKET_IN and what it caused, told by buffer, packet, xid or match.
func TestSetup(t *testing.T) {
	const packet = "\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x01\x08\x06xxxxxxxxxxxxxxxx"
	none := uint64(control.NoBuffer)
	in := func(xid uint32, buffer uint64, data string) openflow.Decoded {
		return openflow.NewDecoder().Decode(packetIn(xid, uint32(buffer), data))
	}
	number := func(name string, n uint64) openflow.Field {
		return openflow.Field{Name: name, Value: openflow.Number{N: n}}
	}
	say := func(name string, xid uint32, f ...openflow.Field) openflow.Decoded {
		return openflow.Decoded{Name: name, XID: xid, Fields: f}
	}
	match := func(f ...openflow.Field) openflow.Field {
		return openflow.Field{Name: "match", Value: openflow.Fields(f)}
	}
	for _, tt := range []struct {
		name               string
		in                 []openflow.Decoded
		out                []openflow.Decoded
		first, flow, packt int
	}{
		{"buffer", []openflow.Decoded{in(0, 5, packet), in(0, 6, packet)}, []openflow.Decoded{say("FLOW_MOD", 1, number("buffer_id", 6))}, 1, 1, 0},
		{"another buffer", []openflow.Decoded{in(0, 5, packet)}, []openflow.Decoded{say("PACKET_OUT", 1, number("buffer_id", 6))}, 0, 0, 0},
		{"xid", []openflow.Decoded{in(9, none, packet)}, []openflow.Decoded{say("FLOW_MOD", 9, number("buffer_id", none))}, 1, 1, 0},
		{"match", []openflow.Decoded{in(0, none, packet)}, []openflow.Decoded{say("FLOW_MOD", 1, match(number("in_port", 3), openflow.Field{Name: "eth_dst", Value: openflow.Text("00:00:00:00:00:02")}))}, 1, 1, 0},
		{"another match", []openflow.Decoded{in(0, none, packet)}, []openflow.Decoded{say("FLOW_MOD", 1, match(openflow.Field{Name: "eth_dst", Value: openflow.Text("00:00:00:00:00:03")}))}, 0, 0, 0},
		{"any match", []openflow.Decoded{in(0, none, packet)}, []openflow.Decoded{say("FLOW_MOD", 1, match())}, 0, 0, 0},
		{"delete", []openflow.Decoded{in(9, none, packet)}, []openflow.Decoded{say("FLOW_MOD", 9, number("command", 3))}, 0, 0, 0},
		{"packet", []openflow.Decoded{in(0, none, packet), in(0, none, packet+"x")}, []openflow.Decoded{
			say("PACKET_OUT", 1, openflow.Field{Name: "packet", Value: openflow.Packet{Data: openflow.Data(packet + "x")}}),
			say("PACKET_OUT", 2, openflow.Field{Name: "packet", Value: openflow.Packet{Data: openflow.Data(packet)}}),
			say("PACKET_OUT", 3, openflow.Field{Name: "packet", Value: openflow.Packet{Data: openflow.Data(packet)}})}, 2, 0, 2},
		{"both", []openflow.Decoded{in(0, 5, packet)}, []openflow.Decoded{say("PACKET_OUT", 1, number("buffer_id", 5)), say("FLOW_MOD", 1, number("buffer_id", 5))}, 1, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCounter()
			at := time.Unix(1e9, 0)
			for _, d := range tt.in {
				c.Add(Message{Time: at, Switch: "s1", Controller: "c0", FromSwitch: true}, d)
			}
			for i, d := range tt.out {
				c.Add(Message{Time: at.Add(time.Duration(i+1) * time.Millisecond), Switch: "s1", Controller: "c0"}, d)
			}
			s := c.Statistics().Setup
			if s.First.Count != tt.first || s.FlowMod.Count != tt.flow || s.PacketOut.Count != tt.packt || s.PacketIns != len(tt.in) || s.Unanswered != len(tt.in)-tt.first {
				t.Errorf("%+v", s)
			}
			if tt.first > 0 && s.First.Min != Milliseconds(time.Millisecond) {
				t.Errorf("took %v", s.First.Min)
			}
		})
	}
}

// packetIn returns a PACKET_IN of OpenFlow 1.0 from port 3.
func packetIn(xid, buffer uint32, data string) control.Message {
	n := 18 + len(data)
	m := []byte{1, 10, byte(n >> 8), byte(n), byte(xid >> 24), byte(xid >> 16), byte(xid >> 8), byte(xid),
		byte(buffer >> 24), byte(buffer >> 16), byte(buffer >> 8), byte(buffer), 0, byte(len(data)), 0, 3, 0, 0}
	return append(m, data...)
}

func TestPercentiles(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(100-i)*time.Millisecond)
	}
	l := latency(times)
	got := fmt.Sprint(l.Count, l.Min, l.Mean, l.Median, l.P90, l.P95, l.P99, l.Max)
	if want := "100 1.000 50.500 50.000 90.000 95.000 99.000 100.000"; got != want {
		t.Errorf("got %s", got)
	}
	if l := latency(times[:1]); l.Median != l.Max || l.Min != l.P99 {
		t.Errorf("one time: %+v", l)
	}
}

func TestPlots(t *testing.T) {
	s := counted(t, "builtin-1.3").Setup
	var svg, img bytes.Buffer
	if err := errors.Join(s.WriteSVG(&svg), s.WritePNG(&img)); err != nil {
		t.Fatal(err)
	}
	golden(t, "latency.svg", svg.String())
	p, err := png.Decode(&img)
	if err != nil || p.Bounds().Dx() != plotWidth || p.Bounds().Dy() != plotHeight {
		t.Errorf("PNG: %v", err)
	}
	if err := (Setup{}).WriteSVG(io.Discard); !errors.Is(err, ErrNothingToPlot) {
		t.Error(err)
	}
}

func TestSequence(t *testing.T) {
	s, d := Sequence{Limit: 12}, openflow.NewDecoder()
	play(t, "builtin-1.3", func(m Message) error {
		s.Add(m, d.Decode(m.Data))
		return nil
	})
	var svg, mermaid bytes.Buffer
	if err := errors.Join(s.WriteSVG(&svg), s.WriteMermaid(&mermaid)); err != nil {
		t.Fatal(err)
	}
	golden(t, "sequence.svg", svg.String())
	golden(t, "sequence.mmd", mermaid.String())
	for dec := xml.NewDecoder(&svg); ; {
		if _, err := dec.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var empty Sequence
	if err := errors.Join(empty.WriteSVG(io.Discard), empty.WriteMermaid(io.Discard)); err != nil {
		t.Error(err)
	}
}

func TestMermaidText(t *testing.T) {
	if got, want := mermaidText("a;b#c <d>\n"), "a#59;b#35;c #lt;d#gt; "; got != want {
		t.Errorf("got %q", got)
	}
}

func TestTail(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "growing"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tail, buf := Tail(ctx, r), make([]byte, 10)
	for _, text := range []string{"one", "two"} {
		go fmt.Fprint(f, text)
		if n, err := io.ReadFull(tail, buf[:3]); err != nil || string(buf[:n]) != text {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
	cancel()
	if _, err := tail.Read(buf); err != io.EOF {
		t.Error(err)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("s1", "PACKET_IN", "7", "in_port=1,ipv4_src=10.0.0.0/8,vlan_vid=5")
	d := openflow.NewDecoder()
	messages := []openflow.Decoded{d.Decode(packetIn(7, 5, "\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x01\x08\x06xxxxxxxx")), {Name: "FLOW_MOD"}}
	f.Fuzz(func(t *testing.T, switches, types, xids, match string) {
		filter, err := Selection{Switches: switches, Types: types, XIDs: xids, Match: match}.Filter(d)
		if err != nil {
			return
		}
		for _, m := range messages {
			filter.Match(Message{Switch: "s1"}, m)
		}
	})
}
