package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// EtherType is that of the frames that measure links: IEEE 802's first for local experiments.
// No stack takes it; what else would, must be kept from it.
const EtherType = 0x88b5

// A Device is an end of a link.
type Device struct {
	Name   string // for people
	Device string // of the kernel
	// Do calls f on a thread inside the device's network namespace.
	Do func(f func() error) error
}

// A FrameTrain is frames that are sent one way over a link.
type FrameTrain struct {
	Count int
	Size  int // of a frame with its Ethernet header, bytes; at least MinFrame
	// Rate is how fast, in bit/s of frames.
	Rate float64
	// Debt is how far a sender that was held up may fall behind before it gives up what it
	// missed, rather than sending it all at once.
	Debt time.Duration
	// Wait is how long, after the last was sent, none arrives until no more are waited for.
	Wait time.Duration
}

// MinFrame is the least size of a frame, which Ethernet has without its check sequence.
const MinFrame = 60

// A FrameArrival is a frame that has arrived.
type FrameArrival struct {
	Seq   int           // from 0; -1 if it was damaged
	At    time.Time     // by the kernel
	Delay time.Duration // since it was sent; 0 if it was damaged
}

// A FrameResult says what became of a train.
type FrameResult struct {
	Sent       int
	SentIn     time.Duration  // from the first to after the last
	Arrivals   []FrameArrival // in their order, without second copies
	Duplicates int
	Corrupted  int // among the arrivals
	Reordered  int // arrived after one that was sent later
	Overrun    int // arrived faster than this machine could take them
}

// A frame begins, after its Ethernet header, with
//
//	0  magic 4   8  seq  4
//	4  run   4   12 wall 8   when it was sent, Unix time in ns
//	20 sum   4   CRC-32 of the frame from magic on, this being 0
//
// all big-endian.
const (
	etherHeader = 14
	frameMagic  = 0x77656674 // "weft"
	frameHeader = 24
)

// The MACs of the frames: locally administered, and nobody's.
var frameMACs = [12]byte{0x02, 'w', 'e', 'f', 't', 2, 0x02, 'w', 'e', 'f', 't', 1}

// putFrame writes a frame to b, which has its size.
func putFrame(b []byte, run, seq uint32, wall int64) {
	copy(b, frameMACs[:])
	binary.BigEndian.PutUint16(b[12:], EtherType)
	p := b[etherHeader:]
	binary.BigEndian.PutUint32(p[0:], frameMagic)
	binary.BigEndian.PutUint32(p[4:], run)
	binary.BigEndian.PutUint32(p[8:], seq)
	binary.BigEndian.PutUint64(p[12:], uint64(wall))
	binary.BigEndian.PutUint32(p[20:], 0)
	binary.BigEndian.PutUint32(p[20:], crc32.ChecksumIEEE(p))
}

// parseFrame reads a frame of a run. One that is damaged is still one.
func parseFrame(b []byte, run uint32) (seq uint32, wall int64, intact, ok bool) {
	if len(b) < etherHeader+frameHeader {
		return 0, 0, false, false
	}
	p := b[etherHeader:]
	sum := binary.BigEndian.Uint32(p[20:])
	binary.BigEndian.PutUint32(p[20:], 0)
	intact = crc32.ChecksumIEEE(p) == sum
	known := binary.BigEndian.Uint32(p[0:]) == frameMagic && binary.BigEndian.Uint32(p[4:]) == run
	return binary.BigEndian.Uint32(p[8:]), int64(binary.BigEndian.Uint64(p[12:])), intact, known || !intact
}

// Frames sends a train from one end of a link to the other and says what became of it. It
// needs no addresses.
func Frames(ctx context.Context, from, to Device, t FrameTrain) (FrameResult, error) {
	if t.Count < 1 || t.Size < MinFrame || t.Rate <= 0 {
		return FrameResult{}, errors.New("a train of frames has at least one, of at least 60 bytes, and a rate")
	}
	in, err := packetSocket(to, unix.ETH_P_ALL)
	if err != nil {
		return FrameResult{}, err
	}
	defer unix.Close(in)
	out, err := packetSocket(from, 0)
	if err != nil {
		return FrameResult{}, err
	}
	defer unix.Close(out)
	rx := &frameReceiver{run: rand.Uint32(), size: t.Size, seen: make([]bool, t.Count)}
	received := make(chan error, 1)
	go func() { received <- rx.receive(in) }()
	tx := frameSender{run: rx.run, train: t}
	err = tx.send(ctx, out)
	if err != nil {
		err = fmt.Errorf("%s: %w", from.Name, err)
	}
	for last, since := int64(0), time.Now(); err == nil; err = ctx.Err() {
		n := rx.count.Load()
		if n > last {
			last, since = n, time.Now()
		}
		if n >= int64(tx.sent) || time.Since(since) > t.Wait {
			break
		}
		sleep(time.Millisecond)
	}
	// A duplicate comes right after the last.
	if err == nil {
		sleep(2 * time.Millisecond)
	}
	rx.stop.Store(true)
	err = errors.Join(err, <-received)
	rx.result.Sent, rx.result.SentIn = tx.sent, tx.took
	if st, e := unix.GetsockoptTpacketStats(in, unix.SOL_PACKET, unix.PACKET_STATISTICS); e == nil {
		rx.result.Overrun = int(st.Drops)
	}
	return rx.result, err
}

