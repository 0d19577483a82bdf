package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
	"weft/topo"
)

func newKey() string { return rand.Text() }

// messageSize bounds a message of an NF.
const messageSize = 64 << 10

// helloTimeout bounds how long who connects takes to say hello.
const helloTimeout = 5 * time.Second

// spinTime is how long an NF on a core of its own looks for packets before it sleeps.
const spinTime = 20 * time.Microsecond

// accept takes NFs until the listener is closed.
func (s *server) accept(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("socket of NFs", "error", err)
			time.Sleep(10 * time.Millisecond) // out of files: later there may be some
			continue
		}
		go s.serve(c)
	}
}

// serve talks to one NF until it is gone.
func (s *server) serve(c *net.UnixConn) {
	defer c.Close()
	buffer := make([]byte, messageSize)
	c.SetDeadline(time.Now().Add(helloTimeout))
	n, err := c.Read(buffer)
	if err != nil {
		return
	}
	var h nf.Hello
	err = json.Unmarshal(buffer[:n], &h)
	if err == nil && h.Version != nf.Protocol {
		err = nf.OtherVersion("the NF speaks", h.Version)
	}
	var i *instance
	if err == nil {
		i, err = s.welcome(c, h)
	}
	if err != nil {
		text, _ := json.Marshal(nf.Welcome{Version: nf.Protocol, Error: err.Error()})
		c.Write(text) // who does not read it will see the end
		s.log.Warn("NF refused", "name", h.Name, "error", err)
		return
	}
	s.mu.Lock()
	conn := i.conn
	s.mu.Unlock()
	if conn != nil && conn.c == c {
		conn.read(buffer, func() { go s.leave(i, conn) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.conn != nil && i.conn.c == c {
		s.lost(i)
		if i.external && !i.stopping {
			go s.forget(i)
		} else if !i.external {
			pid, gone := i.pid, i.gone
			wait := termTimeout
			if i.nf.Contained() {
				wait = stopTimeout // its container goes too
			}
			time.AfterFunc(wait, func() { // it should end now by itself
				select {
				case <-gone:
				default:
					signalGroup(pid, syscall.SIGKILL)
				}
			})
		}
	}
	if i.external {
		close(i.gone)
	}
}

// forget removes an instance whose process somebody else started, and which left.
func (s *server) forget(i *instance) {
	if err := s.remove(i, true); err != nil {
		s.log.Warn("NF", "nf", i.nf.Name, "error", err)
	}
}

// leave lets an instance go that asked for it.
func (s *server) leave(i *instance, conn *connection) {
	s.mu.Lock()
	mi := i.mi
	s.mu.Unlock()
	if _, err := s.m.Drain(mi, drainTimeout); err == nil {
		conn.send(nf.Request{Stop: true})
	}
}

// welcome puts an NF that connected into its service.
func (s *server) welcome(c *net.UnixConn, h nf.Hello) (*instance, error) {
	i, err := s.who(c, h)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = error(nil)
	if s.closing || i.stopping {
		err = errors.New("the NF is being stopped")
	} else {
		err = s.take(i, c, h)
	}
	if err != nil {
		if i.external {
			close(i.gone)
			s.instances = slices.DeleteFunc(s.instances, func(o *instance) bool { return o == i })
		}
		if i.taken != nil {
			i.taken <- err
			i.taken = nil
		}
		return nil, err
	}
	if i.taken != nil {
		i.taken <- nil
		i.taken = nil
	}
	s.log.Info("NF runs", "nf", i.nf.Name, "instance", i.mi.ID, "service", i.nf.Service, "pid", i.pid)
	return i, nil
}

// who returns the instance that says hello.
func (s *server) who(c *net.UnixConn, h nf.Hello) (*instance, error) {
	if h.Key != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := s.keys[h.Key]
		delete(s.keys, h.Key) // once
		if i == nil {
			return nil, fmt.Errorf("the key is not of an NF that is awaited: leave %s out to start one by hand", nf.KeyVariable)
		}
		return i, nil
	}
	f := topo.NF{Name: h.Name, Service: h.Service, Weight: h.Weight, ReadOnly: h.ReadOnly, Restart: "no", Command: "(started by hand)"}
	if h.Service == 0 {
		return nil, fmt.Errorf("set %s to the number of a service", nf.ServiceVariable)
	}
	err := validateNF(f)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	for _, o := range s.instances {
		if why := o.nf.Alone(); why != "" && o.nf.Service == f.Service {
			err = fmt.Errorf("service %d is that of %s, of which there can be one instance only: %s", f.Service, o.nf.Name, why)
		}
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	i, err := s.add(f)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i.external, i.pid, i.gone, i.started = true, peer(c), make(chan struct{}), time.Now()
	return i, nil
}

// peer returns the process at the other end, in this process' numbers; 0 if it has none.
func peer(c *net.UnixConn) (pid int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// trustOf says what an NF may do to packets.
func trustOf(f topo.NF, h nf.Hello) manager.Trust {
	switch {
	case f.Copy:
		return manager.Copying
	case f.ReadOnly, h.ReadOnly:
		return manager.ReadOnly
	}
	return manager.Trusted
}

// take gives an instance its rings and hands them to its process. The caller has the lock.
func (s *server) take(i *instance, c *net.UnixConn, h nf.Hello) error {
	var rings *shm.Pair
	var mem *shm.Memory
	var err error
	if i.mi == nil {
		i.mi, rings, mem, err = s.m.Attach(manager.Instance{
			Name: i.nf.Name, Service: uint16(i.nf.Service), Weight: i.nf.Weight,
			Shared: !s.own(i), Trust: trustOf(i.nf, h), Fresh: h.Fresh, Wire: h.Wire,
		}, 0)
	} else {
		rings, mem, err = s.m.Resume(i.mi, 0)
	}
	if err != nil {
		return err
	}
	if err := s.hand(i, c, rings, mem); err != nil {
		_, lost := s.m.Suspend(i.mi, i.nf.OnDeath != onDeathDrop)
		return errors.Join(err, lost)
	}
	c.SetDeadline(time.Time{})
	i.conn, i.state = &connection{c: c, pending: map[int]chan nf.Reply{}}, stateRunning
	if i.nf.Contained() {
		i.worker = peer(c) // pid is that of who looks after the container
	}
	go s.rearrange() // it wants the lock
	return nil
}

// hand sends the welcome and its files.
func (s *server) hand(i *instance, c *net.UnixConn, rings *shm.Pair, mem *shm.Memory) error {
	w := nf.Welcome{Version: nf.Protocol, ID: int(i.mi.ID), ReadOnly: i.mi.Trust == manager.ReadOnly}
	w.Frames, w.Large = mem.Frames()
	if s.own(i) {
		w.Spin = int64(spinTime)
	}
	memory := mem.File()
	if w.ReadOnly {
		// A description of its own, which cannot be mapped to write.
		var err error
		if memory, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", memory.Fd())); err != nil {
			return fmt.Errorf("read-only memory: %w", err)
		}
		defer memory.Close()
	}
	word, event := s.m.Bell().Files()
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	rights := syscall.UnixRights(int(memory.Fd()), int(rings.File().Fd()), int(word.Fd()), int(event.Fd()))
	_, _, err = c.WriteMsgUnix(text, rights, nil)
	return err
}

// A connection carries requests to an NF and its replies.
type connection struct {
	c       *net.UnixConn
	mu      sync.Mutex
	last    int
	pending map[int]chan nf.Reply // nil when it is closed
}

// read takes replies until the NF is gone. leaving is called when it asks to go.
func (c *connection) read(buffer []byte, leaving func()) {
	for {
		n, err := c.c.Read(buffer)
		if err != nil || n == 0 {
			return
		}
		var r nf.Reply
		if json.Unmarshal(buffer[:n], &r) != nil {
			return // no NF of ours: it is treated as gone
		}
		if r.Leaving {
			leaving()
			continue
		}
		c.mu.Lock()
		if answer := c.pending[r.ID]; answer != nil {
			answer <- r
			delete(c.pending, r.ID)
		}
		c.mu.Unlock()
	}
}

func (c *connection) send(q nf.Request) error {
	text, err := json.Marshal(q)
	if err != nil {
		return err
	}
	if len(text) > messageSize {
		return fmt.Errorf("a request of %d bytes is longer than %d", len(text), messageSize)
	}
	c.c.SetWriteDeadline(time.Now().Add(time.Second)) // one that does not read is not waited for
	_, err = c.c.Write(text)
	return err
}

// errNoAnswer says that an NF is too busy, or hangs.
var errNoAnswer = errors.New("the NF does not answer")

// ask sends a request and waits for its reply.
func (c *connection) ask(ctx context.Context, q nf.Request) (nf.Reply, error) {
	answer := make(chan nf.Reply, 1)
	c.mu.Lock()
	if c.pending == nil {
		c.mu.Unlock()
		return nf.Reply{}, errNoAnswer
	}
	c.last++
	q.ID = c.last
	c.pending[q.ID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, q.ID)
		c.mu.Unlock()
	}()
	if err := c.send(q); err != nil {
		return nf.Reply{}, err
	}
	select {
	case r, ok := <-answer:
		if !ok {
			return r, errNoAnswer
		}
		return r, nil
	case <-ctx.Done():
		return nf.Reply{}, errNoAnswer
	}
}

func (c *connection) close() {
	c.c.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, answer := range c.pending {
		close(answer)
	}
	c.pending = nil
}
