package link

import (
	"io"
	"time"

	"github.com/vishvananda/netlink"

	"weft/internal/timing"
	"weft/topo"
)

// A Config is a link to make that impairs its frames.
type Config struct {
	// Handle is of the namespace of ends without one of their own.
	Handle   *netlink.Handle
	A, B     End
	Settings topo.LinkSettings
	// Return lets frames out at the end where they came in, after what happens to them on
	// their way to the other: the ends are beside the devices of the link itself (Gate.Through).
	Return bool
	// Name tells the link from others with the same seed; empty: its devices.
	Name string
	// ReadFile returns the content of a file that an impairment names, a trace: the user's
	// files are not in sight where links are made. It may be nil if none does.
	ReadFile func(name string) ([]byte, error)
	// Record receives the fate of each frame as CSV, if Settings.Record asks for that. It may be
	// slow: what it does not take in time is counted. The link does not close it.
	Record io.Writer
}

// A Shaper is a running link that impairs its frames. Its methods may be called concurrently.
// Way 0 is from A to B, way 1 from B to A.
type Shaper interface {
	// Set changes what happens to the frames that go one way from now on; those already in
	// flight are delivered as they were going to be.
	Set(way int, i topo.Impairment) error
	// SetMTU changes the MTU of the link's ends, bytes. Frames in flight that are larger may be
	// lost. What depends on the MTU besides, as the size of a queue of which nothing was said,
	// follows when a way is Set.
	SetMTU(mtu int) error
	// Counters says what happened to frames since the link was made.
	Counters() ([2]Counters, error)
	// Close removes the link and its devices.
	Close() error
}

// LateAfter is how much later than it was due a frame leaves that counts as late: a delay of
// milliseconds is not what was asked for then.
const LateAfter = timing.LateAfter

// Counters count the frames that went one way. A frame of several segments (TSO) counts as
// the frames that it becomes on a wire.
type Counters struct {
	Delivered      uint64 `json:"delivered"`
	DeliveredBytes uint64 `json:"deliveredBytes"`
	// Queued and InFlight are frames that wait for the rate, and that are on their way, now.
	Queued      uint64 `json:"queued"`
	QueuedBytes uint64 `json:"queuedBytes"`
	InFlight    uint64 `json:"inFlight"`

	Lost      uint64 `json:"lost,omitempty"`      // by loss, bursts, gemodel or a trace
	Filtered  uint64 `json:"filtered,omitempty"`  // by drop and drop_if
	Overflow  uint64 `json:"overflow,omitempty"`  // the queue was full
	AQMDrops  uint64 `json:"aqmDrops,omitempty"`  // by RED or CoDel
	NoMemory  uint64 `json:"noMemory,omitempty"`  // more in flight than there is room for
	Down      uint64 `json:"down,omitempty"`      // the other end was down or did not take it
	Oversized uint64 `json:"oversized,omitempty"` // larger than the MTU

	// Late frames left more than LateAfter after they were due, at worst by LateMax, as far as that
	// is known: where this process carries frames.
	Late    uint64        `json:"late,omitempty"`
	LateMax time.Duration `json:"lateMax,omitempty"`

	Marked     uint64 `json:"marked,omitempty"` // ECN
	Duplicated uint64 `json:"duplicated,omitempty"`
	Corrupted  uint64 `json:"corrupted,omitempty"`
	Reordered  uint64 `json:"reordered,omitempty"`
}
