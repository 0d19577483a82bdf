package capture

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/bpf"

	"weft/control"
)

// controlQueue bounds the messages that wait to be written, bytes.
const controlQueue = 32 << 20

// The shape of the TCP conversations.
const (
	mss         = 1460 // of both address families: each is a full frame or less
	windowScale = 8
	window      = 0xFFFF // times 1<<windowScale
	ackEvery    = 32 << 10
	timeToLive  = 64
)

// portOpenFlow is IANA's port. Wireshark takes a conversation for OpenFlow if one of its
// ports is this or one of the two from before 2013, and never else.
const portOpenFlow = 6653

func isOpenFlowPort(p uint16) bool { return p == portOpenFlow || p == 6633 || p == 6634 }

// firstPort is the port of the first switch whose connection has no address, which
// is so with the built-in controller. It is above portOpenFlow, because Wireshark looks
// at the lower port first, and below the ports that Linux gives to others.
const firstPort = 10001

// A Control is a source: the messages of control channels as whole TCP conversations,
// one for each connection, with an interface for each channel.
type Control struct {
	capture  *Capture
	describe func(sw, controller string) (description string, wanted bool)

	mu       sync.Mutex
	channels map[channel]*iface
	conns    map[connection]*conversation
	used     map[[2]netip.AddrPort]bool
	nextPort uint16
	last     int64 // time of the last message, ns
	recent   *conversation
	queue    messages

	// What Run reads: a queue that was taken over, and the packets made of one of its
	// entries.
	taken   messages
	entry   int // the next one
	text    int // where its data is
	packets []packet
	at      int    // the next one
	scratch []byte // the packets' data and comments
	id      uint16
	vm      *bpf.VM
}

// messages are entries and their data, one after the other.
type messages struct {
	entries []entry
	data    []byte
}

type channel struct{ sw, controller string }

type connection struct {
	channel
	number int
}

// A conversation is a TCP connection. Index 0 is the switch's side, 1 the controller's.
type conversation struct {
	key   connection
	iface *iface
	names [2]string
	ends  [2]netip.AddrPort
	note  string
	seq   [2]uint32 // of the next byte; guarded by Control.mu
	// What Run knows of it: the version of the last message, and how it is spelled.
	version control.Version
	spelled string
	acked   [2]uint32 // what the other side has acknowledged, as far as it was made packets of
}

// An entry is a message, or the beginning or the end of a conversation.
type entry struct {
	conv     *conversation
	event    control.TapEvent
	from     int
	time     int64
	seq, ack uint32
	length   int // of its data
}

// AddControl adds control channels as a source: those that describe wants, which also says
// what each is for people. channels are known already; others come with their first message.
// The Control's Tap is to be called with what passes them.
func (c *Capture) AddControl(channels [][2]string, describe func(sw, controller string) (description string, wanted bool)) *Control {
	t := &Control{
		capture: c, describe: describe, vm: c.filters.control,
		channels: map[channel]*iface{}, conns: map[connection]*conversation{},
		used: map[[2]netip.AddrPort]bool{}, nextPort: firstPort,
	}
	for _, names := range channels {
		if i := t.channel(channel{names[0], names[1]}); i != nil {
			c.list(i)
		}
	}
	c.sources = append(c.sources, t)
	return t
}

// channel returns the interface of a channel, nil if it is not wanted.
func (t *Control) channel(ch channel) *iface {
	i, known := t.channels[ch]
	if known {
		return i
	}
	if description, wanted := t.describe(ch.sw, ch.controller); wanted {
		i = t.capture.newInterface(ch.sw+"–"+ch.controller, description)
	}
	t.channels[ch] = i
	return i
}

// Tap takes what a relay tells. It does not block.
func (t *Control) Tap(m control.TapMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := connection{channel{m.Switch, m.Controller}, m.Conn}
	c := t.recent
	if c == nil || c.key != key {
		if c = t.conversation(key, m); c == nil {
			return
		}
		t.recent = c
	}
	from := 1
	if m.FromSwitch {
		from = 0
	}
	switch m.Event {
	case control.TapData:
		c.iface.Messages++
		seq := c.seq[from]
		c.seq[from] += uint32(len(m.Data)) // lost ones leave a gap
		if len(t.queue.data)+len(m.Data) > controlQueue {
			c.iface.Dropped++
			return
		}
		t.queue.data = append(t.queue.data, m.Data...)
		t.put(entry{conv: c, from: from, seq: seq, ack: c.seq[1-from], length: len(m.Data)}, m.Time)
	case control.TapClosed:
		t.put(entry{conv: c, event: m.Event, from: from, seq: c.seq[from], ack: c.seq[1-from]}, m.Time)
		delete(t.conns, key)
		delete(t.used, c.ends)
		t.recent = nil
	}
}

