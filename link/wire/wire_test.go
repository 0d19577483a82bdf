package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/device"
	"weft/link"
	"weft/link/linktest"
	"weft/link/record"
	"weft/topo"
)

// Wires do what every driver's links do, with ends of either kind.
func TestLinks(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		e := newEngine(t, tun)
		linktest.Run(t, func(*testing.T) linktest.Adder { return e.Add })
	})
}

func TestRootless(t *testing.T) {
	linktest.Rootless(t, "^(TestLinks|TestBatches)$/^veth$/^(delay|queue|change|mtu|.*single.*)$")
}

// send sends datagrams from a host.
func send(t *testing.T, l *lab, host, n, size int) {
	t.Helper()
	c, sent := l.UDP(t)[host], l.Pace(t, host)
	for range n {
		_, err := c.Write(make([]byte, size))
		must(t, err)
		sent()
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
			send(t, l, 0, 1000, 500)
			linktest.Eventually(t, "all frames have met their fate", func() bool {
				c := l.Counters(t)[0]
				return c.InFlight == 0 && c.Delivered+c.Lost == 1000+c.Duplicated
			})
			must(t, l.Link.Close())
			for _, f := range rec.frames(t) {
				text += fmt.Sprintln(f.Number, f.Copy, f.Fate, f.Corrupted)
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

// An end sees that the other one is down.
func TestCarrier(t *testing.T) {
	needTAP(t)
	for _, wait := range []time.Duration{
		carrierInterval + carrierInterval/2, // time to lose it, which it must not
		0,                                   // the other one goes down as soon as it was up
	} {
		l := newLab(t, device.TUN, nil)
		l.reach(t)
		h, err := l.Hosts[0].Handle()
		must(t, err)
		defer h.Close()
		carrier := func() bool {
			d, err := h.LinkByName(linktest.Device(0))
			must(t, err)
			return d.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
		}
		time.Sleep(wait)
		if !carrier() {
			t.Fatal("no carrier at the beginning")
		}
		must(t, l.SetUp(1, false))
		linktest.Eventually(t, "no carrier while the other end is down", func() bool { return !carrier() })
		must(t, l.SetUp(1, true))
		linktest.Eventually(t, "the carrier comes back", carrier)
		l.reach(t)
	}
}

// Frames that the engine has no time for are counted.
func TestBrimful(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil)
		socks := l.UDP(t)
		l.reach(t)
		w := l.Link.(*wire)
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
		linktest.Eventually(t, "all frames are in the counters", func() bool {
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

// Frames that have waited are read and written several at once, as they were sent and in their
// order, where the kernel can do that, and one by one where not.
func TestBatches(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		for _, options := range [][]string{{}, {"delay=1ms"}, {"delay=1ms", "record=file"}, {"bw=10000", "queue=10000"}} {
			for _, single := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s,single=%v", strings.Join(options, ","), single), func(t *testing.T) {
					testBatch(t, tun, single, append(options, "mtu=9000"))
				})
			}
		}
	})
}

func testBatch(t *testing.T, tun string, single bool, options []string) {
	var rec buffer
	var to io.Writer // of a plain wire nobody asks for the frames' fates
	if slices.Contains(options, "record=file") {
		to = &rec
	}
	l := newLab(t, tun, to, options...)
	socks := l.UDP(t)
	l.reach(t)
	w := l.Link.(*wire)
	before := l.Counters(t)[0].Delivered
	hold, held := make(chan struct{}), make(chan struct{})
	go w.shard.do(func() {
		w.shard.tried = single
		close(held)
		<-hold
	})
	<-held
	const n = 700
	datagram := func(i int) []byte {
		size := 20 + i%50
		if i%97 == 0 {
			size = 8000
		}
		return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, size)[:size]
	}
	for i := range n {
		_, err := socks[0].Write(datagram(i))
		must(t, err)
	}
	close(hold)
	for i := range n {
		b := make([]byte, 9000)
		must(t, socks[1].SetReadDeadline(time.Now().Add(30*time.Second)))
		k, err := socks[1].Read(b)
		must(t, err)
		if !bytes.Equal(b[:k], datagram(i)) {
			t.Fatalf("datagram %d is not as it was sent", i)
		}
	}
	linktest.Eventually(t, "all are counted", func() bool { return l.Counters(t)[0].Delivered >= before+n })
	w.shard.do(func() {
		if b := w.shard.batch; single != (b == nil) || b != nil && !b.works {
			if _, err := newBatch(); err == nil {
				t.Errorf("batches: %+v", b)
			} else {
				t.Log(err)
			}
		}
	})
	must(t, l.Link.Close())
	if to == nil {
		return
	}
	last := time.Duration(0)
	for _, f := range rec.frames(t) {
		if f.Fate != record.Delivered || f.Departure < last || f.Departure < f.Arrival+time.Millisecond {
			t.Errorf("%+v after %v", f, last)
		}
		last = f.Departure
	}
}

// A wire's devices have what they were asked to have, and go with it.
func TestDevices(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil, "mtu=9000")
		for i, n := range l.Hosts {
			h, err := n.Handle()
			must(t, err)
			d, err := h.LinkByName(linktest.Device(i))
			must(t, err)
			if a := d.Attrs(); a.MTU != 9000 || a.HardwareAddr.String() != fmt.Sprintf("02:00:00:00:00:0%d", i+1) {
				t.Errorf("MTU %d, MAC %s", a.MTU, a.HardwareAddr)
			}
			h.Close()
		}
		must(t, l.Link.Close())
		must(t, l.Link.Close()) // twice
		for _, n := range l.Hosts {
			h, err := n.Handle()
			must(t, err)
			list, err := h.LinkList()
			must(t, err)
			if len(list) != 1 {
				t.Errorf("%d devices are left besides lo", len(list)-1)
			}
			h.Close()
		}
		if _, err := l.Link.Counters(); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := l.Link.Set(0, topo.Impairment{}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// What cannot be made leaves nothing behind.
func TestErrors(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		l := newLab(t, tun, nil)
		other := linktest.NewHost(t)
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
			cfg.B = link.End{Net: l.Hosts[1], Device: c.device}
			_, err := l.engine.Add(cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %v: %v, want %s", c.device, c.options, err, c.want)
			}
			if len(c.options) > 0 {
				if err := l.Link.Set(0, cfg.Settings.AB); err == nil {
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
	l := newLab(t, device.TUN, nil, "drop_if=udp port 5000 and udp[8] = 7")
	socks := l.UDP(t)
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
	l.Set(t, "trace=trace", "delay=1ms")
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
	l := newLab(t, device.TUN, w, "record=file")
	send(t, l, 1, recordRoom+10_000, 20)
	l.Set(t, "delay=1ms") // the shard answers
	if err := l.Link.Close(); err == nil || !strings.Contains(err.Error(), "nobody reads it") {
		t.Error(err)
	}
	r := l.Link.(*wire).record
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
	host := linktest.NewHost(t)
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
