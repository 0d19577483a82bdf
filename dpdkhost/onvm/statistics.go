package onvm

import (
	"strconv"
	"strings"
)

// Statistics of onvm_mgr as it prints them with -v 3 (onvm_stats.h): lines of words between
// commas, the time first. Lines of a port have 6 words, those of an NF 24.
const (
	portWords     = 6
	functionWords = 24
	// readyLine begins the last line before the manager lets NFs in.
	readyLine = "#YYYY-MM-DD HH:MM:SS,nf_tag,"
)

// portLine is what is known of a port.
type portLine struct {
	id           int // DPDK's
	received, tx uint64
}

// functionLine is what is known of an NF.
type functionLine struct {
	tag                                       string
	instance, service, core, parent, children int
	received, sent, rxDrop, txDrop            uint64
	out, toNF, drop, next, buffer, wakeups    uint64
}

// parse reads a line: a port's, an NF's, or another, of which it says nothing.
func parse(line string) (p *portLine, f *functionLine) {
	words := strings.Split(line, ",")
	if len(words) != portWords && len(words) != functionWords || !isTime(words[0]) {
		return nil, nil
	}
	good := true
	number := func(i int) uint64 {
		n, err := strconv.ParseUint(words[i], 10, 64)
		good = good && err == nil
		return n
	}
	small := func(i int) int {
		// OpenNetVM prints what may be below zero as if it were not.
		if n := number(i); n <= 1<<16-1 {
			return int(n)
		}
		return 0
	}
	if len(words) == portWords {
		p = &portLine{small(1), number(2), number(4)}
		number(3)
		number(5)
		if !good {
			return nil, nil
		}
		return p, nil
	}
	f = &functionLine{
		tag: words[1], instance: small(2), service: small(3), core: small(4), parent: small(5), children: small(7),
		received: number(8), sent: number(9), rxDrop: number(12), txDrop: number(13),
		out: number(16), toNF: number(17), drop: number(18), next: number(19), buffer: number(20), wakeups: number(22),
	}
	if !good || f.instance == 0 {
		return nil, nil
	}
	return nil, f
}

// isTime reports whether a word looks like 2024-01-31 23:59:59.
func isTime(s string) bool {
	const like = "0000-00-00 00:00:00"
	if len(s) != len(like) {
		return false
	}
	for i := range len(s) {
		if digit := s[i] >= '0' && s[i] <= '9'; digit != (like[i] == '0') || !digit && s[i] != like[i] {
			return false
		}
	}
	return true
}

// instanceOf returns the number that the manager gave an NF, if a line of the NF's says so.
func instanceOf(line string) (int, bool) {
	_, text, ok := strings.Cut(line, "Using Instance ID ")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	return n, err == nil && n > 0
}

// tooEarly says that an NF came before the manager was ready: it is worth another try.
func tooEarly(line string) bool { return strings.Contains(line, "Cannot get service chain info") }
