package network

import (
	"sync"
	"time"
)

// events passes what happens in a network on to whoever listens. A listener that does
// not keep up misses events; the network never waits.
type events struct {
	mu   sync.Mutex
	subs map[chan Event]bool
}

func (e *events) emit(level, node, message string) {
	ev := Event{Time: time.Now(), Level: level, Node: node, Message: message}
	e.mu.Lock()
	defer e.mu.Unlock()
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
	for ch := range e.subs {
		close(ch)
	}
	e.subs = nil
}

// Events returns a channel of what happens from now on, closed at the network's end, and
// a function that ends it.
func (n *Network) Events() (<-chan Event, func()) {
	ch := make(chan Event, 64)
	n.events.mu.Lock()
	if n.events.subs == nil {
		n.events.subs = map[chan Event]bool{}
	}
	n.events.subs[ch] = true
	n.events.mu.Unlock()
	return ch, func() {
		n.events.mu.Lock()
		defer n.events.mu.Unlock()
		if n.events.subs[ch] {
			delete(n.events.subs, ch)
			close(ch)
		}
	}
}
