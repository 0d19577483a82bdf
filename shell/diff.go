package shell

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"weft/topo"
)

// WriteDiff writes for people what makes a network that runs another, a line for each thing:
// with + what is added, - removed, ~ changed while it runs, ! removed and made anew.
func WriteDiff(w io.Writer, d *topo.Diff) {
	if d.IsEmpty() {
		fmt.Fprintln(w, "nothing to change")
		return
	}
	counts := map[string]int{}
	line := func(sign, text string, what []string, note string) {
		counts[sign]++
		if len(what) > 0 {
			text += ": " + strings.Join(what, ", ")
		}
		if note != "" {
			text += " (" + note + ")"
		}
		fmt.Fprintln(w, sign, strings.TrimRight(text, " "))
	}
	writeChanges(line, d.Controllers, thing[topo.PlannedController]{
		name:   func(c topo.PlannedController) string { return "controller " + c.Name },
		detail: func(c topo.PlannedController) string { return string(c.Kind) },
		loss:   func([]string) string { return "its switches connect anew" },
	})
	writeChanges(line, d.Switches, thing[topo.PlannedSwitch]{
		name:   func(s topo.PlannedSwitch) string { return "switch " + s.Name },
		detail: func(s topo.PlannedSwitch) string { return string(s.Driver) },
		loss: func(what []string) string {
			live := func(w string) bool { // a switch that runs takes it
				kind, _, _ := strings.Cut(w, " ")
				return slices.Contains([]string{"controllers", "NF", "chain", "flow"}, kind)
			}
			if slices.ContainsFunc(what, func(w string) bool { return !live(w) }) {
				return "it stops and starts; its flows are lost"
			}
			return ""
		},
	})
	writeChanges(line, d.Hosts, thing[topo.PlannedHost]{
		name: func(h topo.PlannedHost) string { return "host " + h.Name },
		detail: func(h topo.PlannedHost) string {
			if h.IP.IsValid() || !h.IP6.IsValid() {
				return validText(h.IP)
			}
			return validText(h.IP6)
		},
		anew: "its programs end",
	})
	writeChanges(line, d.Links, thing[topo.PlannedLink]{
		name: func(l topo.PlannedLink) string { return "link " + l.A.Interface + " - " + l.B.Interface },
		detail: func(l topo.PlannedLink) string {
			l.Driver = "" // it follows from the rest
			return strings.Join(l.Options(), " ")
		},
		anew: "what is under way is lost",
	})
	for _, c := range d.Run {
		line("+", "run on "+c.Node, []string{c.Command}, "")
	}
	var parts []string
	for _, c := range [][2]string{{"+", "to add"}, {"~", "to change"}, {"!", "to make anew"}, {"-", "to remove"}} {
		if n := counts[c[0]]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, c[1]))
		}
	}
	fmt.Fprintln(w, strings.Join(parts, ", "))
}

// validText writes what may not be there.
func validText(v interface {
	IsValid() bool
	String() string
}) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

// A thing is how one kind of node or link reads.
type thing[T any] struct {
	name, detail func(T) string
	loss         func(what []string) string // what a change loses
	anew         string                     // what is lost by making it anew
}

func writeChanges[T any](line func(sign, text string, what []string, note string), c topo.Changes[T], t thing[T]) {
	for _, v := range c.Remove {
		line("-", t.name(v), nil, "")
	}
	for _, ch := range c.Replace {
		line("!", t.name(ch.To), ch.What, t.anew)
	}
	for _, ch := range c.Change {
		note := ""
		if t.loss != nil {
			note = t.loss(ch.What)
		}
		line("~", t.name(ch.To), ch.What, note)
	}
	for _, v := range c.Add {
		line("+", t.name(v)+" "+t.detail(v), nil, "")
	}
}
