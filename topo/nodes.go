package topo

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// addNode checks a node's name and puts it into the index; at is its place.
func (g *growth) addNode(kind nodeKind, name string, at int) {
	where := g.place(kind, at, name).on("name")
	if err := checkName(name); err != nil {
		where.text = fmt.Sprintf("%s %d", kind, at+1)
		g.fail(where, "%w", err)
		return
	}
	if other, taken := g.index.nodes[name]; taken {
		g.fail(where, "there is already a %s with this name; choose another", other.kind)
		return
	}
	g.index.nodes[name] = nodeRef{kind, at}
	g.claimedNodes = append(g.claimedNodes, name)
}

func (g *growth) addControllers(list []Controller) {
	for _, c := range list {
		c.Kind = cmp.Or(c.Kind, ControllerBuiltin)
		g.addNode(controllerNode, c.Name, len(g.Controllers))
		g.failAll(g.place(controllerNode, len(g.Controllers), c.Name), checkController(c))
		if c.Kind != ControllerBuiltin || c.Port != 0 {
			c.Transport = cmp.Or(c.Transport, "tcp")
			c.Address = cmp.Or(c.Address, "127.0.0.1")
		}
		g.Controllers = append(g.Controllers, c)
	}
}

// A fieldError is something wrong with one setting.
type fieldError struct {
	field string // its JSON name
	error
}

// checkController returns what is wrong with a controller, its name apart.
func checkController(c Controller) (errs []fieldError) {
	fail := func(field, format string, args ...any) {
		errs = append(errs, fieldError{field, fmt.Errorf(format, args...)})
	}
	started := true // weft starts a process for it
	switch c.Kind {
	case ControllerBuiltin, ControllerRemote:
		started = false
		if c.Command != "" {
			fail("command", "a %s controller runs no command; leave it out or write kind %s", c.Kind, ControllerCommand)
		}
	case ControllerOVS:
		if c.Command != "" {
			fail("command", "%s has a command of its own; leave it out or write kind %s", c.Kind, ControllerCommand)
		}
	case ControllerRyu, ControllerOSKen:
		if c.Command == "" {
			fail("kind", "%s needs the app to run; write it as the command", c.Kind)
		}
	case ControllerCommand:
		if strings.TrimSpace(c.Command) == "" {
			fail("command", "the command is empty; write what to run, with {port} for the port to listen on")
		}
	default:
		fail("kind", "there is no kind %q; write one of builtin, remote, ovsc, ryu, osken, cmd", c.Kind)
	}
	if c.Inside && !started {
		fail("inside", "only controllers that weft starts can run inside; leave inside out")
	}
	switch c.Transport {
	case "", "tcp":
		if c.CACert != "" || c.Cert != "" || c.Key != "" {
			fail("transport", "certificates are for the ssl transport; write transport ssl or leave them out")
		}
	case "ssl":
		if c.Kind == ControllerBuiltin {
			fail("transport", "the built-in controller speaks no ssl; leave the transport out")
		}
		if (c.Cert == "") != (c.Key == "") {
			fail("cert", "cert and key belong together; write both")
		}
	default:
		fail("transport", "there is no transport %q; write tcp or ssl", c.Transport)
	}
	if c.Port < 0 || c.Port > 65535 {
		fail("port", "port %d is not from 0 to 65535", c.Port)
	}
	if strings.ContainsAny(c.Address, " \t\n/") {
		fail("address", "%q is not an address; write an IP address or a host name", c.Address)
	}
	return errs
}

func (g *growth) addHosts(list []Host) {
	for _, h := range list {
		where := g.place(hostNode, len(g.Hosts), h.Name)
		g.addNode(hostNode, h.Name, len(g.Hosts))
		p := PlannedHost{
			Name:         h.Name,
			Interfaces:   []Interface{},
			IP:           g.checkIP(where, h.IP, false),
			IP6:          g.checkIP(where, h.IP6, true),
			MAC:          g.checkMAC(where, h.MAC),
			DefaultRoute: h.DefaultRoute,
			PrivateDirs:  append([]string(nil), h.PrivateDirs...),
		}
		p.Files = cloneFiles(h.Files)
		g.failAll(where, checkFiles(h.Files))
		for _, dir := range h.PrivateDirs {
			if !path.IsAbs(dir) || path.Clean(dir) == "/" {
				g.fail(where.on("privateDirs"), "the private directory %q is not an absolute path below /; write for example /var/run", dir)
			}
		}
		if h.NAT != nil {
			subnet := h.NAT.Subnet
			if !subnet.IsValid() {
				subnet = g.Addressing.IPBase
			}
			if !subnet.Addr().Is4() {
				g.fail(where.on("nat"), "the NAT subnet %s is not IPv4; write for example %s", subnet, DefaultIPBase)
			}
			p.NAT = &NAT{Subnet: subnet.Masked()}
		}
		g.Hosts = append(g.Hosts, p)
	}
}

// openFlowVersions are the protocols that Open vSwitch knows.
var openFlowVersions = []string{"OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"}

