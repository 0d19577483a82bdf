package builtin

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const bridgeText = `
A packet that comes in by one port of a pair leaves by the other. Packets of ports without a
pair go on to the next service.`

// A bridge has the other port of each.
type bridge struct{ to [maxPort]uint16 }

// maxPort bounds the numbers of ports in tables.
const maxPort = 256

func defineBridge(flags *pflag.FlagSet) func() (nf.Function, error) {
	pairs := flags.StringArray("pair", []string{"1:2"}, "two ports, `A:B`; again for more")
	return func() (nf.Function, error) {
		b := &bridge{}
		for _, pair := range *pairs {
			from, to, _ := strings.Cut(pair, ":")
			x, err := parsePort(from)
			if err != nil {
				return nil, fmt.Errorf("--pair %s: %w", pair, err)
			}
			y, err := parsePort(to)
			if err != nil {
				return nil, fmt.Errorf("--pair %s: %w", pair, err)
			}
			if x == y || b.to[x] != 0 || b.to[y] != 0 {
				return nil, fmt.Errorf("--pair %s: a port is in two pairs, or twice in one", pair)
			}
			b.to[x], b.to[y] = uint16(y), uint16(x)
		}
		return b, nil
	}
}

func parsePort(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n >= maxPort {
		return 0, fmt.Errorf("port %q: ports have numbers from 1 to %d", text, maxPort-1)
	}
	return n, nil
}

// across sends a packet out of the other port, or on if there is none.
func (b *bridge) across(p *nf.Packet) {
	if in := p.Port(); in < maxPort && b.to[in] != 0 {
		p.Out(int(b.to[in]))
		return
	}
	p.Next()
}

func (b *bridge) Handle(batch []nf.Packet) {
	for i := range batch {
		b.across(&batch[i])
	}
}

const forwardText = `
Sends every packet to one place: a service, a port, or the next service of its chain.`

type forward struct {
	service, port int
	swap          bool
	dst           net.HardwareAddr
}

func defineForward(flags *pflag.FlagSet) func() (nf.Function, error) {
	var f forward
	flags.IntVar(&f.service, "service", 0, "send to this `service`")
	flags.IntVar(&f.port, "port", 0, "send out of this `port`")
	flags.BoolVar(&f.swap, "swap", false, "exchange the MAC addresses, as testpmd's macswap does")
	dst := flags.String("dst", "", "new destination `MAC` address")
	return func() (nf.Function, error) {
		if f.service != 0 && f.port != 0 {
			return nil, fmt.Errorf("--service and --port: one of them")
		}
		if f.service < 0 || f.service > 1<<16-1 || f.port < 0 || f.port > 1<<16-1 {
			return nil, fmt.Errorf("--service %d, --port %d: they have numbers from 1", f.service, f.port)
		}
		if *dst != "" {
			mac, err := parseMAC(*dst)
			if err != nil {
				return nil, fmt.Errorf("--dst: %w", err)
			}
			f.dst = mac[:]
		}
		return &f, nil
	}
}

// A mac is an Ethernet address.
type mac [6]byte

func (m mac) String() string { return net.HardwareAddr(m[:]).String() }

func parseMAC(text string) (m mac, err error) {
	hw, err := net.ParseMAC(text)
	if err != nil || len(hw) != 6 {
		return m, fmt.Errorf("%q is no Ethernet address, such as 02:00:00:00:00:01", text)
	}
	return mac(hw), nil
}

func (f *forward) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		if b := p.Data(); (f.swap || f.dst != nil) && len(b) >= 12 {
			if f.swap {
				src := [6]byte(b[6:12])
				copy(b[6:12], b[:6])
				copy(b, src[:])
			}
			copy(b, f.dst)
		}
		switch {
		case f.service != 0:
			p.To(f.service)
		case f.port != 0:
			p.Out(f.port)
		default:
			p.Next()
		}
	}
}
