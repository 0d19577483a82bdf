package capture

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"weft/control"
)

// BenchmarkFlowSetup asks the built-in controller about hosts of one switch, as cbench does:
// directly, through a relay, and through one that is captured to a file. In "storm" an
// operation is a PACKET_IN among many under way, in "one" it waits for its answer; then
// the median is a metric, too.
func BenchmarkFlowSetup(b *testing.B) {
	for _, how := range []string{"direct", "relay", "capture"} {
		for name, window := range map[string]int{"storm": 256, "one": 1} {
			b.Run(name+"/"+how, func(b *testing.B) {
				conn := connect(b, how)
				defer conn.Close()
				askForFlows(b, conn, window)
			})
		}
	}
}

// connect returns a switch's connection to a controller.
func connect(b *testing.B, how string) net.Conn {
	dir := b.TempDir()
	listen := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	controller := control.NewController(nil)
	theirs := listen("controller")
	life, end := context.WithCancel(context.Background())
	go func() {
		for {
			conn, err := theirs.Accept()
			if err != nil {
				return
			}
			go controller.Serve(life, conn)
		}
	}()
	b.Cleanup(func() { end(); theirs.Close() })
	dial := func(context.Context) (net.Conn, error) { return net.Dial("unix", filepath.Join(dir, "controller")) }
	if how == "direct" {
		conn, err := dial(life)
		if err != nil {
			b.Fatal(err)
		}
		return conn
	}
	cfg := control.RelayConfig{Switch: "s1", Controller: "c0", Listener: listen("relay"), Dial: dial}
	if how == "capture" {
		c := newCapture(b, Config{})
		t := c.AddControl(nil, everything)
		cfg.Tap = t.Tap
		file, err := os.Create(filepath.Join(dir, "of.pcapng"))
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(life)
		done := make(chan struct{})
		go func() {
			defer close(done)
			stats, err := c.Run(ctx, file, nil)
			if err != nil {
				b.Error(err)
			}
			b.ReportMetric(float64(stats[0].Dropped)/float64(stats[0].Messages), "lost/message")
		}()
		b.Cleanup(func() { stop(); <-done; file.Close() })
	}
	relay := control.NewRelay(cfg)
	b.Cleanup(func() { relay.Close() })
	conn, err := net.Dial("unix", filepath.Join(dir, "relay"))
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

// askForFlows is a switch: it says hello, then sends PACKET_INs of OpenFlow 1.0, at most
// window without an answer.
func askForFlows(b *testing.B, conn net.Conn, window int) {
	const v = control.OpenFlow10
	conn.Write(message(v, control.TypeHello, 1))
	r := control.NewReader(conn)
	next := func(kind control.Type) (n int) {
		for n == 0 {
			batch, err := r.Read()
			if err != nil {
				b.Fatal(err)
			}
			for m := range batch.All() {
				if m.Type() == kind {
					n++
				}
			}
		}
		return n
	}
	next(control.TypeFeaturesRequest)
	features := make([]byte, 24, 120) // datapath 0, no buffers, and two ports
	for p := range byte(2) {
		port := append(make([]byte, 1, 48), p+1, 2, 0, 0, 0, 0, p)
		features = append(features, append(port, make([]byte, 48-len(port))...)...)
	}
	conn.Write(message(v, control.TypeFeaturesReply, 2, features...))
	// Two hosts that know each other, so that each PACKET_IN is worth a flow.
	ask := func(src, dst byte) []byte {
		body := append([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 60, 0, src, 0, 0}, 2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 8, 0)
		return message(v, control.TypePacketIn, 0, append(body, make([]byte, 46)...)...)
	}
	conn.Write(slices.Concat(ask(1, 2), ask(2, 1)))
	for n := 0; n < 2; {
		n += next(control.TypePacketOut)
	}
	storm := slices.Repeat(ask(1, 2), window)
	size := len(storm) / window
	var waits []time.Duration
	b.ResetTimer()
	asked, answered := 0, 0
	for answered < b.N {
		if n := min(window-(asked-answered), b.N-asked); n > 0 {
			asked += n
			if _, err := conn.Write(storm[:n*size]); err != nil {
				b.Fatal(err)
			}
		}
		start := time.Now()
		answered += next(control.TypePacketOut)
		if window == 1 {
			waits = append(waits, time.Since(start))
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "flows/s")
	if window == 1 {
		slices.Sort(waits)
		b.ReportMetric(float64(waits[len(waits)/2].Nanoseconds())/1e3, "median-µs")
	}
}

// BenchmarkPackets measures what a packet of a link costs from the ring to the stream.
func BenchmarkPackets(b *testing.B) {
	for name, size := range map[string]int{"64": 64, "1500": 1500} {
		b.Run(name, func(b *testing.B) {
			c := newCapture(b, Config{})
			p := packet{iface: c.newInterface("eth0", ""), data: make([]byte, size), length: size, flags: flagInbound}
			binary.BigEndian.PutUint16(p.data[12:], etherIP4)
			b.SetBytes(int64(size))
			for b.Loop() {
				c.append(&p)
				if len(c.out) >= chunk {
					c.flush(io.Discard)
				}
			}
		})
	}
}
