package shell

import (
	"fmt"
	"slices"
	"strings"

	"weft/topo"
)

// names returns the names of elements.
func names[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = name(v)
	}
	return out
}

func hostNames(p *topo.Plan) []string {
	return names(p.Hosts, func(h topo.PlannedHost) string { return h.Name })
}

func switchNames(p *topo.Plan) []string {
	return names(p.Switches, func(s topo.PlannedSwitch) string { return s.Name })
}

func controllerNames(p *topo.Plan) []string {
	return names(p.Controllers, func(c topo.PlannedController) string { return c.Name })
}

// nodeNames returns hosts, then switches, then controllers.
func nodeNames(p *topo.Plan) []string {
	return slices.Concat(hostNames(p), switchNames(p), controllerNames(p))
}

// interfaces returns the interfaces of a host or switch.
func interfaces(p *topo.Plan, node string) []topo.Interface {
	if h := p.Host(node); h != nil {
		return h.Interfaces
	}
	if s := p.Switch(node); s != nil {
		return s.Interfaces
	}
	return nil
}

// address returns the address that stands for a node in a command: a host's default
// one (its IPv6 address if it has no other). ok is false if name is no host that has an address.
// For other nodes that is Mininet's 127.0.0.1 in its dialect, and nothing in ours: what people
// write is ovs-ofctl show s1.
func address(p *topo.Plan, d Dialect, name string) (addr string, ok bool) {
	if p.Host(name) == nil {
		return "127.0.0.1", d == Mininet && slices.Contains(nodeNames(p), name)
	}
	ifs := interfaces(p, name)
	switch {
	case len(ifs) == 0:
		return "", false
	case ifs[0].IP.IsValid():
		return ifs[0].IP.Addr().String(), true
	case ifs[0].IP6.IsValid():
		return ifs[0].IP6.Addr().String(), true
	}
	return "", false
}

// peers returns, for each end of a link, the other end.
func peers(p *topo.Plan) map[topo.PlannedEnd]topo.PlannedEnd {
	m := make(map[topo.PlannedEnd]topo.PlannedEnd, 2*len(p.Links))
	for _, l := range p.Links {
		m[l.A], m[l.B] = l.B, l.A
	}
	return m
}

// wantNode says that name is not a node, if it is not among list.
func wantNode(list []string, kind, name string) error {
	if slices.Contains(list, name) {
		return nil
	}
	have := "there is none"
	if len(list) > 0 {
		have = "choose from " + abbreviate(list, 12)
	}
	return mistake{
		fmt.Sprintf("node '%s' not in network", name),
		fmt.Sprintf("no %s is called %s: %s", kind, name, have),
	}
}

// abbreviate joins at most n of words.
func abbreviate(words []string, n int) string {
	if len(words) <= n {
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("%s … (%d)", strings.Join(words[:n], " "), len(words))
}
