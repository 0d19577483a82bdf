package agent

import (
	"cmp"
	"fmt"
	"time"

	"weft/control"
	"weft/dpdkhost/manager"
)

// Kinds of statistics.
const (
	statsDesc = iota
	statsFlow
	statsAggregate
	statsTable
	statsPort
	statsQueue
	statsTableFeatures = 12
	statsPortDesc      = 13
)

// maxPart bounds the body of one part of an answer.
const maxPart = 60000

// statistics answers STATS_REQUEST and MULTIPART_REQUEST.
func (c *conn) statistics(m control.Message) ([][]byte, error) {
	head := 12
	if c.version != control.OpenFlow10 {
		head = 16
	}
	if len(m) < head {
		return nil, errShort
	}
	kind, body := be.Uint16(m[8:]), m[head:]
	var items [][]byte
	var err error
	switch {
	case kind == statsDesc:
		items = one(c.description())
	case kind == statsFlow, kind == statsAggregate:
		items, err = c.flowStatistics(kind, body)
	case kind == statsTable:
		items, err = c.tableStatistics()
	case kind == statsPort:
		items, err = c.portStatistics(body)
	case kind == statsQueue: // there are none
	case kind == statsPortDesc && c.version != control.OpenFlow10:
		for _, p := range c.known() {
			items = append(items, appendPort(nil, c.version, &p))
		}
	case kind == statsTableFeatures && c.version != control.OpenFlow10 && len(body) == 0:
		items = one(tableFeatures())
	default:
		return nil, &refusal{errBadRequest, 2, fmt.Sprintf("statistics of kind %d", kind)}
	}
	if err != nil {
		return nil, err
	}
	return c.parts(m.XID(), kind, items), nil
}

// parts makes messages of the items of an answer, of which all but the last say that there is
// more.
func (c *conn) parts(xid uint32, kind uint16, items [][]byte) (all [][]byte) {
	for {
		t := control.TypeMultipartReply
		if c.version == control.OpenFlow10 {
			t = typeStatsReply10
		}
		b := begin(nil, c.version, t, xid)
		b = be.AppendUint16(b, kind)
		b = append(b, 0, 0)
		if c.version != control.OpenFlow10 {
			b = append(b, 0, 0, 0, 0)
		}
		for len(items) > 0 && (len(b)+len(items[0]) <= maxPart) {
			b = append(b, items[0]...)
			items = items[1:]
		}
		if len(items) > 0 {
			b[11] = 1 // REPLY_MORE
		}
		all = append(all, finish(b))
		if len(items) == 0 {
			return all
		}
	}
}

func (c *conn) description() (b []byte) {
	for _, part := range []struct {
		text string
		size int
	}{{"weft", 256}, {"NF manager", 256}, {"weft", 256}, {"", 32}, {c.Name, 256}} {
		field := make([]byte, part.size)
		copy(field[:part.size-1], part.text)
		b = append(b, field...)
	}
	return b
}

// flowStatistics answers for the flows that a request is about: one item each, or their sum.
func (c *conn) flowStatistics(kind uint16, b []byte) ([][]byte, error) {
	var asked flowMod
	var err error
	table, out := byte(0xff), uint32(portAny)
	if c.version == control.OpenFlow10 {
		if asked.Match, b, err = parseMatch(c.version, b); err == nil && len(b) < 4 {
			err = errShort
		}
		if err != nil {
			return nil, err
		}
		if table, out = b[0], uint32(be.Uint16(b[2:])); out >= 0xff00 {
			out |= 0xffff0000
		}
	} else {
		if len(b) < 32 {
			return nil, errShort
		}
		table, out = b[0], be.Uint32(b[4:])
		if be.Uint32(b[8:]) != portAny {
			out = 0 // of groups, which are none
		}
		asked.Cookie, asked.cookieMask = be.Uint64(b[16:]), be.Uint64(b[24:])
		if asked.Match, _, err = parseMatch(c.version, b[32:]); err != nil {
			return nil, err
		}
	}
	asked.command, asked.out = flowDelete, out // the flows that a FLOW_MOD would delete
	flows, now, err := c.Manager.Flows()
	if err != nil {
		return nil, err
	}
	var items [][]byte
	var packets, bytes uint64
	count := uint32(0)
	for i := range flows {
		f := &flows[i]
		if table != 0 && table != 0xff || !asked.concerns(f) {
			continue
		}
		packets, bytes, count = packets+f.Packets, bytes+f.Bytes, count+1
		if kind == statsFlow {
			items = append(items, c.appendFlow(nil, f, now))
		}
	}
	if kind == statsAggregate {
		sum := be.AppendUint64(nil, packets)
		sum = be.AppendUint64(sum, bytes)
		sum = be.AppendUint32(sum, count)
		items = one(append(sum, 0, 0, 0, 0))
	}
	return items, nil
}

