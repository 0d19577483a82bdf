package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/nf"
	"weft/topo"
)

// An NF runs beside the manager, in the namespaces of a host, in a container, or in a container
// with a host's network. For the last three a process of this program goes there first, and
// becomes the NF or looks after its container:
//
//	manager ─ nf-place ═ NF                             on a host
//	manager ─ nf-place ─ podman ─ conmon ─ crun ═ NF    in a container
//	          └──── a PID namespace, a mount namespace ──┘
//
// podman's records, of containers and of what they changed in their images, are in memory that
// only that mount namespace has. So the kernel removes a container with all that belongs to it as
// soon as nf-place ends, which it makes end with the manager (PR_SET_PDEATHSIG), and the machine's
// own podman never hears of it; images come from its store, which is only read.

// placing says where an NF is to run.
type placing struct {
	Host      string     `json:"host,omitempty"` // directory with its namespaces: HostDir
	Container *container `json:"container,omitempty"`
	Argv      []string   `json:"argv,omitempty"`
	Dir       string     `json:"dir,omitempty"` // in which it runs on a host; "" for any
}

// A container says what podman is to run.
type container struct {
	Hostname string   `json:"hostname"`
	Image    string   `json:"image,omitempty"`
	RootFS   string   `json:"rootfs,omitempty"`
	Program  []string `json:"program,omitempty"` // empty for the image's own
	Args     []string `json:"args,omitempty"`
	Socket   string   `json:"socket"`
}

// The files of a host's directory, by which its namespaces are entered.
const (
	hostNet   = "net"
	hostMount = "mnt"
	hostUTS   = "uts"
)

// hostDir is the directory of a host in Config.Dir.
func hostDir(dir, host string) string { return filepath.Join(dir, "hosts", host) }

// ShowHost lets NFs of the node of which dir is the Config.Dir run in a host's namespaces, whose
// files are those paths; mount and uts may be empty.
func ShowHost(dir, host, net, mount, uts string) error {
	to := hostDir(dir, host)
	err := os.RemoveAll(to)
	if err == nil {
		err = os.MkdirAll(to, 0o700)
	}
	for _, l := range []struct{ name, path string }{{hostNet, net}, {hostMount, mount}, {hostUTS, uts}} {
		if err == nil && l.path != "" {
			err = os.Symlink(l.path, filepath.Join(to, l.name))
		}
	}
	return err
}

