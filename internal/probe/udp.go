package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A datagram begins with
//
//	0  run   nonce of the Iperf call                     8
//	8  seq   number of the datagram, from 1; 0 for hello 8
//	16 wall  when it was sent, Unix time in ns           8
//
// all big-endian.
const datagramHeader = 24

type datagram struct {
	run, seq uint64
	wall     int64
}

// put writes d to b, which has at least datagramHeader bytes.
func (d datagram) put(b []byte) {
	binary.BigEndian.PutUint64(b[0:], d.run)
	binary.BigEndian.PutUint64(b[8:], d.seq)
	binary.BigEndian.PutUint64(b[16:], uint64(d.wall))
}

// parseDatagram reads the header of a datagram.
func parseDatagram(b []byte) (datagram, bool) {
	if len(b) < datagramHeader {
		return datagram{}, false
	}
	return datagram{
		run:  binary.BigEndian.Uint64(b[0:]),
		seq:  binary.BigEndian.Uint64(b[8:]),
		wall: int64(binary.BigEndian.Uint64(b[16:])),
	}, true
}

const (
	udpBatch = 64 // datagrams sent or received with one system call
	// udpDebt is how far a sender that was held up may fall behind its schedule
	// before it gives up what it missed, rather than sending it all at once.
	udpDebt = 20 * time.Millisecond
	// helloEvery is how often the client calls until the server hears it.
	helloEvery = 100 * time.Millisecond
	// udpQuiet is how long nothing arrives before nothing more is waited for.
	udpQuiet = 500 * time.Millisecond
	udpWake  = 50 * time.Millisecond // how often a receiver in the kernel looks up
)

// measureUDP measures UDP. The client first calls until the server hears it, which
// resolves addresses and installs flows, as TCP's handshake does. Both ends are
// here, so how much was sent needs no message that could be lost.
func measureUDP(ctx context.Context, cfg IperfConfig, result *IperfResult) error {
	client, server, err := udpSockets(cfg)
	if err != nil {
		return err
	}
	defer unix.Close(client)
	defer unix.Close(server)

	rx := &udpReceiver{run: rand.Uint64(), heard: make(chan struct{})}
	broken := make(chan error, 2)
	received := make(chan struct{})
	go func() {
		defer close(received)
		if err := rx.receive(server); err != nil {
			broken <- err
		}
	}()
	defer func() {
		rx.stop.Store(true)
		<-received
	}()
	if err := hello(ctx, cfg, client, rx); err != nil {
		return err
	}

	tx := &udpSender{run: rx.run, length: cfg.Length, rate: cfg.Rate}
	sent := make(chan struct{})
	start := time.Now()
	go func() {
		defer close(sent)
		if err := tx.send(client, start, cfg.Duration); err != nil {
			broken <- err
		}
	}()
	result.Intervals, err = meter(ctx, start, cfg.Duration, &rx.bytes, broken)
	tx.stop.Store(true)
	unix.Shutdown(client, unix.SHUT_WR) // wakes a sender that waits for room
	<-sent
	result.Duration = time.Since(start)
	if err == nil {
		rx.settle(ctx, tx.sent)
	}
	rx.stop.Store(true)
	<-received

	result.Asked = float64(cfg.Rate)
	result.Sent = tx.sent
	result.Bytes = rx.bytes.Load()
	result.LostPackets = tx.sent - min(tx.sent, rx.count.Load())
	result.OutOfOrder = rx.outOfOrder
	result.Jitter = rx.jitter.value
	result.ClientBps = bps(tx.sent*uint64(cfg.Length), result.Duration)
	// What was delayed arrives after the last was sent; what was queued also takes
	// longer to arrive than it took to be sent.
	result.ServerBps = bps(result.Bytes, max(result.Duration, rx.last.Sub(rx.first)))
	if late := result.Bytes - sum(result.Intervals); late > 0 {
		last := &result.Intervals[len(result.Intervals)-1]
		*last = newInterval(last.Start, max(last.End, rx.last.Sub(start)), last.Bytes+late)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case result.Bytes == 0:
		return fmt.Errorf("%s received none of %d datagrams", cfg.Server.Name, tx.sent)
	}
	return nil
}

func sum(intervals []IperfInterval) (bytes uint64) {
	for _, i := range intervals {
		bytes += i.Bytes
	}
	return bytes
}

// udpSockets opens a connected socket on the client and a bound one on the server.
func udpSockets(cfg IperfConfig) (client, server int, err error) {
	server, err = cfg.Server.bind(cfg, unix.SOCK_DGRAM)
	if err != nil {
		return -1, -1, err
	}
	port, err := boundPort(server)
	wake := unix.NsecToTimeval(udpWake.Nanoseconds())
	err = errors.Join(err,
		unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20),
		unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(server, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wake))
	if err == nil {
		client, err = cfg.Client.socket(cfg.IPv6, unix.SOCK_DGRAM, 0, func(fd int) error {
			return unix.Connect(fd, sockaddr(cfg.Server.addr(cfg.IPv6), port))
		})
	}
	if err != nil {
		unix.Close(server)
		return -1, -1, fmt.Errorf("open UDP sockets: %w", err)
	}
	return client, server, nil
}

