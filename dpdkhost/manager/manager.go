// Package manager is weft's zero-copy manager of network functions (NFs). Ports and NFs share
// one packet memory; the manager moves descriptors between them: from a port through the flow
// director into a chain of services, from service to service, and out of a port. It may
// import dpdkhost/shm and internal/vnet.
//
//	          flow director, default chain          chain or verdict
//	port ───► entry ───► service ─► NF ─► dispatch ─► … ─► port
//	                     (hash to one instance)
//
// One thread does all of that, without locks: everything else reaches it as a function that it
// calls between two bursts (Do).
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/shm"
)

// Config says how large a manager is.
type Config struct {
	Frames int // default 32,768, of shm.FrameSize
	Large  int // frames for what TSO leaves in one piece; default 64
	Flows  int // the flow director's room; default 1,048,576
	// Spin is how long the thread looks for work before it sleeps. 0 on a processor that it
	// shares.
	Spin time.Duration
	Log  *slog.Logger
}

// A Manager moves packets. Run it, and call its methods from other goroutines.
type Manager struct {
	config Config
	start  time.Time
	mem    *shm.Memory
	bell   *shm.Bell
	poll   int // epoll
	work   chan func()
	ended  chan struct{}

	ringing sync.Mutex
	deaf    bool // Run has ended

	// What follows belongs to Run's goroutine.
	pool      *Pool
	meta      []meta
	ports     []*entry // by number; nil where there is none
	instances []*Instance
	services  []*service // by number; nil where there is none
	hashed    bool       // a service has several instances: packets need hashes
	chains    map[string]*chain
	byID      []*chain // by meta.chain; a changed chain gets a new place
	standard  *chain   // for packets that no flow is for
	flows     *flowTable
	turns     uint64
	edits     int                 // of the chains
	batch     [ringBurst]shm.Desc // turn's: ports, being interfaces, would have it on the heap
	keys      [burst]Key          // likewise, enter's
	found     [burst]*flowSlot
	waking    []*Instance
	expire    time.Duration
	now       time.Duration
	hooks     Hooks
	current   *Flow      // whose verdict is being done
	entered   uint16     // the port by which the packet of current came into the flow director
	again     []shm.Desc // packets for the flow director once more
	drops     Drops
}

// Drops counts packets that the manager gave up, by cause.
type Drops struct {
	NoFlow     uint64 `json:"noFlow"`     // no flow and no default chain
	NoService  uint64 `json:"noService"`  // the service has no instance
	NoPort     uint64 `json:"noPort"`     // there is no such port
	ChainEnd   uint64 `json:"chainEnd"`   // NEXT at the end of a chain without a port
	NoMemory   uint64 `json:"noMemory"`   // no free frame for a copy
	Loop       uint64 `json:"loop"`       // flows lead from service to service without an end
	Controller uint64 `json:"controller"` // no controller, or it is too slow
}

// meta is what the manager knows of a frame, where no NF can write.
type meta struct {
	place
	hash  uint32 // of the flow; 0 if not known
	stamp uint32 // when it went to an NF, in units of 16 ns; 0 if not measured
}

// A place is where a packet is on its way.
type place struct {
	owner uint16
	chain uint16
	port  uint16 // by which it came
	pos   uint8  // in the chain
	fresh bool   // no packet but an empty frame, for an NF to make one in
}

// The owners of frames. Instances have the numbers from firstInstance.
const (
	ownerPool uint16 = iota
	ownerManager
	ownerPort
	firstInstance
)

// New makes a manager without ports and NFs.
func New(c Config) (*Manager, error) {
	if c.Frames == 0 {
		c.Frames = 32768
	}
	if c.Large == 0 {
		c.Large = 64
	}
	if c.Flows == 0 {
		c.Flows = 1 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	mem, err := shm.NewMemory(c.Frames, c.Large)
	if err != nil {
		return nil, err
	}
	bell, err := shm.NewBell()
	if err != nil {
		return nil, errors.Join(err, mem.Close())
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		_, event := bell.Files()
		err = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, int(event.Fd()), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: bellEvent})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("manager: epoll: %w", err), mem.Close(), bell.Close())
	}
	m := &Manager{
		config: c, start: time.Now(), mem: mem, bell: bell, poll: poll,
		work: make(chan func(), 64), ended: make(chan struct{}),
		meta: make([]meta, c.Frames+c.Large), services: make([]*service, MaxService+1), chains: map[string]*chain{},
		flows: newFlowTable(c.Flows),
	}
	m.pool = newPool(m)
	m.byID = []*chain{{m: m}} // of packets that are on no chain
	return m, nil
}

// Memory returns the packet memory.
func (m *Manager) Memory() *shm.Memory { return m.mem }

// Bell returns the bell that NFs ring.
func (m *Manager) Bell() *shm.Bell { return m.bell }

// Left returns how many frames are free.
func (m *Manager) Left() (small, large int, err error) {
	err = m.Do(func() { small, large = m.pool.Left() })
	return small, large, err
}

// ErrClosed answers calls after Run has ended.
var ErrClosed = errors.New("the NF manager has ended")

