package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Debian's packages, of which only their names are fixed.
const (
	kernelPackage = "linux-image-amd64" // depends on the kernel of the day
	qemuPackage   = "qemu-system-x86"
	qemuProgram   = "qemu-system-x86_64"
)

// fetchTimeout bounds fetching: 90 MB of packages.
const fetchTimeout = 5 * time.Minute

// A Cache holds a kernel and, if none is installed, a qemu.
type Cache struct {
	// Dir may be removed at any time; the next machine fetches the kernel of that day.
	Dir     string
	Release string // of the kernel

	installed string // path of an installed qemu, or empty
}

// Fetch returns the cache of the calling user, with what a machine needs: it downloads
// Debian's kernel, and qemu if it is not installed, by apt-get, and unpacks them there.
// It needs no root. Errors match ErrUnavailable.
func Fetch(ctx context.Context, log *slog.Logger) (*Cache, error) {
	c, err := fetch(ctx, log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return c, nil
}

func fetch(ctx context.Context, log *slog.Logger) (*Cache, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("the guest runs this machine's programs, and its kernel is for amd64, not for %s", runtime.GOARCH)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	c := &Cache{Dir: filepath.Join(base, "weft-vm")}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(c.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	f := fetcher{ctx: ctx, log: log}
	if err := f.once(filepath.Join(c.Dir, "kernel"), f.fetchKernel); err != nil {
		return nil, err
	}
	releases, err := os.ReadDir(filepath.Join(c.Dir, "kernel", "lib", "modules"))
	if err != nil || len(releases) != 1 {
		return nil, fmt.Errorf("%s holds no kernel: remove it", c.Dir)
	}
	c.Release = releases[0].Name()
	if c.installed, err = exec.LookPath(qemuProgram); err == nil {
		return c, nil
	}
	return c, f.once(filepath.Join(c.Dir, "qemu"), f.fetchQEMU)
}

func (c *Cache) kernel() string  { return filepath.Join(c.Dir, "kernel", "vmlinux") }
func (c *Cache) modules() string { return filepath.Join(c.Dir, "kernel", "lib", "modules", c.Release) }

// qemu returns the program and what its environment must have besides.
func (c *Cache) qemu() (program string, env []string) {
	if c.installed != "" {
		return c.installed, nil
	}
	root := filepath.Join(c.Dir, "qemu")
	lib := filepath.Join(root, "usr", "lib", "x86_64-linux-gnu")
	// It finds its firmware by its own place.
	return filepath.Join(root, "usr", "bin", qemuProgram), []string{
		"LD_LIBRARY_PATH=" + lib + ":" + filepath.Join(root, "lib", "x86_64-linux-gnu"),
		"QEMU_MODULE_DIR=" + filepath.Join(lib, "qemu"),
	}
}

// lock waits for its turn. The lock ends with the process at the latest.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

type fetcher struct {
	ctx context.Context
	log *slog.Logger
}

// once makes dir by fill, entirely or not at all.
func (f fetcher) once(dir string, fill func(dir string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	part := dir + ".part"
	os.RemoveAll(part) // of somebody who was killed
	defer os.RemoveAll(part)
	if err := os.Mkdir(part, 0o755); err != nil {
		return err
	}
	if err := fill(part); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

// fetchKernel unpacks Debian's kernel into dir, and makes ready what its installation would.
func (f fetcher) fetchKernel(dir string) error {
	var name string
	err := f.updated(func() error {
		out, err := f.run("", "apt-cache", "depends", kernelPackage)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if dep, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok {
				name = dep
				return nil
			}
		}
		return fmt.Errorf("apt knows no package %s, which is Debian's kernel", kernelPackage)
	})
	if err != nil {
		return err
	}
	f.log.Info("fetching Debian's kernel", "package", name, "to", filepath.Dir(dir))
	if err := f.unpack(dir, name); err != nil {
		return err
	}
	release := strings.TrimPrefix(name, "linux-image-")
	tree := filepath.Join(dir, "lib", "modules", release)
	for _, unused := range []string{"sound", "drivers/gpu", "drivers/media", "drivers/iio", "drivers/staging"} {
		if err := os.RemoveAll(filepath.Join(tree, "kernel", unused)); err != nil {
			return err
		}
	}
	if _, err := f.run("", "depmod", "-b", dir, release); err != nil {
		return err
	}
	image := filepath.Join(dir, "boot", "vmlinuz-"+release)
	if err := f.extractKernel(image, filepath.Join(dir, "vmlinux")); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, "boot"))
}

// extractKernel writes the ELF kernel that is compressed within a boot image (the x86 boot
// protocol, Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length).
// qemu starts it by its PVH entry, and nothing is decompressed under emulation.
func (f fetcher) extractKernel(image, to string) error {
	b, err := os.ReadFile(image)
	if err != nil {
		return err
	}
	const setupSects, payloadOffset, payloadLength = 0x1f1, 0x248, 0x24c
	if len(b) < payloadLength+4 {
		return fmt.Errorf("%s is no kernel", image)
	}
	start := (int(b[setupSects])+1)*512 + int(binary.LittleEndian.Uint32(b[payloadOffset:]))
	end := start + int(binary.LittleEndian.Uint32(b[payloadLength:]))
	if start > end || end > len(b) {
		return fmt.Errorf("%s is no kernel", image)
	}
	if payload := b[start:end]; bytes.HasPrefix(payload, []byte("\xfd7zXZ\x00")) {
		cmd := f.command("", "xz", "-dc", "--single-stream") // behind it is the length
		cmd.Stdin = bytes.NewReader(payload)
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("xz: %w", err)
		}
		b = out
	} // else qemu starts the whole image, which takes longer
	return os.WriteFile(to, b, 0o644)
}

