// Package control is the OpenFlow control channel: framing, the messages that the
// built-in controller needs, the relay between a switch and its controller, and the
// built-in controller itself. It works on connections that it is given and may
// import topo and the standard library only.
//
//	switch ── unix socket ──► Relay ── Dial ──► a controller of the user's
//	                            │               or Controller.Serve
//	                            └─ Tap: every message, for captures
package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// A Version is an OpenFlow version as it stands on the wire.
type Version uint8

// The versions of OpenFlow, spelled as in topo.Switch.Protocols.
const (
	OpenFlow10 Version = 1 + iota
	OpenFlow11
	OpenFlow12
	OpenFlow13
	OpenFlow14
	OpenFlow15
)

// String returns the version as people write it, "1.3".
func (v Version) String() string {
	if v >= OpenFlow10 && v <= OpenFlow15 {
		return fmt.Sprintf("1.%d", v-1)
	}
	return fmt.Sprintf("0x%02x", uint8(v))
}

// Versions is a set of versions: bit 1<<v stands for v, as in the version bitmap of
// a HELLO (OpenFlow 1.3.5, 7.5.1).
type Versions uint32

// VersionSet returns the set of the versions given.
func VersionSet(vs ...Version) Versions {
	var s Versions
	for _, v := range vs {
		s |= 1 << v
	}
	return s
}

// Has reports whether v is in s.
func (s Versions) Has(v Version) bool { return v < 32 && s&(1<<v) != 0 }

// String lists the versions, "1.0, 1.3".
func (s Versions) String() string {
	var names []string
	for v := Version(0); v < 32; v++ {
		if s.Has(v) {
			names = append(names, v.String())
		}
	}
	if names == nil {
		return "no version"
	}
	return strings.Join(names, ", ")
}

// HeaderLen is the length of an OpenFlow header in bytes, MaxMessage that of the
// longest message, header included.
const (
	HeaderLen  = 8
	MaxMessage = 65535
)

// A Message is one whole OpenFlow message as it stands on the wire. Those that a
// Reader returns have a header and the length that it says.
type Message []byte

// Version returns the version in the header.
func (m Message) Version() Version { return Version(m[0]) }

// Type returns the type in the header; Type.Name gives its name.
func (m Message) Type() Type { return Type(m[1]) }

// XID returns the transaction ID in the header.
func (m Message) XID() uint32 { return binary.BigEndian.Uint32(m[4:]) }

// Body returns what follows the header.
func (m Message) Body() []byte { return m[HeaderLen:] }

// String names the message, "OpenFlow 1.3 PACKET_IN, 60 bytes".
func (m Message) String() string {
	return fmt.Sprintf("OpenFlow %v %s, %d bytes", m.Version(), m.Type().Name(m.Version()), len(m))
}

// ErrNotOpenFlow is matched by the errors of a Reader about bytes that cannot be the
// start of an OpenFlow message.
var ErrNotOpenFlow = errors.New("not OpenFlow")

// A Batch is one or more whole messages, one after the other.
type Batch []byte

// All returns the messages of b in their order.
func (b Batch) All() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for len(b) > 0 {
			n, err := messageLen(b)
			if err != nil || n == 0 || n > len(b) || !yield(Message(b[:n:n])) {
				return
			}
			b = b[n:]
		}
	}
}

// messageLen returns the length of the message that b starts with, or 0 if b is too
// short to know.
func messageLen(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	v, t := Version(b[0]), Type(b[1])
	// A HELLO may offer a version that does not exist yet.
	if v == 0 || v > OpenFlow15 && t != TypeHello {
		return 0, fmt.Errorf("%w: %q", ErrNotOpenFlow, b[:min(len(b), 16)])
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < HeaderLen {
		return 0, fmt.Errorf("%w: a %s of %d bytes", ErrNotOpenFlow, t.Name(v), n)
	}
	return n, nil
}

// The size of a Reader's buffer in bytes: it starts small, because a network has
// many quiet connections, and doubles while reads fill it.
const (
	minBuffer = 4 << 10
	maxBuffer = 128 << 10
)

// A Reader splits a byte stream into OpenFlow messages.
type Reader struct {
	src        io.Reader
	buf        []byte
	start, end int // the bytes of buf that were read and not yet returned
	count      int // messages in the last Batch
	full       bool
}

// NewReader returns a Reader of src.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Read returns all whole messages that have arrived, at least one; it reads from the
// source only if there is none. The Batch is valid until the next call. After an
// error that time heals, such as a deadline, Read may be called again. The error is
// io.EOF only between two messages.
func (r *Reader) Read() (Batch, error) {
	for {
		n, count, err := wholeMessages(r.buf[r.start:r.end])
		if n > 0 {
			r.count = count
			b := Batch(r.buf[r.start : r.start+n : r.start+n])
			r.start += n
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		r.makeRoom()
		n, err = r.src.Read(r.buf[r.end:])
		r.end += n
		r.full = r.end == len(r.buf)
		switch {
		case n > 0 || err == nil:
		case err == io.EOF && r.start < r.end:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// makeRoom makes buf longer than its content.
func (r *Reader) makeRoom() {
	if r.start < r.end && r.end < len(r.buf) {
		return
	}
	to := r.buf
	if r.full && len(to) < maxBuffer || len(to) == 0 {
		to = make([]byte, max(minBuffer, 2*len(to)))
	}
	r.end = copy(to, r.buf[r.start:r.end])
	r.start, r.buf, r.full = 0, to, false
}

// wholeMessages returns the length and the number of the whole messages that b starts
// with. An error is about what follows them, so it is returned only without any.
func wholeMessages(b []byte) (total, count int, err error) {
	for {
		n, err := messageLen(b[total:])
		if err != nil && total == 0 {
			return 0, 0, err
		}
		if err != nil || n == 0 || total+n > len(b) {
			return total, count, nil
		}
		total += n
		count++
	}
}
