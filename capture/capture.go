// Package capture makes pcapng files of what passes links and control channels, for
// Wireshark. It joins packets of several sources into one stream in the order of time.
//
//	link ── AF_PACKET ring ──┐
//	link ── AF_PACKET ring ──┼─► merge ─► pcapng blocks ─► io.Writer ─ ─ ─► File
//	relay ── Control's queue ┘   (Run)    (in the engine)            (at the user's)
//
// Rings and the queue are bounded. Who reads the stream may be slow: then they overflow,
// what is lost is counted, and the network goes on.
//
// It may import control, for what a message is called, and internal/ns.
package capture

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Config says how packets are captured.
type Config struct {
	// Filter is an expression in the language of pcap-filter(7); empty: all packets.
	Filter string
	// SnapLen is how much of each packet is kept, bytes; 0: all.
	SnapLen int
	// Count and Duration end the capture by themselves; 0: they do not.
	Count    int
	Duration time.Duration
	// Segment splits frames that are left whole for the hardware to segment into those
	// that a wire would see.
	Segment bool
	// Application is noted in the file as who wrote it.
	Application string
}

// MaxSnapLen is the length of the longest packet, bytes.
const MaxSnapLen = 262144

// Times of a capture.
const (
	// pollInterval bounds how long a packet waits to be seen.
	pollInterval = 20 * time.Millisecond
	// reorderWindow is how long a packet waits for older ones of other sources. It is
	// longer than a ring's retireTimeout and pollInterval together.
	reorderWindow = 60 * time.Millisecond
	// flushInterval bounds how long a packet waits in memory after that.
	flushInterval = 100 * time.Millisecond
)

// chunk is how much is written at once if there is much, bytes.
const chunk = 256 << 10

// Statistics count what happened to the packets of an interface.
type Statistics struct {
	Name     string `json:"name"`
	Received uint64 `json:"received"` // passed the filter, lost ones included
	Dropped  uint64 `json:"dropped"`  // lost because a queue was full
	Written  uint64 `json:"written"`
	// Messages counts the OpenFlow messages of a control channel, lost ones included.
	Messages uint64 `json:"messages,omitempty"`
}

// A source yields the packets of one or more interfaces, in the order of time.
type source interface {
	// peek returns the next packet, valid until next is called, or nil if there is none
	// now.
	peek() *packet
	next()
	// pressed reports whether the source may soon have to drop packets.
	pressed() bool
	// stop ends the arrival of packets; what has arrived can still be read.
	stop() error
	// finish brings the statistics of its interfaces up to date, and lets go of all.
	finish() error
}

// A Capture is a set of sources. Add sources, then Run once; Close one that is not run.
type Capture struct {
	cfg     Config
	filters filters
	sources []source
	polled  []unix.PollFd
	start   time.Time

	interfaces []*iface // those in the stream, by number
	out        []byte   // whole blocks, to be written
	count      int      // packets in the stream
	segments   segmenter
}

// New returns a Capture without sources. It fails if the filter is not one.
func New(ctx context.Context, cfg Config) (*Capture, error) {
	if cfg.SnapLen == 0 {
		cfg.SnapLen = MaxSnapLen
	}
	if cfg.SnapLen < 0 || cfg.SnapLen > MaxSnapLen {
		return nil, fmt.Errorf("snap length %d: write one from 1 to %d", cfg.SnapLen, MaxSnapLen)
	}
	f, err := compile(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c := &Capture{cfg: cfg, filters: f, start: time.Now()}
	c.out = appendSection(c.out, cfg.Application)
	return c, nil
}

// Close lets go of the sources of a Capture that is not run.
func (c *Capture) Close() error {
	var errs []error
	for _, s := range c.sources {
		errs = append(errs, s.finish())
	}
	return errors.Join(errs...)
}

// Interfaces returns the names of the interfaces known so far.
func (c *Capture) Interfaces() []string {
	names := []string{}
	for _, i := range c.interfaces {
		names = append(names, i.Name)
	}
	return names
}

// Run writes the stream to w until ctx ends, the capture is complete or w fails. Each
// Write is of whole blocks, at most flushInterval after its packets have left the
// reorder window. atEnd is called before the end of the stream, when no more packets are to
// come; it may be nil. The statistics are right whatever the error.
func (c *Capture) Run(ctx context.Context, w io.Writer, atEnd func()) ([]Statistics, error) {
	if c.cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Duration)
		defer cancel()
	}
	err := c.copy(ctx, w)
	if atEnd != nil {
		atEnd()
	}
	if err == nil {
		err = c.drain(w)
	}
	errs := []error{err}
	for _, s := range c.sources {
		errs = append(errs, s.finish())
	}
	var stats []Statistics
	end := time.Now()
	for _, i := range c.interfaces {
		stats = append(stats, i.Statistics)
		c.out = appendStatistics(c.out, i, c.start, end)
	}
	if err == nil {
		errs = append(errs, c.flush(w))
	}
	return stats, errors.Join(errs...)
}

