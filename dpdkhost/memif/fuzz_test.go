package memif

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/shm"
)

// A strictPool is a manager's pool that notices a frame given back twice.
type strictPool struct {
	t   *testing.T
	mem *shm.Memory
	out map[uint32]bool
}

func newStrictPool(t *testing.T) *strictPool {
	mem, err := shm.NewMemory(96, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return &strictPool{t, mem, map[uint32]bool{}}
}

func (p *strictPool) Memory() *shm.Memory { return p.mem }

func (p *strictPool) Get(length int) (uint32, bool) {
	from, to := 0, 96
	if length > shm.FrameSize-shm.Headroom {
		from, to = 96, 100
	}
	for i := from; i < to; i++ {
		if !p.out[uint32(i)] {
			p.out[uint32(i)] = true
			return uint32(i), true
		}
	}
	return 0, false
}

func (p *strictPool) Free(frame uint32) {
	if !p.out[frame] {
		p.t.Errorf("frame %d is given back, and was free", frame)
	}
	delete(p.out, frame)
}

// exercise moves packets over a connection, whatever its rings say; scribble is the peer.
func exercise(t *testing.T, c *connection, pool *strictPool, scribble func()) {
	var lost uint64
	c.begin(pool, &lost)
	var into [16]shm.Desc
	for range 4 {
		scribble()
		failed := false
		for _, r := range c.receive {
			n, err := r.receive(into[:], pool)
			failed = failed || err != nil
			for k := range into[:n] {
				if p := pool.mem.Packet(&into[k]); len(p) < shortest {
					t.Errorf("a packet of %d bytes", len(p))
				}
			}
			sent, err := c.send.send(into[:n], pool)
			failed = failed || err != nil
			for _, d := range into[sent:n] {
				pool.Free(d.Frame)
			}
		}
		if err := c.send.reap(pool); err != nil || failed {
			break
		}
	}
	c.reclaim(pool)
	if len(pool.out) > 0 {
		t.Errorf("%d frames are lost", len(pool.out))
	}
}

// A client that cuts off a region that we use ends its connection, not the process, and no frame
// is lost.
func TestCutOff(t *testing.T) {
	const size = 1 << 20
	contents := make([]byte, 8192)
	for _, at := range []int{0, 4096} {
		binary.NativeEndian.PutUint32(contents[at:], cookie)
		binary.NativeEndian.PutUint16(contents[at+6:], 8)
		for slot := range 8 {
			binary.NativeEndian.PutUint32(contents[at+ringHead+slot*descLen+4:], 100)
			binary.NativeEndian.PutUint32(contents[at+ringHead+slot*descLen+8:], uint32(size-4096*(8-slot)))
		}
	}
	for _, left := range []int64{0, size - 5*4096, size - 9*4096} {
		fd, err := unix.MemfdCreate("cut", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		unix.Ftruncate(fd, size)
		unix.Pwrite(fd, contents, 0)
		own, _ := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		defer unix.Close(own)
		event := func() []int {
			e, _ := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
			return []int{e}
		}
		o := offer{config: &Config{Server: true}}
		var c *connection
		for _, s := range []struct {
			m   message
			fds []int
		}{
			{introduction{version: version}.message(), nil}, {addRegion{0, size}.message(), []int{fd}},
			{addRing{toServer: true, log2: 3}.message(), event()}, {addRing{offset: 4096, log2: 3}.message(), event()},
			{newMessage(kindConnect), nil},
		} {
			if c, err = o.take(&s.m, s.fds); err != nil {
				t.Fatal(err)
			}
		}
		sockets, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		f := os.NewFile(uintptr(sockets[0]), "socket")
		sock, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		c.sock = sock.(*net.UnixConn)
		pool, p := newStrictPool(t), &Port{poll: -1}
		var lost uint64
		c.begin(pool, &lost)
		p.live, p.asleep = c, true
		var into [16]shm.Desc
		packets := make([]shm.Desc, 8)
		for k := range packets {
			frame, _ := pool.Get(100)
			packets[k] = shm.Desc{Frame: frame, Length: 100, Offset: shm.Headroom}
		}
		if err := unix.Ftruncate(own, left); err != nil {
			t.Fatal(err)
		}
		if n := p.sendAll(c, packets, pool); n != 0 {
			t.Errorf("%d packets were sent into nothing", n)
		}
		if n := p.receive(c, into[:], pool); n != 0 {
			t.Errorf("%d packets came out of nothing", n)
		}
		p.Sleep()
		if !c.gone.Load() || !errors.Is(c.why, errCut) {
			t.Errorf("the connection goes on, or ends by %v", c.why)
		}
		c.reclaim(pool)
		for _, d := range packets {
			pool.Free(d.Frame)
		}
		if len(pool.out) > 0 {
			t.Errorf("%d frames are lost", len(pool.out))
		}
		c.close()
		sock.Close()
		f.Close()
		unix.Close(sockets[1])
	}
}

// file makes a sealed file in memory with some contents.
func file(t *testing.T, size int, contents []byte) int {
	fd, err := unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	unix.Write(fd, contents)
	unix.Ftruncate(fd, int64(size))
	unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
	return fd
}

// Whatever a client says, a server reads and writes only the client's regions, and no file stays
// open.
func FuzzOffer(f *testing.F) {
	honest := func(m ...message) (all []byte) {
		for k := range m {
			all = append(all, m[k][:]...)
		}
		return all
	}
	contents := make([]byte, 4096)
	for _, at := range []int{0, 512} {
		binary.NativeEndian.PutUint32(contents[at:], cookie)
		binary.NativeEndian.PutUint16(contents[at+6:], 3)
		for slot := range 4 {
			binary.NativeEndian.PutUint32(contents[at+ringHead+slot*descLen+4:], 100)
			binary.NativeEndian.PutUint32(contents[at+ringHead+slot*descLen+8:], 1024)
		}
	}
	f.Add(honest(introduction{version: version}.message(), addRegion{0, 4096}.message(),
		addRing{toServer: true, log2: 3}.message(), addRing{offset: 512, log2: 3}.message(), newMessage(kindConnect)),
		[]byte{0, 1, 2, 2, 0}, contents)
	f.Add(honest(introduction{version: version}.message(), addRegion{0, 1 << 40}.message()), []byte{0, 1}, contents)
	f.Add(honest(newMessage(kindConnect)), []byte{3}, contents)
	f.Fuzz(func(t *testing.T, messages, files, contents []byte) {
		o := offer{config: &Config{Server: true}}
		for i := 0; i*messageLen < len(messages) && i < 40; i++ {
			var m message
			copy(m[:], messages[i*messageLen:])
			var fds []int
			if i < len(files) {
				switch files[i] % 4 {
				case 1:
					fds = []int{file(t, max(4096, len(contents)), contents)}
				case 2:
					fd, _ := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
					fds = []int{fd}
				case 3:
					fds = make([]int, 2)
					unix.Pipe2(fds, unix.O_CLOEXEC)
				}
			}
			c, err := o.take(&m, fds)
			if c != nil {
				exercise(t, c, newStrictPool(t), func() {})
				c.close()
				return
			}
			if err != nil {
				break
			}
		}
		o.close()
	})
}

// Whatever a server writes into a client's memory, the client keeps to its own, and no frame is
// lost.
func FuzzRings(f *testing.F) {
	f.Add(false, []byte{0, 64, 1, 0})
	f.Add(true, []byte{0, 0, 3, 1, 64, 2})
	f.Fuzz(func(t *testing.T, copying bool, writes []byte) {
		pool := newStrictPool(t)
		p := &Port{config: Config{Copy: copying, RingSize: 32}, mem: pool.mem}
		c, fd, err := p.makeRings(5)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		defer unix.Close(fd)
		exercise(t, c, pool, func() {
			// Three bytes are a place among the rings and what is written there.
			for n := 0; n < 8 && len(writes) >= 3; n++ {
				at := int(binary.LittleEndian.Uint16(writes)) % (2 * ringBytes(5))
				c.regions[0][at] = writes[2]
				writes = writes[3:]
			}
		})
	})
}
