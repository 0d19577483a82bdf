package shell

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// mininetHelp is what Mininet prints below its table of commands.
const mininetHelp = `You may also send a command to a node using:
  <node> command {args}
For example:
  mininet> h1 ifconfig

The interpreter automatically substitutes IP addresses
for node names when a node is the first arg, so commands
like
  mininet> h2 ping h3
should work.

Some character-oriented interactive commands require
noecho:
  mininet> noecho h2 vi foo.py
However, starting up an xterm/gterm is generally better:
  mininet> xterm h2

`

func runHelp(_ context.Context, c *call) error {
	if len(c.args) == 0 {
		c.helpAll()
		return nil
	}
	topic := strings.Join(c.args, " ")
	cmd, ok := c.lookup(topic)
	if !ok && (c.json || c.cfg.Dialect == Native) {
		return fmt.Errorf("there is no command %q: help lists them", topic)
	}
	if !ok {
		fmt.Fprintf(c.cfg.Out, "*** No help on %s\n", topic)
		return shown{fmt.Errorf("no help on %s", topic)}
	}
	switch {
	case c.json:
		c.encode(helpValue(cmd))
	case c.cfg.Dialect == Mininet && cmd.mininet != "":
		fmt.Fprintln(c.cfg.Out, cmd.mininet)
	default:
		helpOne(c.cfg.Out, cmd)
	}
	return nil
}

// helpAll lists the commands. Mininet prints the table and the text below it to
// different streams.
func (c *call) helpAll() {
	switch {
	case c.json:
		all := make([]any, len(c.commands))
		for i, cmd := range c.commands {
			all[i] = helpValue(cmd)
		}
		c.encode(all)
	case c.cfg.Dialect == Mininet:
		var topics []string
		for _, cmd := range c.commands {
			if cmd.mininet != "" {
				topics = append(topics, cmd.name)
			}
		}
		slices.Sort(topics)
		const header = "Documented commands (type help <topic>):"
		fmt.Fprintf(c.cfg.Out, "\n%s\n%s\n", header, strings.Repeat("=", len(header)))
		columns(c.cfg.Out, topics, 79)
		fmt.Fprintln(c.cfg.Out)
		fmt.Fprint(c.cfg.Err, mininetHelp)
	default:
		t := table(c.cfg.Out)
		for _, cmd := range c.commands {
			if cmd.name != "EOF" {
				fmt.Fprintf(t, "%s\t%s\t%s\n", cmd.name, cmd.doc, cmd.example)
			}
		}
		t.Flush()
		fmt.Fprint(c.cfg.Out, `
NODE COMMAND runs a command on a node, in its own shell; names of hosts after the
first word become their addresses:
  h1 ping -c1 h2
# starts a comment. help COMMAND explains one; every command takes --json except
those that pass their line on to a shell.
`)
	}
}

func helpValue(cmd command) any {
	return struct {
		Name    string `json:"name"`
		Usage   string `json:"usage,omitempty"`
		Doc     string `json:"doc"`
		Example string `json:"example"`
	}{cmd.name, cmd.usage, cmd.doc, cmd.example}
}

// helpOne explains a command.
func helpOne(w io.Writer, cmd command) {
	fmt.Fprintf(w, "%s\n  %s\n", strings.TrimSpace(cmd.name+" "+cmd.usage), cmd.doc)
	options := cmd.options
	if !cmd.verbatim {
		options = append(slices.Clone(options), optionJSON)
	}
	if len(options) > 0 {
		fmt.Fprintln(w, "options")
		t := table(w)
		for _, o := range options {
			fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(o.name+" "+o.arg), o.doc)
		}
		t.Flush()
	}
	fmt.Fprintf(w, "example\n  %s\n", cmd.example)
	if cmd.more != nil {
		fmt.Fprint(w, cmd.more())
	}
}

// columns prints words in as few rows as fit into width, downwards first, like
// Python's cmd.columnize.
func columns(w io.Writer, words []string, width int) {
	var widths []int
	rows := 0
	for fits := false; !fits; {
		rows++
		widths = widths[:0]
		total := -2
		for col := 0; col < len(words); col += rows {
			widest := 0
			for _, s := range words[col:min(col+rows, len(words))] {
				widest = max(widest, len(s))
			}
			widths = append(widths, widest)
			total += widest + 2
		}
		fits = total <= width || rows >= len(words)
	}
	for row := range rows {
		for col, wide := range widths {
			i := row + rows*col
			if i >= len(words) {
				break
			}
			if col > 0 {
				fmt.Fprint(w, "  ")
			}
			fmt.Fprintf(w, "%-*s", wide, words[i])
		}
		fmt.Fprintln(w)
	}
}
