package builtin

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gaissmai/bart"
	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const routerText = `
Routes IPv4 and IPv6 between ports with addresses of their own, by longest prefix:

  router --port 1=10.0.1.1/24,fd00:1::1/64 --port 2=10.0.2.1/24,fd00:2::1/64
         --route 0.0.0.0/0=10.0.2.254 --neighbour 10.0.2.254=02:00:00:00:00:99

It answers pings, ARP requests and neighbour solicitations for its addresses, finds its
neighbours by asking, and tells senders by ICMP of packets whose time is over, that have no
route, or are too big; it does not fragment. The commands "routes", "neighbours", "add PREFIX=VIA" and
"delete PREFIX" look at it and change it. Packets of ports without an address go on to the
next service.`

type router struct {
	clock
	sides      [maxPort]*interfaceOf
	routes     bart.Table[hop]
	neighbours *neighbours
	replies    replies
	mtu        int

	forwarded, local, expired, unrouted, tooBig, foreign uint64
}

// An interfaceOf a port has a MAC address and networks.
type interfaceOf struct {
	port      int
	mac       mac
	addresses []netip.Prefix
}

// A hop is where a route leads: to a neighbour, or to the destination itself on a link.
type hop struct {
	via  netip.Addr // not valid on a link
	port *interfaceOf
}

func defineRouter(flags *pflag.FlagSet) func() (nf.Function, error) {
	ports := flags.StringArray("port", nil, "a port's addresses, `N=ADDR/LEN,...`; again for each port")
	macs := flags.StringArray("mac", nil, "a port's Ethernet address, `N=MAC`; made from its first address if not told")
	routes := flags.StringArray("route", nil, "`PREFIX=VIA`, an address of a port's network; again for more")
	list := flags.StringArray("neighbour", nil, "`ADDR=MAC` of a neighbour that is not to be asked; again for more")
	mtu := flags.Int("mtu", 1500, "largest IP packet, `bytes`")
	return func() (nf.Function, error) {
		r := &router{neighbours: newNeighbours(), mtu: *mtu}
		if *mtu < 576 || *mtu > 65535 {
			return nil, fmt.Errorf("--mtu %d: from 576 to 65535", *mtu)
		}
		if len(*ports) == 0 {
			return nil, fmt.Errorf("tell it a --port at least")
		}
		for _, text := range *ports {
			if err := r.addPort(text); err != nil {
				return nil, fmt.Errorf("--port %s: %w", text, err)
			}
		}
		for _, text := range *macs {
			if err := r.setMAC(text); err != nil {
				return nil, fmt.Errorf("--mac %s: %w", text, err)
			}
		}
		for _, text := range *routes {
			if err := r.addRoute(text); err != nil {
				return nil, fmt.Errorf("--route %s: %w", text, err)
			}
		}
		for _, text := range *list {
			a, m, err := parseNeighbour(text)
			if err != nil {
				return nil, fmt.Errorf("--neighbour %s: %w", text, err)
			}
			r.neighbours.fix(a, m)
		}
		return r, nil
	}
}

func parseNeighbour(text string) (netip.Addr, mac, error) {
	address, hw, _ := strings.Cut(text, "=")
	a, err := netip.ParseAddr(address)
	if err != nil {
		return a, mac{}, fmt.Errorf("%q is no IP address; write ADDR=MAC", address)
	}
	m, err := parseMAC(hw)
	return a, m, err
}

func (r *router) addPort(text string) error {
	number, list, ok := strings.Cut(text, "=")
	n, err := parsePort(number)
	if err != nil || !ok {
		return fmt.Errorf("write N=ADDR/LEN, with N from 1 to %d", maxPort-1)
	}
	if r.sides[n] != nil {
		return fmt.Errorf("port %d is there already; write its addresses with commas", n)
	}
	i := &interfaceOf{port: n}
	for address := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(address)
		if err != nil {
			return fmt.Errorf("%q is no address with a length, such as 10.0.1.1/24", address)
		}
		if _, taken := r.routes.Get(p.Masked()); taken {
			return fmt.Errorf("the network %s is on a port already", p.Masked())
		}
		i.addresses = append(i.addresses, p)
		r.routes.Insert(p.Masked(), hop{port: i})
	}
	i.mac = macOf(i.addresses[0].Addr())
	r.sides[n] = i
	return nil
}

