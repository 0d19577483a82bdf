package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A spawner starts processes from one thread that lives as long as this process: the kernel
// kills them when the thread that started them ends (prctl(2), PR_SET_PDEATHSIG).
type spawner struct {
	work chan func()
	all  unix.CPUSet // that this process may use
}

func newSpawner() (*spawner, error) {
	s := &spawner{work: make(chan func())}
	if err := unix.SchedGetaffinity(0, &s.all); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for f := range s.work {
			f()
		}
	}()
	return s, nil
}

// close ends the thread, and with it what still runs.
func (s *spawner) close() { close(s.work) }

// start starts a command on a processor; below zero for any.
func (s *spawner) start(cmd *exec.Cmd, cpu int) error {
	done := make(chan error, 1)
	s.work <- func() {
		if cpu >= 0 {
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				done <- fmt.Errorf("processor %d: %w", cpu, err)
				return
			}
			defer unix.SchedSetaffinity(0, &s.all)
		}
		done <- cmd.Start()
	}
	return <-done
}

// place puts all threads of a process on processors.
func place(pid int, set *unix.CPUSet) error {
	// New threads inherit: look again until there are no more.
	for seen := -1; ; {
		tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return err
		}
		if len(tasks) == seen {
			return nil
		}
		seen = len(tasks)
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			if err := unix.SchedSetaffinity(tid, set); err != nil && err != unix.ESRCH {
				return err
			}
		}
	}
}

// signalGroup sends a signal to a process and what it started.
func signalGroup(pid int, sig syscall.Signal) {
	if pid > 1 { // 0 is of an instance without one, and would be this process' group
		syscall.Kill(-pid, sig) // gone already: nothing to do
	}
}

// exitText says how a process ended.
func exitText(state *os.ProcessState) string {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return "killed by signal " + strconv.Itoa(int(ws.Signal())) + " (" + ws.Signal().String() + ")"
	}
	return "exited with status " + strconv.Itoa(state.ExitCode())
}
