package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/ns"
)

// TestMain runs the tests again in a network namespace of their own, and in a user
// namespace where that is how to get one.
func TestMain(m *testing.M) {
	const inside = "WEFT_CAPTURE_TEST_INSIDE"
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil: // the tests say what they miss
		fmt.Fprintln(os.Stderr, "no namespaces for tests:", err)
		os.Exit(m.Run())
	}
}

func needTcpdump(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("no tcpdump installed, which compiles filters")
	}
	n, err := ns.New(nil)
	if err != nil {
		t.Skip("filters are compiled in a network namespace: ", err)
	}
	n.Close()
}

// A wire is a veth pair: frames that are sent into a come out of b.
type wire struct {
	net *ns.Net
	fd  int
}

func newWire(t testing.TB) *wire {
	t.Helper()
	n, err := ns.New(func() error {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		return errors.Join(err, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a", Flags: net.FlagUp}, PeerName: "b"}))
	})
	if err != nil {
		t.Skip("links need a network namespace: ", err)
	}
	t.Cleanup(func() { n.Close() })
	w := &wire{net: n}
	err = n.Do(func() error {
		for _, name := range []string{"a", "b"} {
			l, err := netlink.LinkByName(name)
			if err == nil {
				err = netlink.LinkSetUp(l)
			}
			if err != nil {
				return err
			}
		}
		dev, err := net.InterfaceByName("a")
		if err != nil {
			return err
		}
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Ifindex: dev.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

// frame returns a UDP packet with a number in it, of size bytes.
func numberedFrame(n, size int, tag ...byte) []byte {
	b := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}, tag...)
	b = append(b, 8, 0)
	f := frame{ip: len(b), transport: len(b) + ip4Len, protocol: protocolUDP}
	b = append(b, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocolUDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	b = append(b, 0, 7, 0, 7, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = append(b, make([]byte, max(0, size-len(b)))...)
	f.finish(b)
	return b
}

// capture captures devices of the wire while f sends.
func (w *wire) capture(t testing.TB, cfg Config, devices []Device, f func()) ([]byte, []Statistics) {
	t.Helper()
	c := newCapture(t, cfg)
	if err := c.AddDevices(devices, func(_ int, f func() error) error { return w.net.Do(f) }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	var stats []Statistics
	ended := make(chan error)
	go func() {
		var err error
		stats, err = c.Run(ctx, &out, nil)
		ended <- err
	}()
	f()
	cancel() // what has been sent is captured nevertheless
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), stats
}

func (w *wire) send(t testing.TB, b []byte) {
	t.Helper()
	if _, err := unix.Write(w.fd, b); err != nil {
		t.Fatal(err)
	}
}

func TestLink(t *testing.T) {
	w := newWire(t)
	const sent = 2000
	stream, stats := w.capture(t, Config{}, []Device{{Name: "h1-eth0", Device: "a"}, {Name: "s1-eth1", Device: "b"}}, func() {
		for i := range sent {
			w.send(t, numberedFrame(i, 60+i%1400))
		}
	})
	wellFormed(t, stream)
	list, names := read(t, stream)
	if !slices.Equal(names, []string{"h1-eth0", "s1-eth1"}) {
		t.Errorf("interfaces %q", names)
	}
	next := map[string]uint32{}
	var last time.Time
	for _, r := range list {
		if n := binary.BigEndian.Uint32(r.data[42:]); n != next[r.name] {
			t.Fatalf("%s: packet %d, want %d", r.name, n, next[r.name])
		}
		next[r.name]++
		if r.time.Before(last) {
			t.Errorf("time goes back by %v", last.Sub(r.time))
		}
		last = r.time
	}
	for _, s := range stats {
		if s.Received != sent || s.Written != sent || s.Dropped != 0 {
			t.Errorf("%+v, want %d", s, sent)
		}
	}
}

func TestDirection(t *testing.T) {
	w := newWire(t)
	for _, tt := range []struct {
		device string
		d      Direction
		want   int
	}{{"a", Both, 1}, {"a", In, 0}, {"a", Out, 1}, {"b", Both, 1}, {"b", In, 1}, {"b", Out, 0}} {
		stream, _ := w.capture(t, Config{}, []Device{{Name: "x", Device: tt.device, Direction: tt.d}}, func() {
			w.send(t, numberedFrame(1, 60))
		})
		if list, _ := read(t, stream); len(list) != tt.want {
			t.Errorf("%s, direction %d: %d packets, want %d", tt.device, tt.d, len(list), tt.want)
		}
	}
}

// TestTags checks that VLAN tags are in the file as on the link, and that filters see them.
func TestTags(t *testing.T) {
	w := newWire(t)
	needTcpdump(t)
	for filter, want := range map[string]int{"": 3, "vlan 5": 1, "not vlan": 1, "vlan and udp": 2, "udp and greater 100": 1} {
		stream, _ := w.capture(t, Config{Filter: filter}, []Device{{Name: "b", Device: "b"}}, func() {
			w.send(t, numberedFrame(1, 60))
			w.send(t, numberedFrame(2, 64, 0x81, 0, 0x20, 5))
			w.send(t, numberedFrame(3, 200, 0x88, 0xA8, 0, 6))
		})
		list, _ := read(t, stream)
		if len(list) != want {
			t.Errorf("filter %q: %d packets, want %d", filter, len(list), want)
		}
		wellFormed(t, stream)
		if filter == "" && want == len(list) {
			ids := tshark(t, stream, "-T", "fields", "-e", "vlan.id", "-e", "ieee8021ad.id", "-e", "frame.len", "-e", "udp.length")
			if got := strings.Join(ids, "|"); got != "\t\t60\t26|5\t\t64\t26|\t6\t200\t162" {
				t.Errorf("tags %q", got)
			}
		}
	}
}

func TestSnapLen(t *testing.T) {
	w := newWire(t)
	for _, filter := range []string{"", "udp"} {
		if filter != "" {
			needTcpdump(t)
		}
		stream, _ := w.capture(t, Config{SnapLen: 50, Filter: filter}, []Device{{Name: "b", Device: "b"}}, func() {
			w.send(t, numberedFrame(1, 1000))
		})
		list, _ := read(t, stream)
		if len(list) != 1 || len(list[0].data) != 50 || list[0].length != 1000 {
			t.Errorf("filter %q: %d packets, want one of 1000 bytes cut to 50", filter, len(list))
		}
	}
}

// TestSlowReader checks that a reader that does not read costs packets, all of which are
// counted, and nothing else.
func TestSlowReader(t *testing.T) {
	w := newWire(t)
	c := newCapture(t, Config{})
	if err := c.AddDevices([]Device{{Name: "b", Device: "b"}}, func(_ int, f func() error) error { return w.net.Do(f) }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &stuck{reading: make(chan struct{}), go_: make(chan struct{})}
	ended := make(chan error)
	var stats []Statistics
	go func() {
		var err error
		stats, err = c.Run(ctx, r, nil)
		ended <- err
	}()
	<-r.reading
	const size = 9000
	if err := w.net.Do(func() error {
		for _, name := range []string{"a", "b"} {
			l, err := netlink.LinkByName(name)
			if err == nil {
				err = netlink.LinkSetMTU(l, size)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sent := 2 * ringSize / size
	for i := range sent {
		w.send(t, numberedFrame(i, size))
	}
	close(r.go_)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s := stats[0]
	if s.Dropped == 0 || s.Received != uint64(sent) || s.Written+s.Dropped != s.Received {
		t.Errorf("%+v of %d packets", s, sent)
	}
	wellFormed(t, r.Bytes())
}

// stuck is a Writer that waits before its second Write.
type stuck struct {
	bytes.Buffer
	reading, go_ chan struct{}
	n            int
}

func (s *stuck) Write(p []byte) (int, error) {
	if s.n++; s.n == 1 {
		close(s.reading)
		<-s.go_
	}
	return s.Buffer.Write(p)
}

// TestGone checks that a capture outlives its interface.
func TestGone(t *testing.T) {
	w := newWire(t)
	stream, _ := w.capture(t, Config{}, []Device{{Name: "b", Device: "b"}}, func() {
		w.send(t, numberedFrame(1, 60))
		err := w.net.Do(func() error {
			l, err := netlink.LinkByName("b")
			if err != nil {
				return err
			}
			return netlink.LinkDel(l)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if list, _ := read(t, stream); len(list) != 1 {
		t.Errorf("%d packets, want 1", len(list))
	}
	if err := newCapture(t, Config{}).AddDevices([]Device{{Name: "b", Device: "b"}}, func(_ int, f func() error) error { return w.net.Do(f) }); err == nil {
		t.Error("a capture on no interface")
	}
}
