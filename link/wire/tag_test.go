package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"weft/internal/device"
	"weft/internal/vnet"
	"weft/link/linktest"
)

// hostSocket returns a packet socket on a host's device.
func hostSocket(t *testing.T, l *lab, host int) (fd int) {
	t.Helper()
	must(t, l.Hosts[host].Do(func() (err error) {
		if fd, err = device.OpenSocket(4 << 20); err != nil {
			return err
		}
		return device.Bind(fd, linktest.Device(host))
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// received reads what a host received, its VLAN tag where it was; nil if there is nothing.
func received(fd int) []byte {
	var aux device.Aux
	b := make([]byte, 9000)
	n, oobn, _, _, err := unix.Recvmsg(fd, b, aux[:], 0)
	if err != nil {
		return nil
	}
	if tag, ok := aux.Tag(oobn); ok {
		const at = vnet.Len + device.TagAt
		b = bytes.Join([][]byte{b[:at], tag[:], b[at:n]}, nil)
		vnet.Moved(b, device.TagLen)
		return b
	}
	return b[:n]
}

// tagged is a frame with a VLAN tag, and a virtio header that leaves its checksum to be completed.
func tagged(number, size int) []byte {
	b := make([]byte, vnet.Len+size)
	frame := b[vnet.Len:]
	copy(frame, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0x60, 42, 8, 0})
	ip := frame[18:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20))
	for i := range ip[28:] {
		ip[28+i] = byte(i * number)
	}
	b[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	binary.NativeEndian.PutUint16(b[2:], 18+28)
	binary.NativeEndian.PutUint16(b[6:], 18+20)
	binary.NativeEndian.PutUint16(b[8:], 6)
	return b
}

// ours reports whether a frame is one of tagged's, though its tag be lost: they have no addresses.
func ours(b []byte) bool {
	none := make([]byte, 4)
	return len(b) >= vnet.Len+60 && (bytes.Equal(b[vnet.Len+26:][:4], none) || bytes.Equal(b[vnet.Len+30:][:4], none))
}

// VLAN tags, which the kernel keeps beside the frames that a packet socket gets, arrive; of frames
// that are read one by one and of those that are read together.
func TestTags(t *testing.T) {
	withBothEnds(t, func(t *testing.T, tun string) {
		for _, options := range [][]string{nil, {"delay=1ms"}} {
			for _, single := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v,single=%v", options, single), func(t *testing.T) {
					l := newLab(t, tun, nil, options...)
					l.reach(t)
					from, to := hostSocket(t, l, 0), hostSocket(t, l, 1)
					w := l.Link.(*wire)
					hold, held := make(chan struct{}), make(chan struct{})
					go w.shard.do(func() {
						w.shard.tried = single
						close(held)
						<-hold
					})
					<-held
					const n = 200
					for i := range n {
						_, err := unix.Write(from, tagged(i, 64+i*7%1450))
						must(t, err)
					}
					close(hold)
					for i := range n {
						want := tagged(i, 64+i*7%1450)
						linktest.Eventually(t, fmt.Sprintf("frame %d arrives", i), func() bool {
							got := received(to)
							if !ours(got) {
								return false
							}
							copy(got[2:4], want[2:4]) // the length of headers is a hint
							if !bytes.Equal(got, want) {
								t.Fatalf("frame %d: %d bytes %x… arrived, sent were %d: %x…", i, len(got), got[:40], len(want), want[:40])
							}
							return true
						})
					}
					must(t, l.Link.Close())
				})
			}
		}
	})
}