func (c *conn) appendFlow(b []byte, f *manager.Flow, now time.Duration) []byte {
	b = append(b, 0, 0, 0, 0) // length, table
	if c.version == control.OpenFlow10 {
		b = appendMatch10(b, &f.Match)
	}
	b = appendAge(b, now-f.Added)
	b = be.AppendUint16(b, f.Priority)
	b = be.AppendUint16(b, seconds(f.Idle))
	b = be.AppendUint16(b, seconds(f.Hard))
	if c.version == control.OpenFlow10 {
		b = append(b, 0, 0, 0, 0, 0, 0)
	} else {
		flags := byte(0)
		if f.Notify {
			flags = flagNotify
		}
		b = append(b, 0, flags, 0, 0, 0, 0)
	}
	b = be.AppendUint64(b, f.Cookie)
	b = be.AppendUint64(b, f.Packets)
	b = be.AppendUint64(b, f.Bytes)
	ports := outputs(&f.Verdict)
	if c.version != control.OpenFlow10 {
		b = appendMatch(b, c.version, &f.Match)
		if len(ports) > 0 {
			b = be.AppendUint16(b, 4) // APPLY_ACTIONS
			b = be.AppendUint16(b, uint16(8+16*len(ports)))
			b = append(b, 0, 0, 0, 0)
		}
	}
	for _, p := range ports {
		b = append(b, 0, 0, 0, 8) // OUTPUT
		if c.version == control.OpenFlow10 {
			b = be.AppendUint16(b, uint16(p))
			b = append(b, 0xff, 0xff)
			continue
		}
		b[len(b)-1] = 16
		b = be.AppendUint32(b, p)
		b = append(b, 0xff, 0xff, 0, 0, 0, 0, 0, 0)
	}
	be.PutUint16(b, uint16(len(b)))
	return b
}

// maxEntries is how many flows the table is said to hold.
const maxEntries = 1 << 20

// tableFeatures describes the table (OpenFlow 1.3.5, section 7.3.5.5): what it matches on, and that
// all it does is output.
func tableFeatures() []byte {
	b := make([]byte, 56) // of table 0: no name, which tools would show for its number, and no metadata
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, maxEntries)
	property := func(kind uint16, body []byte) {
		b = be.AppendUint16(b, kind)
		b = be.AppendUint16(b, uint16(4+len(body)))
		b = append(b, body...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
	}
	var fields []byte
	for _, f := range oxms() {
		fields = be.AppendUint32(fields, uint32(classBasic)<<16|uint32(f.id)<<9|uint32(f.size))
	}
	output := []byte{0, 0, 0, 4}
	property(0, []byte{0, 3, 0, 4, 0, 4, 0, 4, 0, 5, 0, 4}) // instructions: write, apply, clear actions
	property(2, nil)                                        // tables that follow
	property(4, output)                                     // actions that can be written
	property(6, output)                                     // and applied
	property(8, fields)                                     // matches
	property(10, fields)                                    // wildcards
	property(12, nil)                                       // fields that can be set by a written action
	property(14, nil)                                       // and by an applied one
	be.PutUint16(b, uint16(len(b)))
	return b
}

func (c *conn) tableStatistics() ([][]byte, error) {
	flows, _, err := c.Manager.Flows()
	if err != nil {
		return nil, err
	}
	s, err := c.Manager.Snapshot()
	if err != nil {
		return nil, err
	}
	var matched, looked uint64
	for i := range flows {
		matched += flows[i].Packets
	}
	for _, p := range s.Ports {
		looked += p.Received
	}
	b := []byte{0, 0, 0, 0}
	if c.version == control.OpenFlow10 {
		b = append(b, make([]byte, 32)...) // no name, which tools would show for its number
		b = be.AppendUint32(b, 1<<22-1)    // every field may be a wildcard
		b = be.AppendUint32(b, maxEntries)
	}
	b = be.AppendUint32(b, uint32(len(flows)))
	b = be.AppendUint64(b, max(looked, matched))
	return one(be.AppendUint64(b, matched)), nil
}

// portStatistics answers for one port or for all. What a service received is what was sent to
// it.
func (c *conn) portStatistics(b []byte) ([][]byte, error) {
	if len(b) < 8 {
		return nil, errShort
	}
	asked := be.Uint32(b)
	if c.version == control.OpenFlow10 {
		if asked = uint32(be.Uint16(b)); asked == 0xffff {
			asked = portAny
		}
	}
	s, err := c.Manager.Snapshot()
	if err != nil {
		return nil, err
	}
	type counters struct{ rx, tx, rxBytes, txBytes, rxDrop, txDrop uint64 }
	of := map[uint32]counters{}
	for _, p := range s.Ports {
		of[uint32(p.Number)] = counters{p.Received, p.Sent, p.ReceivedBytes, p.SentBytes, p.BackPressure + p.LostReceived, p.SendDrop + p.LostSent}
	}
	for _, n := range s.Instances {
		k := manager.ServicePort + uint32(n.Service)
		sum := of[k]
		of[k] = counters{sum.rx + n.Transmitted, sum.tx + n.Received, 0, 0, sum.rxDrop, sum.txDrop + n.ReceiveDrop}
	}
	var items [][]byte
	for _, p := range c.known() {
		if asked != portAny && asked != p.Number {
			continue
		}
		n := of[p.Number]
		var item []byte
		if c.version == control.OpenFlow10 {
			item = append(be.AppendUint16(nil, uint16(p.Number)), 0, 0, 0, 0, 0, 0)
		} else {
			item = append(be.AppendUint32(nil, p.Number), 0, 0, 0, 0)
		}
		for _, v := range []uint64{n.rx, n.tx, n.rxBytes, n.txBytes, n.rxDrop, n.txDrop, 0, 0, 0, 0, 0, 0} {
			item = be.AppendUint64(item, v)
		}
		if c.version != control.OpenFlow10 {
			item = append(item, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // the age is not known
		}
		items = append(items, item)
	}
	if asked != portAny && items == nil {
		// 1.0 has BAD_STAT for this, 1.3 BAD_PORT.
		return nil, &refusal{errBadRequest, cmp.Or(map[control.Version]uint16{control.OpenFlow10: 2}[c.version], 11), fmt.Sprintf("port %d", asked)}
	}
	return items, nil
}
