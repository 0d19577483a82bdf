package control

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Player plays the controller of a recording: to the switch that connects it is that
// controller, which does again what it did.
//
//	switch says HELLO ──► HELLO, FEATURES_REQUEST
//	FEATURES_REPLY    ──► from now on, what answers no PACKET_IN, at its recorded time
//	PACKET_IN         ──► what answered the recorded PACKET_IN most like it
//	ECHO_REQUEST      ──► ECHO_REPLY
//
// A PACKET_IN is like a recorded one if it came in at the same port and has the same
// Ethernet addresses and type. The first such one gets the answers to the first that was
// recorded, and so on; those beyond the last get the answers to the last. In answers
// the recorded packet, its buffer and its transaction ID become those of the live one;
// all else is as recorded.
type Player struct {
	log     *slog.Logger
	version Version
	timed   []timedMessage
	answers map[packetKey][]answer
	total   int

	played atomic.Int64
}

// A timedMessage is sent so long after the conversation's start.
type timedMessage struct {
	at      time.Duration
	message Message
}

// An answer is what was said about a PACKET_IN.
type answer struct {
	number   int // of the PACKET_IN in the recording
	xid      uint32
	packet   PacketIn
	messages []Message
}

// A packetKey says which PACKET_INs are alike.
type packetKey struct {
	port   uint32
	header [ethernetHeader]byte
}

func keyOf(p PacketIn) packetKey {
	k := packetKey{port: p.InPort}
	copy(k.header[:], p.Data)
	return k
}

// NewPlayer returns a Player of a recording. If timed is set, answers to PACKET_INs too are
// sent at their recorded time, as they stand, whatever the switch asks. log may be nil.
func NewPlayer(rec *Recording, timed bool, log *slog.Logger) (*Player, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Player{log: log, answers: map[packetKey][]answer{}}
	start := time.Duration(-1)
	for _, m := range rec.Messages {
		if m.From != controllerSide.String() {
			continue
		}
		t := m.message.Type()
		if t == TypeHello && start < 0 {
			start = m.At
		}
		switch t {
		case TypeHello, TypeError, TypeEchoRequest, TypeEchoReply:
			continue // what the Player says for itself
		}
		if v := m.message.Version(); p.version == 0 {
			p.version = v
		} else if v != p.version {
			return nil, fmt.Errorf("message %d of the recording is OpenFlow %v, those before it %v: replay knows one version", m.Number, v, p.version)
		}
		if t == TypeFeaturesRequest {
			continue
		}
		p.total++
		if timed || !p.answering(rec, m) {
			p.timed = append(p.timed, timedMessage{m.At, m.message})
		}
	}
	if p.version == 0 {
		return nil, errors.New("the recording has no message of a controller: nothing to replay")
	}
	for i := range p.timed {
		p.timed[i].at -= max(start, 0)
	}
	return p, nil
}

// answering notes m as an answer to a PACKET_IN, if it is one.
func (p *Player) answering(rec *Recording, m RecordedMessage) bool {
	if m.Answers == 0 {
		return false
	}
	asked := rec.Messages[m.Answers-1]
	if asked.From != switchSide.String() || asked.message.Type() != TypePacketIn {
		return false
	}
	packet, err := parsePacketIn(asked.message)
	if err != nil {
		return false
	}
	key := keyOf(packet)
	list := p.answers[key]
	i := slices.IndexFunc(list, func(a answer) bool { return a.number == asked.Number })
	if i < 0 {
		i = len(list)
		list = append(list, answer{number: asked.Number, xid: asked.message.XID(), packet: packet})
	}
	list[i].messages = append(list[i].messages, m.message)
	p.answers[key] = list
	return true
}

// Played returns how many messages have been sent, and how many the recording has. A
// message may be sent more than once.
func (p *Player) Played() (sent, recorded int) { return int(p.played.Load()), p.total }

// Dial connects a switch to the Player, for RelayConfig.Dial.
func (p *Player) Dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go p.serve(ours)
	return theirs, nil
}

