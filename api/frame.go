package api

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// After the upgrade a shell's connection carries frames each way: a type byte, the
// payload's length (32 bits, big endian) and the payload.
const (
	frameInput     = 'i' // to the server: bytes for the terminal
	frameInterrupt = 'c' // Ctrl-C
	frameResize    = 'r' // rows and columns, 16 bits each
	frameOutput    = 'o' // to the client: bytes of output
	frameExit      = 'x' // exit status, 32 bits
	frameError     = 'e' // why the command did not run, text
)

// upgradeProtocol names the frames in the HTTP Upgrade header.
const upgradeProtocol = "weft-shell"

const maxFrame = 1 << 20

// A framer writes and reads frames. Writing is safe from several goroutines.
type framer struct {
	r  io.Reader
	mu sync.Mutex
	w  io.Writer
}

func (f *framer) write(kind byte, p []byte) error {
	buf := make([]byte, 5, 5+len(p))
	buf[0] = kind
	binary.BigEndian.PutUint32(buf[1:], uint32(len(p)))
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.w.Write(append(buf, p...))
	return err
}

func (f *framer) read() (kind byte, p []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	p = make([]byte, n)
	_, err = io.ReadFull(f.r, p)
	return head[0], p, err
}
