package control

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func TestNames(t *testing.T) {
	var b strings.Builder
	for v := OpenFlow10; v <= OpenFlow15; v++ {
		fmt.Fprintf(&b, "OpenFlow %v\n", v)
		for typ := Type(0); typ <= 36; typ++ {
			fmt.Fprintf(&b, "%4d %s\n", typ, typ.Name(v))
		}
		for typ := uint16(0); typ < 15; typ++ {
			for code := uint16(0); code < 15 && (typ < 2 || code < 1); code++ {
				fmt.Fprintf(&b, "error %s\n", ErrorName(v, typ, code))
			}
		}
	}
	golden(t, "names.txt", b.String())
}

// samples are the messages that this package writes, in both versions.
func samples(v Version) map[string][]byte {
	m := Match{InPort: 3, Src: MAC{0, 1, 2, 3, 4, 5}, Dst: MAC{6, 7, 8, 9, 10, 11}}
	return map[string][]byte{
		"hello":         AppendHello(nil, 1, VersionSet(OpenFlow10, v)),
		"error":         AppendError(nil, 2, ErrorMessage{v, ErrorBadRequest, CodeBadLength, []byte{1, 10, 0, 9, 0, 0, 0, 0, 0}}),
		"echo":          AppendEchoReply(nil, Message{byte(v), 2, 0, 10, 0, 0, 0, 9, 'h', 'i'}),
		"features":      AppendEmpty(nil, v, TypeFeaturesRequest, 3),
		"barrier":       AppendEmpty(nil, v, BarrierRequest(v), 4),
		"set config":    AppendSetConfig(nil, v, 5),
		"port desc":     AppendPortDescRequest(nil, OpenFlow13, 6),
		"flow add":      AppendFlowMod(nil, v, 7, FlowMod{Match: m, Priority: 10, Idle: 60, Cookie: 0xabc, Output: 4}),
		"flow miss":     AppendFlowMod(nil, v, 8, FlowMod{Output: PortController}),
		"flow delete":   AppendFlowMod(nil, v, 9, FlowMod{Command: FlowDelete, Match: Match{Dst: m.Dst}, Cookie: 0xabc}),
		"flow clear":    AppendFlowMod(nil, v, 10, FlowMod{Command: FlowDelete}),
		"packet out":    AppendPacketOut(nil, v, 11, PacketOut{NoBuffer, 1, []uint32{2, PortLocal}, []byte("packet")}),
		"packet buffer": AppendPacketOut(nil, v, 12, PacketOut{77, 1, []uint32{2}, []byte("packet")}),
	}
}

func TestWire(t *testing.T) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		var b strings.Builder
		all := samples(v)
		for _, name := range slices.Sorted(mapsKeys(all)) {
			m := Message(all[name])
			fmt.Fprintf(&b, "%s: %v\n", name, m)
			for line := range slices.Chunk([]byte(m), 16) {
				fmt.Fprintf(&b, "  % x\n", line)
			}
		}
		golden(t, fmt.Sprintf("wire-%v.txt", v), b.String())
	}
}

func mapsKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestPacketOutSplits(t *testing.T) {
	ports := make([]uint32, 9000)
	for i := range ports {
		ports[i] = uint32(i + 1)
	}
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		for _, size := range []int{0, 60, 1514, 65000, 65535} {
			b := AppendPacketOut(nil, v, 0, PacketOut{NoBuffer, 9999, ports, make([]byte, size)})
			var got []uint32
			for m := range Batch(b).All() {
				_, out, data := parsePacketOut(t, m)
				if len(data) != size {
					t.Fatalf("%v: %d bytes of data, want %d", v, len(data), size)
				}
				got = append(got, out...)
				b = b[len(m):]
			}
			if want := ports[:btoi(size < 65535)*len(ports)]; !slices.Equal(got, want) || len(b) != 0 {
				t.Errorf("%v, %d bytes: %d ports, want %d; %d bytes left", v, size, len(got), len(want), len(b))
			}
		}
	}
}

func TestParse(t *testing.T) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		s := &fakeSwitch{version: v, dpid: 0xabcdef0123, ports: map[uint32]*fakePort{1: {up: true}, 2: {}, 0xfe00: {up: true}}}
		f, err := ParseFeatures(s.features(1))
		if err != nil || f.DPID != s.dpid {
			t.Errorf("%v features %+v, %v", v, f, err)
		}
		ports := f.Ports
		if v == OpenFlow13 {
			var more bool
			if ports, more, err = ParsePortDesc(s.portDesc(1)); err != nil || more {
				t.Errorf("port desc: more %v, %v", more, err)
			}
		}
		want := []Port{
			{1, MAC{2, 0, 0, 0, 0, 1}, "eth1", true, false},
			{2, MAC{2, 0, 0, 0, 0, 2}, "eth2", false, false},
			{0xfe00, MAC{2, 0, 0, 0, 0, 0}, "eth65024", true, false},
		}
		if !slices.Equal(ports, want) {
			t.Errorf("%v ports %+v", v, ports)
		}
		p, err := ParsePacketIn(packetIn(v, 5, []byte("packet")))
		if err != nil || p.BufferID != NoBuffer || p.InPort != 5 || string(p.Data) != "packet" {
			t.Errorf("%v packet in %+v, %v", v, p, err)
		}
		st, err := ParsePortStatus(s.portStatus(PortModified, 2, false))
		if err != nil || st != (PortStatus{PortModified, want[1]}) {
			t.Errorf("%v port status %+v, %v", v, st, err)
		}
	}
	if p := port10(0xfffe); p != PortLocal {
		t.Errorf("local port %#x", p)
	}
}

