package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Direction is one of the two ways through a Relay.
type Direction int

// The directions.
const (
	ToController Direction = iota // what the switch says
	ToSwitch                      // what the controller says
)

// towards returns the direction of what a side says.
func towards(from side) Direction { return Direction(from) }

// A Shape is what a Relay does to the messages of one direction, whose order it keeps.
// The zero Shape does nothing.
type Shape struct {
	// Delay is how long each message is held, one way. It varies evenly by up to
	// Jitter in either direction.
	Delay  time.Duration `json:"delayNs,omitempty"`
	Jitter time.Duration `json:"jitterNs,omitempty"`
	// Rate is in bit/s of OpenFlow, without the headers of TCP and below; 0 is no
	// limit.
	Rate uint64 `json:"rate,omitempty"`
}

// The limits of a Shape.
const (
	maxDelay = time.Minute
	minRate  = 1000 // bit/s
)

// check says what is wrong with s.
func (s Shape) check() error {
	switch {
	case s.Delay < 0 || s.Jitter < 0:
		return fmt.Errorf("a delay or jitter below zero")
	case s.Delay+s.Jitter > maxDelay:
		return fmt.Errorf("a delay of %v: at most %v can be held, with the jitter", s.Delay+s.Jitter, maxDelay)
	case s.Rate != 0 && s.Rate < minRate:
		return fmt.Errorf("a rate of %d bit/s: it must be at least %d", s.Rate, minRate)
	}
	return nil
}

// Traffic is what goes one way through a Relay.
type Traffic struct {
	Shape
	// Messages and Bytes have been passed on since the relay started.
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	// Held is how many bytes wait for their time.
	Held int64 `json:"held,omitempty"`
}

// SetShape says what is done to the messages of a direction from now on. The zero Shape
// also lets go of those that are held.
func (r *Relay) SetShape(d Direction, s Shape) error {
	if err := s.check(); err != nil {
		return err
	}
	l := &r.lanes[d]
	if s == (Shape{}) {
		l.shape.Store(nil)
	} else {
		l.shape.Store(&s)
	}
	if now := l.line.Load(); now != nil {
		signal(now.wake)
	}
	return nil
}

// Traffic returns what goes in a direction.
func (r *Relay) Traffic(d Direction) Traffic {
	l := &r.lanes[d]
	t := Traffic{Messages: l.messages.Load(), Bytes: l.bytes.Load(), Held: l.held.Load()}
	if s := l.shape.Load(); s != nil {
		t.Shape = *s
	}
	return t
}

// A lane is a direction of a relay, for all its sessions.
type lane struct {
	shape           atomic.Pointer[Shape] // nil: nothing is done
	line            atomic.Pointer[line]  // of the current session
	messages, bytes atomic.Uint64         // passed on
	held            atomic.Int64          // bytes
}

// A parcel is some messages, one after the other, and how many they are.
type parcel struct {
	Batch
	count int
}

// maxLine bounds the bytes that a line holds, but for the last message: more is left
// unread, as a full TCP window would.
const maxLine = 4 << 20

// A line carries what one side says in a session. Without a Shape it passes messages on
// at once, in the goroutine of who sends; with one, a goroutine of its own does it when
// their time has come.
type line struct {
	lane *lane
	pass func(parcel) error
	// broken is called when pass has failed in the line's goroutine.
	broken func()
	wake   chan struct{} // has room for one: something for the goroutine to do
	room   chan struct{} // has room for one: it has done something
	cancel func()
	done   <-chan struct{} // closed by cancel and the session's end
	begin  sync.Once
	ended  sync.WaitGroup

	mu         sync.Mutex
	queue      []heldMessage
	bytes      int
	passing    bool
	err        error
	last, free time.Time // when the last message is due, and has been sent at the rate
}

type heldMessage struct {
	due  time.Time
	data Message
}

func newLine(ctx context.Context, l *lane, pass func(parcel) error, broken func()) *line {
	ctx, cancel := context.WithCancel(ctx)
	n := &line{lane: l, pass: pass, broken: broken, cancel: cancel, done: ctx.Done(),
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	l.line.Store(n)
	return n
}

// close drops what is held. pass must not block any more.
func (l *line) close() {
	l.cancel()
	l.ended.Wait()
	l.lane.line.CompareAndSwap(l, nil)
	l.lane.held.Add(-int64(l.bytes))
}

// send passes p on, now or later. It blocks while too much is held.
func (l *line) send(p parcel) error {
	shape := l.lane.shape.Load()
	if shape == nil {
		if idle, err := l.idle(); idle || err != nil {
			if err == nil {
				err = l.pass(p)
			}
			return err
		}
		shape = &Shape{} // behind what is held
	}
	l.begin.Do(func() { l.ended.Go(l.run) })
	for m := range Batch(slices.Clone(p.Batch)).All() {
		if err := l.wait(func() bool { return l.bytes < maxLine }); err != nil {
			return err
		}
		l.mu.Lock()
		l.queue = append(l.queue, heldMessage{l.due(*shape, len(m)), m})
		l.bytes += len(m)
		l.mu.Unlock()
		l.lane.held.Add(int64(len(m)))
		signal(l.wake)
	}
	return nil
}

// due returns when a message of n bytes is to be passed on. l.mu is held.
func (l *line) due(s Shape, n int) time.Time {
	t := time.Now()
	if len(l.queue) == 0 && !l.passing {
		l.last, l.free = t, t
	}
	if s.Rate > 0 {
		if l.free.Before(t) {
			l.free = t
		}
		l.free = l.free.Add(time.Duration(float64(n) * 8 / float64(s.Rate) * float64(time.Second)))
		t = l.free
	}
	t = t.Add(s.Delay)
	if s.Jitter > 0 {
		t = t.Add(rand.N(2*s.Jitter+1) - s.Jitter)
	}
	if t.After(l.last) {
		l.last = t
	}
	return l.last
}

// idle reports whether nothing is held, and why the line broke.
func (l *line) idle() (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0 && !l.passing, l.err
}

// wait waits until is holds, the line breaks or the session ends. is is called with l.mu
// held.
func (l *line) wait(is func() bool) error {
	for {
		l.mu.Lock()
		done, err := is(), l.err
		l.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-l.room:
		case <-l.done:
			return context.Canceled
		}
	}
}

// drain waits until nothing is held any more, the line breaks or the session ends.
func (l *line) drain() error {
	return l.wait(func() bool { return len(l.queue) == 0 && !l.passing })
}

// run is the goroutine.
func (l *line) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var buf Batch
	for {
		p, wait := l.take(buf[:0])
		buf = p.Batch
		if p.count > 0 {
			err := l.pass(p)
			l.mu.Lock()
			l.passing, l.err = false, err
			l.mu.Unlock()
			signal(l.room)
			if err != nil {
				l.broken()
				return
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-l.done:
			return
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// take takes the messages that are due, or says how long to wait for the next.
func (l *line) take(buf Batch) (parcel, time.Duration) {
	free := l.lane.shape.Load() == nil
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := parcel{Batch: buf}
	for _, m := range l.queue {
		if !free && m.due.After(now) || len(p.Batch)+len(m.data) > maxBuffer {
			break
		}
		p.Batch = append(p.Batch, m.data...)
		p.count++
	}
	if p.count == 0 {
		wait := time.Hour
		if len(l.queue) > 0 {
			wait = l.queue[0].due.Sub(now)
		}
		return p, wait
	}
	clear(l.queue[:p.count])
	l.queue = l.queue[p.count:]
	l.bytes -= len(p.Batch)
	l.lane.held.Add(-int64(len(p.Batch)))
	l.passing = true
	return p, 0
}
