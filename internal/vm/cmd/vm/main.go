// Command vm runs a command under Debian's kernel, in a virtual machine that sees this
// machine's files:
//
//	go tool vm -- uname -a
//	go test -exec 'go tool vm --' ./link
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"weft/internal/vm"
)

// Exit statuses of its own, as timeout(1) has them.
const (
	exitTimeout = 124
	exitFailed  = 125
)

func main() {
	vm.Guest()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// words is a flag that may be given several times.
type words []string

func (w *words) String() string     { return strings.Join(*w, " ") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

// fields is a flag of words.
type fields []string

func (f *fields) String() string     { return strings.Join(*f, " ") }
func (f *fields) Set(s string) error { *f = append(*f, strings.Fields(s)...); return nil }

const usage = `usage: vm [flags] [--] command [argument...]

Runs a command as root under Debian's own kernel, in a virtual machine that sees this
machine's files. What the command changes is thrown away, but below -rw directories.
The exit status is the command's; 124 if its time was over, 125 if there is no machine.

`

func run(args []string, stdout, stderr io.Writer) int {
	var m vm.Machine
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.IntVar(&m.CPUs, "cpus", 1, "processors; more than one is slower on a busy machine")
	flags.IntVar(&m.Memory, "memory", 2048, "`MiB` of memory")
	flags.BoolVar(&m.KVM, "kvm", false, "use the processor's virtualisation (/dev/kvm) instead of emulation")
	flags.BoolVar(&m.Steady, "steady", false, "the machine's time goes with its instructions: measurements do not depend on what else runs here")
	flags.Var((*fields)(&m.Modules), "modules", "kernel modules to load first: \"`a b`\"; most load by themselves")
	flags.IntVar(&m.NICs, "nics", 0, "emulated NICs, joined in pairs, at PCI addresses 0000:00:10.0, 0000:00:11.0 …")
	flags.StringVar(&m.NICModel, "nic-model", "e1000e", "`model` of NICs: e1000e, e1000, vmxnet3 or virtio-net-pci")
	flags.BoolVar(&m.NoIOMMU, "no-iommu", false, "no IOMMU for NICs: no vfio-pci, but uio_pci_generic")
	flags.IntVar(&m.Hugepages, "hugepages", 0, "`number` of 2 MiB pages, on /dev/hugepages")
	flags.Var((*words)(&m.Writable), "rw", "`directory` that the command may change; may be repeated")
	flags.Var((*fields)(&m.KernelArgs), "append", "further `arguments` of the kernel")
	flags.Var((*fields)(&m.QEMUArgs), "qemu", "further `arguments` of qemu")
	timeout := flags.Duration("timeout", 10*time.Minute, "the most that it may take in all")
	fetch := flags.Bool("fetch", false, "only fetch kernel and qemu, if they are missing, and run nothing")
	verbose := flags.Bool("v", false, "tell how long things take")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitFailed
	}
	if *fetch == (flags.NArg() > 0) {
		flags.Usage()
		return exitFailed
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	m.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not done within %v", *timeout))
	defer cancel()
	defer orphaned(stop)()
	status, err := 0, error(nil)
	if *fetch {
		_, err = vm.Fetch(ctx, m.Log)
	} else {
		var dir string
		if dir, err = os.Getwd(); err == nil {
			status, err = m.Run(ctx, vm.Command{Args: flags.Args(), Dir: dir, Env: os.Environ(), Stdout: stdout, Stderr: stderr})
		}
	}
	switch {
	case err == nil:
		return status
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		status = exitTimeout
	default:
		status = exitFailed
	}
	fmt.Fprintln(stderr, "vm:", err)
	return status
}

// orphaned calls f when this process's parent is gone, which cannot wait for it any more:
// `go tool` and `go test` do not always hand on what ends them.
func orphaned(f func()) (stop func()) {
	parent := os.Getppid()
	tick := time.NewTicker(time.Second)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if os.Getppid() != parent {
					f()
					return
				}
			}
		}
	}()
	return func() { tick.Stop(); close(done) }
}
