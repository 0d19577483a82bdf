package shell

import (
	"bytes"
	"context"
	"sync"
	"unicode/utf8"

	prompt "github.com/c-bata/go-prompt"

	"golang.org/x/sys/unix"

	"weft/api"
)

// Bytes and sequences that mean something to keys itself.
const (
	keyEnter  = '\r'
	keyCtrlD  = 4
	keyEscape = 0x1b
	keyLeave  = "\x1b[E" // go-prompt ignores it, but asks its exit checker then
)

// keys is go-prompt's input. go-prompt takes what one Read returns as one key, reads
// ahead of itself in a goroutine, and does not say why Input returned. So keys returns
// one key, or a run of text, at a time, nothing after one that may end the line, and
// remembers that one.
//
//	open ──Enter, Ctrl-D or leave returned──► shut ──Setup, or Ctrl-D on a line──► open
type keys struct {
	keyboard *keyboard
	modes    unix.Termios // in which the terminal was found
	notices  *notices     // what is to be shown above the line

	reading sync.Mutex // held while Read runs; it guards the next three
	ctx     context.Context
	buf     []byte // read, not yet returned
	size    api.Size

	mu   sync.Mutex
	shut bool
	last reason
	// unhandled are the keys that were returned and that go-prompt has not worked on
	// yet: a successor returns them again.
	unhandled [][]byte
	worked    bool // go-prompt has worked on a key
}

// A reason is why Input returned.
type reason int

const (
	entered   reason = iota // a line, which may be empty
	ended                   // Ctrl-D on an empty line
	gone                    // the terminal is gone
	resized                 // the window's size changed
	cancelled               // ctx ended
	noticed                 // there is something to show above the line
)

var _ prompt.ConsoleParser = (*keys)(nil)

// Setup puts the terminal into the mode for editing: keys come one by one and unseen,
// output is still translated.
func (k *keys) Setup() error {
	k.reading.Lock()
	k.size = windowSize(k.keyboard.fd)
	k.reading.Unlock()
	k.mu.Lock()
	k.shut, k.unhandled = false, nil
	k.mu.Unlock()
	return k.setModes(0)
}

// TearDown puts it into the mode for commands: Ctrl-C is a signal, and what is typed
// ahead stays, as it was typed, for the next line.
func (k *keys) TearDown() error { return k.setModes(unix.ISIG) }

// setModes sets the terminal's mode, with the given local modes.
func (k *keys) setModes(local uint32) error {
	m := k.modes
	m.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	m.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	m.Lflag |= local
	m.Cc[unix.VMIN], m.Cc[unix.VTIME] = 1, 0
	m.Cc[unix.VQUIT], m.Cc[unix.VSUSP] = 0, 0 // no keys for these
	return unix.IoctlSetTermios(k.keyboard.fd, unix.TCSETS, &m)
}

// restore puts the terminal into the mode in which it was found.
func (k *keys) restore() error {
	return unix.IoctlSetTermios(k.keyboard.fd, unix.TCSETS, &k.modes)
}

// GetWinSize returns the window's width. go-prompt refuses to work in a window that is
// lower than its menu, so the height is never said to be small.
func (k *keys) GetWinSize() *prompt.WinSize {
	return &prompt.WinSize{Row: 10000, Col: max(windowSize(k.keyboard.fd).Cols, 10)}
}

// Read returns the next key. Errors mean that there is none.
func (k *keys) Read() ([]byte, error) {
	k.reading.Lock()
	defer k.reading.Unlock()
	in := make([]byte, 4096)
	for {
		if shut, _ := k.state(); shut {
			return nil, errIdle
		}
		key, n := nextKey(k.buf)
		k.buf = k.buf[n:]
		if len(key) > 0 {
			return k.returned(key), nil
		}
		n, err := k.keyboard.poll(k.ctx, in)
		switch {
		case err == nil:
			k.buf = append(k.buf, in[:n]...)
		case k.ctx.Err() != nil:
			return k.leave(cancelled), nil
		case err == errIdle && k.notices.waiting():
			return k.leave(noticed), nil
		case err == errIdle && windowSize(k.keyboard.fd) != k.size:
			return k.leave(resized), nil
		case err == errIdle:
			k.buf = nil // a sequence that goes no further
			return nil, err
		default:
			return k.leave(gone), nil
		}
	}
}

