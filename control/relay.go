package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// RelayConfig says what a Relay joins.
type RelayConfig struct {
	Switch, Controller string // names, for captures and logs
	// Listener is what the switch connects to. The relay owns it.
	Listener net.Listener
	// Dial makes one connection to the controller, TLS included. It must return
	// soon after ctx ends.
	Dial func(ctx context.Context) (net.Conn, error)
	// Tap, if not nil, is called for every message before it is passed on, in the
	// order of each direction; the two directions call it concurrently. It is also
	// called when a connection opens, before its first message, and when it has
	// closed, after its last. It must not block nor keep Data.
	Tap func(TapMessage)
	Log *slog.Logger // nil: no log
	// OnChange, if not nil, is called with each new Status, one at a time. It must
	// not block nor call SetDown or Close.
	OnChange func(Status)
}

// A TapMessage is a message that passes a relay, or the beginning or the end of the
// connection that messages pass on, which has no Data.
type TapMessage struct {
	Time               time.Time
	Switch, Controller string
	// Conn counts the connections between the two, from 1. Local and Remote are the
	// addresses of the one to the controller; they are not TCP's if the controller is
	// the built-in one.
	Conn          int
	Local, Remote net.Addr
	Event         TapEvent
	// FromSwitch says who sent the message or closed the connection.
	FromSwitch bool
	Data       Message
}

// A TapEvent says what a TapMessage is about.
type TapEvent int

// What a TapMessage may be about.
const (
	TapData TapEvent = iota
	TapOpened
	TapClosed
)

// A Status is what a control channel is at a moment.
type Status struct {
	// Connected: the HELLOs agreed on a version, and the controller has learnt the
	// switch's features.
	Connected bool
	Version   string // the version agreed on ("1.3"), if connected
	Reason    string // why it is not connected, for people
	Since     time.Time
}

// Times that bound what a relay waits for.
const (
	firstRetry   = 20 * time.Millisecond // doubles with each failed Dial
	lastRetry    = 500 * time.Millisecond
	dialTimeout  = 5 * time.Second
	helloTimeout = 5 * time.Second
	// stallTimeout bounds how long a peer may leave what it is sent unread.
	stallTimeout = 30 * time.Second
)

// maxHeld bounds what is read from a switch before its controller is there, bytes.
const maxHeld = 64 << 10

const (
	reasonNoSwitch = "the switch has not connected yet"
	reasonCut      = "the channel is cut"
	reasonClosed   = "the channel is closed"
	reasonDiverted = "the switch is given another controller"
	reasonNoHello  = "no HELLO from the controller"
)

// A Relay carries the control channel of one switch to one controller. The switch
// connects to it; for each of its connections the relay makes one to the controller,
// and when one of the two ends, it ends the other.
//
//	no switch ─accept─► dialing ─Dial─► greeting ─HELLO ×2─► waiting for features
//	    ▲                │ ▲ retry          │                   │ FEATURES_REPLY
//	    └────────────────┴─┴─── one side ends, SetDown ─────────┴──► connected
//
// A direction holds at most one read buffer, or what a Shape says: a peer that does not
// read stops the other.
type Relay struct {
	cfg    RelayConfig
	log    *slog.Logger
	hello  time.Duration // helloTimeout
	cancel context.CancelFunc
	done   chan struct{} // closed when all goroutines have ended
	lanes  [2]lane       // by Direction

	changes sync.Mutex // orders the calls of OnChange; taken before mu
	mu      sync.Mutex
	status  Status
	current *session
	conns   int // connections to the controller so far
	down    bool
	divert  func(context.Context) (net.Conn, error) // see SetDial
}

// NewRelay starts a Relay.
func NewRelay(cfg RelayConfig) *Relay { return startRelay(cfg, helloTimeout) }

func startRelay(cfg RelayConfig, hello time.Duration) *Relay {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{
		cfg:    cfg,
		log:    log.With("switch", cfg.Switch, "controller", cfg.Controller),
		hello:  hello,
		cancel: cancel,
		done:   make(chan struct{}),
		status: Status{Reason: reasonNoSwitch, Since: time.Now()},
	}
	go r.serve(ctx)
	return r
}

// Status returns what the channel is now.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// SetDown cuts the channel: it ends the connections and refuses new ones until
// SetDown(false).
func (r *Relay) SetDown(down bool) {
	r.mu.Lock()
	cut, was := r.current, r.down
	r.down = down
	if down {
		r.current = nil
	}
	r.mu.Unlock()
	switch {
	case down && !was:
		if cut != nil {
			cut.cancel()
		}
		r.set(nil, Status{Reason: reasonCut})
	case !down && was:
		r.set(nil, Status{Reason: reasonNoSwitch})
	}
}

