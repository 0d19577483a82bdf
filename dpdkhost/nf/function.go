package nf

import "time"

// A Handler decides about packets. Of those that it does not keep (Packet.Keep) it may use
// nothing after it returns. It and the other methods of a Function are called from one
// goroutine.
type Handler func(batch []Packet)

// Handle calls h: a Handler is a Function.
func (h Handler) Handle(batch []Packet) { h(batch) }

// A Function is an NF that may do more than decide about packets: what else it does are the
// interfaces below and io.Closer, called at its end.
type Function interface {
	Handle(batch []Packet)
}

// A Ticker is a Function that has work without packets: timeouts, and packets of its own.
type Ticker interface {
	// Tick is called before each batch, after the last before the NF waits for more, and then after
	// at most the time that it returned last (below zero: not before the next batch). It may put packets that the NF kept, with their
	// verdicts, into send, and returns how many.
	Tick(now time.Time, send []Packet) (n int, next time.Duration)
}

// A Source is a Function that makes packets. The manager hands it empty frames (Packet.Fresh),
// and new ones for those that it sends, until it has so many.
type Source interface {
	Frames() int
}

// A Counting function shows counters, which the manager's statistics have by name. The set of
// names may change.
type Counting interface {
	Counters(show func(name string, value uint64))
}

// A Commander is a Function that takes commands while it runs.
type Commander interface {
	// Command does what words say and returns text for people.
	Command(words []string) (string, error)
}

// A Greeter is a Function that says more of what it needs: Greet may change the Hello with which
// the NF introduces itself, for example set Wire or ReadOnly.
type Greeter interface {
	Greet(h *Hello)
}
