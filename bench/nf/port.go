package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/port"
	"weft/dpdkhost/shm"
)

// A contender moves packets between two hosts.
type contender struct {
	name  string
	kind  port.Kind
	mode  string
	plain bool          // the hosts have no offloads
	spin  time.Duration // of weft's manager
	nf    string        // a bridge NF: process, fused or none
	vdev  string        // of testpmd, which moves the packets then
	beats string        // the contender to compare with
}

// Where a bridge NF runs.
const (
	inProcess = "process" // of its own
	fused     = "fused"
)

// sendOn is the bridge NF.
func sendOn(batch []nf.Packet) {
	for i := range batch {
		batch[i].Next()
	}
}

// portRates measures ports of the kernel: two hosts, and the manager or testpmd between them, all
// on the same processors.
func portRates(ctx context.Context, b *bench) error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root")
	}
	if _, err := exec.LookPath("dpdk-testpmd"); err != nil {
		return errors.New("this needs DPDK: apt-get install dpdk")
	}
	const afPacket, afXDP, netTAP = "testpmd, af_packet", "testpmd, af_xdp", "testpmd, tap"
	list := chosen([]contender{
		{name: afPacket, kind: port.Packet, plain: true, vdev: "net_af_packet%d,iface=%s"},
		{name: "packet", kind: port.Packet, plain: true, beats: afPacket},
		{name: "packet, spinning", kind: port.Packet, plain: true, spin: time.Hour, beats: afPacket},
		{name: "packet with TSO", kind: port.Packet, beats: afPacket},
		{name: "packet with TSO, bridge NF", kind: port.Packet, nf: inProcess, beats: afPacket},
		{name: "packet with TSO, fused bridge NF, spinning", kind: port.Packet, nf: fused, spin: time.Hour, beats: afPacket},
		{name: netTAP, kind: port.TAP, vdev: "net_tap%d,iface=%s"},
		{name: "tap with TSO", kind: port.TAP, beats: netTAP},
		{name: "tap with TSO, bridge NF", kind: port.TAP, nf: inProcess, beats: netTAP},
		{name: afXDP, kind: port.XDP, plain: true, vdev: "net_af_xdp%d,iface=%s"},
		{name: "xdp", kind: port.XDP, plain: true, beats: afXDP},
		{name: "xdp, generic", kind: port.XDP, mode: "generic", plain: true, beats: afXDP},
		{name: "xdp, spinning", kind: port.XDP, plain: true, spin: time.Hour, beats: afXDP},
		{name: "xdp, bridge NF", kind: port.XDP, plain: true, nf: inProcess, beats: afXDP},
		{name: "xdp, fused bridge NF", kind: port.XDP, plain: true, nf: fused, beats: afXDP},
		{name: "xdp, fused bridge NF, spinning", kind: port.XDP, plain: true, nf: fused, spin: time.Hour, beats: afXDP},
	}, b.match)
	figures := make([][3][]float64, len(list))
	for range b.runs {
		for i, c := range list { // in turn: what disturbs the machine for a while disturbs them all
			got, err := c.measure(ctx, b.length)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			for k := range got {
				figures[i][k] = append(figures[i][k], got[k])
			}
		}
	}
	medians := map[string][3]float64{}
	for i, c := range list {
		medians[c.name] = [3]float64{median(figures[i][0]), median(figures[i][1]), median(figures[i][2])}
	}
	// beside says what part of testpmd's figure is c's.
	beside := func(c contender, figure int) (text string, ratio float64) {
		if c.beats == "" {
			return "", 1
		}
		ratio = medians[c.name][figure] / medians[c.beats][figure]
		return fmt.Sprintf(", %.2f × testpmd", ratio), ratio
	}
	for _, c := range list {
		m := medians[c.name][0]
		aim, met := "", true
		switch {
		case c.nf == "":
		case c.spin > 0:
			aim, met = "≤ 0.03 ms", m <= 0.03e-3
		default:
			aim, met = "≤ 0.1 ms", m <= 0.1e-3
		}
		text, _ := beside(c, 0)
		b.row("ping: "+c.name, fmt.Sprintf("%.3f ms%s", m*1e3, text), aim, met)
	}
	for _, c := range list {
		m := medians[c.name][1]
		aim, met := "", true
		switch {
		case c.vdev != "":
		case c.kind == port.XDP:
			aim, met = "≥ 2.5 Gbit/s", m >= 2.5e9
		case c.kind == port.TAP:
			aim, met = "≥ 10 Gbit/s", m >= 10e9
		}
		text, _ := beside(c, 1)
		b.row("TCP: "+c.name, fmt.Sprintf("%.2f Gbit/s%s", m/1e9, text), aim, met)
	}
	for _, c := range list {
		if !c.plain {
			continue
		}
		aim, met := "", true
		text, ratio := beside(c, 2)
		if c.name == string(c.kind) { // as testpmd, but asleep when there is nothing to do
			aim, met = "≥ 0.9 × testpmd", ratio >= 0.9
		}
		b.row("64 B: "+c.name, fmt.Sprintf("%.2f Mpps%s", medians[c.name][2]/1e6, text), aim, met)
	}
	return nil
}

