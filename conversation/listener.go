package conversation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"weft/control"
	"weft/control/openflow"
)

// A Message is one that passed a control channel.
type Message = control.TapMessage

// A Listener takes messages and does with those that it picks what its fields say.
type Listener struct {
	// Lines, if not nil, gets a line for each message: text for people, or JSON.
	Lines io.Writer
	JSON  bool
	// Counter and Sequence, if not nil, get the messages too.
	Counter  *Counter
	Sequence *Sequence
	// Limit ends listening after so many messages; 0: it does not.
	Limit int

	decoder *openflow.Decoder
	filter  Filter

	mu     sync.Mutex
	closed bool
	picked int
}

// NewListener returns a Listener to the messages of a selection.
func NewListener(s Selection) (*Listener, error) {
	d := openflow.NewDecoder()
	f, err := s.Filter(d)
	if err != nil {
		return nil, err
	}
	return &Listener{decoder: d, filter: f}, nil
}

// errEnough ends a source: the Limit was reached, or Listen is over.
var errEnough = errors.New("enough messages")

// A Source calls emit for each message, until it has no more, ctx ends or emit returns an
// error.
type Source func(ctx context.Context, emit func(Message) error) error

// Listen takes what a source has, until its end, the Limit or the end of ctx, which is no
// error. It does not wait for a source that does not end with ctx.
func (l *Listener) Listen(ctx context.Context, s Source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s(ctx, l.take) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if errors.Is(err, errEnough) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Unseen returns the fields that were asked for and that no message had, if no message was
// picked: they may be misspelt.
func (l *Listener) Unseen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.picked > 0 {
		return nil
	}
	return l.filter.Unseen()
}

// take takes a message from a source.
func (l *Listener) take(m Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errEnough
	}
	d := l.decoder.Decode(m.Data)
	if !l.filter.Match(m, d) {
		return nil
	}
	l.picked++
	if l.Counter != nil {
		l.Counter.Add(m, d)
	}
	if l.Sequence != nil {
		l.Sequence.Add(m, d)
	}
	if l.Lines != nil {
		if err := l.write(m, d); err != nil {
			return err
		}
	}
	if l.Limit > 0 && l.picked >= l.Limit {
		l.closed = true
		return errEnough
	}
	return nil
}

func (l *Listener) write(m Message, d openflow.Decoded) error {
	if !l.JSON {
		_, err := io.WriteString(l.Lines, openflow.Line(m, d)+"\n")
		return err
	}
	from := "switch"
	if !m.FromSwitch {
		from = "controller"
	}
	e := json.NewEncoder(l.Lines)
	e.SetEscapeHTML(false)
	return e.Encode(line{m.Time, m.Switch, m.Controller, m.Conn, from, d})
}

// A line is the JSON form of a message in a conversation.
type line struct {
	Time       time.Time        `json:"time"`
	Switch     string           `json:"switch"`
	Controller string           `json:"controller"`
	Connection int              `json:"connection"`
	From       string           `json:"from"` // switch or controller
	OpenFlow   openflow.Decoded `json:"openflow"`
}

// FileSource reads the capture file src, as ReadFile does, and tells report what it held.
func FileSource(src io.Reader, ports []uint16, report func(Report)) Source {
	return func(_ context.Context, emit func(Message) error) error {
		r, err := ReadFile(src, ports, emit)
		report(r)
		return err
	}
}

// Tail returns a reader of a file that waits for more at its end, until ctx ends.
func Tail(ctx context.Context, f *os.File) io.Reader { return tail{ctx, f} }

type tail struct {
	ctx  context.Context
	file *os.File
}

// tailPoll is how often a file is looked at for more.
const tailPoll = 50 * time.Millisecond

func (t tail) Read(p []byte) (int, error) {
	for {
		n, err := t.file.Read(p)
		if n > 0 || err != io.EOF {
			return n, err
		}
		select {
		case <-t.ctx.Done():
			return 0, io.EOF
		case <-time.After(tailPoll):
		}
	}
}

// Describe says for people what was read, if that was nothing.
func (r Report) Describe(ports []uint16) error {
	if r.Messages > 0 {
		return nil
	}
	return fmt.Errorf("no OpenFlow in it: %d packets, none on the ports %v or from a connection that begins with a HELLO", r.Packets, ports)
}
