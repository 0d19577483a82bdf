package shell

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"weft/network"
)

// setChannel changes the one channel as a network would, in what the tests look at.
func (f *fakeNetwork) setChannel(r *http.Request) (any, error) {
	q := body[network.ChannelChange](r)
	c := &f.channel
	if q.Clear {
		*c = fakeChannel()
	}
	if q.Up != nil {
		c.Down, c.Connected, c.Reason = !*q.Up, *q.Up, "the channel is cut"
	}
	for _, t := range []struct {
		name  string
		delay func(network.ChannelDelay)
		rate  func(uint64)
	}{
		{"controller", func(d network.ChannelDelay) { c.ToController.Delay, c.ToController.Jitter = d.Delay, d.Jitter },
			func(r uint64) { c.ToController.Rate = r }},
		{"switch", func(d network.ChannelDelay) { c.ToSwitch.Delay, c.ToSwitch.Jitter = d.Delay, d.Jitter },
			func(r uint64) { c.ToSwitch.Rate = r }},
	} {
		if q.Towards != "" && q.Towards != t.name {
			continue
		}
		if q.Delay != nil {
			t.delay(*q.Delay)
		}
		if q.Rate != nil {
			t.rate(*q.Rate)
		}
	}
	if q.Record != nil {
		c.Recording = &network.RecordingState{File: *q.Record, Messages: 17, Lost: 2}
	}
	if q.Replay != nil {
		if *q.Replay == "/missing" {
			return nil, fmt.Errorf("control channel s1–c0: replay: open /missing: no such file or directory")
		}
		c.Replay = &network.ReplayState{File: *q.Replay, Sent: 3, Recorded: 11}
	}
	return *c, nil
}

func fakeChannel() network.ChannelState {
	var c network.ChannelState
	c.ControlConnection = network.ControlConnection{Switch: "s1", Controller: "c0", Connected: true, Version: "1.3"}
	c.ToController.Messages, c.ToController.Bytes = 12, 980
	c.ToSwitch.Messages, c.ToSwitch.Bytes = 1234, 1_234_567
	return c
}

func TestControl(t *testing.T) {
	lines := []string{
		"control", "help control",
		"control s1 c0 delay 50ms", "control s1 c0 delay 50ms 10ms --to switch", "control s1 c0 rate 100kbit --to controller",
		"control s1 c0 delay 0", "control s1 c0 rate off", "control s1 c0 rate 1M",
		"control s1 c0 record /tmp/s1.jsonl", "control s1 c0 replay /tmp/s1.jsonl --timed", "control s1 c0 clear",
		"control s1 c0 down", "control s1 c0 up",
		"control s1", "control s1 c0", "control s1 c0 stop", "control s1 c0 delay", "control s1 c0 delay 1s 1s 1s", "control s1 c0 delay soon",
		"control s1 c0 rate fast", "control s1 c0 record", "control s1 c0 down now", "control s1 c0 down --to switch",
		"control s1 c0 delay 1s --to nobody", "control s1 c0 down --timed", "control s9 c0 up", "control s1 c9 up", "control s1 c0 replay /missing",
	}
	for name, cfg := range map[string]Config{"control.txt": {}, "control-json.txt": {JSON: true}} {
		f := newFakeNetwork()
		f.channel = fakeChannel()
		golden(t, name, transcript(t, f, cfg, lines))
	}
}

// Whatever is written, it is either a change or an error.
func FuzzParseControl(f *testing.F) {
	f.Add("s1 c0 delay 50ms 10ms", "switch", false)
	f.Add("s1 c0 rate 100kbit", "", true)
	f.Fuzz(func(t *testing.T, line, to string, timed bool) {
		words := strings.Fields(line)
		sw, controller, c, err := ParseControl(words, to, timed)
		if err == nil && (sw != words[0] || controller != words[1] || c == network.ChannelChange{Towards: to}) {
			t.Errorf("%q: %q %q %+v", line, sw, controller, c)
		}
	})
}
