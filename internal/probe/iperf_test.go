package probe

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestIperf(t *testing.T) {
	l := newLab(t, 2)
	for _, test := range []struct {
		name string
		cfg  IperfConfig
	}{
		{"tcp", IperfConfig{}},
		{"tcp6", IperfConfig{IPv6: true, Port: 5001}},
		{"udp", IperfConfig{UDP: true}},
		{"udp6", IperfConfig{UDP: true, IPv6: true, Port: 5001, Length: 100, Rate: 1_000_000}},
		{"udp, smallest", IperfConfig{UDP: true, Length: datagramHeader}},
		{"udp, fragmented", IperfConfig{UDP: true, Length: 9000}},
		{"udp, more than there is", IperfConfig{UDP: true, Rate: 1_000_000_000_000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := test.cfg
			cfg.Client, cfg.Server = l.hosts[0], l.hosts[1]
			cfg.Duration = 1100 * time.Millisecond
			r, err := Iperf(t.Context(), cfg)
			must(t, err)
			if r.Client != "h1" || r.Server != "h2" || r.UDP != cfg.UDP {
				t.Errorf("from %s to %s, UDP %v", r.Client, r.Server, r.UDP)
			}
			if r.Bytes == 0 || r.ServerBps <= 0 || r.ClientBps <= 0 || r.Duration < cfg.Duration {
				t.Errorf("nothing was measured: %+v", r)
			}
			var bytes uint64
			var end time.Duration
			for _, i := range r.Intervals {
				bytes += i.Bytes
				if i.Start != end || i.End < i.Start {
					t.Errorf("intervals have a hole at %v: %+v", end, r.Intervals)
				}
				end = i.End
			}
			if len(r.Intervals) < 2 {
				t.Errorf("%d intervals in %v", len(r.Intervals), r.Duration)
			}
			if cfg.UDP {
				length := uint64(max(cfg.Length, 0))
				if length == 0 {
					length = defaultLength
				}
				if bytes != r.Bytes {
					t.Errorf("intervals have %d bytes of %d", bytes, r.Bytes)
				}
				if r.Bytes != (r.Sent-r.LostPackets)*length {
					t.Errorf("%d sent and %d lost, but %d bytes received", r.Sent, r.LostPackets, r.Bytes)
				}
				if r.ClientBps > 1.1*r.Asked {
					t.Errorf("sent at %v, more than the %v asked for", r.ClientBps, r.Asked)
				}
			} else if bytes > r.Bytes {
				t.Errorf("intervals have %d bytes, more than %d", bytes, r.Bytes)
			}
		})
	}
}