// state reports whether a key was returned that may end the line, and why.
func (k *keys) state() (shut bool, why reason) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.shut, k.last
}

// end shuts the input.
func (k *keys) end(why reason) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shut, k.last = true, why
}

func (k *keys) leave(why reason) []byte {
	k.end(why)
	return []byte(keyLeave)
}

// returned takes note of a key, and shuts the input if it may end the line.
func (k *keys) returned(key []byte) []byte {
	switch string(key) {
	case "\x1b[B", "\x1bOB", "\x0e": // Down and Ctrl-N: go-prompt may not ask handled
	default:
		k.mu.Lock()
		k.unhandled = append(k.unhandled, key)
		k.mu.Unlock()
	}
	switch key[0] {
	case keyEnter, '\n':
		k.end(entered)
	case keyCtrlD:
		k.end(ended)
	}
	return key
}

// listen makes Read end when ctx does.
func (k *keys) listen(ctx context.Context) {
	k.reading.Lock()
	defer k.reading.Unlock()
	k.ctx = ctx
}

// successor returns keys with what go-prompt has not worked on yet; k returns nothing
// more. A key on which go-prompt fails at once is not tried again.
func (k *keys) successor() *keys {
	k.end(gone)
	k.reading.Lock()
	defer k.reading.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	again := k.unhandled
	if !k.worked && len(again) > 0 {
		again = again[1:]
	}
	return &keys{keyboard: k.keyboard, modes: k.modes, notices: k.notices, ctx: k.ctx,
		buf: append(bytes.Join(again, nil), k.buf...)}
}

// handled is called after each key that did not end the line by itself, and after
// Enter; it reports whether Input should return.
func (k *keys) handled() (leave bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.worked = true
	if len(k.unhandled) > 0 {
		k.unhandled = k.unhandled[1:]
	}
	switch {
	case !k.shut || k.last == entered:
		return false
	case k.last == ended:
		k.shut = false // Ctrl-D deleted a character
		return false
	}
	return true
}

// nextKey returns the first key of buf, or its run of printable text, and how many
// bytes of buf it takes. Sequences that go-prompt does not know take bytes and are no
// key; a sequence or character that is not complete takes none.
func nextKey(buf []byte) (key []byte, n int) {
	for n < len(buf) {
		start := n
		switch c := buf[n]; {
		case c == keyEscape:
			size := sequence(buf[n:])
			if size == 0 {
				return nil, start
			}
			n += size
			if prompt.GetKey(buf[start:n]) != prompt.NotDefined {
				return buf[start:n], n
			}
		case c == '\r' && n+1 < len(buf) && buf[n+1] == '\n':
			return buf[n : n+1], n + 2
		case c < ' ' || c == 0x7f:
			return buf[n : n+1], n + 1
		default:
			size := text(buf[n:])
			if size > 0 {
				return buf[n : n+size], n + size
			}
			if !utf8.FullRune(buf[n:]) {
				return nil, start
			}
			n++ // not UTF-8
		}
	}
	return nil, n
}

// text returns the length of the run of printable characters at the start of buf.
func text(buf []byte) int {
	n := 0
	for n < len(buf) && buf[n] >= ' ' && buf[n] != 0x7f {
		r, size := utf8.DecodeRune(buf[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// sequence returns the length of the escape sequence at the start of buf, 0 if it is
// not complete.
func sequence(buf []byte) int {
	if len(buf) < 2 {
		return 0
	}
	switch buf[1] {
	case keyEscape:
		return 1
	case 'O':
		if len(buf) < 3 {
			return 0
		}
		return 3
	case '[':
		for i := 2; i < len(buf); i++ {
			if i == 2 && buf[i] == '[' {
				continue // the Linux console's function keys
			}
			if c := buf[i]; c < 0x20 || c > 0x3f {
				return i + 1
			}
		}
		return 0
	}
	return 2
}
