package wire

import (
	"container/heap"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"weft/internal/device"
	"weft/link/record"
	"weft/link/wire/lane"
)

// A way carries the frames of one direction from in to out. It belongs to its shard's thread.
type way struct {
	lane    *lane.Lane
	in, out *end
	next    int64 // when the lane is to be asked for frames
	place   int   // in the shard's timers, -1 if not there
	ready   bool  // in may have frames
	streak  int   // frames read since in was empty
	ask     int   // how many frames in is thought to have, at most batchSize
	brimful bool  // in may have been full at some time
}

// Bounds of what is done for one way before others get their turn.
const (
	readBudget  = 64
	writeBudget = 256
)

// together is the least time between two times that a shard wakes for frames that are due.
// Those that are close to each other leave together: what is due meets the clock late by up to
// this time under load, and to the microsecond otherwise.
const together = 40 * time.Microsecond

// tidying is how often a shard lets go of memory that it does not need.
const tidying = time.Second

// A shard is a thread that carries the frames of some wires.
//
//	epoll ─► ready ways ─► read ─► lane.Arrive ┐
//	timerfd ─► timers ─► lane.Depart ─► write ◄┘
type shard struct {
	log   *slog.Logger
	epoll int
	timer int
	bell  int // an eventfd: there is something in the inbox
	start time.Time
	clock int64 // CLOCK_MONOTONIC at start
	armed int64
	pool  *lane.Pool

	ways   map[int32]*way // by in's descriptor
	ready  []*way
	timers timers
	woken  int64 // when frames that were due left last
	tidy   int64 // when to let go of memory
	spin   *spinner

	events  [128]unix.EpollEvent
	iov     [2]unix.Iovec
	scratch []byte
	receipt receipt
	batch   *batch // nil without
	tried   bool   // to have one
	passing [batchSize]*lane.Buffer
	leaving [batchSize]lane.Run

	mu     sync.Mutex
	inbox  []func()
	closed bool
	done   chan struct{}
}

func newShard(log *slog.Logger, budget *lane.Budget) (*shard, error) {
	s := &shard{log: log, epoll: -1, timer: -1, bell: -1, start: time.Now(), armed: lane.Never, tidy: lane.Never,
		pool: lane.NewPool(budget), ways: map[int32]*way{}, scratch: make([]byte, 0, 1024), done: make(chan struct{})}
	err := func() (err error) {
		if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return err
		}
		if s.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
			return err
		}
		if s.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return err
		}
		for _, fd := range []int{s.timer, s.bell} {
			if err := s.watch(fd); err != nil {
				return err
			}
		}
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return err
		}
		s.clock = ts.Nano() - s.now()
		return nil
	}()
	if err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("thread of wires: %w", err)
	}
	go s.run()
	return s, nil
}

func (s *shard) closeFiles() {
	for _, fd := range []int{s.epoll, s.timer, s.bell} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// watch adds a descriptor to those that wake the shard, once for each time that something
// comes.
func (s *shard) watch(fd int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd)}
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &e)
}

// do calls f on the shard's thread and waits for it; false if the shard is closed.
func (s *shard) do(f func()) bool {
	done := make(chan struct{})
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.inbox = append(s.inbox, func() { f(); close(done) })
	s.mu.Unlock()
	one := uint64(1)
	unix.Write(s.bell, (*[8]byte)(unsafe.Pointer(&one))[:])
	<-done
	return true
}

// close ends the thread.
func (s *shard) close() {
	if s.do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
	}) {
		<-s.done
		s.closeFiles()
	}
}

// now is the time of lanes: nanoseconds since the shard began.
func (s *shard) now() int64 { return int64(time.Since(s.start)) }

// run is the shard's thread.
func (s *shard) run() {
	runtime.LockOSThread() // for good: its scheduling is its own
	defer close(s.done)
	prefer(s.log)
	s.spin = newSpinner()
	defer s.spin.close()
	defer s.endBatches()
	for {
		s.read()
		s.depart()
		if s.tidy != lane.Never && s.tidy <= s.now() {
			s.tidy = lane.Never
			if s.pool.Trim() {
				s.tidy = s.now() + int64(tidying)
			}
		}
		if !s.wait() {
			return
		}
	}
}

// read takes frames from the ways that may have some.
func (s *shard) read() {
	kept := s.ready[:0]
	for _, w := range s.ready {
		if w.ready = s.readWay(w); w.ready {
			kept = append(kept, w)
		}
	}
	clear(s.ready[len(kept):])
	s.ready = kept
}

// readWay reports whether there may be more.
func (s *shard) readWay(w *way) (more bool) {
	if w.in.fd < 0 {
		return false
	}
	for n := 0; n < readBudget; {
		var k int
		if ask := min(w.ask, readBudget-n); ask >= leastBatch && s.batches() {
			k, more = s.readBatch(w, ask)
		} else {
			k, more = s.readOne(w)
		}
		n += k
		if !more {
			w.streak = 0
			break
		}
		if w.streak += k; w.streak >= device.QueueLength/2 {
			w.brimful = true
		}
	}
	s.due(w)
	if s.tidy == lane.Never {
		s.tidy = s.now() + int64(tidying)
	}
	return more
}

