package builtin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const generatorText = `
Sends UDP datagrams at a rate, with a number and the time in each. Those that come back to it it
takes out, and tells how many are missing and how long they took:

  generator --rate 100000 --size 512 --flows 64 --out 2

The packets go to a port, to a service, or to the next service of the chain. The command "report"
prints figures, "rate N" changes the rate.`

const speedText = `
Keeps a number of packets on the way to a service, which sends them back, and tells how
many a second there are and how long each took: with "forward --service 1" as service 2,

  speed --service 2 --flight 16000

as service 1 measures how fast a packet passes from NF to NF. The command "report" prints figures.`

type generator struct {
	template []byte
	flows    int
	rate     float64 // packets a second; 0 for as many as are on the way
	flight   int     // packets on the way at most
	limit    uint64
	out      int
	service  int

	idle     []nf.Packet
	now      time.Time
	begin    time.Time
	due      float64 // packets that the rate allows now
	returned time.Time
	onTheWay int

	sent, received, late uint64
	highest              uint32
	samples              [8192]time.Duration
	sampled              uint64
	last                 struct {
		at             time.Time
		sent, received uint64
	}
	perSecond [2]float64 // sent, received in the last second
}

// The payload: a mark, a number and the time.
const (
	stampMark   = 0x77656674 // "weft"
	stampLen    = 16
	udpLen      = 8
	minFrame    = 60
	maxInFlight = 1 << 16
)

func defineGenerator(flags *pflag.FlagSet) func() (nf.Function, error) {
	rate := flags.Float64("rate", 1000, "packets a `second`")
	count := flags.Uint64("count", 0, "`packets` to send; 0 for no end")
	out := flags.Int("out", 0, "send out of this `port`")
	flight := flags.Int("flight", 1024, "empty `frames` to hold")
	build := generatorFlags(flags)
	return func() (nf.Function, error) {
		g, err := build()
		switch {
		case err != nil:
			return nil, err
		case *rate <= 0 || *rate > 1e9:
			return nil, fmt.Errorf("--rate %v: more than 0, at most 1e9", *rate)
		case *out < 0 || *out > 1<<16-1 || *out != 0 && g.service != 0:
			return nil, fmt.Errorf("--out %d, --service %d: one of them, from 1", *out, g.service)
		}
		g.rate, g.limit, g.out, g.flight = *rate, *count, *out, *flight
		return g.check()
	}
}

func defineSpeed(flags *pflag.FlagSet) func() (nf.Function, error) {
	flight := flags.Int("flight", 128, "`packets` on the way")
	build := generatorFlags(flags)
	return func() (nf.Function, error) {
		g, err := build()
		if err != nil {
			return nil, err
		}
		if g.service == 0 {
			return nil, fmt.Errorf("tell it a --service to send to")
		}
		g.flight = *flight
		return g.check()
	}
}

func (g *generator) check() (nf.Function, error) {
	if g.flight < 1 || g.flight > maxInFlight {
		return nil, fmt.Errorf("--flight %d: from 1 to %d", g.flight, maxInFlight)
	}
	g.idle = make([]nf.Packet, 0, g.flight)
	return g, nil
}

// generatorFlags adds the flags that say what packets look like.
func generatorFlags(flags *pflag.FlagSet) func() (*generator, error) {
	size := flags.Int("size", 64, "`bytes` of a frame")
	flows := flags.Int("flows", 1, "source ports to use in turn")
	src := flags.String("src", "10.0.0.1:1024", "source `ADDR:PORT`, the first")
	dst := flags.String("dst", "10.0.0.2:9", "destination `ADDR:PORT`")
	srcMAC := flags.String("src-mac", "02:00:00:00:00:01", "source `MAC`")
	dstMAC := flags.String("dst-mac", "ff:ff:ff:ff:ff:ff", "destination `MAC`")
	service := flags.Int("service", 0, "send to this `service`")
	return func() (*generator, error) {
		s, err := netip.ParseAddrPort(*src)
		if err != nil {
			return nil, fmt.Errorf("--src %s: write ADDR:PORT", *src)
		}
		d, err := netip.ParseAddrPort(*dst)
		if err != nil || d.Addr().Is4() != s.Addr().Is4() {
			return nil, fmt.Errorf("--dst %s: write ADDR:PORT, of the version of --src", *dst)
		}
		from, err := parseMAC(*srcMAC)
		if err != nil {
			return nil, fmt.Errorf("--src-mac: %w", err)
		}
		to, err := parseMAC(*dstMAC)
		if err != nil {
			return nil, fmt.Errorf("--dst-mac: %w", err)
		}
		least := max(minFrame, 14+20+udpLen+stampLen)
		if s.Addr().Is6() {
			least = 14 + 40 + udpLen + stampLen
		}
		if *size < least || *size > 1792 {
			return nil, fmt.Errorf("--size %d: from %d to 1792", *size, least)
		}
		if *flows < 1 || *flows > 1<<16-int(s.Port()) {
			return nil, fmt.Errorf("--flows %d: from 1 to %d", *flows, 1<<16-int(s.Port()))
		}
		if *service < 0 || *service > 1<<16-1 {
			return nil, fmt.Errorf("--service %d: services have numbers from 1", *service)
		}
		return &generator{template: datagram(to, from, s, d, *size), flows: *flows, service: *service}, nil
	}
}

