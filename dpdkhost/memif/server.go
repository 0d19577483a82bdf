package memif

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a server accepts.
const (
	maxRegions = 256 // as DPDK: zero-copy clients have one for each list of memory segments
	maxRings   = 16  // each way
)

// listen makes the control socket. One that a dead process left is replaced.
func listen(path string) (*net.UnixListener, error) {
	if !strings.HasPrefix(path, "@") {
		if c, err := net.DialTimeout("unixpacket", path, time.Second); err == nil {
			c.Close()
			return nil, errors.New("another program serves this socket already")
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
		}
	}
	l, err := net.Listen("unixpacket", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// serve lets clients in, one at a time; others are told so.
func (p *Port) serve(ctx context.Context) {
	var busy atomic.Bool
	for {
		conn, err := p.listen.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// No file descriptor, for instance: it may pass.
			p.log.Warn("a client cannot be let in", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if !busy.CompareAndSwap(false, true) {
			send(conn, disconnect("already connected"), -1)
			conn.Close()
			continue
		}
		p.ended.Go(func() {
			defer busy.Store(false)
			p.converse(ctx, conn, p.welcome)
		})
	}
}

// converse agrees with a peer on a connection, runs it, and says goodbye.
func (p *Port) converse(ctx context.Context, sock *net.UnixConn, agree func(*net.UnixConn) (*connection, error)) {
	defer sock.Close()
	defer context.AfterFunc(ctx, func() { sock.SetReadDeadline(time.Unix(1, 0)) })()
	sock.SetReadDeadline(time.Now().Add(handshakeTime))
	c, err := agree(sock)
	if err == nil {
		c.sock, c.released = sock, make(chan struct{})
		err = p.run(ctx, c)
	}
	switch {
	case ctx.Err() != nil:
		err = errClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the peer did not answer within %v", handshakeTime)
	}
	p.log.Info("not connected", "because", err)
	send(sock, disconnect(err.Error()), -1) // to a peer that may be gone
}

// welcome is the server's side of an agreement.
func (p *Port) welcome(sock *net.UnixConn) (*connection, error) {
	if err := send(sock, hello{
		name: p.config.Name, oldest: version, newest: version, lastRegion: maxRegions - 1,
		lastToClient: maxRings - 1, lastToServer: maxRings - 1, largestRingLog2: largestRingLog2,
	}.message(), -1); err != nil {
		return nil, err
	}
	o := offer{config: &p.config}
	for {
		m, fds, err := receive(sock)
		if err != nil {
			closeAll(fds)
			o.close()
			return nil, err
		}
		c, err := o.take(&m, fds)
		if err != nil {
			o.close()
			return nil, err
		}
		answer := newMessage(kindAck)
		if c != nil {
			answer = named(kindConnected, p.config.Name)
		}
		if err := send(sock, answer, -1); err != nil {
			if c != nil {
				c.close()
			} else {
				o.close()
			}
			return nil, err
		}
		if c != nil {
			return c, nil
		}
	}
}

// An offer is what a client has offered so far. Nothing of it is believed.
type offer struct {
	config  *Config
	greeted bool
	name    string
	regions []offeredRegion
	in, out []offeredRing // towards the server, towards the client
	// unsealed is as in connection.
	unsealed bool
}

type offeredRegion struct {
	fd   int
	size uint64
}

type offeredRing struct {
	addRing
	event int
}

func (o *offer) close() {
	for _, r := range o.regions {
		unix.Close(r.fd)
	}
	for _, r := range append(o.in, o.out...) {
		unix.Close(r.event)
	}
}

// take deals with one message, and owns the files that came with it. The connection is there
// after the last.
func (o *offer) take(m *message, fds []int) (*connection, error) {
	kept := -1
	defer func() {
		for _, fd := range fds {
			if fd != kept {
				unix.Close(fd)
			}
		}
	}()
	if kind := m.kind(); kind != kindInit && kind != kindDisconnect && !o.greeted {
		return nil, fmt.Errorf("the client sent %s before INIT", kindName(kind))
	}
	file := func() (int, error) {
		if len(fds) != 1 {
			return -1, fmt.Errorf("%s came with %d files, not 1", kindName(m.kind()), len(fds))
		}
		return fds[0], nil
	}
	switch m.kind() {
	case kindInit:
		return nil, o.greet(m.introduction())
	case kindAddRegion:
		a := m.addRegion()
		fd, err := file()
		if err != nil {
			return nil, err
		}
		if int(a.index) != len(o.regions) || len(o.regions) == maxRegions {
			return nil, fmt.Errorf("region %d: expected %d, and at most %d", a.index, len(o.regions), maxRegions)
		}
		sealed, err := checkRegion(fd, a.size)
		if err != nil {
			return nil, fmt.Errorf("region %d: %w", a.index, err)
		}
		kept = fd
		o.regions = append(o.regions, offeredRegion{fd, a.size})
		o.unsealed = o.unsealed || !sealed
	case kindAddRing:
		a := m.addRing()
		fd, err := file()
		if err != nil {
			return nil, err
		}
		list := &o.out
		if a.toServer {
			list = &o.in
		}
		if int(a.index) != len(*list) || len(*list) == maxRings {
			return nil, fmt.Errorf("ring %d: expected %d, and at most %d", a.index, len(*list), maxRings)
		}
		if a.private != 0 {
			return nil, fmt.Errorf("ring %d: headers of %d bytes before each packet are not supported", a.index, a.private)
		}
		if err := checkEvent(fd); err != nil {
			return nil, fmt.Errorf("ring %d: %w", a.index, err)
		}
		kept = fd
		*list = append(*list, offeredRing{a, fd})
	case kindConnect:
		return o.connect()
	case kindDisconnect:
		return nil, fmt.Errorf("the peer disconnects: %s", m.reason())
	default:
		return nil, fmt.Errorf("the client sent %s", kindName(m.kind()))
	}
	return nil, nil
}

func (o *offer) greet(i introduction) error {
	switch {
	case o.greeted:
		return errors.New("the client sent INIT twice")
	case i.version != version:
		return fmt.Errorf("the client speaks version %d.%d, not 2.0", i.version>>8, i.version&0xff)
	case i.id != o.config.ID:
		return fmt.Errorf("ID not found: the client wants interface %d, this is %d", i.id, o.config.ID)
	case i.mode != 0:
		return errors.New("only Ethernet mode is supported")
	case o.config.Secret != "" && i.secret == "":
		return errors.New("secret required")
	case o.config.Secret != "" && i.secret != o.config.Secret:
		return errors.New("incorrect secret")
	}
	o.greeted, o.name = true, i.name
	return nil
}

// checkRegion makes sure that a region is as large as was said, and reports whether it stays so.
func checkRegion(fd int, size uint64) (sealed bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if size == 0 || size > 1<<36 || uint64(st.Size) < size {
		return false, fmt.Errorf("its file has %d bytes, not %d", st.Size, size)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_SHRINK != 0, nil
}

// checkEvent makes sure that writing to a file wakes and does not block.
func checkEvent(fd int) error {
	if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil || name != "anon_inode:[eventfd]" {
		return fmt.Errorf("its file is %q, not an eventfd(2)", name)
	}
	return unix.SetNonblock(fd, true)
}

// connect maps the regions and lays the rings over them.
func (o *offer) connect() (agreed *connection, err error) {
	if len(o.in) == 0 || len(o.out) == 0 {
		return nil, fmt.Errorf("the client has %d rings to send and %d to receive", len(o.in), len(o.out))
	}
	c := &connection{peer: o.name, unsealed: o.unsealed}
	fail := func(err error) (*connection, error) {
		c.events = nil // the offer's
		c.close()
		return nil, err
	}
	defer survive(c, func() { agreed, err = fail(errCut) })()
	for k, r := range o.regions {
		m, err := unix.Mmap(r.fd, 0, int(r.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fail(fmt.Errorf("region %d: %w", k, err))
		}
		c.regions = append(c.regions, m)
	}
	for _, list := range [][]offeredRing{o.in, o.out} {
		for _, a := range list {
			r, err := a.over(c.regions)
			if err != nil {
				return fail(err)
			}
			if a.toServer {
				c.in = append(c.in, r)
			} else if c.out == nil {
				c.out = r
			}
			c.events = append(c.events, a.event)
		}
	}
	for _, r := range o.regions {
		unix.Close(r.fd) // the mapping stays
	}
	o.regions, o.in, o.out = nil, nil, nil
	return c, nil
}

// over lays a ring over its region.
func (a *offeredRing) over(regions [][]byte) (*ring, error) {
	if int(a.region) >= len(regions) {
		return nil, fmt.Errorf("ring %d is in region %d of %d", a.index, a.region, len(regions))
	}
	region := regions[a.region]
	if a.log2 > largestRingLog2 || a.offset%8 != 0 || uint64(a.offset)+uint64(ringBytes(int(a.log2))) > uint64(len(region)) {
		return nil, fmt.Errorf("ring %d of 2^%d at %d does not lie in its region of %d bytes", a.index, a.log2, a.offset, len(region))
	}
	mem := region[a.offset:]
	if got := nativeUint32(mem); got != cookie {
		return nil, fmt.Errorf("ring %d begins with %#x, not with %#x", a.index, got, cookie)
	}
	return ringOver(mem, int(a.log2), false, a.event), nil
}