// IsDown reports whether the channel is cut.
func (r *Relay) IsDown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down
}

// SetDial makes the relay reach another controller than the configured one, nil that one
// again. It ends the connections: the switch makes a new one.
func (r *Relay) SetDial(dial func(ctx context.Context) (net.Conn, error)) {
	r.mu.Lock()
	r.divert = dial
	r.mu.Unlock()
	r.leave(reasonDiverted)
}

// dial makes a connection to the controller that the switch is to have.
func (r *Relay) dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	dial := r.divert
	r.mu.Unlock()
	if dial == nil {
		dial = r.cfg.Dial
	}
	return dial(ctx)
}

// Close ends the channel and waits until nothing of the relay runs.
func (r *Relay) Close() error {
	r.cancel()
	err := r.cfg.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	<-r.done
	if err != nil {
		return fmt.Errorf("closing the control channel of %s: %w", r.cfg.Switch, err)
	}
	return nil
}

// set makes s the status, if by is the current session or both are nil.
func (r *Relay) set(by *session, s Status) {
	r.changes.Lock()
	defer r.changes.Unlock()
	r.mu.Lock()
	s.Since = r.status.Since
	changed := by == r.current && s != r.status
	if changed {
		s.Since = time.Now()
		r.status = s
	}
	r.mu.Unlock()
	if !changed {
		return
	}
	r.log.Debug("control channel", "connected", s.Connected, "version", s.Version, "reason", s.Reason)
	if r.cfg.OnChange != nil {
		r.cfg.OnChange(s)
	}
}

// serve accepts the switch's connections and runs one session at a time.
func (r *Relay) serve(ctx context.Context) {
	defer close(r.done)
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for ctx.Err() == nil {
		conn, err := r.cfg.Listener.Accept()
		switch {
		case err != nil && (ctx.Err() != nil || errors.Is(err, net.ErrClosed)):
			r.leave(reasonClosed)
			return
		case err != nil: // out of file descriptors: the switch will try again too
			r.log.Warn("accepting the switch's connection", "err", err)
			sleep(ctx, lastRetry)
			continue
		}
		r.leave("closed by the switch") // which would not connect twice
		sessions.Wait()
		s := &session{relay: r, sw: conn}
		sctx, cancel := context.WithCancel(ctx)
		s.cancel = cancel
		r.mu.Lock()
		refused := r.down
		if !refused {
			r.current = s
		}
		r.mu.Unlock()
		if refused {
			cancel()
			conn.Close()
			continue
		}
		sessions.Go(func() {
			defer cancel()
			s.run(sctx)
		})
	}
}

// leave ends the current session, if any, and gives it the reason.
func (r *Relay) leave(reason string) {
	r.mu.Lock()
	s := r.current
	r.mu.Unlock()
	if s == nil {
		return
	}
	s.cancel()
	r.set(s, Status{Reason: r.keepReason(reason)})
	r.mu.Lock()
	if r.current == s {
		r.current = nil
	}
	r.mu.Unlock()
}

