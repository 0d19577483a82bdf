package port

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf"
	"weft/internal/device"
	"weft/internal/ns"
	"weft/internal/vnet"
)

// withKinds runs a test with every kind of port to a host that this user may have.
func withKinds(t *testing.T, test func(t *testing.T, c Config)) {
	for _, c := range []Config{
		{Kind: Packet}, {Kind: Packet, Plain: true}, {Kind: TAP}, {Kind: TAP, Plain: true},
		{Kind: XDP, Mode: modeNative}, {Kind: XDP, Mode: modeGeneric},
	} {
		t.Run(fmt.Sprintf("%s%s,plain=%v", c.Kind, c.Mode, c.Plain), func(t *testing.T) {
			if c.Kind == XDP {
				needXDP(t)
			}
			test(t, c)
		})
	}
}

// needXDP skips a test where this process may not have AF_XDP, or the kernel has none.
func needXDP(t *testing.T) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Skipf("no AF_XDP for this user or kernel: %v", err)
	}
	m.Close()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
	if err != nil {
		t.Skipf("no AF_XDP sockets: %v", err)
	}
	unix.Close(fd)
}

// talk is what a test sends over UDP and reads back.
func (l *lab) talk(t *testing.T, six bool, sizes ...int) {
	t.Helper()
	var socks [2]*net.UDPConn
	for i, n := range l.hosts {
		must(t, n.Do(func() (err error) {
			socks[i], err = net.DialUDP("udp", address(i, six, 5000), address(1-i, six, 5000))
			return err
		}))
		defer socks[i].Close()
	}
	for _, size := range sizes {
		for i := range socks {
			data := make([]byte, size)
			for k := range data {
				data[k] = byte(k * (i + 3))
			}
			got := make([]byte, size+1)
			n, tries := 0, 0
			for ; n != size && tries < 50; tries++ { // the first may be lost: the interface has just come up
				if _, err := socks[i].Write(data); err != nil {
					continue // refused, of an earlier one
				}
				socks[1-i].SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				n, _ = socks[1-i].Read(got)
			}
			if n != size || string(got[:n]) != string(data) {
				t.Fatalf("a datagram of %d bytes did not come from host %d as it was sent", size, i)
			}
		}
	}
}

// dial opens a UDP socket on a host, with a port of its own.
func (l *lab) dial(t *testing.T, i int, to *net.UDPAddr) (c *net.UDPConn) {
	t.Helper()
	must(t, l.hosts[i].Do(func() (err error) {
		c, err = net.DialUDP("udp", nil, to)
		return err
	}))
	return c
}

func address(i int, six bool, port int) *net.UDPAddr {
	if six {
		return &net.UDPAddr{IP: net.ParseIP(fmt.Sprintf("fd00::%d", i+1)), Port: port}
	}
	return &net.UDPAddr{IP: net.IPv4(10, 0, 0, byte(i+1)), Port: port}
}

// transfer sends so many bytes by TCP from one host to the other.
func (l *lab) transfer(t testing.TB, from int, six bool, size int) time.Duration {
	t.Helper()
	to := address(1-from, six, 5001)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	var listener net.Listener
	must(t, l.hosts[1-from].Do(func() (err error) {
		listener, err = net.Listen("tcp", to.String())
		return err
	}))
	defer listener.Close()
	sum := make(chan [32]byte, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		h := sha256.New()
		io.Copy(h, c)
		sum <- [32]byte(h.Sum(nil))
	}()
	var c net.Conn
	must(t, l.hosts[from].Do(func() (err error) {
		c, err = net.DialTimeout("tcp", to.String(), 20*time.Second)
		return err
	}))
	start := time.Now()
	must(t, c.SetDeadline(time.Now().Add(60*time.Second)))
	_, err := c.Write(data)
	must(t, err)
	must(t, c.Close())
	select {
	case got := <-sum:
		if got != sha256.Sum256(data) {
			t.Error("what arrived is not what was sent")
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the stream does not end")
	}
	return time.Since(start)
}

// A watcher is an NF that sends packets on and checks what it sees.
type watcher struct {
	packets, super, partial, wrong atomic.Int64
}

func (w *watcher) handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		w.packets.Add(1)
		if p.Len() > 9014 {
			w.super.Add(1)
		}
		if p.Unfinished() {
			w.partial.Add(1)
		} else if !checksumRight(p.Data()) {
			w.wrong.Add(1)
		}
		p.Next()
	}
}

