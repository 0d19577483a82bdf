package netem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A qdisc is a queueing discipline with its settings, in the kernel's own terms.
type qdisc interface {
	kind() string
	options() *nl.RtAttr
}

func u32s(values ...uint32) (b []byte) {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

func u64s(values ...uint64) (b []byte) {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

// A netem is sch_netem. Probabilities are of 2^32.
type netem struct {
	limit         uint32 // frames
	delay, jitter time.Duration
	table         []int16 // of the jitter
	loss          uint32
	chain         *lossChain // instead of loss
	duplicate     uint32
	corrupt       uint32
	reorder, gap  uint32
	// rate, bytes a second, is that at which frames follow each other at most: then none is sent
	// before the one that came before it, whatever their delays, but by reorder.
	rate uint64
	slot slot
}

// A lossChain is netem's gemodel: to bad, to good, 1-h and 1-k in tc-netem(8)'s letters.
type lossChain struct{ p, r, h, k1 uint32 }

type slot struct {
	min, max       time.Duration
	packets, bytes int32
}

// Of linux/pkt_sched.h, as far as package nl lacks them.
const (
	netemLatency64 = 10
	netemJitter64  = 11
	netemSlot      = 12
	lossGE         = 2
)

// noTime is a rate at which a frame takes no time, bytes a second.
const noTime = 1_000_000_000_000_000

func (netem) kind() string { return "netem" }

// options says everything: what a change leaves out, netem keeps.
func (n netem) options() *nl.RtAttr {
	o := nl.NewRtAttr(nl.TCA_OPTIONS, u32s(0, n.limit, n.loss, n.gap, n.duplicate, 0))
	o.AddRtAttr(netemLatency64, u64s(uint64(n.delay)))
	o.AddRtAttr(netemJitter64, u64s(uint64(n.jitter)))
	if n.table != nil {
		var b []byte
		for _, v := range n.table {
			b = binary.NativeEndian.AppendUint16(b, uint16(v))
		}
		o.AddRtAttr(nl.TCA_NETEM_DELAY_DIST, b)
	}
	if c := n.chain; c != nil {
		o.AddRtAttr(nl.TCA_NETEM_LOSS|unix.NLA_F_NESTED, nil).AddRtAttr(lossGE, u32s(c.p, c.r, c.h, c.k1))
	}
	o.AddRtAttr(nl.TCA_NETEM_CORRUPT, u32s(n.corrupt, 0))
	o.AddRtAttr(nl.TCA_NETEM_REORDER, u32s(n.reorder, 0))
	o.AddRtAttr(netemSlot, append(u64s(uint64(n.slot.min), uint64(n.slot.max)), append(u32s(uint32(n.slot.packets), uint32(n.slot.bytes)), u64s(0, 0)...)...))
	o.AddRtAttr(nl.TCA_NETEM_RATE64, u64s(n.rate))
	o.AddRtAttr(nl.TCA_NETEM_RATE, u32s(uint32(min(n.rate, math.MaxUint32)), 0, 0, 0))
	return o
}

// A tbf is sch_tbf.
type tbf struct {
	rate  uint64 // bytes a second
	burst uint32 // bytes
	limit uint32 // of a fifo that is its child: bytes, or frames for pfifo
}

// Of linux/pkt_sched.h.
const tbfBurst = 6

func (tbf) kind() string { return "tbf" }

func (t tbf) options() *nl.RtAttr {
	o := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	p := nl.TcTbfQopt{Limit: t.limit, Rate: nl.TcRateSpec{Linklayer: nl.LINKLAYER_ETHERNET, Rate: uint32(min(t.rate, math.MaxUint32))}}
	o.AddRtAttr(nl.TCA_TBF_PARMS, p.Serialize())
	o.AddRtAttr(nl.TCA_TBF_RATE64, u64s(t.rate))
	o.AddRtAttr(tbfBurst, u32s(t.burst))
	return o
}

// A fifo is bfifo, with a limit in bytes, or pfifo, in frames.
type fifo struct {
	frames bool
	limit  uint32
}

func (f fifo) kind() string {
	if f.frames {
		return "pfifo"
	}
	return "bfifo"
}

func (f fifo) options() *nl.RtAttr { return nl.NewRtAttr(nl.TCA_OPTIONS, u32s(f.limit)) }

// A red is sch_red.
type red struct {
	limit, min, max uint32 // bytes
	probability     uint32 // of 2^32, at max
	ecn             bool
	rate            uint64 // bytes a second, for the time that it is idle
	frame           uint32 // bytes of a typical one
}

// redWeight is that of the mean queue, 2^-9, near the 0.002 of Floyd and Jacobson.
const redWeight = 9

func (red) kind() string { return "red" }

func (r red) options() *nl.RtAttr {
	o := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	scale, decay := r.idle()
	var flags byte
	if r.ecn {
		flags = 1
	}
	// Plog is of kernels that do not know TCA_RED_MAX_P.
	o.AddRtAttr(1, append(u32s(r.limit, r.min, r.max), redWeight, 32, scale, flags))
	o.AddRtAttr(2, decay)
	o.AddRtAttr(3, u32s(r.probability))
	return o
}

// idle returns the table by which the mean falls while the queue is empty, as tc's: shifts
// to the right, by microseconds >> scale.
func (r red) idle() (scale byte, decay []byte) {
	frameTime := float64(r.frame) / float64(r.rate) * 1e6
	perMicrosecond := -math.Log2(1-1.0/(1<<redWeight)) / frameTime
	for 31/perMicrosecond/float64(uint64(1)<<scale) >= 512 && scale < 31 {
		scale++
	}
	decay = make([]byte, 256)
	for i := range decay {
		decay[i] = byte(min(31, float64(uint64(i)<<scale)*perMicrosecond))
	}
	decay[255] = 31
	return scale, decay
}

// A codel is sch_codel, or sch_fq_codel.
type codel struct {
	fair             bool
	limit            uint32 // frames
	target, interval time.Duration
	ecn              bool
	frame            uint32 // bytes of a full one
}

func (c codel) kind() string {
	if c.fair {
		return "fq_codel"
	}
	return "codel"
}

func (c codel) options() *nl.RtAttr {
	o := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	// Both number these alike.
	o.AddRtAttr(nl.TCA_FQ_CODEL_TARGET, u32s(uint32(c.target.Microseconds())))
	o.AddRtAttr(nl.TCA_FQ_CODEL_LIMIT, u32s(c.limit))
	o.AddRtAttr(nl.TCA_FQ_CODEL_INTERVAL, u32s(uint32(c.interval.Microseconds())))
	ecn := uint32(0)
	if c.ecn {
		ecn = 1
	}
	o.AddRtAttr(nl.TCA_FQ_CODEL_ECN, u32s(ecn))
	if c.fair {
		o.AddRtAttr(nl.TCA_FQ_CODEL_QUANTUM, u32s(c.frame))
	}
	return o
}

// A place is where a qdisc is.
type place struct {
	index          int
	parent, handle uint32
}

// The places of a device: its root, and the child of a TBF there.
func root(index int) place { return place{index, atRoot, 1 << 16} }

func child(index int) place { return place{index, 1<<16 | 1, 2 << 16} }

func (p place) message() *nl.TcMsg {
	return &nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(p.index), Handle: p.handle, Parent: p.parent}
}

// add puts a qdisc where none is yet.
func (r *rtnl) add(p place, q qdisc) error { return r.setQdisc(create, p, q) }

// change changes the settings of a qdisc; frames in it stay.
func (r *rtnl) change(p place, q qdisc) error { return r.setQdisc(0, p, q) }

func (r *rtnl) setQdisc(flags int, p place, q qdisc) error {
	err := r.do(unix.RTM_NEWQDISC, flags, p.message(), nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(q.kind())), q.options())
	if errors.Is(err, unix.ENOENT) {
		return unsupported("this kernel has no queueing discipline %s (module sch_%s)", q.kind(), module(q.kind()))
	}
	if err != nil {
		return fmt.Errorf("queueing discipline %s of device %d: %w", q.kind(), p.index, err)
	}
	return nil
}

