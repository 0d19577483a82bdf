package script

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"go.starlark.net/starlark"
)

// A generator makes random numbers, the same for the same seed.
type generator struct {
	noHash
	r       *rand.Rand
	methods methods[*generator]
}

var _ starlark.HasAttrs = (*generator)(nil)

func (g *generator) String() string                           { return "random" }
func (g *generator) Type() string                             { return "random" }
func (g *generator) Freeze()                                  {}
func (g *generator) Truth() starlark.Bool                     { return true }
func (g *generator) Attr(name string) (starlark.Value, error) { return g.methods.attr(g, name) }
func (g *generator) AttrNames() []string                      { return g.methods.names() }

// newRandom is the function random(seed).
func newRandom(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var seed int64
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "seed", &seed); err != nil {
		return nil, fmt.Errorf("%w; write a number as the seed, so that every run is the same", err)
	}
	return &generator{noHash{"random"}, rand.New(rand.NewPCG(uint64(seed), 0)), newMethods(
		method[*generator]{name: "random", doc: "a number from 0 to below 1", run: func(c *call, g *generator) (starlark.Value, error) {
			return starlark.Float(g.r.Float64()), c.nothing()
		}},
		method[*generator]{name: "randint", usage: "A, B", doc: "a whole number from A to B, both included", run: randint},
		method[*generator]{name: "choice", usage: "LIST", doc: "one of the elements", run: func(c *call, g *generator) (starlark.Value, error) {
			values, err := c.elements()
			if err == nil && len(values) == 0 {
				err = fmt.Errorf("the list is empty")
			}
			if err != nil {
				return nil, err
			}
			return values[g.r.IntN(len(values))], nil
		}},
		method[*generator]{name: "sample", usage: "LIST, K", doc: "K different elements", run: sample},
		method[*generator]{name: "shuffled", usage: "LIST", doc: "a list of the elements in random order", run: func(c *call, g *generator) (starlark.Value, error) {
			values, err := c.elements()
			g.r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
			return starlark.NewList(values), err
		}},
	)}, nil
}

// elements takes one argument, a list or the like, and returns a copy of it.
func (c *call) elements() ([]starlark.Value, error) {
	var v starlark.Value
	if err := c.take([]string{"list"}, &v); err != nil {
		return nil, err
	}
	all, ok := v.(starlark.Iterable)
	if !ok {
		return nil, fmt.Errorf("%s is not a list", shortly(v))
	}
	return slices.Collect(starlark.Elements(all)), c.done()
}

func randint(c *call, g *generator) (starlark.Value, error) {
	var a, b starlark.Value
	if err := c.take([]string{"a", "b"}, &a, &b); err != nil {
		return nil, err
	}
	low, err := starlark.AsInt32(a)
	if err != nil {
		return nil, err
	}
	high, err := starlark.AsInt32(b)
	if err != nil {
		return nil, err
	}
	if high < low {
		return nil, fmt.Errorf("there is no whole number from %d to %d", low, high)
	}
	return starlark.MakeInt(low + g.r.IntN(high-low+1)), c.done()
}

func sample(c *call, g *generator) (starlark.Value, error) {
	var from, count starlark.Value
	if err := c.take([]string{"list", "k"}, &from, &count); err != nil {
		return nil, err
	}
	values, err := (&call{args: starlark.Tuple{from}}).elements()
	if err != nil {
		return nil, err
	}
	k, err := starlark.AsInt32(count)
	if err != nil {
		return nil, err
	}
	if k < 0 || k > len(values) {
		return nil, fmt.Errorf("there are %d elements, of which %d cannot be taken", len(values), k)
	}
	g.r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	return starlark.NewList(values[:k]), c.done()
}
