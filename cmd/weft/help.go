package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weft/topo"
)

// helpWidth is the width of help, in columns.
const helpWidth = 88

// An example is a command line and what it does.
type example struct{ line, doc string }

func examples() []example {
	return []example{
		{"weft", "one switch, two hosts and a prompt"},
		{"weft --topo tree,2,2 --test pingall", "build a tree, ping between all hosts, take it down"},
		{"weft --controller remote,ip=127.0.0.1,port=6653", "with your own controller"},
		{"weft --topo linear,4 --switch ovs,protocols=OpenFlow13 -w", "OpenFlow 1.3; wait for the controller"},
		{"echo 'h1 ping -c1 h2' | weft --topo single,3", "commands from a script"},
		{"weft --topo fattree,4 --json --test pingall", "results for a program"},
		{"weft mn --topo linear,3 --test pingall", "as in Mininet, to the letter"},
	}
}

// exitStatuses says what the program's end means.
func exitStatuses() []example {
	return []example{
		{"0", "all went well"},
		{"1", "a test failed: lost pings, a command's error, a controller that did not connect; or the network could not be built"},
		{"2", "the command line is wrong; nothing was built"},
		{"128+n", "signal n ended it"},
	}
}

// writeHelp describes a command; groups are its options, nil for those of cobra.
func writeHelp(w io.Writer, cmd *cobra.Command, groups []group) {
	if groups == nil {
		fmt.Fprintf(w, "%s\n\nUsage: %s\n", cmd.Short, usage(cmd))
		if rows := optionTable(cmd.LocalFlags()); len(rows) > 0 {
			fmt.Fprint(w, "\nOptions:\n")
			table(w, rows)
		}
		if cmd.Long != "" {
			fmt.Fprintf(w, "\n%s", cmd.Long)
		}
		if cmd.Example != "" {
			fmt.Fprint(w, "\nExamples:\n")
			for line := range strings.Lines(cmd.Example) {
				fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
			}
		}
		return
	}
	fmt.Fprintf(w, "%s.\n\n", cmd.Short)
	fmt.Fprint(w, "Usage: weft [options]           build a network; work with it at a prompt\n"+
		"       weft COMMAND [options]\n\nCommands:\n")
	table(w, commandTable(cmd))
	writeOptions(w, groups)
	writeTopologies(w)
	fmt.Fprint(w, "\nExamples:\n")
	for _, e := range examples() {
		fmt.Fprintf(w, "  %s\n      %s\n", e.line, e.doc)
	}
	fmt.Fprint(w, "\nExit status:\n")
	table(w, exitStatuses())
	fmt.Fprint(w, "\nAt the prompt, help lists the commands.\n")
}

// writeMininetHelp describes weft mn, as optparse begins it.
func writeMininetHelp(w io.Writer, groups []group) {
	fmt.Fprint(w, "Usage: mn [options]\n\n"+
		"weft with Mininet's options, prompt and output. Options may be shortened to what is\n"+
		"unique, and written --option=VALUE or --option VALUE. Where it differs from Mininet:\n"+
		"the exit status is 1 if a test failed and 2 if the command line is wrong; -c removes\n"+
		"only what killed networks of weft left; switches accept no OpenFlow connections unless\n"+
		"--listenport is given; -w waits 30 s at most.\n")
	writeOptions(w, groups)
	writeTopologies(w)
}

func writeOptions(w io.Writer, groups []group) {
	for _, g := range groups {
		fmt.Fprintf(w, "\n%s:\n", g.title)
		table(w, optionTable(g.flags))
	}
	fmt.Fprintln(w)
	table(w, []example{{"-h, --help", "print this"}})
}

// optionTable lists options with their values.
func optionTable(flags *pflag.FlagSet) []example {
	var rows []example
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		line := "--" + f.Name
		if f.Shorthand != "" {
			line = "-" + f.Shorthand + ", " + line
		}
		value := strings.Join(f.Annotations[valueName], "")
		switch {
		case value == "":
		case f.NoOptDefVal != "":
			line += "[=" + value + "]"
		default:
			line += " " + value
		}
		rows = append(rows, example{line, f.Usage})
	})
	return rows
}

func writeTopologies(w io.Writer) {
	fmt.Fprint(w, "\nTopologies:\n")
	table(w, topologyTable())
}

// topologyTable lists the generators with their parameters.
func topologyTable() []example {
	var rows []example
	for _, g := range topo.Generators() {
		doc := g.Doc
		for _, p := range g.Params {
			if len(p.Name) > 1 { // what a letter stands for is said already
				doc += fmt.Sprintf("; %s: %s", p.Name, p.Doc)
			}
		}
		rows = append(rows, example{g.Usage(), doc})
	}
	return rows
}

// commandTable lists the commands of cmd that people call.
func commandTable(cmd *cobra.Command) []example {
	var rows []example
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			rows = append(rows, example{strings.TrimPrefix(usage(c), "weft "), c.Short})
		}
	}
	return rows
}

func usage(c *cobra.Command) string {
	text := strings.TrimSuffix(c.UseLine(), " [flags]")
	if c.Flags().HasAvailableFlags() {
		text += " [options]"
	}
	return text
}

// table writes two columns, the second wrapped; it begins on the next line where the first
// leaves it no room.
func table(w io.Writer, rows []example) {
	const most = 26
	width := 0
	for _, r := range rows {
		width = max(width, len(r.line))
	}
	width = min(width, most)
	for _, r := range rows {
		lead := fmt.Sprintf("  %-*s  ", width, r.line)
		if len(r.line) > width {
			fmt.Fprintf(w, "  %s\n", r.line)
			lead = strings.Repeat(" ", width+4)
		}
		for _, line := range wrap(r.doc, helpWidth-width-4) {
			fmt.Fprintf(w, "%s%s\n", lead, line)
			lead = strings.Repeat(" ", width+4)
		}
	}
}

// wrap breaks text at blanks into lines of at most width characters, where it can.
func wrap(text string, width int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len([]rune(*last))+1+len([]rune(word)) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
