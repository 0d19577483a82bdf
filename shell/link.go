package shell

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"weft/network"
	"weft/topo"
)

// A Linker changes links.
type Linker interface {
	Links(ctx context.Context, names ...string) ([]network.LinkState, error)
	ChangeLink(ctx context.Context, a, b string, c network.LinkChange) ([]network.LinkState, error)
	VerifyLinks(ctx context.Context, r network.VerifyRequest) ([]network.LinkCheck, error)
	Faults(ctx context.Context) ([]network.Fault, error)
	StartFault(ctx context.Context, r network.FaultRequest) ([]network.Fault, error)
	StopFaults(ctx context.Context, ids ...int) error
}

// A linkAction is what the command link does besides what Mininet's does.
type linkAction struct {
	name, usage, doc string
	options          []string // those of linkOptions that it takes
	run              func(context.Context, *call) error
}

// linkActions returns the actions in the order of help. c.args has the words after the action.
func linkActions() []linkAction {
	return []linkAction{
		{"show", "[LINK...]", "show what links do to frames, and what became of those", nil, runLinkShow},
		{"set", "LINK... OPTION=VALUE...", "change what a link does to frames, from now on", nil, runLinkSet},
		{"down", "LINK...", "take both ends down; with an arrow, see cut", nil, runLinkUp(false)},
		{"up", "LINK...", "take both ends up", nil, runLinkUp(true)},
		{"cut", "LINK...", "drop all frames while the ends stay up, so that nobody is told", nil, runLinkCut(true)},
		{"mend", "LINK...", "undo cut", nil, runLinkCut(false)},
		{"verify", "[LINK...]", "measure rate, delay, jitter and loss of impaired links, or those named, or --all; fail if they are not as asked", []string{"--all"}, runVerify},
		{"flap", "LINK...", "let links fail again and again: every --period for --down, or by chance, --mtbf and --mttr", []string{"--period", "--down", "--count", "--mtbf", "--mttr", "--seed", "--cut"}, runFlap},
		{"schedule", "FILE", "do what the lines TIME LINK ACTION of a file say", nil, runSchedule},
		{"partition", "GROUPS", "keep groups of hosts from hearing each other: {h1,h2}|{h3}, {s1}|rest", nil, runPartition},
		{"heal", "", "undo partition", nil, runHeal},
		{"faults", "", "list what goes on by itself: flap, schedule, partition", nil, runFaults},
		{"stop", "[NUMBER...]", "end that", nil, runStopFaults},
	}
}

// LinkActions says what can be done to links, for people.
func LinkActions() string {
	var b strings.Builder
	t := table(&b)
	for _, a := range linkActions() {
		fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(a.name+" "+a.usage), a.doc)
	}
	t.Flush()
	b.WriteString(`
A LINK is NODE-NODE or NODE NODE (all between the two), the name of an interface, or an ID.
With an arrow, s1->s2, it is the way from s1 to s2 only. An OPTION is for both ways, or with
ab: or ba: for one: ab is the way from the node that you wrote first. A value of 0, false or
none takes an option back. A schedule has lines such as

  5s   s1-s2   delay=50ms loss=1
  10   s1->s2  cut
  20s  -       partition {h1,h2}|rest
  30s  -       heal

with the time since its start. In a partition, links between groups carry nothing, and no
host hears one of another group whatever is between them; a switch stands for its hosts too.

`)
	for _, k := range topo.LinkKeys() {
		way := " "
		if k.Way {
			way = "*"
		}
		fmt.Fprintf(t, "  %s %s=%s\t%s\n", way, k.Name, k.Syntax, k.Doc)
	}
	t.Flush()
	b.WriteString("  (* may differ between the ways)\n")
	return b.String()
}

