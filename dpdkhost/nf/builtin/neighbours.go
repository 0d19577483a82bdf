package builtin

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"

	"weft/dpdkhost/nf"
)

// neighbours finds the MAC addresses of next hops, by ARP and neighbour discovery, and keeps
// the packets that wait for one.
//
//	            ┌──────── no answer to three questions: packets dropped ───────┐
//	unknown ─ packet waits, question ─► asked ─ answer ─► known ─ a minute ─► asked again, still used
type neighbours struct {
	list    map[netip.Addr]*neighbour
	fresh   []nf.Packet // empty frames for questions
	ready   []nf.Packet // packets whose next hop is known now
	look    time.Time   // when to look through the list again
	dropped uint64      // packets without a neighbour, or too many waited
}

type neighbour struct {
	mac     mac
	known   bool
	fixed   bool // told by the user
	via     side // where it is asked for
	heard   time.Time
	asked   time.Time
	tries   int
	used    bool // since the last look
	waiting []nf.Packet
}

// A side is one of the NF's own interfaces: a port, its MAC address and the address that it asks
// from.
type side struct {
	port    int
	mac     mac
	address netip.Addr
}

const (
	maxNeighbours   = 4096
	maxWaiting      = 4 // packets for one neighbour
	questionTries   = 3
	questionEvery   = time.Second
	neighbourFresh  = time.Minute
	neighbourFrames = 32 // for questions
)

func newNeighbours() *neighbours {
	return &neighbours{list: map[netip.Addr]*neighbour{}, ready: make([]nf.Packet, 0, nf.Batch)}
}

// fix tells of a neighbour that needs no question.
func (n *neighbours) fix(a netip.Addr, m mac) {
	n.list[a] = &neighbour{mac: m, known: true, fixed: true}
}

// send gives a packet the Ethernet header for a neighbour and its way out, or lets it wait.
func (n *neighbours) send(p *nf.Packet, to netip.Addr, via *side) {
	e := n.list[to]
	if e == nil {
		if len(n.list) >= maxNeighbours {
			n.dropped++
			p.Drop()
			return
		}
		e = &neighbour{via: *via}
		n.list[to], n.look = e, time.Time{}
	}
	e.used, e.via = true, *via
	switch {
	case e.known:
		deliver(p, e.mac, via)
	case len(e.waiting) < maxWaiting:
		p.Keep()
		e.waiting = append(e.waiting, *p)
	default:
		n.dropped++
		p.Drop()
	}
}

func deliver(p *nf.Packet, to mac, via *side) {
	b := p.Data()
	copy(b, to[:])
	copy(b[6:], via.mac[:])
	p.Out(via.port)
}

// give hands over an empty frame.
func (n *neighbours) give(p *nf.Packet) {
	if len(n.fresh) >= neighbourFrames {
		p.Drop()
		return
	}
	n.fresh = append(n.fresh, *p)
}

// hear learns from ARP, neighbour solicitations and advertisements. It learns of nobody new:
// what counts is who is talked to.
func (n *neighbours) hear(h *nf.Headers, b []byte, port int, now time.Time) {
	switch {
	case isARP(h, b, 1), isARP(h, b, 2):
		a := b[h.Network:]
		n.learn(netip.AddrFrom4([4]byte(a[14:18])), mac(a[8:14]), port, now)
	case isNeighbour(h, b, advertisement):
		n.learn(netip.AddrFrom16([16]byte(b[h.Transport+8:h.Transport+24])), mac(b[6:12]), port, now)
	case isNeighbour(h, b, solicitation):
		src, _ := h.Addresses(b)
		n.learn(src, mac(b[6:12]), port, now)
	}
}

func (n *neighbours) learn(a netip.Addr, m mac, port int, now time.Time) {
	e := n.list[a]
	if e == nil || e.fixed || e.via.port != port || m[0]&1 != 0 {
		return
	}
	e.mac, e.known, e.heard, e.tries = m, true, now, 0
	for i := range e.waiting {
		deliver(&e.waiting[i], m, &e.via)
	}
	n.ready = append(n.ready, e.waiting...)
	e.waiting = e.waiting[:0]
}

