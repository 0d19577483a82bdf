package script

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.starlark.net/lib/json"
	"go.starlark.net/lib/math"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"weft/topo"
)

// A world is the network that a script works on and the objects that stand for its parts.
type world struct {
	backend
	draft *draft // nil if the network runs
	live  *live  // nil if it does not
	// started is called by net.start; nil if the network is not the script's to start.
	started  func(c *call) error
	steps    starlark.StringDict // of experiments
	trial    *running            // from net.start() on; nil if the script is no experiment
	net      *netObject
	networks methods[*netObject]
	nodes    methods[*node] // hosts and controllers
	switches methods[*node]
	wires    methods[*link]
	ports    methods[*port]
}

// A backend is where the network is: a draft, or one that runs.
type backend interface {
	viewer
	changer
}

type viewer interface {
	// kindOf returns what a node is; there may be none of that name, which is an error.
	kindOf(name string) (kind, error)
	list(k kind) (names []string, err error)
	links() ([]*link, error)
}

type changer interface {
	// addNode adds a topo.Host, topo.Switch or topo.Controller.
	addNode(c *call, what any) error
	addLink(c *call, l topo.Link) (*link, error)
	removeNode(c *call, name string) error
	removeLink(c *call, l *link) error
}

// A kind is that of a node.
type kind string

const (
	hostKind       kind = "host"
	switchKind     kind = "switch"
	controllerKind kind = "controller"
)

func newWorld(b backend) *world {
	w := &world{backend: b, networks: networkMethods(), nodes: newMethods(nodeMethods()...), switches: newMethods(slices.Concat(nodeMethods(), switchMethods(), functionMethods())...), wires: linkMethods(), ports: portMethods()}
	w.net = &netObject{w: w}
	switch b := b.(type) {
	case *draft:
		b.w, w.draft = w, b
	case *live:
		b.w, w.live = w, b
	}
	return w
}

// running returns the running network; what needs one is an error without.
func (w *world) running() (*live, error) {
	if w.live == nil {
		return nil, errors.New("the network does not run yet; write this after net.start(), and carry out the script with weft run")
	}
	return w.live, nil
}

// builtins are the names that scripts find, besides Starlark's own.
func (w *world) builtins() starlark.StringDict {
	b := starlark.StringDict{
		"net":    w.net,
		"topo":   generators(w),
		"random": starlark.NewBuiltin("random", newRandom),
		"math":   math.Module,
		"json":   json.Module,
		"struct": starlark.NewBuiltin("struct", starlarkstruct.Make),
	}
	for short, long := range map[string]string{"host": "addHost", "switch": "addSwitch", "dpdk": "addDPDK", "controller": "addController", "link": "addLink", "nat": "addNAT"} {
		b[short], _ = w.net.Attr(long)
	}
	return b
}

// A method is a function of an object, or an attribute of it.
type method[T starlark.Value] struct {
	name, usage, doc string
	run              func(c *call, self T) (starlark.Value, error)
	// get computes an attribute; run is then nil.
	get func(self T) (starlark.Value, error)
	set func(self T, v starlark.Value) error
}

// methods are those of one kind of object, by name.
type methods[T starlark.Value] map[string]method[T]

func newMethods[T starlark.Value](list ...method[T]) methods[T] {
	m := methods[T]{}
	for _, x := range list {
		m[x.name] = x
	}
	return m
}

// attr returns the attribute called name of self, nil if it has none.
func (m methods[T]) attr(self T, name string) (starlark.Value, error) {
	x, ok := m[name]
	switch {
	case !ok:
		return nil, nil
	case x.get != nil:
		return x.get(self)
	}
	return starlark.NewBuiltin(name, func(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		v, err := x.run(&call{t, name, args, kwargs}, self)
		if err != nil {
			return nil, named(name, err)
		}
		return v, nil
	}), nil
}

func (m methods[T]) names() []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// setField gives an attribute a value.
func (m methods[T]) setField(self T, name string, v starlark.Value) error {
	x, ok := m[name]
	if !ok || x.set == nil {
		var can []string
		for name, x := range m {
			if x.set != nil {
				can = append(can, name)
			}
		}
		return fmt.Errorf("%s: %w", self.Type(), unknown("setting", name, can))
	}
	if err := x.set(self, v); err != nil {
		return named(name, err)
	}
	return nil
}

// named begins an error with the function that returns it, unless it is that of a function
// of the script's which that called.
func named(name string, err error) error {
	if _, ok := err.(*starlark.EvalError); ok {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// A call is one of a method.
type call struct {
	thread *starlark.Thread
	name   string
	args   starlark.Tuple
	kwargs []starlark.Tuple
}

// take assigns the arguments called names, in this order, to variables: positional ones
// first, then keyword arguments, of which the rest stays. A name that ends in ? may be left
// out.
func (c *call) take(names []string, to ...*starlark.Value) error {
	if len(c.args) > len(names) {
		if len(names) == 0 {
			return errors.New("it takes no values without a name")
		}
		return fmt.Errorf("it takes at most %d of its values without a name, not %d", len(names), len(c.args))
	}
	for i, name := range names {
		optional := name[len(name)-1] == '?'
		if optional {
			name = name[:len(name)-1]
		}
		at := slices.IndexFunc(c.kwargs, func(kv starlark.Tuple) bool { return kv[0] == starlark.String(name) })
		switch {
		case i < len(c.args) && at >= 0:
			return fmt.Errorf("%s is given twice", name)
		case i < len(c.args):
			*to[i] = c.args[i]
		case at >= 0:
			*to[i] = c.kwargs[at][1]
			c.kwargs = slices.Delete(slices.Clone(c.kwargs), at, at+1)
		case !optional:
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}

// contextKey is where a thread keeps its context.
const contextKey = "context"

// ctx ends when the evaluation is to end.
func (c *call) ctx() context.Context { return c.thread.Local(contextKey).(context.Context) }

// done returns an error if there are arguments left that nothing took.
func (c *call) done(names ...string) error {
	if len(c.kwargs) > 0 {
		return unknown("parameter", string(c.kwargs[0][0].(starlark.String)), names)
	}
	return nil
}

// nothing checks that there are no arguments.
func (c *call) nothing() error {
	if len(c.args)+len(c.kwargs) > 0 {
		return fmt.Errorf("it takes no values")
	}
	return nil
}

// noHash is embedded in what cannot be a key of a dict.
type noHash struct{ what string }

func (n noHash) Hash() (uint32, error) { return 0, fmt.Errorf("a %s cannot be a key", n.what) }
