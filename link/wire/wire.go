// Package wire makes links whose frames this process carries between a device at each
// end, and impairs them on the way; see package lane for what happens to them there. It
// works on every kernel with TAP devices, and to the microsecond.
//
//	Engine ── a few shards, each a thread with epoll and a timer
//	            └ ways, one for each direction of a wire:
//	              TAP ─► read ─► lane.Lane ─► write ─► TAP
//
// It may import link, link/record, topo, internal/filter and internal/ns.
package wire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weft/internal/device"
	"weft/internal/filter"
	"weft/link"
	"weft/link/record"
	"weft/link/wire/lane"
	"weft/topo"
)

// An Engine carries the frames of wires. Its methods may be called concurrently.
type Engine struct {
	shards []*shard
	stop   chan struct{}
	tun    string // the file that makes TAP devices

	mu        sync.Mutex
	wires     map[*wire]bool
	load      []int      // wires of each shard
	backstage *backstage // made with the first end that is no TAP device
}

// maxShards bounds the threads of an engine.
const maxShards = 4

// NewEngine starts an engine.
func NewEngine(log *slog.Logger) (*Engine, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, err
	}
	// A quarter of the memory.
	budget := lane.NewBudget(int64(info.Totalram) * int64(info.Unit) / 4)
	n := min(runtime.NumCPU(), maxShards)
	// The threads are always ready to run: they need not wait for the others' turn.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
	e := &Engine{wires: map[*wire]bool{}, load: make([]int, n), stop: make(chan struct{}), tun: device.TUN}
	for range n {
		s, err := newShard(log, budget)
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		e.shards = append(e.shards, s)
	}
	go e.carry()
	return e, nil
}

// ErrClosed says that an engine or a wire has been closed.
var ErrClosed = errors.New("the wire is closed")

