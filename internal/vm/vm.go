// Package vm runs a command under a full kernel: Debian's own, in a small virtual machine
// that sees the host's file system. It is for tests of what the kernel at hand lacks
// (openvswitch, sch_netem, 802.1Q, vfio-pci) and for NICs that nobody has (emulated ones).
//
//	host                                        guest
//	vm ─ apt-get ─► cache: kernel, qemu         init: this program again, from the initrd
//	 └ qemu ──────────────────────────────────► ├ / = overlay(host's / read-only by 9p, tmpfs)
//	     ◄─ out, err, report: virtio ports ──── └ the command, as root
//
// What the command writes is thrown away, but below Machine.Writable. Nothing is
// installed: packages are unpacked into a cache directory. Nothing is left when this
// process ends, however it ends: all that a machine needs is passed by file descriptor.
//
// Emulation needs no privileges and no KVM; programs run 10 to 30 times slower. Timings
// there say little.
//
// It may import nothing of weft.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bootTimeout bounds the time until the guest's init reports; 3 s on an idle host.
const bootTimeout = 2 * time.Minute

// ErrUnavailable is matched by errors of machines that cannot be started here.
var ErrUnavailable = errors.New("no virtual machine here")

// A Machine says what the guest is made of. The zero value is a small machine without NICs.
type Machine struct {
	CPUs   int // default 1: more are slower on a busy host
	Memory int // MiB, default 2048
	// KVM uses the processor's virtualisation instead of emulation.
	KVM bool
	// Steady counts the guest's time by its instructions: what it measures does not depend on
	// what else this machine does. Not with KVM, nor with several CPUs.
	Steady bool
	// Modules are loaded before the command starts. The kernel loads most by itself.
	Modules []string
	// NICs are emulated network cards, joined in pairs: 1st with 2nd, 3rd with 4th …
	// The first has the PCI address 0000:00:10.0, the next 0000:00:11.0 ….
	NICs     int
	NICModel string // of qemu: e1000e (default), e1000, vmxnet3, virtio-net-pci
	NoIOMMU  bool   // leaves the IOMMU out that a machine with NICs has: no vfio-pci
	// Hugepages is a number of pages of 2 MiB, with hugetlbfs on /dev/hugepages.
	Hugepages int
	// Writable are directories of the host that the command may change.
	Writable []string
	// KernelArgs and QEMUArgs are appended to those that the kernel and qemu get.
	KernelArgs, QEMUArgs []string
	Log                  *slog.Logger // may be nil
}

// maxNICs is how many PCI slots from 10 on there are.
const maxNICs = 14

// A Command is what runs in the guest, as root.
type Command struct {
	Args           []string
	Dir            string
	Env            []string
	Stdout, Stderr io.Writer
}

// Run boots a machine, runs a command in it and returns the command's exit status
// (128 + n if signal n killed it). It fetches what is missing first. When ctx ends, the
// machine is ended.
//
// The guest's init is the calling program: its main function must begin with Guest.
func (m Machine) Run(ctx context.Context, c Command) (status int, err error) {
	if m, err = m.checked(); err != nil {
		return 0, err
	}
	if len(c.Args) == 0 {
		return 0, errors.New("no command")
	}
	cache, err := Fetch(ctx, m.Log)
	if err != nil {
		return 0, err
	}
	initrd, err := m.initrd(cache, c)
	if err != nil {
		return 0, err
	}
	defer initrd.Close()
	return m.boot(ctx, cache, initrd, c)
}