// macOf makes an Ethernet address of an IP address, the same each time: of this program, locally
// administered.
func macOf(a netip.Addr) mac {
	b := a.As16()
	return mac{2, b[11] ^ 0xff, b[12], b[13], b[14], b[15]}
}

func (r *router) setMAC(text string) error {
	number, hw, _ := strings.Cut(text, "=")
	n, err := parsePort(number)
	if err != nil {
		return err
	}
	if r.sides[n] == nil {
		return fmt.Errorf("there is no --port %d", n)
	}
	r.sides[n].mac, err = parseMAC(hw)
	return err
}

func (r *router) addRoute(text string) error {
	network, via, _ := strings.Cut(text, "=")
	p, err := parsePrefix(network)
	if err != nil {
		return fmt.Errorf("%s %w; write PREFIX=VIA", network, err)
	}
	a, err := netip.ParseAddr(via)
	if err != nil {
		return fmt.Errorf("%q is no address; write PREFIX=VIA", via)
	}
	if a.Is4() != p.Addr().Is4() {
		return fmt.Errorf("one is IPv4 and one IPv6")
	}
	if h, ok := r.routes.Get(p); ok && !h.via.IsValid() {
		return fmt.Errorf("the network is on port %d itself", h.port.port)
	}
	next, ok := r.routes.Lookup(a)
	if !ok || next.via.IsValid() {
		return fmt.Errorf("%s is in the network of no port", a)
	}
	r.routes.Insert(p, hop{via: a, port: next.port})
	return nil
}

func (r *router) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		if p.Fresh() {
			r.neighbours.give(p)
			continue
		}
		in := p.Port()
		if in >= maxPort || r.sides[in] == nil {
			p.Next()
			continue
		}
		r.handle(p, r.sides[in])
	}
}

func (r *router) handle(p *nf.Packet, in *interfaceOf) {
	p.Drop()
	b := p.Data()
	h := nf.ParseHeaders(b)
	if len(b) < 14 || b[0]&1 == 0 && mac(b[:6]) != in.mac {
		r.foreign++
		return
	}
	r.neighbours.hear(&h, b, in.port, r.now)
	if q, ok := parseQuestion(&h, b); ok {
		if in.has(q.target) && answer(p, &h, &q, in.mac) {
			p.Out(in.port)
		}
		return
	}
	if h.Version == 0 || b[0]&1 != 0 {
		return
	}
	src, dst := h.Addresses(b)
	if r.isOurs(dst) {
		r.local++
		r.answerLocal(p, &h)
		return
	}
	if dst.IsMulticast() || dst.IsLinkLocalUnicast() || src.IsLinkLocalUnicast() || src.IsUnspecified() || dst.IsLoopback() {
		return
	}
	if h.TTL(b) <= 1 {
		r.expired++
		r.replies.icmp(p, &h, in.address(src), timeExceeded(), 0)
		return
	}
	next, ok := r.routes.Lookup(dst)
	if !ok {
		r.unrouted++
		r.replies.icmp(p, &h, in.address(src), noRoute(), 0)
		return
	}
	if size := ipLength(p, &h); size > r.mtu {
		r.tooBig++
		if h.Version == 6 || b[h.Network+6]&0x40 != 0 { // do not fragment
			r.replies.icmp(p, &h, in.address(src), tooBig(), uint32(r.mtu))
		}
		return
	}
	r.forwarded++
	p.DecrementTTL(&h)
	if next.via.IsValid() {
		dst = next.via
	}
	r.neighbours.send(p, dst, &side{next.port.port, next.port.mac, next.port.address(dst)})
}

