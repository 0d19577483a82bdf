package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"weft/control"
	"weft/topo"
)

// A ChannelState is a control channel now, and what is done to it.
type ChannelState struct {
	ControlConnection
	// Down: it was cut with ChannelChange.Up.
	Down         bool            `json:"down,omitempty"`
	ToController control.Traffic `json:"toController"`
	ToSwitch     control.Traffic `json:"toSwitch"`
	Recording    *RecordingState `json:"recording,omitempty"`
	Replay       *ReplayState    `json:"replay,omitempty"`
}

// A RecordingState is the recording of a control channel.
type RecordingState struct {
	File     string `json:"file"`
	Messages uint64 `json:"messages"`
	// Lost messages came faster than they could be written.
	Lost uint64 `json:"lost,omitempty"`
}

// A ReplayState is the recording that takes a controller's place.
type ReplayState struct {
	File string `json:"file"`
	// Sent messages of the Recorded ones of the controller; some are sent more than once.
	Sent     int `json:"sent"`
	Recorded int `json:"recorded"`
}

// A ChannelChange says what is to be done to a control channel. What is not set stays as
// it is.
type ChannelChange struct {
	// Clear undoes all that was done to it, before the rest of the change.
	Clear bool `json:"clear,omitempty"`
	// Up cuts the channel, or lets the switch connect again.
	Up *bool `json:"up,omitempty"`
	// Towards says which messages Delay and Rate are about: those to the "controller",
	// to the "switch", or both if it is empty.
	Towards string `json:"towards,omitempty"`
	// Delay is how long each message is held, one way; zero ends that.
	Delay *ChannelDelay `json:"delay,omitempty"`
	// Rate is a limit in bit/s of OpenFlow; zero is none.
	Rate *uint64 `json:"rate,omitempty"`
	// Record is the file that takes a recording, an absolute path of the user's, and is
	// overwritten; empty ends the recording.
	Record *string `json:"record,omitempty"`
	// Replay is the file of a recording that takes the controller's place, an absolute
	// path; empty gives the switch its own controller again.
	Replay *string `json:"replay,omitempty"`
	// Timed replays answers to PACKET_INs too at their recorded times.
	Timed bool `json:"timed,omitempty"`
}

// A ChannelDelay is how long messages are held. Each Delay varies by up to Jitter.
type ChannelDelay struct {
	Delay  time.Duration `json:"delayNs"`
	Jitter time.Duration `json:"jitterNs,omitempty"`
}

// An experiment is what is done to a control channel beside its relay.
type experiment struct {
	recorder   *control.Recorder // nil: none
	recordFile string
	closeFile  func() error
	player     *control.Player // nil: none
	replayFile string
}

// takeRecording takes the recording away, if there is one, and returns what ends it.
func (e *experiment) takeRecording() (end func() error) {
	if e.recorder == nil {
		return func() error { return nil }
	}
	e.recorder = nil
	return e.closeFile
}

// Channels returns all control channels, in the order of switches and controllers.
func (n *Network) Channels() []ChannelState {
	all := []ChannelState{}
	for _, cc := range n.connections() {
		all = append(all, n.channelState(cc))
	}
	return all
}

func (n *Network) channelState(cc ControlConnection) ChannelState {
	s := ChannelState{ControlConnection: cc}
	n.mu.Lock()
	defer n.mu.Unlock()
	ch := channel{cc.Switch, cc.Controller}
	if r := n.relays[ch]; r != nil {
		s.Down, s.ToController, s.ToSwitch = r.IsDown(), r.Traffic(control.ToController), r.Traffic(control.ToSwitch)
	}
	e := n.experiments[ch]
	if e == nil {
		return s
	}
	if e.recorder != nil {
		s.Recording = &RecordingState{File: e.recordFile}
		s.Recording.Messages, s.Recording.Lost = e.recorder.Count()
	}
	if e.player != nil {
		s.Replay = &ReplayState{File: e.replayFile}
		s.Replay.Sent, s.Replay.Recorded = e.player.Played()
	}
	return s
}

// SetChannel changes what is done to a control channel, and returns its state then.
func (n *Network) SetChannel(sw, controller string, c ChannelChange) (ChannelState, error) {
	n.change.Lock()
	defer n.change.Unlock()
	ch := channel{sw, controller}
	if err := n.haveChannel(ch); err != nil {
		return ChannelState{}, err
	}
	if err := n.applyChannel(ch, c); err != nil {
		return ChannelState{}, fmt.Errorf("control channel %s–%s: %w", sw, controller, err)
	}
	for _, cc := range n.connections() {
		if cc.Switch == sw && cc.Controller == controller {
			return n.channelState(cc), nil
		}
	}
	return ChannelState{}, errors.New("the channel is gone")
}

// haveChannel says why there is no such channel now, nil if there is.
func (n *Network) haveChannel(ch channel) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.plan.Switch(ch.Switch)
	switch {
	case p == nil:
		return fmt.Errorf("no switch named %s", ch.Switch)
	case n.plan.Controller(ch.Controller) == nil:
		return fmt.Errorf("no controller named %s", ch.Controller)
	case p.Driver == topo.DriverLinux:
		return fmt.Errorf("switch %s is a Linux bridge, which has no controller", ch.Switch)
	case n.relays[ch] == nil && !n.running[ch.Switch]:
		return fmt.Errorf("switch %s is stopped: it has no control channel", ch.Switch)
	case n.relays[ch] == nil:
		return fmt.Errorf("%s is no controller of switch %s", ch.Controller, ch.Switch)
	}
	return nil
}

