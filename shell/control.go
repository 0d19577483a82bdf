package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"weft/network"
	"weft/topo"
)

// An Experimenter does things to the control channels of a network.
type Experimenter interface {
	Channels(ctx context.Context) ([]network.ChannelState, error)
	SetChannel(ctx context.Context, sw, controller string, c network.ChannelChange) (network.ChannelState, error)
}

// ControlActions says what can be done to a control channel, for people.
const ControlActions = `  down                  cut the channel
  up                    let the switch connect again
  delay TIME [JITTER]   hold each message that long, more or less by the jitter; 0: no more
  rate RATE             at most so many bit/s: 64k, 100kbit, 1M; 0: no limit
  record FILE           write down what is said; off: no more. To have it from the first
                        HELLO on, record while the channel is down
  replay FILE           let a recording take the controller's place; off: no more
  clear                 undo all of this
`

func controlOptions() []option {
	return []option{
		{"--to", "switch|controller", "delay, rate: only messages to that side (both)"},
		{"--timed", "", "replay: answer PACKET_INs too when it was done, not when they come"},
	}
}

// runControl lists the control channels or changes one.
func runControl(ctx context.Context, c *call) error {
	if len(c.args) == 0 {
		list, err := c.net.Channels(ctx)
		if err != nil {
			return err
		}
		c.show(channelsView(list))
		return nil
	}
	_, timed := c.opts["--timed"]
	sw, controller, change, err := ParseControl(c.args, c.opts["--to"], timed)
	if errors.Is(err, errControlWords) {
		return c.misuse("usage: control switch controller action")
	}
	if err != nil {
		return err
	}
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(wantNode(switchNames(st.Plan), "switch", sw), wantNode(controllerNames(st.Plan), "controller", controller)); err != nil {
		return err
	}
	state, err := c.net.SetChannel(ctx, sw, controller, change)
	if err != nil {
		return err
	}
	v := channelsView([]network.ChannelState{state})
	v.value = state
	c.show(v)
	return nil
}

// errControlWords says that there are too few words, or too many.
var errControlWords = errors.New("write SWITCH CONTROLLER and one of down, up, delay, rate, record, replay, clear")

// ParseControl reads what is to be done to which control channel: a switch, a controller,
// an action and its values. to and timed are the options.
func ParseControl(words []string, to string, timed bool) (sw, controller string, c network.ChannelChange, err error) {
	if len(words) < 3 {
		return "", "", c, errControlWords
	}
	action, values := words[2], words[3:]
	least, most := 0, 0
	c.Towards = to
	switch action {
	case "down", "up":
		up := action == "up"
		c.Up = &up
	case "clear":
		c.Clear = true
	case "delay":
		least, most = 1, 2
	case "rate", "record", "replay":
		least, most = 1, 1
	default:
		return "", "", c, fmt.Errorf("there is no %q for a control channel: %w", action, errControlAction)
	}
	switch {
	case len(values) < least || len(values) > most:
		err = errControlWords
	case action == "delay":
		c.Delay, err = parseDelay(values)
	case action == "rate":
		c.Rate, err = parseChannelRate(values[0])
	case action == "record":
		c.Record, err = absolute(values[0])
	case action == "replay":
		c.Replay, err = absolute(values[0])
		c.Timed = timed
	}
	switch {
	case err != nil:
	case to != "" && action != "delay" && action != "rate":
		err = fmt.Errorf("option --to is for delay and rate")
	case to != "" && to != "switch" && to != "controller":
		err = fmt.Errorf("option --to needs switch or controller, not %q", to)
	case timed && action != "replay":
		err = fmt.Errorf("option --timed is for replay")
	}
	return words[0], words[1], c, err
}

var errControlAction = errors.New("choose from down, up, delay, rate, record, replay, clear")

// none are the words for no delay, rate, recording or replay.
func none(word string) bool { return word == "0" || word == "off" || word == "none" }

func parseDelay(words []string) (*network.ChannelDelay, error) {
	var d network.ChannelDelay
	for i, to := range []*time.Duration{&d.Delay, &d.Jitter}[:len(words)] {
		if none(words[i]) {
			continue
		}
		var err error
		if *to, err = parseSpan(words[i]); err != nil {
			return nil, err
		}
	}
	return &d, nil
}

