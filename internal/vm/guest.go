package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Guest is the life of a guest's init, if this process is one; then it does not return. It
// must be the first thing that main does.
func Guest() {
	if os.Getpid() != 1 || os.Args[0] != "/"+initFile {
		return
	}
	j, err := readJob()
	if err != nil {
		return // PID 1 of something else
	}
	g := &guest{job: j}
	if err := g.live(); err != nil {
		g.tell(reportFail, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// A guest is the machine, seen from inside.
type guest struct {
	job    job
	report *os.File // nil until its port is there
}

// tell writes a line to the host, or to the console as long as the host does not listen.
func (g *guest) tell(word string, text ...any) {
	to := g.report
	if to == nil {
		to = os.Stderr
	}
	fmt.Fprintln(to, append([]any{word}, text...)...)
}

func (g *guest) live() error {
	if err := g.enterHost(); err != nil {
		return err
	}
	var err error
	if g.report, err = openPort(portReport); err != nil {
		return err
	}
	if err := g.furnish(); err != nil {
		return err
	}
	up, _ := os.ReadFile("/proc/uptime")
	seconds, _, _ := strings.Cut(string(up), " ")
	g.tell(reportUp, g.job.Kernel, seconds)
	status, err := g.run()
	if err != nil {
		return err
	}
	for _, dir := range g.job.Writable {
		unix.Unmount(dir, unix.MNT_DETACH)
	}
	g.tell(reportExit, status)
	return nil
}

// A mount is one of mount(2).
type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
	}
	return nil
}

func mountAll(list []mount) error {
	for _, m := range list {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

// share is the mount of a directory of the host's. 500 kB is the most that a message of
// virtio's 9p holds.
func share(tag, target string, flags uintptr, cache string) mount {
	return mount{tag, target, "9p", flags, "trans=virtio,version=9p2000.L,msize=512000,cache=" + cache}
}

// enterHost makes the host's file system the root of this process, changes to it being kept
// in memory.
func (g *guest) enterHost() error {
	for _, m := range g.job.Initial {
		if err := insert("/" + m); err != nil {
			return err
		}
	}
	const lower, upper, root = "/lower", "/upper", "/root"
	// What the host has cannot change for the guest: its cache may keep everything.
	if err := mountAll([]mount{
		{"proc", "/proc", "proc", 0, ""},
		share(tagRoot, lower, unix.MS_RDONLY, "loose"),
		{"upper", upper, "tmpfs", 0, "mode=0755,size=80%"},
	}); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(upper+"/up", 0o755), os.Mkdir(upper+"/work", 0o755)); err != nil {
		return err
	}
	if err := (mount{"overlay", root, "overlay", 0,
		fmt.Sprintf("lowerdir=%s,upperdir=%s/up,workdir=%[2]s/work", lower, upper)}).do(); err != nil {
		return err
	}
	// As switch_root(8): a process that is chrooted otherwise can make no user namespaces.
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return mountAll([]mount{
		{"proc", "/proc", "proc", 0, ""},
		{"sys", "/sys", "sysfs", 0, ""},
		{"dev", "/dev", "devtmpfs", 0, ""},
		{"devpts", "/dev/pts", "devpts", 0, "mode=620,ptmxmode=666"},
		{"shm", "/dev/shm", "tmpfs", 0, ""},
		{"run", "/run", "tmpfs", 0, "mode=0755"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""},
		{"debugfs", "/sys/kernel/debug", "debugfs", 0, ""},
		{"bpf", "/sys/fs/bpf", "bpf", 0, ""},
	})
}

// systemPath is where Debian has the system's programs.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// furnish does what is left of a boot: modules, devices, directories.
func (g *guest) furnish() error {
	tree := filepath.Join("/lib/modules", g.job.Kernel)
	if err := (mount{g.job.Tree, tree, "", unix.MS_BIND, ""}).do(); err != nil {
		return err
	}
	for i, dir := range g.job.Writable {
		if err := share(tagWritable(i), dir, 0, "none").do(); err != nil {
			return err
		}
	}
	if g.job.Hugepages {
		if err := (mount{"hugetlbfs", "/dev/hugepages", "hugetlbfs", 0, ""}).do(); err != nil {
			return err
		}
	}
	for path, to := range map[string]string{"/dev/ptmx": "pts/ptmx", "/dev/fd": "/proc/self/fd",
		"/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, path); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := unix.Sethostname([]byte("weft-vm")); err != nil {
		return err
	}
	os.Setenv("PATH", systemPath)
	for _, m := range append(g.wanted(), g.job.Modules...) {
		if out, err := exec.Command("modprobe", m).CombinedOutput(); err != nil {
			return fmt.Errorf("modprobe %s: %w: %s", m, err, out)
		}
	}
	// As udev does.
	if err := os.Chmod("/dev/net/tun", 0o666); err != nil {
		return err
	}
	return loopbackUp()
}

// wanted lists the modules that udev would load: for tun, whose device file is otherwise
// missing, and for NICs.
func (g *guest) wanted() []string {
	modules := []string{"tun"}
	if !g.job.NICs {
		return modules
	}
	for _, pattern := range []string{"/sys/bus/pci/devices/*", "/sys/bus/virtio/devices/*"} {
		devices, _ := filepath.Glob(pattern)
		for _, d := range devices {
			class, err := os.ReadFile(filepath.Join(d, "class"))
			if err == nil && !strings.HasPrefix(string(class), "0x02") { // network, PCI Code and ID Assignment
				continue
			}
			if _, err := os.Lstat(filepath.Join(d, "driver")); err == nil {
				continue
			}
			if alias, err := os.ReadFile(filepath.Join(d, "modalias")); err == nil {
				modules = append(modules, strings.TrimSpace(string(alias)))
			}
		}
	}
	return modules
}

// insert loads a module from a file.
func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}

// openPort opens a virtio port by its name, as soon as the driver has found it.
func openPort(name string) (*os.File, error) {
	for deadline := time.Now().Add(bootTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		ports, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, p := range ports {
			if text, err := os.ReadFile(p); err == nil && strings.TrimSpace(string(text)) == name {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(p)), os.O_WRONLY, 0)
			}
		}
	}
	return nil, fmt.Errorf("no virtio port %s", name)
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

