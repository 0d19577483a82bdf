package builtin

import "time"

// A table keeps a value for each of a bounded number of keys, until it has not been used for
// a while. It allocates only when it is made.
type table[K comparable, V any] struct {
	index map[K]int32
	slots []slot[K, V]
	free  []int32
}

type slot[K comparable, V any] struct {
	key   K
	value V
	used  time.Time
	live  bool
}

func newTable[K comparable, V any](limit int) *table[K, V] {
	t := &table[K, V]{index: make(map[K]int32, limit), slots: make([]slot[K, V], limit), free: make([]int32, limit)}
	for i := range t.free {
		t.free[i] = int32(limit - 1 - i)
	}
	return t
}

// get returns the value of a key, nil if there is none.
func (t *table[K, V]) get(k K, now time.Time) *V {
	at, ok := t.index[k]
	if !ok {
		return nil
	}
	s := &t.slots[at]
	s.used = now
	return &s.value
}

// add makes room for a key that is not there and returns its zero value, nil if the table is
// full.
func (t *table[K, V]) add(k K, now time.Time) *V {
	n := len(t.free)
	if n == 0 {
		return nil
	}
	at := t.free[n-1]
	t.free = t.free[:n-1]
	t.index[k] = at
	t.slots[at] = slot[K, V]{key: k, used: now, live: true}
	return &t.slots[at].value
}

// remove takes a key out.
func (t *table[K, V]) remove(k K) {
	if at, ok := t.index[k]; ok {
		delete(t.index, k)
		t.slots[at] = slot[K, V]{}
		t.free = append(t.free, at)
	}
}

// each calls f with every key that is there, when it was last used, in no order that means
// anything but the same each time.
func (t *table[K, V]) each(f func(k K, v *V, used time.Time)) {
	for i := range t.slots {
		if s := &t.slots[i]; s.live {
			f(s.key, &s.value, s.used)
		}
	}
}

func (t *table[K, V]) len() int { return len(t.index) }