// ipLength is the length of the largest IP packet that is made of a packet.
func ipLength(p *nf.Packet, h *nf.Headers) int {
	if segment := p.Segment(); segment > 0 && h.Payload > 0 {
		return h.Payload - h.Network + segment
	}
	return h.End - h.Network
}

// address returns the interface's address that suits a peer: of its network, or of its version.
func (i *interfaceOf) address(peer netip.Addr) (found netip.Addr) {
	for _, p := range i.addresses {
		if p.Contains(peer) {
			return p.Addr()
		}
		if p.Addr().Is4() == peer.Is4() && !found.IsValid() {
			found = p.Addr()
		}
	}
	return found
}

func (i *interfaceOf) has(a netip.Addr) bool {
	for _, p := range i.addresses {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

func (r *router) isOurs(a netip.Addr) bool {
	next, ok := r.routes.Lookup(a)
	return ok && !next.via.IsValid() && next.port.has(a)
}

// answerLocal answers echo requests to the router itself. Everything else to it is refused.
func (r *router) answerLocal(p *nf.Packet, h *nf.Headers) {
	if !pong(p, h) && (h.Protocol == nf.ProtocolTCP || h.Protocol == nf.ProtocolUDP) {
		r.replies.refuse(p, h)
	}
}

// pong makes an echo request its reply and sends it back. It reports whether it was one.
func pong(p *nf.Packet, h *nf.Headers) bool {
	b := p.Data()
	if _, request, ok := h.Echo(b); !ok || !request {
		return false
	}
	src, dst := h.Addresses(b)
	turnEthernet(b)
	p.SetSource(h, dst)
	p.SetDestination(h, src)
	kind := uint16(0)
	if h.Version == 4 {
		p.SetNetwork(h, 8, 64<<8|nf.ProtocolICMP)
	} else {
		kind, b[h.Network+7] = 129, 64
	}
	p.SetTransport(h, 0, kind<<8|uint16(b[h.Transport+1]))
	p.Out(p.Port())
	return true
}

// Frames says how many empty ones it needs, to ask for neighbours.
func (r *router) Frames() int { return neighbourFrames }

// Tick asks for neighbours.
func (r *router) Tick(now time.Time, send []nf.Packet) (int, time.Duration) {
	_, next := r.clock.Tick(now, nil)
	r.replies.tick(now)
	return r.neighbours.tick(now, send), next
}

// Counters shows what happened to packets.
func (r *router) Counters(f func(string, uint64)) {
	known := r.neighbours.known()
	show(f, counter{"forwarded", &r.forwarded}, counter{"local", &r.local}, counter{"timeExceeded", &r.expired}, counter{"noRoute", &r.unrouted},
		counter{"tooBig", &r.tooBig}, counter{"notForUs", &r.foreign}, counter{"noNeighbour", &r.neighbours.dropped},
		counter{"neighbours", &known}, counter{"icmpSuppressed", &r.replies.Suppressed})
}

// Command looks at routes and neighbours, and changes routes.
func (r *router) Command(words []string) (string, error) {
	const all = "routes, neighbours, add PREFIX=VIA, delete PREFIX"
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	switch {
	case len(words) == 1 && words[0] == "routes":
		for p, h := range r.routes.AllSorted() {
			via := "link"
			if h.via.IsValid() {
				via = h.via.String()
			}
			fmt.Fprintf(w, "%s\t%s\tport %d\n", p, via, h.port.port)
		}
	case len(words) == 1 && words[0] == "neighbours":
		r.neighbours.print(w, r.now)
	case len(words) == 2 && words[0] == "add":
		return "", r.addRoute(words[1])
	case len(words) == 2 && words[0] == "delete":
		p, err := parsePrefix(words[1])
		if err != nil {
			return "", fmt.Errorf("%s %w", words[1], err)
		}
		if h, ok := r.routes.Get(p); !ok || !h.via.IsValid() {
			return "", fmt.Errorf("there is no route to %s through a neighbour", p)
		}
		r.routes.Delete(p)
		return "", nil
	default:
		return "", noCommand(words, all)
	}
	w.Flush()
	return out.String(), nil
}
