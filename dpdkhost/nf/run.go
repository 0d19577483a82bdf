package nf

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"weft/dpdkhost/shm"
)

// The variables that tell an NF where its manager is. Name and service are for NFs that the
// manager did not start.
const (
	SocketVariable  = "WEFT_NF"
	KeyVariable     = "WEFT_NF_KEY"
	NameVariable    = "WEFT_NF_NAME"
	ServiceVariable = "WEFT_NF_SERVICE"
)

// Run lets h decide about packets until the manager asks the NF to stop. If that cannot be, it
// says why and exits with status 1. It is all that main needs to do.
func Run(h Handler) { RunFunction(h) }

// RunFunction is Run for an NF that does more than decide about packets.
func RunFunction(f Function) {
	if err := Serve(f); err != nil {
		fmt.Fprintln(os.Stderr, "nf:", err)
		os.Exit(1)
	}
}

// Serve is RunFunction for programs that handle errors themselves.
func Serve(f Function) error {
	path, h, err := Environment(f)
	if err != nil {
		return err
	}
	c, err := Connect(path, h)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Run(f)
}

// Environment returns the path of the manager's socket, and what to greet it with, as the
// variables above say.
func Environment(f Function) (path string, h Hello, err error) {
	h = Hello{Key: os.Getenv(KeyVariable), Name: os.Getenv(NameVariable)}
	if s := os.Getenv(ServiceVariable); s != "" {
		if h.Service, err = strconv.Atoi(s); err != nil {
			return "", h, fmt.Errorf("%s=%q: not the number of a service", ServiceVariable, s)
		}
	}
	if s, ok := f.(Source); ok {
		h.Fresh = s.Frames()
	}
	if g, ok := f.(Greeter); ok {
		g.Greet(&h)
	}
	if path = os.Getenv(SocketVariable); path == "" {
		return "", h, fmt.Errorf("%s is not set: a manager of weft's starts NFs, or set it to the path of a manager's socket, and %s to the number of a service", SocketVariable, ServiceVariable)
	}
	return path, h, nil
}

// A Connection is an NF's connection to its manager.
type Connection struct {
	Welcome
	edge Edge
	conn *net.UnixConn
	work chan func()
	stop atomic.Bool
}

// messageSize bounds a message of the protocol.
const messageSize = 64 << 10

// helloTimeout bounds what a manager takes to answer.
const helloTimeout = 10 * time.Second

// Connect greets the manager at a socket.
func Connect(path string, h Hello) (*Connection, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("connect to the NF manager: %w", err)
	}
	c, err := greet(conn, h)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("NF manager at %s: %w", path, err)
	}
	return c, nil
}

func greet(conn *net.UnixConn, h Hello) (*Connection, error) {
	h.Version = Protocol
	hello, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(helloTimeout))
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	buf, control := make([]byte, messageSize), make([]byte, 256)
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, control)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	files, err := received(control[:oobn])
	if err != nil {
		return nil, err
	}
	c := &Connection{conn: conn, work: make(chan func(), 4)}
	if err := json.Unmarshal(buf[:n], &c.Welcome); err != nil {
		return nil, fmt.Errorf("its answer is not understood: %w", err)
	}
	if c.Error != "" {
		return nil, errors.New(c.Error)
	}
	if c.Version != Protocol {
		return nil, OtherVersion("it speaks", c.Version)
	}
	if len(files) != 4 {
		return nil, fmt.Errorf("it sent %d files, not 4", len(files))
	}
	if c.edge.Memory, err = shm.OpenMemory(files[0], c.Frames, c.Large, c.ReadOnly); err != nil {
		return nil, err
	}
	if c.edge.Rings, err = shm.OpenPair(files[1]); err != nil {
		return nil, err
	}
	c.edge.Bell, err = shm.OpenBell(files[2], files[3])
	return c, err
}

func received(control []byte) (files []*os.File, err error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	for i := range messages {
		fds, ferr := syscall.ParseUnixRights(&messages[i])
		err = cmp.Or(err, ferr)
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "manager"))
		}
	}
	return files, err
}

// Close ends the connection.
func (c *Connection) Close() error {
	return errors.Join(c.conn.Close(), c.edge.Rings.Close(), c.edge.Memory.Close(), c.edge.Bell.Close())
}

