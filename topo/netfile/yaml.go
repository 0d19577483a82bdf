package netfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// maxDepth is how deep values may be inside others.
const maxDepth = 50

// A document is a YAML text (or JSON, which is YAML) as a tree whose nodes know their places.
// Scalars are taken as they are written: 010, on and 02:00:00:00:00:01 are texts, which their
// readers understand.
type document struct {
	complaint
	root *yaml.Node
	// aliased counts the nodes met through aliases.
	aliased int
}

// parseYAML reads a document. Its error is an Errors.
func parseYAML(name string, text []byte) (*document, error) {
	d := &document{complaint: complaint{file: name}}
	if line, column, what := firstIllegal(text); what != "" {
		d.at(line, column, "%s", what)
		return nil, d.err()
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithV4Defaults(), yaml.WithUniqueKeys(false), // which we check ourselves
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	switch err := loader.Load(&root); {
	case errors.Is(err, io.EOF):
		d.at(1, 1, "the file is empty; write for example `topo: tree,2,2`")
		return nil, d.err()
	case err != nil:
		d.syntax(text, err)
		return nil, d.err()
	}
	var second yaml.Node
	if err := loader.Load(&second); err == nil {
		d.at(second.Line, second.Column, "there is a second document in the file; make it a file of its own")
		return nil, d.err()
	} else if !errors.Is(err, io.EOF) {
		d.syntax(text, err)
		return nil, d.err()
	}
	d.root = &root
	if root.Kind == yaml.DocumentNode && len(root.Content) > 0 {
		d.root = root.Content[0]
	}
	return d, nil
}

// firstIllegal finds what no text file has: bytes that are not UTF-8 and control characters.
func firstIllegal(text []byte) (line, column int, what string) {
	line, column = 1, 1
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[i:])
		}
		switch {
		case r == utf8.RuneError && size == 1 && i == 0 && len(text) > 1 && (text[0] == 0xff && text[1] == 0xfe || text[0] == 0xfe && text[1] == 0xff):
			return line, column, "the file is UTF-16; save it as UTF-8"
		case r == utf8.RuneError && size == 1:
			return line, column, fmt.Sprintf("the byte %#02x is not UTF-8; save the file as UTF-8", text[i])
		case r == 0:
			return line, column, "there is a zero byte; is this a text file?"
		case r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f:
			return line, column, fmt.Sprintf("there is a control character %U; delete it", r)
		}
		i += size
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	return 0, 0, ""
}

