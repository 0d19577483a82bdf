package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weft/network"
	"weft/node"
)

// A Cmd is a program to run on a node, much as exec.Cmd is one to run here. The program gets
// the files themselves where Stdin, Stdout and Stderr are files: what it reads and writes
// then passes nobody else.
type Cmd struct {
	Node string
	Args []string // the program and its arguments
	// Env is its environment, NAME=VALUE; nil: that of this process.
	Env []string
	// Dir is its working directory; empty: this process's.
	Dir            string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal makes Stdin, which is a terminal and nobody's controlling terminal yet, that
	// of the program.
	Terminal bool
	// PID is its process ID as the network sees it, after Start.
	PID int

	ctx    context.Context
	client *Client
	conn   *net.UnixConn
	frames *framer
	stop   func() bool
	copies sync.WaitGroup
	ours   []*os.File // the ends of pipes that are copied from and to
}

// An ExitError says that a program ended with a status other than 0.
type ExitError struct {
	Node    string
	Program string
	// Status is its exit status, 128+n if signal n ended it; 126 or 127 if it could not be run.
	Status int
	// Reason says why it could not be run; empty if it ran.
	Reason string
	// Stderr is what it wrote to standard error, if Output ran it and nobody else took it.
	Stderr []byte
}

func (e *ExitError) Error() string {
	if e.Reason != "" {
		return e.Node + ": " + e.Reason
	}
	return fmt.Sprintf("%s: %s: exit status %d", e.Node, e.Program, e.Status)
}

// Command returns a program to run on a node. It is killed when ctx ends.
func (c *Client) Command(ctx context.Context, node string, args ...string) *Cmd {
	return &Cmd{Node: node, Args: args, ctx: ctx, client: c}
}

// What a program's start and end are told with.
type (
	execStarted struct {
		PID int `json:"pid"`
	}
	execResult struct {
		Status int `json:"status"`
		// Reason says why the program could not be run; empty if it ran.
		Reason string `json:"reason,omitempty"`
	}
)

// Start starts the program. That it cannot be run is an *ExitError; other errors are those of
// the network.
func (c *Cmd) Start() error {
	if c.conn != nil {
		return errors.New("the program was started already")
	}
	r := network.ExecRequest{Node: c.Node, Argv: c.Args, Env: c.Env, Dir: c.Dir, Terminal: c.Terminal}
	if r.Env == nil {
		r.Env = os.Environ()
	}
	if r.Dir == "" {
		var err error
		if r.Dir, err = os.Getwd(); err != nil {
			return err
		}
	}
	files, theirs, err := c.files()
	defer closeAll(theirs)
	if err != nil {
		closeAll(c.ours)
		return err
	}
	if err := c.start(r, files); err != nil {
		if c.conn != nil {
			c.conn.Close()
		}
		closeAll(c.ours)
		c.copies.Wait()
		return err
	}
	return nil
}

func (c *Cmd) start(r network.ExecRequest, files [3]*os.File) (err error) {
	if c.conn, c.frames, err = c.client.upgrade(c.ctx, "/v1/exec", execProtocol, r); err != nil {
		return err
	}
	// The program ends with the connection.
	c.stop = context.AfterFunc(c.ctx, func() { c.conn.Close() })
	if err := sendFiles(c.conn, files); err != nil {
		return fmt.Errorf("%w (%v)", ErrGone, err)
	}
	kind, p, err := c.frames.read()
	switch {
	case err != nil:
		return c.lost(err)
	case kind == frameStarted:
		var s execStarted
		err = json.Unmarshal(p, &s)
		c.PID = s.PID
		return err
	case kind == frameResult:
		return c.result(p)
	}
	return &Error{Message: string(p)}
}

// lost is the error of a connection that ended.
func (c *Cmd) lost(err error) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return fmt.Errorf("%w (%s: %v)", ErrGone, c.Node, err)
}

func (c *Cmd) result(p []byte) error {
	var r execResult
	if err := json.Unmarshal(p, &r); err != nil {
		return err
	}
	if r.Status == 0 {
		return nil
	}
	return &ExitError{Node: c.Node, Program: c.Args[0], Status: r.Status, Reason: r.Reason}
}

// drainTime is how long output is read on after the program's end, while something that it
// started still holds the pipe.
const drainTime = time.Second

// Wait waits until the program has ended and its output is copied. A status other than 0 is
// an *ExitError.
func (c *Cmd) Wait() error {
	if c.conn == nil {
		return errors.New("the program was not started")
	}
	defer c.conn.Close()
	defer c.stop()
	kind, p, err := c.frames.read()
	switch {
	case err != nil:
		err = c.lost(err)
	case kind == frameResult:
		err = c.result(p)
	default:
		err = &Error{Message: string(p)}
	}
	for _, f := range c.ours {
		f.SetDeadline(time.Now().Add(drainTime))
	}
	c.copies.Wait()
	closeAll(c.ours)
	return err
}

// Run starts the program and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns what it writes to standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out, errOut bytes.Buffer
	c.Stdout = &out
	taken := c.Stderr != nil
	if !taken {
		c.Stderr = &errOut
	}
	err := c.Run()
	var exit *ExitError
	if errors.As(err, &exit) && !taken {
		exit.Stderr = errOut.Bytes()
	}
	return out.Bytes(), err
}

