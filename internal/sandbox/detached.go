package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fdCaller is the keeper's end of its connection to who started it.
const fdCaller = 3

// A note passes between a keeper that is a process of its own and its caller: from the
// keeper first a greeting, then that it has let go, or why the sandbox ended; to it, that
// it is to live on without its caller.
type note struct {
	Greeting greeting `json:"greeting,omitzero"`
	LiveOn   bool     `json:"liveOn,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// A Detached is a sandbox whose keeper is a process of its own, in a session of its own: no
// terminal's end is its end. Until Release it ends with the process that started it.
type Detached struct {
	// Name is the network's name; Socket is its API's path.
	Name   string
	Socket string

	cmd   *exec.Cmd
	conn  *net.UnixConn
	notes chan note // of the keeper, after its greeting
	done  chan struct{}
	err   error // valid after done
	close sync.Once
}

// StartDetached is Start with a keeper of its own.
func StartDetached(ctx context.Context, name string) (*Detached, error) {
	ours, theirs, err := seqpacketPair()
	if err != nil {
		return nil, advise(fmt.Errorf("keeper: %w", err))
	}
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, fmt.Errorf("keeper: %w", err)
	}
	// What this process inherited, a lock or the pipe of a script that waits for its end,
	// is not for a process that lives on.
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{keeperName, name}
	cmd.ExtraFiles = []*os.File{fdCaller - 3: theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, advise(fmt.Errorf("start the keeper: %w", err))
	}
	theirs.Close() // so that the keeper's end shows
	d := &Detached{cmd: cmd, conn: conn.(*net.UnixConn), notes: make(chan note, 1), done: make(chan struct{})}
	defer context.AfterFunc(ctx, func() { d.conn.Close() })()
	var n note
	d.conn.SetReadDeadline(time.Now().Add(startTimeout + 10*time.Second))
	_, err = recv(d.conn, &n)
	d.conn.SetReadDeadline(time.Time{})
	if err == nil {
		err = n.Greeting.err()
	} else {
		err = errors.New("the keeper ended before the sandbox was set up")
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		d.conn.Close() // which ends it
		cmd.Wait()
		return nil, err
	}
	d.Name = n.Greeting.Name
	if d.Socket, err = SocketPath(d.Name); err != nil {
		d.conn.Close()
		cmd.Wait()
		return nil, err
	}
	go d.wait()
	return d, nil
}

// wait reads what the keeper says until it ends, or lives on: then done stays open.
func (d *Detached) wait() {
	for {
		var n note
		if _, err := recv(d.conn, &n); err != nil {
			break
		}
		if n.Error != "" {
			d.err = errors.New(n.Error)
		}
		if n.LiveOn {
			d.notes <- n
			return
		}
	}
	err := d.cmd.Wait()
	if d.err == nil && err != nil {
		d.err = fmt.Errorf("the keeper of network %s ended: %w", d.Name, err)
	}
	close(d.done)
}

// Release lets the sandbox live on after this process. d is of no use then.
func (d *Detached) Release(ctx context.Context) error {
	msg, err := json.Marshal(note{LiveOn: true})
	if err != nil {
		return err
	}
	if _, err := d.conn.Write(msg); err != nil {
		return fmt.Errorf("the keeper of network %s is gone: %w", d.Name, err)
	}
	select {
	case <-d.notes:
		return d.conn.Close()
	case <-d.done:
		return cmp.Or(d.err, fmt.Errorf("the keeper of network %s is gone", d.Name))
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(startTimeout):
		return fmt.Errorf("the keeper of network %s does not answer", d.Name)
	}
}

// Done is closed when nothing runs in the sandbox any more, nor its keeper.
func (d *Detached) Done() <-chan struct{} { return d.done }

// Err says why the sandbox ended: nil after a proper end. It is valid after Done.
func (d *Detached) Err() error {
	select {
	case <-d.done:
		return d.err
	default:
		return nil
	}
}

// Close ends the sandbox and its keeper, and waits until they have ended.
func (d *Detached) Close() error {
	d.close.Do(func() { d.conn.CloseWrite() })
	select {
	case <-d.done:
	case <-time.After(closeTimeout + 5*time.Second):
		d.cmd.Process.Kill() // with it all ends
		select {
		case <-d.done:
		case <-time.After(5 * time.Second):
			return fmt.Errorf("network %s: its keeper has not ended after SIGKILL", d.Name)
		}
	}
	return d.err
}

// keeperMain is the life of a keeper that is a process of its own: it keeps the sandbox of
// the network args[0] as long as its caller lives, or, once told to live on, as long as
// the network does.
func keeperMain(args []string) error {
	if len(args) != 1 {
		return errors.New("started by hand; run weft instead")
	}
	unix.CloseOnExec(fdCaller)
	f := os.NewFile(fdCaller, "caller")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return errors.New("started by hand; run weft instead")
	}
	caller := c.(*net.UnixConn)
	say := func(n note) {
		if msg, err := json.Marshal(n); err == nil {
			caller.Write(msg)
		}
	}
	// Its end is that of the network, or SIGTERM.
	withstandSignals()
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	told := make(chan bool, 2) // true: to live on; false: the caller is gone
	go func() {
		defer cancel()
		for {
			var n note
			_, err := recv(caller, &n)
			if err == nil && n.LiveOn {
				told <- true
				continue
			}
			told <- false
			return
		}
	}()
	box, err := Start(ctx, args[0])
	greeting := refusal(err)
	if err == nil {
		greeting.Name = box.Name
	}
	say(note{Greeting: greeting})
	if err != nil {
		return nil // it has been said
	}
	// What goes wrong here is for the network's log.
	logTo(filepath.Join(box.state.path, logFile), 0)
	for living := false; ; {
		select {
		case on := <-told:
			switch {
			case on:
				living = true
				say(note{LiveOn: true})
			case !living:
				box.Close()
			}
		case <-term:
			box.Close()
		case <-box.Done():
			if err := box.Err(); err != nil {
				say(note{Error: err.Error()})
				if !living {
					return nil // it has been said
				}
				return err
			}
			return nil
		}
	}
}