// chosen returns the contenders whose names contain a text, and those that they are compared with.
func chosen(all []contender, match string) []contender {
	return slices.DeleteFunc(slices.Clone(all), func(c contender) bool {
		return !slices.ContainsFunc(all, func(o contender) bool {
			return strings.Contains(o.name, match) && (o.name == c.name || o.beats == c.name)
		})
	})
}

// measure measures ping, TCP and the rate.
func (c contender) measure(ctx context.Context, length time.Duration) (f [3]float64, err error) {
	bed, err := newBed(c.kind == port.TAP, c.plain)
	if err != nil {
		return f, err
	}
	defer bed.close()
	var stop func() error
	if c.vdev != "" {
		stop, err = c.testpmd(ctx, bed)
	} else {
		stop, err = c.weft(ctx, bed)
	}
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := bed.configure(); err != nil {
		return f, err
	}
	if err := bed.reach(ctx); err != nil {
		return f, err
	}
	if f[0], err = bed.ping(ctx, length); err != nil {
		return f, err
	}
	if f[1], err = bed.tcp(length); err != nil {
		return f, err
	}
	if c.plain { // others would carry many packets as one
		f[2], err = bed.flood(length)
	}
	return f, err
}

// testpmd starts DPDK's testpmd on the node's interfaces.
func (c contender) testpmd(ctx context.Context, bed *bed) (stop func() error, err error) {
	dir, err := os.MkdirTemp("", "bench-port-")
	if err != nil {
		return nil, err
	}
	args := []string{"--no-huge", "-m", "256", "--no-pci", "--file-prefix", "bench", "--lcores", "0@(0,1),1@(0,1)"}
	for i, name := range bed.node {
		args = append(args, "--vdev", fmt.Sprintf(c.vdev, i, name))
	}
	args = append(args, "--", "--forward-mode=io", "--no-mlockall", "--total-num-mbufs=32768", "--auto-start", "--disable-link-check")
	cmd := exec.CommandContext(ctx, "stdbuf", append([]string{"-oL", "dpdk-testpmd"}, args...)...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+dir)
	log, err := os.Create(dir + "/log")
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	// Its main thread waits for a key there: with --stats-period it would spin beside the other.
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := bed.place.Do(cmd.Start); err != nil {
		return nil, err
	}
	bed.log = log.Name()
	stop = func() error {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
		return os.RemoveAll(dir)
	}
	if err := bed.logged(ctx, "Press enter to exit"); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// weft starts the manager.
func (c contender) weft(ctx context.Context, bed *bed) (stop func() error, err error) {
	m, err := manager.New(manager.Config{Spin: c.spin})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	var process *exec.Cmd
	stop = func() error {
		if process != nil {
			process.Process.Kill()
			process.Wait()
		}
		cancel()
		return <-ended
	}
	opener := port.NewOpener(m)
	for i, name := range bed.node {
		err = errors.Join(err, bed.place.Do(func() error {
			p, _, err := opener.Open(port.Config{Kind: c.kind, Mode: c.mode, Device: name})
			if err != nil {
				return err
			}
			return m.AddPort(uint16(i+1), name, p)
		}))
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	switch c.nf {
	case inProcess:
		process, err = startBridge(m, manager.Instance{Service: 1}, false)
	case fused:
		_, err = m.AttachFused(manager.Instance{Service: 1}, nf.Handler(sendOn))
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	for i := range uint16(2) {
		chain := manager.Chain{Name: fmt.Sprint("to", i), Out: 2 - i}
		if c.nf != "" {
			chain.Services = []uint16{1}
		}
		from := manager.Match{Key: manager.Key{7: uint64(i + 1)}, Mask: manager.Key{7: 0xffff}} // input port
		err = errors.Join(err, m.SetChain(chain), m.AddFlow(manager.Flow{Match: from, Verdict: manager.Verdict{Chain: chain.Name}}))
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// bridgeCommand makes this program an NF that sends each packet on.
const bridgeCommand = "bridge-nf"

func startBridge(m *manager.Manager, i manager.Instance, spin bool) (*exec.Cmd, error) {
	_, rings, mem, err := m.Attach(i, 0)
	if err != nil {
		return nil, err
	}
	small, large := mem.Frames()
	word, event := m.Bell().Files()
	cmd := exec.Command("/proc/self/exe", bridgeCommand, fmt.Sprint(small), fmt.Sprint(large), fmt.Sprint(spin))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.ExtraFiles = []*os.File{mem.File(), rings.File(), word, event}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd, cmd.Start()
}

// bridge is the NF: files 3 to 6 are memory, rings and bell. With a processor of its own it spins.
func bridge(small, large int, spin bool) error {
	file := func(n uintptr) *os.File { return os.NewFile(n, fmt.Sprint("fd", n)) }
	mem, err := shm.OpenMemory(file(3), small, large, false)
	if err != nil {
		return err
	}
	rings, err := shm.OpenPair(file(4))
	if err != nil {
		return err
	}
	bell, err := shm.OpenBell(file(5), file(6))
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	e := &nf.Edge{Memory: mem, Rings: rings, Bell: bell}
	for {
		if e.Turn(nf.Handler(sendOn)) == 0 && !spin {
			bell.Ring()
			rings.Receive.Wait(-1, nil)
		}
	}
}