// stats are what a qdisc or an action has counted. A frame of several segments counts as these
// in packets, as one in the others.
type stats struct {
	packets, bytes      uint64 // that left
	queued, queuedBytes uint64
	drops               uint64
	marked              uint64 // ECN
	early               uint64 // those of drops that were not for want of room
}

// stats asks a qdisc for its statistics.
func (r *rtnl) stats(p place) (stats, error) {
	msgs, err := r.request(unix.RTM_GETQDISC, unix.NLM_F_ECHO, p.message()).Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if err != nil {
		return stats{}, fmt.Errorf("statistics of device %d: %w", p.index, err)
	}
	if len(msgs) == 0 {
		return stats{}, fmt.Errorf("statistics of device %d: no answer", p.index)
	}
	attrs := msgs[0][nl.SizeofTcMsg:]
	s := parseStats(find(attrs, nl.TCA_STATS2))
	kind := find(attrs, nl.TCA_KIND)
	app := numbers(find(attrs, nl.TCA_STATS2, nl.TCA_STATS_APP))
	switch unix.ByteSliceToString(kind) {
	case "red": // struct tc_red_xstats
		s.early, s.marked = app(0), app(3)
	case "codel": // struct tc_codel_xstats
		s.early, s.marked = s.drops-min(s.drops, app(5)), app(6)
	case "fq_codel": // struct tc_fq_codel_xstats: its type, then tc_fq_codel_qd_stats
		s.early, s.marked = s.drops-min(s.drops, app(2)), app(3)
	}
	return s, nil
}

// numbers reads fields of 32 bits; those that an older kernel does not have are 0.
func numbers(b []byte) func(i int) uint64 {
	return func(i int) uint64 {
		if len(b) < 4*i+4 {
			return 0
		}
		return uint64(binary.NativeEndian.Uint32(b[4*i:]))
	}
}

// parseStats reads TCA_STATS2 or TCA_ACT_STATS.
func parseStats(b []byte) (s stats) {
	if basic := find(b, nl.TCA_STATS_BASIC); len(basic) >= 12 {
		s.bytes = binary.NativeEndian.Uint64(basic)
		s.packets = uint64(binary.NativeEndian.Uint32(basic[8:]))
	}
	// Since Linux 5.5 there are more bits of it.
	if p := find(b, nl.TCA_STATS_PKT64); len(p) >= 8 {
		s.packets = binary.NativeEndian.Uint64(p)
	}
	queue := numbers(find(b, nl.TCA_STATS_QUEUE))
	s.queued, s.queuedBytes, s.drops = queue(0), queue(1), queue(2)
	return s
}
