package network

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"weft/control"
)

// A ControlMessage is an OpenFlow message that passed a control channel.
type ControlMessage struct {
	Time       time.Time `json:"time"`
	Switch     string    `json:"switch"`
	Controller string    `json:"controller"`
	Connection int       `json:"connection"` // of the two, from 1
	FromSwitch bool      `json:"fromSwitch"`
	// Data is the message as it stood on the wire; empty if only Missed is told.
	Data []byte `json:"data,omitempty"`
	// Missed counts the messages that the listener lost before this one, because it was
	// slow.
	Missed uint64 `json:"missed,omitempty"`
}

// feedLimit bounds what waits for a listener, bytes of messages.
const feedLimit = 16 << 20

// feedOverhead is what a waiting message takes besides its bytes.
const feedOverhead = 128

// A ControlFeed is a listener to the control channels: a bounded queue of messages. A
// listener that is slow loses messages, which are counted; the network never waits.
type ControlFeed struct {
	cancel func()
	wake   chan struct{} // has room for one: something is waiting

	mu      sync.Mutex
	waiting []ControlMessage
	size    int // of waiting, bytes
	missed  uint64
	closed  bool
}

// errFeedClosed ends Next.
var errFeedClosed = errors.New("the feed is closed")

// ControlFeed listens to all control channels from now on, until Close.
func (n *Network) ControlFeed() *ControlFeed {
	f := &ControlFeed{wake: make(chan struct{}, 1)}
	f.cancel = n.TapControl(f.tap)
	return f
}

// tap queues a message.
func (f *ControlFeed) tap(m control.TapMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cost := len(m.Data) + feedOverhead
	if f.size+cost > feedLimit {
		f.missed++
		return
	}
	f.size += cost
	f.waiting = append(f.waiting, ControlMessage{
		Time: m.Time, Switch: m.Switch, Controller: m.Controller, Connection: m.Conn, FromSwitch: m.FromSwitch,
		Data: slices.Clone([]byte(m.Data)), Missed: f.missed,
	})
	f.missed = 0
	f.signal()
}

func (f *ControlFeed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Next waits for messages and returns those that are there, oldest first. It is not for
// concurrent use. Its error is ctx's, or that the feed is closed.
func (f *ControlFeed) Next(ctx context.Context) ([]ControlMessage, error) {
	for {
		f.mu.Lock()
		batch, closed := f.waiting, f.closed
		f.waiting, f.size = nil, 0
		if f.missed > 0 { // before whatever comes next
			batch = append(batch, ControlMessage{Time: time.Now(), Missed: f.missed})
			f.missed = 0
		}
		f.mu.Unlock()
		switch {
		case len(batch) > 0:
			return batch, nil
		case closed:
			return nil, errFeedClosed
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.wake:
		}
	}
}

// Close ends the feed.
func (f *ControlFeed) Close() {
	f.cancel()
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.signal()
}
