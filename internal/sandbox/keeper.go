package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startTimeout bounds the wait for init.
	startTimeout = 30 * time.Second
	// endTimeout bounds the wait for init's own end, closeTimeout that for the kernel's.
	endTimeout   = 10 * time.Second
	closeTimeout = 30 * time.Second
)

// A Sandbox is the keeper's view of the namespaces that it started.
type Sandbox struct {
	// Name is the network's name; Socket is its API's path.
	Name   string
	Socket string
	// Rootless says that the sandbox is in a user namespace.
	Rootless bool

	dir      string // holds the state directories
	state    *stateDir
	cmd      *exec.Cmd
	lifeline *os.File
	log      *os.File
	broker   *server
	done     chan struct{}
	err      error
	close    sync.Once
}

// Start makes a sandbox with an engine in it. name may be empty: the first free one.
// The API answers as soon as the engine runs; if it never does, Done is closed.
func Start(ctx context.Context, name string) (*Sandbox, error) {
	if name != "" {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	dir, err := BaseDir()
	if err != nil {
		return nil, advise(err)
	}
	s := &Sandbox{Name: name, Rootless: os.Geteuid() != 0, dir: dir, done: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		if s.state != nil {
			s.state.base.Close()
		}
		return nil, advise(err)
	}
	go s.wait()
	return s, nil
}

// advise adds what to do to an error that comes from a limit of the system's or from the
// place of the state directory.
func advise(err error) error {
	elsewhere := ""
	if os.Geteuid() != 0 {
		elsewhere = ", or set XDG_RUNTIME_DIR to another directory of yours"
	}
	switch {
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: raise the limit with `ulimit -n`", err)
	case errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: raise the limit with `sysctl fs.file-max`", err)
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: free some space or files there (df, df -i)%s", err, elsewhere)
	case errors.Is(err, unix.EROFS), errors.Is(err, os.ErrPermission) && elsewhere != "":
		return fmt.Errorf("%w: make it writable%s", err, elsewhere)
	}
	return err
}

func (s *Sandbox) start(ctx context.Context) (err error) {
	var closers []*os.File
	defer func() {
		for _, f := range closers {
			f.Close()
		}
	}()
	keep := func(f *os.File) *os.File { closers = append(closers, f); return f }

	base, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	s.state = &stateDir{base: base}
	lifeR, lifeW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("lifeline: %w", err)
	}
	keep(lifeR)
	mapR, mapW, err := os.Pipe()
	if err != nil {
		lifeW.Close()
		return err
	}
	keep(mapR)
	keep(mapW)
	outside, err := os.Open("/proc/self/ns/net")
	if err != nil {
		lifeW.Close()
		return err
	}
	keep(outside)
	ours, theirs, err := seqpacketPair()
	if err != nil {
		lifeW.Close()
		return fmt.Errorf("broker: %w", err)
	}
	keep(theirs)

	ids, err := mapping(ctx, s.Rootless)
	if err != nil {
		lifeW.Close()
		ours.Close()
		return err
	}
	mode := "root"
	if s.Rootless {
		mode = "rootless"
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initName, s.Name, s.dir, mode}
	if ids.helpers {
		cmd.Args = append(cmd.Args, "mapped-later")
	}
	cmd.ExtraFiles = []*os.File{fdBroker - 3: theirs, fdLifeline - 3: lifeR, fdBase - 3: base, fdMapped - 3: mapR, fdOutside - 3: outside}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true, // Ctrl-C in the user's terminal is not for the network
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
	}
	if s.Rootless {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids.uids, ids.gids
	}
	if err := cmd.Start(); err != nil {
		lifeW.Close()
		ours.Close()
		return startError(err, s.Rootless)
	}
	s.cmd, s.lifeline = cmd, lifeW
	if ids.helpers {
		if err := ids.apply(ctx, cmd.Process.Pid); err != nil {
			cmd.Process.Kill()
			cmd.Wait()
			lifeW.Close()
			ours.Close()
			return err
		}
		mapW.Write([]byte{1})
	}
	theirs.Close() // so that init's end shows
	conn, err := net.FileConn(ours)
	ours.Close()
	if err == nil {
		if err = s.greeted(conn.(*net.UnixConn)); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		lifeW.Close()
		return err
	}
	s.broker = &server{state: s.state, rootless: s.Rootless, initPID: cmd.Process.Pid}
	s.broker.serve(conn.(*net.UnixConn))
	return nil
}

// greeted waits for init's greeting and takes the network's name and files from it.
func (s *Sandbox) greeted(conn *net.UnixConn) error {
	conn.SetReadDeadline(time.Now().Add(startTimeout))
	defer conn.SetReadDeadline(time.Time{})
	var g greeting
	_, err := recv(conn, &g)
	switch {
	case err != nil:
		Clean() // it may have got as far as its files
		return fmt.Errorf("the sandbox ended, or said nothing for %v, before it was set up", startTimeout)
	case g.err() != nil:
		return g.err()
	}
	s.Name = g.Name
	s.state.name, s.state.path = g.Name, filepath.Join(s.dir, g.Name)
	s.Socket = filepath.Join(s.state.path, socketFile)
	restore(s.state.base, g.Name) // of one that was killed
	if s.log, err = os.Open(filepath.Join(s.state.path, logFile)); err != nil {
		return fmt.Errorf("network log: %w", err)
	}
	return nil
}