// applyChannel changes a channel that exists. What can fail comes first.
func (n *Network) applyChannel(ch channel, c ChannelChange) error {
	n.mu.Lock()
	r := n.relays[ch]
	e := n.experiments[ch]
	if e == nil {
		e = &experiment{}
		n.experiments[ch] = e
	}
	n.mu.Unlock()
	if c.Clear {
		none := ""
		err := n.applyChannel(ch, ChannelChange{Record: &none, Replay: &none})
		for _, d := range []control.Direction{control.ToController, control.ToSwitch} {
			err = errors.Join(err, r.SetShape(d, control.Shape{}))
		}
		r.SetDown(false)
		if err != nil {
			return err
		}
	}
	if c.Record != nil {
		if err := n.setRecording(ch, e, *c.Record); err != nil {
			return err
		}
	}
	if c.Replay != nil {
		if err := n.setReplay(r, e, *c.Replay, c.Timed); err != nil {
			return err
		}
	}
	directions, err := towards(c.Towards)
	if err != nil {
		return err
	}
	for _, d := range directions {
		s := r.Traffic(d).Shape
		if c.Delay != nil {
			s.Delay, s.Jitter = c.Delay.Delay, c.Delay.Jitter
		}
		if c.Rate != nil {
			s.Rate = *c.Rate
		}
		if err := r.SetShape(d, s); err != nil {
			return err
		}
	}
	if c.Up != nil {
		r.SetDown(!*c.Up)
	}
	return nil
}

// towards returns the directions to whom a change names.
func towards(whom string) ([]control.Direction, error) {
	switch whom {
	case "":
		return []control.Direction{control.ToController, control.ToSwitch}, nil
	case "controller":
		return []control.Direction{control.ToController}, nil
	case "switch":
		return []control.Direction{control.ToSwitch}, nil
	}
	return nil, fmt.Errorf("messages go to the switch or the controller, not to %q", whom)
}

// setRecording starts a recording to file in place of one that runs; empty only ends that.
func (n *Network) setRecording(ch channel, e *experiment, file string) error {
	n.mu.Lock()
	end := e.takeRecording()
	n.mu.Unlock()
	if err := end(); file == "" || err != nil {
		return err
	}
	if n.isRecording(file) {
		return fmt.Errorf("record: %s takes another recording already", file)
	}
	if err := checkFile(file, 0, os.ModeCharDevice|os.ModeDevice); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("record: %w", err)
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	r := control.NewRecorder(f, ch.Switch, ch.Controller, func(err error) {
		n.events.emit("WARN", ch.Switch, err.Error())
	})
	cancel := n.TapControl(r.Tap)
	n.mu.Lock()
	defer n.mu.Unlock()
	e.recorder, e.recordFile = r, filepath.Clean(file)
	e.closeFile = func() error {
		cancel()
		return errors.Join(r.Close(), f.Close())
	}
	return nil
}

// checkFile says why a path cannot be that of a file of one of some types, of which 0 is an
// ordinary one: to open others may take for ever.
func checkFile(path string, types ...os.FileMode) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is no absolute path", path)
	}
	st, err := os.Stat(path)
	if err == nil && !slices.Contains(types, st.Mode().Type()) {
		err = fmt.Errorf("%s is no ordinary file", path)
	}
	return err
}

// setReplay puts a recording in the controller's place; empty puts the controller back.
func (n *Network) setReplay(r *control.Relay, e *experiment, file string, timed bool) error {
	var p *control.Player
	if file != "" {
		if n.isRecording(file) {
			return fmt.Errorf("replay: %s is being recorded: end that first", file)
		}
		if err := checkFile(file, 0); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		defer f.Close()
		rec, err := control.ReadRecording(f)
		if err == nil {
			p, err = control.NewPlayer(rec, timed, n.env.Log)
		}
		if err != nil {
			return fmt.Errorf("replay %s: %w", file, err)
		}
	}
	n.mu.Lock()
	had := e.player != nil
	e.player, e.replayFile = p, file
	n.mu.Unlock()
	var dial func(context.Context) (net.Conn, error)
	if p != nil {
		dial = p.Dial
	}
	if had || p != nil {
		r.SetDial(dial)
	}
	return nil
}

// isRecording reports whether a recording goes to file.
func (n *Network) isRecording(file string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.experiments {
		if e.recorder != nil && e.recordFile == filepath.Clean(file) {
			return true
		}
	}
	return false
}

// endExperiments ends the recordings of the channels that match. n.mu is held.
func (n *Network) endExperiments(match func(channel) bool) error {
	var errs []error
	for ch, e := range n.experiments {
		if match(ch) {
			errs = append(errs, e.takeRecording()())
			delete(n.experiments, ch)
		}
	}
	return errors.Join(errs...)
}
