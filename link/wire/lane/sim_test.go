package lane

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"weft/link"
	"weft/link/record"
	"weft/topo"
)

const (
	us = int64(time.Microsecond)
	ms = int64(time.Millisecond)
)

// A sim is a lane with a clock that jumps from one event to the next.
type sim struct {
	tb   testing.TB
	pool *Pool
	lane *Lane
	now  int64
	end  []record.Frame // of all frames, in the order in which they ended
	out  [][]byte       // frames that left, without virtio headers
	full bool           // keep out
	runs int
}

func newSim(tb testing.TB, seed uint64, options ...string) *sim {
	tb.Helper()
	s := &sim{tb: tb, pool: NewPool(NewBudget(1 << 30))}
	var err error
	s.lane, err = New(s.pool, seed, func(f record.Frame) { s.end = append(s.end, f) }, 0, config(tb, options...))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// config reads options; a trace is its text.
func config(tb testing.TB, options ...string) Config {
	tb.Helper()
	var set topo.LinkSettings
	if err := set.Set(options...); err != nil {
		tb.Fatal(err)
	}
	return Config{Impairment: set.AB, MTU: set.MTU}
}

func (s *sim) set(options ...string) {
	s.tb.Helper()
	if err := s.lane.Set(s.now, config(s.tb, options...)); err != nil {
		s.tb.Fatal(err)
	}
}

// offer lets a frame with its virtio header arrive at a time, after all that is due before.
func (s *sim) offer(at int64, data []byte) {
	s.run(at)
	s.now = at
	b := s.pool.Scratch()
	if !b.Fill(copy(b.Space(), data)) {
		s.tb.Fatalf("%d bytes are no frame", len(data))
	}
	s.lane.Arrive(at, b)
}

// run delivers what is due until a time.
func (s *sim) run(until int64) {
	for {
		next := s.lane.Next()
		if next > until || next == Never {
			return
		}
		if next < s.now {
			next = s.now // a change made it due
		}
		s.now = next
		moved := false
		for {
			r, ok := s.lane.Depart(s.now)
			if !ok {
				break
			}
			moved = true
			s.runs++
			if s.full {
				s.split(&r)
			}
			s.lane.Done(&r, record.Delivered, s.now)
		}
		if after := s.lane.Next(); !moved && after <= s.now {
			s.tb.Fatalf("at %d there is nothing, but Next says %d", s.now, after)
		}
	}
}

// split keeps the frames of a run as a receiver sees them.
func (s *sim) split(r *Run) {
	head, rest := r.Parts(nil)
	data := append(slices.Clone(head), rest...)
	b := Buffer{}
	b.data = data
	b.Fill(len(data))
	if b.count != r.count {
		s.tb.Fatalf("a run of %d frames looks like %d", r.count, b.count)
	}
	for i := range b.count {
		one := Run{buf: &b, first: i, count: 1}
		head, rest := one.Parts(nil)
		f := Buffer{data: append(slices.Clone(head), rest...)}
		f.complete()
		s.out = append(s.out, f.data[VirtioLen:])
	}
}

// finish delivers all and checks that no frame and no memory is missing.
func (s *sim) finish() link.Counters {
	s.tb.Helper()
	s.run(Never - 1)
	c := s.lane.Counters(s.now)
	checkSum(s.tb, c, s.lane.number)
	if c.Queued != 0 || c.InFlight != 0 || c.QueuedBytes != 0 {
		s.tb.Errorf("at the end %d frames wait and %d are on their way", c.Queued, c.InFlight)
	}
	if used := s.pool.budget.Used(); used != 0 || s.lane.held != 0 || s.pool.live != 0 {
		s.tb.Errorf("at the end %d bytes are in use, %d held by the lane", used, s.lane.held)
	}
	return c
}

// checkSum checks that what came is what left or is there.
func checkSum(tb testing.TB, c link.Counters, came uint64) {
	tb.Helper()
	if sum := c.Delivered + c.Queued + c.InFlight + c.Lost + c.Filtered + c.Overflow + c.AQMDrops + c.NoMemory + c.Down + c.Oversized; sum != came+c.Duplicated {
		tb.Errorf("%d frames came, %d were duplicated, and %d are accounted for: %+v", came, c.Duplicated, sum, c)
	}
}

// fates returns the frames that ended in the order of their numbers.
func (s *sim) fates() []record.Frame {
	list := slices.Clone(s.end)
	slices.SortStableFunc(list, func(a, b record.Frame) int { return int(int64(a.Number - b.Number)) })
	return list
}

// delays returns the delays of frames that were delivered, in the order of their numbers.
func (s *sim) delays() []time.Duration {
	var list []time.Duration
	for _, f := range s.fates() {
		if f.Fate == record.Delivered {
			list = append(list, f.Delay())
		}
	}
	return list
}

// A shape says what a frame looks like.
type shape struct {
	six, tcp bool
	vlan     bool
	payload  int
	segment  int // payload of each frame of a super-frame; 0 for a frame
	ecn      uint8
	flow     uint16
	flags    byte // of TCP besides ACK
	options  bool // of TCP
}

// struct virtio_net_hdr (linux/virtio_net.h), and flags of TCP.
const (
	virtioFlags     = 0
	virtioType      = 1
	virtioSegment   = 4
	virtioSumStart  = 6
	virtioSumOffset = 8
	virtioNeedsSum  = 1 // a flag
	virtioTCP4      = 1 // types
	virtioTCP6      = 4
	virtioUDP       = 5
	virtioWithCWR   = 0x80 // with a type
	tcpFIN, tcpPSH  = 1, 8
	tcpCWR          = 0x80
)

func (f shape) frame() []byte {
	b := make([]byte, f.payload)
	for i := range b {
		b[i] = byte(i * 7)
	}
	data := f.serialize(b, 0, f.flags, false)
	v := make([]byte, VirtioLen)
	if f.segment > 0 {
		start := 14 + 20
		if f.six {
			start = 14 + 40
		}
		if f.vlan {
			start += 4
		}
		offset := 16
		v[virtioType] = virtioTCP4
		switch {
		case !f.tcp:
			v[virtioType], offset = virtioUDP, 6
		case f.six:
			v[virtioType] = virtioTCP6
		}
		if f.flags&tcpCWR != 0 {
			v[virtioType] |= virtioWithCWR
		}
		v[virtioFlags] = virtioNeedsSum
		binary.NativeEndian.PutUint16(v[virtioSegment:], uint16(f.segment))
		binary.NativeEndian.PutUint16(v[virtioSumStart:], uint16(start))
		binary.NativeEndian.PutUint16(v[virtioSumOffset:], uint16(offset))
		partial(data, start, offset, f.six, f.tcp)
	}
	return append(v, data...)
}

// partial puts the sum of the pseudo-header where the checksum is to be.
func partial(data []byte, start, offset int, six, tcp bool) {
	addrs := data[start-8 : start]
	if six {
		addrs = data[start-32 : start]
	}
	protocol := 17
	if tcp {
		protocol = 6
	}
	s := uint64(protocol) + uint64(len(data)-start)
	for i := 0; i < len(addrs); i += 2 {
		s += uint64(binary.BigEndian.Uint16(addrs[i:]))
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	binary.BigEndian.PutUint16(data[start+offset:], uint16(s))
}

// serialize makes a frame with gopacket, which knows nothing of ours: the n-th of a
// super-frame.
func (f shape) serialize(payload []byte, n int, flags byte, marked bool) []byte {
	ecn := f.ecn
	if marked {
		ecn = 3
	}
	eth := &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	var list []gopacket.SerializableLayer
	etherType := layers.EthernetTypeIPv4
	protocol := layers.IPProtocolUDP
	if f.tcp {
		protocol = layers.IPProtocolTCP
	}
	var ip gopacket.NetworkLayer
	if f.six {
		etherType = layers.EthernetTypeIPv6
		six := &layers.IPv6{Version: 6, TrafficClass: 0x20 | ecn, NextHeader: protocol, HopLimit: 64, SrcIP: make([]byte, 16), DstIP: make([]byte, 16)}
		six.SrcIP[0], six.SrcIP[15], six.DstIP[0], six.DstIP[15] = 0xfd, 1, 0xfd, 2
		ip = six
	} else {
		ip = &layers.IPv4{Version: 4, IHL: 5, TOS: 0x20 | ecn, Id: 0xfffe + uint16(n), Flags: layers.IPv4DontFragment, TTL: 64, Protocol: protocol, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
	}
	list = append(list, eth)
	eth.EthernetType = etherType
	if f.vlan {
		eth.EthernetType = layers.EthernetTypeDot1Q
		list = append(list, &layers.Dot1Q{VLANIdentifier: 7, Type: etherType})
	}
	list = append(list, ip.(gopacket.SerializableLayer))
	if f.tcp {
		tcp := &layers.TCP{SrcPort: 1000, DstPort: layers.TCPPort(2000 + f.flow), Seq: 0xffffff00 + uint32(n*f.segment), Ack: 77, Window: 1000, ACK: true,
			FIN: flags&tcpFIN != 0, PSH: flags&tcpPSH != 0, CWR: flags&tcpCWR != 0}
		if f.options {
			tcp.Options = []layers.TCPOption{{OptionType: 1}, {OptionType: 1}, {OptionType: 8, OptionLength: 10, OptionData: []byte{1, 2, 3, 4, 5, 6, 7, 8}}}
		}
		tcp.SetNetworkLayerForChecksum(ip)
		list = append(list, tcp)
	} else {
		udp := &layers.UDP{SrcPort: 1000, DstPort: layers.UDPPort(2000 + f.flow)}
		udp.SetNetworkLayerForChecksum(ip)
		list = append(list, udp)
	}
	list = append(list, gopacket.Payload(payload))
	buf := gopacket.NewSerializeBuffer()
	// A super-frame may be longer than its length field says.
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// wanted returns the frames that a frame or super-frame stands for.
func (f shape) wanted(marked bool) [][]byte {
	b := make([]byte, f.payload)
	for i := range b {
		b[i] = byte(i * 7)
	}
	if f.segment == 0 {
		return [][]byte{f.serialize(b, 0, f.flags, marked)}
	}
	var list [][]byte
	for n := 0; n*f.segment < len(b); n++ {
		flags := f.flags
		end := (n + 1) * f.segment
		if end < len(b) {
			flags &^= tcpFIN | tcpPSH
		}
		if n > 0 {
			flags &^= tcpCWR
		}
		list = append(list, f.serialize(b[n*f.segment:min(end, len(b))], n, flags, marked))
	}
	return list
}

// small returns a UDP frame of so many bytes.
func small(bytes int) []byte { return shape{payload: bytes - 42}.frame() }

// shapes are all kinds of super-frames.
func shapes() []shape {
	var list []shape
	for i := range 16 {
		f := shape{six: i&1 != 0, tcp: i&2 != 0, vlan: i&4 != 0, payload: rand.IntN(6)*1420 + 60 + rand.IntN(1360), segment: 1420}
		if f.tcp {
			f.flags = []byte{0, tcpFIN | tcpPSH, tcpCWR, tcpPSH | tcpCWR}[rand.IntN(4)]
			f.options = i&8 != 0
		}
		list = append(list, f)
	}
	return append(list,
		shape{tcp: true, payload: 64000, segment: 1448, flags: tcpPSH},
		shape{payload: 100, segment: 20},
		shape{six: true, payload: 101, segment: 100},
		shape{payload: 100}, shape{six: true, payload: 1}, shape{tcp: true, payload: 1400, vlan: true})
}
