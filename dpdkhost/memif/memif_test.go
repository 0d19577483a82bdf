package memif

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/shm"
)

// A hand is a port through which a test puts packets into a manager and takes them out.
type hand struct {
	mu     sync.Mutex
	in     [][]byte
	out    chan []byte
	event  int
	header []byte // a virtio header for what comes in
}

func newHand(t *testing.T) *hand {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	return &hand{out: make(chan []byte, 4096), event: fd}
}

func (h *hand) put(packets ...[]byte) {
	h.mu.Lock()
	h.in = append(h.in, packets...)
	h.mu.Unlock()
	one := [8]byte{1}
	unix.Write(h.event, one[:])
}

func (h *hand) Receive(into []shm.Desc, pool *manager.Pool) int {
	var count [8]byte
	unix.Read(h.event, count[:])
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(into) && len(h.in) > 0 {
		frame, ok := pool.Get(len(h.in[0]))
		if !ok {
			break
		}
		d := shm.Desc{Frame: frame, Offset: shm.Headroom, Length: uint32(len(h.in[0]))}
		copy(pool.Memory().Packet(&d), h.in[0])
		if h.header != nil {
			copy(pool.Memory().Frame(frame), h.header)
			d.Flags = shm.HasVnet
		}
		into[n] = d
		h.in = h.in[1:]
		n++
	}
	return n
}

// Sleep says that more waits than one burst.
func (h *hand) Sleep() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.in) > 0
}

func (h *hand) Send(list []shm.Desc, pool *manager.Pool) int {
	for k := range list {
		h.out <- bytes.Clone(pool.Memory().Packet(&list[k]))
		pool.Free(list[k].Frame)
	}
	return len(list)
}

func (h *hand) FD() int      { return h.event }
func (h *hand) Close() error { return unix.Close(h.event) }

// A node is a manager that moves packets between a hand and a memif port.
type node struct {
	*hand
	m     *manager.Manager
	port  *Port
	stop  func()
	total int
}

func newNode(t *testing.T, c Config) *node {
	t.Helper()
	m, err := manager.New(manager.Config{Frames: 4096, Large: 8, Flows: 16})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	n := &node{hand: newHand(t), m: m}
	n.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the manager does not end")
		}
	})
	t.Cleanup(n.stop)
	if testing.Verbose() {
		c.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	if n.port, err = Open(c, m.Memory()); err != nil {
		t.Fatal(err)
	}
	n.total = n.free(t)
	for k, p := range []manager.Port{n.hand, n.port} {
		if err := m.AddPort(uint16(k+1), fmt.Sprint("port", k+1), p); err != nil {
			t.Fatal(err)
		}
		f := manager.Flow{Verdict: manager.Verdict{Port: uint16(2 - k)}}
		f.Key[7], f.Mask[7] = uint64(k+1), 0xffff
		if err := m.AddFlow(f); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// free returns how many frames the manager's pool has.
func (n *node) free(t *testing.T) int {
	t.Helper()
	small, large, err := n.m.Left()
	if err != nil {
		t.Fatal(err)
	}
	return small + large
}

// until waits for something, at most ten seconds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// connected waits until packets go through, and takes those that were sent for it.
func connected(t *testing.T, a, b *node) {
	t.Helper()
	for _, d := range [][2]*node{{a, b}, {b, a}} {
		hello := packet(60, 0xff)
		until(t, "a connection", func() bool {
			d[0].put(hello)
			select {
			case <-d[1].out:
				return true
			case <-time.After(20 * time.Millisecond):
				return false
			}
		})
		for rest := true; rest; {
			select {
			case <-d[1].out:
			case <-time.After(50 * time.Millisecond):
				rest = false
			}
		}
	}
}

func packet(size int, seed byte) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i)*7 + seed
	}
	binary.BigEndian.PutUint16(p[12:], 0x88b5) // for experiments (IEEE 802)
	return p
}

// sizes are those of packets that fit into a buffer, exactly, not quite, and not at all.
var sizes = []int{14, 60, 1514, roomInFrame, roomInFrame + 1, shm.FrameSize, shm.FrameSize + 1, 9014, 65000}

func roles() map[string][2]Config {
	return map[string][2]Config{
		"zero": {{Server: true}, {}},
		"copy": {{Server: true}, {Copy: true}},
	}
}

// pair connects two nodes.
func pair(t *testing.T, c [2]Config) (server, client *node) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "memif")
	c[0].Socket, c[1].Socket = path, path
	server, client = newNode(t, c[0]), newNode(t, c[1])
	connected(t, server, client)
	return server, client
}

func TestPackets(t *testing.T) {
	for name, c := range roles() {
		t.Run(name, func(t *testing.T) {
			server, client := pair(t, c)
			for _, d := range [][2]*node{{server, client}, {client, server}} {
				var sent [][]byte
				// More than the ring has slots, in bursts that leave some time to sleep.
				for i := range 3000 {
					sent = append(sent, packet(sizes[i%4], byte(i)))
				}
				for _, size := range sizes {
					sent = append(sent, packet(size, byte(size)))
				}
				for at, next := 0, 0; at < len(sent); at = next {
					next = min(at+100, len(sent))
					if at >= 3000 {
						next = at + 1
					}
					d[0].put(sent[at:next]...)
					for k, want := range sent[at:next] {
						select {
						case got := <-d[1].out:
							if !bytes.Equal(got, want) {
								t.Fatalf("packet %d of %d bytes came with %d bytes and others", at+k, len(want), len(got))
							}
						case <-time.After(10 * time.Second):
							t.Fatalf("packet %d of %d bytes did not come", at+k, len(want))
						}
					}
				}
			}
			// All frames come back.
			for _, n := range []*node{server, client} {
				if err := n.m.RemovePort(2); err != nil {
					t.Error(err)
				}
				if got := n.free(t); got != n.total {
					t.Errorf("%d of %d frames are free at the end", got, n.total)
				}
			}
		})
	}
}

