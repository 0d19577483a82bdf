package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// containerLab has an NF in a container and one on a host before the bridge.
const containerLab = `
hosts: h1 h2
dpdk:
  nf1:
    nfs: [{name: mine, rootfs: DIR/root, command: /nf}, {name: monitor, host: h2}, bridge]
links: [h1 -- nf1, nf1 -- h2]
`

// staticNF compiles the sample of an NF in C so that it needs no library, as the only file
// of a directory.
func staticNF(t *testing.T, u user, dir string) {
	t.Helper()
	weft(t, u, 0, "nf", "new", "--lang", "c", filepath.Join(dir, "mine"))
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-std=c99", "-O2", "-static", "-o", filepath.Join(root, "nf"), filepath.Join(dir, "mine", "main.c")).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
}

// NFs run in containers and on hosts, are started again, and go with their manager and with
// their network, however that ends.
func TestContainers(t *testing.T) {
	need(t, "gcc", "podman")
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, nil)
		staticNF(t, u, dir)
		file := filepath.Join(dir, "nf.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(containerLab, "DIR", dir)), 0o644); err != nil {
			t.Fatal(err)
		}
		has(t, weft(t, u, 2, "up", file, "--name", "containers"), "the NF mine in a container", "--allow")
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2"}})
		r.ready()
		has(t, r.ask("nf start mine@2 --rootfs %s/root --command /nf", dir), "instance 2 of service 2")
		has(t, r.ask("nf start monitor@3 --host h2"), "instance 3 of service 3")
		r.ask("nf chain set default 2->3->1")
		has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
		has(t, r.ask("nf stats"), "mine", "passed")

		// It sees its own files and processes, and no network.
		pid := containerPID(t, r, "/nf")
		has(t, r.ask("s1 ls /proc/%s/root", pid), "nf", "weft-nf.sock")
		has(t, r.ask("s1 grep NSpid /proc/%s/status", pid), "\t1\n")
		if out := r.ask("s1 cat /proc/%s/net/dev", pid); strings.Contains(out, "eth") {
			t.Errorf("the container has interfaces:\n%s", out)
		}
		// What its program writes is not in its directory.
		if list, err := os.ReadDir(filepath.Join(dir, "root")); err != nil || len(list) != 1 {
			t.Errorf("the root file system has %v now (%v)", list, err)
		}
		// The one on a host is in its namespaces.
		monitor := strings.TrimSpace(r.ask("s1 pgrep -f 'nf-run monitor'"))
		if on, host := r.ask("s1 readlink /proc/%s/ns/net", monitor), r.ask("h2 readlink /proc/self/ns/net"); on != host || on == "" {
			t.Errorf("the NF of h2 is in %q, not in %q", on, host)
		}
		has(t, r.ask("del h2"), "monitor of s1 runs on h2")

		r.ask("s1 kill -9 %s", pid)
		r.eventually("nf list", "1 restarts")
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		has(t, r.ask("nf start bad --rootfs %s/root --command /none", dir), "/none", "not found")
		has(t, r.ask("nf start bad --image localhost/none"), "podman has no image localhost/none")
		has(t, r.ask("nf start bad --host h9"), `no host is called "h9"`)

		// The manager's end is theirs.
		pid = containerPID(t, r, "/nf")
		r.ask("s1 pkill -9 -f nf-manager")
		r.eventually("s1 ps -o pid= -p "+pid+" || echo gone", "gone")
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		r.note()
		r.kill("keeper")
		r.afterKill("keeper", false)
	})
}

// An NF that somebody starts outside of the network is part of a chain.
func TestNFOutside(t *testing.T) {
	need(t, "gcc")
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, nil)
		staticNF(t, u, dir)
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2"}})
		r.ready()
		_, socket, _ := strings.Cut(r.ask("nf start mine@2 --outside"), "WEFT_NF=")
		socket, _, _ = strings.Cut(socket, " ")
		r.ask("nf chain set default 2->1")
		has(t, r.ask("h1 ping -c 1 -W 1 h2"), "0 received")
		outside := func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(dir, "root", "nf"))
			cmd.Env = []string{"WEFT_NF=" + socket, "WEFT_NF_NAME=mine", "WEFT_NF_SERVICE=2"}
			cmd.Stderr = os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if os.Geteuid() == 0 && !u.root() {
				cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			return cmd
		}
		first := outside()
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		has(t, r.ask("nf"), "mine")
		first.Process.Kill()
		first.Wait()
		r.eventually("h1 ping -c 1 -W 1 h2", "0 received")
		second := outside()
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		r.ask("s1 pkill -9 -f nf-manager") // with which it ends
		second.Wait()
		var third *exec.Cmd // at the same socket, as soon as there is a manager
		if !until(mostReady, func() bool {
			third = outside()
			if strings.Contains(r.ask("h1 ping -c 1 -W 1 h2"), "1 received") {
				return true
			}
			third.Process.Kill()
			third.Wait()
			return false
		}) {
			t.Errorf("no NF from outside after the manager was started anew\n%s", r.transcript())
		}
		r.finish(1) // pings were lost
		third.Wait()
	})
}

// containerPID returns the process of a container's program, as the network counts.
func containerPID(t *testing.T, r *run, program string) string {
	t.Helper()
	pids := strings.Fields(r.ask("s1 pgrep -fx %s", program))
	if len(pids) != 1 {
		t.Fatalf("processes %q of %s\n%s", pids, program, r.transcript())
	}
	return pids[0]
}

// An NF runs in a container of an image, and podman of this machine has no record of it.
func TestContainerImage(t *testing.T) {
	needRoot(t)
	need(t, "gcc", "podman")
	dir := place(t, rootUser, nil)
	staticNF(t, rootUser, dir)
	store := "/var/lib/containers" // in this mount namespace
	if err := os.MkdirAll(store, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("e2e", store, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(store, unix.MNT_DETACH) })
	podman := func(args ...string) string {
		t.Helper()
		state := store + "/run"
		args = append([]string{"--storage-driver", "overlay", "--root", store + "/storage", "--runroot", state, "--tmpdir", state}, args...)
		out, err := exec.Command("podman", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("podman %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	tar := filepath.Join(dir, "nf.tar")
	if out, err := exec.Command("tar", "-C", filepath.Join(dir, "root"), "-cf", tar, "nf").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	podman("import", "--change", `ENTRYPOINT ["/nf"]`, "--change", "USER 1234", tar, "weft-e2e-nf")
	r := start(t, launch{user: rootUser, prompt: true, args: []string{"--switch", "dpdk", "--topo", "single,2"}})
	r.ready()
	has(t, r.ask("nf start mine@2 --image localhost/weft-e2e-nf"), "instance 2 of service 2")
	r.ask("nf chain set default 2->1")
	has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
	has(t, r.ask("nf tell 2 hide 53"), "53")
	if out := podman("ps", "--all", "--quiet"); strings.TrimSpace(out) != "" {
		t.Errorf("podman knows of the container: %s", out)
	}
	r.ask("nf chain set default 1")
	r.ask("nf stop 2")
	has(t, r.ask("s1 pgrep -fx /nf || echo gone"), "gone")
	r.finish(0)
}
