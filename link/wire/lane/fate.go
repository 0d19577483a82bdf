package lane

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
