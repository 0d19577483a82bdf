package linktest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stream is bytes that arrive as they were sent, whatever happens to the large frames that hosts
// make of them.
func stream(t *testing.T, add Adder) {
	for _, options := range [][]string{
		{},
		{"delay=1ms"},
		{"bw=400", "delay=1ms"},
		{"loss=0.5", "duplicate=2", "delay=1ms", "jitter=1ms", "overtake=true"},
		{"corrupt=1", "reorder=5", "delay=1ms"},
		{"bw=200", "aqm=fq_codel", "ecn=true", "slot=1ms"},
	} {
		t.Run(strings.Join(options, ","), func(t *testing.T) {
			l := NewLab(t, add)
			l.try(t, options...)
			data := make([]byte, 1_500_000)
			for i := range data {
				data[i] = byte(i * i >> 7)
			}
			transfer(t, l, Addr(1), data)
			if l.withIPv6(t) {
				transfer(t, l, addr6(1), data)
			}
			Eventually(t, "the link is empty", func() bool {
				c := l.Counters(t)
				for way := range c {
					if c[way].Delivered == 0 {
						t.Fatalf("way %d: nothing was delivered", way)
					}
				}
				return empty(c)
			})
		})
	}
}

// datagrams are what segments of UDP (UDP_SEGMENT) stand for, each with its own bounds.
func datagrams(t *testing.T, add Adder) {
	for _, options := range [][]string{{}, {"delay=1ms"}, {"bw=100"}, {"jitter=1ms", "delay=2ms", "overtake=true"}} {
		t.Run(strings.Join(options, ","), func(t *testing.T) {
			l := NewLab(t, add)
			l.try(t, options...)
			socks := l.UDP(t)
			const size, last, n = 1000, 500, 11
			err := control(socks[0], func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
			if errors.Is(err, unix.ENOPROTOOPT) {
				t.Skip("this kernel has no UDP_SEGMENT")
			}
			must(t, err)
			data := make([]byte, (n-1)*size+last)
			for i := range data {
				data[i] = byte(i / size)
			}
			_, err = socks[0].Write(data)
			must(t, err)
			want := slices.Collect(slices.Chunk(data, size))
			seen := make([]bool, n)
			for range n {
				b := make([]byte, 2*size)
				must(t, socks[1].SetReadDeadline(time.Now().Add(10*time.Second)))
				k, err := socks[1].Read(b)
				must(t, err)
				if i := int(b[0]); i >= n || seen[i] || !bytes.Equal(b[:k], want[i]) {
					t.Fatalf("a datagram of %d bytes, of %d; it is none that was sent, or came twice", k, i)
				}
				seen[b[0]] = true
			}
		})
	}
}

// transfer sends data from host 0 to an address of host 1 by TCP and returns how long that took.
func transfer(t *testing.T, l *Lab, to netip.Addr, data []byte) time.Duration {
	t.Helper()
	at := netip.AddrPortFrom(to, 6000).String()
	var listener net.Listener
	must(t, l.Hosts[1].Do(func() (err error) {
		listener, err = net.Listen("tcp", at)
		return err
	}))
	defer listener.Close()
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		data, err := io.ReadAll(c)
		done <- result{data, err}
	}()
	var conn net.Conn
	must(t, l.Hosts[0].Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", at, 20*time.Second)
		return err
	}))
	defer conn.Close()
	start := time.Now()
	conn.SetDeadline(start.Add(time.Minute))
	_, err := conn.Write(data)
	must(t, err)
	must(t, conn.Close())
	r := <-done
	must(t, r.err)
	if !bytes.Equal(r.data, data) {
		t.Fatalf("%d bytes arrived of %d, or not as they were sent", len(r.data), len(data))
	}
	return time.Since(start)
}

// addr6 is the other address of host 0 or 1.
func addr6(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1)) }

// withIPv6 gives the hosts addresses of IPv6; false if this kernel has none.
func (l *Lab) withIPv6(t *testing.T) bool {
	t.Helper()
	for i, n := range l.Hosts {
		err := n.Do(func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/"+Device(i)+"/disable_ipv6", []byte("0"), 0)
		})
		if errors.Is(err, fs.ErrNotExist) {
			t.Log("this kernel has no IPv6")
			return false
		}
		must(t, err)
		h, err := n.Handle()
		must(t, err)
		d, err := h.LinkByName(Device(i))
		must(t, err)
		must(t, h.AddrAdd(d, &netlink.Addr{
			IPNet: &net.IPNet{IP: addr6(i).AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD,
		}))
		must(t, h.NeighAdd(&netlink.Neigh{
			LinkIndex: d.Attrs().Index, IP: addr6(1 - i).AsSlice(), HardwareAddr: mac(1 - i), State: unix.NUD_PERMANENT,
		}))
		h.Close()
	}
	return true
}
