package shell

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	prompt "github.com/c-bata/go-prompt"

	"weft/topo"
)

// completeWithin bounds how long Tab waits for the network.
const completeWithin = time.Second

// tab completes the word before the cursor as far as it is certain, and opens the menu
// if there is a choice. Further Tabs choose: that is go-prompt's part.
func (e *editor) tab(b *prompt.Buffer) {
	d := b.Document()
	if len(e.menu) > 0 && d.Text == e.menuText {
		return
	}
	e.menu = nil
	word := d.GetWordBeforeCursor()
	found := e.s.candidates(d.TextBeforeCursor())
	switch len(found) {
	case 0:
		return
	case 1:
		rest := strings.TrimPrefix(found[0], word)
		if first, _ := cutWord(d.TextBeforeCursor()); first != "py" && first != "px" { // where dots and brackets follow
			rest += " "
		}
		b.InsertText(rest, false, true)
		return
	}
	b.InsertText(strings.TrimPrefix(commonPrefix(found), word), false, true)
	e.menuText = b.Text()
	for _, text := range found {
		s := prompt.Suggest{Text: text}
		if cmd, ok := e.s.lookup(text); ok && !strings.Contains(strings.TrimLeft(d.TextBeforeCursor(), " "), " ") {
			s.Description = cmd.doc
		}
		e.menu = append(e.menu, s)
	}
}

// suggest is go-prompt's completer: it shows the menu that Tab opened until another key
// than one that chooses is pressed.
func (e *editor) suggest(d prompt.Document) []prompt.Suggest {
	switch d.LastKeyStroke() {
	case prompt.Tab, prompt.BackTab, prompt.Up, prompt.Down:
		if d.Text == e.menuText {
			return e.menu
		}
	}
	return nil
}

// candidates returns the words that the last word of line, which may be empty, can
// become.
func (s *Session) candidates(line string) []string {
	words := strings.Fields(line)
	last := ""
	if n := len(words); n > 0 && !strings.HasSuffix(line, " ") {
		last, words = words[n-1], words[:n-1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	plan := &topo.Plan{} // commands complete without a network too
	if st, err := s.state(ctx); err == nil {
		plan = st.Plan
	}
	var found []string
	for _, w := range s.next(ctx, plan, words, last) {
		if strings.HasPrefix(w, last) {
			found = append(found, w)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// next returns the words that may follow words, where last has been begun.
func (s *Session) next(ctx context.Context, p *topo.Plan, words []string, last string) []string {
	if len(words) == 0 {
		return append(s.commandNames(), nodeNames(p)...)
	}
	cmd, ok := s.lookup(words[0])
	switch {
	case !ok && slices.Contains(nodeNames(p), words[0]):
		return append(nodeNames(p), interfaceNames(interfaces(p, words[0]))...)
	case !ok:
		return nil
	case cmd.name == "time":
		return s.next(ctx, p, words[1:], last)
	case cmd.name == "py" || cmd.name == "px":
		return s.script().Complete(ctx, last)
	case strings.HasPrefix(last, "-") && !cmd.verbatim:
		return append(names(cmd.options, func(o option) string { return o.name }), optionJSON.name)
	case cmd.name == "help":
		return s.commandNames()
	case cmd.complete != nil:
		return cmd.complete(p, words[1:])
	}
	return nil
}

// commandNames returns the commands of the dialect. EOF is Mininet's, and shown there only.
func (s *Session) commandNames() []string {
	var list []string
	for _, c := range s.commands {
		if s.cfg.Dialect == Native && c.name != "EOF" || s.cfg.Dialect == Mininet && c.mininet != "" {
			list = append(list, c.name)
		}
	}
	return list
}

func commonPrefix(words []string) string {
	p := words[0]
	for _, w := range words[1:] {
		n := 0
		for n < len(p) && n < len(w) && p[n] == w[n] {
			n++
		}
		p = p[:n]
	}
	return p
}

func completeNodes(p *topo.Plan, _ []string) []string { return nodeNames(p) }

func completeHosts(p *topo.Plan, _ []string) []string { return hostNames(p) }

// neighbours returns the nodes that a link joins with node.
func neighbours(p *topo.Plan, node string) []string {
	return slices.DeleteFunc(nodeNames(p), func(other string) bool { return len(p.LinksBetween(node, other)) == 0 })
}

func completeSwitches(p *topo.Plan, _ []string) []string { return switchNames(p) }

// completeTrace offers switches, and the ports where a packet may come in.
func completeTrace(p *topo.Plan, words []string) []string {
	if len(words) == 0 {
		return switchNames(p)
	}
	var ports []string
	if sw := p.Switch(words[0]); sw != nil && len(words) == 1 {
		for _, i := range sw.Interfaces {
			ports = append(ports, fmt.Sprintf("in_port=%d", i.Port))
		}
	}
	return ports
}

func completeSwitch(p *topo.Plan, words []string) []string {
	if len(words) == 0 {
		return switchNames(p)
	}
	return []string{"start", "stop"}
}

func completeAdd(p *topo.Plan, words []string) []string {
	switch {
	case len(words) == 0:
		return []string{"host", "switch", "link"}
	case words[0] == "link":
		return slices.Concat(hostNames(p), switchNames(p))
	}
	return nil
}

func completeDelete(p *topo.Plan, words []string) []string {
	switch {
	case len(words) == 0:
		return append(slices.Concat(hostNames(p), switchNames(p)), "link")
	case len(words) == 2:
		return neighbours(p, words[1])
	}
	return slices.Concat(hostNames(p), switchNames(p))
}

func completeDpctl(_ *topo.Plan, words []string) []string {
	if len(words) > 0 {
		return nil
	}
	return []string{"add-flow", "del-flows", "dump-aggregate", "dump-desc", "dump-flows",
		"dump-group-stats", "dump-groups", "dump-ports", "dump-ports-desc", "dump-tables", "mod-flows", "show"}
}