// conversation returns a connection's, nil if it is not wanted.
func (t *Control) conversation(key connection, m control.TapMessage) *conversation {
	i := t.channel(key.channel)
	c := t.conns[key]
	if i == nil || c != nil || m.Event == control.TapClosed {
		return c
	}
	c = t.converse(i, m)
	c.key = key
	t.conns[key] = c
	return c
}

// put queues an entry. Both sides of a connection call Tap: the order is that of the queue.
func (t *Control) put(e entry, at time.Time) {
	t.last = max(t.last, at.UnixNano())
	e.time = t.last
	t.queue.entries = append(t.queue.entries, e)
}

// converse begins a conversation.
func (t *Control) converse(i *iface, m control.TapMessage) *conversation {
	c := &conversation{iface: i, names: [2]string{m.Switch, m.Controller}}
	for k, a := range []net.Addr{m.Local, m.Remote} {
		if tcp, ok := a.(*net.TCPAddr); ok {
			ap := tcp.AddrPort()
			c.ends[k] = netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
		}
	}
	if !c.ends[0].IsValid() || !c.ends[1].IsValid() || c.ends[0].Addr().Is4() != c.ends[1].Addr().Is4() {
		local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		c.ends = [2]netip.AddrPort{netip.AddrPortFrom(local, t.freePort()), netip.AddrPortFrom(local, portOpenFlow)}
		c.note = "; weft made up the addresses: this controller has none"
	} else if real := c.ends[1]; !isOpenFlowPort(real.Port()) {
		c.ends[1] = netip.AddrPortFrom(real.Addr(), portOpenFlow)
		c.note = fmt.Sprintf("; the controller is at %v; it has port %d here so that Wireshark knows it for OpenFlow", real, portOpenFlow)
	}
	for t.used[c.ends] {
		c.ends[0] = netip.AddrPortFrom(c.ends[0].Addr(), t.freePort())
	}
	t.used[c.ends] = true
	if m.Event != control.TapOpened {
		c.note += "; the connection is older than the capture"
	}
	t.put(entry{conv: c, event: control.TapOpened}, m.Time)
	// Initial sequence numbers that are easy to tell apart; any would do.
	c.seq = [2]uint32{1, 1}
	return c
}

func (t *Control) freePort() uint16 {
	p := t.nextPort
	if t.nextPort++; t.nextPort == 0 {
		t.nextPort = firstPort
	}
	return p
}

func (t *Control) peek() *packet {
	for t.at == len(t.packets) {
		t.packets, t.at, t.scratch = t.packets[:0], 0, t.scratch[:0]
		if t.entry == len(t.taken.entries) && !t.take() {
			return nil
		}
		e := &t.taken.entries[t.entry]
		t.entry++
		data := t.taken.data[t.text : t.text+e.length]
		t.text += e.length
		t.render(e, data)
		t.filter()
	}
	return &t.packets[t.at]
}

// take takes the queue over, and leaves the one that has been read.
func (t *Control) take() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue.entries) == 0 {
		return false
	}
	t.taken, t.queue = t.queue, messages{t.taken.entries[:0], t.taken.data[:0]}
	t.entry, t.text = 0, 0
	return true
}

func (t *Control) next() { t.at++ }

func (t *Control) pressed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue.data) > controlQueue/2
}

func (t *Control) stop() error   { return nil }
func (t *Control) finish() error { return nil }

// filter drops the packets that do not pass.
func (t *Control) filter() {
	kept := t.packets[:0]
	for i := range t.packets {
		p := &t.packets[i]
		if t.vm != nil {
			n, err := t.vm.Run(p.data)
			if err != nil || n == 0 {
				continue
			}
		}
		p.iface.Received++
		kept = append(kept, *p)
	}
	t.packets = kept
}

