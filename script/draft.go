package script

import (
	"errors"
	"fmt"
	"slices"

	"go.starlark.net/starlark"

	"weft/topo"
)

// A draft is a network as a script describes it.
//
// It is the backend of a world without a running network.
type draft struct {
	w           *world
	settings    topo.Spec // without nodes and links
	hosts       []*topo.Host
	switches    []*topo.Switch
	controllers []*topo.Controller
	drafted     []*draftedLink
	made        int // links so far, those that are gone too
	commands    []topo.Command
	commandsAt  []Position
	// uncontrolled says that the script wants no controller at all.
	uncontrolled bool
	nodes        map[string]draftedNode
}

// A draftedNode knows where it was made.
type draftedNode struct {
	kind kind
	at   Position
	host *topo.Host // nil for others
}

type draftedLink struct {
	topo.Link
	wire *wire
	at   Position
	gone bool
}

func newDraft() *draft { return &draft{nodes: map[string]draftedNode{}} }

var _ backend = (*draft)(nil)

// claim enters a node's name.
func (d *draft) claim(name string, n draftedNode) error {
	if have, ok := d.nodes[name]; ok {
		return fmt.Errorf("there is a %s %s already (%s); choose another name", have.kind, name, have.at)
	}
	if len(d.nodes) >= topo.MaxNodes {
		return fmt.Errorf("the network has %d nodes, and no more are possible", topo.MaxNodes)
	}
	d.nodes[name] = n
	return nil
}

func (d *draft) addNode(c *call, what any) error {
	at := where(c.thread)
	switch n := what.(type) {
	case topo.Host:
		if err := d.claim(n.Name, draftedNode{hostKind, at, &n}); err != nil {
			return err
		}
		d.hosts = append(d.hosts, &n)
	case topo.Switch:
		if err := d.claim(n.Name, draftedNode{switchKind, at, nil}); err != nil {
			return err
		}
		d.switches = append(d.switches, &n)
	case topo.Controller:
		if err := d.claim(n.Name, draftedNode{controllerKind, at, nil}); err != nil {
			return err
		}
		d.controllers = append(d.controllers, &n)
	}
	return nil
}

func (d *draft) addLink(c *call, l topo.Link) (*link, error) {
	for _, e := range []topo.LinkEnd{l.A, l.B} {
		switch n, ok := d.nodes[e.Node]; {
		case !ok:
			return nil, unknown("node", e.Node, d.ends())
		case n.kind == controllerKind:
			return nil, fmt.Errorf("%s is a controller, which has no links; write a host or switch", e.Node)
		}
	}
	if l.A.Node == l.B.Node {
		return nil, fmt.Errorf("a link joins two nodes, not %s with itself", l.A.Node)
	}
	if len(d.drafted) >= topo.MaxLinks {
		return nil, fmt.Errorf("the network has %d links, and no more are possible", topo.MaxLinks)
	}
	d.made++
	made := &draftedLink{Link: l, at: where(c.thread)}
	made.wire = &wire{id: d.made, a: l.A.Node, b: l.B.Node, draft: made}
	d.drafted = append(d.drafted, made)
	return &link{d.w, made.wire}, nil
}

// ends are the names of the nodes that a link can join.
func (d *draft) ends() []string {
	var names []string
	for _, h := range d.hosts {
		names = append(names, h.Name)
	}
	for _, s := range d.switches {
		names = append(names, s.Name)
	}
	return names
}

func (d *draft) kindOf(name string) (kind, error) {
	n, ok := d.nodes[name]
	if !ok {
		return "", unknown("node", name, d.ends())
	}
	return n.kind, nil
}

func (d *draft) list(k kind) ([]string, error) {
	var names []string
	switch k {
	case hostKind:
		for _, h := range d.hosts {
			names = append(names, h.Name)
		}
	case switchKind:
		for _, s := range d.switches {
			names = append(names, s.Name)
		}
	case controllerKind:
		for _, c := range d.controllers {
			names = append(names, c.Name)
		}
	}
	return names, nil
}

func (d *draft) links() ([]*link, error) {
	var all []*link
	for _, l := range d.drafted {
		all = append(all, &link{d.w, l.wire})
	}
	return all, nil
}

