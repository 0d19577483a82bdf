package experiment

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"weft/internal/sandbox"
)

// versions says what this machine is. What it does not know is left out.
func versions(weft string) Versions {
	v := Versions{Weft: weft, Machine: fmt.Sprintf("%s, %s", runtime.GOARCH, plural(float64(runtime.NumCPU()), "CPU"))}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		v.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	v.System = osRelease("/etc/os-release")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", "ovs-vswitchd --version")
	cmd.Env = append(os.Environ(), "PATH="+sandbox.SystemPath(os.Getenv("PATH")))
	if out, err := cmd.Output(); err == nil {
		// "ovs-vswitchd (Open vSwitch) 3.1.0"
		first, _, _ := strings.Cut(string(out), "\n")
		v.OVS = first[strings.LastIndexByte(first, ' ')+1:]
	}
	return v
}

// osRelease returns PRETTY_NAME of a file of os-release(5).
func osRelease(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if value, ok := strings.CutPrefix(sc.Text(), "PRETTY_NAME="); ok {
			if text, err := strconv.Unquote(value); err == nil {
				return text
			}
			return value
		}
	}
	return ""
}