// render makes packets of an entry.
func (t *Control) render(e *entry, data []byte) {
	c := e.conv
	switch e.event {
	case control.TapOpened:
		t.segment(e, 0, tcpSYN, 0, 0, nil)
		t.comment(c.names[0], " – ", c.names[1], ": connection begins", c.note)
		t.segment(e, 1, tcpSYN|tcpACK, 0, 1, nil)
		t.segment(e, 0, tcpACK, 1, 1, nil)
		c.acked = [2]uint32{1, 1}
	case control.TapClosed:
		from, to := e.from, 1-e.from
		t.segment(e, from, tcpFIN|tcpACK, e.seq, e.ack, nil)
		t.comment("closed by ", c.names[from])
		t.segment(e, to, tcpFIN|tcpACK, e.ack, e.seq+1, nil)
		t.segment(e, from, tcpACK, e.seq+1, e.ack+1, nil)
	default:
		m := control.Message(data)
		seq := e.seq
		for len(data) > mss {
			t.segment(e, e.from, tcpACK, seq, e.ack, data[:mss])
			data = data[mss:]
			seq += mss
		}
		t.segment(e, e.from, tcpACK|tcpPSH, seq, e.ack, data)
		if c.version != m.Version() {
			c.version, c.spelled = m.Version(), m.Version().String()
		}
		t.comment(c.names[e.from], " → ", c.names[1-e.from], " OpenFlow ", c.spelled, " ",
			m.Type().Name(m.Version()), " xid=", strconv.FormatUint(uint64(m.XID()), 10))
		seq += uint32(len(data))
		c.acked[1-e.from] = e.ack
		if seq-c.acked[e.from] >= ackEvery {
			t.segment(e, 1-e.from, tcpACK, e.ack, seq, nil)
			c.acked[e.from] = seq
		}
	}
}

// comment gives the last packet a comment.
func (t *Control) comment(parts ...string) {
	start := len(t.scratch)
	for _, p := range parts {
		t.scratch = append(t.scratch, p...)
	}
	t.packets[len(t.packets)-1].comment = t.scratch[start:]
}

// segment appends a TCP segment to packets.
func (t *Control) segment(e *entry, from int, flags byte, seq, ack uint32, payload []byte) {
	c := e.conv
	src, dst := c.ends[from], c.ends[1-from]
	srcAddr, dstAddr := src.Addr().As16(), dst.Addr().As16()
	skip := 12 // of an IPv4 address in IPv6 form
	if src.Addr().Is6() {
		skip = 0
	}
	f := frame{ip: ethernetLen, protocol: protocolTCP, six: src.Addr().Is6(), transport: ethernetLen + ip4Len}
	var options []byte
	if flags&tcpSYN != 0 {
		options = []byte{2, 4, mss >> 8, mss & 0xFF, 1, 3, 3, windowScale}
	}
	start := len(t.scratch)
	b := append(t.scratch, zeros[:]...) // MAC addresses as on a loopback interface
	b = append(b, zeros[:ethernetLen-len(zeros)]...)
	t.id++
	if f.six {
		f.transport = ethernetLen + ip6Len
		binary.BigEndian.PutUint16(b[start+12:], etherIP6)
		b = append(b, 0x60, 0, 0, 0, 0, 0, protocolTCP, timeToLive)
	} else {
		binary.BigEndian.PutUint16(b[start+12:], etherIP4)
		b = append(b, 0x45, 0, 0, 0, byte(t.id>>8), byte(t.id), 0x40, 0, timeToLive, protocolTCP, 0, 0)
	}
	b = append(b, srcAddr[skip:]...)
	b = append(b, dstAddr[skip:]...)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, byte(tcpLen+len(options))<<2, flags)
	b = binary.BigEndian.AppendUint16(b, window)
	b = append(b, 0, 0, 0, 0)
	b = append(b, options...)
	t.scratch = append(b, payload...)
	b = t.scratch[start:]
	f.finish(b)
	direction := uint32(flagOutbound) // as the switch sees it
	if from == 1 {
		direction = flagInbound
	}
	t.packets = append(t.packets, packet{
		iface: c.iface, time: e.time, data: b, length: len(b), flags: direction,
	})
}
