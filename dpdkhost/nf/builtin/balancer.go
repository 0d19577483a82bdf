package builtin

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const balancerText = `
Packets to a virtual address are sent to one of several servers, which answer from it:

  balancer --vip 10.0.0.100:80 --server 10.0.0.11:8080 --server 10.0.0.12:8080,weight=2

It sits between the ports of clients and servers and passes everything else from one to the
other. It answers ARP requests and neighbour solicitations for the virtual address, and pings
if it has a port. All packets of a flow go to one server: rendezvous hashing (Thaler and
Ravishankar 1998), so a server that comes or goes moves no flows between the others, and flows that it
knows stay where they are. The commands "servers", "add ADDR[:PORT][,weight=N]", "drain ADDR[:PORT]" (no new
flows) and "remove ADDR[:PORT]" look at the servers and change them. What a server sends from the
port of the service leaves with the virtual address, whoever asked.`

type balancer struct {
	clock
	bridge     bridge
	vip        netip.AddrPort // port 0 for all
	mac        mac
	serverPort int
	servers    []*server
	flows      *table[nf.Flow, *server]
	idle       time.Duration
	sweep      time.Time
	neighbours *neighbours

	there, back, none, fragments uint64
}

// A server takes flows.
type server struct {
	place    netip.AddrPort // port 0 for that of the virtual address
	weight   float64
	seed     uint64
	draining bool
	flows    uint64
	packets  uint64
}

func defineBalancer(flags *pflag.FlagSet) func() (nf.Function, error) {
	vip := flags.String("vip", "", "virtual `ADDR[:PORT]`; without a port all of them")
	list := flags.StringArray("server", nil, "`ADDR[:PORT][,weight=N]`; again for each")
	clients := flags.Int("clients", 1, "the `port` of clients")
	servers := flags.Int("servers", 2, "the `port` of servers")
	hw := flags.String("mac", "", "`MAC` of the virtual address; made from it if not told")
	limit := flags.Int("flows", 65536, "how many flows to remember")
	idle := flags.Duration("idle", 5*time.Minute, "a flow is forgotten after so `long`")
	return func() (nf.Function, error) {
		place, err := parsePlace(*vip)
		if err != nil {
			return nil, fmt.Errorf("--vip: %w", err)
		}
		for _, port := range []int{*clients, *servers} {
			if _, err := parsePort(strconv.Itoa(port)); err != nil {
				return nil, err
			}
		}
		if *clients == *servers {
			return nil, fmt.Errorf("--clients and --servers are one port")
		}
		if *limit < 1 || *limit > 1<<22 || *idle <= 0 {
			return nil, fmt.Errorf("--flows %d --idle %v: from 1 to %d, and longer than nothing", *limit, *idle, 1<<22)
		}
		b := &balancer{vip: place, mac: macOf(place.Addr()), serverPort: *servers, idle: *idle,
			flows: newTable[nf.Flow, *server](*limit), neighbours: newNeighbours()}
		b.bridge.to[*clients], b.bridge.to[*servers] = uint16(*servers), uint16(*clients)
		if *hw != "" {
			if b.mac, err = parseMAC(*hw); err != nil {
				return nil, fmt.Errorf("--mac: %w", err)
			}
		}
		for _, text := range *list {
			if err := b.add(text); err != nil {
				return nil, fmt.Errorf("--server %s: %w", text, err)
			}
		}
		if len(b.servers) == 0 {
			return nil, fmt.Errorf("tell it a --server at least")
		}
		return b, nil
	}
}

// parsePlace reads an address with or without a port.
func parsePlace(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a, 0), nil
	}
	p, err := netip.ParseAddrPort(text)
	if err != nil || p.Port() == 0 || p.Addr().Zone() != "" {
		return p, fmt.Errorf("%q is no address with or without a port, such as 10.0.0.1:80 or [fd00::1]:80", text)
	}
	return p, nil
}

