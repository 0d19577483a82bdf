package manager

import (
	"math/bits"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// A Match says which packets a flow is for: those of which the key, masked, equals Key.
type Match struct{ Key, Mask Key }

// A Flow is an entry of the flow director.
type Flow struct {
	Match
	Priority uint16
	Cookie   uint64
	// Idle and Hard are timeouts (OpenFlow 1.3, section 5.5): without a packet, and after
	// Added; 0 for none.
	Idle, Hard time.Duration
	Verdict    Verdict
	Notify     bool          // Hooks.Removed is told of its end
	Added      time.Duration // on the manager's clock
	FlowUse                  // in the table: as it was when somebody last asked

	chain uint16 // the verdict is this chain and nothing else; 0 if it is not so
}

// FlowUse counts a flow's packets.
type FlowUse struct {
	Packets, Bytes uint64
	Used           time.Duration // when the last came
}

// noFlow is the index of no flow.
const noFlow = -1

// A flowTable finds the flow of the highest priority that matches a key: one hash table for
// each mask (tuple space search), tables with the highest priorities first. Its methods are
// for one goroutine.
//
// Of a million flows hardly any is in a cache. So all that a packet touches of one is a cache line,
// on a huge page, and the packets of a burst wait for their lines together.
type flowTable struct {
	tables []*maskTable
	flows  []Flow // by index
	free   []int32
	count  int
	limit  int
	timed  int // flows with a timeout
	sweep  int // the index at which expired goes on
}

type maskTable struct {
	mask  Key
	words [inline]maskPart // the words of mask that are not zero, and then empty ones
	wide  bool             // there are more
	top   uint16           // no flow has a higher priority
	slots []flowSlot       // open addressing
	shift uint8
	count int
	// more has the flows of equal match and lower priority than that of the slot, the highest first.
	more map[int32][]int32
}

// A maskPart is a word of a mask.
type maskPart struct{ word, mask uint64 }

// inline is how many words of a key are in its slot. Masks with more are rare: a look-up compares
// a hash there, and then the flow's key.
const inline = 4

// A flowSlot is what packets touch of a flow: one cache line.
type flowSlot struct {
	key [inline]uint64 // the words of the masked key that may differ; of a wide mask a hash of all
	FlowUse
	flow     int32 // its index + 1; 0 in an empty slot
	priority uint16
	chain    uint16 // as in Flow
}

// count counts a packet.
func (s *flowSlot) count(length uint32, now time.Duration) {
	s.Packets++
	s.Bytes += uint64(length)
	s.Used = now
}

func newFlowTable(limit int) *flowTable { return &flowTable{limit: limit} }

func newMaskTable(mask Key) *maskTable {
	m := &maskTable{mask: mask, more: map[int32][]int32{}}
	n := 0
	for i, w := range mask {
		if m.wide = w != 0 && n == inline; m.wide {
			break
		}
		if w != 0 {
			m.words[n] = maskPart{uint64(i), w}
			n++
		}
	}
	m.resize(16)
	return m
}

// briefs writes what slots have of keys, and their hashes.
func (m *maskTable) briefs(keys []Key, briefs *[burst][inline]uint64, hashes *[burst]uint64) {
	if m.wide {
		for i := range keys[:min(len(keys), burst)] {
			masked := keys[i].and(&m.mask)
			briefs[i] = [inline]uint64{masked.hash()}
			hashes[i] = hashOf(&briefs[i])
		}
		return
	}
	w := m.words
	for i := range keys[:min(len(keys), burst)] {
		k, b := &keys[i], &briefs[i]
		b[0], b[1] = k[w[0].word%8]&w[0].mask, k[w[1].word%8]&w[1].mask
		b[2], b[3] = k[w[2].word%8]&w[2].mask, k[w[3].word%8]&w[3].mask
		hashes[i] = hashOf(b)
	}
}

// brief is briefs for one key.
func (m *maskTable) brief(k *Key) (brief [inline]uint64, hash uint64) {
	var briefs [burst][inline]uint64
	var hashes [burst]uint64
	m.briefs(unsafe.Slice(k, 1), &briefs, &hashes)
	return briefs[0], hashes[0]
}

// hashOf mixes what a slot has of a key.
func hashOf(brief *[inline]uint64) uint64 {
	return fold(fold(brief[0]^hashSeed, brief[1]^hashFactor)^hashFactor, fold(brief[2]^hashFactor, brief[3]^hashSeed))
}

// burst bounds how many keys are looked up at once.
const burst = 64

// lookup finds the flows of keys, nil for a miss. They are valid until the table changes.
func (t *flowTable) lookup(keys []Key, found []*flowSlot) {
	keys = keys[:min(len(keys), burst)]
	found = found[:len(keys)]
	clear(found)
	var briefs [burst][inline]uint64
	var hashes [burst]uint64
	var hint int32
	for _, m := range t.tables {
		if surpass(found, m.top) {
			break
		}
		m.briefs(keys, &briefs, &hashes)
		slots, shift := m.slots, m.shift%64
		if len(slots) > cached {
			// A pass that only touches memory, so that the next does not wait: of each key its slot, and
			// the one behind it, where every third flow is.
			last := uint64(len(slots) - 1)
			for i := range keys {
				at := hashes[i] >> shift
				hint += slots[at].flow + slots[(at+1)&last].flow
			}
		}
		for i := range keys {
			b, at := &briefs[i], hashes[i]>>shift
			s := &slots[at]
			if differ(&s.key, b) || s.flow == 0 || m.wide {
				if s = t.find(m, b, at, &keys[i]); s == nil {
					continue
				}
			}
			if found[i] == nil || s.priority > found[i].priority {
				found[i] = s
			}
		}
	}
	keep(hint)
}

// cached is how many slots are likely to be in a cache.
const cached = 1024

// differ reports whether two are not equal.
func differ(a, b *[inline]uint64) bool {
	return (a[0]^b[0])|(a[1]^b[1])|(a[2]^b[2])|(a[3]^b[3]) != 0
}

// surpass reports whether all of a burst have found flows of at least a priority.
func surpass(found []*flowSlot, priority uint16) bool {
	for _, s := range found {
		if s == nil || s.priority < priority {
			return false
		}
	}
	return true
}

//go:noinline
func keep(int32) {}

// find returns the slot of a key, by its brief form and where to begin; nil if there is none.
func (t *flowTable) find(m *maskTable, brief *[inline]uint64, at uint64, k *Key) *flowSlot {
	for {
		s := &m.slots[at&uint64(len(m.slots)-1)]
		if s.flow == 0 {
			return nil
		}
		if !differ(&s.key, brief) && (!m.wide || t.flows[s.flow-1].Key == k.and(&m.mask)) {
			return s
		}
		at++
	}
}

// slot returns the slot of a flow's match in the table of its mask; nil if there is none.
func (t *flowTable) slot(match *Match) (*maskTable, *flowSlot) {
	i := slices.IndexFunc(t.tables, func(m *maskTable) bool { return m.mask == match.Mask })
	if i < 0 {
		return nil, nil
	}
	m := t.tables[i]
	brief, hash := m.brief(&match.Key)
	return m, t.find(m, &brief, hash>>m.shift, &match.Key)
}

// add puts a flow in, in the place of one of equal match and priority, and returns its
// index; noFlow if there is no room.
func (t *flowTable) add(f Flow) int32 {
	f.Key = f.Key.and(&f.Mask)
	m, s := t.slot(&f.Match)
	if s != nil {
		first := s.flow - 1
		for _, o := range append([]int32{first}, m.more[first]...) {
			if t.flows[o].Priority == f.Priority {
				t.set(o, f)
				if o == first {
					t.show(s, o)
				}
				return o
			}
		}
	}
	if t.count >= t.limit {
		return noFlow
	}
	if m == nil {
		m = newMaskTable(f.Mask)
		t.tables = append(t.tables, m)
	}
	n := t.allocate()
	t.set(n, f)
	t.count++
	if s != nil {
		t.hide(s)
		t.rank(m, s, append([]int32{s.flow - 1, n}, m.more[s.flow-1]...))
	} else {
		if 4*(m.count+1) > 3*len(m.slots) {
			m.resize(2 * len(m.slots))
		}
		t.insert(m, n)
	}
	m.top = max(m.top, f.Priority)
	slices.SortStableFunc(t.tables, func(a, b *maskTable) int { return int(b.top) - int(a.top) })
	return n
}

func (t *flowTable) set(n int32, f Flow) {
	if t.flows[n].timed() { // which it replaces
		t.timed--
	}
	if f.timed() {
		t.timed++
	}
	t.flows[n] = f
}

// show puts into a slot what packets need of a flow.
func (t *flowTable) show(s *flowSlot, n int32) {
	f := &t.flows[n]
	s.FlowUse, s.flow, s.priority, s.chain = f.FlowUse, n+1, f.Priority, f.chain
}

// hide keeps what the flow of a slot counted.
func (t *flowTable) hide(s *flowSlot) { t.flows[s.flow-1].FlowUse = s.FlowUse }

// allocate returns a free index.
func (t *flowTable) allocate() int32 {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i
	}
	t.flows = append(t.flows, Flow{})
	return int32(len(t.flows) - 1)
}

