package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestPingAll(t *testing.T) {
	l := newLab(t, 8)
	for _, ipv6 := range []bool{false, true} {
		for _, count := range []int{1, 3} {
			t.Run(fmt.Sprintf("ipv6=%v,count=%d", ipv6, count), func(t *testing.T) {
				cfg := PingConfig{Pairs: pairs(8), IPv6: ipv6, Count: count}
				last := 0
				results, err := Ping(t.Context(), l.hosts, cfg, func(done, total int) {
					if done < last || total != len(cfg.Pairs) {
						t.Errorf("progress went from %d to %d of %d", last, done, total)
					}
					last = done
				})
				must(t, err)
				if last != len(cfg.Pairs) {
					t.Errorf("the last progress was %d", last)
				}
				for i, r := range results {
					if r.Sent != count || r.Received != count || len(r.RTT) != count || r.Error != "" {
						t.Errorf("%v: %+v", cfg.Pairs[i], r)
					}
					if slices.ContainsFunc(r.RTT, func(d time.Duration) bool { return d <= 0 }) {
						t.Errorf("%v: round trips %v", cfg.Pairs[i], r.RTT)
					}
				}
			})
		}
	}
}

// Each pair has its own outcome, in the order in which it was asked for.
func TestPingLoss(t *testing.T) {
	l := newLab(t, 4)
	h := l.hosts
	// h3's interface is down, h4 knows that it may not reach h1, and h2 is to route
	// what h1 has for 11.0.0.0/8, but does not know where to.
	eth0, err := l.inside[2].LinkByName("eth0")
	must(t, err)
	must(t, l.inside[2].LinkSetDown(eth0))
	must(t, l.inside[3].RouteAdd(&netlink.Route{Dst: network(h[0].IP.AsSlice(), 32), Type: unix.RTN_UNREACHABLE}))
	must(t, l.inside[0].RouteAdd(&netlink.Route{Dst: network(net.IPv4(11, 0, 0, 0), 8), Gw: h[1].IP.AsSlice()}))
	must(t, l.inside[1].RouteAdd(&netlink.Route{Dst: network(net.IPv4(11, 0, 0, 0), 8), Type: unix.RTN_UNREACHABLE}))
	must(t, h[1].Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }))
	routed := Host{Name: "routed", IP: netip.MustParseAddr("11.0.0.1")}
	homeless := Host{Name: "homeless"}
	hosts := append(slices.Clone(h), nobody(1), routed, homeless)

	tests := []struct {
		name     string
		pair     [2]int
		received int
		err      string // what the text contains
	}{
		{"reachable", [2]int{0, 1}, 1, ""},
		{"nobody there", [2]int{0, 4}, 0, ""},
		{"source is down", [2]int{2, 0}, 0, "network is unreachable"},
		{"destination is down", [2]int{0, 2}, 0, ""},
		{"route forbids", [2]int{3, 0}, 0, "no route to host"},
		{"router says no", [2]int{0, 5}, 0, "no route to host, says 10.0.0.2"},
		{"no address", [2]int{0, 6}, 0, "homeless has no IPv4 address"},
		{"reachable, the other way", [2]int{1, 0}, 1, ""},
		{"itself", [2]int{0, 0}, 1, ""},
	}
	cfg := PingConfig{Timeout: 100 * time.Millisecond, Tries: 2}
	for _, test := range tests {
		cfg.Pairs = append(cfg.Pairs, test.pair)
	}
	results, err := Ping(t.Context(), hosts, cfg, nil)
	must(t, err)
	for i, test := range tests {
		r := results[i]
		if r.Sent != 1 || r.Received != test.received || len(r.RTT) != test.received ||
			!strings.Contains(r.Error, test.err) || test.received > 0 && r.Error != "" {
			t.Errorf("%s: %+v, want received %d, error %q", test.name, r, test.received, test.err)
		}
	}
	if r := results[1]; r.Retries != 1 {
		t.Errorf("nobody there: %d retries, want 1", r.Retries)
	}
}

func network(ip net.IP, bits int) *net.IPNet {
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, 32)}
}

// A host that comes up while it is being asked is found by another try.
func TestPingRetries(t *testing.T) {
	l := newLab(t, 2)
	port, err := l.fabric.LinkByName("p2")
	must(t, err)
	must(t, l.fabric.LinkSetDown(port))
	var once sync.Once
	up := func(int, int) {
		once.Do(func() { must(t, l.fabric.LinkSetUp(port)) })
	}
	cfg := PingConfig{Pairs: [][2]int{{0, 1}}, Timeout: 150 * time.Millisecond, Tries: 200}
	results, err := Ping(t.Context(), l.hosts, cfg, up)
	must(t, err)
	if r := results[0]; r.Received != 1 || r.Sent != 1 || r.Retries == 0 {
		t.Errorf("%+v, want a reply to a later try", r)
	}
}