// hello sends datagrams until rx has received one.
func hello(ctx context.Context, cfg IperfConfig, client int, rx *udpReceiver) error {
	var packet [datagramHeader]byte
	deadline := time.After(answerWithin)
	tick := time.NewTicker(helloEvery)
	defer tick.Stop()
	var failed error
	for {
		datagram{run: rx.run}.put(packet[:])
		if _, err := unix.Write(client, packet[:]); err != nil {
			failed = fmt.Errorf(": %w", err)
		}
		select {
		case <-rx.heard:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			err := fmt.Errorf("%s heard nothing from %s within %v", cfg.Server.Name, cfg.Client.Name, answerWithin)
			if failed != nil {
				return fmt.Errorf("%w%w", err, failed)
			}
			return err
		case <-tick.C:
		}
	}
}

// A udpSender sends datagrams on a schedule.
type udpSender struct {
	run    uint64
	length int    // bytes of a datagram
	rate   uint64 // bits of payload per second

	stop atomic.Bool
	sent uint64
}

// send sends from start for the duration. Datagram n is due at n*length*8/rate. It
// sends what is due together with sendmmsg; UDP segmentation offload would be
// cheaper, but a switch that does not know it (Open vSwitch's user datapath) drops
// every such packet.
func (s *udpSender) send(fd int, start time.Time, duration time.Duration) error {
	b := newBatch(udpBatch, s.length)
	gap := float64(s.length) * 8 / float64(s.rate) * float64(time.Second) // ns
	begin := start
	var scheduled float64 // datagrams sent since begin
	for !s.stop.Load() {
		now := time.Now()
		if now.Sub(start) >= duration {
			return nil
		}
		due := float64(now.Sub(begin))/gap + 1 - scheduled
		if due < 1 {
			sleep(time.Duration((1 - due) * gap))
			continue
		}
		n := int(min(due, udpBatch))
		for i := range n {
			datagram{run: s.run, seq: s.sent + uint64(i) + 1, wall: now.UnixNano()}.put(b.buffers[i])
		}
		n, err := b.send(fd, n)
		switch {
		case s.stop.Load():
		case err == unix.ENOBUFS || err == unix.ECONNREFUSED:
			sleep(time.Millisecond) // a full queue; an ICMP error about an earlier datagram
		case err != nil:
			return fmt.Errorf("send: %w", err)
		}
		s.sent += uint64(n)
		scheduled += float64(n)
		if behind := time.Since(begin) - time.Duration(scheduled*gap); behind > udpDebt {
			begin = begin.Add(behind)
		}
	}
	return nil
}

// sleep sleeps in the kernel: Go's own timers are too coarse to pace datagrams.
func sleep(d time.Duration) {
	spec := unix.NsecToTimespec(min(d, udpWake).Nanoseconds())
	unix.Nanosleep(&spec, nil) // an early return only makes the caller look again
}

// A udpReceiver counts the datagrams of one run. Fields without a lock belong to the
// goroutine that runs receive, until it has ended.
type udpReceiver struct {
	run   uint64
	stop  atomic.Bool
	heard chan struct{} // closed when a hello arrived

	// Duplicates do not count.
	bytes, count atomic.Uint64

	isHeard     bool
	seen        []uint64 // a bit for each sequence number
	highest     uint64
	outOfOrder  uint64
	jitter      jitter
	first, last time.Time // arrivals
}

// receive receives until stop.
func (r *udpReceiver) receive(fd int) error {
	b := newBatch(udpBatch, datagramHeader)
	for !r.stop.Load() {
		n, err := b.recv(fd, unix.MSG_TRUNC)
		switch {
		case err == unix.EAGAIN:
			continue
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		now := time.Now()
		for i := range n {
			if d, ok := parseDatagram(b.data(i)); ok && d.run == r.run {
				r.take(d, b.size(i), b.arrival(i, now))
			}
		}
	}
	return nil
}

// maxJump is the largest gap in sequence numbers that can be a loss; what seems to be
// more is a damaged datagram.
const maxJump = 1 << 24

// take counts a datagram of size bytes.
func (r *udpReceiver) take(d datagram, size int, arrival time.Time) {
	if d.seq == 0 {
		if !r.isHeard {
			r.isHeard = true
			close(r.heard)
		}
		return
	}
	if d.seq > r.highest+maxJump {
		return
	}
	word, bit := d.seq/64, uint64(1)<<(d.seq%64)
	if missing := int(word) + 1 - len(r.seen); missing > 0 {
		r.seen = append(r.seen, make([]uint64, missing)...)
	}
	if r.seen[word]&bit != 0 {
		return
	}
	r.seen[word] |= bit
	r.bytes.Add(uint64(size))
	r.count.Add(1)
	if d.seq < r.highest {
		r.outOfOrder++
	}
	r.highest = max(r.highest, d.seq)
	if r.first.IsZero() {
		r.first = arrival
	}
	r.last = arrival
	r.jitter.add(arrival.Sub(time.Unix(0, d.wall)))
}

// settle waits for what is still on its way of sent datagrams.
func (r *udpReceiver) settle(ctx context.Context, sent uint64) {
	const look = 5 * time.Millisecond
	before, quiet := r.count.Load(), time.Duration(0)
	for end := time.Now().Add(settleWithin); before < sent && quiet < udpQuiet && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(look)
		quiet += look
		if count := r.count.Load(); count > before {
			before, quiet = count, 0
		}
	}
}

// A jitter is the smoothed difference between the transit times of datagrams that
// follow each other (RFC 3550, 6.4.1).
type jitter struct {
	value   time.Duration
	transit time.Duration // of the last
	begun   bool
}

// add takes the transit time of the next datagram; only differences matter, so the
// clocks of the two sides need not agree.
func (j *jitter) add(transit time.Duration) {
	if j.begun {
		j.value += ((transit - j.transit).Abs() - j.value) / 16
	}
	j.transit, j.begun = transit, true
}
