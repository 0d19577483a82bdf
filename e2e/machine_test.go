package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// A machine is what weft could leave on one: a set of short descriptions.
type machine map[string]bool

// lookAtMachine lists mounts, interfaces, packet filter rules, control groups and state
// files. Where others work on the machine too, only what has weft's name counts.
func lookAtMachine() machine {
	m := machine{}
	alone := os.Getenv(envInside) != ""
	note := func(kind, what string) {
		if what = strings.TrimSpace(what); what != "" && (alone || strings.Contains(what, "weft")) {
			m[kind+" "+what] = true
		}
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 4 {
				note("mount", f[4])
			}
		}
	}
	if list, err := net.Interfaces(); err == nil {
		for _, i := range list {
			note("interface", i.Name)
		}
	}
	if out, err := exec.Command("nft", "list", "ruleset").Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			note("rule", line)
		}
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, "weft") {
			note("control group", path)
		}
		return nil
	})
	for _, dir := range []string{"/run/weft", "/run/weft-machine"} {
		if list, err := os.ReadDir(dir); err == nil && alone {
			for _, e := range list {
				note("state", e.Name())
			}
		}
	}
	return m
}

// beyond lists what m has and before has not.
func (m machine) beyond(before machine) []string {
	var more []string
	for what := range m {
		if !before[what] {
			more = append(more, what)
		}
	}
	sort.Strings(more)
	return more
}

// A process is one that a run of weft started, or its keeper.
type process struct {
	pid  int
	argv []string
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, strings.Join(p.argv, " ")) }

// name is argv[0] without its directory.
func (p process) name() string {
	if len(p.argv) == 0 {
		return ""
	}
	return filepath.Base(p.argv[0])
}

// marked lists the processes with NAME=VALUE in their environment.
func marked(mark string) []process {
	dirs, _ := os.ReadDir("/proc")
	var list []process
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + d.Name() + "/environ")
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00"+mark+"\x00")) {
			continue
		}
		line, _ := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		argv := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		list = append(list, process{pid, argv})
	}
	return list
}

// namespaces lists those that a process is in or holds open.
func (p process) namespaces() []string {
	var all []string
	for _, dir := range []string{"ns", "fd"} {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/%s/*", p.pid, dir))
		for _, f := range files {
			// Such as net:[4026531840]; others, such as anon_inode:[timerfd], are everybody's.
			to, err := os.Readlink(f)
			if kind, _, ok := strings.Cut(to, ":["); err == nil && ok && !slices.Contains([]string{"socket", "pipe", "anon_inode"}, kind) {
				all = append(all, to)
			}
		}
	}
	return all
}

// holders lists processes that are in or hold one of the namespaces.
func holders(spaces map[string]bool) []string {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var list []string
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		for _, ns := range (process{pid: pid}).namespaces() {
			if spaces[ns] {
				line, _ := os.ReadFile(d + "/cmdline")
				list = append(list, fmt.Sprintf("process %d (%s) has %s", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '}), ns))
			}
		}
	}
	return list
}
