package memif

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A connection is what both sides agreed on: regions, rings, and the socket that tells when it
// is over.
type connection struct {
	peer    string
	regions [][]byte // mapped
	// unsealed says that the peer can cut off the file of a region: DPDK's and VPP's clients
	// that do not copy offer files on huge pages, which they do not seal.
	unsealed bool
	events   []int
	sock     *net.UnixConn

	// Rings by index, those towards us and one away from us: the manager has one thread.
	in  []*ring
	out *ring
	// base and size are where a client's own buffers are, in region 0: those of out first, then
	// those of each of in. size 0: its buffers are in the packet memory.
	base, size int

	gone     atomic.Bool
	released chan struct{} // closed when the manager's thread has let go
	why      error
	once     sync.Once

	// The manager's thread's.
	receive []receiver
	send    sender
	turn    int
}

// begin makes the lanes, on the manager's thread. They count what comes when no frame is free.
func (c *connection) begin(pool frames, lost *uint64) {
	zero := c.out.client && c.size == 0
	b := buffers{ring: c.out, regions: c.regions, base: c.base, size: c.size}
	if zero {
		c.send = newZeroSender(c.out)
	} else {
		c.send = &copySender{b}
	}
	for _, r := range c.in {
		b.base += c.size * int(b.ring.size)
		b.ring = r
		if zero {
			z := newZeroReceiver(r, lost)
			z.offer(pool)
			c.receive = append(c.receive, z)
		} else {
			c.receive = append(c.receive, newCopyReceiver(b, lost))
		}
	}
}

// interrupts says whether the peer is to wake us.
func (c *connection) interrupts(on bool) {
	for _, r := range c.in {
		r.interrupts(on)
	}
}

func (c *connection) waiting() bool {
	for _, r := range c.receive {
		if r.waiting() {
			return true
		}
	}
	return false
}

// reclaim gives the frames back that the peer has.
func (c *connection) reclaim(pool frames) {
	for _, r := range c.receive {
		r.reclaim(pool)
	}
	c.send.reclaim(pool)
}

// fail ends the connection, for the first reason of several. It does not block.
func (c *connection) fail(why error) {
	c.once.Do(func() {
		c.why = why
		c.gone.Store(true)
		c.sock.SetReadDeadline(time.Unix(1, 0)) // wakes the goroutine that reads
	})
}

// holds reports whether an address lies in a region.
func (c *connection) holds(at uintptr) bool {
	for _, m := range c.regions {
		if from := uintptr(unsafe.Pointer(&m[0])); at >= from && at-from < uintptr(len(m)) {
			return true
		}
	}
	return false
}

// errCut says that a peer made a region smaller than it said.
var errCut = errors.New("the peer cut off the file of a region")

// survive makes a fault (SIGBUS) in one of the connection's regions, of which the peer has cut
// off the file, call cut instead of ending the process. Its result is to be deferred.
func survive(c *connection, cut func()) (end func()) {
	was := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(was)
		if r := recover(); r != nil {
			if fault, ok := r.(interface{ Addr() uintptr }); !ok || !c.holds(fault.Addr()) {
				panic(r)
			}
			cut()
		}
	}
}

// close ends what release left: files and mappings.
func (c *connection) close() {
	for _, m := range c.regions {
		unix.Munmap(m)
	}
	closeAll(c.events)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// run hands the connection to the manager's thread and returns when it is over, with the
// reason.
func (p *Port) run(ctx context.Context, c *connection) error {
	for _, r := range c.in {
		if err := p.watch(r.event); err != nil {
			return fmt.Errorf("its interrupts cannot be waited for: %w", err)
		}
	}
	defer func() {
		for _, r := range c.in {
			unix.EpollCtl(p.poll, unix.EPOLL_CTL_DEL, r.event, nil)
		}
		c.close()
	}()
	p.log.Info("connected", "peer", c.peer)
	p.peer.Store(&c.peer)
	defer p.peer.Store(nil)
	p.next.Store(c)
	p.announce()

	c.sock.SetReadDeadline(time.Time{})
	if c.gone.Load() || ctx.Err() != nil {
		c.sock.SetReadDeadline(time.Unix(1, 0))
	}
	m, fds, err := receive(c.sock)
	closeAll(fds)
	if err == nil && m.kind() == kindDisconnect {
		err = fmt.Errorf("the peer disconnects: %s", m.reason())
	} else if err == nil {
		err = fmt.Errorf("the peer sent %s to an open connection", kindName(m.kind()))
	}
	c.fail(err)
	p.announce()
	if p.next.CompareAndSwap(c, nil) {
		return c.why // the manager's thread never had it
	}
	select {
	case <-c.released:
	case <-ctx.Done():
	}
	return c.why
}

// errGone says that the peer ended without a word.
var errGone = errors.New("the peer is gone")

// receive reads one control message and the files that come with it.
func receive(sock *net.UnixConn) (m message, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*4)+unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, flags, _, err := sock.ReadMsgUnix(m[:], oob)
	if cmsgs, perr := unix.ParseSocketControlMessage(oob[:oobn]); perr == nil {
		for i := range cmsgs {
			if list, perr := unix.ParseUnixRights(&cmsgs[i]); perr == nil {
				fds = append(fds, list...)
			}
		}
	}
	switch {
	case n == 0 && (err == nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		err = errGone
	case err != nil:
	case n != messageLen || flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("the peer sent a message of %d bytes, not %d", n, messageLen)
	}
	return m, fds, err
}

// send writes one control message, with a file unless fd is below 0.
func send(sock *net.UnixConn, m message, fd int) error {
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	sock.SetWriteDeadline(time.Now().Add(handshakeTime))
	_, _, err := sock.WriteMsgUnix(m[:], oob, nil)
	return err
}

// handshakeTime bounds the agreement.
const handshakeTime = 5 * time.Second
