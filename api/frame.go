package api

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
)

// After the upgrade the connection of a shell or a capture carries frames each way: a type
// byte, the payload's length (32 bits, big endian) and the payload.
const (
	frameInput     = 'i' // to the server: bytes for the terminal
	frameInterrupt = 'c' // Ctrl-C
	frameResize    = 'r' // rows and columns, 16 bits each
	frameOutput    = 'o' // to the client: bytes of output
	frameExit      = 'x' // exit status, 32 bits
	frameError     = 'e' // why the command did not run, text
	frameStop      = 's' // to the server: end the capture
	frameStarted   = 'b' // to the client: the capture or program runs, JSON
	frameResult    = 'j' // what it has captured, or how the program ended, JSON
	frameFiles     = 'f' // to the server: files; alone, not a frame
	frameSignal    = 'k' // to the server: a signal's number for the program, 32 bits
)

// The protocols of frames in the HTTP Upgrade header.
const (
	shellProtocol   = "weft-shell"
	captureProtocol = "weft-capture"
	execProtocol    = "weft-exec"
)

const maxFrame = 1 << 20

// A framer writes and reads frames. Writing is safe from several goroutines.
type framer struct {
	r   io.Reader
	buf []byte
	mu  sync.Mutex
	w   io.Writer
}

func (f *framer) write(kind byte, p []byte) error {
	head := []byte{kind, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[1:], uint32(len(p)))
	f.mu.Lock()
	defer f.mu.Unlock()
	bufs := net.Buffers{head, p}
	_, err := bufs.WriteTo(f.w)
	return err
}

// read returns the next frame; its payload is valid until the next call.
func (f *framer) read() (kind byte, p []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	f.buf = slices.Grow(f.buf[:0], int(n))[:n]
	_, err = io.ReadFull(f.r, f.buf)
	return head[0], f.buf, err
}
