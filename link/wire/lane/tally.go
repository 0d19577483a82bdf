package lane

import (
	"time"

	"weft/link/record"
)

// end says what has become of frames: of one, if there is a record.
func (l *Lane) end(e *entry, fate record.Fate, departure int64) {
	l.tally(fate, int(e.count), e.bytes)
	if l.record == nil {
		return
	}
	if fate != record.Delivered {
		departure = 0
	}
	l.record(record.Frame{
		Number: e.number, Copy: e.copy, Bytes: e.bytes,
		Arrival: time.Duration(e.arrival), Departure: time.Duration(departure), Fate: fate,
		Marked: e.marked, Corrupted: e.corrupt, QueueFrames: e.depth, QueueBytes: e.depthBytes,
	})
}

// tally counts frames that met a fate.
func (l *Lane) tally(fate record.Fate, frames, bytes int) {
	n := uint64(frames)
	switch fate {
	case record.Delivered:
		l.c.Delivered += n
		l.c.DeliveredBytes += uint64(bytes)
	case record.Lost:
		l.c.Lost += n
	case record.Filtered:
		l.c.Filtered += n
	case record.Overflow:
		l.c.Overflow += n
	case record.AQMDrop:
		l.c.AQMDrops += n
	case record.NoMemory:
		l.c.NoMemory += n
	case record.Down:
		l.c.Down += n
	case record.Oversized:
		l.c.Oversized += n
	}
}
