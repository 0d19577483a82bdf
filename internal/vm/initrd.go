package vm

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A job is what the guest's init has to do. It is a file of the initrd.
type job struct {
	Args, Env []string
	Dir       string
	Kernel    string   // release
	Initial   []string // modules in the initrd's root directory, in their order
	Tree      string   // the host's directory of all modules
	Modules   []string
	Writable  []string
	NICs      bool
	Hugepages bool
}

// Files of the initrd.
const (
	initFile = "init"
	jobFile  = "job.json"
)

// bootModules are what the guest needs to see the host.
func bootModules() []string {
	return []string{"virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"}
}

// initrd makes the archive that the guest starts from, in memory: this program, the first
// modules, the job.
func (m Machine) initrd(c *Cache, cmd Command) (*os.File, error) {
	self, err := staticProgram("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	dep, err := os.ReadFile(filepath.Join(c.modules(), "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("the kernel in the cache: %w", err)
	}
	paths, err := loadOrder(string(dep), bootModules())
	if err != nil {
		return nil, fmt.Errorf("the kernel in the cache: %w", err)
	}
	j := job{Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Kernel: c.Release, Tree: c.modules(), Modules: m.Modules,
		Writable: m.Writable, NICs: m.NICs > 0, Hugepages: m.Hugepages > 0}
	var a archive
	a.file(initFile, 0o755, self)
	for _, p := range paths {
		text, err := os.ReadFile(filepath.Join(c.modules(), p))
		if err != nil {
			return nil, fmt.Errorf("the kernel in the cache: %w", err)
		}
		a.file(filepath.Base(p), 0o644, text)
		j.Initial = append(j.Initial, filepath.Base(p))
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	a.file(jobFile, 0o600, text)
	fd, err := unix.MemfdCreate("initrd", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for the initrd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "initrd")
	if _, err := f.Write(a.end()); err != nil {
		f.Close()
		return nil, fmt.Errorf("memory for the initrd: %w", err)
	}
	return f, nil
}

// staticProgram reads a program that runs without libraries.
func staticProgram(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("this program: %w", err)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return nil, fmt.Errorf("this program needs libraries, which a guest has not at its start: build it with CGO_ENABLED=0")
	}
	return text, nil
}

// loadOrder returns the files of modules with all that they need, first things first. dep is
// a modules.dep (modules.dep(5)): in each line a module, then what it needs, nearest first.
func loadOrder(dep string, modules []string) (order []string, err error) {
	lines := map[string][]string{}
	for line := range strings.Lines(dep) {
		if file, needs, ok := strings.Cut(line, ":"); ok {
			lines[moduleName(file)] = append([]string{file}, strings.Fields(needs)...)
		}
	}
	for _, m := range modules {
		files, ok := lines[m]
		if !ok {
			return nil, fmt.Errorf("it has no module %s", m)
		}
		for _, f := range slices.Backward(files) {
			if !slices.Contains(order, f) {
				order = append(order, f)
			}
		}
	}
	return order, nil
}

// moduleName returns the name of a module from its file's: kernel/net/9p/9pnet-virtio.ko.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// An archive is a cpio archive in the format newc, as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst has it.
type archive struct {
	bytes.Buffer
	inode int
}

func (a *archive) file(name string, mode int, content []byte) {
	a.entry(name, unix.S_IFREG|mode, content)
}

func (a *archive) entry(name string, mode int, content []byte) {
	a.inode++
	// Magic, then: inode, mode, uid, gid, links, mtime, size, device (2), special device (2),
	// length of the name with its zero, checksum.
	fmt.Fprintf(a, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.Write(content)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }

// end returns the whole archive.
func (a *archive) end() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.Bytes()
}

var _ io.Writer = (*archive)(nil)

// readJob returns the job of the guest that this process is the init of.
func readJob() (job, error) {
	var j job
	f, err := os.Open("/" + jobFile)
	if err != nil {
		return j, err
	}
	defer f.Close()
	return j, json.NewDecoder(bufio.NewReader(f)).Decode(&j)
}
