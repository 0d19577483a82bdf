package netfile

import (
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"weft/topo"
)

// A DPDK node is a switch with more settings, which may be written beside the switch's own:
//
//	dpdk:
//	  nf1: bridge
//	  nf2: [firewall --rules web.rules, bridge]
//	  nf3:
//	    nfs: [firewall --rules web.rules, {name: limiter, args: [--rate, 1G], core: 1}]
//	    chains: {default: [firewall, limiter], fast: 1}

// isDPDK reports whether a setting is one of topo.DPDK.
func (d *decoder) isDPDK(name string) bool {
	return slices.ContainsFunc(d.fields.of(reflect.TypeFor[topo.DPDK]()), func(f field) bool { return f.name == name })
}

// readDPDK reads the section of DPDK nodes.
func (b *builder) readDPDK(n *yaml.Node) {
	before := len(b.spec.Switches)
	b.readNodes(switchKind, n)
	for i := before; i < len(b.spec.Switches); i++ {
		s := &b.spec.Switches[i]
		s.Driver = topo.DriverDPDK
		b.dpdk[s.Name] = true
	}
}

// chainText reads the NFs of a node that are all that is said of it: "firewall → bridge".
func (b *builder) chainText(n *yaml.Node, s *topo.Switch) {
	s.DPDK = &topo.DPDK{}
	for word := range strings.SplitSeq(strings.ReplaceAll(n.Value, "->", "→"), "→") {
		f, err := topo.ParseNF(word)
		if err != nil {
			b.at(n.Line, n.Column, "%v", err)
			return
		}
		s.DPDK.NFs = append(s.DPDK.NFs, b.nfFiles(n, f))
	}
}

// dpdkSettings gives settings to a node's description, over those that it has.
func (b *builder) dpdkSettings(list []entry, to **topo.DPDK) {
	made := (*to).Clone()
	if made == nil {
		made = &topo.DPDK{}
	}
	b.decoder.dpdk(list, made)
	if *to != nil || !reflect.ValueOf(made).Elem().IsZero() {
		*to = made
	}
}

// dpdk gives settings to a description: chains last, which may name NFs.
func (d *decoder) dpdk(list []entry, to *topo.DPDK) {
	var chains *yaml.Node
	v := reflect.ValueOf(to).Elem()
	fields := d.fields.of(v.Type())
	for _, e := range list {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == e.key.Value })
		switch {
		case i < 0:
			var names []string
			for _, f := range fields {
				names = append(names, f.name)
			}
			d.at(e.key.Line, e.key.Column, "%s", unknown("setting % of a dpdk node", e.key.Value, names))
		case e.key.Value == "chains":
			chains = d.target(e.value)
		default:
			d.assign(e.value, v.FieldByIndex(fields[i].index), e.key.Value)
		}
	}
	if chains != nil {
		d.chains(chains, to)
	}
}

// nf reads an NF: its name with service and arguments, or a map of settings.
func (d *decoder) nf(n *yaml.Node, to *topo.NF) {
	if n.Kind != yaml.ScalarNode {
		d.settings("an NF", n, to, nil, nil)
		*to = d.nfFiles(n, *to)
		return
	}
	text, ok := d.text(n, "nfs", "an NF; write its name, such as bridge")
	if !ok {
		return
	}
	f, err := topo.ParseNF(text)
	if err != nil {
		d.at(n.Line, n.Column, "nfs: %v", err)
		f = topo.NF{Name: "bridge"} // nothing more is to be said of it
	}
	*to = d.nfFiles(n, f)
}

// nfFiles returns an NF with the paths of its files whole, and notes what is wrong with it.
func (d *decoder) nfFiles(n *yaml.Node, f topo.NF) topo.NF {
	made, err := d.beside.nf(f)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			d.at(n.Line, n.Column, "nfs: %s: %s", f.Name, strings.TrimPrefix(line, f.Name+": "))
		}
	}
	return made
}

// chains reads a map of chains, each with its steps or with settings, or a list of settings.
func (d *decoder) chains(n *yaml.Node, to *topo.DPDK) {
	nfs := topo.NumberServices(to.NFs)
	to.Chains = nil
	switch {
	case isNull(n):
	case n.Kind == yaml.MappingNode:
		for _, e := range d.entries(n) {
			d.chain(topo.Chain{Name: e.key.Value}, d.target(e.value), to, nfs)
		}
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			d.chain(topo.Chain{}, d.target(c), to, nfs)
		}
	default:
		d.at(n.Line, n.Column, "chains: %s is not a map; write NAME: [SERVICE, ...], such as default: [1, 2]", quote(n))
	}
}

// chain reads a chain: its steps, or a map of settings.
func (d *decoder) chain(c topo.Chain, n *yaml.Node, to *topo.DPDK, nfs []topo.NF) {
	if n.Kind == yaml.MappingNode {
		var services *yaml.Node
		d.settings("a chain", n, &c, nil, func(e entry) bool {
			if e.key.Value == "services" {
				services = d.target(e.value)
			}
			return e.key.Value == "services"
		})
		if services != nil {
			out := c.Out
			if made, ok := d.chainSteps(c.Name, services, nfs); ok {
				c.Services = made.Services
				if made.Out == 0 {
					made.Out = out
				}
				c.Out = made.Out
			}
		}
	} else if made, ok := d.chainSteps(c.Name, n, nfs); ok {
		c = made
	}
	to.Chains = append(to.Chains, c)
}

// chainSteps reads the steps of a chain.
func (d *decoder) chainSteps(name string, n *yaml.Node, nfs []topo.NF) (topo.Chain, bool) {
	var steps []string
	switch n.Kind {
	case yaml.ScalarNode:
		if !isNull(n) {
			steps = topo.SplitChain(n.Value)
		}
	case yaml.SequenceNode:
		for _, s := range n.Content {
			s = d.target(s)
			if s.Kind != yaml.ScalarNode || isNull(s) {
				d.at(s.Line, s.Column, "chain %s: %s is neither a service nor an NF", name, quote(s))
				return topo.Chain{}, false
			}
			steps = append(steps, topo.SplitChain(s.Value)...)
		}
	default:
		d.at(n.Line, n.Column, "chain %s: %s is not a list of services; write for example [1, 2]", name, quote(n))
		return topo.Chain{}, false
	}
	c, err := topo.ParseChain(name, steps, nfs)
	if err != nil {
		d.at(n.Line, n.Column, "%v", err)
		return topo.Chain{}, false
	}
	return c, true
}
