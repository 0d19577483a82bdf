package control

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

// A recording is a file of JSON lines. The first says what it is of:
//
//	{"format":"weft-control/1","switch":"s1","controller":"c0","start":"2026-01-02T03:04:05.6Z"}
//
// and each of the others is a RecordedMessage, or how many messages are missing at that
// place because the disk was too slow: {"lost":12}.

// recordFormat names the format and its version.
const recordFormat = "weft-control/1"

// recordHeader is the first line.
type recordHeader struct {
	Format     string    `json:"format"`
	Switch     string    `json:"switch"`
	Controller string    `json:"controller"`
	Start      time.Time `json:"start"`
}

// A RecordedMessage is a message of a recording.
type RecordedMessage struct {
	// Number counts the messages of both sides, from 1.
	Number int `json:"n,omitempty"`
	// At is when it passed, since the recording's start.
	At time.Duration `json:"ns,omitempty"`
	// From is "switch" or "controller".
	From string `json:"from,omitempty"`
	// Version, Type and XID repeat what Data says, for people.
	Version string `json:"version,omitempty"`
	Type    string `json:"type,omitempty"`
	XID     uint32 `json:"xid"`
	// Answers is the Number of the switch's message that a controller's one answers, 0
	// if none is known: by transaction ID, by buffer, because it sends the same packet,
	// or because it makes a flow for the packet's addresses.
	Answers int `json:"answers,omitempty"`
	// Data is the whole message in hexadecimal digits.
	Data string `json:"data,omitempty"`
	// Lost counts messages that are missing here. Such a line has nothing else.
	Lost uint64 `json:"lost,omitempty"`

	message Message
}

// maxRecording bounds a recording, bytes.
const maxRecording = 256 << 20

// recordQueue bounds the messages that wait to be written.
const recordQueue = 4096

// A Recorder writes a recording of one control channel.
type Recorder struct {
	header recordHeader
	failed func(error)
	queue  chan TapMessage
	done   chan struct{} // closed when all is written
	err    error         // of the writing; readable when done is closed

	messages, lost atomic.Uint64
}

// NewRecorder starts a recording to w of the channel between a switch and a controller.
// failed, if not nil, is called once if w cannot take more; the recording is over then.
func NewRecorder(w io.Writer, sw, controller string, failed func(error)) *Recorder {
	r := &Recorder{
		header: recordHeader{recordFormat, sw, controller, time.Now()},
		failed: failed,
		queue:  make(chan TapMessage, recordQueue),
		done:   make(chan struct{}),
	}
	go func() {
		defer close(r.done)
		r.err = r.write(w)
		if r.err != nil && r.failed != nil {
			r.failed(r.err)
		}
		for range r.queue { // what comes after a failure
		}
	}()
	return r
}

// Tap records a message, if it is of the recorder's channel. It never blocks: what comes
// faster than it can be written is lost, and counted. It is not to be called after Close.
func (r *Recorder) Tap(m TapMessage) {
	if m.Event != TapData || m.Switch != r.header.Switch || m.Controller != r.header.Controller {
		return
	}
	m.Data = slices.Clone(m.Data)
	select {
	case r.queue <- m:
	default:
		r.lost.Add(1)
	}
}

// Count returns how many messages were recorded, and how many were lost.
func (r *Recorder) Count() (messages, lost uint64) { return r.messages.Load(), r.lost.Load() }

// Close writes what is left and returns the error that ended the recording early, if any.
func (r *Recorder) Close() error {
	close(r.queue)
	<-r.done
	return r.err
}

