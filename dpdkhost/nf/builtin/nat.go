package builtin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const natText = `
Packets from the inside port leave by the outside port from the NAT's address, and the answers find
their way back: TCP, UDP and ICMP echo, and ICMP errors about them. A port inside has one port outside, the same
if it is free, whoever it talks to (endpoint-independent mapping, RFC 4787). The NAT answers ARP requests and
neighbour solicitations for its addresses; other packets that are not IP pass. Packets that it cannot translate
are dropped: other protocols, later fragments, and what comes from outside unasked. Run one instance for
each address: the answers of a flow meet the instance that knows it. The command "mappings" lists them.`

type nat struct {
	clock
	bridge          bridge
	inside, outside int
	own             [2]netip.Addr // IPv4, IPv6; not valid where there is none
	mac             mac
	ports           portRange
	mappings        *table[natKey, mapping] // by the inside
	back            map[natKey]natKey       // by the outside
	used            [6]portSet              // by protocol and IP version
	timeouts        [3]time.Duration        // TCP, UDP, ICMP
	sweep           time.Time

	out, in, unasked, unknown, fragments, full uint64
}

// A natKey is a port, or an echo's identifier, of an address inside; or outside, without an
// address: it is the NAT's.
type natKey struct {
	address  [16]byte
	port     uint16
	protocol uint8
	version  uint8
}

type mapping struct {
	port    uint16 // outside
	mac     mac    // of who sends from inside
	closing bool   // TCP: FIN or RST was seen
}

func defineNAT(flags *pflag.FlagSet) func() (nf.Function, error) {
	addresses := flags.StringArray("address", nil, "the NAT's `address` outside; a second one for IPv6")
	inside := flags.Int("inside", 1, "the `port` inside")
	outside := flags.Int("outside", 2, "the `port` outside")
	ports := flags.String("ports", "1024-65535", "ports to use outside, `FROM-TO`")
	hw := flags.String("mac", "", "`MAC` of the addresses; made from the first if not told")
	limit := flags.Int("mappings", 65536, "how many ports inside there may be")
	tcp := flags.Duration("tcp-timeout", 2*time.Hour, "a TCP port without packets is forgotten after so `long`; 4 minutes after its FIN")
	udp := flags.Duration("udp-timeout", 5*time.Minute, "the same for UDP")
	icmp := flags.Duration("icmp-timeout", time.Minute, "the same for echo")
	return func() (nf.Function, error) {
		n := &nat{inside: *inside, outside: *outside, timeouts: [3]time.Duration{*tcp, *udp, *icmp}}
		for _, text := range *addresses {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
				return nil, fmt.Errorf("--address %s: no address of a host", text)
			}
			own := &n.own[family(a)]
			if own.IsValid() {
				return nil, fmt.Errorf("--address %s: there is %s already; run an instance for each", text, *own)
			}
			*own = a
		}
		if len(*addresses) == 0 {
			return nil, fmt.Errorf("tell it an --address at least")
		}
		first, _ := netip.ParseAddr((*addresses)[0])
		n.mac = macOf(first)
		var err error
		if *hw != "" {
			if n.mac, err = parseMAC(*hw); err != nil {
				return nil, fmt.Errorf("--mac: %w", err)
			}
		}
		for _, port := range []int{*inside, *outside} {
			if _, err := parsePort(strconv.Itoa(port)); err != nil {
				return nil, err
			}
		}
		list, err := parsePorts(nil, *ports)
		switch {
		case *inside == *outside:
			return nil, fmt.Errorf("--inside and --outside are one port")
		case err != nil || len(list) != 1 || list[0].from == 0:
			return nil, fmt.Errorf("--ports %s: write FROM-TO, from 1 to 65535", *ports)
		case *limit < 1 || *limit > 1<<18:
			return nil, fmt.Errorf("--mappings %d: from 1 to %d", *limit, 1<<18)
		case slices.Min(n.timeouts[:]) <= 0:
			return nil, fmt.Errorf("a timeout is longer than nothing")
		}
		n.ports = list[0]
		n.mappings = newTable[natKey, mapping](*limit)
		n.back = make(map[natKey]natKey, *limit)
		n.bridge.to[*inside], n.bridge.to[*outside] = uint16(*outside), uint16(*inside)
		return n, nil
	}
}

