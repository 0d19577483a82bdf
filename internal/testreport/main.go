// Command testreport makes text for people from what `go test -json` writes
// (`go doc test2json`). It may import nothing of weft.
//
//	go test -json ./... | go tool testreport -o unit.json    as go test prints it
//	go tool testreport unit.json kernel.json                  a table of what was skipped and why
//
// A file's name is the stage's that wrote it. A test that one stage skips another may run:
// the table says which.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("testreport", flag.ExitOnError)
	copyTo := flags.String("o", "", "write what is read to this `file`")
	skipped := flags.String("skipped", "", "read nothing: the whole stage was skipped, and this is `why`")
	flags.Parse(args)
	if flags.NArg() > 0 {
		return table(flags.Args(), out)
	}
	raw := io.Discard
	if *copyTo != "" {
		if err := os.MkdirAll(filepath.Dir(*copyTo), 0o755); err != nil {
			return err
		}
		f, err := os.Create(*copyTo)
		if err != nil {
			return err
		}
		defer f.Close()
		raw = f
	}
	if *skipped != "" {
		fmt.Fprintln(out, "skipped:", *skipped)
		e := json.NewEncoder(raw)
		return errors.Join(e.Encode(event{Action: "output", Package: "all", Output: *skipped + "\n"}),
			e.Encode(event{Action: "skip", Package: "all"}))
	}
	return text(io.TeeReader(in, raw), out)
}

// An event is a line of `go test -json`.
type event struct {
	Action     string
	Package    string `json:",omitempty"`
	ImportPath string `json:",omitempty"` // of what is built, instead of Package
	Test       string `json:",omitempty"`
	Output     string `json:",omitempty"`
}

// A test is known by these.
type test struct{ pkg, name string }

// read calls f with each event. Lines that are none are passed on as output of nothing:
// they come from programs that write past the test's standard output.
func read(in io.Reader, f func(event)) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		var e event
		if json.Unmarshal([]byte(line), &e) != nil && line != "" {
			e = event{Action: "output", Output: line}
		}
		if e.Action != "" {
			f(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// text prints what go test prints without -v: a line for each package, and the output of
// tests that failed or did not come to an end.
func text(in io.Reader, out io.Writer) error {
	output := map[test]string{} // of tests under way, and of packages
	return read(in, func(e event) {
		this := test{e.Package, e.Test}
		switch e.Action {
		case "output":
			if e.Package == "" {
				fmt.Fprint(out, e.Output)
				return
			}
			if !strings.HasPrefix(e.Output, "=== ") { // progress
				output[this] += e.Output
			}
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "pass", "skip":
			if e.Test == "" {
				verdict(out, output[this])
			}
			delete(output, this)
		case "fail":
			if e.Test == "" {
				var left []test
				for other := range output {
					if other.pkg == e.Package && other.name != "" {
						left = append(left, other)
					}
				}
				slices.SortFunc(left, func(a, b test) int { return cmp.Compare(a.name, b.name) })
				for _, other := range left {
					fmt.Fprint(out, output[other])
					delete(output, other)
				}
			}
			fmt.Fprint(out, output[this])
			delete(output, this)
		}
	})
}

// verdict prints the lines of a package's output that say how it did.
func verdict(out io.Writer, output string) {
	for line := range strings.Lines(output) {
		if strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "?   \t") {
			fmt.Fprint(out, line)
		}
	}
}

// A skip is a test that a stage did not run.
type skip struct {
	test
	stage, why string
}

// table prints what the stages whose events are in files skipped.
func table(files []string, out io.Writer) error {
	var skips []skip
	passed := map[test][]string{} // the stages that ran it
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		stage := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		output := map[test]string{}
		err = read(f, func(e event) {
			this := test{e.Package, e.Test}
			switch e.Action {
			case "output":
				output[this] += e.Output
			case "pass":
				passed[this] = append(passed[this], stage)
				delete(output, this)
			case "skip":
				// A package without tests is skipped too.
				if why := reason(output[this]); e.Test != "" || !strings.Contains(why, "[no test files]") {
					skips = append(skips, skip{this, stage, why})
				}
				delete(output, this)
			}
		})
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if len(skips) == 0 {
		fmt.Fprintln(out, "no test was skipped")
		return nil
	}
	slices.SortStableFunc(skips, func(a, b skip) int {
		return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.name, b.name), cmp.Compare(a.stage, b.stage))
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "skipped\tin stage\trun in\twhy")
	for _, s := range skips {
		ran := "-"
		if stages := passed[s.test]; len(stages) > 0 {
			ran = strings.Join(slices.Compact(stages), ", ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", strings.TrimSpace(s.pkg+" "+s.name), s.stage, ran, s.why)
	}
	return w.Flush()
}

// where is what testing puts before a message.
var where = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reason returns what a skipped test said last, in one line.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		if strings.HasPrefix(line, "=== ") || strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			continue
		}
		text := where.ReplaceAllString(line, "")
		if text != line {
			said = nil
		}
		if text = strings.TrimSpace(text); text != "" {
			said = append(said, text)
		}
	}
	return strings.Join(said, "; ")
}