// Runs at the same time do not get into each other's way.
func TestIperfConcurrently(t *testing.T) {
	l := newLab(t, 2)
	errs := make(chan error)
	const n = 4
	for i := range n {
		go func() {
			_, err := Iperf(t.Context(), IperfConfig{
				Client: l.hosts[i%2], Server: l.hosts[(i+1)%2], UDP: i < 2, Duration: 300 * time.Millisecond,
			})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestIperfErrors(t *testing.T) {
	l := newLab(t, 2)
	h1, h2 := l.hosts[0], l.hosts[1]
	// The way to this host ends nowhere.
	silent := h2
	silent.Name = "silent"
	eth0, err := l.inside[0].LinkByName("eth0")
	must(t, err)
	must(t, l.inside[0].NeighAdd(&netlink.Neigh{
		LinkIndex: eth0.Attrs().Index, State: netlink.NUD_PERMANENT, IP: silent.IP.AsSlice(),
		HardwareAddr: []byte{2, 0, 0, 0, 0, 9},
	}))
	homeless := Host{Name: "homeless"}
	for _, test := range []struct {
		name string
		cfg  IperfConfig
		want string
	}{
		{"silent", IperfConfig{Client: h1, Server: silent}, "iperf from h1 to silent: silent did not accept a connection from h1 within 5s"},
		{"silent, udp", IperfConfig{Client: h1, Server: silent, UDP: true}, "silent heard nothing from h1 within 5s"},
		{"no address", IperfConfig{Client: h1, Server: homeless}, "homeless has no IPv4 address"},
		{"no address 6", IperfConfig{Client: homeless, Server: h2, IPv6: true}, "homeless has no IPv6 address"},
		{"short", IperfConfig{Client: h1, Server: h2, UDP: true, Length: 3}, "from 24 to 65507"},
		{"port", IperfConfig{Client: h1, Server: h2, Port: 70000}, "70000 is not a port"},
		{"duration", IperfConfig{Client: h1, Server: h2, Duration: -1}, "positive"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Iperf(t.Context(), test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestIperfPortInUse(t *testing.T) {
	l := newLab(t, 1)
	cfg := IperfConfig{Client: l.hosts[0], Server: l.hosts[0], Port: 5001}
	fd, err := cfg.Server.bind(cfg, unix.SOCK_STREAM)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Listen(fd, 1))
	_, err = Iperf(t.Context(), cfg)
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "port 5001 of h1") {
		t.Errorf("error %v, want that port 5001 of h1 is in use", err)
	}
}

// A link that is cut does not hang the measurement: what follows is zero.
func TestIperfStalls(t *testing.T) {
	for _, udp := range []bool{false, true} {
		l := newLab(t, 2)
		port, err := l.fabric.LinkByName("p2")
		must(t, err)
		cut := make(chan error, 1)
		go func() { // when it has begun
			for {
				p2, err := l.fabric.LinkByName("p2")
				if err != nil || p2.Attrs().Statistics.TxBytes > 100_000 {
					cut <- errors.Join(err, l.fabric.LinkSetDown(port))
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		r, err := Iperf(t.Context(), IperfConfig{Client: l.hosts[0], Server: l.hosts[1], UDP: udp, Duration: 2500 * time.Millisecond})
		must(t, err)
		must(t, <-cut)
		if last := r.Intervals[len(r.Intervals)-1]; r.Bytes == 0 || last.Bytes != 0 {
			t.Errorf("UDP %v: %d bytes in all, %d at the end", udp, r.Bytes, last.Bytes)
		}
		if udp && r.LostPackets == 0 {
			t.Error("nothing was lost")
		}
	}
}

func TestIperfCancel(t *testing.T) {
	l := newLab(t, 2)
	for _, udp := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := Iperf(ctx, IperfConfig{Client: l.hosts[0], Server: l.hosts[1], UDP: udp, Duration: time.Hour})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("UDP %v: error %v, want that the context was cancelled", udp, err)
		}
	}
}

func TestMeterBroken(t *testing.T) {
	var bytes atomic.Uint64
	bytes.Store(7)
	broken := make(chan error, 1)
	broken <- unix.ECONNRESET
	intervals, err := meter(t.Context(), time.Now(), time.Hour, &bytes, broken)
	if err != unix.ECONNRESET || len(intervals) != 1 || intervals[0].Bytes != 7 {
		t.Errorf("%+v, %v", intervals, err)
	}
}

func TestUDPReceiver(t *testing.T) {
	r := udpReceiver{heard: make(chan struct{})}
	begin := time.Unix(1000, 0)
	for i, seq := range []uint64{0, 1, 2, 4, 0, 3, 3, 1 << 60, 130, 6, 130} {
		r.take(datagram{seq: seq, wall: begin.UnixNano()}, 100, begin.Add(time.Duration(i)*time.Millisecond))
	}
	<-r.heard
	// 1, 2, 4, 3, 130, 6
	if r.count.Load() != 6 || r.bytes.Load() != 600 || r.outOfOrder != 2 || r.highest != 130 {
		t.Errorf("%d datagrams, %d bytes, %d out of order, %d the highest", r.count.Load(), r.bytes.Load(), r.outOfOrder, r.highest)
	}
	if span := r.last.Sub(r.first); span != 8*time.Millisecond {
		t.Errorf("from first to last %v", span)
	}
}

func TestJitter(t *testing.T) {
	var j jitter
	const ms = time.Millisecond
	var want float64
	transits := []time.Duration{10 * ms, 12 * ms, 11 * ms, 11 * ms, -40 * ms, 9 * ms}
	for i, transit := range transits {
		j.add(transit)
		if i > 0 {
			want += (math.Abs(float64(transit-transits[i-1])) - want) / 16
		}
	}
	if math.Abs(float64(j.value)-want) > 10 {
		t.Errorf("jitter %v, want %v", j.value, time.Duration(want))
	}
}

func FuzzDatagram(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, datagramHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok := parseDatagram(b)
		if ok != (len(b) >= datagramHeader) {
			t.Fatalf("%d bytes: %v", len(b), ok)
		}
		if ok {
			again := make([]byte, len(b))
			d.put(again)
			if string(again[:datagramHeader]) != string(b[:datagramHeader]) {
				t.Errorf("%x became %x", b, again)
			}
		}
	})
}

// BenchmarkTCP compares with Debian's iperf on the same bare veth pair.
func BenchmarkTCP(b *testing.B) {
	hosts := newCable(b)
	iperf, err := exec.LookPath("iperf")
	if err != nil {
		b.Skip("needs the iperf program to compare with")
	}
	var ours, theirs float64
	for b.Loop() {
		r, err := Iperf(b.Context(), IperfConfig{Client: hosts[0], Server: hosts[1], Duration: 3 * time.Second})
		must(b, err)
		ours += r.ServerBps
		theirs += iperfProgram(b, iperf, hosts)
	}
	b.ReportMetric(ours/float64(b.N)/1e9, "Gbit/s")
	b.ReportMetric(theirs/float64(b.N)/1e9, "iperf-Gbit/s")
	b.ReportMetric(ours/theirs, "ratio")
}

// iperfProgram returns what iperf measures at its server, in bit/s.
func iperfProgram(b *testing.B, path string, hosts [2]Host) float64 {
	b.Helper()
	var output bytes.Buffer
	server := exec.Command(path, "-s", "-y", "C")
	server.Stdout = &output
	must(b, hosts[1].Do(server.Start))
	client := exec.Command(path, "-c", hosts[1].IP.String(), "-t", "3")
	time.Sleep(200 * time.Millisecond)
	must(b, hosts[0].Do(client.Run))
	time.Sleep(200 * time.Millisecond)
	server.Process.Signal(unix.SIGINT)
	server.Wait()
	lines := strings.Split(strings.TrimSpace(output.String()), "\n")
	fields := strings.Split(lines[len(lines)-1], ",")
	rate, err := strconv.ParseFloat(fields[len(fields)-1], 64)
	must(b, err)
	return rate
}