// rank puts the flows of one match in the order of their priorities: the first into the slot.
func (t *flowTable) rank(m *maskTable, s *flowSlot, list []int32) {
	slices.SortFunc(list, func(a, b int32) int { return int(t.flows[b].Priority) - int(t.flows[a].Priority) })
	delete(m.more, s.flow-1)
	t.show(s, list[0])
	if len(list) > 1 {
		m.more[list[0]] = list[1:]
	}
}

// insert gives a flow a slot.
func (t *flowTable) insert(m *maskTable, n int32) {
	brief, hash := m.brief(&t.flows[n].Key)
	s := m.vacant(hash)
	s.key = brief
	t.show(s, n)
	m.count++
}

// vacant returns the empty slot for a hash.
func (m *maskTable) vacant(hash uint64) *flowSlot {
	at := hash >> m.shift
	for m.slots[at].flow != 0 {
		at = (at + 1) & uint64(len(m.slots)-1)
	}
	return &m.slots[at]
}

func (m *maskTable) resize(n int) {
	old := m.slots
	m.slots, m.shift = hugeSlice[flowSlot](n), uint8(64-bits.TrailingZeros(uint(n)))
	for i := range old {
		if s := &old[i]; s.flow != 0 {
			*m.vacant(hashOf(&s.key)) = *s
		}
	}
	freeHuge(old)
}

