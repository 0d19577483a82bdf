package topo

import (
	"fmt"
	"path/filepath"
	"strings"
)

// NeedsTrust says, a line for each, what of a network's description reaches past the network
// and its nodes: it is what a stranger's file must not do without being asked.
func (p *Plan) NeedsTrust() []error {
	var errs []error
	for _, c := range p.Controllers {
		switch c.Kind {
		case ControllerCommand, ControllerRyu, ControllerOSKen:
			errs = append(errs, fmt.Errorf("controller %s runs a command outside of the network: %s %s; if you trust the file, write --allow",
				c.Name, c.Kind, strings.Join(strings.Fields(c.Command), " ")))
		}
	}
	for _, s := range p.Switches {
		if s.DPDK == nil {
			continue
		}
		for _, n := range s.DPDK.NFs {
			if n.Contained() || n.Host != "" {
				errs = append(errs, fmt.Errorf("dpdk node %s runs the NF %s in a container or on a host, where it cannot be kept from changing the machine; if you trust the file, write --allow", s.Name, n.Name))
			}
		}
		for _, nic := range s.DPDK.NICs {
			errs = append(errs, fmt.Errorf("dpdk node %s takes the NIC %s of this machine; if you trust the file, write --allow", s.Name, nic))
		}
	}
	seen := map[string]bool{}
	for _, l := range p.Links {
		if nic, node, ok := l.NIC(); ok {
			errs = append(errs, fmt.Errorf("link %s-%s takes the NIC %s of this machine for %s; if you trust the file, write --allow", l.A.Node, l.B.Node, strings.TrimPrefix(nic.Node, NICPrefix), node.Node))
		}
		if outside, node, ok := l.Outside(); ok && l.Driver == LinkMemif {
			errs = append(errs, fmt.Errorf("link %s-%s shares memory of %s with a program outside, at %s; if you trust the file, write --allow", l.A.Node, l.B.Node, node.Node, outside.Node))
		}
		if l.Record == "" || filepath.IsLocal(l.Record) || seen[l.Record] {
			continue
		}
		seen[l.Record] = true
		errs = append(errs, fmt.Errorf("link %s-%s writes a record to %s, which is not below this directory; write a name alone, or --allow if you trust the file",
			l.A.Node, l.B.Node, l.Record))
	}
	return errs
}
