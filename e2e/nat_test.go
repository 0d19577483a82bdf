package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// onInternet runs weft as u on a machine that testdata/internet.sh makes, with input, and
// returns what is written and the exit status. Programs in hide are not there.
func onInternet(t *testing.T, u user, hide, input string, command ...string) (string, int) {
	t.Helper()
	for _, p := range []string{"ip", "nft", "setpriv", "nsenter", "unshare"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(p + " is not installed")
		}
	}
	dir, err := os.MkdirTemp(shared.dir, "nat")
	if err == nil {
		err = os.Chown(dir, u.uid, u.gid)
	}
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/internet.sh")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*most)
	defer cancel()
	args := append([]string{"-n", "-m", "sh", script, fmt.Sprint(u.uid)}, command...)
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "HIDE="+hide)
	cmd.Stdin = strings.NewReader(input)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Run()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(out.String())
		}
	})
	return out.String(), cmd.ProcessState.ExitCode()
}

// TestNAT goes out through a gateway, and holds that the machine is the same afterwards.
func TestNAT(t *testing.T) {
	needRoot(t) // to make the machine
	const out = "h1 ping -c 1 -W 5 203.0.113.1\nh2 ping -c 1 -W 5 203.0.113.1\n"
	for _, c := range []struct {
		name, hide string
		user       user
		program    string
	}{
		{"kernel", "", rootUser, "nft"},
		{"slirp4netns", "", nobody, "slirp4netns"},
		{"pasta", "slirp4netns", nobody, "pasta"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(c.program); err != nil {
				t.Skip(c.program + " is not installed")
			}
			text, code := onInternet(t, c.user, c.hide, out, shared.weft, "--name", "nat"+c.name, "--nat")
			if code != 0 || strings.Count(text, "1 received") != 2 {
				t.Errorf("no way out: exit status %d", code)
			}
			if !strings.Contains(text, "\nSAME\n") {
				t.Error("the machine is not what it was")
			}
		})
	}
	t.Run("two at once", func(t *testing.T) {
		t.Parallel()
		text, code := onInternet(t, rootUser, "", "", "sh", "-c",
			`(echo "h1 ping -c 1 -W 5 203.0.113.1"; sleep 1) | `+shared.weft+` --name nata --nat &
			 (sleep 2; echo "h1 ping -c 1 -W 5 203.0.113.1") | `+shared.weft+` --name natb --nat && wait $!`)
		if code != 0 || strings.Count(text, "1 received") != 2 || !strings.Contains(text, "\nSAME\n") {
			t.Errorf("two gateways disturb each other or the machine: exit status %d", code)
		}
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		text, _ := onInternet(t, rootUser, "", "", "sh", "-c",
			`mkfifo in; `+shared.weft+` --name natk --nat <in >out & exec 3>in
			 until nft list ruleset | grep -q masquerade; do sleep 0.1; done
			 echo "h1 ping -c 1 -W 5 203.0.113.1" >&3; until grep -q rtt out; do sleep 0.1; done; kill -9 $!; wait; cat out`)
		if strings.Count(text, "1 received") != 1 || !strings.Contains(text, "\nSAME\n") {
			t.Error("a killed gateway leaves something")
		}
	})
	t.Run("overlap", func(t *testing.T) {
		t.Parallel()
		text, code := onInternet(t, rootUser, "", "", shared.weft, "--name", "nato", "--nat", "--ipbase", "192.0.0.0/16")
		if code != 1 || !strings.Contains(text, "overlaps 192.0.2.0/24") || !strings.Contains(text, "\nSAME\n") {
			t.Errorf("overlapping networks: exit status %d", code)
		}
	})
	t.Run("no TUN/TAP", func(t *testing.T) {
		t.Parallel()
		text, code := onInternet(t, nobody, "tun", "", shared.weft, "--name", "natt", "--nat")
		if code != 1 || !strings.Contains(text, "needs TUN/TAP") {
			t.Errorf("without TUN/TAP: exit status %d", code)
		}
	})
	t.Run("no program", func(t *testing.T) {
		t.Parallel()
		text, code := onInternet(t, nobody, "", "", "env", "PATH=/nowhere", shared.weft, "--name", "natn", "--nat")
		if code != 1 || !strings.Contains(text, "apt-get install") {
			t.Errorf("without programs: exit status %d", code)
		}
	})
}
