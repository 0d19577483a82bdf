package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bound is generous: only a hang meets it.
const bound = 3 * time.Minute

// mark is in the environment of all that a test starts.
const mark = "WEFT_VM_TEST"

// build compiles the program that is tested.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "vm")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// command is a run of a program whose processes can be found, and whose files go to tmp.
func command(t *testing.T, tmp, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	t.Cleanup(func() {
		for _, p := range running(t) {
			syscall.Kill(p, syscall.SIGKILL)
		}
	})
	return cmd
}

// running lists the processes of a test.
func running(t *testing.T) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		if err == nil && bytes.Contains(append(env, 0), []byte(mark+"="+t.Name()+"\x00")) {
			var pid int
			fmt.Sscan(filepath.Base(d), &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(bound); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no sign of %s within %v", what, bound)
		}
	}
}

// nothingLeft checks that a test's processes and files are gone.
func nothingLeft(t *testing.T, tmp string) {
	t.Helper()
	until(t, "the end of all processes", func() bool { return len(running(t)) == 0 })
	if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
		t.Errorf("left: %v %v", files, err)
	}
}

// inGuest is what the guest must be able to do. It ends with status 3.
const inGuest = `set -eu
trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR
uname -v | grep -q Debian
test "$(id -u)" = 0
test "$PWD" = "$2"
test "$WORD" = "two words"
echo complaint >&2
echo again >/dev/stderr
test ! -e /proc/1/root/job.json                      # that root is the host's

# What is written is kept where it was asked for, and nowhere else.
echo "from the guest" >"$1/rw/file"
echo lost >"$2/lost"

# Effects and devices of a full kernel.
for m in openvswitch 8021q; do modprobe $m; done
ip link add type ifb
tc qdisc add dev ifb0 root handle 1: htb default 1
tc class add dev ifb0 parent 1: classid 1:1 htb rate 10mbit
tc qdisc add dev ifb0 parent 1:1 netem delay 10ms

# A frame goes from the first NIC to the second.
ip netns add other
ip link set eth1 netns other
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip -n other addr add 192.0.2.2/24 dev eth1
ip -n other link set eth1 up
for i in $(seq 20); do # their link takes seconds, and ping gives up at "unreachable"
	ping -c 1 -W 1 192.0.2.2 >/dev/null && break
	[ $i != 20 ]
done

# A NIC for DPDK: vfio-pci behind an IOMMU, and hugepages.
modprobe vfio-pci
nic=/sys/bus/pci/devices/0000:00:10.0
echo vfio-pci >$nic/driver_override
echo 0000:00:10.0 >$nic/driver/unbind
echo 0000:00:10.0 >/sys/bus/pci/drivers_probe
test "$(basename $(readlink $nic/driver))" = vfio-pci
test -e /dev/vfio/$(basename $(readlink $nic/iommu_group))
grep -q 'HugePages_Total: *32$' /proc/meminfo
grep -q hugetlbfs /proc/mounts

# Users make namespaces, and orphans are reaped.
setpriv --reuid 65534 --regid 65534 --clear-groups unshare -Ur true
(sleep 0.1 &)
while pgrep -x sleep >/dev/null; do sleep 0.1; done   # a zombie would stay

sleep 1000 &                                         # keeps the outputs open
seq 200000
exit 3
`

// TestGuest does in one guest all that there is to do.
func TestGuest(t *testing.T) {
	program, dir, here, tmp := build(t), t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rw"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, tmp, program, "-timeout", bound.String(), "-v", "-nics", "2", "-hugepages", "32", "-modules", "dummy vxlan",
		"-rw", filepath.Join(dir, "rw"), "--", "bash", "-c", inGuest, "bash", dir, here)
	cmd.Dir = here
	cmd.Env = append(cmd.Env, "WORD=two words")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if cmd.Run(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("exit status %d, want 3\n%s", cmd.ProcessState.ExitCode(), errOut.String())
	}
	if lines := strings.Fields(out.String()); len(lines) != 200000 || lines[len(lines)-1] != "200000" {
		t.Errorf("%d lines, which end with %q", len(lines), out.String()[max(0, out.Len()-100):])
	}
	for _, want := range []string{"guest is up", "complaint\n", "again\n"} {
		if !strings.Contains(errOut.String(), want) {
			t.Errorf("no %q among the errors:\n%s", want, errOut.String())
		}
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "rw", "file")); string(text) != "from the guest\n" {
		t.Errorf("the writable directory has %q", text)
	}
	if _, err := os.Stat(filepath.Join(here, "lost")); err == nil {
		t.Error("the guest has changed the host's files")
	}
	nothingLeft(t, tmp)
}

// TestEnds ends it in all ways. Nothing may be left.
func TestEnds(t *testing.T) {
	program := build(t)
	for _, c := range []struct {
		name   string
		signal syscall.Signal
	}{{"killed", syscall.SIGKILL}, {"interrupted", syscall.SIGINT}, {"terminated", syscall.SIGTERM}} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			cmd := command(t, tmp, program, "-timeout", bound.String(), "sleep", "1000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			until(t, "qemu", func() bool { return len(running(t)) > 1 })
			cmd.Process.Signal(c.signal)
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); c.signal != syscall.SIGKILL && code != exitFailed {
				t.Errorf("exit status %d", code)
			}
			nothingLeft(t, tmp)
		})
	}
	t.Run("orphaned", func(t *testing.T) {
		tmp := t.TempDir()
		parent := command(t, tmp, "sh", "-c", `"$0" -timeout 3m sleep 1000; true`, program)
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, "qemu", func() bool { return len(running(t)) > 2 })
		parent.Process.Kill()
		parent.Wait()
		nothingLeft(t, tmp)
	})
	t.Run("late", func(t *testing.T) {
		tmp := t.TempDir()
		out, err := command(t, tmp, program, "-timeout", "500ms", "sleep", "1000").CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitTimeout || !strings.Contains(string(out), "not done within 500ms") {
			t.Errorf("%v: %s", err, out)
		}
		nothingLeft(t, tmp)
	})
	t.Run("panic", func(t *testing.T) {
		tmp := t.TempDir()
		out, err := command(t, tmp, program, "-timeout", bound.String(), "sh", "-c", "echo c >/proc/sysrq-trigger").CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitFailed || !strings.Contains(string(out), "Kernel panic") {
			t.Errorf("%v: %s", err, out)
		}
		nothingLeft(t, tmp)
	})
}

func TestMisuse(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "usage: vm"},
		{[]string{"-fetch", "true"}, "usage: vm"},
		{[]string{"-nosuchflag"}, "nosuchflag"},
		{[]string{"-nics", "99", "true"}, "99 NICs"},
		{[]string{"-rw", "/no/such/directory", "true"}, "/no/such/directory"},
	} {
		var out, errOut bytes.Buffer
		if code := run(c.args, &out, &errOut); code != exitFailed || !strings.Contains(errOut.String(), c.want) || out.Len() > 0 {
			t.Errorf("vm %v: status %d, %s", c.args, code, errOut.String())
		}
	}
	if code := run([]string{"-h"}, os.Stdout, &bytes.Buffer{}); code != 0 {
		t.Errorf("-h: status %d", code)
	}
}
