package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A Confinement keeps a program, and all that it starts, from changing what is not the
// network's: all file systems are read-only, but for empty ones at /tmp, /var/tmp, /run and
// /dev/shm that are its own. Sockets of the machine's services are out of sight. It has the capabilities
// that a network needs, and none that lead out.
type Confinement struct {
	// Writable are directories that stay as they are.
	Writable []string
}

// scratch are the directories that a confined program has empty.
var scratch = []string{"/tmp", "/var/tmp", "/run", "/dev/shm"}

// devices are those that a confined program may use.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "net"}

// capabilities are those that a confined program keeps.
var capabilities = []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_BROADCAST, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_IPC_LOCK, unix.CAP_SYS_NICE}

// A tree is a part of the file system that is put back as it was.
type tree struct {
	fd   int
	path string
}

// take opens the part at path, which keeps its flags whatever becomes of the others.
func take(path string) (tree, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return tree{}, fmt.Errorf("%s: %w", path, err)
	}
	return tree{fd, path}, nil
}

func (t tree) putAt(path string) error {
	defer unix.Close(t.fd)
	if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	return nil
}

// enter confines the calling thread for good. It is in a mount namespace of a node's, and not
// shared with others (ns.Place.Do).
func (c Confinement) enter() error {
	err := c.mounts()
	if errors.Is(err, unix.ENOSYS) {
		err = errors.New("this needs Linux 5.12")
	}
	if err == nil {
		err = dropCapabilities()
	}
	if err != nil {
		return fmt.Errorf("confine the program: %w; look at what the file runs, then allow it by --allow", err)
	}
	return nil
}

func (c Confinement) mounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	var keep []tree
	for _, path := range append([]string{"/proc/sys/net"}, c.Writable...) {
		t, err := take(path)
		if err != nil {
			return err
		}
		keep = append(keep, t)
	}
	var dev []tree
	for _, name := range devices {
		if t, err := take("/dev/" + name); err == nil { // a container may lack some
			dev = append(dev, t)
		}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("make file systems read-only: %w", err)
	}
	if err := putDevices(dev); err != nil {
		return err
	}
	for _, dir := range scratch {
		if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
			continue
		}
		if err := mountScratch(dir, "mode=1777,size=64m"); err != nil {
			return err
		}
	}
	for _, t := range keep {
		if err := os.MkdirAll(t.path, 0o755); err != nil {
			return err
		}
		if err := t.putAt(t.path); err != nil {
			return err
		}
	}
	return nil
}

func mountScratch(dir, options string) error {
	if err := unix.Mount("weft", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

// putDevices mounts a /dev that has these devices and no others.
func putDevices(dev []tree) error {
	if err := mountScratch("/dev", "mode=0755,size=64k"); err != nil {
		return err
	}
	if err := os.Mkdir("/dev/shm", 0o1777); err != nil {
		return err
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join("/dev", name)); err != nil {
			return err
		}
	}
	for _, t := range dev {
		var st unix.Stat_t
		if err := unix.Fstat(t.fd, &st); err != nil {
			return err
		}
		var err error
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = os.Mkdir(t.path, 0o755)
		} else {
			err = os.WriteFile(t.path, nil, 0o644)
		}
		if err != nil {
			return err
		}
		if err := t.putAt(t.path); err != nil {
			return err
		}
	}
	return nil
}

// dropCapabilities leaves the calling thread, and what it executes, with capabilities.
func dropCapabilities() error {
	var keep [2]uint32
	for c := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(capabilities, c) {
			keep[c/32] |= 1 << (c % 32)
			continue
		}
		// EINVAL: this kernel does not have it.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range data {
		data[i].Permitted &= keep[i]
		data[i].Effective = data[i].Permitted
		data[i].Inheritable = 0
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