// write writes the recording until the queue is closed.
func (r *Recorder) write(w io.Writer) error {
	out := &limitedWriter{w: w, left: maxRecording}
	buf := bufio.NewWriterSize(out, 64<<10)
	enc := json.NewEncoder(buf)
	err := enc.Encode(r.header)
	var asked causes
	var lost uint64
	number := 0
	for err == nil {
		var m TapMessage
		more := true
		select {
		case m, more = <-r.queue:
		default: // nothing to do: what there is goes to the file
			if err = buf.Flush(); err == nil {
				m, more = <-r.queue
			}
		}
		if err != nil || !more {
			break
		}
		if now := r.lost.Load(); now > lost {
			err = enc.Encode(struct {
				Lost uint64 `json:"lost"`
			}{now - lost})
			lost = now
			if err != nil {
				break
			}
		}
		number++
		err = enc.Encode(r.entry(&asked, number, m))
		r.messages.Add(1)
	}
	if err == nil {
		err = buf.Flush()
	}
	if err != nil {
		return fmt.Errorf("recording of %s–%s: %w", r.header.Switch, r.header.Controller, err)
	}
	return nil
}

func (r *Recorder) entry(asked *causes, number int, m TapMessage) RecordedMessage {
	e := RecordedMessage{
		Number: number, At: m.Time.Sub(r.header.Start), From: controllerSide.String(), Version: m.Data.Version().String(),
		Type: m.Data.Type().Name(m.Data.Version()), XID: m.Data.XID(), Data: hex.EncodeToString(m.Data),
	}
	if m.FromSwitch {
		e.From = switchSide.String()
		asked.add(number, m)
	} else {
		e.Answers = asked.of(m)
	}
	return e
}

// A limitedWriter refuses to write more than a number of bytes.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("it has reached %d MiB, the most that there may be", maxRecording>>20)
	}
	return l.w.Write(p)
}

// answerWithin bounds the time from a question of a switch to its answer.
const answerWithin = 5 * time.Second

// causes are a switch's last questions, to tell what a controller answers.
type causes struct {
	last [256]cause
	next int
}

type cause struct {
	number  int
	time    time.Time
	message Message
	packet  PacketIn // of a PACKET_IN
}

// add notes a message of the switch.
func (c *causes) add(number int, m TapMessage) {
	q := cause{number: number, time: m.Time, message: m.Data}
	switch m.Data.Type() {
	case TypePacketIn:
		var err error
		if q.packet, err = parsePacketIn(m.Data); err != nil {
			return
		}
	case TypeEchoRequest:
	default:
		return
	}
	c.last[c.next%len(c.last)] = q
	c.next++
}

// of returns the number of the message that m answers, or 0; the latest goes first.
func (c *causes) of(m TapMessage) int {
	for i := c.next - 1; i >= 0 && i >= c.next-len(c.last); i-- {
		q := &c.last[i%len(c.last)]
		if m.Time.Sub(q.time) > answerWithin {
			break
		}
		if q.answeredBy(m.Data) {
			return q.number
		}
	}
	return 0
}

func (q *cause) answeredBy(m Message) bool {
	asked := q.message.Type()
	sameXID := m.XID() == q.message.XID()
	switch m.Type() {
	case TypeEchoReply:
		return asked == TypeEchoRequest && sameXID
	case TypePacketOut:
		return asked == TypePacketIn && (sameXID && m.XID() != 0 || carries(m, q.packet))
	case TypeFlowMod:
		return asked == TypePacketIn && (sameXID && m.XID() != 0 || flowModBuffer(m, q.packet.BufferID) || flowOf(m, q.packet))
	}
	return false
}

// carries reports whether a PACKET_OUT sends the packet of p.
func carries(m Message, p PacketIn) bool {
	at, ok := packetOutData(m)
	if !ok {
		return false
	}
	if id := binary.BigEndian.Uint32(m[8:]); id != NoBuffer {
		return id == p.BufferID
	}
	return len(p.Data) > 0 && bytes.Equal(m[at:], p.Data)
}

// packetOutData returns where the packet of a PACKET_OUT begins.
func packetOutData(m Message) (at int, ok bool) {
	if len(m) < 24 && !(m.Version() == OpenFlow10 && len(m) >= 16) {
		return 0, false
	}
	switch v := m.Version(); {
	case v == OpenFlow10:
		at = 16 + int(binary.BigEndian.Uint16(m[14:]))
	case v < OpenFlow15:
		at = 24 + int(binary.BigEndian.Uint16(m[16:]))
	default: // a match in place of the port
		at = 16 + (int(binary.BigEndian.Uint16(m[18:]))+7)&^7 + int(binary.BigEndian.Uint16(m[12:]))
	}
	return at, at <= len(m)
}