func startError(err error, rootless bool) error {
	switch {
	case rootless && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS)):
		return fmt.Errorf("this system does not let user %d make user namespaces (%v): run weft as root, or see `weft doctor`", os.Getuid(), err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("root may not make namespaces here (%v), as in an unprivileged container: run weft with --privileged or as an ordinary user", err)
	}
	return fmt.Errorf("start the sandbox: %w", err)
}

// wait is the only place where the sandbox's end is noticed.
func (s *Sandbox) wait() {
	err := s.cmd.Wait()
	s.broker.close()
	s.lifeline.Close()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		s.err = fmt.Errorf("the sandbox of network %s was killed (%s)", s.Name, exit.Sys().(syscall.WaitStatus).Signal())
	default:
		s.err = fmt.Errorf("the sandbox of network %s ended: %w", s.Name, err)
	}
	if s.err != nil {
		if st, err := s.log.Stat(); err == nil && st.Size() > 0 {
			s.err = fmt.Errorf("%w\n%s", s.err, tail(s.log, st.Size(), 15))
		}
	}
	// Init has done the same, unless it was killed.
	if _, err := os.Lstat(s.state.path); err == nil {
		sweep(s.dir, s.Name)
	}
	s.state.base.Close()
	s.log.Close()
	close(s.done)
}

// Done is closed when nothing runs in the sandbox any more.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Err says why the sandbox ended: nil after a proper end. It is valid after Done.
func (s *Sandbox) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Close ends the sandbox and waits until it has ended. The engine should have been asked
// to go first: Close does not wait for it.
func (s *Sandbox) Close() error {
	s.close.Do(func() { s.lifeline.Close() })
	select {
	case <-s.done:
	case <-time.After(endTimeout):
		s.cmd.Process.Kill() // init is stuck; SIGKILL to it ends the namespace
		select {
		case <-s.done:
		case <-time.After(closeTimeout - endTimeout):
			return fmt.Errorf("network %s: the kernel has not ended its processes after 30 s", s.Name)
		}
	}
	return s.err
}

// idMapping is how a user namespace's ids are mapped.
type idMapping struct {
	helpers    bool // by newuidmap and newgidmap, after the start
	uids, gids []syscall.SysProcIDMap
	subuid     string // START:COUNT
	subgid     string
}

// mapping takes the user's sub-ids when newuidmap, newgidmap and an entry of at least
// 65536 ids are there, else maps the user alone to root.
func mapping(ctx context.Context, rootless bool) (idMapping, error) {
	if !rootless {
		return idMapping{}, nil
	}
	uid, gid := os.Getuid(), os.Getgid()
	m := idMapping{
		uids: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		gids: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}},
	}
	_, err1 := exec.LookPath("newuidmap")
	_, err2 := exec.LookPath("newgidmap")
	if err1 != nil || err2 != nil {
		return m, nil
	}
	names := []string{strconv.Itoa(uid)}
	if u, err := user.LookupId(names[0]); err == nil {
		names = append(names, u.Username)
	}
	m.subuid, m.subgid = subIDs("/etc/subuid", names), subIDs("/etc/subgid", names)
	if m.subuid == "" || m.subgid == "" {
		return m, nil
	}
	m.helpers, m.uids, m.gids = true, nil, nil
	return m, nil
}

// subIDs returns the first range of at least 65536 ids for one of names in a file of
// subuid(5), as "START COUNT", or "".
func subIDs(file string, names []string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		p := strings.Split(strings.TrimSpace(sc.Text()), ":")
		if len(p) != 3 {
			continue
		}
		start, err1 := strconv.ParseUint(p[1], 10, 32)
		count, err2 := strconv.ParseUint(p[2], 10, 32)
		if err1 != nil || err2 != nil || start == 0 || count < 65536 {
			continue
		}
		for _, n := range names {
			if p[0] == n {
				return fmt.Sprintf("%d %d", start, count)
			}
		}
	}
	return ""
}

func (m idMapping) apply(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, h := range []struct {
		tool, sub string
		id        int
	}{{"newuidmap", m.subuid, os.Getuid()}, {"newgidmap", m.subgid, os.Getgid()}} {
		args := append([]string{strconv.Itoa(pid), "0", strconv.Itoa(h.id), "1", "1"}, strings.Fields(h.sub)...)
		if out, err := exec.CommandContext(ctx, h.tool, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", h.tool, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// listenUnix returns a listening socket at path that only this user can reach.
func listenUnix(path string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return l.File()
}

func seqpacketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "broker"), os.NewFile(uintptr(fds[1]), "broker"), nil
}
