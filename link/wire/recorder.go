package wire

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"weft/link/record"
)

// A recorder writes a record beside the frames' way: who reads it may be slow, and must not
// hold them up.
type recorder struct {
	w     io.Writer
	began time.Duration // of the shard's clock
	wake  chan struct{}
	stop  chan struct{}
	done  chan struct{}
	err   error // after done

	mu   sync.Mutex
	list []record.Frame
	lost uint64
}

const (
	// recordRoom is how many frames wait to be written, at most.
	recordRoom = 1 << 15
	// recordInterval bounds how long they wait if they are few.
	recordInterval = 100 * time.Millisecond
	// recordPatience is how long the reader may take at the end.
	recordPatience = 2 * time.Second
)

func newRecorder(w io.Writer) *recorder {
	r := &recorder{w: w, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), list: make([]record.Frame, 0, recordRoom)}
	go r.run()
	return r
}

// way returns what a lane tells of its frames.
func (r *recorder) way(i int) func(record.Frame) {
	return func(f record.Frame) {
		f.Way = i
		f.Arrival -= r.began
		if f.Fate == record.Delivered {
			f.Departure -= r.began
		}
		r.add(f)
	}
}

func (r *recorder) add(f record.Frame) {
	r.mu.Lock()
	if len(r.list) < cap(r.list) {
		r.list = append(r.list, f)
	} else {
		r.lost++
	}
	half := len(r.list) == cap(r.list)/2
	r.mu.Unlock()
	if half {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

func (r *recorder) run() {
	defer close(r.done)
	ticks := time.NewTicker(recordInterval)
	defer ticks.Stop()
	spare := make([]record.Frame, 0, recordRoom)
	text := []byte(record.Header)
	for last := false; ; {
		r.mu.Lock()
		r.list, spare = spare[:0], r.list
		lost := r.lost
		r.lost = 0
		r.mu.Unlock()
		for i := range spare {
			text = spare[i].Append(text)
		}
		if lost > 0 {
			text = record.AppendMissing(text, lost)
		}
		if len(text) > 0 && r.err == nil {
			if _, err := r.w.Write(text); err != nil {
				r.err = fmt.Errorf("record: %w", err)
			}
		}
		text = text[:0]
		if last {
			return
		}
		select {
		case <-r.wake:
		case <-ticks.C:
		case <-r.stop:
			last = true
		}
	}
}

// close writes what is left.
func (r *recorder) close() error {
	close(r.stop)
	select {
	case <-r.done:
		return r.err
	case <-time.After(recordPatience):
		return errors.New("record: its end is lost: nobody reads it")
	}
}
