package timing

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Counters are what the kernel counts since it started; below 0 where it does not.
type Counters struct {
	Waiting   time.Duration // some task waited for a CPU
	Throttled time.Duration // of this process' control group
	Steal     time.Duration // of all CPUs
	All       time.Duration // of all CPUs
}

// A reader reads Counters.
type reader struct {
	pressure, stat, group string
}

func newReader() *reader {
	return &reader{pressure: "/proc/pressure/cpu", stat: "/proc/stat", group: groupFile("/proc/self/cgroup", "/sys/fs/cgroup")}
}

// groupFile returns the cpu.stat of the control group that limits this process, or "".
func groupFile(self, root string) string {
	text, err := os.ReadFile(self)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		// "0::/path" of version 2, "5:cpu,cpuacct:/path" of version 1 (cgroups(7)).
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var dirs []string
		if f[0] == "0" && f[1] == "" {
			dirs = []string{root, filepath.Join(root, "unified")}
		}
		for _, controller := range strings.Split(f[1], ",") {
			if controller == "cpu" {
				dirs = append(dirs, filepath.Join(root, f[1]), filepath.Join(root, "cpu"))
			}
		}
		for _, d := range dirs {
			// In a container the path is of the host's, and the group is mounted at the root.
			for _, path := range []string{filepath.Join(d, f[2], "cpu.stat"), filepath.Join(d, "cpu.stat")} {
				if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte("throttled")) {
					return path
				}
			}
		}
	}
	return ""
}

// read reads what there is.
func (r *reader) read() Counters {
	c := Counters{Waiting: -1, Throttled: -1, Steal: -1}
	if text, err := os.ReadFile(r.pressure); err == nil {
		c.Waiting = parsePressure(string(text))
	}
	if text, err := os.ReadFile(r.group); err == nil {
		c.Throttled = parseThrottled(string(text))
	}
	if text, err := os.ReadFile(r.stat); err == nil {
		c.Steal, c.All = parseStat(string(text))
	}
	return c
}

// parsePressure reads "some avg10=… total=MICROSECONDS" (Documentation/accounting/psi.rst).
func parsePressure(text string) time.Duration {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "some ") {
			continue
		}
		if _, total, ok := strings.Cut(strings.TrimSpace(line), "total="); ok {
			if n, err := strconv.ParseInt(total, 10, 64); err == nil {
				return time.Duration(n) * time.Microsecond
			}
		}
	}
	return -1
}

// parseThrottled reads throttled_usec of version 2, throttled_time (ns) of version 1.
func parseThrottled(text string) time.Duration {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "throttled_usec":
			return time.Duration(n) * time.Microsecond
		case name == "throttled_time":
			return time.Duration(n)
		}
	}
	return -1
}

// tick is the unit of /proc/stat: USER_HZ, which is 100 everywhere.
const tick = 10 * time.Millisecond

// parseStat reads the first line of /proc/stat: user nice system idle iowait irq softirq steal
// guest guest_nice, of which the last two are in the first two already.
func parseStat(text string) (steal, all time.Duration) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return -1, 0
	}
	for i, v := range f[1:9] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return -1, 0
		}
		all += time.Duration(n) * tick
		if i == 7 {
			steal = time.Duration(n) * tick
		}
	}
	return steal, all
}
