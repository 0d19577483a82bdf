package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"weft/conversation"
	"weft/network"
	"weft/topo"
)

// An Eavesdropper hears what switches and controllers say to each other.
type Eavesdropper interface {
	ControlMessages(ctx context.Context, ready func(), report func(network.ControlMessage) error) error
}

func openflowOptions() []option {
	return []option{
		{"--type", "TYPE,...", "only messages of these types: PACKET_IN, FLOW_MOD"},
		{"--xid", "XID,...", "only messages with these transaction IDs"},
		{"--match", "FIELD=VALUE,...", "only messages that have these fields, their packets' headers included"},
		{"--count", "N", "end after N messages"},
		{"--time", "SPAN", "end after a time"},
		{"--stats", "", "at the end say how many messages there were, and how long flows took to be set up"},
	}
}

// A follower is a conversation that is shown beside the prompt.
type follower struct {
	stop context.CancelFunc
	done chan struct{}
}

// runOpenflow follows the conversation until Ctrl-C, or beside the prompt.
func runOpenflow(ctx context.Context, c *call) error {
	words := c.args
	beside := len(words) > 0 && words[0] == "on"
	if len(words) == 1 && words[0] == "off" {
		if c.follower == nil {
			return errors.New("openflow is not on")
		}
		c.unfollow()
		return c.done()
	}
	if beside {
		words = words[1:]
	}
	l, span, err := c.openflowListener(ctx, words)
	if err != nil {
		return err
	}
	if beside {
		if c.follower != nil {
			return errors.New("openflow is on already: openflow off ends it")
		}
		return c.follow(l, span)
	}
	if span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, span)
		defer cancel()
	}
	missed := uint64(0)
	err = l.Listen(ctx, liveSource(c.net, nil, func(n uint64) { missed += n }))
	if missed > 0 {
		fmt.Fprintf(c.cfg.Err, "Note: %s missing: this end was too slow\n", plural(int(missed), "message is", "messages are"))
	}
	for _, name := range l.Unseen() {
		fmt.Fprintf(c.cfg.Err, "Note: no message had a field %s\n", name)
	}
	if l.Counter != nil {
		s := l.Counter.Statistics()
		c.show(view{value: s, native: func(w io.Writer) { s.Write(w) }})
	}
	return err
}

// openflowListener returns a listener that prints what words and options ask for, and
// how long it listens; 0: without end.
func (c *call) openflowListener(ctx context.Context, switches []string) (*conversation.Listener, time.Duration, error) {
	st, err := c.state(ctx)
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for _, name := range switches {
		errs = append(errs, wantNode(switchNames(st.Plan), "switch", name))
	}
	var span time.Duration
	limit := 0
	if v, ok := c.opts["--time"]; ok {
		span, err = parseSpan(v)
		errs = append(errs, err)
	}
	if v, ok := c.opts["--count"]; ok {
		limit, err = parseCount(v)
		errs = append(errs, err)
	}
	if err := joinMistakes(errs); err != nil {
		return nil, 0, err
	}
	l, err := conversation.NewListener(conversation.Selection{
		Switches: strings.Join(switches, ","), Types: c.opts["--type"], XIDs: c.opts["--xid"], Match: c.opts["--match"],
	})
	if err != nil {
		return nil, 0, err
	}
	l.Lines, l.JSON, l.Limit = c.results(), c.json, limit
	if c.json {
		l.Lines = c.cfg.Out
	}
	if _, ok := c.opts["--stats"]; ok {
		l.Counter = conversation.NewCounter()
		if c.json {
			l.Lines = nil
		}
	}
	return l, span, nil
}

// liveSource is a network's conversation. ready may be nil; missed is told of messages
// that were lost.
func liveSource(net Eavesdropper, ready func(), missed func(uint64)) conversation.Source {
	return func(ctx context.Context, emit func(conversation.Message) error) error {
		return net.ControlMessages(ctx, ready, func(m network.ControlMessage) error {
			if m.Missed > 0 {
				missed(m.Missed)
			}
			if len(m.Data) == 0 {
				return nil
			}
			return emit(conversation.Message{Time: m.Time, Switch: m.Switch, Controller: m.Controller, Conn: m.Connection,
				FromSwitch: m.FromSwitch, Data: m.Data})
		})
	}
}

// follow shows the conversation beside the prompt until it is turned off.
func (c *call) follow(l *conversation.Listener, span time.Duration) error {
	if l.Counter != nil {
		return errors.New("openflow on has no --stats: use openflow --stats")
	}
	ctx, cancel := context.WithCancel(context.Background())
	if span > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), span)
	}
	f := &follower{cancel, make(chan struct{})}
	l.Lines = &c.notices
	ready := make(chan struct{})
	go func() {
		defer close(f.done)
		err := l.Listen(ctx, liveSource(c.net, func() { close(ready) }, func(n uint64) {
			fmt.Fprintf(&c.notices, "Note: %s missing: this end was too slow\n", plural(int(n), "message is", "messages are"))
		}))
		if err != nil {
			fmt.Fprintf(&c.notices, "Note: openflow: %v\n", err)
		}
	}()
	select { // what the next command causes is not missed
	case <-ready:
	case <-f.done:
	}
	c.follower = f
	return c.done()
}

// unfollow ends what follow began.
func (s *Session) unfollow() {
	if s.follower != nil {
		s.follower.stop()
		<-s.follower.done
		s.follower = nil
	}
}

func completeOpenflow(p *topo.Plan, words []string) []string {
	names := switchNames(p)
	if len(words) == 0 {
		names = append(names, "on", "off")
	}
	return names
}

// maxNotices bounds the lines that wait to be shown.
const maxNotices = 10000

// notices are lines that are shown between two keys, above the prompt, when there is one.
type notices struct {
	mu     sync.Mutex
	lines  []string
	missed int
}

// Write adds whole lines.
func (n *notices) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		if len(n.lines) == maxNotices {
			n.missed++
			continue
		}
		n.lines = append(n.lines, line)
	}
	return len(p), nil
}

// waiting reports whether there is something to show.
func (n *notices) waiting() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.lines) > 0
}

// show writes what waits.
func (n *notices) show(w io.Writer) {
	n.mu.Lock()
	lines, missed := slices.Clone(n.lines), n.missed
	n.lines, n.missed = n.lines[:0], 0
	n.mu.Unlock()
	for _, line := range lines {
		io.WriteString(w, line)
	}
	if missed > 0 {
		fmt.Fprintf(w, "… and %s\n", plural(missed, "line more", "lines more"))
	}
}
