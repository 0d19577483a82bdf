package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMany runs twenty networks with the same names of nodes at once.
func TestMany(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		var runs []*run
		for range 20 {
			r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "tree,2,2", "--mac"}})
			runs = append(runs, r)
		}
		for _, r := range runs {
			r.ready()
		}
		for _, r := range runs {
			r.say("pingall")
		}
		for _, r := range runs {
			r.expect("12 of 12 received")
		}
		for _, r := range runs {
			r.finish(0)
		}
	})
}

// TestSameName starts a network whose name is taken.
func TestSameName(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		name := "same" + u.name
		first := start(t, launch{user: u, prompt: true, args: []string{"--name", name, "--topo", "single,2"}})
		first.ready()
		second := start(t, launch{user: u, args: []string{"--name", name, "--topo", "single,2", "--test", "pingall"},
			env: []string{"XDG_RUNTIME_DIR=" + first.runtimeDir()}})
		second.exits(1)
		has(t, second.err(), name, "running already", "--name")
		has(t, first.ask("pingall"), "2 of 2 received")
		first.finish(0)
	})
}

// TestOthersCannotEnter looks at a network's files as another user.
func TestOthersCannotEnter(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, u := range []user{rootUser, nobody} {
		r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "single,2"}})
		r.ready()
		state := filepath.Join(r.runtimeDir(), "weft", "net1")
		if u.root() {
			state = "/run/weft/" + r.network
		}
		socket := filepath.Join(state, "api.sock")
		if _, err := os.Stat(socket); err != nil {
			t.Fatal(err)
		}
		// The directories above may be open, as /run/user is on some systems.
		if err := os.Chmod(r.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(r.runtimeDir(), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"ls", "cat"} {
			cmd := exec.Command(f, socket, state)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
			if out, err := cmd.CombinedOutput(); err == nil || strings.Count(string(out), "ermission denied") != 2 {
				t.Errorf("another user can reach %s: %s %v", state, out, err)
			}
		}
		r.finish(0)
	}
}

// starved is what every refusal for want of something must look like.
func starved(t *testing.T, r *run, want ...string) {
	t.Helper()
	if code := r.wait(); code != 1 {
		t.Errorf("exit status %d, want 1\n%s", code, r.transcript())
	}
	var said int
	for line := range strings.Lines(r.err()) {
		if strings.HasPrefix(line, "weft: ") {
			said++
		}
	}
	if said < 1 || said > 3 || strings.Contains(r.err(), "goroutine ") {
		t.Errorf("want an error of one to three lines\n%s", r.transcript())
	}
	has(t, r.err(), want...)
	r.gone()
}

func TestFewDescriptors(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		for _, n := range []int{16, 32, 64, 100, 200} {
			r := start(t, launch{user: u, args: []string{"--topo", "tree,2,16", "--test", "pingall"},
				wrap: []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, n), "sh"}})
			starved(t, r, "ulimit -n")
		}
	})
}

// inMounts runs weft in a mount namespace of its own, after a script. Root's state
// directory is there as $STATE.
func inMounts(u user, script string) []string {
	setup := `set -e; mount --make-rprivate /; STATE=` + "${XDG_RUNTIME_DIR}"
	if u.root() {
		setup = `set -e; mount --make-rprivate /; STATE=/run/weft`
	}
	drop := `exec "$@"`
	if !u.root() {
		script += fmt.Sprintf(`; chown %d:%d $STATE $HOME $TMPDIR 2>/dev/null || true`, u.uid, u.gid)
		drop = fmt.Sprintf(`exec setpriv --reuid %d --regid %d --clear-groups "$@"`, u.uid, u.gid)
	}
	return []string{"unshare", "-m", "sh", "-c", setup + "; " + script + "; " + drop, "sh"}
}

// startIn starts weft, as u, in mounts that root has made.
func startIn(t *testing.T, u user, script string, args ...string) *run {
	t.Helper()
	return start(t, launch{user: rootUser, wrap: inMounts(u, script), args: args})
}

func TestBadPlaces(t *testing.T) {
	needRoot(t)
	need(t, "unshare", "setpriv")
	hide := `for d in /usr/sbin /usr/bin /usr/local/sbin /usr/local/bin; do for p in ovsdb-server ovs-vswitchd ovsdb-tool; do
		if [ -e $d/$p ]; then mount --bind /dev/null $d/$p; fi; done; done`
	owner := func(u user) string { return fmt.Sprintf("uid=%d,gid=%d", u.uid, u.gid) }
	for _, c := range []struct {
		name, script string
		want         []string
	}{
		{"no Open vSwitch", hide, []string{"Open vSwitch", "apt-get install openvswitch-switch"}},
		{"no inodes", `mount -t tmpfs -o nr_inodes=1,mode=0700,%s full $STATE`, []string{"no space left", "free"}},
		{"read-only", `mount -t tmpfs -o ro,mode=0700,%s full $STATE; mount --bind $STATE $TMPDIR`, []string{"read-only", "writable"}},
	} {
		for _, u := range []user{rootUser, nobody} {
			t.Run(c.name+"/"+u.name, func(t *testing.T) {
				t.Parallel()
				script := c.script
				if strings.Contains(script, "%s") {
					script = fmt.Sprintf(script, owner(u))
				}
				starved(t, startIn(t, u, script, "--topo", "single,2", "--test", "pingall"), c.want...)
			})
		}
	}
	for _, u := range []user{rootUser, nobody} {
		t.Run("disk full/"+u.name, func(t *testing.T) {
			t.Parallel()
			// A network needs names there, and memory for the rest.
			r := startIn(t, u, fmt.Sprintf(`mount -t tmpfs -o size=4k,mode=0700,%s full $STATE; cat /dev/zero >$STATE/fill 2>/dev/null || true`, owner(u)),
				"--topo", "single,2", "--test", "pingall")
			r.exits(0)
		})
	}
	t.Run("no place at all", func(t *testing.T) {
		t.Parallel()
		r := startIn(t, nobody, `chmod 755 $HOME; mount -t tmpfs -o ro none $STATE; mount -t tmpfs -o ro none $TMPDIR`,
			"--topo", "single,2", "--test", "pingall")
		starved(t, r, "XDG_RUNTIME_DIR")
	})
	t.Run("no writable /tmp", func(t *testing.T) {
		t.Parallel()
		// Not needed as long as there is a state directory.
		r := startIn(t, rootUser, `mount -t tmpfs -o ro none /dev/shm; mount -t tmpfs -o ro none $TMPDIR`,
			"--topo", "single,2", "--test", "pingall")
		r.exits(0)
	})
}