// Add makes a wire with both ends in place: named, with their MACs and the MTU. An end
// without a namespace is in that of the process, and up; others are for their nodes to take
// up.
func (e *Engine) Add(c link.Config) (link.Shaper, error) {
	w := &wire{engine: e, cfg: c}
	w.mtu.Store(int64(cmp.Or(c.Settings.MTU, link.DefaultMTU)))
	var err error
	for i, end := range []link.End{c.A, c.B} {
		if w.ends[i], err = e.newEnd(end, int(w.mtu.Load())); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	e.mu.Lock()
	if e.wires == nil {
		e.mu.Unlock()
		return nil, errors.Join(ErrClosed, w.Close())
	}
	for i := range e.load {
		if e.load[i] < e.load[w.home] {
			w.home = i
		}
	}
	e.load[w.home]++
	e.wires[w] = true
	w.shard = e.shards[w.home]
	e.mu.Unlock()
	if err := w.start(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close ends all wires and the engine's threads. Devices that are left go with their namespaces.
func (e *Engine) Close() error {
	e.mu.Lock()
	wires := e.wires
	e.wires = nil
	e.mu.Unlock()
	var errs []error
	for w := range wires {
		errs = append(errs, w.end((*end).leave))
	}
	for _, s := range e.shards {
		s.close()
	}
	if wires == nil {
		return errors.Join(errs...)
	}
	close(e.stop)
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - len(e.load))
	if e.backstage != nil {
		errs = append(errs, e.backstage.close())
	}
	return errors.Join(errs...)
}

// A wire is a link between two TAP devices.
type wire struct {
	engine *Engine
	cfg    link.Config
	ends   [2]*end
	ways   [2]*way
	home   int
	shard  *shard
	record *recorder // nil without a record
	mtu    atomic.Int64

	mu     sync.Mutex
	closed bool
}

var _ link.Shaper = (*wire)(nil)

// start lets frames pass.
func (w *wire) start() error {
	seed := rand.Uint64()
	if s := w.cfg.Settings.Seed; s != nil {
		seed = *s
	}
	// Links with the same seed lose different frames.
	h := fnv.New64a()
	h.Write([]byte(cmp.Or(w.cfg.Name, w.cfg.A.Device+" "+w.cfg.B.Device)))
	seed ^= h.Sum64()
	var lanes [2]lane.Config
	for i, impairment := range []topo.Impairment{w.cfg.Settings.AB, w.cfg.Settings.BA} {
		var err error
		if lanes[i], err = w.lane(impairment); err != nil {
			return err
		}
	}
	tell := [2]func(record.Frame){}
	if w.cfg.Record != nil {
		w.record = newRecorder(w.cfg.Record)
		tell = [2]func(record.Frame){w.record.way(0), w.record.way(1)}
	}
	var err error
	ok := w.shard.do(func() {
		now := w.shard.now()
		if w.record != nil {
			w.record.began = time.Duration(now)
		}
		for i := range w.ways {
			out := w.ends[1-i]
			if w.cfg.Return {
				out = w.ends[i]
			}
			y := &way{in: w.ends[i], out: out, place: -1}
			if y.lane, err = lane.New(w.shard.pool, seed+uint64(i), tell[i], now, lanes[i]); err != nil {
				return
			}
			w.ways[i] = y
		}
		for _, y := range w.ways {
			w.shard.ways[int32(y.in.fd)] = y
			if err = w.shard.watch(y.in.fd); err != nil {
				return
			}
		}
	})
	if !ok {
		return ErrClosed
	}
	return err
}

// filterPatience bounds how long it may take to compile a filter.
const filterPatience = 10 * time.Second

// lane returns what a lane needs to know of an impairment.
func (w *wire) lane(i topo.Impairment) (lane.Config, error) {
	c := lane.Config{Impairment: i, MTU: int(w.mtu.Load())}
	if i.DropIf != "" {
		ctx, cancel := context.WithTimeout(context.Background(), filterPatience)
		defer cancel()
		program, err := filter.Ethernet(ctx, i.DropIf, 1)
		if err == nil {
			instructions, _ := bpf.Disassemble(program)
			c.Filter, err = bpf.NewVM(instructions)
		}
		if err != nil {
			return c, fmt.Errorf("drop_if: %w", err)
		}
	}
	if i.Trace != "" {
		if w.cfg.ReadFile == nil {
			return c, fmt.Errorf("trace=%s: there is no such file", i.Trace)
		}
		text, err := w.cfg.ReadFile(i.Trace)
		if err == nil {
			c.Trace, err = lane.ParseTrace(text)
		}
		if err != nil {
			return c, fmt.Errorf("trace=%s: %w", i.Trace, err)
		}
	}
	return c, nil
}

// Set changes what happens to frames that go one way.
func (w *wire) Set(direction int, i topo.Impairment) error {
	cfg, err := w.lane(i)
	if err != nil {
		return err
	}
	ok := w.shard.do(func() {
		y := w.ways[direction]
		if y == nil {
			err = ErrClosed
			return
		}
		err = y.lane.Set(w.shard.now(), cfg)
		w.shard.due(y)
	})
	if !ok {
		return ErrClosed
	}
	return err
}

// SetMTU changes the MTU of both ends.
func (w *wire) SetMTU(mtu int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	for i, e := range w.ends {
		if err := e.setMTU(mtu); err != nil {
			for _, e := range w.ends[:i+1] {
				err = errors.Join(err, e.setMTU(int(w.mtu.Load())))
			}
			return err
		}
	}
	w.mtu.Store(int64(mtu))
	return nil
}

// Counters says what happened to frames since the wire was made. What a device dropped because
// the engine did not take it in time had no room either.
func (w *wire) Counters() (c [2]link.Counters, err error) {
	var brimful [2]bool
	ok := w.shard.do(func() {
		now := w.shard.now()
		for i, y := range w.ways {
			if y == nil {
				err = ErrClosed
				return
			}
			c[i] = y.lane.Counters(now)
			brimful[i] = y.brimful
		}
	})
	if !ok {
		return c, ErrClosed
	}
	for i, x := range w.ends {
		if err != nil || x.tap && !brimful[i] {
			continue
		}
		var dropped uint64
		if dropped, err = x.dropped(); err != nil {
			err = fmt.Errorf("drops of %s: %w", x.Device, err)
		}
		c[i].NoMemory += dropped
	}
	return c, err
}

// Close removes the wire and its devices.
func (w *wire) Close() error { return w.end((*end).close) }

// end stops the wire and does as told with its ends.
func (w *wire) end(with func(*end) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	if w.shard != nil {
		w.shard.do(func() {
			for i, y := range w.ways {
				if y != nil {
					w.shard.remove(y)
				}
				w.ways[i] = nil
			}
		})
		w.engine.mu.Lock()
		w.engine.load[w.home]--
		delete(w.engine.wires, w)
		w.engine.mu.Unlock()
	}
	var errs []error
	for _, e := range w.ends {
		if e != nil {
			errs = append(errs, with(e))
		}
	}
	if w.record != nil {
		errs = append(errs, w.record.close())
	}
	return errors.Join(errs...)
}