// packetSocket opens a packet socket (packet(7)) at a device. With a protocol of 0 it only
// sends; else it receives the frames of trains, before anybody else gets them.
func packetSocket(d Device, protocol uint16) (fd int, err error) {
	fd = -1
	err = d.Do(func() (err error) {
		i, err := net.InterfaceByName(d.Device)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if protocol != 0 {
			wake := unix.NsecToTimeval(udpWake.Nanoseconds())
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, frameBuffer) != nil {
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, frameBuffer)
			}
			filter := frameFilter()
			err = errors.Join(
				unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wake))
			if err != nil {
				return err
			}
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: i.Index})
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, fmt.Errorf("%s: open a packet socket: %w", d.Name, err)
	}
	return fd, nil
}

// frameBuffer is the receive buffer, bytes.
const frameBuffer = 16 << 20

// frameFilter accepts frames of trains that come in.
func frameFilter() []unix.SockFilter {
	const packetType = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: packetType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PACKET_OUTGOING, Jt: 3},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: EtherType, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x40000},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

// A frameSender sends a train.
type frameSender struct {
	run   uint32
	train FrameTrain
	sent  int
	took  time.Duration
}

// send sends frame n at n/rate, those that are due together with one call. A frame that the
// device does not take, since its queue is full or a filter drops it, is lost on the way.
func (s *frameSender) send(ctx context.Context, fd int) error {
	t := s.train
	gap := time.Duration(float64(t.Size) * 8 / t.Rate * float64(time.Second))
	b := newBatch(min(udpBatch, t.Count), t.Size)
	start := time.Now()
	next := start
	for s.sent < t.Count {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := time.Now()
		if wait := next.Sub(now); wait > 0 {
			sleep(wait)
			continue
		}
		if late := now.Sub(next); late > t.Debt {
			next = now.Add(-t.Debt)
		}
		due := 1
		if gap > 0 {
			due += int(now.Sub(next) / gap)
		} else {
			due = len(b.msgs)
		}
		due = min(due, len(b.msgs), t.Count-s.sent)
		for i := range due {
			putFrame(b.buffers[i], s.run, uint32(s.sent+i), time.Now().UnixNano())
		}
		n, err := b.send(fd, due)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			n = 1
		case err != nil:
			return fmt.Errorf("send: %w", err)
		}
		s.sent += n
		next = next.Add(time.Duration(n) * gap)
	}
	s.took = time.Since(start)
	return nil
}

// A frameReceiver gathers the frames of a run. Its result is valid when receive has ended.
type frameReceiver struct {
	run    uint32
	size   int
	stop   atomic.Bool
	count  atomic.Int64 // arrivals
	seen   []bool
	last   int
	result FrameResult
}

func (r *frameReceiver) receive(fd int) error {
	b := newBatch(udpBatch, r.size)
	for {
		n, err := b.recv(fd, 0)
		switch {
		case err == unix.EAGAIN && r.stop.Load():
			return nil
		case err == unix.EAGAIN:
			continue
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		now := time.Now()
		for i := range n {
			r.take(b.data(i), b.arrival(i, now))
		}
		if r.stop.Load() {
			return nil
		}
	}
}

func (r *frameReceiver) take(frame []byte, at time.Time) {
	seq, wall, intact, ok := parseFrame(frame, r.run)
	n := int(seq)
	switch {
	case !ok:
		return
	case !intact:
		// Which it was, and when it was sent, may be damaged too.
		r.result.Corrupted++
		r.result.Arrivals = append(r.result.Arrivals, FrameArrival{Seq: -1, At: at})
		r.count.Add(1)
		return
	case n >= len(r.seen):
		return
	case r.seen[n]:
		r.result.Duplicates++
		return
	}
	r.seen[n] = true
	if n < r.last {
		r.result.Reordered++
	}
	r.last = max(r.last, n)
	r.result.Arrivals = append(r.result.Arrivals, FrameArrival{Seq: n, At: at, Delay: at.Sub(time.Unix(0, wall))})
	r.count.Add(1)
}
