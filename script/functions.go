package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"go.starlark.net/starlark"

	"weft/dpdkhost"
	"weft/topo"
)

// Functions are the network functions (NFs) of DPDK nodes.
type Functions interface {
	NFs(ctx context.Context, node string) (*dpdkhost.State, error)
	StartNF(ctx context.Context, node string, f topo.NF) ([]dpdkhost.Instance, error)
	StopNF(ctx context.Context, node string, instance int, atOnce bool) error
	ScaleNF(ctx context.Context, node string, service, instances int) error
	ChangeNFs(ctx context.Context, node string, c dpdkhost.Change) error
	CommandNF(ctx context.Context, node string, instance int, words []string) (string, error)
}

// functionMethods are those of DPDK nodes.
func functionMethods() []method[*node] {
	return []method[*node]{
		{name: "nfs", doc: "of a DPDK node: its NFs with their counters, a list of dicts", run: func(c *call, n *node) (starlark.Value, error) {
			st, err := n.functions(c, c.nothing())
			if err != nil {
				return nil, err
			}
			return jsonValue(st.Instances)
		}},
		{name: "nfState", doc: "of a DPDK node: ports, NFs, chains, flows and drops, a dict", run: func(c *call, n *node) (starlark.Value, error) {
			st, err := n.functions(c, c.nothing())
			if err != nil {
				return nil, err
			}
			return jsonValue(st)
		}},
		{name: "startNF", usage: "NF", doc: "of a DPDK node: start an NF, as nfs= has them: 'monitor@2', {'name': 'web', 'command': './web'}", run: startNF},
		{name: "stopNF", usage: "NF", doc: "of a DPDK node: end all instances of an NF or a service", run: func(c *call, n *node) (starlark.Value, error) {
			var of starlark.Value
			list, err := n.instances(c, c.take([]string{"nf"}, &of), &of)
			if err != nil {
				return nil, err
			}
			for _, i := range list {
				err = errors.Join(err, n.w.live.do(c, func() error { return n.w.live.client.StopNF(c.ctx(), n.name, i.ID, false) }))
			}
			return starlark.None, err
		}},
		{name: "scaleNF", usage: "NF, COUNT", doc: "of a DPDK node: make a service have so many instances", run: func(c *call, n *node) (starlark.Value, error) {
			var of, count starlark.Value
			list, err := n.instances(c, c.take([]string{"nf", "count"}, &of, &count), &of)
			if err != nil {
				return nil, err
			}
			instances, err := starlark.AsInt32(count)
			if err != nil {
				return nil, fmt.Errorf("count: %s is no whole number", shortly(count))
			}
			return starlark.None, n.w.live.do(c, func() error {
				return n.w.live.client.ScaleNF(c.ctx(), n.name, list[0].Service, instances)
			})
		}},
		{name: "tellNF", usage: "NF, WORD...", doc: "of a DPDK node: say something to an NF, and return its answer", run: tellNF},
		{name: "setChain", usage: "NAME, STEPS", doc: "of a DPDK node: make or change a chain: '1→3→2', ['firewall', 2]", run: func(c *call, n *node) (starlark.Value, error) {
			var name, steps starlark.Value
			st, err := n.functions(c, c.take([]string{"name", "steps"}, &name, &steps))
			if err != nil {
				return nil, err
			}
			var nfs []topo.NF
			for _, i := range st.Instances {
				nfs = append(nfs, topo.NF{Name: i.Name, Service: i.Service})
			}
			chain, err := chainOf(plain(name), steps, nfs)
			if err != nil {
				return nil, err
			}
			return n.changeNFs(c, dpdkhost.Change{Chain: &chain})
		}},
		{name: "deleteChain", usage: "NAME", doc: "of a DPDK node: remove a chain", run: func(c *call, n *node) (starlark.Value, error) {
			var name starlark.Value
			if _, err := n.functions(c, c.take([]string{"name"}, &name)); err != nil {
				return nil, err
			}
			return n.changeNFs(c, dpdkhost.Change{DeleteChain: plain(name)})
		}},
		{name: "addFlow", usage: "FLOW", doc: "of a DPDK node: lead packets: 'tcp,nw_dst=10.0.0.2,actions=chain:web'", run: func(c *call, n *node) (starlark.Value, error) {
			var flow starlark.Value
			if _, err := n.functions(c, c.take([]string{"flow"}, &flow)); err != nil {
				return nil, err
			}
			return n.changeNFs(c, dpdkhost.Change{AddFlow: plain(flow)})
		}},
		{name: "deleteFlows", usage: "[MATCH]", doc: "of a DPDK node: remove flows, all without a match", run: func(c *call, n *node) (starlark.Value, error) {
			var match starlark.Value = starlark.String("")
			if _, err := n.functions(c, c.take([]string{"match?"}, &match)); err != nil {
				return nil, err
			}
			text := plain(match)
			return n.changeNFs(c, dpdkhost.Change{DeleteFlows: &text})
		}},
	}
}