// tick asks for those who are not known, or were not heard of for long, and gives back packets to
// send.
func (n *neighbours) tick(now time.Time, send []nf.Packet) (count int) {
	count = copy(send, n.ready)
	n.ready = n.ready[:copy(n.ready, n.ready[count:])]
	if now.Before(n.look) {
		return count
	}
	n.look = now.Add(questionEvery / 4)
	for a, e := range n.list {
		if count == len(send) {
			return count
		}
		if e.fixed || e.known && (!e.used || now.Sub(e.heard) < neighbourFresh) || now.Sub(e.asked) < questionEvery {
			continue
		}
		if e.tries >= questionTries {
			// Gone. Its packets are not sent in vain for ever.
			for ; len(e.waiting) > 0 && count < len(send); count++ {
				last := len(e.waiting) - 1
				send[count] = e.waiting[last]
				send[count].Drop()
				e.waiting = e.waiting[:last]
				n.dropped++
			}
			if len(e.waiting) == 0 {
				delete(n.list, a)
			}
			continue
		}
		p, ok := n.frame(e)
		if !ok {
			continue
		}
		e.asked, e.used = now, false
		e.tries++
		ask(&p, a, &e.via)
		send[count] = p
		count++
	}
	return count
}

// frame returns a frame for a question: an empty one, or, if there is none, a packet that waits,
// which is lost.
func (n *neighbours) frame(e *neighbour) (p nf.Packet, ok bool) {
	if last := len(n.fresh) - 1; last >= 0 {
		p, n.fresh = n.fresh[last], n.fresh[:last]
		return p, true
	}
	if len(e.waiting) > 0 {
		p, e.waiting = e.waiting[0], e.waiting[:copy(e.waiting, e.waiting[1:])]
		n.dropped++
		return p, true
	}
	return p, false
}

// ask makes a frame a question for an address, and sends it.
func ask(p *nf.Packet, a netip.Addr, from *side) {
	const size = 14 + 40 + 32 // a solicitation; ARP is shorter, and padded
	p.Whole()
	p.Resize(0, size-p.Len())
	b := p.Data()
	clear(b)
	copy(b[6:], from.mac[:])
	if a.Is4() {
		p.Resize(0, 60-size)
		copy(b, "\xff\xff\xff\xff\xff\xff")
		binary.BigEndian.PutUint16(b[12:], nf.TypeARP)
		arp := b[14:]
		copy(arp, []byte{0, 1, 8, 0, 6, 4, 0, 1})
		copy(arp[8:], from.mac[:])
		src, target := from.address.As4(), a.As4()
		copy(arp[14:], src[:])
		copy(arp[24:], target[:])
		p.Out(from.port)
		return
	}
	src, target := from.address.As16(), a.As16()
	group := [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]} // RFC 4291, section 2.7.1
	copy(b, []byte{0x33, 0x33, 0xff, target[13], target[14], target[15]})
	binary.BigEndian.PutUint16(b[12:], nf.TypeIPv6)
	ip, icmp := b[14:], b[54:]
	ip[0], ip[5], ip[6], ip[7] = 0x60, 32, nf.ProtocolICMPv6, 255
	copy(ip[8:], src[:])
	copy(ip[24:], group[:])
	icmp[0] = solicitation
	copy(icmp[8:], target[:])
	icmp[24], icmp[25] = 1, 1 // source link-layer address, 8 bytes
	copy(icmp[26:], from.mac[:])
	h := p.Headers()
	h.FillChecksums(b)
	p.Out(from.port)
}

// known counts those whose address is known.
func (n *neighbours) known() (count uint64) {
	for _, e := range n.list {
		if e.known {
			count++
		}
	}
	return count
}

// print lists them for people.
func (n *neighbours) print(w io.Writer, now time.Time) {
	for _, a := range slices.SortedFunc(maps.Keys(n.list), netip.Addr.Compare) {
		switch e := n.list[a]; {
		case e.fixed:
			fmt.Fprintf(w, "%s\t%s\tfixed\n", a, e.mac)
		case e.known:
			fmt.Fprintf(w, "%s\t%s\tport %d, heard %v ago\n", a, e.mac, e.via.port, now.Sub(e.heard).Round(time.Second))
		default:
			fmt.Fprintf(w, "%s\t?\tport %d, %d packets wait\n", a, e.via.port, len(e.waiting))
		}
	}
}