// each calls f for every flow.
func (t *flowTable) each(f func(int32, *Flow)) {
	for _, m := range t.tables {
		for i := range m.slots {
			s := &m.slots[i]
			if s.flow == 0 {
				continue
			}
			t.hide(s)
			first := s.flow - 1
			f(first, &t.flows[first])
			for _, n := range m.more[first] {
				f(n, &t.flows[n])
			}
		}
	}
}

// change calls f for every flow, and lets packets see what it changed of chains.
func (t *flowTable) change(f func(*Flow)) {
	t.each(func(_ int32, flow *Flow) { f(flow) })
	for _, m := range t.tables {
		for i := range m.slots {
			if s := &m.slots[i]; s.flow != 0 {
				s.chain = t.flows[s.flow-1].chain
			}
		}
	}
}

// which returns the indices of the flows for which is is true.
func (t *flowTable) which(is func(*Flow) bool) (list []int32) {
	t.each(func(n int32, f *Flow) {
		if is(f) {
			list = append(list, n)
		}
	})
	return list
}

// remove deletes the flows for which gone is true and returns them.
func (t *flowTable) remove(gone func(*Flow) bool) []Flow { return t.removeAll(t.which(gone)) }

// removeAll deletes flows by their indices and returns them.
func (t *flowTable) removeAll(dead []int32) (removed []Flow) {
	for _, n := range dead {
		f := &t.flows[n]
		m, s := t.slot(&f.Match)
		t.hide(s)
		removed = append(removed, *f)
		if f.timed() {
			t.timed--
		}
		if t.take(m, s, n); m.count == 0 {
			freeHuge(m.slots)
			t.tables = slices.DeleteFunc(t.tables, func(o *maskTable) bool { return o == m })
		}
		*f = Flow{}
		t.free = append(t.free, n)
		t.count--
	}
	return removed
}

