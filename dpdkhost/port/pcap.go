package port

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/shm"
	"weft/internal/packetfile"
)

// Replay says what a Pcap port does: File, Sink, or both.
type Replay struct {
	// File is a capture whose packets come in at the port: pcap or pcapng, plain or compressed
	// with gzip or zstd.
	File string `json:"file,omitempty"`
	// Timed plays packets at the times at which they were captured, Rate so many in a second.
	// Without both they come as fast as the manager takes them.
	Timed bool    `json:"timed,omitempty"`
	Rate  float64 `json:"rate,omitempty"`
	// Loops is how often the file is played: 1 if 0, for ever below 0.
	Loops int `json:"loops,omitempty"`
	// Sink is a file that gets what is sent out of the port: pcap.
	Sink string `json:"sink,omitempty"`
}

func (r *Replay) validate() error {
	switch {
	case r.File == "" && r.Sink == "":
		return errors.New("it needs a file to play or a sink to write")
	case r.File != "" && r.File == r.Sink:
		return fmt.Errorf("%s would be played and written", r.File)
	case r.Rate < 0 || math.IsNaN(r.Rate) || math.IsInf(r.Rate, 0):
		return fmt.Errorf("rate %v: write packets in a second", r.Rate)
	case r.Rate > 0 && r.Timed:
		return errors.New("a rate and the times of the capture exclude each other")
	}
	return nil
}

// A pcap port plays a capture and writes another. Files are read and written by goroutines: the
// manager never waits for a disk.
type pcap struct {
	player *player
	sink   *sink
	finish []shm.Desc
	timer  int // a timerfd that wakes the manager
	lost   uint64
	left   uint64
}

func openPcap(_ *Opener, c Config) (p manager.Port, err error) {
	x := &pcap{}
	if x.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("timer: %w", err)
	}
	if c.File != "" {
		if x.player, err = newPlayer(c.Replay, x.timer); err != nil {
			return nil, errors.Join(err, x.Close())
		}
	}
	if c.Sink != "" {
		if x.sink, err = newSink(c.Sink); err != nil {
			return nil, errors.Join(err, x.Close())
		}
	}
	return x, nil
}

// Receive copies packets that are due into frames.
func (p *pcap) Receive(into []shm.Desc, pool *manager.Pool) int {
	if p.player == nil {
		return 0
	}
	n := 0
	for n < len(into) {
		data, wait := p.player.next()
		if data == nil {
			if wait > 0 {
				wake(p.timer, wait)
			}
			break
		}
		if len(data) < 14 || len(data) > shm.LargeSize-shm.Headroom {
			p.lost++
			p.player.done()
			continue
		}
		frame, ok := pool.Get(len(data))
		if !ok {
			wake(p.timer, time.Millisecond)
			break
		}
		copy(pool.Memory().Frame(frame)[shm.Headroom:], data)
		into[n] = shm.Desc{Frame: frame, Offset: shm.Headroom, Length: uint32(len(data))}
		n++
		p.player.done()
	}
	return n
}

// wake makes the timer readable after a time.
func wake(timer int, after time.Duration) {
	t := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(after, 1)))}
	unix.TimerfdSettime(timer, 0, &t, nil)
}

// Send writes packets to the sink; without one they end here, as at a port without a cable.
func (p *pcap) Send(list []shm.Desc, pool *manager.Pool) int {
	if p.sink == nil {
		return 0
	}
	s := p.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	now, mem := time.Now(), pool.Memory()
	for i, d := range list {
		if len(s.waiting) > sinkRoom {
			return i // the disk is slower
		}
		var lost int
		p.finish, lost = pool.Finish(d, p.finish[:0])
		p.left += uint64(lost)
		for k := range p.finish {
			s.waiting = packetfile.AppendPacket(s.waiting, now, mem.Packet(&p.finish[k]))
			pool.Free(p.finish[k].Frame)
		}
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(list)
}

// FD returns the timer.
func (p *pcap) FD() int { return p.timer }

// Lost counts packets: those of the file that are no Ethernet frames, and those that the sink lost.
func (p *pcap) Lost() (received, sent uint64) {
	received = p.lost
	if p.player != nil {
		received += p.player.foreign.Load()
	}
	return received, p.left
}

// Close ends the port. It says what went wrong with the files.
func (p *pcap) Close() error {
	var errs []error
	if p.player != nil {
		errs = append(errs, p.player.close())
	}
	if p.sink != nil {
		errs = append(errs, p.sink.close())
	}
	if p.timer >= 0 {
		errs = append(errs, unix.Close(p.timer))
	}
	p.player, p.sink, p.timer = nil, nil, -1
	return errors.Join(errs...)
}

// A player reads a capture ahead.
type player struct {
	Replay
	batches chan batch
	stop    chan struct{}
	stopped chan struct{}
	timer   int
	hungry  atomic.Bool   // the manager found nothing
	foreign atomic.Uint64 // packets that are no Ethernet frames
	err     error         // after stopped

	// The manager's.
	start  time.Time
	now    batch
	at     int
	played float64
}

// A batch is packets one after the other.
type batch struct {
	data []byte
	ends []int
	due  []time.Duration // since the beginning of the file
	base time.Duration   // when the file begins
}

const (
	batchPackets = 256
	batchesAhead = 8
	// keepFile is how large a file may be of which a copy stays in memory for its next loop.
	keepFile = 64 << 20
)

func newPlayer(r Replay, timer int) (*player, error) {
	if r.Loops == 0 {
		r.Loops = 1
	}
	p := &player{Replay: r, timer: timer, batches: make(chan batch, batchesAhead), stop: make(chan struct{}), stopped: make(chan struct{})}
	f, err := os.Open(r.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in, err := packetfile.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.File, err)
	}
	switch first, err := in.Next(); {
	case err == io.EOF:
		return nil, fmt.Errorf("%s has no packets", r.File)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", r.File, err)
	case first.LinkType != packetfile.LinkEthernet:
		return nil, fmt.Errorf("%s holds packets of link type %d: only Ethernet frames can be played", r.File, first.LinkType)
	}
	go p.run()
	return p, nil
}

