package sandbox

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// superviseMain runs the program args[0] with arguments args[1:] in the user's own
// namespaces, and ends it and all of its descendants when the other end of standard output,
// a socket that the engine holds, is closed: whether by the engine, or by the end of the
// sandbox or of the keeper.
func superviseMain(args []string) error {
	if len(args) < 2 {
		return errors.New("started by hand; run weft instead")
	}
	// Orphans become our children, so that none is lost sight of.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	cmd := &exec.Cmd{Path: args[0], Args: args[1:], Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		poll := []unix.PollFd{{Fd: 1, Events: unix.POLLRDHUP}}
		for {
			if _, err := unix.Poll(poll, -1); err != unix.EINTR {
				break
			}
		}
		unix.Kill(-cmd.Process.Pid, unix.SIGTERM)
		time.Sleep(2 * time.Second)
		for {
			for _, pid := range children("self") {
				unix.Kill(pid, unix.SIGKILL)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	code := 0
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil: // ECHILD: no descendant is left
			os.Exit(code)
		case pid == cmd.Process.Pid:
			code = ws.ExitStatus()
			if ws.Signaled() {
				code = 128 + int(ws.Signal())
			}
		}
	}
}

// children returns a process's children, of all its threads (proc(5), task/TID/children).
func children(process string) []int {
	var pids []int
	dir := "/proc/" + process + "/task/"
	tasks, _ := os.ReadDir(dir)
	for _, t := range tasks {
		b, _ := os.ReadFile(dir + t.Name() + "/children")
		for _, f := range bytes.Fields(b) {
			if pid, err := strconv.Atoi(string(f)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