// timed reports whether a flow ends by itself.
func (f *Flow) timed() bool { return f.Idle > 0 || f.Hard > 0 }

// expired returns flows of which a timeout is over, of a step of all of them: with a million, a
// look at each would keep packets waiting for a second. wait is when to look at the next step, so
// that each flow is looked at once in a second.
func (t *flowTable) expired(now time.Duration) (dead []int32, wait time.Duration) {
	if t.timed == 0 {
		return nil, time.Second
	}
	if t.sweep >= len(t.flows) {
		t.sweep = 0
	}
	end := min(t.sweep+expireStep, len(t.flows))
	for n := t.sweep; n < end; n++ {
		f := &t.flows[n]
		if f.Idle > 0 && now-f.Used >= f.Idle {
			// So it seems; its slot knows.
			if _, s := t.slot(&f.Match); s.flow-1 == int32(n) {
				t.hide(s)
			}
		}
		if f.Idle > 0 && now-f.Used >= f.Idle || f.Hard > 0 && now-f.Added >= f.Hard {
			dead = append(dead, int32(n))
		}
	}
	t.sweep = end
	return dead, time.Second / time.Duration((len(t.flows)+expireStep-1)/expireStep)
}

// expireStep is how many flows are looked at between two bursts.
const expireStep = 4096

// take takes a flow out of its slot, or out of those behind it. The table's top may then be too
// high, which costs a look-up but is not wrong.
func (t *flowTable) take(m *maskTable, s *flowSlot, flow int32) {
	first := s.flow - 1
	if more := m.more[first]; len(more) > 0 {
		all := append([]int32{first}, more...)
		t.rank(m, s, slices.DeleteFunc(all, func(o int32) bool { return o == flow }))
		return
	}
	m.count--
	wrap := uint64(len(m.slots) - 1)
	hole := hashOf(&s.key) >> m.shift
	for &m.slots[hole] != s {
		hole = (hole + 1) & wrap
	}
	// Close the gap, so that no search ends too early (Knuth, volume 3, algorithm 6.4R).
	for at := (hole + 1) & wrap; m.slots[at].flow != 0; at = (at + 1) & wrap {
		if home := hashOf(&m.slots[at].key) >> m.shift; (at-home)&wrap >= (at-hole)&wrap {
			m.slots[hole], hole = m.slots[at], at
		}
	}
	m.slots[hole] = flowSlot{}
}

const hugeFrom = 1 << 20 // bytes

// hugeSlice makes a slice of values without pointers, if it is large on huge pages where the
// kernel has them: each page less is a miss less.
func hugeSlice[T any](n int) []T {
	var v T
	size := n * int(unsafe.Sizeof(v))
	if size < hugeFrom {
		return make([]T, n)
	}
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]T, n)
	}
	unix.Madvise(mem, unix.MADV_HUGEPAGE) // refused: slower
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), n)
}

// freeHuge gives memory of hugeSlice back.
func freeHuge[T any](s []T) {
	s = s[:cap(s)]
	var v T
	if size := len(s) * int(unsafe.Sizeof(v)); size >= hugeFrom {
		// Memory of make, if Mmap failed, is no mapping of x/sys/unix's: then nothing happens.
		unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), size))
	}
}
