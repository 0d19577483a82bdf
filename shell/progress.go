package shell

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"weft/network"
	"weft/topo"
)

// A Progress writes, for people, how a network comes up or goes down. Nodes may finish
// in any order; they are shown in the plan's. It is not for concurrent use.
type Progress struct {
	w       io.Writer
	dialect Dialect
	plan    *topo.Plan
	stage   string
	began   time.Time // of the network's first event
	left    []step    // what the stage has not shown yet
	done    map[string]bool
	late    []string // messages that wait for the end of a line
	stopped bool
}

// A step is a piece of a stage's text: it is shown once the node is done (at once if
// there is none) and the steps before it have been shown.
type step struct {
	node string
	text string
}

// NewProgress returns a Progress of the network of plan; in the Mininet dialect it
// writes Mininet's transcript, which belongs on standard error.
func NewProgress(w io.Writer, d Dialect, plan *topo.Plan) *Progress {
	return &Progress{w: w, dialect: d, plan: plan, done: map[string]bool{}}
}

// Event shows an event.
func (p *Progress) Event(e network.Event) {
	if p.began.IsZero() {
		p.began = e.Time
	}
	if e.Stage != "" && e.Stage != p.stage && (e.Node == "" || p.stage == "") {
		p.endStage()
		p.stage = e.Stage
		p.done = map[string]bool{}
		p.left = p.steps(e)
	}
	if e.Node != "" && e.Stage == p.stage {
		p.done[e.Node] = true
	}
	if e.Message != "" {
		p.message(e)
	}
	p.advance()
}

// Close shows what is still to be shown of the last stage, when the network is up or
// down.
func (p *Progress) Close() {
	p.endStage()
	if p.stage == network.StageStop && !p.stopped {
		p.stopped = true
		if p.dialect == Mininet {
			fmt.Fprint(p.w, "*** Done\n")
		}
	}
}

// Completed shows how long all took, Mininet's last line; ours does not have it.
func (p *Progress) Completed(d time.Duration) {
	if p.dialect == Mininet {
		fmt.Fprintf(p.w, "completed in %0.3f seconds\n", d.Seconds())
	}
}

// advance shows the steps whose turn it is.
func (p *Progress) advance() {
	for len(p.left) > 0 && (p.left[0].node == "" || p.done[p.left[0].node]) {
		fmt.Fprint(p.w, p.left[0].text)
		p.left = p.left[1:]
	}
	if len(p.left) == 0 {
		p.flushMessages()
	}
}

func (p *Progress) endStage() {
	for _, s := range p.left {
		fmt.Fprint(p.w, s.text)
	}
	p.left = nil
	p.flushMessages()
}

func (p *Progress) flushMessages() {
	for _, m := range p.late {
		fmt.Fprintln(p.w, m)
	}
	p.late = nil
}

// message keeps a message until it does not break a line. Mininet has none that only
// inform.
func (p *Progress) message(e network.Event) {
	text := e.Message
	if e.Node != "" {
		text = e.Node + ": " + text
	}
	switch {
	case e.Level == "ERROR" && p.dialect == Mininet:
		text = "*** Error: " + text
	case e.Level == "WARN" && p.dialect == Mininet:
		text = "*** Warning: " + text
	case p.dialect == Mininet:
		return
	case e.Level == "ERROR" || e.Level == "WARN":
		text = strings.ToLower(e.Level) + ": " + text
	}
	p.late = append(p.late, text)
}

// steps returns the text of the stage that e starts.
func (p *Progress) steps(e network.Event) []step {
	if p.dialect == Mininet {
		return p.mininetSteps(e.Stage)
	}
	hosts := plural(len(p.plan.Hosts), "host", "hosts")
	switches := plural(len(p.plan.Switches), "switch", "switches")
	text := map[string]string{
		network.StageHosts:       "creating " + hosts,
		network.StageSwitches:    "creating " + switches,
		network.StageLinks:       "creating " + plural(len(p.plan.Links), "link", "links"),
		network.StageConfigure:   "configuring " + hosts,
		network.StageControllers: "starting " + plural(len(p.plan.Controllers), "controller", "controllers"),
		network.StageStart:       "starting " + switches,
		network.StageReady:       fmt.Sprintf("ready after %.2f s", e.Time.Sub(p.began).Seconds()),
		network.StageStop:        "stopping the network",
	}[e.Stage]
	if text == "" {
		return nil
	}
	return []step{{text: text + "\n"}}
}

// mininetSteps returns the lines of Mininet's transcript, trailing blanks and all.
func (p *Progress) mininetSteps(stage string) []step {
	hosts, switches, controllers := hostNames(p.plan), switchNames(p.plan), controllerNames(p.plan)
	switch stage {
	case network.StageHosts:
		return slices.Concat(heading("*** Creating network\n*** Adding controller\n*** Adding hosts:\n"), row(hosts))
	case network.StageSwitches:
		return slices.Concat(heading("*** Adding switches:\n"), row(switches))
	case network.StageLinks:
		steps := heading("*** Adding links:\n")
		for _, l := range p.plan.Links {
			steps = append(steps, step{linkName(l), fmt.Sprintf("%s%s(%s, %s) ", mininetTC(l.AB), mininetTC(l.BA), l.A.Node, l.B.Node)})
		}
		return append(steps, step{text: "\n"})
	case network.StageConfigure:
		return slices.Concat(heading("*** Configuring hosts\n"), row(hosts))
	case network.StageControllers:
		return slices.Concat(heading("*** Starting controller\n"), row(controllers))
	case network.StageStart:
		steps := slices.Concat(heading("*** Starting %d switches\n", len(switches)), row(switches))
		if slices.ContainsFunc(p.plan.Switches, func(s topo.PlannedSwitch) bool { return s.Driver != topo.DriverLinux }) {
			steps[len(steps)-1].text = "..." + p.portsTC() + "\n"
		}
		return steps
	case network.StageStop:
		steps := slices.Concat(
			heading("*** Stopping %d controllers\n", len(controllers)), row(controllers),
			heading("*** Stopping %d links\n", len(p.plan.Links)))
		for _, l := range p.plan.Links {
			steps = append(steps, step{linkName(l), "."})
		}
		return slices.Concat(steps,
			heading("\n*** Stopping %d switches\n", len(switches)), row(switches),
			heading("*** Stopping %d hosts\n", len(hosts)), row(hosts))
	}
	return nil
}

// portsTC is what Mininet says of the ports of switches with TC.
func (p *Progress) portsTC() string {
	var b strings.Builder
	for _, s := range p.plan.Switches {
		for _, i := range s.Interfaces {
			for _, l := range p.plan.Links {
				switch (topo.PlannedEnd{Node: s.Name, Interface: i.Name}) {
				case l.A:
					b.WriteString(mininetTC(l.AB))
				case l.B:
					b.WriteString(mininetTC(l.BA))
				}
			}
		}
	}
	return b.String()
}

func heading(format string, args ...any) []step {
	return []step{{text: fmt.Sprintf(format, args...)}}
}

func row(nodes []string) []step {
	var steps []step
	for _, n := range nodes {
		steps = append(steps, step{n, n + " "})
	}
	return append(steps, step{text: "\n"})
}

// linkName is what events call a link.
func linkName(l topo.PlannedLink) string { return l.A.Node + "-" + l.B.Node }
