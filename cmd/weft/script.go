package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"weft/script"
	"weft/session"
	"weft/topo"
	"weft/topo/netfile"
)

// readScript reads the network that a script describes. What it prints goes to standard error.
func (p *program) readScript(ctx context.Context, path string, parameters []string, allow bool) (topo.Spec, error) {
	given := map[string]string{}
	for _, word := range parameters {
		name, value, _ := strings.Cut(word, "=")
		if _, twice := given[name]; twice {
			return topo.Spec{}, &session.UsageError{Err: fmt.Errorf("the parameter %s is given twice; write it once", name)}
		}
		given[name] = value
	}
	s, err := script.Topology(ctx, path, given, script.Options{Outside: allow, Print: p.err})
	if err == nil {
		err = netfile.NFs(&s, path, netfile.Params{Outside: allow, NF: checkNF})
	}
	if err != nil && ctx.Err() == nil {
		err = &session.UsageError{Err: err}
	}
	return s, err
}

// helpScript says what the script among words is for and which parameters it takes, and
// reports whether there is one.
func (p *program) helpScript(ctx context.Context, words []string) bool {
	i := slices.IndexFunc(words, func(w string) bool { return filepath.Ext(w) == script.Extension })
	if i < 0 {
		return false
	}
	d, err := script.Describe(ctx, words[i], script.Options{})
	if err != nil {
		fmt.Fprintln(p.err, err)
		return true
	}
	writeDescription(p.out, words[i], d)
	return true
}

func writeDescription(w io.Writer, path string, d script.Description) {
	if d.Doc != "" {
		fmt.Fprintf(w, "%s\n\n", d.Doc)
	}
	if len(d.Params) == 0 {
		fmt.Fprintf(w, "%s takes no parameters.\n", path)
		return
	}
	fmt.Fprintf(w, "Parameters of %s, written NAME=VALUE:\n", path)
	var rows []example
	for _, p := range d.Params {
		line := p.Name + "=" + strings.ToUpper(p.Type)
		doc := p.Doc
		if len(p.Choices) > 0 {
			line = p.Name + "=" + strings.Join(p.Choices, "|")
		}
		if !p.Required {
			doc = strings.TrimSpace(fmt.Sprintf("%s (%s)", doc, p.Default))
		}
		rows = append(rows, example{line, doc})
	}
	table(w, rows)
}