// keepReason returns the reason in force while not connected, else other.
func (r *Relay) keepReason(other string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.Connected || r.status.Reason == "" {
		return other
	}
	return r.status.Reason
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// A session is one connection of the switch and, once dialed, one to the controller.
type session struct {
	relay  *Relay
	cancel context.CancelFunc
	sw     net.Conn
	tapped TapMessage // what all messages of the connection have in common

	mu        sync.Mutex // what the messages said so far
	hellos    [2]*Hello  // by side
	connected bool
	verdict   string // why the peers part, from what they said
}

// A side is an end of the channel.
type side int

const (
	switchSide side = iota
	controllerSide
)

func (s side) String() string { return [...]string{"switch", "controller"}[s] }
func (s side) other() side    { return 1 - s }

// run carries the session to its end.
func (s *session) run(ctx context.Context) {
	defer s.sw.Close()
	stop := context.AfterFunc(ctx, func() { s.sw.Close() })
	defer stop()
	fromSwitch := NewReader(s.sw)
	ctl, held, err := s.dial(ctx, fromSwitch)
	if ctl != nil {
		if s.relay.Status().Reason == reasonNoSwitch {
			s.relay.set(s, Status{Reason: reasonNoHello})
		}
		err = s.carry(ctx, ctl, fromSwitch, held)
	}
	if err == nil || ctx.Err() != nil {
		return // whoever ended it says why
	}
	s.mu.Lock()
	reason := s.verdict
	s.mu.Unlock()
	switch {
	case reason != "":
	case ctl != nil && err == closedError{switchSide} && !s.greeted(controllerSide):
		reason = reasonNoHello // and the switch lost patience first
	default:
		reason = err.Error()
	}
	s.relay.set(s, Status{Reason: reason})
}

// dial connects to the controller, with retries for as long as the switch stays. It
// returns what the switch sent meanwhile. Its error is nil if the switch left while
// the controller could not be reached, which is then the better reason.
func (s *session) dial(ctx context.Context, fromSwitch *Reader) (net.Conn, []byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var held []byte
	var left error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for len(held) < maxHeld {
			batch, err := fromSwitch.Read()
			if err != nil {
				if left = readError(switchSide, err); !errors.Is(err, os.ErrDeadlineExceeded) {
					cancel()
				}
				return
			}
			held = append(held, batch...)
		}
	}()
	var failed error
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		dctx, cancelDial := context.WithTimeout(ctx, dialTimeout)
		ctl, err := s.relay.dial(dctx)
		cancelDial()
		if err == nil {
			s.sw.SetReadDeadline(time.Now()) // stops the goroutine above
			<-done
			if ctx.Err() != nil {
				ctl.Close()
				return nil, nil, left
			}
			s.sw.SetReadDeadline(time.Time{})
			return ctl, held, nil
		}
		if ctx.Err() == nil {
			failed = err
			s.relay.set(s, Status{Reason: dialReason(err)})
			sleep(ctx, wait)
		}
		if ctx.Err() != nil {
			s.sw.Close()
			<-done
			if failed != nil {
				return nil, nil, nil
			}
			return nil, nil, left
		}
	}
}

// dialReason says for people why a controller cannot be reached.
func dialReason(err error) string {
	var op *net.OpError
	at := ""
	if errors.As(err, &op) && op.Addr != nil {
		at = op.Addr.String()
	}
	var timeout net.Error
	switch {
	case at != "" && errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused by " + at
	case at != "" && errors.As(err, &timeout) && timeout.Timeout():
		return "no answer from " + at
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer from the controller within %v", dialTimeout)
	}
	return err.Error()
}

// carry passes messages both ways until one side ends, and returns why.
func (s *session) carry(ctx context.Context, ctl net.Conn, fromSwitch *Reader, held []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ctl.Close() })
	defer stop()
	s.opened(ctl)
	type end struct {
		side
		err error
	}
	ended := make(chan end, 2)
	go func() { ended <- end{switchSide, s.pump(ctx, switchSide, s.sw, ctl, fromSwitch, held)} }()
	go func() { ended <- end{controllerSide, s.pump(ctx, controllerSide, ctl, s.sw, NewReader(ctl), nil)} }()
	first := <-ended
	cancel()
	s.sw.Close()
	ctl.Close()
	<-ended
	s.tap(TapClosed, first.side, nil)
	return first.err
}

// opened notes that the session has its connection to the controller.
func (s *session) opened(ctl net.Conn) {
	r := s.relay
	r.mu.Lock()
	r.conns++
	s.tapped = TapMessage{
		Switch: r.cfg.Switch, Controller: r.cfg.Controller, Conn: r.conns,
		Local: ctl.LocalAddr(), Remote: ctl.RemoteAddr(),
	}
	r.mu.Unlock()
	s.tap(TapOpened, switchSide, nil)
}

// tap tells the Tap of an event and its messages.
func (s *session) tap(e TapEvent, from side, batch Batch) {
	if s.relay.cfg.Tap == nil {
		return
	}
	t := s.tapped
	t.Time, t.Event, t.FromSwitch = time.Now(), e, from == switchSide
	if e != TapData {
		s.relay.cfg.Tap(t)
	}
	for t.Data = range batch.All() {
		s.relay.cfg.Tap(t)
	}
}

