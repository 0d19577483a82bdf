package server

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weft/topo"
)

// What podman is told: words stay words, and what is the machine's stays out.
func TestContainerArguments(t *testing.T) {
	for _, c := range []struct {
		name string
		container
		network string
		end     string // what the arguments end with, by blanks
		without []string
	}{
		{"image", container{Hostname: "mine", Image: "localhost/mine", Args: []string{"-v", "a b"}}, "none",
			"--hostname mine localhost/mine -v a b", []string{"--rootfs", "--entrypoint"}},
		{"another program", container{Hostname: "mine", Image: "i", Program: []string{"/x", "--y"}, Args: []string{"-z"}}, "none",
			`--hostname mine --entrypoint ["/x","--y"] i -z`, []string{"--rootfs"}},
		{"directory", container{Hostname: "mine", RootFS: "/srv", Program: []string{"/x", "--y"}, Args: []string{"-z"}}, "none",
			"--hostname mine --rootfs /merged /x --y -z", []string{"--entrypoint", "/srv"}},
		{"on a host", container{Hostname: "mine", Image: "i"}, "host", "/dev/shm/nf:/weft-nf.sock i", []string{"--hostname"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.arguments(c.network, "/dev/shm/nf", "/merged")
			text := strings.Join(args, " ")
			if !strings.HasSuffix(text, c.end) || !strings.Contains(text, "--network "+c.network+" ") || !strings.Contains(text, "--pull never") {
				t.Errorf("%s: want it to end with %s", text, c.end)
			}
			for _, w := range c.without {
				if slices.Contains(args, w) {
					t.Errorf("%s has %s", text, w)
				}
			}
			if strings.Contains(text, "WEFT_NF_KEY=") {
				t.Error("everybody sees the key in the list of processes")
			}
		})
	}
}

// Where podman may have images: the user's own store is looked at before the machine's.
func TestStores(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	own := filepath.Join(home, ".local/share/containers/storage")
	if err := os.MkdirAll(filepath.Join(own, "vfs-images"), 0o755); err != nil {
		t.Fatal(err)
	}
	list := stores()
	if len(list) == 0 || list[0] != (store{"vfs", own}) {
		t.Fatalf("%v: want the user's store first", list)
	}
	if text := strings.Join(list[0].arguments(), " "); !strings.Contains(text, "vfs.imagestore="+own) || strings.Contains(text, "--root "+own) {
		t.Errorf("%s: the store is only to be read", text)
	}
}

// An NF on a host is started by this program, which goes there; without the host it is not.
func TestCommandOnHost(t *testing.T) {
	s := &server{config: Config{Dir: t.TempDir()}}
	f := topo.NF{Name: "monitor", Host: "h1", Service: 1, Args: []string{"-x"}}
	if _, err := s.command(f); err == nil || !strings.Contains(err.Error(), "no host h1") {
		t.Errorf("a host that is not there: %v", err)
	}
	if err := ShowHost(s.config.Dir, "h1", "/proc/self/ns/net", "", ""); err != nil {
		t.Fatal(err)
	}
	cmd, err := s.command(f)
	if err != nil {
		t.Fatal(err)
	}
	var p placing
	if err := json.Unmarshal([]byte(cmd.Args[len(cmd.Args)-1]), &p); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/proc/self/exe", nfCommand, "monitor", "-x"}; !slices.Equal(p.Argv, want) || p.Host != filepath.Join(s.config.Dir, "hosts", "h1") {
		t.Errorf("%+v: want %v on h1", p, want)
	}
	if cmd, err := s.command(topo.NF{Name: "mine", Command: "exec ./mine $1", Args: []string{"a b"}}); err != nil || !slices.Equal(cmd.Args, []string{"/bin/sh", "-c", "exec ./mine $1", "mine", "a b"}) {
		t.Errorf("beside the manager: %v, %v", cmd, err)
	}
}

// What cannot be together is refused.
func TestPlacesRefused(t *testing.T) {
	for want, f := range map[string]topo.NF{
		"not both":           {Image: "i", RootFS: "/r", Command: "/x"},
		"it needs a command": {RootFS: "/r"},
		"in no container":    {Image: "i", Fused: true},
		"is no host":         {Host: "../h1", Command: "x"},
	} {
		f.Name, f.Service = "x", 1
		if err := validateNF(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v: want %q", f, err, want)
		}
	}
}
