package manager

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// The table agrees with a list that is searched from end to end, while flows come and go.
func TestFlowTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := newFlowTable(500)
	var list []Flow
	counts := map[uint64]uint64{} // packets, by cookie
	masks := []Key{allOnes(), {1: ^uint64(0), 2: ^uint64(0), 3: ^uint64(0), 7: ^uint64(0)}, {3: ^uint64(0)}, {3: ^uint64(0xff)}, {7: 0xff << 56}, {}}
	random := func() (k Key) {
		for i := range k {
			k[i] = uint64(r.IntN(3)) << (8 * r.IntN(3))
		}
		return k
	}
	best := func(k *Key) (b *Flow) {
		for i := range list {
			f := &list[i]
			if k.and(&f.Mask) == f.Key && (b == nil || f.Priority > b.Priority) {
				b = f
			}
		}
		return b
	}
	for step := range 4000 {
		switch {
		case step%3 == 0:
			f := Flow{Match: Match{random(), masks[r.IntN(len(masks))]}, Priority: uint16(r.IntN(8)), Cookie: uint64(step)}
			f.Key = f.Key.and(&f.Mask)
			same := -1
			for i, o := range list {
				if o.Key == f.Key && o.Mask == f.Mask && o.Priority == f.Priority {
					same = i
				}
			}
			if ok := table.add(f) != noFlow; ok != (same >= 0 || len(list) < 500) {
				t.Fatalf("step %d: add: %v with %d flows", step, ok, len(list))
			} else if same >= 0 {
				list[same] = f
			} else if ok {
				list = append(list, f)
			}
		case step%50 == 1:
			at := r.IntN(5)
			gone := func(f *Flow) bool { return int(f.Key[3]+uint64(f.Priority))%5 == at }
			n := len(list)
			kept := list[:0]
			for _, f := range list {
				if !gone(&f) {
					kept = append(kept, f)
				}
			}
			list = kept
			removed := table.remove(gone)
			if len(removed) != n-len(list) {
				t.Fatalf("step %d: %d removed, want %d", step, len(removed), n-len(list))
			}
			for _, f := range removed {
				if f.Packets != counts[f.Cookie] {
					t.Fatalf("step %d: flow %d had %d packets, and has counted %d", step, f.Cookie, counts[f.Cookie], f.Packets)
				}
			}
		}
		if table.count != len(list) {
			t.Fatalf("step %d: %d flows, want %d", step, table.count, len(list))
		}
		keys := make([]Key, 1+r.IntN(burst))
		found := make([]*flowSlot, burst)
		for i := range keys {
			keys[i] = random()
		}
		table.lookup(keys, found)
		for i := range keys {
			want := best(&keys[i])
			got := found[i]
			if (got == nil) != (want == nil) || want != nil && (got.priority != want.Priority || table.flows[got.flow-1].Priority != want.Priority) {
				t.Fatalf("step %d: found %+v, want %+v", step, got, want)
			}
			if got != nil {
				got.count(1, 0)
				counts[table.flows[got.flow-1].Cookie]++
			}
		}
	}
}

func BenchmarkLookupMillion(b *testing.B) {
	const flows = 1_000_000
	table := newFlowTable(flows)
	keys := make([]Key, flows)
	mask := Key{3: 1<<32 - 1, 5: 1<<32 - 1, 6: 1<<48 - 1<<16, 7: 0xff<<56 | 0xffff<<16} // a 5-tuple
	frame := make([]byte, 64)
	binary.BigEndian.PutUint16(frame[12:], typeIPv4)
	frame[14], frame[23] = 0x45, 17
	for i := range keys {
		binary.BigEndian.PutUint32(frame[26:], uint32(i))
		parseKey(&keys[i], frame, 1)
		if table.add(Flow{Match: Match{keys[i], mask}}) == noFlow {
			b.Fatal("full")
		}
	}
	rand.Shuffle(flows, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	var found [burst]*flowSlot
	b.ResetTimer()
	for n := 0; n < b.N; n += burst {
		at := n % (flows - burst)
		table.lookup(keys[at:at+burst], found[:])
		if found[0] == nil {
			b.Fatal("lost")
		}
	}
}

func allOnes() (k Key) {
	for i := range k {
		k[i] = ^uint64(0)
	}
	return k
}