// serve plays to one switch until it leaves.
func (p *Player) serve(conn net.Conn) {
	s := &show{Player: p, peer: newPeer(conn, maxQueue), stop: make(chan struct{}), seen: map[packetKey]int{}}
	s.peer.send(AppendHello(nil, s.nextXID(), VersionSet(p.version)))
	err := s.peer.reason(s.follow(NewReader(conn)))
	close(s.stop)
	s.timeline.Wait()
	s.peer.close()
	if !endedByPeer(err) {
		p.log.Warn("replay to a switch has ended", "err", err)
	}
}

// A show is a Player's conversation with a switch.
type show struct {
	*Player
	peer     *peer
	xid      uint32
	greeted  bool
	started  bool
	stop     chan struct{}
	timeline sync.WaitGroup
	seen     map[packetKey]int // PACKET_INs answered
}

// ownXIDs is where the transaction IDs of what a Player says for itself begin: far from
// those that controllers count from 0 or 1.
const ownXIDs = 0x77656674

func (s *show) nextXID() uint32 {
	s.xid++
	return ownXIDs + s.xid
}

// follow answers what the switch says.
func (s *show) follow(r *Reader) error {
	for {
		batch, err := r.Read()
		if err != nil {
			return err
		}
		if err := s.peer.drain(stallTimeout); err != nil {
			return err
		}
		for m := range batch.All() {
			if err := s.message(m); err != nil {
				return err
			}
		}
	}
}

func (s *show) message(m Message) error {
	switch t := m.Type(); {
	case t == TypeHello && !s.greeted:
		s.greeted = true
		theirs, err := ParseHello(m)
		if err != nil {
			return err
		}
		if v, err := Negotiate(Hello{Version: s.version, Bitmap: VersionSet(s.version)}, theirs); err != nil || v != s.version {
			text := fmt.Sprintf("the recording is of OpenFlow %v, the switch speaks %v", s.version, theirs)
			s.peer.send(AppendError(nil, m.XID(), ErrorMessage{
				Version: min(s.version, theirs.Version), Type: ErrorHelloFailed, Code: CodeIncompatible, Data: []byte(text)}))
			return errors.New(text)
		}
		s.peer.send(AppendEmpty(nil, s.version, TypeFeaturesRequest, s.nextXID()))
	case t == TypeEchoRequest:
		s.peer.send(AppendEchoReply(nil, m))
	case t == TypeFeaturesReply && !s.started:
		s.started = true
		s.timeline.Go(s.play)
	case t == TypePacketIn && s.started:
		s.answer(m)
	}
	return nil
}

// play sends what has its time.
func (s *show) play() {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for _, m := range s.timed {
		timer.Reset(time.Until(start.Add(m.at)))
		select {
		case <-s.stop:
			return
		case <-timer.C:
		}
		if err := s.peer.drain(stallTimeout); err != nil {
			s.peer.fail(err)
			return
		}
		s.played.Add(1)
		s.peer.send(m.message)
	}
}

// answer sends what was said about the recorded PACKET_IN that m is like.
func (s *show) answer(m Message) {
	live, err := parsePacketIn(m)
	if err != nil {
		return
	}
	key := keyOf(live)
	list := s.answers[key]
	if len(list) == 0 {
		return
	}
	a := list[min(s.seen[key], len(list)-1)]
	s.seen[key]++
	for _, said := range a.messages {
		s.played.Add(1) // first: whoever has the message may ask
		s.peer.send(a.adapt(said, m.XID(), live))
	}
}

// adapt makes a recorded answer one to a live PACKET_IN.
func (a answer) adapt(said Message, xid uint32, live PacketIn) Message {
	b := slices.Clone(said)
	if said.XID() == a.xid && a.xid != 0 {
		binary.BigEndian.PutUint32(b[4:], xid)
	}
	switch said.Type() {
	case TypePacketOut:
		at, _ := packetOutData(said)
		if !carries(said, a.packet) {
			break
		}
		b = b[:at]
		binary.BigEndian.PutUint32(b[8:], live.BufferID)
		if live.BufferID == NoBuffer {
			b = append(b, live.Data[:min(len(live.Data), MaxMessage-at)]...)
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	case TypeFlowMod:
		if flowModBuffer(said, a.packet.BufferID) {
			at, _ := flowModBufferAt(said)
			binary.BigEndian.PutUint32(b[at:], live.BufferID)
		}
	}
	return b
}
