package wire

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/internal/device"
	"weft/link/linktest"
)

// BenchmarkShortFrames is the processor time that the engine takes for each of the shortest frames,
// whatever else the machine does: they wait for it, in batches, and are counted when it is done.
func BenchmarkShortFrames(b *testing.B) {
	for _, c := range []struct {
		name    string
		tun     string
		options []string
	}{{"plain", device.TUN, nil}, {"delayed", device.TUN, []string{"delay=1ms"}}, {"shaped", device.TUN, []string{"bw=10000", "loss=0.1"}}, {"veth", noTUN, nil}} {
		b.Run(c.name, func(b *testing.B) {
			if c.tun == device.TUN {
				needTAP(b)
			}
			l := newLab(b, c.tun, nil, c.options...)
			w := l.Link.(*wire)
			fd := -1
			must(b, l.Hosts[0].Do(func() error {
				device, err := net.InterfaceByName(linktest.Device(0))
				if err != nil {
					return err
				}
				if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
					return err
				}
				if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
					return err
				}
				return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: device.Index})
			}))
			defer unix.Close(fd)
			frame := make([]byte, 60)
			copy(frame, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
			var spent time.Duration
			frames := 0
			for b.Loop() {
				const n = 900 // the device holds 1000
				hold, held := make(chan struct{}), make(chan struct{})
				var start, end time.Duration
				go w.shard.do(func() {
					close(held)
					<-hold
					start = threadTime()
				})
				<-held
				for range n {
					_, err := unix.Write(fd, frame)
					must(b, err)
				}
				close(hold)
				linktest.Eventually(b, "all have passed", func() bool {
					c := l.Counters(b)[0]
					return c.Delivered+c.Lost >= uint64(frames+n)
				})
				w.shard.do(func() { end = threadTime() })
				spent += end - start
				frames += n
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(frames), "ns/frame")
			b.ReportMetric(float64(frames)/spent.Seconds(), "frames/core-s")
		})
	}
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}
