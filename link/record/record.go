// Package record is what became of each frame on a link: written while it happens, and read
// back to look at. It may import internal/canvas.
package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Fate is what became of a frame.
type Fate uint8

// The fates; package link's Counters count them.
const (
	Delivered Fate = iota
	Lost           // by loss, bursts, gemodel or a trace
	Filtered       // by drop or drop_if
	Overflow       // the queue was full
	AQMDrop        // by RED or CoDel
	NoMemory       // more frames in flight than there is room for
	Down           // the other end was down or did not take it
	Oversized      // larger than the MTU
)

func fates() []string {
	return []string{"delivered", "lost", "filtered", "overflow", "aqm", "nomemory", "down", "oversized"}
}

// String returns the name of the fate in files.
func (f Fate) String() string { return fates()[f] }

// ParseFate returns the fate of a name.
func ParseFate(name string) (Fate, error) {
	if i := slices.Index(fates(), name); i >= 0 {
		return Fate(i), nil
	}
	return 0, fmt.Errorf("%q is not one of %s", name, strings.Join(fates(), ", "))
}

func ways() []string { return []string{"ab", "ba"} }

// WayName returns the name of a direction in files.
func WayName(way int) string { return ways()[way] }

// ParseWay returns the direction of a name.
func ParseWay(name string) (int, error) {
	if i := slices.Index(ways(), name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%q is not one of ab, ba", name)
}

// A Frame is what happened to a frame.
type Frame struct {
	Way    int    // 0 from A to B, 1 from B to A
	Number uint64 // from 1 in each direction
	Copy   bool   // made by duplication
	Bytes  int    // as tc counts: with Ethernet header, without frame check sequence
	// Arrival and Departure are times since the link was made. Departure is that of a frame that
	// was delivered.
	Arrival, Departure time.Duration
	Fate               Fate
	Marked             bool // ECN
	Corrupted          bool
	// QueueFrames and QueueBytes waited for the rate when the frame came to the queue.
	QueueFrames, QueueBytes uint32
}

// Delay returns how long a delivered frame was on the link.
func (f *Frame) Delay() time.Duration { return f.Departure - f.Arrival }

// Header is the first line of a file, with the names of the columns. Times are seconds.
const Header = "way,number,copy,bytes,arrival,departure,fate,marked,corrupted,queue_frames,queue_bytes\n"

const columns = 11

// Append appends the frame's line to b.
func (f *Frame) Append(b []byte) []byte {
	b = append(b, [...]string{"ab,", "ba,"}[f.Way]...)
	b = append(strconv.AppendUint(b, f.Number, 10), ',')
	b = appendBool(b, f.Copy)
	b = append(strconv.AppendInt(b, int64(f.Bytes), 10), ',')
	b = append(appendSeconds(b, f.Arrival), ',')
	if f.Fate == Delivered {
		b = appendSeconds(b, f.Departure)
	}
	b = append(append(append(b, ','), f.Fate.String()...), ',')
	b = appendBool(b, f.Marked)
	b = appendBool(b, f.Corrupted)
	b = append(strconv.AppendUint(b, uint64(f.QueueFrames), 10), ',')
	return append(strconv.AppendUint(b, uint64(f.QueueBytes), 10), '\n')
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, "1,"...)
	}
	return append(b, "0,"...)
}

// appendSeconds appends a time that is not negative with all its nanoseconds.
func appendSeconds(b []byte, d time.Duration) []byte {
	b = append(strconv.AppendInt(b, int64(d/time.Second), 10), '.')
	fraction := int64(d % time.Second)
	for unit := int64(time.Second / 10); unit > 0; unit /= 10 {
		b = append(b, '0'+byte(fraction/unit%10))
	}
	return b
}

// missing begins a line that says how many frames could not be written.
const missing = "# missing "