// run reads the file as often as it is played.
func (p *player) run() {
	defer close(p.stopped)
	var kept []batch
	keep := true
	base := time.Duration(0)
	for loop := 0; loop != p.Loops; loop++ {
		var length time.Duration
		if loop > 0 && keep {
			for _, b := range kept {
				b.base = base
				if !p.offer(b) {
					return
				}
			}
			length = kept[len(kept)-1].due[len(kept[len(kept)-1].due)-1]
		} else {
			size, packets := 0, 0
			last, err := p.read(func(b batch) bool {
				size += len(b.data)
				packets += len(b.ends)
				if keep = keep && p.Loops != 1 && size <= keepFile; keep {
					kept = append(kept, b)
				} else {
					kept = nil
				}
				b.base = base
				return p.offer(b)
			})
			if err != nil {
				if err != errStopped {
					p.err = fmt.Errorf("%s: %w", p.File, err)
				}
				return
			}
			if packets == 0 {
				return
			}
			length = last
		}
		// From the last packet to the first of the next loop it is a microsecond, so that time
		// goes on.
		base += length + time.Microsecond
	}
}

var errStopped = errors.New("the port is closed")

// read reads the file once and returns the time of the last packet.
func (p *player) read(each func(batch) bool) (last time.Duration, err error) {
	f, err := os.Open(p.File)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	in, err := packetfile.NewReader(f)
	if err != nil {
		return 0, err
	}
	var first time.Time
	b := batch{}
	for {
		packet, err := in.Next()
		if err != nil && err != io.EOF {
			return last, err
		}
		if len(b.ends) == batchPackets || err == io.EOF && len(b.ends) > 0 {
			if !each(b) {
				return last, errStopped
			}
			b = batch{}
		}
		if err == io.EOF {
			return last, nil
		}
		if packet.LinkType != packetfile.LinkEthernet {
			p.foreign.Add(1)
			continue
		}
		if first.IsZero() {
			first = packet.Time
		}
		last = max(last, packet.Time.Sub(first)) // a capture's times may go back
		b.data = append(b.data, packet.Data...)
		b.ends = append(b.ends, len(b.data))
		b.due = append(b.due, last)
	}
}

// offer hands a batch to the manager; false if the port is closed.
func (p *player) offer(b batch) bool {
	select {
	case p.batches <- b:
	case <-p.stop:
		return false
	}
	if p.hungry.Swap(false) {
		wake(p.timer, 1)
	}
	return true
}

// next returns the next packet; nil if none is due, and after which time one is, 0 if that is
// unknown.
func (p *player) next() (data []byte, wait time.Duration) {
	if p.at == len(p.now.ends) {
		p.hungry.Store(true)
		select {
		case p.now = <-p.batches:
			p.hungry.Store(false)
			p.at = 0
		default:
			return nil, 0
		}
	}
	if p.start.IsZero() {
		p.start = time.Now()
	}
	due := time.Duration(0)
	switch {
	case p.Timed:
		due = p.now.base + p.now.due[p.at]
	case p.Rate > 0:
		due = time.Duration(p.played / p.Rate * float64(time.Second))
	}
	if due > 0 {
		if wait := due - time.Since(p.start); wait > 0 {
			return nil, wait
		}
	}
	from := 0
	if p.at > 0 {
		from = p.now.ends[p.at-1]
	}
	return p.now.data[from:p.now.ends[p.at]], 0
}

// done says that the packet that next returned was taken.
func (p *player) done() {
	p.at++
	p.played++
}

func (p *player) close() error {
	close(p.stop)
	<-p.stopped
	return p.err
}

// A sink writes a capture behind the manager.
type sink struct {
	file    *os.File
	more    chan struct{}
	stopped chan struct{}
	err     error // after stopped

	mu      sync.Mutex
	waiting []byte
}

// sinkRoom is how many bytes wait for the disk, about.
const sinkRoom = 4 << 20

func newSink(name string) (*sink, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	s := &sink{file: f, waiting: packetfile.AppendHeader(nil), more: make(chan struct{}, 1), stopped: make(chan struct{})}
	s.more <- struct{}{}
	go s.run()
	return s, nil
}

func (s *sink) run() {
	defer close(s.stopped)
	var spare []byte
	for range s.more {
		s.mu.Lock()
		s.waiting, spare = spare[:0], s.waiting
		s.mu.Unlock()
		if s.err == nil {
			_, s.err = s.file.Write(spare)
		}
	}
}

// close writes what is left.
func (s *sink) close() error {
	close(s.more)
	<-s.stopped
	if s.err == nil {
		_, s.err = s.file.Write(s.waiting)
	}
	return errors.Join(s.err, s.file.Close())
}