func TestPingCancel(t *testing.T) {
	l := newLab(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := PingConfig{Pairs: [][2]int{{0, 1}, {0, 2}}, Timeout: time.Hour}
	results, err := Ping(ctx, append(l.hosts, nobody(1)), cfg, func(done, total int) {
		if done == 1 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want that the context was cancelled", err)
	}
	if len(results) != 2 || results[0].Received != 1 || results[1].Received != 0 {
		t.Errorf("results %+v, want what there was", results)
	}
}

// Pings at the same time, of the same hosts, have nothing to do with each other.
func TestPingConcurrently(t *testing.T) {
	const n = 6
	l := newLab(t, n)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			results, err := Ping(t.Context(), l.hosts, PingConfig{Pairs: pairs(n), Count: 5}, nil)
			if err != nil {
				t.Error(err)
			}
			for i, r := range results {
				if r.Received != 5 || r.Extra > r.Retries {
					t.Errorf("pair %d: %+v", i, r)
				}
			}
		})
	}
	wg.Wait()
}

// Replies that come twice are counted once.
func TestPingDuplicates(t *testing.T) {
	hosts := []Host{nobody(1), nobody(2)}
	p := newPinger(hosts, PingConfig{Pairs: [][2]int{{0, 1}}, Count: 1, Tries: 1, Timeout: time.Second, Window: 1})
	p.begin = time.Now()
	p.pairs[0] = pairState{open: true, waiting: true, try: 1, next: -1}
	p.results[0].Sent = 1
	e := echo{pair: 0, serial: 1, try: 1}
	p.replied(e, time.Millisecond)
	p.replied(e, time.Millisecond)
	if r := p.results[0]; r.Received != 1 || r.Extra != 1 || len(r.RTT) != 1 {
		t.Errorf("%+v, want one reply and one extra", r)
	}
}

// The last of several tries waits longer, within bounds, while replies come late.
func TestPingExtends(t *testing.T) {
	const timeout = time.Second
	for _, test := range []struct {
		name       string
		tries      int
		try        uint16
		late, want time.Duration // since the last late reply; how much longer in all
	}{
		{"only try", 1, 1, 0, 0},
		{"not the last", 3, 2, 0, 0},
		{"last", 3, 3, 0, maxMore * timeout},
		{"last, all is well again", 3, 3, 3 * timeout, 0},
	} {
		p := newPinger([]Host{nobody(1), nobody(2)}, PingConfig{Pairs: [][2]int{{0, 1}}, Count: 1, Tries: test.tries, Timeout: timeout})
		p.pairs[0].try = test.try
		p.lastLate = time.Minute - test.late
		var got time.Duration
		for p.extend(0, time.Minute) {
			got += timeout
		}
		if got != test.want {
			t.Errorf("%s: %v longer, want %v", test.name, got, test.want)
		}
	}
}

func TestPingDescriptorLimit(t *testing.T) {
	l := newLab(t, 8)
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	free, err := unix.Dup(0) // the lowest free descriptor
	must(t, err)
	must(t, unix.Close(free))
	low := unix.Rlimit{Cur: uint64(free) + 4, Max: before.Max}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	_, err = Ping(t.Context(), l.hosts, PingConfig{Pairs: pairs(8)}, nil)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
	if !errors.Is(err, unix.EMFILE) {
		t.Fatalf("error %v, want EMFILE", err)
	}
	for _, want := range []string{"each of 8 hosts", fmt.Sprint(low.Cur), "ulimit -n"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %q", err, want)
		}
	}
}

func TestPingConfigErrors(t *testing.T) {
	for _, test := range []struct {
		cfg  PingConfig
		want string
	}{
		{PingConfig{Pairs: [][2]int{{0, 2}}}, "not among 2 hosts"},
		{PingConfig{Pairs: [][2]int{{-1, 0}}}, "not among 2 hosts"},
		{PingConfig{Tries: -1}, "tries"},
		{PingConfig{Count: 1 << 16}, "count"},
		{PingConfig{Timeout: -1}, "timeout"},
	} {
		_, err := Ping(t.Context(), []Host{nobody(1), nobody(2)}, test.cfg, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want %q", test.cfg, err, test.want)
		}
	}
	if results, err := Ping(t.Context(), nil, PingConfig{}, nil); err != nil || len(results) != 0 {
		t.Errorf("no pairs: %v, %v", results, err)
	}
}

