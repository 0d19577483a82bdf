package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/link"
	"weft/link/record"
	"weft/topo"
)

// withBothEnds runs a test with TAP devices, where there are some, and without.
func withBothEnds(t *testing.T, test func(t *testing.T, tun string)) {
	t.Run("tap", func(t *testing.T) {
		needTAP(t)
		test(t, tunDevice)
	})
	t.Run("veth", func(t *testing.T) { test(t, noTUN) })
}

const noTUN = "/nonexistent"

func needTAP(t *testing.T) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no TAP devices for this user: %s: %v", tunDevice, err)
	}
	unix.Close(fd)
}

// No frame is early, and most are late by microseconds.
func TestDelay(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil)
		socks := l.udp(t)
		for _, want := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
			l.set(t, "delay="+want.String())
			l.reach(t)
			var got []time.Duration
			for range 11 {
				got = append(got, oneWay(t, socks))
			}
			slices.Sort(got)
			t.Logf("delay %v: median %v, from %v to %v", want, got[5], got[0], got[10])
			if got[0] < want {
				t.Errorf("delay %v: a frame took only %v", want, got[0])
			}
		}
	})
}

// A stream of many super-frames arrives as it was sent, whatever happens to their frames.
func TestTCP(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		for _, options := range [][]string{
			{},
			{"delay=1ms"},
			{"bw=400", "delay=1ms"},
			{"loss=0.5", "duplicate=2", "delay=1ms", "jitter=1ms", "overtake=true"},
			{"corrupt=1", "reorder=5", "delay=1ms"},
			{"bw=200", "aqm=fq_codel", "ecn=true", "slot=1ms"},
		} {
			for _, six := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s,six=%v", strings.Join(options, ","), six), func(t *testing.T) {
					l := newLab(t, tun, nil, options...)
					l.transfer(t, six, 2_000_000)
					checkCounters(t, l)
				})
			}
		}
	})
}

// transfer sends so many bytes by TCP from host 0 to host 1.
func (l *lab) transfer(t *testing.T, six bool, size int) {
	t.Helper()
	network, address := "tcp4", "10.0.0.2:5001"
	if six {
		network, address = "tcp6", "[fd00::2]:5001"
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	var listener net.Listener
	must(t, l.hosts[1].Do(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	}))
	defer listener.Close()
	sum := make(chan [32]byte, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		h := sha256.New()
		io.Copy(h, c)
		sum <- [32]byte(h.Sum(nil))
	}()
	var c net.Conn
	must(t, l.hosts[0].Do(func() (err error) {
		c, err = net.DialTimeout(network, address, 20*time.Second)
		return err
	}))
	must(t, c.SetDeadline(time.Now().Add(60*time.Second)))
	_, err := c.Write(data)
	must(t, err)
	must(t, c.Close())
	select {
	case got := <-sum:
		if got != sha256.Sum256(data) {
			t.Error("what arrived is not what was sent")
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the stream does not end")
	}
}

// checkCounters checks that each frame that a host has sent is accounted for.
func checkCounters(t *testing.T, l *lab) {
	t.Helper()
	eventually(t, "frames stay on their way", func() bool {
		c, err := l.wire.Counters()
		must(t, err)
		for way, c := range c {
			if c.Delivered == 0 {
				t.Fatalf("way %d: nothing was delivered", way)
			}
		}
		return c[0].Queued+c[0].QueuedBytes+c[0].InFlight+c[1].Queued+c[1].QueuedBytes+c[1].InFlight == 0
	})
}

// UDP segments (UDP_SEGMENT) are the datagrams that they stand for.
func TestUDPSegments(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		for _, options := range [][]string{{"delay=1ms"}, {"bw=100"}, {"jitter=1ms", "delay=2ms", "overtake=true"}} {
			l := newLab(t, tun, nil, options...)
			socks := l.udp(t)
			l.reach(t)
			raw, err := socks[0].SyscallConn()
			must(t, err)
			must(t, raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000)
			}))
			if errors.Is(err, unix.ENOPROTOOPT) {
				t.Skip("this kernel has no UDP_SEGMENT")
			}
			must(t, err)
			data := make([]byte, 10_500)
			for i := range data {
				data[i] = byte(i / 1000)
			}
			_, err = socks[0].Write(data)
			must(t, err)
			seen := map[byte]int{}
			for range 11 {
				var b [2000]byte
				must(t, socks[1].SetReadDeadline(time.Now().Add(30*time.Second)))
				n, err := socks[1].Read(b[:])
				must(t, err)
				seen[b[0]] += n
			}
			for i := range byte(11) {
				want := 1000
				if i == 10 {
					want = 500
				}
				if seen[i] != want {
					t.Errorf("%v: datagram %d has %d bytes, want %d", options, i, seen[i], want)
				}
			}
		}
	})
}

