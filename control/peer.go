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

// maxQueue bounds what waits for a switch that does not read, bytes. It holds the
// flows of some 40,000 paths.
const maxQueue = 4 << 20

// lastWords bounds how long a closing connection is kept for what is still queued.
const lastWords = time.Second

// A peer is a connection whose writes never block the caller: they are queued and
// written by a goroutine of its own, as much as there is at a time.
type peer struct {
	conn  net.Conn
	limit int
	wake  chan struct{} // has room for one: something changed below
	done  chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	queue   []byte
	closing bool
	err     error // why the connection was given up
}

func newPeer(conn net.Conn, limit int) *peer {
	p := &peer{conn: conn, limit: limit, wake: make(chan struct{}, 1), done: make(chan struct{})}
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
	p.stir()
}

// stir wakes the goroutine.
func (p *peer) stir() {
	select {
	case p.wake <- struct{}{}:
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
	p.stir()
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
	p.stir()
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
