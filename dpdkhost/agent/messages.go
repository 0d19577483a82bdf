package agent

import (
	"encoding/binary"
	"errors"
	"time"

	"weft/control"
	"weft/dpdkhost/manager"
)

var (
	be       = binary.BigEndian
	errShort = errors.New("a message that is too short")
)

// Types that package control has no name for.
const (
	typeStatsRequest10 control.Type = 16
	typeStatsReply10   control.Type = 17
	typeRoleRequest    control.Type = 24
	typeRoleReply      control.Type = 25
)

func begin(b []byte, v control.Version, t control.Type, xid uint32) []byte {
	return be.AppendUint32(append(b, byte(v), byte(t), 0, 0), xid)
}

func finish(b []byte) []byte {
	be.PutUint16(b[2:], uint16(len(b)))
	return b
}

// capabilities: flow, table and port statistics (1.3: 7.3.1; 1.0: 5.3.1).
const capabilities = 1<<0 | 1<<1 | 1<<2

func appendFeatures(b []byte, m control.Message, dpid uint64, ports []Port) []byte {
	b = begin(b, m.Version(), control.TypeFeaturesReply, m.XID())
	b = be.AppendUint64(b, dpid)
	b = be.AppendUint32(b, 0) // no buffers
	b = append(b, 1, 0, 0, 0) // one table
	b = be.AppendUint32(b, capabilities)
	if m.Version() != control.OpenFlow10 {
		return finish(be.AppendUint32(b, 0))
	}
	b = be.AppendUint32(b, 1<<0) // action OUTPUT
	for i := range ports {
		b = appendPort(b, control.OpenFlow10, &ports[i])
	}
	return finish(b)
}

// appendPort appends ofp_phy_port or ofp_port. Services take no part in flooding.
func appendPort(b []byte, v control.Version, p *Port) []byte {
	const noFlood10, linkDown, copper10G = 1 << 4, 1, 1 << 6
	var name [16]byte
	copy(name[:15], p.Name)
	if v == control.OpenFlow10 {
		b = be.AppendUint16(b, uint16(p.Number))
		b = append(b, p.MAC[:]...)
	} else {
		b = append(be.AppendUint32(b, p.Number), 0, 0, 0, 0)
		b = append(append(b, p.MAC[:]...), 0, 0)
	}
	b = append(b, name[:]...)
	config, state := uint32(0), uint32(0)
	if p.service() {
		if config = 1 << 6; v == control.OpenFlow10 { // 1.3: no PACKET_IN
			config = noFlood10
		}
	}
	if !p.Up {
		state = linkDown
	}
	b = be.AppendUint32(b, config)
	b = be.AppendUint32(b, state)
	b = be.AppendUint32(b, copper10G) // what it is; not what it could be
	b = append(b, make([]byte, 12)...)
	if v != control.OpenFlow10 {
		b = be.AppendUint32(b, p.Speed*1000) // kbit/s
		b = be.AppendUint32(b, p.Speed*1000)
	}
	return b
}

func appendConfig(b []byte, m control.Message, miss uint16) []byte {
	b = begin(b, m.Version(), control.TypeGetConfigReply, m.XID())
	b = be.AppendUint16(b, 0)
	return finish(be.AppendUint16(b, miss))
}

func appendRole(b []byte, xid, role uint32, generation uint64, generated bool) []byte {
	if !generated {
		generation = ^uint64(0)
	}
	b = begin(b, control.OpenFlow13, typeRoleReply, xid)
	b = be.AppendUint32(b, role)
	b = be.AppendUint32(b, 0)
	return finish(be.AppendUint64(b, generation))
}

func appendPortStatus(b []byte, v control.Version, reason control.PortReason, p *Port) []byte {
	b = begin(b, v, control.TypePortStatus, 0)
	b = append(b, byte(reason), 0, 0, 0, 0, 0, 0, 0)
	return finish(appendPort(b, v, p))
}

func appendPacketIn(b []byte, v control.Version, port uint16, packet []byte, cookie uint64, asked bool) []byte {
	packet = packet[:min(len(packet), control.MaxMessage-64)]
	reason := byte(0)
	if asked {
		reason = 1
	}
	b = begin(b, v, control.TypePacketIn, 0)
	b = be.AppendUint32(b, control.NoBuffer)
	b = be.AppendUint16(b, uint16(len(packet)))
	if v == control.OpenFlow10 {
		b = be.AppendUint16(b, port)
		b = append(b, reason, 0)
		return finish(append(b, packet...))
	}
	b = append(b, reason, 0)
	b = be.AppendUint64(b, cookie)
	var m manager.Match
	m.Is(manager.InPort, uint64(port))
	b = append(appendMatch(b, v, &m), 0, 0)
	return finish(append(b, packet...))
}

func appendFlowRemoved(b []byte, v control.Version, f *manager.Flow, now time.Duration, expired bool) []byte {
	const idle, hard, deleted = 0, 1, 2
	reason := byte(deleted)
	if expired {
		if reason = hard; f.Idle > 0 && now-f.Used >= f.Idle {
			reason = idle
		}
	}
	b = begin(b, v, control.TypeFlowRemoved, 0)
	age := now - f.Added
	if v == control.OpenFlow10 {
		b = appendMatch10(b, &f.Match)
		b = be.AppendUint64(b, f.Cookie)
		b = be.AppendUint16(b, f.Priority)
		b = append(b, reason, 0)
		b = appendAge(b, age)
		b = be.AppendUint16(b, seconds(f.Idle))
		b = append(b, 0, 0)
		b = be.AppendUint64(b, f.Packets)
		return finish(be.AppendUint64(b, f.Bytes))
	}
	b = be.AppendUint64(b, f.Cookie)
	b = be.AppendUint16(b, f.Priority)
	b = append(b, reason, 0)
	b = appendAge(b, age)
	b = be.AppendUint16(b, seconds(f.Idle))
	b = be.AppendUint16(b, seconds(f.Hard))
	b = be.AppendUint64(b, f.Packets)
	b = be.AppendUint64(b, f.Bytes)
	return finish(appendMatch(b, v, &f.Match))
}

func appendAge(b []byte, d time.Duration) []byte {
	b = be.AppendUint32(b, uint32(d/time.Second))
	return be.AppendUint32(b, uint32(d%time.Second))
}

func seconds(d time.Duration) uint16 { return uint16(min((d+time.Second-1)/time.Second, 1<<16-1)) }