// flowModBuffer reports whether a FLOW_MOD is also about the packet in a buffer.
func flowModBuffer(m Message, id uint32) bool {
	at, ok := flowModBufferAt(m)
	return ok && id != NoBuffer && binary.BigEndian.Uint32(m[at:]) == id
}

// flowModBufferAt returns where a FLOW_MOD's buffer ID is.
func flowModBufferAt(m Message) (at int, ok bool) {
	at = 32
	if m.Version() == OpenFlow10 {
		at = 64
	}
	return at, at+4 <= len(m)
}

// flowOf reports whether both addresses of p's packet stand in a FLOW_MOD: either way,
// in whatever kind of match.
func flowOf(m Message, p PacketIn) bool {
	return len(p.Data) >= ethernetHeader &&
		bytes.Contains(m.Body(), p.Data[0:6]) && bytes.Contains(m.Body(), p.Data[6:12])
}

// parsePacketIn reads a PACKET_IN of any version.
func parsePacketIn(m Message) (PacketIn, error) {
	switch m.Version() {
	case OpenFlow11:
		if len(m) < 24 {
			return PacketIn{}, shortError(m)
		}
		return PacketIn{BufferID: binary.BigEndian.Uint32(m[8:]), InPort: binary.BigEndian.Uint32(m[12:]), Data: m[24:]}, nil
	case OpenFlow12: // that of 1.3 without a cookie
		if len(m) < 16 {
			return PacketIn{}, shortError(m)
		}
		m13 := slices.Concat(m[:16], make(Message, 8), m[16:])
		m13[0] = byte(OpenFlow13)
		return ParsePacketIn(m13)
	}
	return ParsePacketIn(m)
}

// A Recording is what a Recorder has written.
type Recording struct {
	Switch, Controller string
	Start              time.Time
	Messages           []RecordedMessage
}

// ReadRecording reads a recording. A last line that is not whole, of a recorder that was
// killed, is left out.
func ReadRecording(r io.Reader) (*Recording, error) {
	lines := bufio.NewReader(io.LimitReader(r, maxRecording+1))
	first, err := lines.ReadBytes('\n')
	var h recordHeader
	if e := json.Unmarshal(first, &h); e != nil || h.Format != recordFormat {
		return nil, fmt.Errorf("this is no recording of a control channel: it does not begin with {\"format\":%q,", recordFormat)
	}
	rec := &Recording{Switch: h.Switch, Controller: h.Controller, Start: h.Start}
	for number := 2; err == nil; number++ {
		var line []byte
		line, err = lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var m RecordedMessage
		e := json.Unmarshal(line, &m)
		if e == nil {
			e = m.decode(len(rec.Messages))
		}
		if e != nil {
			return nil, fmt.Errorf("line %d of the recording: %w", number, e)
		}
		if m.Lost == 0 {
			rec.Messages = append(rec.Messages, m)
		}
	}
	if err != io.EOF {
		return nil, fmt.Errorf("reading the recording: %w", err)
	}
	return rec, nil
}

// decode checks a message that follows others and fills in what is not in the file.
func (m *RecordedMessage) decode(before int) error {
	if m.Lost > 0 {
		return nil
	}
	b, err := hex.DecodeString(m.Data)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	n, err := messageLen(b)
	switch {
	case err != nil:
		return err
	case n != len(b) || n == 0:
		return fmt.Errorf("data of %d bytes is not one whole message", len(b))
	case m.Number != before+1:
		return fmt.Errorf("message %d where %d is due", m.Number, before+1)
	case m.Answers < 0 || m.Answers >= m.Number:
		return fmt.Errorf("message %d answers %d, which does not come before it", m.Number, m.Answers)
	case m.From != switchSide.String() && m.From != controllerSide.String():
		return fmt.Errorf("a message from %q: it must be the switch or the controller", m.From)
	}
	m.message = b
	return nil
}
