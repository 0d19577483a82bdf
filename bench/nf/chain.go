package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

// A chainCase is packets of 64 bytes that go round through NFs, all on one processor, or the NFs
// apart on the second, where both spin.
type chainCase struct {
	flight int  // packets under way
	nfs    int  // in the chain
	fused  bool // in the manager's process
	apart  bool
	flows  int // in the flow director, and of the packets
	aim    float64
	beside string // figures of the design's prototype, which had no pool, validation or statistics
}

// chainRates measures chains. Rates are packets for each second of the processor's time that the
// manager and its NFs used: what they have on a quiet machine, and nearly so beside others.
func chainRates(ctx context.Context, b *bench) error {
	for _, c := range []chainCase{
		{flight: 16000, nfs: 1, flows: 64, aim: 40, beside: "61"}, {flight: 16000, nfs: 2, flows: 64, aim: 28, beside: "43.5"},
		{flight: 16000, nfs: 3, flows: 64, aim: 18, beside: "27.6"}, {flight: 16000, nfs: 4, flows: 64, aim: 15, beside: "22.8"},
		{flight: 16000, nfs: 1, fused: true, flows: 64, aim: 100, beside: "172"}, {flight: 16000, nfs: 4, fused: true, flows: 64, beside: "90"},
		{flight: 128, nfs: 2, flows: 64, aim: 5},
		{flight: 1, nfs: 1, flows: 64, apart: true},
	} {
		where := "processes"
		if c.fused {
			where = "fused"
		}
		what := fmt.Sprintf("chain of %d %s, %d in flight", c.nfs, where, c.flight)
		var rates, hops []float64
		for range b.runs {
			r, err := runChain(ctx, c, b.length)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			rates, hops = append(rates, r.rate), append(hops, float64(r.hop)/1e3)
		}
		if c.apart {
			p50 := median(hops)
			b.row("hop to an NF on a processor of its own, p50", fmt.Sprintf("%.2f µs", p50), "≤ 1 µs", p50 <= 1)
			continue
		}
		m, aim, measured := median(rates), "", fmt.Sprintf("%.1f Mpps", median(rates)/1e6)
		if c.aim > 0 {
			aim = fmt.Sprintf("≥ %.0f Mpps", c.aim)
		}
		if c.beside != "" {
			measured += " (prototype " + c.beside + ")"
		}
		b.row(what, measured, aim, m >= c.aim*1e6)
		if c.flight == 128 {
			b.row("  a hop of it, p50", fmt.Sprintf("%.1f µs", median(hops)), "", true)
		}
	}
	return nil
}

// flowRate measures the flow director: what a packet costs more with a million flows than with
// none.
func flowRate(ctx context.Context, b *bench) error {
	const million = 1_000_000
	var costs []float64
	for range b.runs {
		without, err := runChain(ctx, chainCase{flight: 16000, flows: 0}, b.length)
		if err != nil {
			return err
		}
		with, err := runChain(ctx, chainCase{flight: 16000, flows: million}, b.length)
		if err != nil {
			return err
		}
		costs = append(costs, 1e9/with.rate-1e9/without.rate)
	}
	m := median(costs)
	b.row("flow director, 1,000,000 flows", fmt.Sprintf("%.0f ns a packet", m), "≤ 60 ns", m <= 60)
	return nil
}

type chainResult struct {
	rate float64       // packets a second
	hop  time.Duration // median of a hop
}

