package topo

import "fmt"

// A Fault is something that is wrong with a Spec, and where: for those who know where each of
// its entries comes from.
type Fault struct {
	// Kind is host, switch, controller, link or command; empty for the network as a whole.
	Kind string
	// Index is the entry's place in its list.
	Index int
	// Field is the JSON name of the setting that is wrong, with that of a link's end before
	// it (a.port); empty for the entry.
	Field string
	Err   error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// The entries of a Spec that are no nodes.
const (
	linkEntry    nodeKind = "link"
	commandEntry nodeKind = "command"
)

// A place is an entry of a Spec, or one of its settings.
type place struct {
	kind  nodeKind
	at    int // in the Spec's list
	field string
	text  string // for people
}

// place is that of the node at a place of the plan's list.
func (g *growth) place(kind nodeKind, at int, name string) place {
	before := 0
	switch kind {
	case hostNode:
		before = g.hosts
	case switchNode:
		before = g.switches
	case controllerNode:
		before = g.controllers
	}
	return place{kind: kind, at: at - before, text: string(kind) + " " + name}
}

// on is a setting of what p is.
func (p place) on(field string) place {
	if p.field != "" {
		field = p.field + "." + field
	}
	p.field = field
	return p
}

// fail notes an error.
func (g *growth) fail(where place, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if where.text != "" {
		err = fmt.Errorf("%s: %w", where.text, err)
	}
	g.errs = append(g.errs, &Fault{string(where.kind), where.at, where.field, err})
}

func (g *growth) failAll(where place, errs []fieldError) {
	for _, err := range errs {
		g.fail(where.on(err.field), "%w", err.error)
	}
}
