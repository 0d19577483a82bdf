package lane

import (
	"sync/atomic"

	"weft/internal/vnet"
)

// ethernetLen is the length of an Ethernet header, bytes.
const ethernetLen = 14

// A Buffer holds what a device gave at once: a frame, or a super-frame (TSO, USO) that
// stands for several frames. It begins with struct virtio_net_hdr (linux/virtio_net.h),
// in the machine's byte order.
type Buffer struct {
	data  []byte
	class int
	refs  int

	count int // frames
	// Of a super-frame: what each of its frames repeats, the virtio header included, and
	// the payload of each frame but the last; bytes.
	head, payload int
	super         vnet.Super
}

// VirtioLen is the length of struct virtio_net_hdr, bytes.
const VirtioLen = vnet.Len

// Buffers come in a few sizes. The largest takes any frame.
const classes = 4

func classSize(class int) int { return [classes]int{256, 2 << 10, 16 << 10, 68 << 10}[class] }

// Space returns where a frame of any size can be written, its virtio header first.
func (b *Buffer) Space() []byte { return b.data[:cap(b.data)] }

// Fill says that n bytes have been written to Space. It reports whether there is a frame.
func (b *Buffer) Fill(n int) bool {
	b.data = b.data[:n]
	b.count, b.head, b.payload = 1, n, 0
	if n < VirtioLen+ethernetLen {
		return false
	}
	b.divide()
	return true
}

// Frames returns the number of frames.
func (b *Buffer) Frames() int { return b.count }

// Bytes returns the sum of the frames' sizes.
func (b *Buffer) Bytes() int { return len(b.data) - VirtioLen + (b.count-1)*(b.head-VirtioLen) }

// Data returns all, its virtio header first.
func (b *Buffer) Data() []byte { return b.data }

// divide finds the frames of a super-frame. One that it does not understand stays whole.
func (b *Buffer) divide() {
	if s := vnet.Understand(b.data[:VirtioLen], b.data[VirtioLen:]); s.Count > 0 {
		b.super, b.count, b.head, b.payload = s, s.Count, VirtioLen+s.Head, s.Payload
	}
}

// size returns the size of count frames from the one numbered first, bytes.
func (b *Buffer) size(first, count int) int {
	if b.count == 1 {
		return len(b.data) - VirtioLen
	}
	end := min(b.head+(first+count)*b.payload, len(b.data))
	return end - (b.head + first*b.payload) + count*(b.head-VirtioLen)
}

// A Budget bounds the memory of all frames that wait. It may be used concurrently.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of so many bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used returns the bytes in use.
func (b *Budget) Used() int64 { return b.used.Load() }

// take takes n bytes for someone who holds held already: nobody may hold more than what is
// left for all others together (Choudhury and Hahne 1998), so that one link's frames do
// not crowd out those of all.
func (b *Budget) take(n, held int64) bool {
	if used := b.used.Add(n); held+n <= b.limit-used {
		return true
	}
	b.used.Add(-n)
	return false
}

// A Pool gives buffers and takes them back. It belongs to one thread.
type Pool struct {
	budget *Budget
	free   [classes][]*Buffer
	kept   int64 // bytes in free
	least  int64 // the least kept since Trim
	live   int64 // bytes in use
	large  *Buffer
	batch  []*Buffer
}

// NewPool returns a pool within a budget.
func NewPool(budget *Budget) *Pool { return &Pool{budget: budget} }

// Scratch returns a buffer to read a frame into. It stays the pool's; the next call returns
// the same one, unless a lane has kept it.
func (p *Pool) Scratch() *Buffer {
	if p.large == nil {
		p.large = p.get(classes - 1)
		p.large.refs = 1
	}
	return p.large
}

// Batch returns n buffers to read frames into. They stay the pool's; the next call returns the
// same ones.
func (p *Pool) Batch(n int) []*Buffer {
	if len(p.batch) < n {
		size := classSize(classes - 1)
		all := make([]byte, n*size)
		p.batch = make([]*Buffer, n)
		for i := range p.batch {
			p.batch[i] = &Buffer{data: all[i*size : (i+1)*size : (i+1)*size], class: classes - 1}
		}
	}
	return p.batch[:n]
}

// Trim lets go of memory that nobody has used since the last Trim. It reports whether there
// is any left.
func (p *Pool) Trim() (more bool) {
	if p.least == p.kept && p.live == 0 {
		p.large, p.batch = nil, nil
	}
	for class := classes - 1; class >= 0; class-- {
		for n := len(p.free[class]); n > 0 && p.least > 0; n-- {
			p.free[class][n-1] = nil
			p.free[class] = p.free[class][:n-1]
			p.least -= int64(classSize(class))
			p.kept -= int64(classSize(class))
		}
		if len(p.free[class]) == 0 {
			p.free[class] = nil
		}
	}
	p.least = p.kept
	return p.kept > 0 || p.large != nil
}

func (p *Pool) get(class int) *Buffer {
	free := p.free[class]
	if n := len(free); n > 0 {
		b := free[n-1]
		p.free[class] = free[:n-1]
		p.kept -= int64(cap(b.data))
		p.least = min(p.least, p.kept)
		return b
	}
	return &Buffer{data: make([]byte, classSize(class)), class: class}
}

// keep returns b, or a smaller copy of it, for someone who holds held bytes; nil if there is
// no memory.
func (p *Pool) keep(b *Buffer, held int64) *Buffer {
	class := 0
	for classSize(class) < len(b.data) {
		class++
	}
	size := int64(classSize(class))
	if !p.budget.take(size, held) {
		return nil
	}
	p.live += size
	if class == classes-1 && b == p.large {
		p.large = nil
		return b // with the reference that the pool had
	}
	c := p.get(class)
	data := c.data[:len(b.data)]
	copy(data, b.data)
	*c = *b
	c.data, c.class, c.refs = data, class, 1
	return c
}

// put gives back what keep returned.
func (p *Pool) put(b *Buffer) {
	size := int64(cap(b.data))
	p.budget.used.Add(-size)
	p.live -= size
	p.kept += size
	p.free[b.class] = append(p.free[b.class], b)
}