// taken returns how many frames of a host the wire has taken so far.
func (l *lab) taken(t *testing.T, host int) uint64 {
	t.Helper()
	all, err := l.wire.Counters()
	must(t, err)
	c := all[host]
	return c.Delivered + c.Queued + c.InFlight + c.Lost + c.Filtered + c.Overflow + c.AQMDrops + c.NoMemory + c.Down + c.Oversized - c.Duplicated
}

// send sends numbered datagrams from a host, not faster than the wire takes them: the device's
// queue is not the test's matter.
func (l *lab) send(t *testing.T, host int, c *net.UDPConn, n, size int) {
	t.Helper()
	b := make([]byte, size)
	before := l.taken(t, host)
	for i := range n {
		b[0], b[1] = byte(i>>8), byte(i)
		_, err := c.Write(b)
		must(t, err)
		if i%50 != 49 && i != n-1 {
			continue
		}
		for end := time.Now().Add(30 * time.Second); l.taken(t, host) < before+uint64(i)+1; time.Sleep(100 * time.Microsecond) {
			if time.Now().After(end) {
				t.Fatalf("of %d frames %d are taken", i+1, l.taken(t, host)-before)
			}
		}
	}
}

// A buffer is an io.Writer for a record.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// frames returns the recorded frames that went from A to B, by their numbers.
func (b *buffer) frames(t *testing.T) []record.Frame {
	t.Helper()
	r, err := record.NewReader(&b.b)
	must(t, err)
	var list []record.Frame
	for {
		f, err := r.Read()
		if err == io.EOF {
			break
		}
		must(t, err)
		if f.Way == 0 {
			list = append(list, f)
		}
	}
	if r.Missing() != 0 {
		t.Errorf("%d frames are missing in the record", r.Missing())
	}
	slices.SortStableFunc(list, func(a, b record.Frame) int { return int(int64(a.Number - b.Number)) })
	return list
}

// The same frames meet the same fate in each run, and another in each direction and with
// another seed.
func TestSeed(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		run := func(seed string) (text string) {
			var rec buffer
			l := newLab(t, tun, &rec, "seed="+seed, "record=file", "loss=10", "duplicate=5", "delay=2ms", "jitter=1ms", "overtake=true", "corrupt=5")
			socks := l.udp(t)
			l.send(t, 0, socks[0], 1000, 500)
			eventually(t, "frames stay on their way", func() bool {
				c, err := l.wire.Counters()
				must(t, err)
				return c[0].Queued+c[0].InFlight == 0
			})
			must(t, l.wire.Close())
			// Hosts may send frames of their own now and then (IPv6): numbers count.
			for _, f := range rec.frames(t) {
				if f.Number <= 1000 {
					text += fmt.Sprintln(f.Number, f.Copy, f.Fate, f.Corrupted)
				}
			}
			if n := strings.Count(text, "\n"); n < 1000 {
				t.Fatalf("%d frames are recorded", n)
			}
			return text
		}
		a := run("1")
		if run("1") != a {
			t.Error("fates differ with the same seed")
		}
		if run("2") == a {
			t.Error("fates are the same with another seed")
		}
	})
}

// Settings change while frames pass, and none is lost or comes twice.
func TestSetLive(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil, "delay=5ms")
		socks := l.udp(t)
		l.reach(t)
		const n = 2000
		go func() {
			for i := range 20 {
				var s topo.LinkSettings
				options := [][]string{{"delay=1ms"}, {"bw=500", "delay=3ms"}, {}, {"bw=500", "aqm=codel"}, {"slot=1ms"}, {"jitter=1ms", "delay=2ms"}}[i%6]
				if err := s.Set(options...); err == nil {
					l.wire.Set(0, s.AB)
				}
				time.Sleep(2 * time.Millisecond)
			}
		}()
		window := make(chan struct{}, 100) // less than sockets and devices hold
		go func() {
			b := make([]byte, 500)
			for i := range n {
				window <- struct{}{}
				b[0], b[1] = byte(i>>8), byte(i)
				socks[0].Write(b)
				if i%20 == 19 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
		var seen [n]int
		for range n {
			var b [1000]byte
			must(t, socks[1].SetReadDeadline(time.Now().Add(30*time.Second)))
			if _, err := socks[1].Read(b[:]); err != nil {
				break
			}
			<-window
			seen[int(b[0])<<8|int(b[1])]++
		}
		for i, times := range seen {
			if times != 1 {
				c, _ := l.wire.Counters()
				t.Fatalf("frame %d came %d times: %+v", i, times, c[0])
			}
		}
	})
}

