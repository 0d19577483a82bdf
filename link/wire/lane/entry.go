package lane

// An entry is frames of one buffer, in a row, that wait together: one frame, or several
// where nothing tells them apart.
type entry struct {
	buf     *Buffer
	number  uint64 // of the first
	arrival int64
	due     int64
	bytes   int // of all
	first   uint16
	count   uint16
	marked  bool
	copy    bool // a duplicate
	corrupt bool
	// The queue when they came, for the record.
	depth      uint32
	depthBytes uint32
}

// follows reports whether e is of the same buffer as what ends before frame number next of
// it, and looks alike.
func (e *entry) follows(buf *Buffer, next int, marked bool) bool {
	return e.buf == buf && int(e.first) == next && e.marked == marked
}

// A ring is a queue of entries that grows.
type ring struct {
	list  []entry // its length is a power of two
	start int
	n     int
}

func (r *ring) at(i int) *entry { return &r.list[(r.start+i)&(len(r.list)-1)] }

func (r *ring) push(e entry) {
	if r.n == len(r.list) {
		list := make([]entry, max(8, 2*len(r.list)))
		for i := range r.n {
			list[i] = *r.at(i)
		}
		r.list, r.start = list, 0
	}
	r.n++
	*r.at(r.n - 1) = e
}

func (r *ring) pop() entry {
	p := r.at(0)
	e := *p
	p.buf = nil
	r.start = (r.start + 1) & (len(r.list) - 1)
	r.n--
	return e
}

// A pile gives the entry that is due first; of those due at once, the one with the lowest
// number.
type pile []entry

func (p pile) less(i, j int) bool {
	return p[i].due < p[j].due || p[i].due == p[j].due && p[i].number < p[j].number
}

func (p *pile) push(e entry) {
	*p = append(*p, e)
	q := *p
	for i := len(q) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q.less(i, parent) {
			break
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
}

func (p *pile) pop() entry {
	q := *p
	e := q[0]
	last := len(q) - 1
	q[0] = q[last]
	q[last].buf = nil
	q = q[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && q.less(child+1, child) {
			child++
		}
		if !q.less(child, i) {
			break
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
	*p = q
	return e
}
