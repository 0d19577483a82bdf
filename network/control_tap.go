package network

import (
	"sync"

	"weft/control"
)

// taps passes the messages of all control channels on to whoever listens.
type taps struct {
	mu   sync.RWMutex
	next int
	subs map[int]func(control.TapMessage)
}

// pass is the Tap of every relay.
func (t *taps) pass(m control.TapMessage) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, f := range t.subs {
		f(m)
	}
}

// TapControl calls f for every message of every control channel, before it is passed on,
// until cancel is called; after cancel returns f is not called any more. Before Start it
// sees the channels' very first messages. Messages of one direction of a channel come in
// their order; f is called concurrently for others. f must not block, must copy what it
// keeps of Data, and must not call TapControl or cancel.
func (n *Network) TapControl(f func(control.TapMessage)) (cancel func()) {
	return n.tapConnections(func(m control.TapMessage) {
		if m.Event == control.TapData {
			f(m)
		}
	})
}

// tapConnections is TapControl with the beginnings and ends of connections too.
func (n *Network) tapConnections(f func(control.TapMessage)) (cancel func()) {
	t := &n.taps
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subs == nil {
		t.subs = map[int]func(control.TapMessage){}
	}
	id := t.next
	t.next++
	t.subs[id] = f
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subs, id)
	}
}