// syntax says what is wrong with a text that is not YAML, in the words of who wrote it.
func (d *document) syntax(text []byte, err error) {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		d.at(0, 0, "this is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	m := e.Mark
	lines := bytes.Split(text, []byte("\n"))
	lineAt := func(n int) string {
		if n < 1 || n > len(lines) {
			return ""
		}
		return string(lines[n-1])
	}
	line := lineAt(m.Line)
	var character rune
	if tail := []rune(line); m.Column >= 1 && m.Column <= len(tail) {
		character = tail[m.Column-1]
	}
	inFlow := strings.Contains(e.ContextMsg, "flow")
	switch msg := e.Message; {
	case strings.Contains(msg, "max depth"):
		d.at(m.Line, m.Column, "values are more than %d deep inside others; write fewer [ and {", maxDepth)
	case inFlow && flowRange().MatchString(line):
		at := flowRange().FindStringIndex(line)
		d.at(m.Line, utf8.RuneCountInString(line[:at[0]])+1, "inside [ ] a range needs quotes; write %q in quotes, or the names without brackets: hosts: h[1-4] web", flowRange().FindString(line))
	case strings.Contains(msg, "cannot start any token") && character == '\t':
		d.at(m.Line, m.Column, "there is a tab; YAML is indented with blanks")
	case strings.Contains(msg, "cannot start any token"):
		d.at(m.Line, m.Column, "a value cannot begin with %s; put it in quotes", strconv.QuoteRune(character))
	case strings.Contains(msg, "mapping values are not allowed"):
		if before := lineAt(m.Line - 1); strings.Count(line, ":") < 2 && indent(line) > 0 && before != "" {
			d.at(m.Line, m.Column, "this line is indented more than the one that it continues; indent it as the lines beside it, or end the line above with a colon")
			return
		}
		d.at(m.Line, m.Column, "there is a second colon in the line; put the text that has it in quotes, or write { } round the settings")
	case strings.Contains(msg, "unknown anchor"):
		d.at(m.Line, m.Column, "a value that begins with * stands for one marked with &, and there is none of this name; put it in quotes if it is text")
	case strings.Contains(msg, "unexpected end of stream") && strings.Contains(e.ContextMsg, "quoted"):
		c := e.ContextMark
		d.at(c.Line, c.Column, "the quotes that open here are not closed")
	case strings.Contains(msg, "did not find expected") && inFlow:
		c, bracket := e.ContextMark, "]"
		if strings.Contains(e.ContextMsg, "mapping") {
			bracket = "}"
		}
		if m.Line > c.Line || character == 0 {
			d.at(c.Line, c.Column, "the bracket that opens here is not closed; write %s after its last value", bracket)
			return
		}
		d.at(m.Line, m.Column, "there should be a comma or %s here", bracket)
	case strings.Contains(msg, "did not find expected '-'"):
		d.at(m.Line, m.Column, "the lines above begin with -, this one does not; write - or indent it")
	case strings.Contains(msg, "did not find expected key"):
		d.at(m.Line, m.Column, "this line does not fit the lines above; indent it as the lines beside it, and write NAME: VALUE")
	case strings.Contains(msg, "could not find expected ':'"):
		d.at(e.ContextMark.Line, e.ContextMark.Column, "there should be a colon after the name: write NAME: VALUE")
	case strings.Contains(msg, "did not find expected comment or line break") && strings.ContainsAny(line, ">|"):
		at := strings.IndexAny(line, ">|")
		d.at(m.Line, utf8.RuneCountInString(line[:at])+1, "a value cannot begin with %q; put it in quotes", line[at:at+1])
	case strings.Contains(msg, "unknown escape"):
		d.at(m.Line, m.Column, `"\ begins an escape; write \\ for a backslash, or use 'single quotes'`)
	default:
		d.at(m.Line, m.Column, "this is not YAML: %s", msg)
	}
}

// flowRange is a range where YAML takes the brackets for its own.
var flowRange = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[\pL\d_.-]+\[\d[\d,-]*\]`) })

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// An entry is a name and its value.
type entry struct{ key, value *yaml.Node }

// maxAliased bounds what aliases stand for, all together.
const maxAliased = 500_000

// target returns n, or what it stands for if it is an alias.
func (d *document) target(n *yaml.Node) *yaml.Node {
	for hops := 0; n.Kind == yaml.AliasNode && hops < maxDepth; hops++ {
		d.aliased += size(n.Alias, 0)
		if d.aliased > maxAliased {
			d.at(n.Line, n.Column, "*%s: aliases stand for more than %d values; use defaults and groups instead", n.Value, maxAliased)
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
		}
		n = n.Alias
	}
	return n
}

// size is the number of nodes of a tree, aliases counted as one, or very many if it is too
// deep, as one that contains itself is.
func size(n *yaml.Node, depth int) int {
	if depth > maxDepth {
		return maxAliased
	}
	sum := 1
	for _, c := range n.Content {
		sum += size(c, depth+1)
	}
	return sum
}

// entries returns the entries of a mapping, those that << merges into it last.
func (d *document) entries(n *yaml.Node) []entry { return d.merged(n, 0) }

func (d *document) merged(n *yaml.Node, depth int) []entry {
	list := make([]entry, 0, len(n.Content)/2)
	var lines map[string]int
	if len(n.Content) > 2 {
		lines = make(map[string]int, len(n.Content)/2)
	}
	var more []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := d.target(n.Content[i]), n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.at(k.Line, k.Column, "a name is text, not a list or map; write NAME: VALUE")
			continue
		}
		if k.Value == "<<" && k.Tag == "!!merge" {
			more = append(more, d.mergedValues(v, depth)...)
			continue
		}
		if line, twice := lines[k.Value]; twice {
			d.at(k.Line, k.Column, "%s is there twice, first in line %d; write it once", k.Value, line)
			continue
		}
		if lines != nil {
			lines[k.Value] = k.Line
		}
		list = append(list, entry{k, v})
	}
	if more == nil {
		return list
	}
	own := map[string]bool{}
	for _, e := range list {
		own[e.key.Value] = true
	}
	for _, e := range more {
		if !own[e.key.Value] {
			own[e.key.Value] = true
			list = append(list, e)
		}
	}
	return list
}

// maxMerged is how deep maps may be merged.
const maxMerged = 5

// mergedValues returns the entries of what << names.
func (d *document) mergedValues(v *yaml.Node, depth int) (list []entry) {
	v = d.target(v)
	switch {
	case depth > maxMerged:
		d.at(v.Line, v.Column, "maps are merged more than %d deep; is this one merged into itself?", maxMerged)
		return nil
	case v.Kind == yaml.MappingNode:
		return d.merged(v, depth+1)
	case v.Kind == yaml.SequenceNode:
		for _, c := range v.Content {
			list = append(list, d.mergedValues(c, depth+1)...)
		}
		return list
	}
	d.at(v.Line, v.Column, "<< takes a map, such as *NAME of one that is marked &NAME")
	return nil
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0
}

// quote names a value in an error.
func quote(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	const most = 60
	if isNull(n) {
		return "nothing"
	}
	if len(n.Value) > most {
		return strconv.Quote(strings.ToValidUTF8(n.Value[:most], "")) + "..."
	}
	return strconv.Quote(n.Value)
}