func parseChannelRate(word string) (*uint64, error) {
	if none(word) {
		return new(uint64), nil
	}
	number, _, _ := strings.Cut(word, "bit") // 100kbit, 1Mbit/s
	r, err := parseRate(number)
	if err != nil {
		return nil, fmt.Errorf("%q is not a rate in bit/s: write 64k, 100kbit or 1M", word)
	}
	return &r, nil
}

// absolute returns the path of a file as the network sees it, whose directory is another.
func absolute(file string) (*string, error) {
	if none(file) {
		return new(string), nil
	}
	path, err := filepath.Abs(file)
	return &path, err
}

// WriteChannels writes control channels for people.
func WriteChannels(w io.Writer, list []network.ChannelState) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no switch has a controller")
		return
	}
	t := table(w)
	fmt.Fprintln(t, "SWITCH\tCONTROLLER\tSTATE\tTO CONTROLLER\tTO SWITCH\tEXPERIMENT")
	for _, c := range list {
		state := "OpenFlow " + c.Version
		if !c.Connected {
			state = c.Reason
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Switch, c.Controller, state,
			traffic(c.ToController.Messages, c.ToController.Bytes), traffic(c.ToSwitch.Messages, c.ToSwitch.Bytes),
			dash(experiment(c)))
	}
	t.Flush()
}

func channelsView(list []network.ChannelState) view {
	return view{value: orEmpty(list), native: func(w io.Writer) { WriteChannels(w, list) }}
}

func traffic(messages, bytes uint64) string {
	return fmt.Sprintf("%d (%s)", messages, amount(bytes, "B"))
}

// amount writes a number with a prefix: "1.5 kB".
func amount(n uint64, unit string) string {
	if n < 1000 {
		return fmt.Sprintf("%d %s", n, unit)
	}
	v, prefix := float64(n)/1000, 0
	for v >= 1000 && prefix < 3 {
		v /= 1000
		prefix++
	}
	return fmt.Sprintf("%.3g %c%s", v, "kMGT"[prefix], unit)
}

// experiment says what is done to a channel.
func experiment(c network.ChannelState) string {
	var parts []string
	a, b := c.ToController, c.ToSwitch
	both := a.Shape == b.Shape
	for _, d := range []struct {
		delay, jitter time.Duration
		rate          uint64
		held          int64
		to            string
	}{
		{a.Delay, a.Jitter, a.Rate, a.Held, " to controller"},
		{b.Delay, b.Jitter, b.Rate, b.Held, " to switch"},
	} {
		if both {
			if d.held += b.Held; d.to == " to switch" {
				break
			}
			d.to = ""
		}
		if d.delay > 0 || d.jitter > 0 {
			text := fmt.Sprintf("delay %v", d.delay)
			if d.jitter > 0 {
				text += fmt.Sprintf(" ± %v", d.jitter)
			}
			parts = append(parts, text+d.to)
		}
		if d.rate > 0 {
			parts = append(parts, amount(d.rate, "bit/s")+d.to)
		}
		if d.held > 0 {
			parts = append(parts, amount(uint64(d.held), "B")+" held"+d.to)
		}
	}
	if r := c.Recording; r != nil {
		text := fmt.Sprintf("records to %s (%d so far)", r.File, r.Messages)
		if r.Lost > 0 {
			text = fmt.Sprintf("records to %s (%d so far, %d lost)", r.File, r.Messages, r.Lost)
		}
		parts = append(parts, text)
	}
	if r := c.Replay; r != nil {
		parts = append(parts, fmt.Sprintf("replays %s (%d messages recorded, %d sent)", r.File, r.Recorded, r.Sent))
	}
	return strings.Join(parts, ", ")
}

func completeControl(p *topo.Plan, words []string) []string {
	switch len(words) {
	case 0:
		return switchNames(p)
	case 1:
		return controllerNames(p)
	case 2:
		return []string{"clear", "delay", "down", "rate", "record", "replay", "up"}
	}
	return nil
}
