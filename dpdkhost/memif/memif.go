// Package memif is a port of the NF manager that speaks memif, the shared-memory interface of
// FD.io VPP and DPDK (net_memif): version 2, Ethernet frames, either role. A client brings the
// memory and the rings; a server maps them. As a client the manager's packet memory is the
// client's memory: packets are not copied here. As a server packets are copied out of and into
// the peer's memory, of which nothing is believed.
//
//	control socket (a goroutine)   HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED
//	        │ next                          ▲ gone
//	        ▼                               │
//	data (the manager's thread)    Receive, Send: rings in shared memory
//
// A peer that ends, or that breaks the protocol, is let go, its frames come back, and the port
// waits for the next. The package may import dpdkhost/manager and dpdkhost/shm.
//
// The protocol is that of memif.h in DPDK and VPP, which has no other specification.
package memif

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/shm"
)

// Config says how a port speaks memif.
type Config struct {
	// Socket is the path of the control socket; with "@" before it, an abstract one. A server
	// makes it, a client connects to it, as soon as there is one.
	Socket string `json:"socket"`
	Server bool   `json:"server,omitempty"`
	// ID tells the interfaces of one socket apart.
	ID uint32 `json:"id,omitempty"`
	// Secret that a client must know, at most 24 bytes; "" for none.
	Secret string `json:"secret,omitempty"`
	// Name of the interface, for the peer's people.
	Name string `json:"name,omitempty"`
	// RingSize of a client, a power of two from 32 to 16,384; default 1,024. A server takes
	// what the client has.
	RingSize int `json:"ringSize,omitempty"`
	// Copy keeps the packet memory from the server, which then may write into the packets of
	// nobody else; packets are copied.
	Copy bool         `json:"copy,omitempty"`
	Log  *slog.Logger `json:"-"`
}

// Check says what is wrong with a configuration.
func (c *Config) Check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("memif %s: "+format, append([]any{cmp.Or(c.Socket, c.Name)}, args...)...)
	}
	switch {
	case c.Socket == "" || c.Socket == "@":
		return fail("write the path of its control socket")
	case len(c.Socket) > 107:
		return fail("the path of a socket has at most 107 bytes (unix(7))")
	case len(c.Secret) > secretLen:
		return fail("the secret has %d bytes, at most %d", len(c.Secret), secretLen)
	case len(c.Name) >= nameLen:
		return fail("the name %q has %d bytes, at most %d", c.Name, len(c.Name), nameLen-1)
	case c.RingSize != 0 && (c.RingSize < 32 || c.RingSize > 1<<largestRingLog2 || bits.OnesCount(uint(c.RingSize)) != 1):
		return fail("a ring of %d: write a power of two from 32 to %d", c.RingSize, 1<<largestRingLog2)
	}
	return nil
}

// A Port is a memif interface of the manager.
type Port struct {
	config Config
	mem    *shm.Memory
	log    *slog.Logger
	stop   context.CancelFunc
	ended  sync.WaitGroup
	poll   int // epoll of kick and the rings' events, edge-triggered
	kick   int // eventfd: look at news
	listen *net.UnixListener

	// Between the goroutine and the manager's thread.
	news atomic.Bool
	next atomic.Pointer[connection]
	peer atomic.Pointer[string]

	// What follows belongs to the manager's thread.
	live   *connection
	pool   *manager.Pool
	asleep bool
	pieces []shm.Desc
	// Packets that came when there was no free frame, and parts of super-frames that the ring
	// had no room for.
	lostIn, lostOut uint64
}

var (
	_ manager.Port    = (*Port)(nil)
	_ manager.Sleeper = (*Port)(nil)
	_ manager.Lossy   = (*Port)(nil)
)