// checksumRight reports whether the transport checksum of a TCP or UDP packet is right.
func checksumRight(frame []byte) bool {
	ip, etherType := vnet.Network(frame)
	b := frame[min(ip, len(frame)):]
	var protocol byte
	var pseudo uint64
	var transport []byte
	switch {
	case etherType == 0x0800 && len(b) >= 20:
		head, length := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if vnet.Fold(vnet.Sum(0, b[:head])) != 0xffff {
			return false
		}
		if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return true // a fragment
		}
		protocol, transport = b[9], b[head:length]
		pseudo = vnet.Sum(uint64(protocol)+uint64(length-head), b[12:20])
	case etherType == 0x86dd && len(b) >= 40:
		length := int(binary.BigEndian.Uint16(b[4:]))
		protocol, transport = b[6], b[40:40+length]
		pseudo = vnet.Sum(uint64(protocol)+uint64(length), b[8:40])
	}
	if protocol != 6 && protocol != 17 {
		return true
	}
	return vnet.Fold(vnet.Sum(pseudo, transport)) == 0xffff
}

// Datagrams and streams arrive as they were sent, both ways, through an NF and without, with IPv4
// and IPv6; no frame is lost.
func TestTraffic(t *testing.T) {
	withKinds(t, func(t *testing.T, c Config) {
		for _, through := range []bool{false, true} {
			t.Run(fmt.Sprintf("nf=%v", through), func(t *testing.T) {
				w := &watcher{}
				var l *lab
				if through {
					l = newLab(t, c, w.handle)
				} else {
					l = newLab(t, c, nil)
				}
				for _, six := range []bool{false, true} {
					l.talk(t, six, 1, 100, 1400, 4000) // the last in fragments
					for from := range 2 {
						l.transfer(t, from, six, 3_000_000)
					}
				}
				if through {
					t.Logf("%d packets, %d super-frames, %d with a checksum to complete", w.packets.Load(), w.super.Load(), w.partial.Load())
					if n := w.wrong.Load(); n > 0 {
						t.Errorf("%d packets had wrong checksums", n)
					}
					if whole := !c.Plain && c.Kind != XDP; whole != (w.super.Load() > 0) || whole != (w.partial.Load() > 0) {
						t.Errorf("super-frames: %d, with a checksum to complete: %d", w.super.Load(), w.partial.Load())
					}
				}
				l.settled(t)
			})
		}
	})
}

// Frames pass whatever the MTU is: the largest of each, those that just do not fit into a slot of a ring
// or a frame, and what is longer in fragments.
func TestMTU(t *testing.T) {
	withKinds(t, func(t *testing.T, c Config) {
		mtus := []int{1280, 1501, 1773, 2001, 9000, 65521}
		if c.Kind == XDP { // more, TestXDPRefuses
			mtus = []int{1280, 1501, smallRoom - 18}
		}
		for _, c.MTU = range mtus {
			t.Run(fmt.Sprint(c.MTU), func(t *testing.T) {
				l := newLab(t, c, nil)
				sizes := []int{1, c.MTU - 29, c.MTU - 28, c.MTU - 27}
				for _, size := range []int{1745, 1750, 1760, 1900, 1980} {
					if size < c.MTU {
						sizes = append(sizes, size)
					}
				}
				l.talk(t, false, slices.DeleteFunc(sizes, func(n int) bool { return n > 65507 })...)
				for from := range 2 {
					l.transfer(t, from, true, 500_000)
				}
				l.settled(t)
			})
		}
	})
}

// Where there are no TAP devices, a TAP port is a veth pair.
func TestNoTAP(t *testing.T) {
	l := &lab{}
	l.manager, l.end = newManager(t, manager.Config{Frames: 64})
	l.opener = NewOpener(l.manager)
	l.opener.tun = "/nonexistent"
	p, kind, err := l.opener.Open(Config{Device: "x-eth0"})
	must(t, err)
	if kind != TAP {
		t.Errorf("the port is of kind %s", kind)
	}
	if _, err := device.Index("x-eth0"); err != nil {
		t.Error(err)
	}
	must(t, l.manager.AddPort(1, "x", p))
	must(t, l.manager.RemovePort(1))
	if _, err := device.Index("x-eth0"); err == nil {
		t.Error("the interface is still there")
	}
}

// An interface that goes down comes back; one that is removed hurts nobody else.
func TestLinkDown(t *testing.T) {
	withKinds(t, func(t *testing.T, c Config) {
		l := newLab(t, c, nil)
		l.talk(t, false, 100)
		h, err := l.hosts[1].Handle()
		must(t, err)
		defer h.Close()
		d, err := h.LinkByName("h2-eth0")
		must(t, err)
		for range 2 {
			must(t, h.LinkSetDown(d))
			sendSome(t, l.hosts[0])
			must(t, h.LinkSetUp(d))
			must(t, h.AddrReplace(d, mustAddr(t, "fd00::2/64")))
			l.talk(t, false, 100, 1400)
		}
		if c.Kind != TAP {
			// The port's own side.
			mine, err := netlink.LinkByName("n-eth2")
			must(t, err)
			must(t, netlink.LinkSetDown(mine))
			sendSome(t, l.hosts[0])
			must(t, netlink.LinkSetUp(mine))
			l.talk(t, false, 100, 1400)
		}
		must(t, h.LinkDel(d))
		sendSome(t, l.hosts[0])
		l.settled(t)
	})
}

