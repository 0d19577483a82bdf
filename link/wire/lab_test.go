package wire

import (
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/internal/device"
	"weft/link"
	"weft/link/linktest"
)

func TestMain(m *testing.M) { os.Exit(linktest.Main(m)) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// newEngine starts an engine whose ends come from tun. It ends with the test.
func newEngine(t testing.TB, tun string) *Engine {
	t.Helper()
	e, err := NewEngine(slog.New(slog.DiscardHandler))
	must(t, err)
	e.tun = tun
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// A lab is one of linktest's, with a wire.
type lab struct {
	*linktest.Lab
	engine *Engine
	files  map[string]string
	tries  int // calls of reach
}

// newLab makes a lab whose ends come from tun, with a record.
func newLab(t testing.TB, tun string, record io.Writer, options ...string) *lab {
	t.Helper()
	l := &lab{engine: newEngine(t, tun)}
	l.Lab = linktest.NewLab(t, func(c link.Config) (link.Shaper, error) {
		c.Record, c.Name = record, "link"
		c.ReadFile = func(name string) ([]byte, error) { return []byte(l.files[name]), nil }
		return l.engine.Add(c)
	}, options...)
	return l
}

// withBothEnds runs a test with TAP devices, where there are some, and without.
func withBothEnds(t *testing.T, test func(t *testing.T, tun string)) {
	t.Run("tap", func(t *testing.T) {
		needTAP(t)
		test(t, device.TUN)
	})
	t.Run("veth", func(t *testing.T) { test(t, noTUN) })
}

const noTUN = "/nonexistent"

func needTAP(t testing.TB) {
	t.Helper()
	fd, err := unix.Open(device.TUN, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no TAP devices for this user: %s: %v", device.TUN, err)
	}
	unix.Close(fd)
}

// oneWay sends a datagram from host 0 and waits until host 1 has it.
func oneWay(tb testing.TB, socks [2]*net.UDPConn) time.Duration {
	tb.Helper()
	var b [64]byte
	start := time.Now()
	_, err := socks[0].Write(b[:])
	must(tb, err)
	must(tb, socks[1].SetReadDeadline(start.Add(30*time.Second)))
	_, err = socks[1].Read(b[:])
	must(tb, err)
	return time.Since(start)
}

// reach waits until datagrams from host 0 arrive at host 1: a device that has just come up may
// lose the first. They are of sockets of their own: one that is slow is in no other's way.
func (l *lab) reach(tb testing.TB) {
	tb.Helper()
	l.tries++
	socks := l.UDPOn(tb, 5100+l.tries)
	for end := time.Now().Add(30 * time.Second); ; {
		_, err := socks[0].Write([]byte{1})
		must(tb, err)
		must(tb, socks[1].SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if _, err = socks[1].Read(make([]byte, 1)); err == nil {
			return
		} else if time.Now().After(end) {
			tb.Fatal(err)
		}
	}
}
