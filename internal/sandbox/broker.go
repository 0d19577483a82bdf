package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBroker is matched by errors that say that the keeper does not answer.
var ErrBroker = errors.New("the keeper does not answer")

// maxMessage bounds a request or an answer, bytes.
const maxMessage = 64 << 10

// A request is what the engine asks of the keeper, who answers with a reply of the same
// ID and perhaps a file descriptor.
type request struct {
	ID   uint64 `json:"id"`
	Op   string `json:"op"` // one of the op constants
	Addr string `json:"addr,omitempty"`
	// Timeout bounds the operation, nanoseconds.
	Timeout time.Duration `json:"timeout,omitempty"`
	Argv    []string      `json:"argv,omitempty"`
	// FD is a descriptor of the engine's; a duplicate goes with the request.
	FD   int `json:"fd,omitempty"`
	lent *os.File
}

const (
	opDial   = "dial"   // TCP connection to Addr
	opListen = "listen" // TCP listener at Addr
	opNFs    = "nfs"    // listener of packets at Addr.nf in the state directory, outside
	opRun    = "run"    // process Argv; the descriptor is its output and, closed, its end
	opLend   = "lend"   // a NIC, Argv[0], for the lent namespace; the descriptor is the lender's
	opUplink = "uplink" // NAT for the lent namespace; the descriptor, closed, is its end
)

type reply struct {
	ID    uint64 `json:"id"`
	Error string `json:"error,omitempty"`
	// Errno is the system call's error in Error, 0 if there was none.
	Errno int    `json:"errno,omitempty"`
	PID   int    `json:"pid,omitempty"`
	DNS   string `json:"dns,omitempty"`
	fd    *os.File
}

// A greeting is the first message on the broker's connection, from init: what the network
// is called, or why it cannot be.
type greeting struct {
	Name    string `json:"name"`
	Error   string `json:"error,omitempty"`
	Errno   int    `json:"errno,omitempty"`
	Running bool   `json:"running,omitempty"` // Error is a RunningError
}

// refusal is the greeting that says why there is no sandbox; of no error, an empty one.
func refusal(err error) greeting {
	g := greeting{}
	if err == nil {
		return g
	}
	g.Error = err.Error()
	var running *RunningError
	if errors.As(err, &running) {
		g.Running, g.Name = true, running.Name
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		g.Errno = int(errno)
	}
	return g
}

// err returns the error of a greeting that is a refusal.
func (g greeting) err() error {
	switch {
	case g.Running:
		return &RunningError{g.Name}
	case g.Error != "":
		return &Error{g.Error, unix.Errno(g.Errno)}
	}
	return nil
}

// An Error is the keeper's answer to a request that failed. It unwraps to the system's
// error number (ECONNREFUSED), where there was one.
type Error struct {
	Message string
	Errno   unix.Errno
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// A Broker asks the keeper for things of the user's own namespaces. Its methods may be
// called concurrently.
type Broker struct {
	conn *net.UnixConn
	mu   sync.Mutex
	next uint64
	wait map[uint64]chan reply // nil when the keeper is gone
	gone chan struct{}
}

// Gone is closed when the keeper is.
func (b *Broker) Gone() <-chan struct{} { return b.gone }

func newBroker(fd uintptr) (*Broker, error) {
	f := os.NewFile(fd, "broker")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b := &Broker{conn: c.(*net.UnixConn), wait: map[uint64]chan reply{}, gone: make(chan struct{})}
	go b.receive()
	return b, nil
}

// DialTCP connects to addr ("127.0.0.1:6653", "[::1]:6653", "name:6653") as a program of
// the user's would.
func (b *Broker) DialTCP(ctx context.Context, addr string) (net.Conn, error) {
	r, err := b.do(ctx, request{Op: opDial, Addr: addr})
	if err != nil {
		return nil, err
	}
	defer r.fd.Close()
	return net.FileConn(r.fd)
}

// ListenTCP listens at addr as a program of the user's would.
func (b *Broker) ListenTCP(ctx context.Context, addr string) (net.Listener, error) {
	r, err := b.do(ctx, request{Op: opListen, Addr: addr})
	if err != nil {
		return nil, err
	}
	defer r.fd.Close()
	return net.FileListener(r.fd)
}

// ListenNFs listens for network functions that the user starts outside, at the socket NAME.nf in the
// network's state directory as the user sees it.
func (b *Broker) ListenNFs(ctx context.Context, name string) (*os.File, error) {
	r, err := b.do(ctx, request{Op: opNFs, Addr: name})
	return r.fd, err
}

// A Process runs in the user's own namespaces.
type Process struct {
	PID int // of its supervisor, in the user's PID namespace
	// Output delivers what it writes, and ends when it has ended. Closing it
	// terminates the process and all that it started: SIGTERM, after 2 s SIGKILL.
	Output io.ReadCloser
}

// Run starts argv with the user's environment and directory. It ends with the keeper.
func (b *Broker) Run(ctx context.Context, argv []string) (*Process, error) {
	r, err := b.do(ctx, request{Op: opRun, Argv: argv})
	if err != nil {
		return nil, err
	}
	defer r.fd.Close()
	c, err := net.FileConn(r.fd)
	if err != nil {
		return nil, err
	}
	return &Process{PID: r.PID, Output: c}, nil
}

func (b *Broker) do(ctx context.Context, q request) (reply, error) {
	const most = 30 * time.Second
	q.Timeout = most
	if d, ok := ctx.Deadline(); ok {
		q.Timeout = min(most, time.Until(d))
	}
	ch := make(chan reply, 1)
	b.mu.Lock()
	if b.wait == nil {
		b.mu.Unlock()
		return reply{}, ErrBroker
	}
	b.next++
	q.ID = b.next
	b.wait[q.ID] = ch
	b.mu.Unlock()
	msg, err := json.Marshal(q)
	if err == nil {
		var oob []byte
		if q.FD > 0 {
			oob = unix.UnixRights(q.FD)
		}
		_, _, err = b.conn.WriteMsgUnix(msg, oob, nil)
	}
	if err != nil {
		b.forget(q.ID)
		return reply{}, fmt.Errorf("%w: %v", ErrBroker, err)
	}
	select {
	case r, ok := <-ch:
		switch {
		case !ok:
			return reply{}, ErrBroker
		case r.Error != "":
			return reply{}, &Error{r.Error, unix.Errno(r.Errno)}
		case r.fd == nil:
			return reply{}, fmt.Errorf("%w: no descriptor for %s", ErrBroker, q.Op)
		}
		return r, nil
	case <-ctx.Done():
		b.forget(q.ID)
		return reply{}, ctx.Err()
	}
}

// forget drops the request; its answer, if it comes, is closed by receive.
func (b *Broker) forget(id uint64) {
	b.mu.Lock()
	ch := b.wait[id]
	delete(b.wait, id)
	b.mu.Unlock()
	select {
	case r := <-ch:
		if r.fd != nil {
			r.fd.Close()
		}
	default:
	}
}

func (b *Broker) receive() {
	for {
		var r reply
		fd, err := recv(b.conn, &r)
		if err != nil {
			b.mu.Lock()
			for _, ch := range b.wait {
				close(ch)
			}
			b.wait = nil
			b.mu.Unlock()
			close(b.gone)
			return
		}
		r.fd = fd
		b.mu.Lock()
		ch := b.wait[r.ID]
		delete(b.wait, r.ID)
		if ch != nil {
			ch <- r
		} else if fd != nil {
			fd.Close()
		}
		b.mu.Unlock()
	}
}

// recv reads one message into v, and the file descriptor that came with it.
func recv(c *net.UnixConn, v any) (*os.File, error) {
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	var file *os.File
	if msgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
		for _, m := range msgs {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				continue
			}
			for _, fd := range fds {
				unix.CloseOnExec(fd)
				file = os.NewFile(uintptr(fd), "lent")
			}
		}
	}
	return file, json.Unmarshal(buf[:n], v)
}

