package lane

// slots delivers frames in bursts.
type slots struct {
	at      int64 // of the burst that frames come into now
	packets int   // in it so far
	bytes   int64
	draws   uint64
}

// gap returns the time from a burst to the next.
func (l *Lane) gap() int64 {
	s := l.cfg.Slot
	l.slots.draws++
	return int64(s.Min) + int64(l.streams[effectSlot].unit(l.slots.draws)*float64(s.Max-s.Min+1))
}

// slot puts a frame that is due into a burst. Frames come in the order in which they are due.
func (l *Lane) slot(e entry) {
	if l.cfg.Slot.Max > 0 {
		s := &l.slots
		if s.at < e.due {
			if far := int64(1000) * int64(l.cfg.Slot.Max); e.due-s.at > far {
				s.at = e.due - int64(l.cfg.Slot.Max) // as if there had been bursts all the time
			}
			for s.at < e.due {
				s.at += max(1, l.gap())
			}
			s.packets, s.bytes = 0, 0
		}
		m := l.cfg.Slot
		if m.Packets > 0 && s.packets+int(e.count) > m.Packets || m.Bytes > 0 && s.bytes+int64(e.bytes) > m.Bytes && s.packets > 0 {
			s.at += max(1, l.gap())
			s.packets, s.bytes = 0, 0
		}
		s.packets += int(e.count)
		s.bytes += int64(e.bytes)
		e.due = s.at
	}
	if n := l.slotted.n; n > 0 { // settings may have changed
		e.due = max(e.due, l.slotted.at(n-1).due)
	}
	l.slotted.push(e)
}