// family is 0 for IPv4 and 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func (n *nat) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		b := p.Data()
		h := nf.ParseHeaders(b)
		if q, ok := parseQuestion(&h, b); ok && n.isOwn(q.target) && answer(p, &h, &q, n.mac) {
			p.Out(p.Port())
			continue
		}
		switch in := p.Port(); {
		case in != n.inside && in != n.outside:
			p.Next()
		case h.Version == 0, isLocal(&h, b):
			n.bridge.across(p)
		case in == n.inside:
			n.leave(p, &h)
		default:
			n.enter(p, &h)
		}
	}
}

func (n *nat) isOwn(a netip.Addr) bool { return a.IsValid() && (a == n.own[0] || a == n.own[1]) }

// isLocal reports whether a packet belongs to the link: neighbour discovery and the like.
func isLocal(h *nf.Headers, b []byte) bool {
	src, dst := h.Addresses(b)
	return h.Version == 6 && (src.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast() || dst.IsLinkLocalUnicast()) ||
		isNeighbour(h, b, advertisement) || isNeighbour(h, b, solicitation)
}

// leave translates a packet from inside.
func (n *nat) leave(p *nf.Packet, h *nf.Headers) {
	p.Drop()
	b := p.Data()
	own := n.own[h.Version/6]
	at, ok := n.place(h, b, false)
	switch {
	case h.Fragment && h.Transport == 0:
		n.fragments++
		return
	case !own.IsValid():
		n.unknown++
		return
	case !ok:
		if n.translateError(p, h, false) {
			n.out++
			n.bridge.across(p)
			return
		}
		n.unknown++
		return
	}
	src, _ := h.Addresses(b)
	key := natKey{src.As16(), binary.BigEndian.Uint16(b[h.Transport+at:]), h.Protocol, h.Version}
	m := n.mappings.get(key, n.now)
	if m == nil {
		if m = n.open(key); m == nil {
			n.full++
			return
		}
	}
	m.mac = mac(b[6:12])
	m.watch(h, b)
	n.out++
	p.SetSource(h, own)
	p.SetTransport(h, at, m.port)
	copy(b[6:], n.mac[:])
	n.bridge.across(p)
}

// enter translates a packet from outside.
func (n *nat) enter(p *nf.Packet, h *nf.Headers) {
	b := p.Data()
	_, dst := h.Addresses(b)
	if !n.isOwn(dst) {
		// Of others behind the NAT nobody outside is to know.
		if b[0]&1 != 0 {
			n.bridge.across(p)
			return
		}
		n.unasked++
		p.Drop()
		return
	}
	p.Drop()
	at, ok := n.place(h, b, true)
	switch {
	case h.Fragment && h.Transport == 0:
		n.fragments++
		return
	case !ok:
		if n.translateError(p, h, true) {
			n.in++
			n.bridge.across(p)
			return
		}
		if !pong(p, h) {
			n.unasked++
		}
		return
	}
	key, ok := n.back[natKey{port: binary.BigEndian.Uint16(b[h.Transport+at:]), protocol: h.Protocol, version: h.Version}]
	m := n.mappings.get(key, n.now)
	if !ok || m == nil {
		n.unasked++
		return
	}
	m.watch(h, b)
	n.in++
	p.SetDestination(h, key.addr())
	p.SetTransport(h, at, key.port)
	copy(b, m.mac[:])
	n.bridge.across(p)
}

func (k natKey) addr() netip.Addr {
	return netip.AddrFrom16(k.address).Unmap()
}

// place returns where in the transport header the port stands that the NAT changes: the source
// of packets from inside, the destination of those from outside. Not ok if it has none that can
// be changed.
func (n *nat) place(h *nf.Headers, b []byte, fromOutside bool) (at int, ok bool) {
	if h.Payload == 0 {
		return 0, false
	}
	if h.Protocol == nf.ProtocolTCP || h.Protocol == nf.ProtocolUDP {
		if fromOutside {
			return 2, true
		}
		return 0, true
	}
	_, request, ok := h.Echo(b)
	return 4, ok && request != fromOutside
}

