package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A test is something that --test runs: a REPL command, with arguments that Mininet
// writes key=value.
type test struct {
	name string
	doc  string
	args []testArg
}

// A testArg is an argument of a test: one of its keys, in any case, and the option of the
// REPL command that it becomes.
type testArg struct {
	keys   []string
	option string
	check  func(value string) error
}

// tests returns all tests.
func tests() []test {
	span := func(value string) error { _, err := parseSpan(value); return err }
	ping := []testArg{
		{[]string{"timeout"}, "--timeout", span},
		{[]string{"tries"}, "--tries", checkCount},
		{[]string{"count"}, "--count", checkCount},
	}
	iperf := []testArg{{[]string{"seconds", "time"}, "--time", span}}
	udp := append(slices.Clone(iperf), testArg{[]string{"rate", "bw", "udpBw"}, "--rate", checkRate})
	return []test{
		{"none", "bring the network up and down", nil},
		{"build", "the same, and wait until the switches have their controllers", nil},
		{"pingall", "ping between all hosts", ping},
		{"pingpair", "ping between the first two hosts", ping},
		{"pingallfull", "pingall with round-trip times", ping},
		{"pingpairfull", "pingpair with round-trip times", ping},
		{"iperf", "TCP throughput between the first and the last host", iperf},
		{"iperfudp", "UDP throughput between the first and the last host", udp},
		{"all", "pingall, then iperf", nil},
	}
}

func testNames() []string {
	var names []string
	for _, t := range tests() {
		names = append(names, t.name)
	}
	return names
}

// testCommands returns the REPL commands for what a --test asks: names joined by "+",
// each with arguments after commas; or, if there is a blank in it, one line for the REPL
// as it is. hosts are those of the network.
func testCommands(text string, hosts []string) ([]string, error) {
	if line := strings.TrimSpace(text); strings.Contains(line, " ") {
		return []string{line}, nil
	}
	var commands []string
	var errs []error
	for part := range strings.SplitSeq(text, "+") {
		words := strings.Split(part, ",")
		name := strings.TrimSpace(words[0])
		i := slices.IndexFunc(tests(), func(t test) bool { return strings.EqualFold(t.name, name) })
		if i < 0 {
			errs = append(errs, fmt.Errorf("there is no test %q (there are: %s)", name, strings.Join(testNames(), ", ")))
			continue
		}
		t := tests()[i]
		line, err := t.command(words[1:], hosts)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("test %s: %w", t.name, err))
		case t.name == "all":
			commands = append(commands, "pingall", "iperf")
		default:
			commands = append(commands, line)
		}
	}
	return commands, errors.Join(errs...)
}

// command returns the REPL command for t with these arguments.
func (t test) command(words, hosts []string) (string, error) {
	line := []string{t.name}
	for _, word := range words {
		key, value, isOption := strings.Cut(strings.TrimSpace(word), "=")
		if !isOption {
			if !slices.Contains(hosts, key) || len(t.args) == 0 {
				return "", fmt.Errorf("%q is neither a host nor key=value", key)
			}
			line = append(line, key)
			continue
		}
		i := slices.IndexFunc(t.args, func(a testArg) bool {
			return slices.ContainsFunc(a.keys, func(k string) bool { return strings.EqualFold(k, key) })
		})
		if i < 0 {
			return "", t.noArgument(key)
		}
		if err := t.args[i].check(value); err != nil {
			return "", fmt.Errorf("%s: %w", key, err)
		}
		line = append(line, t.args[i].option, value)
	}
	return strings.Join(line, " "), nil
}

func (t test) noArgument(key string) error {
	if len(t.args) == 0 {
		return fmt.Errorf("it takes no %q and nothing else; leave it out", key)
	}
	var keys []string
	for _, a := range t.args {
		keys = append(keys, a.keys[0])
	}
	return fmt.Errorf("it takes no %q (it takes: %s)", key, strings.Join(keys, ", "))
}

// parseSpan reads a number of seconds or a duration as Go writes it, above zero.
func parseSpan(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a length of time; write 5 for seconds, or 500ms", text)
	}
	return d, nil
}

func checkCount(text string) error {
	if n, err := strconv.Atoi(text); err != nil || n < 1 {
		return fmt.Errorf("%q is not a whole number above zero", text)
	}
	return nil
}

var rate = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+(\.[0-9]+)?[kKmMgG]?$`) })

func checkRate(text string) error {
	if !rate().MatchString(text) {
		return fmt.Errorf("%q is not a rate in bit/s; write for example 10M", text)
	}
	return nil
}
