package lane

import "time"

// A Fate is what became of a frame.
type Fate uint8

// The fates; see link.Counters.
const (
	Delivered Fate = iota
	Lost
	Filtered
	Overflow
	AQMDrop
	NoMemory
	Down
	Oversized
)

// String returns the name of the fate in records.
func (f Fate) String() string {
	return [...]string{"delivered", "lost", "filtered", "overflow", "aqm", "nomemory", "down", "oversized"}[f]
}

// A Record is what happened to a frame.
type Record struct {
	Number uint64 // from 1 for each lane
	Copy   bool   // made by duplication
	Bytes  int
	// Arrival and Departure are times of the lane's clock. A frame that was not delivered
	// has no departure: 0.
	Arrival, Departure int64
	Fate               Fate
	Marked, Corrupted  bool
	// Frames and QueueBytes are what waited for the rate when the frame came to the queue.
	QueueFrames, QueueBytes uint32
}

// Delay returns the time between arrival and departure.
func (r *Record) Delay() time.Duration { return time.Duration(r.Departure - r.Arrival) }

// end says what has become of frames: of one, if there is a record.
func (l *Lane) end(e *entry, fate Fate, departure int64) {
	l.tally(fate, int(e.count), e.bytes)
	if l.Record == nil {
		return
	}
	if fate != Delivered {
		departure = 0
	}
	l.Record(Record{
		Number: e.number, Copy: e.copy, Bytes: e.bytes, Arrival: e.arrival, Departure: departure, Fate: fate,
		Marked: e.marked, Corrupted: e.corrupt, QueueFrames: e.depth, QueueBytes: e.depthBytes,
	})
}

// tally counts frames that met a fate.
func (l *Lane) tally(fate Fate, frames, bytes int) {
	n := uint64(frames)
	switch fate {
	case Delivered:
		l.c.Delivered += n
		l.c.DeliveredBytes += uint64(bytes)
	case Lost:
		l.c.Lost += n
	case Filtered:
		l.c.Filtered += n
	case Overflow:
		l.c.Overflow += n
	case AQMDrop:
		l.c.AQMDrops += n
	case NoMemory:
		l.c.NoMemory += n
	case Down:
		l.c.Down += n
	case Oversized:
		l.c.Oversized += n
	}
}