// open makes a mapping, nil if there is no room or no port.
func (n *nat) open(key natKey) *mapping {
	ports := n.portsOf(key)
	outside := natKey{port: key.port, protocol: key.protocol, version: key.version}
	if key.port < n.ports.from || key.port > n.ports.to || ports.has(key.port) {
		var found bool
		if outside.port, found = ports.free(n.ports); !found {
			return nil
		}
	}
	m := n.mappings.add(key, n.now)
	if m != nil {
		m.port = outside.port
		ports.add(m.port)
		n.back[outside] = key
	}
	return m
}

// forget takes a mapping out.
func (n *nat) forget(key natKey, m *mapping) {
	n.portsOf(key).remove(m.port)
	delete(n.back, natKey{port: m.port, protocol: key.protocol, version: key.version})
	n.mappings.remove(key)
}

// portsOf returns the ports outside that are taken for the protocol of a key.
func (n *nat) portsOf(key natKey) *portSet {
	at := int(key.version / 6)
	switch key.protocol {
	case nf.ProtocolTCP:
		at += 2
	case nf.ProtocolUDP:
		at += 4
	}
	return &n.used[at]
}

// A portSet is a set of ports in which a free one is found fast, though almost all are taken.
type portSet struct {
	words [1 << 16 / 64]uint64
	last  uint16 // found
}

func (s *portSet) has(p uint16) bool { return s.words[p/64]>>(p%64)&1 != 0 }
func (s *portSet) add(p uint16)      { s.words[p/64] |= 1 << (p % 64) }
func (s *portSet) remove(p uint16)   { s.words[p/64] &^= 1 << (p % 64) }

// free returns a port of a range that is not taken: the next after the last that was found, so
// that one that was given up rests.
func (s *portSet) free(r portRange) (port uint16, ok bool) {
	if s.last < r.from || s.last >= r.to {
		s.last = r.from - 1 // from is not 0
	}
	port, ok = s.within(s.last+1, r.to)
	if !ok {
		port, ok = s.within(r.from, s.last)
	}
	if ok {
		s.last = port
	}
	return port, ok
}

// within returns the first free port from one to another.
func (s *portSet) within(from, to uint16) (uint16, bool) {
	for p := int(from); p <= int(to); p = (p/64 + 1) * 64 {
		if left := ^s.words[p/64] >> (p % 64); left != 0 {
			p += bits.TrailingZeros64(left)
			return uint16(p), p <= int(to)
		}
	}
	return 0, false
}

// watch looks for the end of a connection.
func (m *mapping) watch(h *nf.Headers, b []byte) {
	if h.Protocol == nf.ProtocolTCP {
		flags := b[h.Transport+13]
		m.closing = flags&(tcpFIN|tcpRST) != 0 || m.closing && flags&tcpSYN == 0
	}
}