// state returns whether a host's device is up, and whether it has a carrier.
func (l *lab) state(t *testing.T, host int) (up, carrier bool) {
	t.Helper()
	h, err := l.hosts[host].Handle()
	must(t, err)
	defer h.Close()
	d, err := h.LinkByName(fmt.Sprintf("h%d-eth0", host+1))
	must(t, err)
	return d.Attrs().Flags&net.FlagUp != 0, d.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
}

func (l *lab) setUp(t *testing.T, host int, up bool) {
	t.Helper()
	h, err := l.hosts[host].Handle()
	must(t, err)
	defer h.Close()
	d, err := h.LinkByName(fmt.Sprintf("h%d-eth0", host+1))
	must(t, err)
	if up {
		must(t, h.LinkSetUp(d))
	} else {
		must(t, h.LinkSetDown(d))
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// An end sees that the other one is down.
func TestCarrier(t *testing.T) {
	needTAP(t)
	l := newLab(t, tunDevice, nil)
	carrier := func() bool { _, c := l.state(t, 0); return c }
	time.Sleep(carrierInterval + carrierInterval/2) // time to lose it, which it must not
	if !carrier() {
		t.Fatal("no carrier at the beginning")
	}
	l.setUp(t, 1, false)
	eventually(t, "the carrier stays while the other end is down", func() bool { return !carrier() })
	l.setUp(t, 1, true)
	eventually(t, "the carrier does not come back", carrier)
	l.reach(t)
}

// What is sent to an end that is down is counted.
func TestDown(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil)
		socks := l.udp(t)
		l.reach(t)
		l.set(t, "delay=2s") // more than it takes to go down
		for range 10 {
			socks[0].Write([]byte("lost"))
		}
		l.setUp(t, 1, false)
		eventually(t, "frames that an end that is down did not take are not counted", func() bool {
			c, err := l.wire.Counters()
			must(t, err)
			return c[0].Down >= 10
		})
	})
}

// Frames that the engine has no time for are counted.
func TestBrimful(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil)
		socks := l.udp(t)
		l.reach(t)
		w := l.wire.(*wire)
		before, err := w.Counters()
		must(t, err)
		const n = 20_000
		hold, held := make(chan struct{}), make(chan struct{})
		go w.shard.do(func() { close(held); <-hold })
		<-held
		for range n {
			if _, err := socks[0].Write(make([]byte, 1400)); err != nil {
				break // the host's own queue
			}
		}
		close(hold)
		eventually(t, "frames are missing in the counters", func() bool {
			c, err := w.Counters()
			must(t, err)
			if c[0].NoMemory > 0 && c[0].Delivered-before[0].Delivered+c[0].NoMemory >= n {
				return true
			}
			time.Sleep(100 * time.Millisecond)
			return false
		})
	})
}

// A wire's devices have what they were asked to have, and go with it.
func TestDevices(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil, "mtu=9000")
		for i, n := range l.hosts {
			h, err := n.Handle()
			must(t, err)
			d, err := h.LinkByName(fmt.Sprintf("h%d-eth0", i+1))
			must(t, err)
			if a := d.Attrs(); a.MTU != 9000 || a.HardwareAddr.String() != fmt.Sprintf("02:00:00:00:00:0%d", i+1) {
				t.Errorf("MTU %d, MAC %s", a.MTU, a.HardwareAddr)
			}
			h.Close()
		}
		l.transfer(t, false, 500_000)
		must(t, l.wire.Close())
		must(t, l.wire.Close()) // twice
		for _, n := range l.hosts {
			h, err := n.Handle()
			must(t, err)
			list, err := h.LinkList()
			must(t, err)
			if len(list) != 1 {
				t.Errorf("%d devices are left besides lo", len(list)-1)
			}
			h.Close()
		}
		if _, err := l.wire.Counters(); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := l.wire.Set(0, topo.Impairment{}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// What cannot be made leaves nothing behind.
func TestErrors(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil)
		other := newHost(t)
		files := map[string]string{"bad": "1\nx\n"}
		for _, c := range []struct {
			device  string // of the second end
			options []string
			want    string
		}{
			{"h2-eth0", nil, "h2-eth0"}, // is there
			{"much-too-long-a-name", nil, "much-too-long-a-name"},
			{"x", []string{"drop_if=no such thing"}, "drop_if: filter"},
			{"x", []string{"trace=missing"}, "trace=missing: no such file"},
			{"x", []string{"trace=bad"}, `trace=bad: line 2: "x" is not a number`},
			{"x", []string{"loss=90", "loss_burst=2"}, "loss=90 in bursts"},
		} {
			cfg := link.Config{ReadFile: func(name string) ([]byte, error) {
				if text, ok := files[name]; ok {
					return []byte(text), nil
				}
				return nil, errors.New("no such file")
			}}
			must(t, cfg.Settings.Set(c.options...))
			cfg.A = link.End{Net: other, Device: "first"}
			cfg.B = link.End{Net: l.hosts[1], Device: c.device}
			_, err := l.engine.Add(cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %v: %v, want %s", c.device, c.options, err, c.want)
			}
			if len(c.options) > 0 {
				if err := l.wire.Set(0, cfg.Settings.AB); err == nil {
					t.Errorf("%v is accepted of a running wire", c.options)
				}
			}
			h, err := other.Handle()
			must(t, err)
			if _, err := h.LinkByName("first"); err == nil {
				t.Errorf("%s: the first end is left", c.device)
			}
			h.Close()
		}
		l.reach(t) // the wire that was there does what it did
	})
}

