package experiment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"weft/network"
	"weft/topo"
)

// Flows counts the entries of a switch's flow table.
type Flows struct {
	Switch   string `key:"switch" doc:"whose table" required:"true"`
	Match    string `key:"match" doc:"only flows whose match has all of this: ip,nw_dst=10.0.0.2"`
	Actions  string `key:"actions" doc:"only flows whose actions have all of this: output:2, drop"`
	Table    *int   `key:"table" doc:"only this table"`
	Priority *int   `key:"priority" doc:"only this priority"`
	Cookie   string `key:"cookie" doc:"only this cookie"`
}

func shortFlows(a Action, text string) error {
	a.(*Flows).Switch = text
	return nil
}

func (f *Flows) String() string {
	text := "flows " + f.Switch
	if f.Match != "" {
		text += " " + f.Match
	}
	if f.Actions != "" {
		text += " actions=" + f.Actions
	}
	return text
}

// Validate wants a switch that speaks OpenFlow.
func (f *Flows) Validate(plan *topo.Plan) error {
	sw := plan.Switch(f.Switch)
	switch {
	case f.Switch == "":
		return nil // Decode says so
	case sw == nil:
		return unknown("switch", f.Switch, switches(plan))
	}
	return sw.NoFlowTable()
}

// Estimate is that of a look.
func (f *Flows) Estimate() time.Duration { return time.Second }

// Do looks.
func (f *Flows) Do(ctx context.Context, t *Trial) (Outcome, error) {
	all, err := t.Client.Flows(ctx, f.Switch)
	if err != nil {
		return Outcome{}, err
	}
	found := slices.DeleteFunc(all, func(flow network.Flow) bool { return !f.picks(flow) })
	var packets, bytes uint64
	for _, flow := range found {
		packets, bytes = packets+flow.Packets, bytes+flow.Bytes
	}
	o := Outcome{Values: Values{"count": float64(len(found)), "packets": float64(packets), "bytes": float64(bytes)}, Detail: found}
	o.Summary = fmt.Sprintf("%d flows, %d packets", len(found), packets)
	if len(found) == 1 {
		o.Summary = fmt.Sprintf("priority %d, match %q, actions %s, %d packets", found[0].Priority, found[0].Match, found[0].Actions, packets)
	}
	return o, nil
}

// picks reports whether a flow is one of those that are looked for.
func (f *Flows) picks(flow network.Flow) bool {
	switch {
	case f.Table != nil && flow.Table != *f.Table,
		f.Priority != nil && flow.Priority != *f.Priority,
		f.Cookie != "" && flow.Cookie != f.Cookie:
		return false
	}
	return hasAll(flow.Match, f.Match) && hasAll(flow.Actions, f.Actions)
}

// hasAll reports whether each item of want, separated by commas or blanks, is among those of text.
// What is within parentheses is of one item.
func hasAll(text, want string) bool {
	have := splitItems(text)
	for _, w := range splitItems(want) {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

func splitItems(text string) []string {
	depth := 0
	return strings.FieldsFunc(text, func(c rune) bool {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		}
		return depth == 0 && (c == ',' || c == ' ')
	})
}

// Control changes what is done to a control channel.
type Control struct {
	Channel string        `key:"channel" doc:"switch and controller: s1:c0" required:"true"`
	Delay   time.Duration `key:"delay" doc:"hold each message so long, one way"`
	Jitter  time.Duration `key:"jitter" doc:"the delay varies by up to this"`
	Rate    topo.Rate     `key:"rate" doc:"limit, of OpenFlow's own bytes"`
	To      string        `key:"to" doc:"only messages to the switch, or to the controller (both)"`
	Clear   bool          `key:"clear" doc:"first undo all that was done to it"`
}

func (c *Control) String() string {
	text := "control " + c.Channel
	if c.Clear {
		text += " clear"
	}
	if c.Delay != 0 {
		text += " delay " + formatDuration(c.Delay)
	}
	if c.Rate != 0 {
		text += " rate " + c.Rate.String()
	}
	return text
}

// Validate wants a channel that there is.
func (c *Control) Validate(plan *topo.Plan) error {
	var errs []error
	if c.Channel != "" {
		to, err := findTarget(plan, c.Channel)
		if err == nil && to.controller == "" {
			err = fmt.Errorf("%s is no control channel; write for example s1:c0", c.Channel)
		}
		errs = append(errs, err)
	}
	if c.To != "" && c.To != "switch" && c.To != "controller" {
		errs = append(errs, fmt.Errorf("to: %q is neither switch nor controller", c.To))
	}
	if c.Jitter != 0 && c.Delay == 0 {
		errs = append(errs, errors.New("jitter varies a delay; write delay too"))
	}
	if c.Delay == 0 && c.Rate == 0 && !c.Clear {
		errs = append(errs, errors.New("nothing is to be done to the channel; write delay, rate or clear"))
	}
	return errors.Join(errs...)
}

// Estimate is nothing: it is done at once.
func (c *Control) Estimate() time.Duration { return 0 }

// Do changes the channel.
func (c *Control) Do(ctx context.Context, t *Trial) (Outcome, error) {
	sw, controller, _ := strings.Cut(c.Channel, ":")
	change := network.ChannelChange{Clear: c.Clear, Towards: c.To}
	if c.Delay != 0 {
		change.Delay = &network.ChannelDelay{Delay: c.Delay, Jitter: c.Jitter}
	}
	if c.Rate != 0 {
		rate := uint64(c.Rate)
		change.Rate = &rate
	}
	_, err := t.Client.SetChannel(ctx, sw, controller, change)
	return Outcome{}, err
}
