package onvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"weft/dpdkhost"
	"weft/dpdkhost/eal"
	"weft/topo"
)

// A Backend is an OpenNetVM that runs.
type Backend struct {
	config  Config
	ports   []eal.Port // as DPDK numbers them
	manager *eal.Process
	ready   chan struct{} // the manager lets NFs in
	once    sync.Once

	starting sync.Mutex // one NF after the other

	mu        sync.Mutex
	closed    bool
	received  map[int]portLine     // by DPDK's number
	lines     map[int]functionLine // by instance
	printed   map[int]time.Time    // when that was
	functions []*function
}

var _ dpdkhost.Backend = (*Backend)(nil)

// A function is an NF's process and its successors.
type function struct {
	nf       topo.NF
	core     int // as it is now, from 1; 0 for any
	process  *eal.Process
	instance atomic.Int32 // 0 until the manager has given a number
	early    atomic.Bool
}

// Open starts the manager and the NFs, and waits until all are ready.
func Open(ctx context.Context, c Config) (*Backend, error) {
	fail := func(err error) (*Backend, error) { return nil, fmt.Errorf("%s: %w", c.Node, err) }
	if err := c.Validate(); err != nil {
		return fail(err)
	}
	c.Home = cmp.Or(c.Home, os.Getenv("ONVM_HOME"))
	c.Wait = cmp.Or(c.Wait, 30*time.Second)
	program, err := c.manager()
	if err != nil {
		return fail(err)
	}
	if len(c.CPUs) == 0 {
		if c.CPUs, err = eal.OwnCPUs(); err != nil {
			return fail(err)
		}
	}
	if c.HugeDir == "" {
		if c.HugeDir, err = hugeDir(); err != nil {
			return fail(err)
		}
	}
	c.Ports = slices.Clone(c.Ports)
	for k := range c.Ports {
		if p := &c.Ports[k]; cmp.Or(p.Kind, eal.Auto) == eal.Auto {
			p.Kind = eal.Packet
		}
	}
	b := &Backend{config: c, ports: c.order(), ready: make(chan struct{}),
		received: map[int]portLine{}, lines: map[int]functionLine{}, printed: map[int]time.Time{}}
	b.manager, err = eal.Start(eal.Command{
		Name: c.Node + ": onvm_mgr", Argv: append([]string{program}, c.managerArguments()...), Env: b.environment(),
		Dir: "/", Restart: "no", // its NFs would be lost: the node fails as a whole
		Place: c.Place, Log: c.Log, Line: b.read,
		Before: func() error { return eal.Prepare(c.Ports) },
		After:  func() { eal.Clear(c.Ports) },
	})
	if err != nil {
		return nil, err
	}
	if err := b.wait(ctx, "the manager", func() bool {
		select {
		case <-b.ready:
			return true
		default:
			return false
		}
	}); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	for _, f := range c.NFs {
		if _, err := b.Start(ctx, f); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// hugeDir returns where huge pages are mounted.
func hugeDir() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 3 && f[2] == "hugetlbfs" {
			return f[1], nil
		}
	}
	return "", errors.New("OpenNetVM needs huge pages: `weft dpdk hugepages 512`, and `mount -t hugetlbfs nodev /mnt/huge`; manager: weft works without")
}

func (b *Backend) environment() []string {
	return []string{"RUNTIME_DIRECTORY=" + b.config.Dir, "ONVM_HOME=" + b.config.Home}
}

// read takes a line that the manager printed.
func (b *Backend) read(line string) {
	if strings.HasPrefix(line, readyLine) {
		b.once.Do(func() { close(b.ready) })
		return
	}
	p, f := parse(line)
	b.mu.Lock()
	defer b.mu.Unlock()
	if p != nil {
		b.received[p.id] = *p
	}
	if f != nil {
		b.lines[f.instance] = *f
		b.printed[f.instance] = time.Now()
	}
}