// checked returns m with its defaults.
func (m Machine) checked() (Machine, error) {
	if m.CPUs == 0 {
		m.CPUs = 1
	}
	if m.Memory == 0 {
		m.Memory = 2048
	}
	if m.NICModel == "" {
		m.NICModel = "e1000e"
	}
	if m.Log == nil {
		m.Log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if m.CPUs < 0 || m.CPUs > 64 {
		errs = append(errs, fmt.Errorf("%d CPUs: 1 to 64 are possible", m.CPUs))
	}
	if m.Steady && (m.KVM || m.CPUs > 1) {
		errs = append(errs, errors.New("a steady machine has one processor, which is emulated"))
	}
	if m.Memory < 256 {
		errs = append(errs, fmt.Errorf("%d MiB of memory: 256 are the least", m.Memory))
	}
	if m.NICs < 0 || m.NICs > maxNICs {
		errs = append(errs, fmt.Errorf("%d NICs: 0 to %d are possible", m.NICs, maxNICs))
	}
	if m.Hugepages < 0 || m.Hugepages*2 > m.Memory*3/4 {
		errs = append(errs, fmt.Errorf("%d hugepages of 2 MiB do not fit into %d MiB of memory", m.Hugepages, m.Memory))
	}
	m.Writable = append([]string(nil), m.Writable...)
	for i, dir := range m.Writable {
		real, err := filepath.Abs(dir)
		if err == nil {
			real, err = filepath.EvalSymlinks(real)
		}
		var info os.FileInfo
		if err == nil {
			info, err = os.Stat(real)
		}
		switch {
		case err != nil:
			err = fmt.Errorf("writable directory %s: %w", dir, err)
		case !info.IsDir():
			err = fmt.Errorf("writable directory %s: it is not a directory", dir)
		case strings.Contains(real, ","):
			err = fmt.Errorf("writable directory %s: qemu takes no comma in its name", dir)
		}
		errs = append(errs, err)
		m.Writable[i] = real
	}
	return m, errors.Join(errs...)
}

// boot runs qemu until the guest has ended.
func (m Machine) boot(ctx context.Context, cache *Cache, initrd *os.File, c Command) (int, error) {
	// Pdeathsig is about the thread that starts the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	report := &report{log: m.Log, cancel: cancel, late: time.AfterFunc(bootTimeout, func() {
		cancel(fmt.Errorf("the guest has not started within %v", bootTimeout))
	})}
	defer report.late.Stop()
	console, said := &tail{}, &tail{}

	program, env := cache.qemu()
	cmd := exec.CommandContext(ctx, program, m.qemuArgs(cache)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = []*os.File{fdInitrd - 3: initrd}
	var copies sync.WaitGroup
	for _, to := range []io.Writer{fdConsole: console, fdOut: c.Stdout, fdErr: c.Stderr, fdReport: report}[fdConsole:] {
		if to == nil {
			to = io.Discard
		}
		r, w, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		defer r.Close()
		defer w.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		copies.Go(func() {
			// Read to the end in any case: the guest waits for its reader.
			if _, err := io.Copy(to, r); err != nil {
				io.Copy(io.Discard, r)
			}
		})
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, w := range cmd.ExtraFiles[1:] {
		w.Close()
	}
	err := cmd.Wait()
	copies.Wait()
	m.Log.Debug("guest has ended", "after", time.Since(start).Round(10*time.Millisecond))
	switch {
	case report.status != nil:
		return *report.status, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil:
		err = errors.New("it ended by itself")
	}
	return 0, fmt.Errorf("guest: %w%s%s", err, said.paragraph("qemu"), console.paragraph("the guest's console"))
}

// A report reads the lines that the guest's init writes about itself.
type report struct {
	log    *slog.Logger
	late   *time.Timer
	cancel context.CancelCauseFunc
	line   []byte
	status *int
}

// The words that lines of a report begin with.
const (
	reportUp   = "up"   // kernel release, seconds since boot
	reportExit = "exit" // status of the command
	reportFail = "fail" // why there is no command
)

func (r *report) Write(b []byte) (int, error) {
	r.line = append(r.line, b...)
	for {
		line, rest, ok := bytes.Cut(r.line, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		r.line = rest
		word, text, _ := strings.Cut(string(line), " ")
		switch word {
		case reportUp:
			r.late.Stop()
			r.log.Debug("guest is up", "kernel and seconds", text)
		case reportExit:
			if n, err := strconv.Atoi(text); err == nil {
				r.status = &n
			}
		case reportFail:
			r.cancel(errors.New(text))
		}
	}
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4096

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(b), nil
}

// paragraph returns what was written, under a heading.
func (t *tail) paragraph(who string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(strings.ReplaceAll(string(t.text), "\r", ""))
	if text == "" {
		return ""
	}
	return "\n" + who + " said:\n" + text
}
