package probe

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// KnockConfig says who tries to reach whom at which port.
type KnockConfig struct {
	// Pairs are indices into the hosts: source, destination.
	Pairs [][2]int
	UDP   bool // otherwise TCP
	Port  int  // from 1 to 65535
	IPv6  bool
	// Timeout is the wait for each try (default 1 s), Tries how many there are of UDP
	// (default 3); the kernel repeats TCP's within the time.
	Timeout time.Duration
	Tries   int
}

// A KnockResult is what came of a try to reach a port.
type KnockResult struct {
	Reached bool
	// Reason says why not: no answer, refused, unreachable.
	Reason string
}

// knocksAtOnce bounds how many pairs are tried at the same time.
const knocksAtOnce = 256

// Knock tries for each pair whether packets from the source reach a port of the destination.
// Where no program has the port, it opens it itself for that time. A TCP port is reached if a
// connection is made, a UDP port if a datagram arrives: the port of a program that is
// there already cannot be listened to, so for UDP that is an error.
func Knock(ctx context.Context, hosts []Host, cfg KnockConfig) ([]KnockResult, error) {
	cfg.Timeout, cfg.Tries = cmp.Or(cfg.Timeout, defaultTimeout), cmp.Or(cfg.Tries, defaultTries)
	if cfg.Port < 1 || cfg.Port > 65535 {
		return nil, fmt.Errorf("%d is not a port", cfg.Port)
	}
	k := knocker{KnockConfig: cfg, hosts: hosts, doors: map[int]*door{}}
	defer k.close()
	for _, pair := range cfg.Pairs {
		if k.doors[pair[1]] == nil {
			d, err := k.open(hosts[pair[1]])
			if err != nil {
				return nil, err
			}
			k.doors[pair[1]] = d
		}
	}
	results := make([]KnockResult, len(cfg.Pairs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(knocksAtOnce)
	for i, pair := range cfg.Pairs {
		g.Go(func() (err error) {
			results[i], err = k.knock(ctx, pair)
			return err
		})
	}
	return results, g.Wait()
}

// A knocker is one call of Knock.
type knocker struct {
	KnockConfig
	hosts []Host
	doors map[int]*door
}

// A door is a port of a host that was opened for the time of the call.
type door struct {
	fd   int // -1 if a program has the port
	stop atomic.Bool
	done chan struct{} // closed when nobody listens any more; nil for TCP

	mu     sync.Mutex
	expect map[uint64]chan struct{} // by nonces, closed when they come
}

func (k *knocker) close() {
	for _, d := range k.doors {
		if d.fd < 0 {
			continue
		}
		if d.done != nil {
			d.stop.Store(true)
			<-d.done
		}
		unix.Close(d.fd)
	}
}

// open opens the port of a host.
func (k *knocker) open(h Host) (*door, error) {
	if !h.addr(k.IPv6).IsValid() {
		return &door{fd: -1}, nil // knock says so
	}
	typ := unix.SOCK_STREAM
	if k.UDP {
		typ = unix.SOCK_DGRAM
	}
	fd, err := h.bind(IperfConfig{IPv6: k.IPv6, Port: k.Port}, typ)
	switch {
	case errors.Is(err, unix.EADDRINUSE) && !k.UDP:
		return &door{fd: -1}, nil
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("%s has a program at UDP port %d: what arrives there cannot be seen; stop it, or exchange something with it", h.Name, k.Port)
	case err != nil:
		return nil, err
	case !k.UDP:
		if err := unix.Listen(fd, 4096); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("listen on port %d of %s: %w", k.Port, h.Name, err)
		}
		return &door{fd: fd}, nil
	}
	d := &door{fd: fd, expect: map[uint64]chan struct{}{}, done: make(chan struct{})}
	wake := unix.NsecToTimeval(udpWake.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wake); err != nil {
		unix.Close(fd)
		return nil, err
	}
	go d.listen()
	return d, nil
}

// knock tries one pair. Its error is ctx's, or that nothing could be tried.
func (k *knocker) knock(ctx context.Context, pair [2]int) (KnockResult, error) {
	src, dst := k.hosts[pair[0]], k.hosts[pair[1]]
	for _, h := range []Host{src, dst} {
		if !h.addr(k.IPv6).IsValid() {
			return KnockResult{Reason: h.noAddress(k.IPv6)}, nil
		}
	}
	if k.UDP {
		return k.knockUDP(ctx, src, dst, k.doors[pair[1]])
	}
	return k.knockTCP(ctx, src, dst)
}

// knockTCP connects.
func (k *knocker) knockTCP(ctx context.Context, src, dst Host) (KnockResult, error) {
	fd, err := src.socket(k.IPv6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0, func(int) error { return nil })
	if err != nil {
		return KnockResult{}, fmt.Errorf("open a TCP socket on %s: %w", src.Name, err)
	}
	defer unix.Close(fd)
	// It ends at once, without a TIME_WAIT that would keep the port from the next.
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	err = unix.Connect(fd, sockaddr(dst.addr(k.IPv6), k.Port))
	if err == unix.EINPROGRESS {
		if err = waitFor(ctx, fd, unix.POLLOUT, time.Now().Add(k.Timeout)); err == nil {
			if code, e := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); e != nil {
				err = e
			} else if code != 0 {
				err = unix.Errno(code)
			}
		}
	}
	switch {
	case ctx.Err() != nil:
		return KnockResult{}, ctx.Err()
	case err == unix.ETIMEDOUT:
		return KnockResult{Reason: "no answer"}, nil
	case err != nil:
		return KnockResult{Reason: err.Error()}, nil
	}
	return KnockResult{Reached: true}, nil
}

// knockUDP sends datagrams until one has arrived.
func (k *knocker) knockUDP(ctx context.Context, src, dst Host, d *door) (KnockResult, error) {
	nonce := rand.Uint64()
	arrived := make(chan struct{})
	d.mu.Lock()
	d.expect[nonce] = arrived
	d.mu.Unlock()
	fd, err := src.socket(k.IPv6, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0, func(fd int) error {
		return unix.Connect(fd, sockaddr(dst.addr(k.IPv6), k.Port))
	})
	if err != nil {
		return KnockResult{Reason: err.Error()}, nil // no route
	}
	defer unix.Close(fd)
	packet := append([]byte(knockMark), binary.BigEndian.AppendUint64(nil, nonce)...)
	reason := "nothing arrived"
	for range k.Tries {
		if _, err := unix.Write(fd, packet); err != nil {
			reason = err.Error()
		}
		timer := time.NewTimer(k.Timeout)
		select {
		case <-arrived:
			timer.Stop()
			return KnockResult{Reached: true}, nil
		case <-ctx.Done():
			timer.Stop()
			return KnockResult{}, ctx.Err()
		case <-timer.C:
		}
	}
	return KnockResult{Reason: reason}, nil
}

// knockMark begins the datagrams of Knock; a nonce of 8 bytes follows.
const knockMark = "weft knocks\n"

// listen takes datagrams until it is to stop.
func (d *door) listen() {
	defer close(d.done)
	buf := make([]byte, 64)
	for !d.stop.Load() {
		n, _, err := unix.Recvfrom(d.fd, buf, 0)
		if err != nil || n != len(knockMark)+8 || !bytes.HasPrefix(buf[:n], []byte(knockMark)) {
			continue
		}
		nonce := binary.BigEndian.Uint64(buf[len(knockMark):])
		d.mu.Lock()
		if ch := d.expect[nonce]; ch != nil {
			close(ch)
			delete(d.expect, nonce)
		}
		d.mu.Unlock()
	}
}