// wait waits for something, as long as the manager lives.
func (b *Backend) wait(ctx context.Context, what string, done func() bool) error {
	deadline := time.After(b.config.Wait)
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s: %w", b.config.Node, what, ctx.Err())
		case <-b.manager.Ended():
			return b.ended()
		case <-deadline:
			return fmt.Errorf("%s: %s was not ready within %v; the manager printed last:\n  %s", b.config.Node, what, b.config.Wait, strings.Join(lastWords(b.manager), "\n  "))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func lastWords(p *eal.Process) []string {
	lines := p.Output()
	return lines[max(0, len(lines)-8):]
}

// ended says that the manager has, and why.
func (b *Backend) ended() error {
	return fmt.Errorf("%w: %w", dpdkhost.ErrEnded, cmp.Or(b.manager.Err(), errClosed))
}

var errClosed = errors.New("OpenNetVM was stopped")

// Start implements dpdkhost.Backend. OpenNetVM takes some seconds for each instance.
func (b *Backend) Start(ctx context.Context, f topo.NF) ([]dpdkhost.Instance, error) {
	if err := validateNF(&f); err != nil {
		return nil, fmt.Errorf("%s: %w", b.config.Node, err)
	}
	if f.Core > 0 && !slices.Contains(b.config.CPUs, f.Core-1) {
		return nil, fmt.Errorf("%s: NF %s: core %d: the node's processors are %v, counted from 0", b.config.Node, f.Name, f.Core, b.config.CPUs)
	}
	b.starting.Lock()
	defer b.starting.Unlock()
	var started []*function
	for range max(1, f.Instances) {
		fn, err := b.startOne(ctx, f)
		if err != nil {
			for _, s := range started {
				err = errors.Join(err, b.remove(s, true))
			}
			return nil, err
		}
		started = append(started, fn)
	}
	var list []dpdkhost.Instance
	for _, s := range started {
		list = append(list, b.instance(s))
	}
	return list, nil
}

// startOne starts one instance and waits until the manager counts its packets.
func (b *Backend) startOne(ctx context.Context, f topo.NF) (*function, error) {
	argv, err := b.config.command(&f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.config.Node, err)
	}
	fn := &function{nf: f, core: f.Core}
	name := fmt.Sprintf("%s: NF %s of service %d", b.config.Node, f.Name, f.Service)
	deadline := time.Now().Add(b.config.Wait)
	for {
		fn.early.Store(false)
		fn.instance.Store(0)
		p, err := eal.Start(eal.Command{Name: name, Argv: argv, Env: b.environment(), Dir: "/", Restart: f.Restart, Place: b.config.Place, Log: b.config.Log,
			Line: func(line string) {
				if n, ok := instanceOf(line); ok {
					b.forget(n)
					fn.instance.Store(int32(n))
				}
				if tooEarly(line) {
					fn.early.Store(true)
				}
			}})
		if err != nil {
			return nil, err
		}
		b.mu.Lock()
		fn.process = p
		closed := b.closed
		b.mu.Unlock()
		if closed {
			return nil, errors.Join(b.ended(), p.Stop(true))
		}
		err = b.wait(ctx, "NF "+f.Name, func() bool { return b.counted(fn) || p.Err() != nil })
		if err == nil && p.Err() == nil {
			break
		}
		// It is not tried again by its policy: it never ran.
		err = errors.Join(cmp.Or(err, p.Err()), p.Stop(true))
		if !fn.early.Load() || time.Now().After(deadline) || ctx.Err() != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.functions = append(b.functions, fn)
	return fn, nil
}

// command returns what starts an NF.
func (c *Config) command(f *topo.NF) ([]string, error) {
	args := c.functionArguments(f)
	if f.Command == "" {
		program, err := c.function(f.Name)
		return append([]string{program}, args...), err
	}
	line := f.Command
	text := eal.Quote(args)
	if strings.Contains(line, "{onvm}") {
		line = strings.ReplaceAll(line, "{onvm}", text)
	} else {
		line += " " + text
	}
	return []string{"sh", "-c", "exec " + line}, nil
}

// forget forgets what was known of an instance whose number another one has now.
func (b *Backend) forget(instance int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.lines, instance)
	delete(b.printed, instance)
}

// counted reports whether the manager tells of an NF.
func (b *Backend) counted(fn *function) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.lines[int(fn.instance.Load())]
	return ok
}

// stale is how old the manager's last word of a running NF may be: it prints once a second.
const stale = 5 * time.Second