// command returns the process that an NF is, or that starts it elsewhere.
func (s *server) command(f topo.NF) (*exec.Cmd, error) {
	argv := append([]string{"/bin/sh", "-c", f.Command, f.Name}, f.Args...) // $0, $1, …
	if f.Command == "" {
		argv = append([]string{"/proc/self/exe", nfCommand, f.Name}, f.Args...)
	}
	if !f.Contained() && f.Host == "" {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = f.Dir
		if f.Command == "" {
			cmd.Args[0] = os.Args[0]
		}
		return cmd, nil
	}
	p := placing{Argv: argv, Dir: f.Dir}
	if f.Host != "" {
		p.Host = hostDir(s.config.Dir, f.Host)
		if _, err := os.Stat(filepath.Join(p.Host, hostNet)); err != nil {
			return nil, fmt.Errorf("there is no host %s", f.Host)
		}
	}
	attr := &syscall.SysProcAttr{}
	if f.Contained() {
		if _, err := exec.LookPath(podman); err != nil {
			return nil, errors.New("containers of NFs are made by podman, which is not found; install it: apt-get install podman")
		}
		if f.RootFS != "" {
			if st, err := os.Stat(f.RootFS); err != nil || !st.IsDir() {
				return nil, fmt.Errorf("rootfs %s: there is no such directory", f.RootFS)
			}
		}
		p.Argv = nil
		p.Container = &container{Hostname: f.Name, Image: f.Image, RootFS: f.RootFS, Program: strings.Fields(f.Command), Args: f.Args, Socket: s.config.NFSocket()}
		attr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe", placeCommand, string(text))
	cmd.Args[0], cmd.SysProcAttr = os.Args[0], attr
	return cmd, nil
}

// runPlaced is the life of nf-place. It returns the status to exit with.
func runPlaced(text string) (int, error) {
	var p placing
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return 2, fmt.Errorf("%s is started by NF managers only: %w", placeCommand, err)
	}
	// What follows is about this thread, and goes to what it executes or starts.
	runtime.LockOSThread()
	if p.Container != nil {
		return p.Container.run(p.Host)
	}
	for _, n := range []struct {
		name string
		kind int
	}{{hostNet, unix.CLONE_NEWNET}, {hostUTS, unix.CLONE_NEWUTS}, {hostMount, unix.CLONE_NEWNS}} {
		if err := enter(filepath.Join(p.Host, n.name), n.kind); err != nil {
			return 1, fmt.Errorf("enter the %s namespace of %s: %w", n.name, filepath.Base(p.Host), err)
		}
	}
	if len(p.Argv) == 0 {
		return 2, errors.New("there is no program to run")
	}
	if p.Dir != "" {
		if err := os.Chdir(p.Dir); err != nil {
			return 1, err
		}
	}
	path, name := p.Argv[0], p.Argv[0]
	if path == "/proc/self/exe" {
		name = os.Args[0]
	}
	return 1, unix.Exec(path, append([]string{name}, p.Argv[1:]...), os.Environ())
}

// enter takes the calling thread into the namespace of a file, if there is one.
func enter(path string, kind int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if kind == unix.CLONE_NEWNS { // which threads of one process share
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
	}
	return unix.Setns(fd, kind)
}

const (
	podman = "podman"
	// containerState is where the container's mount namespace has memory of its own. podman keeps
	// its locks there whatever it is told.
	containerState = "/dev/shm"
	// containerSocket is the manager's socket as the NF sees it.
	containerSocket = "/weft-nf.sock"
)

// run runs podman until the NF ends. This process is the first of its PID namespace.
func (c *container) run(host string) (int, error) {
	socket, rootfs, err := c.furnish()
	if err != nil {
		return 1, fmt.Errorf("prepare a container: %w", err)
	}
	network := "none"
	if host != "" {
		network = "host"
		if err := enter(filepath.Join(host, hostNet), unix.CLONE_NEWNET); err != nil {
			return 1, fmt.Errorf("enter the network of %s: %w", filepath.Base(host), err)
		}
	}
	from, err := c.findImage()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(podman, append(from.arguments(), c.arguments(network, socket, rootfs)...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(podmanEnv(), nf.SocketVariable+"="+containerSocket)
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), nil
	case err != nil:
		return 1, err
	}
	return 0, nil
}

// podmanEnv is the environment without what leads podman to a configuration of the user's, which is
// made for another user namespace.
func podmanEnv() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HOME=") && !strings.HasPrefix(v, "XDG_") && !strings.HasPrefix(v, "CONTAINER") {
			env = append(env, v)
		}
	}
	return append(env, "HOME="+containerState)
}

// A store is a directory of images, as one of podman's drivers keeps them.
type store struct{ driver, dir string }

// stores are where podman of this machine, and of the user, has images.
func stores() (list []store) {
	dirs := []string{"/var/lib/containers/storage"}
	if home := os.Getenv("HOME"); home != "" {
		dirs = append([]string{filepath.Join(home, ".local/share/containers/storage")}, dirs...)
	}
	for _, dir := range dirs {
		for _, driver := range []string{"overlay", "vfs"} {
			if _, err := os.ReadDir(filepath.Join(dir, driver+"-images")); err == nil {
				list = append(list, store{driver, dir})
			}
		}
	}
	return list
}

