package manager

import (
	"fmt"

	"weft/dpdkhost/shm"
)

// Trust is what an NF may do to packets.
type Trust string

// The kinds of trust.
const (
	// Trusted NFs read and write the memory that all share.
	Trusted Trust = ""
	// ReadOnly ones get that memory so that they cannot write it, and cannot cut packets
	// either. It guards against mistakes; a process of the same user that means harm can
	// open the memory anew (proc(5), /proc/PID/fd).
	ReadOnly Trust = "read-only"
	// Copying ones get copies of their own packets in memory of their own, and nothing else.
	Copying Trust = "copy"
)

// A guard keeps an NF that is not trusted from others' packets.
type guard struct {
	sent []shm.Desc // by frame: the descriptor as it went to the NF
	// A copying NF has memory of its own.
	private *shm.Memory
	free    [2][]uint32 // its small and large frames
	origin  []uint32    // by its frame: the frame whose packet is there; noFrame if none
}

const noFrame = ^uint32(0)

// Frames of a copying NF's own memory.
const (
	privateFrames = 4096
	privateLarge  = 64
)

func (m *Manager) newGuard(t Trust) (*guard, error) {
	switch t {
	case Trusted:
		return nil, nil
	case ReadOnly:
		return &guard{sent: make([]shm.Desc, len(m.meta))}, nil
	case Copying:
		private, err := shm.NewMemory(privateFrames, privateLarge)
		if err != nil {
			return nil, err
		}
		g := &guard{private: private, origin: make([]uint32, privateFrames+privateLarge)}
		for i := range g.origin {
			g.release(uint32(i))
		}
		return g, nil
	}
	return nil, fmt.Errorf("trust %q: write %s or %s, or nothing", t, ReadOnly, Copying)
}

// release frees a frame of a copying NF.
func (g *guard) release(frame uint32) {
	kind := 0
	if frame >= privateFrames {
		kind = 1
	}
	g.origin[frame] = noFrame
	g.free[kind] = append(g.free[kind], frame)
}

// out makes of a descriptor what the NF gets. It reports whether there is room.
func (g *guard) out(m *Manager, d *shm.Desc) bool {
	if g.private == nil {
		g.sent[d.Frame] = *d
		return true
	}
	kind := 0
	if int(d.Length) > shm.FrameSize-shm.Headroom {
		kind = 1
	}
	n := len(g.free[kind])
	if n == 0 {
		return false
	}
	own := g.free[kind][n-1]
	g.free[kind] = g.free[kind][:n-1]
	g.origin[own] = d.Frame
	copied := *d
	copied.Frame, copied.Offset = own, shm.Headroom
	copy(g.private.Packet(&copied), m.mem.Packet(d))
	if d.Flags&shm.HasVnet != 0 {
		copy(g.private.Frame(own)[:vnetLen], m.mem.Frame(d.Frame))
	}
	*d = copied
	return true
}

// in makes of an NF's descriptor that of the packet which it got. It reports whether it is one.
func (g *guard) in(m *Manager, n *Instance, d *shm.Desc) bool {
	if g.private == nil {
		if int(d.Frame) >= len(g.sent) {
			return false
		}
		sent := &g.sent[d.Frame]
		d.Offset, d.Length, d.Flags = sent.Offset, sent.Length, sent.Flags
		return true
	}
	if !g.private.Valid(d) || g.origin[d.Frame] == noFrame {
		return false
	}
	from := *d
	d.Frame, d.Offset = g.origin[from.Frame], shm.Headroom
	defer g.release(from.Frame)
	if room := len(m.mem.Frame(d.Frame)); shm.Headroom+int(d.Length) > room {
		larger, ok := m.pool.Get(int(d.Length))
		if !ok || shm.Headroom+int(d.Length) > len(m.mem.Frame(larger)) {
			if ok {
				m.pool.Free(larger)
			}
			d.Length, d.Action = 0, shm.Drop
			return true
		}
		m.meta[larger] = m.meta[d.Frame]
		m.pool.Free(d.Frame)
		d.Frame = larger
	}
	copy(m.mem.Packet(d), g.private.Packet(&from))
	if d.Flags&shm.HasVnet != 0 {
		copy(m.mem.Frame(d.Frame)[:vnetLen], g.private.Frame(from.Frame))
	}
	return true
}

// vnetLen is the room of a struct virtio_net_hdr.
const vnetLen = 12

func (g *guard) close() error {
	if g == nil || g.private == nil {
		return nil
	}
	return g.private.Close()
}