// ErrLost is returned when the manager is gone.
var ErrLost = errors.New("the NF manager is gone")

// leaveTimeout bounds how long an NF that was signalled waits for its last packets.
const leaveTimeout = 2 * time.Second

// Run lets f decide about packets until the manager asks for the end. SIGINT and SIGTERM make
// it ask for that. Its error is nil then, ErrLost if the manager is gone, or f's when it is
// closed.
func (c *Connection) Run(f Function) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	defer func() {
		signal.Stop(signals)
		close(ended)
	}()
	go func() {
		select {
		case <-signals:
			c.reply(Reply{Leaving: true})
		case <-ended:
			return
		}
		select {
		case <-time.After(leaveTimeout):
			c.end()
		case <-ended:
		}
	}()
	lost := make(chan error, 1)
	go func() {
		lost <- c.listen(f)
		c.end()
	}()
	c.loop(f)
	err := error(nil)
	if closer, ok := f.(io.Closer); ok {
		err = closer.Close()
	}
	select {
	case lerr := <-lost:
		return errors.Join(lerr, err)
	default:
		return err
	}
}

// end makes loop return.
func (c *Connection) end() {
	c.stop.Store(true)
	c.edge.Rings.Receive.Wake()
}

// listen answers requests until the manager asks for the end or is gone.
func (c *Connection) listen(f Function) error {
	buf := make([]byte, messageSize)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			if c.stop.Load() {
				return nil
			}
			return ErrLost
		}
		var r Request
		if err := json.Unmarshal(buf[:n], &r); err != nil {
			return fmt.Errorf("a request of the NF manager is not understood: %w", err)
		}
		if r.Stop {
			return nil
		}
		c.work <- func() { c.answer(f, r) }
		c.edge.Rings.Receive.Wake()
	}
}

func (c *Connection) answer(f Function, r Request) {
	a := Reply{ID: r.ID}
	switch {
	case r.Counters:
		if counting, ok := f.(Counting); ok {
			a.Counters = map[string]uint64{}
			counting.Counters(func(name string, value uint64) { a.Counters[name] = value })
		}
	default:
		commander, ok := f.(Commander)
		if !ok {
			a.Error = "this NF takes no commands"
			break
		}
		text, err := commander.Command(r.Command)
		if a.Text = text; err != nil {
			a.Error = err.Error()
		}
	}
	c.reply(a)
}

func (c *Connection) reply(r Reply) {
	b, err := json.Marshal(r)
	if err == nil && len(b) > messageSize {
		b, err = json.Marshal(Reply{ID: r.ID, Error: "the answer is too long"})
	}
	if err == nil {
		c.conn.Write(b) // if the manager is gone, listen notices
	}
}

// full is how long an NF waits whose manager has no room for its packets.
const full = 20 * time.Microsecond

// loop moves packets.
//
// On a shared processor the manager is woken when there is nothing left to do here, so that
// both work in long turns; on one of its own, after each batch.
func (c *Connection) loop(f Function) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ticker, ticks := f.(Ticker)
	e, spin := &c.edge, time.Duration(c.Spin)
	var made [Batch]Packet
	called := func() bool { return len(c.work) > 0 || c.stop.Load() }
	var idle time.Time // since when there was nothing to do; zero if there was
	for !c.stop.Load() {
		select {
		case work := <-c.work:
			work()
		default:
		}
		room := e.Rings.Transmit.Free()
		if room == 0 {
			e.Bell.Ring()
			time.Sleep(full)
			continue
		}
		next, n := time.Duration(-1), 0
		if ticks {
			n, next = ticker.Tick(time.Now(), made[:min(room, Batch)])
			e.send(made[:n])
		}
		if n+e.Turn(f) > 0 {
			if spin > 0 {
				e.Bell.Ring()
				idle = time.Time{}
			}
			continue
		}
		e.Bell.Ring()
		if spin > 0 {
			now := time.Now()
			if idle.IsZero() {
				idle = now
			}
			if now.Sub(idle) < spin {
				continue
			}
			idle = time.Time{}
		}
		e.Rings.Receive.Wait(int64(next), called)
	}
	// What waits is decided, for an end without loss.
	for e.Turn(f) > 0 {
	}
	e.Bell.Ring()
}
