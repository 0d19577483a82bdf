package memif

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/shm"
)

func nativeUint32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// redial is how long a client waits before it tries again.
const redial = 50 * time.Millisecond

// dial connects to the server, again and again.
func (p *Port) dial(ctx context.Context) {
	var d net.Dialer
	for ctx.Err() == nil {
		conn, err := d.DialContext(ctx, "unixpacket", p.config.Socket)
		if err == nil {
			p.converse(ctx, conn.(*net.UnixConn), p.introduce)
		}
		select {
		case <-ctx.Done():
		case <-time.After(redial):
		}
	}
}

// introduce is the client's side of an agreement: one ring each way.
func (p *Port) introduce(sock *net.UnixConn) (_ *connection, err error) {
	m, err := expect(sock, kindHello)
	if err != nil {
		return nil, err
	}
	h := m.hello()
	if h.oldest > version || h.newest < version {
		return nil, fmt.Errorf("the server speaks versions %d.%d to %d.%d, not 2.0", h.oldest>>8, h.oldest&0xff, h.newest>>8, h.newest&0xff)
	}
	log2 := min(bits.TrailingZeros(uint(p.config.RingSize)), int(h.largestRingLog2))
	c, file, err := p.makeRings(log2)
	if err != nil {
		return nil, err
	}
	defer unix.Close(file)
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	c.peer = h.name
	say := func(m message, fd int) error {
		if err := send(sock, m, fd); err != nil {
			return err
		}
		_, err := expect(sock, kindAck)
		return err
	}
	if err := say(introduction{version: version, id: p.config.ID, secret: p.config.Secret, name: p.config.Name}.message(), -1); err != nil {
		return nil, err
	}
	if err := say(addRegion{0, uint64(len(c.regions[0]))}.message(), file); err != nil {
		return nil, err
	}
	if !p.config.Copy {
		if h.lastRegion < packetRegion {
			return nil, fmt.Errorf("the server takes %d region, zero copy needs 2: choose copying", h.lastRegion+1)
		}
		if err := say(addRegion{packetRegion, uint64(len(p.mem.Bytes()))}.message(), int(p.mem.File().Fd())); err != nil {
			return nil, err
		}
	}
	for i, r := range []*ring{c.out, c.in[0]} {
		if err := say(addRing{toServer: i == 0, offset: uint32(i * ringBytes(log2)), log2: uint8(log2)}.message(), r.event); err != nil {
			return nil, err
		}
	}
	if err := send(sock, named(kindConnect, p.config.Name), -1); err != nil {
		return nil, err
	}
	_, err = expect(sock, kindConnected)
	return c, err
}

// expect reads the message that must come now.
func expect(sock *net.UnixConn, kind uint16) (message, error) {
	m, fds, err := receive(sock)
	closeAll(fds)
	switch {
	case err != nil:
	case m.kind() == kindDisconnect:
		err = fmt.Errorf("the server refuses: %s", m.reason())
	case m.kind() != kind:
		err = fmt.Errorf("the server sent %s, not %s", kindName(m.kind()), kindName(kind))
	}
	return m, err
}

// makeRings makes the client's memory: two rings, and with Copy their buffers.
func (p *Port) makeRings(log2 int) (*connection, int, error) {
	c := &connection{base: 2 * ringBytes(log2)}
	size := c.base
	if p.config.Copy {
		c.size = shm.FrameSize
		size += 2 * c.size << log2
	}
	fd, err := unix.MemfdCreate("weft-memif", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, -1, err
	}
	fail := func(err error) (*connection, int, error) {
		unix.Close(fd)
		c.close()
		return nil, -1, fmt.Errorf("memory for rings: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fail(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fail(err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fail(err)
	}
	c.regions = [][]byte{mem}
	for i := range 2 {
		event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return fail(err)
		}
		c.events = append(c.events, event)
		at := mem[i*ringBytes(log2):]
		binary.NativeEndian.PutUint32(at, cookie)
		r := ringOver(at, log2, true, event)
		if i == 0 {
			c.out = r
		} else {
			c.in = []*ring{r}
		}
	}
	return c, fd, nil
}
