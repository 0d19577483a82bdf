package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/memif"
	"weft/dpdkhost/shm"
)

// memifRates measures packets of 64 bytes that go round between the manager and DPDK's testpmd
// over memif, each on a processor of its own.
func memifRates(ctx context.Context, b *bench) error {
	if _, err := exec.LookPath("dpdk-testpmd"); err != nil {
		return fmt.Errorf("this needs DPDK: apt-get install dpdk")
	}
	for _, c := range []struct {
		what   string
		config memif.Config
		peer   string
	}{
		{"memif, client without copies", memif.Config{}, "server"},
		{"memif, client that copies", memif.Config{Copy: true}, "server"},
		{"memif, server", memif.Config{Server: true}, "client"},
	} {
		var rates []float64
		for range b.runs {
			r, err := memifRate(ctx, c.config, c.peer, b.length)
			if err != nil {
				return fmt.Errorf("%s: %w", c.what, err)
			}
			rates = append(rates, r)
		}
		m := median(rates)
		b.row(c.what+" ↔ testpmd", fmt.Sprintf("%.1f Mpps", m/1e6), "≥ 10 Mpps", m >= 10e6)
	}
	return nil
}

// A countedPort counts what comes in.
type countedPort struct {
	*memif.Port
	received atomic.Uint64
}

func (c *countedPort) Receive(into []shm.Desc, pool *manager.Pool) int {
	n := c.Port.Receive(into, pool)
	if n > 0 {
		c.received.Add(uint64(n))
	}
	return n
}

// memifRate returns packets per second through the manager.
func memifRate(ctx context.Context, c memif.Config, peer string, length time.Duration) (float64, error) {
	dir, err := os.MkdirTemp("", "bench-memif-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	c.Socket = filepath.Join(dir, "memif")

	m, err := manager.New(manager.Config{Spin: time.Millisecond})
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	defer func() { stop(); <-ended }()
	if err := m.Do(func() { pin(0) }); err != nil {
		return 0, err
	}
	p, err := memif.Open(c, m.Memory())
	if err != nil {
		return 0, err
	}
	port := &countedPort{Port: p}
	if err := m.AddPort(1, "memif", port); err != nil {
		return 0, err
	}
	if err := m.SetChain(manager.Chain{Name: manager.DefaultChain, Out: 1}); err != nil {
		return 0, err
	}

	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "dpdk-testpmd", "--no-huge", "-m", "128", "--no-pci", "--file-prefix", "bench",
		"--lcores", "0@0,1@1", "--vdev", fmt.Sprintf("net_memif0,socket=%s,socket-abstract=no,role=%s", c.Socket, peer),
		"--", "--forward-mode=io", "--no-mlockall", "--total-num-mbufs=16384", "--burst=64", "--no-flush-rx", "--interactive")
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = &out, &out
	// Commands from a pipe: with --stats-period its main thread would spin, on our processor.
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	io.WriteString(in, "start\n")
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for deadline := time.Now().Add(10 * time.Second); port.Peer() == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return 0, fmt.Errorf("testpmd did not connect within 10 s:\n%s", out.String())
		}
	}
	// What is sent before testpmd forwards is lost: until packets go round, more of them.
	src := &source{}
	if err := m.AddPort(2, "source", src); err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(10 * time.Second); port.received.Load() < 10000; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("no packets go round:\n%s", out.String())
		}
		if err := m.Do(func() { src.left = 512 }); err != nil {
			return 0, err
		}
	}
	before, start := port.received.Load(), time.Now()
	time.Sleep(length)
	return float64(port.received.Load()-before) / time.Since(start).Seconds(), nil
}

// A source is a port that has so many packets left.
type source struct{ left int }

func (s *source) Receive(into []shm.Desc, pool *manager.Pool) int {
	n := min(s.left, len(into))
	for k := range into[:n] {
		frame, ok := pool.Get(64)
		if !ok {
			return k
		}
		into[k] = shm.Desc{Frame: frame, Length: 64, Offset: shm.Headroom}
		copy(pool.Memory().Packet(&into[k]), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	}
	s.left -= n
	return n
}

func (s *source) Send([]shm.Desc, *manager.Pool) int { return 0 }
func (s *source) FD() int                            { return -1 }
func (s *source) Close() error                       { return nil }

// pin puts the calling thread on one processor.
func pin(cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	unix.SchedSetaffinity(0, &set)
}
