package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// A storm is what a switch measured that asked a controller about packets, as cbench does.
type storm struct {
	// SetUps is how many PACKET_INs per second were answered with a FLOW_MOD, when there
	// are always more of them than the controller can take.
	SetUps float64 `json:"setUps"`
	// Latency is the median time from a PACKET_IN to its FLOW_MOD, with one under way.
	Latency time.Duration `json:"latencyNs"`
}

const (
	// stormHosts is how many hosts the PACKET_INs are of.
	stormHosts = 64
	// stormTime is how long each of the two measurements takes.
	stormTime = 2 * time.Second
)

// stormCommand is the word that makes this program a switch.
const stormCommand = "storm"

// runStorm measures the controller at address, unix:PATH or tcp:HOST:PORT, and prints the
// result as JSON.
func runStorm(address string) error {
	network, where, ok := strings.Cut(address, ":")
	if !ok {
		return fmt.Errorf("storm: %q is neither unix:PATH nor tcp:HOST:PORT", address)
	}
	conn, err := net.Dial(network, where)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2*stormTime + 10*time.Second))
	s := &stormSwitch{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	result, err := s.measure()
	if err != nil {
		return fmt.Errorf("storm: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// The messages of OpenFlow 1.0 that a storm needs.
const (
	ofHello           = 0
	ofEchoRequest     = 2
	ofEchoReply       = 3
	ofFeaturesRequest = 5
	ofFeaturesReply   = 6
	ofPacketIn        = 10
	ofFlowMod         = 14
	ofBarrierRequest  = 18
	ofBarrierReply    = 19
)

// A stormSwitch is a switch of OpenFlow 1.0 with nothing behind it.
type stormSwitch struct {
	conn net.Conn
	in   *bufio.Reader
	next int // PACKET_INs sent
	out  []byte
	body []byte
}

func ofMessage(typ byte, xid uint32, body ...byte) []byte {
	m := binary.BigEndian.AppendUint16([]byte{1, typ}, uint16(8+len(body)))
	return append(binary.BigEndian.AppendUint32(m, xid), body...)
}

func (s *stormSwitch) measure() (storm, error) {
	if _, err := s.conn.Write(ofMessage(ofHello, 1)); err != nil {
		return storm{}, err
	}
	for ready := false; !ready; {
		typ, err := s.read()
		if err != nil {
			return storm{}, err
		}
		ready = typ == ofFeaturesRequest
	}
	var r storm
	var err error
	if r.Latency, err = s.latency(); err != nil {
		return storm{}, err
	}
	r.SetUps, err = s.throughput()
	return r, err
}

// latency asks again when it has an answer.
func (s *stormSwitch) latency() (time.Duration, error) {
	// Its first packets tell the controller where the hosts are; an echo follows the answers.
	if _, err := s.conn.Write(append(s.packetIns(stormHosts), ofMessage(ofEchoRequest, 1)...)); err != nil {
		return 0, err
	}
	for learnt := false; !learnt; {
		typ, err := s.read()
		if err != nil {
			return 0, err
		}
		learnt = typ == ofEchoReply
	}
	var took []time.Duration
	for start := time.Now(); time.Since(start) < stormTime; {
		asked := time.Now()
		if _, err := s.conn.Write(s.packetIns(1)); err != nil {
			return 0, err
		}
		for set := false; !set; {
			typ, err := s.read()
			if err != nil {
				return 0, err
			}
			set = typ == ofFlowMod
		}
		took = append(took, time.Since(asked))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// throughput asks for as long and as much as the connection takes, and returns the answers
// per second, but for the first quarter of the time.
func (s *stormSwitch) throughput() (float64, error) {
	done := make(chan struct{})
	defer func() {
		s.conn.Close()
		<-done
	}()
	go func() {
		defer close(done)
		for {
			if _, err := s.conn.Write(s.packetIns(stormHosts)); err != nil {
				return // closed at the end
			}
		}
	}()
	start := time.Now()
	answers := 0
	for {
		typ, err := s.read()
		if err != nil {
			return 0, err
		}
		if typ != ofFlowMod {
			continue
		}
		switch t := time.Since(start); {
		case t > stormTime:
			return float64(answers) / (t - stormTime/4).Seconds(), nil
		case t > stormTime/4:
			answers++
		}
	}
}

// read takes a message, answers what needs no thought and returns the type.
func (s *stormSwitch) read() (byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if n < 8 {
		return 0, errors.New("the controller sent something that is not OpenFlow")
	}
	if cap(s.body) < n {
		s.body = make([]byte, n)
	}
	body := s.body[:n-8]
	if _, err := io.ReadFull(s.in, body); err != nil {
		return 0, err
	}
	xid := binary.BigEndian.Uint32(head[4:])
	var reply []byte
	switch head[1] {
	case ofEchoRequest:
		reply = ofMessage(ofEchoReply, xid, body...)
	case ofBarrierRequest:
		reply = ofMessage(ofBarrierReply, xid)
	case ofFeaturesRequest: // datapath 1, 256 buffers, one table, no ports
		reply = ofMessage(ofFeaturesReply, xid, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	if reply != nil {
		if _, err := s.conn.Write(reply); err != nil {
			return 0, err
		}
	}
	return head[1], nil
}

// packetIns are the next questions: a packet from each host in turn, to the one before.
// They are valid until the next call.
func (s *stormSwitch) packetIns(n int) []byte {
	s.out = s.out[:0]
	for range n {
		src, dst := byte(s.next%stormHosts), byte((s.next+stormHosts-1)%stormHosts)
		var frame [60]byte
		copy(frame[:], []byte{2, 0, 0, 0, 0, dst + 1, 2, 0, 0, 0, 0, src + 1, 8, 0, 0x45})
		s.next++
		s.out = binary.BigEndian.AppendUint16(append(s.out, 1, ofPacketIn), uint16(18+len(frame)))
		s.out = binary.BigEndian.AppendUint32(s.out, uint32(s.next))
		s.out = binary.BigEndian.AppendUint32(s.out, uint32(s.next%256)) // a buffer
		s.out = binary.BigEndian.AppendUint16(s.out, uint16(len(frame)))
		s.out = binary.BigEndian.AppendUint16(s.out, uint16(src)+1)
		s.out = append(append(s.out, 0, 0), frame[:]...) // no match
	}
	return s.out
}

// parseStorm finds a storm's result in a program's output.
func parseStorm(out string) (storm, error) {
	for line := range strings.Lines(out) {
		var s storm
		if json.Unmarshal([]byte(line), &s) == nil && s.SetUps > 0 && s.Latency > 0 {
			return s, nil
		}
	}
	return storm{}, fmt.Errorf("no result of the storm:\n%s", tail(out))
}