func (g *growth) addSwitches(list []Switch) {
	for _, s := range list {
		g.addNode(switchNode, s.Name, len(g.Switches))
		p, errs := g.planSwitch(s)
		where := g.place(switchNode, len(g.Switches), s.Name)
		g.failAll(where, errs)
		if p.DPID != 0 {
			g.demand(dpidClaim(p.DPID), where.on("dpid"))
		}
		if p.ListenPort != 0 {
			g.demand(listenClaim(p.ListenPort), where.on("listenPort"))
		}
		g.Switches = append(g.Switches, p)
	}
}

// planSwitch checks a switch, its name apart, and fills in its defaults.
func (g *growth) planSwitch(s Switch) (p PlannedSwitch, errs []fieldError) {
	fail := func(field, format string, args ...any) {
		errs = append(errs, fieldError{field, fmt.Errorf(format, args...)})
	}
	p = PlannedSwitch{
		Name:        s.Name,
		Driver:      cmp.Or(s.Driver, DriverOVS),
		DPID:        s.DPID,
		Protocols:   append([]string(nil), s.Protocols...),
		FailMode:    s.FailMode,
		Datapath:    s.Datapath,
		STP:         s.STP,
		Local:       s.Local,
		Controllers: append([]string{}, s.Controllers...),
		Interfaces:  []Interface{},
		ListenPort:  s.ListenPort,
	}
	for _, v := range s.Protocols {
		if !slices.Contains(openFlowVersions, v) {
			fail("protocols", "there is no protocol %q; write %s", v, strings.Join(openFlowVersions, ", "))
		}
	}
	switch s.FailMode {
	case "", "secure", "standalone":
	default:
		fail("failMode", "there is no fail mode %q; write secure or standalone", s.FailMode)
	}
	switch s.Datapath {
	case "", DatapathAuto, DatapathKernel, DatapathUser, DatapathAFXDP:
	default:
		fail("datapath", "there is no datapath %q; write auto, kernel, user or afxdp", s.Datapath)
	}
	if s.ListenPort < 0 || s.ListenPort > 65535 {
		fail("listenPort", "the listening port %d is not from 0 to 65535", s.ListenPort)
	}
	for i, c := range s.Controllers {
		if g.Controller(c) == nil {
			fail("controllers", "there is no controller %q; write one of the controllers' names", c)
		}
		if slices.Contains(s.Controllers[:i], c) {
			fail("controllers", "the controller %s is named twice; write it once", c)
		}
	}
	switch p.Driver {
	case DriverOVS:
		p.FailMode = cmp.Or(p.FailMode, "secure")
		p.Datapath = cmp.Or(p.Datapath, DatapathAuto)
		if s.Controllers == nil {
			for _, c := range g.Controllers {
				p.Controllers = append(p.Controllers, c.Name)
			}
		}
	case DriverOVSBridge:
		if s.FailMode == "secure" || len(s.Controllers) > 0 {
			fail("driver", "an ovsbr is standalone and has no controllers; leave failMode and controllers out or write driver ovs")
		}
		p.FailMode = "standalone"
		p.Datapath = cmp.Or(p.Datapath, DatapathAuto)
	case DriverLinux:
		if s.DPID != 0 || s.FailMode != "" || s.Datapath != "" || len(s.Protocols) > 0 || len(s.Controllers) > 0 || s.ListenPort != 0 {
			fail("driver", "an lxbr speaks no OpenFlow; leave dpid, protocols, failMode, datapath, controllers and listenPort out or write driver ovs")
		}
	case DriverDPDK:
		if s.Datapath != "" || s.STP || s.Local {
			fail("driver", "a dpdk node has no datapath, stp and local; leave them out or write driver ovs")
		}
		p.FailMode = cmp.Or(p.FailMode, "standalone")
		if s.Controllers == nil && p.FailMode == "secure" { // else its chains lead packets
			for _, c := range g.Controllers {
				p.Controllers = append(p.Controllers, c.Name)
			}
		}
		var more []fieldError
		p.DPDK, more = planDPDK(s.DPDK, p.FailMode == "standalone")
		errs = append(errs, more...)
		if p.DPDK.Manager != ManagerWeft {
			if len(s.Controllers) > 0 || s.FailMode == "secure" || len(s.Protocols) > 0 || s.ListenPort != 0 {
				fail("controllers", "manager %s speaks no OpenFlow; leave controllers, failMode, protocols and listenPort out or write manager weft", p.DPDK.Manager)
			}
			p.Controllers = []string{}
		}
		for _, v := range s.Protocols {
			if v != "OpenFlow10" && v != "OpenFlow13" {
				fail("protocols", "a dpdk node speaks OpenFlow10 and OpenFlow13; write one of them")
			}
		}
	default:
		fail("driver", "there is no driver %q; write ovs, ovsbr, lxbr or dpdk", s.Driver)
	}
	if s.DPDK != nil && p.Driver != DriverDPDK {
		fail("dpdk", "a switch of driver %s has no NFs; leave them out or write driver dpdk", p.Driver)
	}
	return p, errs
}