// Open makes a port for a manager with that packet memory. It does not wait for a peer.
func Open(c Config, mem *shm.Memory) (*Port, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.RingSize == 0 {
		c.RingSize = 1024
	}
	if c.Name == "" {
		c.Name = "weft"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if !c.Server && !c.Copy && uint64(len(mem.Bytes())) > 1<<32 {
		return nil, fmt.Errorf("memif %s: a packet memory of more than 4 GiB cannot be a region: choose fewer frames, or copying", c.Socket)
	}
	p := &Port{config: c, mem: mem, log: c.Log.With("memif", c.Socket), poll: -1, kick: -1}
	fail := func(err error) (*Port, error) {
		p.closeFiles()
		return nil, fmt.Errorf("memif %s: %w", c.Socket, err)
	}
	var err error
	if p.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fail(err)
	}
	if p.kick, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fail(err)
	}
	if err = p.watch(p.kick); err != nil {
		return fail(err)
	}
	if c.Server {
		if p.listen, err = listen(c.Socket); err != nil {
			return fail(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.ended.Go(func() {
		if c.Server {
			p.serve(ctx)
		} else {
			p.dial(ctx)
		}
	})
	return p, nil
}

// watch makes an event file wake who waits for FD.
func (p *Port) watch(fd int) error {
	return unix.EpollCtl(p.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET})
}

func (p *Port) closeFiles() {
	for _, fd := range []int{p.poll, p.kick} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// announce tells the manager's thread that there is a connection, or one less.
func (p *Port) announce() {
	p.news.Store(true)
	one := [8]byte{1}
	unix.Write(p.kick, one[:])
}

// Peer returns the name of the connected peer; "" if there is none.
func (p *Port) Peer() string {
	if s := p.peer.Load(); s != nil {
		return *s
	}
	return ""
}

// FD implements manager.Port.
func (p *Port) FD() int { return p.poll }

// current returns the connection, after it has dealt with the end of one and the beginning of
// another.
func (p *Port) current(pool *manager.Pool) *connection {
	p.pool = pool
	if p.news.Load() {
		p.news.Store(false)
		if p.live != nil && p.live.gone.Load() {
			p.release()
		}
		if p.live == nil {
			if p.live = p.next.Swap(nil); p.live != nil {
				p.asleep = true // the peer does wake us as yet
				p.live.begin(pool, &p.lostIn)
			}
		}
	}
	return p.live
}

// release lets the connection go.
func (p *Port) release() {
	c := p.live
	p.live = nil
	c.reclaim(p.pool)
	close(c.released)
}

// Receive implements manager.Port.
func (p *Port) Receive(into []shm.Desc, pool *manager.Pool) int {
	c := p.current(pool)
	if c == nil {
		return 0
	}
	return p.receive(c, into, pool)
}

func (p *Port) receive(c *connection, into []shm.Desc, pool frames) (got int) {
	if c.unsealed {
		defer survive(c, func() { got = 0; p.fail(c, errCut) })()
	}
	if p.asleep {
		p.asleep = false
		c.interrupts(false)
	}
	if err := c.send.reap(pool); err != nil {
		p.fail(c, err)
		return 0
	}
	n := 0 // got, which a fault makes 0
	for range c.receive {
		r := c.receive[c.turn]
		if c.turn++; c.turn == len(c.receive) {
			c.turn = 0
		}
		more, err := r.receive(into[n:], pool)
		n += more
		if err != nil {
			p.fail(c, err)
			break
		}
	}
	return n
}

// Sleep implements manager.Sleeper: from now on, the peer wakes us.
func (p *Port) Sleep() (work bool) {
	c := p.live
	if c != nil && c.unsealed {
		defer survive(c, func() { work = true; p.fail(c, errCut) })()
	}
	if c != nil && !p.asleep {
		p.asleep = true
		c.interrupts(true)
	}
	// Forget what woke us last time. It also gives the peer, which writes first an index and
	// then looks whether to wake us, the time for its writing to arrive here.
	var events [8]unix.EpollEvent
	unix.EpollWait(p.poll, events[:], 0)
	return p.news.Load() || c != nil && c.waiting()
}

// Send implements manager.Port. Without a peer it takes nothing.
func (p *Port) Send(list []shm.Desc, pool *manager.Pool) int {
	c := p.current(pool)
	if c == nil {
		return 0
	}
	for k := range list {
		if list[k].Flags&shm.HasVnet != 0 {
			return p.sendUnfinished(c, list[:k], list[k:], pool)
		}
	}
	return p.sendAll(c, list, pool)
}

func (p *Port) sendAll(c *connection, list []shm.Desc, pool frames) (n int) {
	if c.unsealed {
		defer survive(c, func() { n = 0; p.fail(c, errCut) })()
	}
	n, err := c.send.send(list, pool)
	if err != nil {
		p.fail(c, err)
	}
	return n
}

// sendUnfinished sends packets, and then some of which a kernel left to the device to compute
// a checksum or to cut a super-frame: memif has no means to say that.
func (p *Port) sendUnfinished(c *connection, list, unfinished []shm.Desc, pool *manager.Pool) int {
	sent := p.sendAll(c, list, pool)
	if sent < len(list) {
		return sent
	}
	for k := range unfinished {
		var lost int
		p.pieces, lost = pool.Finish(unfinished[k], p.pieces[:0])
		n := p.sendAll(c, p.pieces, pool)
		if n == 0 && len(p.pieces) == 1 && p.pieces[0].Frame == unfinished[k].Frame {
			break // not taken
		}
		for _, rest := range p.pieces[n:] {
			pool.Free(rest.Frame)
			lost++
		}
		p.lostOut += uint64(lost)
		sent++
	}
	return sent
}

// Lost implements manager.Lossy.
func (p *Port) Lost() (received, sent uint64) { return p.lostIn, p.lostOut }

// fail ends the connection: the next call lets it go.
func (p *Port) fail(c *connection, why error) {
	c.fail(why)
	p.news.Store(true)
}

// Close implements manager.Port.
func (p *Port) Close() error {
	if p.live != nil {
		p.live.fail(errClosed)
		p.release()
	}
	p.stop()
	var err error
	if p.listen != nil {
		err = p.listen.Close()
	}
	p.ended.Wait()
	p.closeFiles()
	return err
}

var errClosed = errors.New("the port is closed")