// runChain lets packets go round.
func runChain(ctx context.Context, c chainCase, length time.Duration) (r chainResult, err error) {
	config := manager.Config{Frames: 32768}
	if c.apart {
		config.Spin = time.Hour
	}
	m, err := manager.New(config)
	if err != nil {
		return r, err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	if err := m.Do(func() { pin(0) }); err != nil {
		return r, err
	}
	chain := manager.Chain{Name: manager.DefaultChain, Out: 1}
	var processes []*exec.Cmd
	for k := range c.nfs {
		i := manager.Instance{Service: uint16(k + 1), Shared: !c.apart}
		chain.Services = append(chain.Services, i.Service)
		if c.fused {
			if _, err := m.AttachFused(i, nf.Handler(sendOn)); err != nil {
				return r, err
			}
			continue
		}
		cmd, err := startBridge(m, i, c.apart)
		if err != nil {
			return r, err
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		var one unix.CPUSet
		if c.apart {
			one.Set(1)
		} else {
			one.Set(0)
		}
		if err := unix.SchedSetaffinity(cmd.Process.Pid, &one); err != nil {
			return r, err
		}
		processes = append(processes, cmd)
	}
	if err := m.SetChain(chain); err != nil {
		return r, err
	}
	if err := fillDirector(m, c.flows); err != nil {
		return r, err
	}
	ring := &carousel{flight: c.flight, flows: c.flows}
	if ring.flows == 0 || ring.flows > c.flight {
		ring.random = rand.New(rand.NewPCG(1, 2)) // other addresses each time; without flows for comparison
		ring.flows = 1_000_000
	}
	if err := m.AddPort(1, "carousel", ring); err != nil {
		return r, err
	}
	pause(ctx, 200*time.Millisecond)
	var used [2]time.Duration
	var passed [2]uint64
	for k := range used {
		if k == 1 {
			pause(ctx, length)
		}
		err := m.Do(func() {
			used[k] = cpuTime(unix.CLOCK_THREAD_CPUTIME_ID)
			passed[k] = ring.passed
		})
		if err != nil {
			return r, err
		}
		for _, p := range processes {
			used[k] += cpuTime(int32(^p.Process.Pid<<3 | 2)) // clock_getcpuclockid(3)
		}
	}
	if passed[1] == passed[0] {
		return r, errors.New("no packet passed")
	}
	r.rate = float64(passed[1]-passed[0]) / (used[1] - used[0]).Seconds()
	snap, err := m.Snapshot()
	if err == nil && len(snap.Instances) > 0 {
		r.hop = snap.Instances[0].P50
	}
	return r, err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func cpuTime(clock int32) time.Duration {
	var t unix.Timespec
	unix.ClockGettime(clock, &t) // of a process that has ended: 0, and its rate is none
	return time.Duration(t.Nano())
}

// fillDirector adds flows by 5-tuple.
func fillDirector(m *manager.Manager, n int) error {
	list := make([]manager.Flow, 0, n)
	exact := net.CIDRMask(32, 32)
	for k := range n {
		var match manager.Match
		match.Is(manager.EthType, 0x0800)
		match.Is(manager.IPProto, 17)
		match.SetAddress(manager.IPSrc, binary.BigEndian.AppendUint32(nil, uint32(k)), exact)
		match.SetAddress(manager.IPDst, net.IPv4zero.To4(), exact)
		match.Is(manager.SrcPort, 0)
		match.Is(manager.DstPort, 0)
		list = append(list, manager.Flow{Match: match, Priority: 1, Verdict: manager.Verdict{Chain: manager.DefaultChain}})
	}
	return m.AddFlows(list...)
}

// A carousel is a port that receives what it sends.
type carousel struct {
	flight, flows int
	random        *rand.Rand // of addresses; nil to leave packets as they are
	ready, next   []shm.Desc
	at            int // of ready
	passed        uint64
}

func (c *carousel) Receive(into []shm.Desc, pool *manager.Pool) int {
	for ; c.flight > 0; c.flight-- {
		frame, ok := pool.Get(64)
		if !ok {
			break
		}
		d := shm.Desc{Frame: frame, Offset: shm.Headroom, Length: 64}
		p := pool.Memory().Packet(&d)
		binary.BigEndian.PutUint16(p[12:], 0x0800)
		p[14], p[23] = 0x45, 17
		binary.BigEndian.PutUint32(p[26:], uint32(c.flight%c.flows))
		c.next = append(c.next, d)
	}
	if c.at == len(c.ready) {
		c.ready, c.next, c.at = c.next, c.ready[:0], 0
	}
	n := copy(into, c.ready[c.at:])
	c.at += n
	if c.random != nil {
		for i := range into[:n] {
			binary.BigEndian.PutUint32(pool.Memory().Packet(&into[i])[26:], c.random.Uint32N(uint32(c.flows)))
		}
	}
	return n
}

func (c *carousel) Send(list []shm.Desc, _ *manager.Pool) int {
	c.next = append(c.next, list...)
	c.passed += uint64(len(list))
	return len(list)
}

func (c *carousel) FD() int      { return -1 }
func (c *carousel) Close() error { return nil }