// complete reports whether Count is reached.
func (c *Capture) complete() bool { return c.cfg.Count > 0 && c.count >= c.cfg.Count }

// copy merges and writes until ctx ends or the capture is complete.
func (c *Capture) copy(ctx context.Context, w io.Writer) error {
	if err := c.flush(w); err != nil { // the header
		return err
	}
	flushed := time.Now()
	for ctx.Err() == nil {
		now := time.Now()
		if err := c.merge(w, now.Add(-reorderWindow)); err != nil {
			return err
		}
		if c.complete() {
			return nil
		}
		if now.Sub(flushed) >= flushInterval {
			if err := c.flush(w); err != nil {
				return err
			}
			flushed = now
		}
		c.poll()
	}
	return nil
}

// poll waits for packets, at most pollInterval.
func (c *Capture) poll() {
	// An interrupted call is as good as one that found something.
	unix.Poll(c.polled, int(pollInterval.Milliseconds()))
	for _, p := range c.polled {
		if p.Revents&unix.POLLERR != 0 {
			// The interface is down or gone. Asking clears it, and packets come
			// again when it is up.
			unix.GetsockoptInt(int(p.Fd), unix.SOL_SOCKET, unix.SO_ERROR)
		}
	}
}

// drain writes what had arrived when the capture was stopped.
func (c *Capture) drain(w io.Writer) error {
	var errs []error
	for _, s := range c.sources {
		errs = append(errs, s.stop())
	}
	if len(c.polled) > 0 {
		time.Sleep(2 * retireTimeout) // for the kernel to hand over the last blocks
	}
	return errors.Join(append(errs, c.merge(w, time.Now()))...)
}

// flush writes what is in out.
func (c *Capture) flush(w io.Writer) error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := w.Write(c.out)
	c.out = c.out[:0]
	return err
}

// merge appends to out the packets that the sources have, in the order of time, and
// writes out whenever it is a chunk. While one of several sources has none, it takes only
// packets from before old, or of sources that must make room.
func (c *Capture) merge(w io.Writer, old time.Time) error {
	var ready sourceHeap
	empty := 0
	for _, s := range c.sources {
		if s.peek() != nil {
			ready = append(ready, s)
		} else {
			empty++
		}
	}
	heap.Init(&ready)
	limit := old.UnixNano()
	for len(ready) > 0 && !c.complete() {
		s := ready[0]
		p := s.peek()
		if empty > 0 && p.time > limit && !s.pressed() {
			return nil
		}
		c.emit(p)
		s.next()
		if len(c.out) >= chunk {
			if err := c.flush(w); err != nil {
				return err
			}
		}
		if s.peek() == nil {
			empty++
			heap.Pop(&ready)
		} else if len(ready) > 1 {
			heap.Fix(&ready, 0)
		}
	}
	return nil
}

// emit appends a packet to out, or those that it is to be split into.
func (c *Capture) emit(p *packet) {
	if !c.cfg.Segment {
		c.append(p)
		return
	}
	list := c.segments.split(p)
	for i := range list {
		if c.complete() {
			return
		}
		c.append(&list[i])
	}
}

// append appends a packet to out, with its interface if that is new.
func (c *Capture) append(p *packet) {
	if !p.iface.listed {
		c.list(p.iface)
	}
	if len(p.data) > c.cfg.SnapLen {
		p.data = p.data[:c.cfg.SnapLen]
	}
	c.out = appendPacket(c.out, p)
	p.iface.Written++
	c.count++
}

// list appends an interface to out.
func (c *Capture) list(i *iface) {
	i.listed, i.number = true, uint32(len(c.interfaces))
	c.interfaces = append(c.interfaces, i)
	c.out = appendInterface(c.out, i)
}

// newInterface returns an interface with the capture's settings.
func (c *Capture) newInterface(name, description string) *iface {
	return &iface{
		Statistics: Statistics{Name: name}, description: description,
		snapLen: uint32(c.cfg.SnapLen), filter: c.cfg.Filter,
	}
}

// sourceHeap is a heap of sources by the time of their next packets.
type sourceHeap []source

func (h sourceHeap) Len() int           { return len(h) }
func (h sourceHeap) Less(i, j int) bool { return h[i].peek().time < h[j].peek().time }
func (h sourceHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *sourceHeap) Push(x any)        { *h = append(*h, x.(source)) }
func (h *sourceHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	*h = (*h)[:last]
	return s
}
