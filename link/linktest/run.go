package linktest

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"weft/topo"
)

// Run tests a driver. What it does not support is skipped.
func Run(t *testing.T, add func(*testing.T) Adder) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Adder)
	}{
		{"plain", plain},
		{"delay", delay},
		{"jitter", jitter},
		{"order", order},
		{"reorder", reorder},
		{"slot", slot},
		{"loss", loss},
		{"bursts", bursts},
		{"duplicate", duplicate},
		{"corrupt", corrupt},
		{"segments", segments},
		{"stream", stream},
		{"datagrams", datagrams},
		{"rate", rate},
		{"queue", queue},
		{"unpushed", unpushed},
		{"tcp", tcp},
		{"aqm", aqm},
		{"fair", fair},
		{"ecn", ecn},
		{"change", change},
		{"mtu", mtu},
		{"down", down},
		{"return", comeBack},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			c.test(t, add(t))
		})
	}
}

// Rootless runs the tests that a pattern names (-test.run) without privileges, where a driver works in
// a user namespace.
func Rootless(t *testing.T, pattern string) {
	t.Helper()
	if os.Getenv(inside) == insideUser || os.Getuid() != 0 {
		t.Skip("the tests run without privileges as it is")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", pattern, "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "--- PASS: TestLinks") {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
}

// try changes the link, or skips the test if the driver cannot.
func (l *Lab) try(t *testing.T, options ...string) {
	t.Helper()
	var s topo.LinkSettings
	must(t, s.Set(options...))
	for i, impairment := range []topo.Impairment{s.AB, s.BA} {
		err := l.Link.Set(i, impairment)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		must(t, err)
	}
}

// Machines that share their processors are late at times: what is compared is the least and the
// median, and only loosely from above.
const late = 30 * time.Millisecond

// clockError is how much earlier a frame may seem to arrive than it did.
const clockError = 20 * time.Microsecond

// near reports whether n of total events are what a probability makes plausible: 5 standard
// deviations, once in 1.7 million tests. Events that come in bursts deviate more.
func near(t *testing.T, what string, n, total int, p, burst float64) {
	t.Helper()
	mean := p * float64(total)
	if d := math.Abs(float64(n) - mean); d > 5*math.Sqrt(mean*(1-p)*(2*burst-1))+1 {
		t.Errorf("%s: %d of %d; want about %.0f", what, n, total, mean)
	}
}

// sendMany sends frames as fast as the link takes them.
func sendMany(t *testing.T, l *Lab, s *sender, host, n, length int) {
	t.Helper()
	sent := l.Pace(t, host)
	for range n {
		s.send(t, host, length)
		sent()
	}
}

// sendPaced sends frames a millisecond apart.
func sendPaced(t *testing.T, s *sender, host, n int) {
	t.Helper()
	start := time.Now()
	for i := range n {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Millisecond)))
		s.send(t, host, 100)
	}
}

func text(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