// runLink does what Mininet's link does, or one of our actions.
func runLink(ctx context.Context, c *call) error {
	if len(c.args) == 0 && c.cfg.Dialect == Native {
		return runLinks(ctx, c)
	}
	if len(c.args) > 0 {
		st, err := c.state(ctx)
		if err != nil {
			return err
		}
		actions := linkActions()
		i := slices.IndexFunc(actions, func(a linkAction) bool { return a.name == c.args[0] })
		// A node of that name goes before, where Mininet's command would be right.
		asMininet := len(c.args) == 3 && slices.Contains(nodeNames(st.Plan), c.args[0])
		if i >= 0 && !asMininet {
			a := actions[i]
			c.args = c.args[1:]
			c.name, c.usage = "link "+a.name, a.usage
			for _, o := range slices.Sorted(maps.Keys(c.opts)) {
				if o != optionJSON.name && !slices.Contains(a.options, o) {
					return fmt.Errorf("option %s is not for link %s", o, a.name)
				}
			}
			return a.run(ctx, c)
		}
	}
	if len(c.args) != 3 {
		m := mistake{mininet: "invalid number of args: link end1 end2 [up down]"}
		m.native = fmt.Sprintf("usage: link %s, or link NODE NODE up|down (see help link)",
			strings.Join(names(linkActions(), func(a linkAction) string { return a.name }), "|"))
		return misuse{m}
	}
	a, b, how := c.args[0], c.args[1], c.args[2]
	if how != "up" && how != "down" {
		return c.misuse("invalid type: link end1 end2 [up down]")
	}
	if err := c.wantLink(ctx, a, b); err != nil {
		return err
	}
	up := how == "up"
	if _, err := c.net.ChangeLink(ctx, a, b, network.LinkChange{Up: &up}); err != nil {
		return err
	}
	return c.done()
}

// wantLink returns an error if no link joins a and b.
func (c *call) wantLink(ctx context.Context, a, b string) error {
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	all := nodeNames(st.Plan)
	var m mistake
	switch {
	case errors.As(wantNode(all, "node", a), &m):
		return mistake{"src not in network: " + a, m.native}
	case errors.As(wantNode(all, "node", b), &m):
		return mistake{"dst not in network: " + b, m.native}
	case len(st.Plan.LinksBetween(a, b)) == 0:
		return mistake{
			fmt.Sprintf("src and dst not connected: %s %s", a, b),
			fmt.Sprintf("no link joins %s and %s", a, b),
		}
	}
	return nil
}

// linkWords are how a person names links: by one word, or by two nodes.
type linkWords struct{ a, b string }

// linkNames reads the names of links, at least least; options are the words behind them.
func (c *call) linkNames(ctx context.Context, words []string, least int) (links []linkWords, options []string, err error) {
	end := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, "=") })
	if end >= 0 {
		words, options = words[:end], words[end:]
	}
	st, err := c.state(ctx)
	if err != nil {
		return nil, nil, err
	}
	nodes := nodeNames(st.Plan)
	isNode := func(w string) bool { return slices.Contains(nodes, w) }
	for len(words) > 0 {
		l := linkWords{a: words[0]}
		words = words[1:]
		if len(words) > 0 && isNode(l.a) && isNode(words[0]) {
			l.b = words[0]
			words = words[1:]
			if err := c.wantLink(ctx, l.a, l.b); err != nil {
				return nil, nil, err
			}
		} else if _, _, err := st.Plan.FindLinks(l.a); err != nil {
			return nil, nil, err
		}
		links = append(links, l)
	}
	if len(links) < least {
		return nil, nil, c.misuse("usage: " + strings.TrimSpace(c.name+" "+c.usage))
	}
	return links, options, nil
}

// changeLinks makes the same change to several links, and returns them as they are then.
func (c *call) changeLinks(ctx context.Context, links []linkWords, change network.LinkChange) ([]network.LinkState, error) {
	var all []network.LinkState
	for _, l := range links {
		states, err := c.net.ChangeLink(ctx, l.a, l.b, change)
		if err != nil {
			return nil, err
		}
		all = append(all, states...)
	}
	return all, nil
}

