package conversation

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weft/control"
	"weft/internal/headers"
	"weft/internal/packetfile"
)

// Ports are those of OpenFlow controllers: IANA's, and the two from before it had one.
func Ports() []uint16 { return []uint16{6653, 6633, 6634} }

// A Report says what a file held.
type Report struct {
	Packets     int `json:"packets"`
	Messages    int `json:"messages"`
	Connections int `json:"connections"` // with OpenFlow
	// Gaps counts the places where packets are missing, Skipped the bytes there and
	// elsewhere that could not be read as messages.
	Gaps    int `json:"gaps"`
	Skipped int `json:"skipped"`
	// Cut is set if the file ends within a packet, as after kill -9.
	Cut bool `json:"cut"`
	// Unknown are the link types of packets that could not be looked into.
	Unknown []int `json:"unknownLinkTypes,omitempty"`
}

// String says for people what was not as it should be; empty if all was.
func (r Report) String() string {
	var notes []string
	note := func(is bool, format string, args ...any) {
		if is {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	note(len(r.Unknown) > 0, "packets of link types %v could not be looked into", r.Unknown)
	note(r.Gaps > 0, "packets are missing in %d places", r.Gaps)
	note(r.Skipped > 0, "%d bytes were no whole messages", r.Skipped)
	note(r.Cut, "the file ends within a packet")
	return strings.Join(notes, "; ")
}

// ReadFile reads a capture file, pcap or pcapng, and calls emit for each OpenFlow message
// in it, in the order of the packets that complete them. In files of weft's switch and
// controller have their names, in others their addresses.
//
// Connections are OpenFlow's if one end has one of ports, then from anywhere in their
// middle, or if they begin with a HELLO. An error of emit ends it.
func ReadFile(src io.Reader, ports []uint16, emit func(control.TapMessage) error) (Report, error) {
	packets, err := packetfile.NewReader(src)
	if err != nil {
		return Report{}, err
	}
	f := &file{ports: ports, emit: emit, channels: map[channelKey]*channel{}, conns: map[[2]string]int{}}
	for {
		p, err := packets.Next()
		if err == nil {
			f.report.Packets++
			err = f.packet(p)
		}
		if err == nil {
			continue
		}
		f.report.Cut = errors.Is(err, io.ErrUnexpectedEOF)
		if err == io.EOF || f.report.Cut {
			err = f.finish()
		}
		return f.report, err
	}
}

// A file is a capture file while it is read.
type file struct {
	ports    []uint16
	emit     func(control.TapMessage) error
	report   Report
	channels map[channelKey]*channel
	conns    map[[2]string]int // connections so far, by names
}

// A channelKey names a TCP connection as its lower address sees it.
type channelKey struct {
	iface    string
	low, top netip.AddrPort
}

// A channel is a TCP connection.
type channel struct {
	key    channelKey
	number int // among those of the same two names, from 1; 0 before the first message
	// switchLow: the switch is the lower address. told: a message has shown that.
	switchLow, told bool
	known           bool // it is OpenFlow
	never           bool // it is not
	halves          [2]half
}

// packet takes a packet's TCP segment to its channel.
func (f *file) packet(p packetfile.Packet) error {
	if !p.LinkType.Known() {
		if n := int(p.LinkType); !slices.Contains(f.report.Unknown, n) {
			f.report.Unknown = append(f.report.Unknown, n)
		}
		return nil
	}
	b := p.Network()
	if b == nil {
		return nil
	}
	layers := headers.Network(b)
	if len(layers) != 2 {
		return nil
	}
	ip := layers[0].(headers.IP)
	tcp, ok := layers[1].(headers.TCP)
	if !ok {
		return nil
	}
	src, dst := netip.AddrPortFrom(ip.Src, tcp.Src), netip.AddrPortFrom(ip.Dst, tcp.Dst)
	key, side := channelKey{p.Interface, src, dst}, 0
	if src.Compare(dst) > 0 {
		key, side = channelKey{p.Interface, dst, src}, 1
	}
	c := f.channels[key]
	if c == nil || tcp.SYN && !tcp.ACK && c.halves[side].opened && c.halves[side].next != tcp.Seq+1 {
		if c != nil { // the ports are used anew
			if err := f.flush(c); err != nil {
				return err
			}
		}
		c = f.open(key, side, tcp)
		f.channels[key] = c
	}
	if c.never {
		return nil
	}
	h := &c.halves[side]
	deliver := func(data []byte, gap bool) error { return f.bytes(c, side, p.Time, data, gap) }
	return h.segment(tcp.Seq, tcp.SYN, p.Time, tcp.Payload, deliver)
}

// open decides which end of a new connection is the switch: the one without a known port,
// or else the one that opens it, or else that with the higher port.
func (f *file) open(key channelKey, side int, tcp headers.TCP) *channel {
	low, top := slices.Contains(f.ports, key.low.Port()), slices.Contains(f.ports, key.top.Port())
	c := &channel{key: key, known: low || top}
	switch {
	case low != top:
		c.switchLow = top
	case tcp.SYN && !tcp.ACK:
		c.switchLow = side == 0
	case tcp.SYN:
		c.switchLow = side == 1
	default:
		c.switchLow = key.low.Port() > key.top.Port()
	}
	return c
}

// names returns the names of switch and controller. In weft's own files the interface has
// both.
func (c *channel) names() [2]string {
	if sw, controller, ok := strings.Cut(c.key.iface, "–"); ok {
		return [2]string{sw, controller}
	}
	if c.switchLow {
		return [2]string{c.key.low.String(), c.key.top.String()}
	}
	return [2]string{c.key.top.String(), c.key.low.String()}
}

// bytes frames what has arrived of one direction.
func (f *file) bytes(c *channel, side int, at time.Time, data []byte, gap bool) error {
	h := &c.halves[side]
	if gap {
		if c.number > 0 && h.started {
			f.report.Gaps++
			f.report.Skipped += len(h.rest)
		}
		h.rest, h.framed = nil, false
	}
	h.started = true
	h.rest = append(h.rest, data...)
	for len(h.rest) > 0 {
		n, ok := f.boundary(c, h)
		if !ok {
			if c.number > 0 {
				f.report.Skipped += len(h.rest)
			}
			h.rest, h.framed = nil, false
			return nil
		}
		if n == 0 || n > len(h.rest) {
			return nil // until more has arrived
		}
		m := control.Message(slices.Clone(h.rest[:n]))
		h.rest, h.framed = h.rest[n:], true
		if err := f.message(c, side, at, m); err != nil {
			return err
		}
	}
	h.rest = nil
	return nil
}

// boundary returns the length of the message that h's bytes start with, 0 if more of it
// must arrive to know, and whether they can be the start of one.
func (f *file) boundary(c *channel, h *half) (int, bool) {
	if !h.framed && !c.known {
		// Only a HELLO makes an unknown connection one of OpenFlow.
		if h.rest[0] == 0 || h.rest[0] > 0x20 || len(h.rest) > 1 && h.rest[1] != byte(control.TypeHello) {
			c.never = true
			return 0, false
		}
	}
	n, ok := plausible(h.rest)
	if !ok || h.framed {
		return n, ok
	}
	// After a gap, or in the middle of a connection, a segment that starts with a message
	// is nearly always one that holds only messages.
	for b := h.rest; len(b) > 0; {
		n, ok := plausible(b)
		if !ok {
			return 0, false
		}
		if n == 0 || n >= len(b) {
			break
		}
		b = b[n:]
	}
	return n, true
}

// plausible reports whether b can be the start of a message, and how long that is if b
// says it.
func plausible(b []byte) (int, bool) {
	if b[0] == 0 || b[0] > byte(control.OpenFlow15) && (len(b) < 2 || b[1] != byte(control.TypeHello)) {
		return 0, false
	}
	if len(b) >= 2 && b[1] > 35 {
		return 0, false
	}
	if len(b) < 4 {
		return 0, true
	}
	n := int(b[2])<<8 | int(b[3])
	return n, n >= control.HeaderLen
}

// message notes and passes on a message.
func (f *file) message(c *channel, side int, at time.Time, m control.Message) error {
	if bySwitch, says := senderOf(m); says && !c.told {
		c.switchLow, c.told = bySwitch == (side == 0), true
	}
	names := c.names()
	if c.number == 0 {
		f.report.Connections++
		f.conns[names]++
		c.known, c.number = true, f.conns[names]
	}
	f.report.Messages++
	local, remote := c.key.low, c.key.top
	if !c.switchLow {
		local, remote = remote, local
	}
	return f.emit(control.TapMessage{
		Time: at, Switch: names[0], Controller: names[1], FromSwitch: c.switchLow == (side == 0), Data: m,
		Conn: c.number, Local: net.TCPAddrFromAddrPort(local), Remote: net.TCPAddrFromAddrPort(remote),
	})
}

// senderOf says who sends messages of m's type, if only one of the two does.
func senderOf(m control.Message) (bySwitch, says bool) {
	switch m.Type() {
	case control.TypeFeaturesReply, control.TypeGetConfigReply, control.TypePacketIn, control.TypeFlowRemoved, control.TypePortStatus:
		return true, true
	case control.TypeFeaturesRequest, control.TypeGetConfigRequest, control.TypeSetConfig, control.TypePacketOut, control.TypeFlowMod:
		return false, true
	}
	return false, false
}

// flush gives up waiting for what is missing in a channel.
func (f *file) flush(c *channel) error {
	for side := range c.halves {
		h := &c.halves[side]
		err := h.flush(func(data []byte, gap bool) error { return f.bytes(c, side, h.last, data, gap) })
		if err != nil {
			return err
		}
		if c.number > 0 {
			f.report.Skipped += len(h.rest)
		}
		h.rest = nil
	}
	return nil
}

// finish flushes all channels, in an order that does not depend on the map's.
func (f *file) finish() error {
	var all []*channel
	for _, c := range f.channels {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *channel) int {
		return cmp.Or(a.key.low.Compare(b.key.low), a.key.top.Compare(b.key.top), strings.Compare(a.key.iface, b.key.iface))
	})
	for _, c := range all {
		if err := f.flush(c); err != nil {
			return err
		}
	}
	return nil
}