// pump passes messages from one side to the other, held first. The sender must have
// sent a HELLO before the time for it is over.
func (s *session) pump(ctx context.Context, from side, src, dst net.Conn, r *Reader, held []byte) error {
	lane := &s.relay.lanes[towards(from)]
	out := newLine(ctx, lane, func(p parcel) error { return s.pass(from, dst, p, lane) },
		func() { src.SetReadDeadline(time.Now()) })
	defer out.close()
	src.SetReadDeadline(time.Now().Add(s.relay.hello))
	greeted := false
	var rate pace
	p := parcel{Batch: held}
	for range p.All() {
		p.count++
	}
	for {
		if p.count > 0 {
			if !greeted && hasHello(p.Batch) {
				greeted = true
				src.SetReadDeadline(time.Time{})
			}
			if err := out.send(p); err != nil {
				return err
			}
		}
		rate.passed(p.count)
		batch, err := r.Read()
		if err != nil {
			if e := out.drain(); e != nil {
				return e
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("no HELLO from the %v within %v", from, s.relay.hello)
			}
			return readError(from, err)
		}
		p = parcel{batch, r.count}
	}
}

// hasHello reports whether there is a HELLO in b.
func hasHello(b Batch) bool {
	for m := range b.All() {
		if m.Type() == TypeHello {
			return true
		}
	}
	return false
}

// pass writes the messages of p to dst, learns from them and counts them.
func (s *session) pass(from side, dst net.Conn, p parcel, count *lane) error {
	batch := p.Batch
	s.tap(TapData, from, batch)
	// Learning comes first: what is written may be answered at once. But connected
	// is only what the controller has been told.
	version := s.learn(from, batch)
	dst.SetWriteDeadline(time.Now().Add(stallTimeout))
	_, err := dst.Write(batch)
	if err == nil {
		count.messages.Add(uint64(p.count))
		count.bytes.Add(uint64(len(batch)))
	}
	if err == nil && version != 0 {
		s.relay.set(s, Status{Connected: true, Version: version.String()})
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the %v has read nothing for %v", from.other(), stallTimeout)
	case err != nil:
		return readError(from.other(), err)
	}
	return nil
}

// A closedError says which side ended a connection.
type closedError struct{ by side }

func (e closedError) Error() string { return fmt.Sprintf("closed by the %v", e.by) }

// readError says for people how a connection to a side ended.
func readError(of side, err error) error {
	switch {
	case errors.Is(err, ErrNotOpenFlow):
		return fmt.Errorf("%v sent something that is %w", of, err)
	case endedByPeer(err):
		return closedError{of}
	}
	return fmt.Errorf("connection to the %v: %w", of, err)
}

// greeted reports whether a side has sent its HELLO.
func (s *session) greeted(from side) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hellos[from] != nil
}

// learn follows the start of a conversation. It returns the version agreed on if
// batch is what connects the switch, else 0.
func (s *session) learn(from side, batch Batch) Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connected {
		return 0
	}
	for m := range batch.All() {
		switch t := m.Type(); {
		case t == TypeHello && s.hellos[from] == nil:
			h, err := ParseHello(m)
			if err != nil {
				s.verdict = fmt.Sprintf("bad HELLO from the %v: %v", from, err)
			}
			s.hellos[from] = &h
			s.compare()
		case t == TypeError:
			e, err := ParseError(m)
			if err == nil && e.Type == ErrorHelloFailed {
				s.refused(from, e)
			}
		case t == TypeFeaturesReply && from == switchSide && s.hellos[0] != nil && s.hellos[1] != nil:
			s.connected = true
			return m.Version()
		}
	}
	return 0
}

// compare looks for the version that both HELLOs agree on, once both are there.
func (s *session) compare() {
	sw, ctl := s.hellos[switchSide], s.hellos[controllerSide]
	if sw == nil || ctl == nil || s.verdict != "" {
		return
	}
	if _, err := Negotiate(*sw, *ctl); err != nil {
		s.verdict = mismatch(*sw, *ctl)
		s.relay.set(s, Status{Reason: s.verdict})
		return
	}
	s.relay.set(s, Status{Reason: "the controller has not asked for the switch's features yet"})
}

// refused notes that a side refused the other's HELLO.
func (s *session) refused(by side, e ErrorMessage) {
	sw, ctl := s.hellos[switchSide], s.hellos[controllerSide]
	switch {
	case s.verdict != "":
		return
	case e.Code == CodeIncompatible && sw != nil && ctl != nil && sw.String() != ctl.String():
		s.verdict = mismatch(*sw, *ctl)
	default:
		s.verdict = fmt.Sprintf("refused by the %v: %v", by, e)
	}
	s.relay.set(s, Status{Reason: s.verdict})
}

// mismatch says that two HELLOs do not agree.
func mismatch(sw, ctl Hello) string {
	return fmt.Sprintf("version mismatch: switch speaks OpenFlow %v, controller %v", sw, ctl)
}