func runLinkShow(ctx context.Context, c *call) error {
	names, options, err := c.linkNames(ctx, c.args, 0)
	if err != nil {
		return err
	}
	if len(options) > 0 {
		return c.misuse("usage: link show [link...]")
	}
	words := make([]string, len(names))
	for i, n := range names {
		if words[i] = n.a; n.b != "" {
			words[i] += "-" + n.b
		}
	}
	states, err := c.net.Links(ctx, words...)
	if err != nil {
		return err
	}
	c.show(linkView(states))
	return nil
}

func runLinkSet(ctx context.Context, c *call) error {
	names, options, err := c.linkNames(ctx, c.args, 1)
	if err != nil {
		return err
	}
	if len(options) == 0 {
		return c.misuse("usage: link set link option=value...")
	}
	if options, err = AbsoluteFiles(options); err != nil {
		return err
	}
	states, err := c.changeLinks(ctx, names, network.LinkChange{Options: options})
	if err != nil {
		return err
	}
	c.show(linkView(states))
	return nil
}

// AbsoluteFiles makes the paths in options of links absolute: the network's own directory is
// another.
func AbsoluteFiles(options []string) ([]string, error) {
	options = slices.Clone(options)
	for i, o := range options {
		name, value, ok := strings.Cut(o, "=")
		key := name[strings.IndexByte(name, ':')+1:]
		if !ok || key != "trace" && key != "record" || value == "" || value == "none" {
			continue
		}
		path, err := filepath.Abs(value)
		if err != nil {
			return nil, err
		}
		options[i] = name + "=" + path
	}
	return options, nil
}

// runLinkUp returns the run function of link up and link down.
func runLinkUp(up bool) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		return c.switchLinks(ctx, func(oneWay bool) network.LinkChange {
			if oneWay {
				cut := !up
				return network.LinkChange{Cut: &cut}
			}
			return network.LinkChange{Up: &up}
		})
	}
}

// runLinkCut returns the run function of link cut and link mend.
func runLinkCut(cut bool) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		return c.switchLinks(ctx, func(bool) network.LinkChange { return network.LinkChange{Cut: &cut} })
	}
}

// switchLinks makes a change without options to the links that the words name.
func (c *call) switchLinks(ctx context.Context, change func(oneWay bool) network.LinkChange) error {
	names, options, err := c.linkNames(ctx, c.args, 1)
	if err != nil {
		return err
	}
	if len(options) > 0 {
		return c.misuse("usage: " + c.name + " link...")
	}
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	var all []network.LinkState
	for _, n := range names {
		_, oneWay, _ := st.Plan.FindLinks(n.a)
		states, err := c.changeLinks(ctx, []linkWords{n}, change(oneWay && n.b == ""))
		if err != nil {
			return err
		}
		all = append(all, states...)
	}
	c.show(view{value: all})
	return nil
}

// runLinks lists the links with what they do.
func runLinks(ctx context.Context, c *call) error {
	if c.cfg.Dialect == Mininet && !c.json {
		return showState(linksView)(ctx, c)
	}
	if len(c.args) > 0 {
		return c.misuse("usage: links")
	}
	if _, err := c.state(ctx); err != nil {
		return err
	}
	states, err := c.net.Links(ctx)
	if err != nil {
		return err
	}
	c.show(linkTable(states))
	return nil
}

// completeLink completes actions, links and options.
func completeLink(p *topo.Plan, words []string) []string {
	nodes := slices.Concat(hostNames(p), switchNames(p))
	if len(words) == 0 {
		return append(names(linkActions(), func(a linkAction) string { return a.name }), nodes...)
	}
	isNode := func(w string) bool { return slices.Contains(nodes, w) }
	if isNode(words[0]) {
		if len(words) == 1 {
			return neighbours(p, words[0])
		}
		return []string{"up", "down"}
	}
	var found []string
	if last := words[len(words)-1]; len(words) == 1 || !isNode(last) {
		for _, l := range p.Links {
			found = append(found, l.A.Node+"-"+l.B.Node, l.A.Interface, l.B.Interface)
		}
	} else {
		found = neighbours(p, last)
	}
	if words[0] == "set" && len(words) > 1 {
		for _, k := range topo.LinkKeys() {
			found = append(found, k.Name+"=")
		}
	}
	return found
}