// instance returns what is known of an NF.
func (b *Backend) instance(fn *function) dpdkhost.Instance {
	i := dpdkhost.Instance{Name: fn.nf.Name, Service: fn.nf.Service, State: "running",
		PID: fn.process.PID(), Restarts: fn.process.Restarts(), ID: int(fn.instance.Load())}
	b.mu.Lock()
	defer b.mu.Unlock()
	i.Core = fn.core
	l, ok := b.lines[i.ID]
	switch {
	case i.PID == 0:
		i.State = "dead"
	case !ok || time.Since(b.printed[i.ID]) > stale:
		i.State = "starting"
	}
	if i.Core == 0 && ok {
		i.Core = l.core + 1 // the manager's choice
	}
	i.Parent = l.parent
	i.Received, i.Sent, i.RxDrops, i.TxDrops = l.received, l.sent, l.rxDrop, l.txDrop
	i.Out, i.ToNF, i.Dropped, i.Next, i.Buffered, i.Wakeups = l.out, l.toNF, l.drop, l.next, l.buffer, l.wakeups
	return i
}

// all returns the NFs.
func (b *Backend) all() []*function {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.functions)
}

// State implements dpdkhost.Backend. What OpenNetVM does not count is 0.
func (b *Backend) State(context.Context) (*dpdkhost.State, error) {
	select {
	case <-b.manager.Ended():
		return nil, b.ended()
	default:
	}
	s := &dpdkhost.State{Manager: topo.ManagerONVM, At: time.Now(), Flows: []dpdkhost.Flow{}, Instances: []dpdkhost.Instance{},
		Chains: []topo.Chain{{Name: topo.DefaultChain, Services: []int{1}}}, Pool: dpdkhost.Pool{Huge: true}}
	if len(b.config.Chains) > 0 {
		s.Chains = b.config.Chains
	}
	for _, fn := range b.all() {
		s.Instances = append(s.Instances, b.instance(fn))
	}
	slices.SortFunc(s.Instances, func(x, y dpdkhost.Instance) int { return x.ID - y.ID })
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, p := range b.ports {
		l := b.received[id]
		s.Ports = append(s.Ports, dpdkhost.Port{Number: p.Number, Name: p.Label(), Kind: string(p.Kind), Received: l.received, Sent: l.tx})
	}
	slices.SortFunc(s.Ports, func(x, y dpdkhost.Port) int { return x.Number - y.Number })
	return s, nil
}

// find returns an NF by the manager's number.
func (b *Backend) find(instance int) (*function, error) {
	var have []int
	for _, fn := range b.all() {
		n := int(fn.instance.Load())
		if n == instance {
			return fn, nil
		}
		have = append(have, n)
	}
	return nil, fmt.Errorf("%s: there is no instance %d: there are %v", b.config.Node, instance, have)
}

// Stop ends an instance: with SIGINT, on which OpenNetVM's NFs say goodbye to their manager, or
// at once, which the manager does not notice.
func (b *Backend) Stop(_ context.Context, instance int, atOnce bool) error {
	fn, err := b.find(instance)
	if err != nil {
		return err
	}
	return b.remove(fn, atOnce)
}

func (b *Backend) remove(fn *function, atOnce bool) error {
	b.mu.Lock()
	b.functions = slices.DeleteFunc(b.functions, func(f *function) bool { return f == fn })
	b.mu.Unlock()
	return fn.process.Stop(atOnce)
}

// Change implements dpdkhost.Backend: an instance can be moved. The manager goes on to believe
// that it is where it was.
func (b *Backend) Change(_ context.Context, c dpdkhost.Change) error {
	if c.Move == nil {
		return fmt.Errorf("%s: change of chains and flows: %w: OpenNetVM's belong to its NFs; use manager: weft", b.config.Node, dpdkhost.ErrUnsupported)
	}
	fn, err := b.find(c.Move.Instance)
	if err != nil {
		return err
	}
	cpus := b.config.CPUs
	if core := c.Move.Core; core != 0 {
		if !slices.Contains(cpus, core-1) {
			return fmt.Errorf("%s: core %d: the node's processors are %v, counted from 0", b.config.Node, core, cpus)
		}
		cpus = []int{core - 1}
	}
	if err := fn.process.Move(cpus); err != nil {
		return fmt.Errorf("%s: move instance %d: %w", b.config.Node, c.Move.Instance, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	fn.core = c.Move.Core
	return nil
}

// Close ends the NFs, then the manager.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	var wait sync.WaitGroup
	list := b.all()
	errs := make([]error, len(list))
	for k, fn := range list {
		wait.Go(func() { errs[k] = b.remove(fn, false) })
	}
	wait.Wait()
	return errors.Join(append(errs, b.manager.Stop(false))...)
}