// In the planned order every host is as busy as every other, and the way back of a
// pair waits for the way there.
func TestPlan(t *testing.T) {
	const n = 16
	var hosts []Host
	for i := range n {
		hosts = append(hosts, nobody(i+1))
	}
	p := newPinger(hosts, PingConfig{Pairs: pairs(n), Count: 1})
	if want := n * (n - 1) / 2; len(p.order) != want {
		t.Fatalf("%d pairs begin by themselves, want %d", len(p.order), want)
	}
	seen := make(map[[2]int]bool)
	for i, pair := range p.order {
		there := p.cfg.Pairs[pair]
		back := p.cfg.Pairs[p.pairs[pair].next]
		if back != [2]int{there[1], there[0]} {
			t.Errorf("%v is followed by %v", there, back)
		}
		seen[there], seen[back] = true, true
		if (i+1)%n == 0 { // a turn around the circle
			load := make(map[int]int)
			for _, pair := range p.order[i+1-n : i+1] {
				load[p.cfg.Pairs[pair][0]]++
				load[p.cfg.Pairs[pair][1]]++
			}
			for host, got := range load {
				if got != 2 {
					t.Errorf("host %d has %d of the %d pairs to %d", host, got, n, i)
				}
			}
		}
	}
	if len(seen) != n*(n-1) {
		t.Errorf("%d pairs are planned, want %d", len(seen), n*(n-1))
	}
}

func TestWindow(t *testing.T) {
	const timeout = time.Second
	w := newWindow(1000, timeout)
	if w.full(15) || !w.full(16) {
		t.Errorf("begins with %v", w.size)
	}
	for range 16 {
		w.replied(0, time.Millisecond, false)
	}
	if w.size != 32 {
		t.Errorf("after a round trip of prompt replies: %v, want 32", w.size)
	}
	for range 32 {
		w.replied(0, 200*time.Millisecond, false)
	}
	if w.size < 32.9 || w.size > 33.1 {
		t.Errorf("after a round trip of slow replies: %v, want 33", w.size)
	}
	w.size = 400
	w.replied(time.Second, time.Millisecond, true)
	w.replied(time.Second+timeout/2, timeout, false)
	if w.size != 200 {
		t.Errorf("after two late replies within the timeout: %v, want 200", w.size)
	}
	for now := 2 * time.Second; now < time.Minute; now += timeout {
		w.replied(now, time.Millisecond, true)
	}
	if w.size != windowMin {
		t.Errorf("after a minute of late replies: %v, want %v", w.size, windowMin)
	}
	for range 5000 {
		w.expired()
	}
	if w.size != 1000 {
		t.Errorf("after 5000 losses: %v, want the limit", w.size)
	}
	if small := newWindow(2, timeout); !small.full(2) || small.full(1) {
		t.Errorf("with a limit of 2: %v", small.size)
	}
}

func TestQueue(t *testing.T) {
	var q queue[int]
	next := 0
	for i := range 10_000 {
		q.push(i)
		if i%3 != 0 {
			continue
		}
		if v, ok := q.first(); !ok || v != next {
			t.Fatalf("first is %d, %v, want %d", v, ok, next)
		}
		q.pop()
		next++
	}
	for v, ok := q.first(); ok; v, ok = q.first() {
		if v != next {
			t.Fatalf("first is %d, want %d", v, next)
		}
		q.pop()
		next++
	}
	if next != 10_000 {
		t.Errorf("%d came out, want 10000", next)
	}
}

func BenchmarkPingAll(b *testing.B) {
	for _, n := range []int{16, 64} {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			l := newLab(b, n)
			cfg := PingConfig{Pairs: pairs(n)}
			b.ResetTimer()
			for b.Loop() {
				results, err := Ping(b.Context(), l.hosts, cfg, nil)
				must(b, err)
				for i, r := range results {
					if r.Received != 1 {
						b.Fatalf("%v: %+v", cfg.Pairs[i], r)
					}
				}
			}
			b.ReportMetric(float64(len(cfg.Pairs))*float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
		})
	}
}

// BenchmarkPlan is what a ping between 1,024 hosts costs before the first packet.
func BenchmarkPlan(b *testing.B) {
	hosts := make([]Host, 1024)
	for i := range hosts {
		hosts[i].IP = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	cfg := PingConfig{Pairs: pairs(len(hosts)), Count: 1}
	b.ReportAllocs()
	for b.Loop() {
		newPinger(hosts, cfg)
	}
}