func (d *draft) removeNode(_ *call, name string) error {
	k, err := d.kindOf(name)
	if err != nil {
		return err
	}
	switch k {
	case hostKind:
		d.hosts = slices.DeleteFunc(d.hosts, func(h *topo.Host) bool { return h.Name == name })
	case switchKind:
		d.switches = slices.DeleteFunc(d.switches, func(s *topo.Switch) bool { return s.Name == name })
	case controllerKind:
		d.controllers = slices.DeleteFunc(d.controllers, func(c *topo.Controller) bool { return c.Name == name })
	}
	delete(d.nodes, name)
	for i := len(d.commands) - 1; i >= 0; i-- {
		if d.commands[i].Node == name {
			d.commands, d.commandsAt = slices.Delete(d.commands, i, i+1), slices.Delete(d.commandsAt, i, i+1)
		}
	}
	d.drop(func(l *draftedLink) bool { return l.A.Node == name || l.B.Node == name })
	return nil
}

func (d *draft) removeLink(_ *call, l *link) error {
	if d.drop(func(x *draftedLink) bool { return x == l.draft }) == 0 {
		return errGone
	}
	return nil
}

func (d *draft) drop(gone func(*draftedLink) bool) (removed int) {
	d.drafted = slices.DeleteFunc(d.drafted, func(l *draftedLink) bool {
		if gone(l) {
			l.gone = true
			removed++
		}
		return l.gone
	})
	return removed
}

// spec returns the network; without a word about controllers it has weft's own.
func (d *draft) spec() topo.Spec {
	s := d.settings
	for _, h := range d.hosts {
		s.Hosts = append(s.Hosts, *h)
	}
	for _, sw := range d.switches {
		s.Switches = append(s.Switches, *sw)
	}
	for _, c := range d.controllers {
		s.Controllers = append(s.Controllers, *c)
	}
	if len(d.controllers) == 0 && !d.uncontrolled {
		s.Controllers = []topo.Controller{{Name: "c0", Kind: topo.ControllerBuiltin}}
	}
	for _, l := range d.drafted {
		s.Links = append(s.Links, l.Link)
	}
	s.Commands = d.commands
	return s
}

// finish returns the network if it is valid; its errors name the lines of the script that made
// what is wrong.
func (d *draft) finish(script string) (topo.Spec, error) {
	s := d.spec()
	if len(s.Hosts)+len(s.Switches) == 0 {
		return topo.Spec{}, Errors{{Position: Position{File: script}, Message: "the script makes no network; write for example net.addHost('h1') or topo.tree(2, 2)"}}
	}
	err := s.Validate()
	if err == nil {
		return s, nil
	}
	var all Errors
	for _, e := range flatten([]error{err}) {
		at := Position{File: script}
		var f *topo.Fault
		if errors.As(e, &f) {
			at = d.madeAt(f, at)
		}
		all = append(all, &Error{Position: at, Message: e.Error()})
	}
	return topo.Spec{}, all
}

// flatten returns the errors of which joined errors consist.
func flatten(list []error) []error {
	var flat []error
	for _, err := range list {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			flat = append(flat, flatten(joined.Unwrap())...)
		} else {
			flat = append(flat, err)
		}
	}
	return flat
}

// madeAt returns the line that made the entry which is wrong, otherwise whole.
func (d *draft) madeAt(f *topo.Fault, whole Position) Position {
	i, name := f.Index, ""
	switch {
	case f.Kind == string(hostKind) && i < len(d.hosts):
		name = d.hosts[i].Name
	case f.Kind == string(switchKind) && i < len(d.switches):
		name = d.switches[i].Name
	case f.Kind == string(controllerKind) && i < len(d.controllers):
		name = d.controllers[i].Name
	case f.Kind == "link" && i < len(d.drafted):
		return d.drafted[i].at
	case f.Kind == "command" && i < len(d.commandsAt):
		return d.commandsAt[i]
	}
	if n, ok := d.nodes[name]; ok {
		return n.at
	}
	return whole
}

// start tells the links of the draft what they have become in the plan of what runs.
func (d *draft) start(p *topo.Plan) error {
	if len(p.Links) != len(d.drafted) {
		return fmt.Errorf("the network has %d links and not %d: the script does not always describe the same", len(p.Links), len(d.drafted))
	}
	for i, l := range d.drafted {
		x := p.Links[i]
		l.wire.id, l.wire.ends, l.wire.draft = x.ID, [2]string{x.A.Interface, x.B.Interface}, nil
	}
	return nil
}

// where returns the place in the script that called the built-in function which runs on t.
func where(t *starlark.Thread) Position {
	for _, c := range callers(t.CallStack()) {
		return c.Position
	}
	return Position{}
}
