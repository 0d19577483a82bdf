package doctor

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is the directory that stands for /.
type tree string

func (t tree) path(name string) string { return filepath.Join(string(t), name) }

// read returns a file's content without surrounding space; "" if it cannot be read.
func (t tree) read(name string) string {
	b, err := os.ReadFile(t.path(name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (t tree) exists(name string) bool {
	_, err := os.Stat(t.path(name))
	return err == nil
}

func (t tree) writable(name string) bool {
	return unix.Access(t.path(name), unix.W_OK) == nil
}

// number reads a file that holds one integer.
func (t tree) number(name string) (int, bool) {
	n, err := strconv.Atoi(t.read(name))
	return n, err == nil
}

// list names a directory's entries, sorted.
func (t tree) list(name string) []string {
	entries, _ := os.ReadDir(t.path(name))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// osRelease returns a field of /etc/os-release.
func (t tree) osRelease(key string) string {
	for line := range strings.Lines(t.read("etc/os-release")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// programs finds the programs that weft may use, in dirs (as in $PATH) and where
// administrators' programs are.
func (t tree) programs(dirs string) map[string]string {
	found := map[string]string{}
	for _, dir := range append(filepath.SplitList(dirs), "/usr/local/sbin", "/usr/sbin", "/sbin") {
		for _, name := range append(ovsPrograms(),
			"newuidmap", "newgidmap", "slirp4netns", "pasta",
			"tcpdump", "wireshark", "tshark", "xterm", "podman",
			"ovs-testcontroller", "ryu-manager", "osken-manager",
		) {
			file := path.Join(dir, name)
			if _, ok := found[name]; ok {
				continue
			}
			if s, err := os.Stat(t.path(file)); err == nil && s.Mode().IsRegular() && s.Mode()&0o111 != 0 {
				found[name] = file
			}
		}
	}
	return found
}

// ovsPrograms are those of Open vSwitch that a network needs.
func ovsPrograms() []string {
	return []string{"ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl"}
}

// uses reports whether the program at file is linked with a library of that name.
func (t tree) uses(file, library string) bool {
	f, err := elf.Open(t.path(file))
	if err != nil {
		return false
	}
	defer f.Close()
	libs, _ := f.ImportedLibraries()
	for _, l := range libs {
		if strings.HasPrefix(l, library+".so") {
			return true
		}
	}
	return false
}

// openFiles returns the hard limit on open files from /proc/self/limits.
func (t tree) openFiles() (int, bool) {
	for line := range strings.Lines(t.read("proc/self/limits")) {
		if v, ok := strings.CutPrefix(line, "Max open files"); ok {
			if f := strings.Fields(v); len(f) >= 2 {
				if f[1] == "unlimited" {
					return 1 << 30, true
				}
				n, err := strconv.Atoi(f[1])
				return n, err == nil
			}
		}
	}
	return 0, false
}

// subIDs returns how many subordinate IDs a user has in /etc/subuid or /etc/subgid.
func (t tree) subIDs(file, user string, uid int) int {
	total := 0
	for line := range strings.Lines(t.read(file)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 3 && (f[0] == user || f[0] == strconv.Itoa(uid)) {
			if n, err := strconv.Atoi(f[2]); err == nil && n > 0 {
				total += n
			}
		}
	}
	return total
}

// A moduleState says where a part of the kernel is.
type moduleState int

const (
	unknown  moduleState = iota // no file tells
	absent                      // neither in the kernel nor on disk
	loadable                    // on disk, not loaded
	present                     // built in or loaded
)

// A kernel is what files say about the running kernel.
type kernel struct {
	release string
	modules map[string]moduleState // named with underscores
	listed  bool                   // modules names everything that can be loaded
	config  map[string]string      // CONFIG_X to "y" or "m"
}

func (t tree) kernel() kernel {
	k := kernel{release: t.read("proc/sys/kernel/osrelease"), modules: map[string]moduleState{}, config: map[string]string{}}
	dir := "lib/modules/" + k.release
	for line := range strings.Lines(t.read(dir + "/modules.dep")) {
		k.listed = true
		k.modules[moduleName(line)] = loadable
	}
	for line := range strings.Lines(t.read(dir + "/modules.builtin")) {
		k.modules[moduleName(line)] = present
	}
	for _, name := range t.list("sys/module") {
		k.modules[name] = present
	}
	config := t.read("boot/config-" + k.release)
	if z, err := os.ReadFile(t.path("proc/config.gz")); err == nil {
		if b, err := gunzip(z); err == nil {
			config = string(b)
		}
	}
	k.config = parseConfig(config)
	return k
}

// gunzip unpacks at most 4 MiB, ten times a kernel's configuration.
func gunzip(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, 4<<20))
}

func parseConfig(text string) map[string]string {
	config := map[string]string{}
	s := bufio.NewScanner(strings.NewReader(text))
	for s.Scan() {
		if k, v, ok := strings.Cut(s.Text(), "="); ok && strings.HasPrefix(k, "CONFIG_") {
			config[k] = v
		}
	}
	return config
}

// moduleName takes "kernel/net/sched/sch_netem.ko.xz: ..." to "sch_netem".
func moduleName(line string) string {
	file, _, _ := strings.Cut(strings.TrimSpace(line), ":")
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// module says where a part of the kernel is that has a module's name (empty: it is
// never a module) and a configuration option.
func (k kernel) module(name, option string) moduleState {
	if s := k.modules[name]; s != unknown {
		return s
	}
	if len(k.config) > 0 {
		switch {
		case k.config[option] == "y":
			return present
		case k.config[option] == "m" && !k.listed:
			return loadable
		}
		return absent
	}
	if k.listed && name != "" {
		return absent
	}
	return unknown
}