// datagram makes a frame without UDP's checksum if IP is version 4, and with room for the stamp.
func datagram(to, from mac, src, dst netip.AddrPort, size int) []byte {
	b := make([]byte, size)
	copy(b, to[:])
	copy(b[6:], from[:])
	ip := b[14:]
	head := 20
	if src.Addr().Is4() {
		binary.BigEndian.PutUint16(b[12:], nf.TypeIPv4)
		ip[0], ip[8], ip[9] = 0x45, 64, nf.ProtocolUDP
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	} else {
		head = 40
		binary.BigEndian.PutUint16(b[12:], nf.TypeIPv6)
		ip[0], ip[6], ip[7] = 0x60, nf.ProtocolUDP, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-head))
	}
	putAddresses(ip, src.Addr(), dst.Addr())
	udp := ip[head:]
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	h := nf.ParseHeaders(b)
	h.FillChecksums(b)
	return b
}

func (g *generator) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		if p.Fresh() {
			if len(g.idle) < g.flight {
				g.idle = append(g.idle, *p)
			} else {
				p.Drop()
			}
			continue
		}
		if !g.take(p) {
			p.Next()
			continue
		}
		p.Drop()
		if g.rate == 0 && g.onTheWay < g.flight { // at once, the same frame
			g.fill(p)
		}
	}
}

// take reads the stamp of a packet that came back. It reports whether it is one of ours.
func (g *generator) take(p *nf.Packet) bool {
	b := p.Data()
	h := nf.ParseHeaders(b)
	if h.Protocol != nf.ProtocolUDP || h.Payload == 0 || h.End-h.Payload < stampLen {
		return false
	}
	stamp := b[h.Payload:]
	if binary.BigEndian.Uint32(stamp) != stampMark {
		return false
	}
	g.received++
	g.returned = g.now
	g.onTheWay = max(0, g.onTheWay-1)
	n := binary.BigEndian.Uint32(stamp[4:])
	if n < g.highest {
		g.late++
	}
	g.highest = max(g.highest, n)
	// A batch has one time: the last look at the clock.
	g.samples[g.sampled%uint64(len(g.samples))] = time.Duration(g.now.UnixNano() - int64(binary.BigEndian.Uint64(stamp[8:])))
	g.sampled++
	return true
}

// fill makes a frame a packet of ours and sends it.
func (g *generator) fill(p *nf.Packet) {
	p.Whole()
	p.Resize(0, len(g.template)-p.Len())
	b := p.Data()
	copy(b, g.template)
	h := nf.ParseHeaders(g.template)
	g.sent++
	g.onTheWay++
	stamp := b[h.Payload:]
	binary.BigEndian.PutUint32(stamp, stampMark)
	binary.BigEndian.PutUint32(stamp[4:], uint32(g.sent))
	binary.BigEndian.PutUint64(stamp[8:], uint64(g.now.UnixNano()))
	port := binary.BigEndian.Uint16(g.template[h.Transport:]) + uint16(g.sent%uint64(g.flows))
	binary.BigEndian.PutUint16(b[h.Transport:], port)
	if h.Version == 4 {
		b[h.Transport+6], b[h.Transport+7] = 0, 0 // none: RFC 768
	} else {
		h.FillChecksums(b)
	}
	switch {
	case g.out != 0:
		p.Out(g.out)
	case g.service != 0:
		p.To(g.service)
	default:
		p.Next()
	}
}

