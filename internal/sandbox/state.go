package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Names in a state directory.
const (
	lockFile   = "lock" // flock: held as long as init lives
	socketFile = "api.sock"
	logFile    = "log"  // the engine's standard error
	undoFile   = "undo" // what is to be set back outside, see forward
)

// A RunningError says that a network of that name exists already.
type RunningError struct{ Name string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("a network named %q is running already: choose another --name", e.Name)
}

// BaseDir returns the directory that holds the state directories of this user's
// networks, closed to other users: /run/weft for root, else $XDG_RUNTIME_DIR/weft,
// else weft-UID in the directory for temporary files.
func BaseDir() (string, error) {
	uid := os.Getuid()
	dir := "/run/weft"
	if uid != 0 {
		if x := os.Getenv("XDG_RUNTIME_DIR"); x != "" && unix.Access(x, unix.W_OK) == nil {
			dir = filepath.Join(x, "weft")
		} else {
			dir = filepath.Join(os.TempDir(), "weft-"+strconv.Itoa(uid))
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", fmt.Errorf("state directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != uid || st.Mode&0o077 != 0 {
		return "", fmt.Errorf("state directory %s is not a directory of this user's alone: remove it, or set XDG_RUNTIME_DIR", dir)
	}
	return dir, nil
}

// A stateDir is a network's state directory. Init holds the lock; the keeper has none.
type stateDir struct {
	name, path string
	base, lock *os.File
}

// claim makes and locks the state directory of a network in dir. An empty name takes
// the first free one of net1, net2, …
func claim(dir, name string) (*stateDir, error) {
	if name != "" {
		return claimIn(dir, name)
	}
	for i := 1; ; i++ {
		s, err := claimIn(dir, "net"+strconv.Itoa(i))
		var running *RunningError
		if !errors.As(err, &running) {
			return s, err
		}
	}
}

func claimIn(dir, name string) (*stateDir, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	for {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		lock, err := tryLock(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // swept between mkdir and open
		}
		if err != nil {
			return nil, err
		}
		if lock == nil {
			return nil, &RunningError{name}
		}
		base, err := os.Open(dir)
		if err != nil {
			lock.Close()
			return nil, fmt.Errorf("state directory: %w", err)
		}
		s := &stateDir{name: name, path: path, base: base, lock: lock}
		os.Remove(filepath.Join(path, socketFile))
		return s, nil
	}
}

// checkName refuses names that are no single, ordinary file name: the socket's path
// must fit into sockaddr_un (108 bytes).
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 40 {
		return fmt.Errorf("network name %q: must have 1 to 40 characters", name)
	}
	for _, r := range name {
		ok := r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !ok {
			return fmt.Errorf("network name %q: only letters, digits, '-', '_' and '.'", name)
		}
	}
	return nil
}

// tryLock locks the state directory at path. It returns nil if somebody holds it.
func tryLock(path string) (*os.File, error) {
	file := filepath.Join(path, lockFile)
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	// A sweep may have removed the file between open and flock.
	var a, b unix.Stat_t
	if unix.Fstat(int(f.Fd()), &a) != nil || unix.Stat(file, &b) != nil || a.Ino != b.Ino {
		f.Close()
		return nil, os.ErrNotExist
	}
	return f, nil
}

// remove deletes the state directory through the base directory's descriptor, so that
// it works from any mount namespace. It is called with the lock held.
func removeState(base int, name string) error {
	dir, err := unix.Openat(base, name, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	for _, f := range []string{socketFile, logFile, undoFile, lockFile} {
		unix.Unlinkat(dir, f, 0)
	}
	if again, err := unix.Dup(dir); err == nil { // ReadDir closes it
		list := os.NewFile(uintptr(again), name)
		entries, _ := list.ReadDir(-1)
		list.Close()
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), nfSuffix) {
				unix.Unlinkat(dir, e.Name(), 0)
			}
		}
	}
	return unix.Unlinkat(base, name, unix.AT_REMOVEDIR)
}

// nfSuffix ends the names of the sockets at which NF managers take NFs from outside.
const nfSuffix = ".nf"

// listenNFs makes such a socket.
func (s *stateDir) listenNFs(name string) (*os.File, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("%q is no name of a socket", name)
	}
	path := filepath.Join(s.path, name+nfSuffix)
	os.Remove(path) // of a node of that name that is no more
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	// The directory keeps others out; a container of another user's gets the socket alone.
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, err
	}
	return l.File()
}

// SocketPath returns the API socket of a network of this user's.
func SocketPath(name string) (string, error) {
	dir, err := BaseDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name, socketFile), nil
}

// List returns the names of this user's running networks, sorted, and of the state
// directories whose network is dead.
func List() (running, dead []string, err error) {
	dir, err := BaseDir()
	if err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		lock, err := tryLock(filepath.Join(dir, e.Name()))
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return nil, nil, err
		case lock == nil:
			running = append(running, e.Name())
		default:
			lock.Close()
			dead = append(dead, e.Name())
		}
	}
	sort.Strings(running)
	sort.Strings(dead)
	return running, dead, nil
}

// Clean removes what dead networks of this user's left and returns their names.
// Running networks are not touched.
func Clean() ([]string, error) {
	dir, err := BaseDir()
	if err != nil {
		return nil, err
	}
	_, dead, err := List()
	if err != nil {
		return nil, err
	}
	var cleaned []string
	var errs []error
	for _, name := range dead {
		var running *RunningError
		switch err := sweep(dir, name); {
		case err == nil:
			cleaned = append(cleaned, name)
		case !errors.As(err, &running): // else it came to life in the meantime
			errs = append(errs, fmt.Errorf("network %s: %w", name, err))
		}
	}
	return cleaned, errors.Join(errs...)
}

// sweep removes what a dead network left.
func sweep(dir, name string) error {
	s, err := claimIn(dir, name)
	if err != nil {
		return err
	}
	defer s.close()
	restore(s.base, name)
	return removeState(int(s.base.Fd()), name)
}

func (s *stateDir) close() {
	s.lock.Close()
	s.base.Close()
}
