package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// maxQueue bounds what waits for a switch that does not read, bytes. It holds some
// 150,000 flows.
const maxQueue = 16 << 20

// lastWords bounds how long a closing connection is kept for what is still queued.
const lastWords = time.Second

// A peer is a connection whose writes never block the caller: they are queued and
// written by a goroutine of its own, as much as there is at a time.
type peer struct {
	conn  net.Conn
	limit int
	wake  chan struct{} // has room for one: something for the goroutine to do
	room  chan struct{} // has room for one: the queue was emptied
	done  chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	queue   []byte
	closing bool
	err     error // why the connection was given up
}

func newPeer(conn net.Conn, limit int) *peer {
	p := &peer{
		conn: conn, limit: limit,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go p.write()
	return p
}

// send queues b, or gives the connection up if too much waits already.
func (p *peer) send(b []byte) {
	p.mu.Lock()
	full := len(p.queue)+len(b) > p.limit
	if !full && p.err == nil {
		p.queue = append(p.queue, b...)
	}
	p.mu.Unlock()
	if full {
		p.fail(fmt.Errorf("the switch does not read: %d bytes wait for it", p.limit))
	}
	signal(p.wake)
}

// drain waits, at most for a time, until the queue has room again. Who reads from the
// switch calls it, so that a switch that asks more than it reads is slowed down.
func (p *peer) drain(within time.Duration) error {
	if p.hasRoom() {
		return nil
	}
	late := time.NewTimer(within)
	defer late.Stop()
	for !p.hasRoom() {
		select {
		case <-p.room:
		case <-late.C:
			return fmt.Errorf("the switch has not read what waits for it within %v", within)
		}
	}
	return nil
}

// hasRoom reports whether the queue is far from full. After a failure nothing waits.
func (p *peer) hasRoom() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) <= p.limit/16
}

// signal notes in c, which has room for one, that something happened.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fail gives the connection up; the first reason stays.
func (p *peer) fail(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	p.queue = nil
	p.mu.Unlock()
	go p.conn.Close() // TLS may wait there
	signal(p.wake)
	signal(p.room)
}

// reason returns why the connection was given up, or err if it was not.
func (p *peer) reason(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	return err
}

// close writes what is queued, within lastWords, and closes the connection.
func (p *peer) close() {
	p.conn.SetWriteDeadline(time.Now().Add(lastWords))
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	signal(p.wake)
	<-p.done
	p.conn.Close()
}

// write is the goroutine.
func (p *peer) write() {
	defer close(p.done)
	var buf []byte
	for range p.wake {
		for {
			p.mu.Lock()
			buf, p.queue = p.queue, buf[:0]
			stop := p.err != nil || p.closing && len(buf) == 0
			p.mu.Unlock()
			if stop {
				return
			}
			if len(buf) == 0 {
				break
			}
			signal(p.room)
			if _, err := p.conn.Write(buf); err != nil {
				p.fail(fmt.Errorf("writing to the switch: %w", err))
				return
			}
		}
	}
}

// endedByPeer reports whether err, of reading or writing, means that the other side
// has closed the connection.
func endedByPeer(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
