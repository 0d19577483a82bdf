// Package e2e tests weft as people and CI jobs use it: it builds the program, runs it as
// root and as ordinary users, kills it, starves it, and looks at what is left. It knows
// nothing of weft's packages and may import none of them.
//
// Run as root, the tests live in mount and network namespaces of their own, so that what
// they find changed there is weft's doing. Run as an ordinary user, only what such a user
// can do is tested.
package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The environment of the tests' second life, in namespaces of their own.
const (
	envInside = "WEFT_E2E_INSIDE" // process ID of the first, where the Internet is
	envMark   = "WEFT_E2E_RUN"    // names the run that a process belongs to
)

// envProgram names a weft to test instead of building one, for users without Go.
const envProgram = "WEFT_E2E_PROGRAM"

// suite is what all tests share.
type suite struct {
	dir  string // world-readable
	weft string // the program

	mu    sync.Mutex
	runs  int
	ports int // that tests have asked for
}

var shared suite

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(envInside) == "" {
		os.Exit(liveInside())
	}
	os.Exit(live(m))
}

// liveInside runs this program again in mount and network namespaces of its own.
func liveInside() int {
	runtime.LockOSThread() // Pdeathsig is about this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", envInside, os.Getpid()))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "namespaces for the tests:", err)
		return 1
	}
	return 0
}

func live(m *testing.M) int {
	err := shared.prepare()
	defer os.RemoveAll(shared.dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	before := lookAtMachine()
	code := m.Run()
	if left := lookAtMachine().beyond(before); len(left) > 0 && code == 0 {
		fmt.Printf("left on the machine after all tests:\n  %s\n", strings.Join(left, "\n  "))
		code = 1
	}
	return code
}

func (s *suite) prepare() (err error) {
	if os.Getenv(envInside) != "" {
		if err := ownMachine(); err != nil {
			return err
		}
	}
	if s.dir, err = os.MkdirTemp("", "weft-e2e-"); err != nil {
		return err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}
	s.weft = filepath.Join(s.dir, "weft")
	if given := os.Getenv(envProgram); given != "" {
		text, err := os.ReadFile(given)
		if err != nil {
			return err
		}
		return os.WriteFile(s.weft, text, 0o755) // where other users find it
	}
	if out, err := exec.Command("go", "build", "-o", s.weft, "weft/cmd/weft").CombinedOutput(); err != nil {
		return fmt.Errorf("build weft: %w\n%s", err, out)
	}
	return os.Chmod(s.weft, 0o755)
}

// ownMachine makes the new namespaces look like a machine of the tests' own.
func ownMachine() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := os.MkdirAll("/run/weft", 0o700); err != nil {
		return err
	}
	if err := unix.Mount("e2e", "/run/weft", "tmpfs", 0, "mode=0700"); err != nil {
		return fmt.Errorf("/run/weft: %w", err)
	}
	if err := os.MkdirAll("/run/weft-machine", 0o700); err != nil {
		return err
	}
	if err := unix.Mount("e2e", "/run/weft-machine", "tmpfs", 0, "mode=0700"); err != nil {
		return fmt.Errorf("/run/weft-machine: %w", err)
	}
	// Ordinary users may make TAP devices, as on most machines.
	if err := unix.Mount("e2e", "/dev/net", "tmpfs", unix.MS_NOSUID, "mode=0755"); err == nil {
		if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR, int(unix.Mkdev(10, 200))); err == nil {
			os.Chmod("/dev/net/tun", 0o666)
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("lo up: %w: %s", err, out)
	}
	return nil
}

// need skips the test unless all programs are installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("no " + p + " installed")
		}
	}
}
