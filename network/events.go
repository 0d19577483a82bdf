package network

import (
	"cmp"
	"log/slog"
	"sync"
	"time"
)

// maxHistory is how many events are kept for those who ask for what was.
const maxHistory = 10_000

// events passes what happens in a network on to whoever listens. A listener that does
// not keep up misses events; the network never waits.
type events struct {
	mu      sync.Mutex
	subs    map[chan Event]bool
	history []Event // the newest maxHistory, from the oldest
	last    uint64  // Seq
	closed  bool
}

// emit tells that something happened to a node, or with an empty name to the network.
func (e *events) emit(level, node, message string) {
	e.send(Event{Level: level, Node: node, Message: message})
}

// send passes an event on. What it leaves out, of time, kind and level, is filled in.
func (e *events) send(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.last++
	ev.Seq, ev.Time = e.last, time.Now()
	ev.Kind, ev.Level = cmp.Or(ev.Kind, KindNote), cmp.Or(ev.Level, slog.LevelInfo.String())
	if len(e.history) == 2*maxHistory {
		e.history = append(e.history[:0], e.history[maxHistory:]...)
	}
	e.history = append(e.history, ev)
	for ch := range e.subs {
		select {
		case ch <- ev:
		default:
		}
	}
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for ch := range e.subs {
		close(ch)
	}
	e.subs = nil
}

// Events returns a channel of what happens from now on, closed at the network's end, and
// a function that ends it.
func (n *Network) Events() (<-chan Event, func()) {
	_, ch, stop := n.EventsSince(time.Now())
	return ch, stop
}

// EventsSince is Events with those before that are not older than since, of which the newest
// 10,000 are kept.
func (n *Network) EventsSince(since time.Time) (past []Event, from <-chan Event, stop func()) {
	e := &n.events
	ch := make(chan Event, 256)
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := len(e.history) - 1; i >= 0 && !e.history[i].Time.Before(since); i-- {
		past = e.history[i:]
	}
	past = append([]Event(nil), past...)
	if e.closed {
		close(ch)
		return past, ch, func() {}
	}
	if e.subs == nil {
		e.subs = map[chan Event]bool{}
	}
	e.subs[ch] = true
	return past, ch, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.subs[ch] {
			delete(e.subs, ch)
			close(ch)
		}
	}
}
