package experiment

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weft/network"
	"weft/topo"
)

// Down cuts links and control channels, stops switches and isolates hosts.
type Down struct {
	Targets []string `key:"targets" doc:"links (s1-s2), switches, hosts, control channels (s1:c0)" required:"true"`
}

// Up undoes what Down did.
type Up struct {
	Targets []string `key:"targets" doc:"links (s1-s2), switches, hosts, control channels (s1:c0)" required:"true"`
}

func shortTargets(a Action, text string) error {
	names := splitNames(text)
	if len(names) == 0 {
		return errors.New("nothing is named; write for example s1-s2")
	}
	switch a := a.(type) {
	case *Down:
		a.Targets = names
	case *Up:
		a.Targets = names
	}
	return nil
}

func (d *Down) String() string { return "down " + list(d.Targets, 8) }
func (u *Up) String() string   { return "up " + list(u.Targets, 8) }

// Validate wants links, nodes and control channels that there are.
func (d *Down) Validate(plan *topo.Plan) error { return wantTargets(plan, d.Targets) }

// Validate wants links, nodes and control channels that there are.
func (u *Up) Validate(plan *topo.Plan) error { return wantTargets(plan, u.Targets) }

// Estimate is nothing: it is done at once.
func (d *Down) Estimate() time.Duration { return 0 }

// Estimate is nothing: it is done at once.
func (u *Up) Estimate() time.Duration { return 0 }

// Do takes the targets down.
func (d *Down) Do(ctx context.Context, t *Trial) (Outcome, error) {
	return Outcome{}, t.setTargets(ctx, d.Targets, false)
}

// Do takes the targets up.
func (u *Up) Do(ctx context.Context, t *Trial) (Outcome, error) {
	return Outcome{}, t.setTargets(ctx, u.Targets, true)
}

// A target is what Down and Up work on: of a link both nodes are set, of a channel switch
// and controller.
type target struct {
	node, peer          string // peer is empty if it is a node
	switch_, controller string
}

// findTarget finds what a name means: a node before a link before a channel.
func findTarget(plan *topo.Plan, name string) (target, error) {
	if plan.Host(name) != nil || plan.Switch(name) != nil {
		return target{node: name}, nil
	}
	for i, c := range name {
		if a, b := name[:i], name[min(i+1, len(name)):]; c == '-' && len(plan.LinksBetween(a, b)) > 0 {
			return target{node: a, peer: b}, nil
		}
	}
	if sw, controller, ok := strings.Cut(name, ":"); ok {
		s := plan.Switch(sw)
		if s == nil {
			return target{}, unknown("switch", sw, switches(plan))
		}
		if !slices.Contains(s.Controllers, controller) {
			return target{}, unknown("controller of "+sw, controller, s.Controllers)
		}
		return target{switch_: sw, controller: controller}, nil
	}
	if plan.Controller(name) != nil {
		return target{}, fmt.Errorf("%s is a controller; write the channel to it, for example s1:%s", name, name)
	}
	return target{}, fmt.Errorf("there is no link, node or control channel %q; write for example s1-s2, s1 or s1:c0", name)
}

func switches(plan *topo.Plan) []string {
	var names []string
	for _, s := range plan.Switches {
		names = append(names, s.Name)
	}
	return names
}