// translateError translates an ICMP error about a packet that the NAT has translated (RFC 5508,
// section 4): outside, about one that left; inside, about one that came in.
func (n *nat) translateError(p *nf.Packet, h *nf.Headers, fromOutside bool) bool {
	b := p.Data()
	if h.Payload == 0 || h.Fragment || h.Protocol != nf.ProtocolICMP && h.Protocol != nf.ProtocolICMPv6 {
		return false
	}
	kind := b[h.Transport]
	if h.Version == 4 && kind != 3 && kind != 11 && kind != 12 || h.Version == 6 && kind >= 128 {
		return false
	}
	inner, size, ports, ok := quoted(b[h.Payload:h.End], h.Version)
	if !ok {
		return false
	}
	quote := b[h.Payload:h.End]
	at := ports // of the quoted packet: from the inside its source is ours, from the outside its destination
	if protocol := inner.Protocol; protocol == nf.ProtocolTCP || protocol == nf.ProtocolUDP {
		if !fromOutside {
			at += 2
		}
	} else if protocol == nf.ProtocolICMP || protocol == nf.ProtocolICMPv6 {
		at += 4
	} else {
		return false
	}
	if at+2 > len(quote) {
		return false
	}
	port := binary.BigEndian.Uint16(quote[at:])
	addressAt := 12
	if h.Version == 6 {
		addressAt = 8
	}
	if !fromOutside {
		addressAt += size
	}
	address, _ := netip.AddrFromSlice(quote[addressAt : addressAt+size])
	var to netip.Addr
	if fromOutside {
		key, ok := n.back[natKey{port: port, protocol: inner.Protocol, version: h.Version}]
		m := n.mappings.get(key, n.now)
		if !ok || m == nil || !n.isOwn(address) {
			return false
		}
		to, port = key.addr(), key.port
		copy(b, m.mac[:])
		p.SetDestination(h, to)
	} else {
		m := n.mappings.get(natKey{address.As16(), port, inner.Protocol, h.Version}, n.now)
		if m == nil {
			return false
		}
		to, port = n.own[h.Version/6], m.port
		copy(b[6:], n.mac[:])
		p.SetSource(h, to)
	}
	copy(quote[addressAt:], to.AsSlice())
	binary.BigEndian.PutUint16(quote[at:], port)
	if h.Version == 4 {
		header := quote[:int(quote[0]&15)*4]
		binary.BigEndian.PutUint16(header[10:], 0)
		binary.BigEndian.PutUint16(header[10:], nf.Checksum(nf.Sum(0, header)))
	}
	h.FillChecksums(b)
	return true
}

// quoted finds the headers of the packet that an ICMP error quotes, cut off as it may be: the
// size of its addresses, and where its ports are.
func quoted(b []byte, version uint8) (h nf.Headers, size, ports int, ok bool) {
	h.Version = version
	switch {
	case version == 4 && len(b) >= 28 && b[0]>>4 == 4 && b[0]&15 >= 5 && int(b[0]&15)*4+8 <= len(b):
		h.Protocol = b[9]
		return h, 4, int(b[0]&15) * 4, binary.BigEndian.Uint16(b[6:])&0x1fff == 0
	case version == 6 && len(b) >= 48 && b[0]>>4 == 6:
		h.Protocol = b[6]
		return h, 16, 40, true
	}
	return h, 0, 0, false
}

// closingTimeout is how long a TCP port lives after its connection (RFC 5382, REQ-5).
const closingTimeout = 4 * time.Minute

// Tick forgets mappings.
func (n *nat) Tick(now time.Time, send []nf.Packet) (int, time.Duration) {
	if now.Sub(n.sweep) >= tickEvery {
		n.sweep = now
		n.mappings.each(func(k natKey, m *mapping, used time.Time) {
			limit := n.timeouts[2]
			switch {
			case k.protocol == nf.ProtocolTCP && m.closing:
				limit = min(n.timeouts[0], closingTimeout)
			case k.protocol == nf.ProtocolTCP:
				limit = n.timeouts[0]
			case k.protocol == nf.ProtocolUDP:
				limit = n.timeouts[1]
			}
			if now.Sub(used) >= limit {
				n.forget(k, m)
			}
		})
	}
	return n.clock.Tick(now, send)
}

// Counters shows what was translated and what was not.
func (n *nat) Counters(f func(string, uint64)) {
	mappings := uint64(n.mappings.len())
	show(f, counter{"out", &n.out}, counter{"in", &n.in}, counter{"mappings", &mappings}, counter{"unasked", &n.unasked},
		counter{"untranslatable", &n.unknown}, counter{"fragments", &n.fragments}, counter{"noPort", &n.full})
}

// Command knows "mappings".
func (n *nat) Command(words []string) (string, error) {
	if len(words) != 1 || words[0] != "mappings" {
		return "", noCommand(words, "mappings")
	}
	var lines []string
	n.mappings.each(func(k natKey, m *mapping, used time.Time) {
		own := n.own[k.version/6].String()
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%v", protocolName(k.protocol), place(k.addr().String(), k.port, k.version), place(own, m.port, k.version), n.now.Sub(used).Round(time.Second)))
	})
	slices.Sort(lines)
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "protocol\tinside\toutside\tidle")
	fmt.Fprint(w, strings.Join(append(lines, ""), "\n"))
	w.Flush()
	return out.String(), nil
}
