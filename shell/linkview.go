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

// linksView is the list of links as Mininet has it.
func linksView(st network.State) view {
	return view{
		value: orEmpty(st.Links),
		mininet: func(w io.Writer) {
			word := map[bool]string{true: "OK", false: "MISSING"}
			for _, l := range st.Links {
				fmt.Fprintf(w, "%s<->%s (%s %s) \n", l.A.Interface, l.B.Interface, word[l.OK[0]], word[l.OK[1]])
			}
		},
	}
}

// linkTable lists links, each in a line.
func linkTable(links []network.LinkState) view {
	return view{value: orEmpty(links), native: func(w io.Writer) {
		t := table(w)
		fmt.Fprintf(t, "A\tB\tSTATUS\tDRIVER\tA TO B\tB TO A\tSETTINGS\n")
		for _, l := range links {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.A.Interface, l.B.Interface, linkStatus(l), l.Settings.Driver,
				frames(l, 0), frames(l, 1), dash(settingsText(l.Settings)))
		}
		t.Flush()
	}}
}

// settingsText writes what was set of a link but its driver.
func settingsText(s topo.LinkSettings) string {
	s.Driver = ""
	return strings.Join(quoteOptions(s.Options()), " ")
}

// quoteOptions quotes the options that a person would have to quote.
func quoteOptions(options []string) []string {
	options = slices.Clone(options)
	for i, o := range options {
		if strings.ContainsAny(o, " \t") {
			options[i] = "'" + o + "'"
		}
	}
	return options
}

// frames says in brief what became of the frames that went one way.
func frames(l network.LinkState, way int) string {
	if l.Counters == nil {
		return "-"
	}
	c := l.Counters[way]
	text := fmt.Sprintf("%d (%s)", c.Delivered, amount(c.DeliveredBytes, "B"))
	if n := dropped(c); n > 0 {
		text += fmt.Sprintf(", %d dropped", n)
	}
	return text
}

func dropped(c network.LinkCounters) uint64 {
	return c.Lost + c.Filtered + c.Overflow + c.AQMDrops + c.NoMemory + c.Down + c.Oversized + c.Stopped
}

// linkView says all of links.
func linkView(links []network.LinkState) view {
	return view{value: orEmpty(links), native: func(w io.Writer) {
		for _, l := range links {
			whole := []string{fmt.Sprintf("link %d", l.ID), string(l.Settings.Driver), linkStatus(l)}
			for _, o := range l.Settings.Options() {
				if key, _, _ := strings.Cut(o, "="); key == "mtu" || key == "seed" || key == "record" {
					whole = append(whole, o)
				}
			}
			fmt.Fprintf(w, "%s – %s: %s\n", l.A.Interface, l.B.Interface, strings.Join(whole, ", "))
			for way, ends := range [][2]topo.PlannedEnd{{l.A, l.B}, {l.B, l.A}} {
				i := [2]topo.Impairment{l.Settings.AB, l.Settings.BA}[way]
				does := strings.Join(quoteOptions(i.Options()), " ")
				if l.Cut[way] {
					does = strings.TrimSpace("cut " + does)
				}
				if l.Barred[way] {
					does = strings.TrimSpace("partitioned " + does)
				}
				if does == "" {
					does = "nothing"
				}
				fmt.Fprintf(w, "  %s → %s: %s\n", ends[0].Interface, ends[1].Interface, does)
				if l.Counters != nil {
					fmt.Fprintf(w, "    %s\n", countersText(l.Counters[way]))
				}
			}
		}
	}}
}

// countersText lists counters: what was delivered, and of the rest what there is.
func countersText(c network.LinkCounters) string {
	parts := []string{fmt.Sprintf("delivered %d (%s)", c.Delivered, amount(c.DeliveredBytes, "B"))}
	for _, p := range []struct {
		n    uint64
		what string
	}{
		{c.Queued, "queued"}, {c.InFlight, "in flight"},
		{c.Lost, "lost"}, {c.Filtered, "filtered"}, {c.Overflow, "dropped by a full queue"}, {c.AQMDrops, "dropped by queue management"},
		{c.NoMemory, "dropped for want of memory"}, {c.Down, "not taken by the other end"}, {c.Oversized, "larger than the MTU"},
		{c.Stopped, "stopped by a cut or a partition"},
		{c.Marked, "marked (ECN)"}, {c.Duplicated, "duplicated"}, {c.Corrupted, "corrupted"}, {c.Reordered, "reordered"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if c.Late > 0 {
		parts = append(parts, fmt.Sprintf("%d left late, by up to %v: the machine was busy", c.Late, c.LateMax.Round(time.Millisecond)))
	}
	return strings.Join(parts, ", ")
}

func linkStatus(l network.LinkState) string {
	var missing, down []string
	for i, end := range []topo.PlannedEnd{l.A, l.B} {
		switch {
		case !l.OK[i]:
			missing = append(missing, end.Interface)
		case !l.Up[i]:
			down = append(down, end.Interface)
		}
	}
	switch {
	case len(missing) > 0:
		return "missing: " + strings.Join(missing, " ")
	case len(down) == 2:
		return "down"
	case len(down) > 0:
		return "down: " + down[0]
	case l.Cut[0] && l.Cut[1]:
		return "cut"
	case l.Cut[0]:
		return "cut from " + l.A.Interface
	case l.Cut[1]:
		return "cut from " + l.B.Interface
	case l.Barred[0] || l.Barred[1]:
		return "partitioned"
	}
	return "up"
}

// mininetTC is what Mininet says of an interface with TC.
func mininetTC(i topo.Impairment) string {
	value := map[string]string{}
	for _, o := range i.Options() {
		key, v, _ := strings.Cut(o, "=")
		value[key] = v
	}
	var parts []string
	if i.Rate > 0 {
		parts = append(parts, fmt.Sprintf("%.2fMbit", float64(i.Rate)/1e6))
	}
	if i.Delay > 0 {
		parts = append(parts, value["delay"]+" delay")
	}
	if i.Jitter > 0 {
		parts = append(parts, value["jitter"]+" jitter")
	}
	if i.Loss > 0 {
		parts = append(parts, fmt.Sprintf("%.5f%% loss", float64(i.Loss)))
	}
	switch {
	case i.ECN:
		parts = append(parts, "ECN")
	case i.AQM == topo.RED:
		parts = append(parts, "RED")
	}
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, " ") + ") "
}
