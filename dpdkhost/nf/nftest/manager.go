package nftest

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

// A Manager is the manager's side of one NF in another process, to try the protocol.
type Manager struct {
	*Lab
	// Path is that of the socket, for WEFT_NF.
	Path  string
	Hello nf.Hello
	// Version is that of the protocol which it says that it speaks; NewManager sets nf.Protocol.
	Version int

	listener *net.UnixListener
	conn     *net.UnixConn
	rings    *shm.Pair
	bell     *shm.Bell
	id       int
}

// patience bounds every wait for an NF.
const patience = 20 * time.Second

// NewManager listens for an NF.
func NewManager(t testing.TB) *Manager {
	t.Helper()
	m := &Manager{Lab: New(t), Version: nf.Protocol, Path: filepath.Join(t.TempDir(), "nf")}
	var err error
	if m.rings, err = shm.NewPair(1024); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.rings.Close() })
	if m.bell, err = shm.NewBell(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.bell.Close() })
	if m.listener, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: m.Path, Net: "unixpacket"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.listener.Close() })
	return m
}

// Accept waits for the NF and greets it.
func (m *Manager) Accept() {
	m.t.Helper()
	m.listener.SetDeadline(time.Now().Add(patience))
	conn, err := m.listener.AcceptUnix()
	if err != nil {
		m.t.Fatal(err)
	}
	m.conn = conn
	m.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if err := json.Unmarshal(m.read(), &m.Hello); err != nil {
		m.t.Fatal(err)
	}
	welcome, err := json.Marshal(nf.Welcome{Version: m.Version, ID: 1, Frames: frames, Large: large})
	if err != nil {
		m.t.Fatal(err)
	}
	word, event := m.bell.Files()
	var fds []int
	for _, f := range []*os.File{m.mem.File(), m.rings.File(), word, event} {
		fds = append(fds, int(f.Fd()))
	}
	if _, _, err := conn.WriteMsgUnix(welcome, syscall.UnixRights(fds...), nil); err != nil {
		m.t.Fatal(err)
	}
}

func (m *Manager) read() []byte {
	m.t.Helper()
	buf := make([]byte, 1<<16)
	n, err := m.conn.Read(buf)
	if err != nil {
		m.t.Fatal(err)
	}
	return buf[:n]
}

// Pass hands packets to the NF and returns what it decided, in its order.
func (m *Manager) Pass(list ...nf.Packet) []Result {
	m.t.Helper()
	var descs []shm.Desc
	for i := range list {
		d, _ := list[i].Verdict()
		descs = append(descs, d)
	}
	m.rings.Receive.Push(descs)
	m.rings.Receive.Publish()
	m.rings.Receive.Wake()
	var results []Result
	for end := time.Now().Add(patience); len(results) < len(list); {
		got := make([]shm.Desc, len(list)-len(results))
		for _, d := range got[:m.rings.Transmit.Pop(got)] {
			p := nf.NewPacket(d, m.mem)
			switch d.Action { // which a packet that comes in has not any more
			case shm.Next:
				p.Next()
			case shm.ToNF:
				p.To(int(d.To))
			case shm.Out:
				p.Out(int(d.To))
			}
			results = append(results, Results([]nf.Packet{p})...)
		}
		if time.Now().After(end) {
			m.t.Fatalf("the NF decided about %d of %d packets", len(results), len(list))
		}
		time.Sleep(50 * time.Microsecond)
	}
	return results
}

// Ask sends a request and returns the reply.
func (m *Manager) Ask(r nf.Request) (reply nf.Reply) {
	m.t.Helper()
	m.id++
	r.ID = m.id
	m.send(r)
	if err := json.Unmarshal(m.read(), &reply); err != nil {
		m.t.Fatal(err)
	}
	if reply.ID != r.ID {
		m.t.Fatalf("reply %d to request %d", reply.ID, r.ID)
	}
	return reply
}

func (m *Manager) send(r nf.Request) {
	m.t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.conn.Write(b); err != nil {
		m.t.Fatal(err)
	}
}

// Leaving waits until the NF asks for its end.
func (m *Manager) Leaving() {
	m.t.Helper()
	var r nf.Reply
	if b := m.read(); json.Unmarshal(b, &r) != nil || !r.Leaving {
		m.t.Fatalf("%s is no wish to leave", b)
	}
}

// Stop asks the NF to end and waits until it has.
func (m *Manager) Stop() {
	m.t.Helper()
	m.send(nf.Request{Stop: true})
	buf := make([]byte, 64)
	if n, err := m.conn.Read(buf); n != 0 || err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		m.t.Fatalf("%s, %v instead of the end", buf[:n], err)
	}
}

// Close ends the connection, as a manager that dies does.
func (m *Manager) Close() error { return m.conn.Close() }