// fetchQEMU unpacks qemu and those of its libraries that are not installed into dir.
func (f fetcher) fetchQEMU(dir string) error {
	var names []string
	err := f.updated(func() error {
		out, err := f.run("", "apt-get", "install", "-s", "-qq", "--no-install-recommends", qemuPackage)
		for line := range strings.Lines(out) {
			if words := strings.Fields(line); len(words) > 1 && words[0] == "Inst" {
				names = append(names, words[1])
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	f.log.Info("fetching qemu", "packages", len(names), "to", filepath.Dir(dir))
	return f.unpack(dir, names...)
}

// unpack downloads packages and unpacks them into dir.
func (f fetcher) unpack(dir string, packages ...string) error {
	down := filepath.Join(dir, "download")
	if err := os.Mkdir(down, 0o755); err != nil {
		return err
	}
	if err := f.updated(func() error {
		_, err := f.run(down, "apt-get", append([]string{"download", "-qq"}, packages...)...)
		return err
	}); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(down, "*.deb"))
	if err != nil || len(files) == 0 {
		return errors.Join(err, fmt.Errorf("apt-get download %s brought nothing", strings.Join(packages, " ")))
	}
	for _, deb := range files {
		if _, err := f.run("", "dpkg-deb", "-x", deb, dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(down)
}

// updated calls ask, and again with new package lists if it failed.
func (f fetcher) updated(ask func() error) error {
	err := ask()
	if err == nil || errors.Is(err, exec.ErrNotFound) || f.ctx.Err() != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w (`sudo apt-get update` may help)", err)
	}
	if _, e := f.run("", "apt-get", "update", "-qq"); e != nil {
		return fmt.Errorf("%w; %w", err, e)
	}
	return ask()
}

func (f fetcher) command(dir, name string, args ...string) *exec.Cmd {
	// An ordinary user's PATH often lacks where depmod is.
	if _, err := exec.LookPath(name); err != nil {
		if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
			name = path
		}
	}
	cmd := exec.CommandContext(f.ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run returns the output of a program.
func (f fetcher) run(dir, name string, args ...string) (string, error) {
	runtime.LockOSThread() // Pdeathsig
	defer runtime.UnlockOSThread()
	cmd := f.command(dir, name, args...)
	said := &tail{}
	cmd.Stderr = said
	out := &bytes.Buffer{}
	cmd.Stdout = io.MultiWriter(out, said)
	err := cmd.Run()
	if f.ctx.Err() != nil {
		err = context.Cause(f.ctx)
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s %s: %w%s", name, strings.Join(args, " "), err, said.paragraph(name))
	}
	return out.String(), nil
}
