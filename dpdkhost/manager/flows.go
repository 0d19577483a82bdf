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
	FlowUse
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
// Of a million flows hardly any is in a cache. So what a look-up touches is small and on huge
// pages, and a burst of look-ups waits for its cache misses together.
type flowTable struct {
	tables  []*maskTable
	flows   []Flow       // by index
	records []flowRecord // by index
	free    []int32
	count   int
	limit   int
	timed   int // flows with a timeout
	sweep   int // the index at which expired goes on
}

// A flowRecord is what packets touch of a flow: two cache lines, side by side.
type flowRecord struct {
	key Key
	FlowUse
	priority uint16
	chain    uint16 // the flow's verdict is this chain; 0 if it is another
	_        [36]byte
}

// count counts a packet.
func (r *flowRecord) count(length uint32, now time.Duration) {
	r.Packets++
	r.Bytes += uint64(length)
	r.Used = now
}

type maskTable struct {
	mask  Key
	parts []maskPart // of mask, the words that are not zero
	top   uint16     // no flow has a higher priority
	slots []flowSlot
	shift uint8
	count int
	// more has the flows of equal match and lower priority than that of the slot.
	more map[int32][]int32
}

// A maskPart is a word of a mask.
type maskPart struct {
	word uint64
	mask uint64
}

func newMaskTable(mask Key) *maskTable {
	m := &maskTable{mask: mask, more: map[int32][]int32{}}
	for i, w := range mask {
		if w != 0 {
			m.parts = append(m.parts, maskPart{uint64(i), w})
		}
	}
	return m
}

// hash mixes the fields of a key that the mask keeps into a number of which every bit depends on
// all of them, by the multiply-and-fold of wyhash.
func (m *maskTable) hash(k *Key) uint64 {
	h := uint64(hashSeed)
	for i := range m.parts {
		p := &m.parts[i]
		h = fold(h^k[p.word%8]&p.mask, hashFactor)
	}
	return h
}

// equal reports whether a key, masked, is that of a flow.
func (m *maskTable) equal(k, flow *Key) bool {
	var differ uint64
	for i := range m.parts {
		p := &m.parts[i]
		differ |= k[p.word%8]&p.mask ^ flow[p.word%8]
	}
	return differ == 0
}

// A flowSlot is a place of open addressing. The tag, a part of the hash, spares most looks
// at flows that do not match; 0 for an empty slot.
type flowSlot struct {
	tag  uint32
	flow int32
}

func newFlowTable(limit int) *flowTable { return &flowTable{limit: limit} }

// burst bounds how many keys are looked up at once.
const burst = 64

// lookup finds the indices of the flows of keys, noFlow for a miss.
func (t *flowTable) lookup(keys []Key, found []int32) {
	keys = keys[:min(len(keys), burst)]
	found = found[:len(keys)]
	for i := range found {
		found[i] = noFlow
	}
	var hashes [burst]uint64
	var maybe [burst]int32
	var hint uint64
	for _, m := range t.tables {
		if t.surpass(found, m.top) {
			break
		}
		// Two passes that touch memory, so that the third does not wait.
		for i := range keys {
			h := m.hash(&keys[i])
			hashes[i] = h
			hint += uint64(m.slots[h>>m.shift].tag)
		}
		for i, h := range hashes[:len(keys)] {
			f := m.probe(h)
			if maybe[i] = f; f != noFlow {
				r := &t.records[f]
				hint += r.key[0] + r.Packets
			}
		}
		for i, f := range maybe[:len(keys)] {
			if f == noFlow {
				continue
			}
			if !m.equal(&keys[i], &t.records[f].key) {
				if f = t.find(m, &keys[i], hashes[i]); f == noFlow {
					continue
				}
			}
			if best := found[i]; best == noFlow || t.records[f].priority > t.records[best].priority {
				found[i] = f
			}
		}
	}
	keep(hint)
}

// surpass reports whether all flows found have at least a priority.
func (t *flowTable) surpass(found []int32, priority uint16) bool {
	for _, f := range found {
		if f == noFlow || t.records[f].priority < priority {
			return false
		}
	}
	return true
}

//go:noinline
func keep(uint64) {}

func tagOf(hash uint64) uint32 { return uint32(hash) | 1 }

// probe returns the first flow that has the tag of a hash.
func (m *maskTable) probe(hash uint64) int32 {
	wrap, tag := uint64(len(m.slots)-1), tagOf(hash)
	for at := hash >> m.shift; ; at++ {
		s := m.slots[at&wrap]
		if s.tag == tag {
			return s.flow
		}
		if s.tag == 0 {
			return noFlow
		}
	}
}

func (t *flowTable) find(m *maskTable, k *Key, hash uint64) int32 {
	wrap, tag := uint64(len(m.slots)-1), tagOf(hash)
	for at := hash >> m.shift; ; at++ {
		s := m.slots[at&wrap]
		if s.tag == 0 {
			return noFlow
		}
		if s.tag == tag && m.equal(k, &t.records[s.flow].key) {
			return s.flow
		}
	}
}