func (b *balancer) add(text string) error {
	where, weight, weighted := strings.Cut(text, ",weight=")
	s := &server{weight: 1}
	var err error
	if s.place, err = parsePlace(where); err != nil {
		return err
	}
	if weighted {
		n, err := strconv.Atoi(weight)
		if err != nil || n < 1 || n > 1000 {
			return fmt.Errorf("weight %q: from 1 to 1000", weight)
		}
		s.weight = float64(n)
	}
	switch {
	case s.place.Addr().Is4() != b.vip.Addr().Is4():
		return fmt.Errorf("it and the virtual address are IPv4 and IPv6")
	case s.place.Port() != 0 && b.vip.Port() == 0:
		return fmt.Errorf("a port: of which? the virtual address has all")
	case s.place.Addr() == b.vip.Addr():
		return fmt.Errorf("it is the virtual address")
	case b.find(s.place) >= 0:
		return fmt.Errorf("it is there already")
	}
	f := nf.Flow{Dst: s.place.Addr().As16(), DstPort: s.place.Port()}
	s.seed = f.Hash()
	b.servers = append(b.servers, s)
	return nil
}

func (b *balancer) find(p netip.AddrPort) int {
	return slices.IndexFunc(b.servers, func(s *server) bool { return s.place == p })
}

func (b *balancer) Handle(batch []nf.Packet) {
	for i := range batch {
		if p := &batch[i]; p.Fresh() {
			b.neighbours.give(p)
		} else {
			b.handle(p)
		}
	}
}

func (b *balancer) handle(p *nf.Packet) {
	frame := p.Data()
	h := nf.ParseHeaders(frame)
	b.neighbours.hear(&h, frame, p.Port(), b.now)
	if q, ok := parseQuestion(&h, frame); ok && q.target == b.vip.Addr() && answer(p, &h, &q, b.mac) {
		p.Out(p.Port())
		return
	}
	if h.Version == 0 {
		if len(frame) >= 6 && mac(frame[:6]) == b.mac { // an answer to a question of ours
			p.Drop()
			return
		}
		b.bridge.across(p)
		return
	}
	src, dst := h.Addresses(frame)
	switch {
	case dst == b.vip.Addr():
		b.toServer(p, &h)
	case p.Port() == b.serverPort && b.isServer(src, &h, frame):
		b.back++
		p.SetSource(&h, b.vip.Addr())
		if b.vip.Port() != 0 {
			p.SetSourcePort(&h, b.vip.Port())
		}
		copy(frame[6:], b.mac[:])
		b.bridge.across(p)
	default:
		b.bridge.across(p)
	}
}

// isServer reports whether a packet is from the service of a server.
func (b *balancer) isServer(src netip.Addr, h *nf.Headers, frame []byte) bool {
	port, _ := h.Ports(frame)
	for _, s := range b.servers {
		if s.place.Addr() == src && (b.vip.Port() == 0 || h.HasPorts() && port == s.port(b.vip)) {
			return true
		}
	}
	return false
}

// port is that of the service on a server.
func (s *server) port(vip netip.AddrPort) uint16 {
	if s.place.Port() != 0 {
		return s.place.Port()
	}
	return vip.Port()
}

func (b *balancer) toServer(p *nf.Packet, h *nf.Headers) {
	p.Drop()
	frame := p.Data()
	if isNeighbour(h, frame, advertisement) { // an answer to a question of ours
		return
	}
	if h.Fragment && b.vip.Port() != 0 {
		b.fragments++ // which flow is it?
		return
	}
	if b.vip.Port() != 0 {
		if _, port := h.Ports(frame); port != b.vip.Port() {
			pong(p, h)
			return
		}
	}
	s := b.pick(h.Flow(frame))
	if s == nil {
		b.none++
		return
	}
	s.packets++
	b.there++
	p.SetDestination(h, s.place.Addr())
	if s.place.Port() != 0 {
		p.SetDestinationPort(h, s.place.Port())
	}
	b.neighbours.send(p, s.place.Addr(), &side{b.serverPort, b.mac, b.vip.Addr()})
}

