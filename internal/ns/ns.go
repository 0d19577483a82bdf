// Package ns makes and enters namespaces. Namespaces are held by file descriptors, so
// that they have no name outside and go with their holder (namespaces(7)).
package ns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Net is a network namespace.
type Net struct {
	h netns.NsHandle
}

// Current returns the calling thread's network namespace.
func Current() (*Net, error) {
	h, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return &Net{h}, nil
}

// New makes a network namespace and calls setup, if not nil, on a thread inside it.
func New(setup func() error) (*Net, error) {
	var n *Net
	err := onThread(func() error {
		h, err := netns.New()
		if err != nil {
			return err
		}
		if setup != nil {
			if err := setup(); err != nil {
				h.Close()
				return err
			}
		}
		n = &Net{h}
		return nil
	})
	if err != nil {
		return nil, limit(fmt.Errorf("make a network namespace: %w", err))
	}
	return n, nil
}

// FD returns the descriptor of the namespace, valid until Close.
func (n *Net) FD() int { return int(n.h) }

// Close lets go of the namespace.
func (n *Net) Close() error { return n.h.Close() }

// Do calls f on a thread that is inside the namespace. f must not start goroutines that
// need to be there too.
func (n *Net) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.h); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return f()
	})
}

// Handle returns a netlink handle whose socket is in the namespace.
func (n *Net) Handle() (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(n.h, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, limit(fmt.Errorf("netlink: %w", err))
	}
	return h, nil
}

// onThread calls f on a thread of its own and brings the thread back to the network
// namespace that it came from. If that fails, the thread ends with the goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		origin, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = f()
		if netns.Set(origin) == nil {
			runtime.UnlockOSThread()
		}
		origin.Close()
		done <- err
	}()
	return <-done
}

// A Place is where programs of a node run: a network namespace and, if they are there,
// mount and UTS namespaces.
type Place struct {
	Net *Net
	// Restrict, if not nil, is called by Do before its function: it takes rights from what
	// is started there.
	Restrict   func() error
	mount, uts *os.File
}

// NewPlace makes mount and UTS namespaces of a node's own in net, with its name as host
// name, and calls setup inside. Mounts in it do not show outside.
func NewPlace(net *Net, hostname string, setup func() error) (*Place, error) {
	p := &Place{Net: net}
	done := make(chan error, 1)
	go func() {
		// The thread stays locked: it cannot share its file system view again, and
		// ends with the goroutine.
		runtime.LockOSThread()
		done <- func() error {
			if err := netns.Set(net.h); err != nil {
				return err
			}
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
				return err
			}
			if err := unix.Sethostname([]byte(hostname)); err != nil {
				return err
			}
			if err := setup(); err != nil {
				return err
			}
			var err error
			if p.mount, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
				return err
			}
			p.uts, err = os.Open("/proc/thread-self/ns/uts")
			return err
		}()
	}()
	if err := <-done; err != nil {
		p.Close()
		return nil, limit(fmt.Errorf("make mount and UTS namespaces: %w", err))
	}
	return p, nil
}

// Paths returns files by which other processes in this process' PID namespace can enter the place,
// until it is closed. mount and uts are empty if it has none.
func (p *Place) Paths() (net, mount, uts string) {
	path := func(fd int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd) }
	net = path(p.Net.FD())
	if p.mount != nil {
		mount, uts = path(int(p.mount.Fd())), path(int(p.uts.Fd()))
	}
	return net, mount, uts
}

// Close lets go of the mount and UTS namespaces, not of Net.
func (p *Place) Close() error {
	var errs []error
	for _, f := range []*os.File{p.mount, p.uts} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Do calls f on a thread inside all of the place's namespaces; processes that f starts
// are there too, in the caller's directory, or in / where that does not exist.
func (p *Place) Do(f func() error) error {
	if p.mount == nil {
		return p.Net.Do(f)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good, see NewPlace
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			if err := netns.Set(p.Net.h); err != nil {
				return err
			}
			if err := unix.Setns(int(p.uts.Fd()), unix.CLONE_NEWUTS); err != nil {
				return err
			}
			dir, err := os.Getwd()
			if err != nil {
				dir = "/"
			}
			// This leaves the thread in /.
			if err := unix.Setns(int(p.mount.Fd()), unix.CLONE_NEWNS); err != nil {
				return err
			}
			unix.Chdir(dir)
			if p.Restrict != nil {
				if err := p.Restrict(); err != nil {
					return err
				}
			}
			return f()
		}()
	}()
	return <-done
}

// limit adds what to do to an error that comes from a limit of the system's.
func limit(err error) error {
	switch {
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: each node needs a file descriptor; raise the limit with `ulimit -n`", err)
	case errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: raise it with `sysctl fs.file-max`", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: raise it with `sysctl user.max_net_namespaces`", err)
	}
	return err
}
