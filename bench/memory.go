package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// mininetMemory is that of mn and the shells of its nodes.
func mininetMemory(ctx context.Context, command []string) (float64, error) {
	return whileUp(sandboxed(ctx, mininetScript, command...), func(pid int) (float64, error) {
		below := descendants(pid)
		return pss(func(p process) bool {
			return below[p.pid] && !strings.HasPrefix(p.name, "ovs") && p.pid != pid
		})
	})
}

// weftMemory is that of all processes that run the binary at path.
func weftMemory(ctx context.Context, path string, command []string) (float64, error) {
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return whileUp(cmd, func(int) (float64, error) {
		return pss(func(p process) bool {
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
			return err == nil && exe == path
		})
	})
}

// A process is a line of the process table.
type process struct {
	pid, parent int
	name        string
}

// processes lists all that this process sees, with those in inner PID namespaces.
func processes() []process {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	var all []process
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		if p, err := parseStat(string(b)); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// parseStat reads "PID (NAME) STATE PPID ..."; the name may hold anything.
func parseStat(s string) (process, error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("parse process status %q", s)
	}
	fields := strings.Fields(s[end+1:])
	if len(fields) < 2 {
		return process{}, fmt.Errorf("parse process status %q", s)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(s[:open]))
	parent, err2 := strconv.Atoi(fields[1])
	return process{pid, parent, s[open+1 : end]}, errors.Join(err, err2)
}

// descendants are a process and all below it.
func descendants(pid int) map[int]bool {
	children := map[int][]int{}
	for _, p := range processes() {
		children[p.parent] = append(children[p.parent], p.pid)
	}
	below := map[int]bool{}
	left := []int{pid}
	for len(left) > 0 {
		p := left[0]
		left = append(left[1:], children[p]...)
		below[p] = true
	}
	return below
}

// pss adds up the proportional set sizes of some processes, in MiB.
func pss(counts func(process) bool) (float64, error) {
	kb, n := 0, 0
	for _, p := range processes() {
		if !counts(p) {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if err != nil {
			continue // it has ended, or is a zombie
		}
		if size, ok := parsePSS(string(b)); ok {
			kb += size
			n++
		}
	}
	if n == 0 {
		return 0, errors.New("found no process to measure")
	}
	return float64(kb) / 1024, nil
}

// parsePSS returns the Pss of /proc/PID/smaps_rollup in KiB.
func parsePSS(rollup string) (int, bool) {
	for line := range strings.Lines(rollup) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kb, err := strconv.Atoi(f[1])
			return kb, err == nil
		}
	}
	return 0, false
}
