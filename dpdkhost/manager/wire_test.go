package manager_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/manager/managertest"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
	"weft/dpdkhost/shm"
)

// A superPort receives one super-frame as a TAP device hands it out.
type superPort struct {
	managertest.Queue
	frame []byte
	ready atomic.Bool
}

func (p *superPort) Receive(into []shm.Desc, pool *manager.Pool) int {
	if !p.ready.CompareAndSwap(true, false) {
		return 0
	}
	frame, ok := pool.Get(len(p.frame))
	if !ok {
		return 0
	}
	into[0] = shm.Desc{Frame: frame, Offset: shm.Headroom, Length: uint32(len(p.frame)), Flags: shm.HasVnet}
	copy(pool.Memory().Packet(&into[0]), p.frame)
	h, v := nf.ParseHeaders(p.frame), pool.Memory().Frame(frame)
	b := pool.Memory().Packet(&into[0])
	sum := nf.Sum(uint64(h.Protocol)+uint64(h.End-h.Transport), b[h.Network+12:h.Network+20]) // of the pseudo-header
	binary.BigEndian.PutUint16(b[h.Transport+16:], nf.Folded(sum))
	clear(v[:12])
	v[0], v[1] = 1, 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4
	for at, n := range map[int]int{2: h.Payload, 4: 1000, 6: h.Transport, 8: 16} {
		binary.NativeEndian.PutUint16(v[at:], uint16(n))
	}
	return 1
}

// An NF that needs packets as on a wire gets the segments of a super-frame, and they go on in
// their chain; another gets it whole.
func TestWire(t *testing.T) {
	for _, wire := range []bool{false, true} {
		b := managertest.New(t)
		p := &superPort{frame: nftest.TCP(t, "10.0.0.1:1", "10.0.0.2:2", "PA", strings.Repeat("x", 2500))}
		b.Must(b.AddPort(3, "super", p))
		seen := make(chan string, 1)
		_, err := b.AttachFused(manager.Instance{Service: 1, Wire: wire}, nf.Handler(func(batch []nf.Packet) {
			text := ""
			for i := range batch {
				text += fmt.Sprintf("%d/%d/%v/%d ", batch[i].Len(), batch[i].Segment(), batch[i].Unfinished(), batch[i].Port())
				if wire {
					nftest.Decode(t, batch[i].Data())
				}
				batch[i].Next()
			}
			seen <- text
		}))
		b.Must(err)
		b.Must(b.SetChain(manager.Chain{manager.DefaultChain, []uint16{1}, 2}))
		p.ready.Store(true)
		b.Must(b.Do(func() {}))
		want, count := "2554/1000/true/3 ", 1
		if wire {
			want, count = "1054/0/false/3 1054/0/false/3 554/0/false/3 ", 3
		}
		if got := <-seen; got != want {
			t.Errorf("wire %v: %s, want %s", wire, got, want)
		}
		b.Eventually("packets at port 2", func() bool {
			count -= len(b.Queues[1].Take())
			return count == 0
		})
		b.Whole()
	}
}
