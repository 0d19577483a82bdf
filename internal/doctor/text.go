package doctor

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Text writes the report for people: a line for each check, below it what weft does
// without it and the command that mends it.
func (r Report) Text(w io.Writer) error { return r.text(w, false) }

// ColorText is Text with ANSI colours.
func (r Report) ColorText(w io.Writer) error { return r.text(w, true) }

func (r Report) text(w io.Writer, color bool) error {
	out := bufio.NewWriter(w)
	kernel := "Linux " + r.Kernel
	if r.System != "" {
		kernel = r.System + ", " + kernel
	}
	fmt.Fprintf(out, "%s, %d CPUs, user %s\n\n", kernel, r.CPUs, r.User)
	width := 0
	for _, c := range r.Checks {
		width = max(width, len(c.Title))
	}
	indent := strings.Repeat(" ", len(Missing)+width+4)
	for _, c := range r.Checks {
		fmt.Fprintf(out, "%s  %-*s  %s\n", paint(color, c.Status), width, c.Title, c.Detail)
		if c.Effect != "" {
			fmt.Fprintf(out, "%s%s\n", indent, c.Effect)
		}
		if c.Fix != "" {
			fmt.Fprintf(out, "%sfix: %s\n", indent, c.Fix)
		}
	}
	fmt.Fprintf(out, "\n%s\n", r.verdict())
	return out.Flush()
}

func (r Report) verdict() string {
	var lacks []string
	for _, c := range r.Checks {
		if c.Required && c.Status == Missing {
			lacks = append(lacks, c.Title)
		}
	}
	switch {
	case len(lacks) > 0:
		return "weft cannot build networks here. Missing: " + join(lacks) + "."
	case r.Datapath == "kernel":
		return "weft can build networks here. Switches forward in the kernel."
	}
	return "weft can build networks here. Switches forward in user space."
}

// paint pads a status to the width of the longest, in its colour.
func paint(color bool, s Status) string {
	text := fmt.Sprintf("%-*s", len(Missing), s)
	if !color {
		return text
	}
	code := map[Status]int{OK: 32, Warn: 33, Missing: 31}[s]
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", code, text)
}
