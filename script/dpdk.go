package script

import (
	"fmt"
	"reflect"
	"slices"

	"go.starlark.net/starlark"

	"weft/topo"
)

// addDPDK adds a DPDK node: addSwitch with its driver, and NFs by their place.
func addDPDK(c *call, n *netObject) (starlark.Value, error) {
	var name, nfs starlark.Value
	if err := c.take([]string{"name", "nfs?"}, &name, &nfs); err != nil {
		return nil, err
	}
	s := topo.Switch{}
	var err error
	if s.Name, err = nameArgument(name); err != nil {
		return nil, err
	}
	kwargs := c.kwargs
	if nfs != nil {
		kwargs = append([]starlark.Tuple{{starlark.String("nfs"), nfs}}, kwargs...)
	}
	kwargs = append([]starlark.Tuple{{starlark.String("driver"), starlark.String(topo.DriverDPDK)}}, kwargs...)
	if err := setSwitch(&s, kwargs); err != nil {
		return nil, err
	}
	if s.Driver != topo.DriverDPDK {
		return nil, fmt.Errorf("driver: a DPDK node has the driver dpdk; write net.addSwitch for driver %s", s.Driver)
	}
	if err := n.w.addNode(c, s); err != nil {
		return nil, err
	}
	return &node{n.w, s.Name, switchKind}, nil
}

// dpdkSettings are those of a DPDK node, which are written beside the switch's own. Chains are
// read by finish, which knows the NFs.
func dpdkSettings(s *topo.Switch) (list []setting, finish func() error) {
	var chains starlark.Value
	of := func() *topo.DPDK {
		if s.DPDK == nil {
			s.DPDK = &topo.DPDK{}
		}
		return s.DPDK
	}
	for _, f := range fieldsOf(reflect.ValueOf(topo.DPDK{})) {
		list = append(list, setting{f.name, func(v starlark.Value) error {
			if f.name == "chains" {
				chains = v
				return nil
			}
			fields := fieldsOf(reflect.ValueOf(of()).Elem())
			i := slices.IndexFunc(fields, func(o field) bool { return o.name == f.name })
			return assign(fields[i].value, v)
		}})
	}
	return list, func() error {
		if chains == nil || chains == starlark.None {
			return nil
		}
		return setChains(of(), chains)
	}
}

// setChains takes a dict of names and steps: {'default': ['firewall', 2], 'fast': '1→3'}.
func setChains(d *topo.DPDK, v starlark.Value) error {
	dict, ok := v.(*starlark.Dict)
	if !ok {
		return fmt.Errorf("chains: %s is not a dict; write {'default': [1, 2]}", shortly(v))
	}
	items, err := settingsOf(dict)
	if err != nil {
		return fmt.Errorf("chains: %w", err)
	}
	nfs := topo.NumberServices(d.NFs)
	d.Chains = nil
	for _, kv := range items {
		c, err := chainOf(string(kv[0].(starlark.String)), kv[1], nfs)
		if err != nil {
			return err
		}
		d.Chains = append(d.Chains, c)
	}
	return nil
}

// chainOf reads the steps of a chain: a text, or a list of services and NFs.
func chainOf(name string, v starlark.Value, nfs []topo.NF) (topo.Chain, error) {
	values := []starlark.Value{v}
	switch v := v.(type) {
	case *starlark.List, starlark.Tuple:
		values = slices.Collect(starlark.Elements(v.(starlark.Iterable)))
	}
	var steps []string
	for _, s := range values {
		switch s := s.(type) {
		case starlark.Int:
			steps = append(steps, s.String())
		case starlark.String:
			steps = append(steps, topo.SplitChain(string(s))...)
		default:
			return topo.Chain{}, fmt.Errorf("chain %s: %s is neither a service nor an NF", name, shortly(s))
		}
	}
	return topo.ParseChain(name, steps, nfs)
}
