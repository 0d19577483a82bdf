package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// writeMan writes the manual page weft(1), in the man macros of roff.
func writeMan(w io.Writer, root *cobra.Command, groups []group) error {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", strings.ToUpper(title)) }
	entry := func(tag, text string) { fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", roff(tag), roff(text)) }

	fmt.Fprintf(&b, ".TH WEFT 1 \"\" \"weft %s\" \"User Commands\"\n", version)
	section("name")
	fmt.Fprintf(&b, "weft, mn \\- %s\n", roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	section("synopsis")
	fmt.Fprint(&b, ".B weft\n[\\fIoptions\\fR]\n.br\n.B weft\n\\fICOMMAND\\fR [\\fIoptions\\fR]\n.br\n.B mn\n[\\fIoptions\\fR]\n")
	section("description")
	for _, paragraph := range []string{
		"weft builds a network of hosts, Open vSwitch switches and controllers in namespaces of this machine and gives you a prompt to work with it, or runs tests on it. Everything that it makes lives in namespaces that end with it, however it ends. It needs no root where the kernel lets ordinary users make user namespaces.",
		"Under the name mn, and as weft mn, it takes Mininet's options and prints what Mininet prints.",
	} {
		fmt.Fprintf(&b, ".PP\n%s\n", roff(paragraph))
	}
	section("commands")
	for _, c := range commandTable(root) {
		entry(c.line, c.doc+".")
	}
	section("options")
	for _, g := range groups {
		fmt.Fprintf(&b, ".SS %s\n", roff(g.title))
		for _, o := range optionTable(g.flags) {
			entry(o.line, o.doc)
		}
	}
	section("options of commands")
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == mnName {
			continue
		}
		fmt.Fprintf(&b, ".SS %s\n", roff("weft "+c.Name()))
		if c.Long != "" {
			fmt.Fprintf(&b, ".nf\n%s.fi\n", roffLines(c.Long))
		}
		for _, o := range optionTable(c.LocalFlags()) {
			entry(o.line, o.doc)
		}
	}
	section("topologies")
	for _, t := range topologyTable() {
		entry(t.line, t.doc)
	}
	section("exit status")
	for _, e := range exitStatuses() {
		entry(e.line, e.doc)
	}
	section("examples")
	for _, e := range examples() {
		entry(e.line, e.doc)
	}
	section("environment")
	entry("XDG_RUNTIME_DIR", "where the networks of an ordinary user keep their state, in weft/NAME.")
	entry("XDG_STATE_HOME", "where the prompt keeps its history, in weft/history.")
	section("files")
	entry("/run/weft/NAME/", "state of a network of root's: api.sock, the API; log, the network's log; lock, held as long as it lives.")
	entry("~/.mininet_history", "the history of the prompt of mn.")
	section("see also")
	fmt.Fprint(&b, ".BR ovs-vswitchd (8),\n.BR ovs-ofctl (8),\n.BR namespaces (7)\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// roffLines escapes lines that are to stay as they are.
func roffLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintln(&b, roff(strings.TrimRight(line, "\n")))
	}
	return b.String()
}

// roff escapes text for roff.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
