package network

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"weft/node"
	"weft/topo"
)

// RunCommands runs the commands of the plan that are due at the start: those of a node one
// after another, those of different nodes at the same time. It returns when they have ended;
// that one fails is its error. From then on the other commands run at their times, and what
// fails is a warning among the network's events.
func (n *Network) RunCommands(ctx context.Context) error {
	n.mu.Lock()
	plan, again := n.plan, n.stopRunning != nil
	later, stop := context.WithCancel(context.Background())
	if again || n.closed {
		n.mu.Unlock()
		stop()
		return errors.New("the commands of this network have run already")
	}
	n.stopRunning = stop
	n.mu.Unlock()
	byNode := map[string][]topo.Command{}
	for _, c := range plan.Commands {
		if c.At == 0 {
			byNode[c.Node] = append(byNode[c.Node], c)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * workers())
	for _, list := range byNode {
		g.Go(func() error {
			for _, c := range list {
				if err := n.runCommand(ctx, c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	start := time.Now()
	for _, c := range plan.Commands {
		if c.At > 0 {
			go n.runLater(later, c, start)
		}
	}
	return nil
}

// runLater runs a command at its time.
func (n *Network) runLater(ctx context.Context, c topo.Command, start time.Time) {
	wait := time.NewTimer(time.Until(start.Add(time.Duration(c.At))))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return
	case <-wait.C:
	}
	if err := n.runCommand(ctx, c); err != nil && ctx.Err() == nil {
		n.events.emit(slog.LevelWarn.String(), c.Node, fmt.Sprintf("after %s: %v", c.At, err))
	}
}

// runCommand runs a command and waits for its end, not for that of what it leaves in the
// background.
func (n *Network) runCommand(ctx context.Context, c topo.Command) error {
	timeout := cmp.Or(time.Duration(c.Timeout), topo.DefaultCommandTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s: the command %q %w", c.Node, shorten(c.Command), fmt.Errorf(format, args...))
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fail("was not started: %w", err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fail("was not started: %w", err)
	}
	out := &commandOutput{log: n.log(c.Node)}
	go func() {
		out.copy(r)
		r.Close()
	}()
	n.mu.Lock()
	trusted := n.plan.Trusted
	n.mu.Unlock()
	dir := ""
	if !trusted {
		dir = "/tmp"
	}
	where := n.confinedPlace
	if trusted {
		where = n.place
	}
	var task *node.Task
	place, err := where(c.Node)
	if err == nil {
		task, err = n.execAt(place, ExecRequest{Node: c.Node, Argv: []string{"sh", "-c", c.Command}, Env: os.Environ(), Dir: dir}, [3]*os.File{null, w, w})
	}
	w.Close()
	if err != nil {
		return fail("was not started: %w", err)
	}
	select {
	case <-task.Done():
	case <-ctx.Done():
		task.Signal(syscall.SIGKILL)
		<-task.Done()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fail("did not end within %s; end it with & if it is to go on, or write a longer timeout%s", timeout, out.tail(r))
		}
		return fail("was ended: %w", ctx.Err())
	}
	if status := task.Status(); status != 0 {
		tail := out.tail(r)
		if !trusted && strings.Contains(tail, "Read-only file system") { // EROFS, as strerror(3) has it
			tail += "; it may write to /tmp alone: if you trust it, write --allow"
		}
		return fail("failed with status %d%s", status, tail)
	}
	return nil
}

// shorten cuts a command to what fits into a message.
func shorten(line string) string {
	const most = 80
	line = strings.Join(strings.Fields(line), " ")
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "..."
	}
	return line
}

// commandOutput is what a command prints: in the node's log, and its end.
type commandOutput struct {
	log io.Writer

	mu   sync.Mutex
	last []byte
}

// maxLast is how much is kept of a command's output for an error, in bytes.
const maxLast = 1 << 10

// copy reads until no process has the other end any more.
func (o *commandOutput) copy(r *os.File) {
	buf := make([]byte, 4096)
	for {
		k, err := r.Read(buf)
		o.mu.Lock()
		o.last = append(o.last, buf[:k]...)
		if len(o.last) > maxLast {
			o.last = append(o.last[:0], o.last[len(o.last)-maxLast:]...)
		}
		o.mu.Unlock()
		if k > 0 {
			o.log.Write(buf[:k]) // a full disk is no reason to stop the command
		}
		if err != nil {
			return
		}
	}
}

// tail returns the last lines of the output of a command that has ended, for an error.
func (o *commandOutput) tail(r *os.File) string {
	for range 100 { // until what it wrote has been read
		left := 0
		if raw, err := r.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		}
		if left == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(o.last), []byte("\n"))
	text := string(bytes.TrimSpace(bytes.Join(lines[max(0, len(lines)-3):], []byte(" | "))))
	if text == "" {
		return ""
	}
	return ": " + strings.ToValidUTF8(text, "?")
}
