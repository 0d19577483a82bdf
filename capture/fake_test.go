package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"weft/control"
)

// fakeSource has its packets from the start.
type fakeSource struct {
	iface *iface
	times []int64
	full  bool
	at    int
}

func (f *fakeSource) peek() *packet {
	if f.at == len(f.times) {
		return nil
	}
	return &packet{iface: f.iface, time: f.times[f.at], data: make([]byte, 60), length: 60}
}

func (f *fakeSource) next()         { f.at++ }
func (f *fakeSource) pressed() bool { return f.full }
func (f *fakeSource) stop() error   { return nil }
func (f *fakeSource) finish() error { return nil }

// newCapture returns a Capture without filter.
func newCapture(t testing.TB, cfg Config) *Capture {
	t.Helper()
	c, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A record is a packet as it is in a file.
type record struct {
	name   string // of its interface
	time   time.Time
	data   []byte
	length int
}

// read reads a stream with a library.
func read(t testing.TB, stream []byte) (list []record, names []string) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(stream), pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		i, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, record{i.Name, info.Timestamp, data, info.Length})
	}
	for i := range r.NInterfaces() {
		n, err := r.Interface(i)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, n.Name)
	}
	return list, names
}

// blocks returns the types of a stream's blocks.
func blocks(t testing.TB, stream []byte) (types []uint32) {
	t.Helper()
	for len(stream) > 0 {
		kind, n, err := nextBlock(stream)
		if err != nil {
			t.Fatal(err)
		}
		if got := int(binary.LittleEndian.Uint32(stream[n-4:])); got != n {
			t.Fatalf("block of %d bytes ends with length %d", n, got)
		}
		types = append(types, kind)
		stream = stream[n:]
	}
	return types
}

// message returns an OpenFlow message.
func message(v control.Version, kind control.Type, xid uint32, body ...byte) control.Message {
	m := []byte{byte(v), byte(kind), 0, 0}
	binary.BigEndian.PutUint16(m[2:], uint16(8+len(body)))
	return append(binary.BigEndian.AppendUint32(m, xid), body...)
}

// converse lets a Control see a conversation of s1's: hellos, an echo with a long body, and
// the end.
func converse(tap func(control.TapMessage), v control.Version, conn, body int, local, remote net.Addr) (messages int) {
	m := control.TapMessage{Switch: "s1", Controller: "c0", Conn: conn, Local: local, Remote: remote}
	say := func(e control.TapEvent, fromSwitch bool, data control.Message) {
		m.Time, m.Event, m.FromSwitch, m.Data = time.Now(), e, fromSwitch, data
		if e == control.TapData {
			messages++
		}
		tap(m)
	}
	long := make([]byte, body)
	say(control.TapOpened, true, nil)
	say(control.TapData, true, message(v, control.TypeHello, 1))
	say(control.TapData, false, message(v, control.TypeHello, 2))
	say(control.TapData, false, message(v, control.TypeEchoRequest, 3, long...))
	say(control.TapData, true, message(v, control.TypeEchoReply, 3, long...))
	say(control.TapData, false, message(v, control.TypeFeaturesRequest, 4))
	say(control.TapClosed, false, nil)
	return messages
}

// tshark returns the lines that tshark prints for a stream with checks of checksums on.
func tshark(t testing.TB, stream []byte, args ...string) []string {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("no tshark installed")
	}
	file := filepath.Join(t.TempDir(), "stream.pcapng")
	if err := os.WriteFile(file, stream, 0o644); err != nil {
		t.Fatal(err)
	}
	var complaint bytes.Buffer
	cmd := exec.Command("tshark", append([]string{"-r", file, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"}, args...)...)
	cmd.Stderr = &complaint
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, complaint.String())
	}
	if text := strings.TrimRight(string(out), "\n"); text != "" {
		return strings.Split(text, "\n")
	}
	return nil
}

// wellFormed checks that tshark finds nothing wrong.
func wellFormed(t testing.TB, stream []byte) {
	t.Helper()
	if bad := tshark(t, stream, "-Y", "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0 || udp.checksum.status == 0 || tcp.analysis.flags"); bad != nil {
		t.Errorf("tshark finds fault with:\n%s", strings.Join(bad, "\n"))
	}
}

func tcpAddr(text string) net.Addr {
	a, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		panic(fmt.Sprintf("address %q: %v", text, err))
	}
	return a
}
