package shell

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/term"

	"weft/network"
	"weft/script"
	"weft/topo"
)

// runVerify measures links, one after the other.
func runVerify(ctx context.Context, c *call) error {
	names, options, err := c.linkNames(ctx, c.args, 0)
	if err != nil {
		return err
	}
	_, all := c.opts["--all"]
	if len(options) > 0 || all && len(names) > 0 {
		return c.misuse("usage: link verify [link...]")
	}
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	links, err := linksToVerify(st.Plan, names, all)
	if err != nil {
		return err
	}
	checks := []network.LinkCheck{}
	for i, l := range links {
		c.verifying(l, i+1, len(links))
		measured, err := c.net.VerifyLinks(ctx, network.VerifyRequest{Links: []string{strconv.Itoa(l.ID)}})
		if err != nil {
			return err
		}
		checks = append(checks, measured...)
	}
	c.show(verifyView(checks))
	off := 0
	for _, k := range checks {
		if k.Verdict == network.VerdictOff {
			off++
		}
	}
	if off > 0 {
		return shown{fmt.Errorf("%d of %d directions are not as asked", off, len(checks))}
	}
	return nil
}

// linksToVerify returns the links that are named, or those that are impaired, or all.
func linksToVerify(p *topo.Plan, names []linkWords, all bool) ([]topo.PlannedLink, error) {
	var links []topo.PlannedLink
	seen := map[int]bool{}
	add := func(l topo.PlannedLink) {
		if !seen[l.ID] {
			seen[l.ID] = true
			links = append(links, l)
		}
	}
	for _, n := range names {
		if n.b != "" {
			for _, l := range p.LinksBetween(n.a, n.b) {
				add(l)
			}
			continue
		}
		views, _, err := p.FindLinks(n.a)
		if err != nil {
			return nil, err
		}
		for _, v := range views {
			add(v.PlannedLink)
		}
	}
	for _, l := range p.Links {
		if len(names) == 0 && (all || l.Impaired()) {
			add(l)
		}
	}
	return links, nil
}

// verifying says to who watches what is being measured: each link takes seconds.
func (c *call) verifying(l topo.PlannedLink, number, of int) {
	w, ok := c.cfg.Err.(interface{ Fd() uintptr })
	if c.json || !ok || !term.IsTerminal(int(w.Fd())) {
		return
	}
	fmt.Fprintf(c.cfg.Err, "measuring %s–%s (%d of %d)\n", l.A.Interface, l.B.Interface, number, of)
}

// verifyView shows measurements, a line for each direction.
func verifyView(checks []network.LinkCheck) view {
	return view{value: checks, native: func(w io.Writer) {
		if len(checks) == 0 {
			fmt.Fprintln(w, "nothing was asked of any link; --all measures all")
			return
		}
		t := table(w)
		fmt.Fprintln(t, "FROM\tTO\tDRIVER\tRATE\tDELAY\tJITTER\tLOSS\tVERDICT")
		var notes []string
		for _, k := range checks {
			cells := map[string]string{}
			verdict := string(k.Verdict)
			if k.Skipped != "" {
				verdict += ": " + k.Skipped
			}
			var more []string
			for _, f := range k.Figures {
				cells[f.Name] = figureText(f)
				switch f.Name {
				case "rate", "delay", "jitter", "loss":
				default:
					more = append(more, f.Name+" "+figureText(f))
				}
				if f.Note != "" {
					notes = append(notes, fmt.Sprintf("%s → %s: %s: %s", k.From.Interface, k.To.Interface, f.Name, f.Note))
				}
			}
			if len(more) > 0 {
				verdict += ", " + strings.Join(more, ", ")
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.From.Interface, k.To.Interface, k.Driver,
				dash(cells["rate"]), dash(cells["delay"]), dash(cells["jitter"]), dash(cells["loss"]), verdict)
		}
		t.Flush()
		for _, n := range notes {
			fmt.Fprintln(w, n)
		}
	}}
}

// figureText writes a figure: measured, asked, tolerance, with a mark if it is off.
func figureText(f network.Figure) string {
	scale, unit := 1.0, f.Unit
	switch f.Unit {
	case "s":
		scale, unit = 1e3, "ms"
	case "bit/s":
		var prefix string
		_, prefix = script.Scaled(f.Asked)
		scale = map[string]float64{"": 1, "k": 1e-3, "M": 1e-6, "G": 1e-9}[prefix]
		unit = prefix + f.Unit
	}
	digits := 4
	if f.Measured*scale < 1 {
		digits = 2 // the others are noise
	}
	text := fmt.Sprintf("%.*g of %.4g ±%.2g %s", digits, f.Measured*scale, f.Asked*scale, f.Tolerance*scale, unit)
	switch f.Verdict {
	case network.VerdictOff:
		return text + " !"
	case network.VerdictUnknown:
		return fmt.Sprintf("? of %.4g %s", f.Asked*scale, unit)
	}
	return text
}