// A peer that ends gives the frames back that it has, and another takes its place.
func TestReconnect(t *testing.T) {
	for name, c := range roles() {
		t.Run(name, func(t *testing.T) {
			for first := range 2 {
				path := filepath.Join(t.TempDir(), "memif")
				c[0].Socket, c[1].Socket = path, path
				stay := newNode(t, c[first])
				for range 3 {
					other := newNode(t, c[1-first])
					connected(t, stay, other)
					if stay.port.Peer() != "weft" {
						t.Errorf("the peer is %q", stay.port.Peer())
					}
					other.stop()
					until(t, "the end noticed", func() bool { return stay.port.Peer() == "" })
					until(t, "frames back", func() bool { return stay.free(t) == stay.total })
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memif")
	server := newNode(t, Config{Socket: path, Server: true, ID: 7, Secret: "xyzzy"})
	for _, c := range []struct {
		want string
		m    message
	}{
		{"ID not found", introduction{version: version, id: 8}.message()},
		{"speaks version 1.0", introduction{version: 1 << 8, id: 7}.message()},
		{"only Ethernet", introduction{version: version, id: 7, mode: 1}.message()},
		{"secret required", introduction{version: version, id: 7}.message()},
		{"incorrect secret", introduction{version: version, id: 7, secret: "plugh"}.message()},
		{"before INIT", addRegion{}.message()},
		{"message of kind 99", newMessage(99)},
	} {
		sock := call(t, path)
		send(sock, c.m, -1)
		if m := answer(t, sock); m.kind() != kindDisconnect || !strings.Contains(m.reason(), c.want) {
			t.Errorf("%s: the answer is %s %q", c.want, kindName(m.kind()), m.reason())
		}
		sock.Close()
	}
	client := newNode(t, Config{Socket: path, ID: 7, Secret: "xyzzy"})
	connected(t, server, client)
	// Another is told that there is one already.
	second, err := net.Dial("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	if m := answer(t, second.(*net.UnixConn)); m.kind() != kindDisconnect || m.reason() != "already connected" {
		t.Errorf("a second client hears %s %q", kindName(m.kind()), m.reason())
	}
	if _, err := Open(Config{Socket: path, Server: true}, server.m.Memory()); err == nil || !strings.Contains(err.Error(), "serves this socket already") {
		t.Errorf("a second server: %v", err)
	}
}

// call connects to a server when it is free, and takes its HELLO.
func call(t *testing.T, path string) (sock *net.UnixConn) {
	t.Helper()
	until(t, "HELLO", func() bool {
		c, err := net.Dial("unixpacket", path)
		if err != nil {
			t.Fatal(err)
		}
		sock = c.(*net.UnixConn)
		m := answer(t, sock)
		if m.kind() != kindHello {
			sock.Close()
		}
		return m.kind() == kindHello
	})
	return sock
}

func answer(t *testing.T, sock *net.UnixConn) message {
	t.Helper()
	sock.SetReadDeadline(time.Now().Add(10 * time.Second))
	m, fds, err := receive(sock)
	closeAll(fds)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What the kernel left for a device to do is done before a packet leaves.
func TestUnfinished(t *testing.T) {
	server, client := pair(t, [2]Config{{Server: true}, {}})
	// A TCP super-frame of IPv4 with 3,000 bytes for segments of 1,000.
	frame := packet(14+20+20+3000, 1)
	binary.BigEndian.PutUint16(frame[12:], 0x0800)
	ip, tcp := frame[14:], frame[34:]
	copy(ip, []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(tcp, []byte{0, 80, 0, 81, 0, 0, 0, 100, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0})
	binary.BigEndian.PutUint16(tcp[16:], fold(pseudo(ip)))
	header := make([]byte, 10)
	header[0], header[1] = 1, 1
	for at, v := range map[int]uint16{2: 54, 4: 1000, 6: 34, 8: 16} {
		binary.NativeEndian.PutUint16(header[at:], v)
	}
	for _, d := range [][2]*node{{server, client}, {client, server}} {
		d[0].header = header
		d[0].put(frame)
		for i := range 3 {
			select {
			case got := <-d[1].out:
				if len(got) != 1054 || !bytes.Equal(got[54:], frame[54+1000*i:54+1000*(i+1)]) {
					t.Fatalf("segment %d has %d bytes", i, len(got))
				}
				if seq := binary.BigEndian.Uint32(got[38:]); seq != uint32(100+1000*i) {
					t.Errorf("segment %d has the sequence number %d", i, seq)
				}
				if s := fold(pseudo(got[14:]) + sum(got[34:])); s != 0xffff {
					t.Errorf("segment %d has a wrong checksum: %#x", i, s)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("segment %d did not come", i)
			}
		}
	}
}

func sum(b []byte) (s uint32) {
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return s
}

func pseudo(ip []byte) uint32 { return sum(ip[12:20]) + 6 + uint32(len(ip)-20) }

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{}, "write the path"},
		{Config{Socket: "@"}, "write the path"},
		{Config{Socket: strings.Repeat("x", 108)}, "at most 107 bytes"},
		{Config{Socket: "s", Secret: strings.Repeat("x", 25)}, "secret has 25 bytes"},
		{Config{Socket: "s", Name: strings.Repeat("x", 32)}, "at most 31"},
		{Config{Socket: "s", RingSize: 100}, "power of two"},
		{Config{Socket: "s", RingSize: 1 << 15}, "power of two"},
	} {
		if err := c.config.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, not %q", c.config, err, c.want)
		}
	}
}
