package script

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"weft/topo"
)

// generators is the object topo: each function adds a generated network to net and returns
// net.
func generators(w *world) *starlarkstruct.Module {
	m := &starlarkstruct.Module{Name: "topo", Members: starlark.StringDict{}}
	for _, g := range topo.Generators() {
		m.Members[g.Name] = starlark.NewBuiltin(g.Name, func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			if err := generate(w, g, &call{t, g.Name, args, kwargs}); err != nil {
				return nil, fmt.Errorf("topo.%s: %w", g.Name, err)
			}
			return w.net, nil
		})
	}
	return m
}

// generate adds what g makes to the draft. Besides g's own parameters there are prefix, which
// begins all names, and host, switch and link, which have settings for all of them.
func generate(w *world, g topo.Generator, c *call) error {
	var prefix string
	each := map[string][]starlark.Tuple{"host": nil, "switch": nil, "link": nil}
	words := []string{g.Name}
	for _, a := range c.args {
		if _, ok := a.(starlark.Int); !ok {
			return fmt.Errorf("%s is not a whole number", shortly(a))
		}
		words = append(words, a.String())
	}
	for _, kv := range c.kwargs {
		key := string(kv[0].(starlark.String))
		switch v := kv[1].(type) {
		case starlark.Int:
			words = append(words, key+"="+v.String())
			continue
		case starlark.String:
			if key == "prefix" {
				prefix = string(v)
				continue
			}
		case *starlark.Dict:
			if _, ok := each[key]; ok {
				var err error
				if each[key], err = settingsOf(v); err != nil {
					return fmt.Errorf("%s: %w", key, err)
				}
				continue
			}
		}
		switch {
		case key == "prefix":
			return fmt.Errorf("prefix: %s is not text", shortly(kv[1]))
		case slices.Contains([]string{"host", "switch", "link"}, key):
			return fmt.Errorf("%s: %s is not a dict of settings, such as {'bw': 10}", key, shortly(kv[1]))
		case slices.ContainsFunc(g.Params, func(p topo.Param) bool { return p.Name == key }):
			return fmt.Errorf("%s: %s is not a whole number", key, shortly(kv[1]))
		}
		names := []string{"prefix", "host", "switch", "link"}
		for _, p := range g.Params {
			names = append(names, p.Name)
		}
		return unknown("parameter", key, names)
	}
	s, err := topo.Generate(strings.Join(words, ","))
	if err != nil {
		return err
	}
	if w.draft == nil {
		return errors.New("the network runs; add to it by net.addHost, net.addSwitch and net.addLink")
	}
	for _, h := range s.Hosts {
		h.Name = prefix + h.Name
		if err := setHost(&h, each["host"]); err != nil {
			return fmt.Errorf("host: %w", err)
		}
		if err := w.addNode(c, h); err != nil {
			return fmt.Errorf("%w; a prefix makes the names different: prefix='x'", err)
		}
	}
	for _, sw := range s.Switches {
		sw.Name = prefix + sw.Name
		if prefix != "" {
			sw.DPID = 0 // that of a network which stands alone
		}
		if err := setSwitch(&sw, each["switch"]); err != nil {
			return fmt.Errorf("switch: %w", err)
		}
		if err := w.addNode(c, sw); err != nil {
			return fmt.Errorf("%w; a prefix makes the names different: prefix='x'", err)
		}
	}
	var settings topo.LinkSettings
	options, err := linkOptions(each["link"])
	if err == nil && len(options) > 0 {
		err = settings.Set(options...)
	}
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	for _, l := range s.Links {
		l.A.Node, l.B.Node = prefix+l.A.Node, prefix+l.B.Node
		l.LinkSettings = settings
		if _, err := w.addLink(c, l); err != nil {
			return err
		}
	}
	return nil
}