// A short frame costs as much as the system calls that carry it, a long one what it takes to copy
// it, best while it is in the processor's cache. So where frames are short, a way is asked for
// several at once: for twice as many each time that there were as many.
const (
	shortFrame = 2 << 10
	leastBatch = 4
)

// readOne reads one frame, if there is one.
func (s *shard) readOne(w *way) (n int, more bool) {
	b := s.pool.Scratch()
	space := b.Space()
	size, errno := s.take(w.in, space)
	if errno != 0 {
		// Nothing more, or the device is gone or down.
		w.ask = 1
		return 0, errno == unix.EINTR
	}
	w.ask = min(2*w.ask, batchSize)
	if size > shortFrame {
		w.ask = 1
	}
	if b.Fill(size) {
		if !w.lane.Plain() {
			w.lane.Arrive(s.now(), b)
		} else if w.lane.Pass(b) {
			w.lane.Passed(b, s.write(w, b.Data(), nil))
		}
	}
	return 1, true
}

// take takes one frame from an end.
func (s *shard) take(e *end, space []byte) (n int, errno unix.Errno) {
	if !e.tap {
		return s.receipt.receive(e.fd, space)
	}
	size, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(e.fd), uintptr(unsafe.Pointer(&space[0])), uintptr(len(space)))
	return int(size), errno
}

// readBatch reads up to so many frames at once.
func (s *shard) readBatch(w *way, ask int) (n int, more bool) {
	list := s.pool.Batch(batchSize)[:ask]
	for _, b := range list {
		s.batch.addRead(w.in, b.Space())
	}
	results, err := s.batch.do()
	if err == nil {
		err = s.batch.check(results)
	}
	if err != nil {
		s.log.Debug("wires carry frames one by one", "error", err)
		s.endBatches()
	}
	w.ask = batchSize
	now, passing := s.now(), s.passing[:0]
	for i, b := range list {
		size := int(results[i])
		if size < 0 {
			continue // nothing more, or the device is gone or down
		}
		n++
		if !w.in.tap {
			size = s.batch.receipts[i].complete(b.Space(), size)
		}
		if size > shortFrame {
			w.ask = 1
		}
		switch {
		case !b.Fill(size):
		case !w.lane.Plain():
			w.lane.Arrive(now, b)
		case w.lane.Pass(b):
			passing = append(passing, b)
		}
	}
	s.pass(w, passing)
	if n < ask {
		w.ask = max(1, n)
	}
	return n, n == ask
}

// pass writes frames to which nothing is done.
func (s *shard) pass(w *way, list []*lane.Buffer) {
	if s.batch == nil || w.out.fd < 0 || len(list) < leastBatch {
		for _, b := range list {
			w.lane.Passed(b, s.write(w, b.Data(), nil))
		}
		return
	}
	for _, b := range list {
		s.batch.addWrite(w.out, b.Data())
	}
	results, _ := s.batch.do()
	for i, b := range list {
		w.lane.Passed(b, fate(unix.Errno(max(0, -results[i]))))
	}
}

// batches reports whether frames can be read and written several at once.
func (s *shard) batches() bool {
	if !s.tried {
		s.tried = true
		var err error
		if s.batch, err = newBatch(); err != nil {
			s.batch = nil
			s.log.Debug("wires carry frames one by one", "error", err)
		}
	}
	return s.batch != nil
}

// endBatches lets frames be read and written one by one.
func (s *shard) endBatches() {
	if s.batch == nil {
		return
	}
	for _, w := range s.ways {
		w.in.place, w.out.place = 0, 0
	}
	s.batch.close()
	s.batch = nil
}

// due puts a way where its next frames are due.
func (s *shard) due(w *way) {
	w.next = w.lane.Next()
	switch {
	case w.next == lane.Never:
		if w.place >= 0 {
			heap.Remove(&s.timers, w.place)
		}
	case w.place >= 0:
		heap.Fix(&s.timers, w.place)
	default:
		heap.Push(&s.timers, w)
	}
}

// depart writes the frames that are due.
func (s *shard) depart() {
	now := s.now()
	for len(s.timers) > 0 && s.timers[0].next <= now {
		w := s.timers[0]
		leaving := s.leaving[:0]
		for range writeBudget {
			r, ok := w.lane.Depart(now)
			if !ok {
				break
			}
			if leaving = append(leaving, r); len(leaving) == cap(leaving) {
				s.leave(w, leaving, now)
				leaving = leaving[:0]
			}
		}
		s.leave(w, leaving, now)
		s.woken = now
		s.due(w)
	}
}