func wantTargets(plan *topo.Plan, names []string) error {
	var errs []error
	for _, n := range names {
		_, err := findTarget(plan, n)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// LinkOptions changes the settings of links: rate, delay, loss and all else that links do to
// frames.
type LinkOptions struct {
	Of      string   `key:"of" doc:"links: A-B, A->B for one way, or an interface" required:"true"`
	Options []string `key:"*" doc:"settings as in topologies (bw, delay, jitter, loss, queue, ...), ab:KEY and ba:KEY for one way"`
}

// shortLink reads "s1-s2 delay=20ms bw=5".
func shortLink(a Action, text string) error {
	words := strings.Fields(text)
	if len(words) < 2 {
		return fmt.Errorf("%q changes nothing; write a link and settings, for example s1-s2 delay=20ms", text)
	}
	l := a.(*LinkOptions)
	l.Of, l.Options = words[0], words[1:]
	return nil
}

func (l *LinkOptions) String() string { return "link " + l.Of + " " + strings.Join(l.Options, " ") }

// Validate wants a link, and settings that go together.
func (l *LinkOptions) Validate(plan *topo.Plan) error {
	if l.Of == "" {
		return nil // Decode says so
	}
	views, oneWay, err := plan.FindLinks(l.Of)
	if err != nil {
		return err
	}
	if len(l.Options) == 0 {
		return fmt.Errorf("link %s: nothing is to change; write settings, for example delay: 20ms", l.Of)
	}
	if oneWay {
		return nil // the network says what is wrong with these
	}
	copied := plan.Clone()
	for _, v := range views {
		if _, err := copied.ChangeLink(v, l.Options...); err != nil {
			return fmt.Errorf("link %s: %w", l.Of, err)
		}
	}
	return nil
}

// Estimate is nothing: it is done at once.
func (l *LinkOptions) Estimate() time.Duration { return 0 }

// Do changes the links.
func (l *LinkOptions) Do(ctx context.Context, t *Trial) (Outcome, error) {
	options, err := t.linkFiles(l.Options)
	if err != nil {
		return Outcome{}, err
	}
	states, err := t.Client.ChangeLink(ctx, l.Of, "", network.LinkChange{Options: options})
	return Outcome{Detail: states}, err
}

// linkFiles makes absolute paths of the files that settings name: a trace is beside the
// experiment's file, a record goes to the results.
func (t *Trial) linkFiles(options []string) ([]string, error) {
	var all []string
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		_, name, oneWay := strings.Cut(key, ":")
		if !oneWay {
			name = key
		}
		switch name {
		case "trace":
			if value != "" && !filepath.IsAbs(value) {
				value = filepath.Join(t.Home, value)
			}
		case "record":
			var err error
			if value, err = t.resultFile(value); err != nil {
				return nil, err
			}
		}
		all = append(all, key+"="+value)
	}
	return all, nil
}

// Cut makes links drop all frames while their ends stay up, as a cable does that is cut
// beyond a switch that does not notice.
type Cut struct {
	Links []string `key:"links" doc:"links: A-B, A->B for one way" required:"true"`
}

// Mend undoes Cut.
type Mend struct {
	Links []string `key:"links" doc:"links: A-B, A->B for one way" required:"true"`
}

// shortLinks reads links; in "A -> B" blanks do not separate.
func shortLinks(a Action, text string) error {
	names := splitNames(strings.NewReplacer(" ->", "->", "-> ", "->", " →", "→", "→ ", "→").Replace(text))
	if len(names) == 0 {
		return errors.New("nothing is named; write for example s1-s2")
	}
	switch a := a.(type) {
	case *Cut:
		a.Links = names
	case *Mend:
		a.Links = names
	}
	return nil
}

func (c *Cut) String() string  { return "cut " + list(c.Links, 8) }
func (m *Mend) String() string { return "mend " + list(m.Links, 8) }

// Validate wants links that there are.
func (c *Cut) Validate(plan *topo.Plan) error { return wantLinks(plan, c.Links) }

// Validate wants links that there are.
func (m *Mend) Validate(plan *topo.Plan) error { return wantLinks(plan, m.Links) }

func wantLinks(plan *topo.Plan, names []string) error {
	var errs []error
	for _, n := range names {
		_, _, err := plan.FindLinks(n)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Estimate is nothing: it is done at once.
func (c *Cut) Estimate() time.Duration { return 0 }

// Estimate is nothing: it is done at once.
func (m *Mend) Estimate() time.Duration { return 0 }

// Do cuts the links.
func (c *Cut) Do(ctx context.Context, t *Trial) (Outcome, error) { return t.cut(ctx, c.Links, true) }

// Do mends the links.
func (m *Mend) Do(ctx context.Context, t *Trial) (Outcome, error) { return t.cut(ctx, m.Links, false) }

func (t *Trial) cut(ctx context.Context, names []string, cut bool) (Outcome, error) {
	for _, n := range names {
		if _, err := t.Client.ChangeLink(ctx, n, "", network.LinkChange{Cut: &cut}); err != nil {
			return Outcome{}, err
		}
	}
	return Outcome{}, nil
}

func (t *Trial) setTargets(ctx context.Context, names []string, up bool) error {
	for _, n := range names {
		to, err := findTarget(t.Plan(), n)
		if err != nil {
			return err
		}
		if err := t.setTarget(ctx, to, up); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trial) setTarget(ctx context.Context, to target, up bool) error {
	switch {
	case to.controller != "":
		_, err := t.Client.SetChannel(ctx, to.switch_, to.controller, network.ChannelChange{Up: &up})
		return err
	case to.peer != "":
		return t.Client.SetLink(ctx, to.node, to.peer, up)
	case t.Plan().Switch(to.node) != nil:
		return t.Client.SetSwitch(ctx, to.node, up)
	}
	done := map[string]bool{}
	for _, l := range t.Plan().Links {
		other := ""
		switch to.node {
		case l.A.Node:
			other = l.B.Node
		case l.B.Node:
			other = l.A.Node
		}
		if other == "" || done[other] {
			continue
		}
		done[other] = true
		if err := t.Client.SetLink(ctx, to.node, other, up); err != nil {
			return err
		}
	}
	return nil
}