// A server is the keeper's end of the broker.
type server struct {
	state    *stateDir
	rootless bool
	initPID  int

	conn   *net.UnixConn
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// serve answers requests on conn until close.
func (s *server) serve(conn *net.UnixConn) {
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.conn = conn
	s.wg.Go(s.loop)
}

// close ends the processes that run for the sandbox and waits for their end.
func (s *server) close() {
	s.cancel()
	s.conn.Close()
	s.wg.Wait()
}

func (s *server) loop() {
	for {
		var q request
		fd, err := recv(s.conn, &q)
		if err != nil {
			return
		}
		q.lent = fd
		s.wg.Go(func() { s.answer(q) })
	}
}

func (s *server) answer(q request) {
	ctx, cancel := context.WithTimeout(s.ctx, max(q.Timeout, time.Millisecond))
	defer cancel()
	if q.lent != nil {
		defer q.lent.Close()
	}
	var (
		f   *os.File
		r   reply
		err error
	)
	switch q.Op {
	case opDial:
		f, err = dial(ctx, q.Addr)
	case opListen:
		f, err = listen(ctx, q.Addr)
	case opNFs:
		f, err = s.state.listenNFs(q.Addr)
	case opRun:
		f, r.PID, err = s.run(q.Argv)
	case opLend:
		f, err = s.lend(q)
	case opUplink:
		f, r, err = s.uplink(ctx, q)
	default:
		err = fmt.Errorf("unknown request %q", q.Op)
	}
	r.ID = q.ID
	if err != nil {
		r.Error = err.Error()
		var errno unix.Errno
		if errors.As(err, &errno) {
			r.Errno = int(errno)
		}
	}
	msg, err := json.Marshal(r)
	if err != nil || len(msg) > maxMessage {
		msg = fmt.Appendf(nil, `{"id":%d,"error":"answer too long"}`, q.ID)
	}
	var oob []byte
	if f != nil {
		defer f.Close()
		oob = unix.UnixRights(int(f.Fd()))
	}
	s.conn.WriteMsgUnix(msg, oob, nil)
}

func dial(ctx context.Context, addr string) (*os.File, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*net.TCPConn).File()
}

func listen(ctx context.Context, addr string) (*os.File, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.(*net.TCPListener).File()
}

// run starts argv under a supervisor (see supervise) with its output on one end of a
// socket pair and returns the other.
func (s *server) run(argv []string) (*os.File, int, error) {
	if len(argv) == 0 {
		return nil, 0, errors.New("no command")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, 0, err
	}
	theirs, ours, err := streamPair()
	if err != nil {
		return nil, 0, err
	}
	defer ours.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{runName, path}, argv...)
	cmd.Stdout, cmd.Stderr = ours, ours
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		theirs.Close()
		return nil, 0, err
	}
	s.wg.Go(func() { cmd.Wait() })
	return theirs, cmd.Process.Pid, nil
}

func streamPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "output"), nil
}
