package memif

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testpmd starts DPDK's test program, which sends back what it receives on a memif.
func testpmd(t testing.TB, vdev string, args ...string) (stop func()) {
	t.Helper()
	program, err := exec.LookPath("dpdk-testpmd")
	if err != nil {
		t.Skip("there is no dpdk-testpmd: apt-get install dpdk")
	}
	dir := t.TempDir()
	args = append([]string{"--no-huge", "-m", "64", "--no-pci", "--file-prefix", "weft", "--lcores", lcores(t),
		"--vdev", vdev, "--", "--forward-mode=io", "--no-mlockall", "--total-num-mbufs=8192", "--interactive"}, args...)
	cmd := exec.Command(program, args...)
	cmd.Env = append(cmd.Environ(), "RUNTIME_DIRECTORY="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "start\n")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		if cmd.ProcessState != nil {
			return
		}
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s\n%s", strings.Join(cmd.Args, " "), out.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

// lcores names two lcores that may run on all processors that we may.
func lcores(t testing.TB) string {
	t.Helper()
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Fatal(err)
	}
	var list []string
	for cpu := range 128 { // DPDK's RTE_MAX_LCORE
		if mine.IsSet(cpu) {
			list = append(list, strconv.Itoa(cpu))
		}
	}
	set := "(" + strings.Join(list, ",") + ")"
	return "0@" + set + ",1@" + set
}

// DPDK's own memif, in either role: packets go there and back unchanged; after it dies,
// another takes its place and no frame is lost.
func TestTestpmd(t *testing.T) {
	for name, c := range map[string]struct {
		ours   Config
		theirs string
	}{
		"server":      {Config{Server: true, ID: 3, Secret: "xyzzy"}, "role=client,id=3,secret=xyzzy"},
		"client":      {Config{}, "role=server"},
		"client-copy": {Config{Copy: true, RingSize: 512}, "role=server"},
	} {
		t.Run(name, func(t *testing.T) {
			c.ours.Socket = filepath.Join(t.TempDir(), "memif")
			var n *node
			if c.ours.Server {
				n = newNode(t, c.ours)
			}
			for round := range 2 {
				stop := testpmd(t, fmt.Sprintf("net_memif0,socket=%s,socket-abstract=no,%s", c.ours.Socket, c.theirs))
				if n == nil {
					n = newNode(t, c.ours)
				}
				connected(t, n, n)
				if peer := n.port.Peer(); !strings.HasPrefix(peer, "DPDK ") {
					t.Errorf("the peer is %q", peer)
				}
				for i := range 600 {
					want := packet(sizes[i%7], byte(i)) // testpmd's buffers chain up to that
					n.put(want)
					select {
					case got := <-n.out:
						if !bytes.Equal(got, want) {
							t.Fatalf("packet %d of %d bytes came back with %d bytes and others", i, len(want), len(got))
						}
					case <-time.After(10 * time.Second):
						t.Fatalf("round %d: packet %d of %d bytes did not come back", round, i, len(want))
					}
				}
				stop()
				if !c.ours.Server {
					os.Remove(c.ours.Socket) // DPDK takes no path that a dead one left
				}
				until(t, "the end noticed", func() bool { return n.port.Peer() == "" })
				until(t, "frames back", func() bool { return n.free(t) == n.total })
			}
		})
	}
}