// leave writes frames that are due.
func (s *shard) leave(w *way, list []lane.Run, now int64) {
	for len(list) > 0 {
		n := 0 // of those that leave in one piece
		for s.batch != nil && s.batch.works && w.out.fd >= 0 && n < len(list) && list[n].Whole() {
			n++
		}
		if n < leastBatch {
			n = max(1, n)
			for i := range list[:n] {
				head, rest := list[i].Parts(s.scratch)
				w.lane.Done(&list[i], s.write(w, head, rest), now)
			}
		} else {
			for i := range list[:n] {
				head, _ := list[i].Parts(nil)
				s.batch.addWrite(w.out, head)
			}
			results, _ := s.batch.do()
			for i := range list[:n] {
				w.lane.Done(&list[i], fate(unix.Errno(max(0, -results[i]))), now)
			}
		}
		list = list[n:]
	}
}

// write gives a frame to the way's end.
func (s *shard) write(w *way, head, rest []byte) record.Fate {
	if w.out.fd < 0 {
		return record.Down
	}
	var errno unix.Errno
	if len(rest) == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_WRITE, uintptr(w.out.fd), uintptr(unsafe.Pointer(&head[0])), uintptr(len(head)))
	} else {
		s.iov[0].Base, s.iov[1].Base = &head[0], &rest[0]
		s.iov[0].SetLen(len(head))
		s.iov[1].SetLen(len(rest))
		_, _, errno = unix.RawSyscall(unix.SYS_WRITEV, uintptr(w.out.fd), uintptr(unsafe.Pointer(&s.iov)), 2)
	}
	return fate(errno)
}

// fate is that of a frame that was written.
func fate(errno unix.Errno) record.Fate {
	switch errno {
	case 0:
		return record.Delivered
	case unix.ENOMEM, unix.EAGAIN:
		return record.NoMemory
	}
	return record.Down
}

// wait sleeps until there is something to do; false if the shard is closed.
func (s *shard) wait() bool {
	if s.pause() {
		n, _ := unix.EpollWait(s.epoll, s.events[:], -1)
		return s.wake(n)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_WAIT, uintptr(s.epoll), uintptr(unsafe.Pointer(&s.events)), uintptr(len(s.events)), 0, 0, 0)
	if errno != 0 {
		n = 0
	}
	return s.wake(int(n))
}

// pause sets the timer; false if there is no time to sleep.
func (s *shard) pause() bool {
	if len(s.ready) > 0 {
		return false
	}
	at := s.tidy
	if len(s.timers) > 0 {
		at = min(at, max(s.timers[0].next, s.woken+int64(together)))
	}
	if at == lane.Never {
		return true
	}
	now := s.now()
	margin := s.spin.margin(now)
	if at-now <= margin {
		return false
	}
	s.arm(at - margin)
	return true
}

// wake looks at what woke the shard; false if the shard is closed.
func (s *shard) wake(events int) bool {
	for i := range max(events, 0) {
		switch fd := int(s.events[i].Fd); fd {
		case s.timer:
			if s.armed != lane.Never {
				s.spin.woken(s.now() - s.armed)
			}
			s.armed = lane.Never
		case s.bell:
			if !s.empty() {
				return false
			}
		default:
			w := s.ways[int32(fd)]
			if w == nil {
				continue
			}
			if !w.ready {
				w.ready = true
				s.ready = append(s.ready, w)
			}
			if s.events[i].Events&unix.EPOLLOUT != 0 { // in has come up
				w.in.wasUp.Store(true)
				if w.out.noCarrier.Load() {
					go w.out.setCarrier(true) // the kernel's lock may take a while
				}
			}
		}
	}
	return true
}

// arm sets the timer.
func (s *shard) arm(at int64) {
	if at == s.armed {
		return
	}
	s.armed = at
	t := unix.ItimerSpec{Value: unix.NsecToTimespec(at + s.clock)}
	unix.TimerfdSettime(s.timer, unix.TFD_TIMER_ABSTIME, &t, nil)
}

// empty does what is in the inbox; false if the shard is closed.
func (s *shard) empty() bool {
	var n [8]byte
	unix.Read(s.bell, n[:])
	s.mu.Lock()
	list := s.inbox
	s.inbox = nil
	s.mu.Unlock()
	for _, f := range list {
		f()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed
}

// timers is a heap of ways by the time of their next frames.
type timers []*way

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].next < t[j].next }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}
func (t *timers) Push(x any) {
	w := x.(*way)
	w.place = len(*t)
	*t = append(*t, w)
}
func (t *timers) Pop() any {
	last := len(*t) - 1
	w := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	w.place = -1
	return w
}

// remove ends a way.
func (s *shard) remove(w *way) {
	delete(s.ways, int32(w.in.fd))
	if s.batch != nil {
		s.batch.forget(w.in)
		s.batch.forget(w.out)
	}
	if w.in.fd >= 0 {
		unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, w.in.fd, nil)
	}
	if w.place >= 0 {
		heap.Remove(&s.timers, w.place)
	}
	if i := slices.Index(s.ready, w); i >= 0 {
		s.ready = slices.Delete(s.ready, i, i+1)
	}
	w.lane.Close()
}