// add puts a flow in, in the place of one of equal match and priority, and returns its
// index; noFlow if there is no room.
func (t *flowTable) add(f Flow) int32 {
	f.Key = f.Key.and(&f.Mask)
	i := slices.IndexFunc(t.tables, func(m *maskTable) bool { return m.mask == f.Mask })
	var m *maskTable
	first := int32(noFlow)
	if i >= 0 {
		m = t.tables[i]
		first = t.find(m, &f.Key, m.hash(&f.Key))
	}
	if first != noFlow {
		for _, o := range append([]int32{first}, m.more[first]...) {
			if t.flows[o].Priority == f.Priority {
				t.set(o, f)
				return o
			}
		}
	}
	if t.count >= t.limit {
		return noFlow
	}
	if m == nil {
		m = newMaskTable(f.Mask)
		m.resize(t, 16)
		t.tables = append(t.tables, m)
	}
	n := t.allocate()
	t.set(n, f)
	t.count++
	if first != noFlow {
		t.rank(m, first, append([]int32{first, n}, m.more[first]...))
	} else {
		if 4*(m.count+1) > 3*len(m.slots) {
			m.resize(t, 2*len(m.slots))
		}
		m.insert(n, m.hash(&f.Key))
		m.count++
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
	t.flows[n], t.records[n] = f, flowRecord{key: f.Key, FlowUse: f.FlowUse, priority: f.Priority}
}

// allocate returns a free index.
func (t *flowTable) allocate() int32 {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i
	}
	n := len(t.records)
	if n == cap(t.records) {
		larger := hugeSlice[flowRecord](max(64, 2*n))
		copy(larger, t.records)
		freeHuge(t.records)
		t.records = larger[:n]
	}
	t.records = t.records[:n+1]
	t.flows = append(t.flows, Flow{})
	return int32(n)
}

// rank puts the flows of one match in the order of their priorities: the first into the
// slot that was old's.
func (t *flowTable) rank(m *maskTable, old int32, list []int32) {
	slices.SortFunc(list, func(a, b int32) int { return int(t.records[b].priority) - int(t.records[a].priority) })
	delete(m.more, old)
	m.slots[m.slotOf(t, old)].flow = list[0]
	if len(list) > 1 {
		m.more[list[0]] = list[1:]
	}
}

// slotOf returns the slot of a flow that has one.
func (m *maskTable) slotOf(t *flowTable, flow int32) uint64 {
	at := m.hash(&t.records[flow].key) >> m.shift
	for m.slots[at].flow != flow || m.slots[at].tag == 0 {
		at = (at + 1) & uint64(len(m.slots)-1)
	}
	return at
}

func (m *maskTable) insert(flow int32, hash uint64) {
	at := hash >> m.shift
	for m.slots[at].tag != 0 {
		at = (at + 1) & uint64(len(m.slots)-1)
	}
	m.slots[at] = flowSlot{tagOf(hash), flow}
}

func (m *maskTable) resize(t *flowTable, n int) {
	old := m.slots
	m.slots, m.shift = hugeSlice[flowSlot](n), uint8(64-bits.TrailingZeros(uint(n)))
	for _, s := range old {
		if s.tag != 0 {
			m.insert(s.flow, m.hash(&t.records[s.flow].key))
		}
	}
	freeHuge(old)
}

// each calls f for every flow.
func (t *flowTable) each(f func(int32, *Flow)) {
	for _, m := range t.tables {
		for _, s := range m.slots {
			if s.tag == 0 {
				continue
			}
			for _, n := range append([]int32{s.flow}, m.more[s.flow]...) {
				t.flows[n].FlowUse = t.records[n].FlowUse
				f(n, &t.flows[n])
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
		f.FlowUse = t.records[n].FlowUse
		removed = append(removed, *f)
		if f.timed() {
			t.timed--
		}
		i := slices.IndexFunc(t.tables, func(m *maskTable) bool { return m.mask == f.Mask })
		m := t.tables[i]
		if t.take(m, n); m.count == 0 {
			freeHuge(m.slots)
			t.tables = slices.Delete(t.tables, i, i+1)
		}
		*f, t.records[n] = Flow{}, flowRecord{}
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
		if f := &t.flows[n]; f.Idle > 0 && now-t.records[n].Used >= f.Idle || f.Hard > 0 && now-f.Added >= f.Hard {
			dead = append(dead, int32(n))
		}
	}
	t.sweep = end
	return dead, time.Second / time.Duration((len(t.flows)+expireStep-1)/expireStep)
}

// expireStep is how many flows are looked at between two bursts.
const expireStep = 4096

// take takes a flow out of its table. The table's top may then be too high, which costs a
// look-up but is not wrong.
func (t *flowTable) take(m *maskTable, flow int32) {
	key := &t.records[flow].key
	first := t.find(m, key, m.hash(key))
	if more := m.more[first]; len(more) > 0 {
		all := append([]int32{first}, more...)
		t.rank(m, first, slices.DeleteFunc(all, func(o int32) bool { return o == flow }))
		return
	}
	m.count--
	wrap := uint64(len(m.slots) - 1)
	hole := m.slotOf(t, flow)
	// Close the gap, so that no search ends too early (Knuth, volume 3, algorithm 6.4R).
	for at := (hole + 1) & wrap; m.slots[at].tag != 0; at = (at + 1) & wrap {
		if home := m.hash(&t.records[m.slots[at].flow].key) >> m.shift; (at-home)&wrap >= (at-hole)&wrap {
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
