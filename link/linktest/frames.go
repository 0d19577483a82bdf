package linktest

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/link"
)

// etherType is that for local experiments (IEEE 802), which no host answers.
const etherType = 0x88b5

// A frame is one that arrived.
type frame struct {
	number int
	at     time.Duration // since it was sent
	time   time.Time
	bits   int // that are not as they were sent
	bitAt  int // byte of the last of them
}

const (
	header    = 14
	numberAt  = header      // 4 bytes, three times: most of a damaged one are right
	sentAt    = header + 12 // 8 bytes, likewise
	minLength = sentAt + 24
)

// A sender sends numbered frames from a host to the other.
type sender struct {
	lab  *Lab
	fd   int
	next int
}

// packetSocket returns a socket of a host for all frames: a damaged one may be of any type.
func packetSocket(tb testing.TB, l *Lab, host int) int {
	tb.Helper()
	fd := -1
	must(tb, l.Hosts[host].Do(func() error {
		d, err := net.InterfaceByName(Device(host))
		if err != nil {
			return err
		}
		proto := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto)); err != nil {
			return err
		}
		if err := room(fd); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return err
		}
		tv := unix.NsecToTimeval(int64(20 * time.Millisecond))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: d.Index, Protocol: proto})
	}))
	return fd
}

func newSender(tb testing.TB, l *Lab, host int) *sender {
	tb.Helper()
	s := &sender{lab: l, fd: packetSocket(tb, l, host)}
	tb.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// fill writes a frame that a host sends.
func fill(b []byte, host, number int, sent uint64) {
	copy(b, mac(1-host))
	copy(b[6:], mac(host))
	binary.BigEndian.PutUint16(b[12:], etherType)
	for i := range 3 {
		binary.BigEndian.PutUint32(b[numberAt+4*i:], uint32(number))
		binary.BigEndian.PutUint64(b[sentAt+8*i:], sent)
	}
	for i := minLength; i < len(b); i++ {
		b[i] = byte(number*7 + i)
	}
}

// send sends a frame of so many bytes.
func (s *sender) send(tb testing.TB, host, length int) {
	tb.Helper()
	b := make([]byte, max(length, minLength))
	fill(b, host, s.next, uint64(time.Now().UnixNano()))
	_, err := unix.Write(s.fd, b)
	must(tb, err)
	s.next++
	s.lab.sent[host]++
}

// A sink collects the frames that arrive at a host.
type sink struct {
	source int    // the host that sends them
	before uint64 // frames that were delivered before

	mu     sync.Mutex
	frames []frame
	seen   uint64 // frames of any kind
	err    error
	stop   chan struct{}
	done   chan struct{}
}

// newSink collects what the other host sends.
func newSink(tb testing.TB, l *Lab, host int) *sink { return newSinkFrom(tb, l, host, 1-host) }

// newReturnSink collects what the host itself sends and gets back.
func newReturnSink(tb testing.TB, l *Lab, host int) *sink { return newSinkFrom(tb, l, host, host) }

func newSinkFrom(tb testing.TB, l *Lab, host, source int) *sink {
	tb.Helper()
	k := &sink{source: source, stop: make(chan struct{}), done: make(chan struct{})}
	fd := packetSocket(tb, l, host)
	k.before = l.Counters(tb)[source].Delivered
	go func() {
		defer close(k.done)
		defer unix.Close(fd)
		b, oob := make([]byte, 1<<16), make([]byte, 128)
		for {
			select {
			case <-k.stop:
				return
			default:
			}
			n, oobn, _, from, err := unix.Recvmsg(fd, b, oob, 0)
			switch {
			case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
				continue
			case err != nil:
				k.mu.Lock()
				k.err = err
				k.mu.Unlock()
				return
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if n < minLength {
				k.mu.Lock()
				k.seen++
				k.mu.Unlock()
				continue
			}
			f := parse(b[:n], source)
			f.time = arrival(oob[:oobn])
			f.at += time.Duration(f.time.UnixNano())
			k.mu.Lock()
			k.seen++
			k.frames = append(k.frames, f)
			k.mu.Unlock()
		}
	}()
	tb.Cleanup(func() {
		close(k.stop)
		<-k.done
	})
	return k
}

// arrival is when the kernel had the frame.
func arrival(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// parse reads a frame that a host sent; f.at is less the time at which it was sent.
func parse(b []byte, source int) (f frame) {
	var numbers [3]uint32
	var times [3]uint64
	for i := range 3 {
		numbers[i] = binary.BigEndian.Uint32(b[numberAt+4*i:])
		times[i] = binary.BigEndian.Uint64(b[sentAt+8*i:])
	}
	// Of three, at most one is damaged.
	n, sent := majority(numbers[:]), majority(times[:])
	f.number, f.at = int(n), -time.Duration(sent)
	sentBytes := make([]byte, len(b))
	fill(sentBytes, source, f.number, sent)
	for i := range b {
		if n := bits.OnesCount8(b[i] ^ sentBytes[i]); n != 0 {
			f.bits += n
			f.bitAt = i
		}
	}
	return f
}

func majority[T comparable](three []T) T {
	if three[1] == three[2] {
		return three[1]
	}
	return three[0]
}

// all returns what has arrived so far.
func (k *sink) all(tb testing.TB) []frame {
	tb.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	must(tb, k.err)
	return slices.Clone(k.frames)
}

// quiet returns what has arrived once the link and the sink have nothing more.
func (k *sink) quiet(tb testing.TB, l *Lab) []frame {
	tb.Helper()
	Eventually(tb, "the link has taken what was sent and is empty, and the sink has what it delivered", func() bool {
		c := l.Counters(tb)
		k.mu.Lock()
		defer k.mu.Unlock()
		return taken(c[0]) >= l.sent[0] && taken(c[1]) >= l.sent[1] && empty(c) && (k.err != nil || k.seen >= c[k.source].Delivered-k.before)
	})
	last := -1
	Eventually(tb, "nothing more arrives", func() bool {
		time.Sleep(50 * time.Millisecond)
		n := len(k.all(tb))
		same := n == last
		last = n
		return same
	})
	return k.all(tb)
}

// empty reports whether no frame is on its way.
func empty(c [2]link.Counters) bool {
	return c[0].Queued+c[0].QueuedBytes+c[0].InFlight+c[1].Queued+c[1].QueuedBytes+c[1].InFlight == 0
}
