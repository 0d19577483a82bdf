package builtin

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const arpText = `
Answers ARP requests (RFC 826) and neighbour solicitations (RFC 4861) for addresses that it is
told, out of the port that they came in by. All other packets go on to the next service.`

// A responder answers for addresses.
type responder struct {
	macs     map[netip.Addr]mac
	answered uint64
}

func defineARP(flags *pflag.FlagSet) func() (nf.Function, error) {
	list := flags.StringArray("address", nil, "answer for an address, `IP=MAC`; again for more")
	return func() (nf.Function, error) {
		r := &responder{macs: map[netip.Addr]mac{}}
		for _, pair := range *list {
			ip, hw, _ := strings.Cut(pair, "=")
			a, err := netip.ParseAddr(ip)
			if err != nil {
				return nil, fmt.Errorf("--address %s: %q is no IP address; write IP=MAC", pair, ip)
			}
			if r.macs[a], err = parseMAC(hw); err != nil {
				return nil, fmt.Errorf("--address %s: %w", pair, err)
			}
		}
		if len(r.macs) == 0 {
			return nil, fmt.Errorf("tell it an --address at least")
		}
		return r, nil
	}
}

func (r *responder) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		h := p.Headers()
		if q, ok := parseQuestion(&h, p.Data()); ok {
			if m, ours := r.macs[q.target]; ours && answer(p, &h, &q, m) {
				r.answered++
				p.Out(p.Port())
				continue
			}
		}
		p.Next()
	}
}

// Counters shows how many questions were answered.
func (r *responder) Counters(f func(string, uint64)) { f("answered", r.answered) }

// A question is an ARP request or a neighbour solicitation.
type question struct {
	target, sender netip.Addr
	from           mac
}

// icmpv6 types (RFC 4861) and options.
const (
	solicitation  = 135
	advertisement = 136
	arpLen        = 28
)

// parseQuestion reads a question for an address.
func parseQuestion(h *nf.Headers, b []byte) (q question, ok bool) {
	switch {
	case isARP(h, b, 1):
		a := b[h.Network:]
		return question{netip.AddrFrom4([4]byte(a[24:28])), netip.AddrFrom4([4]byte(a[14:18])), mac(a[8:14])}, true
	case isNeighbour(h, b, solicitation):
		src, _ := h.Addresses(b)
		return question{netip.AddrFrom16([16]byte(b[h.Transport+8 : h.Transport+24])), src, mac(b[6:12])}, true
	}
	return q, false
}

// isARP reports whether a frame is ARP for IPv4 with an operation: 1 asks, 2 answers.
func isARP(h *nf.Headers, b []byte, operation byte) bool {
	return h.Type == nf.TypeARP && len(b) >= h.Network+arpLen &&
		string(b[h.Network:h.Network+8]) == string([]byte{0, 1, 8, 0, 6, 4, 0, operation})
}

// isNeighbour reports whether a packet is a neighbour solicitation or advertisement from this
// link, which is what its hop limit proves.
func isNeighbour(h *nf.Headers, b []byte, kind byte) bool {
	return h.Protocol == nf.ProtocolICMPv6 && h.Version == 6 && h.Transport != 0 && h.End >= h.Transport+24 &&
		b[h.Transport] == kind && b[h.Transport+1] == 0 && b[h.Network+7] == 255
}

// answer makes a question into its answer. It reports whether there was room for that.
func answer(p *nf.Packet, h *nf.Headers, q *question, m mac) bool {
	if h.Type == nf.TypeARP {
		b := p.Data()
		a := b[h.Network:]
		var asker [10]byte
		copy(asker[:], a[8:18])
		a[7] = 2
		copy(a[14:18], a[24:28])
		copy(a[8:14], m[:])
		copy(a[18:28], asker[:])
		copy(b, asker[:6])
		copy(b[6:12], m[:])
		p.Whole()
		return true
	}
	// Advertisement with the target's address as its one option: 32 bytes (RFC 4861, section 4.4).
	const size = 32
	if !p.Resize(0, h.Network+40+size-p.Len()) {
		return false
	}
	b := p.Data()
	copy(b, b[6:12])
	copy(b[6:12], m[:])
	ip := b[h.Network:]
	icmp := ip[40:]
	target, dst := q.target.As16(), q.sender.As16()
	flags := byte(0x60)           // solicited, override
	if q.sender.IsUnspecified() { // duplicate address detection: to all nodes
		flags, dst = 0x20, netip.IPv6LinkLocalAllNodes().As16()
		copy(b, []byte{0x33, 0x33, 0, 0, 0, 1})
	}
	binary.BigEndian.PutUint16(ip[4:], size)
	ip[6], ip[7] = nf.ProtocolICMPv6, 255
	copy(ip[8:24], target[:])
	copy(ip[24:40], dst[:])
	clear(icmp[:size])
	icmp[0], icmp[4] = advertisement, flags
	copy(icmp[8:], target[:])
	icmp[24], icmp[25] = 2, 1 // target link-layer address, 8 bytes
	copy(icmp[26:], m[:])
	p.Whole()
	made := p.Headers()
	made.FillChecksums(b)
	return true
}
