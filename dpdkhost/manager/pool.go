package manager

import "weft/dpdkhost/shm"

// A Pool has the free frames. It belongs to the manager's thread.
type Pool struct {
	m     *Manager
	small []uint32
	large []uint32
}

func newPool(m *Manager) *Pool {
	p := &Pool{m: m}
	small, large := m.mem.Frames()
	for i := small + large - 1; i >= 0; i-- {
		p.Free(uint32(i))
	}
	return p
}

// Memory returns the memory of the frames.
func (p *Pool) Memory() *shm.Memory { return p.m.mem }

// Get takes a free frame for a packet of so many bytes and headroom.
func (p *Pool) Get(length int) (frame uint32, ok bool) {
	list := &p.small
	if length > shm.FrameSize-shm.Headroom {
		list = &p.large
	}
	n := len(*list)
	if n == 0 {
		return 0, false
	}
	frame = (*list)[n-1]
	*list = (*list)[:n-1]
	p.m.meta[frame].owner = ownerPort
	return frame, true
}

// Free gives a frame back.
func (p *Pool) Free(frame uint32) {
	p.m.meta[frame] = meta{}
	if small, _ := p.m.mem.Frames(); int(frame) < small {
		p.small = append(p.small, frame)
	} else {
		p.large = append(p.large, frame)
	}
}

// Left returns how many frames are free.
func (p *Pool) Left() (small, large int) { return len(p.small), len(p.large) }
