package shell

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	prompt "github.com/c-bata/go-prompt"
)

func TestCutComment(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"nodes":                "nodes",
		"# all":                "",
		"nodes # rest":         "nodes ",
		"h1 echo a#b":          "h1 echo a#b",
		`h1 echo '# no' # yes`: `h1 echo '# no' `,
		`h1 echo \' # yes`:     `h1 echo \' `,
		`h1 echo "\" # no"`:    `h1 echo "\" # no"`,
		`h1 echo 'a\' # yes`:   `h1 echo 'a\' `,
		`h1 echo "# open`:      `h1 echo "# open`,
	} {
		if got := cutComment(in); got != want {
			t.Errorf("cutComment(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestReplaceWords(t *testing.T) {
	value := func(w string) (string, bool) { return "10.0.0.2", w == "h2" }
	for in, want := range map[string]string{
		"":                   "",
		"ping -c1 h2":        "ping -c1 10.0.0.2",
		"h2":                 "10.0.0.2",
		"h2  h2\th2 ":        "10.0.0.2  10.0.0.2\t10.0.0.2 ",
		"sh -c 'ping h2'":    "sh -c 'ping h2'",
		"sh -c 'ping h2 -4'": "sh -c 'ping 10.0.0.2 -4'", // as Mininet
		"h22 xh2 h2: /h2":    "h22 xh2 h2: /h2",
	} {
		if got := replaceWords(in, value); got != want {
			t.Errorf("replaceWords(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"h1 ping -c1 h2", "pingall --timeout=2s -6 # x", `h1 echo "a # b" '\'`, "?nodes", "add host h3 --ip 10.0.0.3/8"} {
		f.Add(s)
	}
	options := append(pingOptions(), optionJSON)
	f.Fuzz(func(t *testing.T, line string) {
		if cut := cutComment(line); !strings.HasPrefix(line, cut) {
			t.Errorf("cutComment(%q) = %q", line, cut)
		}
		word, rest := cutWord(line)
		if strings.ContainsAny(word, blanks) || !strings.Contains(line, rest) || word == "" && rest != "" {
			t.Errorf("cutWord(%q) = %q, %q", line, word, rest)
		}
		if got := replaceWords(line, func(string) (string, bool) { return "", false }); got != line {
			t.Errorf("replaceWords changed %q to %q", line, got)
		}
		if words, err := splitWords(line); err == nil && !strings.ContainsAny(line, "\v\f") {
			joined := joinWords(words)
			again, err := splitWords(cutComment(joined))
			if err != nil || !slices.Equal(again, words) {
				t.Errorf("%q is %q, written %q and read %q, %v", line, words, joined, again, err)
			}
		}
		words := strings.Fields(line)
		values, args, err := parseOptions(words, options)
		if err == nil && len(args)+len(values) > len(words) {
			t.Errorf("parseOptions(%q) = %q, %q", words, values, args)
		}
		for _, w := range words {
			if d, err := parseSpan(w); err == nil && d <= 0 {
				t.Errorf("parseSpan(%q) = %v", w, d)
			}
			if r, err := parseRate(w); err == nil && r == 0 {
				t.Errorf("parseRate(%q) = %v", w, r)
			}
		}
	})
}

func TestParseValues(t *testing.T) {
	for in, want := range map[string]time.Duration{"2": 2 * time.Second, "0.5": 500 * time.Millisecond, "30ms": 30 * time.Millisecond, "0": 0, "-1": 0, "x": 0, "NaN": 0, "1e300": 0} {
		if got, err := parseSpan(in); got != want && err == nil || (err == nil) != (want > 0) {
			t.Errorf("parseSpan(%q) = %v, %v", in, got, err)
		}
	}
	for in, want := range map[string]uint64{"10M": 10e6, "1.5g": 1.5e9, "64k": 64e3, "1000": 1000, "": 0, "M": 0, "-1M": 0, "1Q": 0, "NaN": 0, "1e30": 0} {
		if got, err := parseRate(in); got != want || (err == nil) != (want > 0) {
			t.Errorf("parseRate(%q) = %v, %v", in, got, err)
		}
	}
}

// What comes after -- is no option.
func TestParseOptions(t *testing.T) {
	options := []option{{"--core", "N", ""}, {"--now", "", ""}}
	values, args, err := parseOptions([]string{"start", "--core", "1", "x", "--", "--now", "--rate", "a b", "--"}, options)
	if want := []string{"start", "x", "--now", "--rate", "a b", "--"}; err != nil || !slices.Equal(args, want) || len(values) != 1 || values["--core"] != "1" {
		t.Errorf("%v, %q, %v", values, args, err)
	}
}

// keysIn cuts input, which arrives in chunks, into keys as the editor gets them.
func keysIn(chunks ...string) []string {
	var buf []byte
	var got []string
	for _, c := range chunks {
		buf = append(buf, c...)
		for {
			key, n := nextKey(buf)
			buf = buf[n:]
			if len(key) == 0 {
				break
			}
			got = append(got, string(key))
		}
	}
	return got
}

func TestNextKey(t *testing.T) {
	for _, tt := range []struct {
		in, want []string
	}{
		{[]string{"nodes\rnet\r"}, []string{"nodes", "\r", "net", "\r"}},
		{[]string{"a\r\nb\nc"}, []string{"a", "\r", "b", "\n", "c"}},
		{[]string{"\x1b[A\x1b[Bx"}, []string{"\x1b[A", "\x1b[B", "x"}},
		{[]string{"\x1b", "[", "A"}, []string{"\x1b[A"}},
		{[]string{"\x1b[200~pasted\x1b[201~"}, []string{"pasted"}},
		{[]string{"\x1bbx"}, []string{"x"}},
		{[]string{"gr\xc3", "\xbc\xc3\x9fe"}, []string{"gr", "üße"}},
		{[]string{"日本\x7f"}, []string{"日本", "\x7f"}},
		{[]string{"a\xffb"}, []string{"a", "b"}},
		{[]string{"\x03\x04\t"}, []string{"\x03", "\x04", "\t"}},
	} {
		if got := keysIn(tt.in...); !slices.Equal(got, tt.want) {
			t.Errorf("%q gives keys %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzNextKey(f *testing.F) {
	for _, s := range []string{"nodes\r", "\x1b[A", "\x1b[1;5C", "gr\xc3\xbc\xc3", "\x1b\x1b[[A\x1bOP"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for buf := in; ; {
			key, n := nextKey(buf)
			if n > len(buf) || len(key) > n {
				t.Fatalf("nextKey(%q) = %q, %d", buf, key, n)
			}
			if len(key) == 0 {
				return
			}
			if prompt.GetKey(key) == prompt.NotDefined && (!utf8.Valid(key) || len(key) == 1 && key[0] < ' ') {
				t.Fatalf("nextKey(%q) = %q", buf, key)
			}
			buf = buf[n:]
		}
	})
}