// Do calls f on the manager's thread, between two bursts, and waits for it.
func (m *Manager) Do(f func()) error {
	done := make(chan struct{})
	select {
	case m.work <- func() { f(); close(done) }:
	case <-m.ended:
		return ErrClosed
	}
	m.ring()
	select {
	case <-done:
		return nil
	case <-m.ended:
		return ErrClosed
	}
}

// ring wakes Run's thread, unless its bell is gone with it.
func (m *Manager) ring() {
	m.ringing.Lock()
	defer m.ringing.Unlock()
	if !m.deaf {
		m.bell.Ring()
	}
}

// Run moves packets until ctx ends, then closes ports and memory.
func (m *Manager) Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stop := context.AfterFunc(ctx, m.ring)
	defer stop()
	idle := time.Duration(0) // since when there was no work
	for ctx.Err() == nil {
		m.now = time.Since(m.start)
		busy := m.turn()
		select {
		case f := <-m.work:
			f()
			continue
		default:
		}
		if m.now >= m.expire {
			m.expire = m.now + m.expireFlows()
		}
		if busy {
			idle = 0
			continue
		}
		m.wake()
		tick := m.tickFused()
		if m.flush() {
			continue
		}
		if idle == 0 {
			idle = m.now
		}
		if m.now-idle < m.config.Spin {
			continue
		}
		m.sleep(ctx, tick)
		idle = 0
	}
	close(m.ended)
	m.ringing.Lock()
	m.deaf = true
	m.ringing.Unlock()
	var errs []error
	for _, p := range m.ports {
		if p != nil {
			errs = append(errs, p.port.Close())
		}
	}
	for _, i := range m.instances {
		if i != nil && i.rings != nil {
			errs = append(errs, i.rings.Close(), i.guard.close())
		}
	}
	return errors.Join(append(errs, m.mem.Close(), m.bell.Close(), unix.Close(m.poll))...)
}

// bellEvent is how epoll names the bell; ports have 0.
const bellEvent = 1

// sleep waits for a packet, an NF, a command or the next expiry.
func (m *Manager) sleep(ctx context.Context, tick time.Duration) {
	m.bell.Sleep()
	rung := false
	defer func() { m.bell.Awake(rung) }()
	if len(m.work) > 0 || ctx.Err() != nil || slices.ContainsFunc(m.instances, func(i *Instance) bool { return i != nil && i.rings != nil && !i.rings.Transmit.Empty() }) {
		return
	}
	for _, p := range m.ports {
		if p != nil && p.sleeper != nil && p.sleeper.Sleep() {
			return
		}
	}
	timeout := -1
	if m.flows.timed > 0 {
		timeout = max(1, int((m.expire-m.now)/time.Millisecond))
	}
	if tick >= 0 {
		ms := int((tick + time.Millisecond - 1) / time.Millisecond)
		if timeout < 0 || ms < timeout {
			timeout = ms
		}
	}
	var events [16]unix.EpollEvent
	n, _ := unix.EpollWait(m.poll, events[:], timeout) // EINTR: we look for work and come back
	rung = slices.ContainsFunc(events[:max(n, 0)], func(e unix.EpollEvent) bool { return e.Fd == bellEvent })
}

// turn does one round over ports and NFs and reports whether there was any work.
func (m *Manager) turn() bool {
	m.turns++
	busy := false
	batch := m.batch[:]
	for _, p := range m.ports {
		if p == nil {
			continue
		}
		if n := p.port.Receive(batch[:burst], m.pool); n > 0 {
			m.enter(p, batch[:n])
			busy = true
		}
	}
	for _, i := range m.instances {
		if i == nil || i.rings == nil {
			continue
		}
		if n := i.rings.Transmit.Pop(batch); n > 0 {
			m.dispatch(i, batch[:n])
			busy = true
		}
	}
	return m.flush() || busy
}

// ringBurst is how many descriptors are taken from an NF at once.
const ringBurst = 256

// maxRounds bounds how often fused NFs may hand packets to each other in one turn.
const maxRounds = 64

// flush hands what was decided in this turn to NFs and ports. It reports whether there is more
// to do at once.
func (m *Manager) flush() (more bool) {
	for round := 0; round == 0 || more && round < maxRounds; round++ {
		more = len(m.again) > 0
		m.enterAgain()
		for _, i := range m.instances {
			if i != nil && len(i.out) > 0 {
				m.deliver(i)
				more = more || i.fused != nil || len(i.out) > 0 // it may have handed packets on
			}
		}
	}
	for _, p := range m.ports {
		if p != nil && len(p.out) > 0 {
			m.transmit(p)
		}
	}
	return more
}

// wake wakes the NF's process if it sleeps.
func (i *Instance) wake() {
	if i.rings.Receive.Wake() {
		i.stats.Wakeups++
	}
}

// wake wakes the NFs that got packets since the last time: late, so that on a shared processor
// they find many.
func (m *Manager) wake() {
	for _, i := range m.waking {
		i.wake()
		i.waking = false
	}
	m.waking = m.waking[:0]
}
