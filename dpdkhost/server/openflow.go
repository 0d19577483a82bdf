package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"weft/control"
	"weft/dpdkhost/agent"
	"weft/dpdkhost/manager"
)

// versions returns the versions that the agent offers, 0 for all that it speaks.
func (o *OpenFlow) versions() (set control.Versions, err error) {
	for _, p := range o.Protocols {
		switch p {
		case "OpenFlow10":
			set |= control.VersionSet(control.OpenFlow10)
		case "OpenFlow13":
			set |= control.VersionSet(control.OpenFlow13)
		default:
			return 0, fmt.Errorf("protocol %s: an NF manager speaks OpenFlow10 and OpenFlow13", p)
		}
	}
	return set, nil
}

// startAgent starts the OpenFlow agent, which runs until ctx ends.
func (s *server) startAgent(ctx context.Context) error {
	o := s.config.OpenFlow
	versions, err := o.versions()
	if err != nil {
		return err
	}
	c := agent.Config{Name: s.config.Node, DPID: o.DPID, Versions: versions, Manager: s.m, Ports: s.openFlowPorts, Log: s.log,
		Dial: func(ctx context.Context, target string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", strings.TrimPrefix(target, "unix:"))
		}}
	if o.Management != "" {
		if c.Management, err = listen("unix", o.Management); err != nil {
			return err
		}
	}
	if s.agent, err = agent.Start(ctx, c); err == nil {
		s.agent.SetControllers(o.Targets)
	}
	return err
}

// setControllers connects the agent to other controllers.
func (s *server) setControllers(targets []string) error {
	if s.agent == nil {
		return errors.New("this manager was started without OpenFlow")
	}
	s.agent.SetControllers(targets)
	return nil
}

// openFlowPorts returns the ports, and the services that there are, as controllers see them.
func (s *server) openFlowPorts() (list []agent.Port) {
	for _, p := range s.openPorts() {
		port := agent.Port{Number: uint32(p.Number), Name: portName(p.Config), MAC: localMAC(p.Number), Up: true}
		if i, err := net.InterfaceByName(p.Device); err == nil {
			port.Up = i.Flags&net.FlagRunning != 0
			copy(port.MAC[:], i.HardwareAddr)
		}
		list = append(list, port)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.instances {
		number := manager.ServicePort + i.nf.Service
		if !slices.ContainsFunc(list, func(p agent.Port) bool { return p.Number == uint32(number) }) {
			list = append(list, agent.Port{Number: uint32(number), Name: i.nf.Name, MAC: localMAC(number), Up: true})
		}
	}
	slices.SortFunc(list, func(a, b agent.Port) int { return int(a.Number) - int(b.Number) })
	return list
}

// localMAC is an address for a port that has none.
func localMAC(number int) control.MAC {
	return control.MAC{0x02, 0, 0, 0, byte(number >> 8), byte(number)}
}
