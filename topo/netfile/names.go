package netfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"weft/topo"
)

// expand returns the texts that text with ranges stands for: h[1-3] for h1 h2 h3, r[01-12],
// x[1,3,7-9], and h[1-2]x[1-3] for six names, the last range going round first. It is an
// error if there are more than most.
func expand(text string, most int) ([]string, error) {
	if !strings.ContainsRune(text, '[') {
		if strings.ContainsRune(text, ']') {
			return nil, fmt.Errorf("%q has a ] without its [; write a range as h[1-4]", text)
		}
		return []string{text}, nil
	}
	all := []string{""}
	for rest := text; rest != ""; {
		before, after, isRange := strings.Cut(rest, "[")
		for i := range all {
			all[i] += before
		}
		if !isRange {
			break
		}
		inner, tail, closed := strings.Cut(after, "]")
		if !closed {
			return nil, fmt.Errorf("%q has a [ without its ]; write a range as h[1-4]", text)
		}
		list, err := numbers(inner, most)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		if len(list)*len(all) > most {
			return nil, fmt.Errorf("%q stands for more than %d; write smaller ranges", text, most)
		}
		next := make([]string, 0, len(list)*len(all))
		for _, a := range all {
			for _, n := range list {
				next = append(next, a+n)
			}
		}
		all, rest = next, tail
	}
	return all, nil
}

// numbers lists what is between the brackets of a range.
func numbers(text string, most int) ([]string, error) {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			high = low
		}
		a, errA := strconv.ParseUint(low, 10, 32)
		b, errB := strconv.ParseUint(high, 10, 32)
		switch {
		case errors.Is(errA, strconv.ErrRange) || errors.Is(errB, strconv.ErrRange) || b >= a && b-a >= uint64(most):
			return nil, fmt.Errorf("the range [%s] is too large; at most %d are possible", text, most)
		case errA != nil || errB != nil:
			return nil, fmt.Errorf("[%s] is not a range; write for example [1-4] or [1,3,7-9]", text)
		case b < a:
			return nil, fmt.Errorf("the range [%s] goes down; write the smaller number first", text)
		case len(list)+int(b-a) >= most:
			return nil, fmt.Errorf("the range [%s] is too large; at most %d are possible", text, most)
		}
		width := 0
		if low[0] == '0' && len(low) > 1 {
			width = len(low)
		}
		for n := a; n <= b; n++ {
			list = append(list, fmt.Sprintf("%0*d", width, n))
		}
	}
	return list, nil
}

// unknown says that there is no such thing, and which name was perhaps meant.
func unknown(what, name string, names []string) string {
	what = "there is no " + strings.Replace(what, "%", strconv.Quote(name), 1)
	if near := topo.Nearest(name, names); near != "" {
		return what + "; did you mean " + near + "?"
	}
	if len(names) == 0 || len(names) > maxListed {
		return what
	}
	return what + "; there are: " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

// maxListed is how many names an error lists.
const maxListed = 40