// Frames says how many empty ones it needs.
func (g *generator) Frames() int { return g.flight }

// idleLoss is how long packets on the way may be away before they count as lost.
const idleLoss = time.Second

// Tick sends what is due.
func (g *generator) Tick(now time.Time, send []nf.Packet) (n int, next time.Duration) {
	if g.begin.IsZero() {
		g.begin, g.last.at, g.returned = now, now, now
	}
	elapsed := now.Sub(g.now)
	if g.now.IsZero() {
		elapsed = 0
	}
	g.now = now
	if second := now.Sub(g.last.at); second >= time.Second {
		g.perSecond = [2]float64{float64(g.sent-g.last.sent) / second.Seconds(), float64(g.received-g.last.received) / second.Seconds()}
		g.last.at, g.last.sent, g.last.received = now, g.sent, g.received
	}
	if g.rate == 0 {
		if now.Sub(g.returned) > idleLoss {
			g.onTheWay, g.returned = 0, now
		}
		for n < len(send) && len(g.idle) > 0 && g.onTheWay < g.flight {
			send[n] = g.next()
			n++
		}
		if g.onTheWay < g.flight && len(g.idle) > 0 {
			return n, 0
		}
		return n, idleLoss
	}
	// What was not sent in time is sent late, but not more than a burst.
	g.due = min(g.due+elapsed.Seconds()*g.rate, max(g.rate/100, nf.Batch))
	for g.due >= 1 && n < len(send) && len(g.idle) > 0 && (g.limit == 0 || g.sent < g.limit) {
		send[n] = g.next()
		n++
		g.due--
	}
	if g.limit != 0 && g.sent >= g.limit || len(g.idle) == 0 {
		return n, tickEvery
	}
	return n, max(0, time.Duration((1-g.due)/g.rate*float64(time.Second)))
}

// next makes an idle frame a packet.
func (g *generator) next() nf.Packet {
	last := len(g.idle) - 1
	p := g.idle[last]
	g.idle = g.idle[:last]
	g.fill(&p)
	return p
}

// percentiles returns those of the latest times, in the order of shares.
func (g *generator) percentiles(shares ...float64) []time.Duration {
	list := slices.Clone(g.samples[:min(g.sampled, uint64(len(g.samples)))])
	slices.Sort(list)
	times := make([]time.Duration, len(shares))
	for i, s := range shares {
		if len(list) > 0 {
			times[i] = list[min(len(list)-1, int(s*float64(len(list))))]
		}
	}
	return times
}

// Counters shows packets, rates and times.
func (g *generator) Counters(f func(string, uint64)) {
	sent, received := uint64(g.perSecond[0]), uint64(g.perSecond[1])
	show(f, counter{"sent", &g.sent}, counter{"received", &g.received}, counter{"outOfOrder", &g.late},
		counter{"sentPerSecond", &sent}, counter{"receivedPerSecond", &received})
	for i, d := range g.percentiles(0.5, 0.99) {
		f([]string{"p50Nanoseconds", "p99Nanoseconds"}[i], uint64(d))
	}
}

// Command knows "report" and, of a generator, "rate".
func (g *generator) Command(words []string) (string, error) {
	switch {
	case len(words) == 1 && words[0] == "report":
		return g.report(), nil
	case len(words) == 2 && words[0] == "rate" && g.rate > 0:
		var rate float64
		if _, err := fmt.Sscanf(words[1]+" ", "%g ", &rate); err != nil || rate <= 0 || rate > 1e9 {
			return "", fmt.Errorf("rate %s: more than 0, at most 1e9 packets a second", words[1])
		}
		g.rate, g.due = rate, 0
		return "", nil
	}
	return "", noCommand(words, strings.TrimSuffix("report, rate N", map[bool]string{true: ", rate N"}[g.rate == 0]))
}

func (g *generator) report() string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	times := g.percentiles(0.5, 0.9, 0.99, 0.999, 1)
	fmt.Fprintf(w, "sent\t%d\t%.0f/s\n", g.sent, g.perSecond[0])
	fmt.Fprintf(w, "received\t%d\t%.0f/s\n", g.received, g.perSecond[1])
	fmt.Fprintf(w, "out of order\t%d\n", g.late)
	for i, name := range []string{"p50", "p90", "p99", "p99.9", "max"} {
		fmt.Fprintf(w, "%s\t%v\n", name, times[i])
	}
	w.Flush()
	return out.String()
}