// What shells say of a command that cannot be run.
const (
	statusNotFound   = 127
	statusNoProgram  = 126
	statusSignalBase = 128
)

// run runs the command to its end, and reaps all other processes meanwhile.
func (g *guest) run() (status int, err error) {
	os.Clearenv()
	for _, e := range g.job.Env {
		name, value, _ := strings.Cut(e, "=")
		os.Setenv(name, value)
	}
	if err := os.Chdir(g.job.Dir); err != nil {
		return 0, err
	}
	out, doneOut, err := outlet(portOut)
	if err != nil {
		return 0, err
	}
	errOut, doneErr, err := outlet(portErr)
	if err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	program, err := exec.LookPath(g.job.Args[0])
	if err != nil {
		fmt.Fprintln(errOut, "vm:", err)
		status = statusNotFound
	} else if status, err = reap(program, g.job.Args, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{null.Fd(), out.Fd(), errOut.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	}); err != nil {
		fmt.Fprintf(errOut, "vm: %s: %v\n", program, err)
		status = statusNoProgram
	}
	errors.Join(out.Close(), errOut.Close())
	// Processes that are left may hold the pipes.
	both := make(chan struct{})
	go func() { doneOut.Wait(); doneErr.Wait(); close(both) }()
	select {
	case <-both:
	case <-time.After(time.Second):
	}
	return status, nil
}

// outlet returns a pipe to a port of the host's. A port can be opened only once; a pipe
// can be opened again, as /dev/stdout.
func outlet(port string) (*os.File, *sync.WaitGroup, error) {
	to, err := openPort(port)
	if err != nil {
		return nil, nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	var done sync.WaitGroup
	done.Go(func() { io.Copy(to, r) })
	return w, &done, nil
}

// reap runs a program and returns its exit status.
func reap(program string, args []string, attr *syscall.ProcAttr) (int, error) {
	// As systemd sets it for services.
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1024, Max: 1 << 19})
	child, err := syscall.ForkExec(program, args, attr)
	if err != nil {
		return 0, err
	}
	for {
		var ws syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &ws, 0, nil); {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case pid == child && ws.Signaled():
			return statusSignalBase + int(ws.Signal()), nil
		case pid == child:
			return ws.ExitStatus(), nil
		}
	}
}