// CombinedOutput runs the program and returns what it writes to standard output and error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Signal sends a signal to the program and the others of its process group. It does nothing
// once the program has ended.
func (c *Cmd) Signal(sig syscall.Signal) error {
	if c.conn == nil {
		return errors.New("the program was not started")
	}
	return c.frames.write(frameSignal, binary.BigEndian.AppendUint32(nil, uint32(sig)))
}

// files returns what the program gets for standard input, output and error, and those among
// them that are to be closed here once it has them.
func (c *Cmd) files() (files [3]*os.File, theirs []*os.File, err error) {
	var null *os.File
	devNull := func() *os.File {
		if null == nil && err == nil {
			null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
			theirs = append(theirs, null)
		}
		return null
	}
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	switch in := c.Stdin.(type) {
	case nil:
		files[0] = devNull()
	case *os.File:
		files[0] = in
	default:
		r, w := pipe()
		if err != nil {
			return files, theirs, err
		}
		files[0] = r
		theirs, c.ours = append(theirs, r), append(c.ours, w)
		go func() { // not waited for: a reader may never end
			io.Copy(w, in)
			w.Close()
		}()
	}
	for i, out := range []io.Writer{c.Stdout, c.Stderr} {
		switch out := out.(type) {
		case nil:
			files[1+i] = devNull()
			continue
		case *os.File:
			files[1+i] = out
			continue
		}
		if i == 1 && files[1] != nil && same(c.Stdout, c.Stderr) {
			files[2] = files[1] // what is written to one comes in order
			continue
		}
		r, w := pipe()
		if err != nil {
			return files, theirs, err
		}
		files[1+i] = w
		theirs, c.ours = append(theirs, w), append(c.ours, r)
		c.copies.Go(func() { io.Copy(out, r) })
	}
	return files, theirs, nil
}

// same reports whether two writers are one. Some cannot be compared.
func same(a, b io.Writer) (is bool) {
	defer func() { recover() }()
	return a == b
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// sendFiles lends files to the other end of a connection.
func sendFiles(conn *net.UnixConn, files [3]*os.File) error {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	_, _, err := conn.WriteMsgUnix([]byte{frameFiles}, unix.UnixRights(fds...), nil)
	return err
}

// filesTimeout bounds the wait for the files of a program.
const filesTimeout = 10 * time.Second

// exec runs a program with the client's files.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	var q network.ExecRequest
	err := decode(r.Body, &q)
	var n *network.Network
	if err == nil {
		n, err = s.network()
	}
	if err != nil {
		fail(w, err)
		return
	}
	f, conn, err := upgrade(w, r, execProtocol)
	if err != nil {
		fail(w, err)
		return
	}
	defer conn.Close()
	files, err := receiveFiles(conn, f)
	if err != nil {
		f.write(frameError, []byte(err.Error()))
		return
	}
	task, err := n.Exec(q, files)
	for _, f := range files {
		f.Close()
	}
	var cannot *node.StartError
	switch {
	case errors.As(err, &cannot):
		f.writeJSON(frameResult, execResult{cannot.Status, cannot.Error()})
		return
	case err != nil:
		f.write(frameError, []byte(err.Error()))
		return
	}
	f.writeJSON(frameStarted, execStarted{task.PID})
	go func() {
		signalTask(f, task)
		endTask(task)
	}()
	<-task.Done()
	f.writeJSON(frameResult, execResult{Status: task.Status()})
}

// receiveFiles takes the three files that the client sends first.
func receiveFiles(conn net.Conn, f *framer) (files [3]*os.File, err error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return files, errors.New("files come over a Unix socket only")
	}
	u.SetReadDeadline(time.Now().Add(filesTimeout))
	defer u.SetReadDeadline(time.Time{})
	oob := make([]byte, unix.CmsgSpace(4*len(files)))
	var kind [1]byte
	_, oobn, _, _, err := u.ReadMsgUnix(kind[:], oob)
	if err != nil {
		return files, fmt.Errorf("standard input, output and error: %w", err)
	}
	var fds []int
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	for i := 0; i < len(msgs) && err == nil; i++ {
		var got []int
		got, err = unix.ParseUnixRights(&msgs[i])
		fds = append(fds, got...)
	}
	if err != nil || len(fds) != len(files) {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return files, fmt.Errorf("the files for standard input, output and error must come first, as one message (SCM_RIGHTS)")
	}
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), [...]string{"stdin", "stdout", "stderr"}[i])
	}
	f.r = conn // nothing has been read ahead
	return files, nil
}

// signalTask passes signals on until the client has gone or the connection is closed.
func signalTask(f *framer, task *node.Task) {
	for {
		kind, p, err := f.read()
		if err != nil {
			return
		}
		if kind == frameSignal && len(p) == 4 {
			task.Signal(syscall.Signal(binary.BigEndian.Uint32(p)))
		}
	}
}

// endTask ends a program whose client has gone.
func endTask(task *node.Task) {
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGKILL} {
		task.Signal(sig)
		if sig == syscall.SIGHUP {
			task.Signal(syscall.SIGCONT) // one that is stopped would never hear of it
			continue
		}
		select {
		case <-task.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
}
