package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// engineGrace is how long the engine has to end when the keeper is gone.
const engineGrace = 4 * time.Second

// initMain is the life of PID 1. Its arguments are the network's name, which may be empty,
// the directory for state directories, "root" or "rootless", and "mapped-later" if the keeper maps the ids
// of the user namespace after the start.
func initMain(args []string) error {
	if len(args) < 3 || os.Getpid() != 1 {
		return errors.New("started by hand; run weft instead")
	}
	fds := make([]int, 0, fdEnd)
	for fd := fdBroker; fd < fdEnd; fd++ {
		fds = append(fds, fd)
	}
	if len(args) > 3 {
		// A process that was executed before its ids were mapped has no
		// capabilities; executing once more as the namespace's root gives them
		// (capabilities(7), "Transformation of capabilities during execve").
		if err := awaitMapping(); err != nil {
			return err
		}
		return unix.Exec("/proc/self/exe", append([]string{initName}, args[:3]...), os.Environ())
	}
	closeOnExec(fds...)
	state, listener, err := settle(args[1], args[0])
	if err != nil {
		return err
	}
	name, dir, mode := state.name, state.path, args[2]
	go func() {
		// Nothing is ever written: the read ends when the keeper does. The engine
		// notices it too (Broker.Gone) and gets some time to end in good order.
		unix.Read(fdLifeline, make([]byte, 1))
		time.Sleep(engineGrace)
		end(name, dir, 0)
	}()
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		end(name, dir, 1)
	}
	if err := prepare(dir); err != nil {
		fail(err)
	}
	engine, err := startEngine(name, dir, mode, listener)
	if err != nil {
		fail(err)
	}
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			fail(fmt.Errorf("wait: %w", err))
		case pid == engine && ws.Signaled():
			fmt.Fprintf(os.Stderr, "the engine was killed (%s)\n", ws.Signal())
			end(name, dir, 1)
		case pid == engine:
			end(name, dir, ws.ExitStatus())
		}
	}
}

// settle claims the state directory, with log and API socket in it, and tells the keeper.
// It is init that does so because it outlives a keeper that is killed.
func settle(base, name string) (*stateDir, *os.File, error) {
	state, listener, err := furnish(base, name)
	g := refusal(err)
	if err == nil {
		g.Name = state.name
	}
	msg, _ := json.Marshal(g)
	if _, e := unix.Write(fdBroker, msg); err == nil && e != nil {
		err = e // the keeper is gone
		removeState(fdBase, state.name)
	}
	return state, listener, err
}

func furnish(base, name string) (*stateDir, *os.File, error) {
	state, err := claim(base, name)
	if err != nil {
		return nil, nil, err
	}
	listener, err := listenUnix(filepath.Join(state.path, socketFile))
	if err != nil {
		err = fmt.Errorf("API socket: %w", err)
	} else {
		err = logTo(filepath.Join(state.path, logFile), os.O_CREATE|os.O_TRUNC)
	}
	if err != nil {
		removeState(fdBase, state.name)
	}
	return state, listener, err
}

// logTo makes a file, opened with flags too, the standard error of this process and of those
// that it starts.
func logTo(path string, flags int) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|flags, 0o600)
	if err != nil {
		return fmt.Errorf("network log: %w", err)
	}
	defer f.Close()
	return unix.Dup3(int(f.Fd()), 2, 0)
}

func awaitMapping() error {
	for {
		n, err := unix.Read(fdMapped, make([]byte, 1))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("id mapping: %w", err)
		case n == 0:
			return errors.New("id mapping: the keeper is gone")
		default:
			return nil
		}
	}
}

// end puts back what the keeper changed outside, removes the state directory and exits,
// which ends all processes inside.
func end(name, dir string, code int) {
	unix.Unmount(dir, unix.MNT_DETACH)
	runtime.LockOSThread()
	if unix.Setns(fdOutside, unix.CLONE_NEWNET) == nil { // an ordinary user's may not, and changes nothing
		restore(os.NewFile(fdBase, "base"), name)
	}
	removeState(fdBase, name)
	os.Exit(code)
}

// prepare makes the sandbox a place of its own: a /proc and /sys that show it, and a
// directory in memory.
func prepare(dir string) error {
	// Mounts that the user makes or removes outside are followed; ours stay inside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w (in a container, its /proc must not be masked: --security-opt systempaths=unconfined)", err)
	}
	if err := MountSys(); err != nil {
		return err
	}
	if err := unix.Mount("weft", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=512m"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return loopbackUp()
}

// MountSys mounts a /sys that shows the calling thread's network namespace in its mount
// namespace, and keeps the control groups that are mounted in the old one.
func MountSys() error {
	const cgroup = "/sys/fs/cgroup"
	tree, err := unix.OpenTree(unix.AT_FDCWD, cgroup, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err == nil {
		defer unix.Close(tree)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err == nil {
		// Without cgroups below /sys programs still run.
		unix.MoveMount(tree, "", unix.AT_FDCWD, cgroup, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	return nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}

func startEngine(name, dir, mode string, listener *os.File) (pid int, err error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{engineName, name, dir, mode}
	cmd.Stderr = os.Stderr
	cmd.Env = environ()
	cmd.ExtraFiles = []*os.File{
		fdListener - 3: listener, fdBroker - 3: os.NewFile(fdBroker, "broker"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the engine: %w", err)
	}
	listener.Close()
	unix.Close(fdBroker)
	return cmd.Process.Pid, nil
}

// SystemPath adds the directories of system programs, which an ordinary user's PATH often
// lacks, to the end of path.
func SystemPath(path string) string {
	for _, d := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if !strings.Contains(":"+path+":", ":"+d+":") {
			path = strings.TrimPrefix(path+":"+d, ":")
		}
	}
	return path
}

// environ is the environment with the directories of system programs in PATH.
func environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PATH=") {
			env = append(env, e)
		}
	}
	return append(env, "PATH="+SystemPath(os.Getenv("PATH")))
}
