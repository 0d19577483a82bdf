package shell

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const blanks = " \t\r\n"

// cutComment returns line without its comment, which starts, as in a shell, with a #
// at the start of a word and outside quotes.
func cutComment(line string) string {
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && quote != '\'':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '#' && (i == 0 || strings.IndexByte(blanks, line[i-1]) >= 0):
			return line[:i]
		}
	}
	return line
}

// cutWord returns the first word of line and what follows it, without the blanks
// around either.
func cutWord(line string) (word, rest string) {
	line = strings.Trim(line, blanks)
	i := strings.IndexAny(line, blanks)
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimLeft(line[i:], blanks)
}

// splitWords splits a line at blanks, but not those between quotes, which it removes.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	begun := false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, begun = c, true
		case quote == 0 && strings.ContainsRune(blanks, c):
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c has no end", quote)
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// joinWords writes words so that splitWords reads them again.
func joinWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quote := ""
		if w == "" || strings.ContainsAny(w, blanks+"'\"#") {
			if quote = "'"; strings.Contains(w, quote) {
				w = strings.ReplaceAll(w, "'", `'"'"'`)
			}
		}
		quoted[i] = quote + w + quote
	}
	return strings.Join(quoted, " ")
}

// replaceWords replaces the words of line (between blanks) that value knows and leaves
// everything else, quotes and blanks included, as it is.
func replaceWords(line string, value func(word string) (string, bool)) string {
	var b strings.Builder
	for line != "" {
		n := strings.IndexAny(line, blanks)
		if n < 0 {
			n = len(line)
		}
		word := line[:n]
		if v, ok := value(word); ok {
			word = v
		}
		b.WriteString(word)
		if line = line[n:]; line != "" {
			b.WriteByte(line[0])
			line = line[1:]
		}
	}
	return b.String()
}

// An option is one that a command takes. With an arg it needs a value, as
// "--name value" or "--name=value".
type option struct {
	name string // with its dashes
	arg  string // what the value is ("DURATION"), empty for a switch
	doc  string
}

// optionJSON is taken by every command that does not pass its line on.
var optionJSON = option{name: "--json", doc: "print the result as JSON"}

// parseOptions separates options from the other words, which all are that come after "--". A
// switch has the value "true".
func parseOptions(words []string, options []option) (values map[string]string, args []string, err error) {
	values = map[string]string{}
	for i := 0; i < len(words); i++ {
		if words[i] == "--" {
			return values, append(args, words[i+1:]...), nil
		}
		name, value, has := strings.Cut(words[i], "=")
		if len(name) < 2 || name[0] != '-' || isNumber(words[i]) && !known(options, name) {
			args = append(args, words[i])
			continue
		}
		o, ok := find(options, name)
		switch {
		case !ok:
			return nil, nil, fmt.Errorf("there is no option %s", name)
		case o.arg == "" && has:
			return nil, nil, fmt.Errorf("option %s takes no value", name)
		case o.arg == "":
			value = "true"
		case !has && i+1 == len(words):
			return nil, nil, fmt.Errorf("option %s needs a value: %s %s", name, name, o.arg)
		case !has:
			i++
			value = words[i]
		}
		values[name] = value
	}
	return values, args, nil
}

func find(options []option, name string) (option, bool) {
	for _, o := range options {
		if o.name == name {
			return o, true
		}
	}
	return option{}, false
}

func known(options []option, name string) bool {
	_, ok := find(options, name)
	return ok
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// parseSpan reads a positive length of time: "2s", "500ms", or a number of seconds.
func parseSpan(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		sec, ferr := strconv.ParseFloat(s, 64)
		if ferr != nil || math.IsNaN(sec) || math.Abs(sec) > 1e9 {
			return 0, fmt.Errorf("%q is not a length of time: write 500ms, 2s or a number of seconds", s)
		}
		d = time.Duration(sec * float64(time.Second))
	}
	if d <= 0 {
		return 0, fmt.Errorf("a length of time must be above zero, not %s", s)
	}
	return d, nil
}

// parseRate reads a rate in bit/s as iperf does: "10M", "1.5G", "64k", powers of 1000.
func parseRate(s string) (uint64, error) {
	number, factor := s, 1.0
	if s != "" {
		if i := strings.IndexByte("kmg", s[len(s)-1]|0x20); i >= 0 {
			number, factor = s[:len(s)-1], math.Pow(1000, float64(i+1))
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v*factor >= 1 && v*factor <= 1e15) {
		return 0, fmt.Errorf("%q is not a rate in bit/s: write 64k, 10M or 1.5G", s)
	}
	return uint64(v * factor), nil
}

// parseCount reads a whole number above zero.
func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is not a whole number above zero", s)
	}
	return n, nil
}
