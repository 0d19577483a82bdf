package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NAT needs the machine to forward packets that come from the uplink, and back. Where a
// device does not, a network turns it on, and writes down first what it was: lines of a
// parameter below /proc/sys and its old value. Whoever is left of keeper, init and
// `weft clean` puts it back, unless another network needs it.

// forward makes the machine forward between device and the devices that lead to other
// networks. The base directory is locked.
func (s *stateDir) forward(device string) error {
	outward, err := outwardDevices(device)
	if err != nil {
		return err
	}
	others, err := undoOfOthers(s.base, s.name)
	if err != nil {
		return err
	}
	var lines []string
	for _, d := range outward {
		key := forwarding(d)
		was, needed := others[key]
		if !needed {
			b, err := os.ReadFile("/proc/sys/" + key)
			if err != nil {
				return fmt.Errorf("forwarding on %s: %w", d, err)
			}
			was = strings.TrimSpace(string(b))
		}
		if was != "1" {
			lines = append(lines, key+" "+was)
		}
	}
	if err := os.WriteFile(filepath.Join(s.path, undoFile), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		return err
	}
	for _, d := range append(outward, device) {
		if err := os.WriteFile("/proc/sys/"+forwarding(d), []byte("1"), 0); err != nil {
			return fmt.Errorf("forwarding on %s: %w", d, err)
		}
	}
	return nil
}

func forwarding(device string) string { return "net/ipv4/conf/" + device + "/forwarding" }

// outwardDevices lists the devices of default routes, or of all routes where there is none.
func outwardDevices(except string) ([]string, error) {
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("routes of this machine: %w", err)
	}
	var all, defaults []string
	seen := map[int]bool{}
	for _, r := range list {
		dev, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil || dev.Attrs().Name == except || dev.Attrs().Name == "lo" {
			continue
		}
		bits := 0
		if r.Dst != nil {
			bits, _ = r.Dst.Mask.Size()
		}
		if bits == 0 {
			defaults = append(defaults, dev.Attrs().Name)
		}
		if !seen[r.LinkIndex] {
			seen[r.LinkIndex] = true
			all = append(all, dev.Attrs().Name)
		}
	}
	if len(defaults) > 0 {
		return defaults, nil
	}
	return all, nil
}

// lockBase keeps other keepers from changing the machine until unlock is called.
func lockBase(s *stateDir) (unlock func(), err error) {
	f, err := os.Open(s.base.Name())
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// restore puts back what the network name changed, unless another one needs it. It works
// on the calling thread's network namespace, through base, from any mount namespace.
func restore(base *os.File, name string) {
	mine, err := readUndo(base, name)
	if err != nil || len(mine) == 0 {
		return
	}
	others, err := undoOfOthers(base, name)
	if err != nil {
		return
	}
	for key, was := range mine {
		if _, needed := others[key]; !needed {
			os.WriteFile("/proc/sys/"+key, []byte(was), 0)
		}
	}
}

// undoOfOthers gathers what other networks, dead or alive, are to put back.
func undoOfOthers(base *os.File, except string) (map[string]string, error) {
	fd, err := unix.Openat(int(base.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), base.Name())
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, n := range names {
		if n == except {
			continue
		}
		undo, err := readUndo(base, n)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return nil, err
		}
		for k, v := range undo {
			all[k] = v
		}
	}
	return all, nil
}

func readUndo(base *os.File, name string) (map[string]string, error) {
	fd, err := unix.Openat(int(base.Fd()), filepath.Join(name, undoFile), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), undoFile)
	defer f.Close()
	undo := map[string]string{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if key, was, ok := strings.Cut(sc.Text(), " "); ok && strings.HasPrefix(key, "net/ipv4/conf/") {
			undo[key] = was
		}
	}
	return undo, sc.Err()
}
