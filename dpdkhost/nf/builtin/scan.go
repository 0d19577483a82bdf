package builtin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const scanText = `
Looks for patterns in the payload of TCP, UDP and what else is over IP, all at once (Aho and Corasick
1975), and for regular expressions one after the other. What matches is counted, dropped, or
marked with a DSCP. A file has a pattern in each line; \n, \", \x00 and \\ are as in Go, # begins
a comment line. A pattern that is cut in two by the end of a packet is not found.`

type scan struct {
	machine  *automaton
	patterns []string
	expr     []*regexp.Regexp
	act      string
	dscp     uint8
	matches  []uint64 // by pattern, then by expression
	scanned  uint64
	matched  uint64
}

func defineScan(flags *pflag.FlagSet) func() (nf.Function, error) {
	list := flags.StringArray("pattern", nil, "a `pattern`; again for more")
	file := flags.String("patterns", "", "a `file` of patterns")
	exprs := flags.StringArray("regexp", nil, "a regular `expression` (RE2); again for more")
	act := flags.String("action", "drop", "what to do with what matches: drop, count or mark")
	dscp := flags.Uint8("dscp", 8, "to mark with, from 0 to 63")
	fold := flags.Bool("ignore-case", false, "do not tell a from A in patterns")
	return func() (nf.Function, error) {
		s := &scan{act: *act, dscp: *dscp}
		if *act != "drop" && *act != "count" && *act != "mark" {
			return nil, fmt.Errorf("--action %s: drop, count or mark", *act)
		}
		if *dscp > 63 {
			return nil, fmt.Errorf("--dscp %d: from 0 to 63", *dscp)
		}
		var errs []error
		for _, text := range *list {
			p, err := parsePattern(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("--pattern %s: %w", text, err))
			}
			s.patterns = append(s.patterns, p)
		}
		if *file != "" {
			f, err := os.Open(*file)
			if err != nil {
				return nil, fmt.Errorf("--patterns: %w", err)
			}
			defer f.Close()
			more, err := parsePatterns(f, *file)
			errs = append(errs, err)
			s.patterns = append(s.patterns, more...)
		}
		for _, text := range *exprs {
			e, err := regexp.Compile(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("--regexp: %w", err))
			}
			s.expr = append(s.expr, e)
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		if len(s.patterns)+len(s.expr) == 0 {
			return nil, fmt.Errorf("tell it a --pattern, --patterns FILE or a --regexp")
		}
		var err error
		if s.machine, err = newAutomaton(s.patterns, *fold); err != nil {
			return nil, err
		}
		s.matches = make([]uint64, len(s.patterns)+len(s.expr))
		return s, nil
	}
}

// parsePatterns reads a file of patterns and reports all that is wrong.
func parsePatterns(r io.Reader, name string) (list []string, err error) {
	var errs []error
	scanner := bufio.NewScanner(r)
	for line := 1; scanner.Scan(); line++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		p, err := parsePattern(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", name, line, err))
			continue
		}
		list = append(list, p)
	}
	if err := scanner.Err(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	return list, errors.Join(errs...)
}

// parsePattern reads one pattern with its escapes. A quote needs none.
func parsePattern(text string) (string, error) {
	var out strings.Builder
	for rest := text; rest != ""; {
		if rest[0] != '\\' {
			out.WriteByte(rest[0])
			rest = rest[1:]
			continue
		}
		c, multi, tail, err := strconv.UnquoteChar(rest, '"')
		if err != nil {
			return "", fmt.Errorf("%q: a wrong escape; write \\\\ for one backslash", text)
		}
		if multi {
			out.WriteRune(c)
		} else {
			out.WriteByte(byte(c))
		}
		rest = tail
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("an empty pattern is in everything")
	}
	return out.String(), nil
}

func (s *scan) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		p.Next()
		h := p.Headers()
		if h.Version == 0 {
			continue
		}
		b := p.Data()
		from := h.Payload
		if from == 0 {
			if from = h.Transport; from == 0 {
				from = h.Network
			}
		}
		s.scanned++
		if !s.find(b[from:h.End]) {
			continue
		}
		s.matched++
		switch s.act {
		case "drop":
			p.Drop()
		case "mark":
			mark(p, &h, s.dscp)
		}
	}
}

// find counts what is in a payload and reports whether there was anything.
func (s *scan) find(payload []byte) (found bool) {
	if first := s.machine.find(payload); first >= 0 {
		s.matches[first]++
		return true
	}
	for i, e := range s.expr {
		if e.Match(payload) {
			s.matches[len(s.patterns)+i]++
			return true
		}
	}
	return false
}

// mark sets the DSCP (RFC 2474).
func mark(p *nf.Packet, h *nf.Headers, dscp uint8) {
	b := p.Data()[h.Network:]
	word := uint16(b[0])<<8 | uint16(b[1])
	if h.Version == 4 {
		word = word&^0xfc | uint16(dscp)<<2
	} else {
		word = word&^0x0fc0 | uint16(dscp)<<6
	}
	p.SetNetwork(h, 0, word)
}

// Counters shows packets, in all and by what they matched first.
func (s *scan) Counters(f func(string, uint64)) {
	show(f, counter{"scanned", &s.scanned}, counter{"matched", &s.matched})
	for i, p := range s.patterns {
		f("pattern "+strconv.Quote(p), s.matches[i])
	}
	for i, e := range s.expr {
		f("regexp "+e.String(), s.matches[len(s.patterns)+i])
	}
}

// An automaton finds the first of many patterns: state by state, one step a byte.
type automaton struct {
	next  [][256]int32
	match []int32 // which pattern ends in a state; -1 for none
}

// maxStates bounds the memory of an automaton: 64 MiB.
const maxStates = 65536

func newAutomaton(patterns []string, ignoreCase bool) (*automaton, error) {
	a := &automaton{}
	add := func() int32 {
		a.next = append(a.next, [256]int32{})
		a.match = append(a.match, -1)
		return int32(len(a.next) - 1)
	}
	add()
	for i, p := range patterns {
		state := int32(0)
		for _, c := range []byte(p) {
			if ignoreCase {
				c = lower(c)
			}
			if a.next[state][c] == 0 {
				if len(a.next) == maxStates {
					return nil, fmt.Errorf("more than %d bytes of patterns", maxStates)
				}
				n := add()
				a.next[state][c] = n
			}
			state = a.next[state][c]
		}
		if a.match[state] < 0 {
			a.match[state] = int32(i)
		}
	}
	a.close()
	if ignoreCase {
		for s := range a.next {
			for c := 'A'; c <= 'Z'; c++ {
				a.next[s][c] = a.next[s][c+'a'-'A']
			}
		}
	}
	return a, nil
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// close adds to the trie of patterns where to go on when one does not fit any more: to the
// longest end of what was read that begins a pattern.
func (a *automaton) close() {
	fail := make([]int32, len(a.next))
	var queue []int32
	for _, s := range a.next[0] {
		if s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if a.match[s] < 0 {
			a.match[s] = a.match[fail[s]]
		}
		for c, n := range a.next[s] {
			if n == 0 {
				a.next[s][c] = a.next[fail[s]][c]
				continue
			}
			fail[n] = a.next[fail[s]][c]
			queue = append(queue, n)
		}
	}
}

// find returns the pattern that ends first in b, -1 if there is none.
func (a *automaton) find(b []byte) int {
	state := int32(0)
	for _, c := range b {
		state = a.next[state][c]
		if m := a.match[state]; m >= 0 {
			return int(m)
		}
	}
	return -1
}