// AppendMissing appends a line that says that so many frames are missing here.
func AppendMissing(b []byte, frames uint64) []byte {
	return append(strconv.AppendUint(append(b, missing...), frames, 10), '\n')
}

// A Reader reads a file's frames, in the order in which their fates were known.
type Reader struct {
	lines   *bufio.Scanner
	line    int
	missing uint64
}

// NewReader returns a reader; it fails if the file is not a record.
func NewReader(r io.Reader) (*Reader, error) {
	d := &Reader{lines: bufio.NewScanner(r)}
	line, err := d.next()
	switch {
	case err == io.EOF:
		return nil, errors.New("the file is empty")
	case err != nil:
		return nil, err
	case line != strings.TrimSuffix(Header, "\n"):
		return nil, errors.New("this is no record of a link: its first line is not " + strings.TrimSuffix(Header, "\n"))
	}
	return d, nil
}

// Missing returns how many frames the file says could not be written, so far.
func (d *Reader) Missing() uint64 { return d.missing }

// next returns the next line that is not a comment.
func (d *Reader) next() (string, error) {
	for d.lines.Scan() {
		d.line++
		line := strings.TrimSuffix(d.lines.Text(), "\r")
		if line == "" || line[0] != '#' {
			return line, nil
		}
		if n, ok := strings.CutPrefix(line, missing); ok {
			count, err := strconv.ParseUint(n, 10, 64)
			if err != nil {
				return "", fmt.Errorf("line %d: %q is not a number of frames", d.line, n)
			}
			d.missing += count
		}
	}
	if err := d.lines.Err(); err != nil {
		return "", fmt.Errorf("line %d: %w", d.line+1, err)
	}
	return "", io.EOF
}

// Read returns the next frame, or io.EOF.
func (d *Reader) Read() (Frame, error) {
	var f Frame
	line, err := d.next()
	if err != nil {
		return f, err
	}
	fields := strings.Split(line, ",")
	if len(fields) != columns {
		return f, fmt.Errorf("line %d: %d fields; a record has %d", d.line, len(fields), columns)
	}
	p := parser{fields: fields}
	f.Way = p.word(ways()...)
	f.Number = p.number(64)
	f.Copy = p.word("0", "1") == 1
	f.Bytes = int(p.number(31))
	f.Arrival = p.seconds()
	if p.fields[0] == "" {
		p.fields = p.fields[1:]
	} else {
		f.Departure = p.seconds()
	}
	f.Fate = Fate(p.word(fates()...))
	f.Marked = p.word("0", "1") == 1
	f.Corrupted = p.word("0", "1") == 1
	f.QueueFrames = uint32(p.number(32))
	f.QueueBytes = uint32(p.number(32))
	if p.err != nil {
		return f, fmt.Errorf("line %d: %w", d.line, p.err)
	}
	return f, nil
}

// A parser takes fields from the left, and remembers the first error.
type parser struct {
	fields []string
	err    error
}

func (p *parser) next() string {
	f := p.fields[0]
	p.fields = p.fields[1:]
	return f
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *parser) word(words ...string) int {
	f := p.next()
	i := slices.Index(words, f)
	if i < 0 {
		p.fail("%q is not one of %s", f, strings.Join(words, ", "))
	}
	return max(i, 0)
}

func (p *parser) number(bits int) uint64 {
	f := p.next()
	n, err := strconv.ParseUint(f, 10, bits)
	if err != nil {
		p.fail("%q is not a number of %d bits", f, bits)
	}
	return n
}

func (p *parser) seconds() time.Duration {
	f := p.next()
	whole, fraction, _ := strings.Cut(f, ".")
	s, err := strconv.ParseUint(whole, 10, 33)
	ns, err2 := strconv.ParseUint((fraction + "000000000")[:9], 10, 64)
	if err != nil || err2 != nil || len(fraction) > 9 {
		p.fail("%q is not a time in seconds", f)
	}
	return time.Duration(s)*time.Second + time.Duration(ns)
}
