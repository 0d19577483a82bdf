package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A NotRunningError says that no network has a name.
type NotRunningError struct {
	Name    string
	Running []string // those that there are
}

func (e *NotRunningError) Error() string {
	switch len(e.Running) {
	case 0:
		return fmt.Sprintf("no network %q is running, nor is any other of yours", e.Name)
	case 1:
		return fmt.Sprintf("no network %q is running; there is %s", e.Name, e.Running[0])
	}
	const most = 10
	more := ""
	if n := len(e.Running) - most; n > 0 {
		more = fmt.Sprintf(" and %d more (weft ls)", n)
	}
	return fmt.Sprintf("no network %q is running; there are %s%s", e.Name, join(e.Running[:min(most, len(e.Running))]), more)
}

func join(words []string) string {
	text := words[0]
	for _, w := range words[1:] {
		text += ", " + w
	}
	return text
}

// Check returns a *NotRunningError unless a network of this user's has the name.
func Check(name string) error {
	if alive, err := isAlive(name); alive || err != nil {
		return err
	}
	running, _, err := List()
	if err != nil {
		return err
	}
	return &NotRunningError{name, running}
}

// isAlive reports whether a network of this user's holds its lock.
func isAlive(name string) (bool, error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	dir, err := BaseDir()
	if err != nil {
		return false, err
	}
	path := filepath.Join(dir, name)
	if _, err := os.Lstat(path); err != nil {
		return false, nil
	}
	lock, err := tryLock(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case lock == nil:
		return true, nil
	}
	return false, lock.Close()
}

// Await waits until a network that was asked to end has done so. When ctx ends first, it
// kills the network and returns an error that says so.
func Await(ctx context.Context, name string) error {
	var killed error
	var deadline time.Time
	for {
		alive, err := isAlive(name)
		if !alive || err != nil {
			return errors.Join(killed, err)
		}
		switch {
		case killed == nil && ctx.Err() != nil:
			killed = fmt.Errorf("network %s did not end when it was asked to, and was killed", name)
			if err := kill(name); err != nil {
				return fmt.Errorf("network %s did not end when it was asked to, and cannot be killed: %w", name, err)
			}
			deadline = time.Now().Add(closeTimeout)
		case killed != nil && time.Now().After(deadline):
			return fmt.Errorf("network %s: the kernel has not ended its processes %v after SIGKILL", name, closeTimeout)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// kill sends SIGKILL to a network's init, which ends all of it.
func kill(name string) error {
	path, err := SocketPath(name)
	if err != nil {
		return err
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	// The socket's peer is who listens there: init (unix(7), SO_PEERCRED).
	var peer *unix.Ucred
	if e := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	if peer.Pid <= 0 {
		return errors.New("its init is not to be seen from here")
	}
	return unix.Kill(int(peer.Pid), unix.SIGKILL)
}