func TestNegotiate(t *testing.T) {
	for _, test := range []struct {
		a, b Hello
		want Version
	}{
		{Hello{OpenFlow10, 0}, Hello{OpenFlow13, 0}, OpenFlow10},
		{Hello{OpenFlow13, 0x12}, Hello{OpenFlow15, 0x7e}, OpenFlow13},
		{Hello{OpenFlow13, 0x10}, Hello{OpenFlow10, 0x02}, 0},
		{Hello{OpenFlow13, 0x10}, Hello{OpenFlow10, 0}, 0},
		{Hello{OpenFlow13, 0x12}, Hello{OpenFlow10, 0}, OpenFlow10},
		{Hello{OpenFlow13, 0x12}, Hello{OpenFlow12, 0}, 0},
		{Hello{OpenFlow14, 0x20}, Hello{OpenFlow13, 0x12}, 0},
	} {
		for range 2 {
			got, err := Negotiate(test.a, test.b)
			if got != test.want || (err == nil) != (test.want != 0) {
				t.Errorf("Negotiate(%+v, %+v) = %v, %v", test.a, test.b, got, err)
			}
			test.a, test.b = test.b, test.a
		}
	}
}

func TestReader(t *testing.T) {
	var stream []byte
	for i := range 500 {
		stream = append(stream, packetIn(OpenFlow10, 1, make([]byte, i*i%(MaxMessage-18)))...)
	}
	for name, src := range map[string]io.Reader{
		"whole":       bytes.NewReader(stream),
		"bytes":       iotest.OneByteReader(bytes.NewReader(stream[:20000])),
		"halves":      iotest.HalfReader(bytes.NewReader(stream)),
		"error early": iotest.DataErrReader(bytes.NewReader(stream)),
		"timeouts":    iotest.TimeoutReader(bytes.NewReader(stream)),
	} {
		r := NewReader(src)
		var got []byte
		var err error
		for {
			var b Batch
			if b, err = r.Read(); errors.Is(err, iotest.ErrTimeout) {
				continue
			} else if err != nil {
				break
			}
			n := 0
			for m := range b.All() {
				n += len(m)
			}
			if n != len(b) || n == 0 {
				t.Fatalf("%s: %d of %d bytes are messages", name, n, len(b))
			}
			got = append(got, b...)
		}
		if name == "bytes" {
			if err != io.ErrUnexpectedEOF || !bytes.HasPrefix(stream, got) {
				t.Errorf("%s: %d bytes, then %v", name, len(got), err)
			}
		} else if err != io.EOF || !bytes.Equal(got, stream) {
			t.Errorf("%s: %d of %d bytes, then %v", name, len(got), len(stream), err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK"))
	f.Add(append(samples(OpenFlow10)["hello"], samples(OpenFlow13)["flow add"]...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(iotest.HalfReader(bytes.NewReader(stream)))
		total := 0
		for {
			batch, err := r.Read()
			if err != nil {
				break
			}
			n := 0
			for m := range batch.All() {
				if len(m) < HeaderLen {
					t.Fatalf("message %x", m)
				}
				n += len(m)
				_ = m.String()
			}
			if n != len(batch) || !bytes.Equal(batch, stream[total:total+n]) {
				t.Fatalf("batch %x of %x", batch, stream)
			}
			total += n
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		for _, b := range samples(v) {
			f.Add(b)
		}
		s := &fakeSwitch{version: v, ports: map[uint32]*fakePort{1: {up: true}}}
		f.Add(s.features(1))
		f.Add(s.portDesc(1))
		f.Add(s.portStatus(PortAdded, 1, true))
		f.Add(packetIn(v, 1, make([]byte, 60)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := Message(b)
		if h, err := ParseHello(m); err == nil {
			_ = h.String()
		}
		if e, err := ParseError(m); err == nil {
			_ = e.String()
		}
		if p, err := ParsePacketIn(m); err == nil && len(p.Data) > len(b) {
			t.Fatal("more data than bytes")
		}
		ParseFeatures(m)
		ParsePortDesc(m)
		ParsePortStatus(m)
	})
}

// FuzzController lets a switch say anything after, or instead of, its handshake, in
// a network with another one.
func FuzzController(f *testing.F) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		s := &fakeSwitch{version: v, dpid: 2, ports: map[uint32]*fakePort{1: {up: true}, 2: {up: true}}}
		b := s.features(1)
		b = append(b, packetIn(v, 1, append([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2}, make([]byte, 48)...))...)
		b = append(b, s.portStatus(PortModified, 2, false)...)
		b = append(b, packetIn(v, 2, append([]byte{0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1}, make([]byte, 48)...))...)
		f.Add(AppendHello(nil, 0, VersionSet(v)), b)
	}
	f.Fuzz(func(t *testing.T, hello, said []byte) {
		c := NewController(nil)
		c.SetTopology([]TopologyLink{{1, 2, 2, 2, true}, {1, 3, 3, 3, true}})
		done := make(chan error, 2)
		for _, say := range [][]byte{append(bytes.Clone(hello), said...), said} {
			ours, theirs := net.Pipe()
			ours.SetDeadline(time.Now().Add(testLimit))
			go func() { done <- c.Serve(context.Background(), theirs) }()
			go io.Copy(io.Discard, ours)
			ours.Write(say)
			ours.Close()
			await(t, done, "Serve to return")
		}
	})
}