// functions tells of a DPDK node that runs, unless its method was called wrongly.
func (n *node) functions(c *call, wrong error) (st *dpdkhost.State, err error) {
	live, lerr := n.w.running()
	if err := errors.Join(wrong, lerr); err != nil {
		return nil, err
	}
	err = live.wait(c, func() (err error) {
		st, err = live.client.NFs(c.ctx(), n.name)
		return err
	})
	return st, err
}

// instances finds the instances of an NF or a service.
func (n *node) instances(c *call, wrong error, of *starlark.Value) (list []dpdkhost.Instance, err error) {
	st, err := n.functions(c, wrong)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range st.Instances {
		if i.Name == plain(*of) || strconv.Itoa(i.Service) == plain(*of) {
			list = append(list, i)
		}
		names = append(names, i.Name)
	}
	if len(list) == 0 {
		return nil, unknown("NF or service", plain(*of), names)
	}
	return list, nil
}

func (n *node) changeNFs(c *call, change dpdkhost.Change) (starlark.Value, error) {
	return starlark.None, n.w.live.do(c, func() error { return n.w.live.client.ChangeNFs(c.ctx(), n.name, change) })
}

func startNF(c *call, n *node) (starlark.Value, error) {
	var what starlark.Value
	if _, err := n.functions(c, c.take([]string{"nf"}, &what)); err != nil {
		return nil, err
	}
	var f topo.NF
	if err := assign(reflect.ValueOf(&f).Elem(), what); err != nil {
		return nil, err
	}
	live := n.w.live
	var failed error
	f = f.Rename(func(path string, write bool) string {
		whole, err := live.file(path, write)
		failed = errors.Join(failed, err)
		return whole
	})
	if failed != nil {
		return nil, failed
	}
	here, err := live.file(".", false)
	if err != nil {
		return nil, err
	}
	var list []dpdkhost.Instance
	err = live.do(c, func() (err error) {
		list, err = live.client.StartNF(c.ctx(), n.name, f.Under(here))
		return err
	})
	if err != nil {
		return nil, err
	}
	return jsonValue(list)
}

func tellNF(c *call, n *node) (starlark.Value, error) {
	if len(c.args) < 2 || len(c.kwargs) > 0 {
		return nil, errors.New("it takes an NF and what to say to it: tellNF('firewall', 'rules')")
	}
	list, err := n.instances(c, nil, &c.args[0])
	if err != nil {
		return nil, err
	}
	var words []string
	for _, a := range c.args[1:] {
		words = append(words, plain(a))
	}
	var answer string
	err = n.w.live.do(c, func() (err error) {
		answer, err = n.w.live.client.CommandNF(c.ctx(), n.name, list[0].ID, slices.Clone(words))
		return err
	})
	return starlark.String(answer), err
}

// jsonValue returns a value as JSON has it.
func jsonValue(v any) (starlark.Value, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return nil, err
	}
	return starlarkValue(plain), nil
}
