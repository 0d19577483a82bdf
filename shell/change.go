package shell

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"weft/topo"
)

func runSwitch(ctx context.Context, c *call) error {
	if len(c.args) != 2 {
		return c.misuse("invalid number of args: switch <switch name>{start, stop}")
	}
	name, how := c.args[0], c.args[1]
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	var m mistake
	if errors.As(wantNode(switchNames(st.Plan), "switch", name), &m) {
		return mistake{"invalid switch: " + name, m.native}
	}
	if how != "start" && how != "stop" {
		return c.misuse("invalid command: switch <switch name> {start, stop}")
	}
	if err := c.net.SetSwitch(ctx, name, how == "start"); err != nil {
		return err
	}
	return c.done()
}

func addOptions() []option {
	return []option{
		{"--ip", "ADDR/LEN", "host: IPv4 address of the first interface"},
		{"--ip6", "ADDR/LEN", "host: IPv6 address of the first interface"},
		{"--mac", "MAC", "host: MAC address of the first interface"},
		{"--gateway", "ADDR", "host: default route"},
		{"--driver", "NAME", "switch: ovs, ovsbr or lxbr; link: veth, netem, wire or patch"},
		{"--dpid", "HEX", "switch: datapath ID"},
		{"--protocols", "LIST", "switch: OpenFlow10,OpenFlow13,..."},
		{"--fail-mode", "MODE", "switch: secure or standalone"},
		{"--datapath", "NAME", "switch: auto, kernel, user or afxdp"},
		{"--controllers", "LIST", "switch: its controllers (all)"},
	}
}

func runAdd(ctx context.Context, c *call) error {
	kind, names := "", c.args
	if len(names) > 0 {
		kind, names = names[0], names[1:]
	}
	for _, o := range slices.Sorted(maps.Keys(c.opts)) {
		i := slices.IndexFunc(c.options, func(have option) bool { return have.name == o })
		if i >= 0 && !strings.Contains(c.options[i].doc, kind+":") {
			return fmt.Errorf("option %s is not for a %s", o, kind)
		}
	}
	switch {
	case kind == "host" && len(names) == 1:
		return c.addHost(ctx, names[0])
	case kind == "switch" && len(names) == 1:
		return c.addSwitch(ctx, names[0])
	case kind == "link" && len(names) >= 2:
		return c.addLink(ctx, names[0], names[1], names[2:])
	}
	return c.misuse("usage: add host|switch name, add link node1 node2")
}

// addLink adds a link with options as of link set.
func (c *call) addLink(ctx context.Context, a, b string, options []string) error {
	l := topo.Link{A: topo.LinkEnd{Node: a}, B: topo.LinkEnd{Node: b}}
	options, err := AbsoluteFiles(options)
	if err == nil {
		err = l.Set(options...)
	}
	if err != nil {
		return err
	}
	if driver, ok := c.opts["--driver"]; ok {
		l.Driver = topo.LinkDriver(driver)
	}
	added, err := c.net.AddLink(ctx, l)
	if err != nil {
		return err
	}
	c.show(addedLinkView(added))
	return nil
}

func (c *call) addHost(ctx context.Context, name string) error {
	h := topo.Host{Name: name, MAC: c.opts["--mac"]}
	for _, o := range []struct {
		name   string
		prefix *netip.Prefix
	}{{"--ip", &h.IP}, {"--ip6", &h.IP6}} {
		if v, ok := c.opts[o.name]; ok {
			var err error
			if *o.prefix, err = netip.ParsePrefix(v); err != nil {
				return fmt.Errorf("option %s needs an address and its length, like 10.0.0.9/8 or fd00::9/64, not %q", o.name, v)
			}
		}
	}
	if v, ok := c.opts["--gateway"]; ok {
		var err error
		if h.DefaultRoute, err = netip.ParseAddr(v); err != nil {
			return fmt.Errorf("option --gateway needs an address, like 10.0.0.1, not %q", v)
		}
	}
	added, err := c.net.AddHost(ctx, h)
	if err != nil {
		return err
	}
	c.show(addedHostView(added))
	return nil
}

func (c *call) addSwitch(ctx context.Context, name string) error {
	s := topo.Switch{
		Name: name, Driver: topo.SwitchDriver(c.opts["--driver"]),
		FailMode: c.opts["--fail-mode"], Datapath: topo.Datapath(c.opts["--datapath"]),
	}
	if v, ok := c.opts["--dpid"]; ok {
		var err error
		if s.DPID, err = strconv.ParseUint(v, 16, 64); err != nil {
			return fmt.Errorf("a datapath ID is at most 16 hexadecimal digits, not %q", v)
		}
	}
	if v, ok := c.opts["--protocols"]; ok {
		s.Protocols = strings.Split(v, ",")
	}
	if v, ok := c.opts["--controllers"]; ok {
		s.Controllers = strings.Split(v, ",")
	}
	added, err := c.net.AddSwitch(ctx, s)
	if err != nil {
		return err
	}
	c.show(addedSwitchView(added))
	return nil
}

func runDelete(ctx context.Context, c *call) error {
	args := c.args
	if len(args) == 3 && args[0] == "link" {
		if err := c.wantLink(ctx, args[1], args[2]); err != nil {
			return err
		}
		if err := c.net.DeleteLink(ctx, args[1], args[2]); err != nil {
			return err
		}
		return c.done()
	}
	if len(args) == 2 && (args[0] == "host" || args[0] == "switch") {
		args = args[1:]
	}
	if len(args) != 1 {
		return c.misuse("usage: del node, del link node1 node2")
	}
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	if err := wantNode(slices.Concat(hostNames(st.Plan), switchNames(st.Plan)), "host or switch", args[0]); err != nil {
		return err
	}
	if err := c.net.DeleteNode(ctx, args[0]); err != nil {
		return err
	}
	return c.done()
}