// findImage returns the store that has the container's image. None needs one without.
func (c *container) findImage() (store, error) {
	if c.Image == "" {
		return store{driver: "overlay"}, nil
	}
	for _, s := range stores() {
		look := exec.Command(podman, append(s.arguments(), "image", "exists", c.Image)...)
		look.Env = podmanEnv()
		if look.Run() == nil {
			return s, nil
		}
	}
	return store{}, fmt.Errorf("podman has no image %s here; get it by podman pull %s, or see podman images for those that there are", c.Image, c.Image)
}

// furnish makes the container's mount namespace: a /proc of its PID namespace, memory for podman's
// records, and cgroups out of sight, of which the container needs none.
func (c *container) furnish() (socket, rootfs string, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", "", fmt.Errorf("private mounts: %w", err)
	}
	// Directories are held first: what is mounted may cover them.
	files := map[string]int{c.Socket: -1, c.RootFS: -1}
	for path := range files {
		if path == "" {
			continue
		}
		if files[path], err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return "", "", fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""}, {"tmpfs", containerState, "mode=0755"}, {"tmpfs", "/sys/fs/cgroup", "mode=0755"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.options); err != nil {
			return "", "", fmt.Errorf("%s on %s: %w", m.kind, m.at, err)
		}
	}
	held := func(path string) string { return fmt.Sprintf("/proc/self/fd/%d", files[path]) }
	socket = containerState + "/nf"
	if f, err := os.Create(socket); err != nil {
		return "", "", err
	} else {
		f.Close()
	}
	if err := unix.Mount(held(c.Socket), socket, "", unix.MS_BIND, ""); err != nil {
		return "", "", fmt.Errorf("the NF manager's socket: %w", err)
	}
	if c.RootFS == "" {
		return socket, "", nil
	}
	// What the NF writes stays in memory, and the directory as it is.
	rootfs = containerState + "/rootfs"
	upper, work := containerState+"/upper", containerState+"/work"
	for _, dir := range []string{rootfs, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", "", err
		}
	}
	if err := unix.Mount("overlay", rootfs, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", held(c.RootFS), upper, work)); err != nil {
		return "", "", fmt.Errorf("rootfs %s: overlay: %w", c.RootFS, err)
	}
	return socket, rootfs, nil
}

// arguments are those of podman before its command. What it writes is for this container only.
func (s store) arguments() []string {
	at := func(name string) string { return filepath.Join(containerState, s.driver, name) }
	args := []string{
		"--root", at("root"), "--runroot", at("run"), "--tmpdir", at("tmp"), "--runtime", "crun", "--runtime-flag", "root=" + at("crun"),
		"--cgroup-manager", "cgroupfs", "--events-backend", "none", "--storage-driver", s.driver,
	}
	if s.dir != "" {
		args = append(args, "--storage-opt", s.driver+".imagestore="+s.dir)
	}
	return args
}

// arguments are podman's command and what comes after it.
func (c *container) arguments(network, socket, rootfs string) []string {
	args := []string{"run", "--rm", "--pull", "never", "--log-driver", "none", "--cgroups", "disabled", "--ulimit", "host", "--network", network,
		// Their profiles and labels would be the machine's, and so would stay.
		"--security-opt", "apparmor=unconfined", "--security-opt", "label=disable",
		// A devpts needs a group that an ordinary user's namespace may not have.
		"--tmpfs", "/dev/pts",
		"--env", nf.SocketVariable, "--env", nf.KeyVariable, "--volume", socket + ":" + containerSocket}
	if network != "host" {
		args = append(args, "--hostname", c.Hostname)
	}
	words := c.Program
	if c.Image != "" && len(words) > 0 {
		entry, _ := json.Marshal(words) // strings only
		args, words = append(args, "--entrypoint", string(entry)), nil
	}
	if c.Image != "" {
		args = append(args, c.Image)
	} else {
		args = append(args, "--rootfs", rootfs)
	}
	return append(append(args, words...), c.Args...)
}