// pick returns the server of a flow, nil if there is none.
func (b *balancer) pick(f nf.Flow) *server {
	known := b.flows.get(f, b.now)
	if known != nil && *known != nil {
		return *known
	}
	s := b.best(&f)
	if s == nil {
		return nil
	}
	if known == nil {
		known = b.flows.add(f, b.now)
	}
	if known != nil { // without a place in the table the hash alone keeps it there
		*known = s
		s.flows++
	}
	return s
}

// best is weighted rendezvous hashing: the highest of w / -ln(hash).
func (b *balancer) best(f *nf.Flow) (best *server) {
	top, hash := 0.0, f.Hash()
	for _, s := range b.servers {
		if s.draining {
			continue
		}
		// A hash of both, well mixed, in (0, 1).
		x := (hash ^ s.seed) * 0x9e3779b97f4a7c15
		x ^= x >> 32
		x *= 0xd6e8feb86659fd93
		x ^= x >> 32
		score := s.weight / -math.Log((float64(x>>11)+0.5)/(1<<53))
		if score > top {
			top, best = score, s
		}
	}
	return best
}

// Frames says how many empty ones it needs, to ask for servers.
func (b *balancer) Frames() int { return neighbourFrames }

// Tick asks for servers and forgets flows.
func (b *balancer) Tick(now time.Time, send []nf.Packet) (int, time.Duration) {
	if now.Sub(b.sweep) >= tickEvery {
		b.sweep = now
		b.flows.each(func(f nf.Flow, _ **server, used time.Time) {
			if now.Sub(used) >= b.idle {
				b.flows.remove(f)
			}
		})
	}
	_, next := b.clock.Tick(now, nil)
	return b.neighbours.tick(now, send), next
}

// Counters shows packets, in all and by server.
func (b *balancer) Counters(f func(string, uint64)) {
	flows := uint64(b.flows.len())
	show(f, counter{"toServers", &b.there}, counter{"fromServers", &b.back}, counter{"flows", &flows}, counter{"noServer", &b.none},
		counter{"fragments", &b.fragments}, counter{"noNeighbour", &b.neighbours.dropped})
	for _, s := range b.servers {
		f("server "+s.name(), s.packets)
	}
}

func (s *server) name() string {
	if s.place.Port() == 0 {
		return s.place.Addr().String()
	}
	return s.place.String()
}

// Command looks at the servers and changes them.
func (b *balancer) Command(words []string) (string, error) {
	const all = "servers, add ADDR[:PORT][,weight=N], drain ADDR[:PORT], remove ADDR[:PORT]"
	switch {
	case len(words) == 1 && words[0] == "servers":
		return b.list(), nil
	case len(words) != 2:
		return "", noCommand(words, all)
	case words[0] == "add":
		return "", b.add(words[1])
	case words[0] != "drain" && words[0] != "remove":
		return "", noCommand(words, all)
	}
	place, err := parsePlace(words[1])
	if err != nil {
		return "", err
	}
	at := b.find(place)
	if at < 0 {
		return "", fmt.Errorf("there is no server %s", words[1])
	}
	s := b.servers[at]
	if words[0] == "drain" {
		s.draining = true
		return "", nil
	}
	b.servers = slices.Delete(b.servers, at, at+1)
	b.flows.each(func(_ nf.Flow, of **server, _ time.Time) {
		if *of == s {
			*of = nil
		}
	})
	return "", nil
}

func (b *balancer) list() string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "server\tweight\tflows\tpackets\tstate")
	for _, s := range b.servers {
		state := "takes flows"
		if s.draining {
			state = "draining"
		}
		fmt.Fprintf(w, "%s\t%v\t%d\t%d\t%s\n", s.name(), s.weight, s.flows, s.packets, state)
	}
	w.Flush()
	return out.String()
}