// A file that is asked for as a trace, a filter and their effect.
func TestTraceAndFilter(t *testing.T) {
	l := newLab(t, tunDevice, nil, "drop_if=udp port 5000 and udp[8] = 7")
	socks := l.udp(t)
	l.reach(t)
	for _, first := range []byte{7, 8, 7, 9} {
		_, err := socks[0].Write([]byte{first})
		must(t, err)
	}
	var b [10]byte
	for _, want := range []byte{8, 9} {
		must(t, socks[1].SetReadDeadline(time.Now().Add(30*time.Second)))
		_, err := socks[1].Read(b[:])
		must(t, err)
		if b[0] != want {
			t.Errorf("%d arrived, want %d", b[0], want)
		}
	}
	l.files = map[string]string{"trace": "time,delay,loss\n0,30ms,0\n"}
	l.set(t, "trace=trace", "delay=1ms")
	if d := oneWay(t, socks); d < 30*time.Millisecond {
		t.Errorf("a frame took %v", d)
	}
}

// stuck is a writer that takes nothing until it is closed.
type stuck chan struct{}

func (s stuck) Write(b []byte) (int, error) {
	<-s
	return len(b), nil
}

// A record that nobody takes does not hold frames up.
func TestRecordStuck(t *testing.T) {
	needTAP(t)
	w := stuck(make(chan struct{}))
	l := newLab(t, tunDevice, w, "record=file")
	socks := l.udp(t)
	l.reach(t)
	l.send(t, 1, socks[1], recordRoom+10_000, 20)
	l.set(t, "delay=1ms") // the shard answers
	if err := l.wire.Close(); err == nil || !strings.Contains(err.Error(), "nobody reads it") {
		t.Error(err)
	}
	r := l.wire.(*wire).record
	if r.lost == 0 {
		t.Error("no frame is counted as missing")
	}
	close(w)
	<-r.done
}

func TestManyWires(t *testing.T) {
	needTAP(t)
	e, err := NewEngine(slog.New(slog.DiscardHandler))
	must(t, err)
	defer e.Close()
	const n = 200
	threads := len(e.shards)
	host := newHost(t)
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			var c link.Config
			c.Settings.Set("delay=1ms", "bw=10")
			c.A = link.End{Net: host, Device: fmt.Sprintf("a%d", i)}
			c.B = link.End{Net: host, Device: fmt.Sprintf("b%d", i)}
			_, errs[i] = e.Add(c)
		})
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	if len(e.shards) != threads || threads > maxShards {
		t.Errorf("%d threads", len(e.shards))
	}
	for i, load := range e.load {
		if load < n/threads-1 || load > n/threads+1 {
			t.Errorf("shard %d has %d wires", i, load)
		}
	}
	must(t, e.Close())
	if _, err := e.Add(link.Config{A: link.End{Net: host, Device: "x"}, B: link.End{Net: host, Device: "y"}}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	h, err := host.Handle()
	must(t, err)
	defer h.Close()
	if _, err := h.LinkByName("x"); !errors.As(err, &netlink.LinkNotFoundError{}) {
		t.Errorf("the device of a wire that was not made: %v", err)
	}
}
