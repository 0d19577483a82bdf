package control

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// socketPair returns two ends of a Unix socket connection.
func socketPair(b *testing.B) (net.Conn, net.Conn) {
	path := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	x, err := net.Dial("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { x.Close(); y.Close() })
	return x, y
}

// BenchmarkPacketIn asks the controller about pairs of hosts of one switch, as cbench
// does in its throughput mode: an operation is a PACKET_IN and the flows both ways
// that answer it.
func BenchmarkPacketIn(b *testing.B) {
	for _, v := range []Version{OpenFlow10, OpenFlow13} {
		b.Run(v.String(), func(b *testing.B) {
			conn, theirs := socketPair(b)
			c := NewController(nil)
			go c.Serve(context.Background(), theirs)
			benchPacketIn(b, v, conn)
		})
		b.Run(v.String()+" relay", func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			r := NewRelay(RelayConfig{Listener: l, Dial: NewController(nil).Dial})
			defer r.Close()
			conn, err := net.Dial("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			benchPacketIn(b, v, conn)
		})
	}
}

func benchPacketIn(b *testing.B, v Version, conn net.Conn) {
	const hosts = 64
	s := &fakeSwitch{version: v, dpid: 1, ports: map[uint32]*fakePort{}}
	var asks []byte // about all pairs
	pairs := 0
	for i := range hosts {
		s.ports[uint32(i+1)] = &fakePort{up: true}
		for j := range hosts {
			if i != j {
				frame := make([]byte, 60)
				frame[5], frame[11] = byte(j+1), byte(i+1)
				asks = append(asks, packetIn(v, uint32(i+1), frame)...)
				pairs++
			}
		}
	}
	conn.Write(AppendHello(nil, 0, VersionSet(v)))
	r := NewReader(conn)
	if find(r, TypeFeaturesRequest) == nil {
		b.Fatal("no FEATURES_REQUEST")
	}
	size := len(asks) / pairs
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		if v == OpenFlow13 {
			conn.Write(s.portDesc(0))
		}
		conn.Write(s.features(0))
		conn.Write(asks) // learns the hosts
		for left := b.N; left > 0; left -= pairs {
			conn.Write(asks[:size*min(left, pairs)])
		}
	}()
	outs := 0
	for outs < b.N+pairs {
		batch, err := r.Read()
		if err != nil {
			b.Fatal(err)
		}
		for m := range batch.All() {
			if m.Type() == TypePacketOut {
				outs++
			}
		}
	}
}

// BenchmarkRelay measures one direction of the relay, in messages the size of a
// FLOW_MOD and of a PACKET_IN with a full packet, against a socket without it.
func BenchmarkRelay(b *testing.B) {
	for name, size := range map[string]int{"104 bytes": 104, "1556 bytes": 1556} {
		message := make([]byte, size)
		copy(message, AppendEmpty(nil, OpenFlow13, TypeFlowMod, 0))
		binary.BigEndian.PutUint16(message[2:], uint16(size))
		chunk := AppendHello(nil, 0, VersionSet(OpenFlow13))
		for len(chunk) < 60<<10 {
			chunk = append(chunk, message...)
		}
		carry := func(b *testing.B, from io.Writer, to io.Reader) {
			b.SetBytes(int64(len(chunk)))
			b.ResetTimer()
			go func() {
				for range b.N {
					from.Write(chunk)
				}
			}()
			if _, err := io.CopyN(io.Discard, to, int64(b.N*len(chunk))); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)*float64(len(chunk)/size)/b.Elapsed().Seconds(), "messages/s")
		}
		b.Run(name+"/socket", func(b *testing.B) {
			from, to := socketPair(b)
			carry(b, from, to)
		})
		b.Run(name+"/relay", func(b *testing.B) {
			near, far := socketPair(b)
			path := filepath.Join(b.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			r := NewRelay(RelayConfig{Listener: l, Dial: func(context.Context) (net.Conn, error) { return near, nil }})
			defer r.Close()
			conn, err := net.Dial("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			go far.Write(AppendHello(nil, 0, VersionSet(OpenFlow13)))
			carry(b, conn, far)
		})
	}
}