func mustAddr(t *testing.T, s string) *netlink.Addr {
	a, err := netlink.ParseAddr(s)
	must(t, err)
	a.Flags = unix.IFA_F_NODAD
	return a
}

// sendSome sends datagrams that nobody waits for.
func sendSome(t *testing.T, n *ns.Net) {
	t.Helper()
	must(t, n.Do(func() error {
		s, err := net.DialUDP("udp", nil, address(1, false, 9))
		if err != nil {
			return err
		}
		defer s.Close()
		for range 100 {
			s.Write(make([]byte, 1000))
		}
		return nil
	}))
}

// A VLAN tag, which the kernel takes out of a frame, is there again, for NFs and behind the port;
// small frames and large ones.
func TestVLAN(t *testing.T) {
	withKinds(t, func(t *testing.T, c Config) {
		lengths := []int{60, 1400}
		if c.Kind != XDP {
			c.MTU = 4000
			lengths = append(lengths, 1790, 1800, 3000)
		}
		frame := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0x60, 42, 0x88, 0xb5}, make([]byte, 3000)...)
		for i := range frame[18:] {
			frame[18+i] = byte(i * 5)
		}
		seen := make(chan string, 64)
		l := newLab(t, c, func(batch []nf.Packet) {
			for i := range batch {
				if b := batch[i].Data(); len(b) > 18 && (b[12] == 0x81 || b[12] == 0x88) {
					select {
					case seen <- string(b):
					default:
					}
				}
				batch[i].Next()
			}
		})
		l.talk(t, false, 10)
		from, to := l.socket(t, 0), l.socket(t, 1)
		must(t, unix.SetsockoptInt(to, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
		for _, length := range lengths {
			sent := string(frame[:length])
			if _, err := unix.Write(from, append(make([]byte, vnet.Len), sent...)); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-seen:
				if got != sent {
					t.Fatalf("the NF sees %d bytes %x…, sent were %d: %x…", len(got), got[:20], len(sent), sent[:20])
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("a frame of %d bytes did not come", length)
			}
			eventually(t, "the frame did not arrive", func() bool {
				b, oob := make([]byte, 5000), make([]byte, 64)
				n, _, _, _, err := unix.Recvmsg(to, b, oob, 0)
				if err != nil || n < vnet.Len+14 || string(b[n-10:n]) != sent[len(sent)-10:] {
					return false
				}
				got := string(b[vnet.Len:][:12]) + string([]byte{0x81, 0, oob[unix.CmsgLen(0)+17], oob[unix.CmsgLen(0)+16]}) + string(b[vnet.Len+12:n])
				if got != sent {
					t.Fatalf("%x… arrived, sent was %x…", got[:20], sent[:20])
				}
				return true
			})
		}
	})
}

// A capture on the port's interface sees what comes and what leaves, super-frames too.
func TestCapture(t *testing.T) {
	l := newLab(t, Config{Kind: Packet}, nil)
	fd, err := device.OpenSocket(32 << 20)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 0))
	must(t, device.Bind(fd, "n-eth2"))
	l.talk(t, false, 100)
	l.transfer(t, 0, false, 300_000)
	var seen [5]int // by the type of packet (packet(7))
	large := 0
	b := make([]byte, 70000)
	for {
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			break
		}
		seen[from.(*unix.SockaddrLinklayer).Pkttype]++
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING && n > 9000 {
			large++
		}
	}
	if out := seen[unix.PACKET_OUTGOING]; out == 0 || out == seen[0]+seen[1]+seen[2]+seen[3]+out || large == 0 {
		t.Errorf("seen by type: %v, %d large ones that left", seen, large)
	}
}

// socket returns a packet socket on a host's interface.
func (l *lab) socket(t *testing.T, i int) (fd int) {
	t.Helper()
	must(t, l.hosts[i].Do(func() (err error) {
		if fd, err = device.OpenSocket(1 << 20); err != nil {
			return err
		}
		return device.Bind(fd, fmt.Sprintf("h%d-eth0", i+1))
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// What is wrong with a port is said before anything is made.
func TestValidate(t *testing.T) {
	for _, bad := range []Config{
		{}, {Device: "a-name-that-is-too-long"}, {Device: "a/b"}, {Device: ".."}, {Kind: "dpdk", Device: "eth0"},
		{Device: "eth0", MAC: "1:2"}, {Device: "eth0", MAC: "01:00:00:00:00:00"}, {Device: "eth0", MTU: 10}, {Device: "eth0", MTU: 100000},
	} {
		if err := bad.Validate(); err == nil {
			t.Errorf("%+v is accepted", bad)
		} else {
			t.Log(err)
		}
	}
	_, _, err := (&Opener{}).Open(Config{Kind: Packet, Device: "nothing"})
	if err == nil {
		t.Error("a port on no interface")
	}
	t.Log(err)
}
