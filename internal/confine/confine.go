// Package confine keeps programs from changing anything of the machine's but what they are given:
// their file system is read-only, places where others' sockets are show empty, and what only
// root may do to the machine they may not either. The network is theirs.
//
//	/                      read-only, with all that is mounted below
//	/tmp, /run, …          empty, in memory: no sockets of services that would write for them
//	/dev                   only devices that change nothing
//	/proc/sys, …           read-only, but /proc/sys/net
//	Writable               as it is outside
//
// It works for an ordinary user in a user namespace too. It imports nothing of weft.
package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Config says what confined programs see. All paths are absolute.
type Config struct {
	// Writable directories may be written to. Readable ones are seen even where the place
	// around them shows empty.
	Writable []string
	Readable []string
}

// hidden are the directories that show empty: anybody may put sockets there, or services do.
func hidden() []string {
	return []string{"/tmp", "/var/tmp", "/run", "/var/run", "/dev/shm", "/var/lib/docker", "/var/lib/containerd", "/var/lib/lxd", "/var/lib/incus", "/var/snap/lxd"}
}

// devices are what programs need of /dev.
func devices() []string {
	return []string{"null", "zero", "full", "random", "urandom", "tty", "net/tun"}
}

// readOnlyProc are the parts of /proc through which root can change the machine.
func readOnlyProc() []string {
	return []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi", "/proc/scsi", "/proc/kcore", "/proc/timer_list"}
}

// A kept mount is one that is put back where it was, over what hides it.
type kept struct {
	path string
	fd   int
	file bool
}

// Mount makes the calling thread's mount namespace one of confined programs. It must be one of
// its own, from which nothing propagates.
func (c Config) Mount() error {
	if err := c.mount(); err != nil {
		if errors.Is(err, unix.ENOSYS) {
			return fmt.Errorf("%w: to confine programs needs Linux 5.12", err)
		}
		return err
	}
	return nil
}

func (c Config) mount() error {
	// A /proc of its own would show the same; this one's parts are made read-only below.
	var keep []kept
	defer func() {
		for _, k := range keep {
			unix.Close(k.fd)
		}
	}()
	hold := func(path string, flags uint) error {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		st, err := os.Stat(path)
		keep = append(keep, kept{path, fd, err == nil && !st.IsDir()})
		return nil
	}
	for _, dir := range c.Readable {
		if !exposes(dir) {
			if err := hold(dir, unix.AT_RECURSIVE); err != nil {
				return err
			}
			if err := setReadOnly(keep[len(keep)-1].fd, unix.AT_RECURSIVE); err != nil {
				return fmt.Errorf("%s read-only: %w", dir, err)
			}
		}
	}
	for _, dir := range c.Writable {
		if exposes(dir) {
			return fmt.Errorf("%s cannot be written to by what is confined: it holds others' files and sockets; name a directory below it", dir)
		}
		if err := hold(dir, unix.AT_RECURSIVE); err != nil {
			return err
		}
	}
	// Often it is a link into /run.
	if file, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil && isHidden(file) {
		if err := hold(file, 0); err != nil {
			return err
		}
		if err := setReadOnly(keep[len(keep)-1].fd, 0); err != nil {
			return fmt.Errorf("%s read-only: %w", file, err)
		}
	}
	if err := hold("/proc/sys/net", 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	for _, d := range devices() {
		if err := hold("/dev/"+d, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if err := freshDev(); err != nil {
		return err
	}
	for _, dir := range hidden() {
		if err := hide(dir); err != nil {
			return err
		}
	}
	for _, path := range readOnlyProc() {
		if err := bindReadOnly(path); err != nil {
			return err
		}
	}
	if err := readOnlyTree(); err != nil {
		return err
	}
	for _, k := range keep {
		if err := k.putBack(); err != nil {
			return err
		}
	}
	return nil
}

// exposes reports whether a directory is one of those that show empty, or above one: to show it
// would show others' sockets.
func exposes(dir string) bool {
	dir = filepath.Clean(dir)
	return slices.ContainsFunc(append(hidden(), "/dev", "/proc", "/sys"), func(h string) bool {
		return h == dir || strings.HasPrefix(h, strings.TrimSuffix(dir, "/")+"/")
	})
}

// isHidden reports whether a path is below a directory that shows empty.
func isHidden(path string) bool {
	return slices.ContainsFunc(hidden(), func(h string) bool { return strings.HasPrefix(path, h+"/") })
}

// hide puts an empty directory in memory over one, if there is one.
func hide(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil || !st.IsDir() {
		return nil // not there, or a link to another of the list
	}
	if err := unix.Mount("weft", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=256m"); err != nil {
		return fmt.Errorf("hide %s: %w", dir, err)
	}
	return nil
}

// freshDev puts a /dev over the machine's that has terminals of its own. Its devices are put back
// later.
func freshDev() error {
	if err := unix.Mount("weft", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=1m"); err != nil {
		return fmt.Errorf("/dev: %w", err)
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm", "/dev/net"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("/dev/pts: %w", err)
	}
	for name, target := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	return nil
}

// bindReadOnly makes a part of /proc read-only, if it is there.
func bindReadOnly(path string) error {
	err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		err = unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	if err != nil {
		return fmt.Errorf("%s read-only: %w", path, err)
	}
	return nil
}

func setReadOnly(fd int, flags uint) error {
	return unix.MountSetattr(fd, "", flags|unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// readOnlyTree makes all that is mounted read-only, but what is in memory and empty, and /proc.
func readOnlyTree() error {
	all := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, all); err != nil {
		return fmt.Errorf("file system read-only: %w", err)
	}
	for _, dir := range append(hidden(), "/dev", "/dev/pts", "/proc") {
		if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
			continue
		}
		again := &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, again); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// putBack mounts what was kept where it was.
func (k kept) putBack() error {
	dir := k.path
	if k.file {
		dir = filepath.Dir(k.path)
	}
	err := os.MkdirAll(dir, 0o755) // within what shows empty
	if err == nil && k.file {
		err = touch(k.path)
	}
	if err == nil {
		err = unix.MoveMount(k.fd, "", unix.AT_FDCWD, k.path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k.path, err)
	}
	return nil
}

// touch makes an empty file to mount on, if there is none.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o666)
	if err != nil {
		return err
	}
	return f.Close()
}

// capabilities are those that confined programs keep (capabilities(7)): what the network, users
// and files of their own need. All others go, above all those that reach past the mounts.
func capabilities() []uintptr {
	return []uintptr{
		unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_BROADCAST,
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETFCAP,
		unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_KILL,
		unix.CAP_SYS_CHROOT, unix.CAP_SYS_NICE, unix.CAP_SYS_RESOURCE, unix.CAP_IPC_LOCK, unix.CAP_AUDIT_WRITE,
	}
}

// Thread takes from the programs that the calling thread starts what only root may do to the
// machine. The thread itself is as before; it must not serve anybody else.
func Thread() error {
	keep := capabilities()
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		// The kernel may know fewer than this program.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}
